//! `pgrunway plan`: prints the SQL that extends a table's partitions, and with `--retire` the SQL that
//! removes old ones.
//!
//! Must not: execute any of it, or print a part of a plan that fails.

mod attach;
mod catalogue;
mod check;
pub mod layouts;
mod model;
mod print;
mod retire;

use std::collections::HashSet;
use std::io::Write;
use std::time::Duration;

use anyhow::bail;
use jiff::tz::TimeZone;

use crate::collectors::partitions::Zone;
use crate::config::{Config, suggest};
use crate::derive::partition::plan::{Creation, Name, Obstacle, Shortfall, extend};
use crate::derive::partition::{KeyUnit, Level, Moment, Reason, Strategy};
use crate::pg::{Clock, Session};
use crate::remedy::retire::Retire;
use catalogue::{Catalogue, KnownTable};

const DAY: i128 = 86_400_000_000;
/// Plans that are made until one uses no name that exists already.
const TRIES: u32 = 10;

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanRequest {
    /// The table as typed, with or without its schema.
    pub table: String,
    /// Its database; the exporter's own if not given.
    pub database: Option<String>,
    /// Days from now until which rows must be accepted; none where only old partitions are to go.
    pub days: Option<u16>,
    /// The age from which on partitions are to go: every row of theirs is as old.
    pub retire: Option<Duration>,
}

/// Writes the SQL to `out`.
///
/// # Errors
/// No session; no such table, with the nearest name; a table that has no runway or no rhythm; more
/// partitions than anyone intends. Nothing has been written then.
pub async fn run(config: &Config, wanted: &PlanRequest, out: &mut dyn Write) -> anyhow::Result<()> {
    let settings = config.settings().clone();
    let datname = wanted.database.as_deref();
    let session = Session::connect(config.connect(), datname, settings, Clock::start()).await?;
    let text = script(&session, wanted).await;
    session.close().await;
    out.write_all(text?.as_bytes())?;
    out.flush()?;
    Ok(())
}

/// A table with what is known of it and its writers.
struct Opened {
    known: KnownTable,
    catalogue: Catalogue,
    /// The configured zone of its local times first, then the server's; as far as they are known here.
    zones: Vec<TimeZone>,
    configured: bool,
}

/// Finds a table and reads its tree.
async fn open(session: &Session, typed: &str) -> anyhow::Result<Opened> {
    let server = session.server();
    let known = catalogue::partitioned(session).await?;
    let table = match find(typed, &known) {
        Ok(table) => table,
        Err(problem) => match catalogue::relation(session, &spellings(typed)).await? {
            Some(name) => bail!("{name} in database {} is not a partitioned table", server.datname),
            None => bail!("{problem} in database {}", server.datname),
        },
    };
    if let Some(root) = &table.root {
        bail!("{} is itself a partition: plan {root}", table.display());
    }
    let partitions = &session.settings().partitions;
    let rule = partitions.rule(&server.datname, &table.schema, &table.table);
    let unit = rule.and_then(|rule| KeyUnit::from_word(rule.unit.as_deref()?));
    let catalogue = Catalogue::read(session, table.oid, unit).await?;
    let find = |name| match Zone::find([name]) {
        Zone::Known(zone) => Some(zone),
        Zone::Unknown => None,
    };
    let configured = rule.and_then(|rule| rule.zone.as_deref()).or(partitions.zone.as_deref());
    let configured = configured.and_then(find);
    let zones = configured.iter().cloned().chain(find(server.timezone.as_str())).collect();
    Ok(Opened { known: table.clone(), catalogue, zones, configured: configured.is_some() })
}

impl Opened {
    fn writer(&self) -> TimeZone {
        self.zones.first().cloned().unwrap_or(TimeZone::UTC)
    }

    async fn retirement(&self, session: &Session, age: Duration) -> anyhow::Result<Retire> {
        let writer = self.writer();
        let tree = self.catalogue.tree(&writer, &self.zones);
        let configured = self.zones.first().filter(|_| self.configured);
        retire::plan(session, &self.catalogue, tree, configured, age).await
    }
}

/// What takes off and drops the partitions of a table whose every row is `age` old or older.
///
/// # Errors
/// No such table, with the nearest name; the catalogue cannot be read.
pub async fn retirement(session: &Session, table: &str, age: Duration) -> anyhow::Result<Retire> {
    open(session, table).await?.retirement(session, age).await
}

/// What a plan for so many days would leave undone, with the way by hand, in sentences: rows that must stay where they
/// are. The table is named as the catalog has it.
///
/// # Errors
/// As [`script`]: what it would refuse.
pub async fn foresee(
    session: &Session,
    schema: &str,
    table: &str,
    days: u16,
) -> anyhow::Result<Vec<String>> {
    let name = [schema, table].map(|part| format!("\"{}\"", part.replace('"', "\"\""))).join(".");
    let opened = open(session, &name).await?;
    let (extensions, _) = opened.extensions(session, None, days).await?;
    let mut said = Vec::new();
    for extension in &extensions {
        let refusals = refused(session, &opened.catalogue, extension).await?;
        said.extend(print::left(&opened.catalogue, extension, &refusals));
    }
    Ok(said)
}

/// The SQL, made in a session with the table's database; [`PlanRequest::database`] is not looked at.
///
/// # Errors
/// As [`run`], but for the session.
pub async fn script(session: &Session, wanted: &PlanRequest) -> anyhow::Result<String> {
    let opened = open(session, &wanted.table).await?;
    let mut text = match wanted.days {
        Some(days) => opened.extension(session, wanted, days).await?,
        None => String::new(),
    };
    if let Some(age) = wanted.retire {
        let retire = opened.retirement(session, age).await?;
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&retire.script().to_string());
    }
    Ok(text)
}

impl Opened {
    /// What is to be created for so many days, and until when that is.
    async fn extensions(
        &self,
        session: &Session,
        retire: Option<Duration>,
        days: u16,
    ) -> anyhow::Result<(Vec<Shortfall>, i128)> {
        let opened = self;
        let catalogue = &opened.catalogue;
        let writer = opened.writer();
        let tree = catalogue.tree(&writer, &opened.zones);
        let until = catalogue.now + i128::from(days) * DAY;

        let micros = |age: Duration| i128::try_from(age.as_micros()).unwrap_or(i128::MAX / 2);
        let before = retire.map(|age| catalogue.now - micros(age));
        let mut taken = catalogue.names();
        let mut tries = 0;
        loop {
            let extensions =
                extend(tree, catalogue.now, until, before, taken.clone()).map_err(|e| {
                    anyhow::anyhow!("{}", explain(&e, catalogue, &opened.known.display()))
                })?;
            let mut names = HashSet::new();
            extensions.iter().for_each(|e| collect(&e.creations, &mut names));
            let clash: HashSet<Name> = catalogue::existing(session, &names).await?;
            if clash.is_empty() {
                return Ok((extensions, until));
            }
            tries += 1;
            if tries == TRIES {
                bail!("the names that new partitions would get are all taken");
            }
            taken.extend(clash);
        }
    }

    async fn extension(
        &self,
        session: &Session,
        wanted: &PlanRequest,
        days: u16,
    ) -> anyhow::Result<String> {
        let opened = self;
        let catalogue = &opened.catalogue;
        let writer = opened.writer();
        let (extensions, until) = self.extensions(session, wanted.retire, days).await?;
        let all = extensions.iter().flat_map(|e| print::models(catalogue, &e.creations));
        let models = model::Models::read(session, &all.map(|m| m.oid).collect()).await?;
        let mut refusals = Vec::new();
        for extension in &extensions {
            refusals.push(refused(session, catalogue, extension).await?);
        }
        let page = print::PlanPage {
            server: session.server(),
            catalogue,
            models: &models,
            refusals: &refusals,
            writer: &writer,
            zone_known: !opened.zones.is_empty(),
            days,
            until,
            extensions: &extensions,
        };
        Ok(page.script().to_string())
    }
}

/// Why rows that may be in the way stay where they are.
async fn refused(
    session: &Session,
    catalogue: &Catalogue,
    extension: &Shortfall,
) -> anyhow::Result<print::Refusals> {
    let mut found = print::Refusals::default();
    let Some(parent) = catalogue.tables.get(extension.level) else { return Ok(found) };
    for (source, why, open) in
        [(extension.default, &mut found.default, false), (extension.open, &mut found.open, true)]
    {
        let source = source.and_then(|i| catalogue.partition(extension.level, i));
        let Some(source) = source else { continue };
        *why = match parent.leading {
            Some(_) => {
                let sql = attach::refusal(session.server(), &source.oid, &parent.oid, &open);
                let rows = session.read(sql.as_str()).await?;
                rows.first().map(|row| row.get("why")).transpose()?.flatten()
            }
            None => Some(layouts::EXPRESSION.to_owned()),
        };
    }
    Ok(found)
}

fn collect(creations: &[Creation], names: &mut HashSet<Name>) {
    for creation in creations {
        names.insert(creation.name.clone());
        collect(&creation.children, names);
    }
}

/// The partitioned table that was meant: by SQL's rules first, then as typed.
fn find<'a>(typed: &str, known: &'a [KnownTable]) -> Result<&'a KnownTable, String> {
    for (schema, table) in spellings(typed) {
        let fits: Vec<&KnownTable> = known
            .iter()
            .filter(|k| k.table == table && schema.as_ref().is_none_or(|s| *s == k.schema))
            .collect();
        match fits.as_slice() {
            [] => {}
            [one] => return Ok(one),
            several => {
                let all: Vec<String> = several.iter().map(|k| k.display()).collect();
                return Err(format!("{typed} could be {}: name the schema,", all.join(" or ")));
            }
        }
    }
    let roots = || known.iter().filter(|k| k.root.is_none());
    let names: Vec<(String, String)> = roots()
        .flat_map(|k| [(k.table.clone(), k.display()), (k.display(), k.display())])
        .collect();
    let near = suggest::nearest(typed, names.iter().map(|(short, _)| short.as_str()))
        .and_then(|near| names.iter().find(|(short, _)| short == near));
    Err(match near {
        Some((_, full)) => format!("no partitioned table {typed}, but {full}"),
        None => format!("no partitioned table {typed} among {}", roots().count()),
    })
}

/// What a typed name may mean: with SQL's quotes and folding, or to the letter.
fn spellings(typed: &str) -> Vec<(Option<String>, String)> {
    let mut found = Vec::new();
    match identifiers(typed).as_deref() {
        Some([table]) => found.push((None, table.clone())),
        Some([schema, table]) => found.push((Some(schema.clone()), table.clone())),
        _ => {}
    }
    found.push((None, typed.to_owned()));
    found.extend(typed.split_once('.').map(|(s, t)| (Some(s.to_owned()), t.to_owned())));
    found
}

/// `a`, `A.b`, `"A.b"."c""d"` as SQL reads them.
fn identifiers(text: &str) -> Option<Vec<String>> {
    let mut found = Vec::new();
    let mut rest = text;
    loop {
        let (name, tail) = match rest.strip_prefix('"') {
            Some(quoted) => {
                let mut end = 0;
                loop {
                    end += quoted.get(end..)?.find('"')?;
                    if !quoted.get(end + 1..)?.starts_with('"') {
                        break;
                    }
                    end += 2;
                }
                (quoted.get(..end)?.replace("\"\"", "\""), quoted.get(end + 1..)?)
            }
            None => {
                let (name, tail) = rest.split_at(rest.find(['.', '"']).unwrap_or(rest.len()));
                (name.to_lowercase(), tail)
            }
        };
        if name.is_empty() {
            return None;
        }
        found.push(name);
        match tail.strip_prefix('.') {
            Some(more) => rest = more,
            None => return tail.is_empty().then_some(found),
        }
    }
}

fn explain(obstacle: &Obstacle, catalogue: &Catalogue, table: &str) -> String {
    let of = |level: &usize| catalogue.level_name(*level);
    match obstacle {
        Obstacle::Unsupported(reason) => {
            let why = match reason {
                Reason::NoTimeLevel => "no level of it is partitioned by time",
                Reason::KeyType => "its key is not a time",
                Reason::TimeNotLeading => "the time comes after another column of its key",
                Reason::BoundUnreadable => "a bound on a time could not be read",
                Reason::TooDeep => "it has too many levels",
                Reason::UnitUnknown => {
                    "the bounds of its integer key do not show a unit of time (a rule of `partitions` in the \
                     configuration can set `unit`)"
                }
                Reason::UuidNotV7 => "the bounds of its key are not UUIDs of version 7",
            };
            let by =
                catalogue.level(catalogue.root).map_or("unknown", |l: &Level| match l.strategy {
                    Strategy::Range => "RANGE",
                    Strategy::List => "LIST",
                    Strategy::Hash => "HASH",
                });
            format!("{table} (by {by}) cannot be planned: {why}; see docs/partitions.md")
        }
        Obstacle::NoRhythm { level, partitions: 0 } => format!(
            "{} has no partition with a beginning and an end, so there is no interval to continue: create the \
             first two by hand",
            of(level)
        ),
        Obstacle::NoRhythm { level, partitions: 1 } => format!(
            "{} has one partition with a beginning and an end, whose length is not a whole number of hours, \
             days, months or years, so the interval is not known: create the next one by hand",
            of(level)
        ),
        Obstacle::NoRhythm { level, partitions } => format!(
            "the {partitions} partitions of {} have no regular interval: no two of the newest have the same \
             length in hours, days, months or years",
            of(level)
        ),
        Obstacle::NoModel { level } => {
            format!("{} has no partition to copy (foreign tables are not copied)", of(level))
        }
        Obstacle::OtherColumns { level } => {
            format!("the bounds of {} differ in other columns of the key than the time", of(level))
        }
        Obstacle::TooMany { level } => {
            format!("{} would need more than 10000 new partitions: ask for fewer days", of(level))
        }
        Obstacle::OutOfRange { level } => {
            format!("{} has bounds beyond the year 9999 that the plan would touch", of(level))
        }
        Obstacle::StillShort { until } => {
            let until = match until {
                Some(Moment::At(at)) => format!("be covered until {} only", print::instant(*at)),
                _ => "never be covered".to_owned(),
            };
            format!(
                "{table} would {until}, even with all partitions of its interval: a level that is not \
                 partitioned by time lacks some, which plan cannot derive"
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(schema: &str, table: &str) -> KnownTable {
        KnownTable { oid: 1, schema: schema.to_owned(), table: table.to_owned(), root: None }
    }

    #[test]
    fn a_name_is_read_as_sql_reads_it_or_to_the_letter() {
        let all = [
            known("public", "trades"),
            known("public", "Odd.Name"),
            known("a", "twice"),
            known("b", "twice"),
            known("B", "it\"s"),
        ];
        let oid = |typed: &str| find(typed, &all).map(KnownTable::display);
        for (typed, want) in [
            ("trades", "public.trades"),
            ("TRADES", "public.trades"),
            ("public.trades", "public.trades"),
            ("\"Odd.Name\"", "public.Odd.Name"),
            ("public.\"Odd.Name\"", "public.Odd.Name"),
            ("Odd.Name", "public.Odd.Name"),
            ("a.twice", "a.twice"),
            ("\"B\".\"it\"\"s\"", "B.it\"s"),
        ] {
            assert_eq!(oid(typed).as_deref(), Ok(want), "{typed}");
        }
        for (typed, said) in [
            ("twice", "a.twice or b.twice"),
            ("tardes", "public.trades"),
            ("public.trade", "public.trades"),
            ("\"trades", "no partitioned table \"trades"),
            ("nothing_like_it", "among 5"),
        ] {
            let problem = oid(typed).unwrap_err();
            assert!(problem.contains(said), "{typed}: {problem}");
        }
    }
}
