//! `Max-Forwards` of OPTIONS and TRACE: how many more proxies may pass a request on (RFC 9110 section 7.6.2).

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};

use super::{body::Held, message::Response, relay::Asked};
use crate::framing::digits;

/// The answer to a request that is to go no further. Of any other, one forward is taken.
pub(super) fn answer(asked: &mut Asked) -> Option<Response<Held>> {
    let head = &mut asked.head;
    if head.method != Method::OPTIONS && head.method != Method::TRACE {
        return None;
    }
    let left = digits(head.headers.get(header::MAX_FORWARDS)?.as_bytes())?;
    if left > 0 {
        head.headers.insert(header::MAX_FORWARDS, HeaderValue::from(left - 1));
        return None;
    }
    let mut response = Response::new(Held::empty());
    if head.method == Method::TRACE {
        response.body = Held::new(message(asked), HeaderMap::new(), None);
        response.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("message/http"));
    }
    Some(response)
}

/// The request as it came, without what is secret (RFC 9110 section 9.3.8).
fn message(asked: &Asked) -> Bytes {
    let mut message = [b"TRACE ", asked.url.as_bytes(), b" HTTP/1.1\r\n"].concat();
    for (name, value) in &asked.head.headers {
        if ![header::AUTHORIZATION, header::PROXY_AUTHORIZATION, header::COOKIE].contains(name) {
            message.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
        }
    }
    message.extend(b"\r\n");
    message.into()
}
