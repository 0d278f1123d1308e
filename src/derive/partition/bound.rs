//! The text of a partition bound, as PostgreSQL deparses it.
//!
//! Must not: interpret a value; that needs the key's type.

use std::fmt;

/// One value in a bound.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Datum {
    /// `MINVALUE`: below every value.
    MinValue,
    /// `NULL`, in lists only.
    Null,
    /// A constant: the text between the quotes, or a bare number, `true` or `false`.
    Value(Box<str>),
    /// `MAXVALUE`: above every value.
    MaxValue,
}

/// The bound of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bound {
    /// Takes what no sibling takes.
    Default,
    /// From inclusive, to exclusive, compared column by column.
    Range {
        /// One value per key column.
        from: Box<[Datum]>,
        /// As many values as `from`.
        to: Box<[Datum]>,
    },
    /// Any of these values.
    List(Box<[Datum]>),
    /// Keys whose hash has this remainder.
    Hash {
        /// At least 1.
        modulus: u64,
        /// Below `modulus`.
        remainder: u64,
    },
}

impl Bound {
    /// Parses `FOR VALUES FROM … TO …`, `FOR VALUES IN …`, `FOR VALUES WITH …` or `DEFAULT`.
    /// `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let mut p = Parser(text);
        let bound = if p.word("DEFAULT") {
            Self::Default
        } else {
            p.expect("FOR")?;
            p.expect("VALUES")?;
            if p.word("FROM") {
                let from = p.values()?;
                p.expect("TO")?;
                let to = p.values()?;
                if from.len() != to.len() {
                    return None;
                }
                Self::Range { from, to }
            } else if p.word("IN") {
                Self::List(p.values()?)
            } else {
                p.expect("WITH")?;
                p.symbol('(')?;
                p.expect("modulus")?;
                let modulus = p.bare()?.parse().ok()?;
                p.symbol(',')?;
                p.expect("remainder")?;
                let remainder = p.bare()?.parse().ok()?;
                p.symbol(')')?;
                if remainder >= modulus {
                    return None;
                }
                Self::Hash { modulus, remainder }
            }
        };
        p.rest().is_empty().then_some(bound)
    }
}

impl fmt::Display for Datum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MinValue => f.write_str("MINVALUE"),
            Self::MaxValue => f.write_str("MAXVALUE"),
            Self::Null => f.write_str("NULL"),
            Self::Value(text) => write!(f, "'{}'", text.replace('\'', "''")),
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |values: &[Datum]| {
            let texts: Vec<String> = values.iter().map(Datum::to_string).collect();
            format!("({})", texts.join(", "))
        };
        match self {
            Self::Default => f.write_str("DEFAULT"),
            Self::Range { from, to } => write!(f, "FOR VALUES FROM {} TO {}", list(from), list(to)),
            Self::List(values) => write!(f, "FOR VALUES IN {}", list(values)),
            Self::Hash { modulus, remainder } => {
                write!(f, "FOR VALUES WITH (modulus {modulus}, remainder {remainder})")
            }
        }
    }
}

/// What is left to read.
struct Parser<'a>(&'a str);

impl<'a> Parser<'a> {
    fn rest(&mut self) -> &'a str {
        self.0 = self.0.trim_start();
        self.0
    }

    /// Takes a keyword if it is next and ends there.
    fn word(&mut self, word: &str) -> bool {
        let rest = self.rest();
        let Some((head, tail)) = rest.split_at_checked(word.len()) else { return false };
        let ends = !tail.starts_with(|c: char| c.is_alphanumeric() || c == '_');
        let found = ends && head.eq_ignore_ascii_case(word);
        if found {
            self.0 = tail;
        }
        found
    }

    fn expect(&mut self, word: &str) -> Option<()> {
        self.word(word).then_some(())
    }

    fn symbol(&mut self, symbol: char) -> Option<()> {
        self.0 = self.rest().strip_prefix(symbol)?;
        Some(())
    }

    /// `(a, b, …)`, at least one.
    fn values(&mut self) -> Option<Box<[Datum]>> {
        self.symbol('(')?;
        let mut values = vec![self.datum()?];
        loop {
            if self.symbol(')').is_some() {
                return Some(values.into());
            }
            self.symbol(',')?;
            values.push(self.datum()?);
        }
    }

    fn datum(&mut self) -> Option<Datum> {
        let rest = self.rest();
        // Bit strings print as B'101' and X'1F'.
        let bits = rest.starts_with("B'") || rest.starts_with("X'");
        if let Some(tail) = rest.get(usize::from(bits)..).and_then(|r| r.strip_prefix('\'')) {
            return self.quoted(tail);
        }
        Some(match self.bare()? {
            word if word.eq_ignore_ascii_case("MINVALUE") => Datum::MinValue,
            word if word.eq_ignore_ascii_case("MAXVALUE") => Datum::MaxValue,
            word if word.eq_ignore_ascii_case("NULL") => Datum::Null,
            word => Datum::Value(word.into()),
        })
    }

    /// The rest of a string whose opening quote is gone; a doubled quote stands for one.
    fn quoted(&mut self, text: &'a str) -> Option<Datum> {
        let mut end = 0;
        let mut doubled = false;
        loop {
            end += text.get(end..)?.find('\'')?;
            if !text.get(end + 1..)?.starts_with('\'') {
                break;
            }
            doubled = true;
            end += 2;
        }
        let (value, tail) = (text.get(..end)?, text.get(end + 1..)?);
        self.0 = tail;
        let value = if doubled { value.replace("''", "'") } else { value.to_owned() };
        Some(Datum::Value(value.into()))
    }

    /// A run without quotes, separators or space: a number, a keyword.
    fn bare(&mut self) -> Option<&'a str> {
        let rest = self.rest();
        let end = rest
            .find(|c: char| c.is_whitespace() || matches!(c, ',' | '(' | ')' | '\''))
            .unwrap_or(rest.len());
        let (word, tail) = rest.split_at(end);
        self.0 = tail;
        (!word.is_empty()).then_some(word)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value(text: &str) -> Datum {
        Datum::Value(text.into())
    }

    #[test]
    fn reads_what_postgresql_prints() {
        let range = Bound::parse(
            "FOR VALUES FROM ('2026-01-01 00:00:00+00', MINVALUE) TO (MAXVALUE, MAXVALUE)",
        );
        let from = [value("2026-01-01 00:00:00+00"), Datum::MinValue].into();
        let to = [Datum::MaxValue, Datum::MaxValue].into();
        assert_eq!(range, Some(Bound::Range { from, to }));
        let list = Bound::parse("FOR VALUES IN ('it''s, (odd)', NULL, 7, '-7', true, B'101')");
        let values = [
            value("it's, (odd)"),
            Datum::Null,
            value("7"),
            value("-7"),
            value("true"),
            value("101"),
        ];
        assert_eq!(list, Some(Bound::List(values.into())));
        let hash = Bound::parse("FOR VALUES WITH (modulus 8, remainder 3)");
        assert_eq!(hash, Some(Bound::Hash { modulus: 8, remainder: 3 }));
        assert_eq!(Bound::parse("DEFAULT"), Some(Bound::Default));
        // A quoted MINVALUE is a text like any other.
        let text = Bound::parse("FOR VALUES IN ('MINVALUE')");
        assert_eq!(text, Some(Bound::List([value("MINVALUE")].into())));
    }

    #[test]
    fn refuses_what_is_no_bound() {
        for text in [
            "",
            "DEFAULTS",
            "DEFAULT x",
            "FOR VALUES",
            "FOR VALUES FROM (1) TO (2, 3)",
            "FOR VALUES FROM () TO ()",
            "FOR VALUES IN ('a",
            "FOR VALUES IN ('a''",
            "FOR VALUES IN ('a' 'b')",
            "FOR VALUES WITH (modulus 4, remainder 4)",
            "FOR VALUES WITH (modulus -1, remainder 0)",
        ] {
            assert_eq!(Bound::parse(text), None, "{text}");
        }
    }

    fn datum() -> impl Strategy<Value = Datum> {
        prop_oneof![
            Just(Datum::MinValue),
            Just(Datum::MaxValue),
            Just(Datum::Null),
            any::<String>().prop_map(|s| Datum::Value(s.into())),
            "[',() ]{0,6}".prop_map(|s| Datum::Value(s.into())),
        ]
    }

    fn bound() -> impl Strategy<Value = Bound> {
        let pairs = prop::collection::vec((datum(), datum()), 1..5);
        prop_oneof![
            Just(Bound::Default),
            pairs.prop_map(|pairs| {
                let (from, to): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
                Bound::Range { from: from.into(), to: to.into() }
            }),
            prop::collection::vec(datum(), 1..9).prop_map(|v| Bound::List(v.into())),
            (1..u64::MAX, any::<u64>())
                .prop_map(|(modulus, r)| Bound::Hash { modulus, remainder: r % modulus }),
        ]
    }

    proptest! {
        #[test]
        fn never_panics(text in any::<String>()) {
            let _ = Bound::parse(&text);
        }

        #[test]
        fn never_panics_on_what_looks_like_a_bound(
            text in "(DEFAULT|FOR VALUES (FROM|IN|WITH|TO)) ?[(),' MINVALUEmodulusremainder0-9é]{0,40}",
        ) {
            if let Some(bound) = Bound::parse(&text) {
                prop_assert_eq!(Bound::parse(&bound.to_string()), Some(bound));
            }
        }

        #[test]
        fn round_trips(bound in bound()) {
            prop_assert_eq!(Bound::parse(&bound.to_string()), Some(bound));
        }
    }
}
