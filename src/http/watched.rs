//! A connection's socket and the bodies of its answers, which report to its slot what they do.
//!
//! Must not: buffer, change or delay a byte.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::coop::has_budget_remaining;

use super::slots::Slot;

/// The socket.
pub struct WatchedSocket {
    inner: TcpStream,
    slot: Arc<Slot>,
}

impl WatchedSocket {
    /// A socket that reports to a slot.
    pub fn new(inner: TcpStream, slot: Arc<Slot>) -> Self {
        Self { inner, slot }
    }
}

impl Drop for WatchedSocket {
    fn drop(&mut self) {
        if self.slot.was_cut() {
            // The kernel would keep what the client did not read for minutes.
            let _ = self.inner.set_zero_linger();
        }
    }
}

impl AsyncRead for WatchedSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let outcome = Pin::new(&mut self.inner).poll_read(cx, buf);
        match outcome {
            // Without a budget left the socket was not looked at.
            Poll::Pending if has_budget_remaining() => self.slot.waits(),
            Poll::Ready(Ok(())) if buf.filled().len() > before => self.slot.received(),
            Poll::Pending | Poll::Ready(_) => {}
        }
        outcome
    }
}

impl AsyncWrite for WatchedSocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.slot.sends();
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.slot.sends();
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    // hyper asks for it once its own buffer is empty.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.inner).poll_flush(cx);
        if outcome.is_ready() {
            self.slot.sent();
        }
        outcome
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// From a request's head to the end of its answer, whichever way it ends.
pub struct Answering(Arc<Slot>);

impl Answering {
    /// A request's head is complete.
    pub fn begin(slot: &Arc<Slot>) -> Self {
        slot.asked();
        Self(slot.clone())
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.answered();
    }
}

/// The body of an answer.
pub struct WatchedBody {
    body: Body,
    answering: Answering,
}

impl WatchedBody {
    /// A body that reports to the slot of the request.
    pub fn new(body: Body, answering: Answering) -> Self {
        Self { body, answering }
    }
}

impl HttpBody for WatchedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &frame
            && let Some(bytes) = frame.data_ref()
        {
            self.answering.0.holds(bytes);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
