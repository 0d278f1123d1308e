//! How fast a table grows, from the sizes of its partitions: what was written into the slices of time
//! that are complete.
//!
//! Must not: count the slice that is being filled, or take a table for growing that takes no rows now.

/// Seconds of the past that are looked at, in whole slices.
const PAST: f64 = 30.0 * 86_400.0;
/// Share of the fullest slice below which those at the beginning are taken for empty: an empty index has
/// a page too.
const EMPTY: f64 = 0.1;

/// What one slice of time holds, on all leaves that take it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Slice {
    /// Unix seconds of its beginning; -Inf without one.
    pub from: f64,
    /// Unix seconds of its end, exclusive; +Inf without one.
    pub to: f64,
    /// Bytes on disk.
    pub bytes: f64,
}

impl Slice {
    /// Bytes a second.
    fn density(&self) -> f64 {
        self.bytes / (self.to - self.from)
    }

    /// Its bytes that fall between two times, spread evenly over it.
    fn between(&self, from: f64, to: f64) -> f64 {
        let common = self.to.min(to) - self.from.max(from);
        if common > 0.0 { self.bytes * common / (self.to - self.from) } else { 0.0 }
    }
}

/// A measured growth.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// Bytes a day.
    pub per_day: f64,
    /// Unix seconds between which it was measured.
    pub from: f64,
    /// Likewise.
    pub to: f64,
}

/// Bytes a day by the slices that ended before the one that holds `now` (Unix seconds) began: those of
/// 30 days, or one where that is longer. The oldest slice of all is left out where there is another: a
/// table that began in its middle filled it in part. So are slices at the beginning that are all but empty,
/// which were made for a past that was never written.
///
/// Slices may overlap, as where a list of markets has days for one and months for another. `None` where
/// no slice holds now or none is complete.
pub fn pace(slices: &[Slice], now: f64) -> Option<Pace> {
    let finite = |x: &f64| x.is_finite();
    let least = |times: &mut dyn Iterator<Item = f64>| times.reduce(f64::min);
    let mut current = slices.iter().filter(|s| s.from <= now && now < s.to).map(|s| s.from);
    let to = least(&mut current).filter(finite)?;
    let complete = || slices.iter().filter(|s| s.from.is_finite() && s.to <= now && s.from < to);
    let begun = least(&mut complete().map(|s| s.to))?;
    let from = least(&mut complete().filter(|s| s.to > to - PAST).map(|s| s.from))?;
    let from = if from < begun && begun < to { begun } else { from };
    let recent = || complete().filter(|s| s.to > from);
    let fullest = recent().map(Slice::density).fold(0.0, f64::max);
    let mut filled = recent().filter(|s| s.density() >= fullest * EMPTY).map(|s| s.from.max(from));
    let from = least(&mut filled)?;
    let bytes: f64 = complete().map(|s| s.between(from, to)).sum();
    Some(Pace { per_day: bytes / (to - from) * 86_400.0, from, to })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: f64 = 86_400.0;

    /// From day to day, holding so many bytes.
    fn slice(from: f64, to: f64, bytes: f64) -> Slice {
        Slice { from: from * DAY, to: to * DAY, bytes }
    }

    fn daily(days: impl IntoIterator<Item = i32>, bytes: f64) -> Vec<Slice> {
        days.into_iter().map(|d| slice(f64::from(d), f64::from(d) + 1.0, bytes)).collect()
    }

    #[test]
    fn the_last_thirty_days_count_and_today_does_not() {
        let mut slices = daily(0..60, 1.0);
        slices.extend(daily(60..90, 5.0));
        // Today, half full, and the days ahead.
        slices.push(slice(90.0, 91.0, 2.0));
        slices.extend(daily(91..98, 0.0));
        let found = pace(&slices, 90.5 * DAY);
        assert_eq!(found, Some(Pace { per_day: 5.0, from: 60.0 * DAY, to: 90.0 * DAY }));
    }

    #[test]
    fn a_first_slice_that_was_filled_in_part_is_left_out() {
        let slices = [slice(0.0, 10.0, 1.0), slice(10.0, 20.0, 80.0), slice(20.0, 30.0, 9.0)];
        let found = pace(&slices, 25.0 * DAY);
        assert_eq!(found, Some(Pace { per_day: 8.0, from: 10.0 * DAY, to: 20.0 * DAY }));
        // Where it is all there is, it must do.
        let found = pace(&slices[1..], 25.0 * DAY);
        assert_eq!(found, Some(Pace { per_day: 8.0, from: 10.0 * DAY, to: 20.0 * DAY }));
    }

    #[test]
    fn a_past_that_was_never_written_is_no_time_of_growth() {
        let mut slices = daily(0..30, 0.01);
        slices.extend(daily(30..33, 4.0));
        slices.extend(daily(33..40, 0.01));
        let found = pace(&slices, 33.5 * DAY);
        assert_eq!(found, Some(Pace { per_day: 4.0, from: 30.0 * DAY, to: 33.0 * DAY }));
        let quiet = pace(&daily(0..10, 0.0), 8.5 * DAY);
        assert_eq!(quiet, Some(Pace { per_day: 0.0, from: DAY, to: 8.0 * DAY }));
    }

    #[test]
    fn what_takes_no_rows_now_or_never_ended_a_slice_does_not_grow() {
        let slices = daily(0..10, 1.0);
        assert_eq!(pace(&slices, 10.5 * DAY), None, "coverage has ended");
        assert_eq!(pace(&slices, 0.5 * DAY), None, "the first is being filled");
        assert_eq!(pace(&[], 0.0), None);
        let endless = [slice(f64::NEG_INFINITY, 5.0, 7.0), slice(5.0, f64::INFINITY, 7.0)];
        assert_eq!(pace(&endless, 6.0 * DAY), None, "no slice has two ends");
    }

    #[test]
    fn slices_of_different_lengths_add_up_and_gaps_count_as_time() {
        // One market by months of 30 days, another by days with two of them missing.
        let mut slices = vec![slice(0.0, 30.0, 300.0), slice(30.0, 60.0, 600.0)];
        slices.push(slice(60.0, 90.0, 10.0));
        slices.extend(daily((30..60).filter(|d| ![40, 41].contains(d)), 3.0));
        slices.extend(daily(60..62, 3.0));
        let found = pace(&slices, 61.5 * DAY).unwrap_or_else(|| panic!("no pace"));
        assert_eq!((found.from, found.to), (30.0 * DAY, 60.0 * DAY));
        assert!((found.per_day - (20.0 + 3.0 * 28.0 / 30.0)).abs() < 1e-9, "{found:?}");
    }
}
