//! Where much happens at once, requests share NATS messages, and replies do. Each is still answered by itself.

mod support;

use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, future::join_all, stream};
use http::StatusCode;
use relay::{
    bus::{Bus, Subscription},
    wire::{
        Batch, Code, Headers, Here, Name, ProcessId, Reply, Request, RequestId,
        batch::each,
        codec::{decode_reply, decode_request, encode},
    },
};
use support::*;
use tokio::sync::watch;

#[tokio::test]
async fn under_load_messages_are_shared_and_each_caller_gets_its_own_answer() {
    let relay = Relay::start().await;
    let bus = relay.nats.connect().await;
    let (mut requests, mut replies) = (listen(&bus, "relay.req.>").await, listen(&bus, "relay.resp.>").await);
    let callers = stream::iter(0..MANY).for_each_concurrent(64, |n| {
        let relay = &relay;
        async move {
            let body = format!("body {n}");
            let answer = relay.post(&format!("/{n}"), body.clone()).await;
            assert_eq!((answer.status(), answer.text().await.unwrap()), (StatusCode::OK, body));
        }
    });
    let (_, asked, answered) = tokio::join!(callers, until(&mut requests, MANY), until(&mut replies, MANY));
    assert_eq!(relay.origin.hits(), MANY);
    for (what, messages) in [("requests", asked), ("replies", answered)] {
        assert!(messages < MANY, "no {what} shared a message");
    }
    for role in [&relay.client, &relay.agent] {
        assert_eq!(role.metric("relay_messages_dropped_total", "").await, 0.0);
    }
}

#[tokio::test]
async fn what_cannot_be_read_in_a_batch_is_refused_alone() {
    let relay = Relay::start().await;
    let bus = relay.nats.connect().await;
    let mut replies = listen(&bus, &format!("relay.resp.{}.>", asker())).await;
    let foreign = Request::new(asker(), id("other", 3), name("other"), TTL);
    let batch = batch(&[
        encode(&request(1)),
        Bytes::from_static(b"\x81\xa1v\x01"),
        encode(&foreign),
        encode(&request(4)),
    ]);
    ask(&bus, "1-2-3-4", batch);
    let codes = answers(&mut replies, 3).await;
    assert_eq!(codes, [(1, None), (2, Some(Code::BadMessage)), (4, None)]);
    assert_eq!(relay.origin.hits(), 2);
    for reason in ["malformed", "misaddressed"] {
        relay.agent.counts("relay_messages_dropped_total", reason, 1.0).await;
    }
}

#[tokio::test]
async fn who_sent_a_batch_that_is_cut_is_told_of_each_request_that_is_lost() {
    let relay = Relay::start().await;
    let bus = relay.nats.connect().await;
    let mut replies = listen(&bus, &format!("relay.resp.{}.>", asker())).await;
    let whole = batch(&[encode(&request(1)), encode(&request(2)), encode(&request(3))]);
    let first = encode(&request(1)).len();
    ask(&bus, "1-2-3", whole.slice(..first + 10));
    let codes = answers(&mut replies, 3).await;
    assert_eq!(codes, [(1, None), (2, Some(Code::BadMessage)), (3, Some(Code::BadMessage))]);
    assert_eq!(relay.origin.hits(), 1);
}

#[tokio::test]
async fn a_batch_of_replies_answers_no_request_of_another_upstream() {
    let nats = Nats::start().await;
    let client = nats.client(&["--upstream", "hello"]).await;
    let bus = nats.connect().await;
    let mut requests = bus.join("relay.req.hello".into()).await.unwrap();
    let agent: ProcessId = "agent.Test12345678".parse().unwrap();
    let here = encode(&Here::of(agent.clone(), name("hello")));
    bus.publish(format!("relay.here.hello.{agent}"), here).unwrap();
    let answers = async {
        let mut asked = Vec::new();
        while asked.len() < 2 {
            let message = requests.next().await.unwrap();
            each(&message.payload, |_, payload| asked.push(decode_request(&payload).unwrap())).unwrap();
        }
        let client = &asked[0].client_id;
        let forged = RequestId::new(client, &name("other"), asked[1].client_req_id.number());
        let reply = |id: &RequestId, body: &str| {
            encode(&Reply::response(id.clone(), StatusCode::OK, Headers::new(), body.to_owned().into()))
        };
        let own = |request: &Request| reply(&request.client_req_id, &request.url.to_string());
        let batch = batch(&[own(&asked[0]), reply(&forged, "forged"), own(&asked[1])]);
        bus.publish(format!("relay.resp.{}", asked[0].client_req_id), batch).unwrap();
    };
    let (one, other, ()) = tokio::join!(client.get("/one"), client.get("/other"), answers);
    assert_eq!((one.text().await.unwrap(), other.text().await.unwrap()), ("/one".into(), "/other".into()));
    client.counts("relay_messages_dropped_total", "misaddressed", 1.0).await;
}

#[tokio::test]
async fn nobody_gets_a_batch_and_every_caller_is_told() {
    let nats = Nats::start().await;
    let client = nats.client(&["--upstream", "hello"]).await;
    let callers = (0..64).map(|_| async { problem(client.get("/").await).await });
    for told in within(Duration::from_secs(20), "answers", join_all(callers)).await {
        told.is(503, "no_agent", "client");
    }
}

#[tokio::test]
async fn a_batch_of_replies_that_nobody_hears_is_sent_again() {
    let gate = watch::Sender::new(false);
    let relay = Relay::to(Origin::gated(&gate).await).start().await;
    let bus = relay.nats.connect().await;
    let asked: Vec<Bytes> = (1..=SOME).map(|number| encode(&request(number))).collect();
    let numbers: Vec<String> = (1..=SOME).map(|number| format!("{number:x}")).collect();
    ask(&bus, &numbers.join("-"), batch(&asked));
    eventually("the origin has them", || relay.origin.hits() == asked.len()).await;
    gate.send_replace(true);
    relay.agent.counts("relay_origin_calls_total", "answered", SOME as f64).await;
    probe(&bus, &relay.agent).await;
    let mut replies = listen(&bus, &format!("relay.resp.{}.>", asker())).await;
    let all: Vec<_> = (1..=SOME).map(|number| (number, None)).collect();
    assert_eq!(answers(&mut replies, asked.len()).await, all);
    assert_eq!(relay.origin.hits(), asked.len());
}

/// Counts the NATS messages in which so many messages come.
async fn until(subscription: &mut Subscription, wanted: usize) -> usize {
    let (mut messages, mut read) = (0, 0);
    while read < wanted {
        let message = subscription.next().await.unwrap();
        messages += 1;
        each(&message.payload, |_, _| read += 1).unwrap();
    }
    messages
}

/// The numbers and error codes of so many replies, in the order of their numbers.
async fn answers(replies: &mut Subscription, wanted: usize) -> Vec<(u64, Option<Code>)> {
    let mut answers = Vec::new();
    while answers.len() < wanted {
        let message = within(Duration::from_secs(20), "a reply", replies.next()).await.unwrap();
        each(&message.payload, |_, payload| {
            let reply = decode_reply(&payload).unwrap();
            answers.push((reply.client_req_id.number(), reply.error.map(|error| Code::parse(&error.code))));
        })
        .unwrap();
    }
    answers.sort_by_key(|(number, _)| *number);
    answers
}

fn batch(messages: &[Bytes]) -> Bytes {
    let mut batch = Batch::with_room(0);
    messages.iter().for_each(|message| batch.add(message));
    batch.finish()
}

fn ask(bus: &Bus, numbers: &str, batch: Bytes) {
    bus.ask("relay.req.hello".into(), format!("relay.ack.{}.hello.{numbers}", asker()), batch).unwrap();
}

/// Waits for an answer of an agent: it follows all that the agent has published before.
async fn probe(bus: &Bus, agent: &Role) {
    let agent = agent.process_id().await;
    let reply = format!("relay.probe.{}.hello.{agent}", asker());
    let mut answers = listen(bus, &reply).await;
    bus.ask(format!("relay.probe.{agent}.hello"), reply, Bytes::new()).unwrap();
    within(Duration::from_secs(20), "an answer", answers.next()).await.unwrap();
}

fn request(number: u64) -> Request {
    Request::new(asker(), id("hello", number), name("hello"), TTL)
}

fn id(upstream: &str, number: u64) -> RequestId {
    RequestId::new(&asker(), &name(upstream), number)
}

fn asker() -> ProcessId {
    "client.Test12345678".parse().unwrap()
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

const TTL: Duration = Duration::from_secs(30);
const MANY: usize = 1_000;
const SOME: u64 = 50;
