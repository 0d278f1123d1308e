-- Partition maintenance. Bounds are midnights in UTC, whatever the caller's TimeZone.
-- `CREATE TABLE ... PARTITION OF` locks its parent against everything, and whoever waits for that
-- lock holds up all that come after; hence the lock_timeout.

-- The end of a RANGE partition over one timestamptz column, as its DDL gives it.
CREATE FUNCTION public.partition_end(partition oid) RETURNS timestamptz
LANGUAGE sql STABLE AS $$
    SELECT pg_catalog.substring(pg_catalog.pg_get_expr(c.relpartbound, c.oid),
                                'TO \(''([^'']+)''\)$')::timestamptz
      FROM pg_catalog.pg_class c WHERE c.oid = partition
$$;

CREATE FUNCTION public.add_partition(parent text, name text, lower timestamptz, upper timestamptz)
RETURNS text LANGUAGE plpgsql
SET search_path = pg_catalog SET timezone = 'UTC' SET datestyle = 'ISO' SET lock_timeout = '2s'
AS $$
BEGIN
    EXECUTE format('CREATE TABLE public.%I PARTITION OF public.%I FOR VALUES FROM (%L) TO (%L)',
                   name, parent, lower, upper);
    RETURN name;
END
$$;

-- Creates the daily partitions of trades that are missing from today to `days_ahead` days from
-- now, and returns their names. Called daily, it keeps the runway; called twice, it does nothing.
CREATE FUNCTION public.create_trade_partition(days_ahead int DEFAULT 30)
RETURNS SETOF text LANGUAGE plpgsql
SET search_path = pg_catalog SET timezone = 'UTC'
AS $$
DECLARE
    day timestamptz;
    name text;
BEGIN
    IF days_ahead IS NULL OR days_ahead NOT BETWEEN 0 AND 366 THEN
        RAISE EXCEPTION 'days_ahead must be between 0 and 366, not %', days_ahead
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('public.trades', 0));
    FOR n IN 0 .. days_ahead LOOP
        day := date_trunc('day', now()) + make_interval(days => n);
        name := to_char(day, '"trades_"YYYY_MM_DD');
        IF to_regclass(format('public.%I', name)) IS NULL THEN
            RETURN NEXT public.add_partition('trades', name, day, day + interval '1 day');
        END IF;
    END LOOP;
END
$$;

-- Creates partitions of orders from where they end until they cover this month and `months_ahead`
-- more, and returns their names. The first is shorter where the last did not end with a month.
CREATE FUNCTION public.create_order_partition(months_ahead int DEFAULT 3)
RETURNS SETOF text LANGUAGE plpgsql
SET search_path = pg_catalog SET timezone = 'UTC' SET datestyle = 'ISO'
AS $$
DECLARE
    lower timestamptz;
    upper timestamptz;
BEGIN
    IF months_ahead IS NULL OR months_ahead NOT BETWEEN 0 AND 60 THEN
        RAISE EXCEPTION 'months_ahead must be between 0 and 60, not %', months_ahead
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('public.orders', 0));
    SELECT coalesce(max(public.partition_end(i.inhrelid)), date_trunc('month', now()))
      INTO lower
      FROM pg_inherits i WHERE i.inhparent = 'public.orders'::regclass;
    WHILE lower < date_trunc('month', now()) + make_interval(months => months_ahead + 1) LOOP
        upper := date_trunc('month', lower) + interval '1 month';
        RETURN NEXT public.add_partition('orders', to_char(lower, '"orders_"YYYY_MM'), lower, upper);
        lower := upper;
    END LOOP;
END
$$;

-- Drops the partitions of trades that hold nothing younger than `days` days, and returns their
-- names.
CREATE FUNCTION public.drop_old_trade_partitions(days int)
RETURNS SETOF text LANGUAGE plpgsql
SET search_path = pg_catalog SET timezone = 'UTC' SET datestyle = 'ISO' SET lock_timeout = '2s'
AS $$
DECLARE
    name text;
BEGIN
    IF days IS NULL OR days < 1 THEN
        RAISE EXCEPTION 'days must be at least 1, not %', coalesce(days::text, 'NULL')
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'Younger partitions are still written to.';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('public.trades', 0));
    FOR name IN
        SELECT c.relname
          FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
         WHERE i.inhparent = 'public.trades'::regclass
           AND public.partition_end(c.oid) <= date_trunc('day', now()) - make_interval(days => days)
         ORDER BY public.partition_end(c.oid)
    LOOP
        EXECUTE format('DROP TABLE public.%I', name);
        RETURN NEXT name;
    END LOOP;
END
$$;
