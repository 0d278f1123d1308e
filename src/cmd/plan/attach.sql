DECLARE
  c_parent constant regclass := {};
  c_default constant regclass := {};
  c_open constant regclass := {};
  c_names constant text[] := {};
  c_lows constant text[] := {};
  c_highs constant text[] := {};
  c_bounds constant text[] := {};
  c_checks constant text[] := {};
  c_lists constant text[] := {};
  c_carved constant text[] := {};
  c_marks constant text[] := {};
  c_comments constant text[] := {};
  c_new constant text[] := {};
  c_like constant text[] := {};
  c_key constant text := {};
  c_tail constant text := {};
  c_top constant text := {};
  c_longest constant float8 := extract(epoch FROM current_setting('pgrunway.longest_wait')::interval) * 1000;
  -- Before 15 the triggers that a partition has from its parent count as internal: those of keys are told by their functions.
  c_system constant oid[] := ARRAY(SELECT f.oid FROM pg_proc f WHERE f.pronamespace = 'pg_catalog'::regnamespace
    AND (f.proname LIKE 'RI\_FKey\_%' OR f.proname = 'unique_key_recheck'));
  v_columns text; v_rels oid[]; v_rel oid; v_t record; v_sql text;
  v_source regclass; v_part regclass; v_at oid; v_bound text; v_said text; v_from text; v_to text;
  v_where text; v_grown boolean; v_all boolean; v_rows int8; v_moved int8; v_refusal text; v_refers boolean;
  v_refused text; v_done boolean; v_slow boolean; v_tries int; v_waiting text; v_stop boolean := false;
  v_began timestamptz; v_held timestamptz; v_batch int8 := 5000; v_rate float8 := 15; v_scan float8 := 0;
  v_ms float8; v_off_rel oid[]; v_off_name name[]; v_off_state text[]; v_again text[];
  -- What says of a table, as a CHECK, which keys it holds: the server then has no need to read it under the lock.
  c_function constant text := 'CREATE OR REPLACE FUNCTION %1$s(%2$s %3$s) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE AS %4$L';
  v_column text; v_type text; v_also text; v_says text; v_prove boolean := false; v_narrow boolean; v_again_ms float8 := 0;
  v_find float8; v_found regclass; v_cost float8 := 0; v_space text; v_prepared boolean; v_barred boolean;
BEGIN
  SELECT c.relnamespace::regnamespace INTO v_space FROM pg_class c WHERE c.oid = c_parent;
  SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) INTO v_columns FROM pg_attribute a
   WHERE a.attrelid = c_parent AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '';
  WITH RECURSIVE up(id) AS (SELECT c_parent::oid UNION SELECT i.inhparent FROM up JOIN pg_inherits i ON i.inhrelid = up.id)
  SELECT EXISTS (SELECT FROM pg_constraint f JOIN up ON f.confrelid = up.id WHERE f.contype = 'f') INTO v_refers;
  SELECT string_agg(format(' AND %I IS NOT NULL', a.attname), '') INTO v_also
    FROM pg_partitioned_table p CROSS JOIN LATERAL unnest(p.partattrs::int2[]) WITH ORDINALITY k(nr, at)
    JOIN pg_attribute a ON a.attrelid = p.partrelid AND a.attnum = k.nr WHERE p.partrelid = c_parent AND k.at > 1 AND NOT a.attnotnull;
  SELECT quote_ident(a.attname), 'pg_catalog.' || y.typname INTO v_column, v_type
    FROM pg_partitioned_table p JOIN pg_attribute a ON a.attrelid = p.partrelid AND a.attnum = p.partattrs[0]
    JOIN pg_type y ON y.oid = a.atttypid JOIN pg_opclass o ON o.oid = p.partclass[0]
   WHERE p.partrelid = c_parent AND p.partstrat = 'r' AND o.opcdefault AND 0 <> ALL (p.partattrs::int2[]) AND v_also IS NULL
     AND y.oid = ANY (ARRAY['timestamptz', 'timestamp', 'date', 'int8', 'int4', 'int2', 'uuid']::regtype[]::oid[]);
  -- Rows are moved, or a foreign key is checked as the table is attached.
  IF coalesce(c_default, c_open) IS NOT NULL OR EXISTS (
       WITH RECURSIVE up(id) AS (SELECT c_parent::oid UNION SELECT i.inhparent FROM up JOIN pg_inherits i ON i.inhrelid = up.id)
       SELECT FROM pg_constraint f JOIN up ON f.conrelid = up.id WHERE f.contype = 'f') THEN
    WITH RECURSIVE down(id) AS (
      SELECT x::oid FROM unnest(ARRAY[c_default, c_open] || ARRAY(SELECT to_regclass(name) FROM unnest(c_names) name)) x WHERE x IS NOT NULL
      UNION SELECT i.inhrelid FROM down JOIN pg_inherits i ON i.inhparent = down.id)
    SELECT string_agg(c.oid::regclass::text, ', ') INTO v_said FROM pg_class c JOIN down ON c.oid = down.id
     WHERE c.relforcerowsecurity AND NOT (SELECT r.rolsuper OR r.rolbypassrls FROM pg_roles r WHERE r.rolname = current_user);
    IF v_said IS NOT NULL THEN
      RAISE EXCEPTION 'row security is forced on %: only a superuser or a role with BYPASSRLS sees all rows', left(v_said, 500);
    END IF;
  END IF;
  IF coalesce(c_default, c_open) IS NOT NULL THEN
    IF to_regclass('pg_temp.pgrunway_moved') IS NOT NULL THEN
      EXECUTE 'DROP TABLE pg_temp.pgrunway_moved';
    END IF;
    EXECUTE format('CREATE TEMPORARY TABLE pgrunway_moved (LIKE %s) ON COMMIT DELETE ROWS', c_parent);
    COMMIT;
    -- Attaching reads the source under the lock: how long that takes is measured without one.
    FOREACH v_source IN ARRAY ARRAY[c_default, c_open] LOOP
      CONTINUE WHEN v_source IS NULL;
      PERFORM set_config(name, 'off', true) FROM unnest(ARRAY['enable_indexscan', 'enable_indexonlyscan', 'enable_bitmapscan']) name;
      PERFORM set_config('max_parallel_workers_per_gather', '0', true);
      v_began := clock_timestamp();
      EXECUTE format('SELECT count(*) FROM %s WHERE (%s) IS NULL', v_source, c_key);
      v_ms := extract(epoch FROM clock_timestamp() - v_began) * 1000;
      v_began := clock_timestamp();
      EXECUTE format('SELECT count(*) FROM %s WHERE (%s) IS NULL', v_source, c_key);
      v_ms := least(v_ms, extract(epoch FROM clock_timestamp() - v_began) * 1000);
      v_scan := v_scan + v_ms;
      COMMIT;
      v_prove := v_prove OR EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = v_source AND k.conname = 'pgrunway_bound_' || v_source::oid);
      IF v_source = c_open AND current_setting('server_version_num')::int >= 170000 AND EXISTS (SELECT FROM pg_inherits i WHERE i.inhparent = v_source)
         AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c_parent AND a.attidentity <> '' AND NOT a.attisdropped) THEN
        -- Its partitions are attached to it again, see below.
        v_again_ms := v_ms;
      END IF;
    END LOOP;
    IF EXISTS (WITH RECURSIVE down(id) AS (
                 SELECT x::oid FROM unnest(ARRAY[c_default, c_open]) x WHERE x IS NOT NULL
                 UNION SELECT i.inhrelid FROM down JOIN pg_inherits i ON i.inhparent = down.id)
               SELECT FROM pg_class c JOIN down ON c.oid = down.id WHERE c.relkind = 'f') THEN
      v_type := NULL;
    END IF;
    v_prove := v_type IS NOT NULL AND (v_prove OR v_scan > c_longest * 0.05);
    FOREACH v_source IN ARRAY ARRAY[c_default, c_open] LOOP
      CONTINUE WHEN v_source IS NULL OR NOT v_prove;
      v_tries := 0;
      LOOP
        v_said := 'pgrunway_bound_' || v_source::oid;
        v_says := format('%s.%I', v_space, v_said);
        v_grown := NULL;
        SELECT k.convalidated INTO v_grown FROM pg_constraint k WHERE k.conrelid = v_source AND k.conname = v_said;
        EXIT WHEN v_grown;
        v_done := false;
        v_began := clock_timestamp();
        BEGIN
          IF v_grown IS NULL THEN
            {}
            EXECUTE format(c_function, v_says, v_column, v_type, 'SELECT true');
            EXECUTE format('GRANT EXECUTE ON FUNCTION %s(%s) TO PUBLIC', v_says, v_type);
            EXECUTE format('ALTER FUNCTION %s(%s) OWNER TO %s', v_says, v_type,
                           (SELECT quote_ident(pg_get_userbyid(c.relowner)) FROM pg_class c WHERE c.oid = c_parent));
            EXECUTE format('ALTER TABLE %s ADD CONSTRAINT %I CHECK (%s(%s)) NOT VALID', v_source, v_said, v_says, v_column);
          ELSE
            -- Reads it beside readers and writers.
            PERFORM set_config('lock_timeout', '1000', true);
            EXECUTE format('ALTER TABLE %s VALIDATE CONSTRAINT %I', v_source, v_said);
          END IF;
          v_done := true;
        EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
          v_tries := v_tries + 1;
        END;
        COMMIT;
        IF v_tries >= 60 THEN
          RAISE EXCEPTION 'gave up after % attempts to lock %: others hold it', v_tries, v_source
            USING HINT = 'Nothing was changed. Run the script again when they have finished.';
        ELSIF NOT v_done THEN
          PERFORM pg_sleep(least(3, 0.2 * v_tries) * (0.5 + random()));
        END IF;
      END LOOP;
    END LOOP;
    v_scan := CASE WHEN v_prove THEN 0 ELSE v_scan END + v_again_ms;
    v_cost := v_scan;
    IF v_scan > c_longest * 0.6 THEN
      RAISE EXCEPTION 'nothing done: reading % takes % ms, during which others would wait, for each partition',
                      coalesce(c_default, c_open), round(v_scan)
        USING HINT = 'Choose a time when others can wait, raise pgrunway.longest_wait at the head of the script, and run it again.';
    END IF;
  END IF;
  FOR n IN 1 .. array_length(c_names, 1) LOOP
    CONTINUE WHEN v_stop AND c_carved[n] = 't';
    v_source := CASE WHEN c_carved[n] = 't' THEN c_open ELSE c_default END;
    v_refusal := NULL;
    IF v_source IS NOT NULL THEN
      {}
    END IF;
    v_tries := 0;
    LOOP
      -- Where it stands: made, in part, or still to be attached.
      v_part := to_regclass(c_names[n]);
      SELECT i.inhparent, pg_get_expr(c.relpartbound, 0), obj_description(c.oid, 'pg_class') INTO v_at, v_bound, v_said
        FROM pg_class c LEFT JOIN pg_inherits i ON i.inhrelid = c.oid WHERE c.oid = v_part;
      v_from := c_lows[n];
      v_grown := v_at IS NOT NULL;
      EXIT WHEN v_at = c_parent AND {} = {};
      IF v_part IS NULL OR v_said IS DISTINCT FROM c_marks[n] OR v_at <> c_parent OR (v_grown AND v_from IS NULL) THEN
        RAISE EXCEPTION 'not attached with the planned bound: % %', c_names[n], c_checks[n]
          USING HINT = 'Another relation has the name, or it was changed meanwhile. Plan again.';
      END IF;
      IF v_grown THEN
        v_from := substring(v_bound FROM $re$ TO \('?([^',)]*)$re$);
      END IF;
      v_to := c_highs[n];
      v_bound := c_bounds[n];
      v_all := true;
      v_rows := 0;
      IF v_source IS NOT NULL THEN
        v_where := coalesce(c_lists[n], format('%1$s >= %2$L AND %1$s < %3$L%4$s', c_key, v_from, v_to, v_also));
        EXECUTE format('SELECT count(*) FROM (SELECT FROM %s WHERE %s LIMIT %s) x', v_source, v_where, 2 * v_batch) INTO v_rows;
        IF (v_rows > 0 OR c_carved[n] = 't' AND v_refers) AND v_refusal IS NOT NULL THEN
          v_refused := concat_ws('; ', v_refused, format('%s (%s)', c_names[n], v_refusal));
          v_stop := v_stop OR c_carved[n] = 't';
          EXIT;
        END IF;
        IF v_rows > 0 AND c_lists[n] IS NULL AND v_found IS DISTINCT FROM v_source THEN
          -- Finding them takes as long as this, which finds none.
          v_found := v_source;
          PERFORM set_config('max_parallel_workers_per_gather', '0', true);
          FOR i IN 1 .. 2 LOOP
            v_began := clock_timestamp();
            EXECUTE format('SELECT count(*) FROM %1$s WHERE %2$s >= %3$L AND %2$s < %3$L', v_source, c_key, v_from);
            v_find := extract(epoch FROM clock_timestamp() - v_began) * 1000;
          END LOOP;
          v_cost := v_scan + v_find;
          IF v_cost > c_longest * 0.6 THEN
            RAISE EXCEPTION 'rows of % are in the way, and finding them takes % ms, during which others would wait, for each part',
                            v_source, round(v_cost)
              USING HINT = format(CASE (SELECT c.relkind FROM pg_class c WHERE c.oid = v_source)
                WHEN 'p' THEN 'Create an index on (%2$s) on each partition of %1$s, run this script again, and drop them.'
                ELSE 'Run CREATE INDEX CONCURRENTLY ON %1$s (%2$s), this script again, and drop the index.' END, v_source, c_key);
          END IF;
        END IF;
        IF v_rows > v_batch AND c_lists[n] IS NULL AND NOT v_refers THEN
          EXECUTE format('SELECT (SELECT %1$s::text FROM %2$s WHERE %3$s ORDER BY %1$s OFFSET %4$s LIMIT 1)',
                         c_key, v_source, v_where, v_batch) INTO v_to;
          IF v_to = v_from THEN
            EXECUTE format('SELECT (SELECT %1$s::text FROM %2$s WHERE %1$s > %3$L AND %3$s ORDER BY %1$s LIMIT 1)',
                           c_key, v_source, v_from, v_where) INTO v_to;
          END IF;
          v_all := v_to IS NULL;
          v_to := coalesce(v_to, c_highs[n]);
          v_where := format('%1$s >= %2$L AND %1$s < %3$L%4$s', c_key, v_from, v_to, v_also);
          v_bound := CASE WHEN v_all THEN v_bound
                          ELSE format('FOR VALUES FROM (%L%s) TO (%L%s)', c_lows[n], c_tail, v_to, c_tail) END;
        ELSIF v_rows > v_batch THEN
          EXECUTE format('SELECT count(*) FROM %s WHERE %s', v_source, v_where) INTO v_rows;
          IF v_rows / v_rate > c_longest * 0.6 - v_cost THEN
            -- What it costs here, by an attempt that is taken back.
            v_began := clock_timestamp();
            BEGIN
              EXECUTE format('INSERT INTO %1$s (%2$s) OVERRIDING SYSTEM VALUE SELECT %2$s FROM %3$s WHERE %4$s LIMIT 5000',
                             v_part, v_columns, v_source, v_where);
              RAISE SQLSTATE 'PRUN2';
            EXCEPTION WHEN SQLSTATE 'PRUN2' THEN
              v_rate := 2500 / (extract(epoch FROM clock_timestamp() - v_began) * 1000);
            END;
          END IF;
          IF v_rows / v_rate > c_longest * 0.6 - v_cost THEN
            v_refused := concat_ws('; ', v_refused, format(
              '%s (%s rows in %s would hold others up for %s ms, and cannot be moved in parts because %s)', c_names[n], v_rows,
              v_source, round(v_rows / v_rate), CASE WHEN v_refers THEN 'foreign keys refer to the table'
                                                     ELSE 'a list is not divided' END));
            v_stop := v_stop OR c_carved[n] = 't';
            EXIT;
          END IF;
        END IF;
      END IF;
      v_says := format('%s.%I', v_space, 'pgrunway_bound_' || v_part::oid);
      v_narrow := v_prove AND NOT v_grown AND NOT v_all
        OR EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = v_part AND k.conname = 'pgrunway_bound_' || v_part::oid);
      v_done := false;
      v_slow := false;
      v_barred := false;
      v_moved := 0;
      v_began := clock_timestamp();
      -- One attempt. Who comes later waits behind it, so it is short, and the locks go when it fails.
      BEGIN
        IF coalesce(v_source, c_default) IS NULL THEN
          PERFORM set_config('lock_timeout', least(1000, round(c_longest / 4))::text, true);
        ELSE
          -- The parent first: who waits there finds the new partition, and routes his rows into it.
          PERFORM set_config('lock_timeout', round(c_longest / 5)::text, true);
          EXECUTE format('LOCK TABLE ONLY %s IN ACCESS EXCLUSIVE MODE', c_parent);
          {}
          PERFORM set_config('lock_timeout', greatest(1, round(c_longest / 20))::text, true);
        END IF;
        v_held := clock_timestamp();
        IF v_rows > 0 THEN
          -- No trigger has a say in where a row lies.
          v_off_rel := NULL; v_off_name := NULL; v_off_state := NULL;
          WITH RECURSIVE down(id) AS (
            SELECT v_source::oid UNION SELECT i.inhrelid FROM down JOIN pg_inherits i ON i.inhparent = down.id)
          SELECT array_agg(g.tgrelid ORDER BY g.oid), array_agg(g.tgname ORDER BY g.oid), array_agg(g.tgenabled::text ORDER BY g.oid)
            INTO v_off_rel, v_off_name, v_off_state
            FROM pg_trigger g JOIN down ON g.tgrelid = down.id WHERE g.tgfoid <> ALL (c_system);
          FOR i IN 1 .. coalesce(array_length(v_off_rel, 1), 0) LOOP
            CONTINUE WHEN v_off_state[i] = 'D';
            EXECUTE format('ALTER TABLE ONLY %s DISABLE TRIGGER %I', v_off_rel[i]::regclass, v_off_name[i]);
          END LOOP;
          IF v_refers THEN
            -- The row stays what it is; its foreign keys must not see it go and come.
            BEGIN
              PERFORM set_config('session_replication_role', 'replica', true);
            EXCEPTION WHEN insufficient_privilege THEN
              RAISE EXCEPTION 'rows of % are in the way, and foreign keys refer to the table: only a superuser can move them', v_source
                USING HINT = 'Run the script as a superuser.';
            END;
          END IF;
          EXECUTE format('WITH gone AS (DELETE FROM %1$s WHERE %2$s RETURNING %3$s) '
                         'INSERT INTO pg_temp.pgrunway_moved (%3$s) SELECT %3$s FROM gone', v_source, v_where, v_columns);
          GET DIAGNOSTICS v_moved = ROW_COUNT;
          EXECUTE 'SET CONSTRAINTS ALL IMMEDIATE';
          IF extract(epoch FROM clock_timestamp() - v_began) * 1000 > c_longest * 0.7 - v_cost THEN
            RAISE SQLSTATE 'PRUN1';
          END IF;
        END IF;
        IF c_carved[n] = 't' THEN
          IF v_rows = 0 THEN
            SELECT array_agg(g.tgrelid ORDER BY g.oid), array_agg(g.tgname ORDER BY g.oid), array_agg(g.tgenabled::text ORDER BY g.oid)
              INTO v_off_rel, v_off_name, v_off_state
              FROM pg_trigger g WHERE g.tgrelid = ANY (v_rels) AND g.tgfoid <> ALL (c_system);
          END IF;
          EXECUTE format('ALTER TABLE %s DETACH PARTITION %s', c_parent, v_source);
        END IF;
        IF v_grown THEN
          EXECUTE format('ALTER TABLE %s DETACH PARTITION %s', c_parent, v_part);
        END IF;
        -- What each of them holds from here on, for the server to see without reading it.
        IF v_prove AND c_default IS NOT NULL THEN
          EXECUTE format(c_function, format('%s.%I', v_space, 'pgrunway_bound_' || c_default::oid), v_column, v_type,
            format(CASE WHEN c_carved[n] = 't' THEN 'SELECT %1$s IS NULL OR %1$s OPERATOR(pg_catalog.<) %2$L::%4$s'
                        ELSE 'SELECT %1$s IS NULL OR %1$s OPERATOR(pg_catalog.<) %2$L::%4$s OR %1$s OPERATOR(pg_catalog.>=) %3$L::%4$s' END,
                   v_column, c_lows[n], v_to, v_type));
        END IF;
        IF v_prove AND c_carved[n] = 't' THEN
          EXECUTE format(c_function, format('%s.%I', v_space, 'pgrunway_bound_' || c_open::oid), v_column, v_type,
            format('SELECT %1$s IS NOT NULL AND %1$s OPERATOR(pg_catalog.>=) %2$L::%3$s', v_column, v_to, v_type));
        END IF;
        IF v_narrow THEN
          EXECUTE format(c_function, v_says, v_column, v_type,
            format('SELECT %1$s IS NOT NULL AND %1$s OPERATOR(pg_catalog.>=) %2$L::%4$s AND %1$s OPERATOR(pg_catalog.<) %3$L::%4$s',
                   v_column, c_lows[n], v_to, v_type));
          IF NOT v_grown THEN
            EXECUTE format('GRANT EXECUTE ON FUNCTION %s(%s) TO PUBLIC', v_says, v_type);
            EXECUTE format('ALTER FUNCTION %s(%s) OWNER TO %s', v_says, v_type,
                           (SELECT quote_ident(pg_get_userbyid(c.relowner)) FROM pg_class c WHERE c.oid = c_parent));
            EXECUTE format('ALTER TABLE %s ADD CONSTRAINT %I CHECK (%s(%s))', v_part, 'pgrunway_bound_' || v_part::oid, v_says, v_column);
          END IF;
        END IF;
        IF c_carved[n] = 't' THEN
          EXECUTE format('ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM (%L%s) TO (%s)', c_parent, v_source, v_to, c_tail, c_top);
        END IF;
        EXECUTE format('ALTER TABLE %s ATTACH PARTITION %s %s', c_parent, v_part, v_bound);
        IF v_narrow AND v_all THEN
          EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', v_part, 'pgrunway_bound_' || v_part::oid);
          EXECUTE format('DROP FUNCTION %s(%s)', v_says, v_type);
        END IF;
        IF current_setting('server_version_num')::int >= 170000 AND EXISTS (
             SELECT FROM pg_attribute a WHERE a.attrelid = c_parent AND a.attidentity <> '' AND NOT a.attisdropped) THEN
          -- From 17 on a partition shares its parent's identity columns, but only gets them when it is attached itself.
          WITH RECURSIVE down(id, parent, depth) AS (
            SELECT i.inhrelid, i.inhparent, 1 FROM pg_inherits i WHERE i.inhparent = v_part OR i.inhparent = v_source AND c_carved[n] = 't'
            UNION ALL SELECT i.inhrelid, i.inhparent, down.depth + 1 FROM down JOIN pg_inherits i ON i.inhparent = down.id)
          SELECT array_agg(format('ALTER TABLE %1$s DETACH PARTITION %2$s; ALTER TABLE %1$s ATTACH PARTITION %2$s %3$s',
                                  down.parent::regclass, down.id::regclass, pg_get_expr(c.relpartbound, c.oid)) ORDER BY down.depth, down.id)
            INTO v_again FROM down JOIN pg_class c ON c.oid = down.id;
          FOR i IN 1 .. coalesce(array_length(v_again, 1), 0) LOOP
            EXECUTE v_again[i];
          END LOOP;
        END IF;
        IF v_rows > 0 OR c_carved[n] = 't' THEN
          FOR i IN 1 .. coalesce(array_length(v_off_rel, 1), 0) LOOP
            EXECUTE format('ALTER TABLE ONLY %s %s TRIGGER %I', v_off_rel[i]::regclass,
              CASE v_off_state[i] WHEN 'O' THEN 'ENABLE' WHEN 'D' THEN 'DISABLE' WHEN 'R' THEN 'ENABLE REPLICA' ELSE 'ENABLE ALWAYS' END,
              v_off_name[i]);
          END LOOP;
        END IF;
        IF v_moved > 0 THEN
          FOR v_t IN WITH RECURSIVE down(id) AS (
                       SELECT v_part::oid UNION SELECT i.inhrelid FROM down JOIN pg_inherits i ON i.inhparent = down.id)
                     SELECT g.tgrelid, g.tgname FROM pg_trigger g JOIN down ON g.tgrelid = down.id
                      WHERE g.tgfoid <> ALL (c_system) AND g.tgenabled <> 'D' LOOP
            EXECUTE format('ALTER TABLE ONLY %s DISABLE TRIGGER %I', v_t.tgrelid::regclass, v_t.tgname);
          END LOOP;
          EXECUTE format('INSERT INTO %1$s (%2$s) OVERRIDING SYSTEM VALUE SELECT %2$s FROM pg_temp.pgrunway_moved', v_part, v_columns);
          EXECUTE 'SET CONSTRAINTS ALL IMMEDIATE';
        END IF;
        IF v_refers AND v_rows > 0 THEN
          PERFORM set_config('session_replication_role', 'origin', true);
        END IF;
        -- Triggers are enabled or not as on the sibling that each table is made like.
        FOR v_t IN WITH RECURSIVE down(id) AS (
                     SELECT v_part::oid UNION SELECT i.inhrelid FROM down JOIN pg_inherits i ON i.inhparent = down.id)
                   SELECT g.tgrelid, g.tgname, coalesce(m.tgenabled::text, 'O') AS state
                     FROM pg_trigger g JOIN down ON g.tgrelid = down.id
                     LEFT JOIN unnest(c_new, c_like) pair(new, sibling) ON to_regclass(pair.new) = g.tgrelid
                     LEFT JOIN pg_trigger m ON m.tgrelid = to_regclass(pair.sibling) AND m.tgname = g.tgname
                    WHERE g.tgfoid <> ALL (c_system) AND g.tgenabled::text <> coalesce(m.tgenabled::text, 'O') LOOP
          EXECUTE format('ALTER TABLE ONLY %s %s TRIGGER %I', v_t.tgrelid::regclass,
            CASE v_t.state WHEN 'O' THEN 'ENABLE' WHEN 'D' THEN 'DISABLE' WHEN 'R' THEN 'ENABLE REPLICA' ELSE 'ENABLE ALWAYS' END,
            v_t.tgname);
        END LOOP;
        IF v_all THEN
          EXECUTE format('COMMENT ON TABLE %s IS %L', v_part, c_comments[n]);
        END IF;
        IF extract(epoch FROM clock_timestamp() - v_began) * 1000 > c_longest AND v_moved > 1 THEN
          RAISE SQLSTATE 'PRUN1';
        END IF;
        v_done := true;
      EXCEPTION
        WHEN lock_not_available OR deadlock_detected THEN
          v_tries := v_tries + 1;
        WHEN SQLSTATE 'PRUN1' THEN
          v_slow := true;
        WHEN check_violation THEN
          -- Rows that must stay, where the key cannot be told to count them.
          v_barred := v_refusal IS NOT NULL;
          -- A row that came after they were counted. Anything else says so again.
          IF NOT v_barred AND (v_rows > 0 OR v_tries > 20 OR v_source IS NULL) THEN
            RAISE;
          END IF;
          v_tries := v_tries + 1;
      END;
      SELECT string_agg(DISTINCT CASE WHEN l.pid IS NOT NULL THEN format('pid %s (%s)', l.pid, coalesce(a.usename::text, a.backend_type))
                                          ELSE format('prepared transaction %L of %s', x.gid, x.prepared::timestamp(0)) END, ', '),
             min(x.prepared) < clock_timestamp() - interval '5 s' INTO v_waiting, v_prepared
        FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
        LEFT JOIN pg_locks own ON l.pid IS NULL AND own.pid IS NULL AND own.virtualtransaction = l.virtualtransaction AND own.locktype = 'transactionid'
        LEFT JOIN pg_prepared_xacts x ON x.transaction = own.transactionid
       WHERE NOT v_done AND l.granted AND l.pid IS DISTINCT FROM pg_backend_pid() AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
         AND l.relation = ANY (ARRAY[c_parent, c_default, v_source, v_part]::oid[] || v_rels);
      COMMIT;
      IF v_barred THEN
        v_refused := concat_ws('; ', v_refused, format('%s (%s)', c_names[n], v_refusal));
        v_stop := v_stop OR c_carved[n] = 't';
        EXIT;
      END IF;
      v_ms := extract(epoch FROM clock_timestamp() - coalesce(v_held, v_began)) * 1000;
      IF v_done THEN
        v_tries := 0;
        IF v_moved > 1000 THEN
          v_rate := v_moved / greatest(1, v_ms - v_cost);
          v_batch := least(v_batch * 3, greatest(1000, (v_rate * (c_longest * 0.5 - v_cost))::int8));
        END IF;
        IF v_moved > 0 THEN
          RAISE NOTICE '% rows moved from % into %, others waited for % ms at most', v_moved, v_source, v_part, round(v_ms);
          -- The others' turn.
          PERFORM pg_sleep(least(1, v_ms / 1000));
        END IF;
      ELSIF v_slow THEN
        IF v_batch <= 100 OR v_refers OR c_lists[n] IS NOT NULL THEN
          RAISE EXCEPTION 'moving rows from % into % takes longer than others may wait: %', v_source, v_part, current_setting('pgrunway.longest_wait')
            USING HINT = 'Choose a time when others can wait, raise pgrunway.longest_wait at the head of the script, and run it again.';
        END IF;
        v_batch := v_batch / 4;
        PERFORM pg_sleep(1);
      ELSIF v_prepared AND v_tries > 2 THEN
        RAISE EXCEPTION 'gave up: %, so that nobody can lock % and its partitions', v_waiting || ' is neither committed nor rolled back', c_parent
          USING HINT = 'What was done stays. COMMIT PREPARED or ROLLBACK PREPARED it, as its transaction manager decides, and run the script again.';
      ELSIF v_tries >= 60 THEN
        RAISE EXCEPTION 'gave up after % attempts to lock % and its partitions: others hold them, now %', v_tries, c_parent, coalesce(v_waiting, 'nobody')
          USING HINT = 'What was done stays. Run the script again when they have finished.';
      ELSE
        PERFORM pg_sleep(least(3, 0.2 * v_tries) * (0.5 + random()));
      END IF;
    END LOOP;
  END LOOP;
  FOREACH v_source IN ARRAY ARRAY[c_default, c_open] LOOP
    v_said := 'pgrunway_bound_' || v_source::oid;
    v_tries := 0;
    WHILE EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = v_source AND k.conname = v_said) LOOP
      v_began := clock_timestamp();
      BEGIN
        {}
        EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', v_source, v_said);
        EXECUTE format('DROP FUNCTION %s.%I(%s)', v_space, v_said, v_type);
      EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
        v_tries := v_tries + 1;
      END;
      COMMIT;
      IF v_tries >= 60 THEN
        RAISE EXCEPTION 'all partitions are attached, but constraint % of % remains: gave up after % attempts to lock it', v_said, v_source, v_tries
          USING HINT = 'Run the script again when others have finished.';
      END IF;
      PERFORM pg_sleep(least(3, 0.2 * v_tries) * (0.5 + random()));
    END LOOP;
  END LOOP;
  IF v_refused IS NOT NULL THEN
    RAISE EXCEPTION 'not created, because rows are in the way and are not moved: %', v_refused
      USING HINT = 'The first lines of the script say what to do by hand.';
  END IF;
END
