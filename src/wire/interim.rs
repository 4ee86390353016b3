//! An interim response of an origin (RFC 9110 section 15.2) on its way to the caller of a request that is not answered
//! yet. It is a field of an acknowledgement, and sent only to a client agent that asked for it.

use http::{HeaderName, HeaderValue, StatusCode, header};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_bytes::ByteBuf;

use super::{
    codec::MAX_HEADERS,
    headers::{self, Headers},
};

/// An interim response: any of 1xx but `100 Continue`, which asks for a body, and `101 Switching Protocols`, which ends
/// the exchange.
#[derive(Debug, Clone, PartialEq)]
pub struct Interim {
    /// The status.
    pub status: StatusCode,
    /// The headers that pass on.
    pub headers: Headers,
}

impl Interim {
    /// An interim response to pass on, with its fields for the reader behind the next hop; none where `status` is no
    /// such.
    pub fn new(status: StatusCode, headers: Headers) -> Option<Self> {
        let mut headers = headers::end_to_end(headers);
        // It has no body, whatever it tells.
        headers.retain(|name, _| *name != header::CONTENT_LENGTH && *name != header::TRANSFER_ENCODING);
        may_pass(status).then_some(Interim { status, headers })
    }

    /// What it takes of [`MAX_INTERIM_BYTES`].
    pub fn size(&self) -> usize {
        let fields = self.headers.iter().map(|(name, value)| name.as_str().len() + value.len());
        LEAST + fields.sum::<usize>()
    }
}

fn may_pass(status: StatusCode) -> bool {
    let others = [StatusCode::CONTINUE, StatusCode::SWITCHING_PROTOCOLS];
    status.is_informational() && !others.contains(&status)
}

/// What is left of [`MAX_INTERIM_BYTES`] for one request.
#[derive(Debug)]
pub struct Allowance(usize);

impl Default for Allowance {
    fn default() -> Self {
        Allowance(MAX_INTERIM_BYTES)
    }
}

impl Allowance {
    /// Whether `interim` still passes.
    pub fn passes(&mut self, interim: &Interim) -> bool {
        let left = self.0.checked_sub(interim.size());
        self.0 = left.unwrap_or(0);
        left.is_some()
    }
}

#[derive(Serialize, Deserialize)]
struct Fields {
    status_code: u16,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    headers: Vec<(String, ByteBuf)>,
}

impl Serialize for Interim {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let pair = |(name, value): (&HeaderName, &HeaderValue)| {
            (name.as_str().to_owned(), ByteBuf::from(value.as_bytes()))
        };
        let fields =
            Fields { status_code: self.status.as_u16(), headers: self.headers.iter().map(pair).collect() };
        fields.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Interim {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Fields { status_code, headers: pairs } = Fields::deserialize(deserializer)?;
        let status = StatusCode::from_u16(status_code).ok().filter(|status| may_pass(*status));
        let status = status.ok_or_else(|| de::Error::custom("it is no interim status that passes on"))?;
        if pairs.len() > MAX_HEADERS {
            return Err(de::Error::custom(format!("over {MAX_HEADERS} headers")));
        }
        let mut headers = Headers::with_capacity(pairs.len());
        for (name, value) in pairs {
            let name = headers::name(name.as_bytes());
            let value = HeaderValue::from_maybe_shared(bytes::Bytes::from(value.into_vec()));
            match (name, value) {
                (Ok(name), Ok(value)) => headers.append(name, value),
                _ => return Err(de::Error::custom("a header has a byte that none may have")),
            }
        }
        Ok(Interim { status, headers })
    }
}

/// Bytes of the interim responses to one request at most, all together; what is over it is not passed on.
pub const MAX_INTERIM_BYTES: usize = 64 * 1024;
/// What each of them counts at least.
const LEAST: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn hints(status: u16) -> Option<Interim> {
        let headers = [
            ("link", "</a.css>; rel=preload"),
            ("connection", "x-hop"),
            ("x-hop", "1"),
            ("content-length", "5"),
            ("transfer-encoding", "chunked"),
        ];
        let headers = headers.map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)));
        Interim::new(StatusCode::from_u16(status).unwrap(), headers.into_iter().collect())
    }

    #[test]
    fn what_is_of_the_hop_alone_is_left_out() {
        let passed = hints(103).unwrap();
        assert_eq!(passed.headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["link"]);
        for (status, passes) in [(100, false), (101, false), (102, true), (199, true), (200, false)] {
            assert_eq!(hints(status).is_some(), passes, "{status}");
        }
    }

    #[test]
    fn as_many_pass_as_have_room_together() {
        let mut allowance = Allowance::default();
        let small = Interim { status: StatusCode::PROCESSING, headers: Headers::new() };
        assert_eq!((0..5000).filter(|_| allowance.passes(&small)).count(), MAX_INTERIM_BYTES / LEAST);
    }
}
