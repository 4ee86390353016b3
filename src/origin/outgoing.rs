//! A request on its way to the origin: its body, and the headers that frame it on this hop.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use http_body::{Body, Frame, SizeHint};

use crate::{
    sync::Mutex,
    wire::{Code, Fault, Headers, Side, headers::trailers},
};

/// A body that arrives piece by piece.
pub type BoxedBody = Pin<Box<dyn Body<Data = Bytes, Error = BodyCut> + Send>>;

/// Why a body ended before its end. The origin sees a cut body, the call fails with the fault.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the request's body was cut: {0}")]
pub struct BodyCut(pub Fault);

/// A request as it is sent, whatever speaks HTTP.
pub struct Request {
    /// The method.
    pub method: Method,
    /// The target on the origin.
    pub target: Bytes,
    /// The headers, without those that only one version of HTTP has.
    pub headers: Headers,
    /// The body.
    pub payload: Payload,
    /// Whom to tell that the origin wants the body.
    pub go: Option<Go>,
}

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

/// A body as it is sent.
pub enum Payload {
    /// All of it.
    Whole(Bytes),
    /// All of it and trailers.
    Trailed(Bytes, Option<Box<HeaderMap>>),
    /// What is on its way.
    Stream(Box<Measured>),
}

/// A body that is cut when it does not have the length that was told.
pub struct Measured {
    body: BoxedBody,
    left: Option<u64>,
}

/// What is called when the origin says `100 Continue`.
pub type OnContinue = Box<dyn FnOnce() + Send>;

/// Who hears the interim responses of the origin, `100 Continue` among them.
pub type Hear<'a> = &'a (dyn Fn(StatusCode, Headers) + Send + Sync);

/// Whom to tell, once, that the origin wants the body.
#[derive(Clone)]
pub struct Go(Arc<Mutex<Option<OnContinue>>>);

impl Go {
    /// Will tell `go`.
    pub fn new(go: OnContinue) -> Self {
        Go(Arc::new(Mutex::new(Some(go))))
    }

    /// The origin has sent an interim response.
    pub fn on(&self, status: StatusCode) {
        let taken = || self.0.lock().take();
        if status == StatusCode::CONTINUE
            && let Some(go) = taken()
        {
            go();
        }
    }

    /// Whether the origin has not wanted the body yet. With a final response it never will (RFC 9110 section 10.1.1).
    pub fn waits(&self) -> bool {
        self.0.lock().is_some()
    }
}

impl Payload {
    /// What is sent, and its headers: they tell its length in one way, when it is known.
    pub fn new(outgoing: Outgoing, headers: &mut Headers) -> Self {
        match outgoing {
            Outgoing::Whole { body, trailers: None } => {
                // Without the header the length of what is there is told.
                if headers.contains_key(header::CONTENT_LENGTH)
                    && declared_length(headers.get_all(header::CONTENT_LENGTH)) != Some(body.len() as u64)
                {
                    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
                }
                Payload::Whole(body)
            }
            Outgoing::Whole { body, trailers: Some(trailers) } => {
                headers.remove(header::CONTENT_LENGTH);
                let trailers = trailers::sift(trailers);
                if let Some(list) = trailers::list(trailers.keys()) {
                    headers.append(header::TRAILER, list);
                }
                Payload::Trailed(body, Some(Box::new(trailers)))
            }
            Outgoing::Stream(body) => {
                let left = declared_length(headers.get_all(header::CONTENT_LENGTH))
                    .or_else(|| body.size_hint().exact());
                match left {
                    Some(length) => headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length)),
                    None => drop(headers.remove(header::CONTENT_LENGTH)),
                }
                Payload::Stream(Box::new(Measured { body, left }))
            }
        }
    }

    /// The same body again, unless it can be had once only.
    pub fn again(&self) -> Option<Payload> {
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
            Payload::Trailed(body, trailers) => Poll::Ready(
                next(body).or_else(|| trailers.take().map(|trailers| Frame::trailers(*trailers))).map(Ok),
            ),
            Payload::Stream(body) => body.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Payload::Whole(body) => body.is_empty(),
            Payload::Trailed(body, trailers) => body.is_empty() && trailers.is_none(),
            Payload::Stream(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Payload::Whole(body) => SizeHint::with_exact(body.len() as u64),
            // HTTP/1 has trailers only after chunks.
            Payload::Trailed(..) => SizeHint::default(),
            Payload::Stream(body) => body.left.map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}

impl Measured {
    /// Whether all of a body of known length has been taken.
    pub fn is_complete(&self) -> bool {
        self.left == Some(0)
    }

    /// The next frame.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyCut>>> {
        let frame = ready!(self.body.as_mut().poll_frame(cx));
        let length = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()).map(Bytes::len);
        let wrong = match (&mut self.left, &frame, length) {
            (Some(left), _, Some(length)) => {
                let rest = left.checked_sub(length as u64);
                *left = rest.unwrap_or(0);
                rest.is_none()
            }
            (Some(left), None, None) => *left > 0,
            _ => false,
        };
        if wrong {
            let detail = "the request's body was not as long as its content-length told";
            return Poll::Ready(Some(Err(BodyCut(Fault::new(Code::BadRequest, Side::Upstream, detail)))));
        }
        Poll::Ready(frame)
    }
}

/// Leaves out what concerns the hop before, except that trailers are understood. Which follow a body that is all here is
/// told anew.
pub fn strip(headers: &mut Headers, body: &Outgoing) {
    headers.retain(|name, value| match *name {
        header::TRAILER => matches!(body, Outgoing::Stream(_)),
        header::TRANSFER_ENCODING | header::CONNECTION | header::UPGRADE => false,
        header::TE => value.as_bytes().eq_ignore_ascii_case(b"trailers"),
        _ => true,
    });
}

/// The length that `values` of `content-length` tell, when there is one.
pub fn declared_length<'a>(mut values: impl Iterator<Item = &'a HeaderValue>) -> Option<u64> {
    match (values.next(), values.next()) {
        (Some(value), None) => {
            let text = value.to_str().ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()))?;
            text.parse().ok()
        }
        _ => None,
    }
}
