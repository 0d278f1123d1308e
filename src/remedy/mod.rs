//! What to do about a finding, as a value: SQL for psql, a command for a shell, or words.
//!
//! Each knows how it is quoted, so that no name of a server's, however it was chosen, becomes a statement or
//! a command. [`Sql`] is made of templates in the source and typed parts, [`Command`] of words; a [`Script`]
//! says at its head what whoever runs it must know.
//!
//! Must not: read a clock, a server or a file, or take SQL or a command as text from elsewhere.

pub mod access;
pub mod create;
pub mod index;
mod locked;
pub mod orphans;
pub mod quote;
pub mod retire;
mod script;
pub mod setting;
mod shell;
mod sql;
pub mod table;
pub mod text;
pub mod tree;

pub use script::{Head, Script, Step, block, note};
pub use shell::Command;
pub use sql::{Deparsed, Ident, List, Literal, Regclass, Relation, Sql, SqlPart};

use serde::Serialize;

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", content = "remedy", rename_all = "snake_case")]
pub enum Remedy {
    /// A script for psql.
    Sql(Box<Script>),
    /// A command for a POSIX shell.
    Shell(Command),
    /// What nobody can write down as SQL or as a command. Plain text in one line or several.
    Prose(String),
}

impl Remedy {
    /// Whether following it deletes rows.
    pub fn deletes(&self) -> bool {
        matches!(self, Self::Sql(script) if script.head.deletes.is_some())
    }

    /// As it is copied from: the script, the command, or the words. It holds no character that a terminal
    /// would obey. For HTML it is escaped like any other text.
    pub fn text(&self) -> String {
        match self {
            Self::Sql(script) => script.to_string(),
            Self::Shell(command) => command.to_string(),
            Self::Prose(words) => text::printable(words),
        }
    }
}

impl From<Script> for Remedy {
    fn from(script: Script) -> Self {
        Self::Sql(Box::new(script))
    }
}

impl From<Command> for Remedy {
    fn from(command: Command) -> Self {
        Self::Shell(command)
    }
}
