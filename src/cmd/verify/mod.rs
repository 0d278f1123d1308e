//! `pgrunway verify`: holds databases to expectations, says what is wrong and prints the SQL that
//! fixes it. A gate for deployments.
//!
//! Must not: execute what it prints, or report as passed what it could not look at.

pub mod check;
mod init;
mod parts;
mod report;

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use tokio::time::Instant;

use crate::cmd::databases;
use crate::collectors::statements;
use crate::config::{Config, Settings};
use crate::error::CollectError;
use crate::findings::{self, Part, Rule, When, partition};
use crate::pg::{Clock, Server, Session, settle};
use crate::remedy::Remedy;
use check::{CheckFinding, CheckFound, CheckOutcome, Selection, Severity, Status};
use parts::{Context, Looked};

/// The form of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum VerifyFormat {
    /// For people, in colours where asked.
    #[default]
    Text,
    /// One object.
    Json,
    /// For the test report of a CI system.
    Junit,
    /// For the summary of a pull request.
    Markdown,
    /// A script for psql that fixes what was found.
    Sql,
}

impl VerifyFormat {
    /// All of them by the words of `--format`.
    pub const WORDS: [&'static str; 5] = ["text", "json", "junit", "markdown", "sql"];

    /// From a word of [`VerifyFormat::WORDS`].
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "text" => Some(Self::Text),
            "json" => Some(Self::Json),
            "junit" => Some(Self::Junit),
            "markdown" => Some(Self::Markdown),
            "sql" => Some(Self::Sql),
            _ => None,
        }
    }
}

/// What was asked for.
#[derive(Debug, Clone)]
pub struct VerifyRequest {
    /// Which checks.
    pub selection: Selection,
    /// Databases; those that the exporter visits if empty.
    pub databases: Vec<String>,
    /// The lightest finding that fails.
    pub fail_on: Severity,
    /// Whether to measure where an estimate would do.
    pub exact: bool,
    /// `statement_timeout` of what reads all data.
    pub patience: Duration,
    /// Form of the report.
    pub format: VerifyFormat,
    /// Whether the text is in colours.
    pub colour: bool,
    /// Where it goes in place of standard output.
    pub output: Option<PathBuf>,
}

/// What came of a run; the exit code of `verify`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GateVerdict {
    /// 0: no finding fails.
    Passed,
    /// 1: one does.
    Failed,
    /// 2: none does, but not everything could be looked at.
    Unchecked,
}

/// All that reports are made of.
pub struct VerifyRun {
    /// Of the first session.
    pub server: Server,
    /// `user@host:port/dbname`, without a secret.
    pub target: String,
    /// Unix seconds at the start.
    pub started: f64,
    /// From then to the end.
    pub took: Duration,
    /// Databases that were entered.
    pub databases: Vec<String>,
    /// The lightest finding that fails.
    pub fail_on: Severity,
    /// In the order in which they were made.
    pub outcomes: Vec<CheckOutcome>,
}

impl VerifyRun {
    /// How many checks ended so.
    pub fn count(&self, status: Status) -> usize {
        self.outcomes.iter().filter(|o| o.status(self.fail_on) == status).count()
    }

    /// How many findings weigh so much.
    pub fn findings(&self, severity: Severity) -> usize {
        let all = self.outcomes.iter().flat_map(|o| &o.found.findings);
        all.filter(|f| f.severity == severity).count()
    }

    /// The exit code: what fails counts for more than what could not be looked at.
    pub fn verdict(&self) -> GateVerdict {
        if self.count(Status::Failed) > 0 {
            GateVerdict::Failed
        } else if self.count(Status::Unchecked) > 0 {
            GateVerdict::Unchecked
        } else {
            GateVerdict::Passed
        }
    }
}

/// The rules that it asks, in the order of reports and of `docs/verify.md`: all whose facts it reads.
pub fn all() -> impl Iterator<Item = &'static Rule> {
    findings::all().filter(|rule| locks(rule).is_some())
}

/// The locks that asking a rule takes on users' relations, as a sentence; `None` of one that it does not ask.
pub fn locks(rule: &Rule) -> Option<&'static str> {
    parts::locks(rule.part)
}

/// Runs the checks and writes the report to `out`, or to the file that was named.
///
/// # Errors
/// A check that does not exist, with the nearest; no session; the report cannot be written.
pub async fn run(
    config: &Config,
    wanted: &VerifyRequest,
    out: &mut dyn Write,
) -> anyhow::Result<GateVerdict> {
    let run = verify(config, wanted).await?;
    let text = report::render(&run, wanted.format, wanted.colour)?;
    match &wanted.output {
        Some(path) => super::file::write(path, &text)?,
        None => {
            out.write_all(text.as_bytes())?;
            out.flush()?;
        }
    }
    Ok(run.verdict())
}

/// Runs the checks.
///
/// # Errors
/// A check that does not exist, with the nearest; no session with the configured database.
pub async fn verify(config: &Config, wanted: &VerifyRequest) -> anyhow::Result<VerifyRun> {
    let rules: Vec<&'static Rule> = all().collect();
    let (selection, former) = wanted.selection.current(&rules);
    former.iter().for_each(|note| tracing::warn!("{note}"));
    selection.validate(&rules)?;
    let wanted = &VerifyRequest { selection, ..wanted.clone() };
    let rules: Vec<&'static Rule> =
        rules.into_iter().filter(|rule| wanted.selection.admits(rule)).collect();
    let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let start = Instant::now();
    let clock = Clock::start();
    let home = at_home(config, config.settings().clone(), clock).await?;
    let mut run = VerifyRun {
        server: home.server().clone(),
        target: config.connect().describe(),
        started,
        took: Duration::ZERO,
        databases: Vec::new(),
        fail_on: wanted.fail_on,
        outcomes: Vec::new(),
    };
    let inside = |rule: &&Rule| matches!(rule.check, findings::Check::Database(_));
    let (inside, outside): (Vec<_>, Vec<_>) = rules.into_iter().partition(inside);
    let mut visitor = Visitor { config, wanted, clock, outcomes: Vec::new() };
    let databases = visitor.databases(&home, &outside).await;
    let home = visitor.visit(home, None, &outside).await;
    if let Some(home) = home {
        home.close().await;
    }
    for datname in databases? {
        if inside.is_empty() {
            break;
        }
        if visitor.enter(&datname, &inside).await {
            run.databases.push(datname);
        }
    }
    run.outcomes = visitor.outcomes;
    run.took = start.elapsed();
    Ok(run)
}

/// Goes from database to database with one connection at a time.
struct Visitor<'a> {
    config: &'a Config,
    wanted: &'a VerifyRequest,
    clock: Clock,
    outcomes: Vec<CheckOutcome>,
}

impl Visitor<'_> {
    /// Which databases to look into. Those that somebody expects something of and that are not there
    /// are findings.
    async fn databases(
        &mut self,
        home: &Session,
        selected: &[&'static Rule],
    ) -> Result<Vec<String>, CollectError> {
        let (visited, missing) = visited(home, self.config, &self.wanted.databases).await?;
        // A gate that looks at nothing must not pass, whatever else was asked for.
        let vain = !missing.is_empty() || visited.is_empty();
        let skip = Selection { skip: self.wanted.selection.skip.clone(), ..Selection::default() };
        let unchecked = (visited.is_empty() && missing.is_empty())
            .then(|| "no database may be entered, or all are excluded".to_owned());
        let looked = Looked {
            server: findings::ServerFacts {
                absent: Some(missing),
                ..findings::ServerFacts::default()
            },
            summary: parts::counted(visited.len(), "database", "to check"),
            unchecked,
            ..Looked::default()
        };
        for rule in all().filter(|rule| rule.part == Part::Databases) {
            if selected.iter().any(|s| s.id == rule.id) || vain && skip.admits(rule) {
                let found = judged(rule, &looked).map_or_else(|found| found, |(found, _)| found);
                self.outcomes.push(CheckOutcome {
                    rule,
                    database: None,
                    found,
                    took: Duration::ZERO,
                });
            }
        }
        Ok(visited)
    }

    /// Runs checks inside a database; whether it could be entered.
    async fn enter(&mut self, datname: &str, rules: &[&'static Rule]) -> bool {
        let settings = self.config.settings().clone();
        match Session::connect(self.config.connect(), Some(datname), settings, self.clock).await {
            Ok(session) => {
                if let Some(session) = self.visit(session, Some(datname), rules).await {
                    session.close().await;
                }
                true
            }
            Err(e) => {
                for rule in all().filter(|rule| rule.part == Part::Databases) {
                    self.unchecked(rule, Some(datname), e.to_string());
                }
                false
            }
        }
    }

    /// Runs checks on a session; those that take long on one of its own, with the longer timeout.
    /// A session that breaks is replaced once for each check that it broke under.
    async fn visit(
        &mut self,
        session: Session,
        datname: Option<&str>,
        rules: &[&'static Rule],
    ) -> Option<Session> {
        let measured = |rule: &Rule| self.wanted.exact && rule.part == Part::Bloat;
        let long = |rule: &Rule| rule.when == When::OnRequest || measured(rule);
        let elsewhere = |rule: &&Rule| rule.part == Part::Databases;
        let rules = rules.iter().copied().filter(|rule| !elsewhere(rule));
        let (long, short): (Vec<_>, Vec<_>) = rules.partition(|rule| long(rule));
        let mut current = Some(session);
        for (batch, patient) in [(short, false), (long, true)] {
            let mut pending = batch.into_iter().peekable();
            if patient
                && pending.peek().is_some()
                && let Some(session) = current.take()
            {
                session.close().await;
            }
            while pending.peek().is_some() {
                let session = match current.take() {
                    Some(session) => session,
                    None => match self.again(datname, patient).await {
                        Ok(session) => session,
                        Err(e) => {
                            for rule in pending.by_ref() {
                                self.unchecked(rule, datname, e.to_string());
                            }
                            break;
                        }
                    },
                };
                let context = Context::new(&session, self.wanted.exact);
                while !session.is_broken()
                    && let Some(rule) = pending.next()
                {
                    let start = Instant::now();
                    let found = ask(&context, rule).await.unwrap_or_else(|e| CheckFound {
                        unchecked: Some(e.to_string()),
                        ..CheckFound::default()
                    });
                    let database = datname.map(str::to_owned);
                    self.outcomes.push(CheckOutcome {
                        rule,
                        database,
                        found,
                        took: start.elapsed(),
                    });
                }
                drop(context);
                if session.is_broken() {
                    session.close().await;
                } else {
                    current = Some(session);
                }
            }
        }
        current
    }

    fn unchecked(&mut self, rule: &'static Rule, datname: Option<&str>, why: String) {
        self.outcomes.push(CheckOutcome {
            rule,
            database: datname.map(str::to_owned),
            found: CheckFound { unchecked: Some(why), ..CheckFound::default() },
            took: Duration::ZERO,
        });
    }

    async fn again(&self, datname: Option<&str>, patient: bool) -> anyhow::Result<Session> {
        let mut settings: Arc<Settings> = self.config.settings().clone();
        if patient {
            Arc::make_mut(&mut settings).timeouts.statement = self.wanted.patience;
        }
        match datname {
            None => at_home(self.config, settings, self.clock).await,
            Some(_) => {
                Ok(Session::connect(self.config.connect(), datname, settings, self.clock).await?)
            }
        }
    }
}

/// A session where the exporter has its own: in a database with `pg_stat_statements`, if there is one.
async fn at_home(
    config: &Config,
    settings: Arc<Settings>,
    clock: Clock,
) -> anyhow::Result<Session> {
    let session = Session::connect(config.connect(), None, settings, clock).await?;
    Ok(settle(session, config.connect(), &statements::NEED, config.databases(), None).await?)
}

/// Asks a rule what it says of its part, which is read once for all of its rules.
async fn ask(cx: &Context<'_>, rule: &'static Rule) -> Result<CheckFound, CollectError> {
    let known = cx.looked.borrow().get(&rule.part).cloned();
    let looked = match known {
        Some(looked) => looked,
        None => {
            let looked = Rc::new(parts::look(cx, rule.part).await?);
            cx.looked.borrow_mut().insert(rule.part, looked.clone());
            looked
        }
    };
    let (mut found, verdict) = match judged(rule, &looked) {
        Ok(judged) => judged,
        Err(found) => return Ok(found),
    };
    for (finding, judged) in found.findings.iter_mut().zip(verdict) {
        if let Some(Remedy::Shell(command)) = &judged.remedy {
            *finding = parts::partitions::planned(cx, finding.clone(), command).await;
        }
        if rule.id == partition::DEFAULT_ROWS.id
            && let findings::Subject::Relation(table) = &judged.subject
        {
            *finding = parts::partitions::moved(cx, finding.clone(), table).await?;
        }
    }
    Ok(found)
}

/// What a rule says of what was looked at, as reports show it and as it said it; or why it says nothing.
fn judged(
    rule: &Rule,
    looked: &Looked,
) -> Result<(CheckFound, Vec<findings::Finding>), CheckFound> {
    if let Some(why) = looked.skips.get(rule.id).or(looked.skipped.as_ref()) {
        return Err(CheckFound::skipped(why.as_str()));
    }
    if let Some(why) = looked.unknown.get(rule.id) {
        return Err(CheckFound { unchecked: Some(why.clone()), ..CheckFound::default() });
    }
    let summary = looked.summaries.get(rule.id).unwrap_or(&looked.summary).clone();
    let verdict = looked.facts(&rule.check).and_then(|facts| rule.judge(facts)).flatten();
    let Some(mut verdict) = verdict else {
        return Err(match &looked.unchecked {
            Some(why) => CheckFound { unchecked: Some(why.clone()), ..CheckFound::default() },
            None => CheckFound::skipped(format!("too little evidence yet: {}", rule.source)),
        });
    };
    // The heaviest first, then by name.
    verdict.sort_by(|a, b| b.severity.cmp(&a.severity).then_with(|| a.subject.cmp(&b.subject)));
    let place = match rule.check {
        findings::Check::Server(_) => &looked.server.datname,
        _ => &looked.database.datname,
    };
    let findings = verdict.iter().map(|found| CheckFinding::new(found.clone(), place)).collect();
    let found =
        CheckFound { unchecked: looked.unchecked.clone(), ..CheckFound::new(summary, findings) };
    Ok((found, verdict))
}

/// Which databases to look into, those that were named or else those that the exporter visits; and
/// which of those that somebody wants are not there.
async fn visited(
    home: &Session,
    config: &Config,
    named: &[String],
) -> Result<(Vec<String>, Vec<String>), CollectError> {
    let present = databases::list(home).await?;
    let chosen = |datname: &str| match named.is_empty() {
        true => config.databases().admits(datname),
        false => named.iter().any(|n| n == datname),
    };
    let mut wanted = expectations(config.settings());
    wanted.retain(|datname| chosen(datname));
    wanted.extend(named.iter().cloned());
    let known = |datname: &str| present.iter().any(|d| d.datname == datname);
    let missing = wanted.iter().filter(|d| !known(d)).cloned().collect();
    // A database that may not be entered passes by, as in the exporter, unless somebody wants it.
    let visited = present
        .iter()
        .filter(|d| chosen(&d.datname) && (d.may_enter || wanted.contains(&d.datname)))
        .map(|d| d.datname.clone())
        .collect();
    Ok((visited, missing))
}

/// Databases that the file expects something of.
fn expectations(settings: &Settings) -> BTreeSet<String> {
    let plain = |name: &&String| !name.contains(['*', '?']);
    let rules = settings.partitions.rules.iter().filter(|r| r.must_exist);
    let mut all: BTreeSet<String> =
        rules.filter_map(|r| r.database.as_ref()).filter(plain).cloned().collect();
    let indexes = settings.indexes.expected.iter();
    all.extend(indexes.filter_map(|r| r.database.as_ref()).filter(plain).cloned());
    all.extend(settings.queries.iter().map(|q| q.database.clone()));
    all
}

/// Writes expectations from the databases as they stand, as YAML for `pgrunway.yml`.
///
/// # Errors
/// No session; the file exists already or cannot be written.
pub async fn write_expectations(
    config: &Config,
    databases: &[String],
    output: Option<&Path>,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let text = init::text(config, databases).await?;
    match output {
        Some(path) => {
            let mut file = std::fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .open(path)
                .with_context(|| format!("cannot create {}", path.display()))?;
            file.write_all(text.as_bytes())
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        None => {
            out.write_all(text.as_bytes())?;
            out.flush()?;
        }
    }
    Ok(())
}

/// The table of checks, for `--list`.
pub fn list() -> String {
    let mut out = String::new();
    let width = all().map(|c| c.id.len()).max().unwrap_or(0);
    for rule in all() {
        let when = if rule.when == When::OnRequest { " (only by --with)" } else { "" };
        let (id, word) = (rule.id, rule.severity.word());
        out.push_str(&format!("{id:width$}  {word:7}  {}{when}\n", rule.finds));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::check::fixtures::finding;
    use super::*;
    use crate::cli;

    #[test]
    fn the_command_line_knows_every_form() {
        for word in VerifyFormat::WORDS {
            assert!(VerifyFormat::from_word(word).is_some(), "{word}");
            assert!(cli::parse(["pgrunway", "verify", "--format", word], &[]).is_ok(), "{word}");
        }
    }

    fn run_of(findings: Vec<check::CheckFinding>, unchecked: Option<&str>) -> VerifyRun {
        let rule = all().next().unwrap();
        let found = CheckFound {
            unchecked: unchecked.map(str::to_owned),
            ..CheckFound::new("1 thing", findings)
        };
        VerifyRun {
            server: Server::default(),
            target: "u@h/d".to_owned(),
            started: 0.0,
            took: Duration::ZERO,
            databases: vec!["d".to_owned()],
            fail_on: Severity::Critical,
            outcomes: vec![CheckOutcome { rule, database: None, found, took: Duration::ZERO }],
        }
    }

    #[test]
    fn what_fails_counts_for_more_than_what_was_not_looked_at() {
        let error = || vec![finding("x", "is gone")];
        let warning =
            || vec![CheckFinding { severity: Severity::Warning, ..finding("x", "is odd") }];
        for (findings, unchecked, want) in [
            (vec![], None, GateVerdict::Passed),
            (warning(), None, GateVerdict::Passed),
            (error(), None, GateVerdict::Failed),
            (error(), Some("half"), GateVerdict::Failed),
            (warning(), Some("half"), GateVerdict::Unchecked),
            (vec![], Some("all"), GateVerdict::Unchecked),
        ] {
            assert_eq!(run_of(findings, unchecked).verdict(), want);
        }
    }

    #[test]
    fn colours_are_only_where_they_are_asked_for() {
        let run = run_of(vec![finding("x", "is gone").fix("SELECT 1;")], Some("half"));
        let plain = report::render(&run, VerifyFormat::Text, false).unwrap();
        let coloured = report::render(&run, VerifyFormat::Text, true).unwrap();
        assert!(!plain.contains('\x1b') && coloured.contains("\x1b[31;1mFAILED\x1b[0m"));
        let mut stripped = coloured;
        for code in ["31;1", "33;1", "36", "32", "1", "2", "0"] {
            stripped = stripped.replace(&format!("\x1b[{code}m"), "");
        }
        assert_eq!(stripped, plain);
        // What fails comes before what could not be looked at, and both are there.
        let (failed, unchecked) = (plain.find("is gone."), plain.find("half."));
        assert!(failed.is_some() && failed < unchecked, "{plain}");
    }

    #[test]
    fn a_long_script_is_cut_in_the_text_and_whole_in_the_script() {
        let long: Vec<String> = (0..60).map(|n| format!("SELECT {n};")).collect();
        let cut = finding("x", "is gone").fix(long.join("\n"));
        let data = finding("y", "is old").fix("DROP TABLE y;");
        let data = CheckFinding { deletes: true, ..data.caution("THIS DELETES DATA. Archive it.") };
        let run = run_of(vec![cut, data], None);
        let text = report::render(&run, VerifyFormat::Text, false).unwrap();
        assert!(text.contains("SELECT 19;") && !text.contains("SELECT 20;"), "{text}");
        assert!(text.contains("... and 40 lines more: --format sql prints them"), "{text}");
        let script = report::render(&run, VerifyFormat::Sql, false).unwrap();
        assert!(script.contains("\nSELECT 59;\n"), "{script}");
        // Nothing that deletes rows runs by itself.
        assert!(
            script.contains("\n-- THIS DELETES DATA. Archive it.\n-- DROP TABLE y;\n"),
            "{script}"
        );
    }
}
