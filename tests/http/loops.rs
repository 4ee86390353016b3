//! A request that comes back to a relay it has passed ends soon.

use crate::support::*;

#[tokio::test]
async fn a_request_that_goes_in_a_circle_is_ended_after_a_few_rounds() {
    let nats = Nats::start().await;
    let client = nats.client(&["--upstream", "hello"]).await;
    // Its own client agent is its origin.
    let _agent = nats.upstream("hello", &client.url("").await, &[]).await;
    for headers in ["", "Connection: via, close\r\nVia: 1.1 x (\r\n", "Connection: keep-alive, Via\r\n"] {
        let request = format!("GET / HTTP/1.1\r\nHost: a\r\n{headers}\r\n");
        let answer = client.raw().await.ask(request).await;
        assert_eq!(answer.status, 508, "{}", answer.head);
        assert!(answer.text().contains(r#""code":"loop""#), "{}", answer.text());
    }
    let rounds = client.metric("relay_requests_total", "").await;
    assert_eq!((rounds, client.metric("relay_faults_total", "loop").await), (3.0 * 7.0, 3.0));
}

#[tokio::test]
async fn a_request_with_a_body_that_goes_in_a_circle_is_ended_before_its_body_is_read() {
    let relay = Relay::start().await;
    let via = ["1.1 relay"; 6].join(", ");
    let mut raw = relay.raw().await;
    raw.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\nVia: {via}\r\n\r\n")).await;
    raw.answer().await.problem().is(508, "loop", "client").names("circle");
    assert_eq!(relay.origin.hits(), 0);
}

#[tokio::test]
async fn relays_in_a_row_are_no_circle() {
    let relay = Relay::start().await;
    let via = "1.1 relay, 2 relay, 1.1 cdn, 1.1 relay";
    let answer = relay.raw().await.ask(format!("GET / HTTP/1.1\r\nHost: a\r\nVia: {via}\r\n\r\n")).await;
    assert_eq!(answer.status, 200);
    assert_eq!(relay.origin.only().value("via"), format!("{via}, 1.1 relay"));
}

#[tokio::test]
async fn as_many_proxies_pass_options_and_trace_on_as_they_say() {
    let relay = Relay::start().await;
    let mut raw = relay.raw().await;
    for method in ["OPTIONS", "TRACE"] {
        let request = |left: &str| {
            format!(
                "{method} /x HTTP/1.1\r\nHost: a\r\nMax-Forwards: {left}\r\nX-A: b\r\nCookie: secret\r\n\r\n"
            )
        };
        let before = relay.origin.hits();
        let answer = raw.ask(request("0")).await;
        assert_eq!((answer.status, relay.origin.hits()), (200, before), "{}", answer.head);
        let told = answer.text();
        assert_eq!(
            method == "TRACE",
            told.contains("TRACE /x HTTP/1.1") && told.contains("x-a: b"),
            "{told}"
        );
        assert!(!told.contains("secret"), "{told}");
        assert_eq!(raw.ask(request("3")).await.status, 200);
        assert_eq!(relay.origin.last().value("max-forwards"), "2");
    }
    // To other methods it means nothing.
    assert_eq!(raw.ask("GET / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n").await.status, 200);
    assert_eq!(relay.origin.last().value("max-forwards"), "0");
}
