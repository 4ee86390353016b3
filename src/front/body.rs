//! Bodies in memory: read whole within limits, counted against one budget.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use crate::wire::{Code, Fault, Side};

/// Bytes of bodies that one process may hold.
#[derive(Clone)]
pub struct Budget {
    left: Arc<AtomicUsize>,
    limit: usize,
}

/// A share of a [`Budget`], given back when it is dropped.
pub struct Share {
    left: Arc<AtomicUsize>,
    bytes: usize,
}

impl Budget {
    /// A budget of `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Budget { left: Arc::new(AtomicUsize::new(limit)), limit }
    }

    /// Takes `bytes`.
    ///
    /// # Errors
    /// A fault when there are not that many left.
    pub fn take(&self, bytes: usize) -> Result<Share, Fault> {
        let taken =
            self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes));
        match taken {
            Ok(_) => Ok(Share { left: Arc::clone(&self.left), bytes }),
            Err(_) => {
                let detail =
                    format!("{} bytes of bodies are in memory, the limit of --max-buffered", self.limit);
                Err(Fault::new(Code::ClientFull, Side::Client, detail))
            }
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.left.fetch_add(self.bytes, Ordering::Relaxed);
    }
}

/// What a body is held to.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes at most.
    pub max: usize,
    /// How long the sender may pause.
    pub pause: Duration,
}

/// Reads a body whole.
///
/// # Errors
/// A fault when it is too large, stops arriving, breaks off, or does not fit in the budget.
pub async fn read(
    mut body: Incoming,
    limits: Limits,
    budget: &Budget,
) -> Result<(Bytes, Option<Share>), Fault> {
    if body.is_end_stream() {
        return Ok((Bytes::new(), None));
    }
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > limits.max {
        return Err(too_large(limits.max));
    }
    // One without a length is counted at its largest until it is here.
    let exact = body.size_hint().exact().is_some();
    let mut share = budget.take(if exact { announced } else { limits.max })?;
    let mut bytes = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(frame) = next(&mut body, limits.pause).await? {
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len().max(rest.len()) + data.len() > limits.max {
            return Err(too_large(limits.max));
        }
        if bytes.is_empty() && rest.is_empty() {
            bytes = data;
        } else {
            if rest.is_empty() {
                rest.reserve(announced.max(bytes.len() + data.len()));
                rest.extend_from_slice(&bytes);
            }
            rest.extend_from_slice(&data);
        }
    }
    let bytes = if rest.is_empty() { bytes } else { rest.freeze() };
    share.shrink(bytes.len());
    Ok((bytes, Some(share)))
}

impl Share {
    fn shrink(&mut self, bytes: usize) {
        let spare = self.bytes.saturating_sub(bytes);
        self.bytes -= spare;
        self.left.fetch_add(spare, Ordering::Relaxed);
    }
}

async fn next(body: &mut Incoming, pause: Duration) -> Result<Option<Frame<Bytes>>, Fault> {
    match tokio::time::timeout(pause, body.frame()).await {
        Ok(frame) => frame.transpose().map_err(|error| {
            Fault::new(
                Code::BadRequest,
                Side::Client,
                format!("the request's body could not be read: {error}"),
            )
        }),
        Err(_) => {
            let pause = humantime::format_duration(pause);
            let detail = format!("nothing of the request's body came for {pause} (--body-timeout)");
            Err(Fault::new(Code::BodyTimeout, Side::Client, detail))
        }
    }
}

fn too_large(max: usize) -> Fault {
    let detail = format!("the request's body is over {max} bytes, the limit of --max-body");
    Fault::new(Code::BodyTooLarge, Side::Client, detail)
}

/// A response's body, and its share of the budget until the caller has it.
pub struct Held {
    bytes: Option<Bytes>,
    _share: Option<Share>,
}

impl Held {
    /// `bytes`, counted by `share`.
    pub fn new(bytes: Bytes, share: Option<Share>) -> Self {
        Held { bytes: (!bytes.is_empty()).then_some(bytes), _share: share }
    }
}

impl Body for Held {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready(self.bytes.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}
