//! What postgres_exporter's flags and variables mean here, and variables that nobody knows.
//!
//! Must not: have a table of its own, or repeat a value in a message.

use std::path::Path;
use std::time::Duration;

use super::super::schema::Key;
use super::super::theirs::{self, Becomes, Takes, Theirs, VARIABLES};
use super::super::{Exposed, Surroundings, duration, suggest};
use super::Flags;
use crate::error::ConfigError;

/// The name that postgres_exporter looks for unless it is given another one.
const THEIR_FILE: &str = "postgres_exporter.yml";

/// Variables of ours that are no settings: the file, and where tests and the demo find PostgreSQL.
const OURS: [&str; 2] = ["PGRUNWAY_CONFIG_FILE", "PGRUNWAY_PG_BINDIR"];

/// Whether a file that is missing may be: postgres_exporter goes on without, and charts name a file that
/// they do not mount. One whose name is ours, or without which no server is named, was meant to be there.
pub(super) fn may_be_missing(path: &Path, flags: &Flags, world: &dyn Surroundings) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    let servers =
        ["PGRUNWAY_DSN", "DATA_SOURCE_NAME", "DATA_SOURCE_URI", "DATA_SOURCE_URI_FILE", "PGHOST"];
    let named = || flags.get("dsn").is_some() || servers.iter().any(|v| world.env(v).is_some());
    !world.exists(path) && (name == THEIR_FILE || (!name.starts_with("pgrunway") && named()))
}

/// A flag of theirs that sets a setting of ours: its place and what was given.
pub(super) fn flag_of(path: &str, flags: &Flags) -> Option<(String, String)> {
    let sets = |theirs: &&Theirs| matches!(theirs.becomes, Becomes::Setting(of) if of == path);
    theirs::ALL.iter().filter(sets).find_map(|theirs| {
        let text = flags.theirs.get(theirs.flag).filter(|text| !text.is_empty())?;
        Some((format!("--{}", theirs.flag), text.clone()))
    })
}

/// What was given for one of theirs, and where.
fn given(
    theirs: &Theirs,
    flags: &Flags,
    world: &dyn Surroundings,
) -> Result<Option<(String, String)>, ConfigError> {
    if let Some(text) = flags.theirs.get(theirs.flag) {
        return Ok(Some((format!("--{}", theirs.flag), text.clone())));
    }
    let Some(text) = Some(theirs.env).filter(|env| !env.is_empty()).and_then(|env| world.env(env))
    else {
        return Ok(None);
    };
    let place = theirs.env.to_owned();
    if theirs.takes == Takes::Text {
        return Ok(Some((place, text)));
    }
    match theirs::truth(&text) {
        Some(on) => Ok(Some((place, on.to_string()))),
        None => {
            let problem = "the value is neither true nor false";
            Err(ConfigError::new(place, problem, "write `true` or `false`"))
        }
    }
}

/// What was given for the one of this flag, and where.
pub(super) fn given_for(
    flag: &str,
    flags: &Flags,
    world: &dyn Surroundings,
) -> Result<Option<(String, String)>, ConfigError> {
    match theirs::ALL.iter().find(|theirs| theirs.flag == flag) {
        Some(theirs) => given(theirs, flags, world),
        None => Ok(None),
    }
}

/// A duration of theirs that is less than this one of ours, which it stands for.
pub(super) fn lowered(
    path: &str,
    now: Duration,
    flags: &Flags,
    world: &dyn Surroundings,
) -> Result<Option<Duration>, ConfigError> {
    let lowers = |theirs: &&Theirs| matches!(theirs.becomes, Becomes::Lowers(of) if of == path);
    let Some(theirs) = theirs::ALL.iter().find(lowers) else { return Ok(None) };
    let given = given(theirs, flags, world)?.filter(|(_, text)| !text.is_empty());
    let Some((place, text)) = given else { return Ok(None) };
    let wanted = duration::parse(&text).map_err(|problem| {
        ConfigError::new(&place, format!("the value {problem}"), "write a duration such as 30s")
    })?;
    Ok((Duration::ZERO < wanted && wanted < now).then_some(wanted))
}

/// Which metrics their switches leave out, and which they ask for.
pub(super) fn expose(
    flags: &Flags,
    world: &dyn Surroundings,
    exposed: &mut Exposed,
) -> Result<(), ConfigError> {
    for theirs in theirs::ALL {
        let Some((_, text)) = given(theirs, flags, world)? else { continue };
        let names = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        match (theirs.becomes, text.as_str()) {
            (Becomes::Metrics(of), "true") => exposed.show.extend(names(of)),
            (Becomes::Metrics(of), _) | (Becomes::Hides(of), "true") => {
                exposed.hide.extend(names(of));
            }
            _ => {}
        }
    }
    Ok(())
}

/// A query of postgres_exporter's file takes the place of a query of its own by the same name; so do its metrics here.
const OVERRIDABLE: [(&str, &[&str]); 5] = [
    ("pg_stat_activity", &["pg_stat_activity_count", "pg_stat_activity_max_tx_duration"]),
    ("pg_stat_archiver", &["pg_stat_archiver_*"]),
    ("pg_stat_database_conflicts", &["pg_stat_database_conflicts_confl_*"]),
    (
        "pg_replication_slots",
        &["pg_replication_slots_active", "pg_replication_slots_pg_wal_lsn_diff"],
    ),
    (
        "pg_stat_replication",
        &[
            "pg_stat_replication_pg_current_wal_lsn_bytes",
            "pg_stat_replication_pg_wal_lsn_diff",
            "pg_stat_replication_reply_time",
        ],
    ),
];

/// Leaves out what queries of these names take the place of.
pub(super) fn override_by(names: &[String], exposed: &mut Exposed) {
    for (_, metrics) in OVERRIDABLE.iter().filter(|(name, _)| names.iter().any(|n| n == name)) {
        exposed.hide.extend(metrics.iter().map(|metric| (*metric).to_owned()));
    }
}

/// What of theirs means nothing here, and variables that look like ours or theirs and are neither.
pub(super) fn notes(
    flags: &Flags,
    world: &dyn Surroundings,
    keys: &[Key],
) -> Result<Vec<String>, ConfigError> {
    let mut notes = Vec::new();
    for theirs in theirs::ALL {
        let Some((place, text)) = given(theirs, flags, world)? else { continue };
        if let Becomes::Nothing(why, fine) = theirs.becomes
            && !text.is_empty()
            && !fine.contains(&text.as_str())
        {
            notes.push(format!("{place} has no effect: {why}"));
        }
    }
    let ours: Vec<String> = keys.iter().map(Key::env).collect();
    let aliases = keys.iter().flat_map(|key| key.aliases);
    let known: Vec<&str> = ours
        .iter()
        .map(String::as_str)
        .chain(aliases.copied())
        .chain(theirs::ALL.iter().map(|theirs| theirs.env))
        .chain(VARIABLES)
        .chain(OURS)
        .collect();
    let mut names = world.names();
    names.sort();
    for name in names {
        let looks = ["PGRUNWAY_", "PG_EXPORTER_", "DATA_SOURCE_"];
        if !looks.iter().any(|prefix| name.starts_with(prefix))
            || known.contains(&name.as_str())
            || is_of_a_cluster(&name)
        {
            continue;
        }
        let shown = if suggest::printable(&name) { name.as_str() } else { "a variable" };
        let meant = suggest::nearest(&name, known.iter().copied())
            .map_or_else(|| "see docs/config.md".to_owned(), |n| format!("did you mean `{n}`?"));
        notes.push(format!("{shown} has no effect: nothing has this name; {meant}"));
    }
    Ok(notes)
}

/// Kubernetes and Docker tell of a service named `pgrunway` by variables of its name.
fn is_of_a_cluster(name: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let port = |text: &str| {
        let mut parts = text.split('_');
        parts.next().is_some_and(digits)
            && parts.next().is_some_and(|p| ["TCP", "UDP", "SCTP"].contains(&p))
    };
    name.ends_with("_SERVICE_HOST")
        || name.ends_with("_PORT")
        || name.contains("_SERVICE_PORT_")
        || name.split_once("_PORT_").is_some_and(|(_, rest)| port(rest))
}
