//! When a process is to stop: when it is told so, or when code in it has panicked.

use crate::panics;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGTERM and SIGINT. SIGHUP, which some roles have a use for, ends none.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// Whether a panic has been told already.
    panicked: bool,
}

impl Signals {
    /// Listens from now on.
    ///
    /// # Errors
    /// When the system refuses a handler.
    pub fn listen() -> std::io::Result<Self> {
        // Whoever listens once is not ended by it any more.
        drop(signal(SignalKind::hangup())?);
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            panicked: false,
        })
    }

    /// Waits for the next one, or for the first panic.
    pub async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            () = panics::first(), if !self.panicked => self.panicked = true,
        }
    }
}
