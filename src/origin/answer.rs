//! What the origin answers: a head, and a body that arrives frame by frame.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{StatusCode, Version};
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, timeout};

use super::{http1, http2, pool::Pool, switched::Switched};
use crate::wire::{Code, Fault, Headers, Side};

/// The head of a response.
#[derive(Debug)]
pub struct Said {
    /// The status.
    pub status: StatusCode,
    /// What the origin speaks.
    pub version: Version,
    /// The headers as they came.
    pub headers: Headers,
}

/// A response whose head is here. Dropping it aborts the call.
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// What the origin speaks.
    pub version: Version,
    /// The headers as they came.
    pub headers: Headers,
    /// The body.
    pub body: AnswerBody,
}

/// The body of a response. Reading it also sends what is left of the request's body; dropping it before
/// its end aborts the call.
pub struct AnswerBody {
    source: Source,
    /// How long the origin may pause, and the flag that says so.
    idle: (Duration, &'static str),
    /// Runs while a frame is waited for.
    pause: Option<Pin<Box<Sleep>>>,
    waiting: bool,
}

/// Where frames come from.
pub(super) enum Source {
    /// None will come; the connection is back where it belongs.
    Ended,
    /// An HTTP/1 connection, and where it belongs.
    Http1 {
        /// What frames come on.
        connection: http1::Connection,
        /// Where the connection goes at the end.
        pool: Arc<Pool>,
    },
    /// A stream of an HTTP/2 connection.
    Http2(http2::Body),
    /// No frames: another protocol, after 101.
    Switched(Switched),
}

impl Source {
    /// Nothing more comes from it. An answer before the end of the request does not end that: the origin may still read
    /// (RFC 9112 section 9.3).
    pub(super) fn end(self) {
        match self {
            Source::Http1 { connection, pool } if connection.is_sending() => {
                let sent = timeout(MOST_AFTER, connection.sent());
                tokio::spawn(async move { sent.await.map(|connection| pool.checkin(connection)) });
            }
            Source::Http1 { connection, pool } => pool.checkin(connection),
            Source::Http2(body) if body.is_sending() => drop(tokio::spawn(timeout(MOST_AFTER, body.sent()))),
            Source::Http2(_) | Source::Ended | Source::Switched(_) => {}
        }
    }
}

impl Answer {
    /// The bytes of the connection, when the origin has switched protocols (101).
    pub fn into_upgraded(self) -> Option<Switched> {
        match self.body.source {
            Source::Switched(switched) => Some(switched),
            Source::Ended | Source::Http1 { .. } | Source::Http2(_) => None,
        }
    }
}

impl AnswerBody {
    pub(super) fn new(source: Source, idle: (Duration, &'static str)) -> Self {
        let mut body = AnswerBody { source, idle, pause: None, waiting: false };
        body.settle();
        body
    }

    /// The next frame: data, or trailers at the very end.
    ///
    /// # Errors
    /// A fault when the body is cut, or the origin pauses for too long.
    pub async fn frame(&mut self) -> Option<Result<Frame<Bytes>, Fault>> {
        poll_fn(|cx| self.poll_frame(cx)).await
    }

    /// The next frame if it is here already.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let polled = match &mut self.source {
            Source::Ended | Source::Switched(_) => return Poll::Ready(None),
            Source::Http1 { connection, .. } => connection.poll_frame(cx),
            Source::Http2(body) => body.poll_frame(cx),
        };
        let Poll::Ready(frame) = polled else { return self.poll_pause(cx) };
        self.waiting = false;
        match &frame {
            Some(Ok(_)) => self.settle(),
            Some(Err(_)) => self.source = Source::Ended,
            None => self.end(),
        }
        Poll::Ready(frame)
    }

    /// What is known of the length that is left.
    pub fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Ended | Source::Switched(_) => SizeHint::with_exact(0),
            Source::Http1 { connection, .. } => connection.size_hint(),
            Source::Http2(body) => body.size_hint(),
        }
    }

    /// Whether no frame will come, as far as is known.
    pub fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Ended | Source::Switched(_) => true,
            Source::Http1 { connection, .. } => connection.is_end_stream(),
            Source::Http2(body) => body.is_end_stream(),
        }
    }

    /// Gives the connection back when the last frame has been read.
    fn settle(&mut self) {
        if self.is_end_stream() && !matches!(self.source, Source::Switched(_)) {
            self.end();
        }
    }

    fn end(&mut self) {
        std::mem::replace(&mut self.source, Source::Ended).end();
    }

    /// Nothing is here: how long has that been so?
    fn poll_pause(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let (idle, flag) = self.idle;
        let pause = self.pause.get_or_insert_with(|| Box::pin(tokio::time::sleep(idle)));
        if !self.waiting {
            self.waiting = true;
            pause.as_mut().reset(Instant::now() + idle);
        }
        if pause.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        self.source = Source::Ended;
        let idle = humantime::format_duration(idle);
        let detail = format!("the origin sent nothing for {idle} in the middle of its response ({flag})");
        Poll::Ready(Some(Err(Fault::new(Code::OriginSilent, Side::Upstream, detail))))
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        AnswerBody::poll_frame(self.get_mut(), cx)
    }

    fn is_end_stream(&self) -> bool {
        AnswerBody::is_end_stream(self)
    }

    fn size_hint(&self) -> SizeHint {
        AnswerBody::size_hint(self)
    }
}

/// How long the rest of a request may take after its response, at most. One that streams ends before if it stands still.
const MOST_AFTER: Duration = Duration::from_secs(60 * 60);
