use std::path::{Path, PathBuf};

use http::Method;

use super::*;

#[test]
fn a_definition_says_all_there_is_to_say() {
    let requests = read(
        r#"
        [request.hl2]
        url = "https://api.example/news/{app}?count={count}"

        [request.order]
        method = "POST"
        upstream = "shop"
        url = "/orders"
        expect = [201, 409, "3xx"]
        auth = { user = "relay", password-file = "password" }
        headers = { accept = "application/json", host = "shop.example" }
        allow-headers = ["X-Trace"]
        body = "json"
        response = "text"
        timeout = "2s"
        max-timeout = "1m"
        max-response = "1MiB"
        "#,
    )
    .unwrap();
    let hl2 = requests.get("hl2").unwrap();
    assert_eq!(
        (hl2.method.clone(), hl2.body, hl2.response),
        (Method::GET, BodyKind::None, ResponseKind::Auto)
    );
    assert!(hl2.expects(StatusCode::CREATED) && !hl2.expects(StatusCode::FOUND));
    let To::Url(origin) = &hl2.to else { panic!("{hl2:?}") };
    assert_eq!(origin.to.as_ref().unwrap().to_string(), "https://api.example/");
    let order = requests.get("order").unwrap();
    assert_eq!(order.to, To::Upstream("shop".parse().unwrap()));
    assert!(order.expects(StatusCode::CONFLICT) && order.expects(StatusCode::FOUND));
    assert!(!order.expects(StatusCode::OK));
    assert_eq!(order.headers["authorization"], "Basic cmVsYXk6c2VjcmV0");
    assert_eq!(order.headers["host"], "shop.example");
    assert_eq!(order.allow_headers, ["x-trace"]);
    assert_eq!(order.max_response, Some(1 << 20));
    assert_eq!(requests.files(), [PathBuf::from("/folder/password")]);
    assert!(requests.need_nats());
}

#[test]
fn all_mistakes_are_told_at_once_each_with_its_place() {
    let mistakes = read(
        r#"
        port = 1
        [request.a]
        methode = "GET"
        url = "https://{host}/"
        expect = "ok"
        timeout = "soon"
        [request.b]
        method = "get"
        url = "/only/with/upstream"
        body = "xml"
        [request.c]
        upstream = "not a name"
        url = "https://a.example/"
        ca = "ca.pem"
        [request."d e"]
        url = "http://a.example/{"
        ca = "ca.pem"
        headers = { host = "x", "bad name" = "y", authorization = "Bearer x" }
        auth = { bearer-env = "UNSET" }
        max-timeout = "1s"
        [request]
        f = 3
        "#,
    )
    .unwrap_err();
    let expected = [
        "port: no such key",
        "request.a: methode: no such key",
        "request.a: url: a placeholder can't stand",
        "request.a: expect: write statuses",
        "request.a: timeout:",
        "request.b: method: write GET in capitals",
        "request.b: url: write the whole URL",
        "request.b: body: must be one of none, form, json, raw",
        "request.c: upstream:",
        "request.c: url: write a path",
        "request.c: ca: is the upstream agent's to know",
        "request.d e: a name has",
        "request.d e: url: a '{' without",
        "request.d e: headers.host: 'host' can't be set",
        "request.d e: headers.bad name:",
        "request.d e: headers.authorization: a secret",
        "request.d e: auth.bearer-env: the variable UNSET is not set",
        "request.d e: max-timeout: is shorter",
        "request.f: must be a table",
    ];
    for part in expected {
        assert!(mistakes.iter().any(|mistake| mistake.contains(part)), "{part}: {mistakes:#?}");
    }
    assert_eq!(mistakes.len(), expected.len(), "{mistakes:#?}");
}

#[test]
fn what_has_no_request_or_is_no_toml_is_a_mistake() {
    assert_eq!(read("").unwrap_err().len(), 1);
    assert!(read("[request.a").unwrap_err()[0].contains("TOML"));
    assert!(read("[request.a]\nurl='http://a/'\nurl='http://b/'").is_err());
}

#[test]
fn a_secret_is_never_shown() {
    let with = |auth: &str| read(&format!("[request.a]\nurl = 'https://a.example/'\nauth = {auth}"));
    let bearer = with("{ bearer-env = 'TOKEN' }").unwrap();
    assert_eq!(bearer.get("a").unwrap().headers["authorization"], "Bearer token-of-gold");
    let shown = format!("{bearer:?}");
    assert!(!shown.contains("gold"), "{shown}");
    for bad in [
        "{ bearer-env = 'BROKEN' }",
        "{ bearer-file = 'missing' }",
        "{ bearer-env = 'EMPTY' }",
        "{ token = 'gold' }",
        "{ user = 'a', password = 'gold' }",
        "{ user = 'a:b', password-env = 'TOKEN' }",
        "'basic'",
    ] {
        let mistakes = with(bad).unwrap_err();
        assert!(mistakes.len() == 1 && !mistakes[0].contains("gold"), "{bad}: {mistakes:?}");
    }
}

#[test]
fn a_line_cannot_replace_the_credentials_or_frame_the_message() {
    let with = |rest: &str| read(&format!("[request.a]\nurl = 'https://a.example/'\n{rest}"));
    assert!(with("allow-headers = ['authorization']").is_ok());
    assert!(with("allow-headers = ['authorization']\nauth = { bearer-env = 'TOKEN' }").is_err());
    for name in ["content-length", "Transfer-Encoding", "x-relay-id", "host", "connection", "no name"] {
        assert!(with(&format!("allow-headers = ['{name}']")).is_err(), "{name}");
    }
}

fn read(text: &str) -> Result<Requests, Vec<String>> {
    reading::read(text, &Example)
}

struct Example;

impl Secrets for Example {
    fn locate(&self, path: &str) -> PathBuf {
        Path::new("/folder").join(path)
    }

    fn file(&self, path: &Path) -> Result<String, String> {
        match path.to_str() {
            Some("/folder/password") => Ok("secret\n".into()),
            _ => Err(format!("cannot read {}", path.display())),
        }
    }

    fn variable(&self, name: &str) -> Option<String> {
        match name {
            "TOKEN" => Some("token-of-gold".into()),
            "BROKEN" => Some("gold\u{1}gold".into()),
            "EMPTY" => Some("\n".into()),
            _ => None,
        }
    }
}
