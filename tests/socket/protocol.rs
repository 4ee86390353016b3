//! What is said on a connection.

use serde_json::{Value, json};
use tokio::sync::watch;

use super::stage::*;
use crate::support::*;

#[tokio::test]
async fn the_documents_transcript_is_what_happens() {
    let origin = Origin::start(|_| async {
        let mut response = answer(200, "{\"appnews\": {\"count\": 1}}");
        response.headers_mut().insert("content-type", "application/json".parse().unwrap());
        response
    })
    .await;
    let example = std::fs::read_to_string("docs/requests.toml").unwrap();
    let here = example.replace("https://api.steampowered.com", &origin.url());
    assert_ne!(here, example);
    let nats = Nats::start().await;
    let stage = Stage::at(&nats.url(), &here, &[]).await;
    let mut caller = stage.connect().await;
    caller.bytes(b"{\"request\":\"hl2\", \"id\":\"123\", \"params\":{\"count\":1}}\r\n").await;
    assert_eq!(caller.line().await.unwrap(), r#"{"status": "dispatched", "id": "123"}"#);
    let line = caller.line().await.unwrap();
    let (before, after) = line.split_once(", \"id\"").unwrap();
    let time = before.strip_prefix(r#"{"status": "ok", "time": "#).unwrap();
    assert!(time.parse::<f64>().is_ok_and(|time| (0.0..10.0).contains(&time)), "{line}");
    assert_eq!(after, r#": "123", "response": {"appnews": {"count": 1}}, "http_status": 200}"#);
    let seen = origin.only();
    assert!(seen.target.contains("count=1"), "{seen:?}");
}

#[tokio::test]
async fn a_server_that_does_not_resolve_is_an_error_that_says_so() {
    let stage = Stage::start(&request("hl2", "http://no-such-host.invalid/{count}", "")).await;
    let mut caller = stage.connect().await;
    caller.send(r#"{"request":"hl2", "id":"456", "params":{"count":1}}"#).await;
    assert_eq!(caller.line().await.unwrap(), r#"{"status": "dispatched", "id": "456"}"#);
    let reply = caller.reply().await;
    assert_eq!((&reply["status"], &reply["id"]), (&json!("error"), &json!("456")));
    assert!(reply["time"].is_f64(), "{reply}");
    let error = reply["response"]["error"].as_str().unwrap();
    assert!(error.starts_with("DNS lookup failed") && error.contains("no-such-host.invalid"), "{error}");
    assert_eq!(reply["response"]["code"], "origin_dns");
}

#[tokio::test]
async fn an_id_comes_back_as_it_was_sent() {
    let origin = Origin::echo().await;
    let stage = Stage::start(&echo(&origin)).await;
    let mut caller = stage.connect().await;
    for id in [
        "1",
        "-0",
        "1.500",
        "1E+400",
        "123456789012345678901234567890",
        "null",
        "true",
        r#""""#,
        r#""\u00e4\ud800""#,
        r#"[1, "a"]"#,
        r#"{"a": {"b":  1}}"#,
    ] {
        caller.send(&format!(r#"{{"request":"echo","id":{id}}}"#)).await;
        for status in ["dispatched", "ok"] {
            let line = caller.line().await.unwrap();
            assert!(line.contains(&format!(r#""status": "{status}""#)), "{line}");
            assert!(line.contains(&format!(r#""id": {id}"#)), "{line}");
        }
    }
}

#[tokio::test]
async fn replies_come_in_the_order_they_finish() {
    let gate = watch::Sender::new(false);
    let (slow, fast) = (Origin::gated(&gate).await, Origin::saying("\"fast\"").await);
    let requests = request("slow", &slow.url(), "response = 'text'") + &request("fast", &fast.url(), "");
    let stage = Stage::start(&requests).await;
    let mut caller = stage.connect().await;
    caller.bytes(b"{\"request\":\"slow\",\"id\":1}\n\n\r\n{\"request\":\"fast\",\"id\":2}\n").await;
    let mut words = Vec::new();
    for _ in 0..3 {
        words.push(word(&caller.reply().await));
    }
    assert_eq!(words, ["dispatched 1", "dispatched 2", "ok 2"]);
    gate.send_replace(true);
    assert_eq!(word(&caller.reply().await), "ok 1");
}

#[tokio::test]
async fn a_half_closed_connection_still_gets_its_replies() {
    let gate = watch::Sender::new(false);
    let origin = Origin::gated(&gate).await;
    let stage = Stage::start(&request("slow", &origin.url(), "")).await;
    let mut caller = stage.connect().await;
    // The last line has no end.
    caller.bytes(b"{\"request\":\"slow\",\"id\":1}\n{\"request\":\"slow\",\"id\":2}").await;
    caller.finish().await;
    eventually("both are at the origin", || origin.open() == 2).await;
    gate.send_replace(true);
    let mut words: Vec<_> = caller.all().await.iter().map(word).collect();
    words.sort();
    assert_eq!(words, ["dispatched 1", "dispatched 2", "ok 1", "ok 2"]);
}

#[tokio::test]
async fn a_request_that_is_cancelled_ends_at_the_origin_as_well() {
    let origin = Origin::silent().await;
    let stage = Stage::start(&request("slow", &origin.url(), "")).await;
    let mut caller = stage.connect().await;
    caller.send(r#"{"request":"slow","id":[7]}"#).await;
    assert_eq!(word(&caller.reply().await), "dispatched [7]");
    eventually("it is at the origin", || origin.open() == 1).await;
    caller.send(r#"{"cancel":[7]}"#).await;
    let reply = caller.reply().await;
    assert_eq!(word(&reply), "error [7]");
    assert_eq!(reply["response"]["code"], "cancelled");
    eventually("the origin was told", || origin.cancelled() == 1).await;
    caller.send(r#"{"cancel":[7]}"#).await;
    let reply = caller.reply().await;
    assert_eq!((word(&reply), &reply["code"]), ("error [7]".into(), &json!("unknown_id")));
    // The id can be used again.
    caller.send(r#"{"request":"slow","id":[7]}"#).await;
    assert_eq!(word(&caller.reply().await), "dispatched [7]");
}

#[tokio::test]
async fn an_id_in_flight_cannot_be_used_twice_on_a_connection() {
    let gate = watch::Sender::new(false);
    let origin = Origin::gated(&gate).await;
    let stage = Stage::start(&request("slow", &origin.url(), "")).await;
    let (mut caller, mut other) = (stage.connect().await, stage.connect().await);
    caller.send(r#"{"request":"slow","id":1}"#).await;
    caller.reply().await;
    caller.send(r#"{"request":"slow","id":1}"#).await;
    let reply = caller.reply().await;
    assert_eq!((word(&reply), &reply["code"]), ("error 1".into(), &json!("duplicate_id")));
    other.send(r#"{"request":"slow","id":1}"#).await;
    assert_eq!(word(&other.reply().await), "dispatched 1");
    gate.send_replace(true);
    assert_eq!(word(&caller.reply().await), "ok 1");
}

#[tokio::test]
async fn a_caller_that_is_gone_ends_its_requests() {
    let origin = Origin::silent().await;
    let stage = Stage::start(&request("slow", &origin.url(), "")).await;
    let stream = tokio::net::TcpStream::connect(stage.address().await).await.unwrap();
    // It closes with a reset, as a program that is killed with something unread does.
    stream.set_zero_linger().unwrap();
    let mut caller = Caller::of(stream);
    caller.send(r#"{"request":"slow","id":1}"#).await;
    eventually("it is at the origin", || origin.open() == 1).await;
    drop(caller);
    eventually("the origin was told", || origin.cancelled() == 1).await;
    stage.socket.counts("relay_requests_abandoned_total", "", 1.0).await;
    stage.socket.counts("relay_socket_connections_closed_total", "gone", 1.0).await;
    stage.socket.says("decision=\"abandoned\"").await;
}

/// The status and the id.
fn word(reply: &Value) -> String {
    format!("{} {}", reply["status"].as_str().unwrap(), reply["id"])
}
