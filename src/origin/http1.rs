//! HTTP/1 to the origin. A call and its connection are driven by one task: handing each response from a
//! connection's task to the caller's would cost two wake-ups a request.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body::{Body, Frame};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;

use super::{
    outgoing::{BodyCut, Go, Payload},
    stream::Stream,
};
use crate::wire::{Code, Fault, Side};

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
    pub unsent: Option<Box<Request<Payload>>>,
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
    pub fn head(
        &mut self,
        request: Request<Payload>,
    ) -> impl Future<Output = Result<Response<Incoming>, Failure>> {
        // Handed over at once: what waits does not hold the request.
        let response = self.sender.try_send_request(request);
        let (driver, closed) = (&mut self.driver, &mut self.closed);
        async move {
            let mut response = pin!(response);
            let outcome = poll_fn(|cx| {
                if !*closed {
                    // When the connection ends, its error is told to the response as well.
                    *closed = Pin::new(&mut **driver).poll(cx).is_ready();
                }
                response.as_mut().poll(cx)
            });
            outcome.await.map_err(|mut error| {
                let unsent = error.take_message().map(Box::new);
                Failure { fault: broken(error.error()), unsent }
            })
        }
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

    /// The bytes themselves, after 101: what has been read of them, and the rest.
    pub async fn into_parts(mut self) -> (Bytes, Stream) {
        // It ends when all of the request has been sent.
        poll_fn(|cx| {
            self.drive(cx);
            if self.closed { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        let parts = self.driver.into_parts();
        (parts.read_buf, parts.io.into_inner())
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

/// Adds what only HTTP/1 says with headers.
pub fn prepare(request: &mut Request<Payload>, upgrade: Option<HeaderValue>) {
    let chunked = match request.body() {
        Payload::Whole(_) => false,
        Payload::Trailed(..) => true,
        Payload::Stream(_) => !request.headers().contains_key(header::CONTENT_LENGTH),
    };
    if let Some(go) = request.extensions().get::<Go>().cloned() {
        hyper::ext::on_informational(request, move |interim| go.on(interim.status()));
    }
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

/// The fault of a connection that broke. Nothing tells how far the origin got.
fn broken(error: &hyper::Error) -> Fault {
    let source = std::error::Error::source(error);
    if let Some(BodyCut(fault)) = source.and_then(|source| source.downcast_ref()) {
        return Fault { maybe_seen: true, ..fault.clone() };
    }
    let mut detail = String::from("the origin's answer was not complete HTTP: ");
    detail.push_str(&error.to_string());
    if let Some(source) = source {
        detail.push_str(": ");
        detail.push_str(&source.to_string());
    }
    Fault::new(Code::OriginBroken, Side::Upstream, detail)
}
