//! The generated documentation is current, and the catalogue keeps the rules of naming.
//! `UPDATE_DOCS=1 cargo test --test docs` rewrites the files.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod promql;
mod rules;

use std::collections::HashMap;
use std::path::Path;

use pgrunway::config::table;
use pgrunway::metric::{Kind, valid_label_name, valid_metric_name};
use pgrunway::{cmd, collectors, docgen};

/// Compares a file, or the part between two marker lines of it, with what the code says.
fn check(path: &str, part: Option<&str>, want: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let now = std::fs::read_to_string(&path).unwrap_or_default();
    let whole = match part {
        None => want.to_owned(),
        Some(part) => {
            let (begin, end) = (format!("<!-- {part}:begin -->\n"), format!("<!-- {part}:end -->"));
            let start = now.find(&begin).unwrap_or_else(|| panic!("no {begin}")) + begin.len();
            let stop = now.find(&end).unwrap_or_else(|| panic!("no {end}"));
            format!("{}{want}{}", &now[..start], &now[stop..])
        }
    };
    if now == whole {
        return;
    }
    assert!(
        std::env::var_os("UPDATE_DOCS").is_some(),
        "{} is stale: UPDATE_DOCS=1 cargo test --test docs",
        path.display()
    );
    std::fs::write(path, whole).unwrap();
}

#[test]
fn generated_documentation_is_current() {
    check("docs/metrics.md", None, &docgen::metrics());
    check("docs/config.md", None, &docgen::configuration());
    check("docs/findings.md", None, &docgen::findings());
    check("docs/recommendations.md", None, &docgen::recommendations());
    check("README.md", Some("collectors"), &docgen::collectors());
    check("docs/versions.md", None, &docgen::versions());
    check("docs/alerts.md", None, &rules::table(promql::collectors));
    check("alerts/prometheusrule.yml", None, &rules::manifest());
    check("docs/verify.md", Some("checks"), &docgen::checks());
    check("docs/migrating.md", Some("theirs"), &docgen::theirs());
    check("docs/plan.md", Some("layouts"), &docgen::layouts());
    check("docs/migrating.md", Some("profiles"), &docgen::profiles());
}

/// Every text of ours that a reader may take a default from.
fn texts() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = ["", "docs", "docs/runbooks"].map(|folder| root.join(folder));
    let files = folders.iter().flat_map(|folder| std::fs::read_dir(folder).unwrap());
    let paths = files.map(|entry| entry.unwrap().path());
    let markdown = paths.filter(|path| path.extension().is_some_and(|e| e == "md"));
    let read = |path: std::path::PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        (path.display().to_string(), text.split_whitespace().collect::<Vec<_>>().join(" "))
    };
    markdown.map(read).collect()
}

/// "`path` (default `value`)" and "`path`, default `value`" are what the code has.
#[test]
fn defaults_that_texts_quote_are_those_of_the_settings() {
    let keys = table::keys(&cmd::known());
    let mut quoted = 0;
    for (file, text) in texts() {
        for unchecked in ["unless configured", "unless you set it", "unless you configure"] {
            let remedy = "write the default as \"`path` (default `value`)\"";
            assert!(!text.contains(unchecked), "{file}: \"{unchecked}\": {remedy}");
        }
        for (at, lead) in text.match_indices("default `") {
            let before = &text[..at];
            let path = ["` (", "`, "].iter().find_map(|end| before.strip_suffix(end));
            let Some((_, path)) = path.and_then(|before| before.rsplit_once('`')) else { continue };
            let (value, _) = text[at + lead.len()..].split_once('`').unwrap();
            let key = keys.iter().find(|key| key.path == path);
            let key = key.unwrap_or_else(|| panic!("{file}: there is no setting `{path}`"));
            assert_eq!(value, key.default, "{file}: the default of `{path}`");
            quoted += 1;
        }
    }
    assert!(quoted >= 16, "only {quoted} defaults are quoted");
}

/// Pages, runbooks and files that texts lead to are there, with the heading that is named.
#[test]
fn links_lead_somewhere() {
    let slug = |heading: &str| -> String {
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.collect::<String>().to_lowercase().replace(' ', "-")
    };
    for (file, text) in texts() {
        let folder = Path::new(&file).parent().unwrap();
        let links = text.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
        for (link, _) in links.filter(|(link, _)| !link.contains("://") && !link.contains(' ')) {
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let path = if path.is_empty() { file.clone().into() } else { folder.join(path) };
            assert!(path.exists(), "{file}: {link}");
            if !anchor.is_empty() {
                let linked = std::fs::read_to_string(&path).unwrap();
                let headings = linked.lines().filter(|l| l.starts_with('#'));
                let mut slugs = headings.map(|l| slug(l.trim_start_matches('#').trim()));
                assert!(slugs.any(|s| s == anchor), "{file}: {link}");
            }
        }
    }
}

/// `docs/troubleshooting.md` is of use only as long as the metrics that it names exist.
#[test]
fn the_metrics_that_answer_why_exist() {
    let text = std::fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/troubleshooting.md"),
    )
    .unwrap();
    let catalogue = docgen::catalogue();
    let mut named = 0;
    for word in text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')) {
        let histogram = word.trim_end_matches("_count").trim_end_matches("_sum");
        if word.starts_with("pgrunway_") {
            assert!(catalogue.iter().any(|m| m.name == word || m.name == histogram), "{word}");
            named += 1;
        }
    }
    assert!(named > 10, "{named}");
}

#[test]
fn every_metric_has_one_home_and_a_proper_name() {
    let mut homes: HashMap<&str, usize> = HashMap::new();
    for metric in docgen::catalogue() {
        let name = metric.name;
        *homes.entry(name).or_default() += 1;
        assert!(valid_metric_name(name) && !name.contains(':'), "{name}");
        let ours = ["pg_", "pgrunway_", "pgbouncer_", "postgres_exporter_"];
        assert!(ours.iter().any(|p| name.starts_with(p)), "{name}");
        assert_eq!(name.ends_with("_total"), metric.kind == Kind::Counter, "{name}");
        let reserved = ["_count", "_sum", "_bucket"].iter().any(|s| name.ends_with(s));
        assert!(!reserved || metric.kind == Kind::Untyped, "{name} is reserved for histograms");
        assert!(metric.help.ends_with('.') && metric.help.len() > 20, "{name}: {}", metric.help);
        assert!(!metric.help.contains('\n'), "{name}");
        for label in metric.labels {
            assert!(valid_label_name(label), "{name}: {label}");
            assert!(!["job", "instance", "le", "type"].contains(label), "{name}: {label}");
        }
    }
    let twice: Vec<_> = homes.iter().filter(|(_, n)| **n > 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
}

/// OpenMetrics calls a counter by its name without `_total`, and takes these names for samples.
#[test]
fn no_name_clashes_with_anothers_samples_in_openmetrics() {
    let names: HashMap<&str, Kind> = docgen::catalogue().iter().map(|m| (m.name, m.kind)).collect();
    for (name, kind) in &names {
        let base = name.strip_suffix("_total").unwrap_or(name);
        let suffixes: &[&str] = match kind {
            Kind::Counter => &["", "_created"],
            Kind::Histogram => &["_bucket", "_count", "_sum", "_created"],
            Kind::Gauge | Kind::Untyped => &[],
        };
        for suffix in suffixes {
            let taken = format!("{base}{suffix}");
            assert!(!names.contains_key(&*taken), "{name} takes the name {taken}");
        }
    }
}

#[test]
fn every_collector_has_a_name_of_its_own_and_a_golden_file() {
    let mut names: Vec<&str> = collectors::ALL.iter().map(|c| c.name()).collect();
    for c in collectors::ALL {
        assert!(c.name().bytes().all(|b| b.is_ascii_lowercase()), "{}", c.name());
        assert!(c.help().ends_with('.'), "{}", c.name());
        let golden = format!("{}/tests/golden/{}.prom", env!("CARGO_MANIFEST_DIR"), c.name());
        assert!(Path::new(&golden).is_file(), "{golden} is missing");
    }
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), collectors::ALL.len());
}
