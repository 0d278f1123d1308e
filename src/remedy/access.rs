//! Scripts that let a role in: the role itself, its right to connect, and TLS.
//!
//! Must not: hold a password, or widen what a role may do there beyond connecting.

use super::script::{Head, Script, Step, note};
use super::sql::{Ident, Literal, Sql};

fn head(title: String, changes: &str, undo: &str) -> Head {
    Head {
        title,
        role: "a superuser.".to_owned(),
        // Roles and databases are the server's: any database will do.
        database: String::new(),
        locks: "none that others wait for.".to_owned(),
        changes: changes.to_owned(),
        undo: undo.to_owned(),
        again: "comes to the same.".to_owned(),
        deletes: None,
        notes: Vec::new(),
    }
}

/// A statement that psql runs where a condition on the role or database holds.
fn run_if(statement: &Sql, condition: &Sql) -> Step {
    let statement = Literal(statement.as_str());
    Step::Gexec(Sql::new("SELECT {}\n WHERE {}", &[&statement, condition]))
}

fn role_is(role: &str, condition: &'static str) -> Sql {
    Sql::new(
        "EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.rolname = {} AND {})",
        &[&Literal(role), &Sql::new(condition, &[])],
    )
}

fn database_is(datname: &str, condition: &'static str) -> Sql {
    Sql::new(
        "EXISTS (SELECT FROM pg_catalog.pg_database d WHERE d.datname = {} AND {})",
        &[&Literal(datname), &Sql::new(condition, &[])],
    )
}

/// Makes a role one that may log in: it is there, has LOGIN, and its password has not expired.
pub fn login(role: &str) -> Script {
    let name = Ident(role);
    let absent = Sql::new("NOT {}", &[&role_is(role, "true")]);
    Script {
        head: Head {
            notes: vec![format!(
                "A password cannot be put in here: \\password {} in psql asks for one. What pg_hba.conf says of the \
                 role, database and address is seen in pg_hba_file_rules and changed in the file; \
                 pg_reload_conf() makes it known.",
                super::quote::ident(role)
            )],
            ..head(
                format!("{} is to be able to log in.", super::text::one_line(role)),
                "makes the role where there is none, and gives it LOGIN, and a password without an end where its own has \
                 expired.",
                "ALTER ROLE ... NOLOGIN, or DROP ROLE if it was made.",
            )
        },
        steps: vec![
            run_if(&Sql::new("CREATE ROLE {} LOGIN", &[&name]), &absent),
            run_if(&Sql::new("ALTER ROLE {} LOGIN", &[&name]), &role_is(role, "NOT r.rolcanlogin")),
            run_if(
                &Sql::new("ALTER ROLE {} VALID UNTIL 'infinity'", &[&name]),
                &role_is(role, "r.rolvaliduntil <= pg_catalog.clock_timestamp()"),
            ),
        ],
    }
}

/// Lets a role have the two connections that it needs.
pub fn connections(role: &str) -> Script {
    Script {
        head: head(
            format!("{} is to have two connections.", super::text::one_line(role)),
            "raises the role's CONNECTION LIMIT to 2 where it is less.",
            "ALTER ROLE ... CONNECTION LIMIT with the former number.",
        ),
        steps: vec![
            note(
                "Where it is the server that is full, this changes nothing: see max_connections and who is connected.",
            ),
            run_if(
                &Sql::new("ALTER ROLE {} CONNECTION LIMIT 2", &[&Ident(role)]),
                &role_is(role, "r.rolconnlimit IN (0, 1)"),
            ),
        ],
    }
}

/// Lets a role into a database that takes connections.
pub fn connect(datname: &str, role: &str) -> Script {
    let name = Ident(datname);
    Script {
        head: head(
            format!(
                "{} is to enter database {}.",
                super::text::one_line(role),
                super::text::one_line(datname)
            ),
            "the role's privilege to connect to this database, and no other; a database that takes no connections takes \
             them again.",
            "REVOKE CONNECT ON DATABASE ... FROM the role.",
        ),
        steps: vec![
            Step::Sql(Sql::new("GRANT CONNECT ON DATABASE {} TO {}", &[&name, &Ident(role)])),
            run_if(
                &Sql::new("ALTER DATABASE {} ALLOW_CONNECTIONS true", &[&name]),
                &database_is(datname, "NOT d.datallowconn"),
            ),
            run_if(
                &Sql::new("ALTER DATABASE {} CONNECTION LIMIT -1", &[&name]),
                &database_is(datname, "d.datconnlimit = 0"),
            ),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_already_is_left_alone_and_names_are_quoted_twice() {
        let body = login("m'on").body();
        assert!(
            body.contains("SELECT 'CREATE ROLE \"m''on\" LOGIN'\n WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_roles r"),
            "{body}"
        );
        assert!(body.contains("r.rolname = 'm''on' AND NOT r.rolcanlogin) \\gexec"), "{body}");
        assert_eq!(body.matches("\\gexec").count(), 3, "{body}");
        let body = connect("Shop", "mon").body();
        assert!(body.starts_with("GRANT CONNECT ON DATABASE \"Shop\" TO mon;\n"), "{body}");
        assert!(!login("mon").to_string().contains("PASSWORD '"));
    }
}
