//! A NATS server that is restarted while bodies are on their way: each arrives whole or breaks off.

use std::time::Duration;

use crate::{
    seen::{get, nothing_is_left, put, relay},
    site::{self, Upload, is_right},
    support::*,
};

#[tokio::test]
async fn transfers_over_a_restart_of_nats_arrive_whole_or_break_off() {
    let (Relay { client, agent, broker, nats, origin }, site) = relay().await;
    let address = client.address().await;
    let size: u64 = 100 << 20;
    let mut reading = Raw::connect(address).await;
    reading.send(get(&format!("/size/{size}"))).await;
    reading.says(b"200 OK").await;
    let mut writing = Raw::connect(address).await;
    writing.send(put("/upload", 1 << 20)).await;
    writing.send(site::pattern(0, 300_000)).await;
    site.reads(300_000).await;

    let nats = nats.restart().await;
    for role in [&client, &agent] {
        eventually_async("every process is back", || async { role.page("/readyz").await.0 == 200 }).await;
    }
    let download = async {
        let answer = reading.patient_or_cut(Duration::from_secs(50)).await;
        // What is cut is short, and what is there is right.
        if let Some(answer) = answer {
            assert_eq!(answer.body.len() as u64, size);
            assert!(is_right(0, &answer.body));
        }
    };
    let upload = async {
        writing.try_send(site::pattern(300_000, (1 << 20) - 300_000)).await.ok();
        let answer = writing.patient_or_cut(Duration::from_secs(50)).await;
        if let Some(answer) = answer.filter(|answer| answer.status == 200) {
            assert_eq!(answer.text(), (1 << 20).to_string());
        }
    };
    let others = async {
        for _ in 0..20 {
            assert_eq!(client.get("/").await.text().await.unwrap(), "hello");
        }
    };
    within(Duration::from_secs(55), "everything ends", async { tokio::join!(download, upload, others) })
        .await;
    eventually("the upload ends", || !site.uploads().is_empty()).await;
    assert!(
        matches!(site.uploads()[..], [Upload::Whole(1_048_576) | Upload::Cut(_)]),
        "{:?}",
        site.uploads()
    );
    nothing_is_left(&[&client, &agent]).await;
    drop((broker, nats, origin));
}

#[tokio::test]
async fn a_silent_stream_outlives_a_short_absence_of_nats() {
    let (Relay { client, agent, broker, nats, origin }, site) = relay().await;
    let mut raw = Raw::connect(client.address().await).await;
    raw.send(get("/gated/text+event-stream")).await;
    raw.says(b"first").await;
    let nats = nats.restart().await;
    for role in [&client, &agent] {
        eventually_async("every process is back", || async { role.page("/readyz").await.0 == 200 }).await;
    }
    site.open();
    raw.says(b"last").await;
    raw.says(b"0\r\n\r\n").await;
    nothing_is_left(&[&client, &agent]).await;
    drop((broker, nats, origin));
}

#[tokio::test]
async fn streams_end_when_nats_does_not_come_back() {
    let (Relay { client, agent, broker, nats, origin }, site) = relay().await;
    let mut reading = Raw::connect(client.address().await).await;
    reading.send(get("/endless")).await;
    reading.says(b"200 OK").await;
    let mut writing = Raw::connect(client.address().await).await;
    writing.send(put("/upload", 1 << 20)).await;
    writing.send(site::pattern(0, 300_000)).await;
    site.reads(300_000).await;
    nats.process().kill9();
    let both = async { tokio::join!(reading.until_closed(), writing.try_answer()) };
    let (rest, answer) = within(Duration::from_secs(28), "both end", both).await;
    assert!(!rest.ends_with(b"0\r\n\r\n"));
    assert!(answer.expect("an answer").status >= 500);
    eventually("the origin is left", || origin.connected() == 0).await;
    assert_eq!(site.uploads(), [Upload::Cut(300_000)]);
    nothing_is_left(&[&client]).await;
    eventually_async("the agent has no streams", || async { agent.metric("relay_streams", "").await == 0.0 })
        .await;
    drop(broker);
}
