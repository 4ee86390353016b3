use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};

use super::{
    recent::{MANY_RECENT, MAX_RECENT},
    *,
};

mod away;
use crate::wire::{Headers, Name, message::VERSION};

#[test]
fn a_quick_response_is_its_own_acknowledgement() {
    let mut agent = Agent::new(4);
    let number = agent.request();
    agent.pass(9);
    agent.done(number);
    assert_eq!(agent.does(), ["call", "reply"]);
    agent.pass(20);
    assert_eq!(agent.does(), [""; 0]);
}

#[test]
fn a_request_is_acknowledged_when_its_response_takes_longer_than_the_delay() {
    let mut agent = Agent::new(4);
    let number = agent.request();
    agent.pass(10);
    assert_eq!(agent.does(), ["call", "taken"]);
    agent.pass(100);
    agent.done(number);
    assert_eq!(agent.does(), ["reply"]);
}

#[test]
fn without_a_delay_every_request_is_acknowledged_before_it_is_called() {
    let mut agent = Agent::with(Settings { ack_delay: Duration::ZERO, ..settings(4) });
    agent.request();
    assert_eq!(agent.does(), ["taken", "call"]);
}

#[test]
fn at_its_limit_it_says_so_and_refuses_what_still_comes() {
    let mut agent = Agent::new(2);
    agent.request();
    agent.request();
    assert_eq!(agent.does(), ["call", "call", "announce full 2"]);
    agent.request();
    assert_eq!(agent.does(), ["full"]);
}

#[test]
fn it_joins_again_when_a_quarter_of_its_places_are_free() {
    let mut agent = Agent::new(8);
    let numbers: Vec<u64> = (0..8).map(|_| agent.request()).collect();
    agent.does();
    agent.done(numbers[0]);
    assert_eq!(agent.does(), ["reply"], "one place is not worth the two messages");
    agent.done(numbers[1]);
    assert_eq!(agent.does(), ["announce 6", "reply"]);
}

#[test]
fn a_request_whose_body_is_streamed_is_acknowledged_before_it_is_called() {
    let mut agent = Agent::new(4);
    agent.feed(Input::Request(Box::new(Request { stream: true, ..question(60_000) })));
    agent.note();
    assert_eq!(agent.does(), ["taken", "call"]);
}

#[test]
fn a_response_that_is_streamed_takes_its_place_until_it_has_ended() {
    let mut agent = Agent::new(1);
    let number = agent.request();
    agent.head(number);
    assert_eq!(agent.does(), ["call", "announce full 1", "reply"]);
    agent.pass(60_000);
    agent.does();
    assert_eq!(agent.machine.in_flight(), 1, "its time is not limited any more");
    agent.request();
    assert_eq!(agent.does(), ["full"]);
    agent.feed(Input::StreamEnded { number });
    agent.note();
    assert_eq!((agent.does(), agent.machine.unfinished()), (vec!["announce 0".to_owned()], 0));
}

#[test]
fn a_streamed_response_whose_head_nobody_heard_is_given_up_and_told_so() {
    let mut agent = Agent::new(4);
    let number = agent.request();
    agent.head(number);
    agent.does();
    agent.feed(Input::ReplyUnheard { number });
    agent.note();
    assert_eq!(agent.does(), ["abort", "reply stream_cut"]);
}

#[test]
fn replies_that_were_heard_are_not_kept() {
    let mut agent = Agent::new(4);
    let answer = |agent: &mut Agent| {
        let number = agent.request();
        agent.done(number);
        number
    };
    let numbers: Vec<u64> = (0..MANY_RECENT).map(|_| answer(&mut agent)).collect();
    assert_eq!(agent.does().last(), Some(&format!("settle {MANY_RECENT}")));
    let late = answer(&mut agent);
    // NATS's word on it comes before the end of the round trip.
    agent.feed(Input::ReplyUnheard { number: numbers[3] });
    agent.feed(Input::Settled { published: MANY_RECENT as u64 });
    agent.does();
    assert_eq!(agent.machine.recent.len(), 1, "the one that was published after it");
    agent.pass(100);
    assert_eq!(agent.does(), ["reply"], "it is published again");
    agent.feed(Input::ReplyUnheard { number: late });
    agent.pass(100);
    assert_eq!(agent.does(), ["reply"], "so is a later one");
    agent.feed(Input::ReplyUnheard { number: numbers[5] });
    agent.pass(100);
    assert_eq!(agent.does(), [""; 0], "what was heard is gone");
}

#[test]
fn a_body_that_moves_gives_the_origin_its_time_anew() {
    let mut agent = Agent::new(4);
    let number = agent.request();
    for _ in 0..5 {
        agent.pass(1500);
        agent.feed(Input::Progress { number });
    }
    assert!(!agent.does().contains(&"abort".to_owned()));
    agent.pass(2000);
    assert_eq!(agent.does().iter().filter(|did| *did == "reply response_timeout").count(), 1);
}

#[test]
fn a_draining_agent_takes_nothing_finishes_and_keeps_nothing() {
    let mut agent = Agent::new(4);
    let number = agent.request();
    agent.feed(Input::Drain);
    agent.feed(Input::Drain);
    assert_eq!(agent.does(), ["call", "leave", "farewell"]);
    agent.request();
    agent.feed(Input::Who);
    assert_eq!(agent.does(), ["draining"]);
    agent.done(number);
    assert_eq!((agent.does(), agent.machine.unfinished()), (vec!["reply".to_owned()], 0));
    agent.pass(10_000);
    assert_eq!(agent.does(), [""; 0], "it announces itself no more");
    assert!(agent.machine.is_idle());
}

#[test]
fn a_call_that_outlives_the_ttl_is_aborted_and_answered() {
    let mut agent = Agent::new(4);
    agent.request();
    agent.pass(2000);
    assert_eq!(agent.does(), ["call", "taken", "abort", "reply response_timeout"]);
}

#[test]
fn the_ttl_of_the_asker_counts_when_it_is_shorter() {
    let mut agent = Agent::new(4);
    agent.request_with_ttl(500);
    agent.pass(500);
    assert_eq!(agent.does(), ["call", "taken", "abort", "reply response_timeout"]);
    agent.request_with_ttl(0);
    assert_eq!(agent.does(), [""; 0], "nobody waits for it any more");
}

#[test]
fn a_request_for_another_upstream_is_not_called() {
    let mut agent = Agent::new(4);
    let mut request = question(2000);
    request.upstream_target = "another".parse().unwrap();
    agent.feed(Input::Request(Box::new(request)));
    assert_eq!(agent.does(), [""; 0]);
}

#[test]
fn a_cancelled_request_is_aborted_and_not_answered() {
    let mut agent = Agent::new(4);
    let number = agent.request();
    agent.feed(Input::Cancel { number });
    agent.done(number);
    assert_eq!(agent.does(), ["call", "abort"]);
    assert!(agent.machine.is_idle());
}

#[test]
fn a_reply_is_forgotten_soon_after_it_was_published() {
    let mut agent = Agent::new(4);
    let number = agent.request();
    agent.done(number);
    agent.pass(11_000);
    agent.does();
    assert!(agent.machine.is_idle());
}

#[test]
fn a_reply_that_was_published_just_before_the_connection_went_is_published_again() {
    let mut agent = Agent::new(4);
    let number = agent.request();
    agent.done(number);
    agent.pass(2_000);
    agent.does();
    agent.feed(Input::Link { up: false });
    agent.pass(1_500);
    agent.feed(Input::Link { up: true });
    assert_eq!(agent.does(), ["join", "reply", "announce 0"], "it may have gone with the connection");
    agent.pass(12_000);
    assert!(agent.machine.is_idle());
}

#[test]
fn a_reply_that_was_published_long_before_is_not() {
    let mut agent = Agent::new(4);
    let number = agent.request();
    agent.done(number);
    agent.pass(5_100);
    agent.does();
    agent.feed(Input::Link { up: false });
    agent.feed(Input::Link { up: true });
    assert_eq!(agent.does(), ["join", "announce 0"]);
    assert!(agent.machine.is_idle());
}

/// Found by the simulation: a reply was forgotten a second after it was first published, however often it had
/// been published since, and a client agent that reconnected after that never got it.
#[test]
fn a_reply_that_nobody_hears_is_published_again_until_its_time_is_over() {
    let mut agent = Agent::new(4);
    let number = agent.request();
    agent.done(number);
    agent.does();
    let mut published = Vec::new();
    for millis in 0..6000 {
        agent.feed(Input::ReplyUnheard { number });
        agent.pass(1);
        published.extend(agent.does().iter().filter(|what| *what == "reply").map(|_| millis));
    }
    assert_eq!(published, [50, 150, 350, 750, 1550, 2550, 3550].map(|millis| millis - 1));
    agent.pass(5000);
    agent.does();
    assert!(agent.machine.is_idle());
}

#[test]
fn replies_wait_for_the_connection() {
    let mut agent = Agent::new(4);
    let number = agent.request();
    agent.feed(Input::Link { up: false });
    agent.done(number);
    agent.pass(1500);
    assert_eq!(agent.does(), ["call"]);
    assert_eq!(agent.machine.unfinished(), 1);
    agent.feed(Input::Link { up: true });
    assert_eq!(agent.does(), ["join", "reply", "announce 0"]);
}

#[test]
fn a_reply_that_waits_too_long_for_the_connection_is_dropped() {
    let mut agent = Agent::new(4);
    let number = agent.request();
    agent.feed(Input::Link { up: false });
    agent.done(number);
    agent.pass(4000);
    agent.feed(Input::Link { up: true });
    assert_eq!(agent.does(), ["call", "join", "announce 0"]);
    assert!(agent.machine.is_idle());
}

#[test]
fn published_replies_are_kept_up_to_a_bound() {
    let mut agent = Agent::new(2 * MAX_RECENT);
    for _ in 0..MAX_RECENT + 1 {
        let number = agent.request();
        agent.done(number);
    }
    assert_eq!(agent.machine.jobs.len(), MAX_RECENT);
    assert_eq!(agent.machine.recent.len(), MAX_RECENT);
}

#[test]
fn it_announces_itself_at_every_heartbeat_and_when_asked() {
    let mut agent = Agent::new(4);
    agent.pass(5000);
    assert_eq!(agent.does(), ["announce 0"]);
    agent.feed(Input::Who);
    assert_eq!(agent.does(), ["announce 0"]);
}

#[test]
fn what_waited_while_the_process_stood_still_is_refused_until_a_round_trip_has_ended() {
    let mut agent = Agent::new(4);
    agent.now += Duration::from_millis(3_001);
    agent.request();
    assert_eq!(
        agent.does(),
        ["catch up", "draining"],
        "who asked has given up on it, or asked another agent"
    );
    agent.pass(1);
    agent.request();
    assert_eq!(agent.does(), ["draining"]);
    agent.feed(Input::CaughtUp);
    agent.request();
    assert_eq!(agent.does(), ["call"]);
}

#[test]
fn an_agent_that_is_late_because_it_is_busy_goes_on() {
    let mut agent = Agent::new(4);
    agent.now += Duration::from_secs(3);
    agent.request();
    assert_eq!(agent.does(), ["call"]);
}

#[test]
fn a_draining_agent_that_goes_on_after_all_joins_again() {
    let mut agent = Agent::new(4);
    agent.feed(Input::Drain);
    assert_eq!(agent.does(), ["leave", "farewell"]);
    agent.feed(Input::Resume);
    agent.request();
    assert_eq!(agent.does(), ["join", "announce 0", "call"]);
}

#[test]
fn a_round_trip_of_a_turn_that_is_over_does_not_count() {
    let mut agent = Agent::new(4);
    for input in [Input::Drain, Input::Resume, Input::Drain, Input::Resume] {
        agent.machine.handle(input, agent.now);
    }
    agent.machine.handle(Input::Joined { turn: 2 }, agent.now);
    assert_eq!(agent.machine.condition(), Condition::Joining);
    assert!(!agent.machine.here().accepting);
    agent.machine.handle(Input::Joined { turn: 3 }, agent.now);
    assert_eq!(agent.machine.condition(), Condition::Accepting);
}

#[test]
fn a_lower_limit_counts_at_once_and_a_higher_one_too() {
    let mut agent = Agent::new(4);
    let numbers = [agent.request(), agent.request()];
    agent.does();
    agent.feed(Input::Configure(settings(1)));
    agent.request();
    assert_eq!(agent.does(), ["announce full 2", "full"]);
    agent.done(numbers[0]);
    assert_eq!(agent.does(), ["reply"], "still as many as may be");
    agent.feed(Input::Configure(settings(8)));
    assert_eq!(agent.does(), ["announce 1"]);
}

/// An agent with an ack delay of 10 ms and a TTL of 2 s, connected, at a time of its own.
struct Agent {
    machine: Serving,
    now: Instant,
    /// The number of the last call.
    called: u64,
    done: Vec<String>,
}

impl Agent {
    fn new(max_in_flight: usize) -> Agent {
        Agent::with(settings(max_in_flight))
    }

    /// One that is not connected yet.
    fn apart(settings: Settings) -> Agent {
        let machine = Serving::new(settings, "agent.a".parse().unwrap(), Numbers::new(RandomState::new()));
        Agent { machine, now: Instant::now(), called: 0, done: Vec::new() }
    }

    fn with(settings: Settings) -> Agent {
        let mut agent = Agent::apart(settings);
        agent.feed(Input::Link { up: true });
        assert_eq!(agent.does(), ["join", "announce 0"]);
        agent
    }

    fn feed(&mut self, input: Input) {
        self.machine.handle(input, self.now);
        self.note();
    }

    /// Time passes, timer by timer.
    fn pass(&mut self, millis: u64) {
        let until = self.now + Duration::from_millis(millis);
        while let Some(at) = self.machine.poll_timeout().filter(|at| *at <= until) {
            self.now = at;
            self.machine.handle_timeout(at);
            self.note();
        }
        self.now = until;
    }

    fn request(&mut self) -> u64 {
        self.request_with_ttl(60_000)
    }

    fn request_with_ttl(&mut self, ttl: u64) -> u64 {
        self.feed(Input::Request(Box::new(question(ttl))));
        self.called
    }

    fn done(&mut self, number: u64) {
        let to = question(0).client_req_id;
        let reply = Reply::response(to, StatusCode::OK, Headers::new(), Bytes::new());
        self.feed(Input::Done { number, reply });
    }

    /// The origin's response has begun; the rest of it is streamed.
    fn head(&mut self, number: u64) {
        let id = question(0).client_req_id;
        let mut reply = Reply::response(id, StatusCode::OK, Headers::new(), Bytes::new());
        reply.stream = true;
        self.feed(Input::Head { number, reply });
        self.note();
    }

    fn note(&mut self) {
        while let Some(command) = self.machine.poll_command() {
            if let Command::Call { number, .. } = &command {
                self.called = *number;
            }
            let joins = if let Command::Join { turn } = &command { Some(*turn) } else { None };
            self.done.push(words(command));
            if let Some(turn) = joins {
                self.machine.handle(Input::Joined { turn }, self.now);
            }
        }
    }

    /// What it has done since the last time, in words.
    fn does(&mut self) -> Vec<String> {
        std::mem::take(&mut self.done)
    }
}

fn words(command: Command) -> String {
    let accepts = |here: &Here| match (here.accepting, here.failing) {
        (true, false) => "",
        (true, true) => "failing ",
        (false, _) => "full ",
    };
    match command {
        Command::Call { .. } => "call".to_owned(),
        Command::Abort { .. } => "abort".to_owned(),
        Command::Ack(ack) => format!("{:?}", ack.state).to_lowercase(),
        Command::Reply { payload, .. } => match codec::decode_reply(&payload).unwrap().error {
            None => "reply".to_owned(),
            Some(error) => format!("reply {}", error.code),
        },
        Command::Join { .. } => "join".to_owned(),
        Command::CatchUp => "catch up".to_owned(),
        Command::Settle { published } => format!("settle {published}"),
        Command::Leave => "leave".to_owned(),
        Command::Announce(here) | Command::Heartbeat(here) => {
            format!("announce {}{}", accepts(&here), here.in_flight)
        }
        Command::Farewell => "farewell".to_owned(),
        Command::Check => "check".to_owned(),
        Command::Tell(News::Healthy) => "healthy".to_owned(),
        Command::Tell(News::Unhealthy { .. }) => "unhealthy".to_owned(),
        Command::Tell(News::Ejected { .. }) => "ejected".to_owned(),
        Command::TellTurn(Turn::StandsBy { .. }) => "stands by".to_owned(),
        Command::TellTurn(Turn::Works) => "works".to_owned(),
    }
}

fn settings(max_in_flight: usize) -> Settings {
    Settings {
        upstream: "hello".parse().unwrap(),
        variant: None,
        ttl: Duration::from_secs(2),
        ack_delay: Duration::from_millis(10),
        max_in_flight,
        health: Rules::default(),
        stand_by: false,
    }
}

fn question(ttl: u64) -> Request {
    let client: ProcessId = "client.c".parse().unwrap();
    let upstream: Name = "hello".parse().unwrap();
    Request {
        v: VERSION,
        client_req_id: RequestId::new(&client, &upstream, 1),
        client_id: client,
        client_req_ttl: ttl,
        upstream_target: upstream,
        method: Method::GET,
        url: "/".into(),
        headers: Headers::new(),
        body: Bytes::new(),
        stream: false,
        trailers: HeaderMap::new(),
        upgrade: None,
        interim: false,
        window: None,
        broker_id: None,
        broker_req_id: None,
        broker_req_ttl: None,
    }
}
