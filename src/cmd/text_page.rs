//! Text for a terminal: lines, paragraphs that are broken, and colours.
//!
//! Must not: write a character of a name that a terminal would obey.

use crate::remedy::text::one_line;

pub const RED: &str = "31;1";
pub const YELLOW: &str = "33;1";
pub const CYAN: &str = "36";
pub const GREEN: &str = "32";
pub const BOLD: &str = "1";
pub const DIM: &str = "2";

/// Text for a terminal, in colours where asked.
pub struct TextPage {
    /// What was written so far.
    pub out: String,
    colour: bool,
}

impl TextPage {
    /// An empty one.
    pub fn new(colour: bool) -> Self {
        Self { out: String::new(), colour }
    }

    /// A word in a colour.
    pub fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// One line.
    pub fn line(&mut self, text: &str) {
        self.out.push_str(text.trim_end());
        self.out.push('\n');
    }

    /// Words broken at 100 columns, each line after an indent.
    pub fn paragraph(&mut self, indent: &str, lead: &str, text: &str) {
        let mut line = format!("{indent}{lead}");
        let mut empty = lead.is_empty();
        let hang = format!("{indent}{}", " ".repeat(lead.chars().count()));
        for word in one_line(text).split(' ') {
            if !empty && line.chars().count() + word.chars().count() >= 100 {
                self.line(&line);
                line = hang.clone();
                empty = true;
            }
            if !line.ends_with(' ') && !empty {
                line.push(' ');
            }
            line.push_str(word);
            empty = false;
        }
        self.line(&line);
    }
}
