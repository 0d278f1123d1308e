-- Per table, the part of its partitions' time that has passed, in microseconds since 1970.
SELECT p.relname::text AS relname,
       (pg_catalog.date_part('epoch', pg_catalog.min(p.lower)) * 1000000)::int8 AS first,
       (pg_catalog.date_part('epoch', LEAST(pg_catalog.max(p.upper), pg_catalog.now()))
        * 1000000)::int8 AS last
  FROM (SELECT r.relname,
               pg_catalog.substring(pg_catalog.pg_get_expr(c.relpartbound, c.oid),
                                    'FROM \(''([^'']+)''\)')::timestamptz AS lower,
               public.partition_end(c.oid) AS upper
          FROM pg_catalog.pg_inherits i
          JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
          JOIN pg_catalog.pg_class r ON r.oid = i.inhparent
         WHERE i.inhparent IN ('public.orders'::regclass, 'public.trades'::regclass)) p
 GROUP BY p.relname
 ORDER BY p.relname
