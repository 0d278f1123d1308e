//! Each rule just over its threshold and just under it, and what it says.

use super::super::tests::verdict;
use super::*;

fn waited(datname: &str, kind: &str, event: &str, seconds: f64) -> WaitedSeconds {
    WaitedSeconds {
        datname: datname.to_owned(),
        kind: kind.to_owned(),
        event: event.to_owned(),
        seconds,
    }
}

/// An hour of samples, one a second: ten sessions were busy on average, some of them in these waits.
fn hour(waits: &[(&str, &str, f64)]) -> SampledWaits {
    let sessions: f64 = waits.iter().map(|(.., sessions)| sessions).sum();
    let mut facts = SampledWaits {
        samples: 3_600.0,
        span: 3_600.0,
        waits: vec![waited("calm", CPU, CPU, (10.0 - sessions) * 3_600.0)],
        cpus: Some(16.0),
        ..SampledWaits::default()
    };
    for (kind, event, sessions) in waits {
        facts.waits.push(waited("shop", kind, event, sessions * 3_600.0));
    }
    facts
}

type WaitFixture = (&'static str, SampledWaits, SampledWaits);

/// With ten sessions and 36,000 observations the error is under half a per cent.
fn fixture(
    id: &'static str,
    kind: &'static str,
    event: &'static str,
    found: f64,
    quiet: f64,
) -> WaitFixture {
    (id, hour(&[(kind, event, found)]), hour(&[(kind, event, quiet)]))
}

/// One of each rule.
pub(in crate::findings) fn fixtures() -> Vec<WaitFixture> {
    let cpus = |n| SampledWaits { cpus: Some(n), ..hour(&[]) };
    vec![
        ("waits.cpu", cpus(9.0), cpus(10.0)),
        fixture("waits.read", "IO", "DataFileRead", 3.1, 3.0),
        fixture("waits.write", "IO", "DataFileExtend", 2.1, 2.0),
        fixture("waits.temporary", "IO", "BuffileWrite", 1.1, 1.0),
        fixture("waits.wal", "IO", "WalSync", 2.1, 2.0),
        fixture("waits.replica", "IPC", "SyncRep", 2.1, 2.0),
        fixture("waits.lock", "Lock", "transactionid", 2.1, 2.0),
        fixture("waits.client", "Client", "ClientWrite", 3.1, 3.0),
        fixture("waits.buffer_pin", "Buffer", "BufferCleanup", 0.6, 0.5),
        fixture("waits.lwlock", "LWLock", "LockManager", 1.1, 1.0),
    ]
}

fn only(facts: &SampledWaits, id: &str) -> Finding {
    let mut found = verdict(facts, id).unwrap();
    assert_eq!(found.len(), 1, "{id}: {found:?}");
    found.remove(0)
}

fn quiet(facts: &SampledWaits, id: &str) -> bool {
    verdict(facts, id) == Some(Vec::new())
}

#[test]
fn the_evidence_has_the_share_with_its_error_the_events_and_the_database() {
    let facts = hour(&[("IO", "DataFileRead", 4.0), ("IO", "DataFilePrefetch", 0.5)]);
    let found = only(&facts, "waits.read");
    assert_eq!(
        found.evidence,
        "4.50 of 10.00 active sessions on average were in IO:DataFileRead (4.00), IO:DataFilePrefetch (0.50): 45 % of \
         their time, 44 to 46 % with the error of 3600 samples over 60 min; most of it in database shop."
    );
    let figure = |name| found.figures.iter().find(|f| f.name == name).map(|f| f.value);
    assert_eq!((figure("sessions"), figure("share")), (Some(4.5), Some(0.45)));
    let (low, high) = (figure("share_low").unwrap(), figure("share_high").unwrap());
    assert!(low > 0.444 && low < 0.45 && high > 0.45 && high < 0.456, "{low} {high}");
    assert!(found.remedy.is_none() && found.advice.contains("shared_blks_read"));
}

#[test]
fn a_share_that_may_be_an_accident_of_few_samples_is_none() {
    let of = |samples: f64| SampledWaits {
        samples,
        span: samples,
        waits: vec![
            waited("shop", "Lock", "tuple", samples * 0.52),
            waited("shop", CPU, CPU, samples * 1.48),
        ],
        ..SampledWaits::default()
    };
    assert_eq!(verdict(&of(29.0), "waits.lock"), None, "too few samples to say");
    assert!(quiet(&of(40.0), "waits.lock"), "26 % of 80 observations may be under 20 % in truth");
    assert_eq!(verdict(&of(400.0), "waits.lock").map(|f| f.len()), Some(1));
    assert_eq!(verdict(&of(400.0), "waits.cpu"), None, "nobody said how many processors there are");
    let short = SampledWaits { span: 20.0, ..of(100.0) };
    assert_eq!(verdict(&short, "waits.lwlock"), None, "100 samples of 20 s");
}

#[test]
fn a_large_share_of_next_to_nothing_is_none() {
    let seldom = SampledWaits {
        samples: 3_600.0,
        span: 3_600.0,
        waits: vec![waited("shop", "IO", "DataFileRead", 700.0)],
        cpus: Some(1.0),
        ..SampledWaits::default()
    };
    let idle = SampledWaits { samples: 3_600.0, span: 3_600.0, ..SampledWaits::default() };
    for (id, ..) in fixtures().into_iter().filter(|(id, ..)| *id != "waits.cpu") {
        assert!(quiet(&seldom, id) && quiet(&idle, id), "{id}");
    }
}

#[test]
fn names_count_in_whatever_case_and_version() {
    for (kind, event, id) in [
        ("IO", "WALSync", "waits.wal"),
        ("LWLock", "WALWrite", "waits.wal"),
        ("IO", "BufFileRead", "waits.temporary"),
        ("IO", "AioIoCompletion", "waits.read"),
        ("BufferPin", "BufferPin", "waits.buffer_pin"),
        ("LWLock", "BufferContent", "waits.lwlock"),
        ("Buffer", "BufferExclusive", "waits.lwlock"),
    ] {
        let facts = hour(&[(kind, event, 6.0)]);
        let found: Vec<&str> = super::super::judge(&facts)
            .filter(|(_, verdict)| verdict.as_ref().is_some_and(|f| !f.is_empty()))
            .map(|(rule, _)| rule.id)
            .collect();
        assert_eq!(found, [id], "{kind}:{event}");
    }
}

#[test]
fn the_advice_is_about_the_locks_that_most_wait_for() {
    let advice =
        |event| only(&hour(&[("Lock", event, 4.0), ("Lock", "page", 1.0)]), "waits.lock").advice;
    assert!(advice("tuple").contains("SKIP LOCKED"));
    assert!(advice("relation").contains("lock_timeout"));
    assert!(advice("advisory").contains("pg_try_advisory_lock"));
    assert!(advice("object").starts_with("Who holds up whom"));
    let locks = [
        ("LWLock", "SubtransSLRU", 2.0),
        ("LWLock", "SubtransBuffer", 1.0),
        ("LWLock", "My\u{1b}Own", 2.0),
    ];
    let found = verdict(&hour(&locks), "waits.lwlock").unwrap();
    assert_eq!(found.len(), 2, "one of a purpose: {found:?}");
    assert!(found[0].evidence.contains("LWLock:SubtransSLRU (2.00), LWLock:SubtransBuffer (1.00)"));
    assert!(found[0].advice.contains("savepoints"), "{}", found[0].advice);
    let (evidence, advice) = (&found[1].evidence, &found[1].advice);
    assert!(evidence.contains("My\\u{1b}Own") && advice.contains("My\\u{1b}Own"), "{found:?}");
}

#[test]
fn a_vacuum_that_waits_for_a_pin_counts_and_thousands_of_names_are_judged_at_once() {
    let mut facts = hour(&[]);
    facts.workers.push(waited("", "BufferPin", "BufferPin", 3_600.0));
    assert!(only(&facts, "waits.buffer_pin").evidence.starts_with("1.00 of 11.00 active sessions"));
    facts.waits = (0..10_000).map(|n| waited("shop", "LWLock", &format!("lock{n}"), 1.0)).collect();
    assert!(quiet(&facts, "waits.lwlock"));
}
