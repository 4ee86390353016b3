//! The lines that answer. Each is one object on one line, spelled as the document of this protocol spells it.

use std::{fmt::Write, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use serde_json::value::RawValue;

use super::{
    Closed, End,
    read::{Id, Refusal},
};
use crate::{
    config::requests::{Definition, ResponseKind},
    wire::{Code, Fault},
};

/// A request was taken.
pub fn dispatched(id: &Id) -> Bytes {
    format!("{{\"status\": \"dispatched\", \"id\": {}}}\n", id.as_str()).into()
}

/// A line was refused.
pub fn refused(refusal: &Refusal) -> Bytes {
    let id = refusal.id.as_ref().map_or("null", Id::as_str);
    let (why, code) = (text(&refusal.why), refusal.code.as_str());
    format!("{{\"status\": \"error\", \"id\": {id}, \"error\": {why}, \"code\": \"{code}\"}}\n").into()
}

/// The last line of a connection that is closed here.
pub fn closing(why: Closed, sentence: &str) -> Bytes {
    let (code, sentence) = (why.as_str(), text(sentence));
    format!("{{\"status\": \"closing\", \"id\": null, \"error\": {sentence}, \"code\": \"{code}\"}}\n").into()
}

/// What a response comes to, and how it is told. `content_type` matters where the definition leaves the kind to it.
pub fn decide(
    definition: &Definition,
    status: StatusCode,
    content_type: Option<&HeaderValue>,
    body: &[u8],
) -> (End, String) {
    let told = match definition.response {
        ResponseKind::Json => json(body),
        ResponseKind::Auto if is_json(status, content_type, body) => json(body),
        ResponseKind::Auto | ResponseKind::Text => utf8(body),
        ResponseKind::Binary => Ok(base64(body)),
    };
    match (definition.expects(status), told) {
        (true, Ok(told)) => (End::Ok, told),
        (true, Err(why)) => (End::Unreadable, error(&why, "bad_response")),
        (false, Ok(told)) => (End::Unexpected, told),
        // An error page is seldom of the kind that a response would have been.
        (false, Err(_)) => (End::Unexpected, told_in_any_way(body)),
    }
}

/// What became of a request without a response.
pub fn failed(end: &End) -> String {
    match end {
        End::Fault(fault) => error(&sentence(fault), fault.code.row().text),
        End::Cancelled => error("the request was cancelled", "cancelled"),
        End::Stopped => error("the relay was stopped before the response came", "shutdown"),
        End::Ok | End::Unexpected | End::Unreadable | End::Abandoned => "null".into(),
    }
}

/// The end of a request.
pub fn ended(id: &Id, end: &End, took: Duration, status: Option<StatusCode>, response: &str) -> Bytes {
    let word = if *end == End::Ok { "ok" } else { "error" };
    let mut line = String::with_capacity(response.len() + id.as_str().len() + 96);
    // Writing to a String can't fail.
    write!(line, "{{\"status\": \"{word}\", \"time\": {:.5}, \"id\": {}", took.as_secs_f64(), id.as_str())
        .ok();
    line.push_str(", \"response\": ");
    line.push_str(response);
    if let Some(status) = status {
        write!(line, ", \"http_status\": {}", status.as_u16()).ok();
    }
    line.push_str("}\n");
    line.into()
}

/// What failed, in the words of whoever looks for it.
fn sentence(fault: &Fault) -> String {
    match fault.code {
        Code::OriginDns => format!("DNS lookup failed: {}", fault.detail),
        Code::OriginTls => format!("TLS failed: {}", fault.detail),
        Code::OriginRefused => format!("connection refused: {}", fault.detail),
        Code::OriginConnectTimeout | Code::TtlExpired | Code::ResponseTimeout | Code::AckTimeout => {
            format!("timeout: {}", fault.detail)
        }
        _ => fault.detail.to_string(),
    }
}

/// Whether a response is JSON as its `Content-Type` says: `application/json`, `application/*+json` or `text/json`, in
/// any case, with any parameters. What has no body and no type, or is a 204, counts as the null that empty JSON is.
fn is_json(status: StatusCode, content_type: Option<&HeaderValue>, body: &[u8]) -> bool {
    if body.is_empty() && (content_type.is_none() || status == StatusCode::NO_CONTENT) {
        return true;
    }
    let Some(essence) = content_type.and_then(|value| value.as_bytes().split(|byte| *byte == b';').next())
    else {
        return false;
    };
    let essence = essence.trim_ascii().to_ascii_lowercase();
    match essence.strip_prefix(b"application/") {
        Some(subtype) => subtype == b"json" || subtype.ends_with(b"+json"),
        None => essence == b"text/json",
    }
}

/// A text as it is.
fn utf8(body: &[u8]) -> Result<String, String> {
    std::str::from_utf8(body).map(text).map_err(|error| {
        format!("the response is not UTF-8: {error}; the definition can say response = \"binary\"")
    })
}

fn told_in_any_way(body: &[u8]) -> String {
    std::str::from_utf8(body).map_or_else(|_| base64(body), text)
}

/// JSON on one line, its numbers as they were spelled. A body that is not there is null.
fn json(body: &[u8]) -> Result<String, String> {
    if body.trim_ascii().is_empty() {
        return Ok("null".into());
    }
    // A mark at the beginning is no JSON, and often there.
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let value: &RawValue =
        serde_json::from_slice(body).map_err(|error| format!("the response is not JSON: {error}"))?;
    // Within a text they would be escaped: these stand between values.
    Ok(value.get().chars().filter(|c| !matches!(c, '\n' | '\r')).collect())
}

fn base64(body: &[u8]) -> String {
    format!("{{\"base64\": \"{}\"}}", data_encoding::BASE64.encode(body))
}

fn error(why: &str, code: &str) -> String {
    format!("{{\"error\": {}, \"code\": \"{code}\"}}", text(why))
}

/// A text in JSON; it can always be written.
fn text(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::{
        config::requests::Requests,
        front::lines::read::{Said, read},
        wire::Side,
    };

    #[test]
    fn lines_are_spelled_as_in_the_document() {
        let id = id("\"123\"");
        assert_eq!(dispatched(&id), "{\"status\": \"dispatched\", \"id\": \"123\"}\n");
        let took = Duration::from_micros(395_960);
        assert_eq!(
            ended(&id, &End::Ok, took, Some(StatusCode::OK), "{}"),
            "{\"status\": \"ok\", \"time\": 0.39596, \"id\": \"123\", \"response\": {}, \"http_status\": 200}\n"
        );
    }

    #[test]
    fn a_response_is_told_as_its_definition_says() {
        let tell = |kind: &str, status: u16, body: &[u8]| {
            let definition = definition(&format!("url = 'http://a/'\nresponse = '{kind}'\nexpect = 200"));
            decide(&definition, StatusCode::from_u16(status).unwrap(), None, body)
        };
        assert_eq!(
            tell("json", 200, b"{\r\n \"a\": 1.50,\n \"b\": 1e400}\n"),
            (End::Ok, "{ \"a\": 1.50, \"b\": 1e400}".into())
        );
        assert_eq!(tell("json", 200, b" \n"), (End::Ok, "null".into()));
        assert_eq!(tell("json", 200, b"\xef\xbb\xbf1"), (End::Ok, "1".into()));
        assert_eq!(tell("text", 200, "ä\n\"".as_bytes()), (End::Ok, r#""ä\n\"""#.into()));
        assert_eq!(tell("binary", 200, b"\xff"), (End::Ok, "{\"base64\": \"/w==\"}".into()));
        assert_eq!(tell("json", 404, b"{\"why\":1}"), (End::Unexpected, "{\"why\":1}".into()));
        assert_eq!(tell("json", 500, b"<h1>no</h1>"), (End::Unexpected, "\"<h1>no</h1>\"".into()));
        assert_eq!(tell("text", 500, b"\xff"), (End::Unexpected, "{\"base64\": \"/w==\"}".into()));
        for (kind, body) in [("json", &b"<h1>"[..]), ("json", b"{\"a\":\xff}"), ("text", b"\xff")] {
            let (end, told) = tell(kind, 200, body);
            assert!(end == End::Unreadable && told.contains("bad_response"), "{told}");
        }
    }

    #[test]
    fn a_response_is_json_if_it_says_so_and_its_definition_nothing_else() {
        let tell = |said: &str, status: u16, body: &[u8]| {
            let said = (said != "-").then(|| HeaderValue::from_str(said).unwrap());
            let definition = definition("url = 'http://a/'");
            decide(&definition, StatusCode::from_u16(status).unwrap(), said.as_ref(), body)
        };
        for said in [
            "application/json",
            "Application/JSON;charset=utf-8",
            " application/json ; charset=\"utf-8\"",
            "application/problem+json",
            "application/vnd.api.v1+Json; a=b",
            "text/json",
        ] {
            assert_eq!(tell(said, 200, b"{\"a\":\n1.50}"), (End::Ok, "{\"a\":1.50}".into()), "{said}");
            assert_eq!(tell(said, 200, b""), (End::Ok, "null".into()), "{said}");
            let (end, told) = tell(said, 200, b"<h1>");
            assert!(
                end == End::Unreadable && told.contains("not JSON") && told.contains("bad_response"),
                "{told}"
            );
            assert_eq!(tell(said, 500, b"<h1>"), (End::Unexpected, "\"<h1>\"".into()), "{said}");
        }
        for said in [
            "-",
            "",
            "text/plain",
            "text/html; a=application/json",
            "application/x-ndjson",
            "application/json-seq",
            "application/geo+json-seq",
            "application/jsonp",
            "application/jsonx+xml",
            "image/a+json",
            "text/a+json",
            "json",
            "application/",
            "xapplication/json",
        ] {
            assert_eq!(tell(said, 200, b"[1]"), (End::Ok, "\"[1]\"".into()), "{said}");
            let (end, told) = tell(said, 200, b"\xff");
            assert!(end == End::Unreadable && told.contains("not UTF-8"), "{told}");
        }
        assert_eq!(tell("-", 200, b""), (End::Ok, "null".into()));
        assert_eq!(tell("text/html", 204, b""), (End::Ok, "null".into()));
        assert_eq!(tell("text/plain", 200, b""), (End::Ok, "\"\"".into()));
    }

    #[test]
    fn a_failure_says_what_failed() {
        let fault = |code| End::Fault(Fault::new(code, Side::Upstream, "this"));
        assert_eq!(
            failed(&fault(Code::OriginDns)),
            r#"{"error": "DNS lookup failed: this", "code": "origin_dns"}"#
        );
        assert!(failed(&fault(Code::OriginConnectTimeout)).contains("timeout: this"));
        assert!(failed(&End::Cancelled).contains("\"cancelled\""));
    }

    proptest::proptest! {
        #[test]
        fn every_reply_is_one_line_of_json(
            why in ".*", body in proptest::collection::vec(proptest::num::u8::ANY, 0..100), status in 100_u16..600,
        ) {
            let status = StatusCode::from_u16(status).unwrap();
            for (kind, said) in [("json", None), ("text", None), ("binary", None), ("auto", None), ("auto", Some("text/json"))] {
                let definition = definition(&format!("url = 'http://a/'\nresponse = '{kind}'"));
                let said = said.map(HeaderValue::from_static);
                let (end, told) = decide(&definition, status, said.as_ref(), &body);
                is_line(&ended(&id("1"), &end, Duration::from_secs(1), Some(status), &told));
            }
            is_line(&refused(&read(why.as_bytes()).err().unwrap_or_else(|| panic!("{why}"))));
            is_line(&closing(Closed::Idle, &why));
        }
    }

    fn is_line(line: &[u8]) {
        let (end, line) = line.split_last().unwrap();
        assert!(*end == b'\n' && !line.contains(&b'\n'));
        serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(line).unwrap();
    }

    fn id(text: &str) -> Id {
        match read(format!("{{\"cancel\":{text}}}").as_bytes()) {
            Ok(Said::Cancel(id)) => id,
            other => panic!("{other:?}"),
        }
    }

    /// The definition of a request called `a`.
    pub fn definition(rest: &str) -> Definition {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, format!("[request.a]\n{rest}")).unwrap();
        let requests = Requests::load(file.path()).unwrap_or_else(|mistakes| panic!("{mistakes}"));
        Definition::clone(requests.get("a").unwrap())
    }
}
