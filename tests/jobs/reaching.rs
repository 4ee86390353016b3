//! What the URLs of a job reach: where its caller could go, and nowhere else; and what the servers there hear of that
//! caller.

use reqwest::RequestBuilder;

use crate::{
    stage::{JETSTREAM, Stage, location, says, value},
    support::{Nats, Origin, Role, Seen, answer, eventually_async, http, problem},
};

/// A client agent that routes, the upstream `shop` at `example.com/shop`, and `internal` at no route.
struct Site {
    client: Role,
    shop: Origin,
    internal: Origin,
    nats: Nats,
    _others: (Role, Role, Role),
}

impl Site {
    async fn start(client: &[&str]) -> Site {
        Site::with(says("shop").await, client).await
    }

    async fn with(shop: Origin, client: &[&str]) -> Site {
        let nats = Nats::with(JETSTREAM).await;
        let internal = says("internal").await;
        let (shop_url, internal_url) = (shop.url(), internal.url());
        let flags = [&["--jobs", "on"], client].concat();
        let (broker, first, second, client) = tokio::join!(
            nats.broker(&["--job-backoff", "50ms", "--job-attempts", "2", "--wait", "300ms"]),
            nats.upstream("shop", &shop_url, &["--route", "example.com/shop"]),
            nats.upstream("internal", &internal_url, &[]),
            nats.client(&flags),
        );
        let site = Site { client, shop, internal, nats, _others: (broker, first, second) };
        eventually_async("the route is known", || async {
            let asked = http().get(site.client.url("/shop/known").await).header("host", "example.com");
            asked.send().await.unwrap().status() == 200
        })
        .await;
        site
    }

    /// Requests that the shop has had, beside the one that [`Site::with`] sent.
    fn shop_hits(&self) -> usize {
        self.shop.seen().iter().filter(|seen| seen.target != "/shop/known").count()
    }

    /// A request to the shop that starts a chain.
    async fn chain(&self, to: &str, errors_to: &str) -> RequestBuilder {
        http()
            .post(self.client.url("/shop/first").await)
            .header("host", "example.com")
            .header("x-forward-id", uuid::Uuid::new_v4().to_string())
            .header("x-forward-errors-to", errors_to)
            .header("x-forward-referer", "ORIGIN")
            .header("x-forward-to", to)
            .header("x-forward-query-params", "")
            .header("x-forward-method", "POST")
    }
}

#[tokio::test]
async fn what_no_route_leads_to_is_refused_before_anything_is_sent() {
    let site = Site::start(&[]).await;
    for (to, status, code) in [
        ("http://internal/", 404, "no_route"),
        ("http://internal/x", 404, "no_route"),
        ("http://internal:8080/x", 404, "no_route"),
        ("https://internal", 404, "no_route"),
        ("http://shop/shop/x", 404, "no_route"),
        ("http://egress/x", 404, "no_route"),
        ("http://127.0.0.1/x", 404, "no_route"),
        ("http://example.com/admin", 404, "no_route"),
        ("http://example.com/shopping", 404, "no_route"),
        ("http://sub.example.com/shop", 404, "no_route"),
        ("http://example.com/shop/../admin", 400, "bad_target"),
        ("http://example.com/shop/%2e%2e/admin", 400, "bad_target"),
        ("http://example.com/shop/..%2fadmin", 400, "bad_target"),
        ("http://example.com/shop/..;/admin", 400, "bad_target"),
    ] {
        let refused = site.chain(to, "http://example.com/shop/errors").await.send().await.unwrap();
        problem(refused).await.is(status, code, "client");
        let refused = site.chain("http://example.com/shop/next", to).await.send().await.unwrap();
        problem(refused).await.is(status, code, "client");
        let later = http().post(site.client.url("/shop/later").await).header("host", "example.com");
        let later = later.header("prefer", "respond-async").header("x-relay-callback", to);
        problem(later.send().await.unwrap()).await.is(status, code, "client");
    }
    assert_eq!((site.shop_hits(), site.internal.hits()), (0, 0));
}

#[tokio::test]
async fn a_chain_goes_where_routes_lead() {
    let site = Site::start(&[]).await;
    for (to, target) in [
        ("http://example.com/shop/next", "/shop/next"),
        ("http://EXAMPLE.com:8080/shop", "/shop"),
        ("http://example.com", "/shop/first"),
    ] {
        let chain = site.chain(to, "http://example.com/shop/errors").await.header("prefer", "wait=30");
        let answered = chain.body("x").send().await.unwrap();
        assert_eq!(answered.text().await.unwrap(), "shop(shop(x))", "{to}");
        assert_eq!(site.shop.last().target, target);
    }
    let later = http().post(site.client.url("/shop/later").await).header("host", "example.com");
    let later = later.header("prefer", "respond-async, wait=30");
    let later = later.header("x-relay-callback", "http://example.com/shop/told");
    assert_eq!(value(&later.send().await.unwrap(), "x-relay-job"), "done");
    assert_eq!(site.shop.last().target, "/shop/told");
}

#[tokio::test]
async fn a_path_that_a_server_names_is_held_to_routes_as_well() {
    for iri in ["/admin", "http://example.com/admin", "/shop/..%2fadmin", "/shop/%2e%2e%2fadmin"] {
        let shop = Origin::start(move |seen: Seen| async move {
            let mut response = answer(200, "x");
            if seen.target == "/shop/first" {
                response.headers_mut().insert("x-canonical-iri", iri.parse().unwrap());
            }
            response
        });
        let site = Site::with(shop.await, &[]).await;
        let accepted = site.chain("http://example.com", "http://example.com/shop/errors").await;
        let accepted = accepted.send().await.unwrap();
        let page = site.client.url(&location(&accepted)).await;
        eventually_async("the chain has failed", || async {
            value(&http().get(&page).send().await.unwrap(), "x-relay-job") == "failed"
        })
        .await;
        let targets: Vec<_> = site.shop.seen().into_iter().map(|seen| seen.target).skip(1).collect();
        assert!(
            targets.iter().all(|target| ["/shop/first", "/shop/errors"].contains(&target.as_str())),
            "{iri}: {targets:?}"
        );
    }
}

#[tokio::test]
async fn names_and_outside_hosts_are_reached_where_forward_to_says_so() {
    for (flags, outside_too) in
        [(&["--forward-to", "internal,shop"][..], false), (&["--forward-to", "any"], true)]
    {
        let site = Site::start(flags).await;
        let outside = says("outside").await;
        let egress = ["--name", "egress", "--egress", "--allow", &outside.url()];
        let _agent = site.nats.spawn("upstream", &egress).ready().await;
        let errors = "http://example.com/shop/errors";
        let chain = site.chain("http://internal/x", errors).await.header("prefer", "wait=30");
        assert_eq!(chain.body("x").send().await.unwrap().text().await.unwrap(), "internal(shop(x))");
        let chain = site.chain(&format!("{}/x", outside.url()), errors).await.header("prefer", "wait=30");
        let answered = chain.body("x").send().await.unwrap();
        assert_eq!(value(&answered, "x-relay-job"), if outside_too { "done" } else { "failed" });
        assert_eq!(outside.hits(), usize::from(outside_too));
    }
}

#[tokio::test]
async fn a_client_agent_of_one_upstream_lets_jobs_go_there_at_any_path_and_nowhere_else() {
    let site = Site::start(&[]).await;
    let client = site.nats.client(&["--upstream", "internal", "--jobs", "on"]).await;
    let to = async |callback: &str| {
        let later = http().get(client.url("/").await).header("prefer", "respond-async, wait=30");
        let answered = later.header("x-relay-callback", callback).send().await.unwrap();
        assert_eq!(answered.status(), 200);
    };
    to("http://internal/any/path").await;
    assert_eq!(site.internal.last().target, "/any/path");
    for callback in ["http://example.com/shop/x", "http://shop/shop/x", "http://127.0.0.1/x"] {
        to(callback).await;
    }
    assert_eq!(site.shop_hits(), 0);
}

#[tokio::test]
async fn every_server_of_a_job_hears_whose_it_is() {
    let mut at = Stage::start().await;
    let (two, bad, errors) =
        (says("two").await, Origin::start(|_| async { answer(500, "") }).await, says("e").await);
    at.serve("two", &two).await;
    at.serve("bad", &bad).await;
    at.serve("errors", &errors).await;
    let entrance = at.client.address().await.to_string();
    let is_introduced = |seen: &Seen| {
        assert_eq!(seen.value("x-forwarded-for"), "127.0.0.1", "{seen:?}");
        assert_eq!(seen.value("x-forwarded-proto"), "http");
        assert_eq!(seen.value("x-forwarded-host"), entrance);
        assert_eq!(seen.value("forwarded"), format!("for=127.0.0.1;proto=http;host=\"{entrance}\""));
        assert!(seen.value("via").contains("relay"), "{seen:?}");
    };
    let lied = at.chain("/", "http://two/x, http://bad/y", ",", "POST,POST").await;
    let lied = lied.header("x-forwarded-for", "10.0.0.1").header("forwarded", "for=10.0.0.1");
    at.over(&lied.send().await.unwrap()).await;
    for origin in [&at.one, &two, &bad, &errors] {
        is_introduced(&origin.last());
    }
    let later = at.later("/later").await.header("x-relay-callback", "http://two/told");
    at.over(&later.send().await.unwrap()).await;
    assert_eq!(two.last().target, "/told");
    is_introduced(&at.one.last());
    is_introduced(&two.last());
}

#[tokio::test]
async fn a_hop_by_a_route_that_strips_hears_what_was_stripped() {
    let site = Site::start(&[]).await;
    let stripped = says("stripped").await;
    let flags = ["--route", "other.example/deep", "--strip-prefix"];
    let _agent = site.nats.upstream("stripped", &stripped.url(), &flags).await;
    eventually_async("the route is known", || async {
        let asked = http().get(site.client.url("/deep/x").await).header("host", "other.example");
        asked.send().await.unwrap().status() == 200
    })
    .await;
    let chain = site.chain("http://other.example/deep/y", "http://example.com/shop/errors").await;
    let answered = chain.header("prefer", "wait=30").send().await.unwrap();
    assert_eq!(value(&answered, "x-relay-job"), "done");
    let seen = stripped.last();
    assert_eq!((seen.target.as_str(), seen.value("x-forwarded-prefix")), ("/y", "/deep".into()));
    assert_eq!(seen.value("x-forwarded-for"), "127.0.0.1");
}
