//! The real postgres_exporter, as `scripts/deps rival` fetches it.
//!
//! Must not: pass where it is missing.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use crate::common::http;
use crate::common::tools::free_address;

/// Its collectors that are off unless asked for.
const OPT_IN: [&str; 10] = [
    "buffercache_summary",
    "database_wraparound",
    "long_running_transactions",
    "postmaster",
    "process_idle",
    "stat_activity_autovacuum",
    "stat_statements",
    "stat_wal_receiver",
    "statio_user_indexes",
    "xlog_location",
];

/// A running postgres_exporter; killed when dropped.
pub struct Rival {
    pub address: SocketAddr,
    _child: Child,
}

impl Rival {
    /// With its defaults, or with all its collectors.
    pub async fn start(dsn: &str, all: bool) -> Self {
        Self::start_with(dsn, all, &[]).await
    }

    /// The same with more arguments.
    pub async fn start_with(dsn: &str, all: bool, args: &[&str]) -> Self {
        let program = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join(".parts/postgres_exporter/0.19/postgres_exporter");
        assert!(program.is_file(), "{} is missing: scripts/deps rival", program.display());
        let address = free_address();
        let mut command = Command::new(program);
        command.arg(format!("--web.listen-address={address}")).arg("--log.level=error");
        command.args(args);
        if all {
            command.args(OPT_IN.map(|name| format!("--collector.{name}")));
            command.arg("--collector.stat_statements.include_query");
            command.args(["--collector.stat_checkpointer", "--collector.stat_progress_vacuum"]);
        }
        let child = command
            .env_clear()
            .env("DATA_SOURCE_NAME", dsn)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let this = Self { address, _child: child };
        let end = Instant::now() + Duration::from_secs(60);
        while tokio::net::TcpStream::connect(this.address).await.is_err() {
            assert!(Instant::now() < end, "postgres_exporter does not listen");
            sleep(Duration::from_millis(50)).await;
        }
        this
    }

    pub async fn metrics(&self) -> String {
        http::get(self.address, "/metrics").await.text()
    }
}
