//! A process answers with its own permissions: whoever asks must not be able to choose where it publishes. No server refuses
//! anything here, so that what is tried is relay itself.

use bytes::Bytes;
use http::StatusCode;
use relay::{
    bus::{Bus, Subscription},
    wire::{
        Ack, Headers, Meet, ProcessId, Reply, RequestId, State, StreamMessage, Word,
        codec::{decode_request, encode},
        session::Say,
    },
};

use crate::support::*;

/// A whole relay, and an asker who listens where nothing may arrive.
struct Stage {
    relay: Relay,
    bus: Bus,
    aimed: Vec<Subscription>,
    inbox: String,
    answers: Subscription,
}

impl Stage {
    async fn start() -> Stage {
        let relay = Relay::to(Origin::saying("hello").await)
            .client(&["--sessions", "/sessions", "--cache", "1MB"])
            .start()
            .await;
        let bus = relay.nats.connect().await;
        let mut aimed = Vec::new();
        for subject in ["relay.req.billing", "relay.*.billing.P.>", "relay.route.billing.>", "elsewhere.>"] {
            aimed.push(bus.subscribe(subject.to_owned()).await.unwrap());
        }
        let inbox = bus.new_inbox();
        let answers = listen(&bus, &inbox).await;
        Stage { relay, bus, aimed, inbox, answers }
    }

    fn processes(&self) -> [&Role; 3] {
        [&self.relay.client, &self.relay.agent, self.relay.broker.as_ref().unwrap()]
    }

    /// Every process has answered what it was asked so far, and none of it arrived where it was aimed.
    async fn nothing_arrived(&mut self) {
        for _ in 0..2 {
            self.bus.ask("$SRV.PING".into(), self.inbox.clone(), Bytes::new()).unwrap();
            for _ in 0..self.processes().len() {
                within(WAIT, "all answer", self.answers.next()).await.unwrap();
            }
        }
        self.bus.publish("elsewhere.last".into(), Bytes::new()).unwrap();
        let last = within(WAIT, "the last", self.aimed.last_mut().unwrap().next()).await.unwrap();
        assert_eq!(last.subject.as_str(), "elsewhere.last");
        for aimed in &mut self.aimed {
            let heard = futures_util::FutureExt::now_or_never(aimed.next()).flatten();
            assert!(heard.is_none(), "{heard:?}");
        }
    }
}

#[tokio::test]
async fn services_and_caches_answer_in_inboxes_only() {
    let mut stage = Stage::start().await;
    let questions = [
        ("$SRV.PING", 3.0),
        ("$SRV.INFO", 3.0),
        ("$SRV.STATS", 3.0),
        ("$SRV.PING.relay-broker", 1.0),
        ("relay.cache.stats", 1.0),
    ];
    let mut refused = 0.0;
    for reply in [
        "relay.req.billing",
        "relay.resp.billing.P.billing.1",
        "relay.route.billing.billing.P.com.example././",
        "elsewhere.x",
        "$JS.API.STREAM.DELETE.relay-jobs",
        "_INBOX",
        "_INBOX.",
        "_INBOX..x",
        "_INBOX.*",
        "_INBOX.x.>",
        "_INBOXES.x",
    ] {
        for (question, answers) in questions {
            stage.bus.ask(question.into(), reply.into(), Bytes::new()).unwrap();
            // What begins like an answer of JetStream is dropped before it is read.
            refused += if reply.starts_with("$JS.") { 0.0 } else { answers };
        }
    }
    found_dropped(&stage.processes(), refused).await;
    stage.nothing_arrived().await;
    // And in an inbox they answer.
    stage.bus.ask("relay.cache.stats".into(), stage.inbox.clone(), Bytes::new()).unwrap();
    within(WAIT, "an answer", stage.answers.next()).await.unwrap();
}

#[tokio::test]
async fn a_probe_is_answered_where_this_probe_is_answered_and_nowhere_else() {
    let mut stage = Stage::start().await;
    let agent = stage.relay.agent.process_id().await;
    let wrong = [
        "relay.req.billing".to_owned(),
        format!("relay.resp.billing.P.hello.{agent}"),
        "relay.probe.billing.P.billing.billing.Q".into(),
        format!("relay.probe.billing.P.billing.{agent}"),
        "relay.probe.billing.P.hello.billing.Q".into(),
        "relay.probe.billing.P.hello".into(),
        format!("relay.probe.billing.P.x.hello.{agent}"),
        "elsewhere.x".into(),
    ];
    for reply in &wrong {
        stage.bus.ask(format!("relay.probe.{agent}.hello"), reply.clone(), Bytes::new()).unwrap();
    }
    found_dropped(&[&stage.relay.agent], wrong.len() as f64).await;
    stage.nothing_arrived().await;
    let right = format!("relay.probe.billing.P.hello.{agent}");
    stage.bus.ask(format!("relay.probe.{agent}.hello"), right.clone(), Bytes::new()).unwrap();
    let heard = within(WAIT, "an answer", stage.aimed[1].next()).await.unwrap();
    assert_eq!(heard.subject.as_str(), right);
}

#[tokio::test]
async fn who_asks_of_a_stream_that_is_not_known_is_told_within_its_own_upstream() {
    let mut stage = Stage::start().await;
    for role in [&stage.relay.client, &stage.relay.agent] {
        let to: RequestId = format!("{}.hello.7", role.process_id().await).parse().unwrap();
        let position = StreamMessage { to: to.clone(), word: Word::Position { frames: 1, credit: 1 } };
        for reply in ["relay.body.billing.P.billing.1", "relay.req.billing", "elsewhere.x"] {
            stage.bus.ask(format!("relay.body.{to}"), reply.into(), position.encode()).unwrap();
        }
    }
    stage.nothing_arrived().await;
}

#[tokio::test]
async fn an_acknowledgement_names_no_id_of_another_upstream() {
    let mut stage = Stage::start().await;
    let client = stage.relay.client.process_id().await;
    let id: RequestId = format!("{client}.hello.7").parse().unwrap();
    let billing: RequestId = "billing.P.billing.1".parse().unwrap();
    let late = Ack { upstream_req_id: Some(billing.clone()), ..Ack::new(id.clone(), State::Taken) };
    let held = Ack { broker_req_id: Some(billing), ..Ack::new(id.clone(), State::Held) };
    for ack in [late, held] {
        stage.bus.publish(format!("relay.ack.{id}"), encode(&ack)).unwrap();
    }
    found_dropped(&[&stage.relay.client], 2.0).await;
    stage.nothing_arrived().await;
}

#[tokio::test]
async fn a_streamed_response_comes_from_its_own_upstream() {
    let Relay { client, agent, nats, .. } = Relay::start().await;
    agent.term();
    agent.ended().await;
    let bus = nats.connect().await;
    let mut requests = bus.join("relay.req.hello".into()).await.unwrap();
    let mut aimed = listen(&bus, "relay.*.billing.P.>").await;
    let answer = async {
        let request = within(WAIT, "a request", requests.next()).await.unwrap();
        let id = decode_request(&request.payload).unwrap().client_req_id;
        let reply = |peer: Option<&str>| Reply {
            stream: peer.is_some(),
            upstream_req_id: peer.map(|peer| peer.parse().unwrap()),
            ..Reply::response(id.clone(), StatusCode::OK, Headers::new(), Bytes::from("whole"))
        };
        bus.publish(format!("relay.resp.{id}"), encode(&reply(Some("billing.P.billing.1")))).unwrap();
        found_dropped(&[&client], 1.0).await;
        bus.publish(format!("relay.resp.{id}"), encode(&reply(None))).unwrap();
    };
    let (got, ()) = tokio::join!(client.get("/"), answer);
    assert_eq!(got.text().await.unwrap(), "whole");
    assert!(futures_util::FutureExt::now_or_never(aimed.next()).is_none());
}

#[tokio::test]
async fn what_is_said_in_a_session_is_answered_within_sessions() {
    let mut stage = Stage::start().await;
    let client: ProcessId = stage.relay.client.process_id().await.parse().unwrap();
    let to: RequestId = format!("{client}._sessions.7").parse().unwrap();
    let ask = |from: &str| encode(&Meet::new(from.parse().unwrap(), to.clone(), Say::Ask));
    stage.bus.publish(format!("relay.meet.{to}"), ask("billing.P.billing.1")).unwrap();
    found_dropped(&[&stage.relay.client], 1.0).await;
    stage.nothing_arrived().await;
    stage.bus.publish(format!("relay.meet.{to}"), ask("billing.P._sessions.1")).unwrap();
    let heard = within(WAIT, "an answer", stage.aimed[1].next()).await.unwrap();
    assert_eq!(heard.subject.as_str(), "relay.meet.billing.P._sessions.1");
}

/// Waits until these processes have dropped as many messages that would have them publish elsewhere, and no more.
async fn found_dropped(roles: &[&Role], times: f64) {
    let dropped = || async {
        let mut sum = 0.0;
        for role in roles {
            sum += role.metric("relay_messages_dropped_total", "misaddressed").await;
        }
        sum
    };
    eventually_async("all are dropped", || async { dropped().await >= times }).await;
    assert_eq!(dropped().await, times);
}

const WAIT: std::time::Duration = std::time::Duration::from_secs(20);
