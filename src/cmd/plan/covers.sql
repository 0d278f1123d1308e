
  UNION ALL
  SELECT pg_catalog.format('publication %I leaves column %I of %s out, which is part of its replica identity: PostgreSQL refuses to delete from it',
                           l.pubname, (pg_catalog.array_agg(a.attname ORDER BY a.attnum))[1], c.oid::regclass)
    FROM pg_catalog.pg_class c JOIN down ON down.id = c.oid
    CROSS JOIN LATERAL (
      SELECT p.pubname, {gencols} AS pubgencols, r.columns FROM published p JOIN pg_catalog.pg_publication q ON q.oid = p.oid
      LEFT JOIN LATERAL (SELECT ARRAY(SELECT b.attname FROM pg_catalog.pg_attribute b WHERE b.attrelid = r.prrelid AND b.attnum = ANY (r.prattrs::int2[])) AS columns
                           FROM pg_catalog.pg_publication_rel r JOIN up ON up.id = r.prrelid
                          WHERE r.prpubid = p.oid AND r.prattrs IS NOT NULL) r ON true
       WHERE p.whole) l
    JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
   WHERE c.relkind = 'r' AND ({generated} OR l.columns IS NOT NULL AND (c.relreplident = 'f' OR a.attname <> ALL (l.columns)))
     AND (c.relreplident = 'f' OR EXISTS (
            SELECT FROM pg_catalog.pg_index x WHERE x.indrelid = c.oid AND a.attnum = ANY (x.indkey::int2[])
               AND (c.relreplident = 'i' AND x.indisreplident OR c.relreplident = 'd' AND x.indisprimary)))
   GROUP BY l.pubname, c.oid
  UNION ALL
  SELECT pg_catalog.format('the filter of publication %I reads column %I, which is no part of the replica identity of %s: PostgreSQL refuses to delete from it',
                           p.pubname, b.attname, c.oid::regclass)
    FROM published p JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid JOIN up ON up.id = r.prrelid
    CROSS JOIN LATERAL (SELECT DISTINCT v[1]::int2 AS nr FROM pg_catalog.regexp_matches(r.prqual::text, ':varattno (\d+)', 'g') v) d
    JOIN pg_catalog.pg_attribute b ON b.attrelid = r.prrelid AND b.attnum = d.nr
    CROSS JOIN pg_catalog.pg_class c JOIN down ON down.id = c.oid
    JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = b.attname
   WHERE p.whole AND r.prqual IS NOT NULL AND c.relkind = 'r' AND c.relreplident <> 'f' AND NOT EXISTS (
           SELECT FROM pg_catalog.pg_index x WHERE x.indrelid = c.oid AND a.attnum = ANY (x.indkey::int2[])
              AND (c.relreplident = 'i' AND x.indisreplident OR c.relreplident = 'd' AND x.indisprimary))