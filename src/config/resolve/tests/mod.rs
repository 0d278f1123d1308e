//! Precedence, the file's faults, and that every row of the table has its effect.

mod targets;

use super::super::schema::SettingKind;
use super::super::settings::TargetItem;
use super::super::surroundings::Fixed;
use super::super::{CollectorSetting, LogFormat, PartitionRule, Password, Secret};
use super::*;

const KNOWN: [KnownCollector; 3] = [
    KnownCollector {
        name: "cache",
        help: "Cache hit ratios.",
        default_on: true,
        interval: Duration::from_secs(15),
    },
    KnownCollector {
        name: "partitions",
        help: "Runway.",
        default_on: true,
        interval: Duration::from_secs(30),
    },
    KnownCollector {
        name: "statements",
        help: "Latency.",
        default_on: false,
        interval: Duration::from_secs(1),
    },
];

fn flags(pairs: &[(&str, &str)]) -> Flags {
    let mut flags = Flags::default();
    for (path, text) in pairs {
        flags.set(*path, vec![(*text).to_owned()]);
    }
    flags
}

fn with_file(text: &str) -> Fixed {
    Fixed::new().env("PGRUNWAY_CONFIG_FILE", "pgrunway.yml").file("pgrunway.yml", text)
}

fn from_file(text: &str) -> Result<Config, ConfigError> {
    Config::resolve(&Flags::default(), &with_file(text), &KNOWN)
}

const WHOLE: &str = "\
dsn: postgresql://mon:hunter2@db/trade
web:
  listen_address: [':9188', '127.0.0.1:9189']
  telemetry_path: /m
log: {level: debug, format: json}
databases:
  include: [trade, 'a,b']
  exclude: template1, postgres
timeouts:
  connect: 1s
  handshake: 2s
  statement: 4s
  lock: 50ms
objectives:
  latency: 20ms
  cache_hit_ratio: 1
  index_scan_ratio: 0.5
  latency_slo: 0.995
  lock_wait: 5s
  slot_retained_bytes: 2GB
ratio_window: 10m
series_limit: 500
collectors:
  cache:
    enabled: false
    interval: 1m
  statements:
    enabled: true
    top: 7
    include_text: true
    text_length: 60
    scan_spacing: 20ms
    error_bars: certain
  partitions:
    runway_required: 14d
    zone: Europe/Zurich
    per_partition: 3
  indexes:
    minimum_rows: 5000
    per_partition: 2
  indexhealth:
    unused_after: 14d
    seq_scan_bytes: 1000000
    bloat_largest: 20
indexes:
- {table: public.trades, database: trade, name: idx_trades_symbol, create: CREATE INDEX}
- {table: 'public.*', columns: 'a, \"b c\" DESC', unique: true}
verify:
  queries:
  - {name: of today, database: trade, sql: 'SELECT 1, 2', max_partitions: 2}
  - {name: none, database: trade, sql: 'SELECT 1, 2'}
partitions:
- table: public.trades
  database: trade
  runway_required: 21d
  zone: Asia/Tokyo
  unit: ms
  max_age: 90d
  must_exist: true
- {table: 'scratch.*', ignore: true}
";

#[test]
fn a_whole_file_is_read() {
    let config = from_file(WHOLE).unwrap();
    assert_eq!(config.connect().describe(), "mon@db:5432/trade");
    assert_eq!(config.connect().password, Password::Literal(Secret::new("hunter2")));
    let listen: Vec<_> = config.listen().iter().map(ToString::to_string).collect();
    assert_eq!(listen, ["[::]:9188", "127.0.0.1:9189"]);
    assert_eq!(config.telemetry_path(), "/m");
    assert_eq!(config.log_level(), tracing::Level::DEBUG);
    assert_eq!(config.log_format(), LogFormat::Json);
    assert_eq!(config.databases().include, ["trade", "a,b"]);
    assert_eq!(config.databases().exclude, ["template1", "postgres"]);
    let s = config.settings();
    let millis = |d: Duration| d.as_millis();
    assert_eq!(
        [s.timeouts.connect, s.timeouts.handshake, s.timeouts.statement, s.timeouts.lock]
            .map(millis),
        [1000, 2000, 4000, 50]
    );
    assert_eq!(s.objectives.latency, 0.02);
    assert_eq!((s.objectives.cache_hit_ratio, s.objectives.index_scan_ratio), (1.0, 0.5));
    assert_eq!((s.objectives.latency_slo, s.objectives.lock_wait), (0.995, 5.0));
    assert_eq!(
        (s.objectives.slot_retained_bytes, s.objectives.replication_lag),
        (2_147_483_648.0, 300.0)
    );
    assert_eq!((millis(s.ratio_window), s.series_limit), (600_000, 500));
    let st = &s.statements;
    assert_eq!((st.top, st.include_text, st.text_length), (7, true, 60));
    assert_eq!(millis(st.scan_spacing), 20);
    assert!(st.error_bars.likely() && st.error_bars.certain());
    assert_eq!(s.partitions.required, 1_209_600.0);
    assert_eq!(s.partitions.zone.as_deref(), Some("Europe/Zurich"));
    assert_eq!(s.partitions.per_partition, 3);
    let trades = PartitionRule {
        table: "public.trades".to_owned(),
        database: Some("trade".to_owned()),
        required: Some(21.0 * 86_400.0),
        zone: Some("Asia/Tokyo".to_owned()),
        unit: Some("ms".to_owned()),
        ignore: false,
        must_exist: true,
        max_age: Some(90.0 * 86_400.0),
    };
    let scratch =
        PartitionRule { table: "scratch.*".to_owned(), ignore: true, ..Default::default() };
    assert_eq!(s.partitions.rules, [trades, scratch]);
    let i = &s.indexes;
    assert_eq!((i.minimum_rows, i.per_partition, i.unused_after), (5000, 2, 1_209_600.0));
    assert_eq!((i.seq_scan_bytes, i.bloat_largest), (1_000_000, 20));
    let described: Vec<_> = i.expected.iter().map(|r| (r.describe(), r.unique)).collect();
    let expected = [("idx_trades_symbol".to_owned(), false), ("(a, b c DESC)".to_owned(), true)];
    assert_eq!(described, expected);
    assert_eq!((&*i.expected[0].table, &*i.expected[1].table), ("public.trades", "public.*"));
    assert_eq!(i.expected[0].database.as_deref(), Some("trade"));
    assert_eq!(i.expected[0].create.as_deref(), Some("CREATE INDEX"));
    let query = |name: &str, max_partitions| super::super::QueryRule {
        name: name.to_owned(),
        database: "trade".to_owned(),
        sql: "SELECT 1, 2".to_owned(),
        max_partitions,
    };
    assert_eq!(s.queries, [query("of today", 2), query("none", 1)]);
    let minute = Some(Duration::from_secs(60));
    let setting = |enabled, interval| CollectorSetting { enabled, interval };
    assert_eq!(s.collectors["cache"], setting(false, minute));
    assert_eq!(s.collectors["partitions"], setting(true, None));
    assert_eq!(s.collectors["statements"], setting(true, None));
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn defaults_without_anything() {
    for text in ["", "# nothing\n", "web:\n  # listen_address: x\nlog: ~\n"] {
        let config = from_file(text).unwrap();
        assert_eq!(config.listen()[0].to_string(), "[::]:9187");
        assert_eq!(config.telemetry_path(), "/metrics");
        assert_eq!(**config.settings(), Settings::for_collectors(&KNOWN));
        assert!(!config.settings().collectors["statements"].enabled);
    }
}

/// No key has a kind whose values its field cannot hold, and a default reads back as itself.
#[test]
fn every_setting_takes_the_values_of_its_kind() {
    fn hold<T: Keyed>(settings: Vec<Setting<T>>, mut whole: T) {
        for setting in settings {
            let key = &setting.key;
            let sample = match key.kind {
                SettingKind::Duration { min, .. } => super::super::duration::format(min),
                SettingKind::Ratio => "0.5".to_owned(),
                SettingKind::Bytes => "3GB".to_owned(),
                SettingKind::Integer { max, .. } => max.to_string(),
                SettingKind::Boolean => "true".to_owned(),
                SettingKind::Choice { words, .. } => words[0].to_owned(),
                SettingKind::UrlPath => "/m".to_owned(),
                SettingKind::Zone => "UTC".to_owned(),
                SettingKind::Columns => "a, b DESC".to_owned(),
                SettingKind::Addresses => ":1".to_owned(),
                SettingKind::Labels => "a=b,c=d".to_owned(),
                _ => "x".to_owned(),
            };
            let texts = [sample, key.default.clone()];
            for text in texts.into_iter().filter(|text| !text.is_empty()) {
                let value = key.kind.parse(std::slice::from_ref(&text), true).unwrap();
                assert!(setting.put(&mut whole, value), "{} does not hold {text}", key.path);
            }
        }
    }
    let mut general = General::default();
    general.each.settings = Settings::for_collectors(&KNOWN);
    hold(General::keys_with(&KNOWN), general);
    hold(TargetItem::keys(), TargetItem::default());
    hold(super::super::PartitionRule::keys(), Default::default());
    hold(super::super::IndexRule::keys(), Default::default());
    hold(super::super::QueryRule::keys(), Default::default());
    for key in [settings::CONNECT, settings::LOCK, settings::SCAN_SPACING, table::DSN] {
        assert!(table::keys(&KNOWN).iter().any(|known| known.path == key), "{key}");
    }
}

/// The defaults that the table documents are those that hold: given explicitly, nothing changes.
#[test]
fn documented_defaults_are_the_defaults() {
    let keys = table::keys(&KNOWN);
    let mut flags = Flags::default();
    for key in keys.iter().filter(|key| !key.default.is_empty()) {
        flags.set(key.path.clone(), vec![key.default.clone()]);
    }
    let explicit = Config::resolve(&flags, &Fixed::new(), &KNOWN).unwrap();
    let implicit = Config::resolve(&Flags::default(), &Fixed::new(), &KNOWN).unwrap();
    let mut expected = (**implicit.settings()).clone();
    for known in &KNOWN {
        expected.collectors.get_mut(known.name).unwrap().interval = Some(known.interval);
    }
    assert_eq!(**explicit.settings(), expected);
    assert_eq!(explicit.listen(), implicit.listen());
    assert_eq!(explicit.telemetry_path(), implicit.telemetry_path());
    assert_eq!(explicit.log_level(), implicit.log_level());
    assert_eq!(explicit.log_format(), implicit.log_format());
}

#[test]
fn a_flag_wins_over_the_environment_and_that_over_the_file() {
    let level = |flag: &[(&str, &str)], world: &Fixed| {
        Config::resolve(&flags(flag), world, &KNOWN).unwrap().log_level()
    };
    let file = with_file("log: {level: error}");
    let env = file.clone().env("PGRUNWAY_LOG_LEVEL", "warn");
    assert_eq!(level(&[], &Fixed::new()), tracing::Level::INFO);
    assert_eq!(level(&[], &file), tracing::Level::ERROR);
    assert_eq!(level(&[], &env), tracing::Level::WARN);
    assert_eq!(level(&[("log.level", "trace")], &env), tracing::Level::TRACE);

    // The other exporter's variables come after our own, and empty ones do not count.
    let path = |world: &Fixed| {
        Config::resolve(&Flags::default(), world, &KNOWN).unwrap().telemetry_path().to_owned()
    };
    let theirs = Fixed::new().env("PG_EXPORTER_WEB_TELEMETRY_PATH", "/theirs");
    assert_eq!(path(&theirs), "/theirs");
    assert_eq!(path(&theirs.clone().env("PGRUNWAY_WEB_TELEMETRY_PATH", "")), "/theirs");
    assert_eq!(path(&theirs.env("PGRUNWAY_WEB_TELEMETRY_PATH", "/ours")), "/ours");
    let switched = Fixed::new().env("PGRUNWAY_COLLECTOR_CACHE", "no");
    let config = Config::resolve(&Flags::default(), &switched, &KNOWN).unwrap();
    assert!(!config.settings().collectors["cache"].enabled);
}

#[test]
fn connection_strings_have_the_same_order() {
    let host = |flag: &[(&str, &str)], world: &Fixed| {
        Config::resolve(&flags(flag), world, &KNOWN).unwrap().connect().describe()
    };
    let file = with_file("dsn: postgres://u@file/d").env("PGHOST", "never");
    let uri = file.clone().env("DATA_SOURCE_URI", "uri/d").env("DATA_SOURCE_USER", "u");
    let name = uri.clone().env("DATA_SOURCE_NAME", "postgres://u@name/d");
    assert_eq!(host(&[], &file), "u@file:5432/d");
    assert_eq!(host(&[], &uri), "u@uri:5432/d");
    assert_eq!(host(&[], &name), "u@name:5432/d");
    assert_eq!(host(&[("dsn", "postgres://u@flag/d")], &name), "u@flag:5432/d");
}

#[test]
fn connect_timeout_of_the_dsn_gives_way_to_our_own_setting() {
    let world = Fixed::new().env("DATA_SOURCE_NAME", "host=h connect_timeout=9");
    let connect = |flag: &[(&str, &str)]| {
        let config = Config::resolve(&flags(flag), &world, &KNOWN).unwrap();
        config.settings().timeouts.connect.as_secs()
    };
    assert_eq!(connect(&[]), 9);
    assert_eq!(connect(&[("timeouts.connect", "3s")]), 3);
}

#[test]
fn file_faults_name_line_column_and_remedy() {
    for (text, said) in [
        ("log:\n  levl: info", "pgrunway.yml:2:3: unknown key `levl`; did you mean `level`?"),
        (
            "collectors:\n  cache:\n    intervall: 5s",
            "pgrunway.yml:3:5: unknown key `intervall`; did you mean `interval`?",
        ),
        ("collectors:\n  cach: {}", "pgrunway.yml:2:3: unknown key `cach`; did you mean `cache`?"),
        (
            "collectors: {sizes: {}}",
            "pgrunway.yml:1:14: unknown key `sizes`; keys here: longtransactions, statements, activity, partitions, indexes, indexhealth, cache",
        ),
        (
            "listen_address: ':1'",
            "pgrunway.yml:1:1: unknown key `listen_address`; did you mean `web: listen_address`, \
             each part a key of its own?",
        ),
        (
            "web.listen_address: ':1'",
            "pgrunway.yml:1:1: unknown key `web.listen_address`; did you mean `web: \
             listen_address`, each part a key of its own?",
        ),
        ("collectors:\n  cache:\n    top: 5", "pgrunway.yml:3:5: unknown key `top`; "),
        ("postgres://u:hunter2@h: x", "pgrunway.yml:1:1: unknown key; keys here: dsn, web"),
        ("log: info", "pgrunway.yml:1:6: `log` must hold keys, not text; keys here: level, format"),
        ("- a", "pgrunway.yml:1:1: the file must hold keys, not a list; keys here: dsn, web"),
        ("timeouts:\n  lock: 5", "pgrunway.yml:2:9: `timeouts.lock` has a number without a unit"),
        (
            "timeouts: {lock: 0}",
            "pgrunway.yml:1:18: `timeouts.lock` is below the limit of 1ms; choose from 1ms to 10m",
        ),
        (
            "timeouts: {lock: 10s}",
            "pgrunway.yml:1:18: `timeouts.lock` is not below `timeouts.statement`; lower it",
        ),
        ("timeouts: {lock: [1s]}", "pgrunway.yml:1:18: `timeouts.lock` cannot be a list; write a"),
        (
            "series_limit: '5'",
            "pgrunway.yml:1:15: `series_limit` cannot be text; write it as whole",
        ),
        ("series_limit: 0", "pgrunway.yml:1:15: `series_limit` is below the limit of 1"),
        ("series_limit: 1.5", "pgrunway.yml:1:15: `series_limit` cannot be a number; write it"),
        (
            "objectives: {cache_hit_ratio: 95}",
            "pgrunway.yml:1:31: `objectives.cache_hit_ratio` is above the limit of 1; for 95 % \
             write 0.95",
        ),
        ("objectives: {cache_hit_ratio: .nan}", "pgrunway.yml:1:31: the number is not finite"),
        (
            "collectors: {cache: {enabled: 'yes'}}",
            "pgrunway.yml:1:31: `collectors.cache.enabled` cannot be text; write `true` or `false`",
        ),
        (
            "collectors: {cache: {interval: 99ms}}",
            "pgrunway.yml:1:32: `collectors.cache.interval` is below the limit of 100ms",
        ),
        (
            "collectors: {partitions: {zone: Europe/Zuerich}}",
            "pgrunway.yml:1:33: `collectors.partitions.zone` is not a time zone",
        ),
        ("log: {level: loud}", "pgrunway.yml:1:14: `log.level` is not one of `trace`, `debug`"),
        ("log: {format: jsom}", "`log.format` is not one of `text`, `json`; did you mean `json`?"),
        ("databases: {include: [1]}", "1:23: an item of `databases.include` cannot be a number"),
        ("web: {listen_address: []}", "`web.listen_address` names no address"),
        ("web: {listen_address: 9187}", "`web.listen_address` cannot be a number; write it as"),
        ("web: {telemetry_path: metrics}", "`web.telemetry_path` is not a plain path"),
        ("dsn: {hunter2: x}", "pgrunway.yml:1:6: `dsn` cannot be a section; write it as conn"),
        ("dsn: host=h password=hunter2 x", "pgrunway.yml:1:6: a word without `=` after parameter"),
        ("log: {}\nlog: {}", "pgrunway.yml:2:1: the key is there twice; keep one of the two"),
        ("log: {}\n---\nlog: {}", "pgrunway.yml:3:1: a second document starts here"),
        ("dsn: \"hunter2\n", "pgrunway.yml:1:6: unclosed quote; fix the YAML"),
        ("dsn: hunter2: x\n", "pgrunway.yml:1:13: mapping values are not allowed"),
        ("partition: []", "pgrunway.yml:1:1: unknown key `partition`; did you mean `partitions`?"),
        (
            "partitions: {table: a.b}",
            "pgrunway.yml:1:13: `partitions` must be a list, not a section; begin each",
        ),
        ("partitions: [a.b]", "pgrunway.yml:1:14: an item of the list must hold keys, not text;"),
        (
            "partitions:\n- table: a.b\n  max_ago: 1d",
            "pgrunway.yml:3:3: unknown key `max_ago`; did you mean `max_age`?",
        ),
        (
            "partitions:\n- {partitions: []}",
            "pgrunway.yml:2:4: unknown key `partitions`; keys here: table, database, runway_req",
        ),
        ("partitions:\n- {ignore: true}", "pgrunway.yml:2:3: the rule is for no table; add `tab"),
        ("partitions: [{table: trades}]", "pgrunway.yml:1:22: `table` names no schema; write `sc"),
        ("partitions: [{table: ''}]", "pgrunway.yml:1:22: `table` is empty; write a name"),
        (
            "partitions: [{table: a.b, unit: sec}]",
            "pgrunway.yml:1:33: `unit` is not one of `s`, `ms`, `us`, `ns`, `yyyymmdd`; choose",
        ),
        (
            "partitions: [{table: a.b, max_age: 90}]",
            "pgrunway.yml:1:36: `max_age` has a number without a unit",
        ),
        (
            "partitions: [{table: a.b, zone: Mars/Olympus}]",
            "pgrunway.yml:1:33: `zone` is not a time zone that this machine knows",
        ),
        (
            "partitions: [{table: a.b, must_exist: true}]",
            "pgrunway.yml:1:39: `must_exist` is for one table of one database; write `table` and",
        ),
        (
            "partitions: [{table: 'a.*', database: d, must_exist: true}]",
            "pgrunway.yml:1:54: `must_exist` is for one table of one database",
        ),
        (
            "indexes: [{table: a.b}]",
            "pgrunway.yml:1:11: the rule says of no index which; add `name: index` or `columns: a",
        ),
        ("indexes: [{name: i}]", "pgrunway.yml:1:11: the rule is for no table; add `table: sch"),
        ("indexes: [{table: b, name: i}]", "pgrunway.yml:1:19: `table` names no schema; write"),
        (
            "indexes: [{table: a.b, columns: 'lower(x)'}]",
            "pgrunway.yml:1:33: `columns` holds an expression; expect an index on an expression by",
        ),
        (
            "verify: {queries: [{name: x, sql: SELECT 1}]}",
            "pgrunway.yml:1:20: the query has no `database`; add it",
        ),
        (
            "verify: {querys: []}",
            "pgrunway.yml:1:10: unknown key `querys`; did you mean `queries`?",
        ),
        (
            "verify: [x]",
            "pgrunway.yml:1:9: `verify` must hold keys, not a list; keys here: queries",
        ),
        (
            "verify: {queries: [{name: x, sql: '', database: d}]}",
            "pgrunway.yml:1:35: `sql` is empty",
        ),
        ("dsn: *hunter2\n", "pgrunway.yml:1:6: alias references unknown anchor"),
        ("dsn: !!int hunter2\n", "pgrunway.yml:1:12: invalid"),
    ] {
        let e = match from_file(text) {
            Ok(config) => panic!("{text}: {config:?}"),
            Err(e) => e,
        };
        let message = e.to_string();
        assert!(message.contains(said), "{text}\n{message}");
        assert!(message.starts_with("pgrunway.yml:"), "{message}");
        assert!(!format!("{e:?}").contains("hunter2"), "{e:?}");
    }
}

#[test]
fn other_faults_name_the_flag_or_variable() {
    let level = flags(&[("log.level", "loud")]);
    let e = Config::resolve(&level, &Fixed::new(), &KNOWN).unwrap_err().to_string();
    assert!(e.starts_with("--log.level: the value is not one of `trace`"), "{e}");
    let world = Fixed::new().env("PGRUNWAY_SERIES_LIMIT", "many");
    let e = Config::resolve(&Flags::default(), &world, &KNOWN).unwrap_err().to_string();
    assert!(e.starts_with("PGRUNWAY_SERIES_LIMIT: the value is not a whole number"), "{e}");
    let dsn = flags(&[("dsn", "host=h pasword=hunter2")]);
    let e = Config::resolve(&dsn, &Fixed::new(), &KNOWN).unwrap_err().to_string();
    assert_eq!(e, "--dsn: unknown parameter `pasword`; did you mean `password`?");
    let mut named = Flags::default();
    named.set_config_file(Some("absent.yml".into()));
    let e = Config::resolve(&named, &Fixed::new(), &KNOWN).unwrap_err().to_string();
    assert!(e.starts_with("--config.file: cannot read absent.yml: "), "{e}");
}

#[test]
fn what_managed_services_keep_for_themselves_is_left_out_unless_the_user_says() {
    let entered = |exclude: Option<&str>| {
        let given = exclude.map_or_else(Flags::default, |e| flags(&[("databases.exclude", e)]));
        let config = Config::resolve(&given, &Fixed::new(), &KNOWN).unwrap();
        let all = ["shop", "rdsadmin", "cloudsqladmin", "azure_maintenance", "azure_sys", "mine"];
        all.into_iter().filter(|d| config.databases().admits(d)).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(entered(None), "shop mine");
    let managed = "rdsadmin cloudsqladmin azure_maintenance azure_sys";
    assert_eq!(entered(Some("mine")), format!("shop {managed}"));
    assert_eq!(entered(Some("")), format!("shop {managed} mine"));
}

/// postgres_exporter's flags lie between our flags and the environment, and a switch is for its metrics only.
#[test]
fn flags_of_postgres_exporter_have_their_effect() {
    use super::super::theirs::{self, Becomes};
    let keys = table::keys(&KNOWN);
    for theirs in theirs::ALL {
        if let Becomes::Setting(path) = theirs.becomes {
            let key = keys.iter().find(|key| key.path == path);
            let key = key.unwrap_or_else(|| panic!("{}: no setting {path}", theirs.flag));
            assert!(theirs.env.is_empty() || key.aliases.contains(&theirs.env), "{}", theirs.env);
        }
    }
    let given = |pairs: &[(&'static str, &str)]| {
        let mut flags = Flags::default();
        pairs.iter().for_each(|(flag, text)| flags.set_theirs(flag, (*text).to_owned()));
        flags
    };
    let resolve = |flags: &Flags, world: &Fixed| Config::resolve(flags, world, &KNOWN).unwrap();
    let flags = given(&[
        ("collector.stat_statements.limit", "7"),
        ("exclude-databases", "a,b"),
        ("collector.stat_bgwriter", "false"),
        ("collector.stat_statements", "true"),
        ("constantLabels", "a=b"),
        ("metric-prefix", ""),
        ("collection-timeout", "3s"),
        ("collector.long_running_transactions.threshold", "30s"),
        ("collector.stat_statements.exclude_databases", "x,y"),
        ("collector.stat_statements.exclude_users", "u"),
        ("wrap-large-counters", "true"),
        ("auto-discover-databases", "true"),
    ]);
    let config = resolve(&flags, &Fixed::new());
    let s = config.settings();
    assert_eq!((s.statements.top, config.databases().exclude.join("|").as_str()), (7, "a|b"));
    assert!(s.exposed.hides("pg_stat_bgwriter_buffers_clean") && !s.exposed.hides("pg_up"));
    assert!(s.exposed.shows("pg_stat_statements_calls_total"));
    assert_eq!(s.exposed.constant_labels, [("a".to_owned(), "b".to_owned())]);
    assert_eq!(s.exposed.prefix, "pg");
    assert_eq!(config.notes().len(), 1, "{:?}", config.notes());
    assert!(config.notes()[0].starts_with("--wrap-large-counters has no effect: counters are"));
    assert_eq!(s.timeouts.statement, Duration::from_secs(3));
    assert_eq!(s.long_transaction, Duration::from_secs(30));
    assert_eq!(s.statements.exclude_databases, ["x", "y"]);
    assert_eq!(s.statements.exclude_users, ["u"]);
    let longer = resolve(&given(&[("collection-timeout", "1m")]), &Fixed::new());
    assert_eq!(
        (longer.settings().timeouts.statement, longer.notes().len()),
        (Duration::from_secs(5), 0)
    );
    let wrong = given(&[("collection-timeout", "soon")]);
    let e = Config::resolve(&wrong, &Fixed::new(), &KNOWN).unwrap_err().to_string();
    assert!(e.starts_with("--collection-timeout: the value "), "{e}");

    let mut both = given(&[("exclude-databases", "theirs")]);
    let world = Fixed::new().env("PG_EXPORTER_EXCLUDE_DATABASES", "variable");
    assert_eq!(resolve(&both, &world).databases().exclude, ["theirs"]);
    both.set("databases.exclude", vec!["ours".to_owned()]);
    assert_eq!(resolve(&both, &world).databases().exclude, ["ours"]);

    let settings = |value| {
        let world = Fixed::new().env("PG_EXPORTER_DISABLE_SETTINGS_METRICS", value);
        Config::resolve(&Flags::default(), &world, &KNOWN)
            .map(|config| config.settings().exposed.hides("pg_settings_x"))
    };
    let said = ["T", "0", ""].map(|value| settings(value).unwrap());
    assert_eq!(said, [true, false, false]);
    let e = settings("maybe").unwrap_err().to_string();
    assert!(e.starts_with("PG_EXPORTER_DISABLE_SETTINGS_METRICS: the value is neither"), "{e}");
}

/// A row that nobody reads would be a setting without effect.
#[test]
fn every_row_of_the_table_is_read() {
    for key in table::keys(&KNOWN) {
        // A list of names and a file take anything; it must show.
        let any = matches!(key.kind, SettingKind::List | SettingKind::File);
        let bad = if any { "seen" } else { "?" };
        let world = Fixed::new().env(&key.env(), bad);
        let said = match Config::resolve(&Flags::default(), &world, &KNOWN) {
            Ok(config) => {
                let s = config.settings();
                let (web, password) = (config.web_config(), &config.connect().password);
                format!(
                    "{:?} {:?} {:?} {:?} {web:?} {password:?}",
                    config.databases(),
                    s.trust_owners,
                    s.exposed.hide,
                    s.statements
                )
            }
            Err(e) => e.place,
        };
        let expected = if any { "seen".to_owned() } else { key.env() };
        assert!(said.contains(&expected), "{}: {said}", key.path);
        let mut flags = Flags::default();
        flags.set(key.path.clone(), vec![bad.to_owned()]);
        if let Err(e) = Config::resolve(&flags, &Fixed::new(), &KNOWN) {
            assert_eq!(e.place, format!("--{}", key.flag()));
        }
    }
}

#[test]
fn names_of_flags_and_variables_follow_from_the_path() {
    let keys = table::keys(&KNOWN);
    for (path, flag, env) in [
        ("web.listen_address", "web.listen-address", "PGRUNWAY_WEB_LISTEN_ADDRESS"),
        ("collectors.cache.enabled", "collector.cache", "PGRUNWAY_COLLECTOR_CACHE"),
        (
            "collectors.statements.include_text",
            "collector.statements.include-text",
            "PGRUNWAY_COLLECTOR_STATEMENTS_INCLUDE_TEXT",
        ),
    ] {
        let key = keys.iter().find(|key| key.path == path).unwrap();
        assert_eq!((key.flag().as_str(), key.env().as_str()), (flag, env));
    }
    let mut names: Vec<_> = keys.iter().map(Key::env).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), keys.len());
    assert!(keys.iter().all(|key| key.help.ends_with('.') && !key.help.ends_with("..")));
}

#[test]
fn a_known_target_needs_no_connection_string() {
    let world = Fixed::new().env("DATA_SOURCE_NAME", "broken").env("PGPORT", "broken");
    assert!(Config::resolve(&Flags::default(), &world, &KNOWN).is_err());
    let connect =
        Config::resolve(&Flags::default(), &Fixed::new(), &KNOWN).unwrap().connect().clone();
    let settings = flags(&[("series_limit", "9"), ("web.listen_address", "127.0.0.1:0")]);
    let config = Config::resolve_for(connect, &settings, &world, &KNOWN).unwrap();
    assert_eq!(config.settings().series_limit, 9);
    assert_eq!(listen_addresses(&settings, &world, &KNOWN).unwrap(), config.listen());
    assert_eq!(config.with_listen(default_listen()).listen(), default_listen());
}

proptest::proptest! {
    #[test]
    fn no_kind_panics(text in proptest::prelude::any::<String>()) {
        let lists = table::lists(&KNOWN).into_iter().flat_map(|list| list.keys);
        for key in table::keys(&KNOWN).into_iter().chain(lists) {
            let _ = key.kind.parse(std::slice::from_ref(&text), true);
        }
    }

    #[test]
    fn files_never_panic(text in proptest::prelude::any::<String>()) {
        let _ = from_file(&text);
    }

    #[test]
    fn files_like_ours_never_panic(line in 0usize..30, text in "[a-z:\\[\\]{}'\"*&!|>% \n-]{0,20}") {
        let mut lines: Vec<&str> = WHOLE.lines().collect();
        lines.insert(line.min(lines.len()), &text);
        let e = from_file(&lines.join("\n")).err().map(|e| format!("{e} {e:?}"));
        assert!(!e.is_some_and(|e| e.contains("hunter2")));
    }
}
