//! HTTP/2 without TLS, by callers that know beforehand.

use crate::{
    curl::{VERSION_AND_STATUS, curl},
    support::*,
};

#[tokio::test]
async fn a_caller_may_speak_http_2_at_once() {
    let relay = Relay::start().await;
    let url = relay.url("/path?a=b").await;
    let prior = ["--http2-prior-knowledge", "-d", "data", "-H", "Cookie: a=1", &url];
    assert_eq!(curl(&[&prior[..], &VERSION_AND_STATUS].concat()).await, "data 2 200");
    let seen = relay.origin.only();
    assert_eq!((seen.target.as_str(), seen.value("via").as_str()), ("/path?a=b", "2 relay"));
    assert_eq!(seen.value("host"), relay.client.address().await.to_string(), "the authority is the host");
    assert_eq!(seen.value("x-forwarded-host"), relay.client.address().await.to_string());
}

#[tokio::test]
async fn the_preface_may_come_byte_by_byte() {
    let relay = Relay::start().await;
    let mut raw = relay.raw().await;
    for byte in b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" {
        raw.send([*byte]).await;
        tokio::task::yield_now().await;
    }
    // An empty SETTINGS, and PING, whose answer tells that both were read.
    raw.send(b"\0\0\0\x04\0\0\0\0\0").await;
    raw.send(b"\0\0\x08\x06\0\0\0\0\0whatever").await;
    raw.says(b"\0\0\x08\x06\x01\0\0\0\0whatever").await;

    // What begins like it and is not is HTTP/1.
    let mut raw = relay.raw().await;
    for part in ["P", "R", "OPFIND / HT", "TP/1.1\r\nHost: a\r\n\r\n"] {
        raw.send(part).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(raw.answer().await.status, 200);
    assert_eq!(relay.origin.only().method.as_str(), "PROPFIND");
}

#[tokio::test]
async fn many_requests_share_one_connection_and_faults_are_told() {
    let relay = Relay::to(Origin::echo().await).client(&["--max-header-bytes", "8KiB"]).start().await;
    let client = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    let url = relay.url("/").await;
    let asked = (0..100).map(|i| client.post(&url).body(i.to_string()).send());
    for (i, answer) in futures_util::future::join_all(asked).await.into_iter().enumerate() {
        let answer = answer.unwrap();
        assert_eq!((answer.version(), answer.status().as_u16()), (http::Version::HTTP_2, 200));
        assert_eq!(answer.text().await.unwrap(), i.to_string());
    }
    assert_eq!(relay.client.metric("relay_connections", "").await, 1.0);

    let large = client.get(&url).header("x-large", "x".repeat(9 * 1024)).send().await.unwrap();
    problem(large).await.is(431, "headers_too_large", "client").names("--max-header-bytes");
    let cookies = client.get(&url).header("cookie", "a=1").header("cookie", "b=2").send().await.unwrap();
    assert_eq!(cookies.status(), 200);
    assert_eq!(relay.origin.last().values("cookie"), ["a=1; b=2"]);
}

#[tokio::test]
async fn what_is_open_is_answered_when_the_agent_stops() {
    let gate = tokio::sync::watch::Sender::new(false);
    let relay = Relay::to(Origin::gated(&gate).await).start().await;
    let client = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    let url = relay.url("/").await;
    let opening = async {
        eventually("it is at the origin", || relay.origin.open() == 1).await;
        relay.client.term();
        relay.client.says("stopping").await;
        gate.send_replace(true);
    };
    let (answer, ()) = tokio::join!(client.post(&url).body("data").send(), opening);
    assert_eq!(answer.unwrap().text().await.unwrap(), "data");
    drop(client);
    assert!(relay.client.ended().await.success());
}

#[tokio::test]
async fn a_connection_too_many_is_told_so() {
    let relay = Relay::to(Origin::echo().await).client(&["--max-connections", "1"]).start().await;
    let mut first = relay.raw().await;
    assert_eq!(first.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.status, 200);
    let client = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    let answer = client.get(relay.url("/").await).send().await.unwrap();
    problem(answer).await.is(503, "client_full", "client").names("--max-connections");
}
