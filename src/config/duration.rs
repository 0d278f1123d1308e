//! Durations as Prometheus writes them: `1h30m`, `7d`, `500ms`.
//!
//! Must not: accept a bare number (nobody can tell seconds from milliseconds), except `0`.

use std::time::Duration;

/// Units from long to short, in milliseconds; a day has 24 hours and a year 365 days.
const UNITS: [(&str, u64); 7] = [
    ("y", 31_536_000_000),
    ("w", 604_800_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Reads a duration: whole numbers with units from long to short, each unit at most once.
///
/// # Errors
/// What is wrong with the text; the text itself is not repeated.
pub fn parse(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    if text.is_empty() {
        return Err("is empty".to_owned());
    }
    let mut rest = text;
    let mut total: u64 = 0;
    let mut next_unit = 0;
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, tail) = rest.split_at(digits);
        let letters = tail.len() - tail.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
        let (unit, tail) = tail.split_at(letters);
        if number.is_empty() {
            return Err("is not a duration such as 500ms, 30s, 1h30m or 7d".to_owned());
        }
        if unit.is_empty() {
            return Err(if tail.is_empty() {
                "has a number without a unit (ms, s, m, h, d, w or y)".to_owned()
            } else {
                "is not a duration such as 500ms, 30s, 1h30m or 7d".to_owned()
            });
        }
        let Some(index) = UNITS.iter().position(|(name, _)| *name == unit) else {
            return Err("has an unknown unit; the units are ms, s, m, h, d, w and y".to_owned());
        };
        if index < next_unit {
            return Err("has its units out of order or twice; write 1h30m, not 30m1h".to_owned());
        }
        next_unit = index + 1;
        total = number
            .parse::<u64>()
            .ok()
            .and_then(|n| n.checked_mul(UNITS[index].1))
            .and_then(|part| total.checked_add(part))
            .ok_or_else(|| "is too long to be counted".to_owned())?;
        rest = tail;
    }
    Ok(Duration::from_millis(total))
}

/// Writes a duration so that [`parse`] reads it back; below a millisecond it is cut off.
pub fn format(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if rest == 0 {
        return "0".to_owned();
    }
    // 7d reads better than 1w, and years are of uneven length.
    let mut text = String::new();
    for (unit, millis) in UNITS.into_iter().filter(|(unit, _)| !matches!(*unit, "w" | "y")) {
        if rest >= millis {
            text.push_str(&format!("{}{unit}", rest / millis));
            rest %= millis;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_prometheus_reads() {
        for (text, millis) in [
            ("0", 0),
            ("0s", 0),
            ("500ms", 500),
            ("5s", 5_000),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("1d12h", 129_600_000),
            ("7d", 604_800_000),
            ("2w", 1_209_600_000),
            ("1y", 31_536_000_000),
            ("1y1w1d1h1m1s1ms", 32_230_861_001),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn refuses_the_rest_with_a_reason() {
        for (text, reason) in [
            ("", "is empty"),
            ("5", "without a unit"),
            ("1h5", "without a unit"),
            ("m", "is not a duration"),
            ("-5s", "is not a duration"),
            ("1.5s", "is not a duration"),
            ("5 s", "is not a duration"),
            ("5s ", "is not a duration"),
            ("5min", "unknown unit"),
            ("5us", "unknown unit"),
            ("5M", "unknown unit"),
            ("30m1h", "out of order"),
            ("1s1s", "out of order or twice"),
            ("99999999999999999999s", "too long"),
            ("600000000y", "too long"),
            ("584542046y584542046w", "too long"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn formats_without_weeks_and_years() {
        assert_eq!(format(Duration::ZERO), "0");
        assert_eq!(format(Duration::from_millis(5_400_010)), "1h30m10ms");
        assert_eq!(format(Duration::from_secs(604_800)), "7d");
        assert_eq!(format(Duration::from_secs(366 * 86_400)), "366d");
    }

    proptest! {
        #[test]
        fn never_panics(text in any::<String>()) {
            let _ = parse(&text);
        }

        #[test]
        fn never_panics_near_the_grammar(text in "[0-9ymwdhs .-]{0,24}") {
            let _ = parse(&text);
        }

        #[test]
        fn format_is_read_back(millis in any::<u32>()) {
            let duration = Duration::from_millis(u64::from(millis) * 1_000 + 7);
            prop_assert_eq!(parse(&format(duration)), Ok(duration));
        }
    }
}
