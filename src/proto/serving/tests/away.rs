//! When an agent leaves its queue group, and when it comes back.

use super::*;

#[test]
fn an_agent_with_checks_joins_when_the_first_has_succeeded() {
    let mut agent = checked();
    agent.pass(0);
    assert_eq!(agent.does(), ["announce full 0", "check"]);
    agent.request();
    assert_eq!(agent.does(), ["draining"]);
    agent.feed(Input::Checked { failure: None });
    assert_eq!(agent.does(), ["healthy", "join", "announce 0"]);
}

#[test]
fn an_unhealthy_agent_leaves_although_it_is_alone_and_joins_when_it_is_healthy() {
    let mut agent = checked();
    agent.feed(Input::Checked { failure: None });
    let number = agent.request();
    agent.does();
    for _ in 0..2 {
        agent.feed(Input::Checked { failure: Some("503".into()) });
    }
    assert_eq!(agent.does(), ["unhealthy", "leave", "announce full 1"]);
    agent.request();
    agent.done(number);
    assert_eq!(agent.does(), ["draining", "reply"], "what it has it finishes");
    agent.feed(Input::Link { up: false });
    agent.feed(Input::Link { up: true });
    assert_eq!(agent.does(), ["announce full 0", "reply"], "a new connection changes nothing else");
    for _ in 0..2 {
        agent.feed(Input::Checked { failure: None });
    }
    assert_eq!(agent.does(), ["healthy", "join", "announce 0"]);
}

#[test]
fn an_agent_that_can_not_connect_leaves_the_work_to_one_that_can() {
    let mut agent = ejecting();
    agent.feed(sibling(true, false, 0));
    agent.fails();
    agent.fails();
    assert_eq!(
        agent.does(),
        [
            "call",
            "reply origin_refused",
            "call",
            "ejected",
            "leave",
            "announce full 0",
            "reply origin_refused"
        ]
    );
    agent.pass(5000);
    assert!(agent.does().contains(&"check".to_owned()));
    agent.feed(Input::Checked { failure: None });
    assert_eq!(agent.does(), ["healthy", "join", "announce 0"]);
}

#[test]
fn an_agent_that_can_not_connect_and_is_alone_says_so_to_its_callers() {
    let mut agent = ejecting();
    agent.fails();
    agent.fails();
    assert_eq!(
        agent.does(),
        ["call", "reply origin_refused", "call", "ejected", "announce failing 0", "reply origin_refused"]
    );
    // One that fails too is no better.
    agent.feed(sibling(true, true, 0));
    assert_eq!(agent.does(), [""; 0]);
    agent.feed(sibling(true, false, 0));
    assert_eq!(agent.does(), ["leave", "announce full 0"]);
    agent.feed(Input::SiblingGone(other()));
    assert_eq!(agent.does(), ["join", "announce failing 0"], "nobody is left to do better");
    let number = agent.request();
    agent.done(number);
    assert_eq!(agent.does(), ["call", "healthy", "announce 0", "reply"]);
}

#[test]
fn an_agent_that_left_comes_back_when_its_siblings_fall_silent() {
    let mut agent = ejecting();
    agent.feed(sibling(true, false, 0));
    agent.fails();
    agent.fails();
    agent.does();
    agent.pass(14_000);
    assert!(!agent.does().contains(&"join".to_owned()));
    agent.pass(1_000);
    assert!(agent.does().contains(&"join".to_owned()));
}

#[test]
fn an_agent_much_slower_than_its_sibling_stands_by_until_it_is_needed() {
    let mut agent = standing_by();
    agent.request();
    assert_eq!(agent.does(), ["draining"]);
    agent.feed(Input::Who);
    assert_eq!(agent.does(), ["announce full 0"], "not everybody who asks has nobody");
    agent.feed(Input::Sought);
    assert_eq!(agent.does(), ["works", "join", "announce full 0", "announce 0"]);

    let mut agent = standing_by();
    agent.feed(Input::SiblingGone(other()));
    assert_eq!(agent.does(), ["works", "join", "announce 0"]);

    let mut agent = standing_by();
    agent.feed(sibling(false, false, 10_000));
    assert_eq!(agent.does(), ["works", "join", "announce 0"], "the sibling is full");
}

#[test]
fn reasons_to_stay_away_add_up() {
    let mut agent = standing_by();
    agent.feed(Input::Drain);
    assert_eq!(agent.does(), ["farewell"]);
    agent.feed(Input::SiblingGone(other()));
    agent.feed(Input::Sought);
    assert_eq!(agent.does(), ["works"], "it drains all the same");
    agent.feed(Input::Resume);
    assert_eq!(agent.does(), ["join", "announce 0"]);

    let mut agent = checked();
    agent.feed(Input::Checked { failure: None });
    agent.does();
    for _ in 0..4 {
        agent.request();
    }
    for _ in 0..2 {
        agent.feed(Input::Checked { failure: Some("503".into()) });
    }
    agent.does();
    for _ in 0..2 {
        agent.feed(Input::Checked { failure: None });
    }
    assert_eq!(agent.does(), ["healthy", "join", "announce full 4"], "healthy, and still full");
    agent.request();
    assert_eq!(agent.does(), ["full"]);
}

#[test]
fn an_agent_of_another_variant_is_no_sibling() {
    let mut agent = ejecting();
    match sibling(true, false, 0) {
        Input::Sibling(here) => {
            agent.feed(Input::Sibling(Here { variant: Some("canary".parse().unwrap()), ..here }))
        }
        _ => unreachable!("a sibling"),
    }
    agent.fails();
    agent.fails();
    assert!(!agent.does().contains(&"leave".to_owned()), "its requests would find nobody");
}

#[test]
fn a_newcomer_is_told_soon_who_is_there() {
    let mut agent = Agent::new(4);
    agent.feed(sibling(true, false, 0));
    agent.feed(sibling(true, false, 0));
    agent.pass(100);
    assert_eq!(agent.does(), ["announce 0"]);
    agent.feed(sibling(true, false, 0));
    agent.pass(4_000);
    assert_eq!(agent.does(), [""; 0], "it is none any more");
}

impl Agent {
    fn fails(&mut self) {
        let number = self.request();
        let fault = Fault::new(Code::OriginRefused, Side::Upstream, "refused");
        let reply = Reply::error(question(0).client_req_id, &fault);
        self.feed(Input::Done { number, reply });
    }
}

fn checked() -> Agent {
    let health = Rules { checked: true, interval: Duration::from_secs(5), fall: 2, rise: 2, eject_after: 0 };
    let settings = Settings { health, ..settings(4) };
    let mut agent = Agent::apart(settings);
    agent.feed(Input::Link { up: true });
    agent
}

fn ejecting() -> Agent {
    let health = Rules { eject_after: 2, interval: Duration::from_secs(5), ..Rules::default() };
    Agent::with(Settings { health, ..settings(4) })
}

/// One whose responses take 100 ms beside one whose take 10.
fn standing_by() -> Agent {
    let mut agent = Agent::with(Settings { stand_by: true, ..settings(4) });
    agent.pass(1000);
    for _ in 0..20 {
        let number = agent.request();
        agent.pass(100);
        agent.done(number);
    }
    agent.does();
    agent.feed(sibling(true, false, 10_000));
    assert_eq!(agent.does(), ["stands by", "leave", "announce full 0"]);
    agent
}

fn sibling(accepting: bool, failing: bool, response: u64) -> Input {
    let upstream = "hello".parse().unwrap();
    Input::Sibling(Here { accepting, failing, response, limit: 100, ..Here::of(other(), upstream) })
}

fn other() -> ProcessId {
    "agent.b".parse().unwrap()
}
