//! The nearest known name to a mistyped one.
//!
//! Must not: suggest what is too far away to be what was meant.

/// The known name nearest to `typed`, if it is near enough to be what was meant: at most two edits,
/// and never more than a third of the longer name. Case, `-` and `_` are not told apart.
pub fn nearest<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let typed = folded(typed);
    // A name this long is not a typing error, and the distance is quadratic.
    if typed.is_empty() || typed.len() > 100 {
        return None;
    }
    known
        .into_iter()
        .filter_map(|name| {
            let candidate = folded(name);
            let distance = distance(&typed, &candidate);
            let allowed = 2.min(typed.len().max(candidate.len()) / 3);
            (distance <= allowed).then_some((distance, name))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Whether a name may be repeated in a message: an identifier, not a piece of something secret.
pub fn printable(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
}

fn folded(name: &str) -> Vec<char> {
    name.chars().map(|c| if c == '-' { '_' } else { c.to_ascii_lowercase() }).collect()
}

/// Edits between two names, where swapping two neighbours is one edit (optimal string alignment).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, cb) in b.iter().enumerate() {
            let mut best = (last[j] + usize::from(ca != cb)).min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *ca == b[j - 1] && a[i - 1] == *cb {
                best = best.min(before_last[j - 1] + 1);
            }
            row.push(best);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn finds_what_was_meant_and_nothing_else() {
        let known = ["interval", "enabled", "top", "listen_address", "sslmode"];
        for (typed, expected) in [
            ("intervall", Some("interval")),
            ("inteval", Some("interval")),
            ("itnerval", Some("interval")),
            ("Listen-Address", Some("listen_address")),
            ("ssl_mode", Some("sslmode")),
            ("tpo", Some("top")),
            ("enable", Some("enabled")),
            ("pot", None),
            ("x", None),
            ("", None),
            ("retention", None),
        ] {
            assert_eq!(nearest(typed, known), expected, "{typed}");
        }
    }

    #[test]
    fn the_distance_counts_a_swap_once() {
        let d = |a: &str, b: &str| distance(&folded(a), &folded(b));
        assert_eq!(d("abc", "abc"), 0);
        assert_eq!(d("abc", "acb"), 1);
        assert_eq!(d("abc", ""), 3);
        assert_eq!(d("kitten", "sitting"), 3);
    }

    proptest! {
        #[test]
        fn never_panics_and_finds_itself(name in any::<String>(), known in "[a-z_]{1,20}") {
            let _ = nearest(&name, [known.as_str()]);
            prop_assert_eq!(nearest(&known, [known.as_str()]), Some(known.as_str()));
        }

        #[test]
        fn the_distance_is_symmetric(a in "[a-d]{0,8}", b in "[a-d]{0,8}") {
            prop_assert_eq!(distance(&folded(&a), &folded(&b)), distance(&folded(&b), &folded(&a)));
        }
    }
}
