//! The file of named queries: comments that direct, values of parameters, and the SQL between them.
//!
//! Must not: read a file or ask the server; errors name the line and what to do.

use std::time::Duration;

use crate::config::{duration, suggest};
use crate::error::ConfigError;

const DIRECTIVES: [&str; 5] = ["name", "target", "params", "transaction", "timeout"];

/// One query of the file.
#[derive(Debug, Clone, PartialEq)]
pub struct FileQuery {
    pub name: String,
    /// Line of its `-- name:`, from 1.
    pub line: usize,
    /// Line on which [`Query::sql`] begins, from 1.
    pub sql_line: usize,
    /// Without the closing semicolon.
    pub sql: String,
    /// The longest that the round trip's percentile may take.
    pub target: Option<Duration>,
    /// Values for `$1`, `$2` and so on; a source from SQL fills as many as it has columns.
    pub sources: Vec<ParamSource>,
    /// Line of the first `-- params:`.
    pub params_line: Option<usize>,
    pub read_write: bool,
    pub timeout: Option<Duration>,
}

/// Where the values of a parameter come from. Each draw is uniform.
#[derive(Debug, Clone, PartialEq)]
pub enum ParamSource {
    /// `'x'`, `42`, `true`, `null`: always the same.
    Literal(Option<String>),
    /// `['a', 'b']`.
    List(Vec<Option<String>>),
    /// `1..400`: whole numbers, both ends included.
    Integers(i64, i64),
    /// `0.5..2`: decimals with as many places as the longer end has.
    Decimals { from: f64, to: f64, places: usize },
    /// `(SELECT a, b FROM t)`: a row gives as many parameters as it has columns.
    Sql(String),
}

fn fault(
    path: &str,
    line: usize,
    problem: impl Into<String>,
    remedy: impl Into<String>,
) -> ConfigError {
    ConfigError::new(format!("{path}:{line}"), problem, remedy)
}

/// `-- word: rest`, with the word in lower case.
fn directive(line: &str) -> Option<(String, &str)> {
    let (word, rest) = line.trim_start().strip_prefix("--")?.split_once(':')?;
    let word = word.trim();
    let plain = !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphabetic() || b == b'_');
    plain.then(|| (word.to_ascii_lowercase(), rest.trim()))
}

/// Reads a file; `path` is for messages.
///
/// # Errors
/// [`ConfigError`] with file and line: an unknown directive (with the nearest), a value that cannot
/// be read, a query without a name or a name without a query, a name twice, a file with no query.
pub fn parse(path: &str, text: &str) -> Result<Vec<FileQuery>, ConfigError> {
    let mut queries: Vec<FileQuery> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        let found = directive(line);
        if let Some(("name", name)) = found.as_ref().map(|(w, r)| (w.as_str(), *r)) {
            finished(path, queries.last())?;
            queries.push(named(path, number, name, &queries)?);
            continue;
        }
        let begun = queries.last().is_some_and(|q| !q.sql.trim().is_empty());
        match (queries.last_mut(), found) {
            (None, Some((word, _))) => {
                if let Some(near) = suggest::nearest(&word, DIRECTIVES) {
                    return Err(unknown_or_early(path, number, &word, near));
                }
            }
            (None, None) => {
                let content = line.trim();
                if !content.is_empty() && !content.starts_with("--") {
                    return Err(fault(
                        path,
                        number,
                        "SQL without a name",
                        "put `-- name: some_name` on a line before it",
                    ));
                }
            }
            (Some(_), Some((word, _))) if begun && DIRECTIVES.contains(&word.as_str()) => {
                return Err(fault(
                    path,
                    number,
                    format!("`-- {word}:` stands after the beginning of its query"),
                    "put it between `-- name:` and the SQL",
                ));
            }
            (Some(query), Some((word, rest))) if !begun => {
                apply(path, number, query, &word, rest)?;
            }
            (Some(query), _) => {
                // The first line of SQL, or a comment that belongs to it.
                if query.sql.is_empty() && line.trim().is_empty() {
                    continue;
                }
                if query.sql.trim().is_empty() && line.trim_start().starts_with("--") {
                    continue;
                }
                if query.sql.is_empty() {
                    query.sql_line = number;
                }
                query.sql.push_str(line);
                query.sql.push('\n');
            }
        }
    }
    finished(path, queries.last())?;
    if queries.is_empty() {
        return Err(fault(
            path,
            1,
            "no query in this file",
            "put `-- name: some_name` on a line before each query; see docs/bench.md",
        ));
    }
    for query in &mut queries {
        query.sql = trimmed(&query.sql).to_owned();
    }
    Ok(queries)
}

/// Without white space and semicolons at the end.
fn trimmed(sql: &str) -> &str {
    sql.trim_end_matches(|c: char| c.is_whitespace() || c == ';')
}

fn unknown_or_early(path: &str, line: usize, word: &str, near: &str) -> ConfigError {
    if word == near {
        let problem = format!("`-- {word}:` belongs to no query");
        return fault(path, line, problem, "put it after the query's `-- name:`");
    }
    unknown(path, line, word, Some(near))
}

fn unknown(path: &str, line: usize, word: &str, near: Option<&str>) -> ConfigError {
    let word = if suggest::printable(word) { word } else { "?" };
    let remedy = match near {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!(
            "the directives are {}; a comment here must not begin with a word and a colon",
            DIRECTIVES.join(", ")
        ),
    };
    fault(path, line, format!("unknown directive `{word}`"), remedy)
}

fn named(
    path: &str,
    line: usize,
    name: &str,
    before: &[FileQuery],
) -> Result<FileQuery, ConfigError> {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
    if name.is_empty() || name.len() > 64 || !name.chars().all(plain) {
        return Err(fault(
            path,
            line,
            "a name has 1 to 64 letters, digits, `_`, `-` or `.`",
            "write for example `-- name: recent_trades`",
        ));
    }
    if let Some(other) = before.iter().find(|q| q.name == name) {
        let problem = format!("the name {name} is taken on line {}", other.line);
        return Err(fault(path, line, problem, "give each query its own"));
    }
    Ok(FileQuery {
        name: name.to_owned(),
        line,
        sql_line: line,
        sql: String::new(),
        target: None,
        sources: Vec::new(),
        params_line: None,
        read_write: false,
        timeout: None,
    })
}

fn finished(path: &str, query: Option<&FileQuery>) -> Result<(), ConfigError> {
    match query {
        Some(query) if trimmed(&query.sql).is_empty() => {
            let problem = format!("{} has no SQL", query.name);
            Err(fault(path, query.line, problem, "write the query below its directives"))
        }
        _ => Ok(()),
    }
}

fn apply(
    path: &str,
    line: usize,
    query: &mut FileQuery,
    word: &str,
    rest: &str,
) -> Result<(), ConfigError> {
    let time = |what: &str| {
        let value = duration::parse(rest)
            .map_err(|e| fault(path, line, format!("the {what} {e}"), "write for example 10ms"))?;
        match value.is_zero() {
            true => Err(fault(path, line, format!("a {what} of 0"), "write for example 10ms")),
            false => Ok(value),
        }
    };
    match word {
        "target" => query.target = Some(time("target")?),
        "timeout" => query.timeout = Some(time("timeout")?),
        "transaction" => {
            query.read_write = match rest.to_ascii_lowercase().as_str() {
                "read only" => false,
                "read write" => true,
                _ => {
                    let problem = "the transaction is neither `read only` nor `read write`";
                    return Err(fault(path, line, problem, "write one of the two"));
                }
            };
        }
        "params" => {
            query.params_line.get_or_insert(line);
            let read = ParamsReader { rest }.sources();
            query.sources.extend(read.map_err(|problem| {
                fault(
                    path,
                    line,
                    problem,
                    "a parameter is a literal ('x', 42, null), a list (['x', 'y']), a range (1..400) or \
                     a query ((SELECT id FROM t)); commas stand between parameters",
                )
            })?);
        }
        _ => return Err(unknown(path, line, word, suggest::nearest(word, DIRECTIVES))),
    }
    Ok(())
}

/// Reads the values of a `-- params:` line.
struct ParamsReader<'t> {
    rest: &'t str,
}

impl<'t> ParamsReader<'t> {
    fn sources(&mut self) -> Result<Vec<ParamSource>, String> {
        let mut found = Vec::new();
        loop {
            found.push(self.source()?);
            self.blank();
            if self.rest.is_empty() {
                return Ok(found);
            }
            self.expect(',')?;
        }
    }

    fn blank(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn expect(&mut self, c: char) -> Result<(), String> {
        self.blank();
        self.rest = self.rest.strip_prefix(c).ok_or_else(|| match self.rest.is_empty() {
            true => format!("`{c}` is missing at the end of the line"),
            false => format!("`{c}` is missing before `{}`", excerpt(self.rest)),
        })?;
        Ok(())
    }

    fn source(&mut self) -> Result<ParamSource, String> {
        self.blank();
        if self.rest.starts_with('(') {
            return self.query();
        }
        if let Some(rest) = self.rest.strip_prefix('[') {
            self.rest = rest;
            let mut values = Vec::new();
            loop {
                values.push(self.literal()?);
                self.blank();
                if let Some(rest) = self.rest.strip_prefix(']') {
                    self.rest = rest;
                    return Ok(ParamSource::List(values));
                }
                self.expect(',').map_err(|e| e.replace("`,`", "`,` or `]`"))?;
            }
        }
        let quoted = self.rest.starts_with('\'');
        let value = self.literal()?;
        match value {
            Some(word) if !quoted => match word.split_once("..") {
                Some((from, to)) => range(from, to),
                None => Ok(ParamSource::Literal(Some(word))),
            },
            other => Ok(ParamSource::Literal(other)),
        }
    }

    /// A quoted text, or a bare word; the bare word `null` is NULL.
    fn literal(&mut self) -> Result<Option<String>, String> {
        self.blank();
        if let Some(mut rest) = self.rest.strip_prefix('\'') {
            let mut value = String::new();
            loop {
                let (part, tail) = rest.split_once('\'').ok_or("a text has no closing quote")?;
                value.push_str(part);
                match tail.strip_prefix('\'') {
                    Some(more) => {
                        value.push('\'');
                        rest = more;
                    }
                    None => {
                        self.rest = tail;
                        return Ok(Some(value));
                    }
                }
            }
        }
        let end = self.rest.find([',', ']', '[', '(', ')', '\'']).unwrap_or(self.rest.len());
        let (word, tail) = self.rest.split_at(end);
        let word = word.trim();
        if word.is_empty() {
            return Err(match tail.is_empty() {
                true => "a value is missing at the end of the line".to_owned(),
                false => format!("a value is missing before `{}`", excerpt(tail)),
            });
        }
        if word.contains(char::is_whitespace) {
            return Err(format!("`{}` needs quotes ('...')", excerpt(word)));
        }
        self.rest = tail;
        Ok((!word.eq_ignore_ascii_case("null")).then(|| word.to_owned()))
    }

    /// Up to the parenthesis that closes the first; quoted ones do not count.
    fn query(&mut self) -> Result<ParamSource, String> {
        let (mut depth, mut quote) = (0_u32, None);
        for (at, c) in self.rest.char_indices() {
            match (quote, c) {
                (Some(open), c) if c == open => quote = None,
                (Some(_), _) => {}
                (None, '\'' | '"') => quote = Some(c),
                (None, '(') => depth += 1,
                (None, ')') => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                let sql = self.rest.get(1..at).unwrap_or_default().trim().to_owned();
                self.rest = self.rest.get(at + 1..).unwrap_or_default();
                return match sql.is_empty() {
                    true => Err("a query for values is empty".to_owned()),
                    false => Ok(ParamSource::Sql(sql)),
                };
            }
        }
        Err("a query for values has no closing parenthesis on its line".to_owned())
    }
}

fn excerpt(text: &str) -> String {
    text.chars().take(20).collect()
}

fn range(from: &str, to: &str) -> Result<ParamSource, String> {
    let (from, to) = (from.trim(), to.trim());
    if let (Ok(low), Ok(high)) = (from.parse::<i64>(), to.parse::<i64>()) {
        return match low <= high {
            true => Ok(ParamSource::Integers(low, high)),
            false => Err(format!("the range {low}..{high} is empty")),
        };
    }
    let number = |text: &str| text.parse::<f64>().ok().filter(|n| n.is_finite());
    let (Some(low), Some(high)) = (number(from), number(to)) else {
        return Err(format!("`{}..{}` is no range of numbers", excerpt(from), excerpt(to)));
    };
    if low > high {
        return Err(format!("the range {from}..{to} is empty"));
    }
    let places = |text: &str| text.split_once('.').map_or(0, |(_, places)| places.len()).min(15);
    Ok(ParamSource::Decimals { from: low, to: high, places: places(from).max(places(to)) })
}

#[cfg(test)]
mod tests;
