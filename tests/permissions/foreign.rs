//! The second line of defence: what NATS itself publishes for a user, whose permissions it does not ask then, has no effect
//! on any subject of relay, and is counted. The server here has JetStream in the account of the processes and no permissions.

use async_nats::{Client, HeaderMap, jetstream};
use bytes::Bytes;
use relay::wire::{
    Claim, Here, ProcessId, Purge, Reply, Request, RequestId, Subjects, codec::encode, message::VERSION,
};

use crate::support::*;

const JETSTREAM: &str = "jetstream { store_dir: \"$DIR/jetstream\" }";

/// A whole relay, a client agent that routes, and a user who aims.
struct Stage {
    relay: Relay,
    routing: Role,
    nats: Client,
}

impl Stage {
    async fn start() -> Stage {
        let relay = Relay::to(Origin::saying("hello").await)
            .nats(JETSTREAM)
            .agent(&["--route", "hello.example.com"])
            .start()
            .await;
        let routing = relay.nats.client(&["--cache", "1MB"]).await;
        let nats = async_nats::connect(relay.nats.url()).await.unwrap();
        Stage { relay, routing, nats }
    }

    fn broker(&self) -> &Role {
        self.relay.broker.as_ref().unwrap()
    }

    /// Every subject that the processes of this relay read from, with a message that has an effect there and the process
    /// that reads it.
    async fn aims(&self) -> Vec<(String, Bytes, &Role)> {
        let (client, agent) = (id(&self.relay.client).await, id(&self.relay.agent).await);
        let (broker, asker) = (id(self.broker()).await, "client.Asker".parse::<ProcessId>().unwrap());
        let subjects = Subjects::new("relay".parse().unwrap());
        let upstream = "hello".parse().unwrap();
        let own = RequestId::new(&asker, &upstream, 1);
        let request = encode(&Request::new(asker, own.clone(), upstream, std::time::Duration::from_secs(9)));
        let ghost: ProcessId = "agent.Ghost".parse().unwrap();
        let here = encode(&Here::of(ghost.clone(), "ghost".parse().unwrap()));
        let claim = Claim {
            v: VERSION,
            upstream_id: ghost.clone(),
            upstream_target: "ghost".parse().unwrap(),
            route: "ghost.example.com".parse().unwrap(),
            age: u64::MAX,
            strip: false,
            waiting: false,
            withdrawn: false,
        };
        let route = subjects.route(&claim.upstream_target, &ghost, &claim.route);
        let reply = encode(&Reply::response(
            own,
            http::StatusCode::OK,
            relay::wire::Headers::new(),
            Bytes::from("forged"),
        ));
        let everything = encode(&Purge { all: true, ..purge() });
        let (relay, none) = (&self.relay, Bytes::new());
        vec![
            ("relay.req.hello".to_owned(), request, &relay.agent),
            (format!("relay.resp.{client}.hello.1"), reply.clone(), &relay.client),
            (format!("relay.ack.{client}.hello.1"), reply.clone(), &relay.client),
            (format!("relay.body.{agent}.hello.1"), reply.clone(), &relay.agent),
            (format!("relay.lease.{broker}.hello.renew"), reply, self.broker()),
            ("relay.hold.hello".to_owned(), none.clone(), self.broker()),
            (format!("relay.here.ghost.{ghost}"), here, self.broker()),
            (format!("relay.gone.hello.{agent}"), none.clone(), self.broker()),
            (route, encode(&claim), &self.routing),
            ("relay.cache.purge".to_owned(), everything, &self.routing),
            (format!("relay.probe.{agent}.hello"), none.clone(), &relay.agent),
            ("relay.who".to_owned(), none, &relay.agent),
        ]
    }

    /// Nothing that was aimed had an effect.
    async fn is_undisturbed(&self) {
        assert_eq!(self.relay.origin.hits(), 0, "no request was taken");
        assert_eq!(
            self.broker().metric("relay_agents", "").await,
            1.0,
            "the one agent is known, and no other"
        );
        assert_eq!(self.routing.metric("relay_routes", "").await, 1.0);
        assert!(self.routing.lines("forgotten").is_empty(), "nothing was purged");
        for role in [&self.relay.client, &self.relay.agent, self.broker(), &self.routing] {
            for reason in ["malformed", "misaddressed"] {
                let dropped = role.metric("relay_messages_dropped_total", reason).await;
                assert_eq!(dropped, 0.0, "{reason}: {}", role.log());
            }
        }
        assert_eq!(self.relay.get("/").await.text().await.unwrap(), "hello");
    }

    /// Keeps `payload` in a stream that the attacker may write.
    async fn store(&self, payload: Bytes) {
        let stored = jetstream::new(self.nats.clone()).publish(STORED, payload).await.unwrap();
        stored.await.unwrap();
    }
}

#[tokio::test]
async fn a_message_with_nats_headers_has_no_effect_on_any_subject_and_is_counted() {
    let stage = Stage::start().await;
    for (subject, payload, reader) in stage.aims().await {
        let before = reader.metric(DROPPED, "headers").await;
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Stream", "relay-jobs");
        stage.nats.publish_with_headers(subject, headers, payload).await.unwrap();
        reader.counts(DROPPED, "headers", before + 1.0).await;
    }
    stage.is_undisturbed().await;
}

#[tokio::test]
async fn a_stored_message_that_is_asked_for_with_a_reply_subject_of_relay_has_no_effect() {
    let stage = Stage::start().await;
    spy(&stage.nats).await;
    for (subject, payload, reader) in stage.aims().await {
        let before = reader.metric(DROPPED, "headers").await;
        stage.store(payload).await;
        let asked = format!("$JS.API.DIRECT.GET.spy.{STORED}");
        stage.nats.publish_with_reply(asked, subject, Bytes::new()).await.unwrap();
        reader.counts(DROPPED, "headers", before + 1.0).await;
    }
    // And what JetStream says of a message that is not there.
    let asked = "$JS.API.DIRECT.GET.spy.stored.nothing";
    stage.nats.publish_with_reply(asked, "relay.req.hello", Bytes::new()).await.unwrap();
    stage.relay.agent.counts(DROPPED, "status", 1.0).await;
    stage.is_undisturbed().await;
}

#[tokio::test]
async fn what_a_push_consumer_delivers_to_a_subject_of_relay_has_no_effect() {
    let stage = Stage::start().await;
    let stream = spy(&stage.nats).await;
    for (subject, payload, reader) in stage.aims().await {
        let before = reader.metric(DROPPED, "jetstream_reply").await;
        // JetStream delivers to a subject that has a subscription by this very name.
        let _active = stage.nats.subscribe(subject.clone()).await.unwrap();
        let consumer = jetstream::consumer::push::Config {
            deliver_subject: subject.clone(),
            deliver_policy: jetstream::consumer::DeliverPolicy::New,
            ack_policy: jetstream::consumer::AckPolicy::None,
            ..Default::default()
        };
        let consumer = stream.create_consumer(consumer).await.unwrap();
        stage.store(payload).await;
        reader.counts(DROPPED, "jetstream_reply", before + 1.0).await;
        stream.delete_consumer(&consumer.cached_info().name).await.unwrap();
    }
    stage.is_undisturbed().await;
}

#[tokio::test]
async fn what_a_stream_republishes_to_a_subject_of_relay_has_no_effect() {
    let stage = Stage::start().await;
    let jetstream = jetstream::new(stage.nats.clone());
    for (subject, payload, reader) in stage.aims().await {
        let before = reader.metric(DROPPED, "headers").await;
        let republish = jetstream::stream::Republish {
            source: STORED.to_owned(),
            destination: subject,
            headers_only: false,
        };
        let config = jetstream::stream::Config { republish: Some(republish), ..stream_of_a_spy() };
        jetstream.create_stream(config).await.unwrap();
        stage.store(payload).await;
        reader.counts(DROPPED, "headers", before + 1.0).await;
        jetstream.delete_stream("spy").await.unwrap();
    }
    stage.is_undisturbed().await;
}

#[tokio::test]
async fn what_the_jetstream_api_says_is_no_goodbye_of_an_agent() {
    let stage = Stage::start().await;
    let agent = id(&stage.relay.agent).await;
    let before = stage.broker().metric(DROPPED, "malformed").await;
    let gone = format!("relay.gone.hello.{agent}");
    stage.nats.publish_with_reply("$JS.API.INFO", gone, Bytes::new()).await.unwrap();
    stage.broker().counts(DROPPED, "malformed", before + 1.0).await;
    assert_eq!(stage.broker().metric("relay_agents", "").await, 1.0);
    assert_eq!(stage.relay.get("/").await.text().await.unwrap(), "hello");
}

async fn id(role: &Role) -> ProcessId {
    role.process_id().await.parse().unwrap()
}

/// A stream of the attacker's.
async fn spy(nats: &Client) -> jetstream::stream::Stream {
    jetstream::new(nats.clone()).create_stream(stream_of_a_spy()).await.unwrap()
}

fn stream_of_a_spy() -> jetstream::stream::Config {
    jetstream::stream::Config {
        name: "spy".to_owned(),
        subjects: vec!["stored.>".to_owned()],
        allow_direct: true,
        ..Default::default()
    }
}

fn purge() -> Purge {
    Purge { v: VERSION, url: None, prefix: None, host: None, tag: None, all: false }
}

const DROPPED: &str = "relay_messages_dropped_total";
const STORED: &str = "stored.it";
