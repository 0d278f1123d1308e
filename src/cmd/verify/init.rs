//! `pgrunway verify --init`: expectations from databases as they stand, as YAML for `pgrunway.yml`.
//!
//! Must not: write a line that the configuration would refuse, or that the database does not meet.

use std::fmt::Write;

use super::parts::counted;
use super::visited;
use crate::collector::Collector;
use crate::collectors::partitions::{self, Partitions};
use crate::config::Config;
use crate::pg::{Clock, Row, Session, Uncut, columns};
use crate::remedy::text::one_line;

/// Indexes of tables that are no partitions, with the statement that creates each.
const INDEXES: &str = "\
SELECT n.nspname::text AS schema, t.relname::text AS tab, c.relname::text AS name,
       i.indisvalid AND i.indisready AND i.indislive AS usable,
       pg_catalog.left(CASE WHEN k.oid IS NULL THEN pg_catalog.pg_get_indexdef(c.oid)
            ELSE pg_catalog.format('ALTER TABLE %I.%I ADD CONSTRAINT %I %s', n.nspname, t.relname,
                                   k.conname, pg_catalog.pg_get_constraintdef(k.oid))
       END, 16385) AS definition
  FROM pg_catalog.pg_index i
  JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
  JOIN pg_catalog.pg_class t ON t.oid = i.indrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace
  LEFT JOIN pg_catalog.pg_constraint k ON k.conindid = c.oid AND k.contype IN ('p', 'u', 'x')
 WHERE NOT t.relispartition AND t.relkind IN ('r', 'm', 'p') AND t.relpersistence <> 't'
   AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
 ORDER BY 1, 2, c.relkind = 'I' DESC, k.contype IS DISTINCT FROM 'p', 3";

/// A value as YAML has it: plain where it cannot be taken for anything else.
fn scalar(text: &str) -> String {
    let first = text.chars().next();
    let plain = first.is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.'))
        && !["true", "false", "null", "yes", "no", "on", "off", "y", "n"]
            .contains(&text.to_ascii_lowercase().as_str());
    if plain {
        text.to_owned()
    } else if one_line(text) == text {
        format!("'{}'", text.replace('\'', "''"))
    } else {
        // A JSON string is one of YAML's too, but for two line ends of Unicode's.
        let json = serde_json::Value::from(text).to_string();
        json.chars()
            .map(|c| match c {
                c if c.is_ascii() || c.is_alphanumeric() => c.to_string(),
                c if u32::from(c) <= 0xffff => format!("\\u{:04X}", u32::from(c)),
                c => c.to_string(),
            })
            .collect()
    }
}

/// Why a table or database cannot be named in a rule.
fn inexpressible(database: &str, schema: &str, table: &str) -> Option<&'static str> {
    let all = [database, schema, table];
    if all.iter().any(|name| name.contains(['*', '?'])) {
        Some("a rule would take `*` and `?` for wildcards")
    } else if schema.contains('.') {
        Some("a rule takes what is before the first dot for the schema")
    } else {
        None
    }
}

/// One item of a list, or a comment where it cannot be told.
fn item(out: &mut String, why: Option<&str>, keys: &[(&str, String)]) {
    let head = if why.is_some() { "# " } else { "" };
    if let Some(why) = why {
        let _ = writeln!(out, "# Left out: {why}.");
    }
    for (at, (key, value)) in keys.iter().enumerate() {
        let lead = if at == 0 { "- " } else { "  " };
        let _ = writeln!(out, "{head}{lead}{key}: {value}");
    }
}

pub(super) async fn text(config: &Config, databases: &[String]) -> anyhow::Result<String> {
    let settings = config.settings().clone();
    let clock = Clock::start();
    let home = Session::connect(config.connect(), None, settings.clone(), clock).await?;
    let (names, missing) = visited(&home, config, databases).await?;
    home.close().await;
    if let Some(missing) = missing.first() {
        anyhow::bail!("the server has no database {}", one_line(missing));
    }
    let (mut indexes, mut partitions) = (String::new(), String::new());
    let mut count = 0;
    for datname in &names {
        let session =
            Session::connect(config.connect(), Some(datname), settings.clone(), clock).await?;
        count += write_indexes(&session, &mut indexes).await?;
        write_partitions(&session, &mut partitions).await?;
        session.close().await;
    }
    let mut out = format!(
        "# Expectations written by pgrunway {} verify --init: {}, which must go on being there. Take out\n\
         # what may go; add to it what must come. `create` is printed where the index is missing.\n",
        env!("CARGO_PKG_VERSION"),
        counted(count, "index", "")
    );
    let _ = write!(out, "indexes:\n{indexes}");
    if !partitions.is_empty() {
        let _ = write!(
            out,
            "\n# The first rule that matches a table is the only one for it: merge these with yours.\n\
             partitions:\n{partitions}"
        );
    }
    let _ = writeln!(
        out,
        "\n# Queries that must read few partitions, with the schema in each name:\n\
         # verify:\n#   queries:\n#   - name: recent trades\n#     database: {}\n#     sql: SELECT ...\n\
         #     max_partitions: 1",
        names.first().map_or_else(|| "NAME".to_owned(), |name| scalar(name))
    );
    Ok(out)
}

columns! {
    struct IndexRow {
        schema: String,
        tab: String,
        name: String,
        usable: bool,
        definition: Option<String> as Uncut<String>,
    }
}

async fn write_indexes(session: &Session, out: &mut String) -> anyhow::Result<usize> {
    let datname = &session.server().datname;
    let mut count = 0;
    for row in Row::each(&session.read(INDEXES).await?) {
        let IndexRow { schema, tab: table, name, usable, definition } = row?;
        let mut why = inexpressible(datname, &schema, &table);
        if !usable {
            why = Some("it is not valid");
        }
        let definition = definition.unwrap_or_else(|| {
            why = Some("its definition is too long to be read");
            String::new()
        });
        count += usize::from(why.is_none());
        let keys = [
            ("table", scalar(&format!("{schema}.{table}"))),
            ("database", scalar(datname)),
            ("name", scalar(&name)),
            ("create", scalar(&definition)),
        ];
        item(out, why, &keys);
    }
    Ok(count)
}

async fn write_partitions(session: &Session, out: &mut String) -> anyhow::Result<()> {
    let rows = Partitions.fetch(session, &()).await?;
    let datname = rows.datname.as_str();
    for root in partitions::roots(&rows).iter().filter(|root| !root.table.rule.ignore) {
        let (schema, table) = (root.schema, root.relname);
        let mut why = inexpressible(datname, schema, table).map(str::to_owned);
        if root.outlook.runway.is_err() {
            why = Some(format!("it has no runway ({})", root.reason()));
        }
        let keys = [
            ("table", scalar(&format!("{schema}.{table}"))),
            ("database", scalar(datname)),
            ("must_exist", "true".to_owned()),
        ];
        item(out, why.as_deref(), &keys);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_are_read_back_as_they_were() {
        for (text, want) in [
            ("public.orders", "public.orders"),
            ("true", "'true'"),
            ("No", "'No'"),
            ("it's: # odd", "'it''s: # odd'"),
            ("Größe", "'Größe'"),
            ("007", "'007'"),
            ("", "''"),
            ("a\n\"b\"\u{1b}", "\"a\\n\\\"b\\\"\\u001b\""),
            ("a\u{202e}b\n", "\"a\\u202Eb\\n\""),
        ] {
            assert_eq!(scalar(text), want, "{text:?}");
        }
    }
}
