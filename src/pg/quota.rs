//! How many connections of one target its servers hold, those that we gave up included: a backend
//! that hangs behind a lock ends when it likes, not when we do.
//!
//! Must not: forget a connection whose other end may still be there.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::degrade::MissingParts;

/// Connections that one server may hold of us.
const MOST: usize = 2;

/// Where a connection leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Destination {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// The places of one target, shared by its workers: two for each server. With them goes what its sessions found to be
/// missing on it.
#[derive(Clone)]
pub struct Quota {
    shared: Arc<QuotaShared>,
    missing: Arc<MissingParts>,
    second: bool,
}

struct QuotaShared {
    held: Mutex<HeldPlaces>,
    /// Counts the places that became free.
    freed: watch::Sender<u64>,
    /// Whether the first worker needs the place of the second.
    claimed: watch::Sender<bool>,
}

#[derive(Default)]
struct HeldPlaces {
    next: u64,
    places: Vec<QuotaPlace>,
}

struct QuotaPlace {
    id: u64,
    peer: Destination,
    second: bool,
    left: bool,
}

/// No place is free; how many are held by connections that were given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full(pub(super) usize);

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(left) = self;
        write!(f, "{left} of {MOST} connections were given up, and the server has not closed them")
    }
}

impl std::error::Error for Full {}

impl Default for Quota {
    fn default() -> Self {
        let shared = Arc::new(QuotaShared {
            held: Mutex::default(),
            freed: watch::Sender::new(0),
            claimed: watch::Sender::new(false),
        });
        Self { shared, missing: Arc::default(), second: false }
    }
}

impl Quota {
    /// The same places for the second worker, which leaves one to the first even while that has none.
    pub fn for_second(&self) -> Self {
        Self { shared: self.shared.clone(), missing: self.missing.clone(), second: true }
    }

    /// What is missing on the servers of the target.
    pub(super) fn missing(&self) -> Arc<MissingParts> {
        self.missing.clone()
    }

    /// A place at `peer`. All addresses that one name has count as one server.
    pub(super) fn take(&self, peer: &Destination, all: &[Destination]) -> Result<Ticket, Full> {
        let mut held = self.shared.held();
        let there = || held.places.iter().filter(|p| all.contains(&p.peer));
        let reserved = |p: &&QuotaPlace| !self.second || p.second || p.left;
        if there().filter(reserved).count() + usize::from(self.second) >= MOST {
            return Err(Full(there().filter(|p| p.left).count()));
        }
        let id = held.next;
        held.next += 1;
        held.places.push(QuotaPlace { id, peer: peer.clone(), second: self.second, left: false });
        Ok(Ticket { id, shared: self.shared.clone() })
    }

    /// Changes whenever a place becomes free.
    pub fn freed(&self) -> watch::Receiver<u64> {
        self.shared.freed.subscribe()
    }

    /// Asks the second worker for its place, or gives it back.
    pub fn claim(&self, claimed: bool) {
        self.shared.claimed.send_if_modified(|was| std::mem::replace(was, claimed) != claimed);
    }

    /// Whether the first worker asks for the second one's place.
    pub fn claimed(&self) -> watch::Receiver<bool> {
        self.shared.claimed.subscribe()
    }

    /// Connections that were given up and whose other end is still there.
    pub fn left_behind(&self) -> usize {
        self.shared.held().places.iter().filter(|p| p.left).count()
    }
}

impl QuotaShared {
    /// Plain data: nothing to repair after a panic.
    fn held(&self) -> MutexGuard<'_, HeldPlaces> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place, until it is dropped.
pub(super) struct Ticket {
    id: u64,
    shared: Arc<QuotaShared>,
}

impl Ticket {
    /// The connection was given up, and its other end is still there.
    pub(super) fn leave(&self) {
        if let Some(place) = self.shared.held().places.iter_mut().find(|p| p.id == self.id) {
            place.left = true;
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.shared.held().places.retain(|p| p.id != self.id);
        self.shared.freed.send_modify(|freed| *freed += 1);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn the_second_worker_leaves_a_place_to_the_first() {
        let first = Quota::default();
        let second = first.for_second();
        let all = [Destination::Unix("/run/.s.PGSQL.5432".into())];
        let take = |quota: &Quota| quota.take(&all[0], &all);
        let held = take(&second).unwrap();
        assert!(take(&second).is_err(), "one for itself");
        let kept = take(&first).unwrap();
        assert!(take(&first).is_err());
        held.leave();
        assert_eq!(take(&second).err(), Some(Full(1)), "what it gave up is its place");
        drop(kept);
        assert_eq!(take(&second).err(), Some(Full(1)), "the free one is the first worker's");
        assert!(take(&first).is_ok());
    }

    #[test]
    fn two_places_a_server_whatever_its_addresses_and_those_given_up_count() {
        let quota = Quota::default();
        let peer = |last| Destination::Tcp(SocketAddr::from(([127, 0, 0, last], 5432)));
        let (a, b, other) = (peer(1), peer(2), peer(3));
        let both = [a.clone(), b.clone()];
        let first = quota.take(&a, &both).unwrap();
        let second = quota.take(&b, &both).unwrap();
        assert_eq!(quota.take(&a, &both).err(), Some(Full(0)));
        first.leave();
        assert_eq!(quota.take(&b, &both).err(), Some(Full(1)));
        assert_eq!(quota.left_behind(), 1);
        assert!(quota.take(&other, std::slice::from_ref(&other)).is_ok(), "another server");
        let mut freed = quota.freed();
        freed.mark_unchanged();
        drop(first);
        assert!(freed.has_changed().unwrap());
        assert!(quota.take(&a, &both).is_ok());
        drop(second);
    }
}
