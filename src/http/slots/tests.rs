//! Who must go, by steps and ages that are set.

use super::*;
use crate::render::Renderer;

fn slots(total: usize, per_address: usize) -> Arc<OpenConnections> {
    let limits = SlotLimits { total, per_address, ..SlotLimits::within(1024, 0) };
    OpenConnections::new(limits, Renderer::new().unwrap().http_counters())
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn cut(places: &[Place]) -> Vec<usize> {
    (0..places.len()).filter(|n| places[*n].slot.was_cut()).collect()
}

#[test]
fn connections_are_as_many_as_files_allow() {
    let of = |files, others| {
        let limits = SlotLimits::within(files, others);
        (limits.total, limits.per_address)
    };
    assert_eq!(of(1024, 68), (478, 119));
    assert_eq!(of(1 << 20, 68), (512, 128));
    assert_eq!(of(256, 68), (94, 23));
    // Never none: without a file left one goes for the other.
    assert_eq!(of(64, 68), (16, 4));
}

#[test]
fn the_oldest_that_idles_goes_before_whoever_is_answered() {
    let slots = slots(100, 4);
    let mut places: Vec<Place> = (0..4).map(|_| slots.admit(ip("10.0.0.1"))).collect();
    for (place, (phase, since)) in
        places.iter().zip([(Phase::Busy, 1), (Phase::Idle, 9), (Phase::Head, 7), (Phase::New, 8)])
    {
        place.slot.set(phase, since);
    }
    let mut order = Vec::new();
    for since in 20..24 {
        let place = slots.admit(ip("10.0.0.1"));
        place.slot.set(Phase::Busy, since);
        places.push(place);
        order.extend(cut(&places).into_iter().filter(|n| !order.contains(n)).collect::<Vec<_>>());
    }
    assert_eq!(order, [2, 3, 1, 0]);
    assert_eq!(slots.lock().total, 4);
}

#[test]
fn slow_readers_do_not_outlive_newcomers() {
    let start = Instant::now().checked_sub(Duration::from_secs(100)).unwrap();
    let limits = SlotLimits { per_address: 3, ..SlotLimits::within(1024, 0) };
    let counters = Renderer::new().unwrap().http_counters();
    let slots = Arc::new(OpenConnections { limits, start, counters, open: Mutex::default() });
    let mut places: Vec<Place> = (0..3).map(|_| slots.admit(ip("10.0.0.1"))).collect();
    places[0].slot.set(Phase::Busy, 80_000);
    places[1].slot.set(Phase::Busy, 90_000);
    // The third has only just come, as the fourth and fifth have.
    places.push(slots.admit(ip("10.0.0.1")));
    assert_eq!(cut(&places), [0]);
    places.push(slots.admit(ip("10.0.0.1")));
    assert_eq!(cut(&places), [0, 1]);
    // What has idled for longer than a moment goes before what is answered.
    places[2].slot.set(Phase::Busy, 80_000);
    places[3].slot.set(Phase::Idle, 95_000);
    places.push(slots.admit(ip("10.0.0.1")));
    assert_eq!(cut(&places), [0, 1, 3]);
}

#[test]
fn whoever_has_the_most_gives_way_when_all_are_taken() {
    let slots = slots(10, 6);
    let mut places: Vec<Place> = (0..6).map(|_| slots.admit(ip("10.0.0.1"))).collect();
    places.extend((0..4).map(|_| slots.admit(ip("10.0.0.2"))));
    // Oldest of all, but of an address that has few.
    for (n, place) in places.iter().enumerate() {
        place.slot.set(Phase::Idle, if n >= 6 { 1 } else { 10 + n as u64 });
    }
    places.push(slots.admit(ip("10.0.0.3")));
    assert_eq!(cut(&places), [0]);
    places.push(slots.admit(ip("10.0.0.2")));
    assert_eq!(cut(&places), [0, 1]);
}

#[test]
fn a_network_of_ipv6_is_one_address_and_a_mapped_address_is_its_own() {
    let slots = slots(100, 2);
    let places: Vec<Place> =
        ["2001:db8::1", "2001:db8::2", "2001:db8::ffff:0:0:3", "2001:db8:0:1::1"]
            .map(|a| slots.admit(ip(a)))
            .into();
    assert_eq!(cut(&places).len(), 1);
    let places: Vec<Place> =
        ["::ffff:10.0.0.1", "10.0.0.1", "::ffff:10.0.0.2"].map(|a| slots.admit(ip(a))).into();
    assert_eq!(cut(&places).len(), 0);
    let third = slots.admit(ip("10.0.0.1"));
    assert_eq!((cut(&places).len(), third.slot.was_cut()), (1, false));
}

#[test]
fn a_place_is_given_back_once() {
    let slots = slots(100, 2);
    let first = slots.admit(ip("10.0.0.1"));
    let second = slots.admit(ip("10.0.0.1"));
    let third = slots.admit(ip("10.0.0.1"));
    // Whoever was told to go is counted no more, though its task is still there.
    assert_eq!(slots.lock().total, 2);
    drop((first, second));
    assert_eq!(slots.lock().total, 1);
    drop(third);
    assert_eq!(slots.lock().total, 0);
    assert!(slots.lock().by_address.is_empty());
    assert!(!slots.make_room());
}

#[test]
fn each_step_has_its_time() {
    let limits = SlotLimits::within(1024, 0);
    let slot = Slot::new(Instant::now());
    let at = |phase, seconds: u64| {
        slot.set(phase, 1000);
        slot.overdue(1000 + seconds * 1000, &limits)
    };
    assert_eq!([4, 5].map(|s| at(Phase::New, s)), [None, Some(CloseReason::Idle)]);
    assert_eq!([4, 5].map(|s| at(Phase::Head, s)), [None, Some(CloseReason::Head)]);
    assert_eq!([89, 90].map(|s| at(Phase::Idle, s)), [None, Some(CloseReason::Idle)]);
    assert_eq!([29, 30].map(|s| at(Phase::Busy, s)), [None, Some(CloseReason::Answer)]);
}

#[test]
fn a_connection_is_idle_again_only_when_all_is_read_and_sent() {
    let slot = Slot::new(Instant::now());
    let phase = || slot.state().0;
    slot.waits();
    assert_eq!(phase(), Phase::New);
    slot.received();
    assert_eq!(phase(), Phase::Head);
    slot.asked();
    slot.sends();
    slot.waits();
    slot.answered();
    assert_eq!(phase(), Phase::Busy);
    slot.sent();
    assert_eq!(phase(), Phase::Idle);

    // A request that was there before the first was answered: no new time.
    slot.set(Phase::Busy, 5);
    slot.received();
    slot.answered();
    slot.sent();
    slot.asked();
    assert_eq!(slot.state(), (Phase::Busy, 5));
    slot.answered();
    slot.waits();
    assert_eq!(phase(), Phase::Idle);
}

#[test]
fn slow_readers_keep_few_bytes_in_memory() {
    let slots = slots(100, 50);
    let pages: Vec<Vec<u8>> = (0..7).map(|_| vec![0; 4 << 20]).collect();
    let places: Vec<Place> = (0..20).map(|_| slots.admit(ip("10.0.0.1"))).collect();
    let go = |of: &[(usize, usize)]| {
        for (n, place) in places.iter().enumerate() {
            let page = of.iter().find(|(reader, _)| *reader == n);
            place.slot.holds(page.map_or(&[], |(_, page)| &pages[*page]));
            place.slot.set(Phase::Busy, n as u64);
        }
        let mut go: Vec<u64> =
            heavy(&slots.lock(), &slots.limits).into_iter().map(|(_, id)| id).collect();
        go.sort_unstable();
        go
    };
    // However many read the same page, it is in memory once.
    assert_eq!(go(&(0..20).map(|n| (n, n % 4)).collect::<Vec<_>>()), [0; 0]);
    assert_eq!(go(&[(0, 0), (1, 1), (2, 0), (3, 2), (4, 3), (5, 4)]), [0, 1]);
    assert_eq!(go(&(0..7).map(|n| (n, n)).collect::<Vec<_>>()), [0, 1, 2]);
    // Small answers are not looked at.
    places[0].slot.holds(&pages[0][..100]);
    assert_eq!(places[0].slot.length.load(Relaxed), 0);
}

#[test]
fn the_log_has_one_line_for_each_reason() {
    let slots = slots(100, 1);
    let mut open = slots.lock();
    let mut told = |reason| slots.close(&mut open, None, reason).is_some();
    assert_eq!(
        [told(CloseReason::Files), told(CloseReason::Files), told(CloseReason::Head)],
        [true, false, true]
    );
    assert!(!told(CloseReason::Idle));
    let long_ago = Instant::now().checked_sub(CALM).unwrap();
    open.closing[CloseReason::Files as usize] = Some((long_ago, 7));
    assert_eq!(slots.calmed(&mut open), [("files", 7)]);
    assert_eq!(slots.calmed(&mut open), []);
}
