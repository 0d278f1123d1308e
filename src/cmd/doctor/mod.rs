//! `pgrunway doctor`: goes to each target stage by stage, runs each collector once, and says what is degraded, why, and
//! what fixes it.
//!
//! Must not: execute what it prints, say of one fault what `verify` or the exporter would not say, or look for what is
//! wrong with the data itself; that is `verify`'s.

mod examine;
mod json;
mod script;
mod text;

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;

use crate::cmd::serve;
use crate::config::{Config, suggest};
use crate::error::ConfigError;
use crate::findings::{Reported, Severity};
use crate::poller::Target;
use crate::remedy::Remedy;
use crate::snapshot::Outcome;

/// Targets that are looked at side by side; each has two connections at the most.
const AT_A_TIME: usize = 8;

/// The form of what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DoctorFormat {
    /// For people, in colours where asked.
    #[default]
    Text,
    /// One object.
    Json,
    /// A script for psql.
    Sql,
}

impl DoctorFormat {
    /// All of them by the words of `--format`.
    pub const WORDS: [&'static str; 3] = ["text", "json", "sql"];

    /// From a word of [`DoctorFormat::WORDS`].
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "text" => Some(Self::Text),
            "json" => Some(Self::Json),
            "sql" => Some(Self::Sql),
            _ => None,
        }
    }
}

/// What was asked for.
#[derive(Debug, Clone, Default)]
pub struct DoctorRequest {
    /// Names of targets; all if empty.
    pub targets: Vec<String>,
    /// Form of what it says.
    pub format: DoctorFormat,
    /// Whether the text is in colours.
    pub colour: bool,
    /// Where it goes in place of standard output.
    pub output: Option<PathBuf>,
}

/// What came of it; the exit code of `doctor`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    /// 0: nothing to do.
    Well,
    /// 1: something is degraded.
    Degraded,
    /// 2: a target cannot be looked at.
    Closed,
}

impl Health {
    fn word(self) -> &'static str {
        match self {
            Self::Well => "well",
            Self::Degraded => "degraded",
            Self::Closed => "unreachable",
        }
    }
}

/// How a stage went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StageState {
    Passed,
    /// Something was found there.
    Degraded,
    /// Nothing behind it could be looked at.
    Failed,
    /// An earlier one failed.
    Skipped,
}

impl StageState {
    fn word(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Degraded => "degraded",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}

/// One step on the way, in the order of [`examine::STAGES`].
#[derive(Debug, Clone)]
struct Stage {
    name: &'static str,
    state: StageState,
    says: String,
    took: Option<Duration>,
}

/// All that was found out about one target.
struct Examined {
    /// In the configuration; `None` for the server without a name.
    name: Option<String>,
    /// `user@host:port/dbname`, without a secret.
    target: String,
    /// The host and port of its first endpoint, for a script about several servers.
    host: Option<(String, u16)>,
    stages: Vec<Stage>,
    /// Names, and why those that were not entered were not.
    databases: Vec<(String, Option<String>)>,
    collectors: Vec<Outcome>,
    /// The heaviest first.
    found: Vec<Reported>,
}

impl Examined {
    /// What has to be done something about.
    fn defects(&self) -> impl Iterator<Item = &Reported> {
        self.found.iter().filter(|found| found.finding.severity > Severity::Info)
    }

    /// What could be better.
    fn remarks(&self) -> impl Iterator<Item = &Reported> {
        self.found.iter().filter(|found| found.finding.severity == Severity::Info)
    }

    fn health(&self) -> Health {
        if self.stages.iter().any(|stage| stage.state == StageState::Failed) {
            Health::Closed
        } else if self.defects().next().is_some() {
            Health::Degraded
        } else {
            Health::Well
        }
    }

    fn title(&self) -> &str {
        self.name.as_deref().unwrap_or("(default)")
    }
}

/// What a finding is about, as reports name it.
fn object(found: &Reported) -> String {
    found.finding.subject.name().unwrap_or_else(|| found.finding.subject.kind().to_owned())
}

/// Seconds of work an hour that a collector's last run comes to, at its interval.
fn an_hour(outcome: &Outcome) -> f64 {
    let interval = outcome.interval.as_secs_f64();
    if interval > 0.0 { outcome.duration.as_secs_f64() * 3_600.0 / interval } else { 0.0 }
}

/// Examines the targets and writes what it found to `out`, or to the file that was named.
///
/// # Errors
/// A target that is not in the configuration, with the nearest; what it found cannot be written.
pub async fn run(
    config: &Config,
    wanted: &DoctorRequest,
    out: &mut dyn Write,
) -> anyhow::Result<Health> {
    let all = examined(config, &wanted.targets).await?;
    let text = match wanted.format {
        DoctorFormat::Text => text::render(&all, wanted.colour),
        DoctorFormat::Json => json::render(&all)?,
        DoctorFormat::Sql => script::render(&all),
    };
    match &wanted.output {
        Some(path) => super::file::write(path, &text)?,
        None => {
            out.write_all(text.as_bytes())?;
            out.flush()?;
        }
    }
    Ok(health(&all))
}

fn health(all: &[Examined]) -> Health {
    all.iter().map(Examined::health).max().unwrap_or(Health::Well)
}

async fn examined(config: &Config, names: &[String]) -> Result<Vec<Examined>, ConfigError> {
    let targets = targets(config, names)?;
    let all = targets.into_iter().map(|(name, target)| examine::target(name, target));
    Ok(stream::iter(all).buffered(AT_A_TIME).collect().await)
}

/// Those that were asked for.
fn targets(
    config: &Config,
    names: &[String],
) -> Result<Vec<(Option<String>, Target)>, ConfigError> {
    let known = config.targets();
    if let Some(name) = names.iter().find(|name| known.iter().all(|t| t.name != **name)) {
        let remedy = match suggest::nearest(name, known.iter().map(|t| t.name.as_str())) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "`targets` of the file lists them".to_owned(),
        };
        return Err(ConfigError::new("--target", "there is no target of this name", remedy));
    }
    let default = config.has_default_target() && names.is_empty();
    let mut all = Vec::new();
    if default {
        all.push((None, serve::whole_target(config)));
    }
    let chosen = known.iter().filter(|t| names.is_empty() || names.contains(&t.name));
    all.extend(chosen.map(|target| (Some(target.name.clone()), serve::listed(target))));
    Ok(all)
}

/// The SQL of a finding, where something can be run.
fn sql(found: &Reported) -> Option<&crate::remedy::Script> {
    match &found.finding.remedy {
        Some(Remedy::Sql(script)) => Some(script),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli;

    #[test]
    fn the_command_line_knows_every_form() {
        for word in DoctorFormat::WORDS {
            assert!(DoctorFormat::from_word(word).is_some(), "{word}");
            assert!(cli::parse(["pgrunway", "doctor", "--format", word], &[]).is_ok(), "{word}");
        }
    }

    #[test]
    fn what_a_run_costs_is_told_by_the_hour() {
        let mut outcome = Outcome::new("x", None, Duration::from_secs(15));
        outcome.duration = Duration::from_millis(10);
        assert!((an_hour(&outcome) - 2.4).abs() < 1e-9);
        outcome.interval = Duration::ZERO;
        assert!(an_hour(&outcome) == 0.0);
    }
}
