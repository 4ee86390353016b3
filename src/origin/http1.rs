//! HTTP/1 to the origin (RFC 9112). A call and its connection are driven by one task: handing each response
//! from a connection's task to the caller's would cost two wake-ups a request.
//!
//! `sending` is what goes out; `head` finds the response in what comes in, and [`crate::framing`] its end. While
//! a response is waited for, and while a connection is idle, it holds no buffer.

use std::{
    future::{Future, poll_fn},
    io,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::io::{AsyncRead, ReadBuf};

use super::{
    answer::Said,
    outgoing::{Go, Hear},
    stream::Stream,
    tls::certificate_refused,
};
use crate::{
    framing::{body::Body, input::Input},
    wire::{Code, Fault, Side},
};

pub mod head;
mod sending;
#[cfg(test)]
mod tests;

pub use sending::Sending;

use head::{Head, Heads, Malformed, Next};
use sending::Stopped;

/// A connection and the one request that is on it.
pub struct Connection {
    stream: Stream,
    input: Input,
    /// What is left of the request.
    sending: Option<Box<Sending>>,
    /// What is left of the response.
    body: Body,
    /// Whether another request may follow, as far as the last one goes.
    keeps: bool,
    /// When it was made.
    since: Instant,
}

/// Why there is no response, and the request when none of it can have left.
pub struct Failure {
    /// What is told to whoever asked.
    pub fault: Fault,
    /// The request itself.
    pub unsent: Option<Box<Sending>>,
}

impl Connection {
    /// Speaks HTTP/1 on a new connection.
    pub fn new(stream: Stream) -> Self {
        let since = Instant::now();
        Connection { stream, input: Input::default(), sending: None, body: Body::Ended, keeps: true, since }
    }

    /// How long ago it was made.
    pub fn age(&self) -> Duration {
        self.since.elapsed()
    }

    /// Whether another request can be sent; notices a close that has arrived.
    pub fn is_usable(&mut self) -> bool {
        let mut now = Context::from_waker(Waker::noop());
        if !self.keeps || !self.body.is_ended() || !self.input.buffer.is_empty() {
            return false;
        }
        // The origin may have read the end of a body that nobody here has seen end.
        if self.poll_send(&mut now).is_err() || self.sending.is_some() || !self.keeps {
            return false;
        }
        self.input.reset();
        let mut byte = [0];
        Pin::new(&mut self.stream).poll_read(&mut now, &mut ReadBuf::new(&mut byte)).is_pending()
    }

    /// Whether some of the request is still to be sent.
    pub fn is_sending(&self) -> bool {
        self.sending.is_some()
    }

    /// Sends what is left of the request, as far as the origin takes it.
    pub async fn sent(mut self) -> Self {
        poll_fn(|cx| match self.poll_send(cx) {
            Ok(()) if self.sending.is_some() => Poll::Pending,
            Ok(()) | Err(_) => Poll::Ready(()),
        })
        .await;
        self
    }

    /// Sends `request` and waits for the head of its response. Its body may still be on its way then.
    ///
    /// # Errors
    /// When there is none.
    pub fn head(
        &mut self,
        request: Box<Sending>,
        hear: Option<Hear<'_>>,
    ) -> impl Future<Output = Result<Said, Failure>> {
        let mut heads = Heads::new(request.to_head);
        let go = request.go.clone();
        // Handed over at once: what waits does not hold the request.
        self.sending = Some(request);
        poll_fn(move |cx| {
            if let Err(failure) = self.poll_send(cx) {
                return Poll::Ready(Err(failure));
            }
            loop {
                match ready!(self.poll_head(&mut heads, cx)).map_err(Failure::from)? {
                    Next::Interim(status, headers) => {
                        if let Some(go) = &go {
                            go.on(status);
                        }
                        if let Some(hear) = hear {
                            hear(status, headers);
                        }
                    }
                    Next::Final(Head { said, body, keeps }) => {
                        (self.body, self.keeps) = (body, self.keeps && keeps);
                        if go.as_ref().is_some_and(Go::waits) && self.sending.take().is_some() {
                            self.keeps = false;
                        }
                        return Poll::Ready(Ok(said));
                    }
                }
            }
        })
    }

    /// The next frame of the response's body. What is left of the request's body is sent meanwhile.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        if let Err(failure) = self.poll_send(cx) {
            return Poll::Ready(Some(Err(failure.fault)));
        }
        loop {
            match self.body.take(&mut self.input.buffer) {
                Ok(None) if self.body.is_ended() => return Poll::Ready(None),
                Ok(None) => {}
                Ok(Some(frame)) => return Poll::Ready(Some(Ok(frame))),
                Err(malformed) => return Poll::Ready(Some(Err(broken(&malformed)))),
            }
            let ended = match ready!(self.input.poll_fill(&mut self.stream, cx)) {
                Ok(0) => self.body.close().map_err(|malformed| broken(&malformed)),
                Ok(_) => Ok(()),
                Err(error) => Err(broken(&error)),
            };
            if let Err(fault) = ended {
                return Poll::Ready(Some(Err(fault)));
            }
        }
    }

    /// What is known of the length of the response's body that is left.
    pub fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }

    /// Whether no frame will come, as far as is known.
    pub fn is_end_stream(&self) -> bool {
        self.body.is_ended()
    }

    /// The bytes themselves, after 101: what has been read of them, and the rest.
    ///
    /// # Errors
    /// When the request can't be sent to its end.
    pub async fn into_parts(mut self) -> Result<(Bytes, Stream), Fault> {
        poll_fn(|cx| match self.poll_send(cx) {
            Err(failure) => Poll::Ready(Err(failure.fault)),
            Ok(()) if self.sending.is_some() => Poll::Pending,
            Ok(()) => Poll::Ready(Ok(())),
        })
        .await?;
        Ok((self.input.buffer.freeze(), self.stream))
    }

    /// Goes on with the request, if there is more of it.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Result<(), Failure> {
        let Some(sending) = &mut self.sending else { return Ok(()) };
        let Poll::Ready(sent) = sending.poll(&mut self.stream, cx) else { return Ok(()) };
        let sending = self.sending.take();
        match sent {
            Ok(()) => Ok(()),
            Err(Stopped::Cut(fault)) => {
                // What follows would be taken for the rest of the body.
                self.keeps = false;
                Err(Fault { maybe_seen: true, ..fault }.into())
            }
            Err(Stopped::Deaf) => {
                // Its response may be on the way back already.
                self.keeps = false;
                Ok(())
            }
            Err(Stopped::Refused) => Err(Failure { fault: broken(&Malformed::Cut), unsent: sending }),
        }
    }

    fn poll_head(&mut self, heads: &mut Heads, cx: &mut Context<'_>) -> Poll<Result<Next, Fault>> {
        loop {
            if let Some(next) = heads.take(&mut self.input.buffer).map_err(|error| unreadable(&error))? {
                return Poll::Ready(Ok(next));
            }
            let length = ready!(self.input.poll_fill(&mut self.stream, cx));
            let failed = |error: io::Error| certificate_refused(&error).unwrap_or_else(|| broken(&error));
            if length.map_err(failed)? == 0 {
                return Poll::Ready(Err(broken(&Malformed::Cut)));
            }
        }
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Failure { fault, unsent: None }
    }
}

/// The fault of a head that is not read.
fn unreadable(why: &Malformed) -> Fault {
    match why {
        Malformed::Coding => {
            let detail = "the origin's Transfer-Encoding is not `chunked` alone: let it send other codings as \
                          Content-Encoding, and only to callers that accept them";
            Fault::new(Code::OriginCoding, Side::Upstream, detail)
        }
        _ => broken(why),
    }
}

/// The fault of a connection that broke. Nothing tells how far the origin got.
fn broken(why: &dyn std::error::Error) -> Fault {
    let detail = format!("the origin's answer was not complete HTTP: {why}");
    Fault::new(Code::OriginBroken, Side::Upstream, detail)
}
