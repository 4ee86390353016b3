//! A wish and its definition to an HTTP request, or to why there is none.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, header};
use serde_json::value::RawValue;
use url::form_urlencoded::Serializer;

use super::{
    json::{self, Members},
    read::{Ask, Refused, shown},
};
use crate::{
    config::requests::{BodyKind, Definition, ResponseKind},
    wire::{Headers, headers},
};

/// A request that can be issued.
#[derive(Debug)]
pub struct Prepared {
    /// The method.
    pub method: Method,
    /// The path and query.
    pub url: String,
    /// The headers.
    pub headers: Headers,
    /// The body.
    pub body: Bytes,
    /// How long it may take.
    pub timeout: Duration,
    /// Bytes of the response at most, where it is not the socket's own limit.
    pub max_response: Option<usize>,
}

/// The request that `ask` is for.
///
/// # Errors
/// What does not fit the definition.
pub fn build(definition: &Definition, ask: &Ask) -> Result<Prepared, (Refused, String)> {
    let value =
        |name: &str| ask.params.iter().find(|(param, _)| param == name).map(|(_, value)| value.as_str());
    let url = definition.url.fill(value).map_err(|why| (Refused::BadParams, why.to_string()))?;
    let mut headers = definition.headers.clone();
    set(&mut headers, definition, &ask.headers).map_err(|why| (Refused::BadHeaders, why))?;
    let timeout = timeout(definition, ask.timeout).map_err(|why| (Refused::BadTimeout, why))?;
    let (body, kind) = match &ask.data {
        None => (Bytes::new(), None),
        Some(data) => body(definition.body, data).map_err(|why| (Refused::BadData, why))?,
    };
    if let Some(kind) = kind {
        headers.set_default(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    if body.is_empty() && headers::is_with_content(&definition.method) {
        headers::declare_empty(&mut headers);
    }
    let accept = match definition.response {
        ResponseKind::Auto => "application/json, */*;q=0.5",
        ResponseKind::Json => "application/json",
        ResponseKind::Text | ResponseKind::Binary => "*/*",
    };
    headers.set_default(header::ACCEPT, HeaderValue::from_static(accept));
    // What comes is shown as it is: nothing here unpacks it.
    headers.set_default(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers.set_default(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
    Ok(Prepared {
        method: definition.method.clone(),
        url,
        headers,
        body,
        timeout,
        max_response: definition.max_response,
    })
}

fn set(headers: &mut Headers, definition: &Definition, asked: &[(String, String)]) -> Result<(), String> {
    let mut names = Vec::new();
    for (text, value) in asked {
        let name = text.parse::<HeaderName>().ok().filter(|name| definition.allow_headers.contains(name));
        let Some(name) = name else {
            return Err(format!("the header '{}' can't be set: it is not in allow-headers", shown(text)));
        };
        let Ok(value) = HeaderValue::from_str(value) else {
            return Err(format!("the header '{name}' has a character that a header can't have"));
        };
        if names.contains(&name) {
            return Err(format!("the header '{name}' is there twice"));
        }
        names.push(name.clone());
        headers.insert(name, value);
    }
    Ok(())
}

fn timeout(definition: &Definition, asked: Option<f64>) -> Result<Duration, String> {
    let (Some(seconds), max) = (asked, definition.max_timeout) else { return Ok(definition.timeout) };
    let Some(max) = max else {
        return Err("'timeout' can't be set: the request has no max-timeout".into());
    };
    match Duration::try_from_secs_f64(seconds) {
        Ok(asked) if asked <= max => Ok(asked),
        Ok(_) | Err(_) => {
            Err(format!("'timeout' is over the request's max-timeout of {}", humantime::format_duration(max)))
        }
    }
}

/// The body, and its type.
fn body(kind: BodyKind, data: &RawValue) -> Result<(Bytes, Option<&'static str>), String> {
    match kind {
        BodyKind::None => Err("the request takes no data: it has no 'body'".into()),
        BodyKind::Json => Ok((Bytes::copy_from_slice(data.get().as_bytes()), Some("application/json"))),
        BodyKind::Form => Ok((form(data)?.into(), Some("application/x-www-form-urlencoded"))),
        BodyKind::Raw => raw(data),
    }
}

fn form(data: &RawValue) -> Result<String, String> {
    let members = serde_json::from_str::<Members>(data.get());
    let Members(members) = members.map_err(|_| "'data' must be an object, which becomes a form")?;
    let mut form = Serializer::new(String::new());
    for (name, value) in members {
        let values = match serde_json::from_str::<Vec<&RawValue>>(value.get()) {
            Ok(several) => several,
            Err(_) => vec![value],
        };
        for value in values {
            let text = json::scalar(value).ok_or_else(|| {
                format!("'data': '{}' must be a text, a number, true, false, or a list of them", shown(&name))
            })?;
            form.append_pair(&name, &text);
        }
    }
    Ok(form.finish())
}

fn raw(data: &RawValue) -> Result<(Bytes, Option<&'static str>), String> {
    if let Ok(text) = serde_json::from_str::<String>(data.get()) {
        return Ok((text.into(), Some("text/plain; charset=utf-8")));
    }
    let members = serde_json::from_str::<Members>(data.get());
    if let Ok(Members(members)) = members
        && let [(name, value)] = members.as_slice()
        && name == "base64"
        && let Ok(text) = serde_json::from_str::<String>(value.get())
    {
        let bytes = data_encoding::BASE64.decode(text.as_bytes());
        let bytes = bytes.map_err(|error| format!("'data': not base64: {error}"))?;
        return Ok((bytes.into(), Some("application/octet-stream")));
    }
    Err("'data' must be a text or {\"base64\":\"…\"}".into())
}

const USER_AGENT: &str = concat!("relay/", env!("CARGO_PKG_VERSION"));

#[cfg(test)]
mod tests {
    use super::*;
    use crate::front::lines::{
        read::{Said, read},
        reply::tests::definition,
    };

    #[test]
    fn a_request_has_what_its_definition_and_its_line_say() {
        let definition = definition(
            "method = 'POST'\nurl = 'http://a/{x}'\nbody = 'json'\nheaders = { x-a = '1', x-b = '1' }\n\
             allow-headers = ['x-b', 'x-c']\nmax-timeout = '1m'",
        );
        let line = r#"{"id":1,"request":"a","params":{"x":"/"},"data":{"n":1.50},"headers":{"X-B":"2"},"timeout":0.5}"#;
        let prepared = prepare(&definition, line).unwrap();
        assert_eq!(prepared.url, "/%2F");
        assert_eq!(prepared.body, r#"{"n":1.50}"#);
        let header = |name: &str| prepared.headers[name].to_str().unwrap().to_owned();
        assert_eq!((header("x-a"), header("x-b")), ("1".into(), "2".into()));
        assert_eq!(
            (header("content-type"), header("accept")),
            ("application/json".into(), "application/json, */*;q=0.5".into())
        );
        assert_eq!(prepared.timeout, Duration::from_millis(500));
    }

    #[test]
    fn data_becomes_the_body_that_the_definition_says() {
        let body = |kind: &str, data: &str| {
            let definition = definition(&format!("method = 'POST'\nurl = 'http://a/'\nbody = '{kind}'"));
            let line = format!(r#"{{"id":1,"request":"a","data":{data}}}"#);
            prepare(&definition, &line).map(|prepared| String::from_utf8(prepared.body.to_vec()).unwrap())
        };
        assert_eq!(
            body("form", r#"{"a":"x y&","b":[1,true],"ü":1e3}"#).unwrap(),
            "a=x+y%26&b=1&b=true&%C3%BC=1e3"
        );
        assert_eq!(body("json", "[1, 2]").unwrap(), "[1, 2]");
        assert_eq!(body("raw", r#""a\nb""#).unwrap(), "a\nb");
        assert_eq!(body("raw", r#"{"base64":"aGVsbG8="}"#).unwrap(), "hello");
        assert_eq!(body("raw", "null").unwrap(), "");
        for (kind, data) in [
            ("none", "1"),
            ("form", "[1]"),
            ("form", r#"{"a":null}"#),
            ("form", r#"{"a":{"b":1}}"#),
            ("raw", "1"),
            ("raw", r#"{"base64":"?"}"#),
            ("raw", r#"{"base64":1}"#),
            ("raw", r#"{"base64":"","x":1}"#),
        ] {
            assert_eq!(body(kind, data).unwrap_err().0, Refused::BadData, "{kind} {data}");
        }
    }

    #[test]
    fn what_the_definition_does_not_allow_is_refused() {
        let definition = definition("url = 'http://a/{x}'\nallow-headers = ['x-b']\nmax-timeout = '30s'");
        for (rest, code, why) in [
            ("", Refused::BadParams, "'x' is missing"),
            (r#","params":{"x":""}"#, Refused::BadParams, "'x' is empty"),
            (r#","params":{"x":"1"},"headers":{"x-c":"1"}"#, Refused::BadHeaders, "'x-c' can't be set"),
            (
                r#","params":{"x":"1"},"headers":{"x-b":"a\r\nb"}"#,
                Refused::BadHeaders,
                "'x-b' has a character",
            ),
            (r#","params":{"x":"1"},"headers":{"x-b":"a","X-B":"b"}"#, Refused::BadHeaders, "twice"),
            (r#","params":{"x":"1"},"timeout":31"#, Refused::BadTimeout, "max-timeout of 30s"),
            (r#","params":{"x":"1"},"timeout":1e300"#, Refused::BadTimeout, "max-timeout of 30s"),
        ] {
            let (found, said) =
                prepare(&definition, &format!(r#"{{"id":1,"request":"a"{rest}}}"#)).unwrap_err();
            assert!(found == code && said.contains(why), "{rest}: {said}");
        }
    }

    fn prepare(definition: &Definition, line: &str) -> Result<Prepared, (Refused, String)> {
        let Ok(Said::Ask(ask)) = read(line.as_bytes()) else { panic!("{line}") };
        build(definition, &ask)
    }
}
