//! Whether a caller is still there that says nothing: it is asked, and answers or is gone.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use h2::{Ping, PingPong};
use tokio::time::{Instant, Sleep};

/// Asks from time to time.
pub struct Pings {
    /// None where the connection takes no pings.
    pings: Option<PingPong>,
    timer: Pin<Box<Sleep>>,
    /// Whether the answer to a question is waited for.
    asked: bool,
}

impl Pings {
    /// Asks by `pings`.
    pub fn new(pings: Option<PingPong>) -> Self {
        Pings { pings, timer: Box::pin(tokio::time::sleep(PERIOD)), asked: false }
    }

    /// Is ready when a question was not answered in time.
    pub fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(pings) = &mut self.pings else { return Poll::Pending };
        loop {
            if self.asked && pings.poll_pong(cx).is_ready() {
                self.asked = false;
                self.timer.as_mut().reset(Instant::now() + PERIOD);
            }
            if self.timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if self.asked {
                return Poll::Ready(());
            }
            // A connection that is ending takes no question, and needs none.
            self.asked = pings.send_ping(Ping::opaque()).is_ok();
            self.timer.as_mut().reset(Instant::now() + PERIOD);
        }
    }
}

/// How long after an answer the caller is asked again, and how long it may take to answer.
const PERIOD: Duration = Duration::from_secs(20);
