//! Transactions that look at who owns what they are about to use, and use it only then.
//!
//! Must not: send what is to be used before the answer of the check is there, or keep that answer for
//! another transaction.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use super::{Query, Session, Timed};
use crate::error::{CollectError, NotAvailable};
use crate::pg::columns;
use crate::pg::row::{Budget, Row};
use crate::pg::trust::{Need, Request, Trusted, read};

/// What a user made among the relations that this transaction holds.
const LOCKED: &str = "\
SELECT l.relation::int8 AS oid
  FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_class c ON c.oid = l.relation
 WHERE l.locktype = 'relation' AND l.pid = pg_catalog.pg_backend_pid()
   AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d
                      WHERE d.datname = pg_catalog.current_database())
   AND l.relation::int8 >= 16384 AND c.relkind NOT IN ('i', 'I', 't')";

columns! {
    struct LockedTable {
        oid: i64,
    }
}

/// What a session has to say beside rows: what it used and why, and what it could not use.
#[derive(Debug, Default)]
pub struct Remarks {
    /// For the console.
    pub trusted: Vec<String>,
    /// Parts that failed while the rest was read.
    pub failed: Vec<CollectError>,
    /// Columns, functions and views that are not available, and that the rest was read without.
    pub missing: BTreeSet<NotAvailable>,
}

/// The remarks since they were last taken.
#[derive(Default)]
pub(super) struct Ledger(Mutex<Remarks>);

impl Ledger {
    fn lock(&self) -> MutexGuard<'_, Remarks> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn missing(&self, lacking: Vec<NotAvailable>) {
        self.lock().missing.extend(lacking);
    }
}

impl Session {
    /// What was remarked since this was last asked for.
    pub fn take_remarks(&self) -> Remarks {
        std::mem::take(&mut *self.remarks.lock())
    }

    /// What is not available of all that was read since the remarks were last taken, in order.
    pub fn missing(&self) -> Vec<NotAvailable> {
        self.remarks.lock().missing.iter().cloned().collect()
    }

    /// Notes a part that failed, without failing the rest.
    pub fn remark(&self, failed: CollectError) {
        self.remarks.lock().failed.push(failed);
    }

    /// Whether an extension may be used now.
    ///
    /// # Errors
    /// As [`Session::read_trusted`].
    pub async fn trusts(&self, need: &Need) -> Result<Trusted, CollectError> {
        Ok(self.read_trusted(need, |_| Ok(Vec::new())).await?.0)
    }

    /// Looks at an extension and, if everyone who could change what its names mean is trusted, runs what
    /// `plan` makes of it, in the same transaction.
    ///
    /// # Errors
    /// [`CollectError::Missing`] with the reason and what to do, where nothing was run; else that of the
    /// first query that failed.
    pub async fn read_trusted<'q>(
        &self,
        need: &Need,
        plan: impl FnOnce(&Trusted) -> Result<Vec<Query<'q>>, CollectError>,
    ) -> Result<(Trusted, Vec<Vec<Row>>), CollectError> {
        self.read_checked(Request::Extension(need), plan).await
    }

    /// As [`Session::read_trusted`], of tables by OID, each with all that is below it; `what` names them in
    /// an error.
    ///
    /// # Errors
    /// Likewise.
    pub async fn read_tables<'q>(
        &self,
        tables: &[i64],
        what: &str,
        queries: Vec<Query<'q>>,
    ) -> Result<Vec<Vec<Row>>, CollectError> {
        Ok(self.read_checked(Request::Tables(tables, what), |_| Ok(queries)).await?.1)
    }

    async fn read_checked<'q>(
        &self,
        request: Request<'_>,
        plan: impl FnOnce(&Trusted) -> Result<Vec<Query<'q>>, CollectError>,
    ) -> Result<(Trusted, Vec<Vec<Row>>), CollectError> {
        self.takes_sql()?;
        let (mut plan, mut tries) = (PlannedQueries::new(plan), 0);
        loop {
            let result = self.within_deadline(async {
                let budget = self.budget();
                let make = |trusted: &Trusted| plan.of(trusted);
                let (trusted, _) = self.begin_checked(request, None, make, &budget).await?;
                let (rows, ended) = tokio::join!(
                    join_all(plan.queries().iter().map(|q| self.rows(q, &budget))),
                    self.commit(),
                );
                ended?;
                let rows = rows.into_iter().collect::<Result<Vec<_>, _>>()?;
                self.remarks.lock().trusted.push(trusted.note(request.what()));
                Ok((trusted, rows))
            });
            let result = result.await;
            Box::pin(self.find_refused()).await;
            if !self.is_worth_another(&result, &mut tries) {
                return result;
            }
        }
    }

    /// Runs `queries`, which plan a statement that somebody wrote, once the owners of all tables and views
    /// that it names were looked at, as in [`Session::read_tables`]: planning alone runs what they hung on
    /// them.
    ///
    /// # Errors
    /// As [`Session::read_tables`]; the statement is none that can be prepared.
    pub async fn read_planning<'q>(
        &self,
        statement: &str,
        what: &str,
        queries: Vec<Query<'q>>,
    ) -> Result<Vec<Vec<Row>>, CollectError> {
        // Preparing parses it, expands its views and locks what it names, and plans nothing. On a line of
        // its own, because it may end with a comment.
        let prepare = Query::new(format!("PREPARE pgrunway_planned AS {statement}\n"));
        let forget = Query::new("DEALLOCATE pgrunway_planned");
        let locked = Query::new(LOCKED);
        self.takes_sql()?;
        self.within_deadline(async {
            let budget = self.budget();
            let named = async {
                let (begun, prepared, forgotten, locked) = tokio::join!(
                    self.begun_as_before(),
                    self.rows(&prepare, &budget),
                    self.rows(&forget, &budget),
                    self.rows(&locked, &budget),
                );
                begun.and(prepared).and(forgotten).and(locked)
            };
            let read = async {
                let named: Vec<LockedTable> = Row::all(&named.await?)?;
                let oids: Vec<i64> = named.iter().map(|table| table.oid).collect();
                if !oids.is_empty() {
                    let request = Request::Tables(&oids, what);
                    read(request, &self.check(request).await?, &self.settings.trust_owners)?;
                }
                let rows = join_all(queries.iter().map(|q| self.rows(q, &budget))).await;
                rows.into_iter().collect::<Result<Vec<_>, _>>()
            }
            .await;
            let ended = self.commit().await;
            read.and_then(|rows| ended.map(|()| rows))
        })
        .await
    }

    /// The rows of a check.
    async fn check(&self, request: Request<'_>) -> Result<Vec<Row>, CollectError> {
        let sql = request.sql(self.server.version_num);
        let (extension, signatures, tables, oids) = request.parameters();
        let query = Query::new(&sql).text(&extension).text_array(&signatures);
        self.rows(&query.text_array(&tables).int8_array(&oids), &self.budget()).await
    }

    /// Reads `facts`, and looks at an extension as [`Session::read_trusted`] does; then what the first of
    /// the two queries of `plan` gives, and again and again what the second gives: once, and once more at each of
    /// these times after that began. Each comes with the time at which it was answered. All in one transaction.
    ///
    /// # Errors
    /// As [`Session::read_trusted`].
    pub async fn read_again<'q>(
        &self,
        need: &Need,
        facts: Query<'_>,
        plan: impl FnOnce(&Trusted) -> Result<[Query<'q>; 2], CollectError>,
        times: &[Duration],
    ) -> Result<(Trusted, [Vec<Row>; 2], Vec<Timed>), CollectError> {
        self.takes_sql()?;
        let request = Request::Extension(need);
        let plan = |trusted: &Trusted| plan(trusted).map(Vec::from);
        let (mut plan, mut tries) = (PlannedQueries::new(plan), 0);
        loop {
            let result = self.within_deadline(async {
                let budget = self.budget();
                let make = |trusted: &Trusted| plan.of(trusted);
                let (trusted, facts) =
                    self.begin_checked(request, Some(&facts), make, &budget).await?;
                let read = async {
                    let [once, again] = plan.queries() else { return Err(CollectError::Changed) };
                    let (once, first) =
                        tokio::join!(self.rows(once, &budget), self.timed(again, &budget));
                    let (once, first) = (once?, first?);
                    let begun = Instant::now().checked_sub(first.took);
                    let mut all = vec![first];
                    for time in times {
                        let gone = begun.map_or(Duration::ZERO, |begun| begun.elapsed());
                        tokio::time::sleep(time.saturating_sub(gone)).await;
                        all.push(self.timed(again, &budget).await?);
                    }
                    Ok((once, all))
                }
                .await;
                let ended = self.commit().await;
                let (once, again) = read.and_then(|rows| ended.map(|()| rows))?;
                self.remarks.lock().trusted.push(trusted.note(request.what()));
                Ok((trusted, [facts, once], again))
            });
            let result = result.await;
            Box::pin(self.find_refused()).await;
            if !self.is_worth_another(&result, &mut tries) {
                return result;
            }
        }
    }

    /// Begins a transaction, reads `facts`, checks, and plans what may be run; whoever asks ends the
    /// transaction, unless it failed.
    async fn begin_checked(
        &self,
        request: Request<'_>,
        facts: Option<&Query<'_>>,
        plan: impl FnOnce(&Trusted) -> Result<(), CollectError>,
        budget: &Budget,
    ) -> Result<(Trusted, Vec<Row>), CollectError> {
        // One round trip for all that does not depend on the answer.
        let (begun, checked, facts) = tokio::join!(
            self.begun_as_before(),
            self.check(request),
            optional(facts.map(|query| self.rows(query, budget))),
        );
        let planned = begun.and(checked).and_then(|rows| {
            let trusted = read(request, &rows, &self.settings.trust_owners)?;
            plan(&trusted)?;
            Ok((trusted, facts?.unwrap_or_default()))
        });
        if planned.as_ref().is_err_and(|e| !e.is_fatal()) {
            self.commit().await?;
        }
        planned
    }
}

/// What was planned for an extension, which holds for as long as what is known of it does.
struct PlannedQueries<'q, P> {
    plan: Option<P>,
    made: Option<(Trusted, Vec<Query<'q>>)>,
}

impl<'q, P> PlannedQueries<'q, P>
where
    P: FnOnce(&Trusted) -> Result<Vec<Query<'q>>, CollectError>,
{
    fn new(plan: P) -> Self {
        Self { plan: Some(plan), made: None }
    }

    fn of(&mut self, trusted: &Trusted) -> Result<(), CollectError> {
        match (&self.made, self.plan.take()) {
            (Some((before, _)), _) if before == trusted => Ok(()),
            (None, Some(plan)) => {
                self.made = Some((trusted.clone(), plan(trusted)?));
                Ok(())
            }
            _ => Err(CollectError::Changed),
        }
    }

    fn queries(&self) -> &[Query<'q>] {
        self.made.as_ref().map_or(&[], |(_, queries)| queries)
    }
}

/// What it gives, if there is anything to do.
async fn optional<T, E>(work: Option<impl Future<Output = Result<T, E>>>) -> Result<Option<T>, E> {
    match work {
        Some(work) => work.await.map(Some),
        None => Ok(None),
    }
}
