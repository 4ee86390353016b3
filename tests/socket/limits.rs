//! Everything has a bound, and a word when it is reached.

use std::time::Duration;

use serde_json::json;
use tokio::{sync::watch, task::JoinSet};

use super::stage::*;
use crate::support::*;

#[tokio::test]
async fn requests_in_flight_are_bounded_for_a_connection_and_for_all() {
    let gate = watch::Sender::new(false);
    let origin = Origin::gated(&gate).await;
    let requests = request("slow", &origin.url(), "");
    let stage =
        Stage::with(&requests, &["--max-in-flight-per-connection", "2", "--max-in-flight", "3"]).await;
    let (mut first, mut second) = (stage.connect().await, stage.connect().await);
    for id in 1..=3 {
        first.send(&json!({"request": "slow", "id": id}).to_string()).await;
    }
    let replies = [first.reply().await, first.reply().await, first.reply().await];
    assert_eq!(replies[2]["code"], "busy");
    assert!(replies[2]["error"].as_str().unwrap().contains("--max-in-flight-per-connection"));
    for id in 1..=2 {
        second.send(&json!({"request": "slow", "id": id}).to_string()).await;
    }
    assert_eq!(second.reply().await["status"], "dispatched");
    let reply = second.reply().await;
    assert_eq!((&reply["code"], &reply["id"]), (&json!("busy"), &json!(2)));
    assert!(reply["error"].as_str().unwrap().ends_with("--max-in-flight"), "{reply}");
    assert_eq!(stage.socket.metric("relay_requests_in_flight", "").await, 3.0);
    gate.send_replace(true);
    assert_eq!(second.reply().await["status"], "ok");
    // There is room as soon as the reply is here.
    second.send(r#"{"request":"slow","id":3}"#).await;
    assert_eq!(second.reply().await["status"], "dispatched");
}

#[tokio::test]
async fn one_connection_more_than_may_be_is_told_so() {
    let origin = Origin::echo().await;
    let stage = Stage::with(&echo(&origin), &["--max-connections", "2"]).await;
    let (mut first, mut second) = (stage.connect().await, stage.connect().await);
    first.works().await;
    second.works().await;
    // Who is turned away takes nobody's place, however often he comes.
    let (mut third, _fourth) = (stage.connect().await, stage.connect().await);
    let all = third.all().await;
    assert_eq!(all.len(), 1);
    assert_eq!((&all[0]["status"], &all[0]["code"]), (&json!("closing"), &json!("limit")));
    first.works().await;
    drop(second);
    eventually_async("there is room", || async { stage.socket.metric("relay_connections", "").await < 2.0 })
        .await;
    stage.connect().await.works().await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_with_a_word_but_not_while_something_is_in_flight() {
    let gate = watch::Sender::new(false);
    let origin = Origin::gated(&gate).await;
    let stage = Stage::with(&request("slow", &origin.url(), ""), &["--idle-timeout", "300ms"]).await;
    let (mut idle, mut waiting) = (stage.connect().await, stage.connect().await);
    waiting.send(r#"{"request":"slow","id":1}"#).await;
    let all = idle.all().await;
    assert_eq!((all.len(), &all[0]["status"], &all[0]["code"]), (1, &json!("closing"), &json!("idle")));
    assert!(all[0]["error"].as_str().unwrap().contains("300ms (--idle-timeout)"), "{all:?}");
    // It has been silent for longer, and is heard.
    tokio::time::sleep(Duration::from_millis(600)).await;
    waiting.send(r#"{"request":"slow","id":2}"#).await;
    eventually("both are at the origin", || origin.open() == 2).await;
    gate.send_replace(true);
    let statuses: Vec<_> = waiting.all().await.iter().map(|reply| reply["status"].clone()).collect();
    assert_eq!(statuses, ["dispatched", "dispatched", "ok", "ok", "closing"]);
    stage.socket.counts("relay_socket_connections_closed_total", "idle", 2.0).await;
}

#[tokio::test]
async fn a_slow_reader_is_bounded_and_given_up() {
    let origin = Origin::start(|_| async { answer(200, "x".repeat(1_000_000)) }).await;
    let flags = ["--slow-timeout", "1s", "--max-buffered", "100MB"];
    let stage = Stage::with(&request("big", &origin.url(), "response = 'text'"), &flags).await;
    let mut caller = stage.connect().await;
    let lines: String = (0..5000).map(|id| format!("{{\"request\":\"big\",\"id\":{id}}}\n")).collect();
    // It never reads: what it sends is not taken for long either.
    let sending = tokio::spawn(async move {
        let bytes = lines.into_bytes();
        for chunk in bytes.chunks(1000) {
            caller.bytes(chunk).await;
        }
        caller
    });
    stage.socket.counts("relay_socket_connections_closed_total", "slow_reader", 1.0).await;
    assert!(origin.hits() < 2000, "{}", origin.hits());
    assert!(stage.socket.peak_memory() < 250 << 20, "{}", stage.socket.peak_memory());
    sending.abort();
    eventually_async("nothing is left of it", || async {
        stage.socket.metric("relay_requests_in_flight", "").await == 0.0
    })
    .await;
}

#[tokio::test]
async fn responses_in_memory_are_bounded() {
    let origin = Origin::start(|_| async { answer(200, "x".repeat(1_000_000)) }).await;
    let requests = request("big", &origin.url(), "response = 'text'");
    let stage = Stage::with(&requests, &["--max-buffered", "900KB"]).await;
    let reply = stage.ask(json!({"request": "big", "id": 1})).await;
    assert_eq!(reply["response"]["code"], "client_full");
    assert!(reply["response"]["error"].as_str().unwrap().contains("--max-buffered"), "{reply}");
}

#[tokio::test]
async fn a_thousand_connections_at_once_are_all_answered() {
    let origin = Origin::echo().await;
    let stage = Stage::start(&echo(&origin)).await;
    let address = stage.address().await;
    let mut callers = JoinSet::new();
    for number in 0..1000 {
        callers.spawn(async move {
            let mut caller = Caller::of(tokio::net::TcpStream::connect(address).await.unwrap());
            for turn in 0..3 {
                let id = json!([number, turn]);
                caller.send(&json!({"request": "echo", "id": id, "data": id}).to_string()).await;
                assert_eq!(caller.reply().await["status"], "dispatched");
                let reply = caller.reply().await;
                assert_eq!((&reply["id"], &reply["response"], &reply["status"]), (&id, &id, &json!("ok")));
            }
            caller
        });
    }
    let callers: Vec<_> = callers.join_all().await;
    assert_eq!(callers.len(), 1000);
    assert_eq!(stage.socket.metric("relay_connections", "").await, 1000.0);
    assert_eq!(origin.hits(), 3000);
    drop(callers);
    stage.socket.counts("relay_socket_connections_closed_total", "", 1000.0).await;
}
