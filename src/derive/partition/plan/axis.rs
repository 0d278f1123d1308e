//! The time line on which a level's keys lie, and key values as SQL writes them.
//!
//! Must not: know what is lacking, or how partitions follow each other.

use jiff::tz::TimeZone;

use super::rhythm::{instant, local, offset};
use crate::derive::partition::bound::{Bound, Datum};
use crate::derive::partition::moment::{Moment, Span, union};
use crate::derive::partition::tree::{Child, Level, Strategy};
use crate::derive::partition::unit::{KeyUnit, TimeKey};

/// The time line of a level's keys: instants, or local times as if they were UTC.
pub(super) struct Axis {
    key: TimeKey,
    list: bool,
    /// Of local times.
    zone: TimeZone,
    /// What stands behind the time in the UUIDs of the bounds.
    tail: Box<str>,
}

/// The lowest UUIDs of a millisecond.
const NO_TAIL: &str = "-0000-0000-000000000000";
/// Where in a UUID the milliseconds end.
const TIME_DIGITS: usize = 13;

/// What stands behind the time in the first UUID of the bounds.
fn tail(level: &Level) -> Option<&str> {
    let bounds = level.children.iter().filter_map(|child| child.bound.as_ref());
    bounds
        .flat_map(ends)
        .find_map(|end| if let Datum::Value(text) = end { text.get(TIME_DIGITS..) } else { None })
}

fn ends(bound: &Bound) -> Vec<&Datum> {
    match bound {
        Bound::Range { from, to } => from.first().into_iter().chain(to.first()).collect(),
        _ => Vec::new(),
    }
}

impl Axis {
    /// Whether a bound that this line writes says all that the existing one says: a UUID has more
    /// behind the time.
    pub(super) fn writes(&self, bound: &Bound) -> bool {
        self.key != TimeKey::Uuid
            || ends(bound).into_iter().all(|end| match end {
                Datum::Value(text) => text.get(TIME_DIGITS..) == Some(&*self.tail),
                _ => true,
            })
    }

    pub(super) fn of(level: &Level, writer: &TimeZone) -> Option<Self> {
        Some(Self {
            tail: tail(level).unwrap_or(NO_TAIL).into(),
            key: level.time_key()?,
            list: level.strategy == Strategy::List,
            zone: level.zone.clone().unwrap_or_else(|| writer.clone()),
        })
    }

    pub(super) fn is_list(&self) -> bool {
        self.list
    }

    pub(super) fn naive(&self) -> bool {
        self.key.is_local()
    }

    /// What a partition takes, on this line: nothing of a DEFAULT, and several spans of a list with
    /// holes.
    pub(super) fn spans(&self, child: &Child) -> Vec<Span> {
        let begin = |datum: &Datum| match datum {
            Datum::MinValue => Some(Moment::Past),
            Datum::MaxValue => Some(Moment::Future),
            Datum::Null => None,
            Datum::Value(text) => self.key.begin(text, &TimeZone::UTC),
        };
        let day = |datum: &Datum| match datum {
            Datum::Value(text) => Some(Span {
                from: self.key.begin(text, &TimeZone::UTC)?,
                to: self.key.end(text, &TimeZone::UTC)?,
            }),
            _ => None,
        };
        match &child.bound {
            Some(Bound::Range { from, to }) => {
                let ends = from.first().and_then(begin).zip(to.first().and_then(begin));
                ends.map(|(from, to)| Span { from, to }).into_iter().collect()
            }
            Some(Bound::List(values)) if self.list => {
                union(values.iter().filter_map(day).collect())
            }
            _ => Vec::new(),
        }
    }

    /// What a partition takes where that is in one piece.
    pub(super) fn span(&self, child: &Child) -> Option<Span> {
        if let [span] = self.spans(child).as_slice() { Some(*span) } else { None }
    }

    fn convert(span: Span, one: impl Fn(i128) -> Option<i128>) -> Span {
        let moment = |moment| match moment {
            Moment::At(at) => one(at).map_or(Moment::At(at), Moment::At),
            end => end,
        };
        Span { from: moment(span.from), to: moment(span.to) }
    }

    pub(super) fn instants(&self, span: Span) -> Span {
        if !self.naive() {
            return span;
        }
        Self::convert(span, |at| instant(local(at, &TimeZone::UTC)?, &self.zone))
    }

    pub(super) fn on(&self, span: Span) -> Span {
        if !self.naive() {
            return span;
        }
        Self::convert(span, |at| instant(local(at, &self.zone)?, &TimeZone::UTC))
    }

    /// A key value as it is written in SQL, instants with the offset of `zone`. `None` where the type
    /// cannot hold it.
    pub(super) fn text(&self, at: i128, zone: &TimeZone) -> Option<String> {
        let whole = |unit: i128| (at % unit == 0).then(|| (at / unit).to_string());
        let time = local(at, zone)?;
        match self.key {
            TimeKey::Number(KeyUnit::Seconds) => return whole(1_000_000),
            TimeKey::Number(KeyUnit::Millis) => return whole(1_000),
            TimeKey::Number(KeyUnit::Micros) => return whole(1),
            TimeKey::Number(KeyUnit::Nanos) => return Some(at.checked_mul(1_000)?.to_string()),
            TimeKey::Number(KeyUnit::Day) => {
                return Some(time.date().to_string().replace('-', ""));
            }
            TimeKey::Uuid => {
                let digits = format!("{:012x}", u64::try_from(at / 1_000).ok()?);
                let (high, low) = digits.split_at_checked(8)?;
                return Some(format!("{high}-{low}{}", self.tail));
            }
            TimeKey::Timestamptz | TimeKey::Timestamp | TimeKey::Date => {}
        }
        if self.key == TimeKey::Date {
            return Some(time.date().to_string());
        }
        let mut text = time.to_string().replace('T', " ");
        if self.key == TimeKey::Timestamptz {
            let seconds = offset(at, zone)?.seconds();
            let sign = if seconds < 0 { '-' } else { '+' };
            let seconds = seconds.abs();
            text.push_str(&format!("{sign}{:02}", seconds / 3600));
            if seconds % 3600 != 0 {
                text.push_str(&format!(":{:02}", seconds / 60 % 60));
            }
            if seconds % 60 != 0 {
                text.push_str(&format!(":{:02}", seconds % 60));
            }
        }
        Some(text)
    }

    /// The bound of a new partition, `like` an existing one in what it says of other columns.
    pub(super) fn bound(
        &self,
        from: i128,
        to: i128,
        zone: &TimeZone,
        like: &Bound,
    ) -> Option<Bound> {
        let value = |at| Some(Datum::Value(self.text(at, zone)?.into()));
        if self.list {
            let day = 86_400_000_000;
            let days = usize::try_from((to - from) / day).ok()?;
            let values: Option<Box<[Datum]>> =
                (from..to).step_by(usize::try_from(day).ok()?).take(days).map(value).collect();
            return values.map(Bound::List);
        }
        let Bound::Range { from: old, .. } = like else { return None };
        let rest = old.get(1..)?;
        let row = |at| Some(std::iter::once(value(at)?).chain(rest.iter().cloned()).collect());
        Some(Bound::Range { from: row(from)?, to: row(to)? })
    }
}
