//! Who is connected, and who must go: so many connections in all, so many from one address, each step of a
//! request within its time. A new connection is always let in; the oldest idle one of the address with the
//! most goes for it.
//!
//! Must not: know HTTP, sockets or tasks. A connection reports its steps through its [`Slot`], and is asked
//! to end through it.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::render::HttpCounters;

/// A page that so many bytes of are in flight is counted; smaller answers are of no account.
const COUNTED: usize = 16 << 10;
/// So many different pages may be in flight whatever their size.
const PAGES: usize = 4;
/// For so long a step counts as just begun.
const GRACE: Duration = Duration::from_secs(1);
/// After so long without another a reason counts as over, and the next one is logged again.
const CALM: Duration = Duration::from_secs(60);

/// What connections may take.
#[derive(Clone, Debug)]
pub struct SlotLimits {
    /// Connections at a time.
    pub total: usize,
    /// Connections at a time from one address; a /64 of IPv6 counts as one.
    pub per_address: usize,
    /// From the accept, or from the first byte of a later request, to the end of the request's head.
    pub head: Duration,
    /// From the end of an answer to the next request.
    pub idle: Duration,
    /// From the end of a request's head until the answer, and those of all requests that came with it, are sent.
    pub answer: Duration,
    /// Bytes of different pages that answers in flight may keep in memory.
    pub held: usize,
}

impl SlotLimits {
    /// The limits where the process may open so many files, of which the rest of it may need `others`.
    pub fn within(files: u64, others: u64) -> Self {
        // Half of what is left: a connection that was told to end may take a moment to close its file.
        let total = usize::try_from(files.saturating_sub(others) / 2).unwrap_or(usize::MAX);
        let total = total.clamp(16, 512);
        Self {
            total,
            per_address: total / 4,
            head: Duration::from_secs(5),
            idle: Duration::from_secs(90),
            answer: Duration::from_secs(30),
            held: 16 << 20,
        }
    }
}

/// Why a connection was closed by us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// Its address had the most that one may have, and opened another.
    Address,
    /// All were taken, its address had the most of them, and another came.
    Total,
    /// The process could open no more files.
    Files,
    /// The head of a request took too long.
    Head,
    /// It asked for nothing.
    Idle,
    /// It did not take its answers in time.
    Answer,
    /// Answers in flight kept too many bytes, and this one the longest.
    Memory,
}

impl CloseReason {
    /// Every reason, in the order of their numbers.
    pub const ALL: [Self; 7] = [
        Self::Address,
        Self::Total,
        Self::Files,
        Self::Head,
        Self::Idle,
        Self::Answer,
        Self::Memory,
    ];

    /// As a label's value.
    pub fn word(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Total => "total",
            Self::Files => "files",
            Self::Head => "head",
            Self::Idle => "idle",
            Self::Answer => "answer",
            Self::Memory => "memory",
        }
    }

    /// What the log says of the first; that a connection idles is nothing to report.
    fn told(self, limits: &SlotLimits) -> Option<String> {
        Some(match self {
            Self::Address => format!(
                "it has {} open, the most that one address may have; the oldest idle one goes for each new one",
                limits.per_address
            ),
            Self::Total => format!(
                "{} are open, the most in all; the oldest idle one of the address with the most goes for each \
                 new one",
                limits.total
            ),
            Self::Files => {
                "this process can open no more files; raise its limit (ulimit -n)".to_owned()
            }
            Self::Head => format!("it did not send the head of a request within {:?}", limits.head),
            Self::Answer => format!("it did not read its answers within {:?}", limits.answer),
            Self::Memory => format!(
                "answers that clients read slowly keep more than {} MiB in memory; the oldest goes",
                limits.held >> 20
            ),
            Self::Idle => return None,
        })
    }
}

/// What a connection does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Accepted, and nothing came.
    New,
    /// Answered, and nothing came since.
    Idle,
    /// A part of a request's head came.
    Head,
    /// A request is being answered, or an answer is not read yet.
    Busy,
}

const PHASES: [Phase; 4] = [Phase::New, Phase::Idle, Phase::Head, Phase::Busy];

/// One connection: its task reports here what it does, and the sweep reads it.
#[derive(Debug)]
pub struct Slot {
    start: Instant,
    /// Milliseconds from `start` to the phase's begin, times the phases, and the phase.
    state: AtomicU64,
    answering: AtomicBool,
    /// HTTP/2: bytes that come between requests are no request's head.
    framed: AtomicBool,
    unsent: AtomicBool,
    waiting: AtomicBool,
    page: AtomicUsize,
    length: AtomicUsize,
    cut: AtomicBool,
    end: Notify,
}

impl Slot {
    fn new(start: Instant) -> Self {
        let slot = Self {
            start,
            state: AtomicU64::new(0),
            answering: AtomicBool::new(false),
            framed: AtomicBool::new(false),
            unsent: AtomicBool::new(false),
            waiting: AtomicBool::new(false),
            page: AtomicUsize::new(0),
            length: AtomicUsize::new(0),
            cut: AtomicBool::new(false),
            end: Notify::new(),
        };
        slot.enter(Phase::New);
        slot
    }

    fn state(&self) -> (Phase, u64) {
        let state = self.state.load(Relaxed);
        let phases = PHASES.len() as u64;
        let phase = usize::try_from(state % phases).ok().and_then(|n| PHASES.get(n).copied());
        (phase.unwrap_or(Phase::New), state / phases)
    }

    fn set(&self, phase: Phase, since: u64) {
        self.state.store(since * PHASES.len() as u64 + phase as u64, Relaxed);
    }

    fn enter(&self, phase: Phase) {
        self.set(phase, millis(self.start.elapsed()));
    }

    /// Bytes came.
    pub fn received(&self) {
        self.waiting.store(false, Relaxed);
        match self.state() {
            // The time of a first head began with the accept.
            (Phase::New, since) => self.set(Phase::Head, since),
            (Phase::Idle, _) if !self.framed.load(Relaxed) => self.enter(Phase::Head),
            (Phase::Idle | Phase::Head | Phase::Busy, _) => {}
        }
    }

    /// From here on frames of HTTP/2 come, with acknowledgements and windows among the requests: between them the
    /// connection idles.
    pub fn speaks_frames(&self) {
        self.framed.store(true, Relaxed);
    }

    /// No bytes are there to be read.
    pub fn waits(&self) {
        self.waiting.store(true, Relaxed);
        self.settle();
    }

    /// Bytes of an answer are on their way.
    pub fn sends(&self) {
        self.unsent.store(true, Relaxed);
    }

    /// The kernel has all bytes of all answers so far.
    pub fn sent(&self) {
        self.unsent.store(false, Relaxed);
        self.settle();
    }

    /// A request's head is complete. Requests that come before the last answer was read have no new time.
    pub fn asked(&self) {
        self.answering.store(true, Relaxed);
        if self.state().0 != Phase::Busy {
            self.enter(Phase::Busy);
        }
    }

    /// Whether a request, or the answer to one, is on its way.
    pub fn is_busy(&self) -> bool {
        self.state().0 == Phase::Busy
    }

    /// An answer hands these bytes over.
    pub fn holds(&self, page: &[u8]) {
        let counted = page.len() >= COUNTED;
        self.page.store(if counted { page.as_ptr().addr() } else { 0 }, Relaxed);
        self.length.store(if counted { page.len() } else { 0 }, Relaxed);
    }

    /// An answer is complete, or given up.
    pub fn answered(&self) {
        self.answering.store(false, Relaxed);
        self.settle();
    }

    /// Idle again once nothing is asked, nothing is unsent and nothing more came.
    fn settle(&self) {
        let quiet = !self.answering.load(Relaxed) && !self.unsent.load(Relaxed);
        if quiet && self.waiting.load(Relaxed) && self.state().0 == Phase::Busy {
            self.length.store(0, Relaxed);
            self.enter(Phase::Idle);
        }
    }

    /// Resolves when the connection must end.
    pub async fn ended(&self) {
        self.end.notified().await;
    }

    /// Whether it was ended from here.
    pub fn was_cut(&self) -> bool {
        self.cut.load(Relaxed)
    }

    fn cut(&self) {
        self.cut.store(true, Relaxed);
        self.end.notify_one();
    }

    /// Whether it had its time, and for what.
    fn overdue(&self, now: u64, limits: &SlotLimits) -> Option<CloseReason> {
        let (phase, since) = self.state();
        let (limit, reason) = match phase {
            Phase::New => (limits.head, CloseReason::Idle),
            Phase::Idle => (limits.idle, CloseReason::Idle),
            Phase::Head => (limits.head, CloseReason::Head),
            Phase::Busy => (limits.answer, CloseReason::Answer),
        };
        (now.saturating_sub(since) >= millis(limit)).then_some(reason)
    }

    /// Who goes first: the smallest. What idles, before what is answered; but whoever has only just begun comes
    /// last, else slow readers would outlive every newcomer.
    fn rank(&self, now: u64) -> (bool, bool, u64) {
        let (phase, since) = self.state();
        (now.saturating_sub(since) < millis(GRACE), phase == Phase::Busy, since)
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX / 8)
}

/// All connections.
pub struct OpenConnections {
    limits: SlotLimits,
    start: Instant,
    counters: HttpCounters,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    next: u64,
    total: usize,
    by_address: HashMap<IpAddr, Vec<(u64, Arc<Slot>)>>,
    /// Of each reason: when a connection was closed for it last, and how many since it began.
    closing: [Option<(Instant, u64)>; CloseReason::ALL.len()],
}

/// A connection's place, given back when it is dropped.
pub struct Place {
    slots: Arc<OpenConnections>,
    address: IpAddr,
    id: u64,
    /// What its task reports to.
    pub slot: Arc<Slot>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.slots.lock();
        open.remove(self.address, self.id);
        self.slots.counters.open(open.total);
    }
}

/// Addresses of which one client may have many count as one.
pub(super) fn of_one(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64))),
        v4 => v4,
    }
}

impl Open {
    fn remove(&mut self, address: IpAddr, id: u64) -> Option<Arc<Slot>> {
        let of_address = self.by_address.get_mut(&address)?;
        let at = of_address.iter().position(|(i, _)| *i == id)?;
        let (_, slot) = of_address.swap_remove(at);
        if of_address.is_empty() {
            self.by_address.remove(&address);
        }
        self.total -= 1;
        Some(slot)
    }

    fn all(&self) -> impl Iterator<Item = (IpAddr, u64, &Arc<Slot>)> {
        self.by_address.iter().flat_map(|(a, of)| of.iter().map(|(id, slot)| (*a, *id, slot)))
    }

    /// Of the address, or of those that have the most: the one to go.
    fn victim(&self, address: Option<IpAddr>, now: u64) -> Option<(IpAddr, u64)> {
        let most = self.by_address.values().map(Vec::len).max()?;
        let meant = |a: IpAddr, of: usize| address.map_or(of == most, |wanted| wanted == a);
        let of = self.by_address.iter().filter(|(a, of)| meant(**a, of.len()));
        let each = of.flat_map(|(a, of)| of.iter().map(|(id, slot)| (slot.rank(now), *id, *a)));
        each.min().map(|(_, id, address)| (address, id))
    }
}

impl OpenConnections {
    /// No connections yet.
    pub fn new(limits: SlotLimits, counters: HttpCounters) -> Arc<Self> {
        counters.reasons(CloseReason::ALL.map(CloseReason::word));
        Arc::new(Self { limits, start: Instant::now(), counters, open: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        // Nothing in it is left half done by a panic.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        millis(self.start.elapsed())
    }

    /// A place for a new connection; another goes where there is none.
    pub fn admit(self: &Arc<Self>, address: IpAddr) -> Place {
        let address = of_one(address);
        let slot = Arc::new(Slot::new(self.start));
        let mut open = self.lock();
        let of_address = open.by_address.get(&address).map_or(0, Vec::len);
        let mut told = None;
        if of_address >= self.limits.per_address {
            let victim = open.victim(Some(address), self.now());
            told = self.close(&mut open, victim, CloseReason::Address);
        } else if open.total >= self.limits.total {
            let victim = open.victim(None, self.now());
            told = self.close(&mut open, victim, CloseReason::Total);
        }
        let id = open.next;
        open.next += 1;
        open.total += 1;
        open.by_address.entry(address).or_default().push((id, slot.clone()));
        self.counters.open(open.total);
        drop(open);
        tell(told);
        Place { slots: self.clone(), address, id, slot }
    }

    /// Ends one connection, since the process can open no more files. False where there is none.
    pub fn make_room(&self) -> bool {
        let mut open = self.lock();
        let victim = open.victim(None, self.now());
        let told = self.close(&mut open, victim, CloseReason::Files);
        drop(open);
        tell(told);
        victim.is_some()
    }

    /// Ends what had its time, and what keeps too much in memory.
    pub fn sweep(&self) {
        let now = self.now();
        let mut told = Vec::new();
        let mut open = self.lock();
        let overdue: Vec<_> = open
            .all()
            .filter_map(|(a, id, slot)| Some(((a, id), slot.overdue(now, &self.limits)?)))
            .collect();
        for (which, reason) in overdue {
            told.extend(self.close(&mut open, Some(which), reason));
        }
        for which in heavy(&open, &self.limits) {
            told.extend(self.close(&mut open, Some(which), CloseReason::Memory));
        }
        let calm = self.calmed(&mut open);
        drop(open);
        tell(told);
        for (reason, count) in calm {
            tracing::info!(reason, "closed {count} HTTP connections; none for {CALM:?}");
        }
    }

    /// Ends a connection; what to log of it, if it is the first for its reason.
    fn close(
        &self,
        open: &mut Open,
        which: Option<(IpAddr, u64)>,
        reason: CloseReason,
    ) -> Option<ToldClosings> {
        let mut from = None;
        if let Some((address, id)) = which
            && let Some(slot) = open.remove(address, id)
        {
            slot.cut();
            self.counters.closed(reason.word());
            self.counters.open(open.total);
            from = Some(address);
        }
        let text = reason.told(&self.limits)?;
        let closing = open.closing.get_mut(reason as usize)?;
        let count = closing.map_or(0, |(_, count)| count) + u64::from(from.is_some());
        let first = closing.replace((Instant::now(), count)).is_none();
        first.then_some(ToldClosings { reason, from, text })
    }

    /// The reasons that are over, with how many connections they cost.
    fn calmed(&self, open: &mut Open) -> Vec<(&'static str, u64)> {
        let mut over = Vec::new();
        for (reason, closing) in CloseReason::ALL.iter().zip(&mut open.closing) {
            if closing.is_some_and(|(last, _)| last.elapsed() >= CALM)
                && let Some((_, count)) = closing.take()
            {
                over.push((reason.word(), count));
            }
        }
        over
    }
}

/// The oldest of the answers in flight, as many as must go so that the rest keeps few enough bytes.
fn heavy(open: &Open, limits: &SlotLimits) -> Vec<(IpAddr, u64)> {
    let mut pages: HashMap<usize, (usize, usize)> = HashMap::new();
    let mut readers = Vec::new();
    for (address, id, slot) in open.all() {
        let (page, length) = (slot.page.load(Relaxed), slot.length.load(Relaxed));
        if length > 0 {
            pages.entry(page).or_insert((length, 0)).1 += 1;
            readers.push((slot.state().1, id, address, page));
        }
    }
    let mut held: usize = pages.values().map(|(length, _)| length).sum();
    readers.sort_unstable();
    let mut go = Vec::new();
    for (_, id, address, page) in readers {
        if held <= limits.held || pages.len() <= PAGES {
            break;
        }
        go.push((address, id));
        if let Some((length, readers)) = pages.get_mut(&page) {
            *readers -= 1;
            if *readers == 0 {
                held -= *length;
                pages.remove(&page);
            }
        }
    }
    go
}

/// What the log says when connections begin to be closed for a reason.
struct ToldClosings {
    reason: CloseReason,
    from: Option<IpAddr>,
    text: String,
}

fn tell(told: impl IntoIterator<Item = ToldClosings>) {
    for ToldClosings { reason, from, text } in told {
        let from = from.map(tracing::field::display);
        tracing::warn!(reason = reason.word(), from, "closing an HTTP connection: {text}");
    }
}

#[cfg(test)]
mod tests;
