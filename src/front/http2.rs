//! HTTP/2 to callers (RFC 9113), on h2. One task drives a connection, and each of its requests has one of its own:
//! `exchange` is a request and its response, `sending` a response's body, `pings` ask a caller that says nothing whether it
//! is there. `connect` makes an ordinary change of protocols of an extended CONNECT (RFC 8441), and `switched` are its
//! bytes.

use std::{
    future::{Future, poll_fn},
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::{RecvStream, server};

use super::opening::Stream;

mod connect;
mod exchange;
mod pings;
mod sending;
mod switched;

pub use exchange::Exchange;
pub use sending::Ended;
pub use switched::Switched;

use pings::Pings;

/// A caller's connection.
pub struct Connection {
    connection: server::Connection<Stream, Bytes>,
    pings: Pings,
    /// Whether no more requests are taken.
    closing: bool,
}

impl Connection {
    /// Speaks HTTP/2 on a new connection; heads may have `header_bytes` bytes.
    ///
    /// # Errors
    /// When the caller does not.
    pub async fn open(stream: Stream, header_bytes: usize) -> Result<Self, h2::Error> {
        let mut connection = server::Builder::new()
            .initial_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(u32::try_from(header_bytes).unwrap_or(u32::MAX))
            .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
            .enable_connect_protocol()
            .handshake(stream)
            .await?;
        let pings = Pings::new(connection.ping_pong());
        Ok(Connection { connection, pings, closing: false })
    }

    /// Takes no more requests. What has begun goes on.
    pub fn close(&mut self) {
        if !std::mem::replace(&mut self.closing, true) {
            self.connection.graceful_shutdown();
        }
    }

    /// Drives the connection to its end, and gives each request to `begin`. It is closed once `drain` is done.
    ///
    /// # Errors
    /// When it ends before its time.
    pub async fn run(
        mut self,
        mut drain: Pin<&mut impl Future<Output = ()>>,
        mut begin: impl FnMut(http::Request<RecvStream>, server::SendResponse<Bytes>),
    ) -> Result<(), h2::Error> {
        poll_fn(|cx| {
            if !self.closing && drain.as_mut().poll(cx).is_ready() {
                self.close();
            }
            self.poll(&mut begin, cx)
        })
        .await
    }

    fn poll(
        &mut self,
        begin: &mut impl FnMut(http::Request<RecvStream>, server::SendResponse<Bytes>),
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), h2::Error>> {
        loop {
            if self.pings.poll_gone(cx).is_ready() {
                return Poll::Ready(Err(h2::Reason::NO_ERROR.into()));
            }
            match ready!(self.connection.poll_accept(cx)) {
                Some(Ok((request, respond))) => begin(request, respond),
                Some(Err(error)) => return Poll::Ready(Err(error)),
                None => return Poll::Ready(Ok(())),
            }
        }
    }
}

/// Whether a write took too long.
pub fn has_timed_out(error: &h2::Error) -> bool {
    error.get_io().is_some_and(|error| error.kind() == io::ErrorKind::TimedOut)
}

/// Bytes that a caller may send ahead of the reader, on a stream and on all of a connection.
const WINDOW: u32 = 1024 * 1024;
/// Requests open on one connection at most.
const MAX_STREAMS: u32 = 256;
/// Streams that a caller opened and took back before they were looked at, at most; a flood of them ends the
/// connection (CVE-2023-44487).
const MAX_PENDING_RESETS: usize = 20;
