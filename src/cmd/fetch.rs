//! A page of an exporter on this machine, for the health check and for the demo's screen.
//!
//! Must not: be used for anything but pgrunway's own pages.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The body of a page. HTTP/1.0, so that it comes in one piece and the connection ends with it.
///
/// # Errors
/// Nothing answers, or not with 200.
pub async fn get(listen: SocketAddr, path: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(&*reachable(listen)).await.with_context(|| {
        format!("nothing answers at {listen}; give the address with --web.listen-address")
    })?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: {listen}\r\nAccept: text/plain\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").context("not an HTTP answer")?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    ensure!(status == "200", "{path} answered {status}");
    Ok(body.to_owned())
}

/// Where something that listens on an address can be reached from here. Who listens on all addresses
/// is on loopback too, by IPv4 where the machine has no IPv6.
pub fn reachable(listen: SocketAddr) -> Vec<SocketAddr> {
    let at = |ip| SocketAddr::new(ip, listen.port());
    match listen.ip() {
        ip if !ip.is_unspecified() => vec![listen],
        IpAddr::V4(_) => vec![at(IpAddr::V4(Ipv4Addr::LOCALHOST))],
        IpAddr::V6(_) => {
            vec![at(IpAddr::V6(Ipv6Addr::LOCALHOST)), at(IpAddr::V4(Ipv4Addr::LOCALHOST))]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_addresses_are_reached_on_loopback() {
        for (listen, ask) in [
            ("0.0.0.0:9187", vec!["127.0.0.1:9187"]),
            ("[::]:9187", vec!["[::1]:9187", "127.0.0.1:9187"]),
            ("10.1.2.3:1", vec!["10.1.2.3:1"]),
        ] {
            let ask: Vec<SocketAddr> = ask.into_iter().map(|a| a.parse().unwrap()).collect();
            assert_eq!(reachable(listen.parse().unwrap()), ask);
        }
    }
}
