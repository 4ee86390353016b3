//! Which credentials may claim which routes is NATS's to enforce.

use super::*;
use crate::support::configured::Server;

#[tokio::test]
async fn an_agent_gets_the_routes_that_its_credentials_allow_and_no_others() {
    let nats = server().await;
    let (hello, billing) = (Origin::saying("hello").await, Origin::saying("billing").await);
    let client = spawn(&nats, "client", "client", &[]).ready().await;
    let routes = ["--route", "hello.example.com", "--route", "example.com", "--route", "example.com/billing"];
    let to_hello = hello.url();
    let flags = [&["--realm", "hello", "--name", "hello", "--to", &to_hello][..], &routes].concat();
    let greedy = spawn(&nats, "upstream", "agent_hello", &flags);
    let flags =
        ["--realm", "billing", "--name", "billing", "--to", &billing.url(), "--route", "example.com/billing"];
    let _billing = spawn(&nats, "upstream", "agent_billing", &flags).ready().await;
    becomes(&[&client], "hello.example.com", 200).await;
    eventually_async("billing has its route", || async {
        get(&client, "example.com", "/billing/1").await == (200, "billing".to_owned())
    })
    .await;
    greedy.says("relay.route.hello.hello.").await;
    assert_eq!(get(&client, "example.com", "/").await.0, 404, "hello may not claim it");
    assert_eq!(client.metric("relay_routes", "").await, 2.0);
}

#[tokio::test]
async fn a_limited_client_agent_routes_to_its_own_upstream_only() {
    let nats = server().await;
    let hello = Origin::saying("hello").await;
    let flags = ["--realm", "client-hello", "--only", "hello"];
    let client = spawn(&nats, "client", "client_hello", &flags).ready().await;
    let flags = ["--realm", "hello", "--name", "hello", "--to", &hello.url(), "--route", "hello.example.com"];
    let _agent = spawn(&nats, "upstream", "agent_hello", &flags).ready().await;
    becomes(&[&client], "hello.example.com", 200).await;
    let all = spawn(&nats, "client", "client_hello", &["--realm", "client-hello"]);
    all.says("refuse a subscription this process needs").await;
    assert_eq!(all.page("/readyz").await.0, 503);
}

async fn server() -> Server {
    let users = [
        "broker",
        "client",
        "client_hello",
        "agent_hello",
        "agent_billing",
        "agent_payroll",
        "observer",
        "operator",
        "sys",
    ];
    let variables: Vec<(String, String)> = users
        .map(|user| (format!("RELAY_NATS_{}_PASSWORD", user.to_uppercase()), format!("the-{user}")))
        .to_vec();
    let variables: Vec<(&str, &str)> =
        variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    Server::of("accounts.conf", &variables).await
}

fn spawn(nats: &Server, role: &str, user: &str, flags: &[&str]) -> Role {
    let password = format!("the-{user}");
    Role::spawn(&nats.url(), role, &[&["--user", user], flags].concat(), &[("NATS_PASSWORD", &password)])
}
