//! The PROXY protocol.

use std::time::Duration;

use crate::support::{
    process::{self, run},
    *,
};

#[tokio::test]
async fn both_versions_tell_where_a_caller_comes_from() {
    let relay = Relay::to(Origin::echo().await).client(&BELIEVED).start().await;
    let v1 = b"PROXY TCP4 203.0.113.9 198.51.100.1 56324 443\r\n".to_vec();
    let v4 = binary(0x21, 0x11, &[203, 0, 113, 9, 198, 51, 100, 1, 1, 2, 3, 4]);
    let mut address = [0; 36];
    address[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
    let v6 = binary(0x21, 0x21, &address);
    for (header, node, peer) in [
        (&v1, "203.0.113.9", "203.0.113.9"),
        (&v4, "203.0.113.9", "203.0.113.9"),
        (&v6, "\"[2001:db8::]\"", "2001:db8::"),
    ] {
        let mut raw = relay.raw().await;
        for header in [&header[..], b""] {
            assert_eq!(raw.ask([header, ASK].concat()).await.status, 200);
            let seen = relay.origin.last();
            assert_eq!(seen.value("forwarded"), format!("for={node};proto=http;host=a"));
            assert_eq!(seen.value("x-forwarded-for"), peer, "the caller is no proxy, and so not believed");
        }
        relay.client.says(&format!("peer={peer}")).await;
    }
}

#[tokio::test]
async fn a_header_may_come_slowly_and_with_http_2_after_it() {
    let relay = Relay::to(Origin::echo().await).client(&BELIEVED).start().await;
    let mut raw = relay.raw().await;
    for byte in b"PROXY TCP4 203.0.113.9 198.51.100.1 56324 443\r\n" {
        raw.send([*byte]).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(raw.ask(ASK).await.status, 200);
    let mut raw = relay.raw().await;
    raw.send(b"PROXY TCP4 203.0.113.9 198.51.100.1 56324 443\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    raw.send(b"\0\0\0\x04\0\0\0\0\0\0\0\x08\x06\0\0\0\0\0whatever").await;
    raw.says(b"\0\0\x08\x06\x01\0\0\0\0whatever").await;
}

#[tokio::test]
async fn a_proxy_that_does_not_tell_is_the_peer_and_nobody_behind_it_is_believed() {
    let relay = Relay::to(Origin::echo().await).client(&BELIEVED).start().await;
    for (header, forwarded_for) in [
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
        (binary(0x21, 0x00, &[]), "127.0.0.1"),
        // Its own request, as for a health check.
        (binary(0x20, 0x00, &[]), "192.0.2.66, 127.0.0.1"),
    ] {
        assert_eq!(relay.raw().await.ask([&header, ASK].concat()).await.status, 200);
        assert_eq!(relay.origin.last().value("x-forwarded-for"), forwarded_for);
    }
}

#[tokio::test]
async fn a_proxy_without_a_header_is_refused_and_counted() {
    let flags = [&BELIEVED[..], &["--header-timeout", "500ms", "--log", "debug"]].concat();
    let relay = Relay::to(Origin::echo().await).client(&flags).start().await;
    for (nth, header) in [
        &b""[..],
        b"PROXY TCP4 203.0.113.9\r\n",
        b"PROXY TCP4 203.0.113.9 198.51.100.1 56324 443",
        &binary(0x21, 0x11, &[1, 2, 3]),
        &binary(0x2f, 0x11, &[0; 12]),
        &binary(0x21, 0x11, &[0; 60_000])[..16],
    ]
    .iter()
    .enumerate()
    {
        let mut raw = relay.raw().await;
        raw.send([header, ASK].concat()).await;
        assert_eq!(raw.until_closed().await, b"");
        let count = f64::from(u32::try_from(nth).unwrap() + 1);
        relay.client.counts("relay_connections_refused_total", "reason=\"proxy_header\"", count).await;
    }
    let mut raw = relay.raw().await;
    raw.send("PROXY TCP4 203.0.").await;
    within(Duration::from_secs(10), "the end after --header-timeout", raw.until_closed()).await;
    relay.client.says("did not come in time").await;
    relay.client.says("does not begin with a PROXY protocol header").await;
    assert_eq!(relay.origin.hits(), 0);
}

#[tokio::test]
async fn a_stranger_cannot_use_it_and_needs_none() {
    let flags = ["--trusted-proxy", "10.0.0.0/8", "--proxy-protocol", "on"];
    let relay = Relay::to(Origin::echo().await).client(&flags).start().await;
    assert_eq!(relay.raw().await.ask(ASK).await.status, 200);
    assert_eq!(relay.origin.only().value("x-forwarded-for"), "127.0.0.1");
    let lie = [b"PROXY TCP4 203.0.113.9 198.51.100.1 56324 443\r\n", ASK].concat();
    assert_eq!(relay.raw().await.ask(lie).await.status, 400);
    assert_eq!(relay.origin.hits(), 1);
}

#[tokio::test]
async fn nobody_is_believed_unless_it_is_said_who_is() {
    let ended = run(process::relay(&["client", "--upstream", "hello", "--proxy-protocol", "on"])).await;
    assert!(!ended.status.success() && ended.err.contains("--trusted-proxy"), "{ended:?}");
}

const BELIEVED: [&str; 4] = ["--trusted-proxy", "127.0.0.1", "--proxy-protocol", "on"];
const ASK: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.66\r\n\r\n";

fn binary(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
    let length = u16::try_from(addresses.len()).unwrap().to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n", &[command, family][..], &length, addresses].concat()
}
