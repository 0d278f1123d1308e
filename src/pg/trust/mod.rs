//! What of a database may be run or read although a user could have made it: the functions and tables
//! of extensions, and tables of users where a command reads them.
//!
//! PostgreSQL looks a name up at each statement, so that a check and the use after it are never one: who
//! owns a step of the name's path (database, schema, extension, function or table) can put something of
//! his own there in between, and it runs as us. Only an invariant holds: each step belongs to a superuser,
//! or to somebody who gains nothing by it, or whom the operator trusts. It is looked at in every
//! transaction that uses it ([`Session::read_trusted`](super::Session::read_trusted)), and never kept.
//!
//! Must not: send anything, or judge by what was true in another transaction.

mod facts;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::error::CollectError;
use crate::remedy::quote::ident as shown;

pub(super) use facts::{Request, read};

/// What is about to be used of one extension.
#[derive(Debug, PartialEq, Eq)]
pub struct Need {
    /// `extname`.
    pub extension: &'static str,
    /// Oldest `extversion` that will do.
    pub oldest: (u32, u32),
    /// Its functions with the types of their arguments: `pgstatindex(regclass)`.
    pub functions: &'static [&'static str],
    /// Its tables.
    pub tables: &'static [&'static str],
    /// What to do where it is not there.
    pub install: &'static str,
    /// Whether any database of the server will do as well.
    pub anywhere: bool,
}

/// The role that the session logged in as. `SET ROLE` of a database or a role does not hide it: what
/// runs as another role can go back to it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Monitor {
    /// `session_user`.
    pub name: String,
    /// It is a superuser, or may become one by `SET ROLE`.
    pub superuser: bool,
    /// It reaches beyond databases: files and programs of the server, roles, replication.
    pub reaches_out: bool,
}

/// Who owns a step of the path, and what he has beside the monitoring role.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Owner {
    /// `rolname`; what `pg_database_owner` owns is the database owner's.
    pub name: String,
    /// `rolsuper`.
    pub superuser: bool,
    /// It is the monitoring role, or may become it by `SET ROLE`.
    pub is_monitor: bool,
    /// It may become a superuser by `SET ROLE`.
    pub becomes_superuser: bool,
    /// The monitoring role is a member of a role that this one has not.
    pub lacks_role: bool,
    /// The monitoring role has an attribute (`CREATEROLE`, `BYPASSRLS`, ...) that this one has not.
    pub lacks_attribute: bool,
    /// Something in this database was granted to the monitoring role itself that this one may not use.
    pub lacks_grant: bool,
    /// It has the role by which a managed service lets its customer administer the server.
    pub administers: bool,
    /// It owns this database and every other one but templates, the monitoring role's own, and the
    /// server's own, such as `postgres`.
    pub sole: bool,
}

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathStep {
    /// `schema`, `extension`, ...
    pub kind: String,
    /// As in the catalog, unquoted.
    pub name: String,
    /// Whoever can change what the name means.
    pub owner: Owner,
}

/// Why the owners of a path may be trusted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum TrustReason {
    /// All of it belongs to superusers.
    Superusers,
    /// This owner has all that the monitoring role has.
    Equal(String),
    /// No database that holds anything is another's.
    Sole(String),
    /// The operator says so.
    Named(String),
}

impl fmt::Display for TrustReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Superusers => f.write_str("all owned by superusers"),
            Self::Equal(owner) => {
                write!(f, "trusted: owner {} has all that the monitoring role has", shown(owner))
            }
            Self::Sole(owner) => write!(f, "trusted: owner {} owns every database", shown(owner)),
            Self::Named(owner) => write!(f, "trusted: owner {} is in trust_owners", shown(owner)),
        }
    }
}

/// Whether the owner of a step may be trusted with what the monitoring role may do.
fn trusted(monitor: &Monitor, owner: &Owner, named: &[String]) -> Option<TrustReason> {
    if owner.superuser {
        return Some(TrustReason::Superusers);
    }
    let equal = if owner.is_monitor {
        true
    } else if monitor.superuser {
        owner.becomes_superuser
    } else {
        let same = !owner.lacks_role && !owner.lacks_attribute && !owner.lacks_grant;
        same || owner.administers || owner.becomes_superuser
    };
    let name = owner.name.clone();
    if equal {
        Some(TrustReason::Equal(name))
    } else if owner.sole && !monitor.superuser && !monitor.reaches_out {
        Some(TrustReason::Sole(name))
    } else if named.iter().any(|n| *n == owner.name || n == "*") {
        Some(TrustReason::Named(name))
    } else {
        None
    }
}

/// Judges a path: the reasons why it may be used, or the first step of each owner who is not trusted.
///
/// # Errors
/// The steps whose owners are not trusted, one an owner.
pub fn judge<'a>(
    monitor: &Monitor,
    steps: &'a [PathStep],
    named: &[String],
) -> Result<BTreeSet<TrustReason>, Vec<&'a PathStep>> {
    let mut reasons = BTreeSet::new();
    let mut distrusted: Vec<&PathStep> = Vec::new();
    for step in steps {
        match trusted(monitor, &step.owner, named) {
            Some(reason) => drop(reasons.insert(reason)),
            None if distrusted.iter().any(|d| d.owner.name == step.owner.name) => {}
            None => distrusted.push(step),
        }
    }
    if !distrusted.is_empty() {
        return Err(distrusted);
    }
    if reasons.len() > 1 {
        reasons.remove(&TrustReason::Superusers);
    }
    Ok(reasons)
}

/// A table of an extension.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExtensionTable {
    /// Schema and name, quoted. Read it with `ONLY`.
    pub sql: String,
    /// Its columns of PostgreSQL's own types: the others could run a user's code.
    pub columns: Vec<String>,
    /// Whether the role may read it.
    pub granted: bool,
    /// Whether it then sees all rows.
    pub whole: bool,
    /// Whether it does so only by a policy that lets all rows through, which needs `row_security = on`.
    pub by_policy: bool,
}

/// What was looked at in this transaction and may be used in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Trusted {
    /// `extversion`.
    pub version: (u32, u32),
    /// The database.
    pub datname: String,
    /// By signature: schema and name, quoted.
    functions: BTreeMap<String, String>,
    /// By name.
    tables: BTreeMap<String, ExtensionTable>,
    reasons: BTreeSet<TrustReason>,
}

impl Trusted {
    /// Schema and name of a function, quoted.
    ///
    /// # Errors
    /// The extension has none of this signature.
    pub fn function(&self, signature: &str) -> Result<&str, CollectError> {
        self.functions.get(signature).map(String::as_str).ok_or_else(|| {
            let (major, minor) = self.version;
            missing(
                format!(
                    "the extension ({major}.{minor}) in database {} has no function {signature}",
                    shown(&self.datname)
                ),
                "run ALTER EXTENSION ... UPDATE there",
            )
        })
    }

    /// A table, if this version of the extension has it.
    pub fn table(&self, name: &str) -> Option<&ExtensionTable> {
        self.tables.get(name)
    }

    /// Whether superusers own all of it.
    pub fn is_superusers(&self) -> bool {
        self.reasons.iter().all(|reason| *reason == TrustReason::Superusers)
    }

    /// In one line, for the console: what is used, where, and why that is safe.
    pub fn note(&self, what: &str) -> String {
        let reasons: Vec<String> = self.reasons.iter().map(ToString::to_string).collect();
        format!("{what}: read in database {}, {}", shown(&self.datname), reasons.join("; "))
    }
}

fn missing(what: String, remedy: impl Into<String>) -> CollectError {
    CollectError::Missing { what, remedy: remedy.into() }
}

/// Who is not trusted and why that matters, for an error.
fn distrust(what: &str, datname: &str, monitor: &Monitor, steps: &[&PathStep]) -> String {
    const SHOWN: usize = 3;
    let mut owned: Vec<String> = steps
        .iter()
        .take(SHOWN)
        .map(|s| format!("{} {} belongs to {}", s.kind, shown(&s.name), shown(&s.owner.name)))
        .collect();
    if steps.len() > SHOWN {
        owned.push(format!("and {} more", steps.len() - SHOWN));
    }
    format!(
        "{what} in database {} is not used: {}, who could run code as {} by it",
        shown(datname),
        owned.join(", "),
        shown(&monitor.name)
    )
}

/// What makes a path safe where it is not.
fn remedy(need: Option<&Need>, datname: &str, steps: &[&PathStep]) -> String {
    let owners: BTreeSet<String> = steps.iter().map(|s| shown(&s.owner.name)).collect();
    let owners: Vec<String> = owners.into_iter().collect();
    let owners = owners.join(", ");
    let Some(need) = need else {
        return format!("run it as {owners}, or list {owners} in trust_owners");
    };
    if need.anywhere {
        return format!(
            "run CREATE EXTENSION {} in a database of a superuser's, such as postgres, or list \
             {owners} in trust_owners if they may do all that this role may",
            need.extension
        );
    }
    let owner = "OWNER TO postgres";
    let change: Vec<String> = steps
        .iter()
        .filter_map(|s| match s.kind.as_str() {
            "database" => Some(format!("ALTER DATABASE {} {owner}", shown(datname))),
            "schema" => Some(format!("ALTER SCHEMA {} {owner}", shown(&s.name))),
            "table" => Some(format!("ALTER TABLE {} {owner}", shown(&s.name))),
            _ => None,
        })
        .collect();
    let change =
        if change.is_empty() { String::new() } else { format!(", or {}", change.join(", ")) };
    format!("list {owners} in trust_owners if they may do all that this role may{change}")
}

#[cfg(test)]
mod tests;
