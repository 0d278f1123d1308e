//! A stream whose bytes are followed by [`Framing`] as they are read, on the side where they are plain.
//!
//! Must not: change, delay or keep a byte.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, TlsStream};

use super::framing::{Framing, Limits, Refusal};

/// Why a connection was given up, for whoever waits for an answer: the driver says only that it is closed.
pub(super) type GivenUp = Arc<OnceLock<Refusal>>;

/// Follows one connection.
pub(super) struct Guard {
    framing: Framing,
    refused: GivenUp,
}

impl Guard {
    pub(super) fn new(limits: Limits, asks_tls: bool) -> Self {
        Self { framing: Framing::new(limits, asks_tls), refused: GivenUp::default() }
    }

    /// Where the reason will be.
    pub(super) fn refused(&self) -> GivenUp {
        self.refused.clone()
    }

    fn follow(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.refused.get().is_none() {
            let Err(refusal) = self.framing.take(bytes) else { return Ok(()) };
            let _ = self.refused.set(refusal);
        }
        Err(io::Error::other(self.refused.get().map(ToString::to_string).unwrap_or_default()))
    }
}

/// A stream, and who follows what is read from it.
pub(super) struct Guarded<S> {
    stream: S,
    guard: Option<Guard>,
}

impl<S> Guarded<S> {
    pub(super) fn new(stream: S, guard: Option<Guard>) -> Self {
        Self { stream, guard }
    }

    /// What is read from now on is cipher text: the guard goes to where it is plain.
    pub(super) fn take_guard(&mut self) -> Option<Guard> {
        self.guard.take()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        match &mut this.guard {
            Some(guard) => Poll::Ready(guard.follow(&buf.filled()[before..])),
            None => Poll::Ready(Ok(())),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

impl<S: TlsStream + Unpin> TlsStream for Guarded<S> {
    fn channel_binding(&self) -> ChannelBinding {
        self.stream.channel_binding()
    }
}
