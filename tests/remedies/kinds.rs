//! Faults that are planted for `tests/remedies.rs`, and what must hold of what is printed for them.
//!
//! Must not: know how a remedy goes about it.

/// A fault, planted in a schema `{s}` on tables `{t}` and `{p}` with an index `{i}`, all quoted.
pub struct Kind {
    /// The check that finds it.
    pub check: &'static str,
    /// What it is, for the list in docs/remedies.md.
    pub what: &'static str,
    /// What the script does, or why there is none.
    pub does: &'static str,
    /// Plants it.
    pub plant: &'static str,
    /// Statements that fail, as they are meant to.
    pub fails: &'static [&'static str],
    /// After those.
    pub then: &'static str,
    /// Holds once it is put right: a boolean. Empty where nothing is printed.
    pub wanted: &'static str,
    /// Holds before, between and after.
    pub kept: &'static str,
    /// Whether names and owners may be anything: no file has to name them.
    pub any_name: bool,
    /// Whether it is about the server: it is planted and put right in the database `postgres`.
    pub server: bool,
}

const NONE: Kind = Kind {
    check: "",
    what: "",
    does: "",
    plant: "",
    fails: &[],
    then: "",
    wanted: "",
    kept: "true",
    any_name: true,
    server: false,
};

/// Valid, ready and live.
const USABLE: &str = "i.indisvalid AND i.indisready AND i.indislive";

/// `{usable}` in a template.
pub fn fill(template: &str, names: [&str; 4]) -> String {
    let [s, t, p, i] = names;
    let string = |a: &str, b: &str| format!("'{}'", format!("{a}.{b}").replace('\'', "''"));
    template
        .replace("{usable}", USABLE)
        .replace("'{t}'", &string(s, t))
        .replace("'{p}'", &string(s, p))
        .replace("'{si}'", &string(s, i))
        .replace("'{s}.q'", &string(s, "q"))
        .replace("'{s}.a_and_b'", &string(s, "a_and_b"))
        .replace("'{s}.part_1'", &string(s, "part_1"))
        .replace("{t}", &format!("{s}.{t}"))
        .replace("{p}", &format!("{s}.{p}"))
        .replace("{si}", &format!("{s}.{i}"))
        .replace("{i}", i)
        .replace("{s}", s)
}

const ROWS: &str = "(SELECT count(*) FROM {t}) >= 100";

pub const KINDS: &[Kind] = &[
    Kind {
        check: "index.foreign_key",
        what: "a foreign key without an index",
        does: "CREATE INDEX CONCURRENTLY; a half-built one is dropped first",
        plant: "CREATE TABLE {p} (id int PRIMARY KEY); INSERT INTO {p} SELECT generate_series(1, 50);
                CREATE TABLE {t} (n int DEFAULT 1, parent int DEFAULT 1 REFERENCES {p});
                INSERT INTO {t} SELECT i, i % 50 + 1 FROM generate_series(1, 20000) i;
                ANALYZE {t}; ANALYZE {p}",
        wanted: "EXISTS (SELECT FROM pg_index i WHERE i.indrelid = '{t}'::regclass AND {usable}
                   AND pg_get_indexdef(i.indexrelid) LIKE '%(parent)')",
        kept: "(SELECT count(*) FROM {t}) >= 20000 AND EXISTS (SELECT FROM pg_constraint WHERE contype = 'f'
                 AND conrelid = '{t}'::regclass)",
        ..NONE
    },
    Kind {
        check: "index.foreign_key",
        what: "a foreign key of a partitioned table without an index",
        does: "CREATE INDEX on the parent alone, CONCURRENTLY on each partition, ATTACH",
        plant: "CREATE TABLE {p} (id int PRIMARY KEY); INSERT INTO {p} SELECT generate_series(1, 50);
                CREATE TABLE {t} (n int DEFAULT 1, parent int DEFAULT 1 REFERENCES {p}) PARTITION BY RANGE (n);
                CREATE TABLE {s}.part_1 PARTITION OF {t} FOR VALUES FROM (0) TO (10000);
                CREATE TABLE {s}.part_2 PARTITION OF {t} DEFAULT PARTITION BY HASH (n);
                CREATE TABLE {s}.part_3 PARTITION OF {s}.part_2 FOR VALUES WITH (MODULUS 1, REMAINDER 0);
                INSERT INTO {t} SELECT i, i % 50 + 1 FROM generate_series(1, 20000) i;
                ANALYZE",
        wanted: "EXISTS (SELECT FROM pg_index i WHERE i.indrelid = '{t}'::regclass AND {usable}
                   AND pg_get_indexdef(i.indexrelid) LIKE '%(parent)')
                 AND NOT EXISTS (SELECT FROM pg_index i WHERE NOT i.indisvalid)",
        kept: "(SELECT count(*) FROM {t}) >= 20000",
        ..NONE
    },
    Kind {
        check: "index.invalid",
        what: "a unique index that CREATE INDEX CONCURRENTLY left invalid",
        does: "REINDEX INDEX CONCURRENTLY, its leftovers dropped",
        plant: "CREATE TABLE {t} (a int, b int DEFAULT 3); INSERT INTO {t} SELECT i, 1 FROM generate_series(1, 200) i;
                INSERT INTO {t} VALUES (1, 2)",
        fails: &[
            "CREATE UNIQUE INDEX CONCURRENTLY {i} ON {t} (a)",
            "REINDEX INDEX CONCURRENTLY {si}",
        ],
        then: "DELETE FROM {t} WHERE b = 2",
        wanted: "EXISTS (SELECT FROM pg_index i WHERE i.indexrelid = '{si}'::regclass AND {usable} AND i.indisunique)
                 AND NOT EXISTS (SELECT FROM pg_index i WHERE NOT i.indisvalid)",
        kept: ROWS,
        ..NONE
    },
    Kind {
        check: "index.partition_coverage",
        what: "an index of a partitioned table that partitions lack",
        does: "CREATE INDEX CONCURRENTLY where it is missing, ATTACH what is there",
        plant: "CREATE TABLE {t} (a int DEFAULT 1, b int DEFAULT 1) PARTITION BY LIST (b);
                CREATE TABLE {s}.part_1 PARTITION OF {t} FOR VALUES IN (1);
                CREATE TABLE {s}.part_2 PARTITION OF {t} FOR VALUES IN (2) PARTITION BY RANGE (a);
                CREATE UNLOGGED TABLE {s}.part_3 PARTITION OF {s}.part_2 DEFAULT;
                INSERT INTO {t} SELECT i, i % 2 + 1 FROM generate_series(1, 200) i;
                CREATE INDEX {i} ON ONLY {t} (a DESC) WHERE a > 0;
                CREATE INDEX here_already ON {s}.part_1 (a DESC) WHERE a > 0",
        wanted: "EXISTS (SELECT FROM pg_index i WHERE i.indexrelid = '{si}'::regclass AND {usable})
                 AND (SELECT count(*) = 1 FROM pg_index i WHERE i.indrelid = '{s}.part_1'::regclass)",
        kept: ROWS,
        ..NONE
    },
    Kind {
        check: "index.partition_coverage",
        what: "a unique constraint of a partitioned table that partitions lack",
        does: "CREATE UNIQUE INDEX CONCURRENTLY, ADD CONSTRAINT USING INDEX, ATTACH",
        plant: "CREATE TABLE {t} (a int NOT NULL DEFAULT (random() * 1e9)::int, b int NOT NULL DEFAULT 1) PARTITION BY LIST (b);
                CREATE TABLE {s}.part_1 PARTITION OF {t} FOR VALUES IN (1);
                CREATE TABLE {s}.part_2 PARTITION OF {t} FOR VALUES IN (2);
                INSERT INTO {t} SELECT i, i % 2 + 1 FROM generate_series(1, 200) i;
                ALTER TABLE ONLY {t} ADD CONSTRAINT {i} UNIQUE (a, b)",
        wanted: "EXISTS (SELECT FROM pg_index i WHERE i.indexrelid = '{si}'::regclass AND {usable})
                 AND (SELECT count(*) = 3 FROM pg_constraint WHERE contype = 'u' AND conrelid >= 16384)",
        kept: ROWS,
        ..NONE
    },
    Kind {
        check: "index.duplicate",
        what: "an index that is the same as another",
        does: "DROP INDEX CONCURRENTLY, while the other is there",
        plant: "CREATE TABLE {t} (a int DEFAULT 1); INSERT INTO {t} SELECT generate_series(1, 200);
                CREATE INDEX {i} ON {t} (a); CREATE INDEX its_double_with_a_long_name ON {t} (a); ANALYZE {t}",
        wanted: "(SELECT count(*) = 1 FROM pg_index i WHERE i.indrelid = '{t}'::regclass AND {usable})",
        kept: "(SELECT count(*) FROM {t}) >= 200 AND EXISTS (SELECT FROM pg_index i WHERE i.indrelid = '{t}'::regclass AND {usable})",
        ..NONE
    },
    Kind {
        check: "index.duplicate",
        what: "a unique index beside a unique constraint",
        does: "the index goes, the constraint stays",
        plant: "CREATE SEQUENCE {s}.q START 1000; CREATE TABLE {t} (a int DEFAULT nextval('{s}.q') CONSTRAINT the_key UNIQUE);
                INSERT INTO {t} SELECT generate_series(1, 200);
                CREATE UNIQUE INDEX {i} ON {t} (a); ANALYZE {t}",
        wanted: "(SELECT count(*) = 1 FROM pg_index i WHERE i.indrelid = '{t}'::regclass AND {usable})",
        kept: "EXISTS (SELECT FROM pg_constraint WHERE conname = 'the_key' AND conrelid = '{t}'::regclass)",
        ..NONE
    },
    Kind {
        check: "index.duplicate",
        what: "two unique constraints on the same columns",
        does: "nothing is printed: a constraint is never dropped",
        plant: "CREATE SEQUENCE {s}.q START 1000; CREATE TABLE {t} (a int DEFAULT nextval('{s}.q'),
                  CONSTRAINT one UNIQUE (a));
                INSERT INTO {t} SELECT generate_series(1, 200);
                ALTER TABLE {t} ADD CONSTRAINT another UNIQUE (a); ANALYZE {t}",
        kept: "(SELECT count(*) = 2 FROM pg_constraint WHERE contype = 'u' AND conrelid = '{t}'::regclass)",
        ..NONE
    },
    Kind {
        check: "index.duplicate",
        what: "an index that CLUSTER or replication relies on, with a double",
        does: "the double goes",
        plant: "CREATE SEQUENCE {s}.q START 1000; CREATE TABLE {t} (a int NOT NULL DEFAULT nextval('{s}.q'), b int DEFAULT 1);
                INSERT INTO {t} SELECT generate_series(1, 200);
                CREATE UNIQUE INDEX {i} ON {t} (a); CREATE UNIQUE INDEX x ON {t} (a);
                CREATE INDEX clustered_by_this_index ON {t} (b); CREATE INDEX y ON {t} (b);
                ALTER TABLE {t} REPLICA IDENTITY USING INDEX {i}; CLUSTER {t} USING clustered_by_this_index; ANALYZE {t}",
        wanted: "(SELECT count(*) = 2 FROM pg_index i WHERE i.indrelid = '{t}'::regclass AND {usable})",
        kept: "(SELECT count(*) = 2 FROM pg_index i WHERE i.indrelid = '{t}'::regclass AND (i.indisclustered OR i.indisreplident))",
        ..NONE
    },
    Kind {
        check: "index.redundant",
        what: "an index whose columns begin another one",
        does: "DROP INDEX CONCURRENTLY",
        plant: "CREATE TABLE {t} (a int DEFAULT 1, b int); INSERT INTO {t} SELECT generate_series(1, 200);
                CREATE INDEX {i} ON {t} (a); CREATE INDEX a_and_b ON {t} (a, b); ANALYZE {t}",
        wanted: "(SELECT count(*) = 1 FROM pg_index i WHERE i.indrelid = '{t}'::regclass AND {usable})",
        kept: "EXISTS (SELECT FROM pg_index i WHERE i.indexrelid = '{s}.a_and_b'::regclass AND {usable})",
        ..NONE
    },
    Kind {
        check: "index.redundant",
        what: "the same on a partitioned table",
        does: "DROP INDEX, all its locks within 0.8 s or none",
        plant: "CREATE TABLE {t} (a int DEFAULT 1, b int) PARTITION BY RANGE (a);
                CREATE TABLE {s}.part_1 PARTITION OF {t} FOR VALUES FROM (0) TO (100);
                CREATE TABLE {s}.part_2 PARTITION OF {t} DEFAULT;
                INSERT INTO {t} SELECT generate_series(1, 200);
                CREATE INDEX {i} ON {t} (a); CREATE INDEX a_and_b ON {t} (a, b); ANALYZE",
        wanted: "(SELECT count(*) = 1 FROM pg_index i WHERE i.indrelid = '{t}'::regclass AND {usable})
                 AND (SELECT count(*) = 1 FROM pg_index i WHERE i.indrelid = '{s}.part_1'::regclass)",
        kept: "EXISTS (SELECT FROM pg_index i WHERE i.indexrelid = '{s}.a_and_b'::regclass AND {usable})",
        ..NONE
    },
    Kind {
        check: "constraint.not_valid",
        what: "a CHECK that is NOT VALID",
        does: "VALIDATE CONSTRAINT",
        plant: "CREATE TABLE {t} (a int DEFAULT 1); INSERT INTO {t} SELECT generate_series(1, 200);
                ALTER TABLE {t} ADD CONSTRAINT {i} CHECK (a > 0) NOT VALID",
        wanted: "(SELECT convalidated FROM pg_constraint WHERE conrelid = '{t}'::regclass AND contype = 'c')",
        kept: "EXISTS (SELECT FROM pg_constraint WHERE conrelid = '{t}'::regclass AND contype = 'c')",
        ..NONE
    },
    Kind {
        check: "constraint.not_valid",
        what: "a foreign key that is NOT VALID",
        does: "VALIDATE CONSTRAINT",
        plant: "CREATE TABLE {p} (id int PRIMARY KEY); INSERT INTO {p} SELECT generate_series(1, 50);
                CREATE TABLE {t} (a int DEFAULT 1); INSERT INTO {t} SELECT i % 50 + 1 FROM generate_series(1, 200) i;
                ALTER TABLE {t} ADD CONSTRAINT {i} FOREIGN KEY (a) REFERENCES {p} NOT VALID",
        wanted: "(SELECT convalidated FROM pg_constraint WHERE conrelid = '{t}'::regclass AND contype = 'f')",
        kept: ROWS,
        ..NONE
    },
    Kind {
        check: "constraint.not_valid",
        what: "a constraint of a domain that is NOT VALID",
        does: "VALIDATE CONSTRAINT for at most 1.5 s",
        plant: "CREATE DOMAIN {s}.positive AS int; CREATE TABLE {t} (a {s}.positive DEFAULT 1);
                INSERT INTO {t} SELECT generate_series(1, 200);
                ALTER DOMAIN {s}.positive ADD CONSTRAINT {i} CHECK (VALUE > 0) NOT VALID",
        wanted: "(SELECT bool_and(convalidated) FROM pg_constraint WHERE contypid <> 0
                    AND connamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace))",
        kept: ROWS,
        ..NONE
    },
    Kind {
        check: "extension.outdated",
        what: "an extension that is older than its files",
        does: "ALTER EXTENSION ... UPDATE",
        plant: "CREATE TABLE {t} (a int DEFAULT 1); INSERT INTO {t} SELECT generate_series(1, 200);
                CREATE EXTENSION hstore SCHEMA {s} VERSION '1.4'",
        wanted: "(SELECT e.extversion = a.default_version FROM pg_extension e
                    JOIN pg_available_extensions a ON a.name = e.extname WHERE e.extname = 'hstore')",
        kept: ROWS,
        any_name: false,
        ..NONE
    },
    Kind {
        check: "constraint.foreign_key",
        what: "rows whose foreign key points to no row",
        does: "DELETE in batches, after counting; commented out, cascades named",
        plant: "CREATE TABLE {p} (id int PRIMARY KEY); INSERT INTO {p} SELECT generate_series(1, 50);
                CREATE TABLE {t} (n int PRIMARY KEY, parent int DEFAULT 1 CONSTRAINT {i} REFERENCES {p});
                CREATE SEQUENCE {s}.q START 10000; ALTER TABLE {t} ALTER n SET DEFAULT nextval('{s}.q');
                CREATE TABLE {s}.note (n int REFERENCES {t} ON DELETE CASCADE);
                SET session_replication_role = replica;
                INSERT INTO {t} SELECT i, CASE WHEN i % 10 = 0 THEN 5000 + i ELSE i % 50 + 1 END FROM generate_series(1, 2000) i;
                INSERT INTO {s}.note SELECT generate_series(1, 2000); ANALYZE",
        wanted: "NOT EXISTS (SELECT FROM {t} WHERE parent > 5000)",
        kept: "(SELECT count(*) FROM {t} WHERE parent <= 50) >= 1800 AND (SELECT count(*) FROM {s}.note WHERE n % 10 <> 0) = 1800",
        ..NONE
    },
    Kind {
        check: "statistics.age",
        what: "old statistics",
        does: "ANALYZE, and a look whether it was done",
        plant: "CREATE TABLE {t} (a int DEFAULT 1); INSERT INTO {t} SELECT generate_series(1, 12000);
                CREATE INDEX {i} ON {t} (a)",
        // So that the planner counts the rows, and the fault is not that of the next kind. From 18 on an index does
        // not count them where autovacuum is off.
        then: "VACUUM {t}",
        wanted: "(SELECT last_analyze IS NOT NULL FROM pg_stat_user_tables WHERE relid = '{t}'::regclass)",
        kept: ROWS,
        ..NONE
    },
    Kind {
        check: "statistics.load",
        what: "partitions that were loaded after their last ANALYZE",
        does: "ANALYZE of each, and a look whether it was done",
        plant: "CREATE TABLE {t} (a int DEFAULT 1) PARTITION BY RANGE (a);
                CREATE TABLE {s}.part_1 PARTITION OF {t} FOR VALUES FROM (0) TO (12000);
                CREATE TABLE {s}.part_2 PARTITION OF {t} DEFAULT;
                INSERT INTO {t} SELECT generate_series(1, 24000)",
        wanted: "(SELECT count(last_analyze) = 2 FROM pg_stat_user_tables WHERE schemaname = (SELECT nspname
                   FROM pg_namespace n JOIN pg_class c ON c.relnamespace = n.oid WHERE c.oid = '{t}'::regclass)
                   AND relname LIKE 'part%')",
        kept: ROWS,
        any_name: false,
        ..NONE
    },
    Kind {
        check: "index.unused",
        what: "an index that nothing scans",
        does: "DROP INDEX CONCURRENTLY, unless something relies on it by now",
        plant: "CREATE TABLE {t} (a int DEFAULT 1); INSERT INTO {t} SELECT generate_series(1, 200);
                CREATE INDEX {i} ON {t} (a)",
        wanted: "to_regclass('{si}') IS NULL",
        kept: ROWS,
        any_name: false,
        ..NONE
    },
    Kind {
        check: "index.bloat",
        what: "an index of which most holds nothing",
        does: "REINDEX INDEX CONCURRENTLY, its leftovers dropped",
        plant: "CREATE TABLE {t} (a int DEFAULT 1, b text DEFAULT 'x'); ALTER TABLE {t} ALTER b SET STORAGE PLAIN;
                INSERT INTO {t} SELECT i, repeat(md5(i::text), 32) FROM generate_series(1, 14000) i;
                CREATE INDEX {i} ON {t} (b); DELETE FROM {t} WHERE a > 200; ANALYZE {t}",
        wanted: "pg_relation_size('{si}') < 5000000",
        kept: ROWS,
        any_name: false,
        ..NONE
    },
    Kind {
        check: "index.corrupt",
        what: "an index whose entries are out of order",
        does: "REINDEX INDEX CONCURRENTLY",
        plant: "CREATE EXTENSION IF NOT EXISTS amcheck SCHEMA public;
                CREATE FUNCTION {s}.order_of(int, int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT CASE WHEN $1 < $2 THEN -1 WHEN $1 > $2 THEN 1 ELSE 0 END';
                CREATE OPERATOR CLASS {s}.odd_ops FOR TYPE int USING btree AS OPERATOR 1 <, OPERATOR 2 <=,
                  OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 {s}.order_of(int, int);
                CREATE TABLE {t} (a int DEFAULT 1); INSERT INTO {t} SELECT generate_series(1, 1000);
                CREATE INDEX {i} ON {t} (a {s}.odd_ops);
                CREATE TABLE {s}.q AS SELECT '{si}'::regclass::oid AS o;
                CREATE OR REPLACE FUNCTION {s}.order_of(int, int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT CASE WHEN $1 > $2 THEN -1 WHEN $1 < $2 THEN 1 ELSE 0 END'",
        wanted: "EXISTS (SELECT FROM pg_index i WHERE i.indexrelid = '{si}'::regclass AND {usable}
                   AND i.indexrelid <> (SELECT o FROM {s}.q))",
        kept: ROWS,
        any_name: false,
        ..NONE
    },
    Kind {
        check: "settings.track_io_timing",
        what: "a setting that the role sets",
        does: "ALTER ROLE ... RESET",
        plant: "CREATE TABLE {t} (a int DEFAULT 1); INSERT INTO {t} SELECT generate_series(1, 200);
                ALTER ROLE postgres SET track_io_timing = off",
        wanted: "NOT EXISTS (SELECT FROM pg_db_role_setting)",
        kept: ROWS,
        any_name: false,
        server: true,
        ..NONE
    },
    Kind {
        check: "vacuum.age",
        what: "dead rows",
        does: "VACUUM (ANALYZE), and a look whether it was done",
        plant: "CREATE TABLE {t} (a int DEFAULT 1); INSERT INTO {t} SELECT generate_series(1, 16000); ANALYZE {t};
                DELETE FROM {t} WHERE a > 2000; ANALYZE {t}",
        wanted: "(SELECT last_vacuum IS NOT NULL FROM pg_stat_user_tables WHERE relid = '{t}'::regclass)",
        kept: ROWS,
        ..NONE
    },
    Kind {
        check: "partition.retention",
        what: "data older than `max_age: 47h` in hourly partitions",
        does: "the retirement of docs/maintenance.md; commented out",
        plant: "CREATE TABLE {t} (at timestamptz NOT NULL DEFAULT now()) PARTITION BY RANGE (at);
                DO $$ DECLARE a timestamptz; BEGIN FOR h IN -60..6 LOOP
                  a := date_trunc('hour', now()) + make_interval(hours => h);
                  EXECUTE format('CREATE TABLE {s}.h_%s PARTITION OF {t} FOR VALUES FROM (%L) TO (%L)',
                    h + 60, a, a + interval '1 hour'); END LOOP; END $$;
                INSERT INTO {t} SELECT now() - i * interval '10 minutes' FROM generate_series(0, 350) i; ANALYZE",
        wanted: "(SELECT min(at) > now() - interval '48 hours 30 minutes' FROM {t})",
        kept: "(SELECT count(*) FROM {t} WHERE at > now() - interval '46 hours 50 minutes') >= 281",
        any_name: false,
        ..NONE
    },
    Kind {
        check: "index.missing",
        what: "an index that the file expects of a partitioned table",
        does: "as for a foreign key's",
        plant: "CREATE TABLE {t} (a int DEFAULT 1, b int) PARTITION BY RANGE (a);
                CREATE TABLE {s}.part_1 PARTITION OF {t} FOR VALUES FROM (0) TO (100);
                CREATE TABLE {s}.part_2 PARTITION OF {t} DEFAULT;
                INSERT INTO {t} SELECT generate_series(1, 200)",
        wanted: "EXISTS (SELECT FROM pg_index i WHERE i.indexrelid = to_regclass('{s}.expected') AND {usable})",
        kept: ROWS,
        any_name: false,
        ..NONE
    },
];
