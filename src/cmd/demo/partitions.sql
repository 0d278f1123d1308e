-- $1: whether orders have ended, 22 days ago (1), or last for three months after this one (0).
-- Twelve months back from that end; as every bound is counted from it, they always meet.
SELECT public.add_partition(
           'orders',
           pg_catalog.to_char(ended.at - pg_catalog.make_interval(months => n), '"orders_"YYYY_MM'),
           ended.at - pg_catalog.make_interval(months => n),
           ended.at - pg_catalog.make_interval(months => n - 1)) AS name
  FROM (SELECT CASE WHEN $1 = 1
                    THEN pg_catalog.date_trunc('day', pg_catalog.now()) - interval '22 days'
                    ELSE pg_catalog.date_trunc('month', pg_catalog.now()) + interval '4 months'
               END) ended(at),
       pg_catalog.generate_series(12, 1, -1) n
UNION ALL
SELECT public.create_trade_partition(29)
