-- One fault for each check that SQL can fix. Runs in a database of its own, as a superuser, on a
-- server without autovacuum. `now` decides the bounds; names of partitions follow the rhythm.
CREATE EXTENSION amcheck;
CREATE EXTENSION pgstattuple;

CREATE PROCEDURE spans(parent text, first timestamptz, last timestamptz, step interval, form text)
LANGUAGE plpgsql AS $$
DECLARE at timestamptz := first;
BEGIN
  WHILE at < last LOOP
    EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%L) TO (%L)',
                   to_char(at, form), parent, at, at + step);
    at := at + step;
  END LOOP;
END $$;

-- index.missing: a table by day, one on two levels, and a plain one; the file expects more.
CREATE TABLE wanted (id int, ts timestamptz NOT NULL) PARTITION BY RANGE (ts);
CALL spans('wanted', date_trunc('day', now()) - interval '3 days', date_trunc('day', now()) + interval '20 days',
           '1 day', '"wanted_"YYYY_MM_DD');
CREATE TABLE "Wanted ""too""" ("Key" text, region text, ts timestamptz NOT NULL) PARTITION BY LIST (region);
CREATE TABLE "Wanted EU" PARTITION OF "Wanted ""too""" FOR VALUES IN ('eu') PARTITION BY HASH (ts);
CREATE TABLE "Wanted EU all" PARTITION OF "Wanted EU" FOR VALUES WITH (MODULUS 1, REMAINDER 0);
CREATE TABLE "Wanted US" PARTITION OF "Wanted ""too""" FOR VALUES IN ('us');
CREATE TABLE plain (a int, b int);

-- index.invalid: a unique index that could not be built, and what REINDEX CONCURRENTLY leaves behind.
CREATE TABLE broken (a int, b int);
INSERT INTO broken VALUES (1, 1), (1, 2);

-- index.partition_coverage: one index on the parent alone, one that a partition has under another
-- name, one constraint, and one on two levels.
CREATE TABLE covered (id int NOT NULL, region text NOT NULL, note text) PARTITION BY LIST (region);
CREATE TABLE covered_eu PARTITION OF covered FOR VALUES IN ('eu');
CREATE TABLE covered_us PARTITION OF covered FOR VALUES IN ('us') PARTITION BY RANGE (id);
CREATE TABLE covered_us_1 PARTITION OF covered_us FOR VALUES FROM (0) TO (1000);
CREATE TABLE covered_us_2 PARTITION OF covered_us DEFAULT;
INSERT INTO covered SELECT i, CASE WHEN i % 2 = 0 THEN 'eu' ELSE 'us' END, 'x' FROM generate_series(1, 50) i;
CREATE INDEX covered_note ON ONLY covered (note DESC, id) WHERE id > 0;
CREATE INDEX covered_eu_has_it ON covered_eu (note DESC, id) WHERE id > 0;
SET enable_seqscan = off;
SELECT count(*) FROM covered_eu WHERE note = 'x' AND id > 0;
RESET enable_seqscan;
ALTER TABLE ONLY covered ADD CONSTRAINT covered_once UNIQUE (region, id);

-- index.unused, index.duplicate, index.redundant, index.foreign_key.
CREATE TABLE parent (id int PRIMARY KEY, sort text);
CREATE TABLE child (id int PRIMARY KEY, parent_id int REFERENCES parent, a int, b int, c int);
INSERT INTO parent SELECT i, 'x' FROM generate_series(1, 100) i;
INSERT INTO child SELECT i, i % 100 + 1, i, i, i FROM generate_series(1, 20000) i;
CREATE INDEX child_unused ON child (c);
CREATE INDEX child_a_b ON child (a, b);
CREATE INDEX child_a ON child (a);
CREATE INDEX child_b ON child (b);
CREATE INDEX child_b_again ON child (b);

-- index.bloat.
CREATE TABLE airy (t text);
INSERT INTO airy SELECT repeat(md5(i::text), 12) FROM generate_series(1, 40000) i;
CREATE INDEX airy_t ON airy (t);
DELETE FROM airy WHERE ctid NOT IN (SELECT ctid FROM airy LIMIT 1000);
VACUUM (ANALYZE) airy;
SET enable_seqscan = off;
SELECT count(*) FROM airy WHERE t = 'x';
RESET enable_seqscan;

-- index.corrupt: an order that changes under the index, as a new version of a collation library does.
CREATE FUNCTION order_of(int, int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT CASE WHEN $1 < $2 THEN -1 WHEN $1 > $2 THEN 1 ELSE 0 END';
CREATE OPERATOR CLASS int_odd_ops FOR TYPE int USING btree AS
  OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 order_of(int, int);
CREATE TABLE disordered (a int);
INSERT INTO disordered SELECT i FROM generate_series(1, 1000) i;
CREATE INDEX disordered_a ON disordered (a int_odd_ops);
SET enable_seqscan = off;
SELECT count(*) FROM disordered WHERE a = 1;
RESET enable_seqscan;
CREATE OR REPLACE FUNCTION order_of(int, int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT CASE WHEN $1 > $2 THEN -1 WHEN $1 < $2 THEN 1 ELSE 0 END';

-- partition.runway, partition.gap, partition.default_rows, partition.retention.
CREATE TABLE short (ts timestamptz NOT NULL) PARTITION BY RANGE (ts);
CALL spans('short', date_trunc('day', now()) - interval '5 days', date_trunc('day', now()) + interval '2 days',
           '1 day', '"short_"YYYYMMDD');
CREATE TABLE gappy (ts timestamptz NOT NULL) PARTITION BY RANGE (ts);
CALL spans('gappy', date_trunc('day', now()) - interval '2 days', date_trunc('day', now()) + interval '12 days',
           '1 day', '"gappy_"YYYYMMDD');
CALL spans('gappy', date_trunc('day', now()) + interval '15 days', date_trunc('day', now()) + interval '30 days',
           '1 day', '"gappy_"YYYYMMDD');
CREATE TABLE swallowed (ts timestamptz NOT NULL, n int) PARTITION BY RANGE (ts);
CALL spans('swallowed', date_trunc('day', now()) - interval '5 days', date_trunc('day', now()) + interval '2 days',
           '1 day', '"swallowed_"YYYYMMDD');
CREATE TABLE swallowed_rest PARTITION OF swallowed DEFAULT;
INSERT INTO swallowed SELECT now() + interval '4 days', i FROM generate_series(1, 100) i;
CREATE TABLE kept (ts timestamptz NOT NULL) PARTITION BY RANGE (ts);
CALL spans('kept', date_trunc('day', now()) - interval '40 days', date_trunc('day', now()) + interval '20 days',
           '1 day', '"kept_"YYYYMMDD');
INSERT INTO kept SELECT now() - i * interval '1 day' FROM generate_series(0, 39) i;

-- extension.outdated.
CREATE EXTENSION hstore VERSION '1.4';

-- constraint.not_valid and constraint.foreign_key.
CREATE TABLE doubtful (a int, parent_id int);
ALTER TABLE doubtful ADD CONSTRAINT "a is > 0" CHECK (a > 0) NOT VALID;
ALTER TABLE doubtful ADD CONSTRAINT doubtful_parent FOREIGN KEY (parent_id) REFERENCES parent NOT VALID;
CREATE DOMAIN positive AS int;
ALTER DOMAIN positive ADD CONSTRAINT positive_check CHECK (VALUE > 0) NOT VALID;
ALTER TABLE covered ADD CONSTRAINT covered_id CHECK (id > 0) NOT VALID;
DO $$ BEGIN
  IF current_setting('server_version_num')::int >= 180000 THEN
    EXECUTE 'ALTER TABLE doubtful ADD CONSTRAINT doubtful_a NOT NULL a NOT VALID';
    EXECUTE 'ALTER TABLE doubtful ADD CONSTRAINT doubtful_meant CHECK (a > 1) NOT ENFORCED';
  END IF;
END $$;
CREATE TABLE orphans (parent_id int REFERENCES parent);
SET session_replication_role = replica;
INSERT INTO orphans VALUES (1), (NULL), (4711), (4712);
RESET session_replication_role;

-- statistics.age, statistics.load, vacuum.age, vacuum.wraparound. What a session did is counted at its end.
ANALYZE;
CREATE TABLE stale (a int);
INSERT INTO stale SELECT generate_series(1, 20000);
CREATE TABLE loaded (a int);
INSERT INTO loaded SELECT generate_series(1, 12000);
CREATE TABLE whole (a int) PARTITION BY RANGE (a);
CREATE TABLE whole_1 PARTITION OF whole FOR VALUES FROM (0) TO (100000);
INSERT INTO whole SELECT generate_series(1, 12000);
CREATE TABLE dead (a int);
INSERT INTO dead SELECT generate_series(1, 20000);
\c
ANALYZE stale;
UPDATE stale SET a = a WHERE a <= 6000;
ANALYZE whole_1;
DELETE FROM dead WHERE a > 6000;
\c
ANALYZE dead;
CREATE TABLE ancient (a int) WITH (autovacuum_freeze_max_age = 100000);
INSERT INTO ancient VALUES (1);
CREATE UNLOGGED TABLE burnt (a int);
DO $$ BEGIN
  FOR i IN 1..115000 LOOP
    BEGIN INSERT INTO burnt VALUES (1); EXCEPTION WHEN division_by_zero THEN NULL; END;
  END LOOP;
END $$;
DROP TABLE burnt;

GRANT SELECT ON ALL TABLES IN SCHEMA public TO mon;
GRANT EXECUTE ON FUNCTION bt_index_check(regclass, boolean) TO mon;
