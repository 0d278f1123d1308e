//! The command line: subcommands by clap's derive, flags for settings from the table in
//! [`schema`].
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

use crate::config::schema::{self, Key, Kind};
use crate::config::{Flags, KnownCollector, duration};

mod verify;

pub use verify::VerifyArgs;

/// What was asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Invocation {
    /// The subcommand; [`Command::Serve`] if none was given.
    pub command: Command,
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
                  `pgrunway --help` lists all flags, `pgrunway -h` those most used."
)]
struct Cli {
    /// YAML file with settings; one that is named must exist [env: PGRUNWAY_CONFIG_FILE]
    #[arg(long = "config.file", value_name = "FILE", global = true)]
    config_file: Option<PathBuf>,

    #[command(subcommand)]
    command: Option<Command>,
}

/// The subcommands.
#[derive(Debug, Clone, PartialEq, Subcommand)]
pub enum Command {
    /// Poll the server and serve its metrics over HTTP (the default)
    Serve,
    /// Collect twice, print the metrics once and stop: a look without Prometheus
    Metrics(MetricsArgs),
    /// Print the SQL that extends a table's partitions to N days from now; nothing is executed
    ///
    /// New partitions continue the rhythm and the names of those that are there and are made like
    /// the newest. Look at the output, then run it with `psql -v ON_ERROR_STOP=1 -f`, as the table's
    /// owner; it can be run again. See docs/maintenance.md.
    Plan(PlanArgs),
    /// Hold databases to expectations: indexes, partitions, constraints, vacuum, settings; a gate for
    /// deployments
    ///
    /// Says what is wrong, why it matters, and prints the SQL that mends it; nothing is executed. Exit
    /// code 0: passed, 1: something fails, 2: nothing fails, but not everything could be looked at. See
    /// docs/verify.md.
    Verify(VerifyArgs),
    /// Watch the server for a while and write its performance baseline, as Markdown or HTML
    ///
    /// What is wrong comes first. Every figure is read or measured in this run, with its source.
    Report(ReportArgs),
    /// Start a throwaway PostgreSQL with a trading schema, data and load, and serve its metrics
    ///
    /// Nothing outside a temporary folder is touched, and Ctrl-C removes all of it.
    Demo(DemoArgs),
    /// Time a file of named queries, prepared and not, against targets and a saved baseline
    ///
    /// Every latency is measured; plans come from runs of their own. Exit code 0 if all is well, 1
    /// for a missed target or a regression, 2 if something could not be run. See docs/bench.md.
    Bench(BenchArgs),
    /// Ask a running pgrunway on this machine whether it is healthy; exit code 0 if it is
    ///
    /// Asks the first --web.listen-address for /-/healthy. Meant for a container's health check.
    Healthcheck(HealthcheckArgs),
}

/// Options of `metrics`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct MetricsArgs {
    /// Time between the two collections, over which rates, ratios and percentiles are taken
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = over)]
    pub over: Duration,
}

/// Options of `plan`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct PlanArgs {
    /// The partitioned table, with its schema where the name alone is not unique
    #[arg(value_name = "TABLE")]
    pub table: String,

    /// Days from now until which rows must be accepted
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=3660))]
    pub days: u16,

    /// The table's database, in place of the one that the exporter connects to
    #[arg(long, value_name = "NAME")]
    pub database: Option<String>,

    /// Print also what detaches and drops the partitions that ended this many days ago or earlier
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u16).range(1..=36_500))]
    pub retire: Option<u16>,
}

/// Options of `report`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct ReportArgs {
    /// How long to watch, over which rates, ratios and percentiles are taken
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

    /// Parts of a run; in each, all queries get their turn
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

    /// Let queries write; what they write outside of EXPLAIN is committed
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

    /// Smallest change in percent that counts as one
    #[arg(long, value_name = "PERCENT", default_value = "10", value_parser = share)]
    pub min_change: f64,

    /// How often a slowdown is measured again, and must be found again, before it counts
    #[arg(long, value_name = "N", default_value = "2",
          value_parser = clap::value_parser!(u16).range(0..=10))]
    pub confirm: u16,

    /// Format of the report
    #[arg(long, value_name = "FORMAT", default_value = "text", value_enum)]
    pub format: BenchFormat,

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
pub enum BenchFormat {
    Text,
    Json,
    Junit,
    Markdown,
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
    for key in schema::keys(known) {
        for arg in args(&key) {
            command = command.arg(arg);
        }
    }
    command
}

/// Settings that `-h` shows too.
fn is_common(key: &Key) -> bool {
    let common = ["dsn", "web.", "log.", "databases."];
    common.iter().any(|c| key.path.starts_with(c)) || key.path.ends_with(".enabled")
}

/// The flag of a setting; for those that are on or off a second one that says off.
fn args(key: &Key) -> Vec<Arg> {
    let of_collector = key.path.starts_with("collectors.");
    let base = |id: String, long: String| {
        Arg::new(id)
            .long(long)
            .global(true)
            .help_heading(if of_collector { "Collectors" } else { "Settings" })
            .hide_short_help(!is_common(key))
    };
    let mut env = vec![key.env()];
    env.extend(key.aliases.iter().map(|alias| (*alias).to_owned()));
    let sentence = key.help.trim_end_matches('.').replace('`', "");
    let mut notes = String::new();
    if !key.default.is_empty() && key.kind != Kind::Boolean {
        notes.push_str(&format!(" [default: {}]", key.default));
    }
    if let Kind::Choice { words, .. } = key.kind {
        notes.push_str(&format!(" [one of: {}]", words.join(", ")));
    }
    notes.push_str(&format!(" [env: {}]", env.join(", ")));
    let (flag, off) = (key.flag(), format!("no-{}", key.flag()));
    if key.kind == Kind::Boolean {
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
        Kind::List | Kind::Addresses => arg.action(ArgAction::Append),
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
    let mut command = command(known);
    let matches =
        command.try_get_matches_from_mut(&args).map_err(|e| redacted(e, &args, &mut command))?;
    let cli = Cli::from_arg_matches(&matches)?;
    let mut flags = given(&matches, known);
    flags.set_config_file(cli.config_file);
    let command = cli.command.unwrap_or(Command::Serve);
    if let Command::Demo(DemoArgs { port: Some(port), .. }) = &command {
        flags.set("web.listen_address", vec![format!("127.0.0.1:{port}")]);
    }
    Ok(Invocation { command, flags })
}

fn given(matches: &ArgMatches, known: &[KnownCollector]) -> Flags {
    let mut flags = Flags::default();
    let typed = |id: &str| matches.value_source(id) == Some(ValueSource::CommandLine);
    for key in schema::keys(known) {
        if key.kind == Kind::Boolean {
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
mod tests {
    use super::*;

    const KNOWN: [KnownCollector; 2] = [
        KnownCollector {
            name: "cache",
            help: "Cache hit ratios.",
            default_on: true,
            interval: Duration::from_secs(15),
        },
        KnownCollector {
            name: "statements",
            help: "Latency of statements.",
            default_on: true,
            interval: Duration::from_secs(1),
        },
    ];

    fn run(line: &str) -> Result<Invocation, clap::Error> {
        parse(std::iter::once("pgrunway").chain(line.split_whitespace()), &KNOWN)
    }

    #[test]
    fn clap_finds_no_fault_in_the_command() {
        command(&KNOWN).debug_assert();
    }

    #[test]
    fn serve_is_the_default_and_flags_may_stand_before_or_after() {
        for line in ["--log.level=debug", "serve --log.level debug", "--log.level debug serve"] {
            let invocation = run(line).unwrap();
            assert_eq!(invocation.command, Command::Serve, "{line}");
            assert_eq!(
                invocation.flags.get("log.level"),
                Some(&["debug".to_owned()][..]),
                "{line}"
            );
            assert_eq!(invocation.flags.get("log.format"), None, "{line}");
        }
    }

    #[test]
    fn repeated_addresses_and_both_spellings_of_a_switch() {
        let flags = run("--web.listen-address=:1 --web.listen-address=:2 --no-collector.cache \
             --collector.statements.include-text --collector.statements.interval=5s")
        .unwrap()
        .flags;
        assert_eq!(flags.get("web.listen_address").unwrap().join("|"), ":1|:2");
        for (path, value) in [
            ("collectors.cache.enabled", Some("false")),
            ("collectors.statements.enabled", None),
            ("collectors.statements.include_text", Some("true")),
            ("collectors.statements.interval", Some("5s")),
        ] {
            assert_eq!(flags.get(path).map(|v| v[0].as_str()), value, "{path}");
        }
        let last =
            |line| run(line).unwrap().flags.get("collectors.cache.enabled").unwrap()[0].clone();
        assert_eq!(last("--no-collector.cache --collector.cache"), "true");
        assert_eq!(last("--collector.cache --no-collector.cache"), "false");
    }

    #[test]
    fn subcommands_have_their_options() {
        let metrics = |line| match run(line).unwrap().command {
            Command::Metrics(args) => args.over,
            other => panic!("{other:?}"),
        };
        assert_eq!(metrics("metrics"), Duration::from_secs(5));
        assert_eq!(metrics("metrics --over 1m30s"), Duration::from_secs(90));
        let demo = run("demo --rate 2.5 --expire-orders --port 1234 --binaries /pg").unwrap();
        let expected = DemoArgs {
            rate: 2.5,
            expire_orders: true,
            port: Some(1234),
            binaries: Some("/pg".into()),
        };
        assert_eq!(demo.command, Command::Demo(expected));
        assert_eq!(demo.flags.get("web.listen_address").unwrap()[0], "127.0.0.1:1234");
        let plan = run("plan public.trades --days 30 --database shop --retire=90").unwrap();
        let expected = PlanArgs {
            table: "public.trades".to_owned(),
            days: 30,
            database: Some("shop".to_owned()),
            retire: Some(90),
        };
        assert_eq!(plan.command, Command::Plan(expected));
        let bench = |line| match run(line).unwrap().command {
            Command::Bench(args) => args,
            other => panic!("{other:?}"),
        };
        let args = bench("bench q.sql --min-change 15% --set work_mem=1MB --percentile 99.9");
        assert_eq!((args.min_change, args.percentile, args.iterations), (0.15, 99.9, None));
        assert_eq!(args.set, [("work_mem".to_owned(), "1MB".to_owned())]);
        assert_eq!((args.mode, args.format, args.confirm), (BenchMode::Both, BenchFormat::Text, 2));
        let check = HealthcheckArgs { timeout: Duration::from_secs(3) };
        assert_eq!(run("healthcheck").unwrap().command, Command::Healthcheck(check));
    }

    #[test]
    fn a_wrong_command_line_ends_with_2_and_names_the_nearest() {
        for (line, said) in [
            ("--colector.cache", "--collector.cache"),
            ("--collector.cahe", "--collector.cache"),
            ("--log.levl=info", "--log.level"),
            ("mtrics", "metrics"),
            ("metrics --over 5", "without a unit"),
            ("metrics --over 0", "100ms to 1h"),
            ("plan trades", "--days"),
            ("plan --days 30", "TABLE"),
            ("bench", "FILE"),
            ("bench q.sql --iterations 5 --duration 5s", "--duration"),
            ("bench q.sql --set work_mem", "NAME=VALUE"),
            ("bench q.sql --percentile 0", "above 0"),
            ("plan trades --days 0", "1..=3660"),
            ("plan trades --days 30 --retire 0", "1..=36500"),
            ("demo --rate -1", "unexpected argument '-1'"),
            ("demo --rate=NaN", "0.1 to 10000"),
            ("demo --port 70000", "70000"),
        ] {
            let error = run(line).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
            assert!(error.to_string().contains(said), "{line}: {error}");
        }
        assert_eq!(run("--version").unwrap_err().exit_code(), 0);
    }

    #[test]
    fn connection_strings_are_not_repeated() {
        for line in [
            "postgres://u:hunter2@h/db",
            "--dsn host=h password=hunter2",
            "--dsn host=h password= hunter2",
            "--dsn=host=h hunter2 user=u",
            "--dns=postgres://u:hunter2@h/db",
            "--log.level postgres://u:hunter2@h/db demo --port postgres://u:hunter2@h/db",
            "demo --port=hunter2=x",
        ] {
            let error = run(line).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
            assert!(!error.to_string().contains("hunter2"), "{line}: {error}");
            assert!(!format!("{error:?}").contains("hunter2"), "{line}: {error:?}");
        }
        let flags = run("--dsn=postgres://u:hunter2@h/db").unwrap();
        assert!(!format!("{flags:?}").contains("hunter2"));
        assert_eq!(flags.flags.get("dsn").unwrap()[0], "postgres://u:hunter2@h/db");
    }

    #[test]
    fn help_is_short_with_h_and_complete_with_help() {
        // Lines are wrapped, so only words can be looked for.
        let text = |flag: &str| {
            let text = run(flag).unwrap_err().to_string();
            text.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        let (short, long) = (text("-h"), text("--help"));
        for key in schema::keys(&KNOWN) {
            assert!(long.contains(&format!("--{}", key.flag())), "{}", key.path);
            assert!(long.contains(&key.env()), "{}", key.path);
        }
        assert!(short.contains("--web.listen-address") && !short.contains("--timeouts.lock"));
        assert!(short.contains("off by --no-collector.cache"));
    }
}
