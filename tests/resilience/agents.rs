//! Several agents of one name.

use std::time::Duration;

use crate::support::{load::counted, *};

#[tokio::test]
async fn two_agents_share_the_load() {
    let relay = Relay::start().await;
    let other = relay.another_agent(&[]).await;
    let load = Load::start(&relay.client, 8).await;
    load.goes_on(400).await;
    let (asked, failed) = load.end().await;
    assert!(failed.is_empty(), "{:?}", counted(&failed));
    assert_eq!(relay.origin.hits(), asked);
    for agent in [&relay.agent, &other] {
        let share = agent.metric("relay_origin_calls_total", "answered").await;
        assert!(share > asked as f64 / 10.0, "one agent has {share} of {asked}");
    }
}

#[tokio::test]
async fn an_agent_that_says_it_is_ready_gets_requests() {
    // Without a broker, so that a request that comes too early would fail.
    let nats = Nats::start().await;
    let origin = Origin::echo().await;
    let client = nats.client(&["--upstream", "hello"]).await;
    for _ in 0..8 {
        let agent = nats.upstream("hello", &origin.url(), &[]).await;
        assert_eq!(client.get("/").await.status(), 200);
        agent.term();
        assert!(agent.ended().await.success());
        assert_eq!(client.get("/").await.status(), 503);
    }
}

#[tokio::test]
async fn an_agent_far_away_is_ready_when_it_gets_requests_and_not_before() {
    let nats = Nats::start().await;
    let origin = Origin::echo().await;
    let far = Distance::to(nats.address(), Duration::from_millis(100)).await;
    let client = nats.client(&["--upstream", "hello"]).await;
    let agent = Role::spawn(&far.url(), "upstream", &["--name", "hello", "--to", &origin.url()], &[]);
    let _agent = agent.ready().await;
    assert_eq!(client.get("/").await.status(), 200);
}

#[tokio::test]
async fn either_of_two_agents_may_be_killed_under_load() {
    let origin = Origin::start(|seen| async move {
        tokio::time::sleep(Duration::from_millis(40)).await;
        answer(200, seen.body)
    });
    // Every request is acknowledged at once: what a dead agent had is then known.
    let flags = ["--ack-delay", "0s"];
    let mut relay = Relay::to(origin.await).agent(&flags).broker(&["--ack-wait", "1s"]).start().await;
    let mut other = relay.another_agent(&flags).await;
    let callers = 8;
    let load = Load::start(&relay.client, callers).await;
    load.goes_on(40).await;
    relay.agent.kill9();
    load.goes_on(80).await;
    relay.agent = relay.another_agent(&flags).await;
    load.goes_on(40).await;
    other.kill9();
    load.goes_on(80).await;
    other = relay.another_agent(&flags).await;
    load.goes_on(40).await;
    let (asked, failed) = load.end().await;

    let seen = counted(&failed);
    println!("{asked} requests, failed: {seen:?}");
    // What may not run twice has failed when the dead agent had acknowledged it, or may have had it.
    let expected = ["POST 502 Bad Gateway agent_gone", "POST 504 Gateway Timeout ack_timeout"];
    assert!(seen.keys().all(|what| expected.contains(&what.as_str())), "{seen:?}");
    assert!(failed.len() <= 2 * callers, "no more than were in flight: {seen:?}");
    let load = Load::start(&relay.client, callers).await;
    load.goes_on(40).await;
    let (_, failed) = load.end().await;
    assert!(failed.is_empty(), "afterwards all is well: {:?}", counted(&failed));
    drop(other);
}

#[tokio::test]
async fn a_frozen_agent_beside_two_others_fails_no_get_and_each_caller_one_post_at_most() {
    // NATS by its own defaults, which keep a silent member for four minutes.
    let relay = Relay::start().await;
    let others = [relay.another_agent(&[]).await, relay.another_agent(&[]).await];
    let callers = 8;
    let load = Load::start(&relay.client, callers).await;
    load.goes_on(100).await;
    relay.agent.stop();
    load.goes_on(4000).await;
    let (asked, failed) = load.end().await;
    println!("{asked} requests, failed: {:?}", counted(&failed));
    assert!(failed.iter().all(|failed| failed.method == http::Method::POST), "{:?}", counted(&failed));
    assert!(failed.len() <= callers, "{:?}", counted(&failed));
    let seen = relay.origin.hits();
    relay.agent.cont();
    relay.agent.says("stood still").await;
    assert_eq!(relay.get("/").await.status(), 200);
    assert!(relay.origin.hits() <= seen + 1, "what waited for the frozen agent is not run");
    let load = Load::start(&relay.client, callers).await;
    load.goes_on(200).await;
    let (_, failed) = load.end().await;
    assert!(failed.is_empty(), "afterwards all is well: {:?}", counted(&failed));
    drop(others);
}

#[tokio::test]
async fn a_rolling_restart_of_all_agents_under_load_fails_no_request() {
    let origin = Origin::start(|seen| async move {
        tokio::time::sleep(Duration::from_millis(20)).await;
        answer(200, seen.body)
    });
    let relay = Relay::to(origin.await).start().await;
    let Relay { client, agent, broker, nats, origin } = relay;
    let mut agents = vec![agent, nats.upstream("hello", &origin.url(), &[]).await];
    let load = Load::start(&client, 8).await;
    for _ in 0..2 {
        for agent in &mut agents {
            load.goes_on(50).await;
            agent.term();
            assert!(agent.ended().await.success());
            *agent = nats.upstream("hello", &origin.url(), &[]).await;
        }
    }
    load.goes_on(50).await;
    let (asked, failed) = load.end().await;
    assert!(failed.is_empty(), "of {asked}: {:?}", counted(&failed));
    assert_eq!(origin.hits(), asked, "each ran once");
    drop((agents, broker));
}

#[tokio::test]
async fn a_rolling_restart_far_away_from_nats_fails_no_request() {
    let origin = Origin::start(|seen| async move {
        tokio::time::sleep(Duration::from_millis(5)).await;
        answer(200, seen.body)
    })
    .await;
    let nats = Nats::start().await;
    let far = Distance::to(nats.address(), Duration::from_millis(25)).await;
    let (url, to) = (far.url(), origin.url());
    let start = || Role::spawn(&url, "upstream", &["--name", "hello", "--to", &to], &[]).ready();
    let (client, broker, one, two) = tokio::join!(
        nats.client(&["--upstream", "hello"]),
        nats.broker(&["--ack-wait", "1s"]),
        start(),
        start()
    );
    let mut agents = [one, two];
    let load = Load::start(&client, 16).await;
    for agent in &mut agents {
        load.goes_on(150).await;
        // What NATS has sent and has not arrived must not be lost.
        agent.term();
        assert!(agent.ended().await.success());
        *agent = start().await;
    }
    load.goes_on(50).await;
    let (asked, failed) = load.end().await;
    assert!(failed.is_empty(), "of {asked}: {:?}", counted(&failed));
    assert_eq!(origin.hits(), asked, "each ran once");
    drop(broker);
}

#[tokio::test]
async fn a_request_between_two_agents_waits_for_the_second() {
    let relay = Relay::start().await;
    relay.agent.term();
    assert!(relay.agent.ended().await.success());
    let broker = relay.broker.as_ref().unwrap();
    let next = async {
        broker.counts("relay_requests_held", "", 1.0).await;
        relay.another_agent(&[]).await
    };
    let (answer, _next) = tokio::join!(relay.get("/"), next);
    assert_eq!(answer.status(), 200);
}
