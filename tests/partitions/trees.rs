//! Partition trees, and the truth about them: the first insert that is refused or swallowed.
//!
//! Must not: ask the catalogues; only inserts count.

use pgrunway::cmd::cluster::Cluster;
use tokio_postgres::Client;

const MINUTE: f64 = 60.0;
const HOUR: f64 = 60.0 * MINUTE;
const DAY: f64 = 24.0 * HOUR;

/// One root.
pub struct Tree {
    /// Its name in `public`.
    pub name: &'static str,
    ddl: String,
    /// Each inserts one row at `$1` and returns the leaf; all must succeed.
    inserts: Vec<String>,
    /// Seconds between probes; no gap is shorter.
    step: f64,
    /// Seconds that are probed.
    horizon: f64,
}

/// Whether every row of an instant is taken by a leaf whose name does not contain `swallow`; each
/// insert is rolled back. Then the first failure after `start` (or, if it fails there, the last
/// success before it), in seconds from it.
const TRUTH: &str = r"
CREATE FUNCTION accepted(inserts text[], at timestamptz) RETURNS bool LANGUAGE plpgsql AS $$
DECLARE
  one text;
  leaf text;
BEGIN
  FOREACH one IN ARRAY inserts LOOP
    BEGIN
      EXECUTE one INTO leaf USING at;
      RAISE EXCEPTION USING ERRCODE = 'RB000', MESSAGE = leaf;
    EXCEPTION
      WHEN SQLSTATE 'RB000' THEN
        IF SQLERRM LIKE '%swallow%' THEN RETURN false; END IF;
      WHEN check_violation THEN RETURN false;
    END;
  END LOOP;
  RETURN true;
END $$;

CREATE FUNCTION truth(inserts text[], start timestamptz, step float8, horizon float8)
RETURNS float8 LANGUAGE plpgsql AS $$
DECLARE
  sign int := CASE WHEN accepted(inserts, start) THEN 1 ELSE -1 END;
  near float8 := 0;
  far float8 := 0;
  middle float8;
BEGIN
  LOOP
    far := far + step;
    EXIT WHEN accepted(inserts, start + sign * make_interval(secs => far)) = (sign < 0);
    IF far > horizon THEN RETURN CASE WHEN sign > 0 THEN float8 'Infinity' ELSE 0 END; END IF;
    near := far;
  END LOOP;
  WHILE far - near > 0.01 LOOP
    middle := (near + far) / 2;
    IF accepted(inserts, start + sign * make_interval(secs => middle)) = (sign < 0)
    THEN far := middle; ELSE near := middle; END IF;
  END LOOP;
  RETURN sign * far;
END $$;

-- Partitions a day wide from `first` to before `last`, in days from today.
CREATE DOMAIN epoch_ms AS int8;
CREATE PROCEDURE daily(parent text, first int, last int, tail text DEFAULT '')
LANGUAGE plpgsql AS $$
BEGIN
  FOR i IN first .. last - 1 LOOP
    EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (current_date + %s) TO (current_date + %s) %s',
                   parent || '_' || replace(i::text, '-', 'm'), parent, i, i + 1, tail);
  END LOOP;
END $$;
";

impl Tree {
    /// Seconds from `now` (microseconds since 1970) to the first insert that fails.
    pub async fn truth(&self, admin: &Client, now: i64) -> f64 {
        let sql = "SELECT truth($1, to_timestamp(0) + $2 * interval '1 microsecond', $3, $4)";
        let row =
            admin.query_one(sql, &[&self.inserts, &(now as f64), &self.step, &self.horizon]).await;
        row.unwrap_or_else(|e| panic!("{}: {e:?}", self.name)).get(0)
    }
}

fn tree(name: &'static str, ddl: &str) -> Tree {
    let insert = format!("INSERT INTO {name} (ts) VALUES ($1) RETURNING tableoid::regclass::text");
    Tree { name, ddl: ddl.to_owned(), inserts: vec![insert], step: 6.0 * HOUR, horizon: 40.0 * DAY }
}

impl Tree {
    fn probe(mut self, step: f64, horizon: f64) -> Self {
        (self.step, self.horizon) = (step, horizon);
        self
    }

    /// Rows whose time is written as this expression of `$1`.
    fn written(mut self, time: &str) -> Self {
        for insert in &mut self.inserts {
            *insert = insert.replace("($1", &format!("({time}"));
        }
        self
    }

    /// Rows whose second column holds the same time.
    fn second(mut self, column: &str) -> Self {
        for insert in &mut self.inserts {
            *insert =
                insert.replace("(ts)", &format!("(ts, {column})")).replace("($1)", "($1, $1)");
        }
        self
    }

    /// Rows with each of these values of the second column, `k`.
    fn values(mut self, values: &[&str]) -> Self {
        let insert = |v: &&str| {
            format!(
                "INSERT INTO {} (ts, k) VALUES ($1, {v}) RETURNING tableoid::regclass::text",
                self.name
            )
        };
        self.inserts = values.iter().map(insert).collect();
        self
    }
}

fn simple() -> Vec<Tree> {
    vec![
        tree(
            "tz_daily",
            "CREATE TABLE tz_daily (ts timestamptz) PARTITION BY RANGE (ts); CALL daily('tz_daily', -3, 10)",
        ),
        tree(
            "ts_daily",
            "CREATE TABLE ts_daily (ts timestamp) PARTITION BY RANGE (ts); CALL daily('ts_daily', -3, 29)",
        ),
        tree(
            "date_daily",
            "CREATE TABLE date_daily (ts date) PARTITION BY RANGE (ts); CALL daily('date_daily', -3, 8)",
        ),
        tree(
            "soon",
            "CREATE TABLE soon (ts timestamptz) PARTITION BY RANGE (ts);
             CREATE TABLE soon_1 PARTITION OF soon FOR VALUES FROM (MINVALUE) TO (now() + '90 s')",
        ).probe(MINUTE, HOUR),
        tree(
            "endless",
            "CREATE TABLE endless (ts timestamptz) PARTITION BY RANGE (ts);
             CREATE TABLE endless_1 PARTITION OF endless FOR VALUES FROM ('2020-01-01') TO (MAXVALUE)",
        ),
        tree(
            "infinite",
            "CREATE TABLE infinite (ts timestamp) PARTITION BY RANGE (ts);
             CREATE TABLE infinite_1 PARTITION OF infinite FOR VALUES FROM ('-infinity') TO ('infinity')",
        ),
        tree("empty", "CREATE TABLE empty (ts timestamptz) PARTITION BY RANGE (ts)"),
        tree(
            "default_only",
            "CREATE TABLE default_only (ts timestamptz) PARTITION BY RANGE (ts);
             CREATE TABLE swallow_only PARTITION OF default_only DEFAULT",
        ),
        tree(
            "default_behind",
            "CREATE TABLE default_behind (ts timestamptz) PARTITION BY RANGE (ts);
             CREATE TABLE swallow_behind PARTITION OF default_behind DEFAULT;
             CALL daily('default_behind', -1, 3)",
        ),
        tree(
            "all_future",
            "CREATE TABLE all_future (ts date) PARTITION BY RANGE (ts); CALL daily('all_future', 2, 9)",
        ),
        tree(
            "expired",
            "CREATE TABLE expired (ts timestamptz) PARTITION BY RANGE (ts);
             CREATE TABLE expired_1 PARTITION OF expired FOR VALUES FROM ('2020-01-01') TO (now() - '528 h'::interval)",
        ),
        tree(
            "gap_second",
            "CREATE TABLE gap_second (ts timestamptz) PARTITION BY RANGE (ts);
             CREATE TABLE gap_second_1 PARTITION OF gap_second FOR VALUES FROM ('2020-01-01') TO (now() + '1 h');
             CREATE TABLE gap_second_2 PARTITION OF gap_second FOR VALUES FROM (now() + '1 h 1 s') TO (MAXVALUE)",
        ).probe(0.9, 2.0 * HOUR),
        tree(
            "gap_day",
            "CREATE TABLE gap_day (ts timestamp) PARTITION BY RANGE (ts);
             CALL daily('gap_day', -2, 4); CALL daily('gap_day', 5, 20)",
        ),
        tree(
            "gap_now",
            "CREATE TABLE gap_now (ts date) PARTITION BY RANGE (ts);
             CALL daily('gap_now', -9, -1); CALL daily('gap_now', 3, 20)",
        ),
        tree(
            "year_ahead",
            "CREATE TABLE year_ahead (ts timestamp) PARTITION BY RANGE (ts);
             CREATE TABLE year_ahead_1 PARTITION OF year_ahead FOR VALUES FROM ('2020-01-01') TO (current_date + 200)",
        ).probe(DAY, 400.0 * DAY),
        tree(
            "ages",
            "CREATE TABLE ages (ts timestamptz) PARTITION BY RANGE (ts);
             CREATE TABLE ages_1 PARTITION OF ages FOR VALUES FROM ('4714-11-24 00:00:00+00 BC') TO ('290000-01-01 00:00:00+00')",
        ).probe(3.0e10, 9.2e12),
        tree(
            "far_date",
            "CREATE TABLE far_date (ts date) PARTITION BY RANGE (ts);
             CREATE TABLE far_date_1 PARTITION OF far_date FOR VALUES FROM ('0044-03-15 BC') TO ('9999-12-31')",
        ).probe(3.0e9, 9.0e11),
        tree(
            "expression",
            "CREATE TABLE expression (ts timestamp) PARTITION BY RANGE (date_trunc('day', ts));
             CALL daily('expression', -2, 6)",
        ),
        tree(
            "domains",
            "CREATE DOMAIN moment AS timestamptz CHECK (VALUE > '1900-01-01'); CREATE DOMAIN instant AS moment;
             CREATE TABLE domains (ts instant) PARTITION BY RANGE (ts); CALL daily('domains', -2, 7)",
        ),
        tree(
            "fixed_zone",
            "CREATE TABLE fixed_zone (ts timestamptz) PARTITION BY RANGE (((ts AT TIME ZONE 'Asia/Tokyo')::date));
             CALL daily('fixed_zone', -2, 6)",
        ),
        tree(
            "fixed_utc",
            "CREATE TABLE fixed_utc (ts timestamptz) PARTITION BY RANGE ((ts AT TIME ZONE 'UTC'));
             CALL daily('fixed_utc', -2, 6)",
        ),
        tree(
            "day_list",
            "CREATE TABLE day_list (ts date) PARTITION BY LIST (ts);
             CREATE TABLE day_list_1 PARTITION OF day_list FOR VALUES IN (current_date - 1, current_date, NULL);
             CREATE TABLE day_list_2 PARTITION OF day_list FOR VALUES IN (current_date + 1, current_date + 2);
             CREATE TABLE swallow_list PARTITION OF day_list DEFAULT;
             CREATE TABLE day_list_3 PARTITION OF day_list FOR VALUES IN (current_date + 4)",
        ),
    ]
}

fn columns() -> Vec<Tree> {
    vec![
        tree(
            "two_keys",
            "CREATE TABLE two_keys (ts timestamptz, k int) PARTITION BY RANGE (ts, k);
             CREATE TABLE two_keys_1 PARTITION OF two_keys FOR VALUES FROM (MINVALUE, MINVALUE) TO (now() + '5 h', MINVALUE);
             CREATE TABLE two_keys_2 PARTITION OF two_keys FOR VALUES FROM (now() + '5 h', MINVALUE) TO (now() + '9 h', 50)",
        ).values(&["1", "-1000000", "1000000"]).probe(HOUR, DAY),
        tree(
            "inside_day",
            "CREATE TABLE inside_day (ts date, k int) PARTITION BY RANGE (ts, k);
             CREATE TABLE inside_day_1 PARTITION OF inside_day FOR VALUES FROM (current_date - 3, 0) TO (current_date + 2, 500);
             CREATE TABLE inside_day_2 PARTITION OF inside_day FOR VALUES FROM (current_date + 2, 500) TO (current_date + 6, 500)",
        ).values(&["1", "499"]),
        tree(
            "whole_day",
            "CREATE TABLE whole_day (ts date, k int) PARTITION BY RANGE (ts, k);
             CREATE TABLE whole_day_1 PARTITION OF whole_day FOR VALUES FROM (current_date, MINVALUE) TO (current_date, MAXVALUE);
             CREATE TABLE whole_day_2 PARTITION OF whole_day FOR VALUES FROM (current_date, MAXVALUE) TO (current_date + 4, MAXVALUE)",
        ).values(&["-5", "1000000"]),
        tree(
            "list_over_time",
            "CREATE TABLE list_over_time (ts timestamptz, k text) PARTITION BY LIST (k);
             CREATE TABLE lot_eu PARTITION OF list_over_time FOR VALUES IN ('e''u') PARTITION BY RANGE (ts);
             CREATE TABLE lot_us PARTITION OF list_over_time FOR VALUES IN ('us', NULL) PARTITION BY RANGE (ts);
             CREATE TABLE lot_rest PARTITION OF list_over_time DEFAULT PARTITION BY RANGE (ts);
             CREATE TABLE lot_rest_1 PARTITION OF lot_rest FOR VALUES FROM (MINVALUE) TO (MAXVALUE);
             CALL daily('lot_eu', -2, 9); CALL daily('lot_us', -1, 4)",
        ).values(&["'e''u'", "'us'", "NULL", "'elsewhere'"]),
        tree(
            "time_over_list",
            "CREATE TABLE time_over_list (ts timestamptz, k text) PARTITION BY RANGE (ts);
             CALL daily('time_over_list', -1, 6, 'PARTITION BY LIST (k)');
             DO $$ BEGIN FOR i IN 0..5 LOOP
               EXECUTE format('CREATE TABLE tol_a%s PARTITION OF time_over_list_%s FOR VALUES IN (''a'')', i, i);
               IF i <> 3 THEN
                 EXECUTE format('CREATE TABLE tol_b%s PARTITION OF time_over_list_%s FOR VALUES IN (''b'', ''c'')', i, i);
               END IF;
             END LOOP; END $$",
        ).values(&["'a'", "'b'", "'c'"]),
        tree(
            "time_over_default",
            "CREATE TABLE time_over_default (ts timestamptz, k text, sub text) PARTITION BY RANGE (ts);
             CALL daily('time_over_default', -1, 6, 'PARTITION BY LIST (k)');
             DO $$ BEGIN FOR i IN 0..5 LOOP
               EXECUTE format('CREATE TABLE tod_a%s PARTITION OF time_over_default_%s FOR VALUES IN (''a'') PARTITION BY LIST (sub)', i, i);
               EXECUTE format('CREATE TABLE tod_n%s PARTITION OF tod_a%s FOR VALUES IN (NULL)', i, i);
               CONTINUE WHEN i = 4;
               EXECUTE format('CREATE TABLE tod_rest%s PARTITION OF time_over_default_%s DEFAULT', i, i);
             END LOOP; END $$",
        ).values(&["'a'", "'b'", "NULL"]),
        tree(
            "time_over_int",
            "CREATE TABLE time_over_int (ts date, k int) PARTITION BY RANGE (ts);
             CALL daily('time_over_int', 0, 5, 'PARTITION BY RANGE (k)');
             DO $$ BEGIN FOR i IN 0..4 LOOP
               EXECUTE format('CREATE TABLE toi_a%s PARTITION OF time_over_int_%s FOR VALUES FROM (-9) TO (%s)', i, i, 50 + i);
               EXECUTE format('CREATE TABLE toi_b%s PARTITION OF time_over_int_%s FOR VALUES FROM (%s) TO (%s)', i, i, 50 + i,
                              CASE WHEN i < 3 THEN 100 ELSE 90 END);
             END LOOP; END $$",
        ).values(&["-9", "50", "99"]),
        tree(
            "time_over_hash",
            "CREATE TABLE time_over_hash (ts timestamptz, k int) PARTITION BY RANGE (ts);
             CALL daily('time_over_hash', 0, 5, 'PARTITION BY HASH (k)');
             DO $$ BEGIN FOR i IN 0..4 LOOP FOR r IN 0..2 LOOP
               CONTINUE WHEN i = 2 AND r = 1;
               EXECUTE format('CREATE TABLE toh_%s_%s PARTITION OF time_over_hash_%s FOR VALUES WITH (modulus %s, remainder %s)',
                              i, r, i, CASE r WHEN 0 THEN 2 ELSE 4 END, CASE r WHEN 0 THEN 0 WHEN 1 THEN 1 ELSE 3 END);
             END LOOP; END LOOP; END $$",
        ).values(&["1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12"]),
        tree(
            "hash_over_time",
            "CREATE TABLE hash_over_time (ts timestamp, k int) PARTITION BY HASH (k);
             CREATE TABLE hot_0 PARTITION OF hash_over_time FOR VALUES WITH (modulus 2, remainder 0) PARTITION BY RANGE (ts);
             CREATE TABLE hot_1 PARTITION OF hash_over_time FOR VALUES WITH (modulus 2, remainder 1) PARTITION BY RANGE (ts);
             CALL daily('hot_0', -2, 9); CALL daily('hot_1', -2, 5)",
        ).values(&["1", "2", "3", "4", "5", "6", "7", "8"]),
        tree(
            "hash_hole",
            "CREATE TABLE hash_hole (ts timestamp, k int) PARTITION BY HASH (k);
             CREATE TABLE hh_0 PARTITION OF hash_hole FOR VALUES WITH (modulus 2, remainder 0) PARTITION BY RANGE (ts);
             CREATE TABLE hh_1 PARTITION OF hash_hole FOR VALUES WITH (modulus 4, remainder 1) PARTITION BY RANGE (ts);
             CALL daily('hh_0', -2, 9); CALL daily('hh_1', -2, 9)",
        ).values(&["1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12"]),
        tree(
            "year_over_day",
            "CREATE TABLE year_over_day (ts date) PARTITION BY RANGE (ts);
             CREATE TABLE yod_old PARTITION OF year_over_day FOR VALUES FROM ('2020-01-01') TO (current_date - 2);
             CREATE TABLE yod_new PARTITION OF year_over_day FOR VALUES FROM (current_date - 2) TO (current_date + 300) PARTITION BY RANGE (ts);
             CREATE TABLE yod_next PARTITION OF year_over_day FOR VALUES FROM (current_date + 300) TO (MAXVALUE);
             CALL daily('yod_new', -2, 11); CREATE TABLE yod_swallow PARTITION OF yod_new DEFAULT",
        ),
    ]
}

/// Daily partitions of UTC, their bounds and rows written as `written`, an expression of `$1`.
fn numbered(name: &'static str, typname: &str, written: &str, days: std::ops::Range<i32>) -> Tree {
    let midnight = "(date_trunc('day', now(), 'UTC') + make_interval(hours => 24 * (i + $1)))";
    let (from, to) = (midnight.replace("$1", "0"), midnight.replace("$1", "1"));
    let (from, to) = (written.replace("$1", &from), written.replace("$1", &to));
    let ddl = format!(
        "CREATE TABLE {name} (ts {typname}) PARTITION BY RANGE (ts);
         DO $do$ BEGIN FOR i IN {} .. {} LOOP
           EXECUTE format('CREATE TABLE {name}_%s PARTITION OF {name} FOR VALUES FROM (%L) TO (%L)',
                          replace(i::text, '-', 'm'), {from}, {to});
         END LOOP; END $do$",
        days.start,
        days.end - 1
    );
    tree(name, &ddl).written(written)
}

const MILLIS: &str = "floor(extract(epoch FROM $1) * 1000)::int8";
const YYYYMMDD: &str = "to_char($1, 'YYYYMMDD')::int4";
const UUID: &str = "(lpad(to_hex(floor(extract(epoch FROM $1) * 1000)::int8), 12, '0') || \
                    '70008000000000000000')::uuid";

/// Integers and UUIDs that hold a time: by their bounds, or because the configuration says so.
fn numbers() -> Vec<Tree> {
    vec![
        numbered("int_s", "int4", "floor(extract(epoch FROM $1))::int4", -3..8),
        numbered("int_ms", "int8", MILLIS, -1..12),
        numbered("int_us", "int8", "floor(extract(epoch FROM $1) * 1000000)::int8", -2..5),
        numbered("int_ns", "int8", "floor(extract(epoch FROM $1) * 1000000000)::int8", -2..6),
        numbered("uuid_v7", "uuid", UUID, -4..9),
        numbered("uuid_expired", "uuid", UUID, -9..-3),
        tree(
            "int_day",
            "CREATE TABLE int_day (ts int4) PARTITION BY RANGE (ts);
             CREATE TABLE swallow_int PARTITION OF int_day DEFAULT;
             DO $$ BEGIN FOR i IN -2 .. 33 LOOP
               EXECUTE format('CREATE TABLE %I PARTITION OF int_day FOR VALUES FROM (%s) TO (%s)', 'id_' || i,
                              to_char(current_date + i, 'YYYYMMDD'), to_char(current_date + i + 1, 'YYYYMMDD'));
             END LOOP; END $$",
        ).written(YYYYMMDD),
        tree(
            "int_day_list",
            "CREATE TABLE int_day_list (ts int8) PARTITION BY LIST (ts);
             DO $$ BEGIN FOR i IN -2 .. 6 LOOP
               EXECUTE format('CREATE TABLE %I PARTITION OF int_day_list FOR VALUES IN (%s)', 'idl_' || i,
                              to_char(current_date + i, 'YYYYMMDD'));
             END LOOP; END $$",
        ).written(YYYYMMDD),
        tree(
            "int_year_over_day",
            "CREATE TABLE int_year_over_day (ts int4) PARTITION BY RANGE (ts);
             DO $$ DECLARE y int := extract(year FROM current_date); d date; BEGIN
             EXECUTE format('CREATE TABLE iyod_1 PARTITION OF int_year_over_day FOR VALUES FROM (%s0101) TO (%s0101) PARTITION BY RANGE (ts)', y, y + 1);
             EXECUTE format('CREATE TABLE iyod_2 PARTITION OF int_year_over_day FOR VALUES FROM (%s0101) TO (%s0101) PARTITION BY RANGE (ts)', y + 1, y + 2);
             FOR d IN SELECT generate_series(current_date, make_date(y, 12, 31), '1 day')::date LOOP
               EXECUTE format('CREATE TABLE %I PARTITION OF iyod_1 FOR VALUES FROM (%s) TO (%s)', 'iyod_' || d,
                              to_char(d, 'YYYYMMDD'), to_char(d + 1, 'YYYYMMDD'));
             END LOOP;
             CREATE TABLE swallow_year PARTITION OF iyod_2 DEFAULT; END $$",
        ).written(YYYYMMDD).probe(DAY, 400.0 * DAY),
        tree(
            "list_over_ms",
            "CREATE TABLE list_over_ms (ts int8, k int8) PARTITION BY LIST (k);
             CREATE TABLE lom_1 PARTITION OF list_over_ms FOR VALUES IN (1) PARTITION BY RANGE (ts);
             CREATE TABLE lom_2 PARTITION OF list_over_ms FOR VALUES IN (2) PARTITION BY RANGE (ts);
             DO $$ DECLARE d int8 := 86400000; m int8 := extract(epoch FROM now())::int8 / 86400 * d; BEGIN
             FOR i IN -1 .. 7 LOOP
               EXECUTE format('CREATE TABLE %I PARTITION OF lom_1 FOR VALUES FROM (%s) TO (%s)', 'lom_1_' || i, m + i * d, m + i * d + d);
               CONTINUE WHEN i = 4;
               EXECUTE format('CREATE TABLE %I PARTITION OF lom_2 FOR VALUES FROM (%s) TO (%s)', 'lom_2_' || i, m + i * d, m + i * d + d);
             END LOOP; END $$",
        ).values(&["1", "2"]).written(MILLIS),
        numbered("int_domain", "epoch_ms", MILLIS, -2..7),
        tree(
            "int_expression",
            "CREATE TABLE int_expression (ts int8) PARTITION BY RANGE ((ts / 1000));
             DO $$ DECLARE h int8 := extract(epoch FROM now())::int8 / 3600 * 3600; BEGIN
             FOR i IN 0 .. 5 LOOP
               EXECUTE format('CREATE TABLE %I PARTITION OF int_expression FOR VALUES FROM (%s) TO (%s)', 'ie_' || i, h + i * 3600, h + i * 3600 + 3600);
             END LOOP; END $$",
        ).written(MILLIS).probe(HOUR, DAY),
        // From here on the configuration says what the bounds do not.
        tree(
            "told_s",
            "CREATE TABLE told_s (ts int8) PARTITION BY RANGE (ts);
             DO $$ BEGIN EXECUTE format('CREATE TABLE told_s_1 PARTITION OF told_s FOR VALUES FROM (0) TO (%s)',
                                        extract(epoch FROM now())::int8 + 90); END $$",
        ).written("floor(extract(epoch FROM $1))::int8").probe(MINUTE, HOUR),
        tree(
            "told_day",
            "CREATE TABLE told_day (ts int4) PARTITION BY RANGE (ts);
             DO $$ BEGIN EXECUTE format('CREATE TABLE told_day_1 PARTITION OF told_day FOR VALUES FROM (MINVALUE) TO (%s32)',
                                        to_char(current_date, 'YYYYMM')); END $$",
        ).written(YYYYMMDD),
        tree(
            "told_zone",
            "CREATE TABLE told_zone (ts timestamp) PARTITION BY RANGE (ts); CALL daily('told_zone', -2, 5)",
        ).written("$1 AT TIME ZONE 'Asia/Tokyo'"),
    ]
}

/// What may mislead: names, depth, and several times in one row.
fn traps() -> Vec<Tree> {
    vec![
        tree(
            "lying_names",
            "CREATE SCHEMA other; CREATE TABLE lying_names (ts timestamptz) PARTITION BY RANGE (ts);
             CREATE TABLE lying_names_default PARTITION OF lying_names FOR VALUES FROM (current_date - 1) TO (current_date + 2);
             CREATE TABLE lying_names_2099_12_31 PARTITION OF lying_names FOR VALUES FROM (MINVALUE) TO (current_date - 1);
             CREATE TABLE other.lying_names_1999 PARTITION OF lying_names FOR VALUES FROM (current_date + 2) TO (current_date + 3);
             CREATE INDEX ON lying_names (ts)",
        ),
        tree(
            "two_times",
            "CREATE TABLE two_times (ts date, made timestamptz) PARTITION BY RANGE (ts);
             CALL daily('two_times', -1, 9, 'PARTITION BY RANGE (made)');
             DO $$ BEGIN FOR i IN 0..8 LOOP
               EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (MINVALUE) TO (current_date + 4)', 'tt_' || i, 'two_times_' || i);
             END LOOP; END $$",
        ).second("made"),
        tree(
            "hash_hash_time",
            "CREATE TABLE hash_hash_time (ts timestamptz, k int) PARTITION BY HASH (k);
             DO $$ BEGIN FOR i IN 0..1 LOOP
               EXECUTE format('CREATE TABLE %I PARTITION OF hash_hash_time FOR VALUES WITH (modulus 2, remainder %s) PARTITION BY HASH (k)', 'hht_' || i, i);
               FOR j IN 0..1 LOOP
                 EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES WITH (modulus 2, remainder %s) PARTITION BY RANGE (ts)', 'hht_' || i || j, 'hht_' || i, j);
                 CALL daily('hht_' || i || j, -1, 3 + 2 * i + j);
               END LOOP;
             END LOOP; END $$",
        ).values(&["1", "2", "3", "4", "5", "6", "7", "8"]).probe(HOUR, 20.0 * DAY),
        tree(
            "year_month_list",
            "CREATE TYPE side AS ENUM ('buy', 'sell');
             CREATE TABLE year_month_list (ts date, k side) PARTITION BY RANGE (ts);
             CREATE TABLE yml_y PARTITION OF year_month_list FOR VALUES FROM (current_date - 90) TO (current_date + 200) PARTITION BY RANGE (ts);
             CREATE TABLE yml_m PARTITION OF yml_y FOR VALUES FROM (current_date - 9) TO (current_date + 12) PARTITION BY LIST (k);
             CREATE TABLE yml_n PARTITION OF yml_y FOR VALUES FROM (current_date + 12) TO (current_date + 30) PARTITION BY LIST (k);
             CREATE TABLE yml_mb PARTITION OF yml_m FOR VALUES IN ('buy'); CREATE TABLE yml_ms PARTITION OF yml_m FOR VALUES IN ('sell');
             CREATE TABLE yml_nb PARTITION OF yml_n FOR VALUES IN ('buy')",
        ).values(&["'buy'", "'sell'"]),
        tree(
            "mixed_order",
            "CREATE TABLE mixed_order (id int, ts timestamptz NOT NULL, gone text) PARTITION BY RANGE (ts);
             ALTER TABLE mixed_order DROP COLUMN gone;
             CREATE TABLE mo_loose (ts timestamptz NOT NULL, id int);
             ALTER TABLE mixed_order ATTACH PARTITION mo_loose FOR VALUES FROM (current_date - 1) TO (current_date + 3);
             CREATE TABLE mo_more PARTITION OF mixed_order FOR VALUES FROM (current_date + 3) TO (current_date + 4);
             ALTER TABLE mixed_order DETACH PARTITION mo_more",
        ),
    ]
}

async fn pending(admin: &Client, cluster: &Cluster) -> Tree {
    let tree = tree(
        "pending",
        "CREATE TABLE pending (ts timestamptz) PARTITION BY RANGE (ts); CALL daily('pending', -2, 6)",
    );
    admin.batch_execute(&tree.ddl).await.unwrap();
    let dbname: String =
        admin.query_one("SELECT current_database()::text", &[]).await.unwrap().get(0);
    let reader = crate::common::admin(cluster, &dbname).await;
    reader.batch_execute("BEGIN; SELECT count(*) FROM pending").await.unwrap();
    let detacher = crate::common::admin(cluster, &dbname).await;
    detacher.batch_execute("SET statement_timeout = '500ms'").await.unwrap();
    let waits =
        detacher.batch_execute("ALTER TABLE pending DETACH PARTITION pending_3 CONCURRENTLY");
    assert!(waits.await.is_err(), "the reader holds it up");
    reader.batch_execute("COMMIT").await.unwrap();
    tree
}

/// Creates every tree that the server's version can have.
pub async fn create(admin: &Client, cluster: &Cluster, version_num: i32) -> Vec<Tree> {
    admin.batch_execute(TRUTH).await.unwrap();
    let mut trees = simple();
    trees.extend(columns());
    trees.extend(numbers());
    trees.extend(traps());
    trees.push(foreign(admin, cluster).await);
    for tree in &trees {
        admin.batch_execute(&tree.ddl).await.unwrap_or_else(|e| panic!("{}: {e:?}", tree.name));
    }
    if version_num >= 140_000 {
        trees.push(pending(admin, cluster).await);
    }
    trees
}

async fn foreign(admin: &Client, cluster: &Cluster) -> Tree {
    admin
        .batch_execute(&format!(
            "CREATE EXTENSION postgres_fdw;
             CREATE SERVER self FOREIGN DATA WRAPPER postgres_fdw
               OPTIONS (host '{}', port '{}', dbname 'postgres');
             CREATE USER MAPPING FOR postgres SERVER self OPTIONS (user 'postgres')",
            cluster.socket_dir().display(),
            cluster.port()
        ))
        .await
        .unwrap();
    let there = crate::common::admin(cluster, "postgres").await;
    there.batch_execute("CREATE TABLE IF NOT EXISTS elsewhere (ts timestamptz)").await.unwrap();
    tree(
        "foreign_leaf",
        "CREATE TABLE foreign_leaf (ts timestamptz) PARTITION BY RANGE (ts);
         CALL daily('foreign_leaf', -1, 2);
         CREATE FOREIGN TABLE foreign_leaf_far PARTITION OF foreign_leaf
           FOR VALUES FROM (current_date + 2) TO (current_date + 5)
           SERVER self OPTIONS (table_name 'elsewhere')",
    )
}
