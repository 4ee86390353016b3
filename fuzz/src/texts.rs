//! Texts: URLs, routes, lists in headers, lines of JSON, files.

use std::{
    collections::HashMap,
    time::{Instant, SystemTime},
};

use http::{HeaderName, HeaderValue, StatusCode};
use relay::{
    cache::{
        control::{Said, Wants},
        entry::{Head, Question},
        fresh::Times,
        key::Key,
        select::{self, Body},
    },
    config::{self, requests::Requests},
    front::{
        lines::{
            read,
            split::{Cut, Splitter},
        },
        proxy,
    },
    proto::forward,
    wire::{Allow, Headers, Route, Target, authority, route},
};

use crate::{args, file, text};

/// The PROXY protocol.
pub fn proxy_protocol(data: &[u8]) {
    if let Ok(Some((_, length))) = proxy::parse(data) {
        assert!(length <= data.len());
        assert!(proxy::parse(&data[..length]).is_ok_and(|read| read.is_some()), "what follows has no say");
    }
}

/// URLs, routes, hosts and what an egress agent may call.
pub fn targets(data: &[u8]) {
    let is_authority = authority::is_authority(data);
    let Some(text) = text(data) else { return };
    if let Ok(target) = Target::parse(text) {
        assert_eq!(Target::parse(&target.to_string()).as_ref(), Ok(&target), "{text}");
        assert!(target.path_and_query().starts_with('/'));
        assert!(target.path_and_query().parse::<http::uri::PathAndQuery>().is_ok(), "{text}");
        assert!(authority::is_authority(target.authority().as_bytes()), "{text}");
    }
    if let Ok(route) = text.parse::<Route>() {
        assert_eq!(route.to_string().parse::<Route>().as_ref(), Ok(&route), "{text}");
        assert!(!route.tokens().contains([' ', '*', '>']), "{text}");
    }
    if let Ok(allow) = text.parse::<Allow>() {
        assert_eq!(allow.to_string().parse::<Allow>().as_ref(), Ok(&allow), "{text}");
    }
    let normal = route::normal_path(text);
    assert_eq!(route::normal_path(&normal), normal, "{text}");
    if is_authority {
        assert!(text.parse::<http::uri::Authority>().is_ok(), "{text}");
        let host = route::normal_host(text);
        assert_eq!(route::normal_host(&host), host, "{text}");
    }
}

/// The six headers of a chain, one on each line.
pub fn forward_lists(data: &[u8]) {
    const NAMES: [&str; 6] = [
        "x-forward-id",
        "x-forward-errors-to",
        "x-forward-referer",
        "x-forward-to",
        "x-forward-query-params",
        "x-forward-method",
    ];
    let mut headers = Headers::new();
    for (name, value) in NAMES.iter().zip(data.split(|&byte| byte == b'\n')) {
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.append(HeaderName::from_static(name), value);
        }
    }
    if let Ok(forward::Asked::Forward(read)) = forward::read(&mut headers, 16) {
        assert!((1..=16).contains(&read.hops.len()));
        forward::lists(&read.hops);
    }
}

/// Lines of JSON on a socket.
pub fn json_lines(data: &[u8]) {
    let split = |part: usize| {
        let mut splitter = Splitter::new(256);
        let mut lines = Vec::new();
        for part in data.chunks(part) {
            splitter.room().extend_from_slice(part);
            lines.extend(std::iter::from_fn(|| splitter.next_line()));
        }
        lines.extend(splitter.end());
        lines
    };
    let lines = split(data.len().max(1));
    assert_eq!(lines, split(1), "byte by byte it is another thing");
    for line in lines {
        if let Cut::Line(line) = line {
            read::read(&line).ok();
        }
    }
    read::read(data).ok();
}

/// A file of requests, and what its URLs become with hostile parameters.
pub fn request_templates(data: &[u8]) {
    let Ok(requests) = Requests::load(&file("requests.toml", data)) else { return };
    for definition in requests.iter() {
        for hostile in ["x", "../..", "%2e%2e", "a/b?c#d", "\r\nHost: evil", "\u{e4}"] {
            let values: HashMap<&str, &str> = definition.url.names().map(|name| (name, hostile)).collect();
            if let Ok(url) = definition.url.fill(|name| values.get(name).copied()) {
                assert!(url.starts_with('/') && !url.contains(['#', '\r', '\n', ' ']), "{url}");
            }
        }
    }
}

/// A file of settings.
pub fn config_file(data: &[u8]) {
    for role in ["client", "upstream", "broker"] {
        config::reread(&args(&["relay", role, "--config"], file("relay.toml", data))).ok();
    }
}

/// What a cache is told, by both sides.
pub fn cache_control(data: &[u8]) {
    let headers = headers(data);
    (Said::of(&headers), Wants::of(&headers));
    let now = Instant::now();
    let times = Times { asked: now, now, clock: SystemTime::UNIX_EPOCH };
    let question = question(Headers::new());
    let upstream = "hello".parse().expect("it is a name");
    if let Some(head) = Head::of(&question, &upstream, StatusCode::OK, &headers, &[], times) {
        (head.fresh.ttl(now), head.fresh.usable(&question.wants, now), head.fresh.age(now));
    }
}

/// What a request says of ranges and conditions.
pub fn conditions(data: &[u8]) {
    let stored: Headers = [
        ("cache-control", "max-age=60"),
        ("etag", "\"a,b\""),
        ("last-modified", "Sun, 06 Nov 1994 08:00:00 GMT"),
        ("date", "Sun, 06 Nov 1994 08:49:37 GMT"),
    ]
    .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
    .into_iter()
    .collect();
    let now = Instant::now();
    let times = Times { asked: now, now, clock: SystemTime::UNIX_EPOCH };
    let question = question(headers(data));
    let upstream = "hello".parse().expect("it is a name");
    let Some(head) = Head::of(&question, &upstream, StatusCode::OK, &stored, &[], times) else { return };
    for length in [0, 1, 100] {
        let answer = select::answer(&question, &head, Some(length), now);
        if let Body::Part(range) = answer.body {
            assert!(range.start < range.end && range.end <= length, "{range:?} of {length}");
        }
    }
}

fn question(headers: Headers) -> Question {
    let wants = Wants::of(&headers);
    Question { key: Key::parse("http://a.example/").expect("it is a URL"), headers, wants, head: false }
}

/// Lines of `name: value`.
fn headers(data: &[u8]) -> Headers {
    let line = |line: &[u8]| {
        let colon = line.iter().position(|&byte| byte == b':')?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        Some((name, HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?))
    };
    data.split(|&byte| byte == b'\n').filter_map(line).collect()
}

fn all(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// Headers of both versions.
pub fn proxies() -> Vec<Vec<u8>> {
    let signature = b"\r\n\r\n\0\r\nQUIT\n";
    let mut all = all(&[
        "PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\nGET / HTTP/1.1\r\n",
        "PROXY TCP6 2001:db8::1 ::1 1 2\r\n",
        "PROXY UNKNOWN\r\n",
    ]);
    all.push([&signature[..], b"\x21\x11\0\x0c\xc0\0\x02\x01\xc6\x33\x64\x01\xdc\x04\x01\xbb"].concat());
    all.push([&signature[..], b"\x21\x21\0\x24", &[1; 36]].concat());
    all.push([&signature[..], b"\x20\0\0\0"].concat());
    all
}

/// URLs, routes and hosts.
pub fn urls() -> Vec<Vec<u8>> {
    all(&[
        "https://api.partner.com:8443/a/b?c=d",
        "HTTP://API.Partner.COM./%2e%2E?x=/y",
        "http://[::ffff:127.0.0.1]:80/x",
        "shop.example.com/v1.2/%7euser",
        "*.Example.com",
        "/api/v1",
        "https://*.partner.com",
        "192.0.2.1:80",
        "[::1]:443",
        "/%61%2fb/%zz%4",
    ])
}

/// Chains.
pub fn lists() -> Vec<Vec<u8>> {
    all(&[
        "0191e3a0-7c1e-4b61-9d5e-0f6f4a3b2c1d\nhttp://errors/x\n/\nhttp://one/a, http://two:8080, http://three/?x=1\na=b, , c=d\nGET, POST, PUT",
        "0191e3a0-7c1e-4b61-9d5e-0f6f4a3b2c1d\nhttp://errors\nhttp://from/\nhttps://[::1]/\n\"a, b\"\nPOST",
    ])
}

/// Lines on a socket.
pub fn lines() -> Vec<Vec<u8>> {
    all(&[
        "{\"request\":\"hl2\", \"id\":\"123\", \"params\":{\"count\":1}}\n",
        "{\"request\":\"t\",\"id\":1,\"data\":{\"a\":[1,\"\\u00e4\"]},\"headers\":{\"x\":\"y\"},\"timeout\":1.5}\r\n{\"cancel\":1}\n",
        "{\"request\":\"t\",\"id\":[{\"a\":null}],\"data\":null}\n\n",
    ])
}

/// Files of requests.
pub fn request_files() -> Vec<Vec<u8>> {
    let mut all = all(&[
        "[request.a]\nurl = \"https://h:1/x/{id}/y?z={q}&c=d\"\nexpect = [200, \"2xx\"]\ntimeout = \"1s\"\n",
        "[request.b]\nupstream = \"hello\"\nurl = \"/{a}{b}\"\nmethod = \"POST\"\nbody = \"form\"\nheaders = { x = \"y\" }\n",
    ]);
    all.push(include_bytes!("../../docs/requests.toml").to_vec());
    all
}

/// Files of settings.
pub fn config_files() -> Vec<Vec<u8>> {
    all(&[
        "server = \"nats://h:4222\"\ngrace = \"5s\"\n[client]\nlisten = \"127.0.0.1:0\"\nupstream = \"hello\"\ncache = \"1MiB\"\n",
        "[[upstream]]\nname = \"a\"\nto = \"http://h\"\nroute = [\"a.example\", \"/b\"]\n[[upstream]]\nname = \"c\"\nto = \"unix:/x\"\n",
        "[broker]\nwait = \"1s\"\n",
    ])
}

/// What a cache is told.
pub fn directives() -> Vec<Vec<u8>> {
    all(&[
        "cache-control: max-age=60, s-maxage=\"10\", private=\"a, b\"\nexpires: Sun, 06 Nov 1994 08:49:37 GMT\nage: 5\nvary: a, b\n",
        "cdn-cache-control: max-age=60, stale-while-revalidate=1;x=y\ncache-control: no-store\ndate: Sunday, 06-Nov-94 08:49:37 GMT\n",
        "cache-control: max-stale, min-fresh=1, only-if-cached\npragma: no-cache\n",
    ])
}

/// Conditions and ranges.
pub fn conditions_of_requests() -> Vec<Vec<u8>> {
    all(&[
        "range: bytes=0-0\nif-range: \"a,b\"\n",
        "range: bytes=-10\nif-none-match: W/\"x\", \"a,b\"\n",
        "range: bytes=90-\nif-modified-since: Sun Nov  6 08:49:37 1994\n",
    ])
}
