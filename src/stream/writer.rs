//! The sending end of a stream.

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::HeaderMap;

use super::Stream;
use crate::wire::{Code, Fault, Side, StreamMessage, Word};

/// What is sent. Dropping it before its end cuts the body.
pub struct Writer {
    stream: Arc<Stream>,
    finished: bool,
}

/// Why no more can be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Over {
    /// The other side wants no more.
    Stopped,
    /// The stream was cut.
    Cut(Fault),
}

impl Writer {
    pub(super) fn new(stream: Arc<Stream>) -> Self {
        Writer { stream, finished: false }
    }

    /// The number of its request here.
    pub fn number(&self) -> u64 {
        self.stream.own.number()
    }

    /// Whose side it is.
    pub fn side(&self) -> Side {
        self.stream.streams.side
    }

    /// Waits until something may be sent.
    ///
    /// # Errors
    /// When nothing may be sent any more.
    pub async fn ready(&self) -> Result<(), Over> {
        poll_fn(|cx| self.stream.poll_room(cx)).await.map(drop)
    }

    /// Waits until nothing may be sent any more.
    pub async fn over(&self) -> Over {
        poll_fn(|cx| self.stream.poll_over(cx)).await
    }

    /// Is ready when nothing may be sent any more.
    pub fn poll_over(&self, cx: &mut Context<'_>) -> Poll<Over> {
        self.stream.poll_over(cx)
    }

    /// Sends `data` as credit allows.
    ///
    /// # Errors
    /// When nothing may be sent any more.
    pub async fn send(&mut self, mut data: Bytes) -> Result<(), Over> {
        while !data.is_empty() {
            let room = poll_fn(|cx| self.stream.poll_room(cx)).await?;
            let part = data.split_to(data.len().min(room).min(self.stream.streams.frame()));
            let word = {
                let (mut state, now) = (self.stream.state(), Instant::now());
                state.moves.sent(now);
                state.flow.send(part, now)
            };
            self.publish(word).await?;
        }
        Ok(())
    }

    /// Sends the end.
    ///
    /// # Errors
    /// When nothing may be sent any more.
    pub async fn finish(mut self, trailers: HeaderMap) -> Result<(), Over> {
        let word = {
            let mut state = self.stream.state();
            if let Some(fault) = &state.cut {
                return Err(Over::Cut(fault.clone()));
            }
            if !state.flow.is_sending() {
                return Err(Over::Stopped);
            }
            let now = Instant::now();
            state.moves.sent(now);
            state.flow.finish(trailers, now)
        };
        self.finished = true;
        self.publish(word).await
    }

    /// Cuts the body: it breaks off here.
    pub fn cut(mut self, fault: Fault) {
        self.finished = true;
        self.stream.fail(fault);
    }

    /// A full queue to NATS passes: the rest of the process is as busy as it may be.
    async fn publish(&self, word: Word) -> Result<(), Over> {
        let Some(to) = self.stream.state().peer.clone() else { return Ok(()) };
        let message = StreamMessage { to, word };
        while !self.stream.streams.publish(&message) {
            tokio::time::sleep(QUEUE_FULL).await;
            if let Some(fault) = &self.stream.state().cut {
                return Err(Over::Cut(fault.clone()));
            }
        }
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let sending = self.stream.state().flow.is_sending();
        if !self.finished && sending {
            let side = self.stream.streams.side;
            self.stream.fail(Fault::new(Code::StreamCut, side, "the body broke off"));
        }
    }
}

const QUEUE_FULL: Duration = Duration::from_millis(2);
