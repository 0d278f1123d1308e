//! Reference documentation from the code, so that it cannot disagree with it. `tests/docs.rs`
//! compares the files in `docs/` with it, and writes them with `UPDATE_DOCS=1`.
//!
//! Must not: hold a fact of its own.

use std::fmt::Write;

use crate::cmd;
use crate::cmd::plan::layouts::{ALL as LAYOUTS, Fate, Layout};
use crate::collector::Scope;
use crate::collectors::ALL;
use crate::config::theirs::{self, Becomes, Takes};
use crate::config::{params, schema, table as config_table};
use crate::findings::{self, Check, Rule, When};
use crate::metric::{Compat, Kind, Metric};
use crate::{render, snapshot};
use params::Treatment;

/// Every metric that pgrunway may emit, except the process collector's.
pub fn catalogue() -> Vec<&'static Metric> {
    ALL.iter()
        .flat_map(|c| c.metrics())
        .chain(snapshot::METRICS)
        .chain(render::METRICS)
        .copied()
        // Of two with one name, that of the default profile.
        .filter(|metric| metric.compat != Some(Compat::Only))
        .collect()
}

/// `docs/metrics.md`.
pub fn metrics() -> String {
    let mut out = String::from(
        "# Metrics\n\nGenerated from the code: `UPDATE_DOCS=1 cargo test --test docs` rewrites it.\n",
    );
    for collector in ALL {
        let per = match collector.scope() {
            Scope::Server => "once per server",
            Scope::Database => "once per database",
            Scope::Pooler => "once per PgBouncer",
        };
        let _ = write!(
            out,
            "\n## Collector `{}`\n\n{} It runs {per}, every {} s unless it adapts or you say \
             otherwise, and is {} by default.\n\n",
            collector.name(),
            collector.help(),
            collector.default_interval().as_secs_f64(),
            if collector.default_on() { "on" } else { "off" },
        );
        table(&mut out, collector.metrics());
    }
    out.push_str("\n## About the target and the collectors\n\n");
    table(&mut out, snapshot::METRICS);
    out.push_str("\n## About this process\n\n");
    table(&mut out, render::METRICS);
    let process: Vec<String> = render::PROCESS_METRICS.iter().map(|n| format!("`{n}`")).collect();
    let _ = writeln!(out, "\nand, from /proc/self: {}.", process.join(", "));
    out
}

fn table(out: &mut String, metrics: &[&Metric]) {
    out.push_str("| metric | type | labels | what it is |\n|---|---|---|---|\n");
    for metric in metrics {
        let kind = kind_of(metric.kind);
        let labels: Vec<String> = metric.labels.iter().map(|l| format!("`{l}`")).collect();
        let help = metric.help.replace('|', "\\|");
        let _ =
            writeln!(out, "| `{}` | {kind} | {} | {help} |", shown(metric.name), labels.join(", "));
    }
}

/// The table of postgres_exporter's flags and variables in `docs/migrating.md`.
pub fn theirs() -> String {
    let keys = config_table::keys(&cmd::known());
    let ours: Vec<String> = keys.iter().map(schema::Key::flag).collect();
    let mut out = String::from("| postgres_exporter | variable | here |\n|---|---|---|\n");
    let code = |names: &[&str]| {
        names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
    };
    for theirs in theirs::ALL {
        let no = if theirs.takes == Takes::Switch { "[no-]" } else { "" };
        let env = if theirs.env.is_empty() { String::new() } else { code(&[theirs.env]) };
        let same = theirs.becomes == Becomes::Same || ours.iter().any(|f| f == theirs.flag);
        let here = match theirs.becomes {
            _ if same && theirs.flag.starts_with("collector.") && theirs.takes == Takes::Switch => {
                "the collector of this name, all of it".to_owned()
            }
            _ if same => "the same".to_owned(),
            Becomes::Same => "the same".to_owned(),
            Becomes::Setting(path) => format!("`{path}`"),
            Becomes::Metrics(names) => format!("switches {} on or off", code(names)),
            Becomes::Hides(names) => format!("leaves out {}", code(names)),
            Becomes::Lowers(path) => format!("lowers `{path}`, where that is more"),
            Becomes::Queries => "the queries of this file; see [queries.md](queries.md)".to_owned(),
            Becomes::Lists => "lists the metrics that may be exported".to_owned(),
            Becomes::Nothing(why, fine) => {
                let but = match fine {
                    [] => String::new(),
                    fine => format!(" (no warning for {})", code(fine)),
                };
                format!("a warning: {why}{but}")
            }
        };
        let _ = writeln!(out, "| `--{no}{}` | {env} | {here} |", theirs.flag);
    }
    let _ = writeln!(out, "| | {} | the same |", code(&theirs::VARIABLES));
    out
}

/// The table of the metrics that differ between the two profiles.
pub fn profiles() -> String {
    let all: Vec<&Metric> =
        ALL.iter().flat_map(|c| c.metrics()).chain(snapshot::METRICS).copied().collect();
    let mut rows = std::collections::BTreeMap::new();
    let labels =
        |labels: &[&str]| labels.iter().map(|l| format!("`{l}`")).collect::<Vec<_>>().join(", ");
    for metric in &all {
        let here = format!("{}; {}", kind_of(metric.kind), labels(metric.labels));
        let (row, there): (&mut [String; 2], String) = match metric.compat {
            None => continue,
            Some(Compat::As(kind, server)) => {
                let server: &[&str] = if server { &["server"] } else { &[] };
                let there = [metric.labels, server].concat();
                let there = format!("{}; {}", kind_of(kind), labels(&there));
                (rows.entry(metric.name).or_default(), there)
            }
            Some(Compat::Elsewhere) => {
                rows.entry(metric.name).or_default()[0] = here;
                continue;
            }
            Some(Compat::Only) => {
                rows.entry(metric.name).or_default()[1] = here;
                continue;
            }
        };
        *row = [here, there];
    }
    let mut out = String::from(
        "| metric | by default: type; labels | as postgres_exporter has it |\n|---|---|---|\n",
    );
    for (name, [here, there]) in rows {
        let cell = |text: String| match text.trim_end_matches("; ") {
            "" => "absent".to_owned(),
            text => text.to_owned(),
        };
        let _ = writeln!(out, "| `{}` | {} | {} |", shown(name), cell(here), cell(there));
    }
    out
}

fn kind_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Gauge => "gauge",
        Kind::Counter => "counter",
        Kind::Histogram => "histogram",
        Kind::Untyped => "untyped",
    }
}

/// A name that ends in `_` goes on with what the server says.
fn shown(name: &str) -> String {
    if name.ends_with('_') { format!("{name}*") } else { name.to_owned() }
}

/// The table of collectors in the README.
pub fn collectors() -> String {
    let mut out = String::from("| collector | default | what it reads |\n|---|---|---|\n");
    for c in ALL {
        let on = if c.default_on() { "on" } else { "off" };
        let _ = writeln!(
            out,
            "| `{}` | {on}, {} s | {} |",
            c.name(),
            c.default_interval().as_secs_f64(),
            c.help().replace('|', "\\|")
        );
    }
    out
}

/// The section on rules for partitioned tables.
fn partition_rules(out: &mut String) {
    let _ = write!(
        out,
        "## Rules for partitioned tables\n\nThe list `{}` of the file. Only the first rule that matches a table \
         applies to it; what that rule leaves out comes from `collectors.partitions.*`. Patterns match whole \
         names, as they are in the labels; `*` also matches a dot. See \
         [partitions.md](partitions.md).\n\n```yaml\n{}:\n- {{table: public.trades, database: trading, \
         runway_required: 14d, max_age: 90d, must_exist: true}}\n- {{table: public.events, unit: \
         ms}}\n- {{table: 'scratch.*', ignore: true}}\n```\n\n\
         | key | what it may hold | default | what it means |\n|---|---|---|---|\n",
        config_table::PARTITIONS,
        config_table::PARTITIONS,
    );
    list_of(out, config_table::PARTITIONS);
}

/// The section on indexes that must be there.
fn expected_indexes(out: &mut String) {
    let _ = write!(
        out,
        "\n## Expected indexes\n\nThe list `{}` of the file: indexes that every table of a pattern must \
         have, by name, by columns, or by both. All rules that match a table apply; partitions are checked with \
         their root table. A rule for one table of one database, without wildcards, also requires the table. See \
         [indexes.md](indexes.md).\n\n```yaml\n{}:\n- {{table: public.trades, \
         database: trading, name: idx_trades_symbol}}\n- {{table: public.trades, columns: 'symbol, \
         executed_at DESC'}}\n- {{table: 'tenant_*.users', columns: email, unique: true}}\n```\n\n\
         | key | what it may hold | default | what it means |\n|---|---|---|---|\n",
        config_table::INDEXES,
        config_table::INDEXES,
    );
    list_of(out, config_table::INDEXES);
}

/// The section on how probed targets are logged in to.
fn auth_modules(out: &mut String) {
    let _ = write!(
        out,
        "## Logins of probed targets\n\nThe section `{}` of the file, as postgres_exporter has it: by the name that a \
         request gives as `auth_module`. See [targets.md](targets.md#targets-that-prometheus-names).\n\n\
         ```yaml\n{}:\n  shop:\n    type: userpass\n    userpass: {{username: pgrunway, password: secret}}\n    \
         options: {{sslmode: require}}\n```\n\n\
         | key | what it may hold | default | what it means |\n|---|---|---|---|\n",
        config_table::MODULES,
        config_table::MODULES,
    );
    list_of(out, config_table::MODULES);
    out.push('\n');
}

/// The section on queries that become metrics.
fn custom(out: &mut String) {
    let _ = write!(
        out,
        "\n## Queries of your own\n\nThe section `{}` of the file: queries that become metrics, by name. See \
         [queries.md](queries.md).\n\n```yaml\n{}:\n  shop_orders:\n    query: SELECT status, count(*) AS open FROM \
         shop.orders GROUP BY status\n    metrics:\n    - status: {{usage: LABEL}}\n    - open: {{usage: GAUGE, \
         description: Orders by status.}}\n```\n\n\
         | key | what it may hold | default | what it means |\n|---|---|---|---|\n",
        config_table::CUSTOM,
        config_table::CUSTOM,
    );
    list_of(out, config_table::CUSTOM);
    out.push_str(
        "\nand under `metrics`, by the name of a column:\n\n\
         | key | what it may hold | default | what it means |\n|---|---|---|---|\n",
    );
    config_table::custom().nested.iter().flat_map(|own| &own.keys).for_each(|key| row(out, key));
}

/// The section on queries that must read few partitions.
fn queries(out: &mut String) {
    let _ = write!(
        out,
        "\n## Queries that must read few partitions\n\nThe list `queries` in the section `verify` of the \
         file, for `pgrunway verify`. See [verify.md](verify.md).\n\n```yaml\nverify:\n  queries:\n  - \
         name: trade volume, 24 h\n    database: trading\n    sql: SELECT count(*) FROM public.trades \
         WHERE executed_at >= now() - interval '24 hours' AND executed_at < now()\n    \
         max_partitions: 2\n```\n\n\
         | key | what it may hold | default | what it means |\n|---|---|---|---|\n",
    );
    list_of(out, config_table::QUERIES);
}

/// `docs/versions.md`: what each collector does on which major version.
pub fn versions() -> String {
    let majors = || snapshot::OLDEST_MAJOR..=snapshot::NEWEST_MAJOR;
    let mut out = String::from(
        "# PostgreSQL versions\n\nGenerated by `UPDATE_DOCS=1 cargo test --test docs` from what the collectors declare; \
         `tests/collectors/versions.rs` runs every one of them on every version, on a busy primary and on its standby, \
         as a role with `pg_monitor` only, and fails where this table is wrong.\n\n\
         A newer version is read as the newest known one: `pgrunway_server_version_untested` is 1, and \
         `pgrunway_collector_missing` names what it does not have. Managed services are in [managed.md](managed.md).\n\n\
         ## Collectors\n\n`yes`: it works; `-`: the version does not have what it reads, and it succeeds without \
         series.\n\n| collector |",
    );
    majors().for_each(|major| _ = write!(out, " {major} |"));
    out.push_str("\n|---|");
    majors().for_each(|_| out.push_str("---|"));
    out.push('\n');
    for c in ALL.iter().filter(|c| c.scope() != Scope::Pooler && !c.compatible_only()) {
        let _ = write!(out, "| `{}` |", c.name());
        majors().for_each(|major| {
            _ = write!(out, " {} |", if c.since() <= major { "yes" } else { "-" });
        });
        out.push('\n');
    }
    out.push_str(
        "\n## Metrics\n\nThe other metrics of these collectors are on every version.\n\n\
         | metric | collector | versions |\n|---|---|---|\n",
    );
    for c in ALL.iter().filter(|c| c.scope() != Scope::Pooler && !c.compatible_only()) {
        for metric in c.metrics() {
            let (from, to) = metric.majors();
            let versions = match (from, to) {
                (None, None) => continue,
                (Some(from), None) => format!("{from} and later"),
                (None, Some(to)) => format!("before {to}"),
                (Some(from), Some(to)) => format!("{from}, before {to}"),
            };
            let _ = writeln!(out, "| `{}` | `{}` | {versions} |", shown(metric.name), c.name());
        }
    }
    out
}

/// The table of checks in `docs/verify.md`.
pub fn checks() -> String {
    let mut out = String::from(
        "| check | severity | what it finds | why that matters | locks on your tables |\n\
         |---|---|---|---|---|\n",
    );
    for rule in cmd::verify::all() {
        let (id, severity, anchor) = (rule.id, rule.severity.word(), rule.id.replace('.', ""));
        let when = match rule.when {
            When::Always => "",
            When::OnRequest => " On request.",
        };
        let finds = format!("{}.", capital(rule.finds));
        let locks = cmd::verify::locks(rule).unwrap_or_default();
        let [finds, why, locks] = [&finds, rule.why, locks].map(|cell| cell.replace('|', "\\|"));
        let _ = writeln!(
            out,
            "| [`{id}`](findings.md#{anchor}) | {severity} | {finds}{when} | {why} | {locks} |"
        );
    }
    out
}

/// What a plan copies, moves and refuses, in `docs/plan.md`.
pub fn layouts() -> String {
    let of = |fate| LAYOUTS.iter().filter(move |layout| layout.fate == fate);
    let since = |layout: &Layout| match layout.since {
        13 => String::new(),
        major => format!(" (from {major} on)"),
    };
    let mut out = String::from("## Copied from the newest sibling\n\n");
    for layout in of(Fate::Copied) {
        let _ = writeln!(out, "- {}. `{}`", layout.what, layout.id);
    }
    for (fate, title, head) in [
        (Fate::NotCopied, "Not copied", "not copied | because"),
        (Fate::Moved, "Moved", "beside | how"),
        (Fate::Refused, "Refused", "case | because | by hand"),
    ] {
        let line = "|---".repeat(head.split(" | ").count() + 1);
        let _ = writeln!(out, "\n## {title}\n\n| {head} | test |\n{line}|");
        for layout in of(fate) {
            let way = match fate {
                Fate::Refused => format!(" {} |", layout.way),
                _ => String::new(),
            };
            let _ = writeln!(
                out,
                "| {}{} | {} |{way} `{}` |",
                layout.what,
                since(layout),
                layout.how,
                layout.id
            );
        }
    }
    out
}

/// The keys of a list's items.
fn list_of(out: &mut String, name: &str) {
    for key in keys_of(name) {
        row(out, &key);
    }
}

/// The keys of one of the file's lists.
fn keys_of(name: &str) -> Vec<schema::Key> {
    let list = config_table::lists(&cmd::known()).into_iter().find(|list| list.name == name);
    list.into_iter().flat_map(|list| list.keys).collect()
}

fn row(out: &mut String, key: &schema::Key) {
    let default = if key.default.is_empty() { String::new() } else { format!("`{}`", key.default) };
    let kind = key.kind.describe();
    let _ = writeln!(out, "| `{}` | {kind} | {default} | {} |", key.path, key.help);
}

/// The section on several targets.
fn targets(out: &mut String) {
    let _ = write!(
        out,
        "## Several servers and poolers\n\nThe list `{}` of the file; see \
         [targets.md](targets.md).\n\n```yaml\n{}:\n- {{name: shop, dsn: \
         'postgresql://pgrunway@shop.internal/postgres', password_file: /etc/pgrunway/shop}}\n\
         - {{name: shop-pooler, dsn: 'postgresql://stats@shop.internal:6432', kind: pgbouncer}}\n\
         ```\n\n| key | what it may hold | default | what it means |\n|---|---|---|---|\n",
        config_table::TARGETS,
        config_table::TARGETS,
    );
    let general: Vec<String> =
        config_table::keys(&cmd::known()).into_iter().map(|k| k.path).collect();
    // `dsn` is in both, and means less here.
    let (own, shared): (Vec<_>, Vec<_>) = keys_of(config_table::TARGETS)
        .into_iter()
        .partition(|key| key.path == "dsn" || !general.contains(&key.path));
    own.iter().for_each(|key| row(out, key));
    let mut sections: Vec<String> = Vec::new();
    for key in &shared {
        let section = format!("`{}`", key.path.split('.').next().unwrap_or_default());
        if !sections.contains(&section) {
            sections.push(section);
        }
    }
    let _ = write!(
        out,
        "\nand, for this target alone, as above: {}. They win over flags, environment and the rest of the file. \
         Rules for partitioned tables apply to all targets.\n\n",
        sections.join(", ")
    );
}

/// `docs/config.md`.
pub fn configuration() -> String {
    let mut out = String::from(
        "# Configuration\n\nGenerated from the code: `UPDATE_DOCS=1 cargo test --test docs` rewrites \
         it.\n\nEvery setting is a flag, an environment variable and a key of the YAML file that \
         `--config.file` names; a flag wins over the environment, and that over the file. Durations are \
         written as Prometheus writes them: `500ms`, `1h30m`, `7d`. An unknown key is refused with its \
         file, line and column and the nearest key there is.\n\n\
         | key in the file | flag | environment | what it may hold | default | what it means |\n\
         |---|---|---|---|---|---|\n",
    );
    for key in config_table::keys(&cmd::known()) {
        let env = std::iter::once(key.env()).chain(key.aliases.iter().map(|a| (*a).to_owned()));
        let env: Vec<String> = env.map(|e| format!("`{e}`")).collect();
        let default =
            if key.default.is_empty() { String::new() } else { format!("`{}`", key.default) };
        let cells = [
            format!("`{}`", key.path),
            format!("`--{}`", key.flag()),
            env.join(", "),
            key.kind.describe(),
            default,
            key.help.clone(),
        ];
        let cells: Vec<String> = cells.iter().map(|c| c.replace('|', "\\|")).collect();
        let _ = writeln!(out, "| {} |", cells.join(" | "));
    }
    out.push_str("\n`--no-collector.NAME` switches a collector off.\n\n");
    targets(&mut out);
    auth_modules(&mut out);
    partition_rules(&mut out);
    expected_indexes(&mut out);
    queries(&mut out);
    custom(&mut out);
    out.push_str(
        "\n## The server\n\n\
         `--dsn`, `DATA_SOURCE_NAME` or `dsn` in the file: a URI or keyword=value pairs, as libpq reads \
         them. Or `DATA_SOURCE_URI`, `DATA_SOURCE_USER` and `DATA_SOURCE_PASS`, each also as \
         `..._FILE`; the password file is read again at every connect, so that a rotated password needs \
         no restart. What is left out comes from the variables below, the service file and `.pgpass`, \
         as in psql.\n\n`sslmode` means what it means to libpq, `prefer` if not given, except that `allow` means \
         `prefer`, and that `verify-full` compares the host name with the certificate's subjectAltName, never \
         with its common name.\n\n\
         | parameter | environment | treatment |\n|---|---|---|\n",
    );
    for parameter in params::PARAMETERS {
        let env = parameter.env.map(|e| format!("`{e}`")).unwrap_or_default();
        let treatment = match parameter.treatment {
            Treatment::Used => "used".to_owned(),
            Treatment::Ignored(why) => format!("ignored: {why}"),
            Treatment::Only([], why) => format!("refused: {why}"),
            Treatment::Only(values, why) => {
                let values: Vec<String> = values.iter().map(|v| format!("`{v}`")).collect();
                format!("only {}: {why}", values.join(", "))
            }
        };
        let _ = writeln!(out, "| `{}` | {env} | {treatment} |", parameter.name);
    }
    out
}

/// `docs/findings.md`.
pub fn findings() -> String {
    let mut out = String::from(
        "# Findings\n\nGenerated from the code: `UPDATE_DOCS=1 cargo test --test docs` rewrites it.\n\nA rule \
         judges only what was read or measured; if a fact is missing, it says nothing. `pgrunway verify`, \
         `pgrunway report`, the exporter's console and its metrics ([recommendations.md](recommendations.md)) \
         show the findings of the same rules, with the same id and severity; the first three also show the same \
         evidence and remedy.\n\n`critical`: data or service is at risk, or something fails. `warning`: it costs \
         time or space, and will cost more. `info`: worth knowing.\n",
    );
    for (title, place) in PLACES {
        let _ = writeln!(out, "\n## {title}");
        for rule in findings::all().filter(|rule| place(rule)) {
            let Rule { id, title, severity, finds, why, source, .. } = rule;
            let _ = writeln!(out, "\n### {id}\n\n{title}. {}.\n", capital(severity.word()));
            let _ = writeln!(out, "- Holds when: {finds}.\n- Why: {why}\n- From: {source}.");
            if !rule.alerts.is_empty() {
                let link = |name: &&str| format!("[{name}](runbooks/{name}.md)");
                let links: Vec<String> = rule.alerts.iter().map(link).collect();
                let _ = writeln!(out, "- Alerts: {}.", links.join(", "));
            }
            if !rule.formerly.is_empty() {
                let ids: Vec<String> = rule.formerly.iter().map(|id| format!("`{id}`")).collect();
                let _ = writeln!(out, "- Formerly: {}.", ids.join(", "));
            }
        }
    }
    out
}

/// With a capital letter, unless it begins with a name.
fn capital(word: &str) -> String {
    let first = word.split(' ').next().unwrap_or_default();
    let names = ["autovacuum", "fsync", "pgrunway"];
    if first.contains('_') || names.contains(&first) {
        return word.to_owned();
    }
    let mut chars = word.chars();
    chars.next().map_or_else(String::new, |c| c.to_uppercase().chain(chars).collect())
}

type RulePlace = (&'static str, fn(&Rule) -> bool);

/// What rules are about.
const PLACES: [RulePlace; 5] = [
    ("About the way to a target", |rule| matches!(rule.check, Check::Access(_))),
    ("About the server", |rule| matches!(rule.check, Check::Server(_))),
    ("About what sessions wait for", |rule| matches!(rule.check, Check::Waits(_))),
    ("About a database", |rule| matches!(rule.check, Check::Database(_))),
    ("About a pooler", |rule| matches!(rule.check, Check::Pooler(_))),
];

/// `docs/recommendations.md`.
pub fn recommendations() -> String {
    let mut out = String::from(
        "# Recommendations\n\nGenerated from the code: `UPDATE_DOCS=1 cargo test --test docs` rewrites \
         it.\n\nThe exporter evaluates the rules of [findings.md](findings.md) and exports the result: 1 if a \
         rule holds, 0 if not, absent if its facts are not known or were not observed for long enough. Rules \
         about the server are evaluated every minute, over the last hour's evidence \
         (`pg_recommendation_active{id}`), and those about what sessions wait for every half minute, over the last \
         hour's samples (`pg_wait_recommendation_active{id}`); those about a database every quarter of an hour \
         (`pg_database_recommendation_active{datname,id}`), except those about statements and plans, which \
         `pgrunway report` evaluates by what it observed and benchmarked; those about a PgBouncer whenever its \
         console is read, over the last 55 to 60 minutes (`pgbouncer_recommendation_active{id}`). SQL does not \
         show memory and processors of the server's machine: set `host.memory` and `host.cpus`.\n",
    );
    // Those about the way to a target have metrics of their own: `pg_up` and its like.
    for (title, place) in &PLACES[1..] {
        let _ = writeln!(out, "\n## {title}\n\n| id | recommendation | severity |\n|---|---|---|");
        for rule in findings::all().filter(|rule| place(rule)) {
            let Rule { id, title, severity, .. } = rule;
            let anchor = id.replace('.', "");
            let severity = severity.word();
            let _ = writeln!(out, "| [`{id}`](findings.md#{anchor}) | {title} | {severity} |");
        }
    }
    out
}
