//! The golden file and the text, from fixed rows.

use super::super::golden::{check, poll, value};
use super::*;

fn line(kind: &str) -> BlockingRow {
    BlockingRow {
        kind: kind.to_owned(),
        pid: None,
        datname: None,
        usename: None,
        what: None,
        lock: None,
        seconds: None,
        pids: None,
        application: None,
        state: None,
        queryid: None,
        query: None,
    }
}

fn clock(at: f64) -> BlockingRow {
    BlockingRow { seconds: Some(at), ..line("clock") }
}

fn database(datname: &str) -> BlockingRow {
    BlockingRow { datname: Some(datname.to_owned()), ..line("database") }
}

fn waits(pid: i32, what: &str, seconds: f64) -> BlockingRow {
    BlockingRow {
        pid: Some(pid),
        what: Some(what.to_owned()),
        lock: Some("relation AccessShareLock".to_owned()),
        seconds: Some(seconds),
        ..line("wait")
    }
}

fn asked(pid: i32, pids: &[i32]) -> BlockingRow {
    BlockingRow { pid: Some(pid), pids: Some(pids.to_vec()), ..line("asked") }
}

fn session(pid: i32, state: &str) -> BlockingRow {
    BlockingRow {
        pid: Some(pid),
        datname: Some("app".to_owned()),
        usename: Some("web".to_owned()),
        seconds: Some(70.4),
        application: Some("shop \"x\"\n".to_owned()),
        state: Some(state.to_owned()),
        queryid: Some(-42),
        query: Some("SELECT\n1".to_owned()),
        ..line("session")
    }
}

fn prepared(pid: i32, gid: &str) -> BlockingRow {
    BlockingRow {
        pid: Some(pid),
        datname: Some("app".to_owned()),
        usename: Some("mgr".to_owned()),
        what: Some(gid.to_owned()),
        seconds: Some(3_600.0),
        state: Some("prepared".to_owned()),
        ..line("prepared")
    }
}

fn rows(lines: Vec<BlockingRow>) -> Rows {
    let lines = [vec![clock(9.0)], lines, vec![clock(9.25)]].concat();
    Rows { sees_all: true, objective: 60.0, most: 3, lines }
}

fn shown(rows: Rows) -> Option<String> {
    let mut sink = Sink::new(m::METRICS, 1_000);
    Blocking.derive(&mut State::default(), rows, &mut sink);
    sink.take_shown().map(|text| text.to_string())
}

fn some() -> Rows {
    rows(vec![
        database("app"),
        database("calm"),
        waits(2, "a", 61.6),
        waits(3, "a", 60.5),
        waits(4, "b", 12.0),
        waits(5, "b", 1.0),
        waits(8, "p", 90.0),
        waits(9, "q", 95.0),
        waits(11, "c", 0.5),
        waits(12, "d", 0.5),
        waits(13, "e", 0.1),
        asked(2, &[1]),
        asked(4, &[2]),
        asked(8, &[0]),
        asked(9, &[0]),
        asked(11, &[12]),
        asked(12, &[11]),
        prepared(8, "forgotten"),
        prepared(9, "forgotten"),
        session(1, "idle in transaction"),
        session(2, "active"),
        session(3, "active"),
        session(4, "active"),
        session(5, "active"),
        session(8, "active"),
        session(9, "active"),
        session(11, "active"),
        session(12, "active"),
        session(13, "active"),
    ])
}

#[test]
fn golden() {
    let mut state = State::default();
    check("blocking", &poll(&Blocking, &mut state, some()));
    assert_eq!(Blocking.cost(&state), Some(Duration::from_millis(250)));
}

#[test]
fn the_tree_says_who_holds_up_whom_and_keeps_to_its_lines() {
    let text = shown(some()).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let who = |pid, state| {
        format!("pid {pid} (web in app, {state} for 70 s, \"shop \\\"x\\\" \", queryid -42)")
    };
    let (one, two, three) = (who(1, "idle in transaction"), who(2, "active"), who(3, "active"));
    assert_eq!(
        lines[..4],
        [
            format!("{one} blocks 4 sessions, the first of them for 62 s: SELECT ?"),
            format!("    {two} waits 62 s for relation AccessShareLock: SELECT ?"),
            format!(
                "        {} waits 12 s for relation AccessShareLock: SELECT ?",
                who(4, "active")
            ),
            format!(
                "        {} waits 1 s for relation AccessShareLock: SELECT ?",
                who(5, "active")
            ),
        ]
    );
    assert!(
        lines[4].starts_with(&format!("    {three} waits 60 s"))
            || lines[4].starts_with(&format!("    {three} waits 61 s")),
        "{text}"
    );
    assert_eq!(
        lines[5],
        "Prepared transaction \"forgotten\" (mgr in app since 3600 s) blocks 2 sessions, the first of them for 95 s"
    );
    assert!(lines[8].starts_with("A deadlock, or behind one: pid 11 (web in app"), "{text}");
    assert_eq!(lines[9], "1 more wait for locks of which it was not asked who has them");
    assert_eq!(lines.len(), 10);
    assert_eq!(shown(rows(vec![database("app")])), None);
}

#[test]
fn a_long_queue_is_cut_and_a_role_that_sees_little_shows_nothing() {
    let mut lines: Vec<BlockingRow> = (2..5_000).map(|pid| waits(pid, "a", 1.0)).collect();
    lines.push(asked(2, &[1]));
    let text = shown(rows(lines.clone())).unwrap();
    assert_eq!(text.lines().count(), 200);
    assert!(text.starts_with("pid 1 (gone by now) blocks 4998 sessions"), "{text}");
    assert_eq!(shown(Rows { sees_all: false, ..rows(lines) }), None);
}

#[test]
fn nobody_waits_gives_zeroes_and_no_processes() {
    let families = poll(&Blocking, &mut State::default(), rows(vec![database("app")]));
    assert_eq!(value(&families, "pg_root_blocker_held_up_sessions", &["app"]), Some(0.0));
    assert_eq!(value(&families, "pg_root_blocker_overdue_sessions", &["app"]), Some(0.0));
    assert!(families.iter().all(|f| f.metric.name != "pg_root_blocker_sessions"));
}

#[test]
fn short_waits_name_no_process() {
    let lines =
        vec![waits(2, "a", 59.9), asked(2, &[1]), session(1, "active"), session(2, "active")];
    let families = poll(&Blocking, &mut State::default(), rows(lines));
    assert_eq!(value(&families, "pg_root_blocker_held_up_sessions", &["app"]), Some(1.0));
    assert_eq!(value(&families, "pg_root_blockers", &["app", "active"]), Some(1.0));
    assert!(families.iter().all(|f| f.metric.name != "pg_root_blocker_sessions"));
}

#[test]
fn a_worker_is_named_by_what_it_is_and_a_clock_that_was_set_back_gives_no_negative_wait() {
    let worker = BlockingRow {
        usename: None,
        application: Some(String::new()),
        queryid: None,
        query: None,
        ..session(1, "autovacuum worker")
    };
    let launcher = BlockingRow { datname: None, ..worker.clone() };
    let waiter = || session(2, "active");
    let text = shown(rows(vec![waits(2, "a", -3_600.0), asked(2, &[1]), worker, waiter()]));
    let text = text.unwrap();
    assert!(
        text.starts_with(
            "pid 1 (in app, autovacuum worker for 70 s) blocks 1 session, the first of them for 0 s"
        ),
        "{text}"
    );
    assert!(text.contains(" waits 0 s for relation AccessShareLock"), "{text}");
    let text = shown(rows(vec![waits(2, "a", 1.0), asked(2, &[1]), launcher, waiter()])).unwrap();
    assert!(text.starts_with("pid 1 (autovacuum worker for 70 s) blocks"), "{text}");

    // The server's clock went back between the first row and the last, and while one waited.
    let mut state = State::default();
    let mut set_back =
        rows(vec![database("app"), waits(2, "a", -3_600.0), asked(2, &[1]), waiter()]);
    set_back.lines.last_mut().unwrap().seconds = Some(-50.0);
    set_back.lines.push(clock(9_999.0));
    let families = poll(&Blocking, &mut state, set_back);
    assert_eq!(value(&families, "pgrunway_blocking_look_seconds", &[]), None);
    assert_eq!(Blocking.cost(&state), None);
    assert_eq!(value(&families, "pg_root_blocker_longest_wait_seconds", &[""]), Some(0.0));
}

#[test]
fn names_as_long_and_as_hostile_as_they_like_stay_one_line_and_short() {
    let evil = "<script>\u{2028}\r\n\u{1b}[2J\"\\".repeat(1_000);
    let root = BlockingRow {
        application: Some(evil.clone()),
        usename: Some("<b>\n\"x".to_owned()),
        query: Some(format!("SELECT '{evil}'")),
        ..session(1, "active")
    };
    let all = vec![waits(2, "a", 90.0), asked(2, &[1]), root, session(2, "active")];
    let text = shown(rows(all.clone())).unwrap();
    assert_eq!(text.lines().count(), 2, "{text}");
    assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
    assert!(text.chars().count() < 1_000, "{}", text.len());
    let families = poll(&Blocking, &mut State::default(), rows(all));
    let worst = families.iter().find(|f| f.metric.name == "pg_root_blocker_sessions").unwrap();
    assert!(worst.samples[0].labels.iter().all(|label| label.chars().count() <= 64));
}
