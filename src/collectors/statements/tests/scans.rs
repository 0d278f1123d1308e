//! How often a poll reads the view, and that each reading counts once.

use std::time::Duration;

use super::*;

#[test]
fn a_view_that_is_cheap_to_read_is_read_more_often() {
    let mut state = State::default();
    assert_eq!(state.scans(), ScansPerPoll::Two, "before anything was measured");
    for (milliseconds, interval, want) in [
        (0.5, 0, ScansPerPoll::Six),
        (1.6, 0, ScansPerPoll::Six),
        (1.7, 0, ScansPerPoll::Four),
        (2.6, 0, ScansPerPoll::Two),
        // At a poll every 2 s.
        (2.6, 1, ScansPerPoll::Six),
        (8.0, 1, ScansPerPoll::Two),
    ] {
        (state.scan, state.interval) = (Some(milliseconds / 1e3), interval);
        assert_eq!(state.scans(), want, "{milliseconds} ms");
    }
    let times = |scans: ScansPerPoll, spacing: u64| {
        let times = scans.times(Duration::from_millis(spacing));
        times.iter().map(Duration::as_millis).collect::<Vec<_>>()
    };
    assert_eq!(times(ScansPerPoll::Two, 10), [10]);
    assert_eq!(times(ScansPerPoll::Four, 10), [2, 10, 50]);
    assert_eq!(times(ScansPerPoll::Six, 20), [4, 10, 20, 40, 100]);
    assert_eq!(times(ScansPerPoll::Six, 21), [21], "no transaction lasts");
}

#[test]
fn every_scan_of_a_poll_counts_and_none_twice() {
    let (mut view, mut state) = (View::new(5), State::default());
    let one = key(APP, ALICE, 1);
    view.call(one, &[0.01]);
    run(&mut state, view.rows(0.0));
    let mut rows = view.rows(1.0);
    rows.scans.clear();
    for i in 0..6 {
        view.call(one, &[0.01 * f64::from(i + 1)]);
        rows.scans.push(view.scan(1.0 + 0.002 * f64::from(i)));
    }
    let families = run(&mut state, rows);
    let (count, sum, _) = histogram(&families, "pg_query_duration_seconds", &["app"]).unwrap();
    assert_eq!(count, 6);
    assert!((sum - 0.21).abs() < 1e-9, "{sum}");
    // Each was alone between two scans.
    assert_eq!(value(&families, "pg_query_exact_calls_total", &["app"]), Some(6.0));
    let high = ["1m", "0.99", "certain"];
    let high = value(&families, "pg_query_latency_high_seconds", &[&["app"], &high[..]].concat());
    assert!((high.unwrap() - 0.06).abs() < 1e-3, "{high:?}");
}
