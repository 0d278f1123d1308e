//! Ranges of server versions, as postgres_exporter's `runonserver` has them: `>=10.0.0 <14.0.0 || 16.x`.
//!
//! Must not: know where a version came from.

use std::cmp::Ordering;

use super::super::Fault;

/// Major, minor and patch; of PostgreSQL 15.4 these are 15, 4 and 0.
type Version = [u64; 3];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum VersionSign {
    Equal,
    Unequal,
    Less,
    AtMost,
    More,
    AtLeast,
}

/// A version of which the last parts may be left open: what is true of `14` is true of all its releases.
#[derive(Debug, Clone, PartialEq, Eq)]
struct VersionBound {
    sign: VersionSign,
    parts: Vec<u64>,
}

/// Versions of PostgreSQL for which something is meant; all of them if empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Versions(Vec<Vec<VersionBound>>);

impl VersionBound {
    fn holds(&self, version: Version) -> bool {
        let part = &version[..self.parts.len()];
        let order = part.cmp(self.parts.as_slice());
        match self.sign {
            VersionSign::Equal => order == Ordering::Equal,
            VersionSign::Unequal => order != Ordering::Equal,
            VersionSign::Less => order == Ordering::Less,
            VersionSign::AtMost => order != Ordering::Greater,
            VersionSign::More => order == Ordering::Greater,
            VersionSign::AtLeast => order != Ordering::Less,
        }
    }
}

impl Versions {
    /// Whether a server's version is among them, given as `server_version_num`.
    pub fn admit(&self, version_num: i32) -> bool {
        let number = u64::try_from(version_num).unwrap_or(0);
        let version = match number {
            100_000.. => [number / 10_000, number % 10_000, 0],
            // Before 10: 9.6.24 is 90624.
            _ => [number / 10_000, number / 100 % 100, number % 100],
        };
        let all = |bounds: &Vec<VersionBound>| bounds.iter().all(|bound| bound.holds(version));
        self.0.is_empty() || self.0.iter().any(all)
    }

    /// Reads ranges: comparisons, all of which must hold; `||` stands between alternatives.
    ///
    /// # Errors
    /// It is none.
    pub(in crate::config) fn parse(text: &str) -> Result<Self, Fault> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let alternatives = text.split("||").map(alternative).collect::<Option<Vec<_>>>();
        alternatives.map(Self).ok_or_else(|| {
            Fault::new(
                "is no range of versions",
                "write comparisons such as `>=13.0.0 <16.0.0`, `14.x` or `<12 || >=15`",
            )
        })
    }
}

fn alternative(text: &str) -> Option<Vec<VersionBound>> {
    let mut bounds = Vec::new();
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let signs = [
            ("==", VersionSign::Equal),
            ("!=", VersionSign::Unequal),
            (">=", VersionSign::AtLeast),
            ("<=", VersionSign::AtMost),
            ("=", VersionSign::Equal),
            ("!", VersionSign::Unequal),
            (">", VersionSign::More),
            ("<", VersionSign::Less),
        ];
        let found =
            signs.into_iter().find_map(|(text, sign)| Some((sign, rest.strip_prefix(text)?)));
        let (sign, after) = found.unwrap_or((VersionSign::Equal, rest));
        let after = after.trim_start();
        let end = after
            .find(|c: char| c.is_whitespace() || matches!(c, '<' | '>' | '=' | '!'))
            .unwrap_or(after.len());
        let (version, after) = after.split_at(end);
        bounds.push(VersionBound { sign, parts: parts(version)? });
        rest = after.trim_start();
    }
    Some(bounds)
}

/// `14.2.0`, `14.2`, `14` or, the same, `14.x`.
fn parts(text: &str) -> Option<Vec<u64>> {
    let mut parts = Vec::new();
    let mut open = false;
    for part in text.split('.') {
        match part {
            "x" | "X" | "*" if !parts.is_empty() => open = true,
            _ if open => return None,
            _ if part.bytes().all(|b| b.is_ascii_digit()) => parts.push(part.parse().ok()?),
            _ => return None,
        }
    }
    (!parts.is_empty() && text.split('.').count() <= 3).then_some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ranges_as_postgres_exporter_takes_them() {
        for (text, among, not) in [
            (">=10.0.0", &[100_000, 150_018][..], &[90_624][..]),
            (">=9.6.0 <10.0.0", &[90_600, 90_624], &[90_524, 100_001]),
            ("<10.0.0 || >=15.4.0", &[90_624, 150_004, 160_000], &[100_000, 150_003]),
            ("14.x", &[140_000, 140_012], &[130_000, 150_000]),
            ("<=14.x", &[140_012, 130_001], &[150_000]),
            (">14", &[150_000], &[140_012]),
            ("=15.4.0", &[150_004], &[150_005]),
            ("!15.x", &[140_000, 160_000], &[150_002]),
            (">= 13.0.0 < 16.0.0 != 14.1.0", &[140_002, 150_000], &[140_001, 160_000]),
            ("", &[90_600, 190_000], &[]),
        ] {
            let versions = Versions::parse(text).unwrap();
            assert!(among.iter().all(|v| versions.admit(*v)), "{text}");
            assert!(!not.iter().any(|v| versions.admit(*v)), "{text}");
        }
        for bad in ["abc", ">=", "1.2.3.4", "||", ">=1 ||", "x", "1.x.2", ">=-1", "14.2-beta"] {
            assert!(Versions::parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "[<>=!|x*0-9. ]{0,20}", version in any::<i32>()) {
            if let Ok(versions) = Versions::parse(&text) {
                let _ = versions.admit(version);
            }
        }
    }
}
