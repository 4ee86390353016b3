//! The path of a route is a border: no spelling of a dot segment leads out of it.

use super::*;

#[tokio::test]
async fn a_dot_segment_in_any_spelling_is_refused_where_the_route_has_a_path() {
    let nats = Nats::start().await;
    let (shop, site) = (Origin::echo().await, Origin::echo().await);
    let _agents = tokio::join!(
        agent(&nats, "shop", &shop, &["example.com/shop"]),
        agent(&nats, "site", &site, &["other.example"]),
    );
    let client = nats.client(&[]).await;
    let mut raw = client.raw().await;
    for target in CLIMBING {
        let answer = raw.ask(format!("GET {target} HTTP/1.1\r\nHost: example.com\r\n\r\n")).await;
        answer.problem().is(400, "bad_target", "client").names("segment");
    }
    assert_eq!(shop.hits(), 0, "the origin saw none of them");
    for target in ["/shop/a/..b?x=/../", "/shop//a", "/shop/.well-known/...", "/shop/a%2eb"] {
        let answer = raw.ask(format!("GET {target} HTTP/1.1\r\nHost: example.com\r\n\r\n")).await;
        assert_eq!((answer.status, shop.last().target.as_str()), (200, target));
    }
    // Where the route has no path, nothing could be left.
    let answer = raw.ask("GET /shop/../x HTTP/1.1\r\nHost: other.example\r\n\r\n").await;
    assert_eq!((answer.status, site.last().target.as_str()), (200, "/shop/../x"));
}

#[tokio::test]
async fn the_agent_refuses_what_a_client_agent_lets_pass() {
    let nats = Nats::start().await;
    let shop = Origin::echo().await;
    let _agent = agent(&nats, "shop", &shop, &["example.com/shop"]).await;
    // It knows of no route: all requests are for the upstream.
    let client = nats.client(&["--upstream", "shop"]).await;
    let mut raw = client.raw().await;
    for target in CLIMBING {
        let answer = raw.ask(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        answer.problem().is(400, "bad_target", "upstream");
    }
    assert_eq!(shop.hits(), 0);
}

#[tokio::test]
async fn a_dot_segment_of_an_http_2_request_is_refused_as_well() {
    let nats = Nats::start().await;
    let shop = Origin::echo().await;
    let _agent = agent(&nats, "shop", &shop, &["/shop"]).await;
    let client = nats.client(&[]).await;
    let http = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    // A URL parser resolves plain dot segments itself.
    for path in ["/shop/..%2fadmin", "/shop/..;/admin", "/shop/%252e%252e/admin"] {
        let answer = http.get(client.url(path).await).send().await.unwrap();
        assert_eq!(answer.version(), reqwest::Version::HTTP_2);
        problem(answer).await.is(400, "bad_target", "client");
    }
    assert_eq!(shop.hits(), 0);
}

/// Some of the ways out of `/shop`.
const CLIMBING: [&str; 20] = [
    "/shop/../admin",
    "/shop/..",
    "/shop/./x",
    "/shop/%2e%2e/admin",
    "/shop/.%2E/admin",
    "/shop/..%2fadmin",
    "/shop/x%2f..%2f..%2fadmin",
    "/shop/..;/admin",
    "/shop/..;x=y/admin",
    "/shop/.;/../admin",
    "/shop/..%3b/admin",
    "/shop/..%5cadmin",
    "/shop/x%5c..%5c..%5cadmin",
    "/shop/%252e%252e/admin",
    "/shop/%25252e./admin",
    "/shop/..%252fadmin",
    "/shop/..%00/admin",
    "/shop/..%23/admin",
    "/shop/%c0%ae%c0%ae/admin",
    "/shop/%u002e./admin",
];
