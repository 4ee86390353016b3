//! Stale responses: while they are fetched anew, and in place of errors (RFC 5861).

use super::stage::*;
use crate::support::*;

#[tokio::test]
async fn a_cached_page_survives_its_backend() {
    let Relay { client, agent, broker, nats, origin } =
        Relay::to(told().await).client(&["--cache", "64MB"]).broker(&["--wait", "100ms"]).start().await;
    let page = "/page?cache-control=max-age=60,stale-if-error=1000&age=100";
    get(&client, page, &[]).await.is("1", "fwd=uri-miss");
    let hits = origin.hits();
    drop(origin);
    get(&client, page, &[]).await.is("1", "fwd=stale; fwd-status=502; ttl=-4");
    drop(agent);
    get(&client, page, &[]).await.is("1", "fwd=stale; fwd-status=50");
    drop(broker);
    get(&client, page, &[]).await.is("1", "fwd=stale; fwd-status=503");
    nats.process().kill9();
    // What is on its way at that moment waits for NATS to come back.
    client.says("the connection to NATS is gone").await;
    get(&client, page, &[]).await.is("1", "fwd=stale; fwd-status=503");
    assert_eq!(hits, 1);
    eventually("the log tells it", || client.lines("decision=stale").len() == 4).await;
    // What says nothing of it does not.
    assert_eq!(get(&client, "/other", &[]).await.status, 503);
}

#[tokio::test]
async fn a_stale_page_survives_its_route() {
    let nats = Nats::start().await;
    let origin = told().await;
    let agent = nats.upstream("shop", &origin.url(), &["--route", "127.0.0.1"]).await;
    let client = nats.client(&["--cache", "64MB"]).await;
    let page = "/page?cache-control=max-age=60,stale-if-error=1000&age=100";
    get(&client, page, &[]).await.is("1", "fwd=uri-miss");
    agent.term();
    assert!(agent.ended().await.success());
    eventually_async("its route is gone", || async { client.metric("relay_routes", "").await == 0.0 }).await;
    get(&client, page, &[]).await.is("1", "fwd=stale; fwd-status=404");
    assert_eq!(get(&client, "/other", &[]).await.status, 404);
    // The log has it under the upstream that it came from.
    assert!(client.says("decision=stale").await.contains("upstream=shop"));
}

#[tokio::test]
async fn a_stale_page_does_not_wait_for_an_agent_that_is_not_there() {
    let page = "/page?cache-control=max-age=60,stale-if-error=1000&age=100";
    for killed in [false, true] {
        let waits = ["--wait", "50s"];
        let relay = Relay::to(told().await).client(&["--cache", "64MB"]).broker(&waits).start().await;
        get(&relay.client, page, &[]).await.is("1", "fwd=uri-miss");
        if killed {
            relay.agent.kill9();
        } else {
            relay.agent.term();
            relay.agent.ended().await;
        }
        let stale = get(&relay.client, page, &[]);
        let stale = within(std::time::Duration::from_secs(10), "it does not wait for --wait", stale).await;
        stale.is("1", "fwd=stale; fwd-status=503");
    }
}

#[tokio::test]
async fn a_stale_page_stands_in_for_an_origins_error() {
    let broken = std::sync::Arc::new(std::sync::atomic::AtomicU16::new(200));
    let status = std::sync::Arc::clone(&broken);
    let origin = Origin::start(move |seen| {
        let status = status.load(std::sync::atomic::Ordering::Relaxed);
        async move {
            let mut response = answer(status, status.to_string());
            if status == 200 {
                response = by_query(&seen, 1);
            }
            response
        }
    })
    .await;
    let relay = Relay::to(origin).client(&["--cache", "1MB"]).start().await;
    let page = "/page?cache-control=max-age=60,stale-if-error=1000&age=100";
    let strict = "/page?cache-control=max-age=60,stale-if-error=1000,must-revalidate&age=100&etag=%22a%22";
    get(&relay.client, page, &[]).await.is("1", "fwd=uri-miss");
    get(&relay.client, strict, &[]).await.is("1", "fwd=uri-miss");
    for error in [500, 502, 503, 504] {
        broken.store(error, std::sync::atomic::Ordering::Relaxed);
        get(&relay.client, page, &[]).await.is("1", &format!("fwd=stale; fwd-status={error}"));
        assert_eq!(get(&relay.client, strict, &[]).await.status, error);
    }
    broken.store(404, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(get(&relay.client, page, &[]).await.status, 404, "it is gone, and that is no error");
    broken.store(500, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(get(&relay.client, page, &[]).await.status, 500, "it does not come back");
}

#[tokio::test]
async fn a_stale_page_is_answered_at_once_and_fetched_anew_beside() {
    let (relay, gate) = gated().await;
    gate.send_replace(1);
    let page = "/page?cache-control=max-age=60,stale-while-revalidate=1000&age=100";
    get(&relay.client, page, &[]).await.is("1", "fwd=uri-miss");
    for _ in 0..10 {
        get(&relay.client, page, &[]).await.is("1", "hit; ttl=-");
    }
    eventually("one request asks anew", || relay.origin.open() == 1).await;
    assert_eq!(relay.origin.hits(), 2, "and only one");
    gate.send_replace(usize::MAX);
    eventually_async("what it brought is stored", || async {
        get(&relay.client, page, &[]).await.text() != "1"
    })
    .await;
}
