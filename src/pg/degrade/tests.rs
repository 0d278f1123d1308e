use super::*;

/// Sends a statement to a server that answers with these errors, each at the first place of a text in what it got.
fn learn(sql: &str, errors: &[(&str, &str)]) -> Degraded {
    let missing = MissingParts::default();
    let place = (200_000, false, "postgres".to_owned());
    for (sqlstate, text) in errors {
        let sent = missing.degraded(&place, sql, 0.0).map_or(sql.to_owned(), |d| d.sql);
        let at = sent.find(text).unwrap_or_else(|| panic!("no {text} in {sent}"));
        let position = u32::try_from(sent[..at].chars().count()).unwrap() + 1;
        assert!(
            missing.learn((&place, sql), sqlstate, Some(position), 0.0),
            "{sqlstate} {text} of {sent}"
        );
    }
    missing.degraded(&place, sql, 0.0).unwrap()
}

fn missing(degraded: &Degraded) -> Vec<&str> {
    degraded.missing.iter().map(|one| &*one.name).collect()
}

fn unknown(degraded: &Degraded) -> Vec<&str> {
    degraded.unknown.iter().map(String::as_str).collect()
}

#[test]
fn a_column_costs_itself() {
    let sql = "SELECT w.wal_records::float8 AS records, w.wal_bytes::float8 AS bytes FROM pg_catalog.pg_stat_wal w";
    let degraded = learn(sql, &[("42703", "w.wal_bytes")]);
    assert_eq!(degraded.sql, sql.replace("w.wal_bytes", "NULL"));
    assert_eq!(
        (unknown(&degraded), missing(&degraded)),
        (vec!["bytes"], vec!["pg_stat_wal.wal_bytes"])
    );
}

#[test]
fn what_is_made_of_it_is_unknown_through_every_level() {
    let sql = "WITH a AS (SELECT s.relid, s.n_dead_tup AS dead, s.n_live_tup AS live FROM pg_stat_x s), \
               b (id, gone, ratio) AS MATERIALIZED (SELECT a.relid, a.dead, a.live FROM a) \
               SELECT b.id AS oid, (b.gone * 2)::float8 AS twice, b.ratio AS live, count(*) AS n, \
                      COALESCE(t.x, 0) AS x, 'dead' AS text \
                 FROM b LEFT JOIN LATERAL (SELECT b.gone + 1) t(x) ON true GROUP BY b.id";
    let degraded = learn(sql, &[("42703", "s.n_dead_tup")]);
    assert_eq!(unknown(&degraded), ["twice", "x"]);
}

#[test]
fn a_condition_that_is_unknown_makes_counts_unknown() {
    let sql =
        "SELECT count(*) AS n, max(a.pid) AS pid FROM pg_stat_activity a WHERE a.state = 'idle'";
    assert_eq!(unknown(&learn(sql, &[("42703", "a.state")])), ["n", "pid"]);
    let sql = "SELECT a.pid AS pid, count(*) FILTER (WHERE a.state = 'idle') AS n, count(*) AS all FROM a GROUP BY 1";
    assert_eq!(unknown(&learn(sql, &[("42703", "a.state")])), ["n"]);
    let sql = "SELECT a.pid AS pid FROM a ORDER BY a.state";
    let degraded = learn(sql, &[("42703", "a.state"), ("42601", "NULL")]);
    assert_eq!(
        (degraded.sql.as_str(), unknown(&degraded)),
        ("SELECT a.pid AS pid FROM a ORDER BY NULL::float8", vec![])
    );
}

#[test]
fn branches_of_a_union_have_the_names_of_the_first() {
    let sql = "SELECT 'a'::text AS kind, x.v AS value FROM x UNION ALL SELECT 'b', (SELECT y.w FROM y) \
               UNION ALL SELECT 'c', NULL";
    assert_eq!(unknown(&learn(sql, &[("42703", "y.w")])), ["value"]);
}

#[test]
fn types_are_tried_until_one_fits() {
    let sql =
        "SELECT pg_catalog.date_part('epoch', s.stats_reset) AS at, s.n AS é FROM pg_stat_wal AS s";
    let degraded = learn(
        sql,
        &[
            ("42703", "s.stats_reset"),
            ("42725", "pg_catalog.date_part"),
            ("42883", "pg_catalog.date_part"),
        ],
    );
    assert!(degraded.sql.contains("('epoch', NULL::timestamptz)"), "{}", degraded.sql);
    // The next one is another place, after what was put in and after what is more than a byte.
    let two = learn(
        sql,
        &[("42703", "s.stats_reset"), ("42725", "pg_catalog.date_part"), ("42703", "s.n")],
    );
    assert_eq!(
        two.sql,
        "SELECT pg_catalog.date_part('epoch', NULL::float8) AS at, NULL AS é FROM pg_stat_wal AS s"
    );
    assert_eq!(missing(&two), ["pg_stat_wal.n", "pg_stat_wal.stats_reset"]);
}

#[test]
fn functions_and_views_cost_what_rests_on_them() {
    let sql = "SELECT pg_catalog.pg_new(a.pid, (1)) AS new, a.pid AS pid FROM a";
    let degraded = learn(sql, &[("42883", "pg_catalog.pg_new")]);
    assert_eq!(
        (degraded.sql.as_str(), unknown(&degraded)),
        ("SELECT NULL AS new, a.pid AS pid FROM a", vec!["new"])
    );
    assert_eq!(missing(&degraded), ["pg_new()"]);
    let sql = "SELECT a.pid AS pid, b.x AS x, count(*) AS n FROM a LEFT JOIN pg_catalog.pg_stat_b b ON b.pid = a.pid";
    let degraded =
        learn(sql, &[("42P01", "pg_catalog.pg_stat_b"), ("42703", "b.pid"), ("42703", "b.x")]);
    assert_eq!(
        degraded.sql,
        "SELECT a.pid AS pid, NULL AS x, count(*) AS n FROM a LEFT JOIN (SELECT WHERE false) b ON NULL = a.pid"
    );
    assert_eq!(missing(&degraded), ["pg_stat_b"]);
    let sql = "SELECT count(*) AS n, 1 AS one FROM pg_catalog.pg_stat_b WHERE true";
    let degraded = learn(sql, &[("42P01", "pg_catalog.pg_stat_b")]);
    assert_eq!(unknown(&degraded), ["n"]);
    assert!(degraded.sql.ends_with("FROM (SELECT) \"pg_stat_b\" WHERE true"), "{}", degraded.sql);
}

#[test]
fn what_cannot_be_helped_stays_an_error() {
    let missing = MissingParts::default();
    let place = (200_000, false, "postgres".to_owned());
    let learn = |sql: &str, sqlstate: &str, position: Option<u32>| {
        missing.learn((&place, sql), sqlstate, position, 0.0)
    };
    assert!(!learn("SELECT a.b AS b FROM a", "42501", Some(8)), "no privilege");
    assert!(!learn("SELECT a.b AS b FROM a", "42703", None), "nowhere");
    assert!(!learn("SELECT a.b AS b FROM a", "42703", Some(99)), "beyond its end");
    assert!(!learn("SELECT a.b AS b FROM a", "42601", Some(1)), "a defect of ours");
    assert!(!learn("SELECT x.b AS b FROM a", "42P01", Some(8)), "a name that FROM does not have");
    assert_eq!(missing.degraded(&place, "SELECT a.b AS b FROM a", 0.0), None);
    // One for which no type fits is given up.
    let sql = "SELECT f(a.b) AS b FROM a";
    assert!(learn(sql, "42703", Some(10)));
    for _ in 1..ROUNDS * NULLS.len() {
        assert!(learn(sql, "42883", Some(8)));
    }
    assert!(!learn(sql, "42883", Some(8)));
    assert_eq!(missing.degraded(&place, sql, 0.0), None);
}

#[test]
fn after_an_hour_it_is_tried_as_it_was_written() {
    let missing = MissingParts::default();
    let place = (200_000, false, "postgres".to_owned());
    let sql = "SELECT a.b AS b FROM a";
    assert!(missing.learn((&place, sql), "42703", Some(8), 10.0));
    assert!(missing.degraded(&place, sql, 3_600.0).is_some());
    assert_eq!(
        missing.degraded(&(200_001, false, "postgres".to_owned()), sql, 20.0),
        None,
        "another server"
    );
    assert_eq!(missing.degraded(&place, sql, 3_700.0), None);
}

#[test]
fn comments_strings_and_names_are_told_apart() {
    let sql = "SELECT a.\"x\" AS x, -- a.x, (\n 'it''s (' AS s, /* ) */ a.y AS y FROM a";
    let degraded = learn(sql, &[("42703", "a.y")]);
    assert_eq!((unknown(&degraded), degraded.sql.clone()), (vec!["y"], sql.replace("a.y", "NULL")));
    let degraded = learn(sql, &[("42703", "a.\"x\"")]);
    assert_eq!(unknown(&degraded), ["x"]);
}

#[test]
fn a_column_keeps_the_name_that_it_gives_to_the_answer() {
    let sql = "SELECT CASE WHEN s.b IS DISTINCT FROM 'x' THEN s.c END AS c, s.gone FROM s";
    assert_eq!(unknown(&learn(sql, &[("42703", "s.gone")])), ["gone"]);
    let sql = "SELECT s.active, s.slot_name::text, s.wal_status, (s.a + s.b)::float8 AS sum FROM pg_catalog.slots s";
    let degraded = learn(sql, &[("42703", "s.active"), ("42703", "s.slot_name")]);
    assert_eq!(unknown(&degraded), ["active", "slot_name"]);
    let renamed =
        "SELECT (SELECT NULL AS \"active\"), (SELECT NULL AS \"slot_name\")::text, s.wal_status";
    assert!(degraded.sql.starts_with(renamed), "{}", degraded.sql);
}

#[test]
fn a_column_of_a_view_rests_on_no_namesake() {
    let sql = "SELECT a.pid AS pid, l.pid AS waits, max(a.age) FILTER (WHERE a.pid NOT IN (SELECT p.pid FROM \
               pg_catalog.pg_stat_progress_vacuum p)) AS age FROM pg_catalog.pg_stat_activity a \
               JOIN (SELECT p.pid FROM pg_catalog.pg_stat_progress_vacuum p) l ON true";
    let degraded = learn(sql, &[("42703", "p.pid"), ("42883", "NOT IN"), ("42703", "p.pid")]);
    assert_eq!(unknown(&degraded), ["age", "waits"]);
}

/// What a managed service refuses is found by asking for each thing alone.
#[test]
fn what_is_refused_is_left_out_wherever_it_stands() {
    let sql = "SELECT pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), '0/0')::float8 AS position, \
                      x.y::pg_catalog.int8 AS y, (SELECT c.timeline_id FROM pg_catalog.pg_control_checkpoint() c) AS t, \
                      pg_catalog.pg_current_wal_lsn() IS NULL AS no \
                 FROM pg_catalog.pg_stat_x x, pg_catalog.pg_stat_z z";
    let asked = |in_recovery| -> Vec<String> {
        probes(sql, in_recovery).into_iter().map(|part| part.sql).collect()
    };
    let of_both = [
        "SELECT FROM pg_catalog.pg_control_checkpoint() LIMIT 1",
        "SELECT FROM pg_catalog.pg_stat_x LIMIT 1",
        "SELECT FROM pg_catalog.pg_stat_z LIMIT 1",
    ];
    assert_eq!(asked(true), of_both, "the other one is a primary's");
    assert_eq!(asked(false)[0], "SELECT pg_catalog.pg_current_wal_lsn()");
    assert_eq!(asked(false)[1..], of_both);

    let known = MissingParts::default();
    let place = (150_000, false, "postgres".to_owned());
    let refused = ["pg_current_wal_lsn", "pg_control_checkpoint"]
        .map(|name| (name.to_owned(), WhyMissing::Unsupported));
    assert!(known.refuse((&place, sql), &refused, 0.0));
    let degraded = known.degraded(&place, sql, 0.0).unwrap();
    assert_eq!(degraded.sql.matches("NULL").count(), 3, "{}", degraded.sql);
    assert_eq!(unknown(&degraded), ["no", "position", "t"]);
    // The column of what is not there is not told on top of it.
    let at = degraded.sql.find("c.timeline_id").unwrap() + 1;
    let at = Some(u32::try_from(at).unwrap());
    assert!(known.learn((&place, sql), "42703", at, 0.0));
    let degraded = known.degraded(&place, sql, 0.0).unwrap();
    let told: Vec<String> = degraded.missing.iter().map(|one| one.to_string()).collect();
    assert_eq!(
        told,
        ["pg_control_checkpoint() (unsupported)", "pg_current_wal_lsn() (unsupported)"]
    );
    assert_eq!(known.degraded(&(150_000, true, "postgres".to_owned()), sql, 0.0), None);

    // Nothing helps: it is not asked about again before its time.
    assert!(!known.refuse((&place, "SELECT 1"), &refused, 0.0));
    assert!(known.knows(&place, "SELECT 1"));
    assert_eq!(known.degraded(&place, "SELECT 1", 0.0).unwrap().sql, "SELECT 1");
}
