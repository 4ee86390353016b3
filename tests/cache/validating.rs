//! What the origin is asked of what is stored, and what callers ask of it.

use super::stage::*;
use crate::support::*;

const PAGE: &str = "/page?cache-control=max-age=60&age=100&etag=%22v1%22&x-note=a";

#[tokio::test]
async fn a_stale_response_is_validated_and_not_fetched_again() {
    let relay = relay().await;
    get(&relay.client, PAGE, &[]).await.is("1", "fwd=uri-miss; ttl=-40; stored");
    let again = get(&relay.client, PAGE, &[]).await;
    assert_eq!(again.is("1", "fwd=stale; fwd-status=304; ttl=").status, 200);
    assert_eq!(relay.origin.last().value("if-none-match"), "\"v1\"");
    eventually("the log tells it", || relay.client.lines("decision=revalidated").len() == 1).await;
}

#[tokio::test]
async fn a_304_brings_new_headers_and_new_life() {
    let origin = Origin::start(|seen| async move {
        let known = seen.value("if-none-match") == "\"v1\"";
        let mut response = answer(if known { 304 } else { 200 }, if known { "" } else { "page" });
        let headers = response.headers_mut();
        headers.insert("etag", "\"v1\"".parse().unwrap());
        headers.append("link", "</a>".parse().unwrap());
        headers.append("link", if known { "</new>" } else { "</old>" }.parse().unwrap());
        headers.insert("cache-control", if known { "max-age=60" } else { "max-age=0" }.parse().unwrap());
        response
    })
    .await;
    let relay = Relay::to(origin).client(&["--cache", "1MB"]).start().await;
    get(&relay.client, "/", &[]).await.is("page", "fwd=uri-miss; ttl=0; stored");
    get(&relay.client, "/", &[]).await.is("page", "fwd=stale; fwd-status=304; ttl=60; stored");
    let hit = get(&relay.client, "/", &[]).await;
    hit.is("page", "hit");
    let links: Vec<_> = hit.headers.get_all("link").iter().collect();
    assert_eq!(links, ["</a>", "</new>"]);
    assert_eq!(relay.origin.hits(), 2);
}

#[tokio::test]
async fn what_has_changed_takes_the_place_of_what_was_stored() {
    let relay = relay().await;
    let page = "/page?cache-control=max-age=60&age=100&last-modified=Sun,+06+Nov+1994+08:49:37+GMT";
    get(&relay.client, page, &[]).await.is("1", "fwd=uri-miss");
    get(&relay.client, page, &[]).await.is("2", "fwd=stale; ttl=-40; stored");
    assert_eq!(relay.origin.last().value("if-modified-since"), "Sun, 06 Nov 1994 08:49:37 GMT");
}

#[tokio::test]
async fn a_304_of_another_response_is_not_believed() {
    let origin = Origin::start(|seen| async move {
        let asked = !seen.value("if-none-match").is_empty();
        let mut response = answer(if asked { 304 } else { 200 }, if asked { "" } else { "page" });
        let etag = if asked { "\"other\"" } else { "\"mine\"" };
        response.headers_mut().insert("etag", etag.parse().unwrap());
        response.headers_mut().insert("cache-control", "no-cache".parse().unwrap());
        response
    })
    .await;
    let relay = Relay::to(origin).client(&["--cache", "1MB"]).start().await;
    for hits in [1, 3] {
        get(&relay.client, "/", &[]).await.is("page", "fwd=");
        assert_eq!(relay.origin.hits(), hits);
    }
}

#[tokio::test]
async fn who_has_it_already_gets_304_from_the_store() {
    let relay = relay().await;
    let page = "/page?cache-control=max-age=60&etag=%22v1%22";
    get(&relay.client, page, &[]).await;
    let known = get(&relay.client, page, &[("if-none-match", "W/\"v1\"")]).await;
    assert_eq!(known.is("", "hit").status, 304);
    assert_eq!(known.value("etag"), "\"v1\"");
    get(&relay.client, page, &[("if-none-match", "\"v2\"")]).await.is("1", "hit");
    // Also after it was validated.
    get(&relay.client, PAGE, &[]).await;
    let validated = get(&relay.client, PAGE, &[("if-none-match", "\"v1\"")]).await;
    assert_eq!(validated.is("", "fwd=stale; fwd-status=304").status, 304);
}

#[tokio::test]
async fn callers_say_how_new_it_must_be() {
    let relay = relay().await;
    let page = "/page?cache-control=max-age=60&age=30";
    get(&relay.client, page, &[]).await.is("1", "fwd=uri-miss");
    for (said, body, cache) in [
        ("max-age=90", "1", "hit"),
        ("min-fresh=10", "1", "hit"),
        ("only-if-cached", "1", "hit"),
        ("no-cache", "2", "fwd=request"),
        ("max-age=10", "3", "fwd=request"),
        ("min-fresh=50", "4", "fwd=request"),
        ("max-age=90", "4", "hit"),
    ] {
        get(&relay.client, page, &[("cache-control", said)]).await.is(body, cache);
    }
    get(&relay.client, page, &[("pragma", "no-cache")]).await.is("5", "fwd=request");
    let stale = "/stale?cache-control=max-age=60&age=100";
    // Nothing to validate it with, and no word that it may be used stale, but callers'.
    get(&relay.client, &format!("{stale}&etag=%22a%22"), &[]).await.is("1", "fwd=uri-miss; ttl=-40; stored");
    let stale = &format!("{stale}&etag=%22a%22");
    get(&relay.client, stale, &[("cache-control", "max-stale=1000")]).await.is("1", "hit; ttl=-");
    get(&relay.client, stale, &[("cache-control", "max-stale=10")])
        .await
        .is("1", "fwd=stale; fwd-status=304");
    eventually("the log tells it", || relay.client.lines("decision=stale").len() == 1).await;
}

#[tokio::test]
async fn only_what_is_stored_or_504() {
    let relay = relay().await;
    let only = http().get(relay.url("/page").await).header("cache-control", "only-if-cached").send().await;
    problem(only.unwrap()).await.is(504, "not_cached", "client");
    assert_eq!(relay.origin.hits(), 0);
}
