//! The broker: watches what is not answered at once, and works on jobs.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{
    asker::{self, Asker},
    core::{self, Announced, Core, Role},
    service::{Report, Service},
    shell::{Driver, Shell},
    signals::Signals,
};
use crate::{
    bus::{Event, Message, Subscription},
    config::{Broker as Settings, Switch},
    panics,
    proto::{
        exchange,
        supervision::{self, Command, Input, Supervision},
    },
    stream,
    wire::{Here, Hold, Kind, Lease, codec, codec::Malformed, ids::Numbers, subjects::Address},
};

mod jobs;
mod link;
mod storing;

use jobs::Runner;
use link::StoreLink;
use storing::Storing;

/// One broker.
pub struct Broker {
    core: Arc<Core>,
    /// What it stores, and its work on jobs.
    jobs: Option<Jobs>,
    limit: usize,
    driver: Driver<Supervision>,
}

/// What a broker stores, and its work on jobs, for which it asks as a client agent does.
struct Jobs {
    asker: Arc<Asker>,
    runner: Arc<Runner>,
    storing: Arc<Storing>,
    link: Arc<StoreLink>,
}

impl Jobs {
    async fn new(core: &Arc<Core>, settings: &Settings) -> anyhow::Result<Jobs> {
        let link = StoreLink::connect(core, settings).await?;
        let asker = Asker::new(core, asking(settings));
        let runner = Runner::new(core, &asker, &link.store, &settings.jobs);
        let storing = Storing::new(core, &link, &settings.jobs, runner.tried());
        link.tell_of_refusals(&storing);
        Ok(Jobs { asker, runner, storing, link })
    }
}

/// Runs a broker until it is told to stop.
///
/// # Errors
/// When it can't start.
pub async fn run(settings: Settings) -> anyhow::Result<()> {
    let mut signals = Signals::listen()?;
    let (broker, events) = Broker::connect(&settings).await?;
    broker.start(&settings, events).await?;
    signals.stop().await;
    tracing::info!("stopping: client agents find another broker");
    broker.tell_to_stop();
    let grace = panics::grace(settings.process.grace);
    tokio::select! {
        () = broker.finish_within(grace) => {}
        () = signals.stop() => {
            tracing::warn!("stopping at once");
            broker.give_up(AT_ONCE).await;
        }
    }
    broker.core.bus.flush().await;
    Ok(())
}

/// What it is held to when it asks for jobs.
fn asking(settings: &Settings) -> asker::Settings {
    let runs = settings.jobs.max_runs;
    asker::Settings {
        upstream: None,
        only: Vec::new(),
        routed: true,
        rules: exchange::Settings {
            ttl: settings.jobs.timeout,
            patience: PATIENCE,
            max_in_flight: runs,
            max_per_upstream: runs,
        },
        streams: stream::Limits { streams: runs.saturating_mul(2), stall: settings.jobs.timeout, idle: IDLE },
        egress: settings.jobs.egress.clone(),
    }
}

/// How long a body may move no byte: it may wait for room in memory meanwhile.
const IDLE: Duration = Duration::from_secs(3600);
/// How long a response to a job may take before a broker is asked to watch it.
const PATIENCE: Duration = Duration::from_millis(250);
/// How much of the grace period is for storing what jobs say that did not end within it; and how long that may take when
/// there is no grace.
const LAST_WORD: Duration = Duration::from_secs(3);
const AT_ONCE: Duration = Duration::from_secs(1);
const DRAIN_CHECK: Duration = Duration::from_millis(20);

impl Broker {
    /// Connects to NATS, or starts trying to.
    ///
    /// # Errors
    /// When a setting can't be used.
    pub async fn connect(settings: &Settings) -> anyhow::Result<(Arc<Self>, mpsc::Receiver<Event>)> {
        let (core, events) = Core::connect(&settings.process, "broker", "broker").await?;
        let core = Arc::new(core);
        let rules = supervision::Settings {
            wait: settings.waits.wait,
            ack_wait: settings.waits.ack_wait,
            response_wait: settings.waits.response_wait,
            max_holds: settings.waits.max_holds,
        };
        let numbers = Numbers::new(std::hash::RandomState::new());
        let driver = Driver::new(Supervision::new(rules, core.id.clone(), numbers));
        let jobs = match settings.jobs.run {
            Switch::On => Some(Jobs::new(&core, settings).await?),
            Switch::Off => None,
        };
        Ok((Arc::new(Broker { core, jobs, limit: settings.waits.max_holds, driver }), events))
    }

    /// Starts watching.
    ///
    /// # Errors
    /// When the admin address can't be had or the connection to NATS is closed for good.
    pub async fn start(
        self: &Arc<Self>,
        settings: &Settings,
        events: mpsc::Receiver<Event>,
    ) -> anyhow::Result<()> {
        // Announcements first: a hold that comes before them would wait for the next heartbeat.
        for kind in [Kind::Here, Kind::Gone] {
            let announcements = self.core.bus.subscribe(self.core.subjects.every(kind)).await?;
            tokio::spawn(Arc::clone(self).read_announcements(kind, announcements));
        }
        let holds = self.core.bus.join(self.core.subjects.every_hold()).await?;
        tokio::spawn(Arc::clone(self).read_holds(holds));
        if let Some(jobs) = &self.jobs {
            jobs.asker.follow_agents().await?;
            jobs.storing.start().await?;
        }
        core::start(self, &settings.process, events).await?;
        if let Some(jobs) = &self.jobs {
            jobs.asker.run();
            tokio::spawn(Arc::clone(&jobs.runner).run());
        }
        let timers = Arc::clone(self);
        tokio::spawn(async move { timers.run_timers().await });
        Ok(())
    }

    /// Whether it knows if it can have jobs, or has nothing to do with them.
    pub fn knows_of_jobs(&self) -> bool {
        self.jobs.as_ref().is_none_or(|jobs| *jobs.runner.tried().borrow())
    }

    /// Lets it take nothing more.
    pub fn tell_to_stop(&self) {
        self.core.tell_to_stop();
    }

    /// Waits for what it has to be done. Before `grace` is over, it waits no more for servers, and stores of what it has
    /// sent that its outcome is not known.
    pub async fn finish_within(&self, grace: Duration) {
        let last_word = LAST_WORD.min(grace / 4);
        if tokio::time::timeout(grace - last_word, self.finish()).await.is_err() {
            tracing::warn!(
                "the grace period is over: what may run twice goes on at other brokers, and what may not fails"
            );
            self.give_up(last_word).await;
        }
    }

    async fn give_up(&self, time: Duration) {
        if let Some(jobs) = &self.jobs {
            jobs.runner.give_up();
        }
        tokio::time::timeout(time, self.finish()).await.ok();
    }

    /// Waits for the jobs that it works on to have their next revision stored, and for what it was asked to be answered.
    async fn finish(&self) {
        while self.jobs.as_ref().is_some_and(|jobs| jobs.runner.running() > 0 || !jobs.storing.is_done()) {
            tokio::time::sleep(DRAIN_CHECK).await;
        }
    }

    async fn read_holds(self: Arc<Self>, mut holds: Subscription) {
        while let Some(message) = holds.next().await {
            let upstream = self.core.subjects.upstream_of(Kind::Hold, &message.subject);
            self.take(&message, codec::decode::<Hold>(&message.payload), |hold| {
                (upstream.as_ref() == Some(&hold.upstream_target) && is_own(&hold))
                    .then_some(Input::Hold(hold))
            });
        }
    }

    async fn read_announcements(self: Arc<Self>, kind: Kind, mut announcements: Subscription) {
        while let Some(message) = announcements.next().await {
            match self.core.announcement(kind, &message) {
                Some(Announced::Here(here)) => self.feed(Input::Here(here)),
                Some(Announced::Gone { upstream, agent }) => self.feed(Input::Gone { upstream, agent }),
                None => {}
            }
        }
    }

    /// Feeds what was decoded, when it is what its subject says it is.
    fn take<M>(
        &self,
        message: &Message,
        decoded: Result<M, Malformed>,
        input: impl FnOnce(M) -> Option<Input>,
    ) {
        if let Some(input) = self.core.accept(message, decoded.map(input)) {
            self.feed(input);
        }
    }
}

/// Whether a hold's ids belong together: a client agent can only have its own requests held.
fn is_own(hold: &Hold) -> bool {
    hold.client_req_id.is_of(&hold.client_id, &hold.upstream_target)
}

impl Shell for Broker {
    type Machine = Supervision;

    fn driver(&self) -> &Driver<Supervision> {
        &self.driver
    }

    fn perform(&self, command: Command) -> Option<Input> {
        let core = &self.core;
        match command {
            Command::Ack(ack) => {
                core.publish(core.subjects.of_request(Kind::Ack, &ack.client_req_id), codec::encode(&ack));
            }
            Command::Answer(reply) => {
                core.metrics.failed.inc();
                core.publish(
                    core.subjects.of_request(Kind::Resp, &reply.client_req_id),
                    codec::encode(&reply),
                );
            }
            Command::Lost { client, lost } => {
                core.publish(core.subjects.lost(&client, &core.id), codec::encode(&lost));
            }
            Command::Who { upstream } => core.publish(core.subjects.who_of(&upstream), Bytes::new()),
            Command::Probe { upstream, agent } => core.ask(
                core.subjects.probe(&agent, &upstream),
                core.subjects.probe_reply(&core.id, &upstream, &agent),
                Bytes::new(),
            ),
        }
        None
    }
}

impl Service for Broker {
    fn process(&self) -> &Core {
        &self.core
    }

    fn service_name(&self) -> String {
        "relay-broker".into()
    }

    fn report(&self) -> Report {
        let held = self.driver.with(|supervision| supervision.held());
        let endpoint = self.core.subjects.every_hold();
        Report { endpoint, ..Report::of(&self.core, held, self.limit) }
    }
}

impl Role for Broker {
    fn core(&self) -> &Core {
        &self.core
    }

    fn on_message(&self, address: Address<'_>, message: &Message) {
        if let Some(jobs) = &self.jobs {
            if let Address::Request { kind: Kind::Body, number, .. } = address
                && jobs.storing.on_frame(number, message)
            {
                return;
            }
            jobs.asker.on_message(&address, message);
        }
        match address {
            Address::Request { kind: Kind::Lease, number, upstream } => {
                self.take(message, codec::decode::<Hold>(&message.payload), |hold| {
                    let own = is_own(&hold) && hold.upstream_target.as_str() == upstream;
                    own.then_some(Input::Update { number, hold })
                });
            }
            Address::Renewal => self.take(message, codec::decode::<Lease>(&message.payload), |lease| {
                Some(Input::Renew { client: lease.client_id, holds: lease.holds })
            }),
            Address::Probe { upstream, agent } if message.nobody => {
                if let Ok(upstream) = upstream.parse() {
                    self.feed(Input::ProbeUnanswered { upstream, agent });
                }
            }
            Address::Probe { upstream, agent } => {
                self.take(message, codec::decode::<Here>(&message.payload), |here| {
                    let own = here.upstream_target.as_str() == upstream && here.upstream_id == agent;
                    own.then_some(Input::Here(here))
                });
            }
            Address::Request { .. }
            | Address::Batch { .. }
            | Address::Probed { .. }
            | Address::Asked { .. }
            | Address::Lost { .. }
            | Address::Refused { .. }
            | Address::Ready => {}
        }
    }

    fn unready(&self) -> Option<&'static str> {
        (!self.knows_of_jobs()).then_some("asking JetStream whether jobs can be kept")
    }

    fn on_link(&self, up: bool) {
        self.feed(Input::Link { up });
        if let Some(jobs) = &self.jobs {
            jobs.asker.on_link(up);
            if up {
                jobs.link.on_main_link();
            }
        }
        if up {
            self.core.publish(self.core.subjects.who(), Bytes::new());
        }
    }

    fn on_publish_denied(&self, subject: &str) {
        if let Some(jobs) = &self.jobs {
            jobs.asker.on_publish_denied(subject);
            jobs.link.on_publish_denied(subject);
        }
    }

    fn refresh_metrics(&self) {
        let (held, agents) = self.driver.with(|supervision| (supervision.held(), supervision.agents()));
        self.core.metrics.held.set(held as i64);
        self.core.metrics.agents.set(agents as i64);
        let running = self.jobs.as_ref().map_or(0, |jobs| jobs.runner.running());
        self.core.metrics.jobs_running.set(running as i64);
    }
}
