//! Keeps the password of a session out of what its server says: a server, or a pooler before it, may give back what
//! it was sent.
//!
//! Must not: show the password, or where in a text a short one stood.

use crate::text::foreign;

/// Shorter passwords show by what stands around them, so that the whole text is withheld.
const SHORTEST: usize = 4;
/// Shorter passwords stay in names of the database's, where they are more likely to be a word.
const SHORTEST_IN_NAMES: usize = 8;
const MASK: &str = "***";

/// A password as it may come back: as it is, in a URI, in SQL, in a quoted string. All in lower case.
#[derive(Default)]
pub(super) struct Veil {
    forms: Vec<String>,
    short: bool,
    /// For names: the password itself.
    whole: Option<String>,
}

impl Veil {
    /// `known` is what the password may equal without being a secret: the user and the database.
    pub(super) fn new(password: Option<&str>, known: &[&str]) -> Self {
        let Some(password) = password.filter(|p| !p.is_empty()) else { return Self::default() };
        let mut forms = vec![
            password.to_owned(),
            percent(password, false),
            percent(password, true),
            password.replace('\'', "''"),
            password.replace('\\', "\\\\"),
            format!("{password:?}").trim_matches('"').to_owned(),
        ];
        forms.iter_mut().for_each(|form| form.make_ascii_lowercase());
        forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
        forms.dedup();
        let secret = password.len() >= SHORTEST_IN_NAMES && !known.contains(&password);
        Self {
            forms,
            short: password.chars().count() < SHORTEST,
            whole: secret.then(|| password.to_owned()),
        }
    }

    /// What a server said, fit for an error: without the password, in one line of bounded length.
    pub(super) fn text(&self, text: &str) -> String {
        foreign(&self.over(text))
    }

    fn over(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for form in &self.forms {
            let lower = text.to_ascii_lowercase();
            if !lower.contains(form) {
                continue;
            }
            if self.short {
                return "(withheld, since the password is in it)".to_owned();
            }
            let (mut out, mut done) = (String::with_capacity(text.len()), 0);
            for (at, found) in lower.match_indices(form) {
                out.push_str(&text[done..at]);
                out.push_str(MASK);
                done = at + found.len();
            }
            out.push_str(&text[done..]);
            text = out;
        }
        text
    }

    /// A value of a row without the password, `None` if it does not hold it.
    pub(super) fn value(&self, value: &str) -> Option<String> {
        let whole = self.whole.as_deref()?;
        value.contains(whole).then(|| value.replace(whole, MASK))
    }
}

/// As in a URI: everything but letters and digits (or, if not `all`, but what RFC 3986 leaves unreserved).
fn percent(text: &str, all: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || (!all && b"-._~".contains(&byte)) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02x}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_does_not_come_back_in_any_usual_form() {
        let veil = Veil::new(Some("s3cr'et/Ü\\x"), &[]);
        for text in [
            "no s3cr'et/Ü\\x here",
            "no S3CR'ET/Ü\\X here",
            "no s3cr''et/Ü\\x here",
            "no s3cr'et/Ü\\\\x here",
            "no s3cr%27et%2F%C3%9C%5Cx here",
            "no s3cr%27et%2f%c3%9c%5cx here",
        ] {
            assert_eq!(veil.text(text), "no *** here", "{text}");
        }
        assert_eq!(veil.text("nothing of it"), "nothing of it");
    }

    #[test]
    fn a_short_password_takes_the_whole_text_with_it() {
        let veil = Veil::new(Some("abc"), &[]);
        assert_eq!(veil.text("the ABC of it"), "(withheld, since the password is in it)");
        assert_eq!(veil.text("ok"), "ok");
        assert_eq!(Veil::new(None, &[]).text("a\nb"), "a\\nb");
    }

    #[test]
    fn a_long_password_is_taken_out_of_names_unless_it_is_one() {
        let veil = Veil::new(Some("long enough"), &[]);
        assert_eq!(veil.value("x long enough y").as_deref(), Some("x *** y"));
        assert_eq!(veil.value("x"), None);
        assert_eq!(Veil::new(Some("pgrunway"), &["pgrunway"]).value("pgrunway"), None);
        assert_eq!(Veil::new(Some("short"), &[]).value("short"), None);
    }
}
