//! Going on without what the server does not have.
//!
//! Must not: change what a user wrote.

use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};

use tokio_postgres::error::ErrorPosition;

use super::{Query, Session};
use crate::error::{CollectError, WhyMissing};
use crate::pg::degrade::{Degraded, StatementPlace, probes};

/// How often something is run again to find out what the server does not have: a statement reads dozens of columns, and
/// the type of a few is found by trying.
const MOST_TRIES: usize = 256;

/// A statement that the server refused without saying what of it.
pub(super) struct RefusedStatement {
    sql: String,
    sqlstate: String,
    why: WhyMissing,
}

/// Why a statement may be refused that another server runs: privileges that are not to be had, by who has those that
/// there are; a feature that is not supported; a state that is not the one that it takes, as where WAL is not kept.
fn refusal(sqlstate: &str, reads_all_stats: bool) -> Option<WhyMissing> {
    match sqlstate {
        "42501" => reads_all_stats.then_some(WhyMissing::Forbidden),
        "0A000" | "55000" => Some(WhyMissing::Unsupported),
        _ => None,
    }
}

impl Session {
    /// Asks for each function and view of the statements that were refused, on its own, to leave out those that are.
    pub(super) async fn find_refused(&self) {
        let refused = std::mem::take(&mut *self.lock_refused());
        let Some(missing) = &self.missing else { return };
        for RefusedStatement { sql, sqlstate, why } in refused {
            if missing.knows(&self.place(), &sql) {
                continue;
            }
            let mut names = Vec::new();
            for probe in probes(&sql, self.server.in_recovery) {
                let answer = self.read_once(&Query::new(probe.sql).as_written()).await;
                if self.is_broken() {
                    return;
                }
                let same = match answer {
                    Err(CollectError::Permission(_)) => sqlstate == "42501",
                    Err(CollectError::Query { sqlstate: of_probe, .. }) => sqlstate == of_probe,
                    _ => false,
                };
                if same {
                    names.push((probe.name, why));
                }
            }
            if missing.refuse((&self.place(), &sql), &names, self.clock.seconds()) {
                self.learnt.store(true, Ordering::Relaxed);
            }
        }
    }

    fn lock_refused(&self) -> MutexGuard<'_, Vec<RefusedStatement>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether what failed it was found out, and is left out the next time.
    pub(super) fn is_worth_another<T>(
        &self,
        result: &Result<T, CollectError>,
        tries: &mut usize,
    ) -> bool {
        *tries += 1;
        let learnt = self.learnt.swap(false, Ordering::Relaxed) && result.is_err();
        *tries <= MOST_TRIES && (learnt || self.is_unreadable(result))
    }

    /// Where what is missing is so.
    fn place(&self) -> StatementPlace {
        let server = &self.server;
        (server.version_num, server.in_recovery, server.datname.clone())
    }

    /// The statement without what the server does not have.
    pub(super) fn degraded(&self, query: &Query<'_>) -> Option<Degraded> {
        let missing = self.missing.as_ref().filter(|_| !query.as_written)?;
        missing.degraded(&self.place(), &query.sql, self.clock.seconds())
    }

    /// Finds out what it was that the server does not have.
    pub(super) fn learn_from(&self, query: &Query<'_>, e: &tokio_postgres::Error) {
        let Some(missing) = self.missing.as_ref().filter(|_| !query.as_written) else { return };
        let Some(db) = e.as_db_error() else { return };
        let sqlstate = db.code().code();
        if let Some(why) = refusal(sqlstate, self.server.reads_all_stats) {
            let (sql, sqlstate) = (query.sql.clone().into_owned(), sqlstate.to_owned());
            self.lock_refused().push(RefusedStatement { sql, sqlstate, why });
            return;
        }
        let position = match db.position() {
            Some(ErrorPosition::Original(at)) => Some(*at),
            _ => None,
        };
        let what = (&self.place(), &*query.sql);
        if missing.learn(what, sqlstate, position, self.clock.seconds()) {
            self.learnt.store(true, Ordering::Relaxed);
        }
    }
}
