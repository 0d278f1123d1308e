//! The sections that judge and explain: summary, configuration, recommendations, monitoring, method.
//!
//! Must not: hide what could not be checked.

use super::document::{Block, Line, Mark, Table, figure, name, words};
use super::gather::Gathered;
use super::{date, partitions, view};
use crate::cmd::words::counted;
use crate::derive::recommend::{self, Finding, Rule, Weight, seconds};

/// A finding of a rule, and where.
pub struct Advised {
    /// Identity of the rule.
    pub id: &'static str,
    /// Its headline.
    pub title: &'static str,
    /// How much it matters.
    pub weight: Weight,
    /// When it holds.
    pub threshold: &'static str,
    /// Views and columns.
    pub source: &'static str,
    /// The database or pooler; `None` for the server.
    pub place: Option<String>,
    /// What [`Finding::sql`] is written in.
    pub language: &'static str,
    /// What was found.
    pub found: Vec<Finding>,
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
        advice.ask(recommend::SERVER, &gathered.facts, None, "sql");
        for database in &gathered.databases {
            let facts = gathered.recommend(database);
            advice.ask(recommend::DATABASE, &facts, Some(&database.name), "sql");
        }
        for pooler in &gathered.poolers {
            advice.ask(recommend::POOLER, &pooler.facts, Some(&pooler.name), "ini");
        }
        advice.active.sort_by_key(|a| std::cmp::Reverse(a.weight));
        advice.unknown.sort_unstable();
        advice.unknown.dedup();
        advice
    }

    fn ask<F>(
        &mut self,
        rules: &[&Rule<F>],
        facts: &F,
        place: Option<&str>,
        language: &'static str,
    ) {
        for rule in rules {
            match (rule.check)(facts) {
                None => self.unknown.push(rule.id),
                Some(found) if found.is_empty() => self.quiet += 1,
                Some(found) => self.active.push(Advised {
                    id: rule.id,
                    title: rule.title,
                    weight: rule.weight,
                    threshold: rule.threshold,
                    source: rule.source,
                    place: place.map(str::to_owned),
                    language,
                    found,
                }),
            }
        }
    }
}

fn mark(weight: Weight) -> Mark {
    match weight {
        Weight::Critical => Mark::Bad,
        Weight::Warning => Mark::Warning,
        Weight::Info => Mark::Info,
    }
}

/// What is wrong, first.
pub fn summary(gathered: &Gathered, advice: &Advice, out: &mut Vec<Block>) {
    out.push(Block::Section("summary", "Summary"));
    let mut lines: Vec<(Mark, Line)> = Vec::new();
    let roots = partitions::roots(gathered);
    for root in &roots {
        let (mark, verdict) = root.verdict();
        if mark >= Mark::Warning {
            let line = Line::default().strong(root.name.as_str()).text(format!(": {verdict}."));
            lines.push((mark, line));
        }
    }
    objectives(gathered, &mut lines);
    for a in &advice.active {
        // The partitions' own lines say it already.
        if a.id == "partitions.runway" || a.weight == Weight::Info {
            continue;
        }
        let Some(first) = a.found.first() else { continue };
        let more = match a.found.len() {
            0 | 1 => String::new(),
            n => format!(" And {} more.", n - 1),
        };
        let line = Line::default().strong(a.title).text(": ");
        let line = match &first.object {
            Some(object) => line.code(object.as_str()).text(": "),
            None => line,
        };
        let line = line.text(format!("{}{more}", first.evidence));
        lines.push((mark(a.weight), line));
    }
    lines.extend(gathered.benched.iter().flat_map(|b| b.verdicts()));
    if !gathered.notes.is_empty() {
        let text =
            format!("{} could not be read; see Method.", counted(gathered.notes.len(), "thing"));
        lines.push((Mark::Warning, Line::from(text)));
    }
    lines.sort_by_key(|(mark, _)| std::cmp::Reverse(*mark));
    if lines.is_empty() {
        lines.push((Mark::Good, Line::from("Nothing is wrong among what was checked.")));
    }
    out.extend(lines.into_iter().map(|(mark, line)| Block::Verdict(mark, line)));

    let indexes: usize = gathered.databases.iter().map(|d| d.verdicts.indexes.len()).sum();
    let infos = advice.active.iter().filter(|a| a.weight == Weight::Info).count();
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
            counted(roots.len(), "partitioned table"),
            counted(indexes, "index")
        )),
        Line::from(format!(
            "{} of little weight below; {} found nothing, {} could not be judged.",
            counted(infos, "recommendation"),
            counted(advice.quiet, "rule"),
            advice.unknown.len()
        )),
    ]));
}

/// What the objectives are missed by.
fn objectives(gathered: &Gathered, lines: &mut Vec<(Mark, Line)>) {
    let o = &gathered.objectives;
    let labels = [("window", "5m"), ("quantile", "0.95")];
    for s in view::series(&gathered.snapshot, "pg_query_latency_seconds", &labels) {
        if let Some(p95) = s.number().filter(|p95| *p95 > o.latency) {
            let text = format!(
                " is slow: its p95 is {}, the objective {} (estimated).",
                seconds(p95),
                seconds(o.latency)
            );
            lines.push((Mark::Bad, Line::default().strong(s.label("datname")).text(text)));
        }
    }
    for s in view::series(&gathered.snapshot, "pg_cache_hit_ratio", &[]) {
        if let Some(ratio) = s.number().filter(|ratio| *ratio < o.cache_hit_ratio) {
            let text = format!(
                ": {:.1} % of block reads are found in shared buffers, the objective is {:.1} %.",
                ratio * 100.0,
                o.cache_hit_ratio * 100.0
            );
            lines.push((Mark::Warning, Line::default().strong(s.label("datname")).text(text)));
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
        let place = a.place.as_deref().map(|d| format!(" ({d})")).unwrap_or_default();
        out.push(Block::Heading(format!("{}{place}", a.title)));
        out.push(Block::Text(Line::default().code(a.id).text(format!(
            ", {}. Holds when: {}.",
            a.weight.name(),
            a.threshold
        ))));
        const SHOWN: usize = 20;
        for f in a.found.iter().take(SHOWN) {
            let line = match &f.object {
                Some(object) => Line::default().code(object.as_str()).text(": "),
                None => Line::default(),
            };
            out.push(Block::Verdict(
                mark(a.weight),
                line.text(f.evidence.as_str()).text(" ").and(f.remedy.as_str().into()),
            ));
        }
        if a.found.len() > SHOWN {
            out.push(Block::Text(Line::from(format!("And {} more.", a.found.len() - SHOWN))));
        }
        let sql: Vec<&str> = a.found.iter().take(SHOWN).filter_map(|f| f.sql.as_deref()).collect();
        if !sql.is_empty() {
            out.push(Block::Code(a.language, sql.join("\n")));
        }
        out.push(Block::Source(a.source.to_owned()));
    }
    if !advice.unknown.is_empty() {
        let mut line = Line::from("Not judged for lack of facts or time: ");
        for (i, id) in advice.unknown.iter().enumerate() {
            line = line.text(if i == 0 { "" } else { ", " }).code(*id);
        }
        out.push(Block::Text(line.text(
            ". Memory and processors of the server's machine are given by host.memory and host.cpus; the \
             exporter judges over an hour what takes longer than this report.",
        )));
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
            memory.map_or_else(|| "?".to_owned(), recommend::bytes),
            cpus.map_or_else(|| "?".to_owned(), |n| format!("{n:.0}"))
        ),
    };
    out.push(Block::Source(format!("pg_settings as this role sees them; {machine}")));
}

/// What to watch from here on.
pub fn monitoring(gathered: &Gathered, out: &mut Vec<Block>) {
    out.push(Block::Section("monitoring", "Monitoring queries"));
    out.push(Block::Text(Line::from(
        "In PromQL, over what `pgrunway serve` exports; the rules in `alerts/rules` page by them.",
    )));
    let latency = gathered.objectives.latency;
    out.push(Block::Code(
        "promql",
        format!(
            "# days until inserts have no partition\n\
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
    out.push(Block::Text(Line::from("In SQL, for a look by hand:")));
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
            "Percentiles of statements are estimated from increments of `pg_stat_statements`; what was \
             estimated says so where it stands. Nothing here was assumed.",
        ),
    ];
    for note in &gathered.notes {
        lines.push(Line::default().strong("Not read: ").text(note.as_str()));
    }
    out.push(Block::List(lines));
}
