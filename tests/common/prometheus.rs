//! A real Prometheus, started on loopback with a configuration of the test's own.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use super::http;
use super::tools::{free_address, program};

/// A running Prometheus; killed when dropped, its folder removed.
pub struct Prometheus {
    pub address: SocketAddr,
    _child: Child,
    dir: tempfile::TempDir,
}

impl Prometheus {
    /// Scrapes `targets` as job `pgrunway` every second, with the rule files given.
    pub async fn start(targets: &[SocketAddr], rules: &[&Path]) -> Self {
        Self::start_with(targets, rules, 1, &[]).await
    }

    /// Scrapes what an exporter lists under `/targets`, configured as in the shipped example.
    pub async fn discover(exporter: SocketAddr) -> Self {
        let config = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\nscrape_configs:\n\
             - job_name: pgrunway\n  http_sd_configs:\n  - url: http://{exporter}/targets\n    \
             refresh_interval: 1s\n"
        );
        Self::configured(&config, &[]).await
    }

    /// As [`Prometheus::start`], with the seconds between two scrapes and flags of the test's own.
    pub async fn start_with(
        targets: &[SocketAddr],
        rules: &[&Path],
        interval: u32,
        flags: &[&str],
    ) -> Self {
        let list = |items: Vec<String>| items.join(", ");
        let config = format!(
            "global: {{scrape_interval: {interval}s, scrape_timeout: 1s, evaluation_interval: 1s}}\n\
             rule_files: [{}]\nscrape_configs:\n- job_name: pgrunway\n  static_configs:\n  \
             - targets: [{}]\n",
            list(rules.iter().map(|p| format!("'{}'", p.display())).collect()),
            list(targets.iter().map(|a| format!("'{a}'")).collect()),
        );
        Self::configured(&config, flags).await
    }

    /// With a configuration of the test's own, whose paths are absolute.
    pub async fn configured(config: &str, flags: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("prometheus.yml");
        std::fs::write(&file, config).unwrap();
        let address = free_address();
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let child = Command::new(program("prometheus"))
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .expect("Prometheus is needed: scripts/deps test installs it");
        let this = Self { address, _child: child, dir };
        let end = Instant::now() + Duration::from_secs(30);
        while !this.ready().await {
            assert!(Instant::now() < end, "Prometheus is not ready: {}", this.log());
            sleep(Duration::from_millis(100)).await;
        }
        this
    }

    async fn ready(&self) -> bool {
        tokio::net::TcpStream::connect(self.address).await.is_ok()
            && http::get(self.address, "/-/ready").await.status == 200
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// What a path of the API gives.
    pub async fn api(&self, path: &str) -> Value {
        let answer = http::get(self.address, &format!("/api/v1/{path}")).await;
        let mut json: Value = serde_json::from_slice(&answer.body)
            .unwrap_or_else(|e| panic!("{e}: {}", answer.text()));
        assert_eq!(json["status"], "success", "{path}: {json}");
        json["data"].take()
    }

    /// The vector of an instant query: label sets and values.
    pub async fn query(&self, expr: &str) -> Vec<(Value, f64)> {
        self.ask(expr, "").await
    }

    /// As [`Prometheus::query`], at a Unix time in seconds.
    pub async fn query_at(&self, expr: &str, time: f64) -> Vec<(Value, f64)> {
        self.ask(expr, &format!("&time={time:.3}")).await
    }

    async fn ask(&self, expr: &str, at: &str) -> Vec<(Value, f64)> {
        let encoded: String = expr.bytes().map(|b| format!("%{b:02X}")).collect();
        let data = self.api(&format!("query?query={encoded}{at}")).await;
        let result = data["result"].as_array().unwrap_or_else(|| panic!("{data}"));
        result
            .iter()
            .map(|r| (r["metric"].clone(), r["value"][1].as_str().unwrap().parse::<f64>().unwrap()))
            .collect()
    }

    /// Waits until a query gives something.
    pub async fn wait(&self, expr: &str) -> Vec<(Value, f64)> {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let result = self.query(expr).await;
            if !result.is_empty() {
                return result;
            }
            assert!(Instant::now() < end, "nothing for {expr}: {}", self.log());
            sleep(Duration::from_millis(250)).await;
        }
    }
}
