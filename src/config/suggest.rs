//! The nearest known name to a mistyped one.
//!
//! Must not: suggest what is too far away to be what was meant.

/// The known name nearest to `typed`, if it is near enough to be what was meant: at most two edits,
/// and never more than a third of the longer name. Case, `-` and `_` are not told apart.
pub fn nearest<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let typed = folded(typed);
    // A name this long is not a typing error, and the distance is quadratic.
    if typed.is_empty() || typed.chars().count() > 100 {
        return None;
    }
    known
        .into_iter()
        .filter_map(|name| {
            let candidate = folded(name);
            // Swapping two neighbours is one edit.
            let distance = strsim::osa_distance(&typed, &candidate);
            let allowed = 2.min(typed.chars().count().max(candidate.chars().count()) / 3);
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

fn folded(name: &str) -> String {
    name.replace('-', "_").to_ascii_lowercase()
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

    proptest! {
        #[test]
        fn never_panics_and_finds_itself(name in any::<String>(), known in "[a-z_]{1,20}") {
            let _ = nearest(&name, [known.as_str()]);
            prop_assert_eq!(nearest(&known, [known.as_str()]), Some(known.as_str()));
        }
    }
}
