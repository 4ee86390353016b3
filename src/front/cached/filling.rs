//! A streamed response on its way into the store, and to all who asked for it.

use std::{future::poll_fn, sync::Arc, task::Poll, time::Instant};

use bytes::Bytes;
use http::HeaderMap;

use super::{
    respond,
    shared::{Right, release},
};
use crate::{
    cache::{
        entry::{Head, Question, Stored},
        fill::{Fill, Pushed},
        select::{self, Body},
        status::{CacheStatus, Forward},
    },
    front::{
        body::Stored as StoredBody,
        http::Ask,
        message::Response,
        relay::Outcome,
        served::{Decision, InFlight, Told},
    },
    stream::Reader,
    wire::{Code, Fault, Side},
};

/// A response that is to be stored when its body is here.
pub struct Filling {
    /// What it answers.
    pub question: Question,
    /// The right to store it.
    pub right: Right,
    /// Its head.
    pub head: Arc<Head>,
    /// Bytes of its body, when that is known.
    pub length: Option<u64>,
    /// Whether it is wanted though nobody reads it.
    pub anyway: bool,
}

impl Filling {
    /// Begins to store a body that begins with `first` and goes on with what `reader` reads; returns what its
    /// caller gets meanwhile.
    pub fn start<A: Ask>(
        self,
        response: Response<()>,
        first: Bytes,
        reader: Reader,
        checked: bool,
        why: Forward,
        told: &mut Told<A>,
    ) -> Outcome {
        let now = Instant::now();
        let answer = select::answer(&self.question, &self.head, None, now);
        let unchanged = checked && answer.body == Body::Nothing;
        let begun = self.right.begin(Arc::clone(&self.head), self.length, self.anyway || unchanged);
        let Some((fill, released)) = begun else { return Outcome::Streamed(response, first, reader) };
        let Some(follower) = fill.follow() else { return Outcome::Streamed(response, first, reader) };
        release(released);
        let ttl = Some(self.head.fresh.ttl(now));
        told.cache = Some(CacheStatus::Forwarded { why, status: None, ttl, stored: true, collapsed: false });
        tokio::spawn(self.run(fill, first, reader, told.hand_over()));
        if unchanged {
            let body = StoredBody::new([].into());
            return Outcome::Stored(respond(answer.status, answer.headers, body), Decision::Response);
        }
        Outcome::Followed(response, follower, Decision::Response)
    }

    async fn run<A: Ask>(self, fill: Arc<Fill>, first: Bytes, mut reader: Reader, _open: InFlight<A>) {
        let Filling { question, mut right, head, length, .. } = self;
        let mut push = |data: &Bytes| {
            if fill.push(data) == Pushed::Overflowed {
                right.overflowed();
            }
        };
        if !first.is_empty() {
            push(&first);
        }
        loop {
            let part = poll_fn(|cx| match fill.poll_wanted(cx) {
                Poll::Ready(true) => reader.poll_data(cx),
                Poll::Ready(false) => {
                    let detail = "nobody wants the rest of the body";
                    Poll::Ready(Some(Err(Fault::new(Code::StreamCut, Side::Client, detail))))
                }
                Poll::Pending => Poll::Pending,
            });
            match part.await.map(|part| part.map(http_body::Frame::into_data)) {
                Some(Ok(Ok(data))) => push(&data),
                Some(Ok(Err(frame))) => {
                    fill.finish(frame.into_trailers().unwrap_or_default());
                    break;
                }
                Some(Err(fault)) => {
                    fill.cut(fault);
                    break;
                }
                None => {
                    fill.finish(HeaderMap::new());
                    break;
                }
            }
        }
        let whole = fill.whole().filter(|body| length.is_none_or(|length| length == body.len()));
        if let Some(body) = whole {
            right.store(&question, &Stored { head, body });
        }
    }
}
