//! Holds `src` to the straight line: which module may import which, and who alone may use a driver.
//! The same table stands in ARCHITECTURE.md.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Module, and which of ours it may import. `cmd`, `docgen` and `fuzzing` may import anything but `main`.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    // Read by both sides of TLS: the server's certificate there, the clients' here.
    ("certificate", &[]),
    // Signatures of TLS handshakes, on both sides of it.
    ("handshake", &[]),
    ("error", &[]),
    ("metric", &[]),
    ("derive", &[]),
    // Everything that comes from outside is made fit to be shown in one place.
    ("text", &[]),
    ("remedy", &["text"]),
    ("findings", &["derive", "remedy"]),
    ("config", &["error"]),
    ("cli", &["config"]),
    ("clock", &[]),
    ("pg", &["certificate", "clock", "config", "error", "handshake", "remedy", "text"]),
    // A collector may ask rules; what they found goes with its samples.
    ("collector", &["error", "findings", "metric", "pg"]),
    // A query of the user's own is a collector that the configuration made.
    (
        "collectors",
        &["collector", "config", "derive", "error", "findings", "metric", "pg", "remedy"],
    ),
    ("snapshot", &["certificate", "error", "findings", "metric"]),
    // Pages of what collectors publish, by the structs that these declare; `derive` for units, the configuration for
    // the settings in force.
    (
        "console",
        &[
            "collector",
            "collectors",
            "config",
            "derive",
            "findings",
            "metric",
            "remedy",
            "snapshot",
        ],
    ),
    (
        "poller",
        &[
            "certificate",
            "clock",
            "collector",
            "config",
            "error",
            "findings",
            "metric",
            "pg",
            "remedy",
            "snapshot",
        ],
    ),
    ("render", &["clock", "metric", "snapshot"]),
    // What the port demands of clients comes from a file of its own; pages for people are the console's.
    ("http", &["certificate", "config", "console", "error", "handshake", "render", "snapshot"]),
    ("logging", &["config", "text"]),
];

/// Crate, and the only module that may name it.
const SOLE_USER: &[(&str, &str)] = &[
    ("tokio_postgres", "pg"),
    ("tokio_postgres_rustls", "pg"),
    ("webpki", "pg"),
    ("tokio_rustls", "http"),
    ("bcrypt", "http"),
    ("x509_cert", "certificate"),
    ("prometheus", "render"),
    ("prost", "render"),
    ("prost_types", "render"),
    ("axum", "http"),
    ("tower_http", "http"),
    ("hyper_util", "http"),
    ("serde_saphyr", "config"),
];

/// What `derive` and `remedy` must not touch: clocks, sockets, files, threads.
const IMPURE: &[&str] = &[
    "tokio::",
    "std::time::Instant",
    "SystemTime",
    "std::net",
    "std::fs",
    "std::env",
    "std::thread",
    "Timestamp::now",
    "Zoned::now",
];

fn rust_files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") && !is_test_code(&path) {
            found.push(path);
        }
    }
}

/// Files that are compiled for unit tests only.
fn is_test_code(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == "tests.rs" || name == "golden.rs")
        || path.parent().is_some_and(|folder| folder.ends_with("tests"))
}

/// Module name to the code of its files, tests and comments left out.
fn modules() -> BTreeMap<String, Vec<(PathBuf, String)>> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&src, &mut files);
    assert!(files.len() > 15, "the sources were not found");
    let mut modules: BTreeMap<String, Vec<(PathBuf, String)>> = BTreeMap::new();
    for path in files {
        let relative = path.strip_prefix(&src).unwrap();
        let first = relative.components().next().unwrap().as_os_str().to_str().unwrap();
        let module = first.trim_end_matches(".rs").to_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        let code: String = text
            .split("#[cfg(test)]\nmod tests")
            .next()
            .unwrap()
            .lines()
            .filter(|l| !l.trim_start().starts_with("//"))
            .collect::<Vec<_>>()
            .join("\n");
        modules.entry(module).or_default().push((path.clone(), code));
    }
    modules
}

/// Whether `name::` (or `name;`, `name}`) stands in the code as a path of its own.
fn names(code: &str, name: &str) -> bool {
    code.match_indices(name).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = &code[at + name.len()..];
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':' || c == '"' || c == '/')
            && after.starts_with("::")
    })
}

/// Modules of ours that the code imports: `crate::x`, `crate::{x, y::z}`, `pgrunway::x`.
fn imports(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for prefix in ["crate::", "pgrunway::"] {
        for (at, _) in code.match_indices(prefix) {
            let rest = &code[at + prefix.len()..];
            if let Some(group) = rest.strip_prefix('{') {
                let mut depth = 0;
                let mut item = String::new();
                for c in group.chars() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => {
                            found.insert(std::mem::take(&mut item));
                            continue;
                        }
                        _ => {}
                    }
                    item.push(c);
                }
                found.insert(item);
            } else {
                found.insert(rest.to_owned());
            }
        }
    }
    let ident = |s: &str| -> String {
        s.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    found.iter().map(|s| ident(s)).filter(|s| !s.is_empty()).collect()
}

#[test]
fn modules_import_only_what_the_table_allows() {
    let modules = modules();
    let mut faults = Vec::new();
    for (module, files) in &modules {
        if matches!(module.as_str(), "cmd" | "docgen" | "fuzzing" | "main" | "lib") {
            for (path, code) in files {
                assert!(!imports(code).contains("main"), "{} imports main", path.display());
            }
            continue;
        }
        let Some((_, allowed)) = MAY_IMPORT.iter().find(|(m, _)| m == module) else {
            faults.push(format!("module {module} is not in the table"));
            continue;
        };
        for (path, code) in files {
            for import in imports(code) {
                if import != *module && !allowed.contains(&import.as_str()) {
                    faults.push(format!("{} imports {import}", path.display()));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
    for (module, _) in MAY_IMPORT {
        assert!(modules.contains_key(*module), "the table names {module}, which is not there");
    }
}

#[test]
fn each_driver_has_one_user() {
    for (module, files) in modules() {
        for (path, code) in files {
            for (krate, user) in SOLE_USER {
                assert!(
                    module == *user || !names(&code, krate),
                    "{} uses {krate}; only {user} may",
                    path.display()
                );
            }
        }
    }
}

/// Figures are read by the structs that the collectors declare (`collectors::published`).
#[test]
fn nobody_looks_a_figure_up_by_the_name_of_its_metric_or_the_place_of_a_label() {
    let names: Vec<String> =
        pgrunway::docgen::catalogue().iter().map(|metric| format!("\"{}\"", metric.name)).collect();
    assert!(names.len() > 300, "the metrics were not found");
    let modules = modules();
    for (path, code) in ["cmd", "console", "findings", "http"].iter().flat_map(|m| &modules[*m]) {
        for name in &names {
            assert!(!code.contains(name.as_str()), "{} looks up {name}", path.display());
        }
        for access in ["sample.labels", "family.samples", ".families.iter", "metric.name =="] {
            assert!(!code.contains(access), "{} reads samples: {access}", path.display());
        }
    }
}

#[test]
fn derive_findings_and_remedy_are_pure() {
    let modules = modules();
    for (path, code) in ["derive", "findings", "remedy"].iter().flat_map(|m| &modules[*m]) {
        for word in IMPURE {
            assert!(!code.contains(word), "{} uses {word}", path.display());
        }
    }
}

/// Where statements are put together: `remedy` for people, `cmd/plan` of its typed parts, and what pgrunway runs
/// on clusters and tables of its own; `pg/trust` and `poller/walker.rs` have hints for the log.
const WRITES_SQL: &[&str] = &[
    "remedy",
    "cmd/plan",
    "cmd/cluster",
    "cmd/demo",
    "cmd/load",
    "cmd/trading",
    "pg/admin.rs",
    "pg/trust",
    "poller/walker.rs",
];

/// Whether a text puts a name behind the words that begin a statement: `DROP INDEX {`.
fn formats_sql(code: &str) -> bool {
    const WORDS: &[&str] = &[
        "ALTER ",
        "ANALYZE ",
        "CREATE ",
        "DELETE FROM ",
        "DROP ",
        "GRANT ",
        "REINDEX ",
        "TRUNCATE ",
        "UPDATE ",
        "VACUUM ",
        "pgrunway plan ",
    ];
    let skip = |c: char| c.is_ascii_uppercase() || c == ' ';
    WORDS.iter().any(|word| {
        code.match_indices(word).any(|(at, _)| {
            let mut rest = code[at + word.len()..].trim_start_matches(skip);
            // Options, such as `(FREEZE)`.
            if let Some((inside, after)) = rest.strip_prefix('(').and_then(|r| r.split_once(')'))
                && inside.chars().all(|c| skip(c) || c == ',')
            {
                rest = after.trim_start_matches(skip);
            }
            rest.starts_with('{')
        })
    })
}

#[test]
fn what_people_are_to_run_is_written_by_remedy_alone() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for (path, code) in modules().values().flatten() {
        let relative = path.strip_prefix(&src).unwrap().to_str().unwrap();
        let may = WRITES_SQL.iter().any(|part| relative.starts_with(part));
        assert!(may || !formats_sql(code), "{relative} formats a statement: use remedy");
    }
    assert!(formats_sql("format!(\"DROP INDEX CONCURRENTLY {};\", name)"));
    assert!(formats_sql("format!(\"VACUUM (FREEZE) {name}\")"));
    assert!(!formats_sql("\"drop it by ALTER TABLE ... {why}, since the last ANALYZE ({ago})\""));
}

#[test]
fn every_file_says_what_it_is_for_and_what_it_must_not_do() {
    let mut files = Vec::new();
    rust_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    for path in files {
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("//! "), "{} has no opening", path.display());
        let whole = path.ends_with("lib.rs") || path.ends_with("main.rs");
        assert!(whole || text.contains("//! Must not: "), "{} has no limits", path.display());
    }
}

#[test]
fn the_scanner_sees_what_it_must_see() {
    let code =
        "use crate::{pg::Session, metric::{Sink, Kind}, error};\nlet x = crate::http::run();";
    let want = ["error", "http", "metric", "pg"].map(String::from).into_iter().collect();
    assert_eq!(imports(code), want);
    assert!(names("use prometheus::proto;", "prometheus"));
    assert!(!names("x.our_prometheus::proto", "prometheus"));
}

/// The paths that a `use` names, its groups taken apart: `a::{b, c::d}` is `a::b` and `a::c::d`.
fn leaves(tree: &str, before: &[String], found: &mut Vec<Vec<String>>) {
    let mut depth = 0;
    let mut start = 0;
    let ends = tree.char_indices().filter_map(|(at, c)| {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        (c == ',' && depth == 0).then_some(at)
    });
    let ends: Vec<usize> = ends.chain([tree.len()]).collect();
    for end in ends {
        let item = tree[start..end].trim();
        start = end + 1;
        let segments = |path: &str| -> Vec<String> {
            let parts = path.split("::").map(|part| part.split(" as ").next().unwrap().trim());
            parts.filter(|part| !part.is_empty() && *part != "*").map(str::to_owned).collect()
        };
        match item.split_once('{') {
            _ if item.is_empty() => {}
            None => found.push([before, &segments(item)].concat()),
            Some((head, rest)) => {
                let inside = rest.strip_suffix('}').unwrap_or(rest);
                leaves(inside, &[before, &segments(head)].concat(), found);
            }
        }
    }
}

/// All paths from `crate`, `self` and `super`, and those of `use`.
fn paths(code: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("use ") {
        let line = code[..at].rsplit('\n').next().unwrap().trim();
        if line.is_empty() || line.starts_with("pub") {
            let tree = code[at + 4..].split(';').next().unwrap();
            leaves(tree, &[], &mut found);
        }
    }
    for root in ["crate::", "super::", "self::"] {
        for (at, _) in code.match_indices(root) {
            let path: String = code[at..]
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_' || *c == ':')
                .collect();
            found.push(path.split("::").filter(|s| !s.is_empty()).map(str::to_owned).collect());
        }
    }
    found
}

/// The module that a file is, from the crate down.
fn module_of(path: &Path) -> Vec<String> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let relative = path.strip_prefix(&src).unwrap().with_extension("");
    let mut module: Vec<String> =
        relative.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
    if module.last().is_some_and(|last| last == "mod" || last == "lib") {
        module.pop();
    }
    module
}

/// A path as from the crate down, in a file of this module.
fn absolute(module: &[String], path: &[String]) -> Vec<String> {
    let mut base = module.to_vec();
    let mut rest = path;
    match rest.first().map(String::as_str) {
        Some("crate") => (base, rest) = (Vec::new(), &rest[1..]),
        Some("self") => rest = &rest[1..],
        _ => {
            while rest.first().is_some_and(|first| first == "super") {
                base.pop();
                rest = &rest[1..];
            }
        }
    }
    [base, rest.to_vec()].concat()
}

/// A folder's files may use what its `mod.rs` holds, and it uses them: that is one thing in several files. Anything
/// else that leads back to where it began is a circle.
#[test]
fn files_use_each_other_in_no_circle() {
    let files: BTreeMap<Vec<String>, String> = modules()
        .into_values()
        .flatten()
        .map(|(path, code)| (module_of(&path), code))
        .filter(|(module, _)| !module.is_empty() && *module != ["main"])
        .collect();
    let mut uses: BTreeMap<&[String], BTreeSet<&[String]>> = BTreeMap::new();
    for (module, code) in &files {
        for path in paths(code) {
            let path = absolute(module, &path);
            let known = (1..=path.len()).rev().find_map(|n| files.get_key_value(&path[..n]));
            let Some((used, _)) = known else { continue };
            if used != module && !module.starts_with(used) {
                uses.entry(module).or_default().insert(used);
            }
        }
    }
    let count: usize = uses.values().map(BTreeSet::len).sum();
    assert!(count > 900, "the uses were not found: {count}");
    // What uses nothing that is left is in no circle.
    loop {
        let left: BTreeSet<&[String]> = uses.keys().copied().collect();
        uses.values_mut().for_each(|used| used.retain(|used| left.contains(used)));
        uses.retain(|_, used| !used.is_empty());
        if uses.len() == left.len() {
            break;
        }
    }
    assert!(uses.is_empty(), "circles, and what leads into them: {uses:#?}");
    let code = "use super::{a::{self, B}, c as d};\npub(crate) use e;\nlet x = crate::f::g();";
    let found: BTreeSet<String> = paths(code).iter().map(|path| path.join("::")).collect();
    for path in ["super::a::self", "super::a::B", "super::c", "e", "crate::f::g"] {
        assert!(found.contains(path), "{path}: {found:?}");
    }
}

/// Names that mean one thing in each module, always named by it: the associated types of collectors.
const ONE_EACH: &[&str] = &["Rows", "State"];

/// Names of the types that a file declares.
fn declared(code: &str) -> impl Iterator<Item = &str> {
    code.lines().filter_map(|line| {
        let line = line.trim_start();
        let line = match line.strip_prefix("pub") {
            None => line,
            Some(rest) => rest.split_once(' ').map_or(rest, |(_, rest)| rest),
        };
        let words = ["struct ", "enum "];
        let rest = words.iter().find_map(|word| line.strip_prefix(word))?;
        rest.split(|c: char| !c.is_alphanumeric() && c != '_').next()
    })
}

#[test]
fn a_name_of_a_type_has_one_meaning() {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (path, code) in modules().values().flatten() {
        for name in declared(code).filter(|name| !ONE_EACH.contains(name)) {
            places.entry(name.to_owned()).or_default().push(path.display().to_string());
        }
    }
    assert!(places.len() > 600, "the types were not found: {}", places.len());
    places.retain(|_, places| places.len() > 1);
    assert!(places.is_empty(), "the same name for different things: {places:#?}");
    let code = "pub(super) struct One<'a> {\n    Two,\n}\n  enum Three {}\nlet structure = 1;";
    assert_eq!(declared(code).collect::<Vec<_>>(), ["One", "Three"]);
}

/// A comment says what the name does not.
#[test]
fn no_comment_only_repeats_a_name() {
    let mut files = Vec::new();
    rust_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    for path in files {
        for (number, line) in std::fs::read_to_string(&path).unwrap().lines().enumerate() {
            let empty = ["/// The collector.", "/// Everything."];
            assert!(!empty.contains(&line.trim()), "{}:{}: {line}", path.display(), number + 1);
        }
    }
}
