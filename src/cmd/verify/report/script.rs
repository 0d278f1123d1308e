//! The SQL of all findings as a script for psql, each with what it is for.
//!
//! Must not: delete data unless somebody takes the comment away.

use std::fmt::Write;

use super::super::Run;
use super::super::sql::one_line;
use super::counts;

/// A database's name inside the quotes of a connection string inside those of psql.
fn connect(datname: &str) -> String {
    let value = datname.replace('\\', "\\\\").replace('\'', "\\'");
    let argument = format!("dbname='{value}'").replace('"', "\"\"");
    format!("\\connect -reuse-previous=on \"{argument}\"")
}

pub(super) fn render(run: &Run) -> String {
    let mut out = format!(
        "-- pgrunway verify on {}: {}.\n\
         -- Nothing has been executed. Read it, then run it as a superuser or as the tables' owner, not \
         inside\n-- a transaction: psql -X -v ON_ERROR_STOP=1 -f THIS_FILE\n",
        one_line(&run.target),
        counts(run)
    );
    let mut at: Option<&str> = None;
    for outcome in &run.outcomes {
        let datname = outcome.database.as_deref().unwrap_or(&run.server.datname);
        for finding in &outcome.found.findings {
            if !finding.mend.is_empty() && at != Some(datname) {
                // Control characters would end the line.
                let name = if one_line(datname) == datname {
                    connect(datname)
                } else {
                    format!("-- Connect to {} by hand.\n\\quit", one_line(datname))
                };
                let _ = writeln!(out, "\n{name}");
                at = Some(datname);
            }
            let _ = writeln!(
                out,
                "\n-- {} {}: {}: {}.",
                finding.severity.word(),
                outcome.check.id,
                one_line(&finding.object),
                one_line(&finding.found)
            );
            if let Some(caution) = &finding.caution {
                let _ = writeln!(out, "-- {}", one_line(caution));
            }
            for statement in &finding.mend {
                for line in statement.lines() {
                    let head = if finding.deletes { "-- " } else { "" };
                    let _ = writeln!(out, "{head}{line}");
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::connect;

    #[test]
    fn names_of_databases_are_quoted_twice() {
        assert_eq!(connect("shop"), "\\connect -reuse-previous=on \"dbname='shop'\"");
        assert_eq!(
            connect("a'b\"c\\d"),
            "\\connect -reuse-previous=on \"dbname='a\\'b\"\"c\\\\d'\""
        );
    }
}
