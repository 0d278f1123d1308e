//! Each rule: where it holds, where not, and where nobody can tell.

use super::super::judge;
use super::super::tests::verdict;
use super::*;

const HOUR: f64 = 3_600.0;

fn pool(database: &str, user: &str, mode: PoolMode, size: f64) -> Pool {
    Pool {
        database: database.to_owned(),
        user: user.to_owned(),
        mode: Some(mode),
        size: Some(size),
        peak: 1.0,
        looks: 720.0,
        ..Pool::default()
    }
}

/// Two pools in transaction mode with nothing to complain of.
fn fine() -> Pooler {
    let settings = [
        ("max_client_conn", 100.0),
        ("max_prepared_statements", 200.0),
        ("max_user_connections", 0.0),
        ("query_wait_timeout", 120.0),
        ("server_lifetime", 3_600.0),
    ];
    Pooler {
        span: HOUR,
        wait_objective: Some(1.0),
        pools: Some(vec![
            pool("shop", "app", PoolMode::Transaction, 20.0),
            pool("shop", "batch", PoolMode::Transaction, 5.0),
        ]),
        clients: Some(80.0),
        settings: settings.map(|(name, value)| (name.to_owned(), value)).into(),
        ..Pooler::default()
    }
}

/// The line of pgbouncer.ini.
fn ini(found: &Finding) -> Option<String> {
    found.remedy.as_ref().map(Remedy::text)
}

fn only(pooler: &Pooler, id: &str) -> Finding {
    let mut found = verdict(pooler, id).unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

fn with(mut pooler: Pooler, name: &str, value: f64) -> Pooler {
    pooler.settings.insert(name.to_owned(), value);
    pooler
}

fn queued(longest: f64, demand: f64) -> Queue {
    Queue { looks: 3.0, longest, demand }
}

/// The id of each rule, a pooler at which it finds something, and one at which it just does not.
pub(in crate::findings) fn fixtures() -> Vec<(&'static str, Pooler, Pooler)> {
    let queue = |looks| Queue { looks, longest: 4.0, demand: 27.0 };
    let waiting = |looks| {
        let mut pooler = fine();
        pooler.pools.as_mut().unwrap()[0].queue = queue(looks);
        pooler
    };
    let limited = |looks| {
        let limits = BTreeMap::from([("shop".to_owned(), 7.0)]);
        let mut pooler = Pooler { limits, ..fine() };
        pooler.pools.as_mut().unwrap()[0].limited = queue(looks);
        pooler
    };
    let clients = |clients| Pooler { clients: Some(clients), ..fine() };
    vec![
        ("pool.size", waiting(3.0), waiting(2.0)),
        ("pool.max_db_connections", limited(3.0), limited(2.0)),
        ("pool.max_client_conn", clients(81.0), clients(80.0)),
        ("pool.server_lifetime", with(fine(), "server_lifetime", 0.0), fine()),
        ("pool.mode", sessions(HOUR, 60.0), sessions(HOUR, 59.0)),
        ("pool.prepared_statements", with(fine(), "max_prepared_statements", 0.0), fine()),
        ("pool.query_wait_timeout", with(fine(), "query_wait_timeout", 0.0), fine()),
    ]
}

#[test]
fn a_pooler_with_room_gets_no_advice_and_an_unknown_one_no_verdict() {
    for (rule, verdict) in judge(&fine()) {
        assert_eq!(verdict, Some(Vec::new()), "{}", rule.id);
    }
    for (rule, verdict) in judge(&Pooler::default()) {
        assert_eq!(verdict, None, "{}", rule.id);
    }
    // One to which nobody has connected yet.
    let unused = Pooler { pools: Some(Vec::new()), ..fine() };
    for (rule, verdict) in judge(&unused) {
        assert_eq!(verdict, Some(Vec::new()), "{}", rule.id);
    }
}

#[test]
fn those_who_wait_get_as_many_as_were_wanted_but_twice_as_many_at_most() {
    for (size, demand, wanted) in [
        (20.0, 27.0, 27.0),
        (20.0, 40.0, 40.0),
        (20.0, 500.0, 40.0),
        // Of the smallest pools a double is not worth a look.
        (1.0, 4.0, 4.0),
        (1.0, 50.0, 10.0),
        (9.0, 50.0, 18.0),
    ] {
        let full = Pool {
            queue: queued(4.25, demand),
            ..pool("shop", "app", PoolMode::Transaction, size)
        };
        let batch = pool("shop", "batch", PoolMode::Transaction, 5.0);
        let found = only(&Pooler { pools: Some(vec![full, batch]), ..fine() }, "pool.size");
        assert_eq!(found.subject.name().as_deref(), Some("shop (user app)"));
        let begins = format!("Set pool_size={wanted:.0} in the line of the database");
        assert!(found.advice.starts_with(&begins), "{size} {demand}: {found:?}");
        let sums = format!(
            "may take {:.0} on all servers together, and then {:.0},",
            size + 5.0,
            wanted + 5.0
        );
        assert!(found.advice.contains(&sums), "{size} {demand}: {found:?}");
        assert_eq!(found.advice.contains("look again"), wanted < demand, "{found:?}");
        let told = format!(
            "Clients waited for up to 4.2 s (the objective is 1 s) while all of pool_size ({size:.0}) was in \
             use, at 3 of 720 looks in 60 min; at the peak {demand:.0} were in use or wanted."
        );
        assert_eq!(found.evidence, told);
        assert_eq!(found.remedy, None, "the rest of that line is not known");
        assert!(!found.advice.contains("session mode"), "{found:?}");
    }
    let mut full = Pool { queue: queued(4.25, 9.0), ..pool("shop", "app", PoolMode::Session, 5.0) };
    let found = only(&Pooler { pools: Some(vec![full.clone()]), ..fine() }, "pool.size");
    assert!(found.advice.contains("In session mode a client holds its connection"), "{found:?}");
    // A burst that two looks saw is what a pooler is for.
    full.queue.looks = 2.0;
    assert_eq!(
        verdict(&Pooler { pools: Some(vec![full]), ..fine() }, "pool.size"),
        Some(Vec::new())
    );
}

#[test]
fn limits_that_a_larger_pool_runs_into_are_named() {
    let full = Pool { queue: queued(2.0, 8.0), ..pool("shop", "app", PoolMode::Transaction, 5.0) };
    let limited = |most: f64| Pooler {
        pools: Some(vec![full.clone()]),
        limits: BTreeMap::from([("shop".to_owned(), most)]),
        ..fine()
    };
    let found = only(&with(limited(7.0), "max_user_connections", 6.0), "pool.size");
    assert!(found.advice.contains("max_db_connections of 7 is in the way"), "{found:?}");
    assert!(found.advice.contains("max_user_connections of 6 is in the way"), "{found:?}");
    let found = only(&limited(8.0), "pool.size");
    assert!(!found.advice.contains("in the way"), "{found:?}");
}

#[test]
fn a_limit_that_keeps_pools_from_their_size_is_named() {
    let id = "pool.max_db_connections";
    let limits = BTreeMap::from([("shop".to_owned(), 7.0), ("other".to_owned(), 7.0)]);
    let mut limited = Pooler { limits, ..fine() };
    assert_eq!(verdict(&limited, id), Some(Vec::new()));
    limited.pools.as_mut().unwrap()[0].limited = queued(2.0, 9.0);
    assert_eq!(verdict(&limited, "pool.size"), Some(Vec::new()));
    let found = only(&limited, id);
    assert_eq!(found.subject.name().as_deref(), Some("shop"));
    assert_eq!(
        found.evidence,
        "Clients of user app waited for up to 2 s (the objective is 1 s) while all of max_db_connections (7) \
         was taken, at 3 of 720 looks in 60 min."
    );
    assert!(found.advice.contains("sizes of 25 together"), "{found:?}");
}

#[test]
fn a_pool_of_unknown_size_is_not_judged() {
    let unknown = |user: &str| Pool { size: None, ..pool("x", user, PoolMode::Transaction, 1.0) };
    let all = Pooler { pools: Some(vec![unknown("a"), unknown("b")]), ..fine() };
    assert_eq!(verdict(&all, "pool.size"), None);
    let known = pool("shop", "app", PoolMode::Transaction, 5.0);
    let one = Pooler { pools: Some(vec![unknown("a"), known]), ..fine() };
    assert_eq!(verdict(&one, "pool.size"), Some(Vec::new()));
}

#[test]
fn clients_near_their_limit() {
    let id = "pool.max_client_conn";
    let found = only(&Pooler { clients: Some(81.0), ..fine() }, id);
    assert_eq!(found.evidence, "At most 81 of 100 client connections were used at once.");
    assert_eq!(ini(&found).as_deref(), Some("max_client_conn = 162"));
    assert_eq!(verdict(&Pooler { clients: None, ..fine() }, id), None);
}

#[test]
fn prepared_statements_by_mode_and_version() {
    let id = "pool.prepared_statements";
    let off = with(fine(), "max_prepared_statements", 0.0);
    let found = only(&off, id);
    assert!(found.evidence.starts_with("Database shop is in transaction or"), "{found:?}");
    assert_eq!(ini(&found).as_deref(), Some("max_prepared_statements = 200"));
    let of = |mode| Some(vec![pool("shop", "app", mode, 5.0)]);
    assert_eq!(
        only(&Pooler { pools: of(PoolMode::Statement), ..off.clone() }, id).remedy,
        found.remedy
    );
    let session = Pooler { pools: of(PoolMode::Session), ..off.clone() };
    assert_eq!(verdict(&session, id), Some(Vec::new()));
    let names = ["a", "b", "c", "d"];
    let many = names.map(|name| pool(name, "app", PoolMode::Transaction, 5.0)).to_vec();
    let found = only(&Pooler { pools: Some(many), ..off }, id);
    assert!(found.evidence.starts_with("Databases a, b, c and others are"), "{found:?}");

    // Before 1.21.
    let mut old = fine();
    old.settings.remove("max_prepared_statements");
    let found = only(&old, id);
    assert!(found.advice.ends_with("1.24 and later with 200 by default."), "{found:?}");
    assert_eq!(found.remedy, None);
    old.settings.clear();
    assert_eq!(verdict(&old, id), None);
    let mut unknown = fine();
    unknown.pools = Some(vec![Pool { mode: None, ..pool("a", "b", PoolMode::Session, 1.0) }]);
    assert_eq!(verdict(&unknown, id), None);
}

#[test]
fn settings_that_are_seldom_meant() {
    for (id, name, line) in [
        ("pool.query_wait_timeout", "query_wait_timeout", "query_wait_timeout = 120"),
        ("pool.server_lifetime", "server_lifetime", "server_lifetime = 3600"),
    ] {
        let found = only(&with(fine(), name, 0.0), id);
        assert_eq!(ini(&found).as_deref(), Some(line));
        let mut lacking = fine();
        lacking.settings.remove(name);
        assert_eq!(verdict(&lacking, id), None, "{id}");
    }
}

/// A session pool of 20, 18 of which were held at the peak and 10 on average, for an hour.
fn sessions(transactions: f64, count: f64) -> Pooler {
    let held = Pool { peak: 18.0, ..pool("shop", "app", PoolMode::Session, 20.0) };
    let work = Work { held: 10.0 * HOUR, transactions, count };
    Pooler {
        pools: Some(vec![held, pool("shop", "batch", PoolMode::Session, 20.0)]),
        work: BTreeMap::from([("shop".to_owned(), work)]),
        ..fine()
    }
}

#[test]
fn sessions_that_hold_what_they_do_not_use() {
    let id = "pool.mode";
    let found = only(&sessions(HOUR, 5_000.0), id);
    assert_eq!(found.subject.name().as_deref(), Some("shop"));
    assert_eq!(
        found.evidence,
        "User app held 18 of 20 server connections at the peak. Those of the database were in transactions \
         for 10 % of the time for which clients held them (5000 transactions in 60 min)."
    );
    assert!(found.advice.contains("; 1.0 were in one on average."), "{found:?}");
    // A fifth of the time is enough; so is a pool with room.
    assert_eq!(verdict(&sessions(2.0 * HOUR, 5_000.0), id), Some(Vec::new()));
    let mut roomy = sessions(HOUR, 5_000.0);
    roomy.pools.as_mut().unwrap()[0].peak = 15.0;
    assert_eq!(verdict(&roomy, id), Some(Vec::new()));
    // Ten connections that end fewer than sixty transactions an hour may all be in one that goes on.
    assert_eq!(only(&sessions(HOUR, 60.0), id).subject.name().as_deref(), Some("shop"));
    assert_eq!(verdict(&sessions(HOUR, 59.0), id), Some(Vec::new()));
    // Where one user's pool is in another mode, whose transactions they were cannot be told.
    let mut mixed = sessions(HOUR, 5_000.0);
    mixed.pools.as_mut().unwrap()[1].mode = Some(PoolMode::Transaction);
    assert_eq!(verdict(&mixed, id), Some(Vec::new()));
    let short = Pooler { span: 599.0, ..sessions(HOUR, 5_000.0) };
    assert_eq!(verdict(&short, id), None);
}
