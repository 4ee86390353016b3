//! What a proxy takes out, and what it adds.

use crate::support::{origin::serve_once, *};

#[tokio::test]
async fn headers_of_one_connection_stop_here_on_the_way_in() {
    let relay = Relay::start().await;
    let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: X-Hop, keep-alive, host\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n\
                   TE: gzip, trailers\r\nProxy-Connection: keep-alive\r\nProxy-Authorization: Basic eA==\r\n\
                   Upgrade: h2c\r\nX-End: kept\r\nAuthorization: Basic eQ==\r\nCookie: c=1\r\n\r\n";
    assert_eq!(relay.raw().await.ask(request).await.status, 200);
    let seen = relay.origin.only();
    for gone in ["x-hop", "keep-alive", "proxy-connection", "proxy-authorization", "upgrade"] {
        assert_eq!(seen.value(gone), "", "{gone}");
    }
    assert!(!seen.value("connection").contains("X-Hop"));
    for (kept, value) in
        // That it takes trailers is the one thing in TE that is also meant for the origin.
        [
            ("te", "trailers"),
            ("x-end", "kept"),
            ("authorization", "Basic eQ=="),
            ("cookie", "c=1"),
            ("host", "a"),
        ]
    {
        assert_eq!(seen.value(kept), value);
    }
}

#[tokio::test]
async fn headers_of_one_connection_stop_here_on_the_way_back() {
    let origin = Origin::tcp(|stream| async move {
        let answer = "HTTP/1.1 200 OK\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nUpgrade: h2c\r\n\
                      Proxy-Authenticate: Basic\r\nX-End: kept\r\nContent-Length: 2\r\n\r\nok";
        serve_once(stream, answer).await;
    });
    let relay = Relay::to(origin.await).start().await;
    let answer = relay.raw().await.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    for gone in ["x-hop", "keep-alive", "upgrade", "proxy-authenticate"] {
        assert!(!answer.has(gone), "{}", answer.head);
    }
    assert_eq!((answer.value("x-end").as_str(), answer.text().as_str()), ("kept", "ok"));
}

#[tokio::test]
async fn an_origin_cannot_say_what_the_relay_says() {
    let origin = Origin::tcp(|stream| async move {
        let answer = "HTTP/1.1 200 OK\r\nX-Relay-Id: forged\r\nx-relay-job: done\r\nX-Relay-Other: 1\r\nX-Relayed: 1\r\nContent-Length: 2\r\n\r\nok";
        serve_once(stream, answer).await;
    });
    let relay = Relay::to(origin.await).start().await;
    let answer = relay.raw().await.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(!answer.head.to_ascii_lowercase().contains("x-relay-"), "{}", answer.head);
    assert_eq!((answer.value("x-relayed").as_str(), answer.text().as_str()), ("1", "ok"));
}

#[tokio::test]
async fn via_tells_both_sides_that_a_proxy_was_there() {
    let origin = Origin::start(|_| async {
        let mut answer = answer(200, "");
        answer.headers_mut().insert("via", http::HeaderValue::from_static("1.0 inner"));
        answer
    });
    let relay = Relay::to(origin.await).start().await;
    let answer = relay.raw().await.ask("GET / HTTP/1.1\r\nHost: a\r\nVia: 2 outer\r\n\r\n").await;
    assert_eq!(relay.origin.only().value("via"), "2 outer, 1.1 relay");
    assert_eq!(answer.value("via"), "1.0 inner, 1.1 relay");
}

#[tokio::test]
async fn a_stranger_cannot_say_where_he_comes_from() {
    let relay = Relay::start().await;
    assert_eq!(relay.raw().await.ask(FORWARDED).await.status, 200);
    let seen = relay.origin.only();
    assert_eq!(seen.value("x-forwarded-for"), "127.0.0.1");
    assert_eq!(seen.value("x-forwarded-proto"), "http");
    assert_eq!(seen.value("x-forwarded-host"), "shop.example:81");
    assert_eq!(seen.value("forwarded"), "for=127.0.0.1;proto=http;host=\"shop.example:81\"");
    assert_eq!(seen.value("x-real-ip"), "");
}

#[tokio::test]
async fn a_trusted_proxy_is_believed_and_continued() {
    let relay =
        Relay::to(Origin::echo().await).client(&["--trusted-proxy", "10.0.0.0/8,127.0.0.1"]).start().await;
    assert_eq!(relay.raw().await.ask(FORWARDED).await.status, 200);
    let seen = relay.origin.only();
    assert_eq!(seen.value("x-forwarded-for"), "203.0.113.9, 127.0.0.1");
    assert_eq!(seen.value("x-forwarded-proto"), "https");
    assert_eq!(seen.value("x-forwarded-host"), "public.example");
    let own = "for=127.0.0.1;proto=http;host=\"shop.example:81\"";
    assert_eq!(seen.value("forwarded"), format!("for=203.0.113.9;proto=https, {own}"));
    assert_eq!(seen.value("x-real-ip"), "203.0.113.9");
}

#[tokio::test]
async fn a_proxy_outside_the_trusted_networks_is_a_stranger() {
    let relay = Relay::to(Origin::echo().await).client(&["--trusted-proxy", "10.0.0.0/8"]).start().await;
    assert_eq!(relay.raw().await.ask(FORWARDED).await.status, 200);
    assert_eq!(relay.origin.only().value("x-forwarded-for"), "127.0.0.1");
}

#[tokio::test]
async fn a_caller_cannot_set_the_relays_own_headers() {
    let relay = Relay::start().await;
    let request = "GET / HTTP/1.1\r\nHost: a\r\nX-Relay-Id: forged\r\nx-relay-anything: forged\r\n\r\n";
    assert_eq!(relay.raw().await.ask(request).await.status, 200);
    for (name, value) in &relay.origin.only().headers {
        assert_ne!(value, "forged", "{name}");
    }
}

#[tokio::test]
async fn the_callers_host_is_kept_unless_it_is_to_be_rewritten() {
    let request = "GET / HTTP/1.1\r\nHost: shop.example:81\r\n\r\n";
    let kept = Relay::start().await;
    assert_eq!(kept.raw().await.ask(request).await.status, 200);
    assert_eq!(kept.origin.only().values("host"), ["shop.example:81"]);

    let rewritten = Relay::to(Origin::echo().await).agent(&["--host-header", "rewrite"]).start().await;
    assert_eq!(rewritten.raw().await.ask(request).await.status, 200);
    let seen = rewritten.origin.only();
    assert_eq!(seen.values("host"), [rewritten.origin.address().to_string()]);
    assert_eq!(seen.value("x-forwarded-host"), "shop.example:81", "what the caller asked for is not lost");
}

const FORWARDED: &str = "GET / HTTP/1.1\r\nHost: shop.example:81\r\nX-Forwarded-For: 203.0.113.9\r\n\
                         X-Forwarded-Proto: https\r\nX-Forwarded-Host: public.example\r\n\
                         Forwarded: for=203.0.113.9;proto=https\r\nX-Real-IP: 203.0.113.9\r\n\r\n";
