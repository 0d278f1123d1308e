//! A real Alertmanager on loopback, and a webhook that keeps what it is told.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::{StatusCode, Uri};
use serde_json::Value;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use super::http;
use super::tools::free_address;

/// A running Alertmanager; killed when dropped, its folder removed.
pub struct Alertmanager {
    pub address: SocketAddr,
    _child: Child,
    dir: tempfile::TempDir,
}

/// Debian's name for it, or the project's own.
fn program() -> PathBuf {
    let names = ["prometheus-alertmanager", "alertmanager"];
    let path = std::env::var_os("PATH").unwrap();
    let mut found = std::env::split_paths(&path).flat_map(|dir| names.map(|n| dir.join(n)));
    found.find(|p| p.is_file()).expect("Alertmanager is needed: scripts/deps test installs it")
}

impl Alertmanager {
    /// Runs with a configuration, alone: no cluster.
    pub async fn start(config: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("alertmanager.yml");
        std::fs::write(&file, config).unwrap();
        let address = free_address();
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let child = Command::new(program())
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.path={}", dir.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--cluster.listen-address=")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let this = Self { address, _child: child, dir };
        let end = Instant::now() + Duration::from_secs(30);
        while !this.ready().await {
            assert!(Instant::now() < end, "Alertmanager is not ready: {}", this.log());
            sleep(Duration::from_millis(100)).await;
        }
        this
    }

    async fn ready(&self) -> bool {
        tokio::net::TcpStream::connect(self.address).await.is_ok()
            && http::get(self.address, "/-/ready").await.status == 200
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// What it knows of all alerts: labels, and whether and by what each is suppressed.
    pub async fn alerts(&self) -> Vec<Value> {
        let answer = http::get(self.address, "/api/v2/alerts").await;
        serde_json::from_slice(&answer.body).unwrap_or_else(|e| panic!("{e}: {}", answer.text()))
    }
}

/// One notification.
#[derive(Debug, Clone)]
pub struct Notice {
    pub at: Instant,
    pub path: String,
    pub body: Value,
}

/// An HTTP server that takes notifications on any path.
pub struct Webhook {
    pub address: SocketAddr,
    notices: Arc<Mutex<Vec<Notice>>>,
}

impl Webhook {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let notices: Arc<Mutex<Vec<Notice>>> = Arc::default();
        let kept = notices.clone();
        let take = move |uri: Uri, body: Bytes| async move {
            let Ok(body) = serde_json::from_slice(&body) else { return StatusCode::BAD_REQUEST };
            let notice = Notice { at: Instant::now(), path: uri.path().to_owned(), body };
            kept.lock().unwrap().push(notice);
            StatusCode::OK
        };
        let app = Router::new().fallback(take);
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { address, notices }
    }

    pub fn notices(&self) -> Vec<Notice> {
        self.notices.lock().unwrap().clone()
    }

    /// Waits until a notification holds an alert with this state (`firing` or `resolved`) and label
    /// values; gives the notification and the alert.
    pub async fn wait(
        &self,
        status: &str,
        labels: &[(&str, &str)],
        limit: Duration,
    ) -> Result<(Notice, Value), String> {
        let end = Instant::now() + limit;
        loop {
            let notices = self.notices();
            for notice in &notices {
                let alerts = notice.body["alerts"].as_array().unwrap();
                let wanted = alerts.iter().find(|alert| {
                    alert["status"] == status
                        && labels.iter().all(|(name, value)| alert["labels"][name] == *value)
                });
                if let Some(alert) = wanted {
                    return Ok((notice.clone(), alert.clone()));
                }
            }
            if Instant::now() > end {
                return Err(format!("not {status} within {limit:?}: {labels:?}: {notices:#?}"));
            }
            sleep(Duration::from_millis(100)).await;
        }
    }
}
