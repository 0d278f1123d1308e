//! The sections that judge and explain: summary, configuration, recommendations, monitoring, method.
//!
//! Must not: hide what could not be checked.

use super::date;
use super::document::{Block, Line, Mark, Table, figure, name, words};
use super::figures::ReportFigures;
use super::gather::Gathered;
use crate::cmd::words::counted;
use crate::derive::units::{bytes, seconds};
use crate::findings::{self, Facts, Finding, Part, Rule, Severity, Subject};
use crate::remedy::{Relation, Remedy};

/// What a rule found, and where.
pub struct Advised {
    /// The rule.
    pub rule: &'static Rule,
    /// The database or pooler; `None` for the server.
    pub place: Option<String>,
    /// What was found.
    pub found: Vec<Finding>,
}

impl Advised {
    /// That of the finding that matters most.
    fn severity(&self) -> Severity {
        self.found.iter().map(|f| f.severity).max().unwrap_or(Severity::Info)
    }
}

impl Advised {
    /// For the summary, if it matters enough for that.
    fn line(&self) -> Option<(Mark, Line)> {
        let first = self.found.first()?;
        if self.severity() == Severity::Info {
            return None;
        }
        let more = match self.found.len() {
            1 => String::new(),
            n => format!(" And {} more.", n - 1),
        };
        let line = Line::default().strong(self.rule.title).text(": ");
        let line = match first.subject.name() {
            Some(name) => line.code(name).text(": "),
            None => line,
        };
        Some((self.severity().into(), line.text(format!("{}{more}", first.evidence))))
    }
}

/// What all rules say.
pub struct Advice {
    /// Those that hold, those that matter most first.
    pub active: Vec<Advised>,
    /// Rules that hold not.
    pub quiet: usize,
    /// Rules without the facts that they need.
    pub unknown: Vec<&'static str>,
}

impl Advice {
    /// Asks every rule.
    pub fn of(gathered: &Gathered) -> Self {
        let mut advice = Self { active: Vec::new(), quiet: 0, unknown: Vec::new() };
        advice.ask((&gathered.facts).into(), None);
        advice.ask((&super::waits::facts(gathered)).into(), None);
        for database in &gathered.databases {
            advice.ask((&gathered.facts(database)).into(), Some(&database.name));
        }
        for pooler in &gathered.poolers {
            advice.ask((&pooler.facts).into(), Some(&pooler.name));
        }
        advice.active.sort_by_key(|a| std::cmp::Reverse(a.severity()));
        advice.unknown.sort_unstable();
        advice.unknown.dedup();
        advice
    }

    fn ask(&mut self, facts: Facts<'_>, place: Option<&str>) {
        for (rule, verdict) in findings::judge(facts) {
            match verdict {
                None => self.unknown.push(rule.id),
                Some(found) if found.is_empty() => self.quiet += 1,
                Some(found) => {
                    self.active.push(Advised { rule, place: place.map(str::to_owned), found });
                }
            }
        }
    }
}

impl Advice {
    /// What the rules about partitions find of a table.
    pub fn about_partitions(&self, database: &str, table: &Relation) -> Vec<&Finding> {
        let here = |a: &&Advised| {
            let partitions = matches!(a.rule.part, Part::Partitions | Part::Siblings);
            partitions && a.place.as_deref() == Some(database)
        };
        let about = |f: &&Finding| matches!(&f.subject, Subject::Relation(name) if name == table);
        self.active.iter().filter(here).flat_map(|a| &a.found).filter(about).collect()
    }
}

impl From<Severity> for Mark {
    fn from(severity: Severity) -> Self {
        match severity {
            Severity::Critical => Self::Bad,
            Severity::Warning => Self::Warning,
            Severity::Info => Self::Info,
        }
    }
}

/// What is wrong, first.
pub fn summary(
    gathered: &Gathered,
    figures: &ReportFigures<'_>,
    advice: &Advice,
    out: &mut Vec<Block>,
) {
    out.push(Block::Section("summary", "Summary"));
    let mut lines: Vec<(Mark, Line)> = Vec::new();
    // What somebody is paged for comes first among what matters as much.
    let (paged, other): (Vec<_>, Vec<_>) =
        advice.active.iter().partition(|a| !a.rule.alerts.is_empty());
    lines.extend(paged.into_iter().filter_map(Advised::line));
    objectives(gathered, figures, &mut lines);
    lines.extend(other.into_iter().filter_map(Advised::line));
    lines.extend(gathered.benched.iter().flat_map(|b| b.verdicts()));
    if !gathered.notes.is_empty() {
        let text =
            format!("{} could not be read; see Method.", counted(gathered.notes.len(), "thing"));
        lines.push((Mark::Warning, Line::from(text)));
    }
    lines.sort_by_key(|(mark, _)| std::cmp::Reverse(*mark));
    if lines.is_empty() {
        lines.push((Mark::Good, Line::from("No problem was found in what was checked.")));
    }
    out.extend(lines.into_iter().map(|(mark, line)| Block::Verdict(mark, line)));

    let tables = gathered.databases.iter().flat_map(|d| d.facts.partitioned.iter().flatten());
    let partitioned = tables.count();
    let indexes: usize = gathered.databases.iter().map(|d| d.verdicts.indexes.len()).sum();
    let infos = advice.active.iter().filter(|a| a.severity() == Severity::Info).count();
    out.push(Block::List(vec![
        Line::from(format!(
            "{}: PostgreSQL {}, watched for {} until {} UTC.",
            gathered.target,
            gathered.server.version,
            seconds(gathered.to - gathered.from),
            date(gathered.to)
        )),
        Line::from(format!(
            "{}, {}, {}.",
            counted(gathered.databases.len(), "database"),
            counted(partitioned, "partitioned table"),
            counted(indexes, "index")
        )),
        Line::from(format!(
            "{} of less weight below; {} found nothing, {} could not be evaluated.",
            counted(infos, "recommendation"),
            counted(advice.quiet, "rule"),
            advice.unknown.len()
        )),
    ]));
}

/// What the objectives are missed by.
fn objectives(gathered: &Gathered, figures: &ReportFigures<'_>, lines: &mut Vec<(Mark, Line)>) {
    let o = &gathered.objectives;
    for (datname, database) in &figures.databases {
        if let Some(p95) = database.latency.p95.filter(|p95| *p95 > o.latency) {
            let text = format!(
                " is slow: its p95 is {}, the objective {} (estimated).",
                seconds(p95),
                seconds(o.latency)
            );
            lines.push((Mark::Bad, Line::default().strong(*datname).text(text)));
        }
    }
    for (datname, database) in &figures.databases {
        if let Some(ratio) = database.hit_ratio.filter(|ratio| *ratio < o.cache_hit_ratio) {
            let text = format!(
                ": {:.1} % of block reads are found in shared buffers, the objective is {:.1} %.",
                ratio * 100.0,
                o.cache_hit_ratio * 100.0
            );
            lines.push((Mark::Warning, Line::default().strong(*datname).text(text)));
        }
    }
}

/// The recommendations with their evidence.
pub fn section(advice: &Advice, out: &mut Vec<Block>) {
    out.push(Block::Section("recommendations", "Recommendations"));
    if advice.active.is_empty() {
        out.push(Block::Text(Line::from("None.")));
    }
    for a in &advice.active {
        let Rule { id, title, finds, why, source, .. } = a.rule;
        let place = a.place.as_deref().map(|d| format!(" ({d})")).unwrap_or_default();
        out.push(Block::Heading(format!("{title}{place}")));
        let severity = a.severity();
        let text = format!(", {}. Holds when: {finds}. {why}", severity.word());
        out.push(Block::Text(Line::default().code(*id).text(text)));
        const SHOWN: usize = 20;
        for f in a.found.iter().take(SHOWN) {
            let line = match f.subject.name() {
                Some(name) => Line::default().code(name).text(": "),
                None => Line::default(),
            };
            let line = line.text(f.evidence.as_str()).text(" ").and(f.advice.as_str().into());
            out.push(Block::Verdict(f.severity.into(), line));
        }
        if a.found.len() > SHOWN {
            out.push(Block::Text(Line::from(format!("And {} more.", a.found.len() - SHOWN))));
        }
        remedies(a.found.iter().take(SHOWN).filter_map(|f| f.remedy.as_ref()), out);
        out.push(Block::Source((*source).to_owned()));
    }
    if !advice.unknown.is_empty() {
        let mut line = Line::from("Not evaluated: ");
        for (i, id) in advice.unknown.iter().enumerate() {
            line = line.text(if i == 0 { "" } else { ", " }).code(*id);
        }
        out.push(Block::Text(line.text(
            ". Set host.memory and host.cpus for the rules about the server's machine; the exporter evaluates \
             over an hour what takes longer than this report.",
        )));
    }
}

/// What can be copied, one block a language.
fn remedies<'a>(remedies: impl Iterator<Item = &'a Remedy>, out: &mut Vec<Block>) {
    let mut blocks: [(&str, String); 3] = ["sh", "sql", "ini"].map(|name| (name, String::new()));
    for remedy in remedies {
        // Of a script the statements: evidence and advice stand above, and they must go into one place.
        let (at, text) = match remedy {
            Remedy::Shell(_) => (0, remedy.text()),
            Remedy::Sql(script) => (1, script.body()),
            Remedy::Prose(_) => (2, remedy.text()),
        };
        blocks[at].1.push_str(text.trim_end());
        blocks[at].1.push('\n');
    }
    for (language, text) in blocks {
        if !text.is_empty() {
            out.push(Block::Code(language, text.trim_end().to_owned()));
        }
    }
}

/// Settings as they are.
pub fn configuration(gathered: &Gathered, out: &mut Vec<Block>) {
    out.push(Block::Section("configuration", "Configuration"));
    let rows = gathered.settings.iter().map(|s| {
        let source =
            if s.pending { format!("{}, restart pending", s.source) } else { s.source.clone() };
        vec![name(s.name.as_str()), figure(Some(s.value.clone())), words(source)]
    });
    out.push(Block::Table(Table { head: vec!["setting", "value", "from"], rows: rows.collect() }));
    let machine = match (gathered.facts.memory, gathered.facts.cpus) {
        (None, None) => {
            "memory and processors of the machine are not known (host.memory, host.cpus)".to_owned()
        }
        (memory, cpus) => format!(
            "machine with {} of memory and {} processors, from the configuration",
            memory.map_or_else(|| "?".to_owned(), bytes),
            cpus.map_or_else(|| "?".to_owned(), |n| format!("{n:.0}"))
        ),
    };
    out.push(Block::Source(format!("pg_settings as this role sees them; {machine}")));
}

/// What to watch from here on.
pub fn monitoring(gathered: &Gathered, out: &mut Vec<Block>) {
    out.push(Block::Section("monitoring", "Monitoring queries"));
    out.push(Block::Text(Line::from(
        "In PromQL, on what `pgrunway serve` exports; the rules in `alerts/rules` use the same metrics.",
    )));
    let latency = gathered.objectives.latency;
    out.push(Block::Code(
        "promql",
        format!(
            "# days until inserts fail\n\
             (pg_partition_covered_until_timestamp_seconds - time()) / 86400\n\
             # p95 by database over 5 minutes\n\
             histogram_quantile(0.95, sum by (datname, le) (rate(pg_query_duration_seconds_bucket[5m])))\n\
             # share of calls within {}\n\
             sum by (datname) (rate(pg_query_duration_seconds_bucket{{le=\"0.05\"}}[5m]))\n  \
             / sum by (datname) (rate(pg_query_duration_seconds_count[5m]))\n\
             # cache hit and index scan ratios\npg_cache_hit_ratio\npg_index_scan_ratio\n\
             # connections in use\npg_connections_used_ratio",
            if (latency - 0.05).abs() < 1e-9 { "the objective, 50 ms" } else { "50 ms" }
        ),
    ));
    out.push(Block::Text(Line::from("In SQL, to check by hand:")));
    out.push(Block::Code(
        "sql",
        "-- indexes by use\n\
         SELECT relname, indexrelname, idx_scan, pg_size_pretty(pg_relation_size(indexrelid))\n  \
         FROM pg_stat_user_indexes ORDER BY idx_scan;\n\
         -- statements by time\n\
         SELECT queryid, calls, total_exec_time / calls AS mean_ms, left(query, 80)\n  \
         FROM pg_stat_statements ORDER BY total_exec_time DESC LIMIT 10;\n\
         -- partitions and their bounds\n\
         SELECT inhrelid::regclass, pg_get_expr(c.relpartbound, c.oid)\n  \
         FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid\n \
         WHERE inhparent = 'trades'::regclass ORDER BY 2;"
            .to_owned(),
    ));
}

/// How it was made.
pub fn method(gathered: &Gathered, out: &mut Vec<Block>) {
    out.push(Block::Section("method", "Method"));
    let s = &gathered.server;
    let mut lines = vec![
        Line::from(format!(
            "pgrunway {} watched {} from {} to {} UTC with all its collectors, over two connections at \
             most, in read-only transactions as role {}.",
            env!("CARGO_PKG_VERSION"),
            gathered.target,
            date(gathered.from),
            date(gathered.to),
            s.role
        )),
        Line::from(format!(
            "PostgreSQL {}, up since {} UTC{}.",
            s.version,
            date(s.started),
            if s.in_recovery { ", a standby" } else { "" }
        )),
        Line::from(
            "Percentiles of statements are estimated from increments of `pg_stat_statements`; estimates are \
             marked as such. Nothing was assumed.",
        ),
    ];
    for note in &gathered.notes {
        lines.push(Line::default().strong("Not read: ").text(note.as_str()));
    }
    out.push(Block::List(lines));
}
