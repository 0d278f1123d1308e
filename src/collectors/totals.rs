//! Counters of views with one row for the whole server: increments since the first poll.
//!
//! Must not: mix rows that are reset apart from each other.

use crate::derive::rollup::{Reading, Rollup};

/// The totals of one row.
#[derive(Debug, Default)]
pub struct Totals<const N: usize>(Rollup<N>);

impl<const N: usize> Totals<N> {
    /// Takes a reading of the server that started at `started`; zeros the first time.
    pub(super) fn add(&mut self, started: f64, counters: [f64; N]) -> [f64; N] {
        self.0.update(started, &[Reading { id: 0, root: 0, alias: None, counters }]);
        self.0.total(0).unwrap_or([0.0; N])
    }

    /// As [`Totals::add`] for columns of which not every version has all: what is absent has no total.
    pub(super) fn add_known(
        &mut self,
        started: f64,
        counters: [Option<f64>; N],
    ) -> [Option<f64>; N] {
        let totals = self.add(started, counters.map(|c| c.unwrap_or(0.0)));
        std::array::from_fn(|i| counters[i].map(|_| totals[i]))
    }
}

#[cfg(test)]
mod tests {
    use super::Totals;

    #[test]
    fn a_reset_a_restart_and_another_server_lower_nothing() {
        let mut totals = Totals::<2>::default();
        assert_eq!(totals.add(1.0, [50.0, 5.0]), [0.0, 0.0]);
        assert_eq!(totals.add(1.0, [60.0, 5.0]), [10.0, 0.0]);
        assert_eq!(totals.add(1.0, [3.0, 6.0]), [13.0, 6.0], "reset: both from zero");
        assert_eq!(totals.add(2.0, [900.0, 900.0]), [13.0, 6.0], "restarted");
        assert_eq!(totals.add(2.0, [901.0, 902.0]), [14.0, 8.0]);
    }
}
