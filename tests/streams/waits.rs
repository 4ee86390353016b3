//! How long callers and origins may be silent while bodies are on their way, and what may be sent.

use std::time::{Duration, Instant};

use crate::{
    seen::{chunk, get, nothing_is_left, put, put_chunks, upgrade},
    site::{self, Site, Upload},
    support::*,
};

#[tokio::test]
async fn a_response_that_stops_for_too_long_is_cut() {
    let (origin, _site) = Site::start().await;
    let relay = Relay::to(origin).agent(&["--idle-timeout", "500ms"]).start().await;
    let mut raw = relay.raw().await;
    raw.send(get("/first/text+plain")).await;
    let rest = raw.until_closed().await;
    assert!(String::from_utf8_lossy(&rest).contains("first") && !rest.ends_with(b"0\r\n\r\n"));
    relay.client.says("decision=origin_silent").await;
    eventually("the origin is left", || relay.origin.connected() == 0).await;
    nothing_is_left(&[&relay.client, &relay.agent]).await;
}

#[tokio::test]
async fn what_is_silent_by_nature_may_be_silent_for_longer() {
    let (origin, site) = Site::start().await;
    let relay = Relay::to(origin).agent(&["--idle-timeout", "300ms"]).start().await;
    let mut tunnel = relay.raw().await;
    tunnel.send(upgrade("/ws")).await;
    tunnel.says(b"101").await;
    let mut streams = Vec::new();
    for kind in ["text+event-stream", "application+grpc", "text+plain"] {
        let mut raw = relay.raw().await;
        raw.send(get(&format!("/gated/{kind}"))).await;
        raw.says(b"first").await;
        streams.push(raw);
    }
    // The last is the measure: when it is cut, the others have been silent for as long.
    let mut plain = streams.pop().unwrap();
    assert!(!plain.until_closed().await.ends_with(b"0\r\n\r\n"));
    site.open();
    for mut raw in streams {
        raw.says(b"last").await;
        raw.says(b"0\r\n\r\n").await;
    }
    tunnel.send("ping").await;
    tunnel.says(b"ping").await;
}

#[tokio::test]
async fn what_is_silent_by_nature_is_cut_after_the_stream_idle() {
    let (origin, _site) = Site::start().await;
    let relay = Relay::to(origin).agent(&["--stream-idle", "500ms"]).start().await;
    let mut tunnel = relay.raw().await;
    tunnel.send(upgrade("/ws")).await;
    tunnel.says(b"101").await;
    let mut events = relay.raw().await;
    events.send(get("/first/text+event-stream")).await;
    assert!(!events.until_closed().await.ends_with(b"0\r\n\r\n"));
    relay.client.says("decision=origin_silent").await;
    tunnel.until_closed().await;
    eventually("the origin is left", || relay.origin.connected() == 0).await;
    nothing_is_left(&[&relay.client, &relay.agent]).await;
}

#[tokio::test]
async fn a_caller_that_stops_in_its_upload_is_answered_408() {
    let (origin, site) = Site::start().await;
    let relay = Relay::to(origin).client(&["--body-timeout", "500ms"]).start().await;
    for (turn, (head, part)) in
        [(put("/upload", 1 << 20), site::pattern(0, 300_000)), (put_chunks("/upload"), chunk(0, 300_000))]
            .into_iter()
            .enumerate()
    {
        let mut raw = relay.raw().await;
        raw.send(head).await;
        raw.send(part).await;
        raw.answer().await.problem().is(408, "body_timeout", "client").names("--body-timeout");
        raw.until_closed().await;
        eventually("the upload ends", || site.uploads().len() == turn + 1).await;
        assert_eq!(site.uploads()[turn], Upload::Cut(300_000));
    }
    nothing_is_left(&[&relay.client, &relay.agent]).await;
}

#[tokio::test]
async fn a_body_with_a_length_that_trickles_is_answered_408() {
    let (origin, site) = Site::start().await;
    let relay = Relay::to(origin).client(&["--body-timeout", "1s"]).start().await;
    let mut raw = relay.raw().await;
    raw.send(put("/upload", 200_000)).await;
    let trickle = async {
        for at in 0.. {
            // The pause is what this is about.
            tokio::time::sleep(Duration::from_millis(100)).await;
            if raw.try_send(site::pattern(at, 1)).await.is_err() {
                break;
            }
            if !relay.client.lines("decision=body_timeout").is_empty() {
                break;
            }
        }
    };
    within(Duration::from_secs(20), "it is refused", trickle).await;
    raw.answer()
        .await
        .problem()
        .is(408, "body_timeout", "client")
        .names("--body-timeout")
        .names("less than 1024 bytes");
    eventually("the upload ends", || !site.uploads().is_empty()).await;
    assert!(matches!(site.uploads()[0], Upload::Cut(_)));
}

#[tokio::test]
async fn an_upload_that_the_origin_holds_up_is_not_the_callers_fault() {
    let (origin, site) = Site::start().await;
    let relay = Relay::to(origin).client(&["--body-timeout", "1s"]).start().await;
    let mut raw = relay.raw().await;
    let size: u64 = 64 << 20;
    raw.send(put("/gated-upload", size)).await;
    let events = async {
        // The origin reads nothing until others have waited out the timeout one after the other, then everything.
        site.is_asked(1).await;
        for _ in 0..3 {
            let mut slow = relay.raw().await;
            slow.send(put("/upload", 1)).await;
            slow.answer().await.problem().is(408, "body_timeout", "client");
        }
        site.open();
    };
    let sending = async {
        let mut at = 0;
        while at < size {
            raw.send(site::pattern(at, 1 << 20)).await;
            at += 1 << 20;
        }
        raw.patient_answer(Duration::from_secs(60)).await
    };
    let ((), answer) = tokio::join!(events, sending);
    assert_eq!(answer.text(), size.to_string());
}

#[tokio::test]
async fn an_upload_may_take_longer_than_every_wait_while_it_moves() {
    let (origin, site) = Site::start().await;
    let relay = Relay::to(origin)
        .client(&["--ttl", "3s"])
        .agent(&["--ttl", "3s"])
        .broker(&["--response-wait", "3s"])
        .start()
        .await;
    let mut raw = relay.raw().await;
    let parts = 40;
    raw.send(put("/upload", parts * 5000)).await;
    let started = Instant::now();
    for part in 0..parts {
        raw.send(site::pattern(part * 5000, 5000)).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let answer = raw.answer().await;
    assert_eq!(answer.text(), (parts * 5000).to_string());
    assert!(started.elapsed() > Duration::from_secs(7));
    assert_eq!(site.uploads(), [Upload::Whole(parts * 5000)]);
}

#[tokio::test]
async fn an_upload_that_was_answered_late_still_has_an_end() {
    let (origin, _site) = Site::start().await;
    let relay = Relay::to(origin).client(&["--ttl", "2s"]).start().await;
    let mut raw = relay.raw().await;
    raw.send(put("/unread", 200_000)).await;
    raw.send(site::pattern(0, 100_000)).await;
    raw.answer().await.problem().is(504, "ttl_expired", "client");
    eventually("the origin is left", || relay.origin.connected() == 0).await;
    nothing_is_left(&[&relay.client, &relay.agent]).await;
}

#[tokio::test]
async fn chunks_that_are_none_are_answered_400() {
    let (relay, site) = crate::seen::relay().await;
    for (turn, garbage) in ["xyz\r\n", "-1\r\n", ";\r\n", "fffffffffffffffff\r\n"].into_iter().enumerate() {
        let mut raw = relay.raw().await;
        raw.send(put_chunks("/upload")).await;
        raw.send(chunk(0, 200_000)).await;
        site.reads(200_000 * (turn as u64 + 1)).await;
        raw.send(garbage).await;
        raw.answer().await.problem().is(400, "bad_request", "client");
        eventually("the upload ends", || site.uploads().len() == turn + 1).await;
        assert!(matches!(site.uploads()[turn], Upload::Cut(_)), "{:?}", site.uploads());
    }
    nothing_is_left(&[&relay.client, &relay.agent]).await;
    assert_eq!(relay.get("/").await.text().await.unwrap(), "hello");
}
