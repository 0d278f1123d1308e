//! The socket under a session: opened with a deadline, watched by keepalives, and closed only when
//! the server has closed its end, so that the next connection never comes on top of the last one.
//!
//! Must not: know PostgreSQL's protocol.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::config::Endpoint;

/// A peer that went silent is noticed within idle + retries intervals even while we only read.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 3;
/// Unacknowledged data (a blackholed network) ends the connection after this.
const USER_TIMEOUT: Duration = Duration::from_secs(15);

/// A connected socket.
pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    /// Connects within `limit`; an expired limit is [`io::ErrorKind::TimedOut`].
    pub(super) async fn open(endpoint: &Endpoint, limit: Duration) -> io::Result<Self> {
        match endpoint {
            Endpoint::Tcp { host, port } => {
                let stream = timeout(limit, TcpStream::connect((host.as_str(), *port))).await??;
                stream.set_nodelay(true)?;
                let options = SockRef::from(&stream);
                #[cfg(target_os = "linux")]
                options.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
                options.set_tcp_keepalive(
                    &TcpKeepalive::new()
                        .with_time(KEEPALIVE_IDLE)
                        .with_interval(KEEPALIVE_INTERVAL)
                        .with_retries(KEEPALIVE_RETRIES),
                )?;
                Ok(Self::Tcp(stream))
            }
            Endpoint::Unix { directory, port } => {
                let path = directory.join(format!(".s.PGSQL.{port}"));
                Ok(Self::Unix(timeout(limit, UnixStream::connect(path)).await??))
            }
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    /// Ends our side, then waits for the end of the other: a backend closes its socket by exiting,
    /// and only then does it not count as a connection any more. Whoever shuts down bounds the wait.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match this {
            Self::Tcp(stream) => ready!(Pin::new(stream).poll_shutdown(cx))?,
            Self::Unix(stream) => ready!(Pin::new(stream).poll_shutdown(cx))?,
        }
        let mut scratch = [0; 512];
        loop {
            let mut buf = ReadBuf::new(&mut scratch);
            ready!(Pin::new(&mut *this).poll_read(cx, &mut buf))?;
            if buf.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}
