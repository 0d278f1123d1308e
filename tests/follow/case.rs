//! One layout with its surroundings, from a seed.
//!
//! Must not: draw from anything but its seed.

use pgrunway::remedy::quote::{ident, literal};

/// Deterministic numbers (splitmix64).
pub struct Draw(pub u64);

impl Draw {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.below(from.len() as u64)).unwrap()]
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    None,
    Default,
    Open,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    Flat,
    /// LIST above the time.
    Below,
    /// LIST or HASH below the time.
    Listed,
    Hashed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Publish {
    None,
    Root,
    AllByRoot,
    /// By the leaves' own names.
    Leaves,
    InsertOnly,
    /// From 15 on: rows by a filter on columns of the replica identity, or of none; some columns.
    Filtered,
    FilteredByAny,
    Columns,
}

#[derive(Debug, Clone)]
pub struct Case {
    pub seed: u64,
    pub major: i32,
    pub key: &'static str,
    pub source: Source,
    pub shape: Shape,
    pub publish: Publish,
    pub schema: String,
    pub table: String,
    pub several: bool,
    /// Foreign keys from another table: to the root, with this action.
    pub refers: Option<&'static str>,
    /// One that refers to the DEFAULT itself.
    pub refers_leaf: bool,
    pub references: bool,
    pub triggers: bool,
    pub leaf: bool,
    pub secured: bool,
    pub forced: bool,
    pub replica_full: bool,
    pub as_owner: bool,
    pub cut: bool,
    /// From 18 on publications hold generated columns, too.
    pub generated: bool,
    /// The script takes its source for large: the server is given proofs instead of reading it.
    pub large: bool,
    /// One partition belongs to another role: the oldest, or the newest.
    pub foreign_owner: Option<bool>,
}

impl Case {
    pub fn new(seed: u64, major: i32) -> Self {
        let mut d = Draw(seed);
        d.next();
        let hostile = d.chance(30);
        let source = d.pick(&[
            Source::Default,
            Source::Default,
            Source::Default,
            Source::Open,
            Source::Open,
            Source::None,
        ]);
        let shape = d.pick(&[
            Shape::Flat,
            Shape::Flat,
            Shape::Flat,
            Shape::Below,
            Shape::Listed,
            Shape::Hashed,
        ]);
        let name = |plain: &str, odd: &str| if hostile { odd } else { plain }.to_owned();
        let key = d.pick(&["timestamptz", "timestamp", "date", "int8", "int8ms", "uuid"]);
        let mut case = Self {
            seed,
            major,
            key,
            source,
            shape,
            publish: d.pick(&[
                Publish::None,
                Publish::None,
                Publish::Root,
                Publish::Root,
                Publish::AllByRoot,
                Publish::Leaves,
                Publish::InsertOnly,
            ]),
            schema: name("app", "S p\u{1b}[2J"),
            table: name("ev", "Ta\"b\nl$do$e'; -- \\ %s"),
            several: d.chance(30),
            refers: d.chance(30).then(|| {
                d.pick(&[
                    "CASCADE",
                    "SET NULL",
                    "NO ACTION",
                    "RESTRICT",
                    "CASCADE DEFERRABLE INITIALLY DEFERRED",
                ])
            }),
            refers_leaf: d.chance(10) && source == Source::Default && shape == Shape::Flat,
            references: d.chance(30),
            triggers: d.chance(60),
            leaf: d.chance(60),
            secured: d.chance(40),
            forced: d.chance(50),
            replica_full: d.chance(30),
            as_owner: d.chance(50),
            cut: d.chance(60),
            generated: d.chance(70),
            large: d.chance(60),
            foreign_owner: d.chance(20).then(|| d.chance(50)),
        };
        if case.publish == Publish::Root && major >= 15 {
            case.publish = d.pick(&[
                Publish::Root,
                Publish::Root,
                Publish::Filtered,
                Publish::FilteredByAny,
                Publish::Columns,
            ]);
        }
        case
    }

    /// Whether PostgreSQL itself refuses every UPDATE and DELETE of the table: a publication lacks something of its
    /// replica identity.
    pub fn stuck(&self) -> bool {
        let (full, lists) = (self.replica_full, self.publish == Publish::Columns);
        let sends = !matches!(self.publish, Publish::None | Publish::InsertOnly);
        full && lists
            || !full && self.publish == Publish::FilteredByAny
            || full && self.major >= 18 && sends && !self.generated
    }

    /// The table as SQL has it.
    pub fn root(&self) -> String {
        format!("{}.{}", ident(&self.schema), ident(&self.table))
    }

    /// The table whose partitions follow the time.
    pub fn level(&self) -> String {
        if self.shape == Shape::Below { self.named("_eu") } else { self.root() }
    }

    pub fn named(&self, tail: &str) -> String {
        format!("{}.{}", ident(&self.schema), ident(&format!("{}{tail}", self.table)))
    }

    fn key_type(&self) -> &'static str {
        if self.key == "int8ms" { "int8" } else { self.key }
    }

    /// Why rows must stay where they are.
    pub fn refuses(&self) -> bool {
        let published = matches!(self.publish, Publish::Leaves | Publish::InsertOnly);
        self.source != Source::None && (published || self.refers_leaf || self.stuck())
            || self.source == Source::Open && self.refers.is_some()
    }

    /// The table, its partitions from two days ago to the day after tomorrow, and what is around them. Rows
    /// from 1 to 400, of which some lie where no partition is.
    pub fn setup(&self) -> String {
        let (root, level) = (self.root(), self.level());
        let schema = ident(&self.schema);
        let columns =
            if self.shape == Shape::Flat && !self.several { "id, at" } else { "id, at, region" };
        let of = match self.key {
            "timestamptz" => "$1",
            "timestamp" => "$1 AT TIME ZONE 'UTC'",
            "date" => "($1 AT TIME ZONE 'UTC')::date",
            "int8" => "extract(epoch FROM $1)::int8",
            "int8ms" => "(extract(epoch FROM $1) * 1000)::int8",
            _ => {
                "regexp_replace(lpad(to_hex((extract(epoch FROM $1) * 1000)::int8), 12, '0'), \
                 '(.{8})(.{4})', '\\1-\\2-7000-8000-000000000000')::uuid"
            }
        };
        let mut sql = format!(
            "CREATE SCHEMA {schema} AUTHORIZATION app_owner; GRANT USAGE ON SCHEMA {schema} TO PUBLIC;
             CREATE FUNCTION public.k(timestamptz) RETURNS {kind} STABLE LANGUAGE sql AS $k$ SELECT {of} $k$;
             ALTER DEFAULT PRIVILEGES FOR ROLE app_owner GRANT ALL ON TABLES TO app_guest;
             ALTER DEFAULT PRIVILEGES FOR ROLE postgres GRANT ALL ON TABLES TO PUBLIC;
             GRANT CREATE ON SCHEMA public TO app_owner;
             SET ROLE app_owner;
             CREATE TABLE public.other (id int PRIMARY KEY); INSERT INTO public.other SELECT generate_series(0, 9);
             CREATE TABLE public.audit (what text, id int8);
             CREATE FUNCTION public.book() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN
               INSERT INTO public.audit VALUES (TG_NAME || ' ' || TG_OP, CASE TG_LEVEL WHEN 'ROW' THEN CASE TG_OP WHEN 'DELETE' THEN OLD.id ELSE NEW.id END END);
               RETURN CASE WHEN TG_LEVEL = 'ROW' AND TG_OP <> 'DELETE' THEN NEW END; END $f$;
             CREATE FUNCTION public.swallow() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN RETURN NULL; END $f$;
             CREATE TABLE {root} (id int8 GENERATED ALWAYS AS IDENTITY, at {kind} NOT NULL, region text NOT NULL DEFAULT 'eu',
               note text CHECK (note <> 'bad'), twice int GENERATED ALWAYS AS (length(note) * 2) STORED, ref int{references},
               PRIMARY KEY ({columns})) PARTITION BY {by};",
            kind = self.key_type(),
            references = if self.references { " REFERENCES public.other DEFERRABLE INITIALLY DEFERRED" } else { "" },
            by = match self.shape {
                Shape::Below => "LIST (region)",
                _ if self.several => "RANGE (at, region)",
                _ => "RANGE (at)",
            },
        );
        if self.shape == Shape::Below {
            let by = if self.several { "RANGE (at, region)" } else { "RANGE (at)" };
            sql += &format!(
                "CREATE TABLE {level} PARTITION OF {root} FOR VALUES IN ('eu') PARTITION BY {by};"
            );
        }
        let below = match self.shape {
            Shape::Listed => " PARTITION BY LIST (region)",
            Shape::Hashed => " PARTITION BY HASH (id)",
            _ => "",
        };
        let children = match self.shape {
            Shape::Listed => "FOR VALUES IN (''eu'')|DEFAULT",
            Shape::Hashed => {
                "FOR VALUES WITH (modulus 2, remainder 0)|FOR VALUES WITH (modulus 2, remainder 1)"
            }
            _ => "",
        };
        let rest = if self.several { ", MINVALUE" } else { "" };
        let last = if self.several { ", MAXVALUE" } else { "" };
        let mut tail = String::new();
        let leaves = |name: &str| {
            if children.is_empty() {
                String::new()
            } else {
                format!(
                    "n := 0; FOREACH c IN ARRAY string_to_array('{children}', '|') LOOP n := n + 1;
                       EXECUTE format('CREATE TABLE %I.%I PARTITION OF %I.%I ' || c, s, {name} || '_' || n, s, {name}); END LOOP;"
                )
            }
        };
        if self.source == Source::Open {
            tail = format!(
                "p := t || '_future'; EXECUTE format('CREATE TABLE %I.%I PARTITION OF {level_} FOR VALUES FROM (%L{rest}) TO (MAXVALUE{last}){below}', s, p, k(d + interval '3 days')); {}",
                leaves("p"),
                level_ = level.replace('%', "%%").replace('\'', "''"),
            );
        } else if self.source == Source::Default {
            tail = format!(
                "p := t || '_rest'; EXECUTE format('CREATE TABLE %I.%I PARTITION OF {level_} DEFAULT{below}', s, p); {}",
                leaves("p"),
                level_ = level.replace('%', "%%").replace('\'', "''"),
            );
        }
        sql += &format!(
            "DO $setup$ DECLARE d timestamptz := date_trunc('day', now()); s text := {s}; t text := {t}; p text; c text; n int; i int; BEGIN
               FOR i IN -2 .. 2 LOOP
                 p := t || to_char(d + make_interval(days => i), '\"_p\"YYYYMMDD');
                 EXECUTE format('CREATE TABLE %I.%I PARTITION OF {level_} FOR VALUES FROM (%L{rest}) TO (%L{rest}){below}', s, p, k(d + make_interval(days => i)), k(d + make_interval(days => i + 1)));
                 {leaves}
               END LOOP; {tail} END $setup$;",
            s = literal(&self.schema),
            t = literal(&self.table),
            level_ = level.replace('%', "%%").replace('\'', "''"),
            leaves = leaves("p"),
        );
        let far = if self.source == Source::None { 4 } else { 9 };
        sql += &format!(
            "INSERT INTO {root} (id, at, note) OVERRIDING SYSTEM VALUE
               SELECT i, public.k(date_trunc('day', now()) + (i % {far} - 1) * interval '1 day' + i * interval '1 minute'), 'n' || i
                 FROM generate_series(1, 400) i; SET CONSTRAINTS ALL IMMEDIATE;"
        );
        if self.triggers {
            sql += &format!(
                "CREATE TRIGGER book AFTER INSERT OR UPDATE OR DELETE ON {root} FOR EACH ROW EXECUTE FUNCTION public.book();
                 CREATE TRIGGER booked AFTER INSERT OR UPDATE OR DELETE ON {root} FOR EACH STATEMENT EXECUTE FUNCTION public.book();
                 CREATE TRIGGER off_swallow BEFORE INSERT OR DELETE ON {root} FOR EACH ROW EXECUTE FUNCTION public.swallow();
                 ALTER TABLE {root} DISABLE TRIGGER off_swallow;
                 CREATE TRIGGER replica_swallow BEFORE INSERT OR DELETE ON {root} FOR EACH ROW EXECUTE FUNCTION public.swallow();
                 ALTER TABLE {root} ENABLE REPLICA TRIGGER replica_swallow;
                 CREATE TRIGGER always AFTER INSERT OR DELETE ON {root} FOR EACH ROW EXECUTE FUNCTION public.book();
                 ALTER TABLE {root} ENABLE ALWAYS TRIGGER always;"
            );
        }
        if self.secured && self.forced {
            sql += &format!(
                "ALTER TABLE {root} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
                 CREATE POLICY all_of_it ON {root} USING (true);"
            );
        }
        sql += &self.each_leaf();
        if let Some(action) = self.refers {
            sql += &format!(
                "CREATE TABLE public.note (id int8, {}, FOREIGN KEY ({columns}) REFERENCES {root} ON DELETE {action});
                 INSERT INTO public.note SELECT {columns} FROM {root};",
                if columns.contains("region") { format!("at {}, region text", self.key_type()) } else { format!("at {}", self.key_type()) },
            );
        }
        if self.refers_leaf {
            let rest = self.named("_rest");
            sql += &format!(
                "CREATE TABLE public.direct (id int8, at {}{}, FOREIGN KEY ({columns}) REFERENCES {rest} ON DELETE CASCADE);
                 INSERT INTO public.direct SELECT {columns} FROM {rest};",
                self.key_type(),
                if columns.contains("region") { ", region text" } else { "" },
            );
        }
        sql += "RESET ROLE;";
        if let Some(newest) = self.foreign_owner {
            sql += &format!(
                "DO $own$ DECLARE l regclass; BEGIN
                   SELECT c.oid INTO l FROM pg_class c JOIN pg_inherits i ON i.inhrelid = c.oid
                    WHERE i.inhparent = {}::regclass AND c.relname LIKE '%\\_p2%' ORDER BY c.relname {} LIMIT 1;
                   EXECUTE format('ALTER TABLE %s OWNER TO app_other', l); END $own$;",
                literal(&pgrunway::remedy::quote::spelled(
                    &self.schema,
                    &format!(
                        "{}{}",
                        self.table,
                        if self.shape == Shape::Below { "_eu" } else { "" }
                    )
                )),
                if newest { "DESC" } else { "" }
            );
        }
        let generated = if self.major >= 18 && self.generated {
            ", publish_generated_columns = stored"
        } else {
            ""
        };
        sql += &match self.publish {
            Publish::None => String::new(),
            Publish::Root => format!(
                "CREATE PUBLICATION pub FOR TABLE {root} WITH (publish_via_partition_root = true{generated});"
            ),
            Publish::Filtered | Publish::FilteredByAny => format!(
                "CREATE PUBLICATION pub FOR TABLE {root} WHERE ({}) WITH (publish_via_partition_root = true{generated});",
                if self.publish == Publish::Filtered { "id % 2 = 0" } else { "note <> 'x'" }
            ),
            Publish::Columns => format!(
                "CREATE PUBLICATION pub FOR TABLE {root} (id, at, region) WITH (publish_via_partition_root = true{generated});"
            ),
            Publish::AllByRoot => format!(
                "CREATE PUBLICATION pub FOR ALL TABLES WITH (publish_via_partition_root = true{generated});"
            ),
            Publish::Leaves => format!(
                "CREATE PUBLICATION pub FOR TABLE {root} WITH (publish_via_partition_root = false{generated});"
            ),
            Publish::InsertOnly => format!(
                "CREATE PUBLICATION pub FOR TABLE {root} WITH (publish = 'insert', publish_via_partition_root = true);"
            ),
        };
        sql
    }

    /// What only leaves have, on each of them.
    fn each_leaf(&self) -> String {
        let mut each = String::new();
        if self.leaf {
            each += "EXECUTE format('CREATE INDEX ON %s (note)', l);
                     EXECUTE format('CREATE UNIQUE INDEX ON %s (id) WHERE note IS NULL', l);
                     EXECUTE format('ALTER TABLE %s ADD CONSTRAINT short CHECK (length(note) < 1000)', l);
                     EXECUTE format('ALTER TABLE %s ALTER note SET STATISTICS 77, ALTER id SET (n_distinct = -1), SET (fillfactor = 80, toast.autovacuum_enabled = false)', l);
                     EXECUTE format('CREATE TRIGGER own AFTER UPDATE OF note ON %s FOR EACH ROW WHEN (NEW.id < 0) EXECUTE FUNCTION public.book()', l);
                     EXECUTE format('ALTER TABLE %s DISABLE TRIGGER own', l);
                     EXECUTE format('COMMENT ON TABLE %s IS %L', l, 'one of many');
                     EXECUTE format('CREATE STATISTICS public.%I ON id, note FROM %s', 'st' || l::oid, l);
                     EXECUTE format('GRANT SELECT, INSERT ON %s TO app_writer WITH GRANT OPTION', l);
                     EXECUTE format('GRANT UPDATE (note) ON %s TO app_guest', l);
                     EXECUTE format('ALTER TABLE %s ADD CONSTRAINT to_other FOREIGN KEY (ref) REFERENCES public.other ON UPDATE CASCADE', l);";
        }
        if self.secured {
            each += "EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', l);
                     EXECUTE format('CREATE POLICY own ON %s AS PERMISSIVE FOR SELECT TO app_writer, app_guest USING (region = ''eu'' AND EXISTS (SELECT FROM public.other o WHERE o.id = ref))', l);";
            if self.forced {
                each += "EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', l);";
            }
        }
        if self.replica_full {
            each += "EXECUTE format('ALTER TABLE %s REPLICA IDENTITY FULL', l);";
        } else {
            each += "EXECUTE format('ALTER TABLE %s REPLICA IDENTITY USING INDEX %I', l,
                       (SELECT c.relname FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid WHERE x.indrelid = l AND x.indisprimary));";
        }
        // Without rights beyond those, as default privileges would give.
        format!(
            "DO $each$ DECLARE l regclass; BEGIN FOR l IN SELECT relid FROM pg_partition_tree({}) WHERE isleaf LOOP
               EXECUTE format('REVOKE ALL ON %s FROM app_guest', l); {each} END LOOP; END $each$;",
            literal(&pgrunway::remedy::quote::spelled(&self.schema, &self.table)),
        )
    }
}
