//! The time line on which a level's keys lie, and key values as SQL writes them.
//!
//! Must not: know what is lacking, or how partitions follow each other.

use jiff::tz::TimeZone;

use super::rhythm::{instant, local, offset};
use crate::derive::partition::bound::{Bound, Datum};
use crate::derive::partition::moment::{Moment, Span, TimeKey, union};
use crate::derive::partition::tree::{Child, Level, Strategy};

/// The time line of a level's keys: instants, or local times as if they were UTC. Integer keys that
/// hold times would be a third kind, once [`TimeKey`] knows them: a line of their own unit, on which
/// [`rhythm::Step::Fixed`] is the only step.
pub(super) struct Axis {
    key: TimeKey,
    list: bool,
    /// Of local times.
    zone: TimeZone,
}

impl Axis {
    pub(super) fn of(level: &Level, writer: &TimeZone) -> Option<Self> {
        Some(Self {
            key: level.time_key()?,
            list: level.strategy == Strategy::List,
            zone: level.zone.clone().unwrap_or_else(|| writer.clone()),
        })
    }

    pub(super) fn naive(&self) -> bool {
        self.key != TimeKey::Timestamptz
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

    /// A key value as it is written in SQL, instants with the offset of `zone`.
    pub(super) fn text(&self, at: i128, zone: &TimeZone) -> Option<String> {
        let time = local(at, zone)?;
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
