//! As much of the grammar of a statement as is needed to put a NULL into it and to see what it touches.
//!
//! Must not: judge whether a statement is right; what it does not understand it takes for touched or leaves alone.

use std::collections::BTreeSet;
use std::ops::Range;

use super::{Hole, HoleKind, PartQuery, Sought};
use crate::error::WhyMissing;

/// Words after which a list of what is selected is over.
const ENDS: [&str; 14] = [
    "FROM",
    "WHERE",
    "GROUP",
    "HAVING",
    "ORDER",
    "LIMIT",
    "OFFSET",
    "UNION",
    "EXCEPT",
    "INTERSECT",
    "WINDOW",
    "FETCH",
    "FOR",
    "SELECT",
];
/// Words after which a relation stands.
const BEFORE_RELATIONS: [&str; 3] = ["FROM", "JOIN", "LATERAL"];
/// Functions that say something even of no rows.
const AGGREGATES: [&str; 9] =
    ["count", "sum", "max", "min", "avg", "bool_or", "bool_and", "array_agg", "string_agg"];

#[derive(Debug, Clone, PartialEq, Eq)]
struct SqlToken {
    range: Range<usize>,
    /// A word or a quoted name, as it is meant; anything else as it stands.
    text: String,
    is_name: bool,
    /// Parentheses around it; those of a pair are inside of it.
    depth: usize,
}

impl SqlToken {
    fn is(&self, word: &str) -> bool {
        self.text.eq_ignore_ascii_case(word)
    }

    fn is_any(&self, words: &[&str]) -> bool {
        words.iter().any(|word| self.is(word))
    }
}

/// One SELECT: what it selects, each with its name, and what follows, in tokens.
#[derive(Debug)]
struct SelectPart {
    depth: usize,
    items: Vec<(String, Range<usize>)>,
    rest: Range<usize>,
    /// Names that the list around it gives to its columns.
    renamed: Vec<String>,
}

pub(super) struct ParsedStatement {
    tokens: Vec<SqlToken>,
}

/// A function without arguments, or a view, of the server's own schema in a statement.
pub(super) struct StatementPart {
    /// Byte at which its name begins.
    pub(super) at: usize,
    pub(super) sought: Sought,
    pub(super) probe: PartQuery,
}

impl ParsedStatement {
    pub(super) fn new(sql: &str) -> Self {
        Self { tokens: tokens(sql) }
    }

    fn is(&self, i: usize, text: &str) -> bool {
        self.tokens.get(i).is_some_and(|token| token.is(text))
    }

    /// The tokens of a name that may be qualified, which begins at a byte.
    fn chain(&self, at: usize) -> Option<Range<usize>> {
        let first = self.tokens.iter().position(|token| token.range.start == at)?;
        let name = |i: usize| self.tokens.get(i).is_some_and(|token| token.is_name);
        if !name(first) {
            return None;
        }
        let mut end = first + 1;
        while self.is(end, ".") && name(end + 1) {
            end += 2;
        }
        Some(first..end)
    }

    /// The token after the parenthesis that closes the one at `open`.
    fn after_call(&self, open: usize) -> usize {
        let depth = self.tokens[open].depth;
        let close = (open + 1..self.tokens.len())
            .find(|i| self.tokens[*i].depth == depth && self.tokens[*i].text == ")");
        close.map_or(self.tokens.len(), |close| close + 1)
    }

    /// What is between the parentheses of the call that begins at a byte.
    pub(super) fn call(&self, at: usize) -> Option<Range<usize>> {
        let open = self.chain(at)?.end;
        self.is(open, "(").then(|| {
            let end = self.after_call(open) - 1;
            self.tokens[open].range.end..self.tokens[end].range.start
        })
    }

    /// What it reads that can be asked for on its own.
    pub(super) fn parts(&self) -> Vec<StatementPart> {
        let mut parts = Vec::new();
        for (i, token) in self.tokens.iter().enumerate() {
            let before = i.checked_sub(1).and_then(|i| self.tokens.get(i));
            // Neither a type that something is cast to nor a column.
            if !token.is("pg_catalog") || before.is_some_and(|token| token.is_any(&[":", "."])) {
                continue;
            }
            let at = token.range.start;
            let Some(chain) = self.chain(at).filter(|chain| chain.len() == 3) else { continue };
            let name = self.tokens[chain.end - 1].text.clone();
            let in_from = before.is_some_and(|token| token.is_any(&BEFORE_RELATIONS));
            let listed = before.is_some_and(|token| token.is(","));
            let called = self.is(chain.end, "(");
            let (sought, sql) = match (called, self.is(chain.end + 1, ")")) {
                (true, true) if in_from => {
                    (Sought::Function, format!("SELECT FROM pg_catalog.{name}() LIMIT 1"))
                }
                (true, true) => (Sought::Function, format!("SELECT pg_catalog.{name}()")),
                (false, _) if in_from || listed => {
                    (Sought::Relation, format!("SELECT FROM pg_catalog.{name} LIMIT 1"))
                }
                _ => continue,
            };
            parts.push(StatementPart { at, sought, probe: PartQuery { name, sql } });
        }
        parts
    }

    /// What is missing where the server points to.
    pub(super) fn hole(&self, at: usize, sought: Sought) -> Option<Hole> {
        let is_relation = sought == Sought::Relation;
        let chain = self.chain(at)?;
        let before = chain.start.checked_sub(1).and_then(|i| self.tokens.get(i));
        let mut in_from = before.is_some_and(|token| token.is_any(&BEFORE_RELATIONS));
        let mut end = chain.end;
        let called = self.is(end, "(");
        // Neither a word such as IN, nor an operator, nor a function that every server has: what is missing is
        // called by its schema.
        if called != (sought == Sought::Function) || (called && chain.len() == 1) {
            return None;
        }
        if called {
            end = self.after_call(end);
        } else if before.is_some_and(|token| token.is(",")) && is_relation {
            in_from = true;
        }
        // Not of a name before a point, which stands for no relation of the list after FROM.
        if is_relation && !in_from {
            return None;
        }
        let range = self.tokens.get(chain.start)?.range.start..self.tokens.get(end - 1)?.range.end;
        let kind = match in_from {
            true if self.is_alone(chain.start) => HoleKind::Alone,
            true => HoleKind::Relation,
            false => HoleKind::Value,
        };
        let name = self.shown(&chain, called, in_from);
        let called = match in_from {
            true => self.unnamed(end).then(|| self.tokens[chain.end - 1].text.clone()),
            false => self.selects().iter().find_map(|select| {
                let item = select.items.iter().find(|(_, item)| item.start == chain.start);
                item.filter(|(_, item)| !self.is_aliased(item)).map(|(name, _)| name.clone())
            }),
        };
        Some(Hole { range, kind, guess: 0, name, called, why: WhyMissing::Absent })
    }

    /// Whether a relation that ends before a token has no alias.
    fn unnamed(&self, end: usize) -> bool {
        let follow = ["JOIN", "LEFT", "CROSS", "INNER", "ON", "USING"];
        let alias =
            |token: &SqlToken| token.is_name && !token.is_any(&ENDS) && !token.is_any(&follow);
        !self.tokens.get(end).is_some_and(alias)
    }

    /// Whether a relation is joined to nothing, or by no condition.
    fn is_alone(&self, at: usize) -> bool {
        let before = |n: usize, word: &str| at.checked_sub(n).is_some_and(|i| self.is(i, word));
        self.tokens[at].depth == 0 && (before(1, "FROM") || before(1, ",") || before(2, "CROSS"))
    }

    /// `s.wal_bytes` as `pg_stat_wal.wal_bytes`, where `s` is what the statement calls that view.
    fn shown(&self, chain: &Range<usize>, called: bool, in_from: bool) -> String {
        let names: Vec<&str> = self.names(chain);
        match names.as_slice() {
            [.., name] if called => format!("{name}()"),
            [.., name] if in_from => (*name).to_owned(),
            [.., alias, column] => {
                let relation = self.aliased(alias).unwrap_or(alias);
                format!("{relation}.{column}")
            }
            names => names.concat(),
        }
    }

    fn names(&self, chain: &Range<usize>) -> Vec<&str> {
        let named = self.tokens[chain.clone()].iter().filter(|token| token.is_name);
        named.map(|token| token.text.as_str()).collect()
    }

    /// The last name of what is called by an alias.
    fn aliased(&self, alias: &str) -> Option<&str> {
        // `pg_catalog.pg_control_system() c`
        let of_call = (3..self.tokens.len()).find_map(|i| {
            let call = self.tokens[i].text == alias
                && self.tokens[i].is_name
                && self.is(i - 1, ")")
                && self.is(i - 2, "(");
            self.tokens.get(i - 3).filter(|name| call && name.is_name)
        });
        if let Some(name) = of_call {
            return Some(&name.text);
        }
        let at = (1..self.tokens.len()).find(|i| {
            let before = &self.tokens[i - 1];
            self.tokens[*i].text == alias
                && self.tokens[*i].is_name
                && before.is_name
                && !before.is_any(&[
                    "AS", "SELECT", "AND", "OR", "ON", "NOT", "WHERE", "BY", "JOIN", "FROM", "THEN",
                ])
        });
        let at = at.or_else(|| {
            (2..self.tokens.len())
                .find(|i| {
                    self.tokens[*i].text == alias
                        && self.is(i - 1, "AS")
                        && self.tokens[i - 2].is_name
                })
                .map(|i| i - 1)
        })?;
        Some(&self.tokens[at - 1].text)
    }

    /// Every SELECT of the statement.
    fn selects(&self) -> Vec<SelectPart> {
        let starts = (0..self.tokens.len())
            .filter(|i| self.tokens[*i].is("SELECT") && self.tokens[*i].is_name);
        let mut selects: Vec<SelectPart> = Vec::new();
        for start in starts {
            let depth = self.tokens[start].depth;
            let mut from = start + 1;
            if self.is(from, "DISTINCT") {
                from += 1;
                if self.is(from, "ON") && self.is(from + 1, "(") {
                    from = self.after_call(from + 1);
                }
            }
            let end_of = |from: usize, words: &[&str]| {
                (from..self.tokens.len())
                    .find(|i| {
                        let token = &self.tokens[*i];
                        let distinct = *i > 0 && self.is(*i - 1, "DISTINCT");
                        token.depth < depth
                            || (token.depth == depth
                                && token.is_name
                                && !distinct
                                && token.is_any(words))
                    })
                    .unwrap_or(self.tokens.len())
            };
            let end = end_of(from, &ENDS);
            let over = end_of(end, &["UNION", "EXCEPT", "INTERSECT"]);
            let mut items = Vec::new();
            let mut first = from;
            for i in from..=end {
                let ends =
                    i == end || (self.tokens[i].depth == depth && self.tokens[i].text == ",");
                if ends && first < i {
                    items.push((self.item_name(first..i), first..i));
                    first = i + 1;
                }
            }
            // Of a union the first branch gives the names.
            let united = start > 0 && {
                let before =
                    if self.is(start - 1, "ALL") { start.saturating_sub(2) } else { start - 1 };
                self.tokens[before].is_any(&["UNION", "EXCEPT", "INTERSECT"])
            };
            let first_branch =
                united.then(|| selects.iter().rev().find(|select| select.depth == depth)).flatten();
            if let Some(branch) = first_branch {
                for (item, (name, _)) in items.iter_mut().zip(&branch.items) {
                    item.0.clone_from(name);
                }
            }
            let renamed = self.renamed(start);
            selects.push(SelectPart { depth, items, rest: end..over, renamed });
        }
        selects
    }

    /// What the server calls an item: its alias, or else the column or the function that it is, whatever it is cast to.
    fn item_name(&self, item: Range<usize>) -> String {
        let depth = self.tokens[item.start].depth;
        let named = |i: usize| self.tokens[i].is_name.then(|| self.tokens[i].text.clone());
        if self.is_aliased(&item) {
            return named(item.end - 1).unwrap_or_default();
        }
        let cast = item.clone().find(|i| self.tokens[*i].depth == depth && self.is(*i, ":"));
        let end = cast.unwrap_or(item.end);
        let last = item.start..end;
        if self.is(end - 1, ")") {
            let open =
                last.clone().rev().find(|i| self.tokens[*i].depth == depth && self.is(*i, "("));
            return open.and_then(|open| open.checked_sub(1)).and_then(named).unwrap_or_default();
        }
        last.rev().find_map(named).unwrap_or_default()
    }

    /// Whether an item of a list has a name of its own, after AS.
    fn is_aliased(&self, item: &Range<usize>) -> bool {
        item.len() > 2 && self.is(item.end - 2, "AS")
    }

    /// The names in `name (a, b) AS (SELECT …` and `(SELECT …) name (a, b)`.
    fn renamed(&self, select: usize) -> Vec<String> {
        let Some(open) = select.checked_sub(1).filter(|open| self.is(*open, "(")) else {
            return Vec::new();
        };
        let list = |from: usize| -> Vec<String> {
            let depth = self.tokens[from].depth;
            let inside = self.tokens[from + 1..].iter().take_while(|token| token.depth > depth);
            inside.filter(|token| token.is_name).map(|token| token.text.clone()).collect()
        };
        // Before it: `) AS (` or `) AS [NOT] MATERIALIZED (`.
        let mut before = open;
        while before > 0 && self.tokens[before - 1].is_any(&["AS", "MATERIALIZED", "NOT"]) {
            before -= 1;
        }
        if before < open && before > 0 && self.is(before - 1, ")") {
            let depth = self.tokens[before - 1].depth;
            let opens =
                (0..before - 1).rev().find(|i| self.tokens[*i].depth == depth && self.is(*i, "("));
            return opens.map(list).unwrap_or_default();
        }
        let mut after = self.after_call(open);
        if self.is(after, "AS") {
            after += 1;
        }
        let named = self.tokens.get(after).is_some_and(|token| token.is_name);
        if named && self.is(after + 1, "(") { list(after + 1) } else { Vec::new() }
    }

    /// The columns of the answer that rest on what is missing.
    pub(super) fn unknown(&self, holes: &[Hole]) -> BTreeSet<String> {
        let selects = self.selects();
        let within = |tokens: &Range<usize>, hole: &Hole| {
            self.tokens[tokens.clone()].iter().any(|token| token.range.start == hole.range.start)
        };
        let (mut touched, mut answer) = (BTreeSet::<String>::new(), BTreeSet::new());
        let base = self.base();
        let is_base = |i: usize| {
            i >= 2 && self.is(i - 1, ".") && base.contains(&self.tokens[i - 2].text.as_str())
        };
        loop {
            let known = touched.len();
            for select in &selects {
                let mentions = |tokens: &Range<usize>, skip_last: bool| {
                    let end = if skip_last { tokens.end.saturating_sub(1) } else { tokens.end };
                    (tokens.start..end.max(tokens.start)).any(|i| {
                        let token = &self.tokens[i];
                        token.is_name && touched.contains(&token.text) && !is_base(i)
                    })
                };
                // Whether rows are there or not rests on it.
                let filtered =
                    holes.iter().any(|hole| match hole.kind {
                        HoleKind::Value => within(&select.rest, hole),
                        HoleKind::Relation | HoleKind::Alone => {
                            within(&select.rest, hole) && !self.is_outer(hole)
                        }
                    }) || self.conditions(select).iter().any(|range| mentions(range, false));
                let mut names = Vec::new();
                for (i, (name, tokens)) in select.items.iter().enumerate() {
                    let direct = holes.iter().any(|hole| within(tokens, hole));
                    let counts = filtered
                        && self.tokens[tokens.clone()]
                            .iter()
                            .any(|token| token.is_any(&AGGREGATES));
                    if direct || counts || mentions(tokens, self.is_aliased(tokens)) {
                        names.push(name.clone());
                        names.extend(select.renamed.get(i).cloned());
                    }
                }
                if select.depth == 0 {
                    answer.extend(names.iter().cloned());
                }
                touched.extend(names);
            }
            if touched.len() == known {
                break;
            }
        }
        answer
    }

    /// Aliases of what is the server's own: a column of theirs is missing or it is not, and rests on nothing else.
    fn base(&self) -> Vec<&str> {
        let (mut base, mut derived) = (Vec::new(), Vec::new());
        for i in 0..self.tokens.len() {
            let after_from =
                i > 0 && (self.tokens[i - 1].is_any(&BEFORE_RELATIONS) || self.is(i - 1, ","));
            let Some(chain) = self.chain(self.tokens[i].range.start).filter(|_| after_from) else {
                continue;
            };
            let mut end = chain.end;
            if self.is(end, "(") {
                end = self.after_call(end);
            }
            if self.is(end, "AS") {
                end += 1;
            }
            let Some(alias) = self.tokens.get(end).filter(|token| token.is_name) else { continue };
            let list = if chain.len() > 1 { &mut base } else { &mut derived };
            list.push(alias.text.as_str());
        }
        // What has a list of its own columns, or stands after a parenthesis, is derived.
        for i in 1..self.tokens.len() {
            if self.tokens[i].is_name && self.is(i - 1, ")") {
                derived.push(&self.tokens[i].text);
            }
        }
        base.retain(|alias| !derived.contains(alias));
        base
    }

    /// What follows WHERE, ON, GROUP BY or HAVING of a SELECT itself.
    fn conditions(&self, select: &SelectPart) -> Vec<Range<usize>> {
        let mut ranges = Vec::new();
        let mut from = None;
        for i in select.rest.clone() {
            let token = &self.tokens[i];
            if token.depth != select.depth || !token.is_name {
                continue;
            }
            let opens = token.is_any(&["WHERE", "ON", "GROUP", "HAVING"]);
            let ends = opens
                || token.is_any(&["JOIN", "LEFT", "CROSS", "INNER", "ORDER", "LIMIT", "WINDOW"]);
            if ends && let Some(begun) = from.take() {
                ranges.push(begun..i);
            }
            if opens {
                from = Some(i + 1);
            }
        }
        ranges.extend(from.map(|begun| begun..select.rest.end));
        ranges
    }

    /// Whether a relation is on the far side of an outer join, so that rows are there without it.
    fn is_outer(&self, hole: &Hole) -> bool {
        let at = self.tokens.iter().position(|token| token.range.start == hole.range.start);
        let Some(at) = at else { return false };
        let before = |n: usize, word: &str| at.checked_sub(n).is_some_and(|i| self.is(i, word));
        let lateral = usize::from(before(1, "LATERAL"));
        before(1 + lateral, "JOIN") && (before(2 + lateral, "LEFT") || before(2 + lateral, "OUTER"))
    }
}

/// The names around a place: of what a call is given, or on both sides of an operator.
pub(super) fn words(sql: &str, at: usize) -> Vec<String> {
    const FROM_IT: usize = 6;
    let tokens = tokens(sql);
    let place = tokens.iter().position(|token| token.range.start >= at).unwrap_or(tokens.len());
    let near = place.saturating_sub(FROM_IT)..(place + 2 * FROM_IT).min(tokens.len());
    tokens[near].iter().filter(|token| token.is_name).map(|token| token.text.clone()).collect()
}

/// Names, and single characters of anything else but strings, numbers, spaces and comments, which are one each or left
/// out.
fn tokens(sql: &str) -> Vec<SqlToken> {
    let mut tokens = Vec::new();
    let mut depth = 0_usize;
    let mut rest = sql.char_indices().peekable();
    while let Some((start, c)) = rest.next() {
        let mut end = start + c.len_utf8();
        let mut take_while = |end: &mut usize, takes: &dyn Fn(char) -> bool| {
            while let Some((at, next)) = rest.next_if(|(_, next)| takes(*next)) {
                *end = at + next.len_utf8();
            }
        };
        let (text, is_name) = match c {
            c if c.is_whitespace() => continue,
            '-' if sql[end..].starts_with('-') => {
                take_while(&mut end, &|next| next != '\n');
                continue;
            }
            '/' if sql[end..].starts_with('*') => {
                let close = sql[end..].find("*/").map_or(sql.len(), |at| end + at + 2);
                while rest.next_if(|(at, _)| *at < close).is_some() {}
                continue;
            }
            '\'' | '"' => {
                take_while(&mut end, &|next| next != c);
                rest.next();
                let text = sql[start + 1..end].to_owned();
                end = (end + 1).min(sql.len());
                if c == '"' { (text, true) } else { (format!("'{text}'"), false) }
            }
            c if c.is_alphabetic() || c == '_' => {
                take_while(&mut end, &|next| next.is_alphanumeric() || next == '_' || next == '$');
                (sql[start..end].to_owned(), true)
            }
            c if c.is_ascii_digit() => {
                take_while(&mut end, &|next| next.is_ascii_alphanumeric());
                (sql[start..end].to_owned(), false)
            }
            c => (c.to_string(), false),
        };
        if text == ")" && !is_name {
            depth = depth.saturating_sub(1);
        }
        tokens.push(SqlToken { range: start..end, depth, is_name, text: text.clone() });
        if text == "(" && !is_name {
            depth += 1;
        }
    }
    tokens
}
