//! Which rows a history consists of, and their text for `COPY`. A row depends on the seed, its table
//! and its place in its span, and on nothing else: not on how rows are batched or who sends them.
//!
//! Must not: read a clock or send anything.

use anyhow::Context;

use super::market::{COPY_ORDERS, COPY_TRADES, Market, copy_order, copy_trade};

/// Rows that are made together, by a generator of their own.
pub const BLOCK: u64 = 1_000;
/// A trade takes about 230 bytes, an order less.
const BLOCK_BYTES: usize = 240_000;
const DAY: i64 = 86_400_000_000;

/// One of the two tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TradeTable {
    Orders,
    Trades,
}

impl TradeTable {
    /// `COPY ... FROM STDIN` for what [`FilledSpan::block`] returns.
    pub fn copy(self) -> &'static str {
        match self {
            Self::Orders => COPY_ORDERS,
            Self::Trades => COPY_TRADES,
        }
    }
}

/// How rows are spread over a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowSpread {
    Even,
    /// Denser towards the end: a growing business.
    Growing,
}

/// A stretch of time with rows in it, in ascending order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FilledSpan {
    pub table: TradeTable,
    /// Microseconds since 1970.
    pub start: i64,
    /// Microseconds; rows lie before its end.
    pub length: i64,
    pub rows: u64,
    pub spread: RowSpread,
}

/// How many rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amount {
    /// A whole day, and a part of a day in proportion.
    PerDay(u64),
    /// Over all of the time.
    Total(u64),
}

/// One span a day (UTC) from `first` up to `last`, both in microseconds since 1970. Days without rows
/// are left out.
pub fn days(table: TradeTable, first: i64, last: i64, amount: Amount) -> Vec<FilledSpan> {
    let whole = i128::from(last - first).max(1);
    // Of all rows, those before `at`: rounded once, so that the days add up.
    let before = |at: i64| match amount {
        Amount::PerDay(_) => 0,
        Amount::Total(rows) => i128::from(rows) * i128::from(at - first) / whole,
    };
    let mut spans = Vec::new();
    let mut start = first;
    while start < last {
        let end = (start.div_euclid(DAY) * DAY + DAY).min(last);
        let rows = match amount {
            Amount::PerDay(rows) => i128::from(rows) * i128::from(end - start) / i128::from(DAY),
            Amount::Total(_) => before(end) - before(start),
        };
        let rows = u64::try_from(rows).unwrap_or(0);
        if rows > 0 {
            spans.push(FilledSpan {
                table,
                start,
                length: end - start,
                rows,
                spread: RowSpread::Even,
            });
        }
        start = end;
    }
    spans
}

impl FilledSpan {
    /// How many blocks its rows make.
    pub fn blocks(&self) -> u64 {
        self.rows.div_ceil(BLOCK)
    }

    /// Rows of one block.
    pub fn rows_of(&self, block: u64) -> u64 {
        self.rows.saturating_sub(block.saturating_mul(BLOCK)).min(BLOCK)
    }

    /// The lines of one block.
    ///
    /// # Errors
    /// A time that has no date.
    pub fn block(&self, seed: u64, block: u64) -> anyhow::Result<String> {
        let first = block * BLOCK;
        let begins = self.at(first as f64);
        let mut market = Market::at(self.seed(seed, block), begins as f64 / 1e6);
        let mut lines = String::with_capacity(BLOCK_BYTES);
        for row in first..first + self.rows_of(block) {
            let place = row as f64 + market.uniform();
            let at = jiff::Timestamp::from_microsecond(self.at(place)).context("a time")?;
            let at = at.to_string();
            match self.table {
                TradeTable::Orders => copy_order(&mut lines, &market.order(), &at),
                TradeTable::Trades => copy_trade(&mut lines, &market.trade(), &at),
            }
        }
        Ok(lines)
    }

    /// When the row at a place between 0 and `rows` is.
    fn at(&self, place: f64) -> i64 {
        let share = place / self.rows as f64;
        let share = match self.spread {
            RowSpread::Even => share,
            // The inverse of the distribution of 1 - u², u uniform.
            RowSpread::Growing => 1.0 - (1.0 - share).powi(2),
        };
        #[expect(clippy::cast_possible_truncation, reason = "between 0 and a length")]
        let offset = (share * self.length as f64) as i64;
        self.start + offset.clamp(0, (self.length - 1).max(0))
    }

    /// Of one block: what is different in any of these gives different rows.
    fn seed(&self, seed: u64, block: u64) -> u64 {
        let table = match self.table {
            TradeTable::Orders => 1,
            TradeTable::Trades => 2,
        };
        let day = self.start.div_euclid(DAY).unsigned_abs();
        [table, day, block].into_iter().fold(mixed(seed), |state, part| mixed(state ^ part))
    }
}

/// SplitMix64: near numbers become far ones.
fn mixed(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-03-01 00:00 UTC.
    const MARCH: i64 = 1_772_323_200_000_000;

    #[test]
    fn whole_days_have_their_rows_and_a_part_has_its_part() {
        let spans =
            days(TradeTable::Trades, MARCH, MARCH + 2 * DAY + DAY / 4, Amount::PerDay(1_001));
        let seen: Vec<(i64, i64, u64)> =
            spans.iter().map(|s| (s.start - MARCH, s.length, s.rows)).collect();
        assert_eq!(seen, [(0, DAY, 1_001), (DAY, DAY, 1_001), (2 * DAY, DAY / 4, 250)]);
        assert_eq!((spans[0].blocks(), spans[0].rows_of(0), spans[0].rows_of(1)), (2, 1_000, 1));
    }

    #[test]
    fn a_total_is_kept_to_the_row() {
        for total in [0, 1, 7, 1_000, 99_991] {
            let first = MARCH + DAY / 3;
            let spans =
                days(TradeTable::Trades, first, first + 5 * DAY + 12_345, Amount::Total(total));
            assert_eq!(spans.iter().map(|s| s.rows).sum::<u64>(), total);
        }
        assert_eq!(days(TradeTable::Trades, MARCH, MARCH, Amount::Total(5)), []);
    }

    fn times(span: &FilledSpan) -> Vec<jiff::Timestamp> {
        let lines: String = (0..span.blocks()).map(|b| span.block(1, b).unwrap()).collect();
        lines.lines().map(|l| l.rsplit('\t').next().unwrap().parse().unwrap()).collect()
    }

    #[test]
    fn rows_ascend_within_their_span_and_grow_where_they_should() {
        for (table, spread, half) in [
            (TradeTable::Trades, RowSpread::Even, 0.5),
            (TradeTable::Orders, RowSpread::Growing, 0.293),
        ] {
            let span = FilledSpan { table, start: MARCH, length: DAY, rows: 2_500, spread };
            let times = times(&span);
            assert_eq!(times.len(), 2_500);
            assert!(times.is_sorted());
            let offsets: Vec<i64> = times.iter().map(|t| t.as_microsecond() - MARCH).collect();
            assert!(offsets[0] >= 0 && offsets[2_499] < DAY, "{:?}", &offsets[..3]);
            let early = offsets.iter().filter(|o| **o < DAY / 2).count() as f64 / 2_500.0;
            assert!((early - half).abs() < 0.01, "{table:?}: {early} in the first half");
        }
    }

    #[test]
    fn every_block_has_rows_of_its_own_and_always_the_same() {
        let span = |table, start| FilledSpan {
            table,
            start,
            length: DAY,
            rows: 2_000,
            spread: RowSpread::Even,
        };
        let march = span(TradeTable::Trades, MARCH);
        assert_eq!(march.block(1, 1).unwrap(), march.block(1, 1).unwrap());
        let id = |text: String| text.split('\t').next().unwrap().to_owned();
        let ids = [
            id(march.block(1, 0).unwrap()),
            id(march.block(1, 1).unwrap()),
            id(march.block(2, 0).unwrap()),
            id(span(TradeTable::Trades, MARCH + DAY).block(1, 0).unwrap()),
            id(span(TradeTable::Orders, MARCH).block(1, 0).unwrap()),
        ];
        let distinct: std::collections::BTreeSet<&String> = ids.iter().collect();
        assert_eq!(distinct.len(), ids.len(), "{ids:?}");
    }
}
