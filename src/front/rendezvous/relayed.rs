//! A message on its way out to its receiver.

use std::{
    future::poll_fn,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Version};
use hyper::body::Frame;

use super::{Received, delivery::Delivery, told::X_INCOMPLETE};
use crate::{
    front::{
        body::Outgoing,
        http::Ask,
        message::Response,
        served::{Decision, Told},
    },
    stream::Reader,
    wire::{Code, Fault, Side},
};

/// The body of a response to a receiver; with it ends the request.
pub struct Relayed<A: Ask> {
    reader: Reader,
    /// Bytes that are to come, when that is known.
    left: Option<u64>,
    /// The last part, kept until it is known that it is: a cut body never looks complete.
    last: Option<Bytes>,
    version: Version,
    state: State,
    delivery: Delivery,
    told: Told<A>,
}

#[derive(Debug, PartialEq)]
enum State {
    Open,
    /// The reader has come to its end.
    Ended,
    /// It broke off: that is told when what came before is written.
    Broken(Fault),
    /// Nothing comes any more.
    Over,
}

/// The response with what is received.
pub async fn response<A: Ask>(
    response: Response<()>,
    received: Received,
    version: Version,
    told: Told<A>,
    count: Box<dyn Fn(u64) + Send>,
) -> Response<Outgoing<A>> {
    let Received { length, mut reader, receipt, .. } = received;
    let mut state = State::Open;
    if length == Some(0) {
        // Nobody asks for the rest of nothing.
        let end = poll_fn(|cx| reader.poll_data(cx));
        if let Ok(None | Some(Ok(_))) = tokio::time::timeout(END, end).await {
            state = State::Ended;
        }
    }
    let delivery = Delivery::new(Box::new(move |bytes, whole| {
        count(bytes);
        receipt(bytes, whole);
    }));
    let mut body =
        Relayed { reader, left: length, last: None, version, state, delivery: delivery.clone(), told };
    if body.left == Some(0) {
        body.finished();
    }
    let mut response = response.map(|()| Outgoing::Relayed(Box::new(body)));
    response.delivery = Some(delivery);
    response
}

impl<A: Ask> Relayed<A> {
    /// The next part.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        ready!(self.delivery.poll_out());
        loop {
            if let State::Broken(fault) = &self.state {
                let fault = fault.clone();
                self.state = State::Over;
                return Poll::Ready(Some(Err(fault)));
            }
            if self.state == State::Over {
                return Poll::Ready(None);
            }
            if self.state == State::Ended {
                return Poll::Ready(self.end());
            }
            match ready!(self.reader.poll_data(cx)) {
                Some(Ok(frame)) => {
                    let Ok(data) = frame.into_data() else { continue };
                    if let Some(part) = self.take(data) {
                        return Poll::Ready(Some(Ok(self.give(part))));
                    }
                }
                None => self.state = State::Ended,
                Some(Err(fault)) => return self.break_off(fault, cx),
            }
        }
    }

    /// What of `data` can be given before the end is known.
    fn take(&mut self, data: Bytes) -> Option<Bytes> {
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(data.len() as u64);
            if *left == 0 {
                self.last = Some(data);
                return None;
            }
        }
        (!data.is_empty()).then_some(data)
    }

    fn give(&mut self, part: Bytes) -> Frame<Bytes> {
        self.told.served.bytes_out += part.len() as u64;
        self.delivery.give(part.len() as u64, self.left.is_none());
        Frame::data(part)
    }

    /// The reader has ended, and so does this.
    fn end(&mut self) -> Option<Result<Frame<Bytes>, Fault>> {
        self.state = State::Over;
        if self.left.is_some_and(|left| left > 0) {
            let short = Fault::new(Code::StreamCut, Side::Client, "the message was shorter than it said");
            self.told.cut(&short);
            return Some(Err(short));
        }
        let frame = self.last.take().filter(|last| !last.is_empty()).map(|last| Ok(self.give(last)));
        self.finished();
        frame
    }

    fn finished(&mut self) {
        self.told.served.decision = Decision::Response;
        self.delivery.end();
    }

    /// The sender is gone. In chunks, the receiver gets an end that says so; a length that was told is not kept.
    fn break_off(&mut self, fault: Fault, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        self.told.cut(&fault);
        match (self.left, self.version) {
            (None, Version::HTTP_2) => {
                self.state = State::Over;
                let said = HeaderMap::from_iter([(X_INCOMPLETE, HeaderValue::from_static("1"))]);
                Poll::Ready(Some(Ok(Frame::trailers(said))))
            }
            (None, Version::HTTP_11) => {
                self.state = State::Over;
                // Trailers are written only to those who ask for them; the connection adds this one.
                self.delivery.cut();
                Poll::Ready(None)
            }
            _ => {
                self.state = State::Broken(fault);
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }

    /// Whether it has come to its end.
    pub fn is_over(&self) -> bool {
        self.state == State::Over
            || (self.state == State::Ended && self.left == Some(0) && self.last.is_none())
    }
}

/// How long the end of an empty message may take.
const END: Duration = Duration::from_secs(5);
