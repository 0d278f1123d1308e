WITH RECURSIVE down(id) AS (
  SELECT {seed} UNION SELECT i.inhrelid FROM down JOIN pg_inherits i ON i.inhparent = down.id)
SELECT array_agg(c.oid ORDER BY c.oid) INTO v_rels FROM down JOIN pg_class c ON c.oid = down.id AND c.relkind <> 'f';
FOREACH v_rel IN ARRAY coalesce(v_rels, ARRAY[]::oid[]) LOOP
  v_ms := c_longest * 0.3 - extract(epoch FROM clock_timestamp() - v_began) * 1000;
  PERFORM set_config('lock_timeout', greatest(1, round(v_ms))::text, true);
  EXECUTE format('LOCK TABLE ONLY %s IN ACCESS EXCLUSIVE MODE', v_rel::regclass);
END LOOP;
