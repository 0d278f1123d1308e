//! The options of `pgrunway verify`.
//!
//! Must not: know a check; `verify` refuses those that are not there.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::config::duration;

/// Options of `verify`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct VerifyArgs {
    /// Only these checks: ids, or groups such as `index`
    #[arg(long, value_name = "CHECK,...", value_delimiter = ',')]
    pub only: Vec<String>,

    /// Not these checks
    #[arg(long, value_name = "CHECK,...", value_delimiter = ',')]
    pub skip: Vec<String>,

    /// Also run these checks, which run on request only
    #[arg(long, value_name = "CHECK,...", value_delimiter = ',')]
    pub with: Vec<String>,

    /// Fail if a finding has this severity or a higher one (`error` is understood as `critical` for one release)
    #[arg(long, value_name = "SEVERITY", default_value = "critical",
          value_parser = ["critical", "warning", "info", "error"])]
    pub fail_on: String,

    /// Form of the report
    #[arg(long, value_name = "FORM", default_value = "text",
          value_parser = ["text", "json", "junit", "markdown", "sql"])]
    pub format: String,

    /// Measure index bloat with pgstattuple instead of estimating it, and let amcheck look for rows missing from
    /// an index; reads whole indexes and tables
    #[arg(long)]
    pub exact: bool,

    /// Only this database, in place of those that the exporter visits; may be given several times
    #[arg(long, value_name = "NAME")]
    pub database: Vec<String>,

    /// statement_timeout of the checks that read all data
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = patience)]
    pub patience: Duration,

    /// Write to this file in place of standard output
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Write the present state of the databases as expectations, for pgrunway.yml; does not overwrite a file
    #[arg(long, conflicts_with_all = ["only", "skip", "with", "format", "exact", "list"])]
    pub init: bool,

    /// List the checks, without connecting
    #[arg(long)]
    pub list: bool,
}

fn patience(text: &str) -> Result<Duration, String> {
    let value = duration::parse(text).map_err(|e| format!("it {e}"))?;
    let (min, max) = (Duration::from_secs(1), Duration::from_secs(7 * 86_400));
    if (min..=max).contains(&value) { Ok(value) } else { Err("choose from 1s to 7d".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{CliCommand, parse};

    #[test]
    fn lists_are_split_and_init_stands_alone() {
        let run = |line: &str| {
            let words = std::iter::once("pgrunway").chain(line.split_whitespace());
            parse(words, &[]).map(|invocation| invocation.command)
        };
        let Ok(CliCommand::Verify(args)) =
            run("verify --only index,partition --skip=index.unused --with index.corrupt --exact \
             --fail-on warning --format junit --database a --database b --patience 1h --output x")
        else {
            panic!("it is not understood");
        };
        let list = |all: &[&str]| all.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        let want = VerifyArgs {
            only: list(&["index", "partition"]),
            skip: list(&["index.unused"]),
            with: list(&["index.corrupt"]),
            fail_on: "warning".to_owned(),
            format: "junit".to_owned(),
            exact: true,
            database: list(&["a", "b"]),
            patience: Duration::from_secs(3_600),
            output: Some("x".into()),
            init: false,
            list: false,
        };
        assert_eq!(args, want);
        for (line, said) in [
            ("verify --fail-on fatal", "critical, warning, info"),
            ("verify --format xml", "text, json, junit, markdown, sql"),
            ("verify --patience 1", "without a unit"),
            ("verify --patience 8d", "1s to 7d"),
            ("verify --init --format json", "cannot be used with"),
        ] {
            let e = run(line).unwrap_err();
            assert_eq!(e.exit_code(), 2, "{line}");
            assert!(e.to_string().contains(said), "{line}: {e}");
        }
    }
}
