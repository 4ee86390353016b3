//! Callers that take their time.

use std::time::Duration;

use crate::support::*;

#[tokio::test]
async fn a_caller_that_does_not_finish_its_headers_is_cut_off() {
    let relay = Relay::to(Origin::echo().await).client(&["--header-timeout", "500ms"]).start().await;
    let mut raw = relay.raw().await;
    raw.send("GET / HTTP/1.1\r\nHost: a\r\nX-Slow").await;
    let end = within(Duration::from_secs(10), "the end after --header-timeout", raw.until_closed()).await;
    let said = String::from_utf8_lossy(&end);
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 408"), "{said}");

    // One byte now and then does not help.
    let mut raw = relay.raw().await;
    raw.send("GET / HTTP/1.1\r\n").await;
    let drip = async {
        for _ in 0..100 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            if raw.try_send("X: 1\r\n").await.is_err() {
                return;
            }
        }
        panic!("it may go on for ever");
    };
    within(Duration::from_secs(10), "the end after --header-timeout", drip).await;
    assert_eq!(relay.get("/").await.status(), 200);
    assert_eq!(relay.origin.hits(), 1);
}

#[tokio::test]
async fn a_caller_that_pauses_in_its_body_is_408() {
    let relay = Relay::to(Origin::echo().await).client(&["--body-timeout", "500ms"]).start().await;
    for head in ["Content-Length: 10\r\n\r\nhalf", "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"] {
        let mut raw = relay.raw().await;
        raw.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{head}")).await;
        let answer = within(Duration::from_secs(10), "an answer after --body-timeout", raw.answer()).await;
        answer.problem().is(408, "body_timeout", "client").names("--body-timeout");
        raw.until_closed().await;
    }
    assert_eq!(relay.origin.hits(), 0);
}

#[tokio::test]
async fn a_slow_body_that_keeps_coming_is_not_cut_off() {
    let relay = Relay::to(Origin::echo().await).client(&["--body-timeout", "1500ms"]).start().await;
    let mut raw = relay.raw().await;
    raw.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\n").await;
    for part in ["a", "b", "c", "d", "e", "f"] {
        tokio::time::sleep(Duration::from_millis(350)).await;
        raw.send(part).await;
    }
    assert_eq!(raw.answer().await.text(), "abcdef");
}

#[tokio::test]
async fn a_small_body_that_trickles_is_408() {
    let relay = Relay::to(Origin::echo().await).client(&["--body-timeout", "500ms"]).start().await;
    let mut raw = relay.raw().await;
    raw.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n").await;
    let trickle = async {
        while raw.try_send("x").await.is_ok() {
            if let Ok(answer) = tokio::time::timeout(Duration::from_millis(100), raw.try_answer()).await {
                return answer.ok();
            }
        }
        None
    };
    let answer = within(Duration::from_secs(20), "the end of a body that trickles", trickle).await;
    answer.expect("an answer").problem().is(408, "body_timeout", "client").names("1024 bytes");
    assert_eq!(relay.origin.hits(), 0);
}
