//! New settings for an agent that runs: read when the file changes, or on SIGHUP.

use std::{ffi::OsString, path::PathBuf, sync::Arc};

use tokio::signal::unix::Signal;

use super::{
    Agent,
    member::{Member, Setup},
};
use crate::{
    config::{self, Command, Process, Upstream as Settings, Watched},
    role::core::Role,
};

/// Where the settings came from.
pub(super) struct Source {
    /// The command line.
    pub args: Vec<OsString>,
    pub file: PathBuf,
    /// The process's own settings, which stay as they were at its start.
    pub process: Process,
}

impl Agent {
    /// Watches the settings file for ever; `hangup` makes it look at once. Settings that can't be used are not:
    /// those that it has stay.
    pub(super) async fn follow(self: Arc<Self>, source: Source, hangup: Signal) {
        let file = source.file.clone();
        let mut watched = Watched::new(hangup, move || Ok(std::fs::read(&file)?));
        loop {
            // Whoever reads the settings says why they can't be read.
            watched.changed().await.ok();
            let mistakes = match config::reread(&source.args) {
                Ok(Command::Upstream(settings)) => self.reload(&settings, &source.process).await,
                Ok(_) => Vec::new(),
                Err(mistakes) => mistakes,
            };
            for mistake in &mistakes {
                tracing::warn!(file = %source.file.display(), "the new settings can't be used: {mistake}");
            }
            if !mistakes.is_empty() {
                tracing::warn!(mistakes = mistakes.len(), "the old settings stay");
            }
        }
    }

    /// Serves what `settings` say and nothing else.
    ///
    /// # Errors
    /// All that is wrong with them; then nothing has changed.
    async fn reload(self: &Arc<Self>, settings: &Settings, process: &Process) -> Vec<String> {
        let mut mistakes = Vec::new();
        let mut setups = Vec::new();
        for settings in settings.members() {
            match Setup::new(settings.clone()) {
                Ok(setup) => setups.push(setup),
                Err(error) => mistakes.push(format!("{error:#}")),
            }
        }
        if !mistakes.is_empty() {
            return mistakes;
        }
        for flag in process.differences(&settings.process) {
            tracing::warn!("{flag} has changed, which needs a restart");
        }
        for member in self.members() {
            if !setups.iter().any(|setup| setup.settings.name == member.name) {
                self.retire(member);
            }
        }
        for setup in setups {
            self.apply(setup).await;
        }
        Vec::new()
    }

    async fn apply(self: &Arc<Self>, setup: Arc<Setup>) {
        let name = setup.settings.name.clone();
        let Some(member) = self.member(name.as_str()) else {
            let member = Member::new(Arc::clone(&self.core), setup);
            if let Err(error) = member.start().await {
                tracing::error!(upstream = %name, error = format!("{error:#}"), "the upstream can't be served");
                return;
            }
            self.members.write().insert(name, Arc::clone(&member));
            if self.core.is_ready() {
                member.on_link(true);
            }
            return;
        };
        if member.setup().settings != setup.settings {
            tracing::info!(upstream = %name, origin = %setup.settings.shown(), "the upstream has new settings");
            member.change(setup);
        }
        if member.is_draining() && !self.core().is_stopping() {
            tracing::info!(upstream = %name, "the upstream is served again");
            member.resume();
        }
    }

    /// Lets a member finish, and forgets it.
    fn retire(self: &Arc<Self>, member: Arc<Member>) {
        if member.is_draining() {
            return;
        }
        tracing::info!(upstream = %member.name, "the upstream is no longer served; requests in flight may finish");
        let agent = Arc::clone(self);
        tokio::spawn(async move {
            if member.retire().await && !agent.core.is_stopping() {
                agent.forget(&member);
                member.end();
            }
        });
    }
}

impl Agent {
    fn forget(&self, member: &Arc<Member>) {
        let mut members = self.members.write();
        // Another one may have its name by now.
        if members.get(&member.name).is_some_and(|now| Arc::ptr_eq(now, member)) {
            members.remove(&member.name);
        }
    }
}
