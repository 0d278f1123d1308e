//! Percentiles against their definition, and what a comparison says of noise and of changes.
//!
//! Must not: depend on luck: every random number comes from a seed.

use super::*;
use proptest::prelude::*;

/// The definition, by counting: the smallest sample that enough samples do not exceed. In whole
/// numbers, tenths of a percent.
fn brute(samples: &[u64], tenths: usize) -> u64 {
    let enough =
        |x: u64| samples.iter().filter(|s| **s <= x).count() * 1000 >= tenths * samples.len();
    *samples.iter().filter(|x| enough(**x)).min().unwrap()
}

proptest! {
    #[test]
    fn percentiles_are_those_of_the_definition(
        mut samples in prop::collection::vec(0_u64..50, 1..300),
        tenths in 1_usize..=1000,
    ) {
        let unsorted = samples.clone();
        let summary = Summary::of(&mut samples).unwrap();
        prop_assert_eq!(percentile(&samples, tenths as f64 / 10.0), Some(brute(&unsorted, tenths)));
        prop_assert_eq!(summary.p50, brute(&unsorted, 500));
        prop_assert_eq!(summary.p95, brute(&unsorted, 950));
        prop_assert_eq!(summary.p99, brute(&unsorted, 990));
        prop_assert_eq!(summary.max, *unsorted.iter().max().unwrap());
        prop_assert_eq!(summary.min, *unsorted.iter().min().unwrap());
        prop_assert_eq!(summary.count, unsorted.len());
        let mean = unsorted.iter().sum::<u64>() as f64 / unsorted.len() as f64;
        prop_assert!((summary.mean - mean).abs() < 1e-9);
    }

    #[test]
    fn the_median_halves(mut values in prop::collection::vec(-1e6_f64..1e6, 1..100)) {
        let m = median(&mut values).unwrap();
        let n = values.len();
        prop_assert!(values.iter().filter(|v| **v < m).count() * 2 <= n);
        prop_assert!(values.iter().filter(|v| **v > m).count() * 2 <= n);
    }

}

proptest! {
    // Each case makes three bootstraps.
    #![proptest_config(ProptestConfig::with_cases(20))]

    #[test]
    fn a_slower_machine_is_no_change_and_a_slower_query_is(
        seed in any::<u64>(), machine in 0.5_f64..3.0, query in 1.3_f64..5.0,
    ) {
        let before = rounds(&mut Random::new(&[seed]), 20, 0.05, 0.0);
        let scaled = |query: f64| -> Vec<Round> {
            let scale = |r: &Round| Round {
                median: r.median * machine * query,
                reference: r.reference * machine,
            };
            before.iter().map(scale).collect()
        };
        let same = compare(&before, &scaled(1.0), 0.1, 1).unwrap();
        prop_assert_eq!(same.verdict, Movement::Same);
        prop_assert!((same.adjusted - 1.0).abs() < 1e-9 && (same.machine - machine).abs() < 1e-9);
        let slower = compare(&before, &scaled(query), 0.1, 1).unwrap();
        prop_assert_eq!(slower.verdict, Movement::Slower);
        prop_assert!((slower.adjusted - query).abs() < 1e-9);
        prop_assert!(slower.low <= slower.adjusted && slower.adjusted <= slower.high);
        let faster = compare(&scaled(query), &before, 0.1, 1).unwrap();
        prop_assert_eq!(faster.verdict, Movement::Faster);
        prop_assert!((faster.adjusted * query - 1.0).abs() < 1e-9);
    }

    #[test]
    fn a_random_index_is_in_range(seed in any::<u64>(), len in 1_usize..1000) {
        let mut random = Random::new(&[seed]);
        prop_assert!(random.index(len) < len);
        prop_assert!((0.0..1.0).contains(&random.uniform()));
    }
}

/// Rounds of a query of 1 ms whose noise is `sigma` on the log scale, and as strong as `alike` says
/// that of the round before (an autoregression).
fn rounds(random: &mut Random, count: usize, sigma: f64, alike: f64) -> Vec<Round> {
    let mut noise = |last: f64| {
        let normal = (0..12).map(|_| random.uniform()).sum::<f64>() - 6.0;
        alike * last + (1.0 - alike * alike).sqrt() * normal
    };
    let (mut query, mut reference) = (0.0, 0.0);
    (0..count)
        .map(|_| {
            query = noise(query);
            reference = noise(reference);
            Round {
                median: 0.001 * (sigma * query).exp(),
                reference: 0.0004 * (sigma * reference).exp(),
            }
        })
        .collect()
}

#[test]
fn noise_is_no_change_and_thirty_per_cent_is_found() {
    let mut random = Random::new(&[7]);
    let (mut false_alarms, mut missed) = (0, 0);
    for _ in 0..200 {
        let before = rounds(&mut random, 20, 0.05, 0.5);
        let now = rounds(&mut random, 20, 0.05, 0.5);
        let slower: Vec<Round> =
            now.iter().map(|r| Round { median: r.median * 1.3, ..*r }).collect();
        let verdict = |now: &[Round]| compare(&before, now, 0.1, 1).unwrap().verdict;
        false_alarms += usize::from(verdict(&now) != Movement::Same);
        missed += usize::from(verdict(&slower) != Movement::Slower);
    }
    // Without the minimum, 99 % intervals that know too little of the noise would be wrong more often.
    assert!(false_alarms <= 2, "{false_alarms} of 200");
    assert!(missed <= 2, "{missed} of 200");
}

#[test]
fn both_conditions_are_needed_and_so_are_rounds() {
    let flat = |median: f64, n: usize| vec![Round { median, reference: 1.0 }; n];
    let verdict = |before: &[Round], now: &[Round]| compare(before, now, 0.1, 1).unwrap().verdict;
    // Certain, but too small to count.
    assert_eq!(verdict(&flat(1.0, 20), &flat(1.09, 20)), Movement::Same);
    assert_eq!(verdict(&flat(1.0, 20), &flat(1.11, 20)), Movement::Slower);
    assert_eq!(verdict(&flat(1.0, 5), &flat(9.0, 20)), Movement::Unclear);
    // Large, but as likely as not by chance.
    let wild: Vec<Round> =
        (0..20).map(|i| Round { median: [0.5, 2.9][i % 2], reference: 1.0 }).collect();
    let change = compare(&flat(1.0, 20), &wild, 0.1, 1).unwrap();
    assert_eq!(change.verdict, Movement::Same);
    assert!(change.low < 1.0 && change.high > 1.0, "{change:?}");
    assert_eq!(compare(&[], &flat(1.0, 20), 0.1, 1), None);
    assert_eq!(compare(&flat(0.0, 20), &flat(1.0, 20), 0.1, 1), None);
}

#[test]
fn numbers_stay_what_they_are() {
    let mut random = Random::new(&[1, 2]);
    let first: Vec<u64> = (0..3).map(|_| random.below(1000)).collect();
    let mut other = Random::new(&[2, 1]);
    assert_ne!(first, (0..3).map(|_| other.below(1000)).collect::<Vec<_>>());
    let mut again = Random::new(&[1, 2]);
    assert_eq!(first, (0..3).map(|_| again.below(1000)).collect::<Vec<_>>());
    assert_eq!(Random::new(&[]).below(0), 0);
    assert_eq!(percentile::<u64>(&[], 50.0), None);
    assert_eq!(median(&mut []), None);
    assert_eq!(median(&mut [3.0, 1.0, 2.0, 10.0]), Some(2.5));
    assert_eq!(Summary::of(&mut []), None);
}
