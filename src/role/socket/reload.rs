//! New requests for a socket that runs: read when the file changes, or one that it names, or on SIGHUP.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::signal::unix::Signal;

use super::{calling::Calling, load};
use crate::config::Watched;

impl Calling {
    /// Watches the file of requests for ever; `hangup` makes it look at once. A file that is not right is not used:
    /// what was there stays.
    pub(super) async fn follow(self: Arc<Self>, path: PathBuf, hangup: Signal) {
        let (reader, file) = (Arc::clone(&self), path.clone());
        let mut watched = Watched::new(hangup, move || Ok(reader.read(&file)));
        loop {
            // Whoever loads the requests says why they can't be read.
            watched.changed().await.ok();
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
            watched.use_what_is_there().await;
        }
    }

    /// What is in the file of requests, and in those it names.
    fn read(&self, path: &Path) -> Vec<Option<Vec<u8>>> {
        let mut all = vec![std::fs::read(path).ok()];
        all.extend(self.table().requests().files().iter().map(|file| std::fs::read(file).ok()));
        all
    }
}
