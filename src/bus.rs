//! The connection to NATS: the only module that names `async_nats`. [`store`] is what JetStream keeps of jobs, `kv` its
//! buckets.
//!
//! Publishing never waits: a full command queue is an answer ([`Full`]), not a pause. Whether the
//! connection is there is told as [`Event`]s; who uses it decides what that means.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use async_nats::{
    ClientError, ConnectErrorKind, ConnectOptions, Event as NatsEvent, ServerError, StatusCode, Subject,
    connection::State,
};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::mpsc;

mod batching;
mod files;
mod foreign;
mod kv;
mod outbox;
mod refusals;
pub mod store;

pub use batching::Batching;
use batching::Publication;
pub use foreign::Foreign;
pub use kv::{Entry, Kv, KvError};
use outbox::Outbox;
pub use refusals::Denied;
use refusals::{Refusals, Unanswered};

/// How to reach NATS and who we are there.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    /// Server URLs, comma-separated.
    pub servers: String,
    /// The connection's name, as `nats server report connections` shows it.
    pub name: String,
    /// User name and password.
    pub user: Option<(String, String)>,
    /// A token.
    pub token: Option<String>,
    /// A credentials file (JWT and seed).
    pub creds: Option<PathBuf>,
    /// A file with an NKey seed.
    pub nkey: Option<PathBuf>,
    /// A client certificate and its key.
    pub client_cert: Option<(PathBuf, PathBuf)>,
    /// A certificate authority for the server's certificate.
    pub ca: Option<PathBuf>,
    /// What the subjects begin with on which answers are awaited, where it matters whose they are.
    pub inbox: Option<String>,
}

/// A cheap handle on one connection.
#[derive(Clone)]
pub struct Bus {
    client: async_nats::Client,
    outbox: Arc<Outbox>,
    credentials: Arc<Credentials>,
    dropped: Arc<AtomicU64>,
    foreign: Arc<foreign::Dropped>,
    refused: Refusals,
}

/// What happens to the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It is there (again); subscriptions are being restored.
    Connected,
    /// It is gone; the client library keeps trying.
    Disconnected,
    /// NATS refused a publication on this subject.
    PublishDenied(String),
    /// NATS refused a subscription to this subject.
    SubscribeDenied(String),
    /// This process read too slowly and messages were dropped.
    Dropped,
    /// The server refused what we say we are; the client library keeps trying.
    LoginRefused(String),
    /// No connection can be made, in the client library's few words: [`Bus::why_unreachable`] finds more. It
    /// keeps trying.
    Unreachable(String),
    /// The server is about to end its connections.
    LameDuck,
    /// Anything else worth a log line.
    Trouble(String),
}

/// A message that arrived.
#[derive(Debug)]
pub struct Message {
    /// Where it was sent.
    pub subject: Subject,
    /// Where an answer goes.
    pub reply: Option<Subject>,
    /// The bytes.
    pub payload: Bytes,
    /// Not a message but NATS's word that nobody received ours.
    pub nobody: bool,
}

/// Messages to one subscription.
pub struct Subscription {
    messages: async_nats::Subscriber,
    /// The last message of a pause.
    kept: Option<async_nats::Message>,
    foreign: Arc<foreign::Dropped>,
    /// Whether messages with NATS headers are read.
    takes_headers: bool,
}

/// The queue towards the server is full, or the message can't be sent at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the queue to NATS is full")]
pub struct Full;

impl Bus {
    /// Connects, or keeps trying in the background: events tell how it goes.
    ///
    /// # Errors
    /// When a file can't be read or the server list is not a list of URLs.
    pub async fn connect(credentials: &Credentials) -> anyhow::Result<(Bus, mpsc::Receiver<Event>)> {
        let (events, receiver) = mpsc::channel(EVENT_QUEUE);
        let dropped = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&dropped);
        let refused = Refusals::none();
        let refusals = refused.clone();
        let options = options(credentials).await?.retry_on_initial_connect().event_callback(move |event| {
            if matches!(event, NatsEvent::SlowConsumer(_)) {
                counter.fetch_add(1, Ordering::Relaxed);
            }
            let (events, event) = (events.clone(), translate(event));
            if let Some(Event::PublishDenied(subject) | Event::SubscribeDenied(subject)) = &event {
                refusals.note(subject);
            }
            async move {
                if let Some(event) = event {
                    // The receiver lives as long as the process; at its end there is nobody to tell.
                    events.send(event).await.ok();
                }
            }
        });
        let client = options
            .connect(servers(credentials)?)
            .await
            .with_context(|| format!("cannot connect to NATS at {}", credentials.servers))?;
        let outbox = Arc::new(Outbox::default());
        tokio::spawn(Arc::clone(&outbox).run(client.clone()));
        let (credentials, foreign) = (Arc::new(credentials.clone()), Arc::default());
        Ok((Bus { client, outbox, credentials, dropped, foreign, refused }, receiver))
    }

    /// Why no connection can be made, with the cause; `None` when one can by now. async-nats 0.51 tells of an
    /// attempt only what kind of error it was ("IO error", for a certificate too), so this makes one of its own.
    pub async fn why_unreachable(&self) -> Option<String> {
        let options = options(&self.credentials).await;
        let attempt = match (options, servers(&self.credentials)) {
            (Ok(options), Ok(servers)) => options.connect(servers).await,
            (Err(error), _) | (_, Err(error)) => return Some(format!("{error:#}")),
        };
        attempt.err().map(|error| error.to_string())
    }

    /// The URLs of the servers, comma-separated, as they were given: perhaps with a password.
    pub fn servers(&self) -> &str {
        &self.credentials.servers
    }

    /// Publishes now or says that it can't.
    ///
    /// # Errors
    /// [`Full`] when the queue towards the server is full or the payload is over the server's limit.
    pub fn publish(&self, subject: String, payload: Bytes) -> Result<(), Full> {
        self.push(Subject::from(subject), None, payload, Batching::Never)
    }

    /// Publishes with a reply subject. NATS answers there when nobody is subscribed.
    ///
    /// # Errors
    /// As [`Bus::publish`].
    pub fn ask(&self, subject: String, reply: String, payload: Bytes) -> Result<(), Full> {
        self.ask_batched(Batching::Never, subject, reply, payload)
    }

    /// [`Bus::ask`], in one message with others where `batching` allows it. Nobody who is subscribed to it then answers
    /// on one reply subject for all of them ([`subjects::numbers`](crate::wire::subjects::numbers)).
    ///
    /// # Errors
    /// As [`Bus::publish`].
    pub fn ask_batched(
        &self,
        batching: Batching,
        subject: String,
        reply: String,
        payload: Bytes,
    ) -> Result<(), Full> {
        self.push(Subject::from(subject), Some(Subject::from(reply)), payload, batching)
    }

    fn push(
        &self,
        subject: Subject,
        reply: Option<Subject>,
        payload: Bytes,
        batching: Batching,
    ) -> Result<(), Full> {
        if payload.len() > self.max_payload() {
            return Err(Full);
        }
        self.outbox.publish(Publication { subject, reply, payload, batching })
    }

    /// Subscribes to a subject.
    ///
    /// # Errors
    /// When the subject is not valid or the connection is closed for good.
    pub async fn subscribe(&self, subject: String) -> anyhow::Result<Subscription> {
        let messages = self.client.subscribe(subject.clone()).await;
        let messages = messages.with_context(|| format!("cannot subscribe to {subject}"))?;
        Ok(self.reading(&subject, messages))
    }

    /// Joins the queue group of a subject: each message reaches one member.
    ///
    /// # Errors
    /// As [`Bus::subscribe`].
    pub async fn join(&self, subject: String) -> anyhow::Result<Subscription> {
        let messages = self.client.queue_subscribe(subject.clone(), QUEUE_GROUP.to_owned()).await;
        let messages = messages.with_context(|| format!("cannot subscribe to {subject}"))?;
        Ok(self.reading(&subject, messages))
    }

    /// What `work` comes to, unless NATS permissions refuse meanwhile one of the subjects that it needs.
    ///
    /// # Errors
    /// The subject that is refused.
    pub async fn unless_denied<T>(
        &self,
        needed: &[String],
        work: impl Future<Output = T>,
    ) -> Result<T, Denied> {
        let needs = |refused: &str| needed.iter().any(|needed| needed == refused);
        match self.refused.unless(Duration::MAX, needs, work).await {
            Ok(done) => Ok(done),
            Err(Unanswered::Refused(subject)) => Err(Denied(subject)),
            // There is no limit to be late for.
            Err(Unanswered::Late) => Err(Denied(needed.join(" "))),
        }
    }

    fn reading(&self, subject: &str, messages: async_nats::Subscriber) -> Subscription {
        // Other programs ask services, `nats micro` with a header of its own; they are answered in inboxes alone.
        let takes_headers = subject.starts_with(SERVICES);
        Subscription { messages, kept: None, foreign: Arc::clone(&self.foreign), takes_headers }
    }

    /// Waits until everything published so far is on its way to the server, but not for a server that is
    /// away.
    pub async fn flush(&self) {
        // Flushing fails only when the connection is closed, and then there is nothing left to send.
        tokio::time::timeout(FLUSH, self.outbox.flush()).await.ok();
    }

    /// Connects anew, to another server where one is known: what was not sent yet is sent then.
    pub async fn reconnect(&self) {
        self.flush().await;
        // It can only fail when the connection is closed for good.
        self.client.force_reconnect().await.ok();
    }

    /// Whether it knows of more than one server.
    pub async fn has_other_servers(&self) -> bool {
        self.client.server_pool().await.is_ok_and(|servers| servers.len() > 1)
    }

    /// The largest payload the server takes, in bytes; 1 MiB until it has said so.
    pub fn max_payload(&self) -> usize {
        self.client.max_payload()
    }

    /// Whether the connection is there.
    pub fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    /// How often it was made so far.
    pub fn connects(&self) -> u64 {
        self.client.statistics().connects.load(Ordering::Relaxed)
    }

    /// The server's version.
    pub fn server_version(&self) -> String {
        self.client.server_info().version
    }

    /// Whether the server lets in only who logs in; false until it has said so.
    pub fn demands_login(&self) -> bool {
        self.client.server_info().auth_required
    }

    /// An inbox subject nobody else uses.
    pub fn new_inbox(&self) -> String {
        self.client.new_inbox()
    }

    /// Times that this process read too slowly and messages were dropped.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Messages that relay does not send, dropped so far because of `foreign`.
    pub fn foreign(&self, foreign: Foreign) -> u64 {
        self.foreign.count(foreign)
    }
}

impl Subscription {
    /// The next message that relay may have sent; `None` when the subscription or the connection has ended.
    pub async fn next(&mut self) -> Option<Message> {
        let message = match self.kept.take() {
            Some(kept) => kept,
            None => loop {
                let message = self.messages.next().await?;
                if self.foreign.lets_in(&message, self.takes_headers) {
                    break message;
                }
            },
        };
        Some(Message {
            subject: message.subject,
            reply: message.reply,
            payload: message.payload,
            nobody: message.status == Some(StatusCode::NO_RESPONDERS),
        })
    }

    /// Waits, and drops all but one of what comes meanwhile: for questions that are all the same.
    pub async fn pause(&mut self, pause: Duration) {
        tokio::time::sleep(pause).await;
        let mut kept = None;
        while let Some(Some(message)) = self.messages.next().now_or_never() {
            if self.foreign.lets_in(&message, self.takes_headers) {
                kept = Some(message);
            }
        }
        self.kept = kept;
    }

    /// Tells NATS to send nothing more. What it has sent already still arrives, all of it before what is sent to this
    /// process from now on; then [`Subscription::end`] ends it.
    pub async fn stop(&mut self) {
        // Who ends a subscription in async-nats 0.51 has it forget the subscription at once (in its `drain` too), and
        // loses what is on its way. It waits for as many messages as it is told to, though; and what a server can't
        // count to is no count to it, but the plain word to end the subscription.
        // It can only fail when the connection is closed, which ends the subscription too.
        self.messages.unsubscribe_after(u64::MAX).await.ok();
    }

    /// Ends it now. What NATS has sent and is not here yet is lost.
    pub async fn end(&mut self) {
        // As above.
        self.messages.drain().await.ok();
    }
}

async fn options(credentials: &Credentials) -> anyhow::Result<ConnectOptions> {
    let mut options = ConnectOptions::new()
        .name(&credentials.name)
        .ping_interval(PING)
        .connection_timeout(CONNECT)
        .client_capacity(COMMAND_QUEUE)
        .subscription_capacity(MESSAGE_QUEUE)
        .skip_subject_validation(true)
        .reconnect_delay_callback(reconnect_delay);
    if let Some(inbox) = &credentials.inbox {
        options = options.custom_inbox_prefix(inbox);
    }
    if let Some((user, password)) = &credentials.user {
        options = options.user_and_password(user.clone(), password.clone());
    }
    if let Some(token) = &credentials.token {
        options = options.token(token.clone());
    }
    if let Some(creds) = &credentials.creds {
        let named = || format!("cannot use the credentials file {}", creds.display());
        options = options.credentials_file(creds).await.with_context(named)?;
    }
    if let Some(nkey) = &credentials.nkey {
        options = options.nkey(files::seed(nkey).await?);
    }
    if let Some(ca) = &credentials.ca {
        files::check_authorities(ca)?;
        options = options.add_root_certificates(ca.clone()).require_tls(true);
    }
    if let Some((cert, key)) = &credentials.client_cert {
        files::check_identity(cert, key)?;
        options = options.add_client_certificate(cert.clone(), key.clone()).require_tls(true);
    }
    Ok(options)
}

fn servers(credentials: &Credentials) -> anyhow::Result<Vec<async_nats::ServerAddr>> {
    let urls = credentials.servers.split(',').map(str::trim);
    let parsed = urls.map(|url| match url.bytes().all(|byte| byte.is_ascii_digit()) {
        // A number is a host to a parser of URLs.
        true => Err(anyhow::anyhow!("'{url}' is no port: it is a number from 1 to 65535")),
        false => url.parse().with_context(|| format!("'{url}' is not a NATS URL")),
    });
    parsed.collect()
}

fn reconnect_delay(attempts: usize) -> Duration {
    // Quick at first, so that a restarted server is found at once; never more than two seconds apart.
    Duration::from_millis(match attempts {
        0 | 1 => 0,
        n => 2_u64.saturating_pow(u32::try_from(n).unwrap_or(u32::MAX)).saturating_mul(5).min(2_000),
    })
}

fn translate(event: NatsEvent) -> Option<Event> {
    match event {
        NatsEvent::Connected => Some(Event::Connected),
        NatsEvent::Disconnected | NatsEvent::Closed => Some(Event::Disconnected),
        NatsEvent::SlowConsumer(_) => Some(Event::Dropped),
        NatsEvent::LameDuckMode => Some(Event::LameDuck),
        NatsEvent::Draining => None,
        NatsEvent::ServerError(ServerError::Other(text)) => {
            Some(denied(&text).unwrap_or(Event::Trouble(text)))
        }
        NatsEvent::ServerError(error) => Some(Event::Trouble(error.to_string())),
        NatsEvent::ClientError(ClientError::Other(what))
            if what == ConnectErrorKind::AuthorizationViolation.to_string() =>
        {
            Some(Event::LoginRefused(what))
        }
        // Told of nothing but attempts to connect.
        NatsEvent::ClientError(ClientError::Other(what)) => Some(Event::Unreachable(what)),
        NatsEvent::ClientError(error) => Some(Event::Trouble(error.to_string())),
    }
}

/// `Permissions Violation for Publish to "relay.req.payroll"`
fn denied(text: &str) -> Option<Event> {
    let lower = text.to_ascii_lowercase();
    let at = lower.find(VIOLATION)?;
    let rest = text.get(at + VIOLATION.len()..)?;
    let subject = rest.split('"').nth(1)?.to_owned();
    if rest.to_ascii_lowercase().starts_with("publish") {
        Some(Event::PublishDenied(subject))
    } else {
        Some(Event::SubscribeDenied(subject))
    }
}

const VIOLATION: &str = "permissions violation for ";
/// What the subjects begin with on which services are asked what they are (ADR-32).
const SERVICES: &str = "$SRV.";
const QUEUE_GROUP: &str = "relay";
/// How long a server may take to let this process in; then another one is tried.
const CONNECT: Duration = Duration::from_secs(3);
const PING: Duration = Duration::from_secs(20);
/// Commands that wait for the server at most, besides what waits in the outbox.
const COMMAND_QUEUE: usize = 1024;
/// Messages that wait to be read at most, for each subscription.
const MESSAGE_QUEUE: usize = 64 * 1024;
const FLUSH: Duration = Duration::from_secs(1);
const EVENT_QUEUE: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_subject_is_read_from_the_servers_sentence() {
        let publish = r#"Permissions Violation for Publish to "relay.req.payroll""#;
        assert_eq!(denied(publish), Some(Event::PublishDenied("relay.req.payroll".into())));
        let subscribe =
            r#"Permissions Violation for Subscription to "relay.req.payroll" using queue "relay""#;
        assert_eq!(denied(subscribe), Some(Event::SubscribeDenied("relay.req.payroll".into())));
        assert_eq!(denied("maximum connections exceeded"), None);
    }

    #[test]
    fn reconnecting_is_quick_at_first_and_never_slow() {
        assert_eq!(reconnect_delay(1), Duration::ZERO);
        assert!(reconnect_delay(3) < Duration::from_millis(100));
        assert_eq!(reconnect_delay(1_000_000), Duration::from_secs(2));
    }
}
