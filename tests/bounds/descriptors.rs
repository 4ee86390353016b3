//! The limit of open files: a process at it is there for its operator and for NATS, and says that it is its own limit.

use futures_util::future::join_all;
use tokio::sync::watch;

use super::crowd::start;
use crate::support::*;

#[tokio::test]
async fn a_client_agent_with_all_the_connections_it_may_have_answers_its_operator_and_finds_nats_again() {
    let nats = Nats::start().await;
    let origin = Origin::echo().await;
    let client = start(&nats, 96, "client", &["--upstream", "hello"]).await;
    let agent = nats.upstream("hello", &origin.url(), &[]).await;
    let mut callers = Vec::new();
    for _ in 0..120 {
        callers.push(client.raw().await);
    }
    client.says("the limit of open files is reached").await;
    assert_eq!(client.page("/readyz").await.0, 200);
    assert_eq!(client.metric("relay_connections", "").await, 48.0, "half of 96 is kept");
    let nats = nats.restart().await;
    client.says("connected to NATS again").await;
    agent.says("connected to NATS again").await;
    assert_eq!(callers[0].ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.status, 200);
    drop(callers);
    assert_eq!(client.get("/").await.status(), 200);
    drop(nats);
}

#[tokio::test]
async fn connections_to_the_admin_listener_leave_room_for_others() {
    let nats = Nats::start().await;
    let client = start(&nats, 96, "client", &["--upstream", "hello"]).await;
    let mut idle = Vec::new();
    for _ in 0..200 {
        idle.push(Raw::connect(client.admin().await).await);
    }
    let _nats = nats.restart().await;
    client.says("connected to NATS again").await;
    idle.truncate(1);
    assert_eq!(client.page("/readyz").await.0, 200);
}

#[tokio::test]
async fn an_upstream_agent_without_a_descriptor_left_says_so_and_does_not_blame_its_origin() {
    let nats = Nats::start().await;
    let gate = watch::Sender::new(false);
    let opens = gate.subscribe();
    let origin = Origin::start(move |seen| {
        let mut opens = opens.clone();
        async move {
            if seen.target != "/health" {
                opens.wait_for(|open| *open).await.ok();
            }
            answer(200, "ok")
        }
    })
    .await;
    let to = origin.url();
    let flags = ["--name", "hello", "--to", &to, "--eject-after", "2", "--log", "debug"];
    let health = ["--health", "/health", "--health-interval", "100ms", "--health-fall", "1"];
    let agent = start(&nats, 60, "upstream", &[&flags[..], &health].concat()).await;
    let client = nats.client(&["--upstream", "hello"]).await;
    let (http, url) = (http(), client.url("/").await);
    let asking: Vec<_> = (0..60).map(|_| tokio::spawn(http.get(&url).send())).collect();
    agent.says("the origin can't be checked: no file descriptor is left").await;
    client.counts("relay_faults_total", "out_of_descriptors", 30.0).await;
    assert_eq!(agent.page("/readyz").await.0, 200);
    gate.send_replace(true);
    let mut answered = 0;
    for response in join_all(asking).await {
        let response = response.unwrap().unwrap();
        match response.status().as_u16() {
            200 => answered += 1,
            _ => drop(problem(response).await.is(503, "out_of_descriptors", "upstream")),
        }
    }
    assert!((1..=30).contains(&answered), "half of 60 is kept: {answered}");
    assert_eq!(agent.metric("relay_ejections_total", "").await, 0.0);
    assert_eq!(agent.metric("relay_health_checks_failed_total", "").await, 0.0);
    assert_eq!(agent.metric("relay_origin_healthy", "").await, 1.0);
    assert_eq!(client.get("/").await.status(), 200);
}
