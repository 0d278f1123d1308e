//! Who may ask: HTTP Basic against bcrypt hashes, at a cost that is bounded whoever asks.
//!
//! A password that was right costs no second hash, and neither does one that was wrong. What has to be hashed is
//! hashed one at a time on a thread that blocks nobody; who fails too often waits, and the unknown user costs what
//! a known one does.
//!
//! Must not: log, keep or show a password or a user's name (people type passwords there).

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::http::HeaderValue;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bcrypt::HashParts;
use ring::hmac;
use ring::rand::SystemRandom;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::slots::of_one;
use crate::config::Secret;
use crate::config::web_file::PlacedValue;
use crate::error::ConfigError;

/// Passwords that one address may get wrong at once, and how long each counts.
const FAILURES: f64 = 10.0;
const EACH: Duration = Duration::from_millis(500);
/// Addresses whose failures are counted apart; those beyond share one count.
const ADDRESSES: usize = 4096;
/// Wrong passwords that are remembered, so that a scraper with an old one costs no hash.
const REMEMBERED: usize = 1024;
/// Requests that may wait for their turn, and for how long.
const WAITING: usize = 32;
const PATIENCE: Duration = Duration::from_secs(5);
/// The log says of the first failure, and of those after it once so much time has passed.
const CALM: Duration = Duration::from_secs(60);

/// Who asks, by the connection.
#[derive(Clone)]
pub(super) struct Peer {
    pub(super) address: IpAddr,
    /// Whether a password was wrong on this connection.
    pub(super) failed: Arc<AtomicBool>,
}

/// What comes of a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PasswordVerdict {
    /// It is right.
    Right,
    /// It is wrong, or the user is.
    Wrong,
    /// Nobody looked: too many were wrong before, or too many wait.
    Later,
}

/// The users of one reading of the file.
pub(super) struct Users {
    hashes: BTreeMap<String, Secret>,
    key: hmac::Key,
    /// What was sent by whom when it was right, by the user.
    right: Mutex<HashMap<String, hmac::Tag>>,
    /// What was wrong, the oldest first.
    wrong: Mutex<VecDeque<hmac::Tag>>,
}

impl Users {
    /// The users with their hashes. What was right before stays so for those whose hash did not change.
    ///
    /// # Errors
    /// A hash that is none.
    pub(super) fn new(
        users: &BTreeMap<String, PlacedValue<Secret>>,
        before: Option<&Self>,
    ) -> Result<Self, ConfigError> {
        for hash in users.values() {
            if hash.value.expose().parse::<HashParts>().is_err() {
                let remedy = "make it with `htpasswd -nBC 10 \"\"`";
                return Err(ConfigError::new(
                    &hash.place,
                    "the password is no bcrypt hash",
                    remedy,
                ));
            }
        }
        let hashes: BTreeMap<String, Secret> =
            users.iter().map(|(user, hash)| (user.clone(), hash.value.clone())).collect();
        let key = match before {
            Some(before) => before.key.clone(),
            None => hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).map_err(|_| {
                ConfigError::new(
                    "the system's random numbers",
                    "cannot be had",
                    "see the system's log",
                )
            })?,
        };
        let right = before.map(|before| {
            let same = |user: &String| before.hashes.get(user) == hashes.get(user);
            let right = lock(&before.right);
            right.iter().filter(|(user, _)| same(user)).map(|(u, t)| (u.clone(), *t)).collect()
        });
        Ok(Self {
            hashes,
            key,
            right: Mutex::new(right.unwrap_or_default()),
            wrong: Mutex::default(),
        })
    }

    /// Whether nobody needs a password.
    pub(super) fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    /// Stands for a user with this password, and says nothing of either.
    fn tag(&self, user: &str, password: &[u8]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(&user.len().to_le_bytes());
        context.update(user.as_bytes());
        context.update(password);
        context.sign()
    }

    /// What is known of a password without a hash.
    fn known(&self, user: &str, tag: &hmac::Tag) -> Option<bool> {
        if lock(&self.right).get(user).is_some_and(|right| same(right, tag)) {
            return Some(true);
        }
        lock(&self.wrong).iter().any(|wrong| same(wrong, tag)).then_some(false)
    }

    fn learn(&self, user: String, tag: hmac::Tag, right: bool) {
        if right {
            lock(&self.right).insert(user, tag);
            return;
        }
        let mut wrong = lock(&self.wrong);
        if wrong.len() >= REMEMBERED {
            wrong.pop_front();
        }
        wrong.push_back(tag);
    }

    /// A user's hash. For one who is not there that of another, always the same: it costs what the others cost.
    fn hash(&self, user: &str) -> Option<Secret> {
        if let Some(hash) = self.hashes.get(user) {
            return Some(hash.clone());
        }
        let tag = self.tag(user, b"decoy");
        let number = tag
            .as_ref()
            .iter()
            .fold(0_usize, |n, byte| n.wrapping_mul(31).wrapping_add(usize::from(*byte)));
        self.hashes.values().nth(number % self.hashes.len().max(1)).cloned()
    }
}

/// Both are of our making, so nobody outside can approach one by the other; constant in time all the same.
fn same(one: &hmac::Tag, other: &hmac::Tag) -> bool {
    one.as_ref().iter().zip(other.as_ref()).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing behind them is left half done by a panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps what failures cost within bounds, whatever file the users come from.
pub(super) struct PasswordGuard {
    /// One hash at a time.
    turns: Arc<Semaphore>,
    /// Requests that may wait for it.
    places: Semaphore,
    failures: Mutex<Failures>,
    told: Mutex<Option<(Instant, u64)>>,
}

#[derive(Default)]
struct Failures {
    by_address: HashMap<IpAddr, Bucket>,
    others: Bucket,
}

/// Failures that count still, as of an instant.
#[derive(Clone, Copy, Default)]
struct Bucket {
    count: f64,
    at: Option<Instant>,
}

impl Bucket {
    fn now(&self, now: Instant) -> f64 {
        let past = self.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        (self.count - past.as_secs_f64() / EACH.as_secs_f64()).max(0.0)
    }

    fn add(&mut self, by: f64, now: Instant) {
        *self = Self { count: (self.now(now) + by).max(0.0), at: Some(now) };
    }
}

impl Failures {
    fn of(&mut self, address: IpAddr, now: Instant) -> &mut Bucket {
        if self.by_address.len() >= ADDRESSES && !self.by_address.contains_key(&address) {
            self.by_address.retain(|_, bucket| bucket.now(now) > 0.0);
            if self.by_address.len() >= ADDRESSES {
                return &mut self.others;
            }
        }
        self.by_address.entry(address).or_default()
    }

    /// Counts one ahead, if there is room for it.
    fn take(&mut self, address: IpAddr) -> bool {
        let now = Instant::now();
        let bucket = self.of(address, now);
        let room = bucket.now(now) + 1.0 <= FAILURES;
        if room {
            bucket.add(1.0, now);
        }
        room
    }

    fn give_back(&mut self, address: IpAddr) {
        let now = Instant::now();
        self.of(address, now).add(-1.0, now);
    }
}

impl PasswordGuard {
    pub(super) fn new() -> Self {
        Self {
            turns: Arc::new(Semaphore::new(1)),
            places: Semaphore::new(WAITING),
            failures: Mutex::default(),
            told: Mutex::default(),
        }
    }

    /// Judges what a client sent in `Authorization`.
    pub(super) async fn judge(
        &self,
        users: &Arc<Users>,
        header: &HeaderValue,
        peer: &Peer,
    ) -> PasswordVerdict {
        let Some((user, password)) = basic(header) else { return PasswordVerdict::Wrong };
        let verdict = self.verdict(users, user, password, peer).await;
        if verdict != PasswordVerdict::Right {
            peer.failed.store(true, Relaxed);
            self.tell(peer.address, verdict);
        }
        verdict
    }

    async fn verdict(
        &self,
        users: &Arc<Users>,
        user: String,
        password: Vec<u8>,
        peer: &Peer,
    ) -> PasswordVerdict {
        let of = |right| if right { PasswordVerdict::Right } else { PasswordVerdict::Wrong };
        let tag = users.tag(&user, &password);
        if let Some(right) = users.known(&user, &tag) {
            return of(right);
        }
        let Ok(_place) = self.places.try_acquire() else { return PasswordVerdict::Later };
        let address = of_one(peer.address);
        if !self.may_try(address, peer).await {
            return PasswordVerdict::Later;
        }
        let turn = match timeout(PATIENCE, self.turns.clone().acquire_owned()).await {
            Ok(Ok(turn)) => turn,
            _ => {
                lock(&self.failures).give_back(address);
                return PasswordVerdict::Later;
            }
        };
        // Others may have sent the same while it waited.
        if let Some(right) = users.known(&user, &tag) {
            lock(&self.failures).give_back(address);
            return of(right);
        }
        let (hash, for_hash) = (users.hash(&user), users.clone());
        let right = tokio::task::spawn_blocking(move || {
            let hash = hash.as_ref().map_or("", Secret::expose);
            let fits = bcrypt::verify(&password, hash).unwrap_or(false);
            let right = fits && for_hash.hashes.contains_key(&user);
            for_hash.learn(user, tag, right);
            // Held until here even if the client is gone: that frees no thread.
            drop(turn);
            right
        });
        let right = right.await.unwrap_or(false);
        if right {
            lock(&self.failures).give_back(address);
        }
        of(right)
    }

    /// Whether an address may be wrong once more. A connection that was not wrong yet waits for it, so that a
    /// scraper behind the same address gets its turn.
    async fn may_try(&self, address: IpAddr, peer: &Peer) -> bool {
        let end = Instant::now() + PATIENCE;
        loop {
            if lock(&self.failures).take(address) {
                return true;
            }
            if peer.failed.load(Relaxed) || Instant::now() >= end {
                return false;
            }
            sleep(EACH / 10).await;
        }
    }

    fn tell(&self, address: IpAddr, verdict: PasswordVerdict) {
        let mut told = lock(&self.told);
        let count = told.map_or(0, |(_, count)| count) + 1;
        if told.is_some_and(|(last, _)| last.elapsed() < CALM) {
            *told = told.map(|(last, _)| (last, count));
            return;
        }
        *told = Some((Instant::now(), 0));
        drop(told);
        let what = if verdict == PasswordVerdict::Later {
            "too many wrong passwords"
        } else {
            "a wrong user or password"
        };
        tracing::warn!(from = %address, "HTTP: {what}; {count} since the last such line");
    }
}

/// User and password of a `Basic` header.
fn basic(header: &HeaderValue) -> Option<(String, Vec<u8>)> {
    let (scheme, rest) = header.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = STANDARD.decode(rest.trim()).ok()?;
    let colon = text.iter().position(|byte| *byte == b':')?;
    let user = String::from_utf8(text.get(..colon)?.to_vec()).ok()?;
    Some((user, text.get(colon + 1..)?.to_vec()))
}

#[cfg(test)]
mod tests;
