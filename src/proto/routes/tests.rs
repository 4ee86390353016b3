use super::*;
use crate::wire::message::VERSION;

#[test]
fn a_request_goes_by_its_host_and_the_longest_path() {
    let mut at = Bench::new();
    for (upstream, route) in [
        ("site", "example.com"),
        ("shop", "example.com/shop"),
        ("cart", "example.com/shop/cart"),
        ("sub", "*.example.com"),
        ("deep", "*.a.example.com"),
        ("api", "/api"),
    ] {
        at.claim(upstream, "agent.a", route);
    }
    for (host, path, upstream) in [
        ("example.com", "/", Some("site")),
        ("EXAMPLE.com:8080", "/shop", Some("shop")),
        ("example.com.", "/shop/", Some("shop")),
        ("example.com", "/shop/x", Some("shop")),
        ("example.com", "/shopping", Some("site")),
        ("example.com", "/shop/cart/1/2/3/4", Some("cart")),
        ("example.com", "/%73hop/cart", Some("cart")),
        ("example.com", "*", Some("site")),
        ("x.example.com", "/shop", Some("sub")),
        ("x.y.example.com", "/", Some("sub")),
        ("x.a.example.com", "/", Some("deep")),
        ("a.example.com", "/", Some("sub")),
        ("other.org", "/api/x", Some("api")),
        ("other.org", "/apis", None),
        ("other.org", "/", None),
        ("", "/api", Some("api")),
        ("example.com", "/api", Some("site")),
    ] {
        assert_eq!(at.finds(host, path).as_deref(), upstream, "{host}{path}");
    }
}

#[test]
fn a_host_without_a_path_that_fits_leaves_it_to_less_specific_ones() {
    let mut at = Bench::new();
    at.claim("shop", "agent.a", "example.com/shop");
    at.claim("any", "agent.a", "/");
    assert_eq!(at.finds("example.com", "/about").as_deref(), Some("any"));
    assert_eq!(at.finds("example.com", "/shop").as_deref(), Some("shop"));
}

#[test]
fn a_stripped_route_says_how_many_segments_go() {
    let mut at = Bench::new();
    at.feed(Input::Claim(Claim { strip: true, ..claim("shop", "agent.a", "example.com/a/b") }));
    assert_eq!(at.routes.find("example.com", "/a/b/c").map(|found| found.strip), Some(2));
}

#[test]
fn the_first_to_claim_a_route_has_it_and_the_second_is_told() {
    let mut at = Bench::new();
    at.claim("first", "agent.a", "example.com");
    assert!(at.told().is_empty());
    at.pass(60_000);
    at.claim("second", "agent.b", "example.com");
    assert_eq!(at.told(), ["second agent.b example.com taken by first"]);
    assert_eq!(at.finds("example.com", "/").as_deref(), Some("first"));
    assert_eq!(at.routes.rows()[0].refused, ["second".parse().unwrap()]);
    at.gone("first", "agent.a");
    assert!(at.told().is_empty());
    assert_eq!(at.finds("example.com", "/").as_deref(), Some("second"));
}

#[test]
fn whoever_claimed_earlier_is_first_in_every_order_of_arrival() {
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let mut at = Bench::new();
        for i in order {
            let (upstream, age) = [("c", 30_000), ("b", 20_000), ("a", 10_000)][i];
            at.feed(Input::Claim(Claim { age, ..claim(upstream, "agent.a", "example.com") }));
        }
        assert_eq!(at.finds("example.com", "/").as_deref(), Some("c"), "{order:?}");
    }
}

#[test]
fn a_claim_that_knows_it_is_second_stays_second_though_it_is_older() {
    let mut at = Bench::new();
    at.feed(Input::Claim(Claim { age: 300_000, waiting: true, ..claim("late", "agent.b", "example.com") }));
    assert_eq!(at.finds("example.com", "/").as_deref(), Some("late"), "nobody else wants it");
    assert!(at.told().is_empty());
    at.feed(Input::Claim(Claim { age: 60_000, ..claim("first", "agent.a", "example.com") }));
    assert_eq!(at.finds("example.com", "/").as_deref(), Some("first"));
}

#[test]
fn agents_of_one_upstream_share_a_route_and_it_stays_when_one_goes() {
    let mut at = Bench::new();
    at.claim("shop", "agent.a", "example.com");
    at.pass(60_000);
    at.claim("shop", "agent.b", "example.com");
    at.claim("rival", "agent.c", "example.com");
    at.told();
    at.gone("shop", "agent.a");
    assert_eq!(at.finds("example.com", "/").as_deref(), Some("shop"));
    assert!(at.told().is_empty());
}

#[test]
fn two_words_on_stripping_are_two_claims() {
    let mut at = Bench::new();
    at.claim("shop", "agent.a", "example.com/a");
    at.pass(5_000);
    at.feed(Input::Claim(Claim { strip: true, ..claim("shop", "agent.b", "example.com/a") }));
    assert_eq!(at.told(), ["shop agent.b example.com/a taken by shop"]);
    assert_eq!(at.routes.find("example.com", "/a").map(|found| found.strip), Some(0));
}

#[test]
fn a_route_that_is_given_up_is_gone() {
    let mut at = Bench::new();
    at.claim("shop", "agent.a", "example.com");
    at.feed(Input::Claim(Claim { withdrawn: true, ..claim("shop", "agent.a", "example.com") }));
    assert_eq!(at.finds("example.com", "/"), None);
    assert!(at.routes.is_empty());
}

#[test]
fn an_agent_whose_heartbeat_is_late_is_asked_and_then_forgotten() {
    let mut at = Bench::new();
    at.claim("shop", "agent.a", "example.com");
    at.run_for(6_000);
    assert_eq!(at.commands(), []);
    at.run_for(2_000);
    let probe = Command::Probe { upstream: name("shop"), agent: "agent.a".parse().unwrap() };
    assert_eq!(at.commands(), [probe]);
    assert!(at.finds("example.com", "/").is_some());
    at.run_for(3_000);
    assert_eq!(at.finds("example.com", "/"), None);
}

#[test]
fn an_agent_that_answers_stays() {
    let mut at = Bench::new();
    at.claim("shop", "agent.a", "example.com");
    for _ in 0..10 {
        at.run_for(7_000);
        at.here("shop", "agent.a", &["example.com"]);
    }
    assert!(at.finds("example.com", "/").is_some());
}

#[test]
fn nobody_is_forgotten_while_nats_is_away() {
    let mut at = Bench::new();
    at.claim("shop", "agent.a", "example.com");
    at.feed(Input::Link { up: false });
    at.run_for(60_000);
    assert!(at.finds("example.com", "/").is_some());
    at.feed(Input::Link { up: true });
    at.run_for(9_000);
    assert!(at.finds("example.com", "/").is_some(), "it has the time to say that it is here");
    at.run_for(3_000);
    assert!(at.finds("example.com", "/").is_none());
}

#[test]
fn all_is_known_when_what_was_announced_is_here() {
    let mut at = Bench::unlearned();
    assert!(!at.routes.is_known());
    at.here("shop", "agent.a", &["a.example", "b.example"]);
    at.claim("shop", "agent.a", "a.example");
    at.run_for(500);
    assert!(!at.routes.is_known(), "a route is missing");
    at.claim("shop", "agent.a", "b.example");
    at.run_for(400);
    assert!(at.routes.is_known());
}

#[test]
fn an_agent_that_never_says_everything_holds_up_nobody_for_long() {
    let mut at = Bench::unlearned();
    at.here("shop", "agent.a", &["a.example"]);
    at.run_for(3_100);
    assert!(at.routes.is_known());
}

#[test]
fn an_agent_whose_claims_were_lost_is_asked_again() {
    let mut at = Bench::new();
    at.here("shop", "agent.a", &["a.example"]);
    assert_eq!(at.commands(), [], "they may be on their way");
    at.run_for(2_000);
    assert_eq!(at.commands(), [Command::Ask { upstream: name("shop") }]);
    at.run_for(1_000);
    assert_eq!(at.commands(), [], "it may have a lot to say");
    at.claim("shop", "agent.a", "a.example");
    at.run_for(3_000);
    assert_eq!(at.commands(), []);
}

#[test]
fn a_huge_table_of_one_agent_is_refused_from_its_limit_on() {
    let mut at = Bench::new();
    for i in 0..MAX_ROUTES_OF_AGENT {
        at.claim("shop", "agent.a", &format!("h{i}.example"));
    }
    assert_eq!(at.commands(), []);
    at.claim("shop", "agent.a", "one-more.example");
    assert_eq!(at.told(), ["shop agent.a one-more.example refused: an agent may have 10,000 routes"]);
    assert_eq!(at.routes.len(), MAX_ROUTES_OF_AGENT);
    at.gone("shop", "agent.a");
    assert!(at.routes.is_empty());
}

struct Bench {
    routes: Routes,
    now: Instant,
}

impl Bench {
    fn unlearned() -> Self {
        let mut at = Bench { routes: Routes::default(), now: Instant::now() + Duration::from_secs(3600) };
        at.feed(Input::Link { up: true });
        assert_eq!(at.commands(), [Command::AskAll]);
        at
    }

    fn new() -> Self {
        let mut at = Bench::unlearned();
        at.run_for(1_000);
        assert!(at.routes.is_known());
        at
    }

    fn feed(&mut self, input: Input) {
        self.routes.handle(input, self.now);
    }

    fn claim(&mut self, upstream: &str, agent: &str, route: &str) {
        self.feed(Input::Claim(claim(upstream, agent, route)));
    }

    fn here(&mut self, upstream: &str, agent: &str, routes: &[&str]) {
        let hashes = routes.iter().map(|route| claim(upstream, agent, route).hash());
        let routes = hashes.fold(0, u64::wrapping_add);
        let here = Here::of(agent.parse().unwrap(), name(upstream));
        self.feed(Input::Here(Here { routes, ..here }));
    }

    fn gone(&mut self, upstream: &str, agent: &str) {
        self.feed(Input::Gone { upstream: name(upstream), agent: agent.parse().unwrap() });
    }

    fn pass(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
    }

    fn run_for(&mut self, millis: u64) {
        let end = self.now + Duration::from_millis(millis);
        while let Some(at) = self.routes.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.routes.handle_timeout(self.now);
        }
        self.now = end;
    }

    fn finds(&self, host: &str, path: &str) -> Option<String> {
        self.routes.find(host, path).map(|found| found.upstream.to_string())
    }

    fn commands(&mut self) -> Vec<Command> {
        std::iter::from_fn(|| self.routes.poll_command()).collect()
    }

    fn told(&mut self) -> Vec<String> {
        let told = self.commands().into_iter().map(|command| match command {
            Command::Refuse { upstream, agent, route, why } => {
                let why = match why {
                    Why::Taken { by, .. } => format!("taken by {by}"),
                    Why::Limit(why) => format!("refused: {why}"),
                };
                format!("{upstream} {agent} {route} {why}")
            }
            other => panic!("{other:?}"),
        });
        told.collect()
    }
}

fn claim(upstream: &str, agent: &str, route: &str) -> Claim {
    Claim {
        v: VERSION,
        upstream_id: agent.parse().unwrap(),
        upstream_target: name(upstream),
        route: route.parse().unwrap(),
        age: 0,
        strip: false,
        waiting: false,
        withdrawn: false,
    }
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}
