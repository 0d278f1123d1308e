//! The only door to PostgreSQL: sessions with deadlines, server facts, typed rows.
//!
//! Must not: know a collector or a metric. Nothing outside this module names `tokio_postgres`.

mod admin;
mod bench;
mod cell;
mod columns;
mod command;
mod connect;
mod degrade;
mod elsewhere;
pub mod framing;
mod guard;
mod password;
mod quota;
mod redact;
mod row;
mod server;
mod session;
mod socket;
mod tls;
mod trust;
mod words;

pub use crate::clock::Clock;
pub use admin::{Admin, Copy, Prepared, ToSql};
pub use bench::{Bench, BenchStatement, Canceller};
pub use cell::{WrittenAnswer, WrittenCell};
pub(crate) use columns::columns;
pub use columns::{
    Cells, Count, FromRow, IfColumn, IfFound, Milliseconds, OrFalse, OrZero, Uncut, Unfit, Whole,
};
pub use elsewhere::settle;
pub use quota::Quota;
pub(crate) use row::cut;
pub use row::{LONGEST_TEXT, Lossy, Row, TooLong};
pub use server::{Extension, Server};
pub use session::{ConsoleTable, OWN_MARK, Query, Remarks, Session, WrittenManner};
pub use socket::{Reached, reach};
pub use tokio_postgres::types::Type;
pub use trust::{ExtensionTable, Need, Trusted};
