//! The upstream agent: one process that serves one upstream or several. What happens to the process is here and
//! is handed on; each upstream is a `member`.

use std::{collections::BTreeMap, ffi::OsString, sync::Arc};

use futures_util::future::join_all;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};

use super::{
    core::{self, Core, Role},
    signals::Signals,
};
use crate::{
    bus::{Event, Message, Subscription},
    config::Upstream as Settings,
    panics,
    sync::RwLock,
    wire::{
        Kind, Name,
        subjects::{self, Address},
    },
};

mod call;
mod callee;
mod claims;
mod health;
mod member;
mod queue;
mod reload;

use member::{Member, Setup};
use reload::Source;

/// One upstream agent.
pub struct Agent {
    core: Arc<Core>,
    members: RwLock<BTreeMap<Name, Arc<Member>>>,
}

/// Runs an upstream agent, whose settings are those of the command line `args`, until it is told to stop and has finished.
///
/// # Errors
/// When it can't start.
pub async fn run(settings: Settings, args: Vec<OsString>) -> anyhow::Result<()> {
    let mut signals = Signals::listen()?;
    let hangup = signal(SignalKind::hangup())?;
    let (agent, events) = Agent::connect(&settings).await?;
    let grace = settings.process.grace;
    agent.start(&settings, events).await?;
    if let Some(file) = settings.process.config.clone() {
        let source = Source { args, file, process: settings.process };
        tokio::spawn(Arc::clone(&agent).follow(source, hangup));
    }
    signals.stop().await;
    tracing::info!("stopping: requests in flight may finish");
    tokio::select! {
        () = agent.finish() => {}
        () = tokio::time::sleep(panics::grace(grace)) => tracing::warn!("the grace period is over"),
        () = signals.stop() => tracing::warn!("stopping at once"),
    }
    for member in agent.members() {
        member.cut_all();
    }
    agent.core.bus.flush().await;
    Ok(())
}

impl Agent {
    /// Connects to NATS, or starts trying to.
    ///
    /// # Errors
    /// When a setting can't be used.
    pub async fn connect(settings: &Settings) -> anyhow::Result<(Arc<Self>, mpsc::Receiver<Event>)> {
        let (core, events) = Core::connect(&settings.process, "upstream", "agent").await?;
        let core = Arc::new(core);
        let mut members = BTreeMap::new();
        for settings in settings.members() {
            let setup = Setup::new(settings.clone())?;
            members.insert(settings.name.clone(), Member::new(Arc::clone(&core), setup));
        }
        Ok((Arc::new(Agent { core, members: RwLock::new(members) }), events))
    }

    /// The process.
    pub fn process(&self) -> &Core {
        &self.core
    }

    /// Starts serving.
    ///
    /// # Errors
    /// When the admin address can't be had or the connection to NATS is closed for good.
    pub async fn start(
        self: &Arc<Self>,
        settings: &Settings,
        events: mpsc::Receiver<Event>,
    ) -> anyhow::Result<()> {
        // Before the process says that it is ready: the round trip it waits for then shows that these
        // subscriptions are in force too.
        for member in self.members() {
            member.start().await?;
        }
        let questions = self.core.bus.subscribe(self.core.subjects.who()).await?;
        tokio::spawn(Arc::clone(self).answer_who(questions));
        core::run(self, &settings.process, events).await
    }

    /// Takes nothing new, finishes what it has, and says goodbye.
    pub async fn finish(&self) {
        self.core.tell_to_stop();
        let members = self.members();
        join_all(members.iter().map(|member| member.finish())).await;
        self.core.bus.flush().await;
    }

    async fn answer_who(self: Arc<Self>, mut questions: Subscription) {
        while questions.next().await.is_some() {
            for member in self.members() {
                member.introduce_itself();
            }
            questions.pause(member::WHO_PAUSE).await;
        }
    }

    fn members(&self) -> Vec<Arc<Member>> {
        self.members.read().values().cloned().collect()
    }

    fn member(&self, upstream: &str) -> Option<Arc<Member>> {
        self.members.read().get(upstream).cloned()
    }
}

impl Role for Agent {
    fn core(&self) -> &Core {
        &self.core
    }

    fn on_message(&self, address: Address<'_>, message: &Message) {
        let (Address::Request { upstream, .. }
        | Address::Batch { upstream, .. }
        | Address::Probed { upstream }
        | Address::Asked { upstream }
        | Address::Refused { upstream }) = address
        else {
            return;
        };
        let Some(member) = self.member(upstream) else { return };
        match address {
            Address::Request { kind: Kind::Body, number, .. } => member.on_stream_message(number, message),
            Address::Request { kind: Kind::Resp, number, .. } if message.nobody => {
                member.on_reply_unheard(number);
            }
            Address::Batch { kind: Kind::Resp, numbers, .. } if message.nobody => {
                subjects::numbers(numbers).for_each(|number| member.on_reply_unheard(number));
            }
            Address::Asked { .. } => member.on_request(message),
            Address::Probed { .. } => member.on_probe(message),
            Address::Refused { .. } => member.on_refused(message),
            Address::Request { .. }
            | Address::Batch { .. }
            | Address::Probe { .. }
            | Address::Renewal
            | Address::Lost { .. }
            | Address::Ready => {}
        }
    }

    fn on_link(&self, up: bool) {
        for member in self.members() {
            member.on_link(up);
        }
    }

    fn is_busy(&self) -> bool {
        self.members().iter().any(|member| member.in_flight() > 0)
    }

    async fn before_moving(&self) {
        join_all(self.members().iter().map(|member| member.step_aside())).await;
    }

    fn on_publish_denied(&self, _: &str) {}

    fn refresh_metrics(&self) {
        let members = self.members();
        for member in &members {
            member.refresh_metrics();
        }
        let sum = |count: fn(&Member) -> usize| members.iter().map(|m| count(m) as i64).sum();
        self.core.metrics.in_flight.set(sum(Member::in_flight));
        self.core.metrics.streams.set(sum(Member::streams));
    }
}
