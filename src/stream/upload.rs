//! A request's body as the origin's connection reads it.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame};

use super::{Reader, Stream};
use crate::{proto::flow::FIRST_WINDOW, wire::Fault};

/// What came with the request, and then what its stream brings.
pub struct Upload {
    stream: Arc<Stream>,
    first: Option<Bytes>,
    reader: Reader,
    expects: bool,
}

impl Upload {
    /// The body that begins with `first`. When the caller `expects` `100 Continue`, nothing of it is let in
    /// until the origin has said so.
    pub fn new(stream: Arc<Stream>, first: Bytes, expects: bool) -> Self {
        let reader = stream.reader(if expects { 0 } else { FIRST_WINDOW });
        Upload { stream, first: (!first.is_empty()).then_some(first), reader, expects }
    }

    /// What is to be done when the origin says `100 Continue`. An origin that says nothing for a while has not
    /// understood the question; then the body is sent as well (RFC 9110 §10.1.1).
    pub fn on_continue(&self) -> Option<Box<dyn FnOnce() + Send>> {
        if !self.expects {
            return None;
        }
        let late = Arc::downgrade(&self.stream);
        tokio::spawn(async move {
            tokio::time::sleep(CONTINUE).await;
            if let Some(stream) = late.upgrade() {
                stream.let_in();
            }
        });
        let stream = Arc::downgrade(&self.stream);
        Some(Box::new(move || {
            if let Some(stream) = stream.upgrade() {
                stream.let_in();
            }
        }))
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let upload = self.get_mut();
        match upload.first.take() {
            Some(first) => Poll::Ready(Some(Ok(Frame::data(first)))),
            None => upload.reader.poll_lent(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.reader.is_finished()
    }
}

const CONTINUE: Duration = Duration::from_secs(1);
