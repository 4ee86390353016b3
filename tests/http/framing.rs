//! How messages tell where their bodies end: in the one way that relay reads, or not at all.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use relay::{
    bus::Bus,
    wire::{
        Headers, ProcessId, Reply,
        codec::{decode_request, encode},
    },
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::*;

#[tokio::test]
async fn a_request_with_another_coding_than_chunks_is_refused_unread() {
    let relay = Relay::start().await;
    for codings in [
        "gzip",
        "gzip, chunked",
        "chunked, chunked",
        "chunked, gzip",
        "chunked,",
        "identity",
        "chunked;x=y",
        "",
        "chunked\r\nTransfer-Encoding: chunked",
        "gzip\r\nTransfer-Encoding: chunked",
    ] {
        let mut raw = relay.raw().await;
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: {codings}\r\n\r\n");
        raw.send(format!("{head}0\r\n\r\nGET /hidden HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        raw.answer().await.problem().is(501, "coding_unsupported", "client").names("Transfer-Encoding");
        assert_eq!(raw.until_closed().await, b"", "{codings}");
    }
    assert_eq!(relay.origin.hits(), 0);
}

#[tokio::test]
async fn a_response_with_another_coding_than_chunks_goes_nowhere() {
    for codings in
        ["gzip", "gzip, chunked", "chunked, gzip", "identity", "gzip\r\nTransfer-Encoding: chunked"]
    {
        let head =
            format!("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: {codings}\r\n\r\n");
        let origin = answering(head + "4\r\n\x1f\u{8b}ab\r\n0\r\n\r\n").await;
        let relay = Relay::to(origin).client(&["--cache", "1MiB"]).start().await;
        for _ in 0..2 {
            let answer = relay.get("/").await;
            problem(answer).await.is(502, "origin_coding", "upstream").names("Content-Encoding");
        }
        assert_eq!(relay.client.metric("relay_cache_entries", "").await, 0.0);
    }
}

#[tokio::test]
async fn a_response_without_a_body_tells_no_length_whatever_its_origin_tells() {
    for status in [204, 304, 205] {
        for framing in
            ["Content-Length: 5", "Transfer-Encoding: chunked", "Content-Length: 0", "Connection: x"]
        {
            let body = if status == 205 && framing.ends_with('5') { "12345" } else { "0\r\n\r\n" };
            let origin = answering(format!("HTTP/1.1 {status} X\r\nX-A: b\r\n{framing}\r\n\r\n{body}")).await;
            let relay = Relay::to(origin).start().await;
            let mut raw = relay.raw().await;
            for _ in 0..2 {
                let answer = raw.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
                has_no_body(&answer, status);
                assert_eq!(answer.value("x-a"), "b");
            }
            let answer = over_http_2(&relay).await;
            assert_eq!(answer.status(), status);
            let length = answer.headers().get("content-length").map(|length| length.as_bytes().to_owned());
            assert!(length.is_none_or(|length| status == 205 && length == b"0"));
            assert_eq!(answer.bytes().await.unwrap(), "");
        }
    }
}

#[tokio::test]
async fn what_a_hostile_agent_tells_of_a_body_is_not_believed() {
    let nats = Nats::start().await;
    let client = nats.client(&["--upstream", "hello"]).await;
    let bus = nats.connect().await;
    for status in [204, 304, 205] {
        let agent = tokio::spawn(answer_as_agent(bus.clone(), status));
        let mut raw = client.raw().await;
        for _ in 0..2 {
            has_no_body(&raw.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await, status);
        }
        agent.abort();
        agent.await.ok();
    }
    // No change of protocols where none was asked for.
    let agent = tokio::spawn(answer_as_agent(bus.clone(), 101));
    let mut raw = client.raw().await;
    raw.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.problem().is(502, "origin_broken", "client");
    agent.abort();
}

/// Answers whatever is asked with this status and a body that it must not have, told in two ways.
async fn answer_as_agent(bus: Bus, status: u16) {
    let mut requests = listen(&bus, "relay.req.hello").await;
    let agent: ProcessId = "agent.Hostile12345".parse().unwrap();
    while let Some(message) = requests.next().await {
        let id = decode_request(&message.payload).unwrap().client_req_id;
        let headers: Headers = [(header::CONTENT_LENGTH, "5"), (header::TRANSFER_ENCODING, "chunked")]
            .map(|(name, value)| (name, HeaderValue::from_static(value)))
            .into_iter()
            .collect();
        let status = StatusCode::from_u16(status).unwrap();
        let mut reply = Reply::response(id.clone(), status, headers, Bytes::from("12345"));
        reply.upstream_id = Some(agent.clone());
        reply.upgrade = (status == 101).then(|| HeaderValue::from_static("x"));
        bus.publish(format!("relay.resp.{id}"), encode(&reply)).unwrap();
    }
}

#[track_caller]
fn has_no_body(answer: &RawAnswer, status: u16) {
    assert_eq!(answer.status, status, "{}", answer.head);
    assert!(!answer.has("transfer-encoding") && !answer.has("trailer"), "{}", answer.head);
    let told = if status == 205 { "0" } else { "" };
    assert_eq!((answer.value("content-length").as_str(), answer.text().as_str()), (told, ""));
}

async fn over_http_2(relay: &Relay) -> reqwest::Response {
    let client =
        reqwest::Client::builder().no_proxy().http2_prior_knowledge().timeout(Duration::from_secs(60));
    client.build().unwrap().get(relay.url("/").await).send().await.unwrap()
}

/// An origin that answers each request with these bytes, and keeps its connections.
async fn answering(response: String) -> Origin {
    Origin::tcp(move |mut stream| {
        let response = response.clone();
        async move {
            let mut request = Vec::new();
            while stream.read_buf(&mut request).await.is_ok_and(|read| read > 0) {
                if request.ends_with(b"\r\n\r\n") {
                    request.clear();
                    let bytes: Vec<u8> = response.chars().map(|c| c as u8).collect();
                    stream.write_all(&bytes).await.ok();
                }
            }
        }
    })
    .await
}
