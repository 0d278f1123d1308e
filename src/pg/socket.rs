//! The socket under a session: opened with a deadline, watched by keepalives, and closed only when
//! the server has closed its end, so that the next connection never comes on top of the last one. One
//! that is dropped before keeps its place in the [`Quota`] until then.
//!
//! Must not: know PostgreSQL's protocol.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout};

use super::quota::{Destination, Full, Quota, Ticket};
use crate::config::{Allow, Endpoint};

/// A peer that went silent is noticed within idle + retries intervals even while we only read.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 3;
/// Unacknowledged data (a blackholed network) ends the connection after this.
const USER_TIMEOUT: Duration = Duration::from_secs(15);
/// Names that are looked up at a time. A lookup cannot be cancelled, and where the resolver is silent
/// each holds a thread for long after its limit: of the 512 that there are, pages need some too.
static LOOKUPS: Semaphore = Semaphore::const_new(256);

/// What a connection that was given up may still send before it is cut: its backend then notices at
/// its next write.
const MOST_DISCARDED: usize = 1 << 20;
/// A connection that was given up counts for so long at the most. Keepalives notice a machine that is
/// gone; this is for a proxy that lives on and holds the connection of a server that does not.
const LEFT_FOR: Duration = Duration::from_secs(3600);

/// A name leads nowhere that it may lead to.
#[derive(Debug)]
pub(super) struct Forbidden;

impl std::fmt::Display for Forbidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("its name leads where no probe may go")
    }
}

impl std::error::Error for Forbidden {}

/// Why a host's name has no address.
#[derive(Debug)]
pub(super) struct NoAddress(io::Error);

impl std::fmt::Display for NoAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for NoAddress {}

impl NoAddress {
    /// Whether the resolver did not answer in time.
    pub(super) fn is_late(&self) -> bool {
        self.0.kind() == io::ErrorKind::TimedOut
    }
}

/// How far an endpoint was reached.
#[derive(Debug, Default)]
pub struct Reached {
    /// Its addresses; none of a socket in the file system.
    pub addresses: Vec<IpAddr>,
    /// How long its name took to look up; `None` where that failed.
    pub name: Option<Duration>,
    /// How long a connection took; `None` where that failed.
    pub route: Option<Duration>,
}

/// Looks an endpoint's name up and opens a connection, which is closed at once: no byte is sent.
pub async fn reach(endpoint: &Endpoint, limit: Duration) -> Reached {
    let mut reached = Reached::default();
    let began = Instant::now();
    let addresses = match endpoint {
        Endpoint::Tcp { host, port } => match timeout(limit, look_up(host, *port)).await {
            Ok(Ok(addresses)) => addresses,
            _ => return reached,
        },
        Endpoint::Unix { directory, port } => {
            let path = directory.join(format!(".s.PGSQL.{port}"));
            reached.name = Some(Duration::ZERO);
            if matches!(timeout(limit, UnixStream::connect(path)).await, Ok(Ok(_))) {
                reached.route = Some(began.elapsed());
            }
            return reached;
        }
    };
    reached.name = Some(began.elapsed());
    reached.addresses = addresses.iter().map(SocketAddr::ip).collect();
    let began = Instant::now();
    if first_that_answers(&addresses, limit, None).await.is_ok() {
        reached.route = Some(began.elapsed());
    }
    reached
}

/// A connected socket.
pub(super) struct Socket {
    /// Taken when it is dropped.
    stream: Option<Stream>,
    /// Its place, where places are counted.
    ticket: Option<Ticket>,
    /// The first byte that came; 0 before.
    first: Arc<AtomicU8>,
    /// Whether the other end is closed.
    ended: bool,
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    /// Connects within `limit` to each address that a host name has, in the resolver's order, as
    /// libpq does; the name is looked up within `limit` too, else it is [`NoAddress`]. An expired limit is
    /// [`io::ErrorKind::TimedOut`]; the last address' error is the one returned, or [`Full`].
    pub(super) async fn open(
        endpoint: &Endpoint,
        limit: Duration,
        quota: Option<&Quota>,
        only: Option<&Allow>,
    ) -> io::Result<Self> {
        match endpoint {
            Endpoint::Tcp { host, port } => {
                let found = timeout(limit, look_up(host, *port)).await;
                let no_address = |e| io::Error::other(NoAddress(e));
                let mut addresses =
                    found.map_err(|late| no_address(late.into()))?.map_err(no_address)?;
                if let Some(only) = only {
                    addresses.retain(|address| only.address(host, *port, address.ip()));
                    if addresses.is_empty() {
                        return Err(io::Error::other(Forbidden));
                    }
                }
                let (stream, ticket) = first_that_answers(&addresses, limit, quota).await?;
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
                Ok(Self::new(Stream::Tcp(stream), ticket))
            }
            Endpoint::Unix { directory, port } => {
                let path = directory.join(format!(".s.PGSQL.{port}"));
                let peer = [Destination::Unix(path.clone())];
                let ticket = take(quota, &peer[0], &peer)?;
                let stream = timeout(limit, UnixStream::connect(path)).await??;
                Ok(Self::new(Stream::Unix(stream), ticket))
            }
        }
    }

    fn new(stream: Stream, ticket: Option<Ticket>) -> Self {
        Self { stream: Some(stream), ticket, first: Arc::default(), ended: false }
    }

    /// The first byte that comes, 0 until then, for whoever has no hold of the socket any more: a
    /// server without TLS answers a request for it with `N`.
    pub(super) fn first(&self) -> Arc<AtomicU8> {
        self.first.clone()
    }
}

impl Drop for Socket {
    /// The server's end may live on: it is a connection there until it closes.
    fn drop(&mut self) {
        let (Some(stream), Some(ticket)) = (self.stream.take(), self.ticket.take()) else { return };
        if self.ended {
            return;
        }
        if let Ok(runtime) = Handle::try_current() {
            ticket.leave();
            runtime.spawn(async move {
                let _ = timeout(LEFT_FOR, until_closed(stream)).await;
                drop(ticket);
            });
        }
    }
}

/// Ends our side, so that a backend goes when it next looks, and waits for the end of the other.
async fn until_closed(mut stream: Stream) {
    let _ = stream.shutdown().await;
    let (mut scratch, mut discarded) = ([0; 512], 0);
    while let Ok(read @ 1..) = stream.read(&mut scratch).await {
        discarded += read;
        if discarded > MOST_DISCARDED {
            return;
        }
    }
}

fn take(
    quota: Option<&Quota>,
    peer: &Destination,
    all: &[Destination],
) -> io::Result<Option<Ticket>> {
    quota.map(|quota| quota.take(peer, all)).transpose().map_err(io::Error::other)
}

/// Whether no place was free, as [`Socket::open`] says it.
pub(super) fn full(e: &io::Error) -> Option<Full> {
    e.get_ref().and_then(|source| source.downcast_ref()).copied()
}

/// Whoever gives up while it waits for its turn leaves nothing behind.
async fn look_up(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let turn = LOOKUPS.acquire().await.map_err(io::Error::other)?;
    let host = host.to_owned();
    let found = spawn_blocking(move || {
        let found = (host.as_str(), port).to_socket_addrs().map(Iterator::collect);
        drop(turn);
        found
    });
    found.await.map_err(io::Error::other)?
}

async fn first_that_answers(
    addresses: &[SocketAddr],
    limit: Duration,
    quota: Option<&Quota>,
) -> io::Result<(TcpStream, Option<Ticket>)> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host name has no address");
    let peers: Vec<Destination> = addresses.iter().copied().map(Destination::Tcp).collect();
    for (address, peer) in addresses.iter().zip(&peers) {
        let ticket = take(quota, peer, &peers)?;
        match timeout(limit, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok((stream, ticket)),
            Ok(Err(e)) => last = e,
            Err(late) => last = late.into(),
        }
    }
    Err(last)
}

impl AsyncRead for Stream {
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

impl AsyncWrite for Stream {
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

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

impl Socket {
    /// The stream is taken by `drop` alone.
    fn stream(&mut self) -> io::Result<Pin<&mut Stream>> {
        self.stream.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let (before, room) = (buf.filled().len(), buf.remaining());
        let read = ready!(this.stream()?.poll_read(cx, buf));
        let came = buf.filled().get(before..).unwrap_or_default();
        this.ended |= read.is_err() || (came.is_empty() && room > 0);
        if let Some(byte) = came.first() {
            let _ = this.first.compare_exchange(0, *byte, Ordering::Relaxed, Ordering::Relaxed);
        }
        Poll::Ready(read)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().stream()?.poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().stream()?.poll_flush(cx)
    }

    /// Ends our side, then waits for the end of the other: a backend closes its socket by exiting,
    /// and only then does it not count as a connection any more. Whoever shuts down bounds the wait.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.stream()?.poll_shutdown(cx))?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::{Domain, Type};

    /// An address that does not answer: its queue of one is full, so that Linux drops each SYN.
    fn silent() -> (SocketAddr, Vec<socket2::Socket>) {
        let socket = || socket2::Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let listener = socket();
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let mut held = vec![listener];
        for _ in 0..4 {
            let client = socket();
            client.set_nonblocking(true).unwrap();
            let _in_progress: std::io::Result<()> = client.connect(&address);
            held.push(client);
        }
        (address.as_socket().unwrap(), held)
    }

    #[tokio::test]
    async fn each_address_has_its_own_limit_and_the_last_error_wins() {
        let limit = Duration::from_millis(200);
        let (silent, _held) = silent();
        let good = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let good = (good.local_addr().unwrap(), good);
        let closed = SocketAddr::from(([127, 0, 0, 1], 1));
        let open = async |addresses: &[SocketAddr]| {
            let stream = first_that_answers(addresses, limit, None).await;
            stream.map(|(s, _)| s.peer_addr().unwrap()).map_err(|e| e.kind())
        };
        assert_eq!(open(&[silent, closed, good.0]).await, Ok(good.0));
        assert_eq!(open(&[closed, silent]).await, Err(io::ErrorKind::TimedOut));
        assert_eq!(open(&[silent, closed]).await, Err(io::ErrorKind::ConnectionRefused));
        assert_eq!(open(&[]).await, Err(io::ErrorKind::NotFound));
    }

    #[tokio::test]
    async fn a_socket_that_is_dropped_keeps_its_place_until_the_peer_has_closed() {
        use tokio::io::AsyncReadExt as _;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let endpoint = Endpoint::Tcp { host: "127.0.0.1".to_owned(), port };
        let (quota, limit) = (Quota::default(), Duration::from_secs(5));
        let open = || Socket::open(&endpoint, limit, Some(&quota), None);
        let first = open().await.unwrap();
        let (mut first_peer, _) = listener.accept().await.unwrap();
        let second = open().await.unwrap();
        let (second_peer, _) = listener.accept().await.unwrap();
        drop((first, second));
        assert_eq!(full(&open().await.err().unwrap()), Some(Full(2)));
        // The peer is told that nobody is there any more, and what it still sends hinders nobody.
        assert_eq!(first_peer.read(&mut [0; 8]).await.unwrap(), 0);
        first_peer.write_all(&[0; 1000]).await.unwrap();
        assert_eq!(quota.left_behind(), 2);
        // One ends in good order, the other by a reset.
        let mut freed = quota.freed();
        drop(first_peer);
        timeout(limit, freed.wait_for(|freed| *freed >= 1)).await.unwrap().unwrap();
        assert_eq!(quota.left_behind(), 1);
        let third = open().await.unwrap();
        second_peer.set_zero_linger().unwrap();
        drop(second_peer);
        timeout(limit, freed.wait_for(|freed| *freed >= 2)).await.unwrap().unwrap();
        assert_eq!(quota.left_behind(), 0);
        drop(third);
    }

    #[tokio::test]
    async fn a_connection_that_never_was_has_no_place() {
        let (quota, limit) = (Quota::default(), Duration::from_millis(100));
        let (silent, _held) = silent();
        for (port, kind) in
            [(1, io::ErrorKind::ConnectionRefused), (silent.port(), io::ErrorKind::TimedOut)]
        {
            let endpoint = Endpoint::Tcp { host: "127.0.0.1".to_owned(), port };
            for _ in 0..3 {
                let e = Socket::open(&endpoint, limit, Some(&quota), None).await.err().unwrap();
                assert_eq!((e.kind(), full(&e)), (kind, None));
            }
        }
    }
}
