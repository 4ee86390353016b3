//! HTTP/1 to callers (RFC 9112). A connection, its requests and their responses are driven by one task.
//!
//! `head` reads what a request says, `link` are the bytes that the connection shares with whoever reads a request's
//! body, `awaited` is how long a request is waited for, `half_closed` is for callers that have ended their side, `writing` and `lines` are how a response is written and `output` what of it is not out; `switched` is
//! for those that go on with another protocol. While an answer is waited for,
//! and while a connection is idle, it holds no buffer.

use std::{
    future::{Future, poll_fn},
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, StatusCode, Version};
use tokio::{io::AsyncWrite, sync::oneshot, time::timeout};

use super::{
    incoming::Incoming,
    interim,
    message::{Request, Response},
    opening::Stream,
    rendezvous::delivery::Delivery,
    stalled,
    upgrade::Upgraded,
};

mod awaited;
mod half_closed;
pub mod head;
mod lines;
mod link;
mod output;
mod switched;
#[cfg(test)]
mod tests;
mod writing;

pub use head::{MAX_HEADERS, MAX_OPTIONS, Refusal};
pub use lines::date;
pub use link::{Body, Broken};
pub use switched::Switched;

use awaited::Awaited;
use head::{Asked, Heads};
use link::{Link, Reading};
use output::Output;
use writing::{CONTINUE, Exchange, Framing, Length};

/// What a connection is held to.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// What is read of a head at most, in bytes.
    pub max_head: usize,
    /// How long a head may take from its first byte, and the first one from the beginning of the connection.
    pub head_timeout: Duration,
    /// How long the next request may take to begin.
    pub keep_alive: Duration,
    /// Whether names of headers are written as `Content-Length`, and not as `content-length`.
    pub title_case: bool,
}

/// A caller's connection.
pub struct Connection {
    link: Arc<Link>,
    heads: Heads,
    awaited: Awaited,
    output: Output,
    exchange: Exchange,
    /// Whether the request has a body that somebody may read.
    has_body: bool,
    /// Whether the caller may still be sending what nobody reads.
    unread: bool,
    /// Whom to give the bytes to after a change of protocols.
    switch: Option<oneshot::Sender<Upgraded>>,
}

/// What comes next on a connection.
pub enum Next {
    /// A request.
    Request(Request),
    /// Something that is not read as one. What is answered to it is the last.
    Refused(Refusal),
    /// Nothing, for this reason.
    Over(Over),
}

/// Why nothing comes any more.
#[derive(Debug, thiserror::Error)]
pub enum Over {
    /// The caller has ended it, between two requests.
    #[error("the caller has closed it")]
    Closed,
    /// It has been drained.
    #[error("the agent is stopping")]
    Drained,
    /// No further request began in time.
    #[error("no further request came in time (--keep-alive)")]
    Idle,
    /// Its head did not come in time.
    #[error("no request came in time (--header-timeout)")]
    Slow,
    /// The caller went away before all was answered.
    #[error("the caller went away")]
    Gone,
    /// It broke.
    #[error("the connection broke: {0}")]
    Broke(#[from] io::Error),
    /// The response broke off, which is told by closing.
    #[error("the response broke off")]
    Cut,
}

impl Over {
    /// Whether the caller took nothing of its response for too long.
    pub fn is_stalled(&self) -> bool {
        matches!(self, Over::Broke(error) if error.kind() == io::ErrorKind::TimedOut)
    }
}

impl Connection {
    /// Speaks HTTP/1 on a new connection.
    pub fn new(stream: Stream, rules: Rules) -> Self {
        Connection {
            link: Link::new(stream),
            heads: Heads::new(rules.max_head),
            awaited: Awaited::new(&rules),
            output: Output::default(),
            exchange: Exchange {
                version: Version::HTTP_11,
                to_head: false,
                takes_trailers: false,
                keeps: true,
                title_case: rules.title_case,
            },
            has_body: false,
            unread: false,
            switch: None,
        }
    }

    /// Waits for the next request, or until `drain` is ready and none has begun.
    pub fn next(&mut self, mut drain: impl FnMut(&mut Context<'_>) -> bool) -> impl Future<Output = Next> {
        poll_fn(move |cx| self.poll_next(&mut drain, cx))
    }

    fn poll_next(
        &mut self,
        drain: &mut impl FnMut(&mut Context<'_>) -> bool,
        cx: &mut Context<'_>,
    ) -> Poll<Next> {
        let mut shared = self.link.lock();
        loop {
            if !shared.input.buffer.is_empty() {
                match self.heads.take(&mut shared.input.buffer) {
                    Ok(Some(asked)) => {
                        drop(shared);
                        return Poll::Ready(Next::Request(self.begin(asked)));
                    }
                    Ok(None) => {}
                    Err(refusal) => {
                        self.unread = true;
                        self.exchange = Exchange {
                            version: Version::HTTP_11,
                            to_head: false,
                            keeps: false,
                            ..self.exchange
                        };
                        return Poll::Ready(Next::Refused(refusal));
                    }
                }
            }
            let over = match shared.poll_fill(cx) {
                Poll::Ready(Ok(1..)) => continue,
                Poll::Ready(Ok(0)) if shared.input.buffer.is_empty() => Over::Closed,
                Poll::Ready(Ok(0)) => Over::Gone,
                Poll::Ready(Err(error)) => Over::Broke(error),
                Poll::Pending => match self.awaited.poll(shared.input.buffer.is_empty(), cx) {
                    Poll::Ready(over) => over,
                    Poll::Pending if drain(cx) && shared.input.buffer.is_empty() => Over::Drained,
                    Poll::Pending => return Poll::Pending,
                },
            };
            return Poll::Ready(Next::Over(over));
        }
    }

    fn begin(&mut self, asked: Asked) -> Request {
        let Asked { head, body, expects, keeps, upgrades, takes_trailers } = asked;
        self.awaited.is_here();
        self.exchange = Exchange {
            version: head.version,
            to_head: head.method == Method::HEAD,
            takes_trailers,
            keeps,
            title_case: self.exchange.title_case,
        };
        self.has_body = !body.is_ended();
        let body = match self.has_body {
            true => Incoming::Http1(self.link.begin(body, expects)),
            false => Incoming::Nothing,
        };
        self.switch = None;
        let upgrade = upgrades.then(|| {
            let (sender, receiver) = oneshot::channel();
            self.switch = Some(sender);
            receiver
        });
        Request { head, body, upgrade }
    }

    /// Waits for the answer to the request that came last.
    ///
    /// # Errors
    /// When the caller goes away first; then the answer has no reader. One that has only ended its side waits for it.
    pub fn answered<F: Future>(
        &mut self,
        mut answer: Pin<&mut F>,
    ) -> impl Future<Output = Result<F::Output, Over>> {
        poll_fn(move |cx| {
            if self.has_body {
                // What is read of it now is read by this task.
                self.link.lock().is_awake();
            }
            let (answer, interim) = interim::hearing(|| answer.as_mut().poll(cx));
            for interim in &interim {
                writing::write_interim(&self.exchange, interim, &mut self.output);
            }
            if let Poll::Ready(answer) = answer {
                return Poll::Ready(Ok(answer));
            }
            self.poll_interim(cx)?;
            self.poll_gone(cx).map(Err)
        })
    }

    /// Writes what comes before the response, and tells the caller to send the body once the body is read.
    fn poll_interim(&mut self, cx: &mut Context<'_>) -> Result<(), Over> {
        if !self.has_body && self.output.is_empty() {
            return Ok(());
        }
        let mut shared = self.link.lock();
        if self.has_body && shared.takes_go() {
            self.output.small(CONTINUE.len()).extend(CONTINUE);
        }
        match &mut shared.stream {
            Some(stream) => match self.output.poll_write(stream, cx, |_| {}) {
                Poll::Ready(out) => Ok(out?),
                Poll::Pending => Ok(()),
            },
            None => Ok(()),
        }
    }

    /// Is ready when the caller is gone.
    fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<Over> {
        let mut shared = self.link.lock();
        match shared.reading() {
            Reading::Done => shared.poll_gone(cx).map(|()| Over::Gone),
            // Whoever reads the body notices.
            Reading::Held => {
                shared.wake_when_read(cx);
                Poll::Pending
            }
            Reading::GivenUp => Poll::Pending,
        }
    }

    /// Sends the response; `keeps` is whether another request may follow. Says whether one may. What goes out of the
    /// message of a session is told to its delivery.
    ///
    /// # Errors
    /// When it is not sent to its end.
    pub async fn send<B>(&mut self, response: Response<B>, keeps: bool) -> Result<bool, Over>
    where
        B: hyper::body::Body<Data = Bytes> + Unpin,
    {
        let Response { status, headers, mut body, delivery } = response;
        if let Some(delivery) = &delivery {
            delivery.attach();
        }
        // A caller that has ended its side asks nothing more (RFC 9112 section 9.6).
        self.exchange.keeps &= keeps && !self.link.lock().is_half_closed();
        if self.has_body {
            self.exchange.keeps &= poll_fn(|cx| Poll::Ready(self.is_read(cx))).await;
        }
        let length = match body.size_hint().exact() {
            _ if body.is_end_stream() => Length::None,
            Some(length) => Length::Known(length),
            None => Length::Unknown,
        };
        let (framing, keeps) =
            writing::write_head(&self.exchange, status, &headers, length, &mut self.output);
        drop(headers);
        let mut sending = Sending { framing, cut: false, ended: length == Length::None, delivery };
        sending.ended |= sending.framing.is_done();
        // A body that ends with its connection can be told from one that is cut by a reset alone.
        let ends_by_close = sending.framing == Framing::UntilClose;
        if ends_by_close {
            self.link.lock().resets_when_dropped(true);
        }
        let sent = poll_fn(|cx| self.poll_send(&mut sending, &mut body, cx)).await;
        stalled::drop_body(sent.as_ref().is_err_and(Over::is_stalled), (sending, body));
        sent?;
        if ends_by_close {
            self.link.lock().resets_when_dropped(false);
        }
        let read = !self.has_body || poll_fn(|cx| self.poll_read(cx)).await;
        self.unread |= !read;
        if status == StatusCode::SWITCHING_PROTOCOLS && read {
            self.switch();
        }
        Ok(keeps && read)
    }

    /// Whether the body of the request has been read, or still may be. What is left of one that nobody wants is
    /// taken, when it is here.
    fn is_read(&mut self, cx: &mut Context<'_>) -> bool {
        let mut shared = self.link.lock();
        match shared.reading() {
            Reading::Done | Reading::Held => true,
            Reading::GivenUp => shared.skips_rest(cx),
        }
    }

    /// Waits until the body of the request has been read; says whether it was, to its end.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let mut shared = self.link.lock();
        match shared.reading() {
            Reading::Done => Poll::Ready(true),
            Reading::Held => {
                shared.wake_when_read(cx);
                Poll::Pending
            }
            Reading::GivenUp => Poll::Ready(shared.skips_rest(cx)),
        }
    }

    /// Sends what there is, and what comes.
    fn poll_send<B>(
        &mut self,
        sending: &mut Sending,
        body: &mut B,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Over>>
    where
        B: hyper::body::Body<Data = Bytes> + Unpin,
    {
        loop {
            sending.gather(&self.exchange, body, &mut self.output, cx);
            if self.output.is_empty() {
                return match (sending.ended, sending.cut) {
                    (true, true) => Poll::Ready(Err(Over::Cut)),
                    (true, false) => Poll::Ready(Ok(())),
                    // It is waited for.
                    (false, _) => self.poll_gone(cx).map(Err),
                };
            }
            let mut shared = self.link.lock();
            let Some(stream) = &mut shared.stream else { return Poll::Ready(Err(Over::Gone)) };
            let wrote = |bytes| sending.delivery.iter().for_each(|delivery| delivery.wrote(bytes));
            match self.output.poll_write(stream, cx, wrote) {
                Poll::Ready(out) => out?,
                Poll::Pending => {
                    drop(shared);
                    return self.poll_gone(cx).map(Err);
                }
            }
            drop(shared);
            if sending.delivery.as_ref().is_some_and(Delivery::flushed) {
                sending.delivery = None;
            }
        }
    }

    /// Gives the bytes to whoever goes on with another protocol.
    fn switch(&mut self) {
        let mut shared = self.link.lock();
        if let (Some(switch), Some(stream)) = (self.switch.take(), shared.stream.take()) {
            let early = std::mem::take(&mut shared.input.buffer).freeze();
            // Without a task that waits for it, it ends here.
            switch.send(Upgraded::Http1(Switched::new(early, stream))).ok();
        }
    }

    /// Ends the connection once everything is out. What the caller still sends is read for a while: closing before
    /// would reset the connection, and the caller might lose the answer that he has not read yet (RFC 9112 §9.6).
    ///
    /// # Errors
    /// When the connection takes no more.
    pub async fn close(mut self) -> Result<(), Over> {
        poll_fn(|cx| {
            let mut shared = self.link.lock();
            match &mut shared.stream {
                Some(stream) => {
                    ready!(self.output.poll_write(stream, cx, |_| {}))?;
                    Pin::new(stream).poll_shutdown(cx)
                }
                None => Poll::Ready(Ok(())),
            }
        })
        .await?;
        if !self.unread {
            return Ok(());
        }
        let mut left = LINGER_BYTES;
        let forget = poll_fn(|cx| {
            loop {
                match ready!(self.link.lock().poll_forget(cx)) {
                    Ok(bytes @ 1..) if bytes < left => left -= bytes,
                    Ok(_) | Err(_) => return Poll::Ready(()),
                }
            }
        });
        // However much longer he takes, it is his loss.
        timeout(LINGER, forget).await.ok();
        Ok(())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.link.close();
    }
}

/// A response on its way out.
struct Sending {
    framing: Framing,
    /// Whether the whole body is in the output, or as much of it as comes.
    ended: bool,
    /// Whether it is not whole.
    cut: bool,
    delivery: Option<Delivery>,
}

impl Sending {
    /// Takes what is here of the body: all that is goes out at once.
    fn gather<B>(&mut self, exchange: &Exchange, body: &mut B, output: &mut Output, cx: &mut Context<'_>)
    where
        B: hyper::body::Body<Data = Bytes> + Unpin,
    {
        while !self.ended && output.has_room() {
            let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(cx) else { return };
            match frame.map(|frame| frame.map(hyper::body::Frame::into_data)) {
                Some(Ok(Ok(data))) => {
                    self.framing.write(data, output);
                    self.ended = self.framing.is_done();
                }
                Some(Ok(Err(frame))) => {
                    let trailers = frame.into_trailers().ok();
                    self.cut = !self.framing.end(exchange, trailers.as_ref(), output);
                    self.ended = true;
                }
                None => {
                    if self.delivery.as_ref().is_some_and(Delivery::takes_trailer) {
                        self.framing.end_cut(output);
                    } else {
                        self.cut = !self.framing.end(exchange, None, output);
                    }
                    self.ended = true;
                }
                // Closing without an end tells it.
                Some(Err(_)) => (self.cut, self.ended) = (true, true),
            }
        }
    }
}

/// What is read after the last answer, at most.
const LINGER_BYTES: usize = 1024 * 1024;
/// How long, at most.
const LINGER: Duration = Duration::from_secs(1);
