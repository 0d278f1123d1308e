//! What the last hour has shown of a PgBouncer, for the rules of `findings`.
//!
//! Must not: keep anything for each look (there are hundreds an hour, and thousands of pools): what was
//! seen is kept in slots of five minutes, and a slot is forgotten as a whole.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::metrics::{MICROSECOND, POOL_LABELS, POOLS};
use super::{ConsoleDatabases, Rows, grouped, keyed, longest_waits, number, text, user_pool_sizes};
use crate::derive::delta::increment;
use crate::findings::{Pool, PoolMode, Pooler, Queue, Reported, Work};

/// Seconds of one slot, and how many are kept, the one that fills among them.
const SLOT: f64 = 300.0;
const SLOTS: f64 = 12.0;
/// PgBouncer's own database, which has no server.
const CONSOLE: &str = "pgbouncer";

/// What was seen, by slot.
#[derive(Debug, Clone)]
struct Hour<T>(VecDeque<(f64, T)>);

impl<T> Default for Hour<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<T: Default> Hour<T> {
    /// Adds to a slot; slots only go forward.
    fn add(&mut self, slot: f64, what: impl FnOnce(&mut T)) {
        match self.0.back_mut() {
            Some((last, seen)) if *last >= slot => what(seen),
            _ => {
                let mut seen = T::default();
                what(&mut seen);
                self.0.push_back((slot, seen));
            }
        }
    }

    fn forget(&mut self, slot: f64) {
        while self.0.front().is_some_and(|(first, _)| *first <= slot - SLOTS) {
            self.0.pop_front();
        }
    }

    fn each(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|(_, seen)| seen)
    }
}

/// Of a pool.
#[derive(Debug, Clone, Default)]
struct PoolSeen {
    looks: f64,
    /// Most server connections in use at once.
    peak: f64,
    waiting: f64,
    wait: f64,
    /// As of [`Pool`].
    queue: Queue,
    limited: Queue,
}

/// Of a database.
#[derive(Debug, Clone, Default)]
struct Worked {
    /// Server connections held by clients, transactions and their microseconds since PgBouncer began
    /// to count, at the last look.
    last: Option<[f64; 3]>,
    hour: Hour<Work>,
}

/// Evidence of the last hour.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// When watching began.
    since: Option<f64>,
    /// The last look.
    last: Option<f64>,
    pools: BTreeMap<[String; 2], Hour<PoolSeen>>,
    databases: BTreeMap<String, Worked>,
    clients: Hour<f64>,
    /// What the rules found of that.
    pub(super) reported: Arc<[Reported]>,
}

impl State {
    /// Takes a look, and gives what those of the last hour have shown.
    pub fn facts(&mut self, rows: &Rows) -> Pooler {
        let slot = (rows.at / SLOT).floor();
        let since = *self.since.get_or_insert(rows.at);
        let databases = ConsoleDatabases::of(&rows.databases);
        let now = shown(rows, &databases);
        for (key, pool) in now.iter().flatten() {
            let hour = self.pools.entry(key.clone()).or_default();
            hour.add(slot, |seen| seen.take(pool, rows.longest_wait));
        }
        self.work(rows, now.as_ref(), slot);
        let clients = keyed(&rows.lists).get("used_clients").copied();
        if let Some(now) = clients {
            self.clients.add(slot, |most| *most = most.max(now));
        }
        self.forget(slot);
        self.last = Some(rows.at);
        let pools = now.map(|now| now.iter().map(|(key, pool)| self.pool(key, pool)).collect());
        Pooler {
            span: rows.at - since.max((slot - SLOTS + 1.0) * SLOT),
            wait_objective: Some(rows.longest_wait),
            pools,
            work: self.databases.iter().map(|(name, w)| (name.clone(), w.sum())).collect(),
            limits: databases.limits,
            clients: clients.map(|_| self.clients.each().copied().fold(0.0, f64::max)),
            settings: keyed(&rows.config).into_iter().map(|(k, v)| (k.to_owned(), v)).collect(),
        }
    }

    /// Adds up what the connections of each database did since the last look.
    fn work(&mut self, rows: &Rows, pools: Option<&ShownPools>, slot: f64) {
        let mut held: BTreeMap<&str, f64> = BTreeMap::new();
        for ([database, _], pool) in pools.into_iter().flatten() {
            *held.entry(database).or_default() += pool.held;
        }
        let table = &rows.totals;
        let [name, count, time] = ["database", "xact_count", "xact_time"].map(|c| table.column(c));
        let mut totals: BTreeMap<String, [f64; 2]> = BTreeMap::new();
        for row in &table.rows {
            if let (Some(count), Some(time)) = (number(row, count), number(row, time)) {
                let sums = totals.entry(text(row, name)).or_default();
                *sums = [sums[0] + count, sums[1] + time];
            }
        }
        for (database, worked) in &mut self.databases {
            if !totals.contains_key(database) {
                worked.last = None;
            }
        }
        for (database, [count, time]) in totals {
            let held = held.get(database.as_str()).copied().unwrap_or(0.0);
            let worked = self.databases.entry(database).or_default();
            let (before, now) = (worked.last, [held, count, time]);
            worked.last = Some(now);
            let Some((before, last)) = before.zip(self.last) else { continue };
            let (count, time) = (increment(before[1], now[1]), increment(before[2], now[2]));
            // PgBouncer began anew: what its connections did meanwhile is not known.
            if count.reset || time.reset {
                continue;
            }
            worked.hour.add(slot, |sum| {
                sum.held += (before[0] + held) / 2.0 * (rows.at - last);
                sum.count += count.by;
                sum.transactions += time.by * MICROSECOND;
            });
        }
    }

    fn forget(&mut self, slot: f64) {
        self.clients.forget(slot);
        self.pools.retain(|_, hour| {
            hour.forget(slot);
            !hour.0.is_empty()
        });
        self.databases.retain(|_, worked| {
            worked.hour.forget(slot);
            !worked.hour.0.is_empty() || worked.last.is_some()
        });
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.pools.is_empty() && self.databases.is_empty()
    }

    fn pool(&self, [database, user]: &[String; 2], now: &PoolNow) -> Pool {
        let mut pool = Pool {
            database: database.clone(),
            user: user.clone(),
            mode: now.mode,
            size: now.size,
            ..Pool::default()
        };
        let key = [database.clone(), user.clone()];
        for seen in self.pools.get(&key).into_iter().flat_map(Hour::each) {
            pool.looks += seen.looks;
            pool.peak = pool.peak.max(seen.peak);
            pool.waiting = pool.waiting.max(seen.waiting);
            pool.wait = pool.wait.max(seen.wait);
            pool.queue = both(pool.queue, seen.queue);
            pool.limited = both(pool.limited, seen.limited);
        }
        pool
    }
}

impl PoolSeen {
    fn take(&mut self, pool: &PoolNow, objective: f64) {
        self.looks += 1.0;
        self.peak = self.peak.max(pool.in_use);
        self.waiting = self.waiting.max(pool.waiting);
        self.wait = self.wait.max(pool.wait);
        if pool.waiting <= 0.0 || pool.wait <= objective || pool.paused {
            return;
        }
        let now = Queue { looks: 1.0, longest: pool.wait, demand: pool.in_use + pool.waiting };
        if pool.size.is_some_and(|size| pool.in_use >= size) {
            self.queue = both(self.queue, now);
        } else if pool.limited {
            self.limited = both(self.limited, now);
        }
    }
}

fn both(a: Queue, b: Queue) -> Queue {
    Queue {
        looks: a.looks + b.looks,
        longest: a.longest.max(b.longest),
        demand: a.demand.max(b.demand),
    }
}

impl Worked {
    fn sum(&self) -> Work {
        self.hour.each().fold(Work::default(), |sum, work| Work {
            held: sum.held + work.held,
            transactions: sum.transactions + work.transactions,
            count: sum.count + work.count,
        })
    }
}

/// A pool as it is now.
struct PoolNow {
    mode: Option<PoolMode>,
    size: Option<f64>,
    /// Server connections that have a client.
    held: f64,
    /// Those that no waiting client can have because others use them or have just done so. One that
    /// logs in is not among them: where that takes long, it is not for want of connections.
    in_use: f64,
    waiting: f64,
    /// Longest wait in seconds.
    wait: f64,
    paused: bool,
    /// Whether its database may have no more server connections.
    limited: bool,
}

type ShownPools = BTreeMap<[String; 2], PoolNow>;

/// The pools but for the console's own; `None` where the columns are not there.
fn shown(rows: &Rows, databases: &ConsoleDatabases) -> Option<ShownPools> {
    let table = &rows.pools;
    for needed in ["database", "user", "sv_active", "cl_waiting", "maxwait"] {
        table.column(needed)?;
    }
    let (database, user, mode) =
        (table.column("database"), table.column("user"), table.column("pool_mode"));
    let mut modes = BTreeMap::new();
    for row in &table.rows {
        modes.insert([text(row, database), text(row, user)], PoolMode::named(&text(row, mode)));
    }
    let (of_users, waits) = (user_pool_sizes(&rows.users), longest_waits(table));
    let mut shown = ShownPools::new();
    for (labels, values) in grouped(table, POOL_LABELS, POOLS) {
        let Ok(key) = <[String; 2]>::try_from(labels) else { continue };
        let [database, user] = &key;
        if database == CONSOLE {
            continue;
        }
        let value = |name: &str| {
            let place = POOLS.iter().position(|c| c.name == name);
            place.and_then(|i| values.get(i).copied().flatten()).unwrap_or(0.0)
        };
        let held = value("sv_active");
        let now = PoolNow {
            mode: modes.get(&key).copied().flatten(),
            size: of_users.get(user).or(databases.pool_sizes.get(database)).copied(),
            held,
            in_use: held + value("sv_being_canceled") + value("sv_tested"),
            waiting: value("cl_waiting"),
            wait: waits.get(&key).copied().unwrap_or(0.0),
            paused: databases.paused.contains(database),
            limited: databases.connections.get(database).is_some_and(|used| *used >= 1.0),
        };
        shown.insert(key, now);
    }
    Some(shown)
}
