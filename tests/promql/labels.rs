//! Which labels a PromQL expression speaks of, and whether its metrics have them.
//!
//! Must not: evaluate anything; what comes out is seen where a Prometheus is (`tests/panels.rs`).

use std::collections::{BTreeMap, BTreeSet};

use super::metrics;

type Labels = BTreeSet<String>;

/// What a scrape of us may give: names of series, of histograms' parts too, and their labels.
pub struct Catalogue {
    ours: BTreeMap<String, Labels>,
    others: BTreeSet<String>,
}

/// Metrics that are Prometheus' own: it, or the rules, give them labels that we do not know.
pub const PROMETHEUS: &[&str] = &["ALERTS", "ALERTS_FOR_STATE", "up", "scrape_duration_seconds"];
/// Labels that Prometheus gives to every series.
const TARGET: &[&str] = &["job", "instance"];

impl Catalogue {
    /// Everything that may be on `/metrics`.
    pub fn ours() -> Self {
        let declared = pgrunway::docgen::catalogue().into_iter();
        let declared = declared.map(|m| (m.name, m.labels));
        let process = pgrunway::render::PROCESS_METRICS.iter().map(|n| (*n, &[][..]));
        let labels = |l: &[&str]| l.iter().chain(TARGET).map(|l| (*l).to_owned()).collect();
        let ours = declared.chain(process).map(|(n, l)| (n.to_owned(), labels(l))).collect();
        Self { ours, others: BTreeSet::new() }.with(PROMETHEUS)
    }

    /// The same and metrics of somebody else's, whose labels are not known.
    pub fn with(mut self, others: &[&str]) -> Self {
        self.others.extend(others.iter().map(|n| (*n).to_owned()));
        self
    }

    /// The same without one metric, as if somebody had removed it from the exporter.
    pub fn without(&self, metric: &str) -> Self {
        let left = self.ours.iter().filter(|(name, _)| name.as_str() != metric);
        let ours = left.map(|(n, l)| (n.clone(), l.clone())).collect();
        Self { ours, others: self.others.clone() }
    }

    /// The metric that a series belongs to, if it is ours.
    pub fn family<'a>(&self, series: &'a str) -> Option<&'a str> {
        let known = |name: &str| self.ours.contains_key(name);
        let parts = ["_bucket", "_count", "_sum"].into_iter();
        let base = parts.filter_map(|p| series.strip_suffix(p)).find(|base| known(base));
        base.or_else(|| known(series).then_some(series))
    }

    /// Labels of a series; `None` where nobody can know them.
    fn labels(&self, series: &str) -> Option<Labels> {
        let mut labels = self.ours.get(self.family(series)?)?.clone();
        if series.ends_with("_bucket") {
            labels.insert("le".to_owned());
        }
        Some(labels)
    }

    /// What is wrong with an expression and the names that its legend or its columns show.
    pub fn faults(&self, at: &str, expression: &str, shown: &[String]) -> Vec<String> {
        let mut faults = Vec::new();
        let used = metrics(expression);
        if used.is_empty() {
            faults.push(format!("{at}: no metric in {expression}"));
        }
        for series in &used {
            if self.family(series).is_none() && !self.others.contains(series) {
                faults.push(format!("{at}: nothing exports {series}, in {expression}"));
            }
        }
        if !faults.is_empty() {
            return faults;
        }
        let tokens = tokens(expression);
        let mut want = |label: &str, there: Option<&Labels>, of: &str| {
            if there.is_some_and(|there| !there.contains(label)) {
                faults.push(format!("{at}: no label {label} {of}, in {expression}"));
            }
        };
        for (series, label) in matchers(&tokens) {
            want(&label, self.labels(&series).as_ref(), &format!("on {series}"));
        }
        for (labels, operand) in groupings(&tokens) {
            let there = self.union(operand);
            labels.iter().for_each(|l| want(l, there.as_ref(), "in what is grouped"));
        }
        let all = self.union(&tokens);
        for label in matching(&tokens).iter().chain(shown) {
            want(label, all.as_ref(), "on any metric");
        }
        faults
    }

    /// Labels of all metrics among some tokens, and those that functions make; `None` as above.
    fn union(&self, tokens: &[Token]) -> Option<Labels> {
        let text: Vec<String> = tokens.iter().map(Token::text).collect();
        let mut all = Labels::new();
        for series in metrics(&text.join(" ")) {
            all.extend(self.labels(&series)?);
        }
        // The new label of label_replace and count_values is one of their strings.
        let strings = tokens.iter().filter_map(|t| match t {
            Token::Text(s) => Some(s.clone()),
            _ => None,
        });
        all.extend(strings);
        Some(all)
    }
}

#[derive(Debug, PartialEq, Clone)]
enum Token {
    Word(String),
    Text(String),
    Sign(char),
}

impl Token {
    fn text(&self) -> String {
        match self {
            Self::Word(w) => w.clone(),
            Self::Text(s) => format!("\"{}\"", s.replace('\\', "\\\\").replace('"', "\\\"")),
            Self::Sign(c) => c.to_string(),
        }
    }
}

fn tokens(expression: &str) -> Vec<Token> {
    let text: Vec<char> = expression.chars().collect();
    let (mut out, mut i) = (Vec::new(), 0);
    while i < text.len() {
        let start = i;
        i += 1;
        match text[start] {
            quote @ ('"' | '\'') => {
                while i < text.len() && (text[i] != quote || text[i - 1] == '\\') {
                    i += 1;
                }
                out.push(Token::Text(text[start + 1..i].iter().collect()));
                i += 1;
            }
            c if c.is_ascii_alphanumeric() || c == '_' => {
                while i < text.len() && (text[i].is_ascii_alphanumeric() || "_:.".contains(text[i]))
                {
                    i += 1;
                }
                out.push(Token::Word(text[start..i].iter().collect()));
            }
            c if c.is_whitespace() => {}
            c => out.push(Token::Sign(c)),
        }
    }
    out
}

/// The tokens between an opening bracket at `open` and its end.
fn inside(tokens: &[Token], open: usize) -> &[Token] {
    let mut depth = 0;
    for (i, token) in tokens.iter().enumerate().skip(open) {
        match token {
            Token::Sign('(' | '{') => depth += 1,
            Token::Sign(')' | '}') => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return &tokens[open + 1..i];
        }
    }
    panic!("a bracket is open: {tokens:?}")
}

fn words(tokens: &[Token]) -> Vec<String> {
    let words = tokens.iter().filter_map(|t| match t {
        Token::Word(w) => Some(w.clone()),
        _ => None,
    });
    words.collect()
}

/// `metric{label=...}`: each metric with each label.
fn matchers(tokens: &[Token]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for i in 0..tokens.len().saturating_sub(1) {
        if let (Token::Word(series), Token::Sign('{')) = (&tokens[i], &tokens[i + 1]) {
            found.extend(words(inside(tokens, i + 1)).into_iter().map(|l| (series.clone(), l)));
        }
    }
    found
}

/// `by (labels) (operand)`: our way of writing an aggregation.
fn groupings(tokens: &[Token]) -> Vec<(Vec<String>, &[Token])> {
    let mut found = Vec::new();
    for i in 0..tokens.len() {
        if matches!(&tokens[i], Token::Word(w) if w == "by" || w == "without") {
            let labels = inside(tokens, i + 1);
            let operand = i + 2 + labels.len() + 1;
            assert_eq!(
                tokens.get(operand),
                Some(&Token::Sign('(')),
                "by stands before: {tokens:?}"
            );
            found.push((words(labels), inside(tokens, operand)));
        }
    }
    found
}

/// The labels of `on (...)`, `ignoring (...)`, `group_left (...)`.
fn matching(tokens: &[Token]) -> Vec<String> {
    let mut found = Vec::new();
    for i in 0..tokens.len().saturating_sub(1) {
        let lists = ["on", "ignoring", "group_left", "group_right"];
        if matches!(&tokens[i], Token::Word(w) if lists.contains(&w.as_str()))
            && tokens[i + 1] == Token::Sign('(')
        {
            found.extend(words(inside(tokens, i + 1)));
        }
    }
    found
}
