//! Request targets: untouched on their way, and never anywhere else than at the configured origin.

use bytes::Bytes;
use tokio::{net::TcpStream, sync::mpsc};

use crate::support::{origin, *};

#[tokio::test]
async fn paths_and_queries_arrive_as_they_were_written() {
    let relay = Relay::start().await;
    let mut raw = relay.raw().await;
    for target in [
        "/",
        "/a//b///",
        "/?",
        "/a?b?c&d=%26&e=a+b&f=%2C,%20",
        "/%7Euser/%2e%2E/%2F/%41%00?%zz=%",
        "/a/./b/../c/..",
        "/a;p=1/b:c@d!$&'()*+,=",
        "/x?u=http://example.com/?y",
    ] {
        let answer = raw.ask(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        assert_eq!(answer.status, 200, "{target}");
        assert_eq!(relay.origin.last().target, target);
    }
}

#[tokio::test]
async fn a_target_that_is_none_is_refused() {
    let relay = Relay::start().await;
    for target in [
        "/a#b",
        "/#",
        "/a?b=c#",
        "#",
        "http://a/#b",
        "*#",
        "/a b",
        "/a\x01",
        "ftp://a/b",
        "ws://a/",
        "http:/a",
    ] {
        let mut raw = relay.raw().await;
        let answer = raw.ask(format!("GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")).await;
        answer.problem().is(400, "bad_target", "client");
        assert_eq!(raw.until_closed().await, b"", "{target}");
    }
    for (target, told) in [
        ("/a#b", "'#' behind its first 2 bytes: write it as %23"),
        ("/a b", "a space behind its first 2 bytes: write it as %20"),
        ("/\u{e4}\tb", "a tab behind its first 3 bytes: write it as %09"),
        ("/\x7f", "the control character 0x7F behind its first 1 bytes"),
    ] {
        let answer = relay.raw().await.ask(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        answer.problem().is(400, "bad_target", "client").names(told);
    }
    assert_eq!(relay.origin.hits(), 0);
}

#[tokio::test]
async fn what_is_not_in_a_url_arrives_byte_for_byte() {
    let (lines, mut seen) = mpsc::unbounded_channel();
    let origin = Origin::tcp(move |stream| tell_first_lines(stream, lines.clone())).await;
    let relay = Relay::to(origin).client(&["--cache", "1MiB"]).agent(&["--pool-size", "0"]).start().await;
    let mut raw = relay.raw().await;
    for byte in 0x21..=0xFF_u8 {
        if matches!(byte, b'#' | 0x7F) {
            continue;
        }
        for target in
            [vec![b'/', byte, b'/', byte, b'?', byte], vec![b'/', b'?', byte], vec![b'/', byte, 0xFF]]
        {
            for method in ["GET", "POST"] {
                let request = [method.as_bytes(), b" ", &target, b" HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
                assert_eq!(raw.ask(request).await.status, 200, "{target:?}");
                let expected = [method.as_bytes(), b" ", &target, b" HTTP/1.1"].concat();
                assert_eq!(seen.recv().await.unwrap(), expected, "{}", target.escape_ascii());
            }
        }
    }
    // The same behind a host.
    let request = b"GET http://b.example?\xE4\"<> HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(raw.ask(request).await.status, 200);
    assert_eq!(seen.recv().await.unwrap(), b"GET /?\xE4\"<> HTTP/1.1");
}

#[tokio::test]
async fn a_route_leads_what_is_not_in_a_url_and_strips_its_own_path() {
    let (lines, mut seen) = mpsc::unbounded_channel();
    let origin = Origin::tcp(move |stream| tell_first_lines(stream, lines.clone())).await;
    let nats = Nats::start().await;
    let flags = ["--route", "/shop", "--strip-prefix", "on"];
    let _agent = nats.upstream("shop", &origin.url(), &flags).await;
    let client = nats.client(&[]).await;
    eventually_async("the route is known", || async { client.get("/shop").await.status() == 200 }).await;
    let first = seen.recv().await.unwrap();
    assert_eq!(first, b"GET / HTTP/1.1");
    while seen.try_recv().is_ok() {}
    let mut raw = client.raw().await;
    let answer = raw.ask(b"GET /shop/\xFF{<\xC3\xA4>}?\x80\" HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(answer.status, 200);
    assert_eq!(seen.recv().await.unwrap(), b"GET /\xFF{<\xC3\xA4>}?\x80\" HTTP/1.1");
    // A dot that is longer than it need be, as it is and not escaped.
    let answer = raw.ask(b"GET /shop/\xC0\xAE\xC0\xAE/x HTTP/1.1\r\nHost: a\r\n\r\n").await;
    answer.problem().is(400, "bad_target", "client").names("segment");
    let answer = raw.ask(b"GET /\xFF HTTP/1.1\r\nHost: a\r\n\r\n").await;
    answer.problem().is(404, "no_route", "client").names("/%FF");
}

#[tokio::test]
async fn a_url_of_a_host_alone_is_its_first_page_or_for_options_the_server_itself() {
    let relay = Relay::start().await;
    let mut raw = relay.raw().await;
    for (line, arrives) in [
        ("GET http://shop.example", "/"),
        ("GET http://shop.example?a=b", "/?a=b"),
        ("OPTIONS http://shop.example", "*"),
        ("OPTIONS http://shop.example/", "/"),
        ("OPTIONS http://shop.example?a", "/?a"),
    ] {
        assert_eq!(raw.ask(format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n")).await.status, 200, "{line}");
        let seen = relay.origin.last();
        assert_eq!((seen.target.as_str(), seen.value("host")), (arrives, "shop.example".into()), "{line}");
    }
}

#[tokio::test]
async fn no_target_leaves_the_origin() {
    let elsewhere = Origin::echo().await;
    let other = elsewhere.address();
    let relay = Relay::start().await;
    let mut raw = relay.raw().await;
    for (target, arrives) in [
        (format!("//{other}/x"), format!("//{other}/x")),
        (format!("http://{other}/x?y=z"), "/x?y=z".to_owned()),
        (format!("http://{other}"), "/".to_owned()),
        (format!("https://{other}/x"), "/x".to_owned()),
        (format!("/x@{other}/"), format!("/x@{other}/")),
    ] {
        let answer = raw.ask(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        assert_eq!(answer.status, 200, "{target}");
        assert_eq!(relay.origin.last().target, arrives, "{target}");
    }
    assert_eq!(elsewhere.connections(), 0);
}

#[tokio::test]
async fn a_host_header_leads_nowhere_else() {
    let elsewhere = Origin::echo().await;
    let relay = Relay::start().await;
    let request = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", elsewhere.address());
    assert_eq!(relay.raw().await.ask(request).await.status, 200);
    assert_eq!((relay.origin.hits(), elsewhere.connections()), (1, 0));
}

#[tokio::test]
async fn the_host_of_an_absolute_target_replaces_the_host_header() {
    let relay = Relay::start().await;
    let mut raw = relay.raw().await;
    raw.ask("GET http://shop.example:81/x HTTP/1.1\r\nHost: other.example\r\n\r\n").await;
    assert_eq!(relay.origin.only().values("host"), ["shop.example:81"]);
}

#[tokio::test]
async fn options_about_the_server_itself_pass() {
    let relay = Relay::start().await;
    let answer = relay.raw().await.ask("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(answer.status, 200);
    let seen = relay.origin.only();
    assert_eq!((seen.method.as_str(), seen.target.as_str()), ("OPTIONS", "*"));
}

#[tokio::test]
async fn connect_is_refused() {
    let relay = Relay::start().await;
    let answer =
        relay.raw().await.ask("CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n").await;
    answer.problem().is(501, "method_refused", "client").names("CONNECT");
    assert_eq!(relay.origin.hits(), 0);
}

#[tokio::test]
async fn a_base_path_stands_before_every_path_and_cannot_be_climbed_out_of() {
    let nats = Nats::start().await;
    let origin = Origin::echo().await;
    let to = format!("{}/base/", origin.url());
    let (client, _agent) =
        tokio::join!(nats.client(&["--upstream", "hello"]), nats.upstream("hello", &to, &[]));
    let mut raw = client.raw().await;
    for (target, arrives) in [("/", "/base/"), ("/a/..b?x=/../", "/base/a/..b?x=/../"), ("//a", "/base//a")] {
        let answer = raw.ask(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        assert_eq!(answer.status, 200, "{target}");
        assert_eq!(origin.last().target, arrives);
    }
    let before = origin.hits();
    for target in
        ["/..", "/../secret", "/a/../../secret", "/%2e%2E/secret", "/a/..%2fsecret", "/.%2e%5Csecret"]
    {
        let answer = raw.ask(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        answer.problem().is(400, "bad_target", "upstream");
    }
    assert_eq!(origin.hits(), before, "the origin saw none of them");
}

/// Tells the first line of each request, and answers it.
async fn tell_first_lines(stream: TcpStream, lines: mpsc::UnboundedSender<Vec<u8>>) {
    let answer = |request: &[u8]| {
        let end = request.windows(2).position(|window| window == b"\r\n")?;
        lines.send(request[..end].to_vec()).ok()?;
        Some(Bytes::from_static(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
    };
    origin::serve(stream, answer).await;
}
