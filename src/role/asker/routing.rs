//! The routes of an asking process: drives the table by what agents announce, and tells them what became of it.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    bus::{Message, Subscription},
    front::http::Sought,
    proto::routes::{Command, Input, Routes, Row, Why},
    role::{
        core::Core,
        shell::{Driver, Shell},
    },
    telemetry::ClaimRefused,
    wire::{
        Claim, Here, Kind, Name, ProcessId, Refused, Subjects, codec,
        codec::Malformed,
        dots::has_dot_segment,
        message::{VERSION, millis},
        request_target::to_text,
    },
};

/// The table of one process, and its way to the agents.
pub struct Routing {
    core: Arc<Core>,
    driver: Driver<Routes>,
}

impl Routing {
    /// The empty table of this process.
    pub fn new(core: Arc<Core>) -> Arc<Self> {
        Arc::new(Routing { core, driver: Driver::new(Routes::default()) })
    }

    /// Which upstream has a route for this host and path.
    pub fn seek(&self, host: &str, path: &[u8]) -> Sought {
        self.driver.with(|routes| match routes.find(host, &to_text(path)) {
            Some(found) if found.is_below_path && has_dot_segment(path) => Sought::Climbs,
            Some(found) => Sought::Found(found),
            None if routes.is_known() => Sought::Nowhere,
            None => Sought::NotYet,
        })
    }

    /// Whether any route is for this host, whatever its path.
    pub fn has_host(&self, host: &str) -> bool {
        self.driver.with(|routes| routes.has_host(host))
    }

    /// Whether all routes are known.
    pub fn is_known(&self) -> bool {
        self.driver.with(|routes| routes.is_known())
    }

    /// How many routes there are.
    pub fn size(&self) -> usize {
        self.driver.with(|routes| routes.len())
    }

    /// Every route.
    pub fn rows(&self) -> Vec<Row> {
        self.driver.with(|routes| routes.rows())
    }

    /// What a message on a `route` subject says, when it is its sender's own.
    ///
    /// # Errors
    /// What is wrong with it; the agent is told so.
    fn read(&self, message: &Message) -> Result<Option<Input>, Malformed> {
        let named = self.core.subjects.claimant(&message.subject);
        let Some((upstream, agent)) = named else { return Ok(None) };
        let claim = codec::decode::<Claim>(&message.payload).inspect_err(|malformed| {
            self.count("malformed");
            self.tell(
                &agent,
                Refused { why: Some(malformed.to_string()), ..refused(upstream.clone(), String::new()) },
            );
        })?;
        let subject = self.core.subjects.route(&upstream, &agent, &claim.route);
        let own =
            claim.upstream_target == upstream && claim.upstream_id == agent && subject == *message.subject;
        Ok(own.then_some(Input::Claim(claim)))
    }

    /// An agent announces itself, or answers a probe.
    pub fn here(&self, here: &Here) {
        self.feed(Input::Here(here.clone()));
    }

    /// Reads the claims of a subscription until it ends.
    pub async fn read_claims(self: Arc<Self>, mut claims: Subscription) {
        while let Some(message) = claims.next().await {
            if let Some(input) = self.core.accept(&message, self.read(&message)) {
                self.feed(input);
            }
        }
    }

    fn count(&self, reason: &'static str) {
        self.core.metrics.claims_refused.get_or_create(&ClaimRefused { reason }).inc();
    }

    fn tell(&self, agent: &ProcessId, refused: Refused) {
        let subject = self.core.subjects.claim(agent, &refused.upstream_target);
        self.core.publish(subject, codec::encode(&refused));
    }
}

fn refused(upstream: Name, route: String) -> Refused {
    Refused { v: VERSION, upstream_target: upstream, route, by: None, earlier: 0, why: None }
}

impl Shell for Routing {
    type Machine = Routes;

    fn driver(&self) -> &Driver<Routes> {
        &self.driver
    }

    fn perform(&self, command: Command) -> Option<Input> {
        // Should a question not arrive, its turn comes again, and whoever is not asked announces itself.
        let Core { subjects, id, .. } = &*self.core;
        match command {
            Command::AskAll => self.core.publish(subjects.who(), Bytes::new()),
            Command::Ask { upstream } => self.core.publish(subjects.who_of(&upstream), Bytes::new()),
            Command::Probe { upstream, agent } => {
                let reply = subjects.probe_reply(id, &upstream, &agent);
                self.core.ask(subjects.probe(&agent, &upstream), reply, Bytes::new());
            }
            Command::Refuse { upstream, agent, route, why } => {
                let told = refused(upstream, route.to_string());
                let told = match why {
                    Why::Taken { by, earlier } => {
                        self.count("taken");
                        Refused { by: Some(by), earlier: millis(earlier), ..told }
                    }
                    Why::Limit(why) => {
                        self.count("limit");
                        Refused { why: Some(why.to_owned()), ..told }
                    }
                };
                self.tell(&agent, told);
            }
        }
        None
    }
}

/// The subjects on which the agents of `only`, or of all upstreams, say `kind`.
pub fn announcements(subjects: &Subjects, kind: Kind, only: &[Name]) -> Vec<String> {
    match only {
        [] => vec![subjects.every(kind)],
        names => names.iter().map(|name| subjects.every_of(kind, name)).collect(),
    }
}
