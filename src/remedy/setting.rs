//! Scripts that change a parameter, install an extension or grant a role.
//!
//! Must not: overwrite what somebody else has set meanwhile in a list.

use super::script::{Head, Script, Step, note};
use super::sql::{Ident, Literal, Sql};

/// What sets a parameter to the wrong value, and so where it is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettingSource<'a> {
    /// A file, or the default: ALTER SYSTEM wins over both. `restart` says when it takes effect.
    System {
        /// At the next start only.
        restart: bool,
    },
    /// ALTER DATABASE.
    Database(&'a str),
    /// ALTER ROLE.
    Role(&'a str),
    /// ALTER ROLE IN DATABASE.
    RoleIn(&'a str, &'a str),
    /// ALTER ROLE ALL.
    All,
}

fn head(database: &str, title: String, role: &str, changes: &str, undo: &str) -> Head {
    Head {
        title,
        role: role.to_owned(),
        database: database.to_owned(),
        locks: "none that others wait for.".to_owned(),
        changes: changes.to_owned(),
        undo: undo.to_owned(),
        again: "comes to the same.".to_owned(),
        deletes: None,
        notes: Vec::new(),
    }
}

/// `a.b` with both parts quoted.
fn parameter(name: &str) -> Sql {
    let parts: Vec<Sql> = name.split('.').map(|part| Sql::new("{}", &[&Ident(part)])).collect();
    Sql::join(&parts, ".")
}

fn reload() -> Step {
    Step::Sql(Sql::new("SELECT pg_catalog.pg_reload_conf()", &[]))
}

/// Sets a parameter, or takes back what sets it wrongly.
pub fn set(database: &str, name: &str, value: &str, source: SettingSource<'_>) -> Script {
    let parameter = parameter(name);
    let (statement, changes, reloads) = match source {
        SettingSource::System { restart } => (
            Sql::new("ALTER SYSTEM SET {} = {}", &[&parameter, &Literal(value)]),
            if restart {
                "postgresql.auto.conf; it takes effect when the server is restarted."
            } else {
                "postgresql.auto.conf, and reloads it: all sessions have it at once."
            },
            !restart,
        ),
        SettingSource::Database(database) => (
            Sql::new("ALTER DATABASE {} RESET {}", &[&Ident(database), &parameter]),
            "the database's own setting, for new sessions.",
            false,
        ),
        SettingSource::Role(role) => (
            Sql::new("ALTER ROLE {} RESET {}", &[&Ident(role), &parameter]),
            "the role's own setting, for new sessions.",
            false,
        ),
        SettingSource::RoleIn(role, database) => (
            Sql::new(
                "ALTER ROLE {} IN DATABASE {} RESET {}",
                &[&Ident(role), &Ident(database), &parameter],
            ),
            "the role's own setting in the database, for new sessions.",
            false,
        ),
        SettingSource::All => (
            Sql::new("ALTER ROLE ALL RESET {}", &[&parameter]),
            "the setting for all roles, for new sessions.",
            false,
        ),
    };
    let mut steps = vec![Step::Sql(statement)];
    if reloads {
        steps.push(reload());
    }
    let title = format!("{} = {}", super::text::one_line(name), super::text::one_line(value));
    let undo = "set the former value in the same way, or ALTER SYSTEM RESET.";
    Script { head: head(database, title, "a superuser.", changes, undo), steps }
}

/// Adds a library to `shared_preload_libraries`, beside what stands there when it is run.
pub fn preload(database: &str, library: &str) -> Script {
    let now = Sql::new(
        "COALESCE((SELECT f.setting FROM pg_catalog.pg_file_settings f\n             \
           WHERE f.name = 'shared_preload_libraries' ORDER BY f.seqno DESC LIMIT 1),\n    \
         pg_catalog.current_setting('shared_preload_libraries'))",
        &[],
    );
    let gexec = Sql::new(
        "WITH now AS (SELECT pg_catalog.btrim(u.name, ' \"') AS name, u.nr\n  \
           FROM pg_catalog.unnest(pg_catalog.string_to_array({}, ',')) WITH ORDINALITY u(name, nr)\n \
          WHERE pg_catalog.btrim(u.name, ' \"') <> '')\n\
         SELECT 'ALTER SYSTEM SET shared_preload_libraries = '\n         \
           || pg_catalog.string_agg(pg_catalog.quote_literal(l.name), ', ' ORDER BY l.nr)\n  \
           FROM (SELECT now.name, now.nr FROM now UNION ALL SELECT {}, 1000000) l\n \
          WHERE NOT EXISTS (SELECT FROM now WHERE now.name = {})\n\
         HAVING pg_catalog.count(*) > 0",
        &[&now, &Literal(library), &Literal(library)],
    );
    Script {
        head: head(
            database,
            format!("{} is to be loaded at the start.", super::text::one_line(library)),
            "a superuser.",
            "adds it to shared_preload_libraries in postgresql.auto.conf; it takes effect when the server is \
             restarted.",
            "ALTER SYSTEM SET shared_preload_libraries to the former list.",
        ),
        steps: vec![
            note("What is loaded already stays, also what was added and not yet loaded."),
            Step::Gexec(gexec),
        ],
    }
}

/// Installs an extension.
pub fn extension(database: &str, name: &str) -> Script {
    Script {
        head: head(
            database,
            format!("the extension {} is to be installed.", super::text::one_line(name)),
            "a superuser.",
            "creates the extension's functions and views in this database.",
            "DROP EXTENSION.",
        ),
        steps: vec![Step::Sql(Sql::new(
            "CREATE EXTENSION IF NOT EXISTS {} SCHEMA public",
            &[&Ident(name)],
        ))],
    }
}

/// Brings an extension to the version of its files.
pub fn update_extension(database: &str, name: &str) -> Script {
    let mut head = head(
        database,
        format!("the extension {} is to be updated.", super::text::one_line(name)),
        "the extension's owner, or a superuser.",
        "the extension's functions, views and types, by its own script.",
        "restore them from a backup: few extensions come with a way back.",
    );
    head.locks =
        "those of the extension's script, on its own objects and what depends on them.".to_owned();
    Script { head, steps: vec![Step::Sql(Sql::new("ALTER EXTENSION {} UPDATE", &[&Ident(name)]))] }
}

/// Makes a role a member of another.
pub fn grant(database: &str, group: &str, role: &str) -> Script {
    Script {
        head: head(
            database,
            format!("{} is to have {group}.", super::text::one_line(role)),
            "a superuser, or who has it with ADMIN OPTION.",
            "the role sees what the other one may see.",
            "REVOKE it.",
        ),
        steps: vec![Step::Sql(Sql::new("GRANT {} TO {}", &[&Ident(group), &Ident(role)]))],
    }
}
