//! HTTP/2 connections flooded with frames that carry nothing.

use crate::support::*;

/// What begins a connection: the preface, and SETTINGS that change nothing.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// `POST http://a/`, by the static table of RFC 7541.
const POST: &[u8] = b"\x83\x86\x84\x41\x01a";
/// Types of frames (RFC 9113 §6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
/// HEADERS that CONTINUATION frames do not follow.
const END_HEADERS: u8 = 4;
/// The code of a GOAWAY that a flood ends with (RFC 9113 §7).
const ENHANCE_YOUR_CALM: u32 = 11;
/// Frames in a flood: more than any limit, and few enough to be read at once.
const FLOOD: usize = 300;

#[tokio::test]
async fn a_flood_of_empty_data_frames_ends_its_connection_alone() {
    floods(END_HEADERS, DATA, "too_many_data_frames").await;
}

#[tokio::test]
async fn a_flood_of_continuation_frames_ends_its_connection_alone() {
    floods(0, CONTINUATION, "too_many_continuations").await;
}

/// A request whose HEADERS have `flags`, then empty frames of type `kind`: the connection ends and says `why`.
async fn floods(flags: u8, kind: u8, why: &str) {
    let relay = Relay::to(Origin::echo().await).start().await;
    let mut other = relay.raw().await;
    let ask = "GET / HTTP/1.1\r\nHost: test\r\n\r\n";
    assert_eq!(other.ask(ask).await.status, 200);
    let mut raw = relay.raw().await;
    let flood = frame(kind, 0, b"").repeat(FLOOD);
    raw.send([PREFACE, &frame(HEADERS, flags, POST), &flood].concat()).await;
    let answer = raw.until_closed().await;
    let goaway = frames(&answer).into_iter().find(|(kind, _)| *kind == GOAWAY).expect("it is told").1;
    let code = u32::from_be_bytes(goaway[4..8].try_into().unwrap());
    assert_eq!((code, String::from_utf8_lossy(&goaway[8..]).as_ref()), (ENHANCE_YOUR_CALM, why));
    assert_eq!(other.ask(ask).await.status, 200);
    drop(other);
    for name in ["relay_streams", "relay_requests_in_flight", "relay_connections"] {
        eventually_async(&format!("{name} is 0"), || async { relay.client.metric(name, "").await == 0.0 })
            .await;
    }
}

/// A frame of stream 1.
fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    [&[0, 0, length, kind, flags, 0, 0, 0, 1], payload].concat()
}

/// The type and the payload of each frame.
fn frames(mut bytes: &[u8]) -> Vec<(u8, &[u8])> {
    let mut frames = Vec::new();
    while let [a, b, c, kind, _, _, _, _, _, rest @ ..] = bytes {
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        let (payload, rest) = rest.split_at(length.min(rest.len()));
        frames.push((*kind, payload));
        bytes = rest;
    }
    frames
}
