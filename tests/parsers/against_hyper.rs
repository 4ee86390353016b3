//! The parser of requests beside hyper's, on mutations of requests: what both read, they read alike, and what only one
//! reads has a reason that is listed here.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use bytes::BytesMut;
use http_body_util::{BodyExt, Empty};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use relay::front::http1::head::{Asked, Heads, Refusal};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{corpus, mutate::Mutator};

/// A request as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Read {
    method: String,
    target: String,
    is_1_1: bool,
    fields: Vec<(String, Vec<u8>)>,
    /// The body, when all of it is here and is one.
    body: Option<Vec<u8>>,
}

/// What was read of some bytes, and why no more.
#[derive(Debug)]
struct Reading {
    requests: Vec<Read>,
    refusal: Option<Why>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    Head(Refusal),
    Body,
}

#[tokio::test]
async fn what_both_parsers_read_they_read_alike() {
    let seed = std::env::var("FUZZ_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(SEED);
    let count = std::env::var("FUZZ_COUNT").ok().and_then(|count| count.parse().ok()).unwrap_or(COUNT);
    let mut mutator = Mutator::new(seed, corpus::requests());
    let (mut read, mut refused) = (0, 0);
    for number in 0..count {
        let bytes = mutator.make();
        let (ours, theirs) = (by_relay(&bytes), by_hyper(&bytes).await);
        if let Err(difference) = compare(&bytes, &ours, &theirs) {
            panic!(
                "FUZZ_SEED={seed}, number {number}: {difference}\n{:?}\nrelay: {ours:#?}\nhyper: {theirs:#?}",
                String::from_utf8_lossy(&bytes)
            );
        }
        read += ours.requests.len();
        refused += usize::from(ours.refusal.is_some());
    }
    assert!(read > count / 4 && refused > count / 10, "seed {seed}: {read} read, {refused} refused");
}

/// The intended differences are the arms with a reason.
fn compare(bytes: &[u8], ours: &Reading, theirs: &[Read]) -> Result<(), &'static str> {
    for (at, own) in ours.requests.iter().enumerate() {
        match (theirs.get(at), &own.body) {
            (Some(other), _) if own == other => {}
            // A body that is not whole, or that only hyper takes for one, as below.
            (Some(other), None) if (Read { body: None, ..other.clone() }) == *own => {
                return if other.body.is_none() || ours.refusal == Some(Why::Body) {
                    Ok(())
                } else {
                    Err("only hyper has the body")
                };
            }
            (Some(_), _) => return Err("it is read in two ways"),
            // hyper keeps targets as texts that `http` checks, and knows no later version.
            (None, _) if is_no_uri(&own.target, bytes) || has_later_version(bytes) => return Ok(()),
            (None, _) => return Err("hyper refuses what relay reads"),
        }
    }
    if theirs.len() <= ours.requests.len() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(bytes);
    match ours.refusal {
        // Outer codings would be passed on without a word; a repeated one is none.
        Some(Why::Head(Refusal::Coding)) if text.to_ascii_lowercase().contains("transfer-encoding") => Ok(()),
        // hyper believes the coding and forgets the length. Both in one request are an attack.
        Some(Why::Head(Refusal::TwoFramings)) => Ok(()),
        // hyper takes any text without a slash for a host.
        Some(Why::Head(Refusal::Target)) if !theirs[ours.requests.len()].target.contains('/') => Ok(()),
        // hyper leaves a fragment out.
        Some(Why::Head(Refusal::Unfit(_))) if text.contains('#') => Ok(()),
        // hyper's reader of chunks takes more than RFC 9112 has, as spaces before a size.
        Some(Why::Body) => Ok(()),
        _ => Err("relay refuses what hyper reads"),
    }
}

fn is_no_uri(target: &str, bytes: &[u8]) -> bool {
    target.parse::<http::Uri>().is_err() || std::str::from_utf8(bytes).is_err()
}

fn has_later_version(bytes: &[u8]) -> bool {
    bytes.windows(8).any(|text| text.starts_with(b"HTTP/1.") && matches!(text[7], b'2'..=b'9'))
}

fn by_relay(bytes: &[u8]) -> Reading {
    let mut heads = Heads::new(1 << 20);
    let mut buffer = BytesMut::from(bytes);
    let mut reading = Reading { requests: Vec::new(), refusal: None };
    loop {
        let asked = match heads.take(&mut buffer) {
            Ok(Some(asked)) => asked,
            Ok(None) => return reading,
            Err(refusal) => {
                reading.refusal = Some(Why::Head(refusal));
                return reading;
            }
        };
        let Asked { head, mut body, keeps, .. } = asked;
        let mut whole = Vec::new();
        let body = loop {
            match body.take(&mut buffer) {
                Ok(Some(frame)) => whole.extend_from_slice(&frame.into_data().unwrap_or_default()),
                Ok(None) if body.is_ended() => break Ok(Some(whole)),
                Ok(None) => break Ok(None),
                Err(_) => break Err(()),
            }
        };
        let target = head.target.authority.unwrap_or_default()
            + &head.target.url.map(|url| url.to_string()).unwrap_or_default();
        let read = Read {
            method: head.method.to_string(),
            target,
            is_1_1: head.version == http::Version::HTTP_11,
            fields: head
                .headers
                .iter()
                .map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()))
                .collect(),
            body: body.clone().unwrap_or_default(),
        };
        reading.requests.push(sorted(read));
        if body.is_err() {
            reading.refusal = Some(Why::Body);
        }
        // After CONNECT, which is refused here, hyper expects another protocol.
        if !matches!(body, Ok(Some(_)))
            || !keeps
            || reading.requests.last().is_some_and(|read| read.method == "CONNECT")
        {
            return reading;
        }
    }
}

async fn by_hyper(bytes: &[u8]) -> Vec<Read> {
    let read = Arc::new(Mutex::new(Vec::new()));
    let (mut near, far) = tokio::io::duplex(1 << 20);
    near.write_all(bytes).await.unwrap();
    near.shutdown().await.unwrap();
    let seen = Arc::clone(&read);
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let seen = Arc::clone(&seen);
        async move {
            let (head, body) = request.into_parts();
            // Of other schemes than these relay keeps no path, and refuses the request for it.
            let served = head.uri.scheme_str().is_none_or(|scheme| ["http", "https"].contains(&scheme));
            let url = match head.uri.path_and_query().filter(|_| served).map(ToString::to_string) {
                Some(query) if query.starts_with('?') => format!("/{query}"),
                url => url.unwrap_or_default(),
            };
            let authority = head.uri.authority().map(ToString::to_string);
            let target = authority.unwrap_or_default() + &url;
            let own = Read {
                method: head.method.to_string(),
                target,
                is_1_1: head.version == http::Version::HTTP_11,
                fields: head
                    .headers
                    .iter()
                    .map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()))
                    .collect(),
                body: None,
            };
            let at = {
                let mut seen = seen.lock().unwrap();
                seen.push(sorted(own));
                seen.len() - 1
            };
            if let Ok(body) = body.collect().await {
                seen.lock().unwrap()[at].body = Some(body.to_bytes().to_vec());
            }
            Ok::<_, Infallible>(hyper::Response::new(Empty::<bytes::Bytes>::new()))
        }
    });
    let connection = http1::Builder::new().half_close(true).serve_connection(TokioIo::new(far), service);
    let reading = async {
        let mut answers = Vec::new();
        near.read_to_end(&mut answers).await.ok();
    };
    let (_, ()) = tokio::join!(connection, reading);
    let read = read.lock().unwrap();
    read.clone()
}

/// A map keeps the values of one name in order, and the names in an order of its own.
fn sorted(read: Read) -> Read {
    let mut fields = read.fields;
    fields.sort_by(|one, other| one.0.cmp(&other.0));
    Read { fields, ..read }
}

/// How many mutations are tried where nobody asks for another number.
const COUNT: usize = 20_000;
const SEED: u64 = 15;
