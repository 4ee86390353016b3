//! How long a connection waits for its next request: for its first byte, and from then on for all of its head.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use super::{Over, Rules};
use crate::front::patience::Patience;

/// The next request of a connection.
pub struct Awaited {
    patience: Patience,
    head_timeout: Duration,
    keep_alive: Duration,
    /// Whether there was one before.
    is_used: bool,
    /// Whether nothing of it was here when it was last looked for, behind another.
    is_idle: bool,
}

impl Awaited {
    /// The first one.
    pub fn new(rules: &Rules) -> Self {
        let &Rules { head_timeout, keep_alive, .. } = rules;
        Awaited {
            patience: Patience::new(head_timeout),
            head_timeout,
            keep_alive,
            is_used: false,
            is_idle: false,
        }
    }

    /// Its head is here; from now on it is the one behind it.
    pub fn is_here(&mut self) {
        self.patience.rest();
        self.is_used = true;
    }

    /// Is ready when it has taken too long; `is_nothing_here` is whether it has not begun.
    pub fn poll(&mut self, is_nothing_here: bool, cx: &mut Context<'_>) -> Poll<Over> {
        let is_idle = is_nothing_here && self.is_used;
        if is_idle != self.is_idle {
            self.is_idle = is_idle;
            self.patience.wait_anew(if is_idle { self.keep_alive } else { self.head_timeout });
        }
        self.patience.poll(cx).map(|()| if is_idle { Over::Idle } else { Over::Slow })
    }
}
