//! The command line: subcommands by clap's derive, flags for settings from the table in
//! [`table`].
//!
//! Must not: execute anything, read the environment, or repeat a connection string in an error.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{
    Arg, ArgAction, ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum,
};

use crate::config::schema::{Key, SettingKind};
use crate::config::table;
use crate::config::theirs::{self, Becomes, Takes, Theirs};
use crate::config::{Flags, KnownCollector, duration};

mod help;
mod verify;

pub use help::{completions, man_pages};
pub use verify::VerifyArgs;

/// What was asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Invocation {
    /// The subcommand; [`CliCommand::Serve`] if none was given.
    pub command: CliCommand,
    /// Settings given as flags, for [`Config::resolve`](crate::config::Config::resolve).
    pub flags: Flags,
}

/// Prometheus exporter for PostgreSQL: latency percentiles, partition runway, index and cache health.
#[derive(Debug, Parser)]
#[command(
    name = "pgrunway",
    version,
    after_help = "Every setting is a flag, an environment variable and a key of the YAML file that \
                  --config.file names; a flag wins over the environment, and that over the file. \
                  The server is named by --dsn, DATA_SOURCE_NAME, or DATA_SOURCE_URI with \
                  DATA_SOURCE_USER and DATA_SOURCE_PASS (each also as ..._FILE); what is left out \
                  comes from PGHOST, PGUSER and the other PG* variables, as in psql.\n\n\
                  `pgrunway help settings` lists all settings, `pgrunway help COMMAND` the options of a command."
)]
struct Cli {
    /// YAML file with settings; one that is named must exist [env: PGRUNWAY_CONFIG_FILE]
    #[arg(long = "config.file", value_name = "FILE", global = true)]
    config_file: Option<PathBuf>,

    #[command(subcommand)]
    command: Option<CliCommand>,
}

/// The subcommands.
#[derive(Debug, Clone, PartialEq, Subcommand)]
pub enum CliCommand {
    /// Poll the server and serve its metrics over HTTP (the default)
    Serve,
    /// Collect twice, print the metrics and exit; needs no Prometheus
    Metrics(MetricsArgs),
    /// Print the SQL that extends a table's partitions to N days from now; nothing is executed
    ///
    /// New partitions continue the interval and the names of the existing ones, and copy the newest one's
    /// properties. Read the output, then run it with `psql -X -v ON_ERROR_STOP=1 -f`, as the table's owner; it can
    /// be run again. See docs/maintenance.md.
    Plan(PlanArgs),
    /// Check databases against your expectations and for known problems; a gate for deployments
    ///
    /// Says what is wrong and why it matters, and prints the SQL that fixes it; nothing is executed. Exit code 0:
    /// passed, 1: a finding fails, 2: nothing fails, but something could not be checked. See
    /// docs/verify.md.
    Verify(VerifyArgs),
    /// Go to each target stage by stage, run each collector once, and say what is degraded, why, and what fixes it
    ///
    /// Nothing is executed. Exit code 0: nothing to do, 1: something is degraded, 2: a target cannot be looked at. See
    /// docs/doctor.md.
    Doctor(DoctorArgs),
    /// Watch the server for a while and write its performance baseline, as Markdown or HTML
    ///
    /// Problems come first. Every figure is read or measured in this run and names its source.
    Report(ReportArgs),
    /// Start a throwaway PostgreSQL with a trading schema, data and load, and serve its metrics
    ///
    /// Nothing outside a temporary folder is touched, and Ctrl-C removes all of it.
    Demo(DemoArgs),
    /// Fill a database with the trading schema of the demo, drive it at a rate, or both
    ///
    /// The database is that of the connection, or --database, and is created if it does not exist. One that
    /// `pgrunway load` did not create is refused unless --into names it. See docs/load.md.
    #[command(group = clap::ArgGroup::new("what").required(true).multiple(true)
        .args(["trades", "trades_per_day", "orders", "rate"]))]
    Load(LoadArgs),
    /// Time a file of named queries, prepared and not, against targets and a saved baseline
    ///
    /// Every latency is measured; plans come from runs of their own. Exit code 0 if all is well, 1
    /// for a missed target or a regression, 2 if something could not be run. See docs/bench.md.
    Bench(BenchArgs),
    /// Ask a running pgrunway on this machine whether it is healthy; exit code 0 if it is
    ///
    /// Asks the first --web.listen-address for /-/healthy. Meant for a container's health check.
    Healthcheck(HealthcheckArgs),
    /// Read the configuration as `serve` would, and say what is wrong with it; exit code 0 if nothing is
    CheckConfig(CheckConfigArgs),
    /// List all settings: flags, environment variables and defaults
    Settings,
    /// Print the completions of a shell
    Completions(CompletionsArgs),
    /// Write the man pages into a folder
    Man(ManArgs),
    /// List the metrics that may be exported, one a line; what postgres_exporter's --dumpmaps is for
    #[command(hide = true)]
    Dumpmaps,
}

/// Options of `completions`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub shell: clap_complete::Shell,
}

/// Options of `man`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct ManArgs {
    /// Folder that takes the pages
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub output: PathBuf,
}

/// Options of `metrics`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct MetricsArgs {
    /// Time between the two collections, which rates, ratios and percentiles cover
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = over)]
    pub over: Duration,
}

/// Options of `plan`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct PlanArgs {
    /// The partitioned table, with its schema where the name alone is not unique
    #[arg(value_name = "TABLE")]
    pub table: String,

    /// Days from now until which rows must be accepted; may be left out with --retire
    #[arg(long, value_name = "N", required_unless_present = "retire",
          value_parser = clap::value_parser!(u16).range(1..=3660))]
    pub days: Option<u16>,

    /// The table's database, in place of the one that the exporter connects to
    #[arg(long, value_name = "NAME")]
    pub database: Option<String>,

    /// Also print the SQL that detaches and drops partitions in which every row is at least this old: days, or a
    /// duration such as 47h
    #[arg(long, value_name = "AGE", value_parser = age)]
    pub retire: Option<Duration>,
}

/// Options of `doctor`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct DoctorArgs {
    /// Only the target of this name, of those that the file lists; may be given several times
    #[arg(long, value_name = "NAME")]
    pub target: Vec<String>,

    /// Form of what it says
    #[arg(long, value_name = "FORM", default_value = "text", value_parser = ["text", "json", "sql"])]
    pub format: String,

    /// Write to this file in place of standard output
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Options of `report`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct ReportArgs {
    /// How long to watch; rates, ratios and percentiles cover this time
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = over)]
    pub over: Duration,

    /// Benchmark the queries of a file too, as `pgrunway bench` does
    #[arg(long, value_name = "FILE")]
    pub queries: Option<PathBuf>,

    /// Write one self-contained HTML file
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,

    /// Write Markdown to a file; without this and --html it is printed
    #[arg(long, value_name = "FILE")]
    pub markdown: Option<PathBuf>,
}

/// Options of `demo`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct DemoArgs {
    /// Queries per second over all five queries
    #[arg(long, value_name = "N", default_value = "50", value_parser = rate)]
    pub rate: f64,

    /// Let the partitions of `orders` end 22 days ago, as they did in the incident that the demo
    /// re-enacts
    #[arg(long)]
    pub expire_orders: bool,

    /// Port on loopback, in place of --web.listen-address; 0 takes a free one
    #[arg(long, value_name = "PORT")]
    pub port: Option<u16>,

    /// Folder with PostgreSQL's initdb and postgres; looked for in the usual places otherwise
    #[arg(long, value_name = "DIR")]
    pub binaries: Option<PathBuf>,

    /// Trades of each day, and of today in proportion [default: 5000 in all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub trades_per_day: Option<u64>,

    /// Days before today that have trades, each with its partition
    #[arg(long, value_name = "DURATION", default_value = "0d", value_parser = history)]
    pub history: u32,

    /// Orders in the database before the load starts
    #[arg(long, value_name = "N", default_value = "500",
          value_parser = clap::value_parser!(u64).range(0..=1_000_000_000))]
    pub orders: u64,

    /// Connections of the load
    #[arg(long, value_name = "N", default_value = "4",
          value_parser = clap::value_parser!(u16).range(1..=256))]
    pub clients: u16,
}

/// Options of `load`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct LoadArgs {
    /// Trades in total, over the history
    #[arg(long, value_name = "N", conflicts_with = "trades_per_day",
          value_parser = clap::value_parser!(u64).range(1..=10_000_000_000))]
    pub trades: Option<u64>,

    /// Trades of each day of the history, and of today in proportion
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub trades_per_day: Option<u64>,

    /// Orders in total, over the history [default: one for ten trades]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(0..=10_000_000_000))]
    pub orders: Option<u64>,

    /// Days before today that have rows
    #[arg(long, value_name = "DURATION", default_value = "30d", value_parser = history)]
    pub history: u32,

    /// The end of the last day, such as 2026-03-01T00:00:00Z [default: now]
    ///
    /// With this, the same seed and options give the same rows at any time.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub until: Option<jiff::Timestamp>,

    /// Seed of rows and load
    #[arg(long, value_name = "N", default_value = "1")]
    pub seed: u64,

    /// Queries per second, once the rows are in; inserts are 6 % of that on top
    #[arg(long, value_name = "N", value_parser = rate)]
    pub rate: Option<f64>,

    /// How long to drive; until Ctrl-C if not given
    #[arg(long = "for", value_name = "DURATION", requires = "rate", value_parser = length)]
    pub length: Option<Duration>,

    /// Connections, of COPY and of the load
    #[arg(long, value_name = "N", default_value = "4",
          value_parser = clap::value_parser!(u16).range(1..=256))]
    pub clients: u16,

    /// Rows of one COPY, which is one transaction; rounded up to whole thousands
    #[arg(long, value_name = "N", default_value = "20000",
          value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub batch: u64,

    /// The database, in place of that of the connection
    #[arg(long, value_name = "NAME")]
    pub database: Option<String>,

    /// Write into this database although `pgrunway load` did not create it; it must be the one connected to
    #[arg(long, value_name = "NAME")]
    pub into: Option<String>,
}

/// Options of `bench`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct BenchArgs {
    /// Queries with their names, targets and parameters in comments, such as examples/trading.sql
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// Executions of each query in each mode, over all rounds and clients [default: 1000]
    #[arg(long, value_name = "N", conflicts_with = "duration",
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub iterations: Option<u32>,

    /// Time for each query in each mode, in place of --iterations
    #[arg(long, value_name = "DURATION", value_parser = over)]
    pub duration: Option<Duration>,

    /// Executions of each client before the first that counts
    #[arg(long, value_name = "N", default_value = "20")]
    pub warmup: u32,

    /// Rounds of a run; every query runs in each of them
    #[arg(long, value_name = "N", default_value = "20",
          value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub rounds: u16,

    /// Clients, each with a connection and a thread
    #[arg(long, value_name = "N", default_value = "1",
          value_parser = clap::value_parser!(u16).range(1..=256))]
    pub concurrency: u16,

    /// Modes to run
    #[arg(long, value_name = "MODE", default_value = "both", value_enum)]
    pub mode: BenchMode,

    /// Only the query of this name; may be repeated
    #[arg(long, value_name = "NAME")]
    pub only: Vec<String>,

    /// Seed of the parameters and of the order
    #[arg(long, value_name = "N", default_value = "1")]
    pub seed: u64,

    /// Percentile of the round trip that must not exceed the target
    #[arg(long, value_name = "P", default_value = "95", value_parser = percentile)]
    pub percentile: f64,

    /// Let queries write; their writes are committed, except those of EXPLAIN
    #[arg(long)]
    pub read_write: bool,

    /// statement_timeout of a query without `-- timeout:`
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = over)]
    pub statement_timeout: Duration,

    /// A server setting for the sessions, such as work_mem=64MB; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = assignment)]
    pub set: Vec<(String, String)>,

    /// The queries' database, in place of the one that the exporter connects to
    #[arg(long, value_name = "NAME")]
    pub database: Option<String>,

    /// Write the result as a baseline
    #[arg(long, value_name = "FILE")]
    pub save: Option<PathBuf>,

    /// Compare with a baseline; a regression ends with exit code 1
    #[arg(long, value_name = "FILE")]
    pub compare: Option<PathBuf>,

    /// Smallest slowdown, in percent, that counts
    #[arg(long, value_name = "PERCENT", default_value = "10", value_parser = share)]
    pub min_change: f64,

    /// How many times a slowdown is measured again; it counts only if each confirms it
    #[arg(long, value_name = "N", default_value = "2",
          value_parser = clap::value_parser!(u16).range(0..=10))]
    pub confirm: u16,

    /// Format of the report
    #[arg(long, value_name = "FORMAT", default_value = "text", value_enum)]
    pub format: BenchFormatWord,

    /// Write every sample as CSV: query, mode, round, nanoseconds
    #[arg(long, value_name = "FILE")]
    pub raw: Option<PathBuf>,
}

/// Modes of `bench`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BenchMode {
    /// One after the other in each round
    Both,
    /// Parsed once, executed often
    Prepared,
    /// Parsed and planned at each execution
    Unprepared,
}

/// Formats of `bench`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BenchFormatWord {
    Text,
    Json,
    Junit,
    Markdown,
}

/// Options of `check-config`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct CheckConfigArgs {
    /// The file, in place of --config.file
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
}

/// Options of `healthcheck`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct HealthcheckArgs {
    /// How long to wait for the answer
    #[arg(long, value_name = "DURATION", default_value = "3s", value_parser = over)]
    pub timeout: Duration,
}

fn over(text: &str) -> Result<Duration, String> {
    let value = duration::parse(text).map_err(|e| format!("it {e}"))?;
    let (min, max) = (Duration::from_millis(100), Duration::from_secs(3_600));
    if (min..=max).contains(&value) { Ok(value) } else { Err("choose from 100ms to 1h".into()) }
}

/// Days, or a duration.
fn age(text: &str) -> Result<Duration, String> {
    let value = match text.parse::<u32>() {
        Ok(days) => Duration::from_secs(86_400 * u64::from(days)),
        Err(_) => duration::parse(text).map_err(|e| format!("it {e}"))?,
    };
    let (min, max) = (Duration::from_secs(60), Duration::from_secs(86_400 * 36_500));
    if (min..=max).contains(&value) { Ok(value) } else { Err("choose from 1m to 36500d".into()) }
}

/// Whole days.
fn history(text: &str) -> Result<u32, String> {
    let seconds = duration::parse(text).map_err(|e| format!("it {e}"))?.as_secs_f64();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked just now")]
    match seconds / 86_400.0 {
        days if days.fract() == 0.0 && days <= 3_660.0 => Ok(days as u32),
        _ => Err("choose whole days, 3660d at most".to_owned()),
    }
}

fn length(text: &str) -> Result<Duration, String> {
    let value = duration::parse(text).map_err(|e| format!("it {e}"))?;
    let (min, max) = (Duration::from_secs(1), Duration::from_secs(30 * 86_400));
    if (min..=max).contains(&value) { Ok(value) } else { Err("choose from 1s to 30d".into()) }
}

fn time(text: &str) -> Result<jiff::Timestamp, String> {
    text.parse().map_err(|_| "write a time with its zone, such as 2026-03-01T00:00:00Z".to_owned())
}

fn percentile(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(percent) if percent > 0.0 && percent <= 100.0 => Ok(percent),
        _ => Err("write a number above 0, and 100 at most".to_owned()),
    }
}

/// Percent as a share.
fn share(text: &str) -> Result<f64, String> {
    match text.trim_end_matches('%').trim().parse::<f64>() {
        Ok(percent) if (1.0..=1_000.0).contains(&percent) => Ok(percent / 100.0),
        _ => Err("write a number of percent from 1 to 1000".to_owned()),
    }
}

fn assignment(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => {
            Ok((name.trim().to_owned(), value.trim().to_owned()))
        }
        _ => Err("write NAME=VALUE".to_owned()),
    }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if (0.1..=10_000.0).contains(&rate) => Ok(rate),
        _ => Err("write a number from 0.1 to 10000".to_owned()),
    }
}

/// The whole command with the flags of all settings, for parsing and for the docs.
pub fn command(known: &[KnownCollector]) -> clap::Command {
    let mut command = Cli::command();
    let keys = table::keys(known);
    for key in &keys {
        for arg in args(key) {
            command = command.arg(arg);
        }
    }
    for theirs in theirs::beside(&keys) {
        for arg in args_of_theirs(theirs) {
            command = command.arg(arg);
        }
    }
    command
}

/// The flag of postgres_exporter's; docs/migrating.md lists them, the help does not.
fn args_of_theirs(theirs: &Theirs) -> Vec<Arg> {
    let base = |id: String, long: String| Arg::new(id).long(long).global(true).hide(true);
    let (is, no) = (format!("theirs.{}", theirs.flag), format!("theirs.no-{}", theirs.flag));
    if theirs.takes == Takes::Text {
        return vec![base(is, theirs.flag.to_owned()).action(ArgAction::Set)];
    }
    let long = format!("no-{}", theirs.flag);
    vec![
        base(is.clone(), theirs.flag.to_owned())
            .action(ArgAction::SetTrue)
            .overrides_with(no.clone()),
        base(no, long).action(ArgAction::SetTrue).overrides_with(is),
    ]
}

/// Headings of the settings in the help.
const SETTINGS: &str = "Settings";
const COLLECTORS: &str = "Collectors";

/// Settings that `-h` shows too: without the first nothing is polled.
fn is_common(key: &Key) -> bool {
    ["dsn", "web.listen_address", "log.level"].contains(&key.path.as_str())
}

/// The flag of a setting; for those that are on or off a second one that says off.
fn args(key: &Key) -> Vec<Arg> {
    let of_collector = key.path.starts_with("collectors.");
    let base = |id: String, long: String| {
        Arg::new(id)
            .long(long)
            .global(true)
            .help_heading(if of_collector { COLLECTORS } else { SETTINGS })
            .hide_short_help(!is_common(key))
    };
    let mut env = vec![key.env()];
    env.extend(key.aliases.iter().map(|alias| (*alias).to_owned()));
    let sentence = key.help.trim_end_matches('.').replace('`', "");
    let mut notes = String::new();
    if !key.default.is_empty() && key.kind != SettingKind::Boolean {
        notes.push_str(&format!(" [default: {}]", key.default));
    }
    if let SettingKind::Choice { words, .. } = key.kind {
        notes.push_str(&format!(" [one of: {}]", words.join(", ")));
    }
    notes.push_str(&format!(" [env: {}]", env.join(", ")));
    let (flag, off) = (key.flag(), format!("no-{}", key.flag()));
    if key.kind == SettingKind::Boolean {
        let (no, is) = (format!("no.{}", key.path), key.path.clone());
        let state = if key.default == "true" { "on" } else { "off" };
        let help = format!("{sentence} [default: {state}; off by --{off}]{notes}");
        return vec![
            base(is.clone(), flag).action(ArgAction::SetTrue).overrides_with(no.clone()).help(help),
            base(no, off).action(ArgAction::SetTrue).overrides_with(is).hide(true),
        ];
    }
    let arg = base(key.path.clone(), flag)
        .value_name(key.kind.placeholder())
        .help(format!("{sentence}{notes}"));
    vec![match key.kind {
        SettingKind::List | SettingKind::Addresses => arg.action(ArgAction::Append),
        _ => arg.action(ArgAction::Set),
    }]
}

/// Reads a command line, the program's name first.
///
/// # Errors
/// clap's, with its exit code: 2 for a wrong command line, 0 for `--help` and `--version`. A word
/// that may be a piece of a connection string is not repeated.
pub fn parse<I, T>(args: I, known: &[KnownCollector]) -> Result<Invocation, clap::Error>
where
    I: IntoIterator<Item = T>,
    T: Into<OsString>,
{
    let args: Vec<OsString> = args.into_iter().map(Into::into).collect();
    let mut command = help::for_line(command(known), &args);
    let matches =
        command.try_get_matches_from_mut(&args).map_err(|e| redacted(e, &args, &mut command))?;
    let cli = Cli::from_arg_matches(&matches)?;
    let mut flags = given(&matches, known);
    flags.set_config_file(cli.config_file);
    let lists = |theirs: &Theirs| {
        theirs.becomes == Becomes::Lists && flags.theirs(theirs.flag) == Some("true")
    };
    let command = match cli.command {
        _ if theirs::ALL.iter().any(lists) => CliCommand::Dumpmaps,
        // What `help settings` prints.
        Some(CliCommand::Settings) => return parse(["pgrunway", "help", "settings"], known),
        command => command.unwrap_or(CliCommand::Serve),
    };
    if let CliCommand::Demo(DemoArgs { port: Some(port), .. }) = &command {
        flags.set("web.listen_address", vec![format!("127.0.0.1:{port}")]);
    }
    Ok(Invocation { command, flags })
}

fn given(matches: &ArgMatches, known: &[KnownCollector]) -> Flags {
    let mut flags = Flags::default();
    let typed = |id: &str| matches.value_source(id) == Some(ValueSource::CommandLine);
    for key in table::keys(known) {
        if key.kind == SettingKind::Boolean {
            let off = format!("no.{}", key.path);
            if typed(&off) && matches.get_flag(&off) {
                flags.set(key.path, vec!["false".to_owned()]);
            } else if typed(&key.path) && matches.get_flag(&key.path) {
                flags.set(key.path, vec!["true".to_owned()]);
            }
        } else if typed(&key.path) {
            let values = matches.get_many::<String>(&key.path).unwrap_or_default();
            flags.set(key.path.clone(), values.cloned().collect());
        }
    }
    for theirs in theirs::beside(&table::keys(known)) {
        let (is, no) = (format!("theirs.{}", theirs.flag), format!("theirs.no-{}", theirs.flag));
        if theirs.takes == Takes::Text {
            if let Some(text) = matches.get_one::<String>(&is) {
                flags.set_theirs(theirs.flag, text.clone());
            }
        } else if typed(&no) && matches.get_flag(&no) {
            flags.set_theirs(theirs.flag, "false".to_owned());
        } else if typed(&is) && matches.get_flag(&is) {
            flags.set_theirs(theirs.flag, "true".to_owned());
        }
    }
    flags
}

/// A DSN that was not quoted for the shell arrives as several words, one of which may hold the
/// password; clap's message would repeat it.
fn redacted(e: clap::Error, args: &[OsString], command: &mut clap::Command) -> clap::Error {
    if matches!(e.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return e;
    }
    let text = e.to_string();
    let suspect = |arg: &str| {
        let value = match arg.strip_prefix('-') {
            Some(flag) => flag.split_once('=').map(|(_, value)| value),
            None => Some(arg),
        };
        value.is_some_and(|v| (v.contains('=') || v.contains("://")) && text.contains(v))
    };
    let after_dsn = args.iter().any(|arg| arg.to_string_lossy().starts_with("--dsn"));
    let unexpected = matches!(e.kind(), ErrorKind::InvalidSubcommand | ErrorKind::UnknownArgument);
    let bare = |arg: &str| after_dsn && unexpected && !arg.starts_with("--") && text.contains(arg);
    let repeats = args.iter().skip(1).any(|arg| {
        let arg = arg.to_string_lossy();
        suspect(&arg) || bare(&arg)
    });
    if !repeats {
        return e;
    }
    command.error(
        e.kind(),
        "a word that may belong to a connection string stands where none is expected; put the \
         whole string into quotes after `--dsn=`, or into DATA_SOURCE_NAME",
    )
}

#[cfg(test)]
mod tests;
