//! The log: to stderr, as text for people or JSON for machines. Whatever an event carries, it takes one line of
//! bounded length, without a character that moves a cursor or turns a text around.
//!
//! Must not: be initialised more than once, or change what is logged where.

use std::io::{self, IsTerminal, Write};

use serde_json::Value;
use tracing_subscriber::fmt::MakeWriter;

use crate::config::{Config, LogFormat};
use crate::text::{LONGEST, bounded, hazardous, one_line};

/// Most bytes of a line before its escapes.
const LINE: usize = 4 * LONGEST;

/// Starts logging as the configuration says. A second call does nothing.
pub fn init(config: &Config) {
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let form = match config.log_format() {
        LogFormat::Json => Form::Json,
        LogFormat::Text if colour => Form::Coloured,
        LogFormat::Text => Form::Plain,
    };
    let builder = tracing_subscriber::fmt()
        .with_max_level(config.log_level())
        .with_writer(Lines(form))
        .with_ansi(form == Form::Coloured)
        .with_target(false);
    // Another subscriber is there only in tests.
    let _ = match form {
        Form::Json => builder.json().flatten_event(true).try_init(),
        Form::Plain | Form::Coloured => builder.try_init(),
    };
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Plain,
    Coloured,
    Json,
}

/// Writes each event, which comes in one piece, as one clean line.
#[derive(Debug, Clone, Copy)]
struct Lines(Form);

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        *self
    }
}

impl Write for Lines {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let event_text = String::from_utf8_lossy(event);
        let mut line = clean(event_text.trim_end_matches('\n'), self.0);
        line.push('\n');
        io::stderr().write_all(line.as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

fn clean(line: &str, form: Form) -> String {
    match form {
        Form::Plain => one_line(&bounded(line, LINE)),
        Form::Coloured => coloured(&bounded(line, LINE)),
        Form::Json => json(line),
    }
}

/// The colours are the subscriber's; it escapes those in what it is given.
fn coloured(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find('\x1b') {
        let (before, from) = rest.split_at(at);
        out.push_str(&one_line(before));
        let end = from.find(|c: char| c != '\x1b' && c != '[' && c != ';' && !c.is_ascii_digit());
        let end = end.filter(|end| from[*end..].starts_with('m')).map_or(1, |end| end + 1);
        let (colour, after) = from.split_at(end);
        out.push_str(&if end == 1 { one_line(colour) } else { colour.to_owned() });
        rest = after;
    }
    out.push_str(&one_line(rest));
    out
}

/// What is hazardous stands in strings only, where any character may be escaped.
fn json(line: &str) -> String {
    let cut = (line.len() > LINE).then(|| serde_json::from_str(line).ok()).flatten().map(shortened);
    let line = cut.as_ref().map_or_else(|| line.to_owned(), ToString::to_string);
    let mut out = String::with_capacity(line.len());
    for c in line.chars() {
        if hazardous(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            out.push(c);
        }
    }
    out
}

fn shortened(value: Value) -> Value {
    match value {
        Value::String(text) => bounded(&text, LONGEST).into(),
        Value::Array(list) => list.into_iter().map(shortened).collect(),
        Value::Object(map) => map.into_iter().map(|(k, v)| (k, shortened(v))).collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_event_is_one_line_whatever_it_holds() {
        assert_eq!(
            clean("a\nERROR forged \x1b[31m\u{2028}", Form::Plain),
            "a\\nERROR forged \\u{1b}[31m\\u{2028}"
        );
        assert_eq!(
            clean("\x1b[33m WARN\x1b[0m a\nb\x1b]0;x\x07", Form::Coloured),
            "\x1b[33m WARN\x1b[0m a\\nb\\u{1b}]0;x\\u{7}"
        );
        let event = serde_json::json!({ "message": "a\nb\u{202e}\u{e0001}\u{7f}" }).to_string();
        let line = clean(&event, Form::Json);
        assert_eq!(line, "{\"message\":\"a\\nb\\u202e\\udb40\\udc01\\u007f\"}");
        assert_eq!(
            serde_json::from_str::<Value>(&line).unwrap(),
            serde_json::from_str::<Value>(&event).unwrap()
        );
    }

    #[test]
    fn a_line_is_bounded_and_json_stays_json() {
        let long = "x\u{7f}".repeat(1_000_000);
        assert!(clean(&long, Form::Plain).len() < 5 * LINE);
        let line = clean(
            &serde_json::json!({ "message": long, "span": { "name": long } }).to_string(),
            Form::Json,
        );
        assert!(line.len() < 5 * LINE, "{}", line.len());
        let read: Value = serde_json::from_str(&line).unwrap();
        assert!(read["span"]["name"].as_str().unwrap().ends_with("bytes more)"));
    }

    proptest! {
        #[test]
        fn no_text_forges_a_line(text in any::<String>()) {
            let hides = |line: &str| line.chars().any(hazardous);
            prop_assert!(!hides(&clean(&text, Form::Plain)));
            let colourless = clean(&text, Form::Coloured).replace('\x1b', "");
            prop_assert!(!hides(&colourless));
            let json = clean(&serde_json::json!({ "message": text }).to_string(), Form::Json);
            prop_assert!(!hides(&json) && serde_json::from_str::<Value>(&json).is_ok());
        }
    }
}
