use super::*;

#[test]
fn each_of_the_three_waits_ends_with_its_own_fault() {
    for (known, wait, code) in [
        (Known::Nobody, 10_000, "no_agent"),
        (Known::Refused, 10_000, "agents_full"),
        (Known::Sent, 2_000, "ack_timeout"),
        (Known::Taken, 30_000, "response_timeout"),
    ] {
        let mut broker = Broker::new();
        let number = broker.hold(1, known, 0);
        broker.keep(number, wait - 1);
        assert!(!broker.does().iter().any(|what| what.starts_with("answer")), "{known:?}");
        broker.keep(number, 1);
        assert_eq!(broker.does(), [format!("answer 1 {code}")], "{known:?}");
        broker.pass(1000);
        broker.does();
        assert!(broker.machine.is_idle());
    }
}

#[test]
fn the_wait_for_an_agent_counts_from_the_first_publication() {
    let mut broker = Broker::new();
    broker.hold(1, Known::Nobody, 9_000);
    broker.pass(1000);
    assert_eq!(broker.does(), ["held 1", "answer 1 no_agent"]);
    broker.hold(2, Known::Nobody, u64::MAX);
    broker.pass(10);
    assert!(broker.machine.held() <= 1, "and a hostile age does no harm");
}

#[test]
fn news_moves_a_hold_to_another_wait() {
    let mut broker = Broker::new();
    let number = broker.hold(1, Known::Sent, 250);
    broker.keep(number, 1000);
    broker.update(number, 1, Known::Taken);
    broker.keep(number, 28_999);
    assert!(!broker.does().iter().any(|what| what.starts_with("answer")));
}

#[test]
fn an_agent_that_comes_wakes_the_oldest_holds_it_has_room_for() {
    let mut broker = Broker::new();
    broker.hold(1, Known::Nobody, 10);
    broker.hold(2, Known::Nobody, 30);
    broker.hold(3, Known::Nobody, 20);
    broker.does();
    broker.here("agent.a", true, 2);
    assert_eq!(broker.does(), ["wake 2", "wake 3"]);
    broker.here("agent.b", false, 2);
    assert_eq!(broker.does(), [""; 0], "it takes nothing");
}

#[test]
fn a_hold_that_comes_while_an_agent_is_there_is_woken_soon() {
    let mut broker = Broker::new();
    broker.here("agent.a", true, 9);
    broker.hold(1, Known::Nobody, 0);
    broker.does();
    broker.pass(20);
    assert_eq!(broker.does(), ["wake 1"]);
}

/// Found by the simulation: an agent had died and was still believed in, and each waking in vain began the
/// pauses anew, fifty wakings a second for each request.
#[test]
fn waking_in_vain_backs_off_though_the_request_is_sent_each_time() {
    let mut broker = Broker::new();
    broker.here("agent.a", true, 9);
    let number = broker.hold(1, Known::Nobody, 0);
    let mut wakes = 0;
    for _ in 0..5_000 {
        broker.keep(number, 1);
        if broker.does().contains(&"wake 1".to_owned()) {
            wakes += 1;
            broker.update(number, 1, Known::Sent);
            broker.update(number, 1, Known::Nobody);
        }
    }
    assert_eq!(wakes, 6 + 3, "20, 40, 80, 160, 320, 640 ms and then each second");
}

#[test]
fn the_first_agent_after_a_long_wait_is_tried_with_short_pauses() {
    let mut broker = Broker::new();
    broker.here("agent.a", true, 9);
    let number = broker.hold(1, Known::Nobody, 0);
    broker.keep(number, 4_000);
    broker.feed(Input::Gone { upstream: upstream(), agent: "agent.a".parse().unwrap() });
    broker.does();
    broker.here("agent.b", true, 9);
    assert_eq!(broker.does(), ["wake 1"]);
    broker.keep(number, 20);
    assert_eq!(broker.does(), ["wake 1"], "its subscription may not have crossed the cluster yet");
}

#[test]
fn a_hold_that_is_not_renewed_is_forgotten() {
    let mut broker = Broker::new();
    let number = broker.hold(1, Known::Sent, 0);
    let number2 = broker.hold(2, Known::Taken, 0);
    broker.keep(number, 1000);
    broker.renew(&[number, number2]);
    broker.update(number, 1, Known::Taken);
    broker.pass(2999);
    assert_eq!(broker.machine.held(), 2);
    broker.pass(1);
    assert_eq!(broker.machine.held(), 0);
    broker.does();
    broker.renew(&[number, number2]);
    assert_eq!(broker.does(), [format!("lost {:?}", [number, number2])]);
}

#[test]
fn nobody_renews_or_updates_what_is_anothers() {
    let mut broker = Broker::new();
    let number = broker.hold(1, Known::Sent, 0);
    broker.does();
    broker.feed(Input::Renew { client: "client.other".parse().unwrap(), holds: vec![number] });
    assert_eq!(broker.does(), [format!("lost {:?}", [number])]);
    broker.update(number, 2, Known::Nobody);
    broker.keep(number, 2000);
    assert_eq!(broker.does(), ["answer 1 ack_timeout"]);
}

#[test]
fn an_agent_is_gone_when_nobody_hears_two_probes_in_a_row() {
    let mut broker = Broker::new();
    broker.here("agent.a", true, 9);
    broker.hold(1, Known::Taken, 0);
    broker.hold(2, Known::Taken, 0);
    broker.pass(0);
    assert_eq!(broker.does(), ["held 1", "held 2", "probe agent.a"]);
    broker.unheard();
    assert_eq!(broker.does(), [""; 0]);
    broker.pass(250);
    assert_eq!(broker.does(), ["probe agent.a"]);
    broker.unheard();
    let mut answers = broker.does();
    answers.sort();
    assert_eq!(answers, ["answer 1 agent_gone", "answer 2 agent_gone"]);
    assert_eq!(broker.machine.agents(), 0);
    assert!(broker.machine.is_idle());
}

/// Found by the simulation: in a cluster, an agent that had just started took a request before the broker's
/// server knew of its subscription, and was taken for dead at the first probe.
#[test]
fn an_agent_that_is_heard_between_two_probes_is_not_gone() {
    let mut broker = Broker::new();
    let number = broker.hold(1, Known::Taken, 0);
    broker.pass(0);
    broker.unheard();
    broker.here("agent.a", true, 9);
    broker.keep(number, 250);
    broker.unheard();
    assert!(!broker.does().iter().any(|what| what.starts_with("answer")));
}

#[test]
fn just_after_a_reconnection_a_probe_that_nobody_hears_proves_nothing() {
    let mut broker = Broker::new();
    let number = broker.hold(1, Known::Taken, 0);
    broker.feed(Input::Link { up: false });
    broker.feed(Input::Link { up: true });
    for _ in 0..7 {
        broker.pass(250);
        broker.renew(&[number]);
        broker.unheard();
    }
    assert!(!broker.does().iter().any(|what| what.starts_with("answer")), "it is reconnecting too");
    for _ in 0..3 {
        broker.pass(250);
        broker.renew(&[number]);
        broker.unheard();
    }
    assert!(broker.does().contains(&"answer 1 agent_gone".to_owned()));
}

#[test]
fn an_agent_is_probed_only_while_it_works_on_something() {
    let mut broker = Broker::new();
    let number = broker.hold(1, Known::Taken, 0);
    broker.keep(number, 1000);
    assert_eq!(broker.does(), ["held 1", "probe agent.a", "probe agent.a"]);
    broker.pass(3000);
    broker.does();
    broker.pass(5000);
    assert_eq!(broker.does(), [""; 0]);
    assert!(broker.machine.is_idle());
}

#[test]
fn an_agent_that_answers_no_probe_is_gone_though_somebody_hears_them() {
    let mut broker = Broker::new();
    let number = broker.hold(1, Known::Taken, 0);
    for _ in 0..5 {
        broker.pass(1000);
        broker.renew(&[number]);
    }
    let did = broker.does();
    assert_eq!(did.iter().filter(|what| *what == "probe agent.a").count(), 5);
    assert!(did.contains(&"answer 1 agent_gone".to_owned()));
}

#[test]
fn a_renewal_is_answered_even_when_nothing_is_lost() {
    let mut broker = Broker::new();
    let number = broker.hold(1, Known::Sent, 0);
    broker.says();
    broker.renew(&[number]);
    assert_eq!(broker.says(), ["lost []"]);
}

#[test]
fn while_a_hold_waits_and_no_agent_is_known_they_are_asked_to_announce_themselves() {
    let mut broker = Broker::new();
    let number = broker.hold(1, Known::Nobody, 0);
    broker.hold(2, Known::Nobody, 0);
    assert_eq!(broker.says(), ["who hello", "held 1", "held 2"]);
    broker.keep(number, 1020);
    assert_eq!(broker.says().iter().filter(|what| *what == "who hello").count(), 1);
}

#[test]
fn a_request_that_reached_nobody_shows_that_an_agent_that_is_known_is_gone() {
    let mut broker = Broker::new();
    broker.here("agent.a", true, 0);
    broker.says();
    // It was there and refused.
    broker.hold(1, Known::Refused, 0);
    assert_eq!(broker.says(), ["held 1"]);
    broker.hold(2, Known::Nobody, 0);
    assert_eq!(broker.says(), ["who hello", "held 2"]);
    // Agents that say they take nothing need not say it again.
    broker.here("agent.a", false, 0);
    broker.pass(1000);
    broker.says();
    broker.hold(3, Known::Nobody, 0);
    assert_eq!(broker.says(), ["held 3"]);
}

#[test]
fn a_full_broker_says_so() {
    let mut broker = Broker::new();
    for n in 0..MAX_HOLDS as u64 {
        broker.hold(n, Known::Sent, 0);
    }
    broker.does();
    broker.hold(99, Known::Sent, 0);
    assert_eq!(broker.does(), ["unheld 63"]);
}

#[test]
fn when_every_agent_is_at_its_limit_the_fault_says_so() {
    let mut broker = Broker::new();
    broker.here("agent.a", false, 0);
    let number = broker.hold(1, Known::Nobody, 0);
    broker.keep(number, 5_000);
    broker.here("agent.a", false, 0);
    broker.keep(number, 5_000);
    assert_eq!(broker.does(), ["held 1", "answer 1 agents_full"]);
}

/// A broker with waits of 10, 2 and 30 s, at a time of its own.
struct Broker {
    machine: Supervision,
    now: Instant,
    done: Vec<String>,
    /// The number of the last hold.
    held: u64,
}

impl Broker {
    fn new() -> Broker {
        let settings = Settings {
            wait: Duration::from_secs(10),
            ack_wait: Duration::from_secs(2),
            response_wait: Duration::from_secs(30),
            max_holds: MAX_HOLDS,
        };
        let machine =
            Supervision::new(settings, "broker.b".parse().unwrap(), Numbers::new(RandomState::new()));
        Broker { machine, now: Instant::now(), done: Vec::new(), held: 0 }
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

    /// Time passes while a hold is renewed.
    fn keep(&mut self, number: u64, millis: u64) {
        for passed in (0..millis).step_by(1000) {
            self.pass((millis - passed).min(1000));
            let Some(entry) = self.machine.holds.get(&number) else { continue };
            if let Stage::Taken { agent } = &entry.stage {
                // It answers its probes.
                let agent = agent.to_string();
                self.here(&agent, false, 0);
            }
            self.renew(&[number]);
        }
    }

    fn hold(&mut self, request: u64, known: Known, age: u64) -> u64 {
        self.feed(Input::Hold(told(request, known, age)));
        self.held
    }

    fn update(&mut self, number: u64, request: u64, known: Known) {
        self.feed(Input::Update { number, hold: told(request, known, 0) });
    }

    fn renew(&mut self, holds: &[u64]) {
        self.feed(Input::Renew { client: "client.c".parse().unwrap(), holds: holds.to_vec() });
    }

    fn here(&mut self, agent: &str, accepting: bool, room: u64) {
        let here = Here::of(agent.parse().unwrap(), upstream());
        self.feed(Input::Here(Here { accepting, limit: room, ..here }));
    }

    /// Nobody hears the probe of `agent.a`.
    fn unheard(&mut self) {
        self.feed(Input::ProbeUnanswered { upstream: upstream(), agent: "agent.a".parse().unwrap() });
    }

    fn note(&mut self) {
        while let Some(command) = self.machine.poll_command() {
            if let Command::Ack(Ack { broker_req_id: Some(hold), state: State::Held, .. }) = &command {
                self.held = hold.number();
            }
            self.done.push(words(command));
        }
    }

    /// What it has done since the last time, in words, other than to say that it is there and ask who is.
    fn does(&mut self) -> Vec<String> {
        self.says().into_iter().filter(|what| what != "lost []" && what != "who hello").collect()
    }

    /// All that it has done since the last time, in words.
    fn says(&mut self) -> Vec<String> {
        std::mem::take(&mut self.done)
    }
}

fn words(command: Command) -> String {
    match command {
        Command::Ack(ack) => {
            format!("{} {:x}", format!("{:?}", ack.state).to_lowercase(), ack.client_req_id.number())
        }
        Command::Answer(reply) => {
            format!("answer {:x} {}", reply.client_req_id.number(), reply.error.unwrap().code)
        }
        Command::Lost { lost, .. } => format!("lost {:?}", lost.holds),
        Command::Probe { agent, .. } => format!("probe {agent}"),
        Command::Who { upstream } => format!("who {upstream}"),
    }
}

fn told(request: u64, known: Known, age: u64) -> Hold {
    let client: ProcessId = "client.c".parse().unwrap();
    Hold {
        v: VERSION,
        client_req_id: RequestId::new(&client, &upstream(), request),
        client_id: client,
        client_req_ttl: 60_000,
        upstream_target: upstream(),
        age,
        known,
        known_for: 0,
        upstream_id: (known == Known::Taken).then(|| "agent.a".parse().unwrap()),
    }
}

fn upstream() -> Name {
    "hello".parse().unwrap()
}

const MAX_HOLDS: usize = 20;
