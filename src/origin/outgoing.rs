//! A request on its way to the origin: its body, and the headers that frame it on this hop.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, header};
use http_body::{Body, Frame, SizeHint};

use crate::wire::Fault;

/// A body that arrives piece by piece.
pub type BoxedBody = Pin<Box<dyn Body<Data = Bytes, Error = BodyCut> + Send>>;

/// Why a body ended before its end. The origin sees a cut body, the call fails with the fault.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the request's body was cut: {0}")]
pub struct BodyCut(pub Fault);

/// What is sent as the body of a request.
pub enum Outgoing {
    /// All of it is here.
    Whole {
        /// The bytes.
        body: Bytes,
        /// What comes after them.
        trailers: Option<HeaderMap>,
    },
    /// It is on its way. Its length is what its `size_hint` or the `content-length` header says; when
    /// neither does, it is unknown.
    Stream(BoxedBody),
}

/// A body as hyper takes it.
pub enum Payload {
    /// All of it.
    Whole(Bytes),
    /// All of it and trailers.
    Trailed(Bytes, Option<HeaderMap>),
    /// What is on its way.
    Stream(BoxedBody),
}

impl From<Outgoing> for Payload {
    fn from(outgoing: Outgoing) -> Self {
        match outgoing {
            Outgoing::Whole { body, trailers: None } => Payload::Whole(body),
            Outgoing::Whole { body, trailers: Some(trailers) } => Payload::Trailed(body, Some(trailers)),
            Outgoing::Stream(body) => Payload::Stream(body),
        }
    }
}

impl Payload {
    /// The same body again, unless it can be had once only.
    fn again(&self) -> Option<Payload> {
        match self {
            Payload::Whole(body) => Some(Payload::Whole(body.clone())),
            Payload::Trailed(body, trailers) => Some(Payload::Trailed(body.clone(), trailers.clone())),
            Payload::Stream(_) => None,
        }
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = BodyCut;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyCut>>> {
        let next = |body: &mut Bytes| (!body.is_empty()).then(|| Frame::data(std::mem::take(body)));
        match self.get_mut() {
            Payload::Whole(body) => Poll::Ready(next(body).map(Ok)),
            Payload::Trailed(body, trailers) => {
                Poll::Ready(next(body).or_else(|| trailers.take().map(Frame::trailers)).map(Ok))
            }
            Payload::Stream(body) => body.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Payload::Whole(body) => body.is_empty(),
            Payload::Trailed(body, trailers) => body.is_empty() && trailers.is_none(),
            // Asked before the end, hyper would take a body shorter than its content-length for whole.
            Payload::Stream(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Payload::Whole(body) => SizeHint::with_exact(body.len() as u64),
            // HTTP/1 has trailers only after chunks.
            Payload::Trailed(..) => SizeHint::default(),
            Payload::Stream(body) => body.size_hint(),
        }
    }
}

/// The same request again, when its body can be had again.
pub fn again(request: &Request<Payload>) -> Option<Request<Payload>> {
    let mut copy = Request::new(request.body().again()?);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    *copy.extensions_mut() = request.extensions().clone();
    Some(copy)
}

/// Leaves out what concerns the hop before, except that trailers are understood.
pub fn strip(headers: &mut HeaderMap) {
    for name in [header::TRANSFER_ENCODING, header::CONNECTION, header::UPGRADE] {
        headers.remove(name);
    }
    let trailers = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"trailers");
    if headers.get(header::TE).is_some_and(|value| !trailers(value)) {
        headers.remove(header::TE);
    }
}

/// Says how long the body is, in one way: a length when it is known.
pub fn tell_length(headers: &mut HeaderMap, payload: &Payload) {
    match payload {
        Payload::Whole(body) => {
            // Without one hyper tells the length of what is there.
            if headers.contains_key(header::CONTENT_LENGTH)
                && declared_length(headers) != Some(body.len() as u64)
            {
                headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
            }
        }
        Payload::Trailed(_, trailers) => {
            headers.remove(header::CONTENT_LENGTH);
            if !headers.contains_key(header::TRAILER) {
                for name in trailers.iter().flat_map(HeaderMap::keys) {
                    headers.append(header::TRAILER, HeaderValue::from(name.clone()));
                }
            }
        }
        Payload::Stream(body) => match declared_length(headers) {
            Some(_) => {}
            None => {
                headers.remove(header::CONTENT_LENGTH);
                if let Some(length) = body.size_hint().exact() {
                    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
                }
            }
        },
    }
}

/// The length that the one `content-length` header tells.
pub fn declared_length(headers: &HeaderMap) -> Option<u64> {
    let mut values = headers.get_all(header::CONTENT_LENGTH).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => {
            let text = value.to_str().ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()))?;
            text.parse().ok()
        }
        _ => None,
    }
}
