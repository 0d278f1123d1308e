//! Commands for a POSIX shell.
//!
//! Must not: let a word become two, or a part of one a command.

use std::fmt;

use serde::{Serialize, Serializer};

/// A command: its words, unquoted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command(Vec<String>);

impl Command {
    /// The program, by a name from the source.
    pub fn new(program: &'static str) -> Self {
        Self(vec![program.to_owned()])
    }

    /// Adds an argument, whatever it holds.
    pub fn arg(mut self, word: impl Into<String>) -> Self {
        self.0.push(word.into());
        self
    }

    /// Adds several.
    pub fn args<'a>(mut self, words: impl IntoIterator<Item = &'a str>) -> Self {
        self.0.extend(words.into_iter().map(str::to_owned));
        self
    }

    /// The words, unquoted.
    pub fn words(&self) -> &[String] {
        &self.0
    }

    /// `pgrunway verify` for one rule, about a database where the rule is about one.
    pub fn verify(rule: &str, datname: Option<&str>) -> Self {
        let command = Self::new("pgrunway").args(["verify", "--only", rule]);
        match datname {
            Some(name) => command.arg(format!("--database={name}")),
            None => command,
        }
    }

    /// psql as every script of ours wants it, on a database whose name may look like a connection string.
    pub fn psql(datname: &str) -> Self {
        let plain = !datname.is_empty()
            && !datname.starts_with('-')
            && datname.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
        let database = if plain {
            datname.to_owned()
        } else {
            let value = datname.replace('\\', "\\\\").replace('\'', "\\'");
            format!("dbname='{value}'")
        };
        Self::new("psql").args(["-X", "-v", "ON_ERROR_STOP=1", "-d"]).arg(database)
    }
}

/// One word, quoted where a shell would read more than itself. Control characters need `$'...'`, which POSIX
/// has since 2024 and bash, dash from 0.5.13 on, zsh and ksh know.
fn word(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-./:=,@%+".contains(&b);
    if !text.is_empty() && text.bytes().all(plain) {
        return text.to_owned();
    }
    if !text.chars().any(super::text::hazardous) {
        return format!("'{}'", text.replace('\'', "'\\''"));
    }
    let mut out = "$'".to_owned();
    for c in text.chars() {
        match c {
            '\'' | '\\' => out.extend(['\\', c]),
            c if super::text::hazardous(c) => {
                let mut bytes = [0; 4];
                // Octal digits of each byte: what follows cannot lengthen them.
                let encoded = c.encode_utf8(&mut bytes).bytes();
                encoded.for_each(|b| out.push_str(&format!("\\{b:03o}")));
            }
            c => out.push(c),
        }
    }
    out + "'"
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<String> = self.0.iter().map(|w| word(w)).collect();
        f.write_str(&words.join(" "))
    }
}

impl Serialize for Command {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words_stay_words() {
        for (text, want) in [
            ("--days", "--days"),
            ("", "''"),
            ("x$(touch pwned)", "'x$(touch pwned)'"),
            ("it's", "'it'\\''s'"),
            ("a\u{1b}b'", "$'a\\033b\\''"),
            ("a\n7", "$'a\\0127'"),
        ] {
            assert_eq!(word(text), want);
        }
        let psql = |name: &str| Command::psql(name).to_string();
        assert_eq!(psql("shop"), "psql -X -v ON_ERROR_STOP=1 -d shop");
        assert_eq!(
            psql("a=b'\\"),
            "psql -X -v ON_ERROR_STOP=1 -d 'dbname='\\''a=b\\'\\''\\\\'\\'''"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_shell_gives_each_word_back(name in "[^\0]*") {
            let command = Command::new("printf").arg("%s").arg(&name);
            let line = command.to_string();
            prop_assert!(!line.chars().any(crate::remedy::text::hazardous));
            let out = std::process::Command::new("bash").arg("-c").arg(&line).output().unwrap();
            prop_assert_eq!(String::from_utf8(out.stdout).unwrap(), name);
        }
    }
}
