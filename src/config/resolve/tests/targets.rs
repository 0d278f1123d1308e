//! The list of targets: what each has of its own, what they share, and its faults.
//!
//! Must not: read a real file or variable.

use super::super::super::{TargetConfig, TargetKind};
use super::*;

const SEVERAL: &str = "\
objectives: {latency: 30ms}
databases: {exclude: [scratch]}
targets:
- name: shop
  dsn: postgresql://mon:hunter2@shop.db/postgres
- name: trade
  dsn: host=trade.db user=mon dbname=postgres connect_timeout=7
  password_file: /run/secrets/trade
  databases: {include: [trading], exclude: []}
  objectives: {latency: 5ms}
  host: {memory: 64GB}
  collectors:
    cache: {enabled: false}
    statements: {top: 3}
- name: pooler
  dsn_file: /run/secrets/pooler
  kind: pgbouncer
- {name: by-name, dsn: 'postgresql://stats@pooler.db:6432/pgbouncer'}
- {name: odd, dsn: 'postgresql://mon@odd.db/pgbouncer', kind: postgres}
";

fn world(text: &str) -> Fixed {
    with_file(text)
        .file("/run/secrets/trade", "hunter2\n")
        .file("/run/secrets/pooler", "postgresql://stats:hunter2@pooler.db:6432\n")
}

fn resolve(world: &Fixed) -> Result<Config, ConfigError> {
    Config::resolve(&Flags::default(), world, &KNOWN)
}

fn target<'a>(config: &'a Config, name: &str) -> &'a TargetConfig {
    config.targets().iter().find(|t| t.name == name).unwrap()
}

#[test]
fn each_target_has_what_it_says_and_else_what_all_have() {
    let config = resolve(&world(SEVERAL)).unwrap();
    let names: Vec<&str> = config.targets().iter().map(|t| t.name.as_str()).collect();
    assert_eq!(names, ["shop", "trade", "pooler", "by-name", "odd"]);
    let shop = target(&config, "shop");
    assert_eq!(shop.connect.describe(), "mon@shop.db:5432/postgres");
    assert_eq!(shop.connect.password, Password::Literal(Secret::new("hunter2")));
    assert_eq!((shop.expected, shop.settings.objectives.latency), (TargetKind::Server, 0.03));
    assert_eq!(shop.databases.exclude, ["scratch"]);
    let trade = target(&config, "trade");
    assert_eq!(trade.connect.password, Password::File("/run/secrets/trade".into()));
    assert_eq!(trade.databases.include, ["trading"]);
    assert_eq!(trade.databases.exclude, [""; 0]);
    assert_eq!(trade.settings.objectives.latency, 0.005);
    assert!(!trade.settings.collectors["cache"].enabled);
    let memory = |target: &TargetConfig| target.settings.host.memory;
    assert_eq!((memory(trade), memory(shop)), (Some(68_719_476_736.0), None));
    assert!(shop.settings.collectors["cache"].enabled);
    assert_eq!((trade.settings.statements.top, shop.settings.statements.top), (3, 100));
    assert_eq!(trade.settings.timeouts.connect.as_secs(), 7);
    for (name, wanted, kind) in [
        ("pooler", "stats@pooler.db:6432/pgbouncer", TargetKind::Pooler),
        ("by-name", "stats@pooler.db:6432/pgbouncer", TargetKind::Pooler),
        ("odd", "mon@odd.db:5432/pgbouncer", TargetKind::Server),
    ] {
        let target = target(&config, name);
        assert_eq!((target.connect.describe().as_str(), target.expected), (wanted, kind), "{name}");
    }
    assert!(Arc::ptr_eq(&shop.settings, &target(&config, "odd").settings), "one copy for all");
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn a_flag_is_for_all_but_gives_way_to_what_one_target_says() {
    let flags = flags(&[("objectives.latency", "10ms"), ("ratio_window", "1m")]);
    let config = Config::resolve(&flags, &world(SEVERAL), &KNOWN).unwrap();
    assert_eq!(target(&config, "shop").settings.objectives.latency, 0.01);
    assert_eq!(target(&config, "trade").settings.objectives.latency, 0.005);
    assert_eq!(target(&config, "trade").settings.ratio_window.as_secs(), 60);
}

#[test]
fn a_server_beside_the_list_is_the_default_one() {
    let alone = resolve(&world(SEVERAL)).unwrap();
    assert!(!alone.has_default_target());
    assert!(alone.of_one_server().is_err(), "several, and none is named");
    let one = resolve(&world("targets: [{name: a, dsn: postgres://m@a/d}]")).unwrap();
    assert_eq!(one.of_one_server().unwrap().connect().describe(), "m@a:5432/d");
    for (variable, value) in [
        ("DATA_SOURCE_NAME", "postgres://m@own/d"),
        ("DATA_SOURCE_URI", "m@own/d"),
        ("PGHOST", "own"),
        ("PGRUNWAY_DSN", "host=own"),
    ] {
        let config = resolve(&world(SEVERAL).env(variable, value)).unwrap();
        assert!(config.has_default_target(), "{variable}");
        assert!(config.connect().describe().contains("@own:5432/"), "{variable}");
        assert_eq!(config.targets().len(), 5);
    }
    // Without a list there is always one: libpq's default.
    assert!(resolve(&Fixed::new()).unwrap().has_default_target());
    // An account without a name is no fault where nobody needs it.
    let nobody = Fixed { account: None, ..world(SEVERAL) };
    assert_eq!(resolve(&nobody).unwrap().targets().len(), 5);
}

#[test]
fn the_password_of_the_default_server_goes_to_no_other() {
    let one = "targets: [{name: a, dsn: postgres://mon@a/d}]";
    let world = world(one).env("DATA_SOURCE_PASS", "hunter2").env("DATA_SOURCE_USER", "root");
    let config = resolve(&world).unwrap();
    assert_eq!(target(&config, "a").connect.user, "mon");
    assert!(!matches!(target(&config, "a").connect.password, Password::Literal(_)));
}

#[test]
fn faults_name_the_place() {
    for (text, said) in [
        ("[{dsn: 'host=h'}]", "the target has no name; add `name"),
        ("[{name: a}]", "the target has no connection string; add `dsn` or `dsn_file`"),
        ("[{name: 'a b', dsn: 'host=h'}]", "`name` is no name of a target; use letters"),
        (
            "[{name: a, dsn: 'host=h'}, {name: a, dsn: 'host=h'}]",
            "the name is there twice; give each target its own name",
        ),
        ("[{name: a, dsn: 'host=h pasword=hunter2'}]", "unknown parameter `pasword`; did"),
        ("[{name: a, dsn: 'host=h', dsn_file: /run/secrets/pooler}]", "`dsn_file` stands"),
        ("[{name: a, dsn_file: /none}]", "cannot read the file"),
        ("[{name: a, dsn: 'host=h', password_file: /none}]", "cannot read the file"),
        (
            "[{name: a, dsn: 'host=h password=hunter2', password_file: /run/secrets/trade}]",
            "a password stands beside `password_file`; keep one of the two",
        ),
        ("[{name: a, dsn: 'host=h', kind: mysql}]", "`kind` is not one of `postgres`"),
        (
            "[{name: a, dsn: 'host=h dbname=shop', kind: pgbouncer}]",
            "PgBouncer's console is the database `pgbouncer`; leave the database out",
        ),
        ("[{name: a, dsn: 'host=h', log: {level: info}}]", "unknown key `log`; keys here"),
        (
            "[{name: a, dsn: 'host=h', timeouts: {lock: 1h}}]",
            "`timeouts.lock` is above the limit of 10m",
        ),
    ] {
        let e = resolve(&world(&format!("targets: {text}"))).unwrap_err();
        assert!(e.to_string().contains(said), "{text}\n{e}");
        assert!(e.place.starts_with("pgrunway.yml:1:"), "{e}");
        assert!(!format!("{e:?}").contains("hunter2"), "{e:?}");
    }
}

/// libpq sends PGPASSWORD to whatever server it connects to; here that would be every listed one.
#[test]
fn a_password_of_the_environment_goes_to_the_target_without_a_name_only() {
    let services = "[prod]\nuser=svc\npassword=hunter2\n";
    let world = with_file(
        "targets:\n- {name: bare, dsn: 'host=a.db user=mon'}\n\
         - {name: own, dsn: 'host=b.db user=mon password=own'}\n\
         - {name: served, dsn: 'host=c.db service=prod'}\n",
    )
    .env("PGPASSWORD", "hunter2")
    .env("PGSERVICE", "prod")
    .env("PGSERVICEFILE", "/services")
    .env("DATA_SOURCE_NAME", "host=first.db user=mon")
    .file("/services", services);
    let config = resolve(&world).unwrap();
    assert_eq!(config.connect().password, Password::Literal(Secret::new("hunter2")));
    let password = |name| &target(&config, name).connect.password;
    assert!(!matches!(password("bare"), Password::Literal(_)), "{:?}", password("bare"));
    assert_eq!(*password("own"), Password::Literal(Secret::new("own")));
    // It asks for the service by name, password and all.
    assert_eq!(*password("served"), Password::Literal(Secret::new("hunter2")));
    assert_eq!(target(&config, "bare").connect.user, "mon");
}

#[test]
fn a_program_prints_the_password_of_its_target_and_of_no_other() {
    let text = "\
password_command: [/bin/token, '--for', 'a, b']
password_command_ttl: 0
targets:
- name: own
  dsn: host=own.db user=mon
  password_command: [/bin/own]
  password_command_timeout: 3s
- {name: none, dsn: host=none.db user=mon}
";
    let world = with_file(text).env("PGHOST", "h").env("PGPASSWORD", "hunter2");
    let config = resolve(&world).unwrap();
    let command = |connect: &Connect| match &connect.password {
        Password::Command(c) => Some((c.argv.clone(), c.timeout, c.ttl)),
        _ => None,
    };
    let seconds = Duration::from_secs;
    let argv = ["/bin/token", "--for", "a, b"].map(str::to_owned).to_vec();
    assert_eq!(command(config.connect()), Some((argv, seconds(10), seconds(0))));
    let own = (vec!["/bin/own".to_owned()], seconds(3), seconds(300));
    assert_eq!(command(&target(&config, "own").connect), Some(own));
    assert_eq!(command(&target(&config, "none").connect), None);
    // What is loaded again and says the same is no change.
    assert_eq!(resolve(&world).unwrap().connect().password, config.connect().password);

    for (line, said) in [
        (
            "dsn: 'postgresql://mon:hunter2@h/x', password_command: [a]",
            "a password stands beside `password_command`",
        ),
        (
            "dsn: host=h, password_command: [a], password_file: /run/secrets/trade",
            "stands beside `password_file`",
        ),
    ] {
        let world = super::with_file(&format!("targets:\n- {{name: a, {line}}}\n"))
            .file("/run/secrets/trade", "hunter2\n");
        let e = resolve(&world).unwrap_err().to_string();
        assert!(e.contains(said) && !e.contains("hunter2"), "{e}");
    }
}
