//! Entry point: parse, resolve the configuration, start logging, dispatch, and map the result to an
//! exit code: 0 done, 1 failed, 2 wrong flags, environment or file; for `verify` also what could not
//! be looked at.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use pgrunway::cli::{self, CheckConfigArgs, CliCommand, DoctorArgs, Invocation, VerifyArgs};
use pgrunway::cmd;
use pgrunway::cmd::demo::{self, Terminal};
use pgrunway::cmd::output;
use pgrunway::cmd::trading::rows::Amount;
use pgrunway::config::{Config, Flags, KnownCollector, Process, listen_addresses};
use pgrunway::error::ConfigError;
use pgrunway::http::PortFeatures;
use pgrunway::logging;

/// Wrong flags, environment or file, as clap has it too.
const USAGE: u8 = 2;
const FAILED: u8 = 1;
/// How long threads that still block are waited for at the end.
const LEFTOVERS: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    let known = cmd::known();
    let invocation = match cli::parse(std::env::args_os(), &known) {
        Ok(invocation) => invocation,
        Err(e) => {
            // Help and version are errors of this kind too, with code 0.
            let _ = e.print();
            return ExitCode::from(u8::try_from(e.exit_code()).unwrap_or(USAGE));
        }
    };
    // Two workers: one may render or derive while the other answers.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => {
            let outcome = runtime.block_on(dispatch(invocation));
            // A lookup of a name cannot be cancelled; dropping the runtime would wait for it.
            runtime.shutdown_timeout(LEFTOVERS);
            outcome
        }
        Err(e) => Err(e.into()),
    };
    match outcome {
        Ok(code) => code,
        Err(e) => {
            let code = cmd::bench::exit_code(&e).unwrap_or(if e.is::<ConfigError>() {
                USAGE
            } else {
                FAILED
            });
            let _ = writeln!(io::stderr(), "pgrunway: {e:#}");
            ExitCode::from(code)
        }
    }
}

async fn dispatch(invocation: Invocation) -> anyhow::Result<ExitCode> {
    let Invocation { command, flags } = invocation;
    let known = cmd::known();
    match command {
        CliCommand::Verify(args) => return verify(args, &flags, &known).await,
        CliCommand::Doctor(args) => return doctor(args, &flags, &known).await,
        CliCommand::Serve => {
            let config = Config::resolve(&flags, &Process, &known)?;
            start_logging(&config);
            cmd::serve::run(&config, flags, cmd::serve::stop_signal()?).await
        }
        CliCommand::CheckConfig(args) => check_config(args, flags, &known),
        CliCommand::Settings => anyhow::bail!("the command line prints the settings itself"),
        CliCommand::Completions(args) => {
            Ok(cli::completions(args.shell, &known, &mut output::stdout())?)
        }
        CliCommand::Man(args) => cmd::man::run(&cli::man_pages(&known)?, &args.output),
        CliCommand::Dumpmaps => cmd::metrics::list(&mut output::stdout()),
        CliCommand::Metrics(args) => {
            let config = Config::resolve(&flags, &Process, &known)?.of_one_server()?;
            start_logging(&config);
            cmd::metrics::run(&config, args.over, &mut output::stdout()).await
        }
        CliCommand::Plan(args) => {
            let config = Config::resolve(&flags, &Process, &known)?.of_one_server()?;
            start_logging(&config);
            let wanted = cmd::plan::PlanRequest {
                table: args.table,
                database: args.database,
                days: args.days,
                retire: args.retire,
            };
            cmd::plan::run(&config, &wanted, &mut output::stdout()).await
        }
        CliCommand::Report(args) => {
            let config = Config::resolve(&flags, &Process, &known)?.of_one_server()?;
            start_logging(&config);
            let wanted = cmd::report::ReportRequest {
                over: args.over,
                queries: args.queries,
                html: args.html,
                markdown: args.markdown,
            };
            cmd::report::run(&config, &wanted, &mut output::stdout()).await
        }
        CliCommand::Demo(args) => {
            let config = demo::configure(&flags, &known)?;
            let terminal = Terminal::detect();
            // Lines of the log would tear the figures that are refreshed in place.
            if !terminal.in_place {
                start_logging(&config);
            }
            let options = demo::DemoOptions {
                rate: args.rate,
                expire_orders: args.expire_orders,
                config,
                binaries: args.binaries,
                seed: 1,
                scale: demo::Scale {
                    orders: args.orders,
                    trades: args
                        .trades_per_day
                        .map_or(demo::Scale::default().trades, Amount::PerDay),
                    history: args.history,
                    clients: args.clients,
                },
            };
            demo::run(options, terminal, io::stdout()).await
        }
        CliCommand::Load(args) => {
            let config = Config::resolve(&flags, &Process, &known)?.of_one_server()?;
            start_logging(&config);
            let terminal = Terminal::of(&io::stderr());
            let (stop, mut out) = (cmd::serve::shutdown_signal()?, output::stdout());
            cmd::load::run(&config, &args, &mut out, &mut io::stderr(), terminal, stop).await
        }
        CliCommand::Bench(args) => {
            let config = Config::resolve(&flags, &Process, &known)?.of_one_server()?;
            start_logging(&config);
            cmd::bench::start(&config, args).await
        }
        CliCommand::Healthcheck(args) => {
            let addresses = listen_addresses(&flags, &Process, &known)?;
            cmd::healthcheck::run(&addresses, args.timeout).await
        }
    }?;
    Ok(ExitCode::SUCCESS)
}

/// What `serve` would start with, or why it would not.
fn check_config(
    args: CheckConfigArgs,
    mut flags: Flags,
    known: &[KnownCollector],
) -> anyhow::Result<()> {
    if args.file.is_some() {
        flags.set_config_file(args.file);
    }
    let config = Config::resolve(&flags, &Process, known)?;
    if config.file_is_missing() {
        let problem = "the file does not exist";
        return Err(ConfigError::new("--config.file", problem, "name one that exists").into());
    }
    if let Some(file) = config.query_file().filter(|file| !file.faults.is_empty()) {
        for fault in &file.faults {
            let _ = writeln!(io::stderr(), "error: {fault}");
        }
        let problem = format!("{} of its queries cannot be used", file.faults.len());
        return Err(ConfigError::new(&file.name, problem, "fix them").into());
    }
    // Its certificates too, as at the start.
    PortFeatures::load(config.web_config())?;
    for note in config.notes() {
        let _ = writeln!(io::stderr(), "warning: {note}");
    }
    let what = match flags.config_file() {
        Some(path) => path.display().to_string(),
        None => "flags and environment".to_owned(),
    };
    let servers = config.targets().len() + usize::from(config.has_default_target());
    let queries = match config.settings().custom.len() {
        0 => String::new(),
        count => format!("; queries: {count}"),
    };
    writeln!(output::stdout(), "{what}: valid; targets: {servers}{queries}")?;
    Ok(())
}

/// A gate must not take "could not look" for "is wrong": only what was looked at ends with 1.
async fn verify(
    args: VerifyArgs,
    flags: &Flags,
    known: &[KnownCollector],
) -> anyhow::Result<ExitCode> {
    use cmd::verify::{self, GateVerdict, VerifyFormat, VerifyRequest};
    if args.list {
        output::stdout().write_all(verify::list().as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    let config = Config::resolve(flags, &Process, known)?.of_one_server()?;
    start_logging(&config);
    let mut out = output::stdout();
    let outcome = if args.init {
        let output = args.output.as_deref();
        verify::write_expectations(&config, &args.database, output, &mut out).await.map(|()| None)
    } else {
        let colour = args.output.is_none() && Terminal::detect().colour;
        let wanted = VerifyRequest {
            selection: verify::check::Selection {
                only: args.only,
                skip: args.skip,
                with: args.with,
            },
            databases: args.database,
            fail_on: verify::check::Severity::from_word(&args.fail_on)
                .unwrap_or(verify::check::Severity::Critical),
            exact: args.exact,
            patience: args.patience,
            format: VerifyFormat::from_word(&args.format).unwrap_or_default(),
            colour,
            output: args.output,
        };
        verify::run(&config, &wanted, &mut out).await.map(Some)
    };
    match outcome {
        Ok(None | Some(GateVerdict::Passed)) => Ok(ExitCode::SUCCESS),
        Ok(Some(GateVerdict::Failed)) => Ok(ExitCode::FAILURE),
        Ok(Some(GateVerdict::Unchecked)) => Ok(ExitCode::from(USAGE)),
        Err(e) => {
            let _ = writeln!(io::stderr(), "pgrunway: {e:#}");
            Ok(ExitCode::from(USAGE))
        }
    }
}

/// What it finds is what the log would say, so nothing is logged.
async fn doctor(
    args: DoctorArgs,
    flags: &Flags,
    known: &[KnownCollector],
) -> anyhow::Result<ExitCode> {
    use cmd::doctor::{self, DoctorFormat, DoctorRequest, Health};
    let config = Config::resolve(flags, &Process, known)?;
    for note in config.notes() {
        let _ = writeln!(io::stderr(), "warning: {note}");
    }
    let wanted = DoctorRequest {
        targets: args.target,
        format: DoctorFormat::from_word(&args.format).unwrap_or_default(),
        colour: args.output.is_none() && Terminal::detect().colour,
        output: args.output,
    };
    Ok(match doctor::run(&config, &wanted, &mut output::stdout()).await? {
        Health::Well => ExitCode::SUCCESS,
        Health::Degraded => ExitCode::FAILURE,
        Health::Closed => ExitCode::from(USAGE),
    })
}

fn start_logging(config: &Config) {
    logging::init(config);
    for note in config.notes() {
        tracing::warn!("{note}");
    }
}
