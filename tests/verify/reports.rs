//! The forms of the report, each read by another program than the one that wrote it.
//!
//! Must not: compare whole reports; times and versions differ.

use roxmltree::{Document, Node};

use super::common;
use super::gate::{self, Gate};

/// A table whose name would end a cell, a fence, an attribute and a line, and an index with a fault.
const HOSTILE: &str = "CREATE TABLE \"<b>&\x1b[31m|```\n'x\" (a int NOT NULL);
    ALTER TABLE \"<b>&\x1b[31m|```\n'x\" ADD CONSTRAINT \"]]> \u{202e}\" CHECK (a > 0) NOT VALID;
    CREATE TABLE fine (a int); ALTER TABLE fine ADD CHECK (a > 0) NOT VALID;";

const NAME: &str = "public.<b>&\x1b[31m|```\n'x";

/// What Jenkins' schema for JUnit allows: elements in their order, attributes and their types.
fn hold_to_schema(document: &Document<'_>) {
    let elements = |node: Node<'_, '_>| -> Vec<String> {
        node.children().filter(Node::is_element).map(|n| n.tag_name().name().to_owned()).collect()
    };
    let number = |node: Node<'_, '_>, name: &str| -> usize {
        node.attribute(name).unwrap_or_else(|| panic!("no {name}")).parse().unwrap()
    };
    let root = document.root_element();
    assert_eq!(root.tag_name().name(), "testsuites");
    assert_eq!(root.attribute("name"), Some("pgrunway verify"));
    let mut sums = [0; 4];
    for suite in root.children().filter(Node::is_element) {
        assert_eq!(suite.tag_name().name(), "testsuite");
        assert!(suite.attribute("time").unwrap().parse::<f64>().unwrap() >= 0.0);
        let at = suite.attribute("timestamp").unwrap();
        assert!(at.len() == 19 && at.as_bytes()[10] == b'T', "{at}");
        let mut own = [0; 4];
        for case in suite.children().filter(Node::is_element) {
            assert_eq!(case.tag_name().name(), "testcase");
            for name in ["name", "classname", "time"] {
                assert!(case.attribute(name).is_some_and(|v| !v.is_empty()), "{name}");
            }
            own[0] += 1;
            let mut parts = elements(case);
            if parts.last().is_some_and(|last| last == "system-out") {
                parts.pop();
            }
            match parts.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
                [] => {}
                ["failure"] => own[1] += 1,
                ["error"] => own[2] += 1,
                ["skipped"] => own[3] += 1,
                other => panic!("{other:?}"),
            }
        }
        for (sum, (name, n)) in
            sums.iter_mut().zip(["tests", "failures", "errors", "skipped"].into_iter().zip(own))
        {
            assert_eq!(number(suite, name), n, "{name}");
            *sum += n;
        }
    }
    for (name, n) in ["tests", "failures", "errors", "skipped"].into_iter().zip(sums) {
        assert_eq!(number(root, name), n, "{name}");
    }
}

#[tokio::test]
async fn each_form_holds_whatever_the_names_are() {
    let cluster = common::server().await;
    let expected =
        "verify:\n  queries:\n  - {name: '<&>', database: postgres, sql: SELECT nothing}\n";
    let gate = Gate::new(&cluster, expected);
    gate.sql("postgres", HOSTILE).await;
    let args = ["--only", "constraint,partition.pruning,settings.autovacuum,partition.missing"];
    let of = async |more: &[&str]| {
        let mut all = args.to_vec();
        all.extend(more);
        gate.verify(&all).await
    };

    let (code, xml, _) = of(&["--format=junit", "--fail-on=warning"]).await;
    assert_eq!(code, 1);
    let document = Document::parse(&xml).unwrap_or_else(|e| panic!("{e}: {xml}"));
    hold_to_schema(&document);
    let case = |name: &str| {
        let mut all = document.descendants().filter(|n| n.attribute("name") == Some(name));
        all.next().unwrap_or_else(|| panic!("{name}"))
    };
    let invalid = case("constraint.not_valid");
    assert_eq!(invalid.attribute("classname"), Some("pgrunway.verify.database postgres"));
    let failure = invalid.first_element_child().unwrap();
    assert_eq!(failure.attribute("type"), Some("warning"));
    let message = failure.attribute("message").unwrap();
    assert!(message.ends_with("(and 1 more)"), "{message}");
    let text = failure.text().unwrap();
    assert!(text.contains("ALTER TABLE public.fine VALIDATE CONSTRAINT fine_a_check;"), "{text}");
    assert!(text.contains("U&\"<b>&\\001B[31m|```\\000A'x\""), "{text}");
    assert!(text.contains("U&\"]]> \\202E\""), "{text}");
    let error = case("partition.pruning").first_element_child().unwrap();
    assert_eq!(error.tag_name().name(), "error");
    assert!(error.attribute("message").unwrap().starts_with("<&>: query failed"));
    assert_eq!(
        case("partition.missing").first_element_child().unwrap().tag_name().name(),
        "skipped"
    );

    // Below what fails, findings are told and do not fail.
    let (code, xml, _) = of(&["--format=junit", "--skip=partition"]).await;
    assert_eq!(code, 0);
    let document = Document::parse(&xml).unwrap();
    hold_to_schema(&document);
    assert_eq!(document.root_element().attribute("failures"), Some("0"));
    assert!(xml.contains("public.fine: CHECK fine_a_check is NOT VALID"), "{xml}");

    let (_, report) = gate.json(&args).await;
    let objects: Vec<String> = gate::found(&report).into_iter().map(|(_, object)| object).collect();
    assert_eq!(objects, [NAME, "public.fine"]);
    assert_eq!(report["fail_on"], "critical");
    assert_eq!(report["server"]["databases"], serde_json::json!(["postgres"]));

    // Standard output is no terminal here: no colours, and no control characters of a name.
    let (_, text, _) = of(&[]).await;
    assert!(text.contains("public.<b>&\\u{1b}[31m|```\\n'x in postgres\n"), "{text}");
    assert!(!text.chars().any(|c| c.is_control() && c != '\n' || c == '\u{202e}'), "{text}");
    let head: Vec<&str> = text.lines().take(2).collect();
    assert!(
        head[0]
            .starts_with("pgrunway verify: UNCHECKED, 0 critical, 2 warnings, 1 check incomplete")
    );
    assert!(head[1].starts_with("PostgreSQL 1") && head[1].contains("database postgres"));

    let (_, markdown, _) = of(&["--format=markdown"]).await;
    assert!(
        markdown.contains("public.&lt;b&gt;&amp;\\\\u{1b}\\[31m\\|\\`\\`\\`\\\\n'x"),
        "{markdown}"
    );
    assert!(markdown.contains("````sql\n-- pgrunway: "), "{markdown}");
    assert!(markdown.contains("\nALTER TABLE public.U&\"<b>&\\001B[31m|```"), "{markdown}");
    let cells = |line: &str| line.replace("\\|", "").matches('|').count();
    for line in markdown.lines().filter(|line| line.starts_with('|')) {
        assert_eq!(cells(line), 5, "{line}");
    }

    // What is printed runs, the name with its escapes included.
    for (database, _, sql) in gate::fixes(&report) {
        gate.sql(&database, &sql).await;
    }
    let (_, report) = gate.json(&["--only", "constraint"]).await;
    assert_eq!(gate::found(&report), []);
    let path = gate.path("report.xml");
    let (code, out, _) = of(&["--skip=partition", "--format=junit", "--output", &path]).await;
    assert_eq!((code, out.as_str()), (0, ""));
    hold_to_schema(&Document::parse(&std::fs::read_to_string(&path).unwrap()).unwrap());
}

#[tokio::test]
async fn the_list_needs_no_server() {
    let (code, out, err) = common::process::run(&["verify", "--list"], &[]).await;
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(out.lines().count(), pgrunway::cmd::verify::all().count());
    for check in pgrunway::cmd::verify::all() {
        assert!(out.lines().any(|l| l.starts_with(check.id) && l.contains(check.finds)), "{out}");
    }
}
