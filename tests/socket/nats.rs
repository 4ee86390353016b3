//! Requests to upstreams by their names.

use serde_json::json;

use super::stage::*;
use crate::support::{process, *};

const ECHO: &str = "[request.echo]\nupstream = 'hello'\nurl = '/echo/{x}'\nmethod = 'POST'\nbody = 'raw'\n\
     response = 'text'\nheaders = { host = 'shop.example' }\n";

#[tokio::test]
async fn a_request_reaches_an_upstream_by_its_name() {
    let origin = Origin::echo().await;
    let nats = Nats::start().await;
    let _agent = nats.upstream("hello", &origin.url(), &[]).await;
    let stage = Stage::at(&nats.url(), ECHO, &[]).await;
    let ask = async |data: &str| {
        stage.ask(json!({"request": "echo", "id": 1, "params": {"x": "a b"}, "data": data})).await
    };
    let reply = ask("hello").await;
    assert_eq!((&reply["status"], &reply["response"]), (&json!("ok"), &json!("hello")), "{reply}");
    let seen = origin.only();
    assert_eq!((seen.target.as_str(), seen.value("host").as_str()), ("/echo/a%20b", "shop.example"));
    let ps = process::run(process::relay(&["ps", "--server", &nats.url()])).await.out;
    assert!(ps.lines().any(|line| line.starts_with("socket ") && line.contains("0/10000")), "{ps}");
}

#[tokio::test]
async fn bodies_that_do_not_fit_in_a_message_are_streamed_both_ways() {
    let origin = Origin::echo().await;
    let nats = Nats::start().await;
    let _agent = nats.upstream("hello", &origin.url(), &[]).await;
    // With room for two: what is not given back is missed.
    let flags = ["--max-line", "8MiB", "--max-response", "3000000B", "--max-in-flight", "2"];
    let stage = Stage::at(&nats.url(), ECHO, &flags).await;
    let large = "x".repeat(3_000_000);
    let ask = async |data: &str| {
        stage.ask(json!({"request": "echo", "id": 1, "params": {"x": 1}, "data": data})).await
    };
    for _ in 0..3 {
        let reply = ask(&large).await;
        assert!(reply["response"] == json!(large), "{:.300}", reply.to_string());
    }
    assert_eq!(origin.last().value("content-length"), "3000000");
    let reply = ask(&"x".repeat(3_000_001)).await;
    assert_eq!(reply["response"]["code"], "response_too_large", "{:.300}", reply.to_string());
    // Nothing of it is left.
    eventually_async("no stream is open", || async { stage.socket.metric("relay_streams", "").await == 0.0 })
        .await;
    assert_eq!(ask("small").await["response"], "small");
}

#[tokio::test]
async fn an_upstream_that_is_not_there_or_slow_is_an_error_that_says_so() {
    let nats = Nats::start().await;
    let slow = Origin::silent().await;
    let _agent = nats.upstream("slow", &slow.url(), &[]).await;
    let requests = "[request.none]\nupstream = 'nobody'\nurl = '/'\n\
         [request.slow]\nupstream = 'slow'\nurl = '/'\ntimeout = '300ms'\n";
    let stage = Stage::at(&nats.url(), requests, &[]).await;
    let reply = stage.ask(json!({"request": "none", "id": 1})).await;
    assert_eq!(reply["response"]["code"], "no_agent", "{reply}");
    let reply = stage.ask(json!({"request": "slow", "id": 1})).await;
    assert!(reply["response"]["error"].as_str().unwrap().starts_with("timeout: "), "{reply}");
    eventually("the origin was told", || slow.cancelled() == 1).await;
}
