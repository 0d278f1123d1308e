//! The rule about extensions whose files are of another version than what is installed.
//!
//! Must not: say that an update is safe; an extension's own notes do.

use super::facts::DatabaseFacts;
use super::{Check, Finding, Part, Rule, Severity, Subject, Verdict, When};
use crate::remedy::setting::update_extension;

pub(super) static RULES: &[&Rule] = &[&Rule {
    id: "extension.outdated",
    formerly: &[],
    title: "Update extensions",
    severity: Severity::Info,
    finds: "an extension is installed in another version than that of the files on the server",
    why: "After an upgrade of the packages its objects stay those of the old version until somebody updates them: what \
          was fixed or added is missing, and some old versions end with the next major.",
    source: "pg_extension.extversion, pg_available_extensions.default_version",
    alerts: &[],
    part: Part::Extensions,
    when: When::Always,
    check: Check::Database(outdated),
}];

fn outdated(d: &DatabaseFacts) -> Verdict {
    let found = d.extensions.as_ref()?.iter().filter(|e| e.installed != e.available).map(|e| {
        let evidence = format!("Version {} is installed, {} is there.", e.installed, e.available);
        Finding::new(Subject::Extension(e.name.clone()), evidence)
            .advice("Read its notes first: an update may rebuild or lock what depends on it.")
            .remedy(update_extension(&d.datname, &e.name))
    });
    Some(found.collect())
}
