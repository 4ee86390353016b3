use http::Method;

use crate::{
    proto::{
        Machine,
        exchange::{
            Command, Input,
            tests::{Client, upstream},
        },
    },
    wire::{Ack, Code, RequestId, State, codec},
};

#[test]
fn what_is_not_answered_within_the_patience_is_handed_to_a_broker() {
    let mut client = Client::new();
    client.open(Method::GET);
    client.does();
    client.pass(249);
    assert_eq!(client.does(), [""; 0]);
    client.pass(1);
    assert_eq!(client.does(), ["hold sent"]);
}

#[test]
fn a_broker_that_does_not_say_yes_is_asked_again_after_a_second() {
    let mut client = Client::new();
    client.open(Method::GET);
    client.pass(250);
    client.does();
    client.pass(1000);
    assert_eq!(client.does(), ["hold sent"]);
}

#[test]
fn being_sent_again_is_news_to_the_broker() {
    let mut client = Client::new();
    let request = client.open(Method::POST);
    client.pass(250);
    client.held(&request, "broker.a", 1);
    client.does();
    client.pass(10);
    client.ack(&request, State::Full);
    assert_eq!(client.does(), ["publish alone", "update sent"], "or its ack wait would go on from the first");
}

/// Found by the simulation: the first broker to say yes had been told less than the last one asked, and
/// waited for an acknowledgement of a request that nobody had.
#[test]
fn a_broker_that_says_yes_late_is_told_what_it_was_not_asked_with() {
    let mut client = Client::new();
    let request = client.open(Method::POST);
    client.pass(250);
    client.nobody_got(&request);
    client.pass(1000);
    assert_eq!(client.does(), ["publish", "hold sent", "hold nobody"]);
    client.held(&request, "broker.a", 1);
    assert_eq!(client.does(), ["update nobody"]);
}

#[test]
fn a_broker_that_was_asked_once_is_not_told_the_same_again() {
    let mut client = Client::new();
    let request = client.open(Method::POST);
    client.nobody_got(&request);
    client.held(&request, "broker.a", 1);
    assert_eq!(client.does(), ["publish", "hold nobody"]);
}

#[test]
fn a_word_of_a_broker_that_was_overtaken_does_not_end_the_request() {
    let mut client = Client::new();
    let request = client.open(Method::POST);
    client.nobody_got(&request);
    let hold = client.held(&request, "broker.a", 1);
    client.ack(&request, State::Wake);
    client.does();
    client.fault(&request, Code::NoAgent, Some(&hold), None);
    assert_eq!(client.does(), [""; 0], "it was being followed when its broker gave up");
    let other = RequestId::new(&"broker.b".parse().unwrap(), &upstream(), 9);
    client.fault(&request, Code::AckTimeout, Some(&other), None);
    assert_eq!(client.does(), [""; 0], "this broker does not hold it");
    client.fault(&request, Code::AckTimeout, Some(&hold), None);
    assert_eq!(client.does(), ["answer: ack_timeout, seen"]);
}

#[test]
fn a_lease_is_renewed_each_second_until_the_answer() {
    let mut client = Client::new();
    let request = client.open(Method::GET);
    client.pass(250);
    client.held(&request, "broker.a", 1);
    client.does();
    client.pass(1000);
    assert_eq!(client.does(), ["renew broker.a [1]"]);
    client.respond(&request);
    client.does();
    client.pass(1000);
    assert_eq!(client.does(), [""; 0]);
    assert!(client.machine.is_idle());
}

#[test]
fn another_broker_is_asked_when_one_is_gone_or_has_lost_a_hold() {
    let mut client = Client::new();
    let request = client.open(Method::GET);
    client.pass(250);
    client.held(&request, "broker.a", 1);
    client.does();
    client.feed(Input::BrokerGone { broker: "broker.a".parse().unwrap() });
    assert_eq!(client.does(), ["hold sent"]);
    client.held(&request, "broker.b", 2);
    client.feed(Input::Lost { broker: "broker.b".parse().unwrap(), holds: vec![2, 77] });
    assert_eq!(client.does(), ["hold sent"]);
    client.pass(1000);
    assert_eq!(client.does(), ["hold sent"], "and none of the old leases is renewed");
}

#[test]
fn just_after_a_reconnection_nobody_there_is_not_yet_an_answer() {
    let mut client = Client::new();
    client.feed(Input::Link { up: false });
    client.pass(100);
    client.feed(Input::Link { up: true });
    let request = client.open(Method::GET);
    client.nobody_got(&request);
    client.feed(Input::NoBroker { number: request.number() });
    assert_eq!(client.does(), ["publish", "hold nobody"], "others are reconnecting too");
    client.pass(2000);
    client.does();
    client.feed(Input::NoBroker { number: request.number() });
    assert_eq!(client.does(), ["answer: no_agent, unseen"]);
}

#[test]
fn after_a_reconnection_brokers_are_asked_afresh() {
    let mut client = Client::new();
    let request = client.open(Method::GET);
    client.pass(250);
    client.held(&request, "broker.a", 1);
    client.does();
    client.feed(Input::Link { up: false });
    client.pass(1500);
    assert_eq!(client.does(), [""; 0], "nothing is said into the void");
    client.feed(Input::Link { up: true });
    assert_eq!(client.does(), ["hold sent"]);
}

#[test]
fn a_broker_that_answers_no_renewal_is_replaced() {
    for (answers, then) in [(false, "hold sent"), (true, "renew broker.a [1]")] {
        let mut client = Client::new();
        let request = client.open(Method::GET);
        client.pass(250);
        client.held(&request, "broker.a", 1);
        client.does();
        client.pass(3000);
        assert_eq!(client.does(), ["renew broker.a [1]"; 3]);
        if answers {
            client.feed(Input::Lost { broker: "broker.a".parse().unwrap(), holds: Vec::new() });
        }
        client.pass(1000);
        assert_eq!(client.does(), [then]);
    }
}

#[test]
fn a_request_that_is_published_again_says_how_long_its_broker_waits() {
    let mut client = Client::lonely();
    let request = client.open(Method::GET);
    let hold = client.held(&request, "broker.a", 1);
    client.here("agent.a");
    while client.machine.poll_command().is_some() {}
    client.nobody_got(&request);
    client.pass(100);
    let mut wake = Ack::new(request.clone(), State::Wake);
    wake.broker_req_id = Some(hold.clone());
    wake.broker_req_ttl = Some(8_499);
    client.feed(Input::Ack { number: request.number(), ack: wake });
    let published = std::iter::from_fn(|| client.machine.poll_command()).find_map(|command| match command {
        Command::Publish { payload, .. } => codec::decode_request(&payload).ok(),
        _ => None,
    });
    let published = published.expect("it is published again");
    assert_eq!((published.broker_req_id, published.broker_req_ttl), (Some(hold), Some(8_499)));
}
