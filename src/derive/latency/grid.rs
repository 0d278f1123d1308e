//! The latency grid: 256 log-spaced cells over seconds, aligned with native histograms of schema 3,
//! and the 258 slots that two of them are split into so that 10 ms and 50 ms are exact bounds.
//!
//! Must not: hold counts.

/// Cells of the grid; cell `k` is `(2^(k/8 - 20), 2^((k+1)/8 - 20)]` seconds.
pub const CELLS: usize = 256;
/// Cells per factor of two: schema 3 of native histograms.
const PER_OCTAVE: usize = 8;
/// The lowest edge is 2^-20 s, about one microsecond; the highest 2^12 s, a bit over an hour.
const LOWEST_EXPONENT: i64 = -20;

/// Slots of the accumulating histograms: the cells, two of them split.
pub const SLOTS: usize = CELLS + SPLITS.len();
/// Bounds inside a cell, in seconds, with the cell they split. Ascending.
const SPLITS: [(usize, f64); 2] = [(106, 0.01), (125, 0.05)];

/// 2^(j/8), the digits that Prometheus' own bucket bounds have.
const RATIOS: [f64; PER_OCTAVE] = [
    1.0,
    1.0905077326652577,
    1.189207115002721,
    1.2968395546510096,
    std::f64::consts::SQRT_2,
    1.5422108254079407,
    1.6817928305074288,
    1.8340080864093422,
];
/// 2^(1/16): from a cell's lower edge to its geometric middle.
const HALF_CELL: f64 = 1.0442737824274138;

/// Edges of the cells in seconds.
pub static EDGES: [f64; CELLS + 1] = edges();
/// Geometric middles of the cells in seconds.
pub static MIDDLES: [f64; CELLS] = middles();
/// Natural logarithms of [`MIDDLES`].
pub static LN_MIDDLES: [f64; CELLS] = ln_middles();
/// Edges of the slots in seconds.
pub static SLOT_EDGES: [f64; SLOTS + 1] = slot_edges();

/// Upper bounds of the classic buckets in seconds: powers of two from 2^-14 (61 µs) to 2^6 (64 s),
/// and exactly 0.01 and 0.05.
pub const CLASSIC: usize = 23;
/// See [`CLASSIC`].
pub static CLASSIC_BOUNDS: [f64; CLASSIC] = classic().0;
/// How many slots lie at or below each of [`CLASSIC_BOUNDS`].
pub static CLASSIC_SLOTS: [usize; CLASSIC] = classic().1;

/// Schema of the native histograms whose buckets the cells are: 8 buckets per factor of two.
pub const NATIVE_SCHEMA: i32 = 3;
/// The first cell holds what lies below the grid too, so it is the zero bucket of native histograms.
pub const NATIVE_ZERO_CELLS: usize = 1;
/// Upper bound of the zero bucket in seconds.
pub const NATIVE_ZERO_THRESHOLD: f64 = edge(NATIVE_ZERO_CELLS);

/// Index of a cell as a bucket of native histograms: bucket `i` is `(2^((i-1)/8), 2^(i/8)]`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "a cell is less than 256"
)]
pub const fn native_index(cell: usize) -> i32 {
    cell as i32 + 1 + LOWEST_EXPONENT as i32 * PER_OCTAVE as i32
}

/// 2^e exactly, for exponents of normal numbers.
#[expect(clippy::cast_sign_loss, reason = "the biased exponent of a normal number is positive")]
const fn power_of_two(e: i64) -> f64 {
    f64::from_bits(((1023 + e) as u64) << 52)
}

const fn edge(k: usize) -> f64 {
    power_of_two((k / PER_OCTAVE) as i64 + LOWEST_EXPONENT) * RATIOS[k % PER_OCTAVE]
}

const fn edges() -> [f64; CELLS + 1] {
    let mut out = [0.0; CELLS + 1];
    let mut k = 0;
    while k <= CELLS {
        out[k] = edge(k);
        k += 1;
    }
    out
}

const fn middles() -> [f64; CELLS] {
    let mut out = [0.0; CELLS];
    let mut k = 0;
    while k < CELLS {
        out[k] = edge(k) * HALF_CELL;
        k += 1;
    }
    out
}

const fn ln_middles() -> [f64; CELLS] {
    let mut out = [0.0; CELLS];
    let mut k = 0;
    while k < CELLS {
        let log2 = (k as f64 + 0.5) / PER_OCTAVE as f64 + LOWEST_EXPONENT as f64;
        out[k] = log2 * std::f64::consts::LN_2;
        k += 1;
    }
    out
}

const fn slot_edges() -> [f64; SLOTS + 1] {
    let mut out = [0.0; SLOTS + 1];
    let (mut slot, mut k, mut split) = (0, 0, 0);
    while k <= CELLS {
        out[slot] = edge(k);
        slot += 1;
        if split < SPLITS.len() && SPLITS[split].0 == k {
            out[slot] = SPLITS[split].1;
            slot += 1;
            split += 1;
        }
        k += 1;
    }
    out
}

const fn classic() -> ([f64; CLASSIC], [usize; CLASSIC]) {
    let (mut bounds, mut slots) = ([0.0; CLASSIC], [0; CLASSIC]);
    let edges = slot_edges();
    let (mut i, mut slot) = (0, 0);
    while slot <= SLOTS {
        let e = edges[slot];
        let power = e.to_bits() << 12 == 0 && e >= power_of_two(-14) && e <= power_of_two(6);
        if power || e == SPLITS[0].1 || e == SPLITS[1].1 {
            bounds[i] = e;
            slots[i] = slot;
            i += 1;
        }
        slot += 1;
    }
    (bounds, slots)
}

/// The cell of a latency in seconds. What lies below the grid (zero, negative, not a number) is in
/// the first cell, what lies above in the last.
pub fn cell(x: f64) -> usize {
    if x.is_nan() || x <= EDGES[0] {
        return 0;
    }
    if x >= EDGES[CELLS] {
        return CELLS - 1;
    }
    // x is a normal number here, so that its bits hold the octave, and a scan of eight the rest.
    let exponent = ((x.to_bits() >> 52) & 0x7ff) as i64 - 1023;
    let octave = usize::try_from(exponent - LOWEST_EXPONENT).unwrap_or(0);
    let fraction = f64::from_bits((x.to_bits() & 0x000f_ffff_ffff_ffff) | (1023 << 52));
    let above = RATIOS.iter().filter(|ratio| fraction > **ratio).count();
    // Upper-inclusive: a power of two itself (`above` is 0) belongs to the octave below.
    (octave * PER_OCTAVE + above).saturating_sub(1)
}

/// The slot of a latency in seconds.
pub fn slot(x: f64) -> usize {
    cell(x) + SPLITS.iter().filter(|(_, bound)| x > *bound).count()
}

/// The first slot of a cell.
pub fn first_slot(cell: usize) -> usize {
    cell + SPLITS.iter().filter(|(k, _)| cell > *k).count()
}

/// Divides a weight inside cell `k` among the slots of the cell, log-uniformly.
pub fn spread(k: usize, weight: f64, out: &mut [f64; SLOTS]) {
    let first = first_slot(k);
    match SPLITS.iter().find(|(split, _)| *split == k) {
        None => out[first] += weight,
        Some((_, bound)) => {
            let below = weight * (bound / EDGES[k]).log2() * PER_OCTAVE as f64;
            out[first] += below;
            out[first + 1] += weight - below;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn edges_are_powers_of_two_and_the_splits_lie_inside_their_cells() {
        assert_eq!(EDGES[0], 2f64.powi(-20));
        assert_eq!(EDGES[160], 1.0);
        assert_eq!(EDGES[256], 4096.0);
        for (k, bound) in SPLITS {
            assert!(EDGES[k] < bound && bound < EDGES[k + 1], "{bound} is not in cell {k}");
        }
        assert!(SLOT_EDGES.windows(2).all(|w| w[0] < w[1]));
        for (k, middle) in MIDDLES.iter().enumerate() {
            assert!((middle.ln() - LN_MIDDLES[k]).abs() < 1e-14);
            assert!((middle * middle / (EDGES[k] * EDGES[k + 1]) - 1.0).abs() < 1e-14);
        }
    }

    #[test]
    fn classic_bounds_are_powers_of_two_and_the_two_targets() {
        assert_eq!(CLASSIC_BOUNDS[0], 2f64.powi(-14));
        assert_eq!(CLASSIC_BOUNDS[CLASSIC - 1], 64.0);
        assert_eq!(&CLASSIC_BOUNDS[7..12], &[0.0078125, 0.01, 0.015625, 0.03125, 0.05]);
        for (bound, slots) in CLASSIC_BOUNDS.iter().zip(CLASSIC_SLOTS) {
            assert_eq!(SLOT_EDGES[slots], *bound);
        }
    }

    #[test]
    fn bounds_are_upper_inclusive() {
        for (s, edge) in SLOT_EDGES.iter().enumerate().take(SLOTS).skip(1) {
            assert_eq!(slot(*edge), s - 1, "{edge}");
            assert_eq!(slot(edge.next_up()), s, "{edge}");
        }
        assert_eq!(slot(0.05), slot(0.0499));
        assert_eq!((slot(0.0), slot(-1.0), slot(f64::NAN)), (0, 0, 0));
        assert_eq!((slot(5000.0), slot(f64::INFINITY)), (SLOTS - 1, SLOTS - 1));
    }

    #[test]
    fn a_weight_in_a_split_cell_is_divided_log_uniformly() {
        let mut out = [0.0; SLOTS];
        spread(125, 4.0, &mut out);
        let (lo, hi) = (EDGES[125], EDGES[126]);
        let below = (0.05f64 / lo).ln() / (hi / lo).ln() * 4.0;
        let at = slot(0.05);
        assert!((out[at] - below).abs() < 1e-12 && (out[at] + out[at + 1] - 4.0).abs() < 1e-12);
    }

    proptest! {
        #[test]
        fn any_latency_lies_in_its_slot(x in 1e-6f64..4000.0) {
            let s = slot(x);
            prop_assert!(SLOT_EDGES[s] < x && x <= SLOT_EDGES[s + 1]);
            let k = cell(x);
            prop_assert!(EDGES[k] < x && x <= EDGES[k + 1]);
            prop_assert!(first_slot(k) <= s && s < first_slot(k + 1));
        }

        #[test]
        fn any_float_has_a_slot(bits: u64) {
            prop_assert!(slot(f64::from_bits(bits)) < SLOTS);
        }
    }
}
