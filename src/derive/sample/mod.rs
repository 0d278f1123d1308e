//! Exact percentiles of samples, a small random generator whose numbers never change, and the
//! comparison of two runs that were measured in rounds.
//!
//! Must not: estimate where it can sort.

/// What is told of a set of samples, in the samples' own unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    /// How many there are, at least one.
    pub count: usize,
    /// The smallest.
    pub min: u64,
    /// The arithmetic mean.
    pub mean: f64,
    /// By nearest rank, as all percentiles here.
    pub p50: u64,
    /// 95th percentile.
    pub p95: u64,
    /// 99th percentile.
    pub p99: u64,
    /// The largest.
    pub max: u64,
}

impl Summary {
    /// Sorts the samples in place; `None` if there are none.
    pub fn of(samples: &mut [u64]) -> Option<Self> {
        samples.sort_unstable();
        let (min, max) = (*samples.first()?, *samples.last()?);
        let sum: f64 = samples.iter().map(|s| *s as f64).sum();
        Some(Self {
            count: samples.len(),
            min,
            mean: sum / samples.len() as f64,
            p50: percentile(samples, 50.0)?,
            p95: percentile(samples, 95.0)?,
            p99: percentile(samples, 99.0)?,
            max,
        })
    }
}

/// The percentile by nearest rank: the smallest sample that at least `percent` of 100 of all
/// samples do not exceed. `sorted` must be ascending; `None` if it is empty.
pub fn percentile<T: Copy>(sorted: &[T], percent: f64) -> Option<T> {
    let n = sorted.len();
    let share = percent.clamp(0.0, 100.0) / 100.0;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 0 and a length"
    )]
    let mut rank = (share * n as f64).ceil() as usize;
    // 0.95 is a little more than 95/100, so that 95 % of 20 would be more than 19.
    if rank > 0 && (rank - 1) as f64 >= share * n as f64 - 1e-9 * n as f64 {
        rank -= 1;
    }
    sorted.get(rank.max(1) - 1).copied()
}

/// The median; of an even number the mean of the middle two. `None` if there are none.
pub fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let n = values.len();
    let upper = *values.get(n / 2)?;
    match n % 2 {
        0 => Some(f64::midpoint(*values.get(n / 2 - 1)?, upper)),
        _ => Some(upper),
    }
}

/// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014). The
/// same seed gives the same numbers in every version of this program.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// A generator; the parts of the seed are mixed, so that (1, 2) and (2, 1) differ.
    pub fn new(seed: &[u64]) -> Self {
        let mut state = Self(0x9E37_79B9_7F4A_7C15);
        for part in seed {
            state.0 = state.next() ^ *part;
        }
        state
    }

    #[expect(clippy::should_implement_trait, reason = "it never ends")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound`; 0 if that is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        let wide = u128::from(self.next()) * u128::from(bound);
        // The upper half of a product of two u64.
        u64::try_from(wide >> 64).unwrap_or(0)
    }

    /// An index into `len` things.
    pub fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap_or(0)
    }

    /// A number in `[0, 1)`.
    pub fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// One round: the median latency of the query, and of the reference that ran right before and after it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Round {
    /// Seconds.
    pub median: f64,
    /// Seconds.
    pub reference: f64,
}

/// What became of a latency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Movement {
    /// The interval holds 1, or the change is smaller than what counts.
    Same,
    /// Both conditions say that it is slower.
    Slower,
    /// Both say that it is faster.
    Faster,
    /// Too few rounds to tell.
    Unclear,
}

/// How a latency changed, as factors: 1.3 is 30 % slower.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Change {
    /// The reference's own change: how much slower the machine was.
    pub machine: f64,
    /// The query's change relative to the reference's.
    pub adjusted: f64,
    /// Lower end of the confidence interval of `adjusted`.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// By the interval and the minimum that counts.
    pub verdict: Movement,
}

/// Share of the bootstrap's distribution inside the interval.
pub const CONFIDENCE: f64 = 0.99;
/// Fewer rounds than this on either side give no verdict.
pub const FEWEST_ROUNDS: usize = 6;
const RESAMPLES: usize = 2_000;

/// Compares two runs by the medians of their rounds. The interval is that of a circular block
/// bootstrap (Politis and Romano, 1992) over the rounds of both, in blocks of the cube root of their
/// number, because neighbouring rounds are alike. `minimum` is the smallest change that counts, such
/// as 0.1; both conditions must hold.
///
/// `None` where a side has no round, or a median that is not positive.
pub fn compare(before: &[Round], now: &[Round], minimum: f64, seed: u64) -> Option<Change> {
    let adjust = |rounds: &[Round]| -> Option<Vec<f64>> {
        let valid = |r: &Round| r.median > 0.0 && r.reference > 0.0;
        let logs = rounds.iter().map(|r| valid(r).then(|| (r.median / r.reference).ln()));
        logs.collect::<Option<Vec<f64>>>().filter(|logs| !logs.is_empty())
    };
    let (old, new) = (adjust(before)?, adjust(now)?);
    let middle = |rounds: &[Round], of: fn(&Round) -> f64| {
        median(&mut rounds.iter().map(of).collect::<Vec<f64>>())
    };
    let machine = middle(now, |r| r.reference)? / middle(before, |r| r.reference)?;
    let adjusted = (median(&mut new.clone())? - median(&mut old.clone())?).exp();
    let mut random = Random::new(&[seed]);
    let mut differences: Vec<f64> = Vec::with_capacity(RESAMPLES);
    let mut drawn = Vec::new();
    for _ in 0..RESAMPLES {
        let after = resampled(&new, &mut random, &mut drawn)?;
        let prior = resampled(&old, &mut random, &mut drawn)?;
        differences.push(after - prior);
    }
    differences.sort_unstable_by(f64::total_cmp);
    let tail = (1.0 - CONFIDENCE) / 2.0 * 100.0;
    let low = percentile(&differences, tail)?.exp();
    let high = percentile(&differences, 100.0 - tail)?.exp();
    let few = before.len().min(now.len()) < FEWEST_ROUNDS;
    let verdict = match () {
        () if few => Movement::Unclear,
        () if low > 1.0 && adjusted >= 1.0 + minimum => Movement::Slower,
        () if high < 1.0 && adjusted <= 1.0 / (1.0 + minimum) => Movement::Faster,
        () => Movement::Same,
    };
    Some(Change { machine, adjusted, low, high, verdict })
}

/// The median of as many values as there are, drawn in blocks that wrap around.
fn resampled(values: &[f64], random: &mut Random, drawn: &mut Vec<f64>) -> Option<f64> {
    let n = values.len();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 1 and a length"
    )]
    let block = ((n as f64).cbrt().round() as usize).max(1);
    drawn.clear();
    while drawn.len() < n {
        let start = random.index(n);
        for offset in 0..block.min(n - drawn.len()) {
            drawn.extend(values.get((start + offset) % n));
        }
    }
    median(drawn)
}

#[cfg(test)]
mod tests;
