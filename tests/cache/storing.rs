//! What is answered from the store, and what is not stored.

use http::Method;

use super::stage::*;
use crate::support::*;

#[tokio::test]
async fn a_hit_never_touches_nats() {
    let relay = relay().await;
    let watcher = relay.nats.connect().await;
    let page = "/page?cache-control=max-age=60";
    get(&relay.client, page, &[]).await.is("1", "fwd=uri-miss; ttl=60; stored");
    let mut traffic = watcher.subscribe("relay.>".into()).await.unwrap();
    // Once this has come back, the subscription is in force.
    let mut echo = watcher.subscribe("test.echo".into()).await.unwrap();
    watcher.publish("test.echo".into(), Default::default()).unwrap();
    echo.next().await.unwrap();
    for _ in 0..100 {
        get(&relay.client, page, &[]).await.is("1", "hit; ttl=");
    }
    // What follows the hits, on the same connection of the client agent, is the first that is seen of it.
    get(&relay.client, "/other", &[]).await.is("1", "fwd=uri-miss");
    loop {
        let message =
            within(std::time::Duration::from_secs(30), "traffic is seen", traffic.next()).await.unwrap();
        if message.subject.starts_with("relay.req.") {
            assert!(String::from_utf8_lossy(&message.payload).contains("/other"));
            break;
        }
        assert!(
            message.subject.starts_with("relay.here.") || message.subject.starts_with("relay.who"),
            "{message:?}"
        );
    }
    assert_eq!(relay.origin.hits(), 2);
}

#[tokio::test]
async fn a_hit_needs_no_nats_and_no_backend() {
    let Relay { client, agent, broker, nats, origin } = relay().await;
    get(&client, "/page?cache-control=max-age=60", &[]).await.is("1", "fwd=uri-miss");
    nats.process().kill9();
    drop((agent, broker, origin));
    get(&client, "/page?cache-control=max-age=60", &[]).await.is("1", "hit");
}

#[tokio::test]
async fn what_is_not_everybodys_is_not_stored() {
    let relay = relay().await;
    for said in [
        "no-store",
        "private, max-age=60",
        "max-age=60&set-cookie=session=1",
        "max-age=60&vary=*",
        "max-age=60&vary=x-forwarded-for",
        "max-age=0",
        "max-age=60&cdn-cache-control=no-store",
    ] {
        let page = format!("/page?cache-control={said}");
        get(&relay.client, &page, &[]).await.is("1", "fwd=uri-miss");
        let again = get(&relay.client, &page, &[]).await;
        assert!(!again.is("2", "fwd=uri-miss").cache.contains("stored"), "{said}");
    }
    let page = "/mine?cache-control=max-age=60";
    for number in ["1", "2"] {
        get(&relay.client, page, &[("authorization", "Basic x")]).await.is(number, "fwd=uri-miss");
    }
    get(&relay.client, page, &[("cache-control", "no-store")]).await.is("3", "fwd=uri-miss");
    get(&relay.client, page, &[]).await.is("4", "fwd=uri-miss; ttl=60; stored");
}

#[tokio::test]
async fn what_is_said_to_be_everybodys_is_stored() {
    let relay = relay().await;
    for said in [
        "public, max-age=60&set-cookie=theme=1",
        "s-maxage=60",
        "private&cdn-cache-control=max-age=60",
        "max-age=60&status=404",
        "max-age=60&status=302&location=/x",
        "max-age=60&set-cookie=a=1&cdn-cache-control=max-age=60",
    ] {
        let page = format!("/page?cache-control={said}");
        get(&relay.client, &page, &[("authorization", "")]).await;
        let first = get(&relay.client, &page, &[]).await;
        let again = get(&relay.client, &page, &[]).await;
        assert!(again.cache.starts_with("relay; hit"), "{said}: {first:?} {again:?}");
        assert_eq!((again.status, again.text()), (first.status, first.text()));
        assert_eq!(again.value("set-cookie"), first.value("set-cookie"));
        assert_eq!(again.value("cdn-cache-control"), first.value("cdn-cache-control"), "it is passed on");
    }
}

#[tokio::test]
async fn each_host_has_its_own() {
    let relay = relay().await;
    let page = "/page?cache-control=max-age=60";
    get(&relay.client, page, &[("host", "a.example")]).await.is("1", "fwd=uri-miss");
    get(&relay.client, page, &[("host", "b.example")]).await.is("2", "fwd=uri-miss");
    get(&relay.client, page, &[("host", "A.example:80")]).await.is("1", "hit");
    get(&relay.client, page, &[("host", "a.example:8080")]).await.is("3", "fwd=uri-miss");
}

#[tokio::test]
async fn each_variant_has_its_own() {
    let relay = relay().await;
    let page = "/page?cache-control=max-age=60&vary=accept-language";
    get(&relay.client, page, &[("accept-language", "de")]).await.is("1", "fwd=uri-miss");
    get(&relay.client, page, &[("accept-language", "en")]).await.is("2", "fwd=vary-miss");
    get(&relay.client, page, &[("accept-language", "de")]).await.is("1", "hit");
    get(&relay.client, page, &[("accept-language", "en")]).await.is("2", "hit");
}

#[tokio::test]
async fn a_response_tells_its_age_and_keeps_its_date() {
    let relay = relay().await;
    let page =
        "/page?cache-control=max-age=60&age=20&date=Sun,+06+Nov+2094+08:49:37+GMT&cache-status=other;+hit";
    get(&relay.client, page, &[]).await.is("1", "other; hit | relay; fwd=uri-miss; ttl=40; stored");
    let hit = get(&relay.client, page, &[]).await;
    assert_eq!((hit.value("age"), hit.value("date")), ("20".into(), "Sun, 06 Nov 2094 08:49:37 GMT".into()));
    assert!(hit.cache.starts_with("other; hit | relay; hit; ttl="), "{hit:?}");
}

#[tokio::test]
async fn head_is_answered_with_what_get_stored() {
    let relay = relay().await;
    let page = "/page?cache-control=max-age=60&bytes=1000";
    let head = || ask(&relay.client, Method::HEAD, page, &[]);
    assert_eq!(head().await.cache, "relay; fwd=uri-miss", "and is itself not stored");
    get(&relay.client, page, &[]).await;
    let answer = head().await;
    answer.is("", "hit");
    assert_eq!(answer.value("content-length"), "1000");
    assert_eq!(relay.origin.hits(), 2);
}

#[tokio::test]
async fn what_a_request_changes_is_forgotten() {
    let relay = relay().await;
    let (page, other) = ("/page?cache-control=max-age=60", "/other?cache-control=max-age=60");
    let fill = async || {
        get(&relay.client, page, &[]).await;
        get(&relay.client, other, &[]).await;
    };
    fill().await;
    let post = |path: &'static str| ask(&relay.client, Method::POST, path, &[]);
    post("/page?cache-control=max-age=60&status=500").await.is("1", "fwd=method");
    assert!(get(&relay.client, page, &[]).await.cache.contains("hit"));
    post(page).await.is("2", "fwd=method");
    get(&relay.client, page, &[]).await.is("3", "fwd=uri-miss");
    assert!(get(&relay.client, other, &[]).await.cache.contains("hit"));
    assert_eq!(post("/z?surrogate-key=a").await.value("surrogate-key"), "", "tags go no further");
    // What it names on the same host, too.
    post("/x?location=/other?cache-control=max-age=60").await;
    get(&relay.client, other, &[]).await.is("2", "fwd=uri-miss");
    post("/y?content-location=http://elsewhere.example/other?cache-control=max-age=60").await;
    assert!(get(&relay.client, other, &[]).await.cache.contains("hit"), "another host's is not ours to name");
    // One that changes nothing.
    ask(&relay.client, Method::OPTIONS, other, &[]).await.is("3", "fwd=method");
    assert!(get(&relay.client, other, &[]).await.cache.contains("hit"));
}

#[tokio::test]
async fn without_the_flag_there_is_no_cache() {
    let relay = Relay::to(told().await).start().await;
    for number in ["1", "2"] {
        let answer = get(&relay.client, "/page?cache-control=max-age=60&surrogate-key=a", &[]).await;
        assert_eq!((answer.text().as_str(), answer.cache.as_str()), (number, ""));
        assert_eq!(answer.value("surrogate-key"), "a");
    }
}

#[tokio::test]
async fn the_log_and_the_metrics_tell_hits_from_misses() {
    let relay = relay().await;
    let page = "/page?cache-control=max-age=60";
    for _ in 0..3 {
        get(&relay.client, page, &[]).await;
    }
    eventually("the log tells the hits", || relay.client.lines("decision=hit").len() == 2).await;
    assert_eq!(relay.client.lines("decision=response").len(), 1);
    for (metric, labels, value) in [
        ("relay_cache_requests_total", "result=\"hit\"", 2.0),
        ("relay_cache_requests_total", "result=\"miss\"", 1.0),
        ("relay_cache_requests_total", "result=\"bypass\"", 0.0),
        ("relay_cache_entries", "", 1.0),
        ("relay_cache_evictions_total", "", 0.0),
    ] {
        assert_eq!(relay.client.metric(metric, labels).await, value, "{metric} {labels}");
    }
    assert!(relay.client.metric("relay_cache_bytes", "").await > 100.0);
}

#[tokio::test]
async fn what_a_proxy_says_of_its_callers_poisons_nothing() {
    let relay =
        Relay::to(told().await).client(&["--cache", "1MB", "--trusted-proxy", "127.0.0.1"]).start().await;
    let page = "/page?cache-control=max-age=60";
    for (name, value) in [
        ("x-forwarded-host", "evil.example"),
        ("forwarded", "for=1.2.3.4;host=evil.example"),
        ("forwarded", "for=1.2.3.4;Proto=\"https\""),
    ] {
        let answer = get(&relay.client, page, &[("host", "a.example"), (name, value)]).await;
        assert_eq!(answer.cache, "relay; fwd=bypass", "{name}: {value}");
    }
    let host = ("host", "a.example");
    get(&relay.client, page, &[host]).await.is("4", "fwd=uri-miss");
    get(&relay.client, page, &[host, ("x-forwarded-host", "a.example")]).await.is("4", "hit");
    get(&relay.client, page, &[host, ("x-forwarded-proto", "https")]).await.is("5", "fwd=uri-miss");
}
