//! New requests for a socket that runs: read when the file changes, or one that it names, or on SIGHUP.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::signal::unix::Signal;

use super::{calling::Calling, load};

impl Calling {
    /// Watches the file of requests for ever; `hangup` makes it look at once. A file that is not right is not used:
    /// what was there stays.
    pub(super) async fn follow(self: Arc<Self>, path: PathBuf, mut hangup: Signal) {
        let mut used = self.read(&path).await;
        let mut seen = used.clone();
        loop {
            let at_once = tokio::select! {
                _ = hangup.recv() => true,
                () = tokio::time::sleep(LOOK) => false,
            };
            let found = self.read(&path).await;
            // One that is being written looks otherwise the next time.
            let has_settled = found == seen || at_once;
            seen.clone_from(&found);
            if !has_settled || (found == used && !at_once) {
                continue;
            }
            match load(&path, Some(&self.table())) {
                Ok(table) => {
                    tracing::info!(requests = table.requests().len(), "the requests were read again");
                    self.change(table);
                }
                Err(mistakes) => {
                    for mistake in &mistakes.all {
                        tracing::warn!(file = %path.display(), "the new requests can't be used: {mistake}");
                    }
                    tracing::warn!(mistakes = mistakes.all.len(), "the old requests stay");
                }
            }
            // It may name other files now.
            used = self.read(&path).await;
            seen.clone_from(&used);
        }
    }

    /// What is in the file of requests, and in those it names.
    async fn read(&self, path: &Path) -> Vec<Option<Vec<u8>>> {
        let mut all = vec![tokio::fs::read(path).await.ok()];
        for file in self.table().requests().files() {
            all.push(tokio::fs::read(file).await.ok());
        }
        all
    }
}

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(2);
