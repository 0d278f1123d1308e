//! An unrestricted connection, for what must write or prepare: schema, data and load of `demo` and `load`.
//!
//! Must not: be used by a collector (those read through a [`Session`](super::Session)).

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::SinkExt;
use tokio::time::timeout;
pub use tokio_postgres::types::ToSql;

use super::connect::{Connection, open};
use super::row::{Budget, Row, RowsOf};
use super::session::{GRACE, OWN_LIMITS, Query};
use crate::config::{Connect, Timeouts};
use crate::error::{CollectError, ConnectError};

/// A statement prepared on one [`Admin`] connection.
#[derive(Clone)]
pub struct Prepared(tokio_postgres::Statement);

/// A connection with session-wide timeouts and no other restriction.
pub struct Admin {
    client: tokio_postgres::Client,
    /// Dropped with the client; tells its task to say goodbye and stop.
    connection: Connection,
    deadline: Duration,
    broken: AtomicBool,
}

impl Admin {
    /// Connects to the configured database. `timeouts.statement` and `timeouts.lock` hold on the
    /// server; our own deadline for one call lies one second above the first.
    ///
    /// # Errors
    /// Each endpoint is tried in turn; the error is that of the last one.
    pub async fn connect(connect: &Connect, timeouts: &Timeouts) -> Result<Self, ConnectError> {
        let (client, connection, endpoint) =
            open(connect, None, timeouts, OWN_LIMITS, None).await?;
        let admin = Self {
            client,
            connection,
            deadline: timeouts.statement + GRACE,
            broken: AtomicBool::new(false),
        };
        let set = format!(
            "SET statement_timeout = {}; SET lock_timeout = {}",
            timeouts.statement.as_millis(),
            timeouts.lock.as_millis()
        );
        let facts = |source: CollectError| ConnectError::Facts {
            endpoint: endpoint.to_string(),
            source: source.into(),
        };
        admin.batch(&set).await.map_err(facts)?;
        Ok(admin)
    }

    /// Runs statements separated by semicolons, in one implicit transaction.
    ///
    /// # Errors
    /// [`CollectError`], that of the first statement that failed.
    pub async fn batch(&self, sql: &str) -> Result<(), CollectError> {
        self.within_deadline(async {
            self.client.batch_execute(sql).await.map_err(|e| self.connection.collect_error(e))
        })
        .await
    }

    /// The rows of one query.
    ///
    /// # Errors
    /// [`CollectError`].
    pub async fn rows<'q>(&self, query: impl Into<Query<'q>>) -> Result<Vec<Row>, CollectError> {
        let query = query.into();
        self.within_deadline(async {
            let rows = self.client.query_typed(query.sql(), query.params()).await;
            let failed = |e| self.connection.collect_error(e);
            let (budget, mut made) =
                (Budget::new(u64::MAX), RowsOf::new(self.connection.veil(), usize::MAX));
            for row in &rows.map_err(failed)? {
                made.push(row, &budget).map_err(failed)?;
            }
            Ok(made.finish().0)
        })
        .await
    }

    /// Begins `COPY ... FROM STDIN`.
    ///
    /// # Errors
    /// [`CollectError`].
    pub async fn copy(&self, sql: &str) -> Result<Copy<'_>, CollectError> {
        let sink = self
            .within_deadline(async {
                self.client.copy_in(sql).await.map_err(|e| self.connection.collect_error(e))
            })
            .await?;
        Ok(Copy { admin: self, sink: Box::pin(sink) })
    }

    /// Prepares a named statement that lives as long as this connection.
    ///
    /// # Errors
    /// [`CollectError`].
    pub async fn prepare(&self, sql: &str) -> Result<Prepared, CollectError> {
        self.within_deadline(async {
            self.client
                .prepare(sql)
                .await
                .map(Prepared)
                .map_err(|e| self.connection.collect_error(e))
        })
        .await
    }

    /// Executes a prepared statement and reads its answer to the end.
    ///
    /// # Errors
    /// [`CollectError`].
    pub async fn execute(
        &self,
        statement: &Prepared,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<(), CollectError> {
        self.within_deadline(async {
            self.client
                .execute(&statement.0, params)
                .await
                .map(drop)
                .map_err(|e| self.connection.collect_error(e))
        })
        .await
    }

    /// Whether the connection is of no more use.
    pub fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed) || self.client.is_closed()
    }

    async fn within_deadline<T>(
        &self,
        work: impl Future<Output = Result<T, CollectError>>,
    ) -> Result<T, CollectError> {
        let result = timeout(self.deadline, work)
            .await
            .unwrap_or(Err(CollectError::Deadline(self.deadline)));
        if result.as_ref().is_err_and(CollectError::is_fatal) {
            self.broken.store(true, Ordering::Relaxed);
        }
        result
    }
}

/// A `COPY ... FROM STDIN` under way, the only thing that its connection may do meanwhile. Dropped
/// before its end, it is rolled back. Each step has the connection's deadline.
pub struct Copy<'a> {
    admin: &'a Admin,
    sink: Pin<Box<tokio_postgres::CopyInSink<Bytes>>>,
}

impl Copy<'_> {
    /// Sends whole lines; waits while the server is behind.
    ///
    /// # Errors
    /// [`CollectError`]: what the server found wrong with this or with what was sent before.
    pub async fn send(&mut self, lines: Bytes) -> Result<(), CollectError> {
        let sink = &mut self.sink;
        let connection = &self.admin.connection;
        self.admin
            .within_deadline(async {
                match sink.send(lines).await {
                    Ok(()) => Ok(()),
                    // The driver only says that it is closed; the server's reason comes as the answer.
                    Err(closed) => match sink.as_mut().finish().await {
                        Ok(_) => Err(connection.collect_error(closed)),
                        Err(reason) => Err(connection.collect_error(reason)),
                    },
                }
            })
            .await
    }

    /// Commits; returns the rows it added.
    ///
    /// # Errors
    /// [`CollectError`].
    pub async fn finish(mut self) -> Result<u64, CollectError> {
        let sink = &mut self.sink;
        let connection = &self.admin.connection;
        self.admin
            .within_deadline(async {
                sink.as_mut().finish().await.map_err(|e| connection.collect_error(e))
            })
            .await
    }
}
