//! Answers of several versions as fixed tables.

use super::super::golden;
use super::*;
use crate::findings;
use crate::metric::Family;

/// A table as psql prints it unaligned: names, then rows, cells between bars. `~` is NULL.
fn table(text: &str) -> ConsoleTable {
    let cells = |line: &str| -> Vec<String> { line.split('|').map(str::to_owned).collect() };
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let columns = lines.next().map(cells).unwrap_or_default();
    let null = |cell: String| (cell != "~").then_some(cell);
    let rows = lines.map(|line| cells(line).into_iter().map(null).collect()).collect();
    ConsoleTable { columns, rows }
}

const LISTS: &str = "
    list|items
    databases|2
    users|4
    pools|3
    free_clients|49
    used_clients|25
    login_clients|1
    free_servers|48
    used_servers|6
    dns_names|1
    dns_zones|0
    dns_queries|0
    dns_pending|0";

/// PgBouncer 1.18: four columns of `SHOW CONFIG`, `reserve_pool`, no sizes of users.
fn of_1_18() -> Rows {
    Rows {
        at: 0.0,
        pools: table(
            "database|user|cl_active|cl_waiting|cl_active_cancel_req|cl_waiting_cancel_req|sv_active|\
             sv_active_cancel|sv_being_canceled|sv_idle|sv_used|sv_tested|sv_login|maxwait|maxwait_us|\
             pool_mode
             pgbouncer|pgbouncer|1|0|0|0|0|0|0|0|0|0|0|0|0|statement
             shop|app|5|15|1|2|3|0|1|0|0|0|1|4|250000|transaction
             shop|batch|0|0|0|0|0|0|0|2|1|0|0|0|0|transaction",
        ),
        databases: table(
            "name|host|port|database|force_user|pool_size|min_pool_size|reserve_pool|pool_mode|\
             max_connections|current_connections|paused|disabled
             pgbouncer|~|6432|pgbouncer|pgbouncer|2|0|0|statement|0|0|0|0
             shop|10.0.0.7|5432|shop_v2|~|5|1|2|~|8|6|1|0",
        ),
        totals: table(
            "database|xact_count|query_count|bytes_received|bytes_sent|xact_time|query_time|wait_time
             pgbouncer|9|9|0|0|0|0|0
             shop|1000|3000|123456|9876543210|2500000|1250000|12589",
        ),
        lists: table(LISTS),
        config: table(
            "key|value|default|changeable
             auth_file|/etc/pgbouncer/userlist.txt||yes
             default_pool_size|20|20|yes
             max_client_conn|100|100|yes
             max_db_connections|0|0|yes
             max_user_connections|0|0|yes
             query_wait_timeout|120|120|yes",
        ),
        users: table("name|pool_mode\napp|~\nbatch|~"),
        longest_wait: 1.0,
    }
}

/// PgBouncer 1.26 in what it has beyond 1.18.
fn of_1_26() -> Rows {
    Rows {
        databases: table(
            "name|host|port|database|force_user|pool_size|min_pool_size|reserve_pool_size|\
             server_lifetime|pool_mode|load_balance_hosts|max_connections|current_connections|\
             max_client_connections|current_client_connections|paused|disabled
             shop|10.0.0.7|5432|shop_v2|~|5|1|2|3600|~|~|0|6|50|20|0|1",
        ),
        totals: table(
            "database|server_assignment_count|xact_count|query_count|bytes_received|bytes_sent|\
             xact_time|query_time|wait_time|client_parse_count|server_parse_count|bind_count|\
             client_login_count|what_1_27_adds
             shop|7|10|30|1|2|3|4|5|11|12|13|14|15",
        ),
        users: table(
            "name|pool_size|reserve_pool_size|pool_mode|max_user_connections
             app|       10|~|~|0
             batch|~|~|~|0",
        ),
        ..of_1_18()
    }
}

fn families(rows: Rows) -> Vec<Family> {
    golden::poll(&PgBouncer, &mut State::default(), rows)
}

#[test]
fn the_exposition_is_as_ever() {
    golden::check("pgbouncer", &families(of_1_18()));
}

#[test]
fn what_a_version_adds_is_there_and_what_it_lacks_is_not() {
    let (old, new) = (families(of_1_18()), families(of_1_26()));
    let shop = ["shop", "10.0.0.7", "5432", "shop_v2", "", ""];
    for (name, labels, at_1_18, at_1_26) in [
        ("pgbouncer_databases_reserve_pool", &shop[..], Some(2.0), Some(2.0)),
        ("pgbouncer_databases_max_client_connections", &shop, None, Some(50.0)),
        ("pgbouncer_databases_current_client_connections", &shop, None, Some(20.0)),
        ("pgbouncer_databases_paused", &shop, Some(1.0), Some(0.0)),
        ("pgbouncer_databases_disabled", &shop, Some(0.0), Some(1.0)),
        ("pgbouncer_stats_totals_server_assignments_total", &["shop"], None, Some(7.0)),
        ("pgbouncer_stats_totals_client_parses_total", &["shop"], None, Some(11.0)),
        ("pgbouncer_stats_totals_server_parses_total", &["shop"], None, Some(12.0)),
        ("pgbouncer_stats_totals_binds_total", &["shop"], None, Some(13.0)),
        ("pgbouncer_stats_totals_client_logins_total", &["shop"], None, Some(14.0)),
        // The size of the user wins over that of the database.
        ("pgbouncer_pool_size", &["shop", "app"], Some(5.0), Some(10.0)),
        ("pgbouncer_pool_size", &["shop", "batch"], Some(5.0), Some(5.0)),
        ("pgbouncer_pool_saturation_ratio", &["shop", "app"], Some(1.0), Some(0.5)),
        ("pgbouncer_database_connections_used_ratio", &["shop"], Some(0.75), None),
    ] {
        assert_eq!(golden::value(&old, name, labels), at_1_18, "{name} {labels:?}");
        assert_eq!(golden::value(&new, name, labels), at_1_26, "{name} {labels:?}");
    }
}

#[test]
fn times_are_in_seconds_and_ratios_of_what_they_say() {
    let all = families(of_1_18());
    let app = ["shop", "app"];
    for (name, labels, expected) in [
        ("pgbouncer_pools_client_maxwait_seconds", &app[..], Some(4.25)),
        ("pgbouncer_pool_client_wait_ratio", &app, Some(0.75)),
        ("pgbouncer_pool_client_wait_ratio", &["shop", "batch"], None),
        // Idle connections, checked or not, are there for the taking.
        ("pgbouncer_pool_saturation_ratio", &["shop", "batch"], Some(0.0)),
        ("pgbouncer_stats_totals_server_in_transaction_seconds_total", &["shop"], Some(2.5)),
        ("pgbouncer_stats_totals_queries_duration_seconds_total", &["shop"], Some(1.25)),
        ("pgbouncer_stats_totals_sent_bytes_total", &["shop"], Some(9_876_543_210.0)),
        ("pgbouncer_clients_used_ratio", &[], Some(0.25)),
    ] {
        assert_eq!(golden::value(&all, name, labels), expected, "{name} {labels:?}");
    }
}

#[test]
fn names_that_became_the_same_are_added_up() {
    let mut rows = of_1_18();
    let twin: Vec<_> = rows.pools.rows[1].clone();
    rows.pools.rows.push(twin);
    let shop = rows.totals.rows[1].clone();
    rows.totals.rows.push(shop);
    let all = families(rows);
    let waiting = "pgbouncer_pools_client_waiting_connections";
    assert_eq!(golden::value(&all, waiting, &["shop", "app"]), Some(30.0));
    let longest = "pgbouncer_pools_client_maxwait_seconds";
    assert_eq!(golden::value(&all, longest, &["shop", "app"]), Some(4.25));
    let queries = "pgbouncer_stats_totals_queries_pooled_total";
    assert_eq!(golden::value(&all, queries, &["shop"]), Some(6_000.0));
}

proptest::proptest! {
    /// Whatever a version may answer, nothing panics, and nothing gets past the sink.
    #[test]
    fn any_subset_of_columns_and_any_cell_is_survived(
        keep in proptest::collection::vec(proptest::bool::ANY, 17),
        cell in "[0-9a-zé.-]{0,6}|NaN|inf|1e400",
    ) {
        let mut rows = of_1_26();
        for table in [&mut rows.pools, &mut rows.databases, &mut rows.totals, &mut rows.users] {
            let kept = |i: usize| keep.get(i).copied().unwrap_or(true);
            let strip = |cells: &mut Vec<_>| {
                let mut i = 0;
                cells.retain(|_| { i += 1; kept(i - 1) });
            };
            let mut columns: Vec<Option<String>> = table.columns.drain(..).map(Some).collect();
            strip(&mut columns);
            table.columns = columns.into_iter().flatten().collect();
            for row in &mut table.rows {
                strip(row);
                if let Some(last) = row.last_mut() { *last = Some(cell.clone()); }
            }
        }
        let mut sink = Sink::new(PgBouncer::METRICS, 100_000);
        PgBouncer.derive(&mut State::default(), rows, &mut sink);
        let refused = sink.finish().1;
        // A negative total is refused, as any counter's would be.
        proptest::prop_assert_eq!((refused.duplicate, refused.undeclared), (0, 0));
    }
}

/// One look at `at` at a pool of three server connections in session mode and what it did until then:
/// waiting clients and for how long, servers in use, transactions and their seconds.
fn look(at: f64, waiting: u32, wait: u32, active: u32, count: u32, seconds: u32) -> Rows {
    Rows {
        at,
        pools: table(&format!(
            "database|user|cl_active|cl_waiting|sv_active|sv_idle|sv_login|maxwait|maxwait_us|pool_mode
             pgbouncer|pgbouncer|1|0|0|0|0|0|0|statement
             shop|app|{active}|{waiting}|{active}|0|0|{wait}|0|session"
        )),
        databases: table(
            "name|pool_size|max_connections|current_connections|paused
             pgbouncer|2|0|0|0
             shop|3|0|3|0",
        ),
        totals: table(&format!(
            "database|xact_count|query_count|xact_time|query_time|wait_time
             shop|{count}|{count}|{seconds}000000|0|0"
        )),
        users: ConsoleTable::default(),
        ..of_1_18()
    }
}

fn active(state: &mut State, rows: Rows, id: &str) -> Option<f64> {
    let all = golden::poll(&PgBouncer, state, rows);
    golden::value(&all, "pgbouncer_recommendation_active", &[id])
}

#[test]
fn a_queue_at_a_full_pool_is_remembered_for_an_hour() {
    let mut state = State::default();
    let id = "pool.size";
    assert_eq!(active(&mut state, look(0.0, 0, 0, 3, 0, 0), id), Some(0.0));
    // Within the objective of a second.
    assert_eq!(active(&mut state, look(5.0, 2, 1, 3, 0, 0), id), Some(0.0));
    let facts = state.facts(&look(10.0, 4, 2, 3, 0, 0));
    let pool = &facts.pools.unwrap()[0];
    assert_eq!((pool.database.as_str(), pool.user.as_str()), ("shop", "app"));
    let queue = findings::Queue { looks: 1.0, longest: 2.0, demand: 7.0 };
    assert_eq!((pool.size, pool.peak, pool.looks, pool.queue), (Some(3.0), 3.0, 3.0, queue));
    assert_eq!((pool.waiting, pool.wait), (4.0, 2.0));
    // Three looks are a queue, one is a burst.
    for at in [15.0, 20.0] {
        assert_eq!(
            active(&mut state, look(at, 4, 2, 3, 0, 0), id),
            Some(f64::from(u8::from(at > 15.0)))
        );
    }
    // Over, but within the hour; slots are of five minutes.
    assert_eq!(active(&mut state, look(3_595.0, 0, 0, 1, 0, 0), id), Some(1.0));
    assert_eq!(active(&mut state, look(3_600.0, 0, 0, 1, 0, 0), id), Some(0.0));
}

#[test]
fn a_queue_for_another_reason_is_no_want_of_connections() {
    let id = "pool.size";
    // Not all are in use: one logs in, for long.
    let mut state = State::default();
    let mut login = look(0.0, 4, 9, 2, 0, 0);
    login.pools.rows[1][6] = Some("1".to_owned());
    assert_eq!(active(&mut state, login, id), Some(0.0));
    let mut paused = look(5.0, 4, 9, 3, 0, 0);
    paused.databases.rows[1][4] = Some("1".to_owned());
    assert_eq!(active(&mut state, paused, id), Some(0.0));
    for at in [10.0, 15.0] {
        assert_eq!(active(&mut state, look(at, 4, 9, 3, 0, 0), id), Some(0.0));
    }
    assert_eq!(active(&mut state, look(20.0, 4, 9, 3, 0, 0), id), Some(1.0));
    // There is room in the pool, but none in the database.
    let mut state = State::default();
    let mut limited = look(0.0, 4, 9, 2, 0, 0);
    limited.databases.rows[1][2] = Some("3".to_owned());
    let facts = state.facts(&limited);
    let pool = &facts.pools.as_ref().unwrap()[0];
    let queue = findings::Queue { looks: 1.0, longest: 9.0, demand: 6.0 };
    assert_eq!((pool.queue.looks, pool.limited, facts.limits["shop"]), (0.0, queue, 3.0));
    assert_eq!(active(&mut state, look(5.0, 0, 0, 1, 0, 0), id), Some(0.0));
    // Columns that are not there tell nothing.
    let mut rows = look(0.0, 4, 9, 3, 0, 0);
    rows.pools.columns[3] = "renamed".to_owned();
    assert_eq!(active(&mut State::default(), rows, id), None);
}

#[test]
fn what_session_pools_hold_is_set_against_their_transactions() {
    let mut state = State::default();
    let id = "pool.mode";
    assert_eq!(active(&mut state, look(0.0, 0, 0, 3, 100, 50), id), None, "too short");
    let facts = state.facts(&look(300.0, 0, 0, 1, 130, 90));
    assert_eq!(facts.work["shop"], findings::Work { held: 600.0, transactions: 40.0, count: 30.0 });
    assert_eq!(active(&mut state, look(600.0, 0, 0, 1, 160, 130), id), Some(1.0));
    // PgBouncer began anew: neither what it held nor what it did is known.
    let facts = state.facts(&look(900.0, 0, 0, 3, 5, 1));
    assert_eq!(facts.work["shop"], findings::Work { held: 900.0, transactions: 80.0, count: 60.0 });
    assert_eq!(active(&mut state, look(1_200.0, 0, 0, 3, 400, 800), id), Some(0.0));
}

#[test]
fn evidence_does_not_outlive_its_hour_and_keeps_no_look() {
    let mut state = State::default();
    for i in 0..2_000_u32 {
        state.facts(&look(f64::from(i) * 5.0, 0, 0, 2, i, 0));
    }
    let facts = state.facts(&look(10_000.0, 0, 0, 2, 2_000, 0));
    // Slots from 6600 s on, of which the last fills.
    assert_eq!(facts.span, 3_400.0);
    assert_eq!(facts.pools.unwrap()[0].looks, facts.span / 5.0 + 1.0);
    let gone = Rows { pools: table("database|user|sv_active|cl_waiting|maxwait"), ..of_1_18() };
    let gone = Rows { at: 20_000.0, totals: table("database|xact_count|xact_time"), ..gone };
    let facts = state.facts(&gone);
    assert_eq!((facts.pools, facts.work.len()), (Some(Vec::new()), 0));
    assert!(state.is_empty());
}
