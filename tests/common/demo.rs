//! `pgrunway demo` as its user starts it: a real PostgreSQL, the load, and the exporter on it.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Child;
use tokio::time::{Instant, sleep, timeout};

use super::http;
use super::process::command;

/// `pgrunway demo`, its output, where it serves and how to reach its database.
pub struct Demo {
    child: Child,
    pub address: SocketAddr,
    uri: String,
}

impl Demo {
    pub async fn start(args: &[&str]) -> Self {
        let mut all = vec!["demo", "--web.listen-address=127.0.0.1:0"];
        all.extend(args);
        let mut child =
            command(&all, &[]).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (mut address, mut uri, mut seen) = (None, None, String::new());
        let start = async {
            while address.is_none() || uri.is_none() {
                let line = lines.next_line().await.unwrap();
                let Some(line) = line else { panic!("the demo ended: {seen}") };
                if let Some(rest) = line.trim().strip_prefix("metrics") {
                    let url = rest.trim().strip_prefix("http://").unwrap();
                    address = Some(url.strip_suffix("/metrics").unwrap().parse().unwrap());
                }
                if line.trim().starts_with("psql") {
                    uri = Some(line.split('\'').nth(1).unwrap().to_owned());
                }
                seen.push_str(&line);
                seen.push('\n');
            }
        };
        timeout(Duration::from_secs(180), start).await.expect("the demo starts");
        // Whoever stops reading must not stop the demo.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self { child, address: address.unwrap(), uri: uri.unwrap() }
    }

    pub async fn metrics(&self) -> String {
        http::get(self.address, "/metrics").await.text()
    }

    pub async fn wait(&self, what: &str, want: impl Fn(&str) -> bool) -> String {
        let end = Instant::now() + Duration::from_secs(120);
        loop {
            let text = self.metrics().await;
            if want(&text) {
                return text;
            }
            assert!(Instant::now() < end, "{what}:\n{text}");
            sleep(Duration::from_millis(250)).await;
        }
    }

    pub async fn database(&self) -> tokio_postgres::Client {
        // The driver wants the socket's folder as a host, which it takes from `host=` too.
        let (client, connection) = self
            .uri
            .parse::<tokio_postgres::Config>()
            .unwrap()
            .connect(tokio_postgres::NoTls)
            .await
            .unwrap();
        tokio::spawn(connection);
        client
    }

    pub async fn stop(mut self) {
        let pid = Pid::from_raw(i32::try_from(self.child.id().unwrap()).unwrap());
        kill(pid, Signal::SIGINT).unwrap();
        let status = timeout(Duration::from_secs(15), self.child.wait()).await.unwrap().unwrap();
        assert!(status.success(), "{status}");
        let folder = self.uri.split("host=").nth(1).unwrap().split('&').next().unwrap();
        assert!(!Path::new(folder).exists(), "{folder} is left behind");
    }
}
