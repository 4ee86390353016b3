//! Request targets: untouched on their way, and never anywhere else than at the configured origin.

use crate::support::*;

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
    for target in
        ["/a#b", "/#", "/a?b=c#", "#", "http://a/#b", "*#", "/a<b", "ftp://a/b", "ws://a/", "http:/a"]
    {
        let mut raw = relay.raw().await;
        let answer = raw.ask(format!("GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")).await;
        answer.problem().is(400, "bad_target", "client");
        assert_eq!(raw.until_closed().await, b"", "{target}");
    }
    assert_eq!(relay.origin.hits(), 0);
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
