WITH RECURSIVE down(id) AS (
  SELECT {}::oid UNION SELECT i.inhrelid FROM down JOIN pg_catalog.pg_inherits i ON i.inhparent = down.id),
up(id) AS (
  SELECT {}::oid UNION SELECT i.inhparent FROM up JOIN pg_catalog.pg_inherits i ON i.inhrelid = up.id),
published AS (
  SELECT p.oid, p.pubname, p.pubinsert AND p.pubdelete AND p.pubviaroot AND (p.puballtables
           OR EXISTS (SELECT FROM pg_catalog.pg_publication_rel r JOIN up ON up.id = r.prrelid WHERE r.prpubid = p.oid){}) AS whole,
         p.pubviaroot
    FROM pg_catalog.pg_publication p
   WHERE (p.pubinsert OR p.pubdelete)
     AND (p.puballtables
          OR EXISTS (SELECT FROM pg_catalog.pg_publication_rel r
                      WHERE r.prpubid = p.oid AND r.prrelid IN (SELECT id FROM up UNION SELECT id FROM down)){})
     AND EXISTS (SELECT FROM pg_catalog.pg_class c JOIN down ON down.id = c.oid WHERE c.relpersistence = 'p'))
SELECT pg_catalog.string_agg(w.why, '; ' ORDER BY w.why) AS why FROM (
  SELECT pg_catalog.format('foreign key %I of %s refers to %s itself', f.conname, f.conrelid::regclass, f.confrelid::regclass) AS why
    FROM pg_catalog.pg_constraint f JOIN down ON down.id = f.confrelid WHERE f.contype = 'f' AND f.conparentid = 0
  UNION ALL
  SELECT pg_catalog.format('foreign key %I of %s refers to the table, and what it refers to is not detached to be given another bound', f.conname, f.conrelid::regclass)
    FROM pg_catalog.pg_constraint f JOIN up ON up.id = f.confrelid WHERE f.contype = 'f' AND f.conparentid = 0 AND {}
  UNION ALL
  SELECT pg_catalog.format('rule %I of %s rewrites what is done to it', r.rulename, r.ev_class::regclass)
    FROM pg_catalog.pg_rewrite r JOIN down ON down.id = r.ev_class
  UNION ALL
  SELECT pg_catalog.format('%s is a foreign table', c.oid::regclass)
    FROM pg_catalog.pg_class c JOIN down ON down.id = c.oid WHERE c.relkind = 'f'
  UNION ALL
  SELECT pg_catalog.format('publication %I would send on the row''s coming without its going, or under another table''s name', p.pubname)
    FROM published p WHERE NOT p.whole
  UNION ALL
  SELECT pg_catalog.format('%s is published and has no replica identity', c.oid::regclass)
    FROM pg_catalog.pg_class c JOIN down ON down.id = c.oid
   WHERE c.relkind = 'r' AND EXISTS (SELECT FROM published p WHERE p.whole)
     AND (c.relreplident = 'n' OR c.relreplident = 'd' AND NOT EXISTS (
            SELECT FROM pg_catalog.pg_index x WHERE x.indrelid = c.oid AND x.indisprimary)){}) w