//! Backends of ours that were given up because they did not even answer a request to cancel, as when
//! they hang in the kernel. Straight to the server the socket tells when they end (`pg`'s quota); behind
//! a pooler only the server can be asked.
//!
//! Must not: take a backend that works for others for one of ours.

use crate::config::TargetKind;
use crate::pg::{Query, Row, Session, columns};

/// Backends that a worker may leave behind before it starts nothing more until one of them ends.
const MOST: usize = 2;

/// Pids and starts.
#[derive(Default)]
pub(super) struct Leftovers(Vec<(i32, f64)>);

impl Leftovers {
    /// A pooler's console has no backend.
    pub(super) fn add(&mut self, session: &Session) {
        if session.kind() == TargetKind::Pooler {
            return;
        }
        self.0.push(session.server().backend);
    }

    /// Forgets those that have ended. True if so many are left that nothing more may be started.
    pub(super) async fn too_many(&mut self, session: &Session) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let pids: Vec<i64> = self.0.iter().map(|(pid, _)| i64::from(*pid)).collect();
        let Ok(rows) = session.read(Query::new(ALIVE).int8_array(&pids)).await else { return true };
        let alive: Vec<LiveBackend> = Row::each(&rows).flatten().collect();
        let lives = |(pid, started)| alive.iter().any(|b| b.pid == pid && b.started == started);
        self.0.retain(|backend| lives(*backend));
        self.0.len() >= MOST
    }
}

columns! {
    struct LiveBackend {
        pid: i32,
        started: f64,
    }
}

/// Of these backends, those that are at work for us, with their start. Behind a pooler a connection
/// outlives its client, and idles or works for others, or for us again, and then this very query is
/// what it is at; without one, an idle backend notices that it was left. Our mark stands at the end, and
/// the view cuts long texts.
const ALIVE: &str = "\
SELECT a.pid, pg_catalog.date_part('epoch', a.backend_start) AS started
  FROM pg_catalog.pg_stat_get_activity(NULL) a
 WHERE a.pid = ANY ($1) AND a.backend_start IS NOT NULL AND a.pid <> pg_catalog.pg_backend_pid()
   AND a.state IS DISTINCT FROM 'idle'
   AND (a.query LIKE '%/* pgrunway */%' OR pg_catalog.length(a.query) >= 1000)";
