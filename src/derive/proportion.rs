//! How far a share that was sampled may be from the true one.
//!
//! Must not: be sure of a share that no sample, or every sample, showed.

/// Of a normal distribution, 95 % lie within so many standard deviations.
const Z: f64 = 1.96;

/// Where the true share lies with 95 % certainty when `hits` of `samples` independent samples showed it (Wilson's
/// interval for a binomial); `None` without samples.
pub fn interval(hits: f64, samples: f64) -> Option<(f64, f64)> {
    if samples.is_nan() || samples <= 0.0 || !(0.0..=samples).contains(&hits) {
        return None;
    }
    let share = hits / samples;
    let scale = 1.0 + Z * Z / samples;
    let middle = (share + Z * Z / (2.0 * samples)) / scale;
    let inner = share * (1.0 - share) / samples + Z * Z / (4.0 * samples * samples);
    let half = Z * inner.sqrt() / scale;
    Some(((middle - half).max(0.0), (middle + half).min(1.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounded(hits: f64, samples: f64) -> Option<(f64, f64)> {
        interval(hits, samples)
            .map(|(low, high)| ((low * 1e4).round() / 1e4, (high * 1e4).round() / 1e4))
    }

    #[test]
    fn known_intervals() {
        // Newcombe 1998, table I, method 3.
        assert_eq!(rounded(81.0, 263.0), Some((0.2553, 0.3662)));
        assert_eq!(rounded(15.0, 148.0), Some((0.0624, 0.1605)));
        assert_eq!(rounded(0.0, 20.0), Some((0.0, 0.1611)));
        assert_eq!(rounded(1.0, 29.0), Some((0.0061, 0.1718)));
    }

    #[test]
    fn nothing_is_said_of_no_samples_and_of_nonsense() {
        for (hits, samples) in
            [(0.0, 0.0), (1.0, 0.0), (2.0, 1.0), (-1.0, 5.0), (f64::NAN, 5.0), (1.0, f64::NAN)]
        {
            assert_eq!(interval(hits, samples), None, "{hits} of {samples}");
        }
    }
}
