//! Agents of which one is much slower.

use std::time::{Duration, Instant};

use crate::support::{load::counted, *};

#[tokio::test]
async fn a_slow_agent_stands_by_so_that_callers_see_the_quick_one() {
    let (quick, slow) = (taking(10).await, taking(100).await);
    let relay = Relay::to(quick).start().await;
    let agent = relay.nats.upstream("hello", &slow.url(), &[]).await;
    let load = Load::start(&relay.client, 8).await;
    agent.says("stands by").await;
    // What NATS had sent it before has come by now.
    load.goes_on(200).await;
    let (quick_before, slow_before) = (relay.origin.hits(), slow.hits());
    let asked = Instant::now();
    let mut times: Vec<Duration> = Vec::new();
    for _ in 0..100 {
        let begun = Instant::now();
        assert_eq!(relay.get("/").await.status(), 200);
        times.push(begun.elapsed());
    }
    println!("100 requests in {:?}", asked.elapsed());
    times.sort();
    let (median, p99) = (times[49], times[98]);
    assert!(p99 < median * 5, "p99 {p99:?}, median {median:?}");
    let (of_quick, of_slow) = (relay.origin.hits() - quick_before, slow.hits() - slow_before);
    assert!(of_slow * 50 <= of_quick, "{of_slow} went to the slow one, {of_quick} to the quick one");
    assert_eq!(agent.metric("relay_stand_bys_total", "hello").await, 1.0);

    // When the quick one leaves, it is needed; and nothing fails meanwhile.
    relay.agent.term();
    assert!(relay.agent.ended().await.success());
    agent.says("works again").await;
    load.goes_on(50).await;
    let (asked, failed) = load.end().await;
    assert!(failed.is_empty(), "of {asked}: {:?}", counted(&failed));
}

#[tokio::test]
async fn a_slow_agent_is_back_at_once_when_the_quick_one_is_killed() {
    let (quick, slow) = (taking(10).await, taking(100).await);
    let relay = Relay::to(quick).broker(&["--wait", "8s"]).start().await;
    let agent = relay.nats.upstream("hello", &slow.url(), &[]).await;
    let load = Load::start(&relay.client, 8).await;
    agent.says("stands by").await;
    load.goes_on(100).await;
    load.end().await;
    relay.agent.kill9();
    relay.agent.ended().await;
    // Nobody says goodbye; the broker looks for an agent, long before the dead one is forgotten.
    assert_eq!(relay.get("/").await.status(), 200);
    assert_eq!(agent.lines("works again").len(), 1);
}

#[tokio::test]
async fn a_slow_agent_works_when_it_is_told_not_to_stand_by() {
    let (quick, slow) = (taking(1).await, taking(20).await);
    let relay = Relay::to(quick).start().await;
    let agent = relay.nats.upstream("hello", &slow.url(), &["--stand-by", "off"]).await;
    let bus = relay.nats.connect().await;
    let load = Load::start(&relay.client, 8).await;
    for _ in 0..10 {
        load.goes_on(40).await;
        bus.publish("relay.who".into(), bytes::Bytes::new()).unwrap();
    }
    load.end().await;
    assert_eq!(agent.lines("stands by").len(), 0);
    assert!(slow.hits() > 40);
}

async fn taking(millis: u64) -> Origin {
    Origin::start(move |seen| async move {
        tokio::time::sleep(Duration::from_millis(millis)).await;
        answer(200, seen.body)
    })
    .await
}
