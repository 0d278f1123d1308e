//! Fixed rows in, samples out.

use super::super::golden::{check, poll, value};
use super::*;

fn name(table: &str) -> (String, String) {
    ("public".to_owned(), table.to_owned())
}

fn level(
    oid: i64,
    parent: Option<i64>,
    root: Option<&str>,
    partitions: i64,
    newest: i64,
) -> LevelRow {
    LevelRow { oid, parent, name: root.map(name), partitions, newest, committed: None }
}

fn job(id: i64, title: &str, schedule: &str) -> CronJob {
    CronJob {
        id,
        name: title.to_owned(),
        database: "trading".to_owned(),
        schedule: schedule.to_owned(),
        active: id != 3,
    }
}

fn run(id: i64, job: i64, started: Option<f64>, ended: Option<f64>, status: &str) -> JobRun {
    let (finished, succeeded) = (status != "running", status == "succeeded");
    JobRun { id, job, finished, succeeded, refused: false, started, ended }
}

fn rows() -> Rows {
    let partman = |table: &str| Partman {
        name: name(table),
        premake: Some(4.0),
        automatic: Some(true),
        infinite: Some(false),
        retention: None,
        keeps: None,
        last_run: None,
    };
    let jobs = vec![
        job(1, "make \"them\"", "10 1 * * *"),
        job(2, "", "@reboot"),
        job(3, "off", "@hourly"),
    ];
    let runs = vec![
        run(5, 1, Some(900.0), Some(901.5), "succeeded"),
        run(7, 2, None, None, "failed"),
        run(9, 1, Some(1000.0), None, "running"),
    ];
    Rows {
        datname: "postgres".to_owned(),
        now: 2000.0,
        levels: vec![
            LevelRow { committed: Some(1500.0), ..level(10, None, Some("trades"), 3, 13) },
            LevelRow { committed: Some(1700.0), ..level(13, Some(10), None, 2, 20) },
            level(30, None, Some("orders"), 1, 31),
            level(40, None, Some("hidden"), 1, 41),
        ],
        ignored: [name("hidden")].into(),
        sources: vec![("pg_partman", ""), ("pg_cron", "row_security")],
        partman: vec![
            Partman {
                retention: Some(7_776_000.0),
                keeps: Some(true),
                last_run: Some(1234.5),
                infinite: None,
                ..partman("trades")
            },
            partman("orders"),
            partman("hidden"),
        ],
        cron: Some(Cron { jobs, runs, high: 9, low: 0, afresh: false }),
    }
}

#[test]
fn golden() {
    let mut state = State::default();
    poll(&Maintenance, &mut state, rows());
    let mut later = rows();
    later.now = 2060.0;
    later.levels[2].partitions = 2;
    later.cron = Some(Cron {
        runs: vec![run(9, 1, Some(1000.0), Some(1003.0), "failed")],
        ..later.cron.unwrap()
    });
    assert_eq!(state.pending, [9]);
    check("maintenance", &poll(&Maintenance, &mut state, later));
    assert_eq!(state.pending, Vec::<i64>::new());
}

#[test]
fn what_was_there_from_the_start_has_no_time() {
    let mut state = State::default();
    let at = |state: &mut State, now: f64, levels: Vec<LevelRow>, table: &str| {
        let families = poll(&Maintenance, state, Rows { now, levels, ..rows() });
        value(&families, ATTACHED.name, &["postgres", "public", table, "poll"])
    };
    let one = |partitions, newest| vec![level(1, None, Some("t"), partitions, newest)];
    assert_eq!(at(&mut state, 10.0, one(3, 9), "t"), None);
    assert_eq!(at(&mut state, 20.0, one(2, 8), "t"), None, "one was dropped");
    assert_eq!(at(&mut state, 30.0, one(2, 11), "t"), Some(30.0), "one dropped, one created");
    assert_eq!(at(&mut state, 40.0, one(3, 11), "t"), Some(40.0), "an old table attached");
    assert_eq!(at(&mut state, 50.0, one(1, 4), "t"), Some(40.0));
    let mut two = one(1, 4);
    two.push(level(50, None, Some("new"), 0, 0));
    assert_eq!(at(&mut state, 60.0, two.clone(), "new"), None);
    two[1].partitions = 1;
    assert_eq!(at(&mut state, 70.0, two.clone(), "new"), Some(70.0));
    two.push(level(60, None, Some("whole"), 1, 61));
    assert_eq!(at(&mut state, 80.0, two, "whole"), Some(80.0));
}

#[test]
fn older_runs_that_are_read_later_change_nothing() {
    let mut state = State::default();
    let with = |runs: Vec<JobRun>, afresh| Rows {
        cron: Some(Cron { runs, afresh, ..rows().cron.unwrap() }),
        ..rows()
    };
    let labels = ["trading", "1", "make \"them\""];
    poll(&Maintenance, &mut state, with(vec![run(8, 1, Some(50.0), Some(51.0), "failed")], false));
    let older = vec![run(2, 1, Some(10.0), Some(11.0), "succeeded")];
    let families = poll(&Maintenance, &mut state, with(older, false));
    assert_eq!(value(&families, STARTED.name, &labels), Some(50.0));
    assert_eq!(value(&families, ENDED.name, &labels), Some(51.0));
    assert_eq!(value(&families, SUCCESS.name, &labels), Some(0.0));
    assert_eq!((state.high, state.low), (9, 0));
    let families = poll(&Maintenance, &mut state, with(Vec::new(), true));
    assert_eq!(value(&families, STARTED.name, &labels), None, "another table of runs");
    assert_eq!((state.high, state.low), (0, 0));
}
