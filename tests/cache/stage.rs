//! What the tests of the cache share: relays that have one, and origins whose answers are numbered.

use std::{
    collections::HashMap,
    future::Future,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use http::Response;
use tokio::sync::watch;

use crate::support::*;

/// An origin that answers as the request's query says: each pair is a header of the answer, `status` its status.
/// The body is the number of the request for that target, or as many bytes as `bytes` says.
pub async fn told() -> Origin {
    let asked: Arc<Mutex<HashMap<String, usize>>> = Arc::default();
    Origin::start(move |seen| {
        let number = {
            let mut asked = asked.lock().unwrap();
            let number = asked.entry(seen.target.clone()).or_default();
            *number += 1;
            *number
        };
        async move { by_query(&seen, number) }
    })
    .await
}

/// The answer that the query of `seen` describes.
pub fn by_query(seen: &Seen, number: usize) -> Response<Bytes> {
    let query = seen.target.split_once('?').map_or("", |(_, query)| query);
    let pairs: Vec<(String, String)> = query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(n, v)| (n.to_owned(), plain(v)))
        .collect();
    let of = |name: &str| pairs.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone());
    let validates = of("etag").is_some_and(|etag| seen.value("if-none-match") == etag);
    let status = match validates {
        true => 304,
        false => of("status").map_or(200, |status| status.parse().unwrap()),
    };
    let body = match of("bytes") {
        Some(bytes) => vec![b'a' + (number % 26) as u8; bytes.parse().unwrap()],
        None => number.to_string().into_bytes(),
    };
    let mut response = answer(status, if validates { Vec::new() } else { body });
    for (name, value) in pairs.iter().filter(|(name, _)| !["status", "bytes", "n"].contains(&name.as_str())) {
        let name: http::HeaderName = name.parse().unwrap();
        response.headers_mut().append(name, value.parse().unwrap());
    }
    response
}

fn plain(text: &str) -> String {
    text.replace("%20", " ").replace("%22", "\"").replace('+', " ")
}

/// A relay with a cache in front of an origin that answers as it is told.
pub async fn relay() -> Relay {
    Relay::to(told().await).client(&["--cache", "64MB"]).start().await
}

/// A relay with a cache in front of an origin that answers its n-th request when the gate is at n.
pub async fn gated() -> (Relay, watch::Sender<usize>) {
    let gate = watch::Sender::new(0);
    let opened = gate.subscribe();
    let numbers = AtomicUsize::new(0);
    let origin = Origin::start(move |seen| {
        let number = numbers.fetch_add(1, Ordering::Relaxed) + 1;
        let mut opened = opened.clone();
        async move {
            opened.wait_for(|open| *open >= number).await.ok();
            by_query(&seen, number)
        }
    })
    .await;
    (Relay::to(origin).client(&["--cache", "64MB"]).start().await, gate)
}

/// One answer as a test looks at it.
#[derive(Debug)]
pub struct Got {
    pub status: u16,
    pub cache: String,
    pub headers: http::HeaderMap,
    pub body: Bytes,
}

impl Got {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The one value of a header, empty when there is none.
    pub fn value(&self, name: &str) -> String {
        self.headers.get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
    }

    /// It must be this body, and `Cache-Status` must begin so after our name.
    #[track_caller]
    pub fn is(&self, body: &str, cache: &str) -> &Got {
        assert_eq!(self.text(), body, "{self:?}");
        let told = self.cache.strip_prefix("relay; ").unwrap_or(&self.cache);
        assert!(told.starts_with(cache), "{cache:?} in {self:?}");
        self
    }
}

/// GETs `path` with these headers.
pub async fn get(client: &Role, path: &str, headers: &[(&str, &str)]) -> Got {
    ask(client, http::Method::GET, path, headers).await
}

/// Asks for `path` with these headers.
pub async fn ask(client: &Role, method: http::Method, path: &str, headers: &[(&str, &str)]) -> Got {
    let mut request = http().request(method, client.url(path).await);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    got(request.send()).await
}

/// What an answer is when all of it is here.
pub async fn got(answer: impl Future<Output = reqwest::Result<reqwest::Response>>) -> Got {
    let answer = answer.await.expect("the client agent answers");
    let headers = answer.headers().clone();
    let cache = headers.get_all("cache-status").iter().map(|v| v.to_str().unwrap()).collect::<Vec<_>>();
    Got {
        status: answer.status().as_u16(),
        cache: cache.join(" | "),
        body: answer.bytes().await.expect("a whole body"),
        headers,
    }
}
