//! A fault as an HTTP response: RFC 9457 problem details for programs, RFC 9209 `Proxy-Status` for
//! operators, `Retry-After` where asking again makes sense.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use serde::Serialize;

use super::{body::Held, message::Response};
use crate::{
    config::Switch,
    wire::{Code, Fault, RequestId},
};

#[derive(Serialize)]
struct Problem<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    code: &'a str,
    raised_by: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
}

/// The response to a `method` request that failed. Unless `details` are on, it names nothing that a stranger need not
/// know.
pub fn response(fault: &Fault, id: Option<&RequestId>, method: &Method, details: Switch) -> Response<Held> {
    let row = fault.code.row();
    let detail = match details {
        Switch::On => &*fault.detail,
        Switch::Off => fault.public_detail(),
    };
    let problem = Problem {
        r#type: format!("urn:relay:{}", row.text),
        title: row.meaning,
        status: row.status,
        detail,
        code: row.text,
        raised_by: fault.raised_by.to_string(),
        request_id: id.map(RequestId::as_str),
    };
    // A map of texts and numbers; it can always be written.
    let mut text = serde_json::to_vec(&problem).unwrap_or_default();
    text.push(b'\n');
    let length = HeaderValue::from(text.len());
    let body = if *method == Method::HEAD { Bytes::new() } else { Bytes::from(text) };
    let mut response = Response::new(Held::new(body, http::HeaderMap::new(), None));
    response.status = StatusCode::from_u16(row.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = &mut response.headers;
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(header::CONTENT_LENGTH, length);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(status) = proxy_status(fault.code, detail) {
        headers.insert(PROXY_STATUS, status);
    }
    if let Some(after) = fault.retry_after {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
    }
    if let Some(id) = id
        && let Ok(id) = HeaderValue::from_str(id.as_str())
    {
        headers.insert(X_RELAY_ID, id);
    }
    response
}

/// RFC 9209.
const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");
/// The request's id.
const X_RELAY_ID: HeaderName = HeaderName::from_static("x-relay-id");

/// `relay; error=connection_refused; details="…"`, an RFC 8941 list of one item.
fn proxy_status(code: Code, detail: &str) -> Option<HeaderValue> {
    let mut value = format!("relay; error={}; details=\"", code.row().proxy_error);
    for c in detail.chars() {
        match c {
            '"' | '\\' => value.extend(['\\', c]),
            ' '..='~' => value.push(c),
            _ => value.push('?'),
        }
    }
    value.push('"');
    HeaderValue::from_str(&value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Side;

    #[test]
    fn a_fault_is_told_to_programs_to_operators_and_to_callers() {
        let fault = Fault::new(Code::NoAgent, Side::Broker, "no agent for 'x' \u{2026} \"now\"");
        let shown = response(&fault, None, &Method::GET, Switch::On);
        assert_eq!(shown.status, 503);
        assert_eq!(shown.headers["retry-after"], "5");
        assert_eq!(
            shown.headers["proxy-status"],
            r#"relay; error=destination_unavailable; details="no agent for 'x' ? \"now\"""#
        );
        let hidden = response(&fault, None, &Method::GET, Switch::Off);
        let told = hidden.headers["proxy-status"].to_str().unwrap().to_owned();
        let body = String::from_utf8(hidden.body.into_bytes().to_vec()).unwrap();
        assert!(told.contains("no upstream agent is there") && !told.contains("'x'"), "{told}");
        assert!(body.contains("no upstream agent is there") && !body.contains("'x'"), "{body}");
    }
}
