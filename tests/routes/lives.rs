//! The table follows agents that come, go, die and come back, at every client agent.

use std::time::{Duration, Instant};

use super::*;
use crate::support::configured::Server;

/// Two heartbeats, and what a busy machine may add.
const SOON: Duration = Duration::from_secs(2 * 5 + 3);

#[tokio::test]
async fn an_agent_that_leaves_takes_its_routes_along_at_once() {
    let nats = Nats::start().await;
    let origin = Origin::echo().await;
    let clients = tokio::join!(nats.client(&[]), nats.client(&[]));
    let clients = [&clients.0, &clients.1];
    for _ in 0..2 {
        let agent = agent(&nats, "shop", &origin, &["shop.example.com"]).await;
        becomes(&clients, "shop.example.com", 200).await;
        agent.term();
        assert!(agent.ended().await.success());
        within(Duration::from_secs(3), "it is gone", becomes(&clients, "shop.example.com", 404)).await;
    }
}

#[tokio::test]
async fn an_agent_that_is_killed_is_forgotten_within_two_heartbeats_and_may_come_back() {
    let nats = Nats::start().await;
    let origin = Origin::echo().await;
    let clients = tokio::join!(nats.client(&[]), nats.client(&[]));
    let clients = [&clients.0, &clients.1];
    let killed = agent(&nats, "shop", &origin, &["shop.example.com"]).await;
    becomes(&clients, "shop.example.com", 200).await;
    killed.kill9();
    within(SOON, "it is forgotten", gone(&clients)).await;
    let _back = agent(&nats, "shop", &origin, &["shop.example.com"]).await;
    becomes(&clients, "shop.example.com", 200).await;
}

#[tokio::test]
async fn an_agent_that_freezes_is_forgotten_within_two_heartbeats_and_comes_back_when_it_thaws() {
    let nats = Nats::start().await;
    let origin = Origin::echo().await;
    let clients = tokio::join!(nats.client(&[]), nats.client(&[]));
    let clients = [&clients.0, &clients.1];
    let frozen = agent(&nats, "shop", &origin, &["shop.example.com"]).await;
    becomes(&clients, "shop.example.com", 200).await;
    frozen.stop();
    within(SOON, "it is forgotten", gone(&clients)).await;
    frozen.cont();
    within(SOON, "it is back", becomes(&clients, "shop.example.com", 200)).await;
}

#[tokio::test]
async fn an_agent_whose_network_is_cut_is_forgotten_within_two_heartbeats_and_comes_back() {
    let nats = Nats::start().await;
    let origin = Origin::echo().await;
    let clients = tokio::join!(nats.client(&[]), nats.client(&[]));
    let clients = [&clients.0, &clients.1];
    let way = Distance::to(nats.address(), Duration::ZERO).await;
    let flags = ["--name", "shop", "--to", &origin.url(), "--route", "shop.example.com"];
    let _agent = Role::spawn(&way.url(), "upstream", &flags, &[]).ready().await;
    becomes(&clients, "shop.example.com", 200).await;
    way.cut();
    within(SOON, "it is forgotten", gone(&clients)).await;
    way.mend();
    within(SOON, "it is back", becomes(&clients, "shop.example.com", 200)).await;
}

#[tokio::test]
async fn routes_are_kept_while_nats_restarts() {
    let nats = Nats::start().await;
    let origin = Origin::echo().await;
    let (_agent, client) =
        tokio::join!(agent(&nats, "shop", &origin, &["shop.example.com"]), nats.client(&[]));
    becomes(&[&client], "shop.example.com", 200).await;
    let nats = nats.restart().await;
    becomes(&[&client], "shop.example.com", 200).await;
    // And nobody is forgotten for what could not be heard meanwhile.
    let end = Instant::now() + Duration::from_secs(12);
    while Instant::now() < end {
        assert_ne!(get(&client, "shop.example.com", "/").await.0, 404);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    drop(nats);
}

#[tokio::test]
async fn an_agent_behind_web_ports_registers_over_websocket() {
    let nats = Server::changed("websocket.conf", &[("127.0.0.1:8080", "127.0.0.1:-1")], &[]).await;
    let origin = Origin::saying("far").await;
    let url = format!("ws://127.0.0.1:{}", nats.port("websocket"));
    let flags = ["--name", "far", "--to", &origin.url(), "--route", "far.example.com"];
    let agent = Role::spawn(&url, "upstream", &flags, &[]);
    let client = Role::spawn(&nats.url(), "client", &[], &[]);
    let (_agent, client) = tokio::join!(agent.ready(), client.ready());
    becomes(&[&client], "far.example.com", 200).await;
}

/// Waits until no client agent has the route any more. It is not asked over HTTP: that would wait for an agent.
async fn gone(clients: &[&Role]) {
    for client in clients {
        let none = || async { client.metric("relay_routes", "").await == 0.0 };
        eventually_async("the route is gone", none).await;
        assert_eq!(get(client, "shop.example.com", "/").await.0, 404);
    }
}
