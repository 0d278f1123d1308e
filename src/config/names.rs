//! What Prometheus' data model allows of a label and of the beginning of a metric's name.
//!
//! Must not: know a metric.

use super::Fault;

/// Labels that the exposition or Prometheus itself gives.
const TAKEN: [&str; 4] = ["le", "quantile", "job", "instance"];

/// `name=value`, as a label.
pub(super) fn label(text: &str) -> Result<(String, String), Fault> {
    let bad = |problem: &str| Fault::new(problem, "write `name=value`, such as `region=eu`");
    let (name, value) = text.split_once('=').ok_or_else(|| bad("holds a label without `=`"))?;
    let (name, value) = (name.trim(), value.trim());
    let letter = |b: u8| b.is_ascii_alphabetic() || b == b'_';
    let plain = name.bytes().next().is_some_and(letter)
        && name.bytes().all(|b| letter(b) || b.is_ascii_digit())
        && !name.starts_with("__");
    if !plain {
        return Err(bad("holds a name that no label may have"));
    }
    if TAKEN.contains(&name) {
        return Err(bad("names a label that others set: `le`, `quantile`, `job` or `instance`"));
    }
    if value.is_empty() {
        return Err(bad("holds a label without a value"));
    }
    Ok((name.to_owned(), value.to_owned()))
}

/// The beginning of a metric's name.
pub(super) fn prefix(text: &str) -> Result<String, Fault> {
    let letter = |b: u8| b.is_ascii_alphabetic() || b == b'_';
    let plain = text.bytes().next().is_some_and(letter)
        && text.bytes().all(|b| letter(b) || b.is_ascii_digit());
    if plain && text.len() <= 64 {
        return Ok(text.to_owned());
    }
    Err(Fault::new("is no beginning of a metric's name", "use letters, digits and `_`, 64 at most"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_prefixes_are_held_to_the_data_model() {
        let pair = |a: &str, b: &str| Ok((a.to_owned(), b.to_owned()));
        assert_eq!(label("a=b"), pair("a", "b"));
        assert_eq!(label(" region = eu=1 "), pair("region", "eu=1"));
        for bad in ["a", "=b", "a=", "1a=b", "a-b=c", "__a=b", "le=1", "job=x", ""] {
            assert!(label(bad).is_err(), "{bad}");
        }
        assert_eq!(prefix("my_pg"), Ok("my_pg".to_owned()));
        for bad in ["", "1", "a-b", "a:b", "ä"] {
            assert!(prefix(bad).is_err(), "{bad}");
        }
    }
}
