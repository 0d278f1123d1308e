//! What a rule finds, as reports show it, and which rules were asked for.
//!
//! Must not: know a single rule by name, or send a query.

use std::time::Duration;

use crate::config::suggest;
use crate::error::ConfigError;
pub use crate::findings::Severity;
use crate::findings::{self, Figure, Rule, Subject, When};
use crate::remedy::text::tame;
use crate::remedy::{Remedy, Script};

/// One thing that is not as it should be.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckFinding {
    /// At most that of its rule.
    pub severity: Severity,
    /// The kind of what it is about: `relation`.
    pub subject: &'static str,
    /// What it is about: `public.orders`, as in the labels of the metrics.
    pub object: String,
    /// What was found: a sentence without a full stop.
    pub found: String,
    /// The figures of that.
    pub figures: Vec<Figure>,
    /// SQL that fixes it, for psql: a whole script, or statement by statement; empty where none can.
    pub fix: Vec<String>,
    /// The command that prints that SQL, where one does.
    pub command: Option<String>,
    /// The same, typed, where `remedy` makes it.
    pub remedy: Option<Remedy>,
    /// What to know before running it.
    pub caution: Option<String>,
    /// Whether it deletes rows.
    pub deletes: bool,
}

impl CheckFinding {
    /// As a rule has it. `place` stands for the database or the server as a whole.
    pub fn new(found: findings::Finding, place: &str) -> Self {
        let object = match &found.subject {
            Subject::Server => "server".to_owned(),
            subject => subject.name().unwrap_or_else(|| place.to_owned()),
        };
        let finding = Self {
            severity: found.severity,
            subject: found.subject.kind(),
            object,
            found: found.evidence.trim_end_matches('.').to_owned(),
            figures: found.figures,
            fix: Vec::new(),
            command: None,
            remedy: None,
            caution: (!found.advice.is_empty()).then_some(found.advice),
            deletes: false,
        };
        match found.remedy {
            None => finding,
            Some(Remedy::Sql(script)) => finding.remedy(*script),
            Some(Remedy::Shell(command)) => {
                let command = command.to_string();
                Self { command: Some(command), ..finding }
            }
            Some(Remedy::Prose(words)) => finding.also(words),
        }
    }

    /// Adds SQL that fixes it.
    pub fn fix(mut self, statement: impl AsRef<str>) -> Self {
        self.fix.push(tame(statement.as_ref()));
        self
    }

    /// Adds the script that fixes it.
    pub fn remedy(mut self, script: Script) -> Self {
        self.fix = vec![script.to_string()];
        self.deletes = script.head.deletes.is_some();
        self.remedy = Some(script.into());
        self
    }

    /// Says what to know before running that.
    pub fn caution(mut self, text: impl Into<String>) -> Self {
        self.caution = Some(text.into());
        self
    }

    /// Says more of what to know.
    pub fn also(mut self, text: impl AsRef<str>) -> Self {
        let text = text.as_ref();
        self.caution = Some(match self.caution.take() {
            Some(before) if !before.is_empty() => format!("{before} {text}"),
            _ => text.to_owned(),
        });
        self
    }
}

/// What one check brought to light.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CheckFound {
    /// What was looked at, with figures: `19 indexes expected, 19 present`.
    pub summary: String,
    /// What is wrong.
    pub findings: Vec<CheckFinding>,
    /// What could not be looked at, and why; the rest was.
    pub unchecked: Option<String>,
    /// Why there was nothing to do.
    pub skipped: Option<String>,
}

impl CheckFound {
    /// What was looked at.
    pub fn new(summary: impl Into<String>, findings: Vec<CheckFinding>) -> Self {
        Self { summary: summary.into(), findings, ..Self::default() }
    }

    /// There was nothing to do.
    pub fn skipped(why: impl Into<String>) -> Self {
        Self { skipped: Some(why.into()), ..Self::default() }
    }
}

/// What came of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// A finding weighs as much as `--fail-on` says, or more.
    Failed,
    /// It could not be made, or not wholly.
    Unchecked,
    /// There are findings, and none of them fails.
    Remarked,
    /// Nothing was found.
    Passed,
    /// Nothing to do.
    Skipped,
}

impl Status {
    /// The word in reports.
    pub fn word(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Unchecked => "unchecked",
            Self::Remarked => "remarked",
            Self::Passed => "passed",
            Self::Skipped => "skipped",
        }
    }
}

/// One check on one database, or on the server.
#[derive(Debug, Clone)]
pub struct CheckOutcome {
    /// The rule.
    pub rule: &'static Rule,
    /// The database; `None` for the server.
    pub database: Option<String>,
    /// What it found.
    pub found: CheckFound,
    /// How long it took.
    pub took: Duration,
}

impl CheckOutcome {
    /// Judged by the lightest severity that fails.
    pub fn status(&self, fail_on: Severity) -> Status {
        let found = &self.found;
        if found.findings.iter().any(|f| f.severity >= fail_on) {
            Status::Failed
        } else if found.unchecked.is_some() {
            Status::Unchecked
        } else if found.skipped.is_some() {
            Status::Skipped
        } else if found.findings.is_empty() {
            Status::Passed
        } else {
            Status::Remarked
        }
    }
}

/// Which checks run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// If not empty, only these: ids or groups.
    pub only: Vec<String>,
    /// Never these.
    pub skip: Vec<String>,
    /// These as well, of those that run on request.
    pub with: Vec<String>,
}

/// Whether a pattern means a check: its id, or a prefix that ends at a dot or an underscore.
fn means(pattern: &str, id: &str) -> bool {
    id.strip_prefix(pattern).is_some_and(|rest| {
        rest.is_empty() || pattern.ends_with('.') || rest.starts_with(['.', '_'])
    })
}

impl Selection {
    /// With the ids that rules have now in place of former ones, and what to say of each. That a former id
    /// is understood ends with the next release.
    pub fn current(&self, all: &[&'static Rule]) -> (Self, Vec<String>) {
        let mut notes = Vec::new();
        let mut of = |flag: &str, patterns: &[String]| {
            let mut current = Vec::new();
            for pattern in patterns {
                let named = pattern.trim();
                let known = all.iter().any(|rule| means(named, rule.id));
                let former = |rule: &&Rule| {
                    let named = |id: &&str| !named.is_empty() && means(named, id);
                    rule.formerly.iter().any(named) && all.iter().any(|r| r.id == rule.id)
                };
                let ids: Vec<&str> = findings::all().filter(former).map(|rule| rule.id).collect();
                if known || ids.is_empty() {
                    current.push(pattern.clone());
                    continue;
                }
                let now = ids.join(", ");
                notes.push(format!(
                    "{flag} {named}: the id is {now} now; the former one is understood until the next release"
                ));
                current.extend(ids.into_iter().map(str::to_owned));
            }
            current
        };
        let selection = Self {
            only: of("--only", &self.only),
            skip: of("--skip", &self.skip),
            with: of("--with", &self.with),
        };
        (selection, notes)
    }

    /// Refuses what means no check.
    ///
    /// # Errors
    /// The flag, the pattern, and the nearest id.
    pub fn validate(&self, all: &[&'static Rule]) -> Result<(), ConfigError> {
        for (flag, patterns) in
            [("--only", &self.only), ("--skip", &self.skip), ("--with", &self.with)]
        {
            for pattern in patterns {
                let named = pattern.trim();
                if !named.is_empty() && all.iter().any(|c| means(named, c.id)) {
                    continue;
                }
                let names = all.iter().flat_map(|c| [c.id, c.group()]);
                let remedy = match suggest::nearest(named, names) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "`pgrunway verify --list` lists them".to_owned(),
                };
                let problem = if suggest::printable(named) {
                    format!("there is no check `{named}`")
                } else {
                    "there is no such check".to_owned()
                };
                return Err(ConfigError::new(flag, problem, remedy));
            }
        }
        Ok(())
    }

    /// Whether a check is to run.
    pub fn admits(&self, rule: &Rule) -> bool {
        let among = |list: &[String]| list.iter().any(|p| means(p.trim(), rule.id));
        // A group named by --only does not start what reads all data.
        let exactly = |list: &[String]| list.iter().any(|p| p.trim() == rule.id);
        let asked = rule.when == When::Always || among(&self.with) || exactly(&self.only);
        (self.only.is_empty() || among(&self.only)) && asked && !among(&self.skip)
    }
}

#[cfg(test)]
pub(super) mod fixtures {
    use super::*;

    /// A critical finding.
    pub fn finding(object: &str, found: &str) -> CheckFinding {
        CheckFinding {
            severity: Severity::Critical,
            subject: "relation",
            object: object.to_owned(),
            found: found.to_owned(),
            figures: Vec::new(),
            fix: Vec::new(),
            command: None,
            remedy: None,
            caution: None,
            deletes: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::findings::Part;

    const fn rule(id: &'static str, when: When) -> Rule {
        Rule {
            id,
            formerly: &[],
            title: "",
            severity: Severity::Warning,
            finds: "",
            why: "",
            source: "",
            alerts: &[],
            part: Part::Indexes,
            when,
            check: findings::Check::Database(|_| None),
        }
    }

    static MISSING: Rule = rule("index.missing", When::Always);
    static UNUSED: Rule = rule("index.unused", When::Always);
    static CORRUPT: Rule = rule("index.corrupt", When::OnRequest);
    static GAP: Rule = rule("partition.gap", When::Always);
    static KEY: Rule = rule("index.foreign_key", When::Always);
    static ALL: &[&Rule] = &[&MISSING, &UNUSED, &CORRUPT, &GAP, &KEY];

    #[test]
    fn ids_and_groups_select() {
        for (only, skip, with, want) in [
            ("", "", "", "missing unused gap foreign_key"),
            ("index", "", "", "missing unused foreign_key"),
            ("index.", "index.unused", "", "missing foreign_key"),
            ("index.foreign", "", "", "foreign_key"),
            ("", "index", "", "gap"),
            ("", "", "index.corrupt", "missing unused corrupt gap foreign_key"),
            ("index.corrupt", "", "", "corrupt"),
            ("partition", "", "index.corrupt", "gap"),
            (
                "index,partition.gap",
                "index.missing, index.unused",
                "index",
                "corrupt gap foreign_key",
            ),
        ] {
            let list =
                |t: &str| t.split(',').filter(|t| !t.is_empty()).map(str::to_owned).collect();
            let selection = Selection { only: list(only), skip: list(skip), with: list(with) };
            selection.validate(ALL).unwrap();
            let got: Vec<&str> = ALL
                .iter()
                .filter(|c| selection.admits(c))
                .map(|c| c.id.split('.').nth(1).unwrap())
                .collect();
            assert_eq!(got.join(" "), want, "{only} {skip} {with}");
        }
    }

    #[test]
    fn former_ids_and_groups_are_understood_and_noted() {
        let all: Vec<&'static Rule> = crate::cmd::verify::all().collect();
        let list = |t: &[&str]| t.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        let given = Selection {
            only: list(&["indexes.unused", "partition"]),
            skip: list(&["partitions"]),
            with: list(&["vacuum.overdue", "nothing"]),
        };
        let (now, notes) = given.current(&all);
        assert_eq!(now.only, ["index.unused", "partition"]);
        let partitions =
            ["runway", "default_rows", "retention", "many"].map(|p| format!("partition.{p}"));
        assert_eq!(now.skip, partitions);
        assert_eq!(now.with, ["vacuum.age", "nothing"]);
        assert_eq!(notes.len(), 3, "{notes:?}");
        assert!(
            notes[0].starts_with("--only indexes.unused: the id is index.unused now"),
            "{notes:?}"
        );
        let (same, notes) = now.current(&all);
        assert_eq!((same, notes.len()), (now, 0));
    }

    #[test]
    fn what_means_no_check_is_refused_with_the_nearest() {
        for (typed, said) in [
            ("index.mising", "no check `index.mising`; did you mean `index.missing`?"),
            ("indx", "did you mean `index`?"),
            ("index.miss", "`pgrunway verify --list`"),
            ("", "no such check"),
            ("\x1b[31m", "no such check"),
        ] {
            let selection = Selection { skip: vec![typed.to_owned()], ..Selection::default() };
            let e = selection.validate(ALL).unwrap_err().to_string();
            assert!(e.starts_with("--skip: ") && e.contains(said), "{typed:?}: {e}");
        }
    }

    #[test]
    fn the_status_depends_on_what_fails() {
        let outcome = |found: CheckFound| CheckOutcome {
            rule: &MISSING,
            database: None,
            found,
            took: Duration::ZERO,
        };
        let one = |severity| CheckFinding { severity, ..fixtures::finding("x", "y") };
        let warning = || one(Severity::Warning);
        let warned = outcome(CheckFound::new("", vec![warning()]));
        assert_eq!(warned.status(Severity::Critical), Status::Remarked);
        assert_eq!(warned.status(Severity::Warning), Status::Failed);
        let info = outcome(CheckFound::new("", vec![one(Severity::Info)]));
        assert_eq!(info.status(Severity::Warning), Status::Remarked);
        let half =
            CheckFound { unchecked: Some("half".into()), ..CheckFound::new("", vec![warning()]) };
        assert_eq!(outcome(half.clone()).status(Severity::Critical), Status::Unchecked);
        assert_eq!(outcome(half).status(Severity::Warning), Status::Failed);
        assert_eq!(outcome(CheckFound::skipped("no")).status(Severity::Warning), Status::Skipped);
        assert_eq!(outcome(CheckFound::new("2", vec![])).status(Severity::Warning), Status::Passed);
    }
}
