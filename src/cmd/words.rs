//! Figures in words, for what people read.
//!
//! Must not: hold a unit; `derive::units` has bytes and seconds.

/// `1 index`, `19 indexes`.
pub fn counted(n: usize, noun: &str) -> String {
    let plural = match noun {
        _ if n == 1 => noun.to_owned(),
        noun if noun.ends_with('x') => format!("{noun}es"),
        noun if noun.ends_with("ery") => format!("{}ies", noun.trim_end_matches('y')),
        noun => format!("{noun}s"),
    };
    format!("{n} {plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_and_many() {
        assert_eq!(counted(19, "index"), "19 indexes");
        assert_eq!(counted(1, "index"), "1 index");
        assert_eq!(counted(0, "query"), "0 queries");
        assert_eq!(counted(2, "foreign key"), "2 foreign keys");
    }
}
