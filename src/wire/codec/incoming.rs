//! Messages that carry headers and a body, as they are read: borrowed from their bytes, checked, and turned
//! into slices of them.

use std::fmt;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde::{
    Deserialize, Deserializer,
    de::{Error, SeqAccess, Visitor},
};

use super::{MAX_HEADERS, Malformed};
use crate::wire::{
    headers,
    ids::{Name, ProcessId, RequestId},
    message,
};

/// A request, borrowed from its bytes. The fields are those of [`message::Request`].
#[derive(Deserialize)]
pub struct Request<'a> {
    v: u8,
    client_id: ProcessId,
    client_req_id: RequestId,
    client_req_ttl: u64,
    upstream_target: Name,
    method: &'a str,
    url: String,
    #[serde(borrow)]
    headers: Pairs<'a>,
    body: &'a serde_bytes::Bytes,
    #[serde(default)]
    stream: bool,
    #[serde(default, borrow)]
    trailers: Pairs<'a>,
    #[serde(default)]
    upgrade: Option<String>,
    #[serde(default)]
    broker_id: Option<ProcessId>,
    #[serde(default)]
    broker_req_id: Option<RequestId>,
    #[serde(default)]
    broker_req_ttl: Option<u64>,
}

/// A reply, borrowed from its bytes. The fields are those of [`message::Reply`].
#[derive(Deserialize)]
pub struct Reply<'a> {
    v: u8,
    client_req_id: RequestId,
    #[serde(default)]
    broker_req_id: Option<RequestId>,
    #[serde(default)]
    upstream_id: Option<ProcessId>,
    #[serde(default)]
    upstream_req_id: Option<RequestId>,
    #[serde(default)]
    status_code: Option<u16>,
    #[serde(default, borrow)]
    headers: Pairs<'a>,
    #[serde(default)]
    body: Option<&'a serde_bytes::Bytes>,
    #[serde(default)]
    stream: bool,
    #[serde(default, borrow)]
    trailers: Pairs<'a>,
    #[serde(default)]
    upgrade: Option<String>,
    #[serde(default)]
    error: Option<message::Error>,
}

impl Request<'_> {
    /// The request, its header values and body slices of `backing`, from which it was read.
    pub fn owned(self, backing: &Bytes) -> Result<message::Request, Malformed> {
        let method = Method::from_bytes(self.method.as_bytes());
        Ok(message::Request {
            v: self.v,
            client_id: self.client_id,
            client_req_id: self.client_req_id,
            client_req_ttl: self.client_req_ttl,
            upstream_target: self.upstream_target,
            method: method.map_err(|_| Malformed::new("method is not a token"))?,
            url: self.url,
            headers: self.headers.owned(backing)?,
            body: backing.slice_ref(self.body),
            stream: self.stream,
            trailers: self.trailers.owned(backing)?,
            upgrade: self.upgrade.map(protocol).transpose()?,
            broker_id: self.broker_id,
            broker_req_id: self.broker_req_id,
            broker_req_ttl: self.broker_req_ttl,
        })
    }
}

impl Reply<'_> {
    /// The reply, its header values and body slices of `backing`, from which it was read.
    pub fn owned(self, backing: &Bytes) -> Result<message::Reply, Malformed> {
        if self.status_code.is_some() == self.error.is_some() {
            return Err(Malformed::new("a reply has either a status_code or an error"));
        }
        Ok(message::Reply {
            v: self.v,
            client_req_id: self.client_req_id,
            broker_req_id: self.broker_req_id,
            upstream_id: self.upstream_id,
            upstream_req_id: self.upstream_req_id,
            status_code: self.status_code.map(|status| final_status(status, &self.upgrade)).transpose()?,
            headers: self.headers.owned(backing)?,
            body: self.body.map(|body| backing.slice_ref(body)),
            stream: self.stream,
            trailers: self.trailers.owned(backing)?,
            upgrade: self.upgrade.map(protocol).transpose()?,
            error: self.error,
        })
    }
}

/// An informational status can't end an exchange, except that 101 begins another protocol.
fn final_status(number: u16, upgrade: &Option<String>) -> Result<StatusCode, Malformed> {
    match StatusCode::from_u16(number) {
        Ok(status) if !status.is_informational() => Ok(status),
        Ok(StatusCode::SWITCHING_PROTOCOLS) if upgrade.is_some() => Ok(StatusCode::SWITCHING_PROTOCOLS),
        _ => Err(Malformed::new(format!("status_code {number} is not a final status"))),
    }
}

/// The value of an `Upgrade` header, checked like one.
fn protocol(text: String) -> Result<HeaderValue, Malformed> {
    HeaderValue::try_from(text).map_err(|_| Malformed::new("upgrade has control characters"))
}

/// Header pairs, borrowed.
#[derive(Default)]
pub struct Pairs<'a>(Vec<(&'a str, &'a [u8])>);

impl Pairs<'_> {
    /// `HeaderName` lowers the case and refuses what is not a token, `HeaderValue` refuses CR, LF and NUL: what
    /// a peer sends can't split a message.
    pub fn owned(self, backing: &Bytes) -> Result<HeaderMap, Malformed> {
        let mut headers = HeaderMap::with_capacity(self.0.len());
        for (name, value) in self.0 {
            let name = headers::name(name.as_bytes())
                .map_err(|_| Malformed::new("a header name is not a token"))?;
            let value = HeaderValue::from_maybe_shared(backing.slice_ref(value))
                .map_err(|_| Malformed::new(format!("the value of header {name} has control characters")))?;
            headers.append(name, value);
        }
        Ok(headers)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Pairs<'a> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_seq(PairsVisitor)
    }
}

struct PairsVisitor;

impl<'de> Visitor<'de> for PairsVisitor {
    type Value = Pairs<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("header pairs")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Pairs<'de>, A::Error> {
        let mut pairs = Vec::with_capacity(seq.size_hint().unwrap_or(0).min(MAX_HEADERS));
        while let Some((name, value)) = seq.next_element::<(&str, &serde_bytes::Bytes)>()? {
            if pairs.len() == MAX_HEADERS {
                return Err(A::Error::custom(format_args!("over {MAX_HEADERS} headers")));
            }
            pairs.push((name, &**value));
        }
        Ok(Pairs(pairs))
    }
}
