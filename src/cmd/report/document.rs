//! What a report says, before it is written as Markdown or HTML.
//!
//! Must not: know a format; a name from the database is a [`TextPiece::Code`] or plain text, never markup.

use super::plot::Plot;

/// A piece of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TextPiece {
    /// Plain text.
    Text(String),
    /// A name, a statement, a value as the server has it.
    Code(String),
    /// What must not be overlooked.
    Strong(String),
}

/// A line of text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Line(pub Vec<TextPiece>);

impl Line {
    /// Adds plain text.
    pub fn text(mut self, text: impl Into<String>) -> Self {
        self.0.push(TextPiece::Text(text.into()));
        self
    }

    /// Adds another line's pieces.
    pub fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// Adds code.
    pub fn code(mut self, text: impl Into<String>) -> Self {
        self.0.push(TextPiece::Code(text.into()));
        self
    }

    /// Adds what must not be overlooked.
    pub fn strong(mut self, text: impl Into<String>) -> Self {
        self.0.push(TextPiece::Strong(text.into()));
        self
    }
}

impl From<&str> for Line {
    /// Text in which what stands between backticks is code. A name with a backtick in it changes how the rest looks, no more.
    fn from(text: &str) -> Self {
        let mut line = Self::default();
        for (i, part) in text.split('`').enumerate() {
            if !part.is_empty() {
                line = if i % 2 == 0 { line.text(part) } else { line.code(part) };
            }
        }
        line
    }
}

impl From<String> for Line {
    /// As it is, no markup.
    fn from(text: String) -> Self {
        Self::default().text(text)
    }
}

/// How good or bad something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mark {
    /// As it should be.
    Good,
    /// Worth knowing.
    Info,
    /// To be seen to.
    Warning,
    /// Broken, or about to be.
    Bad,
}

impl Mark {
    /// In one word, for readers who see no colours.
    pub fn word(self) -> &'static str {
        match self {
            Self::Good => "OK",
            Self::Info => "INFO",
            Self::Warning => "WARNING",
            Self::Bad => "CRITICAL",
        }
    }
}

/// A cell of a table.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// Text or code, to the left.
    Line(Line),
    /// A figure, to the right.
    Figure(String),
    /// A verdict in its own word.
    Mark(Mark, &'static str),
}

impl From<Mark> for Cell {
    fn from(mark: Mark) -> Self {
        Self::Mark(mark, mark.word())
    }
}

impl From<Line> for Cell {
    fn from(line: Line) -> Self {
        Self::Line(line)
    }
}

/// A name from the database.
pub fn name(text: impl Into<String>) -> Cell {
    Cell::Line(Line::default().code(text))
}

/// Words of ours.
pub fn words(text: impl Into<String>) -> Cell {
    Cell::Line(Line::default().text(text))
}

/// A figure; a dash where there is none.
pub fn figure(text: Option<String>) -> Cell {
    Cell::Figure(text.unwrap_or_else(|| "–".to_owned()))
}

/// A table.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// Column heads; the cells decide how a column is set.
    pub head: Vec<&'static str>,
    /// Rows of as many cells.
    pub rows: Vec<Vec<Cell>>,
}

/// A part of the report.
#[derive(Debug, Clone, PartialEq)]
pub enum Block {
    /// A section with its anchor.
    Section(&'static str, &'static str),
    /// A heading within a section.
    Heading(String),
    /// A paragraph.
    Text(Line),
    /// A verdict with what it is about.
    Verdict(Mark, Line),
    /// Lines with bullets.
    List(Vec<Line>),
    /// A table.
    Table(Table),
    /// Code of a language.
    Code(&'static str, String),
    /// A plot. Its figures stand in a table beside it, for Markdown and for who cannot see it.
    Plot(Plot),
    /// Where the figures above come from, and when they were taken.
    Source(String),
}

/// A report.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// Its title.
    pub title: String,
    /// Its parts, in order.
    pub blocks: Vec<Block>,
}
