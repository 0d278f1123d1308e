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
    format!("{} {rest}", crate::cmd::words::counted(n, noun)).trim_end().to_owned()
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
            // Of a rule it is the end of a sentence: "holds when".
            let ruled = crate::findings::rule(check.id).is_some_and(|r| r.finds == check.finds);
            assert!(check.finds.ends_with('.') != ruled, "{}: {}", check.id, check.finds);
            for text in [check.finds, check.why] {
                assert!(!text.contains('\n'), "{}: {text}", check.id);
            }
            assert!(check.why.ends_with('.'), "{}", check.id);
            assert!(!check.locks.is_empty(), "{}", check.id);
        }
    }

    #[test]
    fn figures_for_people() {
        assert_eq!(thousands(1_234_567.0), "1,234,567");
        assert_eq!(thousands(-999.0), "-999");
    }
}
