//! Ways round the permissions: a user has the server, or a process with more permissions, publish where the user may not. Each is tried
//! by every user of nats/accounts.conf, aimed at every kind of subject, while a whole relay runs.

use std::time::Duration;

use async_nats::{Client, ConnectOptions, HeaderMap, jetstream};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use relay::{
    bus::Subscription,
    wire::{ProcessId, Request, RequestId, codec::encode},
};
use serde_json::json;
use tokio::sync::mpsc;

use super::{
    families,
    users::{self, User},
};
use crate::support::{
    accounts::{Accounts, password},
    configured::Person,
    *,
};

/// Where a user may want something published: a request, an answer, a route, a goodbye, a command to JetStream, an inbox.
const AIMS: [&str; 8] = [
    "relay.req.billing",
    "relay.resp.client.P.billing.1f",
    "relay.route.billing.billing.P.com.example././",
    "relay.gone.billing.billing.P",
    "relay.stored.client.P.billing.1f",
    "relay.cache.purge",
    "$JS.API.STREAM.DELETE.relay-keys",
    "_INBOX.stranger.x",
];

/// A whole relay with nats/accounts.conf, and a witness who may do anything and hears what arrives where somebody aims.
struct Stage {
    accounts: Accounts,
    witness: relay::bus::Bus,
    aimed: Vec<Subscription>,
    inbox: String,
    answers: Subscription,
    processes: Vec<Role>,
    _origin: Origin,
}

impl Stage {
    async fn start() -> Stage {
        // One in each account who may do everything.
        let more = ["broker", "store"].map(|user| {
            let own = format!("user: {user}");
            let both = format!("user: everything_{user}, password: x }}\n{{ {own}");
            (own, both)
        });
        let more = more.each_ref().map(|(own, both)| (own.as_str(), both.as_str()));
        let accounts = Accounts::changed(&more).await;
        let origin = Origin::saying("billing").await;
        let processes = vec![
            accounts.broker(&[]).await,
            accounts.agent("billing", &origin).await,
            accounts.client("billing").await,
        ];
        let witness = accounts.0.person("everything_broker", "x").await.bus;
        let mut aimed = Vec::new();
        for aim in AIMS {
            aimed.push(witness.subscribe(aim.to_owned()).await.unwrap());
        }
        let inbox = "_INBOX.operator.witness".to_owned();
        let answers = listen(&witness, &inbox).await;
        Stage { accounts, witness, aimed, inbox, answers, processes, _origin: origin }
    }

    /// Nothing has arrived where it was aimed, though every process has done what it was asked so far.
    async fn nothing_arrived(&mut self, what: &str) {
        self.witness.ask("$SRV.PING".into(), self.inbox.clone(), Bytes::new()).unwrap();
        for _ in &self.processes {
            within(WAIT, "all processes answer", self.answers.next()).await.unwrap();
        }
        for aimed in &mut self.aimed {
            if let Some(heard) = aimed.next().now_or_never().flatten() {
                panic!("{what}: {heard:?}");
            }
        }
    }

    /// A connection without anything of relay's, for what relay never sends.
    async fn raw(&self, user: &str, password: &str) -> Raw {
        let (refusals, refused) = mpsc::unbounded_channel();
        let options = ConnectOptions::with_user_and_password(user.into(), password.into())
            .custom_inbox_prefix("_INBOX.store")
            .event_callback(move |event| {
                refusals.send(event.to_string()).ok();
                std::future::ready(())
            });
        let nats = options.connect(self.accounts.0.url()).await.unwrap();
        Raw { nats, refused }
    }
}

/// A connection by the client library alone.
struct Raw {
    nats: Client,
    refused: mpsc::UnboundedReceiver<String>,
}

impl Raw {
    /// The server has dealt with all that was published so far.
    async fn is_through(&mut self) {
        self.nats.publish("nobody.may", Bytes::new()).await.unwrap();
        while !within(WAIT, "NATS refuses", self.refused.recv()).await.unwrap().contains("nobody.may") {}
    }
}

/// The users who are to be kept from it: all but the server's own and the brokers' second one, which are in other accounts.
fn of_relay() -> impl Iterator<Item = User> {
    users::ALL.into_iter().filter(|user| user.account == "RELAY")
}

/// A request to `billing` as it would be taken.
fn payload() -> Bytes {
    let asker: ProcessId = "client.P".parse().unwrap();
    let upstream: relay::wire::Name = "billing".parse().unwrap();
    encode(&Request::new(
        asker.clone(),
        RequestId::new(&asker, &upstream, 1),
        upstream,
        Duration::from_secs(9),
    ))
}

#[tokio::test]
async fn no_user_stores_a_record_and_has_jetstream_send_it_on() {
    let mut stage = Stage::start().await;
    let records = [
        ("relay-jobs", "relay.job.hello.U"),
        ("relay-jobs", "relay.job.billing.U"),
        ("relay-jobs", "relay.chain.U"),
        ("relay-keys", "relay.key.hello.h"),
        ("relay-dead", "relay.dead.job.hello.U"),
        ("KV_relay-sessions", "$KV.relay-sessions.S"),
        ("OBJ_relay-bodies", "$O.relay-bodies.C.X"),
        ("OBJ_relay-dead-bodies", "$O.relay-dead-bodies.C.X"),
    ];
    for user in of_relay() {
        let mut person = stage.accounts.person(user.name).await;
        for (stream, record) in records {
            for aim in AIMS {
                // Stored, with the word of JetStream that it is aimed; and then asked for.
                let asked = [
                    (record.to_owned(), payload()),
                    (format!("$JS.API.DIRECT.GET.{stream}.{record}"), Bytes::new()),
                    (format!("$JS.API.DIRECT.GET.{stream}"), json_of(json!({ "last_by_subj": record }))),
                    (format!("$JS.API.STREAM.MSG.GET.{stream}"), json_of(json!({ "last_by_subj": record }))),
                    (format!("$JS.API.STREAM.INFO.{stream}"), Bytes::new()),
                    (format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.brokers"), Bytes::new()),
                    (format!("$JS.ACK.{stream}.brokers.1.1.1.1.1"), Bytes::from("+NXT")),
                ];
                refused(&mut person, &user, aim, &asked).await;
            }
        }
        stage.nothing_arrived(user.name).await;
    }
}

#[tokio::test]
async fn no_user_has_a_stream_or_a_consumer_send_on_what_it_has() {
    let mut stage = Stage::start().await;
    for user in of_relay() {
        let mut person = stage.accounts.person(user.name).await;
        for aim in AIMS {
            let source = json!({ "name": "relay-jobs" });
            let external = json!({ "name": "relay-jobs", "external": { "api": "$JS.API", "deliver": aim } });
            let republish = json!({ "src": "relay.>", "dest": aim });
            let transform = json!({ "src": "relay.>", "dest": aim });
            let streams = [
                json!({ "name": "spy", "subjects": ["relay.>"] }),
                json!({ "name": "spy", "subjects": [aim] }),
                json!({ "name": "spy", "mirror": source }),
                json!({ "name": "spy", "sources": [source] }),
                json!({ "name": "spy", "sources": [external] }),
                json!({ "name": "spy", "subjects": ["relay.req.hello"], "republish": republish }),
                json!({ "name": "spy", "subjects": ["relay.req.hello"], "subject_transform": transform }),
            ];
            let mut asked = Vec::new();
            for stream in streams {
                for verb in ["CREATE", "UPDATE"] {
                    asked.push((format!("$JS.API.STREAM.{verb}.spy"), json_of(stream.clone())));
                }
            }
            for stream in ["spy", "relay-jobs", "KV_relay-sessions", "OBJ_relay-bodies"] {
                let config = json!({ "deliver_subject": aim, "ack_policy": "none", "durable_name": "d" });
                let wanted = json_of(json!({ "stream_name": stream, "config": config }));
                for how in ["CREATE.{}", "CREATE.{}.d", "DURABLE.CREATE.{}.d"] {
                    asked.push((format!("$JS.API.CONSUMER.{}", how.replace("{}", stream)), wanted.clone()));
                }
            }
            refused(&mut person, &user, aim, &asked).await;
        }
        stage.nothing_arrived(user.name).await;
    }
}

#[tokio::test]
async fn the_account_of_the_processes_has_nothing_that_publishes_for_a_user_whatever_its_permissions_are() {
    let mut stage = Stage::start().await;
    for (asked, payload) in [
        ("$JS.API.INFO", Bytes::new()),
        ("$JS.API.STREAM.CREATE.spy", json_of(json!({ "name": "spy", "subjects": ["relay.>"] }))),
        ("$JS.API.DIRECT.GET.relay-jobs.relay.job.hello.U", Bytes::new()),
    ] {
        let own = stage.witness.new_inbox();
        let mut answers = listen(&stage.witness, &own).await;
        stage.witness.ask(asked.into(), own, payload).unwrap();
        let answer = within(WAIT, "an answer", answers.next()).await.unwrap();
        // Nobody, or the server with a fixed text.
        let text = String::from_utf8_lossy(&answer.payload);
        assert!(answer.nobody || text.contains("JetStream not enabled for account"), "{asked}: {answer:?}");
    }
    stage.nothing_arrived("everything").await;
}

#[tokio::test]
async fn what_jetstream_publishes_in_its_own_account_stays_there() {
    let mut stage = Stage::start().await;
    let store = stage.raw("everything_store", "x").await.nats;
    let jetstream = jetstream::new(store.clone());
    for aim in AIMS.into_iter().filter(|aim| !aim.starts_with('$')) {
        let republish = jetstream::stream::Republish {
            source: "spied".to_owned(),
            destination: aim.to_owned(),
            headers_only: false,
        };
        let spy = jetstream::stream::Config {
            name: "spy".into(),
            subjects: vec!["spied".into()],
            allow_direct: true,
            republish: Some(republish),
            ..Default::default()
        };
        let stream = jetstream.create_stream(spy).await.unwrap();
        let mut here = store.subscribe(aim).await.unwrap();
        let deliver = jetstream::consumer::push::Config { deliver_subject: aim.into(), ..Default::default() };
        stream.create_consumer(deliver).await.unwrap();
        jetstream.publish("spied", payload()).await.unwrap().await.unwrap();
        store.publish_with_reply("$JS.API.DIRECT.GET.spy.spied", aim, Bytes::new()).await.unwrap();
        store.publish_with_reply("$JS.API.STREAM.INFO.spy", aim, Bytes::new()).await.unwrap();
        for _ in 0..4 {
            let arrived = within(WAIT, "it is published in the account of JetStream", here.next()).await;
            assert!(arrived.is_some());
        }
        jetstream.delete_stream("spy").await.unwrap();
        stage.nothing_arrived(aim).await;
    }
}

#[tokio::test]
async fn no_user_has_the_services_of_the_processes_answer_elsewhere() {
    let mut stage = Stage::start().await;
    for user in of_relay() {
        let mut person = stage.accounts.person(user.name).await;
        for aim in AIMS.into_iter().filter(|aim| !aim.starts_with("_INBOX.")) {
            for question in ["$SRV.PING", "$SRV.INFO", "$SRV.STATS", "$SRV.ROUTES", "relay.cache.stats"] {
                person.bus.ask(question.into(), aim.into(), Bytes::new()).unwrap();
            }
        }
        // Some may ask; that is the matrix's.
        person.refusals().await;
        stage.nothing_arrived(user.name).await;
    }
}

#[tokio::test]
async fn no_user_has_the_server_trace_a_message_or_miss_its_responders_elsewhere() {
    let mut stage = Stage::start().await;
    let rows = families::all();
    for user in of_relay() {
        let mut raw = stage.raw(user.name, &password(user.name)).await;
        let own = |row: &&families::Row| row.may_publish(&user);
        let may_itself: Vec<&str> = rows.iter().filter(own).map(|row| row.subject.as_str()).collect();
        let may = rows.iter().filter(|row| row.may_publish(&user) && !AIMS.contains(&row.subject.as_str()));
        for row in may.take(SOME) {
            for aim in AIMS.into_iter().filter(|aim| !may_itself.contains(aim)) {
                let (subject, mut headers) = (row.subject.clone(), HeaderMap::new());
                headers.insert("Nats-Trace-Dest", aim);
                let traced = raw.nats.publish_with_headers(subject.clone(), headers, Bytes::new());
                traced.await.unwrap();
                raw.nats.publish_with_reply(subject, aim, Bytes::new()).await.unwrap();
            }
        }
        raw.is_through().await;
        stage.nothing_arrived(user.name).await;
    }
}

/// NATS refuses all of it.
async fn refused(person: &mut Person, user: &User, aim: &str, asked: &[(String, Bytes)]) {
    for some in asked.chunks(AT_ONCE) {
        for (subject, payload) in some {
            person.bus.ask(subject.clone(), aim.to_owned(), payload.clone()).unwrap();
        }
        let refused = person.refusals().await;
        let subjects: Vec<&str> = some.iter().map(|(subject, _)| subject.as_str()).collect();
        assert_eq!(refused, subjects, "{} with the reply subject {aim}", user.name);
    }
}

fn json_of(value: serde_json::Value) -> Bytes {
    Bytes::from(value.to_string())
}

const WAIT: Duration = Duration::from_secs(20);
/// Subjects that each user tries.
const SOME: usize = 3;
/// What the client library tells of at once; it forgets what it has no room for.
const AT_ONCE: usize = 50;
