//! HTTP/1 to the origin. A call and its connection are driven by one task: handing each response from a
//! connection's task to the caller's would cost two wake-ups a request.

use std::{
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body::{Body, Frame};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    broken,
    outgoing::{Payload, declared_length},
    stream::Stream,
};
use crate::wire::Fault;

/// Both halves of a connection, so that one task can drive them.
pub struct Connection {
    sender: http1::SendRequest<Payload>,
    driver: Box<http1::Connection<TokioIo<Stream>, Payload>>,
    /// Whether the driver has ended.
    closed: bool,
    /// Why it did, when that was told to nobody.
    why: Option<Fault>,
}

/// Why there is no response, and the request when none of it can have left.
pub struct Failure {
    /// What is told to whoever asked.
    pub fault: Fault,
    /// The request itself.
    pub unsent: Option<Request<Payload>>,
}

impl Connection {
    /// Begins to speak HTTP/1.
    ///
    /// # Errors
    /// When hyper refuses to.
    pub async fn open(stream: Stream) -> hyper::Result<Self> {
        let (sender, driver) = http1::Builder::new().handshake(TokioIo::new(stream)).await?;
        Ok(Connection { sender, driver: Box::new(driver), closed: false, why: None })
    }

    /// Whether another request can be sent; notices a close that has arrived.
    pub fn is_usable(&mut self) -> bool {
        let mut context = Context::from_waker(std::task::Waker::noop());
        self.drive(&mut context);
        !self.closed && self.sender.is_ready()
    }

    /// Sends `request` and waits for the head of its response. Its body may still be on its way then.
    ///
    /// # Errors
    /// When there is none.
    pub async fn head(&mut self, request: Request<Payload>) -> Result<Response<Incoming>, Failure> {
        let mut response = pin!(self.sender.try_send_request(request));
        let (driver, closed) = (&mut self.driver, &mut self.closed);
        let outcome = poll_fn(|cx| {
            if !*closed {
                // When the connection ends, its error is told to the response as well.
                *closed = Pin::new(&mut **driver).poll(cx).is_ready();
            }
            response.as_mut().poll(cx)
        });
        outcome.await.map_err(|mut error| {
            let unsent = error.take_message();
            Failure { fault: broken(error.error()), unsent }
        })
    }

    /// The next frame of the response's body. What is left of the request's body is sent meanwhile.
    pub fn poll_frame(
        &mut self,
        body: &mut Incoming,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let mut body = Pin::new(body);
        let frame = match body.as_mut().poll_frame(cx) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                self.drive(cx);
                ready!(body.poll_frame(cx))
            }
        };
        Poll::Ready(frame.map(|frame| {
            // The body itself only knows that the connection is gone.
            frame.map_err(|error| self.why.take().unwrap_or_else(|| broken(&error)))
        }))
    }

    /// The bytes themselves, after 101.
    pub async fn into_switched(mut self) -> Switched {
        // It ends when all of the request has been sent.
        poll_fn(|cx| {
            self.drive(cx);
            if self.closed { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        let parts = self.driver.into_parts();
        Switched { early: parts.read_buf, stream: parts.io.into_inner() }
    }

    fn drive(&mut self, cx: &mut Context<'_>) {
        if !self.closed
            && let Poll::Ready(end) = Pin::new(&mut *self.driver).poll(cx)
        {
            self.closed = true;
            self.why = end.err().map(|error| broken(&error));
        }
    }
}

/// A connection that speaks another protocol now.
pub struct Switched {
    /// What came together with the head.
    early: Bytes,
    stream: Stream,
}

impl AsyncRead for Switched {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.early.is_empty() {
            return Pin::new(&mut this.stream).poll_read(cx, buf);
        }
        let length = this.early.len().min(buf.remaining());
        buf.put_slice(&this.early.split_to(length));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Switched {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

/// Adds what only HTTP/1 says with headers.
pub fn prepare(request: &mut Request<Payload>, upgrade: Option<HeaderValue>) {
    let chunked = match request.body() {
        Payload::Whole(_) => false,
        Payload::Trailed(..) => true,
        Payload::Stream(_) => declared_length(request.headers()).is_none(),
    };
    let headers = request.headers_mut();
    if chunked {
        // hyper would send GET without a body.
        headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    if let Some(protocol) = upgrade {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, protocol);
    } else if headers.contains_key(header::TE) {
        // RFC 9110 §10.1.4.
        headers.insert(header::CONNECTION, HeaderValue::from_static("te"));
    }
}
