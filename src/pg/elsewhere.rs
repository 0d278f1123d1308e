//! The database in which an extension that shows the whole server is best read.
//!
//! Must not: hold two sessions, visit a database that a user owns, or leave the server.

use super::columns;
use super::quota::Quota;
use super::row::{Lossy, Row};
use super::session::{Query, Session};
use super::trust::Need;
use crate::config::{Connect, DatabaseFilter, TargetKind};
use crate::error::ConnectError;

/// Databases that are tried in a search.
const CANDIDATES: i64 = 4;

/// Databases of superusers that the role may enter, `postgres` first.
const DATABASES: &str = "\
SELECT pg_catalog.textsend(d.datname::text) AS datname
  FROM pg_catalog.pg_database d JOIN pg_catalog.pg_roles r ON r.oid = d.datdba
 WHERE r.rolsuper AND d.datallowconn AND NOT d.datistemplate AND d.datconnlimit <> -2
   AND d.datname <> pg_catalog.current_database()
   AND pg_catalog.has_database_privilege(d.oid, 'CONNECT')
 ORDER BY d.datname <> 'postgres', d.oid LIMIT $1";

/// The session, or one with another database of the same server, where superusers alone own all that is
/// used of the extension. The one that is given is closed before another is opened; where none is better
/// it is made anew.
///
/// # Errors
/// The database that was left cannot be entered again.
pub async fn settle(
    session: Session,
    connect: &Connect,
    need: &Need,
    databases: &DatabaseFilter,
    quota: Option<&Quota>,
) -> Result<Session, ConnectError> {
    if session.kind() != TargetKind::Server {
        return Ok(session);
    }
    let there = session.trusts(need).await;
    // What was asked here is of no interest to whoever asks the session next.
    drop(session.take_remarks());
    if there.is_ok_and(|trusted| trusted.is_superusers()) || session.is_broken() {
        return Ok(session);
    }
    let Ok(rows) = session.read(Query::new(DATABASES).int8(&CANDIDATES)).await else {
        return Ok(session);
    };
    columns! {
        struct CandidateName {
            datname: String as Lossy,
        }
    }
    let names = Row::each::<CandidateName>(&rows).flatten().map(|candidate| candidate.datname);
    let names: Vec<String> = names.filter(|name| databases.may_enter(name)).collect();
    if names.is_empty() {
        return Ok(session);
    }
    let (settings, clock) = (session.shared_settings(), session.clock());
    let (started, home) = (session.server().started, session.server().datname.clone());
    session.close().await;
    for name in names {
        let other = Some(name.as_str());
        let other = Session::connect_within(connect, other, settings.clone(), clock, quota).await;
        let Ok(other) = other else { continue };
        // A pooler may have that database on another server.
        let same = other.kind() == TargetKind::Server && other.server().started == started;
        if same && other.trusts(need).await.is_ok_and(|trusted| trusted.is_superusers()) {
            drop(other.take_remarks());
            tracing::info!(database = name, from = home, "reading {} elsewhere", need.extension);
            return Ok(other);
        }
        other.close().await;
    }
    Session::connect_within(connect, None, settings, clock, quota).await
}
