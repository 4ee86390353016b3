//! Bodies of jobs in memory: bounded together by `--max-buffered` before they are read, and each by its pace.

use std::time::Duration;

use serde_json::Value;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

use super::stage::*;
use crate::support::*;

#[tokio::test]
async fn slow_uploads_of_jobs_take_no_more_memory_than_they_may() {
    let flags = ["--max-buffered", "16MiB"];
    let stage = Stage::with(says("one").await, &[], &flags).await;
    let address = stage.client.address().await;
    stage.client.forget_peak();
    let before = stage.client.memory();
    let go_on = watch::Sender::new(false);
    let (tell, mut told) = mpsc::unbounded_channel();
    let mut callers = JoinSet::new();
    for _ in 0..30 {
        let (mut go_on, tell) = (go_on.subscribe(), tell.clone());
        callers.spawn(async move {
            let mut raw = Raw::connect(address).await;
            raw.send(head(4 * MIB)).await;
            // One that is refused may be closed before it has sent this much.
            raw.try_send(vec![b'x'; 2 * MIB]).await.ok();
            let refused = tokio::select! {
                answer = raw.try_answer() => Some(answer),
                _ = go_on.wait_for(|go_on| *go_on) => None,
            };
            if let Some(answer) = refused {
                tell.send(()).unwrap();
                return answer;
            }
            raw.try_send(vec![b'x'; 2 * MIB]).await.ok();
            raw.try_answer().await
        });
    }
    // No more than 8 bodies of 2 MiB fit into 16 MiB.
    for _ in 0..22 {
        within(Duration::from_secs(60), "what does not fit is refused", told.recv()).await.unwrap();
    }
    go_on.send_replace(true);
    let (mut accepted, mut refused) = (0, 0);
    while let Some(answer) = callers.join_next().await {
        // Who still sends after the answer may not see it.
        let Ok(answer) = answer.unwrap() else { continue };
        if answer.status == 202 {
            accepted += 1;
        } else {
            answer.problem().is(503, "client_full", "client").names("--max-buffered");
            refused += 1;
        }
    }
    assert!(accepted >= 1 && refused >= 10, "{accepted} accepted, {refused} refused");
    let taken = (stage.client.peak_memory() - before) as usize;
    assert!(taken < 16 * MIB + SLACK, "{} MiB", taken / MIB);
}

#[tokio::test]
async fn a_caller_that_goes_away_gives_back_what_its_body_took() {
    let flags = ["--max-buffered", "3MiB"];
    let stage = Stage::with(says("one").await, &[], &flags).await;
    let post = || async { stage.later("/").await.body(vec![b'y'; 2 * MIB]).send().await.unwrap() };
    // Until one is on its way when the other comes, and not the other way round.
    let mut tries = 0..50;
    let raw = loop {
        tries.next().expect("the body that is on its way leaves no room");
        let mut raw = stage.client.raw().await;
        raw.send(head(2 * MIB)).await;
        raw.send(vec![b'x'; MIB + MIB / 2]).await;
        let answer = post().await;
        if answer.status() == 503 && problem(answer).await.code == "client_full" {
            break raw;
        }
    };
    drop(raw);
    eventually_async("there is room again", || async {
        let answer = post().await;
        answer.status() == 202 || problem(answer).await.is(503, "client_full", "client").status == 0
    })
    .await;
}

#[tokio::test]
async fn a_body_that_trickles_is_408_and_no_job() {
    let flags = ["--body-timeout", "500ms"];
    let stage = Stage::with(says("one").await, &[], &flags).await;
    let chunked = "POST / HTTP/1.1\r\nHost: a\r\nPrefer: respond-async\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (head, part) in [(head(MIB), "x"), (chunked.to_owned(), "1\r\nx\r\n")] {
        let mut raw = stage.client.raw().await;
        raw.send(head).await;
        let trickle = async {
            while raw.try_send(part).await.is_ok() {
                if let Ok(answer) = tokio::time::timeout(Duration::from_millis(100), raw.try_answer()).await {
                    return answer.ok();
                }
            }
            None
        };
        let answer = within(Duration::from_secs(20), "the end of a body that trickles", trickle).await;
        answer.expect("an answer").problem().is(408, "body_timeout", "client").names("--body-timeout");
    }
    assert_eq!(stage.one.hits(), 0);
}

#[tokio::test]
async fn the_first_response_of_a_chain_takes_room_as_well() {
    let large = Origin::start(|_| async { answer(200, vec![b'x'; 3 * MIB]) }).await;
    let flags = ["--max-buffered", "2MiB"];
    let mut stage = Stage::with(large, &[], &flags).await;
    let two = says("two").await;
    stage.serve("two", &two).await;
    let answer = stage.chain("/", "http://two", "", "POST").await.send().await.unwrap();
    problem_after_seen(answer).await.is(503, "client_full", "client").names("--max-buffered");
    assert_eq!((stage.one.hits(), two.hits()), (1, 0));
    let state: Value =
        serde_json::from_slice(&stage.client.get("/").await.bytes().await.unwrap()).unwrap_or_default();
    assert!(state.is_null(), "what needs not be whole goes on");
}

fn head(length: usize) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\nPrefer: respond-async\r\nContent-Length: {length}\r\n\r\n")
}

const MIB: usize = 1024 * 1024;
/// Beside bodies: what is read of each connection, the copy of one that grows, and what NATS has not taken yet.
const SLACK: usize = 24 * MIB;
