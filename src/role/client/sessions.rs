//! Rendezvous sessions as a client agent keeps them: their records in NATS, and the requests that wait in them
//! here. `records` reads and writes, `waiting` has whoever waits or relays, `receiving` and `sending` drive the
//! decisions of [`crate::proto::rendezvous`] for one request each.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use ring::rand::{SecureRandom, SystemRandom};

use crate::{
    bus::{Message, Subscription},
    config::Sessions as Settings,
    front::rendezvous::{Cookie, Parcel, Received, Rendezvous, Rules},
    proto::rendezvous::{admission::Visitor, rates::Rates},
    role::{asker::Asker, core::Core},
    store::{StoreClient, sessions::SessionRecords},
    sync::Mutex,
    wire::{
        Code, Fault, Meet, News, RequestId, SessionId, SessionState, Side, codec,
        message::VERSION,
        session::{Role, SessionKind},
        subjects::Kind,
    },
};

mod guessing;
mod receiving;
mod records;
mod sending;
mod waiting;

use guessing::Guessing;
use records::Purpose;
use sending::Sending;
use waiting::{Table, Waiting};

/// The sessions of one client agent.
pub struct Sessions {
    core: Arc<Core>,
    asker: Arc<Asker>,
    rules: Rules,
    /// How long a session lasts when nobody uses it.
    ttl: Duration,
    max_sessions: usize,
    records: SessionRecords,
    guessing: Guessing,
    /// How many each address made.
    made: Mutex<Rates>,
    table: Arc<Table>,
    random: SystemRandom,
}

impl Sessions {
    /// Sessions, when the settings ask for them.
    pub fn new(
        settings: &Settings,
        core: &Arc<Core>,
        asker: &Arc<Asker>,
        store: &Arc<StoreClient>,
    ) -> Option<Arc<Self>> {
        let rules = Rules {
            at: settings.sessions.clone()?,
            wait: settings.session_timeout,
            longest_wait: settings.max_session_timeout,
            origins: settings.session_origin.clone(),
        };
        Some(Arc::new(Sessions {
            core: Arc::clone(core),
            asker: Arc::clone(asker),
            rules,
            ttl: settings.session_ttl,
            max_sessions: settings.max_sessions,
            records: SessionRecords::new(Arc::clone(store)),
            guessing: Guessing::new(settings.session_guesses),
            made: Mutex::new(Rates::new(u32::try_from(settings.sessions_per_address).unwrap_or(u32::MAX))),
            table: Table::new(settings.max_session_waits, settings.max_waits_per_session),
            random: SystemRandom::new(),
        }))
    }

    /// Somebody says something to a request that waits or relays here, or NATS that nobody heard it.
    pub fn on_message(&self, number: u64, message: &Message) {
        if message.nobody {
            self.table.nobody(number);
            return;
        }
        let said = codec::decode::<Meet>(&message.payload).map(|said| {
            let own =
                self.core.subjects.is_about(&message.subject, &said.to) && said.from.is_beside(&said.to);
            own.then_some(said)
        });
        if let Some(said) = self.core.accept(message, said)
            && let Some(answer) = self.table.hear(number, said)
        {
            self.tell(&answer);
        }
    }

    /// Requests that wait.
    pub fn waits(&self) -> usize {
        self.table.waits()
    }

    /// Counts the sessions from time to time.
    pub async fn count(self: Arc<Self>) {
        let mut pause = COUNT;
        loop {
            // Before it is connected nothing is wrong with JetStream.
            while !self.core.is_ready() {
                tokio::time::sleep(SHORTEST).await;
            }
            match self.records.count().await {
                Ok(records) => {
                    self.core.metrics.sessions.set(i64::try_from(records).unwrap_or(i64::MAX));
                    pause = COUNT;
                }
                // Whoever wants one is told so, too.
                Err(why) => {
                    tracing::warn!(%why, "sessions can't be kept; all else goes on");
                    pause = (pause * 2).min(RARELY);
                }
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Says `said` to whom it is for, and hears when nobody is there.
    fn tell(&self, said: &Meet) {
        // An id out of a record may be anybody's.
        if !said.to.is_beside(&said.from) {
            self.core.metrics.drop_message("misaddressed");
            return;
        }
        let subjects = &self.core.subjects;
        let to = subjects.of_request(Kind::Meet, &said.to);
        self.core.ask(to, subjects.of_request(Kind::Meet, &said.from), codec::encode(said));
    }

    /// Tells all who wait in a session.
    fn announce(
        &self,
        id: &SessionId,
        state: SessionState,
        revision: u64,
        receiver: Option<(Role, &RequestId)>,
    ) {
        let (role, receiver) = receiver.map(|(role, id)| (role, id.clone())).unzip();
        let news = News { v: VERSION, session: id.clone(), state, revision, role, receiver };
        self.core.publish(self.core.subjects.session(id), codec::encode(&news));
    }

    /// What is told to all who wait in a session.
    async fn news(&self, id: &SessionId) -> Result<Subscription, Fault> {
        let subscribed = self.core.bus.subscribe(self.core.subjects.session(id)).await;
        subscribed.map_err(|error| away(error.to_string()))
    }

    fn read_news(&self, id: &SessionId, message: &Message) -> Option<News> {
        let news = codec::decode::<News>(&message.payload);
        self.core.accept(message, news.map(|news| (news.session == *id).then_some(news)))
    }

    /// Whether there is any use in trying.
    fn check(&self) -> Result<(), Fault> {
        if self.core.bus.is_connected() {
            return Ok(());
        }
        let detail = "the client agent has no connection to NATS, where sessions are kept";
        Err(Fault::new(Code::NatsUnreachable, Side::Client, detail))
    }

    /// Counts a session that the visitor makes.
    fn count_made(&self, visitor: &Visitor) -> Result<(), Fault> {
        let now = Instant::now();
        let mut made = self.made.lock();
        if !made.is_within(visitor.address, now) {
            let detail = "too many sessions were made from this address in a minute (--sessions-per-address)";
            return Err(Fault::new(Code::SessionRate, Side::Client, detail));
        }
        made.count(visitor.address, now);
        Ok(())
    }

    fn random(&self) -> Result<[u8; 16], Fault> {
        let mut bits = [0; 16];
        let filled = self.random.fill(&mut bits);
        filled.map_err(|_| Fault::new(Code::Internal, Side::Client, "the system has no random bits"))?;
        Ok(bits)
    }

    fn stopping() -> Fault {
        away("the client agent is being stopped")
    }
}

impl Rendezvous for Sessions {
    type Sending = Sending;

    fn rules(&self) -> &Rules {
        &self.rules
    }

    async fn allocate(&self, kind: SessionKind, visitor: &Visitor) -> Result<(SessionId, Cookie), Fault> {
        self.make(kind, visitor).await
    }

    async fn permit(&self, id: &SessionId, visitor: &Visitor, guest: IpAddr) -> Result<(), Fault> {
        self.check()?;
        let used = self.enter(id, visitor, Purpose::Permit(guest)).await?;
        self.announce(id, SessionState::Used, used.revision, None);
        Ok(())
    }

    async fn delete(&self, id: &SessionId, visitor: &Visitor) -> Result<(), Fault> {
        self.check()?;
        self.end(id, visitor).await
    }

    async fn receive(
        self: &Arc<Self>,
        id: &SessionId,
        visitor: &Visitor,
        wait: Duration,
    ) -> Result<Received, Fault> {
        self.check()?;
        receiving::receive(self, id, visitor, wait).await
    }

    async fn send(
        self: &Arc<Self>,
        id: &SessionId,
        visitor: &Visitor,
        parcel: Parcel,
        wait: Duration,
    ) -> Result<Sending, Fault> {
        self.check()?;
        Sending::begin(self, id, visitor, parcel, wait).await
    }

    fn guessed(&self, visitor: &Visitor) -> Fault {
        self.guessing.was_wrong(visitor, unknown())
    }

    fn relayed(&self, bytes: u64) {
        self.core.metrics.session_bytes.inc_by(bytes);
    }
}

fn unknown() -> Fault {
    Fault::new(Code::SessionUnknown, Side::Client, "there is no session with this id; it may have expired")
}

fn gone() -> Fault {
    let detail = "the session was deleted, or nobody has used it for as long as it lasts (--session-ttl)";
    Fault::new(Code::SessionGone, Side::Client, detail)
}

fn timed_out() -> Fault {
    Fault::new(Code::SessionTimeout, Side::Client, "nobody came to the session in time")
}

fn away(why: impl Into<String>) -> Fault {
    Fault::new(Code::SessionsAway, Side::Client, why.into())
}

/// The end of a wait. Who is there must have the time to say so, however short it is.
fn until(wait: Duration) -> Instant {
    Instant::now() + wait.max(SHORTEST)
}

const SHORTEST: Duration = Duration::from_millis(250);
/// How often sessions are counted, and when that failed.
const COUNT: Duration = Duration::from_secs(15);
const RARELY: Duration = Duration::from_secs(600);
