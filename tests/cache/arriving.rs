//! Bodies that are stored while they arrive.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::{io::AsyncWriteExt, sync::watch};

use super::stage::*;
use crate::support::*;

const PAGE: &str = "/page";
/// More than rides in a message.
const PART: usize = 300_000;

#[tokio::test]
async fn a_large_body_is_stored_while_its_caller_reads_it() {
    for framing in [Framing::Length, Framing::Chunked] {
        let (relay, origin) = start(framing, &[]).await;
        origin.parts(usize::MAX);
        let first = get(&relay.client, PAGE, &[]).await;
        assert_eq!(
            (first.body.len(), first.cache.as_str()),
            (3 * PART, "relay; fwd=uri-miss; ttl=60; stored")
        );
        hits(&relay.client).await;
        let again = get(&relay.client, PAGE, &[]).await;
        assert!(again.cache.starts_with("relay; hit") && again.body == first.body);
        assert_eq!(origin.asked(), 1);
    }
}

#[tokio::test]
async fn others_read_it_as_it_comes() {
    let (relay, origin) = start(Framing::Chunked, &[]).await;
    origin.parts(1);
    let mut callers = Vec::new();
    for _ in 0..3 {
        let mut caller = relay.raw().await;
        caller.send(format!("GET {PAGE} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        // The first part, and the rest is not there yet.
        caller.says(&[b'1'; 1000]).await;
        callers.push(caller);
    }
    assert_eq!(origin.asked(), 1);
    origin.parts(usize::MAX);
    for mut caller in callers {
        let answer = caller.answer().await;
        assert_eq!(answer.body.len(), 3 * PART);
        assert!(answer.body == whole());
    }
    assert_eq!(origin.asked(), 1);
}

#[tokio::test]
async fn a_caller_that_leaves_midway_spoils_nothing() {
    for (framing, asked) in [(Framing::Length, 1), (Framing::Chunked, 2)] {
        let (relay, origin) = start(framing, &[]).await;
        origin.parts(1);
        let mut caller = relay.raw().await;
        caller.send(format!("GET {PAGE} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        caller.says(&[b'1'; 1000]).await;
        drop(caller);
        if asked == 2 {
            eventually("what has no known end is given up", || origin.cancelled() == 1).await;
        }
        relay.client.counts("relay_requests_in_flight", "", 0.0).await;
        origin.parts(usize::MAX);
        if asked == 1 {
            hits(&relay.client).await;
        }
        let answer = get_as(&relay.client).await;
        assert!(answer.body == whole(), "{} bytes", answer.body.len());
        assert_eq!(origin.asked(), asked);
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_is_never_stored() {
    let (relay, origin) = start(Framing::Chunked, &[]).await;
    origin.parts(1);
    let mut callers = Vec::new();
    for _ in 0..2 {
        let mut caller = relay.raw().await;
        caller.send(format!("GET {PAGE} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        caller.says(&[b'1'; 1000]).await;
        callers.push(caller);
    }
    origin.origin().close_connections();
    for mut caller in callers {
        assert!(caller.try_answer().await.is_err(), "it does not look complete");
    }
    origin.parts(usize::MAX);
    let answer = get_as(&relay.client).await;
    assert!(answer.body == whole());
    assert_eq!(origin.asked(), 2);
}

#[tokio::test]
async fn what_is_too_large_passes_through_and_is_not_stored() {
    for framing in [Framing::Length, Framing::Chunked] {
        let (relay, origin) = start(framing, &["--cache-object", "500KB"]).await;
        origin.parts(usize::MAX);
        for asked in [1, 2, 3] {
            let answer = get_as(&relay.client).await;
            assert!(answer.body == whole(), "{} bytes", answer.body.len());
            assert_eq!(origin.asked(), asked);
        }
        assert_eq!(relay.client.metric("relay_cache_entries", "").await, 0.0);
        relay.client.counts("relay_streams", "", 0.0).await;
    }
}

async fn get_as(client: &Role) -> Got {
    get(client, PAGE, &[("host", "a")]).await
}

async fn hits(client: &Role) {
    client.counts("relay_cache_entries", "", 1.0).await;
}

fn whole() -> Vec<u8> {
    [b'1', b'2', b'3'].into_iter().flat_map(|byte| vec![byte; PART]).collect()
}

#[derive(Clone, Copy, PartialEq)]
enum Framing {
    Length,
    Chunked,
}

/// An origin whose body comes in three parts, as many as it is told.
struct Parts {
    told: watch::Sender<usize>,
    asked: Arc<AtomicUsize>,
    gone: Arc<AtomicUsize>,
    origin: Origin,
}

impl Parts {
    fn parts(&self, parts: usize) {
        self.told.send_replace(parts);
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    fn cancelled(&self) -> usize {
        self.gone.load(Ordering::Relaxed)
    }

    fn origin(&self) -> &Origin {
        &self.origin
    }
}

/// What is left of a relay whose origin the test has.
struct Started {
    client: Role,
    _agent: Role,
    _nats: Nats,
}

impl Started {
    async fn raw(&self) -> Raw {
        self.client.raw().await
    }
}

async fn start(framing: Framing, flags: &[&str]) -> (Started, Parts) {
    let told = watch::Sender::new(0);
    let (asked, gone): (Arc<AtomicUsize>, Arc<AtomicUsize>) = Default::default();
    let (opened, count, left) = (told.subscribe(), Arc::clone(&asked), Arc::clone(&gone));
    let origin = Origin::tcp(move |mut stream| {
        let (mut opened, count, left) = (opened.clone(), Arc::clone(&count), Arc::clone(&left));
        async move {
            if origin::read_request(&mut stream).await.is_none() {
                return;
            }
            count.fetch_add(1, Ordering::Relaxed);
            let length = match framing {
                Framing::Length => format!("Content-Length: {}", 3 * PART),
                Framing::Chunked => "Transfer-Encoding: chunked".to_owned(),
            };
            let head = format!("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n{length}\r\n\r\n");
            stream.write_all(head.as_bytes()).await.ok();
            for (number, byte) in [b'1', b'2', b'3'].into_iter().enumerate() {
                let mut end = [0];
                tokio::select! {
                    _ = opened.wait_for(|parts| *parts > number) => {}
                    _ = tokio::io::AsyncReadExt::read(&mut stream, &mut end) => {
                        left.fetch_add(1, Ordering::Relaxed);
                        return;
                    }
                }
                let mut part = vec![byte; PART];
                if framing == Framing::Chunked {
                    part = [format!("{PART:x}\r\n").as_bytes(), &part, b"\r\n"].concat();
                }
                stream.write_all(&part).await.ok();
            }
            if framing == Framing::Chunked {
                stream.write_all(b"0\r\n\r\n").await.ok();
            }
        }
    })
    .await;
    let nats = Nats::start().await;
    let url = origin.url();
    let flags = [&["--upstream", "hello", "--cache", "64MB"], flags].concat();
    let (client, agent) = tokio::join!(nats.client(&flags), nats.upstream("hello", &url, &[]));
    (Started { client, _agent: agent, _nats: nats }, Parts { told, asked, gone, origin })
}
