//! What the rules found, on the status page: the worst first, each with its evidence and its remedy.
//!
//! Must not: judge, or put a finding into other words than `verify` and `report` have for it.

use maud::{Markup, html};

use crate::findings::{Check, Reported, Severity};
use crate::remedy::{Command, Remedy};
use crate::snapshot::Snapshot;

/// A finding and the database that it was found in.
type PlacedFinding<'a> = (Option<&'a str>, &'a Reported);

/// All of a target, the worst first.
fn worst_first(snapshot: &Snapshot) -> Vec<PlacedFinding<'_>> {
    let mut all: Vec<PlacedFinding<'_>> = snapshot
        .findings
        .iter()
        .flat_map(|f| f.reported.iter().map(|one| (f.datname.as_deref(), one)))
        .collect();
    all.sort_by_key(|(_, one)| std::cmp::Reverse(one.finding.severity));
    all
}

/// How many there are of each severity: `1 critical, 2 warning`.
pub(super) fn counts(snapshot: &Snapshot) -> String {
    let all = worst_first(snapshot);
    let each = [Severity::Critical, Severity::Warning, Severity::Info].map(|severity| {
        let count = all.iter().filter(|(_, one)| one.finding.severity == severity).count();
        (count > 0).then(|| format!("{count} {}", severity.word()))
    });
    each.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// The section; nothing where nothing was found.
pub(super) fn section(snapshot: &Snapshot) -> Markup {
    let all = worst_first(snapshot);
    html! {
        @if !all.is_empty() {
            h2 id="findings" { "Findings" }
            table {
                tr { th { "Severity" } th { "Where" } th { "What, and what to do" } }
                @for (datname, one) in &all { (row(*datname, one)) }
            }
        }
    }
}

fn row(datname: Option<&str>, Reported { rule, finding }: &Reported) -> Markup {
    let class = if finding.severity == Severity::Info { "" } else { "bad" };
    let about = finding.subject.name();
    html! {
        tr {
            td { span class=(class) { (finding.severity.word()) } }
            td { (datname.unwrap_or("(server)")) @if let Some(name) = &about { br; code { (name) } } }
            td {
                code { (rule.id) } ": " (finding.evidence) " " (finding.advice)
                @match &finding.remedy {
                    Some(Remedy::Sql(script)) => {
                        details { summary { "SQL" } pre { (script.body()) } }
                    },
                    Some(remedy) => { pre { (remedy.text()) } },
                    None => {},
                }
                @if !matches!(rule.check, Check::Pooler(_) | Check::Waits(_) | Check::Access(_)) {
                    br; small { "With all that is known: "
                        code { (Command::verify(rule.id, datname)) } }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::findings::{self, Counted, Judgement, ServerFacts, Setting};
    use crate::snapshot::Findings;

    fn found() -> Snapshot {
        let settings = [
            ("fsync", Setting::Flag(false)),
            ("track_io_timing", Setting::Flag(false)),
            ("pg_stat_statements.max", Setting::Number(100.0)),
        ];
        let server = ServerFacts {
            datname: "shop<b>".to_owned(),
            settings: settings.map(|(name, value)| (name.to_owned(), value)).into(),
            evictions: Some(Counted { amount: 7.0, span: 60.0 }),
            ..ServerFacts::default()
        };
        let reported: Arc<[Reported]> = Judgement::of(&server).reported.into();
        Snapshot { findings: vec![Findings { datname: None, reported }], ..Snapshot::default() }
    }

    #[test]
    fn every_finding_stands_there_with_its_remedy_the_worst_first() {
        let snapshot = found();
        let html = section(&snapshot).into_string();
        let ids: Vec<&str> = snapshot.findings[0].reported.iter().map(|r| r.rule.id).collect();
        assert!(ids.contains(&"statements.max"), "{ids:?}");
        for Reported { rule, finding } in snapshot.findings[0].reported.iter() {
            assert!(html.contains(&format!("<code>{}</code>: ", rule.id)), "{html}");
            assert!(html.contains(&maud::html! { (finding.evidence) }.into_string()), "{html}");
        }
        assert!(html.contains("pgrunway verify --only statements.max"), "{html}");
        assert!(
            html.contains("ALTER SYSTEM SET &quot;pg_stat_statements.max&quot;")
                || html.contains("ALTER SYSTEM SET pg_stat_statements.max"),
            "{html}"
        );
        let place = |word: &str| html.find(&format!(">{word}<"));
        let (critical, warning) = (place("critical"), place("warning"));
        assert!(critical.is_none() || critical < warning, "{html}");
        assert!(findings::rule("statements.max").is_some());
        assert!(counts(&snapshot).contains("warning"), "{}", counts(&snapshot));
        assert_eq!(section(&Snapshot::default()).into_string(), "");
    }
}
