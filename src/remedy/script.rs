//! A script for psql: its head says what whoever runs it must know, its steps are what it does.
//!
//! Must not: go on after an error, run in another database than it was made for, or put a comment where a
//! name of a server's could end it.

use std::fmt;

use serde::Serialize;

use super::quote::literal;
use super::shell::Command;
use super::sql::{Literal, Sql};
use super::text::one_line;

/// Where comments are broken.
const WIDTH: usize = 100;

/// What stands above the statements. Each field is a sentence or several, without what it is about; the
/// text may hold names of a server's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Head {
    /// What it is, and for what.
    pub title: String,
    /// As whom to run it.
    pub role: String,
    /// The database; it refuses any other (one that is empty means any), and a server in recovery.
    pub database: String,
    /// What it locks, how, and for how long others wait at most.
    pub locks: String,
    /// What it changes.
    pub changes: String,
    /// How to undo it.
    pub undo: String,
    /// What happens when it is run again, or was cut off.
    pub again: String,
    /// What it deletes, if anything.
    pub deletes: Option<String>,
    /// What else to know, and what could not be done and why.
    pub notes: Vec<String>,
}

/// One thing that a script does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "step", content = "content", rename_all = "snake_case")]
pub enum Step {
    /// A remark before what follows.
    Note(String),
    /// A statement for who reads it, as a comment in one line.
    Look(Sql),
    /// A statement.
    Sql(Sql),
    /// Statements that are done as a whole or not at all.
    Transaction(Vec<Step>),
    /// A query whose results psql runs as statements, each for itself.
    Gexec(Sql),
    /// A query with one row, whose columns become variables of psql's by their names.
    Gset(Sql),
    /// Steps for where a variable of psql's (by a name from the source) holds true.
    If(&'static str, Vec<Step>),
    /// Steps after which it goes on whatever came of them; a later one says whether all is well.
    Try(Vec<Step>),
    /// PL/pgSQL from a template, run by DO.
    Block(Sql),
}

/// The steps of one purpose, with the head they need.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Script {
    /// What to know first.
    pub head: Head,
    /// What is done, in this order.
    pub steps: Vec<Step>,
}

/// A remark.
pub fn note(text: impl Into<String>) -> Step {
    Step::Note(text.into())
}

/// A block of PL/pgSQL, `DECLARE … BEGIN … END`.
pub fn block(sql: Sql) -> Step {
    Step::Block(sql)
}

/// Writes lines of comment, broken at spaces.
fn comment(out: &mut String, first: &str, text: &str) {
    let mut line = format!("-- {first}");
    let mut empty = true;
    for word in one_line(text).split(' ') {
        if !empty && line.chars().count() + 1 + word.chars().count() > WIDTH {
            out.push_str(line.trim_end());
            out.push('\n');
            line = "--   ".to_owned();
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    out.push_str(line.trim_end());
    out.push('\n');
}

impl Head {
    fn write(&self, out: &mut String) {
        comment(out, "pgrunway: ", &self.title);
        out.push_str("-- Nothing has been executed. Not inside a transaction, run:\n");
        out.push_str(&format!(
            "--   {} -f THIS_FILE\n",
            Command::psql(if self.database.is_empty() { "postgres" } else { &self.database })
        ));
        if let Some(what) = &self.deletes {
            comment(out, "THIS DELETES DATA: ", what);
        }
        for (label, text) in [
            ("As whom: ", &self.role),
            ("Locks: ", &self.locks),
            ("Changes: ", &self.changes),
            ("To undo it: ", &self.undo),
            ("Again: ", &self.again),
        ] {
            comment(out, label, text);
        }
        for text in &self.notes {
            comment(out, "", text);
        }
        // U&"..." and '...' mean the same everywhere from here on; search_path leads nowhere.
        out.push_str(
            "\n\\set ON_ERROR_STOP on\n\
             SET standard_conforming_strings = on;\n\
             SET client_min_messages = notice;\n\
             SET search_path = pg_catalog, pg_temp;\n\
             SET statement_timeout = 0;\n\
             SET idle_in_transaction_session_timeout = 0;\n\
             SET row_security = off;\n",
        );
        let guard = Sql::new(
            "BEGIN\n  \
               IF pg_catalog.current_database() <> {} AND {} <> '' THEN\n    \
                 RAISE EXCEPTION 'this is database %: the script is for another', pg_catalog.current_database();\n  \
               END IF;\n  \
               IF pg_catalog.pg_is_in_recovery() THEN\n    \
                 RAISE EXCEPTION 'this is a standby: run the script on the primary';\n  \
               END IF;\n\
             END",
            &[&Literal(&self.database), &Literal(&self.database)],
        );
        step(out, &Step::Block(guard), 0);
    }
}

/// A tag for dollar quotes that the text does not end.
fn tag(text: &str) -> String {
    let mut tag = "$do$".to_owned();
    while text.contains(&tag) {
        tag.insert(1, '_');
    }
    tag
}

fn step(out: &mut String, step_: &Step, depth: usize) {
    match step_ {
        Step::Note(text) => {
            if depth == 0 {
                out.push('\n');
            }
            comment(out, "", text);
        }
        Step::Look(sql) => out.push_str(&format!("--   {};\n", one_line(sql.as_str()))),
        Step::Sql(sql) => out.push_str(&format!("{sql};\n")),
        Step::Transaction(steps) => {
            out.push_str("BEGIN;\n");
            steps.iter().for_each(|s| step(out, s, depth + 1));
            out.push_str("COMMIT;\n");
        }
        Step::Gexec(sql) => out.push_str(&format!("{sql} \\gexec\n")),
        Step::Gset(sql) => out.push_str(&format!("{sql} \\gset\n")),
        Step::If(variable, steps) => {
            out.push_str(&format!("\\if :{variable}\n"));
            steps.iter().for_each(|s| step(out, s, depth + 1));
            out.push_str("\\endif\n");
        }
        Step::Try(steps) => {
            out.push_str("\\set ON_ERROR_STOP off\n");
            steps.iter().for_each(|s| step(out, s, depth + 1));
            out.push_str("\\set ON_ERROR_STOP on\n");
        }
        Step::Block(sql) => {
            let tag = tag(sql.as_str());
            out.push_str(&format!("DO LANGUAGE plpgsql {tag}\n{sql}\n{tag};\n"));
        }
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::new();
        self.head.write(&mut out);
        self.steps.iter().for_each(|s| step(&mut out, s, 0));
        f.write_str(&out)
    }
}

impl Script {
    /// The statements alone, for where the head is shown elsewhere.
    pub fn body(&self) -> String {
        let mut out = String::new();
        self.steps.iter().for_each(|s| step(&mut out, s, 0));
        out
    }

    /// psql's command that makes another database the current one, for scripts behind each other.
    pub fn connect(datname: &str) -> String {
        let value = datname.replace('\\', "\\\\").replace('\'', "\\'");
        let argument = format!("dbname='{value}'").replace('"', "\"\"");
        format!("\\connect -reuse-previous=on \"{argument}\"")
    }

    /// A literal for a message of a block's.
    pub fn quoted(text: &str) -> String {
        literal(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remedy::text::hazardous;
    use crate::remedy::{Relation, Remedy};

    fn script(name: &str) -> Script {
        let table = Relation::new("public", name);
        Script {
            head: Head {
                title: format!("drops {name}"),
                role: name.to_owned(),
                database: name.to_owned(),
                locks: "none".to_owned(),
                changes: "nothing".to_owned(),
                undo: "nothing to undo".to_owned(),
                again: "yes".to_owned(),
                deletes: None,
                notes: vec![name.to_owned()],
            },
            steps: vec![
                note(name),
                Step::Transaction(vec![Step::Sql(Sql::new("DROP TABLE {}", &[&table]))]),
                block(Sql::new("BEGIN PERFORM {}; END", &[&Literal(name)])),
                Step::If("there", vec![Step::Gexec(Sql::new("SELECT {}", &[&Literal(name)]))]),
            ],
        }
    }

    #[test]
    fn a_hostile_name_is_text_wherever_it_stands() {
        let name = "x\n\\! touch pwned\r\u{1b}[2J$do$ '\"; DROP";
        let text = Remedy::from(script(name)).text();
        for line in text.lines() {
            assert!(!line.chars().any(hazardous), "{line:?}");
            let meta = line.starts_with('\\');
            let ours = ["\\set", "\\if", "\\endif"].iter().any(|m| line.starts_with(m));
            assert!(!meta || ours, "{line}");
        }
        assert!(text.contains("DO LANGUAGE plpgsql $_do$\n"), "{text}");
        assert!(text.contains("DROP TABLE public.U&\"x\\000A\\\\! touch pwned"), "{text}");
        assert!(text.contains("ON_ERROR_STOP on"), "{text}");
    }

    #[test]
    fn it_can_be_compared_and_serialised() {
        let remedy = Remedy::from(script("t"));
        assert_eq!(remedy, remedy.clone());
        assert!(!remedy.deletes());
        let json = serde_json::to_value(&remedy).unwrap();
        assert_eq!(json["kind"], "sql");
        assert_eq!(json["remedy"]["head"]["database"], "t");
        assert_eq!(json["remedy"]["steps"][1]["content"][0]["content"], "DROP TABLE public.t");
        let command = Remedy::from(Command::new("pgrunway").arg("x$(y)"));
        assert_eq!(serde_json::to_value(&command).unwrap()["remedy"], "pgrunway 'x$(y)'");
        assert_eq!(Remedy::Prose("a\u{1b}".to_owned()).text(), "a\\u{1b}");
    }

    #[test]
    fn long_comments_are_broken() {
        let mut out = String::new();
        comment(&mut out, "Locks: ", &"word ".repeat(60));
        assert!(out.lines().count() == 4 && out.lines().all(|l| l.starts_with("--")), "{out}");
        assert!(out.lines().all(|l| l.len() <= WIDTH), "{out}");
    }

    #[test]
    fn names_of_databases_are_quoted_twice() {
        assert_eq!(Script::connect("shop"), "\\connect -reuse-previous=on \"dbname='shop'\"");
        assert_eq!(
            Script::connect("a'b\"c\\d"),
            "\\connect -reuse-previous=on \"dbname='a\\'b\"\"c\\\\d'\""
        );
    }
}
