//! Which credentials may claim which routes is NATS's to enforce.

use super::*;
use crate::support::accounts::Accounts;

#[tokio::test]
async fn an_agent_gets_the_routes_that_its_credentials_allow_and_no_others() {
    let accounts = Accounts::start().await;
    let (hello, billing) = (Origin::saying("hello").await, Origin::saying("billing").await);
    let client = accounts.spawn("client", "client", &[]).ready().await;
    let routes = ["--route", "hello.example.com", "--route", "example.com", "--route", "example.com/billing"];
    let to_hello = hello.url();
    let flags = [&["--realm", "hello", "--name", "hello", "--to", &to_hello][..], &routes].concat();
    let greedy = accounts.spawn("upstream", "agent_hello", &flags);
    let flags =
        ["--realm", "billing", "--name", "billing", "--to", &billing.url(), "--route", "example.com/billing"];
    let _billing = accounts.spawn("upstream", "agent_billing", &flags).ready().await;
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
    let accounts = Accounts::start().await;
    let hello = Origin::saying("hello").await;
    let flags = ["--realm", "client-hello", "--only", "hello"];
    let client = accounts.spawn("client", "client_hello", &flags).ready().await;
    let flags = ["--realm", "hello", "--name", "hello", "--to", &hello.url(), "--route", "hello.example.com"];
    let _agent = accounts.spawn("upstream", "agent_hello", &flags).ready().await;
    becomes(&[&client], "hello.example.com", 200).await;
    let all = accounts.spawn("client", "client_hello", &["--realm", "client-hello"]);
    all.says("refuse a subscription this process needs").await;
    assert_eq!(all.page("/readyz").await.0, 503);
}
