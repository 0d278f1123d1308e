-- $1, $2: the first and the last of some days, in days before today; each gets its partition of trades.
SELECT public.add_partition('trades', pg_catalog.to_char(day.at, '"trades_"YYYY_MM_DD'),
                            day.at, day.at + interval '1 day') AS name
  FROM pg_catalog.generate_series($1, $2, -1) n,
       LATERAL (SELECT pg_catalog.date_trunc('day', pg_catalog.now())
                       - n * interval '1 day') day(at)
