//! The golden file, and what a look stands for.

use super::super::golden::{check, poll, value};
use super::*;

/// Sessions of `app` that are alike; ages as of a statement of a second and a half.
fn group(count: i64) -> ActiveSessions {
    ActiveSessions {
        clock: None,
        datname: Some("app".to_owned()),
        usename: Some("web".to_owned()),
        queryid: Some(42),
        worker: None,
        ours: false,
        idle: false,
        wait_event_type: None,
        wait_event: None,
        application: Some("shop".to_owned()),
        client: Some("10.0.0.1".to_owned()),
        count,
        older: vec![count, count, count, 0, 0, 0, count],
    }
}

fn waits(count: i64, kind: &str, event: &str) -> ActiveSessions {
    let (kind, event) = (Some(kind.to_owned()), Some(event.to_owned()));
    ActiveSessions { wait_event_type: kind, wait_event: event, ..group(count) }
}

fn clock(at: f64) -> ActiveSessions {
    ActiveSessions { clock: Some(at), older: Vec::new(), ..group(0) }
}

fn rows(at: f64, mut groups: Vec<ActiveSessions>) -> Rows {
    groups.insert(0, clock(1_000.0));
    groups.push(clock(1_000.25));
    Rows {
        at,
        started: 1.0,
        sees_all: true,
        tells_statements: true,
        groups,
        cpus: Some(8),
        longest: LONGEST,
        top: 1,
        most_names: 1,
        by: (true, true),
    }
}

const SESSIONS: &str = "pg_active_session_seconds_total";
const UNSAMPLED: &str = "pgrunway_activity_unsampled_seconds_total";

#[test]
fn golden() {
    let mut state = State::default();
    let idle = ActiveSessions { idle: true, older: vec![0; 7], ..waits(3, "Client", "ClientRead") };
    let vacuum = ActiveSessions {
        worker: Some("autovacuum worker".to_owned()),
        datname: Some("app".to_owned()),
        ..waits(1, "Timeout", "VacuumDelay")
    };
    let ours = ActiveSessions { ours: true, ..group(1) };
    let unknown = ActiveSessions { queryid: None, ..waits(1, "LWLock", "WALWrite") };
    let hostile = ActiveSessions {
        datname: Some("sh\"op\n".to_owned()),
        application: Some("x\\y".to_owned()),
        client: Some(String::new()),
        ..waits(1, "Lock", "tuple")
    };
    let groups = || {
        vec![
            group(4),
            waits(2, "IO", "DataFileRead"),
            ActiveSessions { queryid: Some(7), ..waits(1, "IO", "WALSync") },
            idle.clone(),
            vacuum.clone(),
            ours.clone(),
            unknown.clone(),
            hostile.clone(),
        ]
    };
    poll(&Activity, &mut state, rows(0.0, groups()));
    let families = poll(&Activity, &mut state, rows(1.5, groups()));
    check("activity", &families);
    assert_eq!(Activity.cost(&state), Some(Duration::from_millis(250)));
}

#[test]
fn a_look_stands_for_the_time_since_the_one_before_and_a_gap_for_nothing() {
    let mut state = State::default();
    let look = |state: &mut State, at: f64, started: f64| {
        let rows = Rows { started, ..rows(at, vec![group(2)]) };
        let families = poll(&Activity, state, rows);
        let cpu = value(&families, SESSIONS, &["app", "CPU", "CPU"]).unwrap_or_default();
        (cpu, value(&families, UNSAMPLED, &[]).unwrap())
    };
    assert_eq!(look(&mut state, 10.0, 1.0), (0.0, 0.0), "nothing is known of what was before");
    assert_eq!(look(&mut state, 11.5, 1.0), (3.0, 0.0));
    Activity.failed(&mut state);
    assert_eq!(look(&mut state, 13.5, 1.0), (3.0, 2.0), "a look failed");
    assert_eq!(look(&mut state, 14.0, 1.0), (4.0, 2.0));
    assert_eq!(look(&mut state, 30.0, 1.0), (4.0, 18.0), "the machine was suspended");
    assert_eq!(look(&mut state, 31.0, 2.0), (4.0, 19.0), "another server");
    assert_eq!(look(&mut state, 32.0, 2.0), (6.0, 19.0));
}

#[test]
fn running_statements_fall_to_zero_and_vanish_after_an_hour() {
    let mut state = State::default();
    let slow = |state: &mut State, at: f64, groups: Vec<ActiveSessions>| {
        let families = poll(&Activity, state, rows(at, groups));
        let of = |age| value(&families, "pg_running_statements", &["app", age]);
        (of("1"), of("10"), value(&families, "pg_running_statements_slow", &["app"]))
    };
    let two = vec![group(2), waits(1, "Lock", "relation")];
    assert_eq!(slow(&mut state, 0.0, two), (Some(3.0), Some(0.0), Some(3.0)));
    assert_eq!(slow(&mut state, 1.0, vec![]), (Some(0.0), Some(0.0), Some(0.0)));
    assert_eq!(slow(&mut state, 3_600.0, vec![]), (None, None, None));
}

#[test]
fn a_role_that_sees_little_and_a_server_without_identifiers_give_no_figures() {
    let mut state = State::default();
    let blind = |at| Rows { sees_all: false, ..rows(at, vec![group(1)]) };
    poll(&Activity, &mut state, blind(0.0));
    let families = poll(&Activity, &mut state, blind(1.0));
    assert_eq!(value(&families, SESSIONS, &["app", "CPU", "CPU"]), None);
    assert_eq!(value(&families, "pgrunway_activity_samples_total", &[]), Some(1.0));
    let old = |at| Rows { tells_statements: false, ..rows(at, vec![group(1)]) };
    let families = poll(&Activity, &mut state, old(2.0));
    assert_eq!(value(&families, SESSIONS, &["app", "CPU", "CPU"]), Some(1.0));
    assert!(families.iter().all(|f| f.metric.name != "pg_statement_active_session_seconds_total"));
}

#[test]
fn a_thousand_kinds_of_waits_in_as_many_databases_stay_bounded_and_lose_nothing() {
    let mut state = State::default();
    let groups = || {
        let one = |n: i64| ActiveSessions {
            datname: Some(format!("d{n}")),
            application: Some(format!("a{n}")),
            ..waits(1, "Extension", &format!("e{n}"))
        };
        (0..10_000).map(one).collect::<Vec<_>>()
    };
    poll(&Activity, &mut state, rows(0.0, groups()));
    let families = poll(&Activity, &mut state, rows(1.0, groups()));
    let sum = |name: &str| -> (usize, f64) {
        let samples = &families.iter().find(|f| f.metric.name == name).unwrap().samples;
        let number = |s: &crate::metric::Sample| match s.value {
            crate::metric::Value::Number(n) => n,
            crate::metric::Value::Histogram(_) => 0.0,
        };
        (samples.len(), samples.iter().map(number).sum())
    };
    assert_eq!(sum(SESSIONS), (2 * MOST_WAITS + 1, 10_000.0));
    let (series, seconds) = sum("pg_application_active_session_seconds_total");
    assert_eq!((series, seconds), (3, 10_000.0));
    assert_eq!(
        value(&families, "pgrunway_activity_folded_seconds_total", &["wait"]),
        Some(8_000.0)
    );
}

const RECOMMENDATION: &str = "pg_wait_recommendation_active";

#[test]
fn the_rules_are_asked_twice_a_minute_over_the_last_hour_of_one_server() {
    let mut state = State::default();
    let look = |state: &mut State, at: f64, started: f64, waiting: i64| {
        let groups = vec![group(1), waits(waiting, "Lock", "tuple")];
        let families = poll(&Activity, state, Rows { started, ..rows(at, groups) });
        let found: Vec<&str> = Activity::findings(state).iter().map(|r| r.rule.id).collect();
        (value(&families, RECOMMENDATION, &["waits.lock"]), found.contains(&"waits.lock"))
    };
    assert_eq!(look(&mut state, 0.0, 1.0, 4), (None, false), "nothing was sampled yet");
    for second in 1..30 {
        assert_eq!(look(&mut state, f64::from(second), 1.0, 4), (None, false));
    }
    assert_eq!(look(&mut state, 30.0, 1.0, 4), (Some(1.0), true));
    // From then on nobody waits: of an hour that is little.
    for second in 31..3_600 {
        look(&mut state, f64::from(second), 1.0, 0);
    }
    assert_eq!(look(&mut state, 3_600.0, 1.0, 0), (Some(0.0), false));
    for second in 3_601..3_700 {
        look(&mut state, f64::from(second), 1.0, 40);
    }
    assert_eq!(look(&mut state, 3_700.0, 1.0, 40), (Some(1.0), true));
    assert_eq!(look(&mut state, 3_701.0, 2.0, 40), (None, false), "another server");
    let blind = Rows { sees_all: false, ..rows(3_702.0, vec![]) };
    let families = poll(&Activity, &mut state, blind);
    assert_eq!(value(&families, RECOMMENDATION, &["waits.lock"]), None);
}
