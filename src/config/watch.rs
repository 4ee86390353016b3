//! Files that may change while a process runs: looked at now and then, and at once on SIGHUP.

use std::{sync::Arc, time::Duration};

use tokio::signal::unix::Signal;

/// What is read of files, for as long as they are watched.
pub struct Watched<T> {
    read: Arc<Read<T>>,
    hangup: Signal,
    used: Option<T>,
    seen: Option<T>,
}

type Read<T> = dyn Fn() -> anyhow::Result<T> + Send + Sync;

impl<T: Clone + PartialEq + Send + 'static> Watched<T> {
    /// Watches what `read` reads; what it reads now is in use already. `hangup` makes it look at once.
    pub fn new(hangup: Signal, read: impl Fn() -> anyhow::Result<T> + Send + Sync + 'static) -> Self {
        let used = read().ok();
        Watched { read: Arc::new(read), hangup, seen: used.clone(), used }
    }

    /// Waits until there is something else that has settled, or somebody wants it read anyway.
    ///
    /// # Errors
    /// When what is there now can't be read.
    pub async fn changed(&mut self) -> anyhow::Result<T> {
        loop {
            let at_once = tokio::select! {
                _ = self.hangup.recv() => true,
                () = tokio::time::sleep(LOOK) => false,
            };
            let now = self.read().await;
            let found = now.as_ref().ok().cloned();
            // What is being written, or is only half there, looks otherwise the next time.
            let has_settled = found == self.seen || at_once;
            self.seen = found.clone();
            if has_settled && (found != self.used || at_once) {
                self.used = found;
                return now;
            }
        }
    }

    /// Takes what is there now for what is in use: another file may be looked at than before.
    pub async fn use_what_is_there(&mut self) {
        self.used = self.read().await.ok();
        self.seen = self.used.clone();
    }

    async fn read(&self) -> anyhow::Result<T> {
        let read = Arc::clone(&self.read);
        let now = tokio::task::spawn_blocking(move || read()).await;
        now.unwrap_or_else(|error| Err(error.into()))
    }
}

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(2);
