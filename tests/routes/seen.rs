//! What an operator sees of routes.

use super::*;
use crate::support::process::{relay, run};

/// What `relay routes` prints.
pub async fn routes(nats: &Nats, flags: &[&str]) -> String {
    let ended = run(relay(&[&["routes", "--server", &nats.url()], flags].concat())).await;
    assert!(ended.status.success(), "{}", ended.err);
    ended.out
}

#[tokio::test]
async fn relay_routes_shows_whose_each_route_is() {
    let nats = Nats::start().await;
    assert!(routes(&nats, &[]).await.contains("nobody claims a route"));
    let origin = Origin::echo().await;
    let flags = ["--route", "shop.example.com", "--route", "example.com/shop", "--strip-prefix", "on"];
    let to = origin.url();
    let _agents = tokio::join!(nats.upstream("shop", &to, &flags), nats.upstream("shop", &to, &flags));
    let text = routes(&nats, &[]).await;
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["ROUTE", "UPSTREAM", "AGENTS", "STRIP"]);
    assert_eq!(lines[1], ["example.com/shop", "shop", "2", "yes"]);
    assert_eq!(lines[2], ["shop.example.com", "shop", "2", "yes"]);
    let json: serde_json::Value = serde_json::from_str(&routes(&nats, &["--json"]).await).unwrap();
    assert_eq!(json[0]["route"], "example.com/shop");
    assert_eq!(json[0]["standing"], "served");
    assert_eq!(json[0]["agents"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_client_agent_shows_its_own_table() {
    let nats = Nats::start().await;
    let origin = Origin::echo().await;
    let (_agent, client) =
        tokio::join!(agent(&nats, "shop", &origin, &["shop.example.com"]), nats.client(&[]));
    becomes(&[&client], "shop.example.com", 200).await;
    let (status, page) = client.page("/routes").await;
    let table: serde_json::Value = serde_json::from_str(&page).unwrap();
    assert_eq!(
        (status, &table[0]["route"], &table[0]["upstream"]),
        (200, &"shop.example.com".into(), &"shop".into())
    );
}

#[tokio::test]
async fn prometheus_finds_every_process_through_any_of_them() {
    let nats = Nats::start().await;
    let origin = Origin::echo().await;
    let (agent, client, broker) = tokio::join!(
        agent(&nats, "shop", &origin, &["shop.example.com"]),
        nats.client(&["--admin-host", "entrance"]),
        nats.broker(&[]),
    );
    let expected = [
        ("client", format!("entrance:{}", client.admin().await.port())),
        ("upstream", agent.admin().await.to_string()),
        ("broker", broker.admin().await.to_string()),
    ];
    for asked in [&agent, &client, &broker] {
        let (status, page) = asked.page("/sd").await;
        assert_eq!(status, 200);
        let targets: Vec<serde_json::Value> = serde_json::from_str(&page).unwrap();
        assert_eq!(targets.len(), 3, "{page}");
        for (role, address) in &expected {
            let is_it = |target: &&serde_json::Value| target["labels"]["__meta_relay_role"] == *role;
            let target = targets.iter().find(is_it).unwrap_or_else(|| panic!("no {role} in {page}"));
            assert_eq!(target["targets"][0], **address);
        }
    }
}
