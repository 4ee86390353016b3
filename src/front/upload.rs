//! A request's body on its way to the upstream agent, frame by frame.

use std::{
    future::poll_fn,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame};
use tokio::{sync::oneshot, time::timeout};

use super::{
    body::{self, Limits, Rest, Unread},
    http::Ask,
    incoming::Incoming,
};
use crate::{
    proto::flow::FRAME,
    stream::{
        Writer,
        pace::{Pace, paused},
        ready::{self, Next},
    },
    wire::headers::{FieldRules, trailers},
};

/// The rest of a request's body.
pub struct Upload {
    /// What it is.
    pub rest: Rest,
    /// Bytes that may go before the agent gives credit.
    pub credit: u64,
    /// How long the caller may pause.
    pub idle: Duration,
    /// Bytes of the body that went before.
    pub begun: usize,
    /// Whether the caller was asked for any of it.
    pub asked: bool,
    /// What is believed of the caller's trailers.
    pub rules: FieldRules,
}

impl Upload {
    /// Sends it. What goes wrong with the caller is told to `failed`; what goes wrong with the agent, the answer
    /// tells.
    pub async fn run<A: Ask>(
        mut self,
        mut writer: Writer,
        ask: Arc<A>,
        limits: Limits,
        failed: oneshot::Sender<Unread>,
    ) {
        match self.send(&mut writer, &*ask, limits).await {
            Ok(trailers) => {
                // The answer tells what became of it.
                writer.finish(trailers::of_caller(trailers, self.rules)).await.ok();
            }
            Err(Ended::Caller(unread)) => {
                writer.cut(unread.fault.clone());
                // Nobody waits for it once there is an answer.
                failed.send(unread).ok();
            }
            // A caller that was never told to go on sends nothing; to read would be to tell it.
            Err(Ended::Agent) if self.asked => self.linger().await,
            Err(Ended::Agent) => {}
        }
    }

    async fn send<A: Ask>(
        &mut self,
        writer: &mut Writer,
        ask: &A,
        limits: Limits,
    ) -> Result<HeaderMap, Ended> {
        let ahead = std::mem::take(&mut self.rest.ahead);
        let mut sent = self.begun + ahead.len();
        writer.send(ahead).await.map_err(|_| Ended::Agent)?;
        let length = self.rest.body.size_hint().exact();
        let mut pace = Pace::new(self.idle, length);
        let mut told = Instant::now();
        let mut behind = None;
        loop {
            // Nothing is asked of the caller that could not be passed on.
            writer.ready().await.map_err(|_| Ended::Agent)?;
            let asked = Instant::now();
            let frame = match behind.take() {
                Some(next) => read(next)?,
                None => self.next(writer).await?,
            };
            let Some(frame) = frame else {
                return Ok(std::mem::take(&mut self.rest.trailers));
            };
            let waited = asked.elapsed();
            match frame.into_data() {
                Ok(data) => {
                    let (data, next) = ready::gather(&mut self.rest.body, data, FRAME);
                    behind = next;
                    sent += data.len();
                    if sent > limits.max {
                        return Err(Ended::Caller(body::too_large(limits.max).into()));
                    }
                    if length.is_some() {
                        pace.keeps(data.len(), waited).map_err(|fault| Ended::Caller(fault.into()))?;
                    }
                    writer.send(data).await.map_err(|_| Ended::Agent)?;
                    if told.elapsed() >= TELL {
                        told = Instant::now();
                        ask.progress(writer.number());
                    }
                }
                Err(frame) => return Ok(frame.into_trailers().unwrap_or_default()),
            }
        }
    }

    /// The next part, unless the agent wants no more meanwhile.
    async fn next(&mut self, writer: &Writer) -> Result<Option<Frame<Bytes>>, Ended> {
        self.asked = true;
        let body = &mut self.rest.body;
        let frame = timeout(self.idle, async {
            let mut frame = std::pin::pin!(body.frame());
            poll_fn(|cx| match frame.as_mut().poll(cx) {
                Poll::Ready(frame) => Poll::Ready(Ok(frame)),
                Poll::Pending => writer.poll_over(cx).map(Err),
            })
            .await
        });
        match frame.await {
            Ok(Ok(frame)) => read(frame),
            Ok(Err(_)) => Err(Ended::Agent),
            Err(_) => Err(Ended::Caller(paused(self.idle).into())),
        }
    }

    /// Reads on for a while after the answer: to close a connection on a caller that is still sending would
    /// take the answer from it (RFC 9112 §9.6).
    async fn linger(mut self) {
        let reading =
            async { while let Ok(Some(Ok(_))) = timeout(LINGER_PAUSE, self.rest.body.frame()).await {} };
        timeout(LINGER, reading).await.ok();
    }
}

/// The outcome of reading a caller's body.
fn read(next: Next<Incoming>) -> Result<Option<Frame<Bytes>>, Ended> {
    next.transpose().map_err(|error| Ended::Caller(body::unreadable(&error)))
}

/// Why a body was not sent to its end.
enum Ended {
    /// The caller broke a rule, or is gone.
    Caller(Unread),
    /// The agent wants no more, or is gone.
    Agent,
}

/// How long the caller is read after the answer at most, and how long it may pause then.
const LINGER: Duration = Duration::from_secs(30);
const LINGER_PAUSE: Duration = Duration::from_secs(5);
/// How often an upload that moves on is told.
const TELL: Duration = Duration::from_secs(1);
