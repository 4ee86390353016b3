//! Callers of a client agent: they name paths, and an egress agent calls no path.

use super::asking::*;
use crate::support::*;

#[tokio::test]
async fn no_caller_of_a_client_agent_gets_an_outside_host_called() {
    let (nats, outside) = (Nats::start().await, Origin::echo().await);
    let url = outside.url();
    let client = nats.client(&["--upstream", "egress"]).await;
    let _agent = egress(&nats, &["--allow", &url]).await;
    let mut raw = client.raw().await;
    let host = outside.address();
    for request in [
        format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        format!("GET {url}/ HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        format!("GET {url} HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        format!("GET /{url} HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        format!("GET //{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        format!("OPTIONS * HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        format!("OPTIONS {url} HTTP/1.1\r\nHost: {host}\r\n\r\n"),
    ] {
        let answer = raw.ask(&request).await;
        answer.problem().is(403, "egress_refused", "upstream").names("the whole URL");
    }
    let tunnel = raw.ask(format!("CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
    tunnel.problem().is(501, "method_refused", "client");
    assert_eq!(outside.connections(), 0);
}
