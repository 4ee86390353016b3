//! Agents that speak the protocol and do not mean it: they take a body and never ask for it, announce one and never
//! send it, or say for ever that they are there. Every stream ends all the same.

use std::time::Duration;

use bytes::Bytes;
use relay::{
    bus::Bus,
    wire::{
        Ack, Kind, Name, ProcessId, Reply, Request, RequestId, State, StreamMessage, Subjects, Word,
        codec::{decode_request, encode},
    },
};
use tokio::task::JoinHandle;

use crate::support::*;

/// An agent of `hello` that does what a test tells it.
struct Agent {
    bus: Bus,
    own: ProcessId,
    requests: relay::bus::Subscription,
    number: u64,
}

impl Agent {
    async fn start(nats: &Nats) -> Agent {
        let bus = nats.connect().await;
        let requests = bus.join("relay.req.hello".into()).await.unwrap();
        bus.flush().await;
        Agent { bus, own: "agent.Hostile12345".parse().unwrap(), requests, number: 0 }
    }

    /// The next request, and the id that this agent has for it.
    async fn takes(&mut self) -> (Request, RequestId) {
        let message = within(SOON, "a request", self.requests.next()).await.unwrap();
        self.number += 1;
        let hello: Name = "hello".parse().unwrap();
        (decode_request(&message.payload).unwrap(), RequestId::new(&self.own, &hello, self.number))
    }

    fn acknowledge(&self, request: &Request, own: &RequestId) {
        let id = request.client_req_id.clone();
        let ack = Ack {
            upstream_id: Some(self.own.clone()),
            upstream_req_id: Some(own.clone()),
            ..Ack::new(id.clone(), State::Taken)
        };
        self.bus.publish(subjects().of_request(Kind::Ack, &id), encode(&ack)).unwrap();
    }

    /// Answers 200; `own` is what it says of itself, `stream` whether a body is to follow.
    fn answer(&self, request: &Request, own: Option<&RequestId>, stream: bool) {
        let id = request.client_req_id.clone();
        let reply = Reply::response(id.clone(), http::StatusCode::OK, [].into_iter().collect(), Bytes::new());
        let reply = Reply { upstream_req_id: own.cloned(), stream, ..reply };
        self.bus.publish(subjects().of_request(Kind::Resp, &id), encode(&reply)).unwrap();
    }

    fn say(&self, to: &RequestId, word: Word) {
        say(&self.bus, to, word);
    }

    /// Says for ever that it is there.
    fn stays(&self, to: &RequestId) -> JoinHandle<()> {
        stays(&self.bus, to)
    }
}

fn say(bus: &Bus, to: &RequestId, word: Word) {
    let message = StreamMessage { to: to.clone(), word };
    bus.publish(subjects().of_request(Kind::Body, to), message.encode()).unwrap();
}

fn stays(bus: &Bus, to: &RequestId) -> JoinHandle<()> {
    let (bus, to) = (bus.clone(), to.clone());
    tokio::spawn(async move {
        loop {
            say(&bus, &to, Word::Position { frames: 0, credit: 0 });
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    })
}

fn subjects() -> Subjects {
    Subjects::new("relay".parse().unwrap())
}

/// A client agent, and a hostile agent of its upstream.
async fn hostile() -> (Nats, Role, Agent) {
    let nats = Nats::start().await;
    let flags = ["--upstream", "hello", "--ttl", "2s", "--send-timeout", "1s", "--stream-idle", "2s"];
    let client = nats.client(&flags).await;
    let agent = Agent::start(&nats).await;
    (nats, client, agent)
}

/// A request whose body does not go into one message, of which there is more to come.
async fn upload(client: &Role) -> Raw {
    let mut raw = client.raw().await;
    let body = vec![b'x'; 300_000];
    raw.send(format!("PUT /upload HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", 2 * body.len())).await;
    raw.send(body).await;
    raw
}

async fn nothing_is_left(client: &Role) {
    for name in ["relay_streams", "relay_requests_in_flight"] {
        eventually_async(&format!("{name} is 0 again"), || async { client.metric(name, "").await == 0.0 })
            .await;
    }
}

#[tokio::test]
async fn an_upload_ends_though_whoever_answers_never_said_where_to_send_it() {
    let (_nats, client, mut agent) = hostile().await;
    let mut raw = upload(&client).await;
    let (request, _) = agent.takes().await;
    agent.answer(&request, None, false);
    assert_eq!(raw.answer().await.status, 200);
    nothing_is_left(&client).await;
}

#[tokio::test]
async fn an_upload_ends_though_its_agent_answers_and_never_asks_for_the_rest() {
    let (_nats, client, mut agent) = hostile().await;
    let mut raw = upload(&client).await;
    let (request, own) = agent.takes().await;
    agent.acknowledge(&request, &own);
    let staying = agent.stays(&request.client_req_id);
    agent.answer(&request, Some(&own), false);
    assert_eq!(raw.answer().await.status, 200);
    nothing_is_left(&client).await;
    staying.abort();
}

#[tokio::test]
async fn an_upload_ends_though_its_agent_never_answers_and_says_that_it_is_there() {
    let (_nats, client, mut agent) = hostile().await;
    let mut raw = upload(&client).await;
    let (request, own) = agent.takes().await;
    agent.acknowledge(&request, &own);
    let staying = agent.stays(&request.client_req_id);
    raw.answer().await.problem().is(504, "ttl_expired", "client");
    nothing_is_left(&client).await;
    staying.abort();
}

#[tokio::test]
async fn an_upload_ends_though_its_agent_asks_for_all_of_it_and_never_says_that_it_is_there() {
    let (_nats, client, mut agent) = hostile().await;
    let mut raw = upload(&client).await;
    let (request, own) = agent.takes().await;
    agent.acknowledge(&request, &own);
    let staying = agent.stays(&request.client_req_id);
    agent.say(&request.client_req_id, Word::Credit { bytes: 1 << 40 });
    raw.send(vec![b'x'; 300_000]).await;
    agent.answer(&request, Some(&own), false);
    assert_eq!(raw.answer().await.status, 200);
    nothing_is_left(&client).await;
    staying.abort();
}

#[tokio::test]
async fn a_response_that_is_announced_and_never_sent_ends() {
    let (_nats, client, mut agent) = hostile().await;
    let mut raw = client.raw().await;
    raw.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let (request, own) = agent.takes().await;
    agent.answer(&request, Some(&own), true);
    let staying = agent.stays(&request.client_req_id);
    let answer = raw.until_closed().await;
    assert!(answer.starts_with(b"HTTP/1.1 200") && !answer.ends_with(b"0\r\n\r\n"));
    client.says("decision=stream_cut").await;
    nothing_is_left(&client).await;
    staying.abort();
}

#[tokio::test]
async fn a_response_that_names_no_stream_leaves_none_of_the_upload() {
    let (_nats, client, mut agent) = hostile().await;
    let mut raw = upload(&client).await;
    let (request, own) = agent.takes().await;
    agent.acknowledge(&request, &own);
    let staying = agent.stays(&request.client_req_id);
    agent.answer(&request, None, true);
    raw.answer().await.problem().is(502, "bad_message", "client");
    nothing_is_left(&client).await;
    staying.abort();
}

#[tokio::test]
async fn a_client_agent_that_asks_and_never_takes_the_response_loses_it() {
    let nats = Nats::start().await;
    let origin = Origin::saying(Box::leak("x".repeat(400_000).into_boxed_str())).await;
    let agent = nats.upstream("hello", &origin.url(), &["--send-timeout", "1s", "--stream-idle", "2s"]).await;
    let bus = nats.connect().await;
    let own: ProcessId = "client.Hostile12345".parse().unwrap();
    let id = RequestId::new(&own, &"hello".parse().unwrap(), 1);
    let mut acks = bus.subscribe(subjects().of_request(Kind::Resp, &id)).await.unwrap();
    bus.flush().await;
    let request = Request::new(own, id.clone(), "hello".parse().unwrap(), Duration::from_secs(60));
    let reply = subjects().of_request(Kind::Ack, &id);
    bus.ask("relay.req.hello".into(), reply, encode(&request)).unwrap();
    let message = within(SOON, "a response", acks.next()).await.unwrap();
    let at_agent = relay::wire::codec::decode_reply(&message.payload).unwrap().upstream_req_id.unwrap();
    let staying = stays(&bus, &at_agent);
    nothing_is_left(&agent).await;
    staying.abort();
}

#[tokio::test]
async fn an_upload_that_is_announced_and_never_sent_leaves_the_origin() {
    let nats = Nats::start().await;
    let origin = Origin::echo().await;
    let agent = nats.upstream("hello", &origin.url(), &["--ttl", "2s"]).await;
    let bus = nats.connect().await;
    let own: ProcessId = "client.Hostile12345".parse().unwrap();
    let id = RequestId::new(&own, &"hello".parse().unwrap(), 1);
    let mut acks = bus.subscribe(subjects().of_request(Kind::Ack, &id)).await.unwrap();
    bus.flush().await;
    let request = Request::new(own, id.clone(), "hello".parse().unwrap(), Duration::from_secs(60));
    let request = Request { stream: true, method: http::Method::PUT, ..request };
    bus.publish("relay.req.hello".into(), encode(&request)).unwrap();
    let message = within(SOON, "an acknowledgement", acks.next()).await.unwrap();
    let ack: Ack = relay::wire::codec::decode(&message.payload).unwrap();
    let staying = stays(&bus, &ack.upstream_req_id.unwrap());
    nothing_is_left(&agent).await;
    eventually("the origin is left", || origin.connected() == 0).await;
    staying.abort();
}

const SOON: Duration = Duration::from_secs(20);
