//! Variants of an upstream that NATS maps a share of the requests to.

use crate::support::{configured::Server, load::counted, *};

#[tokio::test]
async fn a_canary_gets_the_share_that_nats_maps_to_it() {
    let server = Server::of("canary.conf", &[]).await;
    let (usual, canary) = (Origin::echo().await, Origin::echo().await);
    let (to_usual, to_canary) = (usual.url(), canary.url());
    let url = server.url();
    let start = |role: &str, flags: &[&str]| Role::spawn(&url, role, flags, &[]).ready();
    let (client, _broker, _agent, agent) = tokio::join!(
        start("client", &["--upstream", "shop"]),
        start("broker", &[]),
        start("upstream", &["--name", "shop", "--to", &to_usual]),
        start("upstream", &["--name", "shop", "--to", &to_canary, "--variant", "canary"]),
    );
    let load = Load::start(&client, 8).await;
    load.goes_on(2000).await;
    let (asked, failed) = load.end().await;
    assert!(failed.is_empty(), "of {asked}: {:?}", counted(&failed));
    assert_eq!(usual.hits() + canary.hits(), asked);
    // A tenth: of 2,000 that is 200, give or take 13.
    let share = canary.hits() as f64 / asked as f64;
    assert!((0.06..0.14).contains(&share), "{share}");

    // Bodies that are streamed find their way as ever.
    let body = vec![b'x'; 1_000_000];
    for _ in 0..20 {
        assert!(client.post("/", body.clone()).await.bytes().await.unwrap() == body);
    }
    let ps = crate::support::process::run(process::relay(&["ps", "--server", &url])).await;
    assert!(ps.out.contains("shop (canary)"), "{}", ps.out);
    drop(agent);
}
