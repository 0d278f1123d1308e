//! The registration list of checks, and what several of them share.
//!
//! Must not: change the id of a check; pipelines name them.

mod bloat;
mod build;
mod constraints;
mod corruption;
mod create;
pub(super) mod databases;
pub(super) mod indexes;
mod partitions;
mod pruning;
mod recommended;
mod settings;
mod tables;

use super::check::{Check, Finding};

/// One line a file.
const GROUPS: &[&[&Check]] = &[
    databases::CHECKS,
    indexes::CHECKS,
    bloat::CHECKS,
    corruption::CHECKS,
    partitions::CHECKS,
    pruning::CHECKS,
    constraints::CHECKS,
    tables::CHECKS,
    settings::CHECKS,
    recommended::CHECKS,
];

/// Every check there is, in the order of reports and of `docs/verify.md`.
pub fn all() -> impl Iterator<Item = &'static Check> {
    GROUPS.iter().copied().flatten().copied()
}

/// Whether `--exact` makes a check read data.
pub(super) fn measures(check: &Check) -> bool {
    check.id == bloat::BLOAT.id
}

/// `1 index expected`, `19 indexes expected`.
pub(super) fn counted(n: usize, noun: &str, rest: &str) -> String {
    let plural = match noun {
        _ if n == 1 => noun.to_owned(),
        noun if noun.ends_with('x') => format!("{noun}es"),
        noun if noun.ends_with("ery") => format!("{}ies", noun.trim_end_matches('y')),
        noun => format!("{noun}s"),
    };
    let space = if rest.is_empty() { "" } else { " " };
    format!("{n} {plural}{space}{rest}")
}

/// A number of seconds for people: `3.5 days`, `2 hours`, `10 s`.
fn span(seconds: f64) -> String {
    let (unit, size) = match seconds.abs() {
        s if s >= 172_800.0 => ("days", 86_400.0),
        s if s >= 7_200.0 => ("hours", 3_600.0),
        s if s >= 120.0 => ("minutes", 60.0),
        _ => ("s", 1.0),
    };
    let value = format!("{:.1}", seconds / size);
    format!("{} {unit}", value.strip_suffix(".0").unwrap_or(&value))
}

/// Bytes for people.
fn bytes(n: f64) -> String {
    let (unit, size) = match n {
        n if n >= 1e9 => ("GB", 1e9),
        n if n >= 1e6 => ("MB", 1e6),
        _ => ("kB", 1e3),
    };
    format!("{:.1} {unit}", n / size)
}

/// A large number for people: `1,234,567`.
fn thousands(n: f64) -> String {
    let digits = format!("{:.0}", n.abs());
    let mut out = String::from(if n < -0.5 { "-" } else { "" });
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Unix seconds for people, in UTC.
fn instant(seconds: f64) -> String {
    #[expect(clippy::cast_possible_truncation, reason = "jiff refuses what is out of range")]
    match jiff::Timestamp::from_second(seconds as i64) {
        Ok(at) => at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
        Err(_) => format!("{seconds:.0} s since 1970"),
    }
}

/// The heaviest first, then by name.
fn sorted(mut findings: Vec<Finding>) -> Vec<Finding> {
    findings.sort_by(|a, b| b.severity.cmp(&a.severity).then_with(|| a.object.cmp(&b.object)));
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn ids_are_unique_and_each_check_says_what_it_does() {
        let mut seen = HashSet::new();
        for check in all() {
            assert!(seen.insert(check.id), "{} is there twice", check.id);
            let (group, name) = check.id.split_once('.').unwrap();
            for part in [group, name] {
                assert!(!part.is_empty(), "{}", check.id);
                let plain = |b: u8| b.is_ascii_lowercase() || b == b'_';
                assert!(part.bytes().all(plain), "{}", check.id);
            }
            for text in [check.finds, check.why] {
                assert!(text.ends_with('.') && !text.contains('\n'), "{}: {text}", check.id);
            }
            assert!(!check.locks.is_empty(), "{}", check.id);
        }
    }

    #[test]
    fn figures_for_people() {
        assert_eq!(counted(19, "index", "expected"), "19 indexes expected");
        assert_eq!(counted(1, "index", "expected"), "1 index expected");
        assert_eq!(counted(0, "query", ""), "0 queries");
        assert_eq!(counted(2, "foreign key", "valid"), "2 foreign keys valid");
        assert_eq!(span(-604_800.0), "-7 days");
        assert_eq!(span(5_400.0), "90 minutes");
        assert_eq!(thousands(1_234_567.0), "1,234,567");
        assert_eq!(thousands(-999.0), "-999");
        assert_eq!(instant(0.0), "1970-01-01 00:00:00 UTC");
    }
}
