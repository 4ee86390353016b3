use http::Method;

use crate::{
    proto::exchange::{
        Input,
        tests::{Client, upstream},
    },
    wire::{Code, Here, State},
};

/// A client agent that knows of agents a, b and c, of which a is frozen and was found to be silent.
fn with_a_silent() -> Client {
    let mut client = Client::new();
    client.frozen.push("agent.a".to_owned());
    client.here("agent.b");
    client.here("agent.c");
    let request = client.open(Method::POST);
    client.pass(1250);
    client.respond(&request);
    client.does();
    client
}

#[test]
fn an_idempotent_request_that_a_silent_agent_may_have_is_published_once_more_to_another() {
    let mut client = Client::new();
    client.frozen.push("agent.a".to_owned());
    client.here("agent.b");
    let request = client.open(Method::GET);
    client.pass(250);
    client.held(&request, "broker.a", 1);
    client.pass(999);
    assert_eq!(client.does(), ["publish", "hold sent"]);
    client.pass(1);
    assert_eq!(client.does(), ["publish to agent.b", "update sent", "renew broker.a [1]"]);
    client.pass(2000);
    assert!(!client.does().iter().any(|did| did.starts_with("publish")), "once more is enough");
}

#[test]
fn any_other_request_that_a_silent_agent_may_have_is_not_published_again() {
    let mut client = Client::new();
    client.frozen.push("agent.a".to_owned());
    client.here("agent.b");
    client.open(Method::POST);
    client.pass(2000);
    assert!(!client.does().iter().any(|did| did.starts_with("publish to")));
}

#[test]
fn while_one_agent_is_silent_requests_are_addressed_to_the_others_in_turn() {
    let mut client = with_a_silent();
    client.open(Method::POST);
    client.open(Method::POST);
    let mut did = client.does();
    did.sort();
    assert_eq!(did, ["publish to agent.b", "publish to agent.c"]);
}

#[test]
fn an_agent_that_is_heard_again_is_picked_by_nats_again() {
    let mut client = with_a_silent();
    client.here("agent.a");
    client.open(Method::POST);
    assert_eq!(client.does(), ["publish"]);
}

#[test]
fn an_agent_whose_heartbeat_stays_away_is_silent_before_any_request_finds_out() {
    let mut client = Client::new();
    client.frozen.push("agent.a".to_owned());
    client.here("agent.b");
    client.pass(9000);
    client.open(Method::POST);
    assert_eq!(client.does(), ["publish to agent.b"]);
}

#[test]
fn a_silent_agent_is_remembered_for_longer_than_its_announcement_is_believed() {
    let mut client = with_a_silent();
    client.pass(60_000);
    client.open(Method::POST);
    assert!(client.does().pop().unwrap().starts_with("publish to"));
}

#[test]
fn a_request_to_one_agent_that_is_gone_goes_to_another() {
    let mut client = with_a_silent();
    let request = client.open(Method::POST);
    let first = client.does().pop().unwrap();
    client.nobody_got(&request);
    let second = client.does().pop().unwrap();
    assert!(second.starts_with("publish to") && second != first, "{first}, {second}");
}

#[test]
fn a_refusal_by_another_agent_than_the_one_that_was_asked_is_of_an_earlier_copy() {
    let mut client = Client::new();
    client.frozen.push("agent.a".to_owned());
    client.here("agent.b");
    let request = client.open(Method::GET);
    client.pass(1250);
    client.does();
    client.refuse(&request, State::Draining, "agent.a");
    assert_eq!(client.does(), [""; 0]);
    client.refuse(&request, State::Draining, "agent.b");
    assert_eq!(client.does(), ["publish to agent.b"]);
}

#[test]
fn where_nats_forbids_to_address_one_agent_it_picks_them_as_before() {
    let mut client = with_a_silent();
    client.open(Method::POST);
    client.does();
    client.feed(Input::MemberForbidden);
    assert_eq!(client.does(), ["publish"]);
    client.open(Method::POST);
    assert_eq!(client.does(), ["publish"]);
}

#[test]
fn where_there_are_variants_nats_alone_picks() {
    let mut client = with_a_silent();
    let canary =
        Here { variant: Some("canary".parse().unwrap()), ..Here::of("agent.d".parse().unwrap(), upstream()) };
    client.feed(Input::Here(canary));
    client.open(Method::POST);
    assert_eq!(client.does(), ["publish"]);
}

#[test]
fn an_agent_that_takes_no_request_addressed_to_it_gets_none() {
    let mut client = Client::new();
    client.frozen.push("agent.a".to_owned());
    client.feed(Input::Here(Here { direct: false, ..Here::of("agent.b".parse().unwrap(), upstream()) }));
    client.here("agent.c");
    let request = client.open(Method::POST);
    client.pass(600);
    client.feed(Input::Here(Here { direct: false, ..Here::of("agent.b".parse().unwrap(), upstream()) }));
    client.pass(650);
    client.respond(&request);
    client.does();
    for _ in 0..2 {
        client.open(Method::POST);
        assert_eq!(client.does(), ["publish to agent.c"]);
    }
}

#[test]
fn requests_for_an_upstream_whose_agents_are_all_silent_wait_for_one_that_is_heard() {
    let mut client = Client::new();
    client.frozen.push("agent.a".to_owned());
    let first = client.open(Method::GET);
    client.pass(1250);
    client.respond(&first);
    client.does();
    let request = client.open(Method::POST);
    client.held(&request, "broker.a", 1);
    assert_eq!(client.does(), ["hold nobody"]);
    for _ in 0..3 {
        client.ack(&request, State::Wake);
    }
    assert_eq!(client.does(), [""; 0], "the broker believes in the frozen one");
    client.here("agent.a");
    assert_eq!(client.does(), ["publish", "update sent"]);
}

#[test]
fn a_get_whose_agent_is_gone_before_it_acknowledged_goes_to_another_at_once() {
    let mut client = Client::new();
    client.here("agent.b");
    client.open(Method::GET);
    client.open(Method::POST);
    client.pass(250);
    client.does();
    client.feed(Input::Gone { upstream: upstream(), agent: "agent.a".parse().unwrap() });
    assert_eq!(client.does(), ["publish to agent.b"], "the POST may have been seen");
}

#[test]
fn a_get_that_was_not_acknowledged_in_time_goes_to_an_agent_that_was_heard_meanwhile() {
    let mut client = Client::new();
    client.frozen.push("agent.a".to_owned());
    client.here("agent.b");
    let get = client.open(Method::GET);
    client.pass(250);
    let hold = client.held(&get, "broker.a", 1);
    client.does();
    client.fault(&get, Code::AckTimeout, Some(&hold), None);
    assert_eq!(client.does(), ["publish to agent.b"]);
}

#[test]
fn a_post_whose_agent_can_not_reach_its_origin_goes_to_another_agent() {
    let mut client = Client::new();
    client.here("agent.b");
    client.here("agent.c");
    client.here("agent.d");
    let request = client.open(Method::POST);
    client.unreached(&request, "agent.b");
    assert_eq!(client.does(), ["publish", "publish to agent.a"]);
    client.unreached(&request, "agent.a");
    assert_eq!(client.does(), ["publish to agent.c"]);
    client.unreached(&request, "agent.c");
    assert_eq!(client.does(), ["answer: origin_refused, unseen"], "two others are enough");
}

#[test]
fn where_no_other_agent_accepts_requests_the_origin_is_told_to_be_unreached_at_once() {
    let mut client = Client::new();
    client.full("agent.b");
    let request = client.open(Method::POST);
    client.unreached(&request, "agent.a");
    assert_eq!(client.does(), ["publish", "answer: origin_refused, unseen"]);
}

#[test]
fn an_agent_of_another_variant_does_not_stand_in() {
    let mut client = Client::new();
    let canary =
        Here { variant: Some("canary".parse().unwrap()), ..Here::of("agent.b".parse().unwrap(), upstream()) };
    client.feed(Input::Here(canary));
    let request = client.open(Method::POST);
    client.unreached(&request, "agent.a");
    assert_eq!(client.does(), ["publish", "answer: origin_refused, unseen"]);
}
