//! How a socket ends, and when it is ready.

use std::time::Duration;

use serde_json::json;
use tokio::{net::TcpStream, sync::watch};

use super::stage::*;
use crate::support::*;

#[tokio::test]
async fn at_the_end_requests_finish_and_each_connection_gets_a_last_line() {
    let gate = watch::Sender::new(false);
    let origin = Origin::gated(&gate).await;
    let stage = Stage::start(&request("slow", &origin.url(), "")).await;
    let address = stage.address().await;
    let (mut busy, mut idle, mut half) =
        (stage.connect().await, stage.connect().await, stage.connect().await);
    for caller in [&mut busy, &mut half] {
        caller.send(r#"{"request":"slow","id":1}"#).await;
        assert_eq!(caller.reply().await["status"], "dispatched");
    }
    half.finish().await;
    stage.socket.counts("relay_connections", "", 3.0).await;
    stage.socket.term();
    let all = idle.all().await;
    assert_eq!((all.len(), &all[0]["status"], &all[0]["code"]), (1, &json!("closing"), &json!("shutdown")));
    eventually_async("nobody is let in any more", || async { TcpStream::connect(address).await.is_err() })
        .await;
    gate.send_replace(true);
    for mut caller in [busy, half] {
        let all = caller.all().await;
        assert_eq!((&all[0]["status"], &all[1]["code"]), (&json!("ok"), &json!("shutdown")), "{all:?}");
    }
    assert!(stage.socket.ended().await.success());
}

#[tokio::test]
async fn after_the_grace_period_what_is_left_ends_with_an_error_and_a_last_line() {
    let origin = Origin::silent().await;
    let stage = Stage::with(&request("slow", &origin.url(), ""), &["--grace", "300ms"]).await;
    let mut caller = stage.connect().await;
    caller.send(r#"{"request":"slow","id":1}"#).await;
    assert_eq!(caller.reply().await["status"], "dispatched");
    stage.socket.term();
    let all = within(Duration::from_secs(10), "it ends", caller.all()).await;
    assert_eq!(all.len(), 2, "{all:?}");
    assert_eq!((&all[0]["id"], &all[0]["response"]["code"]), (&json!(1), &json!("shutdown")));
    assert_eq!((&all[1]["status"], &all[1]["code"]), (&json!("closing"), &json!("shutdown")));
    assert!(stage.socket.ended().await.success());
}

#[tokio::test]
async fn nats_is_needed_only_by_requests_that_go_over_it() {
    let origin = Origin::echo().await;
    // There is no NATS, and it is ready.
    let stage = Stage::start(&echo(&origin)).await;
    stage.connect().await.works().await;
    let upstream = "[request.far]\nupstream = 'far'\nurl = '/'\n";
    std::fs::write(stage.path("requests.toml"), echo(&origin) + upstream).unwrap();
    stage.socket.hangup();
    stage.socket.says("the requests were read again").await;
    let (status, why) = stage.socket.page("/readyz").await;
    assert!(status == 503 && why.contains("NATS"), "{why}");
    stage.connect().await.works().await;
    let reply = stage.ask(json!({"request": "far", "id": 1})).await;
    assert_eq!(reply["response"]["code"], "nats_unreachable", "{reply}");
}
