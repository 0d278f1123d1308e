//! A dozen figures of each target, one point a minute, remembered for an hour: so that the first look at a target has
//! plots where no Prometheus is. 12 series of 60 points of 4 bytes are 2,880 bytes a target, and about 3.3 kB with what
//! holds them; nothing else is remembered.
//!
//! Must not: grow with the number of databases, tables or statements, or read a clock.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use super::figure::Measure;
use super::read::{Around, FigureOrigin, PLAIN, RATE, Reader};
use crate::collectors::cache::{Commits, HitRatio, TemporaryBytes};
use crate::collectors::connections::{OldestTransaction, Sessions, Used};
use crate::collectors::locks::LongestLockWait;
use crate::collectors::partitions::published::RunwayLeft;
use crate::collectors::pgbouncer::published::{PoolClients, PoolMaxWait, PoolWaiting};
use crate::collectors::statements::published::{QueryDuration, QueryLatency, SlowRatio};
use crate::collectors::wal::WalBytes;

/// Points of a series.
pub const POINTS: usize = 60;
/// Seconds between two points.
pub const STEP: f64 = 60.0;
/// Series of a target.
pub const SERIES: usize = 12;

/// How a point follows from what was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PointKind {
    /// As it is.
    Gauge,
    /// The increase by the second since the point before.
    Rate,
}

/// What is remembered: label, unit, kind.
const KEPT: [(&str, Measure, PointKind); SERIES] = [
    ("Calls", Measure::PerSecond, PointKind::Rate),
    ("p95", Measure::Seconds, PointKind::Gauge),
    ("Over objective", Measure::Ratio, PointKind::Gauge),
    ("Active sessions", Measure::Count, PointKind::Gauge),
    ("Cache hits", Measure::Ratio, PointKind::Gauge),
    ("Connections", Measure::Count, PointKind::Gauge),
    ("WAL", Measure::BytesPerSecond, PointKind::Rate),
    ("Temporary files", Measure::BytesPerSecond, PointKind::Rate),
    ("Transactions", Measure::PerSecond, PointKind::Rate),
    ("Oldest transaction", Measure::Seconds, PointKind::Gauge),
    ("Wait for a lock", Measure::Seconds, PointKind::Gauge),
    ("Shortest runway", Measure::Seconds, PointKind::Gauge),
];

/// Of a pooler, in the places of those.
const KEPT_OF_POOLER: [(usize, &str, Measure); 3] = [
    (0, "Clients", Measure::Count),
    (1, "Clients that wait", Measure::Count),
    (2, "Longest wait", Measure::Seconds),
];

/// One target's hour.
#[derive(Debug, Clone)]
pub struct RememberedHour {
    /// A ring; NaN where nothing was known.
    points: Box<[[f32; POINTS]; SERIES]>,
    /// Where the next point goes.
    next: usize,
    /// Points that were taken, at most all.
    taken: usize,
    /// Counters at the last point.
    counters: [f64; SERIES],
    /// Unix seconds of the last point.
    at: f64,
    pooler: bool,
}

/// One series as it is shown.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HourSeries {
    /// What it is.
    pub label: &'static str,
    /// Of its points.
    pub unit: Measure,
    /// One a minute, the oldest first; null where nothing was known.
    pub points: Vec<Option<f32>>,
    /// Where it comes from.
    pub origin: FigureOrigin,
}

fn sum(values: impl Iterator<Item = f64>) -> Option<f64> {
    values.fold(None, |sum, v| Some(sum.unwrap_or(0.0) + v))
}

fn most(values: impl Iterator<Item = f64>) -> Option<f64> {
    values.reduce(f64::max)
}

/// What is read for a point.
fn reading(reader: &Reader<'_>) -> [Option<f64>; SERIES] {
    let window = |w: &str| w == "1m";
    [
        sum(reader.all::<QueryDuration<'_>>().map(|s| s.histogram.count as f64)),
        most(
            reader
                .all::<QueryLatency<'_>>()
                .filter(|s| s.quantile == "0.95" && window(s.window))
                .map(|s| s.seconds),
        ),
        most(reader.all::<SlowRatio<'_>>().filter(|s| window(s.window)).map(|s| s.ratio)),
        sum(reader.all::<Sessions<'_>>().filter(Sessions::are_active).map(|s| s.count)),
        reader.all::<HitRatio<'_>>().map(|s| s.ratio).reduce(f64::min),
        reader.first::<Used<'_>>().map(|s| s.connections),
        reader.first::<WalBytes<'_>>().map(|s| s.bytes),
        sum(reader.all::<TemporaryBytes<'_>>().map(|s| s.bytes)),
        sum(reader.all::<Commits<'_>>().map(|s| s.count)),
        most(reader.all::<OldestTransaction<'_>>().map(|s| s.seconds)),
        most(reader.all::<LongestLockWait<'_>>().map(|s| s.seconds)),
        reader.all::<RunwayLeft<'_>>().map(|s| s.value).reduce(f64::min).filter(|s| s.is_finite()),
    ]
}

/// The same of a pooler.
fn pooler_reading(reader: &Reader<'_>) -> [Option<f64>; SERIES] {
    let mut all = [None; SERIES];
    all[0] = sum(reader.all::<PoolClients<'_>>().map(|s| s.count));
    all[1] = sum(reader.all::<PoolWaiting<'_>>().map(|s| s.count));
    all[2] = most(reader.all::<PoolMaxWait<'_>>().map(|s| s.seconds));
    all
}

fn origin(reader: &Reader<'_>, series: usize) -> FigureOrigin {
    const SUM_RATE: Around = ["sum(rate(", "[5m]))"];
    const SUM: Around = ["sum(", ")"];
    const MAX: Around = ["max(", ")"];
    const MIN: Around = ["min(", ")"];
    match series {
        0 => {
            let mut origin = reader.origin::<QueryDuration<'_>>(None, SUM_RATE);
            // The histogram's own series of calls.
            origin.promql =
                origin.promql.replacen(&origin.metric, &format!("{}_count", origin.metric), 1);
            origin
        }
        1 => reader.origin::<QueryLatency<'_>>(None, MAX),
        2 => reader.origin::<SlowRatio<'_>>(None, MAX),
        3 => reader.origin::<Sessions<'_>>(None, SUM),
        4 => reader.origin::<HitRatio<'_>>(None, MIN),
        5 => reader.origin::<Used<'_>>(None, PLAIN),
        6 => reader.origin::<WalBytes<'_>>(None, RATE),
        7 => reader.origin::<TemporaryBytes<'_>>(None, SUM_RATE),
        8 => reader.origin::<Commits<'_>>(None, SUM_RATE),
        9 => reader.origin::<OldestTransaction<'_>>(None, MAX),
        10 => reader.origin::<LongestLockWait<'_>>(None, MAX),
        _ => reader.origin::<RunwayLeft<'_>>(None, MIN),
    }
}

fn pooler_origin(reader: &Reader<'_>, series: usize) -> FigureOrigin {
    match series {
        0 => reader.origin::<PoolClients<'_>>(None, ["sum(", ")"]),
        1 => reader.origin::<PoolWaiting<'_>>(None, ["sum(", ")"]),
        _ => reader.origin::<PoolMaxWait<'_>>(None, ["max(", ")"]),
    }
}

impl RememberedHour {
    fn new(pooler: bool) -> Self {
        Self {
            points: Box::new([[f32::NAN; POINTS]; SERIES]),
            next: 0,
            taken: 0,
            counters: [f64::NAN; SERIES],
            at: f64::NAN,
            pooler,
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "seven digits are enough for a plot")]
    fn take(&mut self, now: f64, reading: [Option<f64>; SERIES]) {
        let passed = now - self.at;
        for (series, value) in reading.into_iter().enumerate() {
            let value = value.unwrap_or(f64::NAN);
            let rate = !self.pooler && KEPT[series].2 == PointKind::Rate;
            let point = if rate {
                let before = std::mem::replace(&mut self.counters[series], value);
                // A counter that fell began anew, and nobody knows where.
                if value >= before && passed > 0.0 { (value - before) / passed } else { f64::NAN }
            } else {
                value
            };
            self.points[series][self.next] = point as f32;
        }
        (self.next, self.at) = ((self.next + 1) % POINTS, now);
        self.taken = (self.taken + 1).min(POINTS);
    }

    fn series(&self, series: usize) -> Vec<Option<f32>> {
        let first = (self.next + POINTS - self.taken) % POINTS;
        let known = |value: f32| (!value.is_nan()).then_some(value);
        (0..self.taken).map(|i| known(self.points[series][(first + i) % POINTS])).collect()
    }
}

/// The hours of all targets; the server without a name has the empty one.
#[derive(Debug, Default)]
pub struct Hours(Mutex<HashMap<String, RememberedHour>>);

impl Hours {
    /// Takes a point of a target.
    pub fn take(&self, reader: &Reader<'_>) {
        let pooler = reader.snapshot.of == crate::snapshot::Of::Pooler;
        let reading = if pooler { pooler_reading(reader) } else { reading(reader) };
        let mut hours = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let name = reader.target.unwrap_or_default();
        let hour = hours.entry(name.to_owned()).or_insert_with(|| RememberedHour::new(pooler));
        if hour.pooler != pooler {
            *hour = RememberedHour::new(pooler);
        }
        hour.take(reader.unix(), reading);
    }

    /// Forgets targets that are gone.
    pub fn retain(&self, known: impl Fn(&str) -> bool) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|name, _| known(name));
    }

    /// What is known of a target, series of which nothing is known left out.
    pub fn of(&self, reader: &Reader<'_>) -> Vec<HourSeries> {
        let hour = {
            let hours = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(hour) = hours.get(reader.target.unwrap_or_default()) else {
                return Vec::new();
            };
            hour.clone()
        };
        let one = |series: usize, label: &'static str, unit: Measure, origin: FigureOrigin| {
            HourSeries { label, unit, points: hour.series(series), origin }
        };
        let all: Vec<HourSeries> = if hour.pooler {
            KEPT_OF_POOLER
                .iter()
                .map(|(i, label, unit)| one(*i, label, *unit, pooler_origin(reader, *i)))
                .collect()
        } else {
            let kept = KEPT.iter().enumerate();
            kept.map(|(i, (label, unit, _))| one(i, label, *unit, origin(reader, i))).collect()
        };
        all.into_iter().filter(|s| s.points.iter().any(Option::is_some)).collect()
    }

    /// Bytes that all of them take, what the map needs left out.
    pub fn bytes(&self) -> usize {
        let hours = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let one = size_of::<RememberedHour>() + size_of::<[[f32; POINTS]; SERIES]>();
        hours.keys().map(|name| one + size_of::<String>() + name.capacity()).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::snapshot::Snapshot;

    #[test]
    fn a_thousand_targets_take_less_than_four_megabytes_however_long_they_are_watched() {
        let hours = Hours::default();
        let snapshot = Snapshot::default();
        for minute in 0..70 {
            for target in 0..1_000 {
                let name = format!("target-{target}");
                let now = SystemTime::UNIX_EPOCH + Duration::from_secs(minute * 60);
                let reader = Reader { snapshot: &snapshot, now, target: Some(&name), hides: false };
                hours.take(&reader);
            }
        }
        assert!(hours.bytes() < 4 << 20, "{}", hours.bytes());
        assert!(hours.bytes() > 2_880 * 1_000);
        hours.retain(|name| name == "target-7");
        assert!(hours.bytes() < 4_096, "{}", hours.bytes());
    }

    #[test]
    fn the_last_hour_is_kept_and_a_rate_is_of_the_minute_before() {
        let mut hour = RememberedHour::new(false);
        let mut reading = [None; SERIES];
        for minute in 0..100_u32 {
            reading[0] = Some(f64::from(minute) * 120.0);
            reading[5] = Some(f64::from(minute));
            hour.take(f64::from(minute) * STEP, reading);
        }
        let used = hour.series(5);
        assert_eq!(used.len(), POINTS);
        assert_eq!((used[0], used[POINTS - 1]), (Some(40.0), Some(99.0)));
        assert!(hour.series(0).iter().all(|v| *v == Some(2.0)));
        reading[0] = Some(1.0);
        hour.take(100.0 * STEP, reading);
        assert_eq!(hour.series(0)[POINTS - 1], None, "it began anew");
        assert!(hour.series(1).iter().all(Option::is_none));
    }
}
