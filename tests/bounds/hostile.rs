//! Messages that no relay would send, on every subject there is: counted, told where somebody asked, and
//! otherwise without effect.

use bytes::Bytes;
use relay::{
    bus::{Bus, Subscription},
    wire::{
        Ack, Code, Fault, Here, Name, ProcessId, Reply, RequestId, Side, State,
        codec::{decode_reply, decode_request, encode},
    },
};
use tokio::sync::watch;

use crate::support::*;

#[tokio::test]
async fn garbage_on_every_subject_is_counted_and_traffic_goes_on() {
    let gate = watch::Sender::new(false);
    let relay = Relay::to(Origin::gated(&gate).await).client(&["--patience", "50ms"]).start().await;
    let bus = relay.nats.connect().await;
    let mut requests = listen(&bus, "relay.req.hello").await;
    let broker = relay.broker.as_ref().unwrap();
    // A request in flight, so that there is something to disturb.
    let attack = async {
        relay.client.counts("relay_requests_held", "", 1.0).await;
        let client = relay.client.process_id().await;
        let (agent, broker_id) = (relay.agent.process_id().await, broker.process_id().await);
        let number = request_number(&mut requests).await;
        // A process that may publish there answers the request; a reply that can't be read ends it.
        let own = format!("relay.resp.{client}.hello.{number}");
        for payload in payloads() {
            for subject in
                subjects(&client, &agent, &broker_id, &number).into_iter().filter(|subject| *subject != own)
            {
                publish(&bus, &subject, &payload).await;
            }
        }
        bus.flush().await;
        for role in [&relay.client, &relay.agent, broker] {
            role.counts("relay_messages_dropped_total", "malformed", 10.0).await;
        }
        gate.send_replace(true);
    };
    let (answer, ()) = tokio::join!(relay.post("/", "undisturbed"), attack);
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.text().await.unwrap(), "undisturbed");
    for _ in 0..5 {
        assert_eq!(relay.get("/").await.status(), 200);
    }
    for role in [&relay.client, &relay.agent, broker] {
        assert!(role.is_running());
        assert!(role.lines("panicked").is_empty());
        assert_eq!(role.metric("relay_nats_reconnects_total", "").await, 0.0);
    }
}

#[tokio::test]
async fn whoever_asks_in_words_an_agent_cannot_read_is_told_so() {
    let relay = Relay::start().await;
    let bus = relay.nats.connect().await;
    let own: ProcessId = "client.Test12345678".parse().unwrap();
    let id = RequestId::new(&own, &"hello".parse().unwrap(), 42);
    let mut replies = bus.subscribe(format!("relay.resp.{id}")).await.unwrap();
    for garbage in [&b"hello"[..], b"", b"\x81\xa1v\x63", b"\x81\xa1v\x01"] {
        bus.ask("relay.req.hello".into(), format!("relay.ack.{id}"), Bytes::copy_from_slice(garbage))
            .unwrap();
        let reply = within(std::time::Duration::from_secs(10), "a reply", replies.next()).await.unwrap();
        let reply = decode_reply(&reply.payload).unwrap();
        let error = reply.error.expect("an error");
        assert_eq!(
            (error.code.as_str(), error.raised_by, reply.client_req_id),
            ("bad_message", Side::Upstream, id.clone())
        );
        assert!(!error.message.is_empty());
    }
    relay.agent.counts("relay_messages_dropped_total", "malformed", 4.0).await;
    assert_eq!(relay.origin.hits(), 0);
}

#[tokio::test]
async fn a_reply_that_cannot_be_read_ends_its_request_at_once() {
    let relay = Relay::to(Origin::echo().await).no_broker().start().await;
    relay.agent.term();
    relay.agent.ended().await;
    let bus = relay.nats.connect().await;
    let mut requests = bus.join("relay.req.hello".into()).await.unwrap();
    // What is subscribed before is in force as well then.
    listen(&bus, "test.after").await;
    let answers = async {
        for garbage in [&b"hello"[..], b"", b"\x81\xa1v\x63", b"\x91", b"\x91\xc5\x00\x01x"] {
            let request = requests.next().await.unwrap();
            let subject = request.reply.unwrap().replace(".ack.", ".resp.");
            publish(&bus, &subject, &Bytes::from_static(garbage)).await;
        }
    };
    let asks = async {
        for _ in 0..5 {
            let fault = problem(relay.get("/").await).await;
            fault.is(502, "bad_reply", "client").names("could not be read");
        }
    };
    tokio::join!(answers, asks);
}

#[tokio::test]
async fn a_message_of_another_version_is_not_misread() {
    let relay = Relay::start().await;
    let bus = relay.nats.connect().await;
    let own: ProcessId = "client.Test12345678".parse().unwrap();
    let id = RequestId::new(&own, &"hello".parse().unwrap(), 7);
    let mut replies = bus.subscribe(format!("relay.resp.{id}")).await.unwrap();
    #[derive(serde::Serialize)]
    struct Future {
        v: u8,
        everything: &'static str,
    }
    let future = Bytes::from(rmp_serde::to_vec_named(&Future { v: 99, everything: "different" }).unwrap());
    bus.ask("relay.req.hello".into(), format!("relay.ack.{id}"), future.clone()).unwrap();
    let reply = within(std::time::Duration::from_secs(10), "a reply", replies.next()).await.unwrap();
    let error = decode_reply(&reply.payload).unwrap().error.unwrap();
    assert!(error.message.contains("version 99"), "{}", error.message);
    // Brokers hear of agents; each process warns once, however much it hears.
    let broker = relay.broker.as_ref().unwrap();
    for _ in 0..5 {
        publish(&bus, "relay.here.hello.agent.Future", &future).await;
        publish(&bus, "relay.req.hello", &future).await;
    }
    for role in [broker, &relay.agent] {
        role.counts("relay_messages_dropped_total", "malformed", 5.0).await;
        role.says("another version").await;
        assert_eq!(role.lines("another version").len(), 1, "{}", role.log());
    }
}

#[tokio::test]
async fn an_answer_under_another_requests_subject_is_not_taken() {
    let gate = watch::Sender::new(false);
    let relay = Relay::to(Origin::gated(&gate).await).client(&["--patience", "50ms"]).start().await;
    let bus = relay.nats.connect().await;
    let mut requests = listen(&bus, "relay.req.hello").await;
    let attack = async {
        relay.client.counts("relay_requests_held", "", 1.0).await;
        let client: ProcessId = relay.client.process_id().await.parse().unwrap();
        let number = u64::from_str_radix(&request_number(&mut requests).await, 16).unwrap();
        let other: Name = "other".parse().unwrap();
        // Who may speak for `other` only, by its NATS permissions, answers a request for `hello`.
        let mine = RequestId::new(&client, &other, number);
        let hello = RequestId::new(&client, &"hello".parse().unwrap(), number);
        let fault = Fault::new(Code::Internal, Side::Upstream, "forged");
        for id in [&mine, &hello] {
            publish(&bus, &format!("relay.resp.{mine}"), &encode(&Reply::error(id.clone(), &fault))).await;
            publish(&bus, &format!("relay.ack.{mine}"), &encode(&Ack::new(id.clone(), State::Full))).await;
        }
        bus.flush().await;
        relay.client.counts("relay_messages_dropped_total", "misaddressed", 2.0).await;
        gate.send_replace(true);
    };
    let (answer, ()) = tokio::join!(relay.post("/", "mine"), attack);
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.text().await.unwrap(), "mine");
    assert_eq!(relay.origin.hits(), 1);
}

#[tokio::test]
async fn announcements_of_agents_that_do_not_exist_lead_requests_nowhere() {
    let nats = Nats::start().await;
    let (client, broker) =
        tokio::join!(nats.client(&["--upstream", "hello"]), nats.broker(&["--wait", "1s"]));
    let bus = nats.connect().await;
    let name: Name = "hello".parse().unwrap();
    for i in 0..200 {
        let ghost: ProcessId = format!("agent.Ghost{i}").parse().unwrap();
        let here = Here { limit: u64::MAX, ..Here::of(ghost.clone(), name.clone()) };
        publish(&bus, &format!("relay.here.hello.{ghost}"), &encode(&here)).await;
    }
    bus.flush().await;
    broker.counts("relay_agents", "", 200.0).await;
    problem(client.get("/").await).await.is(503, "no_agent", "broker");
}

async fn publish(bus: &Bus, subject: &str, payload: &Bytes) {
    while bus.publish(subject.to_owned(), payload.clone()).is_err() {
        tokio::task::yield_now().await;
    }
}

/// Garbage of every kind: not MessagePack, cut off, too deep, too long for its own word, wrong types.
fn payloads() -> Vec<Bytes> {
    let mut payloads: Vec<Vec<u8>> = vec![
        Vec::new(),
        b"hello".to_vec(),
        vec![0xc1; 100],
        vec![0x91; 10_000],
        vec![0x81; 10_000],
        b"\xdf\xff\xff\xff\xff".to_vec(),
        b"\x81\xa1v\x01".to_vec(),
        b"\x81\xa1v\xcf\xff\xff\xff\xff\xff\xff\xff\xff".to_vec(),
        b"\x82\xa1v\x01\xa7headers\xdd\xff\xff\xff\xff".to_vec(),
        b"\x82\xa1v\x01\xa4body\xc6\xff\xff\xff\xffx".to_vec(),
        b"\x82\xa1v\x01\xadclient_req_id\xd9\xff".to_vec(),
        b"\x82\xa1v\x01\xa5holds\xdd\xff\xff\xff\xff".to_vec(),
        b"\x82\xa1v\x01\xadclient_req_id\xa6a.b.>.1".to_vec(),
    ];
    // Random bytes under a head that looks right; the same in every run.
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    for length in 1..60 {
        let mut payload = b"\x8c\xa1v\x01".to_vec();
        for _ in 0..length {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            payload.push(state as u8);
        }
        payloads.push(payload);
    }
    payloads.into_iter().map(Bytes::from).collect()
}

fn subjects(client: &str, agent: &str, broker: &str, number: &str) -> Vec<String> {
    let mut subjects = vec![
        "relay.req.hello".to_owned(),
        "relay.hold.hello".into(),
        "relay.hold.other".into(),
        "relay.who".into(),
        format!("relay.here.hello.{agent}"),
        "relay.here.hello.agent.Nobody".into(),
        "relay.here.nonsense".into(),
        "relay.gone.x.y.z.a.b".into(),
        format!("relay.lease.{client}.{broker}.lost"),
        format!("relay.lease.{broker}.hello.renew"),
        format!("relay.probe.{broker}.hello.{agent}"),
    ];
    for process in [client, agent, broker] {
        for kind in
            ["req", "ack", "resp", "body", "hold", "lease", "probe", "here", "gone", "who", "nonsense"]
        {
            // Not an answer from NATS: those come without a payload and with a status.
            subjects.push(format!("relay.{kind}.{process}.hello.{number}"));
            subjects.push(format!("relay.{kind}.{process}.hello.0"));
            subjects.push(format!("relay.{kind}.{process}.x"));
        }
    }
    subjects
}

/// The number of the next request, in hexadecimal; whoever may read the subjects can see it.
async fn request_number(requests: &mut Subscription) -> String {
    let request = requests.next().await.expect("a request");
    let id = decode_request(&request.payload).unwrap().client_req_id;
    id.to_string().rsplit('.').next().unwrap_or_default().to_owned()
}
