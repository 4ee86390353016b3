//! What becomes of a named request on its way to a server.

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::sync::Barrier;

use super::stage::*;
use crate::support::*;

#[tokio::test]
async fn a_request_reaches_its_server_as_its_definition_says() {
    let origin = Origin::start(|_| async { answer(201, "{\n  \"made\": 1.50\n}") }).await;
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&secret, "hush\n").unwrap();
    let rest = format!(
        "method = 'PUT'\nexpect = 201\nbody = 'json'\nresponse = 'json'\nheaders = {{ x-fixed = 'a', x-free = 'b' }}\n\
         allow-headers = ['x-free']\nauth = {{ user = 'me', password-file = '{}' }}",
        secret.path().display()
    );
    let stage = Stage::start(&request("put", &format!("{}/v1/{{id}}?q={{q}}", origin.url()), &rest)).await;
    let mut caller = stage.connect().await;
    caller
        .send(r#"{"request":"put","id":1,"params":{"id":"a/b","q":"c&d"},"data":{"n":1.0},"headers":{"X-Free":"c"}}"#)
        .await;
    caller.reply().await;
    let line = caller.line().await.unwrap();
    assert!(line.contains(r#""response": {  "made": 1.50}"#), "{line}");
    let seen = origin.only();
    assert_eq!((seen.method.as_str(), seen.target.as_str()), ("PUT", "/v1/a%2Fb?q=c%26d"));
    assert_eq!(seen.body, r#"{"n":1.0}"#);
    for (name, value) in [
        ("authorization", "Basic bWU6aHVzaA=="),
        ("content-type", "application/json"),
        ("accept", "application/json"),
        ("accept-encoding", "identity"),
        ("x-fixed", "a"),
        ("x-free", "c"),
        ("content-length", "9"),
    ] {
        assert_eq!(seen.value(name), value, "{name}");
    }
    assert_eq!(seen.value("host"), origin.address().to_string());
    // What was sent is nobody's business: the log has its name and what it came to.
    let log = stage.socket.says("request=\"put\"").await;
    assert!(log.contains("http_status=201") && !log.contains("a/b") && !log.contains("c&d"), "{log}");
    assert!(!stage.socket.log().contains("hush"));
}

#[tokio::test]
async fn bodies_and_responses_are_of_the_kinds_that_are_said() {
    let origin = Origin::echo().await;
    let of = |name: &str, kinds: &str| request(name, &origin.url(), &format!("method = 'POST'\n{kinds}"));
    let stage = Stage::start(
        &[
            of("form", "body = 'form'\nresponse = 'text'"),
            of("raw", "body = 'raw'\nresponse = 'binary'"),
            of("text", "body = 'raw'\nresponse = 'text'"),
            of("json", "body = 'raw'\nresponse = 'json'"),
        ]
        .concat(),
    )
    .await;
    let ask = async |name: &str, data: Value| {
        let reply = stage.ask(json!({"request": name, "id": 1, "data": data})).await;
        (reply["status"].as_str().unwrap().to_owned(), reply["response"].clone())
    };
    let ok = |response: Value| ("ok".to_owned(), response);
    assert_eq!(ask("form", json!({"a": "x y", "b": [1, true]})).await, ok(json!("a=x+y&b=1&b=true")));
    assert_eq!(origin.last().value("content-type"), "application/x-www-form-urlencoded");
    assert_eq!(ask("raw", json!({"base64": "AP8="})).await, ok(json!({"base64": "AP8="})));
    assert_eq!(origin.last().body, [0, 255][..]);
    assert_eq!(ask("text", json!("ä\n\u{0}\u{1F600}")).await, ok(json!("ä\n\u{0}\u{1F600}")));
    assert_eq!(ask("json", json!(" [1, {\n\"a\": 2}]")).await, ok(json!([1, {"a": 2}])));
    assert_eq!(ask("json", json!(null)).await, ok(json!(null)));
    assert_eq!(
        (origin.last().value("content-length"), origin.last().value("content-type")),
        ("0".into(), "".into())
    );
    for (name, data) in [("json", json!("<html>")), ("text", json!({"base64": "/w=="}))] {
        let (status, response) = ask(name, data).await;
        assert_eq!((status.as_str(), &response["code"]), ("error", &json!("bad_response")), "{name}");
    }
}

#[tokio::test]
async fn a_response_is_json_if_its_content_type_says_so_straight_and_over_nats() {
    let origin = Origin::start(|seen| async move {
        let kind = seen.value("x-kind");
        let status = if seen.target == "/204" { 204 } else { 200 };
        let mut response = answer(status, seen.body);
        if !kind.is_empty() {
            response.headers_mut().insert("content-type", kind.parse().unwrap());
        }
        response
    })
    .await;
    let nats = Nats::start().await;
    let _agent = nats.upstream("hello", &origin.url(), &[]).await;
    let rest = "method = 'POST'\nbody = 'raw'\nallow-headers = ['x-kind', 'accept-encoding']";
    let requests = request("straight", &format!("{}/{{x}}", origin.url()), rest)
        + &request("nats", "/{x}", &format!("upstream = 'hello'\n{rest}"))
        + &request("own", &origin.url(), "headers = { accept-encoding = 'br' }");
    let stage = Stage::at(&nats.url(), &requests, &[]).await;
    for name in ["straight", "nats"] {
        let ask = async |path: u16, kind: &str, data: &str| {
            let mut line = json!({"request": name, "id": 1, "params": {"x": path}, "data": data});
            if !kind.is_empty() {
                line["headers"] = json!({"x-kind": kind});
            }
            let reply = stage.ask(line).await;
            (reply["status"].as_str().unwrap().to_owned(), reply["response"].clone())
        };
        for (path, kind, data, response) in [
            (200, "application/json", "[1]", json!([1])),
            (200, "Application/Problem+JSON; charset=utf-8", "{\"a\":1}", json!({"a": 1})),
            (200, "text/json", "1", json!(1)),
            (200, "text/html", "<h1>", json!("<h1>")),
            (200, "text/plain", "[1]", json!("[1]")),
            (200, "", "[1]", json!("[1]")),
            (200, "application/json", "", json!(null)),
            (204, "", "", json!(null)),
        ] {
            assert_eq!(ask(path, kind, data).await, ("ok".into(), response), "{name} {kind} {data}");
        }
        let large = format!("[\"{}\"]", "x".repeat(50_000));
        assert_eq!(ask(200, "application/json", &large).await.1, json!(["x".repeat(50_000)]), "{name}");
        let (status, response) = ask(200, "application/json", "<h1>").await;
        assert_eq!((status.as_str(), &response["code"]), ("error", &json!("bad_response")), "{name}");
        assert!(response["error"].as_str().unwrap().starts_with("the response is not JSON"), "{response}");
        let seen = origin.last();
        assert_eq!(seen.value("accept-encoding"), "identity", "{name}");
        assert_eq!(seen.value("accept"), "application/json, */*;q=0.5", "{name}");
        let line =
            json!({"request": name, "id": 1, "params": {"x": 200}, "headers": {"accept-encoding": "gzip"}});
        stage.ask(line).await;
        assert_eq!(origin.last().value("accept-encoding"), "gzip", "{name}");
    }
    stage.ask(json!({"request": "own", "id": 1})).await;
    assert_eq!(origin.last().value("accept-encoding"), "br");
}

#[tokio::test]
async fn only_an_expected_status_is_ok_and_redirects_are_not_followed() {
    let origin = Origin::start(|seen| async move {
        let status = seen.target.trim_start_matches('/').parse().unwrap();
        let mut response = answer(status, if status == 500 { "<h1>oops</h1>" } else { "{\"a\":1}" });
        response.headers_mut().insert("location", "/200".parse().unwrap());
        response
    })
    .await;
    let url = format!("{}/{{status}}", origin.url());
    let requests = request("any", &url, "response = 'json'")
        + &request("some", &url, "response = 'json'\nexpect = [404, '3xx']");
    let stage = Stage::start(&requests).await;
    for (name, status, ok, response) in [
        ("any", 200, true, json!({"a": 1})),
        ("any", 302, false, json!({"a": 1})),
        ("any", 404, false, json!({"a": 1})),
        ("any", 500, false, json!("<h1>oops</h1>")),
        ("some", 200, false, json!({"a": 1})),
        ("some", 302, true, json!({"a": 1})),
        ("some", 404, true, json!({"a": 1})),
    ] {
        let reply = stage.ask(json!({"request": name, "id": 1, "params": {"status": status}})).await;
        let expected = if ok { "ok" } else { "error" };
        assert_eq!((&reply["status"], &reply["response"]), (&json!(expected), &response), "{name} {status}");
        assert_eq!(reply["http_status"], status);
    }
    assert_eq!(origin.hits(), 7);
    stage.socket.counts("relay_socket_requests_total", "request=\"some\",status=\"ok\"", 2.0).await;
    stage.socket.counts("relay_socket_requests_total", "request=\"any\",status=\"error\"", 3.0).await;
}

#[tokio::test]
async fn what_fails_on_the_way_is_said() {
    let silent = Origin::silent().await;
    let broken = Origin::tcp(|stream| origin::serve_once(stream, "SSH-2.0\r\n")).await;
    let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let tls = Origin::tls(&certificate, |_| async { answer(200, "{}") }).await;
    let stage = Stage::start(
        &[
            request("refused", &format!("http://127.0.0.1:{}/", origin::unused_port()), ""),
            request("slow", &silent.url(), "timeout = '200ms'"),
            request("asked", &silent.url(), "timeout = '10s'\nmax-timeout = '1m'"),
            request("broken", &broken.url(), ""),
            request("tls", &tls.url(), ""),
        ]
        .concat(),
    )
    .await;
    for (line, code, part) in [
        (json!({"request": "refused", "id": 1}), "origin_refused", "connection refused"),
        (json!({"request": "slow", "id": 1}), "ttl_expired", "within 200ms"),
        (json!({"request": "asked", "id": 1, "timeout": 0.3}), "ttl_expired", "within 300ms"),
        (json!({"request": "broken", "id": 1}), "origin_broken", "the origin"),
        (json!({"request": "tls", "id": 1}), "origin_tls", "TLS"),
    ] {
        let reply = stage.ask(line.clone()).await;
        assert_eq!((&reply["status"], &reply["response"]["code"]), (&json!("error"), &json!(code)), "{line}");
        let error = reply["response"]["error"].as_str().unwrap();
        assert!(error.contains(part), "{line}: {error}");
        assert_eq!(reply.get("http_status"), None);
    }
    eventually("the origin was told", || silent.cancelled() == 2).await;
    stage.socket.counts("relay_faults_total", "origin_refused", 1.0).await;
}

#[tokio::test]
async fn certificates_of_an_authority_that_is_named_are_believed_and_connections_are_kept() {
    let certificate = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let origin = Origin::tls(&certificate, |_| async { answer(200, "{}") }).await;
    let ca = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&ca, certificate.cert.pem()).unwrap();
    let rest = format!("ca = '{}'", ca.path().display());
    let requests = request("a", &format!("{}/a", origin.url()), &rest)
        + &request("b", &format!("{}/b", origin.url()), &rest);
    let stage = Stage::start(&requests).await;
    for name in ["a", "b", "a"] {
        assert_eq!(stage.ask(json!({"request": name, "id": 1})).await["status"], "ok");
    }
    assert_eq!((origin.hits(), origin.connections()), (3, 1));
}

#[tokio::test]
async fn requests_to_a_server_that_speaks_http_2_share_a_connection() {
    let both = Arc::new(Barrier::new(2));
    let origin = Origin::tcp(move |stream| {
        let both = Arc::clone(&both);
        let service = service_fn(move |request: http::Request<Incoming>| {
            let both = Arc::clone(&both);
            async move {
                assert_eq!(request.version(), http::Version::HTTP_2);
                // Neither is answered before both are here.
                both.wait().await;
                Ok::<_, Infallible>(http::Response::new(Full::new(Bytes::from_static(b"{}"))))
            }
        });
        async move {
            let server = http2::Builder::new(TokioExecutor::new());
            server.serve_connection(TokioIo::new(stream), service).await.ok();
        }
    })
    .await;
    let stage = Stage::start(&request("a", &origin.url().replace("http:", "h2c:"), "")).await;
    let mut caller = stage.connect().await;
    caller.bytes(b"{\"request\":\"a\",\"id\":1}\n{\"request\":\"a\",\"id\":2}\n").await;
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(caller.reply().await["status"].clone());
    }
    assert_eq!(statuses, ["dispatched", "dispatched", "ok", "ok"]);
    assert_eq!(origin.connections(), 1);
}

#[tokio::test]
async fn a_response_over_its_limit_is_an_error_that_names_it() {
    let origin = Origin::start(|_| async { answer(200, "x".repeat(100_000)) }).await;
    let requests = request("own", &origin.url(), "response = 'text'\nmax-response = '99999'")
        + &request("fits", &origin.url(), "response = 'text'\nmax-response = '100000'")
        + &request("all", &origin.url(), "response = 'text'");
    let stage = Stage::with(&requests, &["--max-response", "50KB"]).await;
    for (name, limit) in [("own", "99999"), ("all", "50000")] {
        let reply = stage.ask(json!({"request": name, "id": 1})).await;
        assert_eq!(reply["response"]["code"], "response_too_large");
        assert!(reply["response"]["error"].as_str().unwrap().contains(limit), "{reply}");
    }
    let reply = stage.ask(json!({"request": "fits", "id": 1})).await;
    assert_eq!(reply["response"].as_str().map(str::len), Some(100_000));
}

#[tokio::test]
async fn a_file_is_checked_whole() {
    let (code, said) = check("[request.a]\nurl = 'http://a.example/{x}'\n").await;
    assert!(code == Some(0) && said.starts_with("ok: 1 requests"), "{said}");
    let (code, said) = check(
        "[request.a]\nurl = 'ftp://a/'\nexpects = 200\n[request.b]\nurl = 'https://a/'\nca = '/none'\n",
    )
    .await;
    assert_eq!(code, Some(1));
    for part in ["request.a: url:", "request.a: expects: no such key"] {
        assert!(said.contains(part), "{said}");
    }
    let kind =
        async |kind: &str| check(&request("a", "http://a.example/", &format!("response = '{kind}'"))).await;
    let (code, said) = kind("auto").await;
    assert!(code == Some(0) && said.starts_with("ok: 1 requests"), "{said}");
    let (code, said) = kind("yaml").await;
    let expected = "request.a: response: must be one of auto, json, text, binary";
    assert!(code == Some(1) && said.contains(expected), "{said}");
    let (code, said) = check("[request.b]\nurl = 'https://a/'\nca = '/none'\n").await;
    assert!(code == Some(1) && said.contains("request.b: cannot read /none"), "{said}");
    let (code, said) = check(&std::fs::read_to_string("docs/requests.toml").unwrap()).await;
    assert!(said.starts_with("ok: 5 requests") && code == Some(0), "{said}");
}

#[tokio::test]
async fn a_changed_file_is_read_again_and_a_bad_one_is_refused() {
    let origin = Origin::echo().await;
    let stage = Stage::start(&echo(&origin)).await;
    let mut caller = stage.connect().await;
    caller.works().await;
    let file = stage.path("requests.toml");
    std::fs::write(&file, "[request.echo]\nurl = 'nowhere'\nbody = 'x'").unwrap();
    stage.socket.hangup();
    stage.socket.says("the old requests stay").await;
    assert_eq!(stage.socket.lines("the new requests can't be used: request.echo").len(), 2);
    caller.works().await;
    caller.send(r#"{"request":"new","id":1}"#).await;
    assert_eq!(caller.reply().await["code"], "unknown_request");
    // Without a signal as well.
    std::fs::write(&file, echo(&origin) + &request("new", &origin.url(), "")).unwrap();
    stage.socket.says("the requests were read again").await;
    caller.send(r#"{"request":"new","id":1}"#).await;
    assert_eq!(caller.last().await["status"], "ok");
    caller.works().await;
    assert_eq!(origin.connections(), 1, "the server's connection was kept");
}

#[tokio::test]
async fn a_changed_secret_is_used() {
    let origin = Origin::echo().await;
    let stage = Stage::start(&echo(&origin)).await;
    let secret = stage.path("token");
    std::fs::write(&secret, "one").unwrap();
    let rest = "method = 'POST'\nbody = 'json'\nresponse = 'json'\nauth = { bearer-file = 'token' }";
    std::fs::write(stage.path("requests.toml"), request("echo", &origin.url(), rest)).unwrap();
    stage.socket.hangup();
    stage.socket.says("the requests were read again").await;
    let mut caller = stage.connect().await;
    caller.works().await;
    assert_eq!(origin.last().value("authorization"), "Bearer one");
    std::fs::write(&secret, "two").unwrap();
    eventually("it is read", || stage.socket.lines("the requests were read again").len() == 2).await;
    caller.works().await;
    assert_eq!(origin.last().value("authorization"), "Bearer two");
}
