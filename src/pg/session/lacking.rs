//! Going on without what the server does not have.
//!
//! Must not: change what a user wrote.

use std::sync::atomic::Ordering;

use tokio_postgres::error::ErrorPosition;

use super::{Query, Session};
use crate::error::CollectError;
use crate::pg::degrade::Degraded;

/// How often something is run again to find out what the server does not have: a statement reads dozens of columns, and
/// the type of a few is found by trying.
const MOST_TRIES: usize = 256;

impl Session {
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
    fn place(&self) -> (i32, String) {
        (self.server.version_num, self.server.datname.clone())
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
        let position = match db.position() {
            Some(ErrorPosition::Original(at)) => Some(*at),
            _ => None,
        };
        let what = (&self.place(), &*query.sql);
        if missing.learn(what, db.code().code(), position, self.clock.seconds()) {
            self.learnt.store(true, Ordering::Relaxed);
        }
    }
}
