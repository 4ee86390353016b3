//! Whom a request is for: one host, which routes, the cache and the origin read alike, or none at all.

use relay::wire::{ProcessId, RequestId, codec};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::*;

/// What is no host with or without a port.
const WRONG: [&str; 36] = [
    "",
    "a b",
    "u@h",
    "u:p@h",
    "h:80@evil",
    "a:80:80",
    "h:",
    "h:0",
    "h:99999",
    "h:8a",
    "h:+80",
    ":80",
    "[::1",
    "[",
    "[]",
    "::1",
    "[::1]x",
    "[::1]:",
    "[fe80::1%25eth0]",
    "[fe80::1%eth0]",
    "[127.0.0.1]",
    "%zz",
    "%41",
    "a,b",
    "a;b",
    "a/b",
    "a?b",
    "a#b",
    "a\\b",
    "a\"b",
    "a<b",
    "a..b",
    ".a",
    "a\tb",
    "a\u{e4}",
    "*.a",
];

#[tokio::test]
async fn what_is_no_host_is_refused_before_anything_is_looked_up() {
    let relay = Relay::start().await;
    let mut raw = relay.raw().await;
    for version in ["1.1", "1.0"] {
        for host in WRONG {
            let head = format!("GET / HTTP/{version}\r\nConnection: keep-alive\r\nHost: {host}\r\n\r\n");
            raw.ask(head).await.problem().is(400, "bad_request", "client").names("Host");
        }
        for hosts in ["Host: a\r\nHost: a", "Host: a\r\nhost: b", "Host:\r\nHost: a"] {
            let head = format!("GET / HTTP/{version}\r\nConnection: keep-alive\r\n{hosts}\r\n\r\n");
            raw.ask(head).await.problem().is(400, "bad_request", "client").names("Host");
        }
    }
    assert_eq!(relay.origin.hits(), 0);
    for host in ["a", "Shop.Example.:8080", "[::1]:1", "192.0.2.1", "a_b-c.example"] {
        let head = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert_eq!(raw.ask(head).await.status, 200, "{host}");
    }
}

#[tokio::test]
async fn the_authority_of_an_absolute_target_is_a_host_like_any_other() {
    let relay = Relay::start().await;
    let others = [
        "http://u:p@h/",
        "http://@h/",
        "http://h:/",
        "http://h:99999/",
        "http://a%41/",
        "http://a,b/",
        "http://[::1%25a]/",
    ];
    for target in WRONG.map(|host| format!("http://{host}/")).iter().map(String::as_str).chain(others) {
        let mut raw = relay.raw().await;
        let answer = raw.ask(format!("GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")).await;
        // What has a space, or a `/` in the host, is another thing altogether.
        let is_other = ["http://a/b/", "http://a?b/"].contains(&target);
        assert_eq!(answer.status, if is_other { 200 } else { 400 }, "{target}");
    }
    let mut raw = relay.raw().await;
    let answer = raw.ask("GET http://a/ HTTP/1.1\r\nHost: u@h\r\n\r\n").await;
    answer.problem().is(400, "bad_request", "client").names("Host");
    let answer = raw.ask("GET http://shop.example/ HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!((answer.status, relay.origin.last().values("host")), (200, vec!["shop.example".to_owned()]));
}

#[tokio::test]
async fn http_2_names_one_host_by_its_authority_or_its_host_header() {
    let relay = Relay::start().await;
    for (authority, hosts, status) in [
        (Some("h"), vec![], 200),
        (Some("h"), vec!["h"], 200),
        (Some("H:80"), vec!["h:80"], 200),
        (None, vec!["h"], 200),
        (None, vec![], 200),
        (Some("h"), vec!["other"], 400),
        (Some("h"), vec!["h:80"], 400),
        (Some("u@h"), vec![], 400),
        (Some("u@h"), vec!["u@h"], 400),
        (Some("h:99999"), vec![], 400),
        (Some("a,b"), vec![], 400),
        (Some("a..b"), vec![], 400),
        (None, vec!["u@h"], 400),
        (None, vec!["a b"], 400),
        (None, vec![""], 400),
        (None, vec!["a", "a"], 400),
        (Some("a"), vec!["a", "a"], 400),
    ] {
        let mut fields: Vec<_> = authority.map(|authority| (":authority", authority)).into_iter().collect();
        fields.extend(hosts.iter().map(|host| ("host", *host)));
        assert_eq!(over_http_2(&relay, "/", &fields).await, Some(status), "{fields:?}");
    }
    // What is not well-formed is reset before it is a request.
    let before = relay.origin.hits();
    for field in
        [(":authority", "a b"), (":authority", "a%41"), ("transfer-encoding", "chunked"), ("connection", "x")]
    {
        assert_eq!(over_http_2(&relay, "/", &[field]).await, None, "{field:?}");
    }
    assert_eq!(relay.origin.hits(), before);
    // A fragment never comes this far: routes, the cache and the origin see the same target.
    assert_eq!(over_http_2(&relay, "/a#b", &[(":authority", "h")]).await, Some(200));
    assert_eq!(relay.origin.last().target, "/a");
}

#[tokio::test]
async fn routes_are_looked_up_by_the_host_that_the_origin_gets() {
    let nats = Nats::start().await;
    let (shop, rest) = (Origin::echo().await, Origin::echo().await);
    let client = nats.client(&[]).await;
    let urls = [shop.url(), rest.url()];
    let _agents = tokio::join!(
        nats.upstream("shop", &urls[0], &["--route", "shop.example", "--host-header", "keep"]),
        nats.upstream("rest", &urls[1], &["--route", "/", "--host-header", "keep"]),
    );
    client.counts("relay_routes", "", 2.0).await;
    let mut raw = client.raw().await;
    for host in ["shop.example", "SHOP.example.", "shop.example:8443"] {
        assert_eq!(raw.ask(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await.status, 200);
        assert_eq!(shop.last().values("host"), [host]);
    }
    for host in [
        "shop.example@rest",
        "rest@shop.example",
        "shop.example:80@rest",
        "shop.example:80:80",
        "shop.example,rest",
    ] {
        assert_eq!(raw.ask(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await.status, 400, "{host}");
    }
    assert_eq!((shop.hits(), rest.hits()), (3, 0));
}

#[tokio::test]
async fn what_is_asked_by_nats_has_one_host_as_well() {
    let nats = Nats::start().await;
    let origin = Origin::echo().await;
    let _agent = nats.upstream("hello", &origin.url(), &["--host-header", "keep"]).await;
    let bus = nats.connect().await;
    let own: ProcessId = "client.Test12345678".parse().unwrap();
    for (number, hosts) in [(1, vec!["u@h"]), (2, vec!["a", "b"]), (3, vec![""]), (4, vec!["a"])] {
        let id = RequestId::new(&own, &"hello".parse().unwrap(), number);
        let mut replies = listen(&bus, &format!("relay.resp.{id}")).await;
        let mut request = relay::wire::Request::new(
            own.clone(),
            id.clone(),
            "hello".parse().unwrap(),
            std::time::Duration::from_secs(30),
        );
        for host in &hosts {
            request.headers.append(http::header::HOST, host.parse().unwrap());
        }
        bus.ask("relay.req.hello".into(), format!("relay.ack.{id}"), codec::encode(&request)).unwrap();
        let reply = codec::decode_reply(&replies.next().await.unwrap().payload).unwrap();
        let code = reply.error.map(|error| error.code);
        let refused = (number != 4).then(|| "bad_request".to_owned());
        assert_eq!(code, refused, "{hosts:?}");
    }
    assert_eq!(origin.hits(), 1);
}

/// The status of the answer to a GET with these fields as they are, or none when the stream is reset.
async fn over_http_2(relay: &Relay, path: &str, fields: &[(&str, &str)]) -> Option<u16> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    // HPACK: GET and http by their index, everything else as it is (RFC 7541 sections 6.1 and 6.2.2).
    let mut block = [&b"\x82\x86"[..], b"\x04", &text(path)].concat();
    for (name, value) in fields {
        block.extend([&[0][..], &text(name), &text(value)].concat());
    }
    let length = u8::try_from(block.len()).unwrap();
    let headers = [&[0, 0, length, 1, 0x05, 0, 0, 0, 1][..], &block].concat();
    let mut stream = TcpStream::connect(relay.client.address().await).await.unwrap();
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let opening = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &settings, &headers].concat();
    stream.write_all(&opening).await.unwrap();
    loop {
        let mut frame = [0; 9];
        stream.read_exact(&mut frame).await.unwrap();
        let mut payload = vec![0; usize::from(frame[1]) * 256 + usize::from(frame[2])];
        stream.read_exact(&mut payload).await.unwrap();
        match (frame[3], payload.first()) {
            // The first field is the status, by its index.
            (1, Some(0x88)) => return Some(200),
            (1, Some(0x8c)) => return Some(400),
            (1, _) => panic!("another status: {payload:?}"),
            // RST_STREAM or GOAWAY.
            (3 | 7, _) => return None,
            _ => {}
        }
    }
}
