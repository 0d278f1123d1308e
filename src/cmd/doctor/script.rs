//! One script for psql that fixes what SQL can fix, with the role to run it as; what it cannot is a comment.
//!
//! Must not: run anything against a server that it is not for, or let a name end a comment.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::{Examined, object, sql};
use crate::cmd::words::counted;
use crate::remedy::text::one_line;
use crate::remedy::{Remedy, Script};

pub(super) fn render(all: &[Examined]) -> String {
    let with_sql: Vec<&Examined> =
        all.iter().filter(|e| e.defects().any(|found| sql(found).is_some())).collect();
    let mut out = String::from("-- pgrunway doctor.\n");
    if all.iter().all(|e| e.defects().next().is_none()) {
        out.push_str("-- Nothing to do.\n");
        return out;
    }
    out.push_str(
        "-- Nothing has been executed. Read it, then run it, not inside a transaction, as a superuser of the server:\n\
         --   psql -X -v ON_ERROR_STOP=1 -d postgres -f THIS_FILE\n\
         -- What says \"restart\" takes effect when the server is restarted. Then run pgrunway doctor again: what was \
         hidden\n-- behind a step that failed shows then.\n",
    );
    let several = all.len() > 1;
    for examined in all.iter().filter(|e| e.defects().next().is_some()) {
        let count = counted(examined.defects().count(), "defect");
        let target = one_line(&examined.target);
        let _ = writeln!(out, "\n-- Target {}, {target}: {count}.", one_line(examined.title()));
        if several && with_sql.iter().any(|e| e.target == examined.target) {
            match &examined.host {
                Some((host, port)) => {
                    let _ = writeln!(out, "{}", at(host, *port));
                }
                None => {
                    out.push_str("-- It is reached by a socket of its machine: run this part there.\n\\quit\n");
                }
            }
        }
        one(&mut out, examined);
    }
    out
}

fn one(out: &mut String, examined: &Examined) {
    let mut printed = BTreeSet::new();
    for found in examined.defects() {
        let finding = &found.finding;
        let _ = writeln!(
            out,
            "\n-- {} {}: {}: {}",
            finding.severity.word(),
            found.rule.id,
            one_line(&object(found)),
            one_line(&finding.evidence)
        );
        if !finding.advice.is_empty() {
            let _ = writeln!(out, "-- {}", one_line(&finding.advice));
        }
        match &finding.remedy {
            Some(Remedy::Sql(script)) => {
                let text = script.to_string();
                if !printed.insert(text.clone()) {
                    out.push_str("-- The same as above.\n");
                    continue;
                }
                let datname = &script.head.database;
                if one_line(datname) != *datname {
                    // A control character would end the line.
                    let _ = writeln!(out, "-- Connect to {} by hand.\n\\quit", one_line(datname));
                } else if !datname.is_empty() {
                    let _ = writeln!(out, "{}", Script::connect(datname));
                }
                out.push_str(&text);
            }
            Some(other) => {
                let _ = writeln!(out, "-- By hand: {}", one_line(&other.text()));
            }
            None => {}
        }
    }
}

/// psql's command that goes to another server, as the same user.
fn at(host: &str, port: u16) -> String {
    let quoted = host.replace('\\', "\\\\").replace('\'', "\\'").replace('"', "\"\"");
    format!(
        "\\connect -reuse-previous=on \"host='{}' port='{port}' dbname='postgres'\"",
        one_line(&quoted)
    )
}
