//! Each entry of the list of what a plan copies, moves and refuses, shown on a real server.
//!
//! Must not: pass over an entry, or keep a layout that is on no list.

use pgrunway::cmd::plan::layouts::{ALL, Fate, Layout, reasons};

use super::common;
use super::tester::{Tester, database};

/// `T` stands for the table, `NEWEST` for the newest partition that is there, `REST` for what holds rows.
struct Scene {
    /// Columns, and the key that it is partitioned by.
    table: (&'static str, &'static str),
    /// Behind the bounds of each partition.
    tail: &'static str,
    /// For each leaf, `%1$s`, whose OID is `%2$s`.
    each: &'static str,
    /// Before the plan.
    setup: &'static str,
    /// About `NEW`, or where that says all, about the table, after the script.
    see: (&'static str, &'static str),
}

const PLAIN: (&str, &str) =
    ("id int8, at timestamptz NOT NULL, ref int, note text, PRIMARY KEY (id, at)", "at");
const LOOSE: (&str, &str) = ("id int8, at timestamptz NOT NULL, ref int, note text", "at");

const fn scene(see: (&'static str, &'static str)) -> Scene {
    Scene { table: PLAIN, tail: "", each: "", setup: "", see }
}
const fn each(each: &'static str, see: (&'static str, &'static str)) -> Scene {
    Scene { each, ..scene(see) }
}
const fn setup(setup: &'static str, see: (&'static str, &'static str)) -> Scene {
    Scene { setup, ..scene(see) }
}

/// A DEFAULT that is made by `setup` from `REST_IS`, with rows in the way.
const ALL_ROWS: (&str, &str) = ("SELECT count(*)::text FROM T", "4");

fn scene_of(id: &str, major: i32) -> Scene {
    let class = |what: &'static str, want| (what, want);
    match id {
        "owner" => each(
            "ALTER TABLE %1$s OWNER TO lay_a",
            class("SELECT relowner::regrole::text FROM pg_class WHERE oid = 'NEW'::regclass", "lay_a"),
        ),
        "privileges" => Scene {
            setup: "ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC",
            ..each(
                "REVOKE ALL ON %1$s FROM PUBLIC; GRANT SELECT ON %1$s TO lay_a WITH GRANT OPTION; GRANT UPDATE (note) ON %1$s TO lay_b",
                (
                    "SELECT string_agg(concat_ws(' ', a, g::regrole, p, o), ', ' ORDER BY 1) FROM (
                       SELECT '' a, x.grantee g, x.privilege_type p, x.is_grantable o FROM pg_class c, aclexplode(c.relacl) x WHERE c.oid = 'NEW'::regclass AND x.grantee <> c.relowner
                       UNION ALL SELECT a.attname::text, x.grantee, x.privilege_type, x.is_grantable FROM pg_attribute a, aclexplode(a.attacl) x WHERE a.attrelid = 'NEW'::regclass) y(a, g, p, o)",
                    " lay_a SELECT t, note lay_b UPDATE f",
                ),
            )
        },
        "row_security" => each(
            "ALTER TABLE %1$s ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; CREATE POLICY own ON %1$s FOR SELECT TO lay_a USING (id > 0)",
            (
                "SELECT concat_ws(' ', relrowsecurity, relforcerowsecurity, polname, polcmd, pg_get_expr(polqual, c.oid))
                   FROM pg_class c JOIN pg_policy ON polrelid = c.oid WHERE c.oid = 'NEW'::regclass",
                "t t own r (id > 0)",
            ),
        ),
        "replica_identity" => each(
            "ALTER TABLE %1$s REPLICA IDENTITY FULL",
            class("SELECT relreplident::text FROM pg_class WHERE oid = 'NEW'::regclass", "f"),
        ),
        "publications" => Scene {
            setup: "",
            ..each(
                if major >= 15 {
                    "ALTER PUBLICATION lay_pub ADD TABLE %1$s (id, at) WHERE (id > 0)"
                } else {
                    "ALTER PUBLICATION lay_pub ADD TABLE %1$s"
                },
                if major >= 15 {
                    (
                        "SELECT concat_ws(' ', pubname, prattrs, pg_get_expr(prqual, prrelid)) FROM pg_publication_rel JOIN pg_publication p ON p.oid = prpubid WHERE prrelid = 'NEW'::regclass",
                        "lay_pub 1 2 (id > 0)",
                    )
                } else {
                    (
                        "SELECT pubname::text FROM pg_publication_rel JOIN pg_publication p ON p.oid = prpubid WHERE prrelid = 'NEW'::regclass",
                        "lay_pub",
                    )
                },
            )
        },
        "triggers" => each(
            "CREATE TRIGGER own AFTER INSERT ON %1$s FOR EACH ROW EXECUTE FUNCTION lay_stop(); ALTER TABLE %1$s ENABLE REPLICA TRIGGER own",
            class("SELECT concat_ws(' ', tgname, tgenabled) FROM pg_trigger WHERE tgrelid = 'NEW'::regclass", "own R"),
        ),
        "indexes" => each(
            "CREATE INDEX ON %1$s (note) TABLESPACE lay_space",
            (
                "SELECT concat_ws(' ', substring(indexdef FROM 'USING.*'), tablespace) FROM pg_indexes WHERE tablename = 'NEW' AND indexdef LIKE '%note%'",
                "USING btree (note) lay_space",
            ),
        ),
        "constraints" => each(
            "ALTER TABLE %1$s ADD CONSTRAINT short CHECK (ref < 99), ADD CONSTRAINT refs FOREIGN KEY (ref) REFERENCES lay_other",
            (
                "SELECT string_agg(conname || ' ' || pg_get_constraintdef(oid), ', ' ORDER BY conname) FROM pg_constraint WHERE conrelid = 'NEW'::regclass AND contype IN ('c', 'f')",
                "refs FOREIGN KEY (ref) REFERENCES lay_other(id), short CHECK ((ref < 99))",
            ),
        ),
        "storage" => each(
            "ALTER TABLE %1$s SET (fillfactor = 70, toast.autovacuum_enabled = false)",
            (
                "SELECT c.reloptions::text || t.reloptions::text FROM pg_class c JOIN pg_class t ON t.oid = c.reltoastrelid WHERE c.oid = 'NEW'::regclass",
                "{fillfactor=70}{autovacuum_enabled=false}",
            ),
        ),
        "columns" => each(
            "ALTER TABLE %1$s ALTER note SET STORAGE EXTERNAL, ALTER note SET STATISTICS 77, ALTER note SET (n_distinct = 5), ALTER note SET DEFAULT 'x'",
            (
                "SELECT concat_ws(' ', attstorage, attstattarget, attoptions, pg_get_expr(adbin, adrelid)) FROM pg_attribute JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum WHERE attrelid = 'NEW'::regclass AND attname = 'note'",
                "e 77 {n_distinct=5} 'x'::text",
            ),
        ),
        "statistics" => each(
            "CREATE STATISTICS st_%2$s ON id, note FROM %1$s",
            class("SELECT stxkeys::text FROM pg_statistic_ext WHERE stxrelid = 'NEW'::regclass", "1 4"),
        ),
        "places" => Scene {
            tail: "USING lay_heap TABLESPACE lay_space",
            table: LOOSE,
            ..each(
                "ALTER TABLE %1$s SET UNLOGGED",
                (
                    "SELECT concat_ws(' ', relpersistence, spcname, amname) FROM pg_class c JOIN pg_am a ON a.oid = relam JOIN pg_tablespace s ON s.oid = reltablespace WHERE c.oid = 'NEW'::regclass",
                    "u lay_space lay_heap",
                ),
            )
        },
        // No server has a provider of labels without SELinux: what is printed names it.
        "labels" => setup(
            "INSERT INTO pg_seclabel VALUES ('NEWEST'::regclass, 'pg_class'::regclass, 0, 'lay', 'it''s secret')",
            ("", "security label provider \"lay\" is not loaded"),
        ),
        "comments" => each(
            "COMMENT ON TABLE %1$s IS 'one of many'; COMMENT ON COLUMN %1$s.note IS 'free'",
            class("SELECT obj_description('NEW'::regclass, 'pg_class') || ' ' || col_description('NEW'::regclass, 4)", "one of many free"),
        ),
        "levels" => Scene {
            table: LOOSE,
            tail: "PARTITION BY LIST (ref)",
            setup: "DO $$ DECLARE p text; BEGIN FOR p IN SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'T'::regclass LOOP
                      EXECUTE format('CREATE TABLE %s_1 PARTITION OF %s FOR VALUES IN (1, NULL)', p, p);
                      EXECUTE format('CREATE TABLE %s_d PARTITION OF %s DEFAULT', p, p); END LOOP; END $$",
            ..scene((
                "SELECT string_agg(pg_get_expr(relpartbound, oid), ' ' ORDER BY relname) FROM pg_class JOIN pg_inherits ON inhrelid = oid WHERE inhparent = 'NEW'::regclass",
                "FOR VALUES IN (1, NULL) DEFAULT",
            ))
        },
        "check_on_key" => setup(
            "ALTER TABLE NEWEST ADD CONSTRAINT mine CHECK (at >= '2001-01-01')",
            class("SELECT count(*)::text FROM pg_constraint WHERE conrelid = 'NEW'::regclass AND conname = 'mine'", "0"),
        ),
        "own_comment" => setup(
            "COMMENT ON TABLE NEWEST IS 'mine'",
            class("SELECT coalesce(obj_description('NEW'::regclass, 'pg_class'), 'none')", "none"),
        ),
        "rules" => setup(
            "CREATE RULE mine AS ON UPDATE TO NEWEST DO ALSO NOTHING",
            class("SELECT count(*)::text FROM pg_rewrite WHERE ev_class = 'NEW'::regclass", "0"),
        ),
        "referred" => setup(
            "CREATE TABLE T_refers (id int8, at timestamptz, FOREIGN KEY (id, at) REFERENCES NEWEST)",
            class("SELECT count(*)::text FROM pg_constraint WHERE confrelid = 'NEW'::regclass", "0"),
        ),
        "default" => setup("CREATE TABLE REST PARTITION OF T DEFAULT", ALL_ROWS),
        "open_end" => setup("CALL open_end('T')", ALL_ROWS),
        "open_levels" => Scene {
            table: ("id int8 GENERATED BY DEFAULT AS IDENTITY, at timestamptz NOT NULL, ref int, note text", "at"),
            tail: "PARTITION BY HASH (id)",
            setup: "CALL open_end('T', 'PARTITION BY HASH (id)');
                    DO $$ DECLARE p text; BEGIN FOR p IN SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'T'::regclass LOOP
                      FOR i IN 0 .. 1 LOOP EXECUTE format('CREATE TABLE %s_%s PARTITION OF %s FOR VALUES WITH (MODULUS 2, REMAINDER %s)', p, i, p, i); END LOOP; END LOOP; END $$",
            // Each level counts on by the identity of the table.
            ..scene((
                "WITH new AS (INSERT INTO T (at) SELECT today(n)::timestamptz FROM generate_series(2, 4) n RETURNING id) SELECT count(*) || ' ' || count(id) FROM new",
                "3 3",
            ))
        },
        "computed" => Scene {
            table: (
                "id int8 GENERATED ALWAYS AS IDENTITY (START 100), at timestamptz NOT NULL, ref int, note text, twice int GENERATED ALWAYS AS (ref * 2) STORED",
                "at",
            ),
            setup: "CREATE TABLE REST PARTITION OF T DEFAULT",
            ..scene(("SELECT concat_ws(' ', min(id), max(id), max(twice)) FROM T", "1 4 8"))
        },
        "silent_triggers" => setup(
            "CREATE TABLE REST PARTITION OF T DEFAULT;
             CREATE TRIGGER own BEFORE DELETE ON T FOR EACH ROW EXECUTE FUNCTION lay_stop();
             CREATE TRIGGER own_always BEFORE DELETE ON REST FOR EACH ROW EXECUTE FUNCTION lay_stop();
             ALTER TABLE REST ENABLE ALWAYS TRIGGER own_always;
             CREATE TRIGGER off BEFORE DELETE ON REST FOR EACH STATEMENT EXECUTE FUNCTION lay_stop(); ALTER TABLE REST DISABLE TRIGGER off",
            (
                "SELECT string_agg(concat_ws(' ', tgname, tgenabled), ', ' ORDER BY tgname) FROM pg_trigger WHERE tgrelid = 'REST'::regclass",
                "off D, own O, own_always A",
            ),
        ),
        "referenced" => setup(
            "CREATE TABLE REST PARTITION OF T DEFAULT;
             CREATE TABLE T_refers (id int8, at timestamptz, FOREIGN KEY (id, at) REFERENCES T ON DELETE CASCADE)",
            ("SELECT count(*)::text FROM T_refers JOIN T USING (id, at)", "4"),
        ),
        "forced" => setup(
            "CREATE TABLE REST PARTITION OF T DEFAULT;
             ALTER TABLE T ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; ALTER TABLE REST ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
            ALL_ROWS,
        ),
        "owners" => setup(
            "CREATE TABLE REST PARTITION OF T DEFAULT; ALTER TABLE T OWNER TO lay_a; ALTER TABLE NEWEST OWNER TO lay_b",
            class("SELECT relowner::regrole::text FROM pg_class WHERE oid = 'NEW'::regclass", "lay_b"),
        ),
        "root_publication" => setup(
            "CREATE TABLE REST PARTITION OF T DEFAULT; CREATE PUBLICATION T_pub FOR TABLE T WITH (publish_via_partition_root = true)",
            ALL_ROWS,
        ),
        "row_filter" => setup(
            "CREATE TABLE REST PARTITION OF T DEFAULT; CREATE PUBLICATION T_pub FOR TABLE T WHERE (id > 2) WITH (publish_via_partition_root = true)",
            ALL_ROWS,
        ),
        "column_list" => setup(
            "CREATE TABLE REST PARTITION OF T DEFAULT; CREATE PUBLICATION T_pub FOR TABLE T (id, at) WITH (publish_via_partition_root = true)",
            ALL_ROWS,
        ),
        "foreign_siblings" => Scene {
            table: LOOSE,
            setup: "CREATE TABLE REST PARTITION OF T DEFAULT;
                    CREATE TABLE T_far_away (id int8, at timestamptz NOT NULL, ref int, note text);
                    DO $$ BEGIN EXECUTE format('CREATE FOREIGN TABLE %I PARTITION OF T FOR VALUES FROM (%L) TO (%L) SERVER lay_server OPTIONS (table_name ''T_far_away'')', 'T' || to_char(today(-3), '_YYYYMMDD'), today(-3), today(-2)); END $$",
            ..scene(class("SELECT relkind::text FROM pg_class WHERE oid = 'NEW'::regclass", "r"))
        },
        "nulls" => Scene {
            table: ("id int8, at timestamptz NOT NULL, ref int, note text", "at, ref"),
            setup: "CREATE TABLE REST PARTITION OF T DEFAULT; INSERT INTO T SELECT 9, today(3)",
            ..scene(("SELECT string_agg(concat_ws(' ', id, ref), ', ' ORDER BY id) FROM REST", "4 4, 9"))
        },
        "prepared" => setup(
            "CREATE TABLE REST PARTITION OF T DEFAULT; BEGIN; UPDATE T SET note = 'held'; PREPARE TRANSACTION 'lay''s own'",
            ("SELECT count(*)::text FROM T WHERE note = 'held'", "4"),
        ),
        "leaves_published" => setup("CREATE TABLE REST PARTITION OF T DEFAULT; CREATE PUBLICATION T_pub FOR TABLE T", ALL_ROWS),
        "no_identity" => Scene {
            table: LOOSE,
            setup: "CREATE TABLE REST PARTITION OF T DEFAULT; CREATE PUBLICATION T_pub FOR TABLE T WITH (publish_via_partition_root = true)",
            ..scene(ALL_ROWS)
        },
        "identity_not_published" => setup(
            "CREATE TABLE REST PARTITION OF T DEFAULT; CREATE PUBLICATION T_pub FOR TABLE T (at, note) WITH (publish_via_partition_root = true)",
            ALL_ROWS,
        ),
        "filter_not_identity" => setup(
            "CREATE TABLE REST PARTITION OF T DEFAULT; CREATE PUBLICATION T_pub FOR TABLE T WHERE (note <> 'x') WITH (publish_via_partition_root = true)",
            ALL_ROWS,
        ),
        "refers_to_default" => setup(
            "CREATE TABLE REST PARTITION OF T DEFAULT; CREATE TABLE T_refers (id int8, at timestamptz, FOREIGN KEY (id, at) REFERENCES REST ON DELETE CASCADE)",
            ("SELECT count(*)::text FROM T_refers", "4"),
        ),
        "referenced_open_end" => setup(
            "CALL open_end('T'); CREATE TABLE T_refers (id int8, at timestamptz, FOREIGN KEY (id, at) REFERENCES T)",
            ("SELECT count(*)::text FROM T_refers JOIN T USING (id, at)", "4"),
        ),
        "rules_on_source" => setup(
            "CREATE TABLE REST PARTITION OF T DEFAULT; CREATE RULE mine AS ON DELETE TO REST DO INSTEAD NOTHING",
            ALL_ROWS,
        ),
        "foreign_default" => Scene {
            table: LOOSE,
            setup: "CREATE TABLE T_far_away (id int8, at timestamptz NOT NULL, ref int, note text);
                    CREATE FOREIGN TABLE REST PARTITION OF T DEFAULT SERVER lay_server OPTIONS (table_name 'T_far_away')",
            ..scene(ALL_ROWS)
        },
        "expression_first" => Scene {
            table: ("id int8, at timestamptz NOT NULL, ref int, note text", "((at AT TIME ZONE 'UTC')), ref"),
            setup: "CREATE TABLE REST PARTITION OF T DEFAULT",
            ..scene(ALL_ROWS)
        },
        _ => panic!("no scene for {id}: add one"),
    }
}

const HELPERS: &str = r"
CREATE ACCESS METHOD lay_heap TYPE TABLE HANDLER heap_tableam_handler;
CREATE TABLE lay_other (id int PRIMARY KEY); INSERT INTO lay_other SELECT generate_series(0, 9);
CREATE FUNCTION lay_stop() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''a trigger fired''; END';
CREATE PUBLICATION lay_pub;
CREATE PROCEDURE open_end(parent text, tail text DEFAULT '') LANGUAGE plpgsql AS $$ BEGIN
  EXECUTE format('CREATE TABLE %s_rest PARTITION OF %s FOR VALUES FROM (%L) TO (MAXVALUE) %s', parent, parent, today(2), tail); END $$;
CREATE PROCEDURE tree(t text, columns text, keys text, tail text, each text) LANGUAGE plpgsql AS $$
DECLARE p text; low text; BEGIN
  low := CASE WHEN keys LIKE '%, ref' THEN ', MINVALUE' ELSE '' END;
  EXECUTE format('CREATE TABLE %s (%s) PARTITION BY RANGE (%s)', t, columns, keys);
  FOR i IN -2 .. 1 LOOP
    p := t || to_char(today(i), '_YYYYMMDD');
    EXECUTE format('CREATE TABLE %s PARTITION OF %s FOR VALUES FROM (%L%s) TO (%L%s) %s', p, t, today(i), low, today(i + 1), low, tail);
    IF each <> '' THEN EXECUTE format(each, p, p::regclass::oid); END IF;
  END LOOP; END $$;
";

/// The head of a script in one line.
fn flat(script: &str) -> String {
    script.replace("\n--   ", " ").replace("\n-- ", " ")
}

#[tokio::test]
async fn the_list_is_what_a_plan_does() {
    let settings = [("max_prepared_transactions", "5"), ("wal_level", "logical")];
    let cluster = common::server_with(&settings, &[]).await;
    let admin = database(&cluster, "lay", "UTC").await;
    let t = Tester { cluster: &cluster, datname: "lay", admin: &admin };
    for sql in [
        "SET allow_in_place_tablespaces = on",
        "CREATE TABLESPACE lay_space LOCATION ''",
        "CREATE ROLE lay_a; CREATE ROLE lay_b",
        HELPERS,
    ] {
        t.sql(sql).await;
    }
    t.sql(&format!(
        "CREATE EXTENSION postgres_fdw;
         CREATE SERVER lay_server FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '{}', port '{}', dbname 'lay');
         CREATE USER MAPPING FOR postgres SERVER lay_server OPTIONS (user 'postgres')",
        cluster.socket_dir().display(),
        cluster.port()
    ))
    .await;
    let major = "SELECT (current_setting('server_version_num')::int / 10000)::text";
    let major: i32 = t.texts(major).await[0].parse().unwrap();
    let newest = t.texts("SELECT to_char(today(1), '_YYYYMMDD')").await.remove(0);
    let new = t.texts("SELECT to_char(today(2), '_YYYYMMDD')").await.remove(0);
    let some = async |which: usize| {
        // A prepared transaction takes its session's own.
        let admin = common::admin(&cluster, "lay").await;
        let t = Tester { cluster: &cluster, datname: "lay", admin: &admin };
        let mut faults = Vec::new();
        for layout in ALL.iter().skip(which).step_by(4).filter(|l| major >= l.since) {
            for fault in follow(&t, layout, major, &newest, &new).await {
                faults.push(format!("{}: {fault}", layout.id));
            }
        }
        faults
    };
    let faults = tokio::join!(some(0), some(1), some(2), some(3));
    let faults = [faults.0, faults.1, faults.2, faults.3].concat();
    assert!(faults.is_empty(), "{}", faults.join("\n\n"));
}

async fn follow(
    t: &Tester<'_>,
    layout: &Layout,
    major: i32,
    newest: &str,
    new: &str,
) -> Vec<String> {
    let (name, scene) = (format!("lay_{}", layout.id), scene_of(layout.id, major));
    // Whole words only: T of TABLE stays.
    let named = |sql: &str| {
        words(
            sql,
            &[
                ("NEWEST", format!("{name}{newest}")),
                ("NEW", format!("{name}{new}")),
                ("REST", format!("{name}_rest")),
                ("T", name.clone()),
            ],
        )
    };
    let mut faults = Vec::new();
    let lit = |text: &str| pgrunway::remedy::quote::literal(text);
    let (columns, keys) = scene.table;
    let tree = format!(
        "CALL tree({}, {}, {}, {}, {})",
        lit(&name),
        lit(columns),
        lit(keys),
        lit(scene.tail),
        lit(scene.each)
    );
    // All before PREPARE TRANSACTION, which holds what is there then.
    let (before, held) = match scene.setup.split_once("; BEGIN; ") {
        Some((before, held)) => (before, Some(held)),
        None => (scene.setup, None),
    };
    for sql in [tree, named(before)] {
        if let Err(e) = t.admin.batch_execute(&sql).await {
            return vec![format!("{sql}: {:?}", e.as_db_error())];
        }
    }
    let rows = matches!(layout.fate, Fate::Moved | Fate::Refused);
    if rows {
        let over = if columns.contains("IDENTITY") { "OVERRIDING SYSTEM VALUE" } else { "" };
        // The last lies beyond the plan.
        t.sql(&format!(
            "INSERT INTO {name} (id, at, ref, note) {over} SELECT n, today(CASE n WHEN 4 THEN 9 ELSE n + 1 END), n, 'n' || n FROM generate_series(1, 4) n"
        ))
        .await;
        let refers = format!("SELECT coalesce(to_regclass('{name}_refers')::text, '')");
        if !t.texts(&refers).await[0].is_empty() {
            t.sql(&format!("INSERT INTO {name}_refers SELECT id, at FROM {name}")).await;
        }
    }
    if let Some(held) = held {
        let (update, prepare) = held.split_once("; ").unwrap();
        t.sql("BEGIN").await;
        t.sql(&named(update)).await;
        t.sql(prepare).await;
    }
    let (code, script, err) = t.plan(&format!("public.{name}"), 4, &[]).await;
    if code != 0 {
        return vec![format!("no plan: {err}")];
    }
    let content = format!("SELECT concat_ws('|', id, at, ref, note) FROM {name} ORDER BY id");
    let content = if held.is_some() { "SELECT ''".to_owned() } else { content };
    let before = t.texts(&content).await;
    let (mut ok, mut said) = t.psql(&script).await;
    if held.is_some() {
        let names = said.contains("prepared transaction 'lay''s own' of")
            && said.contains("COMMIT PREPARED or ROLLBACK PREPARED");
        if ok || !names {
            faults.push(format!("the prepared transaction is not named: {said}"));
        }
        t.sql("COMMIT PREPARED 'lay''s own'").await;
        (ok, said) = t.psql(&script).await;
    }
    if t.texts(&content).await != before {
        faults.push("rows have changed".to_owned());
    }
    let head = flat(&script);
    let see = named(scene.see.0);
    match layout.fate {
        Fate::Copied if see.is_empty() => {
            let label = "SECURITY LABEL FOR lay ON TABLE ";
            if !said.contains(scene.see.1) || !script.contains(label) {
                faults.push(format!("{said}\n{script}"));
            }
            t.sql("DELETE FROM pg_seclabel WHERE provider = 'lay'").await;
            return faults;
        }
        Fate::Copied | Fate::NotCopied | Fate::Moved if !ok => faults.push(said.clone()),
        Fate::Copied | Fate::Moved => {}
        Fate::NotCopied => {
            if !head.contains("Not copied: ") || !head.contains(layout.says) {
                faults.push(format!("not said: {head}"));
            }
        }
        Fate::Refused => {
            if ok || !said.contains("rows are in the way") {
                faults.push(format!("not refused: {said}"));
            }
            let why = head.split("are not moved, because ").nth(1).unwrap_or_default();
            let way = layout.way.split_whitespace().collect::<Vec<_>>().join(" ");
            if !layout.gave(why) || !head.contains(&way) {
                faults.push(format!("no reason or no way by hand: {head}"));
            }
        }
    }
    if ok || layout.fate == Fate::Refused {
        let have: Vec<Option<String>> = match t.admin.query(&see, &[]).await {
            Ok(rows) => rows.iter().map(|row| row.get(0)).collect(),
            Err(e) => return vec![format!("{see}: {:?}", e.as_db_error())],
        };
        if have != [Some(scene.see.1.to_owned())] {
            faults.push(format!("{have:?}, {:?} expected", scene.see.1));
        }
    }
    if layout.fate == Fate::Moved && ok {
        let left = format!(
            "SELECT count(*)::text FROM {name}_rest WHERE at < today(5) AND ref IS NOT NULL"
        );
        if t.texts(&left).await != ["0"] {
            faults.push("rows were left behind".to_owned());
        }
    }
    faults
}

/// Replaces whole words.
fn words(sql: &str, all: &[(&str, String)]) -> String {
    let mut out = String::new();
    let mut rest = sql;
    let inside = |c: char| c.is_alphanumeric() || c == '_';
    while let Some(begin) = rest.find(inside) {
        let (between, from) = rest.split_at(begin);
        let end = from.find(|c| !inside(c)).unwrap_or(from.len());
        let (word, after) = from.split_at(end);
        out.push_str(between);
        match all.iter().find(|(w, _)| word == *w) {
            Some((_, new)) => out.push_str(new),
            None => match word.strip_prefix("T_") {
                // Beside the table.
                Some(tail) => out.push_str(&format!("{}_{tail}", all[3].1)),
                None => out.push_str(word),
            },
        }
        rest = after;
    }
    out + rest
}

#[test]
fn each_reason_to_refuse_is_on_the_list() {
    let mut templates = reasons();
    assert!(templates.len() >= 8, "{templates:?}");
    templates.push("the key has several columns and begins with an expression");
    let refused: Vec<_> = ALL.iter().filter(|l| l.fate == Fate::Refused).collect();
    for template in &templates {
        let on = refused.iter().filter(|l| template.contains(l.says)).count();
        assert_eq!(on, 1, "{template}");
    }
    for layout in &refused {
        assert!(templates.iter().any(|t| t.contains(layout.says)), "{}", layout.id);
        assert!(!layout.way.is_empty(), "{} has no way by hand", layout.id);
    }
}
