//! PgBouncer's console: `SHOW` commands, one at a time, by the simple protocol. It knows no
//! transaction, no setting of a session and no type but text.
//!
//! Must not: send anything but `SHOW` (a member of `stats_users` may do nothing else).

use std::pin::pin;

use futures_util::TryStreamExt;
use tokio_postgres::SimpleQueryMessage;

use super::Session;
use crate::config::TargetKind;
use crate::error::CollectError;
use crate::pg::Server;
use crate::pg::redact::Veil;
use crate::pg::row::Budget;
use crate::text::{LONGEST, bounded};

/// The answer to a `SHOW` command. Its columns differ between PgBouncer's versions, so they are
/// found by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConsoleTable {
    /// Names, in the order of the values.
    pub columns: Vec<String>,
    /// Values as text; `None` for NULL.
    pub rows: Vec<Vec<Option<String>>>,
}

/// What a value costs beside its bytes.
const VALUE: u64 = 64;

impl ConsoleTable {
    /// Where a column is, if this version has it.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|c| c == name)
    }

    /// False if it does not fit.
    fn add(&mut self, message: &SimpleQueryMessage, veil: &Veil, budget: &Budget) -> bool {
        match message {
            SimpleQueryMessage::RowDescription(columns) => {
                self.columns = columns.iter().map(|c| c.name().to_owned()).collect();
                true
            }
            SimpleQueryMessage::Row(row) => {
                let value = |i: usize| match row.try_get(i) {
                    Ok(text) => text.map(|text| {
                        let veiled = veil.value(text);
                        bounded(veiled.as_deref().unwrap_or(text), LONGEST).into_owned()
                    }),
                    Err(_) => Some(char::REPLACEMENT_CHARACTER.to_string()),
                };
                let values: Vec<_> = (0..row.len()).map(value).collect();
                let bytes = values.iter().flatten().map(|text| text.len() as u64).sum::<u64>();
                self.rows.push(values);
                budget.take(bytes + (1 + row.len() as u64) * VALUE)
            }
            _ => true,
        }
    }
}

impl Session {
    /// What `SHOW what` tells. Text that is not UTF-8 (a client may ask for a database by any name)
    /// becomes U+FFFD.
    ///
    /// # Errors
    /// [`CollectError`]; after a fatal one [`Session::is_broken`] holds.
    pub async fn show(&self, what: &str) -> Result<ConsoleTable, CollectError> {
        if self.kind() != TargetKind::Pooler {
            return Err(CollectError::Missing {
                what: "this is no console of PgBouncer".to_owned(),
                remedy: "connect to the database `pgbouncer` of the pooler".to_owned(),
            });
        }
        self.within_deadline(async {
            let command = format!("SHOW {what}");
            let failed = |e| self.connection.collect_error(e);
            let mut messages = pin!(self.client.simple_query_raw(&command).await.map_err(failed)?);
            let (budget, mut table) = (self.budget(), ConsoleTable::default());
            while let Some(message) = messages.try_next().await.map_err(failed)? {
                if !table.add(&message, self.connection.veil(), &budget) {
                    // A console cannot be asked to stop: the limit on an answer ends it.
                    drop(table);
                    while let Ok(Some(_)) = messages.try_next().await {}
                    return Err(budget.spent());
                }
            }
            Ok(table)
        })
        .await
    }

    /// That this session takes SQL.
    pub(super) fn takes_sql(&self) -> Result<(), CollectError> {
        match self.kind() {
            TargetKind::Server => Ok(()),
            TargetKind::Pooler => Err(CollectError::Missing {
                what: "PgBouncer's console takes no SQL".to_owned(),
                remedy: "connect to a database of the server".to_owned(),
            }),
        }
    }

    /// The version is all there is to know of a pooler.
    pub(super) async fn console_facts(&self) -> Result<Server, CollectError> {
        let shown = self.show("VERSION").await?;
        let version = shown.rows.into_iter().flatten().flatten().next().unwrap_or_default();
        Ok(Server { version, ..Server::default() })
    }
}
