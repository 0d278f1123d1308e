//! Findings: what is wrong, how much that matters, on what evidence, and what to do. Rules are pure functions
//! over typed facts; `verify`, `report` and the exporter gather the facts and render what the rules find.
//!
//! Must not: read a clock, a socket or SQL; judge by a fact that is not there; or promise a gain that was
//! not measured.

mod access;
mod constraints;
mod extensions;
mod facts;
mod growth;
mod index;
mod maintenance;
mod memory;
pub mod partition;
mod pooler;
mod server;
mod settings;
mod setup;
mod statements;
mod vacuum;
mod waits;

pub use facts::{
    AccessFacts, AccessFailure, AccessStep, Age, Ages, BenchFacts, Bloated, CheckpointCounts,
    ClosedDatabase, ConnectionPeak, Corrupt, Counted, DatabaseFacts, ExpectedTable, ExtensionFacts,
    FailingCollector, FaultyIndex, Foreseen, Gap, Growing, Growth, IndexFault, JobFacts,
    KeyWithoutIndex, Lack, Leaf, Lost, NotValid, Odd, OpenEnded, Origin, Overdue, Partial,
    Partitioned, PartitionsRead, Planned, Scanned, ServerFacts, Setting, StatementFacts,
    TableFacts, Temporary, WantedIndex,
};
pub use index::LARGE_INDEX;
pub use pooler::{Pool, PoolMode, Pooler, Queue, Work};
pub use waits::{SampledWaits, WaitedSeconds};

use crate::remedy::{Relation, Remedy};

#[cfg(test)]
mod tests;

/// The registry: one line a file of rules. Documentation, selection and metrics follow from it, in this order.
static GROUPS: &[&[&Rule]] = &[
    access::RULES,
    setup::RULES,
    index::RULES,
    partition::RULES,
    maintenance::RULES,
    constraints::RULES,
    extensions::RULES,
    vacuum::RULES,
    growth::RULES,
    statements::RULES,
    settings::RULES,
    memory::RULES,
    server::RULES,
    waits::RULES,
    pooler::RULES,
];

/// Every rule there is.
pub fn all() -> impl Iterator<Item = &'static Rule> {
    GROUPS.iter().copied().flatten().copied()
}

/// The rule of that id, or of that former id.
pub fn rule(id: &str) -> Option<&'static Rule> {
    all().find(|rule| rule.id == id || rule.formerly.contains(&id))
}

/// What every rule about these facts says of them.
pub fn judge<'a>(facts: impl Into<Facts<'a>>) -> impl Iterator<Item = (&'static Rule, Verdict)> {
    let facts = facts.into();
    all().filter_map(move |rule| Some((rule, rule.judge(facts)?)))
}

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Costs time or room, and will cost more.
    Warning,
    /// Data or service is at risk, or something fails.
    Critical,
}

impl Severity {
    /// Lower case, in reports, labels and flags.
    pub fn word(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }

    /// From a word; `error` is what `verify` called [`Severity::Critical`] before.
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "info" => Some(Self::Info),
            "warning" => Some(Self::Warning),
            "critical" | "error" => Some(Self::Critical),
            _ => None,
        }
    }
}

/// What a finding is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// The server.
    Server,
    /// The database.
    Database,
    /// The pooler.
    Pooler,
    /// A database of the server, by name.
    Named(String),
    /// A role.
    Role(String),
    /// A job.
    Job(String),
    /// A collector.
    Collector(String),
    /// An extension.
    Extension(String),
    /// A setting of the server.
    Setting(String),
    /// A table.
    Relation(Relation),
    /// An index: its table, and its name.
    Index(Relation, String),
    /// A statement: its `queryid`, or its name in the file.
    Statement(String),
    /// A database of a pooler, and the user where it is about one pool.
    Pool(String, Option<String>),
}

impl Subject {
    /// The kind of it, as in reports for programs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Database | Self::Named(_) => "database",
            Self::Role(_) => "role",
            Self::Job(_) => "job",
            Self::Collector(_) => "collector",
            Self::Extension(_) => "extension",
            Self::Pooler => "pooler",
            Self::Setting(_) => "setting",
            Self::Relation(_) => "relation",
            Self::Index(..) => "index",
            Self::Statement(_) => "statement",
            Self::Pool(..) => "pool",
        }
    }

    /// Its name as in the labels of the metrics; `None` for the server, database or pooler itself.
    pub fn name(&self) -> Option<String> {
        match self {
            Self::Server | Self::Database | Self::Pooler => None,
            Self::Setting(name)
            | Self::Statement(name)
            | Self::Named(name)
            | Self::Role(name)
            | Self::Collector(name)
            | Self::Extension(name)
            | Self::Job(name) => Some(name.clone()),
            Self::Relation(table) => Some(format!("{}.{}", table.schema, table.name)),
            Self::Index(table, name) => Some(format!("{}.{}.{name}", table.schema, table.name)),
            Self::Pool(database, None) => Some(database.clone()),
            Self::Pool(database, Some(user)) => Some(format!("{database} (user {user})")),
        }
    }
}

/// A figure of the evidence.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figure {
    /// What was measured, or what it is held against.
    pub name: &'static str,
    /// How much; infinite where there is no end.
    pub value: f64,
    /// Its unit.
    pub unit: Unit,
}

/// Unit of a [`Figure`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Seconds.
    Seconds,
    /// Seconds since 1970.
    UnixSeconds,
    /// Bytes.
    Bytes,
    /// Bytes a second.
    BytesPerSecond,
    /// A share: 1 is all.
    Ratio,
    /// A number of things.
    Count,
}

impl Unit {
    /// As in the names of metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Seconds => "seconds",
            Self::UnixSeconds => "timestamp_seconds",
            Self::Bytes => "bytes",
            Self::BytesPerSecond => "bytes_per_second",
            Self::Ratio => "ratio",
            Self::Count => "count",
        }
    }
}

/// One thing that is not as it should be.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// At most that of its rule.
    pub severity: Severity,
    /// What it is about.
    pub subject: Subject,
    /// What was measured, in sentences.
    pub evidence: String,
    /// The figures of that; they come from [`Rule::source`].
    pub figures: Vec<Figure>,
    /// What to do and to know first, in sentences.
    pub advice: String,
    /// What does it, where something does.
    pub remedy: Option<Remedy>,
}

impl Finding {
    fn new(subject: Subject, evidence: impl Into<String>) -> Self {
        Self {
            // What the rule says; a rule says less by `at_most`.
            severity: Severity::Critical,
            subject,
            evidence: evidence.into(),
            figures: Vec::new(),
            advice: String::new(),
            remedy: None,
        }
    }

    fn figure(mut self, name: &'static str, value: f64, unit: Unit) -> Self {
        self.figures.push(Figure { name, value, unit });
        self
    }

    fn advice(mut self, advice: impl Into<String>) -> Self {
        self.advice = advice.into();
        self
    }

    /// Says more of what to know.
    fn also(mut self, advice: impl AsRef<str>) -> Self {
        let advice = advice.as_ref();
        if !advice.is_empty() {
            if !self.advice.is_empty() {
                self.advice.push(' ');
            }
            self.advice.push_str(advice);
        }
        self
    }

    fn at_most(mut self, severity: Severity) -> Self {
        self.severity = self.severity.min(severity);
        self
    }

    fn remedy(mut self, remedy: impl Into<Remedy>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}

/// What a rule says of the facts: `None` where those it needs are not known.
pub type Verdict = Option<Vec<Finding>>;

/// The facts about one place.
#[derive(Debug, Clone, Copy)]
pub enum Facts<'a> {
    /// A server as a whole.
    Server(&'a ServerFacts),
    /// One database.
    Database(&'a DatabaseFacts),
    /// What a server's sessions wait for.
    Waits(&'a SampledWaits),
    /// A PgBouncer.
    Pooler(&'a Pooler),
    /// The way to a target.
    Access(&'a AccessFacts),
}

impl<'a> From<&'a AccessFacts> for Facts<'a> {
    fn from(facts: &'a AccessFacts) -> Self {
        Self::Access(facts)
    }
}

impl<'a> From<&'a ServerFacts> for Facts<'a> {
    fn from(facts: &'a ServerFacts) -> Self {
        Self::Server(facts)
    }
}

impl<'a> From<&'a DatabaseFacts> for Facts<'a> {
    fn from(facts: &'a DatabaseFacts) -> Self {
        Self::Database(facts)
    }
}

impl<'a> From<&'a SampledWaits> for Facts<'a> {
    fn from(facts: &'a SampledWaits) -> Self {
        Self::Waits(facts)
    }
}

impl<'a> From<&'a Pooler> for Facts<'a> {
    fn from(facts: &'a Pooler) -> Self {
        Self::Pooler(facts)
    }
}

/// The work of a rule, by the facts that it looks at.
#[derive(Debug, Clone, Copy)]
pub enum Check {
    /// About a server.
    Server(fn(&ServerFacts) -> Verdict),
    /// About a database.
    Database(fn(&DatabaseFacts) -> Verdict),
    /// About what sessions wait for.
    Waits(fn(&SampledWaits) -> Verdict),
    /// About a pooler.
    Pooler(fn(&Pooler) -> Verdict),
    /// About the way to a target.
    Access(fn(&AccessFacts) -> Verdict),
}

/// What is read together, for one rule or for several: what cannot be read costs these and no others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The way to the target, and what of it is closed.
    Access,
    /// Which databases there are, and which somebody wants.
    Databases,
    /// Settings, and what the role may.
    Settings,
    /// What the server did since its statistics began, or in the last hour.
    Load,
    /// Indexes, foreign keys and scans of tables.
    Indexes,
    /// How full B-trees are.
    Bloat,
    /// What amcheck says of B-trees.
    Corruption,
    /// Partitioned tables.
    Partitions,
    /// How partitions differ from each other.
    Siblings,
    /// Jobs that look after partitions.
    Jobs,
    /// Plans of the file's queries.
    Plans,
    /// Constraints.
    Constraints,
    /// Extensions.
    Extensions,
    /// Rows of foreign keys.
    Orphans,
    /// What VACUUM and ANALYZE have left undone.
    Vacuum,
    /// Ages of transaction IDs.
    Ages,
    /// Sizes over time.
    Growth,
    /// What statements did while they were watched.
    Statements,
    /// Samples of what sessions wait for.
    Waits,
    /// A pooler's console.
    Pooler,
}

/// When `verify` asks a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Unless it is skipped.
    Always,
    /// Where `--with` or `--only` names it: it reads all data of a table or an index, or gives advice only.
    OnRequest,
}

/// One rule: a row of the tables in `docs/findings.md`, and what it does.
#[derive(Debug)]
pub struct Rule {
    /// Stable: label value, `--only`, anchor in the docs.
    pub id: &'static str,
    /// Ids that it had, understood for one release more.
    pub formerly: &'static [&'static str],
    /// What is recommended, as a headline.
    pub title: &'static str,
    /// How much it matters; a finding may say less.
    pub severity: Severity,
    /// When it holds, in words, with the figures that the rule compares with.
    pub finds: &'static str,
    /// Why that matters: sentences.
    pub why: &'static str,
    /// Views and columns that the facts come from.
    pub source: &'static str,
    /// Alerts about the same fault; each has a runbook of its name.
    pub alerts: &'static [&'static str],
    /// What is read for it.
    pub part: Part,
    /// When `verify` asks it.
    pub when: When,
    /// The rule.
    pub check: Check,
}

impl Rule {
    /// The part of the id before the dot.
    pub fn group(&self) -> &'static str {
        self.id.split('.').next().unwrap_or(self.id)
    }

    /// What it says of the facts; `None` where it is not about such facts.
    pub fn judge(&self, facts: Facts<'_>) -> Option<Verdict> {
        let verdict = match (self.check, facts) {
            (Check::Server(check), Facts::Server(facts)) => check(facts),
            (Check::Database(check), Facts::Database(facts)) => check(facts),
            (Check::Waits(check), Facts::Waits(facts)) => check(facts),
            (Check::Pooler(check), Facts::Pooler(facts)) => check(facts),
            (Check::Access(check), Facts::Access(facts)) => check(facts),
            _ => return None,
        };
        let weighed = |mut finding: Finding| {
            finding.severity = finding.severity.min(self.severity);
            finding
        };
        Some(verdict.map(|found| found.into_iter().map(weighed).collect()))
    }
}

/// What a rule found, for who shows it later.
#[derive(Debug, Clone, PartialEq)]
pub struct Reported {
    /// The rule.
    pub rule: &'static Rule,
    /// What it found.
    pub finding: Finding,
}

impl PartialEq for Rule {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

/// Findings of a rule about one place that are kept to be shown.
const KEPT: usize = 20;

/// What the rules say: by id 1 where something was found and 0 where not, `None` where the facts are not known; and
/// of each rule the first findings.
#[derive(Debug, Clone, Default)]
pub struct Judgement {
    /// By id.
    pub active: Vec<(&'static str, Option<f64>)>,
    /// In the order of the rules.
    pub reported: Vec<Reported>,
}

impl Judgement {
    /// Asks every rule about such facts.
    pub fn of<'a>(facts: impl Into<Facts<'a>>) -> Self {
        let mut all = Self::default();
        for (rule, verdict) in judge(facts) {
            all.active.push((rule.id, active(&verdict)));
            let found = verdict.into_iter().flatten().take(KEPT);
            all.reported.extend(found.map(|finding| Reported { rule, finding }));
        }
        all
    }
}

/// 1 where something was found, 0 where not; `None` where the facts are not known.
fn active(verdict: &Verdict) -> Option<f64> {
    verdict.as_ref().map(|found| f64::from(u8::from(!found.is_empty())))
}
