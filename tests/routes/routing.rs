//! Which upstream gets a request.

use super::*;

#[tokio::test]
async fn a_request_goes_by_its_host_and_the_longest_path() {
    let nats = Nats::start().await;
    let (site, shop, sub, api) = (
        Origin::saying("site").await,
        Origin::saying("shop").await,
        Origin::saying("sub").await,
        Origin::saying("api").await,
    );
    let _agents = tokio::join!(
        agent(&nats, "site", &site, &["example.com", "www.example.com"]),
        agent(&nats, "shop", &shop, &["example.com/shop"]),
        agent(&nats, "sub", &sub, &["*.example.com"]),
        agent(&nats, "api", &api, &["/api"]),
    );
    let client = nats.client(&[]).await;
    for (host, path, upstream) in [
        ("example.com", "/", "site"),
        ("www.example.com", "/x?y=/shop", "site"),
        ("EXAMPLE.com:8080", "/shop/cart", "shop"),
        ("example.com", "/shop", "shop"),
        ("example.com", "/shop?q=1", "shop"),
        ("example.com", "/shopping", "site"),
        ("a.b.example.com", "/", "sub"),
        ("other.org", "/api/x", "api"),
    ] {
        assert_eq!(get(&client, host, path).await, (200, upstream.to_owned()), "{host}{path}");
    }
    let mut raw = client.raw().await;
    let answer = raw.ask("GET http://shop.example.com/x HTTP/1.1\r\nHost: other.org\r\n\r\n").await;
    assert_eq!(answer.text(), "sub", "the host of an absolute target counts");
}

#[tokio::test]
async fn what_no_route_fits_is_a_404_that_says_so() {
    let nats = Nats::start().await;
    let origin = Origin::echo().await;
    let _agent = agent(&nats, "shop", &origin, &["shop.example.com/cart"]).await;
    let client = nats.client(&[]).await;
    let mut raw = client.raw().await;
    for (host, path) in
        [("example.com", "/"), ("shop.example.com", "/"), ("shop.example.com", "/carts?secret=1")]
    {
        let answer = raw.ask(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        assert_eq!(answer.status, 404);
        let problem = answer.problem();
        problem.is(404, "no_route", "client").names(host);
        assert!(!answer.text().contains("secret"), "{}", answer.text());
    }
    assert_eq!(origin.hits(), 0);
    client.counts("relay_faults_total", "no_route", 3.0).await;
}

#[tokio::test]
async fn a_stripped_prefix_is_told_to_the_origin() {
    let nats = Nats::start().await;
    let origin = Origin::echo().await;
    let flags = ["--route", "example.com/shop/v1", "--strip-prefix", "on"];
    let _agent = nats.upstream("shop", &origin.url(), &flags).await;
    let client = nats.client(&[]).await;
    for (path, arrives) in [("/shop/v1/cart?a=/b", "/cart?a=/b"), ("/shop/v1", "/"), ("/shop/v1/?x", "/?x")] {
        assert_eq!(get(&client, "example.com", path).await.0, 200);
        let seen = origin.last();
        assert_eq!(
            (seen.target.as_str(), seen.values("x-forwarded-prefix")),
            (arrives, vec!["/shop/v1".to_owned()])
        );
    }
}

#[tokio::test]
async fn a_prefix_that_a_stranger_claims_was_stripped_is_not_believed() {
    let nats = Nats::start().await;
    let origin = Origin::echo().await;
    let _agent = agent(&nats, "shop", &origin, &["/"]).await;
    let client = nats.client(&[]).await;
    let answer =
        client.raw().await.ask("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Prefix: /evil\r\n\r\n").await;
    assert_eq!(answer.status, 200);
    assert!(origin.last().values("x-forwarded-prefix").is_empty());
}

#[tokio::test]
async fn a_caller_may_name_the_upstream_only_where_that_is_allowed() {
    let nats = Nats::start().await;
    let (shop, admin) = (Origin::saying("shop").await, Origin::saying("admin").await);
    let (_shop, _admin) =
        tokio::join!(agent(&nats, "shop", &shop, &["shop.example.com"]), agent(&nats, "admin", &admin, &[]),);
    let (strict, open) =
        tokio::join!(nats.client(&[]), nats.client(&["--allow-upstream-header", "--ttl", "2s"]));
    let named = |name: &str| {
        format!(
            "GET / HTTP/1.1\r\nHost: shop.example.com\r\nX-Relay-Upstream: {name}\r\nConnection: close\r\n\r\n"
        )
    };
    assert_eq!(strict.raw().await.ask(named("admin")).await.text(), "shop");
    assert_eq!(open.raw().await.ask(named("admin")).await.text(), "admin");
    assert!(admin.last().values("x-relay-upstream").is_empty(), "it is not the origin's business");
    open.raw().await.ask(named("a.b>*")).await.problem().is(400, "bad_request", "client");
    open.raw().await.ask(named("nobody")).await.problem().is(503, "no_agent", "client");
    let metrics = open.metrics().await;
    assert!(!metrics.contains("nobody"), "callers must not invent labels");
}

#[tokio::test]
async fn a_client_agent_for_some_upstreams_knows_their_routes_only() {
    let nats = Nats::start().await;
    let (shop, blog) = (Origin::saying("shop").await, Origin::saying("blog").await);
    let _agents = tokio::join!(
        agent(&nats, "shop", &shop, &["shop.example.com"]),
        agent(&nats, "blog", &blog, &["blog.example.com"]),
    );
    let client = nats.client(&["--only", "shop"]).await;
    assert_eq!(get(&client, "shop.example.com", "/").await.0, 200);
    assert_eq!(get(&client, "blog.example.com", "/").await.0, 404);
}

#[tokio::test]
async fn a_client_agent_that_starts_later_knows_every_route_before_it_is_ready() {
    let nats = Nats::start().await;
    let origin = Origin::saying("here").await;
    let hosts: Vec<String> = (0..200).map(|i| format!("h{i}.example.com")).collect();
    let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
    let _agents = tokio::join!(
        agent(&nats, "one", &origin, &hosts[..100]),
        agent(&nats, "two", &origin, &hosts[100..]),
    );
    let client = nats.client(&[]).await;
    assert_eq!(client.metric("relay_routes", "").await, 200.0);
    for host in hosts {
        assert_eq!(get(&client, host, "/").await.0, 200, "{host}");
    }
}
