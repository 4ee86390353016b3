//! What faults tell callers of what is behind the relay, and what they tell the log.

use crate::support::{origin::unused_port, *};

#[tokio::test]
async fn callers_are_told_nothing_of_what_is_behind_and_the_log_has_it() {
    let nats = Nats::start().await;
    let gone = format!("127.0.0.1:{}", unused_port());
    let name = "no-such-host.invalid";
    let (refuses, unnamed) = (format!("http://{gone}"), format!("http://{name}"));
    let (client, _refuses, _unnamed) = tokio::join!(
        nats.client(&["--fault-details", "off"]),
        nats.upstream("refuses", &refuses, &["--route", "refuses.example", "--eject-after", "0"]),
        nats.upstream("unnamed", &unnamed, &["--route", "unnamed.example", "--eject-after", "0"]),
    );
    for (host, code, secret) in
        [("refuses.example", "origin_refused", gone.as_str()), ("unnamed.example", "origin_dns", name)]
    {
        for version in ["GET", "HEAD"] {
            let request = format!("{version} /x HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
            let mut raw = client.raw().await;
            raw.send(request).await;
            let text = String::from_utf8(raw.until_closed().await).unwrap();
            assert!(text.starts_with("HTTP/1.1 502 ") && !text.contains(secret), "{text}");
            assert!(version == "HEAD" || text.contains(&format!(r#""code":"{code}""#)), "{text}");
        }
        let line = client.says(secret).await;
        assert!(line.contains(code), "{line}");
    }
    // What is about the request itself is told.
    let answer = client.raw().await.ask("GET /path HTTP/1.1\r\nHost: nowhere.example\r\n\r\n").await;
    answer.problem().is(404, "no_route", "client").names("nowhere.example/path");
}

#[tokio::test]
async fn callers_are_told_no_name_of_an_upstream() {
    let nats = Nats::start().await;
    let client = nats.client(&["--fault-details", "off", "--upstream", "internal-billing"]).await;
    let answer = client.raw().await.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let problem = answer.problem();
    problem.is(503, "no_agent", "client");
    assert!(!problem.detail.contains("billing") && !problem.proxy_status.contains("billing"), "{problem:?}");
}
