//! Messages that carry headers or a body, as they are read: checked, and turned into slices of the bytes they
//! came in.

use std::str::FromStr;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::{MAX_HEADERS, Malformed, reader::Reader};
use crate::wire::{
    Headers, headers,
    ids::InvalidId,
    message::{Error, Reply, Request, VERSION},
};

/// Reads a request; header values and the body are slices of `backing`. Its version has been checked.
pub fn request(backing: &Bytes) -> Result<Request, Malformed> {
    let (mut client_id, mut client_req_id, mut client_req_ttl) = (None, None, None);
    let (mut upstream_target, mut method, mut url) = (None, None, None);
    let (mut headers, mut body, mut stream, mut trailers, mut upgrade) = (None, None, None, None, None);
    let (mut interim, mut window) = (None, None);
    let (mut broker_id, mut broker_req_id, mut broker_req_ttl) = (None, None, None);
    each_field(backing, |field, value| match field {
        b"client_id" => once(&mut client_id, id(value)?),
        b"client_req_id" => once(&mut client_req_id, id(value)?),
        b"client_req_ttl" => once(&mut client_req_ttl, value.number()?),
        b"upstream_target" => once(&mut upstream_target, id(value)?),
        b"method" => once(&mut method, self::method(value)?),
        b"url" => once(&mut url, backing.slice_ref(value.bytes()?).into()),
        b"headers" => once(&mut headers, pairs(value, backing)?),
        b"body" => once(&mut body, backing.slice_ref(value.bytes()?)),
        b"stream" => once(&mut stream, value.flag()?),
        b"trailers" => once(&mut trailers, HeaderMap::from(pairs(value, backing)?)),
        b"upgrade" => once_or_nil(&mut upgrade, value, protocol),
        b"interim" => once(&mut interim, value.flag()?),
        b"window" => once_or_nil(&mut window, value, Reader::number),
        b"broker_id" => once_or_nil(&mut broker_id, value, id),
        b"broker_req_id" => once_or_nil(&mut broker_req_id, value, id),
        b"broker_req_ttl" => once_or_nil(&mut broker_req_ttl, value, Reader::number),
        _ => value.any().map(drop),
    })?;
    Ok(Request {
        v: VERSION,
        client_id: client_id.ok_or_else(|| missing("client_id"))?,
        client_req_id: client_req_id.ok_or_else(|| missing("client_req_id"))?,
        client_req_ttl: client_req_ttl.ok_or_else(|| missing("client_req_ttl"))?,
        upstream_target: upstream_target.ok_or_else(|| missing("upstream_target"))?,
        method: method.ok_or_else(|| missing("method"))?,
        url: url.ok_or_else(|| missing("url"))?,
        headers: headers.ok_or_else(|| missing("headers"))?,
        body: body.ok_or_else(|| missing("body"))?,
        stream: stream.unwrap_or_default(),
        trailers: trailers.unwrap_or_default(),
        upgrade,
        interim: interim.unwrap_or_default(),
        window,
        broker_id,
        broker_req_id,
        broker_req_ttl,
    })
}

/// Reads a reply, as [`request`].
pub fn reply(backing: &Bytes) -> Result<Reply, Malformed> {
    let (mut client_req_id, mut broker_req_id) = (None, None);
    let (mut upstream_id, mut upstream_req_id, mut status) = (None, None, None);
    let (mut headers, mut body, mut stream, mut trailers) = (None, None, None, None);
    let (mut upgrade, mut window, mut error) = (None, None, None);
    each_field(backing, |field, value| match field {
        b"client_req_id" => once(&mut client_req_id, id(value)?),
        b"broker_req_id" => once_or_nil(&mut broker_req_id, value, id),
        b"upstream_id" => once_or_nil(&mut upstream_id, value, id),
        b"upstream_req_id" => once_or_nil(&mut upstream_req_id, value, id),
        b"status_code" => once_or_nil(&mut status, value, Reader::number),
        b"headers" => once(&mut headers, pairs(value, backing)?),
        b"body" => once_or_nil(&mut body, value, |value| Ok(backing.slice_ref(value.bytes()?))),
        b"stream" => once(&mut stream, value.flag()?),
        b"trailers" => once(&mut trailers, HeaderMap::from(pairs(value, backing)?)),
        b"upgrade" => once_or_nil(&mut upgrade, value, protocol),
        b"window" => once_or_nil(&mut window, value, Reader::number),
        b"error" => once_or_nil(&mut error, value, self::error),
        _ => value.any().map(drop),
    })?;
    if status.is_some() == error.is_some() {
        return Err(Malformed::new("a reply has either a status_code or an error"));
    }
    Ok(Reply {
        v: VERSION,
        client_req_id: client_req_id.ok_or_else(|| missing("client_req_id"))?,
        broker_req_id,
        upstream_id,
        upstream_req_id,
        status_code: status.map(|status| final_status(status, upgrade.is_some())).transpose()?,
        headers: headers.unwrap_or_default(),
        body,
        stream: stream.unwrap_or_default(),
        trailers: trailers.unwrap_or_default(),
        upgrade,
        window,
        error,
    })
}

/// Reads a map. A field that `read` does not know is for it to skip.
pub fn each_field<'a>(
    message: &'a [u8],
    mut read: impl FnMut(&'a [u8], &mut Reader<'a>) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    let mut reader = Reader::new(message);
    for _ in 0..reader.map()? {
        let field = reader.bytes()?;
        read(field, &mut reader).map_err(|why| why.in_field(field))?;
    }
    Ok(())
}

/// Keeps the value of a field. Told twice, two readers might believe different ones.
pub fn once<T>(field: &mut Option<T>, value: T) -> Result<(), Malformed> {
    match field.replace(value) {
        None => Ok(()),
        Some(_) => Err(Malformed::new("it is there twice")),
    }
}

/// The same for a field whose value may be nil.
pub fn once_or_nil<'a, T>(
    field: &mut Option<T>,
    value: &mut Reader<'a>,
    read: impl FnOnce(&mut Reader<'a>) -> Result<T, Malformed>,
) -> Result<(), Malformed> {
    value.unless_nil(read)?.map_or(Ok(()), |value| once(field, value))
}

pub fn missing(field: &str) -> Malformed {
    Malformed::new(format!("missing field `{field}`"))
}

pub fn id<T: FromStr<Err = InvalidId>>(value: &mut Reader<'_>) -> Result<T, Malformed> {
    let text = value.text()?;
    text.parse().map_err(|why: InvalidId| {
        let shown: String = text.chars().take(MAX_SHOWN).collect();
        Malformed::new(format!("'{}' {why}", shown.escape_default()))
    })
}

/// An error: it is rare.
pub fn error(value: &mut Reader<'_>) -> Result<Error, Malformed> {
    super::read(value.any()?)
}

/// Header pairs. `HeaderName` lowers the case and refuses what is not a token, `HeaderValue` refuses CR, LF and
/// NUL: what a peer sends can't split a message.
pub fn pairs(value: &mut Reader<'_>, backing: &Bytes) -> Result<Headers, Malformed> {
    let count = value.list()?;
    if count > MAX_HEADERS {
        return Err(Malformed::new(format!("over {MAX_HEADERS} headers")));
    }
    let mut pairs = Headers::with_capacity(count.min(value.left() / LEAST_PAIR));
    for _ in 0..count {
        if value.list()? != 2 {
            return Err(Malformed::new("a header is a name and a value"));
        }
        let name = headers::name(value.bytes()?);
        let name = name.map_err(|_| Malformed::new("a header name is not a token"))?;
        let text = HeaderValue::from_maybe_shared(backing.slice_ref(value.bytes()?));
        let text =
            text.map_err(|_| Malformed::new(format!("the value of header {name} has control characters")))?;
        pairs.append(name, text);
    }
    Ok(pairs)
}

fn method(value: &mut Reader<'_>) -> Result<Method, Malformed> {
    Method::from_bytes(value.bytes()?).map_err(|_| Malformed::new("it is not a token"))
}

/// The value of an `Upgrade` header, checked like one.
fn protocol(value: &mut Reader<'_>) -> Result<HeaderValue, Malformed> {
    HeaderValue::from_str(value.text()?).map_err(|_| Malformed::new("it has control characters"))
}

/// An informational status can't end an exchange, except that 101 begins another protocol.
fn final_status(number: u64, upgrades: bool) -> Result<StatusCode, Malformed> {
    let status = u16::try_from(number).ok().and_then(|number| StatusCode::from_u16(number).ok());
    match status {
        Some(status) if !status.is_informational() => Ok(status),
        Some(StatusCode::SWITCHING_PROTOCOLS) if upgrades => Ok(StatusCode::SWITCHING_PROTOCOLS),
        _ => Err(Malformed::new(format!("status_code {number} is not a final status"))),
    }
}

/// What is shown of an id that is none.
const MAX_SHOWN: usize = 64;
/// No pair has fewer bytes.
const LEAST_PAIR: usize = 3;
