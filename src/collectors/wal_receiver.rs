//! `pg_stat_wal_receiver`: where a standby gets its WAL and how far it is, under postgres_exporter's names.
//!
//! Must not: show more of the connection to the primary than its host.

use std::time::Duration;

use super::figures::figures;
use crate::collector::{Collector, Scope};
use crate::error::CollectError;
use crate::metric::{Metric, Sink};
use crate::pg::{Row, Session, columns};

const LABELS: &[&str] = &["upstream_host", "slot_name", "status"];

macro_rules! positions {
    ($($ident:ident $column:ident $what:literal;)*) => {
        $(static $ident: Metric = Metric::untyped(
            concat!("pg_stat_wal_receiver_", stringify!($column)),
            LABELS,
            concat!($what, ", pg_stat_wal_receiver.", stringify!($column), "."),
        )
        .counter_there();)*
    };
}
positions! {
    START receive_start_lsn "Position in bytes at which the receiver started";
    FLUSHED flushed_lsn "Position in bytes up to which WAL is on disk";
    SENT last_msg_send_time "Unix time at which the primary sent its last message";
    RECEIVED last_msg_receipt_time "Unix time at which that message arrived";
    END latest_end_lsn "Position in bytes that was last reported to the primary";
    END_TIME latest_end_time "Unix time at which that was reported";
}
static START_TLI: Metric = Metric::gauge(
    "pg_stat_wal_receiver_receive_start_tli",
    LABELS,
    "Timeline on which the receiver started, pg_stat_wal_receiver.receive_start_tli.",
);
static TLI: Metric = Metric::gauge(
    "pg_stat_wal_receiver_received_tli",
    LABELS,
    "Timeline of what was last received, pg_stat_wal_receiver.received_tli.",
);

/// A role without pg_read_all_stats sees nothing but the process.
const RECEIVER: &str = "\
SELECT COALESCE(r.sender_host, '') AS upstream_host, COALESCE(r.slot_name, '') AS slot_name,
       COALESCE(r.status, 'unknown') AS status,
       pg_catalog.pg_wal_lsn_diff(r.receive_start_lsn, '0/0')::float8 AS receive_start_lsn,
       pg_catalog.pg_wal_lsn_diff(r.flushed_lsn, '0/0')::float8 AS flushed_lsn,
       r.receive_start_tli::float8 AS receive_start_tli, r.received_tli::float8 AS received_tli,
       pg_catalog.date_part('epoch', r.last_msg_send_time)::float8 AS last_msg_send_time,
       pg_catalog.date_part('epoch', r.last_msg_receipt_time)::float8 AS last_msg_receipt_time,
       pg_catalog.pg_wal_lsn_diff(r.latest_end_lsn, '0/0')::float8 AS latest_end_lsn,
       pg_catalog.date_part('epoch', r.latest_end_time)::float8 AS latest_end_time
  FROM pg_catalog.pg_stat_wal_receiver r";

pub struct WalReceiver;

figures! {
    /// How far it is.
    pub struct ReceiverPosition: Option<f64> {
        /// Bytes.
        receive_start_lsn => START,
        /// Bytes.
        flushed_lsn => FLUSHED,
        /// Timeline.
        receive_start_tli => START_TLI,
        /// Timeline.
        received_tli => TLI,
        /// Unix seconds.
        last_msg_send_time => SENT,
        /// Unix seconds.
        last_msg_receipt_time => RECEIVED,
        /// Bytes.
        latest_end_lsn => END,
        /// Unix seconds.
        latest_end_time => END_TIME,
    }
}

columns! {
    /// The receiver.
    #[derive(Debug, Clone, PartialEq)]
    pub struct Receiver {
        /// Where the WAL comes from.
        pub upstream_host: String,
        /// By which slot; empty for none.
        pub slot_name: String,
        /// What it does.
        pub status: String,
        /// How far it is.
        pub figures: ReceiverPosition,
    }
}

impl Collector for WalReceiver {
    /// None where no WAL is received.
    type Rows = Vec<Receiver>;
    type State = ();
    const NAME: &'static str = "walreceiver";
    const HELP: &'static str = "Where a standby gets its WAL from, and how far it is.";
    const DEFAULT_ON: bool = false;
    const SCOPE: Scope = Scope::Server;
    const INTERVAL: Duration = Duration::from_secs(15);
    const METRICS: &'static [&'static Metric] = &ReceiverPosition::METRICS;

    async fn fetch(&self, session: &Session, (): &()) -> Result<Self::Rows, CollectError> {
        Row::all(&session.read(RECEIVER).await?)
    }

    fn derive(&self, (): &mut (), rows: Self::Rows, sink: &mut Sink) {
        for receiver in &rows {
            let labels = [&*receiver.upstream_host, &*receiver.slot_name, &*receiver.status];
            receiver.figures.emit(&labels, sink);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::golden::{check, poll};
    use super::*;

    #[test]
    fn golden() {
        let mut figures = ReceiverPosition::from([Some(5e7); ReceiverPosition::N]);
        figures.latest_end_time = None;
        let receiver = Receiver {
            upstream_host: "10.0.0.1".to_owned(),
            slot_name: "st\"andby".to_owned(),
            status: "streaming".to_owned(),
            figures,
        };
        check("walreceiver", &poll(&WalReceiver, &mut (), vec![receiver]));
    }
}
