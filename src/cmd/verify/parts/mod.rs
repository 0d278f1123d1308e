//! What is read for the rules, part by part, and what to say of what was looked at.
//!
//! Must not: judge; the rules of `findings` do.

mod bloat;
mod btree;
mod corruption;
mod orphans;
pub(super) mod partitions;
mod plans;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::cmd::advice;
use crate::collector::Collector as _;
use crate::collectors::database_recommendations::{
    self, catalogue, of_extensions, of_indexes, of_jobs, of_partitions, of_vacuum,
};
use crate::collectors::extensions::Extensions;
use crate::collectors::index_health;
use crate::collectors::index_health::catalogue::WhoseNames;
use crate::collectors::maintenance::{self, Maintenance};
use crate::collectors::partitions::{Partitions, siblings};
use crate::collectors::vacuum::{self, Vacuum};
use crate::derive::index::{Usage, Verdicts, judge};
use crate::derive::units::thousands;
use crate::error::CollectError;
use crate::findings::{self, DatabaseFacts, Facts, Lack, Part, ServerFacts};
use crate::pg::Session;

/// What a part brought to light.
#[derive(Debug, Default)]
pub(super) struct Looked {
    /// About the server.
    pub(super) server: ServerFacts,
    /// About the database.
    pub(super) database: DatabaseFacts,
    /// What was looked at, unless `summaries` has more to say of a rule.
    pub(super) summary: String,
    /// By rule.
    pub(super) summaries: BTreeMap<&'static str, String>,
    /// Why there is nothing to do for any of its rules.
    pub(super) skipped: Option<String>,
    /// The same by rule.
    pub(super) skips: BTreeMap<&'static str, String>,
    /// What could not be looked at, and why.
    pub(super) unchecked: Option<String>,
    /// The same by rule.
    pub(super) unknown: BTreeMap<&'static str, String>,
}

impl Looked {
    /// There is nothing to do.
    fn skipped(why: impl Into<String>) -> Self {
        Self { skipped: Some(why.into()), ..Self::default() }
    }

    fn of(database: DatabaseFacts, summary: impl Into<String>) -> Self {
        Self { database, summary: summary.into(), ..Self::default() }
    }

    /// What a rule looks at; `None` where it is not about a server or database.
    pub(super) fn facts(&self, check: &findings::Check) -> Option<Facts<'_>> {
        match check {
            findings::Check::Server(_) => Some((&self.server).into()),
            findings::Check::Database(_) => Some((&self.database).into()),
            findings::Check::Waits(_) | findings::Check::Pooler(_) | findings::Check::Access(_) => {
                None
            }
        }
    }
}

/// What rules are asked with: a session, and what was read of one database.
pub struct Context<'a> {
    /// In the database, or in the one that is configured for rules about the server.
    pub session: &'a Session,
    /// Whether to measure where an estimate would do.
    pub exact: bool,
    /// By part, read once for all of its rules.
    pub(super) looked: RefCell<BTreeMap<Part, Rc<Looked>>>,
}

impl<'a> Context<'a> {
    /// With nothing read yet.
    pub fn new(session: &'a Session, exact: bool) -> Self {
        Self { session, exact, looked: RefCell::default() }
    }

    /// The database.
    pub fn datname(&self) -> &str {
        &self.session.server().datname
    }
}

const INDEX_LOCKS: &str =
    "none to judge; ACCESS SHARE for a moment on tables that something is found on, to print SQL";
const PARTITION_LOCKS: &str = "none, but for a sequence behind an integer key (ROW EXCLUSIVE for a moment); to print SQL, \
                               ACCESS SHARE for a moment on the table";

/// The locks that reading a part takes on users' relations; `None` of what only a report or the exporter watches.
pub(super) fn locks(part: Part) -> Option<&'static str> {
    Some(match part {
        Part::Databases
        | Part::Settings
        | Part::Load
        | Part::Jobs
        | Part::Constraints
        | Part::Extensions
        | Part::Vacuum
        | Part::Ages => "none",
        Part::Indexes => INDEX_LOCKS,
        Part::Bloat => {
            "none to estimate; with `--exact` ACCESS SHARE on each B-tree while it is read"
        }
        Part::Corruption => "ACCESS SHARE on each index and its table, while it is read",
        Part::Partitions | Part::Siblings => PARTITION_LOCKS,
        Part::Plans => {
            "ACCESS SHARE on the tables of the queries while each is planned; if a query writes, its own locks"
        }
        Part::Orphans => {
            "ACCESS SHARE on both tables of each foreign key, while their rows are read"
        }
        Part::Growth => {
            "ACCESS SHARE on each relation while its size is read, unless that would wait"
        }
        Part::Access | Part::Statements | Part::Waits | Part::Pooler => return None,
    })
}

const STANDBY: &str = "a standby does not have these statistics: run it on the primary";

/// Reads a part.
pub(super) async fn look(cx: &Context<'_>, part: Part) -> Result<Looked, CollectError> {
    let server = cx.session.server();
    let mut looked = match part {
        Part::Settings => settings(cx.session).await,
        Part::Load => load(cx.session).await,
        Part::Indexes => indexes(cx.session).await?,
        Part::Bloat => bloat::look(cx).await?,
        Part::Corruption => corruption::look(cx).await?,
        Part::Partitions => partitions::look(cx).await?,
        Part::Siblings => {
            let database =
                DatabaseFacts { odd: Some(siblings(cx.session).await?), ..partitioned(cx).await? };
            let tables = database.partitioned.iter().flatten().count();
            Looked::of(database, counted(tables, "table", "checked"))
        }
        Part::Jobs => {
            let rows = Maintenance.fetch(cx.session, &maintenance::State::default()).await?;
            match of_jobs(&rows) {
                None => Looked {
                    unchecked: Some(
                        "the tables of pg_cron cannot be read: docs/maintenance.md has the grants"
                            .to_owned(),
                    ),
                    ..Looked::default()
                },
                Some(jobs) if jobs.is_empty() => {
                    Looked::skipped("no pg_cron job here maintains partitions")
                }
                Some(jobs) => {
                    let summary = counted(jobs.len(), "job", "of pg_cron checked");
                    Looked::of(
                        DatabaseFacts { jobs: Some(jobs), ..DatabaseFacts::default() },
                        summary,
                    )
                }
            }
        }
        Part::Plans => plans::look(cx).await?,
        Part::Constraints => {
            let found = catalogue::not_valid(cx.session).await?;
            let summary = match found.len() {
                0 => "every constraint is validated".to_owned(),
                n => counted(n, "constraint", "NOT VALID"),
            };
            Looked::of(
                DatabaseFacts { not_valid: Some(found), ..DatabaseFacts::default() },
                summary,
            )
        }
        Part::Extensions => {
            let found = of_extensions(&Extensions.fetch(cx.session, &()).await?);
            let summary = counted(found.len(), "extension", "looked at");
            Looked::of(
                DatabaseFacts { extensions: Some(found), ..DatabaseFacts::default() },
                summary,
            )
        }
        Part::Orphans => orphans::look(cx).await?,
        Part::Vacuum | Part::Ages if server.in_recovery => Looked::skipped(STANDBY),
        Part::Vacuum => {
            let rows = Vacuum.fetch(cx.session, &vacuum::State::default()).await?;
            let tables = of_vacuum(&rows);
            let summary = counted(tables.len(), "table", "checked, partitions included");
            Looked::of(DatabaseFacts { tables: Some(tables), ..DatabaseFacts::default() }, summary)
        }
        Part::Ages => {
            let ages = catalogue::ages(cx.session).await?;
            let oldest = thousands(ages.oldest);
            let summary =
                format!("{} tables checked, the oldest {oldest} transactions old", ages.tables);
            Looked::of(DatabaseFacts { ages: Some(ages), ..DatabaseFacts::default() }, summary)
        }
        Part::Growth => {
            let rows = database_recommendations::Rows::read(cx.session, WhoseNames::Judged).await?;
            let facts = database_recommendations::facts(&rows, None);
            let tables = facts.growth.as_ref().map_or(0, |growth| growth.tables.len());
            Looked::of(facts, counted(tables, "table", "by time measured"))
        }
        // These are read elsewhere.
        Part::Access | Part::Databases | Part::Statements | Part::Waits | Part::Pooler => {
            Looked::default()
        }
    };
    looked.database.datname.clone_from(&server.datname);
    looked.database.version_num = server.version_num;
    looked.database.role.clone_from(&server.role);
    // Names and trees for what is printed.
    catalogue::complete(cx.session, &mut looked.database, usize::MAX).await?;
    Ok(looked)
}

async fn partitioned(cx: &Context<'_>) -> Result<DatabaseFacts, CollectError> {
    Ok(of_partitions(&Partitions.fetch(cx.session, &()).await?))
}

async fn settings(session: &Session) -> Looked {
    let mut notes = Vec::new();
    let server = advice::setup(session, &mut notes).await;
    let mut looked = Looked {
        summary: counted(server.settings.len(), "setting", "read"),
        unchecked: (!notes.is_empty()).then(|| notes.join("; ")),
        ..Looked::default()
    };
    // Only a superuser or pg_read_all_settings sees it.
    if !server.settings.contains_key("shared_preload_libraries") {
        let why = "the role may not see shared_preload_libraries".to_owned();
        looked.unknown.insert("settings.pg_stat_statements", why);
    }
    if session.server().version_num < 140_000 {
        let why = "this server has no setting compute_query_id".to_owned();
        looked.skips.insert("settings.compute_query_id", why);
    }
    let member = if server.monitors == Some(true) { "has" } else { "lacks" };
    looked.summaries.insert("settings.role", format!("{} {member} pg_monitor", server.role));
    Looked { server, ..looked }
}

async fn load(session: &Session) -> Looked {
    let mut notes = Vec::new();
    let server = advice::server(session, None, &mut notes).await;
    Looked {
        server,
        summary: "since the statistics of the server began".to_owned(),
        unchecked: (!notes.is_empty()).then(|| notes.join("; ")),
        ..Looked::default()
    }
}

async fn indexes(session: &Session) -> Result<Looked, CollectError> {
    let rows = index_health::read(session, WhoseNames::All).await?;
    let verdicts = judge(&rows.facts, &rows.limits);
    let database = of_indexes(&rows, &verdicts);
    let all = &rows.facts.indexes;
    let mut looked = Looked {
        summary: counted(verdicts.indexes.len(), "index", "compared"),
        ..Looked::default()
    };
    let building = all.iter().filter(|i| i.building && !i.usable()).count();
    let mut invalid = counted(all.len(), "index", "checked");
    if building > 0 {
        invalid.push_str(&format!(", {building} being built"));
    }
    looked.summaries.insert("index.invalid", invalid);
    looked.summaries.insert("index.unused", usage(&verdicts));

    let wanted = database.wanted.as_deref().unwrap_or_default();
    let there = wanted.iter().filter(|w| w.lack.is_none()).count();
    let mut missing = format!("{}, {there} present", counted(wanted.len(), "index", "expected"));
    let tables: Vec<i64> = wanted.iter().filter_map(|w| w.table_oid).collect();
    let on_them = verdicts.indexes.iter().filter(|i| tables.contains(&i.table)).count();
    let met = there + wanted.iter().filter(|w| matches!(w.lack, Some(Lack::Valid(_)))).count();
    if on_them > met && there == wanted.len() {
        missing.push_str(&format!("; {} more on the same tables", on_them - met));
    }
    looked.summaries.insert("index.missing", missing);
    if wanted.is_empty() {
        let why = "the list `indexes` of the file expects nothing of this database".to_owned();
        looked.skips.insert("index.missing", why);
    }

    let partial = database.partial.as_deref().unwrap_or_default();
    let whole = partial.iter().filter(|p| p.missing == 0).count();
    let noun = counted(partial.len(), "index", "of partitioned tables");
    looked
        .summaries
        .insert("index.partition_coverage", format!("{noun}, {whole} on every partition"));

    let keys = &rows.facts.foreign_keys;
    let indexed = keys.len() - verdicts.unindexed.len();
    let mut with = format!("{}, {indexed} with an index", counted(keys.len(), "foreign key", ""));
    let small = verdicts.unindexed.iter().filter(|key| key.small).count();
    if small > 0 {
        with.push_str(&format!(", {small} of small tables without"));
    }
    looked.summaries.insert("index.foreign_key", with);
    let roots = rows.facts.tables.iter().filter(|t| t.parent.is_none()).count();
    looked.summaries.insert("index.sequential_scans", counted(roots, "table", "checked"));
    Ok(Looked { database, ..looked })
}

fn usage(verdicts: &Verdicts) -> String {
    let count = |f: fn(&Usage) -> bool| verdicts.indexes.iter().filter(|j| f(&j.usage)).count();
    format!(
        "{} used, {} exempt, {} not observed for long enough",
        counted(count(|u| matches!(u, Usage::Used)), "index", ""),
        count(|u| matches!(u, Usage::Exempt(_))),
        count(|u| matches!(u, Usage::TooEarly { .. }))
    )
}

/// `1 index expected`, `19 indexes expected`.
pub(super) fn counted(n: usize, noun: &str, rest: &str) -> String {
    format!("{} {rest}", crate::cmd::words::counted(n, noun)).trim_end().to_owned()
}

/// What failed, with what to do where it was a privilege.
fn hint(failures: &[String]) -> String {
    const SHOWN: usize = 10;
    let shown: Vec<&str> = failures.iter().take(SHOWN).map(String::as_str).collect();
    let mut text = shown.join("; ");
    if failures.len() > SHOWN {
        text.push_str(&format!("; and {} more", failures.len() - SHOWN));
    }
    if failures.iter().any(|f| f.contains("permission denied")) {
        text.push_str(
            "; GRANT what is missing, or run verify as a role that may read (pg_read_all_data)",
        );
    }
    text
}
