//! Routes as an agent claims them.

use std::time::Duration;

use bytes::Bytes;
use relay::{
    bus::{Bus, Message},
    wire::{Claim, Name, Refused, Subjects, codec, message::VERSION},
};

use crate::support::*;

#[tokio::test]
async fn an_agent_claims_its_routes_when_it_comes_and_when_it_is_asked() {
    let nats = Nats::start().await;
    let bus = nats.connect().await;
    let mut claims = bus.subscribe("relay.route.>".into()).await.unwrap();
    let mut heres = bus.subscribe("relay.here.shop.>".into()).await.unwrap();
    bus.flush().await;
    let flags = ["--route", "shop.example.com", "--route", "example.com/shop", "--strip-prefix", "on"];
    let agent = nats.upstream("shop", "http://127.0.0.1:1", &flags).await;
    for _ in 0..2 {
        let (mut seen, mut sum) = (Vec::new(), 0_u64);
        for _ in 0..2 {
            let message = next(&mut claims).await;
            let claim: Claim = codec::decode(&message.payload).unwrap();
            let subject = subjects().route(&claim.upstream_target, &claim.upstream_id, &claim.route);
            assert_eq!(*message.subject, *subject);
            assert!(claim.strip && !claim.withdrawn && claim.upstream_target.as_str() == "shop");
            seen.push(claim.route.to_string());
            sum = sum.wrapping_add(claim.hash());
        }
        assert_eq!(seen, ["shop.example.com", "example.com/shop"]);
        let here: relay::wire::Here = codec::decode(&next(&mut heres).await.payload).unwrap();
        assert_eq!(here.routes, sum);
        bus.publish("relay.who".into(), Bytes::new()).unwrap();
    }
    drop(agent);
}

#[tokio::test]
async fn what_became_of_a_claim_is_logged_and_can_be_asked_for() {
    let nats = Nats::start().await;
    let bus = nats.connect().await;
    let mut heres = bus.subscribe("relay.here.shop.>".into()).await.unwrap();
    let mut claims = bus.subscribe("relay.route.shop.>".into()).await.unwrap();
    bus.flush().await;
    let agent = Role::spawn(
        &nats.url(),
        "upstream",
        &["--name", "shop", "--to", "3000"],
        &[("RELAY_ROUTE", "example.com,example.net")],
    );
    let agent = agent.ready().await;
    let here: relay::wire::Here = codec::decode(&next(&mut heres).await.payload).unwrap();
    let tell = |route: &str, by: Option<&str>, why: Option<&str>| {
        let told = Refused {
            v: VERSION,
            upstream_target: name("shop"),
            route: route.into(),
            by: by.map(name),
            earlier: 60_000,
            why: why.map(str::to_owned),
        };
        bus.publish(subjects().claim(&here.upstream_id, &name("shop")), codec::encode(&told)).unwrap();
    };
    tell("example.com", Some("other"), None);
    let line = agent.says("route example.com is not served: upstream 'other' claimed it first").await;
    assert!(line.contains("WARN"), "{line}");
    tell("example.net", None, Some("the table is full"));
    agent.says("route example.net is not served: the table is full").await;

    // It claimed the contested one again at once, as one that waits.
    let claim = loop {
        let claim: Claim = codec::decode(&next(&mut claims).await.payload).unwrap();
        if claim.waiting {
            break claim;
        }
    };
    assert_eq!(claim.route.to_string(), "example.com");

    let asked = routes(&bus, "$SRV.ROUTES").await;
    assert_eq!(asked["name"], "relay-upstream-shop");
    assert_eq!(
        (asked["upstream"].as_str(), asked["process"].as_str()),
        (Some("shop"), Some(here.upstream_id.as_str()))
    );
    assert_eq!(
        asked["routes"],
        serde_json::json!([
            {"route": "example.com", "strip": false, "standing": "taken", "by": "other"},
            {"route": "example.net", "strip": false, "standing": "refused", "why": "the table is full"},
        ])
    );
    let id = here.upstream_id.as_str().replace('.', "-");
    for subject in
        ["$SRV.ROUTES.relay-upstream-shop".to_owned(), format!("$SRV.ROUTES.relay-upstream-shop.{id}")]
    {
        assert_eq!(routes(&bus, &subject).await, asked);
    }
    // Nobody refuses it any more.
    agent.says("route example.com is served again").await;
    // Of another upstream it does not speak, and does not listen to it.
    let about_another = Refused {
        v: VERSION,
        upstream_target: name("blog"),
        route: "example.com".into(),
        by: Some(name("x")),
        earlier: 60_000,
        why: None,
    };
    bus.publish(subjects().claim(&here.upstream_id, &name("shop")), codec::encode(&about_another)).unwrap();
    agent.counts("relay_messages_dropped_total", "misaddressed", 1.0).await;
}

async fn routes(bus: &Bus, subject: &str) -> serde_json::Value {
    let inbox = bus.new_inbox();
    let mut answers = bus.subscribe(inbox.clone()).await.unwrap();
    bus.ask(subject.into(), inbox, Bytes::new()).unwrap();
    serde_json::from_slice(&next(&mut answers).await.payload).unwrap()
}

async fn next(messages: &mut relay::bus::Subscription) -> Message {
    within(Duration::from_secs(30), "a message", messages.next()).await.expect("the connection stands")
}

fn subjects() -> Subjects {
    Subjects::new(name("relay"))
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}
