//! How long a caller may take: for its next request, or for some of what is written to it. One timer serves all of
//! them: it is not set anew each time, but looks, when it wakes, for how long the present one has been waited for.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::time::{Instant, Sleep};

/// Whether a caller has been waited for for too long.
pub struct Patience {
    limit: Duration,
    /// Since when it is waited for, when it is.
    since: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
    /// Whom the timer wakes.
    wakes: Option<Waker>,
}

impl Patience {
    /// Each wait may take `limit`.
    pub fn new(limit: Duration) -> Self {
        Patience { limit, since: None, timer: None, wakes: None }
    }

    /// What was waited for is here.
    pub fn rest(&mut self) {
        self.since = None;
    }

    /// Waits for something else from now on, which may take `limit`.
    pub fn wait_anew(&mut self, limit: Duration) {
        (self.limit, self.since) = (limit, None);
    }

    /// Is ready when it has taken too long.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let until = *self.since.get_or_insert_with(Instant::now) + self.limit;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        if until < timer.deadline() {
            timer.as_mut().reset(until);
            self.wakes = None;
        }
        if !timer.is_elapsed() && self.wakes.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            return Poll::Pending;
        }
        self.wakes = Some(cx.waker().clone());
        while timer.as_mut().poll(cx).is_ready() {
            if until <= Instant::now() {
                return Poll::Ready(());
            }
            timer.as_mut().reset(until);
        }
        Poll::Pending
    }
}
