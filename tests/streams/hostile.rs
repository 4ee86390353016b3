//! What a peer may say on `relay.body.*`: anything. It is dropped and counted, or it cuts that one stream.

use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use relay::{
    bus::Bus,
    wire::{Code, End, Fault, Kind, RequestId, Side, StreamMessage, Subjects, Word},
};

use crate::{
    seen::{chunk, get, nothing_is_left, put, put_chunks, relay},
    site::{self, Upload},
    support::*,
};

/// Somebody who hears the streams of a relay and speaks in them.
struct Intruder {
    bus: Bus,
    heard: relay::bus::Subscription,
}

impl Intruder {
    async fn in_relay(relay: &Relay) -> Intruder {
        let bus = relay.nats.connect().await;
        let heard = bus.subscribe("relay.body.>".into()).await.unwrap();
        bus.flush().await;
        Intruder { bus, heard }
    }

    /// A stream by its ids at the client agent and at the upstream agent, once something was said in it.
    async fn stream(&mut self) -> (RequestId, RequestId) {
        let (mut at_client, mut at_agent) = (None, None);
        let both = async {
            loop {
                let message = self.heard.next().await.expect("NATS is there");
                let Ok(said) = StreamMessage::decode(&message.payload) else { continue };
                let of_client = said.to.process().starts_with("client");
                *if of_client { &mut at_client } else { &mut at_agent } = Some(said.to);
                if let (Some(at_client), Some(at_agent)) = (&at_client, &at_agent) {
                    return (at_client.clone(), at_agent.clone());
                }
            }
        };
        within(Duration::from_secs(20), "both sides say something", both).await
    }

    async fn say(&self, to: &RequestId, word: Word) {
        let message = StreamMessage { to: to.clone(), word };
        self.raw(to, message.encode()).await;
    }

    async fn raw(&self, to: &RequestId, payload: Bytes) {
        self.bus.publish(subject(to), payload).unwrap();
        self.bus.flush().await;
    }
}

fn subject(id: &RequestId) -> String {
    Subjects::new("relay".parse().unwrap()).of_request(Kind::Body, id)
}

async fn drops(role: &Role, reason: &str, times: f64) {
    role.counts("relay_messages_dropped_total", reason, times).await;
}

#[tokio::test]
async fn garbage_and_misaddressed_words_are_dropped_and_counted() {
    let (relay, site) = relay().await;
    let mut intruder = Intruder::in_relay(&relay).await;
    let mut raw = relay.raw().await;
    raw.send(put("/upload", 600_000)).await;
    raw.send(site::pattern(0, 300_000)).await;
    let (at_client, at_agent) = intruder.stream().await;
    for (role, own, other) in [(&relay.client, &at_client, &at_agent), (&relay.agent, &at_agent, &at_client)]
    {
        for garbage in [&b""[..], b"garbage", b"\xc1", b"\xdd\xff\xff\xff\xff", b"\x81\xa1v\x01"] {
            intruder.raw(own, Bytes::from_static(garbage)).await;
        }
        drops(role, "malformed", 5.0).await;
        let misled = StreamMessage { to: other.clone(), word: Word::Cancel };
        intruder.raw(own, misled.encode()).await;
        drops(role, "misaddressed", 1.0).await;
    }
    // The stream has not suffered.
    raw.send(site::pattern(300_000, 300_000)).await;
    assert_eq!(raw.answer().await.text(), "600000");
    assert_eq!(site.uploads(), [Upload::Whole(600_000)]);
    nothing_is_left(&[&relay.client, &relay.agent]).await;
}

#[tokio::test]
async fn credit_beyond_all_bounds_harms_only_its_stream() {
    let (relay, _site) = relay().await;
    let mut intruder = Intruder::in_relay(&relay).await;
    let mut raw = relay.raw().await;
    raw.send(put("/unread", 200 << 20)).await;
    raw.send(site::pattern(0, 300_000)).await;
    let (at_client, _) = intruder.stream().await;
    intruder.say(&at_client, Word::Credit { bytes: u64::MAX }).await;
    // What was never granted is too much for whoever gets it.
    for at in 0.. {
        if raw.try_send(site::pattern(at << 20, 1 << 20)).await.is_err()
            || !relay.client.lines("decision=stream_cut").is_empty()
        {
            break;
        }
    }
    raw.answer().await.problem().is(502, "stream_cut", "upstream").names("more of the body came");
    relay.agent.counts("relay_origin_calls_total", "", 1.0).await;
    assert_eq!(relay.get("/").await.text().await.unwrap(), "hello");
    nothing_is_left(&[&relay.client, &relay.agent]).await;
}

#[tokio::test]
async fn frames_that_break_the_rules_cut_the_download() {
    let (relay, _site) = relay().await;
    let huge = Word::Frame { seq: 0, data: vec![0; 900_000].into(), end: None };
    let skips = Word::Frame { seq: u64::MAX, data: Bytes::new(), end: None };
    let wrong_end = End { length: u64::MAX, trailers: HeaderMap::new() };
    let ends = Word::Frame { seq: 0, data: Bytes::new(), end: Some(wrong_end) };
    let ahead = Word::Position { frames: u64::MAX, credit: u64::MAX };
    let cut = Word::Cut((&Fault::new(Code::StreamCut, Side::Upstream, "a lie")).into());
    for (turn, word) in [huge, skips, ends, ahead, cut].into_iter().enumerate() {
        let mut intruder = Intruder::in_relay(&relay).await;
        let mut raw = relay.raw().await;
        raw.send(get("/first/text+event-stream")).await;
        raw.says(b"first").await;
        // The sides say where they are after a while.
        let (at_client, _) = intruder.stream().await;
        intruder.say(&at_client, word.clone()).await;
        let rest = raw.until_closed().await;
        assert!(!rest.ends_with(b"0\r\n\r\n"), "{word:?}");
        eventually("it is logged", || relay.client.lines("decision=stream_cut").len() == turn + 1).await;
        eventually("the origin is left", || site_is_left(&relay)).await;
    }
    nothing_is_left(&[&relay.client, &relay.agent]).await;
    assert_eq!(relay.get("/").await.text().await.unwrap(), "hello");
}

#[tokio::test]
async fn frames_that_break_the_rules_cut_the_upload() {
    let (relay, site) = relay().await;
    let skips = Word::Frame { seq: 1 << 40, data: Bytes::from_static(b"x"), end: None };
    let ahead = Word::Position { frames: u64::MAX, credit: 0 };
    for (turn, word) in [skips, ahead].into_iter().enumerate() {
        let mut intruder = Intruder::in_relay(&relay).await;
        let mut raw = relay.raw().await;
        raw.send(put_chunks("/upload")).await;
        raw.send(chunk(0, 200_000)).await;
        site.reads(200_000 * (turn as u64 + 1)).await;
        let (_, at_agent) = intruder.stream().await;
        intruder.say(&at_agent, word.clone()).await;
        raw.answer().await.problem().is(502, "stream_cut", "upstream");
        eventually("the upload ends", || site.uploads().len() == turn + 1).await;
        assert_eq!(site.uploads()[turn], Upload::Cut(200_000), "{word:?}");
    }
    nothing_is_left(&[&relay.client, &relay.agent]).await;
}

#[tokio::test]
async fn words_about_unknown_streams_change_nothing() {
    let (relay, _site) = relay().await;
    let mut intruder = Intruder::in_relay(&relay).await;
    let mut raw = relay.raw().await;
    raw.send(put("/upload", 200_000)).await;
    raw.send(site::pattern(0, 200_000)).await;
    let (at_client, at_agent) = intruder.stream().await;
    assert_eq!(raw.answer().await.text(), "200000");
    nothing_is_left(&[&relay.client, &relay.agent]).await;
    for id in [&at_client, &at_agent] {
        for word in [
            Word::Credit { bytes: u64::MAX },
            Word::Done,
            Word::Stop,
            Word::Cancel,
            Word::Frame { seq: 0, data: Bytes::from_static(b"data"), end: None },
            Word::Position { frames: 1, credit: 1 },
        ] {
            intruder.say(id, word).await;
        }
        // Whoever says where it is with a stream that is none is told so.
        let position = StreamMessage { to: id.clone(), word: Word::Position { frames: 1, credit: 1 } };
        let other = if id == &at_client { &at_agent } else { &at_client };
        intruder.bus.ask(subject(id), subject(other), position.encode()).unwrap();
        intruder.bus.flush().await;
        let told = async {
            loop {
                let message = intruder.heard.next().await.unwrap();
                let said = StreamMessage::decode(&message.payload).unwrap();
                if said.to == *other && matches!(said.word, Word::Cut(_)) {
                    return;
                }
            }
        };
        within(Duration::from_secs(10), "it is told", told).await;
    }
    assert_eq!(relay.get("/").await.text().await.unwrap(), "hello");
    nothing_is_left(&[&relay.client, &relay.agent]).await;
}

fn site_is_left(relay: &Relay) -> bool {
    relay.origin.connected() == 0
}
