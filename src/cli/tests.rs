//! What the command line takes and refuses.
//!
//! Must not: resolve a setting.

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
        assert_eq!(invocation.command, CliCommand::Serve, "{line}");
        assert_eq!(invocation.flags.get("log.level"), Some(&["debug".to_owned()][..]), "{line}");
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
    let last = |line| run(line).unwrap().flags.get("collectors.cache.enabled").unwrap()[0].clone();
    assert_eq!(last("--no-collector.cache --collector.cache"), "true");
    assert_eq!(last("--collector.cache --no-collector.cache"), "false");
}

#[test]
fn subcommands_have_their_options() {
    let metrics = |line| match run(line).unwrap().command {
        CliCommand::Metrics(args) => args.over,
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
        trades_per_day: None,
        history: 0,
        orders: 500,
        clients: 4,
    };
    assert_eq!(demo.command, CliCommand::Demo(expected));
    assert_eq!(demo.flags.get("web.listen_address").unwrap()[0], "127.0.0.1:1234");
    let demo = run("demo --trades-per-day 100000 --history 90d --clients 16").unwrap().command;
    let CliCommand::Demo(DemoArgs { trades_per_day, history, clients, .. }) = demo else {
        panic!("{demo:?}")
    };
    assert_eq!((trades_per_day, history, clients), (Some(100_000), 90, 16));
    let load = run("load --rate 20 --for 2m --into shop").unwrap().command;
    let CliCommand::Load(LoadArgs { rate, length, into, history, batch, .. }) = load else {
        panic!("{load:?}")
    };
    assert_eq!((rate, length, history), (Some(20.0), Some(Duration::from_secs(120)), 30));
    assert_eq!((into.as_deref(), batch), (Some("shop"), 20_000));
    let plan = run("plan public.trades --days 30 --database shop --retire=90").unwrap();
    let expected = PlanArgs {
        table: "public.trades".to_owned(),
        days: Some(30),
        database: Some("shop".to_owned()),
        retire: Some(Duration::from_secs(90 * 86_400)),
    };
    assert_eq!(plan.command, CliCommand::Plan(expected));
    let bench = |line| match run(line).unwrap().command {
        CliCommand::Bench(args) => args,
        other => panic!("{other:?}"),
    };
    let args = bench("bench q.sql --min-change 15% --set work_mem=1MB --percentile 99.9");
    assert_eq!((args.min_change, args.percentile, args.iterations), (0.15, 99.9, None));
    assert_eq!(args.set, [("work_mem".to_owned(), "1MB".to_owned())]);
    assert_eq!((args.mode, args.format, args.confirm), (BenchMode::Both, BenchFormatWord::Text, 2));
    let check = HealthcheckArgs { timeout: Duration::from_secs(3) };
    assert_eq!(run("healthcheck").unwrap().command, CliCommand::Healthcheck(check));
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
        ("plan trades --days 30 --retire 0", "1m to 36500d"),
        ("plan trades --days 30 --retire 30x", "unknown unit"),
        ("demo --rate -1", "unexpected argument '-1'"),
        ("demo --rate=NaN", "0.1 to 10000"),
        ("demo --port 70000", "70000"),
        ("demo --history 36h", "whole days"),
        ("load", "--trades"),
        ("load --for 10s", "--rate"),
        ("load --trades 5 --trades-per-day 5", "cannot be used with"),
        ("load --trades 5 --until yesterday", "2026-03-01T00:00:00Z"),
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
    for key in table::keys(&KNOWN) {
        assert!(long.contains(&format!("--{}", key.flag())), "{}", key.path);
        assert!(long.contains(&key.env()), "{}", key.path);
    }
    assert!(short.contains("--web.listen-address") && !short.contains("--timeouts.lock"));
    assert!(run("-h").unwrap_err().to_string().lines().count() <= 60);
    for line in ["settings", "settings --help", "help settings"] {
        assert_eq!(run(line).unwrap_err().exit_code(), 0, "{line}");
        for key in table::keys(&KNOWN) {
            assert!(text(line).contains(&format!("--{} ", key.flag())), "{line}: {}", key.path);
        }
    }
    for line in ["plan --help", "help plan", "plan -h", "bench --help"] {
        let said = run(line).unwrap_err().to_string();
        assert!(said.lines().count() <= 120, "{line}: {said}");
        assert!(!said.contains("--timeouts.lock") && said.contains("help settings"), "{line}");
    }
    // Nothing is hidden from who asks for a flag that is nearly right.
    assert!(run("plan --timeouts.lok=1s t").unwrap_err().to_string().contains("--timeouts.lock"));
}

#[test]
fn completions_and_man_pages_hold_each_command_and_setting() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let CliCommand::Completions(args) = run(&format!("completions {shell}")).unwrap().command
        else {
            panic!("{shell}")
        };
        let mut script = Vec::new();
        completions(args.shell, &KNOWN, &mut script).unwrap();
        let script = String::from_utf8(script).unwrap();
        for word in ["check-config", "web.listen-address", "no-collector.cache", "retire"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    let pages = man_pages(&KNOWN).unwrap();
    let names: Vec<&str> = pages.iter().map(|(name, _)| name.as_str()).collect();
    assert!(names.contains(&"pgrunway.1") && names.contains(&"pgrunway-check-config.1"));
    let text = |name: &str| {
        let page = pages.iter().find(|(n, _)| n == name).unwrap();
        String::from_utf8(page.1.clone()).unwrap().replace('\\', "")
    };
    for key in table::keys(&KNOWN) {
        assert!(text("pgrunway.1").contains(&format!("--{}", key.flag())), "{}", key.path);
    }
    let plan = text("pgrunway-plan.1");
    assert!(plan.contains("--retire") && !plan.contains("--timeouts.lock"), "{plan}");
}
