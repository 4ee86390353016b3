//! What the origin does not see, or sees otherwise, changes nothing that is stored for others.

use super::stage::*;
use crate::support::*;

#[tokio::test]
async fn what_connection_names_is_taken_out_before_the_cache_looks() {
    let relay = relay().await;
    let page = "/page?cache-control=max-age=60&vary=origin";
    // The origin sees no Origin: its answer is the one for callers that send none.
    let named = [("origin", "https://a.example"), ("connection", "origin")];
    get(&relay.client, page, &named).await.is("1", "fwd=uri-miss; ttl=60; stored");
    assert_eq!(relay.origin.last().value("origin"), "");
    get(&relay.client, page, &[]).await.is("1", "hit");
    get(&relay.client, page, &named).await.is("1", "hit");
    get(&relay.client, page, &[("origin", "https://a.example")]).await.is("2", "fwd=vary-miss");
}

#[tokio::test]
async fn what_a_stranger_may_not_say_is_taken_out_before_the_cache_looks() {
    let relay = relay().await;
    for (at, name) in
        ["x-forwarded-prefix", "x-original-url", "x_custom", "cf-visitor", "x-relay-x"].iter().enumerate()
    {
        let page = format!("/page?cache-control=max-age=60&vary={name}&n={at}");
        get(&relay.client, &page, &[(name, "forged")]).await.is("1", "fwd=uri-miss; ttl=60; stored");
        get(&relay.client, &page, &[]).await.is("1", "hit");
        get(&relay.client, &page, &[(name, "another")]).await.is("1", "hit");
    }
}

#[tokio::test]
async fn a_credential_that_connection_names_is_none_and_a_range_is_none() {
    let relay = relay().await;
    let page = "/page?cache-control=max-age=60&bytes=100";
    let named =
        [("authorization", "Basic x"), ("range", "bytes=0-9"), ("connection", "authorization, range")];
    let first = get(&relay.client, page, &named).await;
    assert_eq!((first.status, first.body.len()), (200, 100));
    assert_eq!(relay.origin.only().value("authorization"), "");
    let second = get(&relay.client, page, &named).await;
    assert_eq!((second.status, second.body.len()), (200, 100), "{second:?}");
    assert!(second.cache.contains("hit"), "{second:?}");
}

#[tokio::test]
async fn what_makes_an_origin_see_another_request_bypasses_the_cache() {
    let relay = relay().await;
    let page = "/page?cache-control=max-age=60";
    for (name, value) in
        [("x-http-method-override", "HEAD"), ("x-http-method", "DELETE"), ("x-method-override", "POST")]
    {
        let got = get(&relay.client, page, &[(name, value)]).await;
        assert!(got.cache.contains("fwd=bypass"), "{name}: {got:?}");
    }
    assert_eq!(relay.origin.hits(), 3);
    get(&relay.client, page, &[]).await.is("4", "fwd=uri-miss; ttl=60; stored");
}

#[tokio::test]
async fn a_host_in_another_spelling_is_asked_for_in_the_usual_one() {
    let relay = relay().await;
    let page = "/page?cache-control=max-age=60";
    get(&relay.client, page, &[("host", "EXAMPLE.com:80")]).await.is("1", "fwd=uri-miss; ttl=60; stored");
    let seen = relay.origin.only();
    assert_eq!(
        (seen.value("host"), seen.value("x-forwarded-host")),
        ("example.com".into(), "example.com".into())
    );
    get(&relay.client, page, &[("host", "example.com")]).await.is("1", "hit");
}

#[tokio::test]
async fn what_a_trusted_proxy_says_of_another_request_bypasses_the_cache() {
    let flags = ["--cache", "64MB", "--trusted-proxy", "127.0.0.1"];
    let relay = Relay::to(told().await).client(&flags).start().await;
    let page = "/page?cache-control=max-age=60";
    let is_bypassed = async |headers: &[(&str, &str)]| {
        let headers = [&[("host", "a.example")], headers].concat();
        get(&relay.client, page, &headers).await.cache.contains("fwd=bypass")
    };
    for other in [
        ("x-forwarded-host", "b.example"),
        ("x-original-host", "b.example"),
        ("x-forwarded-proto", "https, http"),
        ("x-forwarded-scheme", "https"),
        ("x-forwarded-ssl", "on"),
        ("front-end-https", "on"),
        ("x-forwarded-port", "8443"),
        ("x-forwarded-prefix", "/b"),
        ("x-original-url", "/admin"),
        ("x-rewrite-url", "/admin"),
        ("forwarded", "host=b.example"),
    ] {
        assert!(is_bypassed(&[other]).await, "{other:?}");
    }
    for same in [
        ("x-forwarded-host", "a.example"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-port", "80"),
        ("x-forwarded-ssl", "off"),
        ("x-forwarded-for", "192.0.2.7"),
        ("x-real-ip", "192.0.2.7"),
    ] {
        assert!(!is_bypassed(&[same]).await, "{same:?}");
    }
}
