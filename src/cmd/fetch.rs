//! A page of an exporter on this machine, for the health check and for the demo's screen.
//!
//! Must not: be used for anything but pgrunway's own pages.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context, ensure};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::http::over_tls;

/// What our port answers plain HTTP with where it speaks TLS.
const TLS_WANTED: &str = "Client sent an HTTP request to an HTTPS server.";

/// An answer.
pub struct HttpAnswer {
    /// Its status.
    pub status: u16,
    /// Its body, unless it is to be known by its status.
    pub body: String,
}

/// The body of a page.
///
/// # Errors
/// Nothing answers, or not with 200.
pub async fn get(listen: SocketAddr, path: &str) -> anyhow::Result<String> {
    let answer = ask(listen, path).await?;
    ensure!(answer.status == 200, "{path} answered {}", answer.status);
    Ok(answer.body)
}

/// The answer to a GET, over TLS where plain HTTP is not what is spoken there.
///
/// # Errors
/// Nothing answers.
pub async fn ask(listen: SocketAddr, path: &str) -> anyhow::Result<HttpAnswer> {
    // HTTP/1.0, so that it comes in one piece and the connection ends with it.
    let request = format!("GET {path} HTTP/1.0\r\nHost: {listen}\r\nAccept: text/plain\r\n\r\n");
    let plain = exchange(connect(listen).await?, &request).await.and_then(|text| answer(&text));
    match plain {
        Ok(answer) if answer.status == 400 && answer.body.contains(TLS_WANTED) => {}
        Ok(answer) => return Ok(answer),
        Err(e) => return Err(e),
    }
    let secured = over_tls(connect(listen).await?).await?;
    answer(&exchange(secured, &request).await?)
}

async fn connect(listen: SocketAddr) -> anyhow::Result<TcpStream> {
    TcpStream::connect(&*reachable(listen)).await.with_context(|| {
        format!("nothing answers at {listen}; give the address with --web.listen-address")
    })
}

async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    request: &str,
) -> anyhow::Result<String> {
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

fn answer(text: &str) -> anyhow::Result<HttpAnswer> {
    let (head, body) = text.split_once("\r\n\r\n").context("not an HTTP answer")?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok(HttpAnswer { status: status.context("not an HTTP answer")?, body: body.to_owned() })
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
