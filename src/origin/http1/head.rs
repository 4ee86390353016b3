//! The head of a response: what it says, how its body is framed, and whether another request may follow
//! (RFC 9112 sections 4 to 6 and 9.3).

use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};
use http::{HeaderName, HeaderValue, StatusCode, Version, header};

use crate::{
    framing::{
        blank_line,
        body::{self, Body, Chunks},
        digits, is_bodiless, is_chunked, skip_empty_lines,
    },
    origin::answer::Said,
    wire::{
        Headers,
        headers::{has_option, name_in_any_case},
    },
};

/// The head of a final response.
pub struct Head {
    /// What it says.
    pub said: Said,
    /// What follows it.
    pub body: Body,
    /// Whether the connection may be used again afterwards.
    pub keeps: bool,
}

/// A head of one or the other kind.
pub enum Next {
    /// An interim response: others follow.
    Interim(StatusCode, Headers),
    /// The response.
    Final(Head),
}

/// What is wrong with a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Its head.
    #[error("a response's head was expected: {0}")]
    Head(httparse::Error),
    /// Its status.
    #[error("its status is not one that HTTP has")]
    Status,
    /// Its head is too large.
    #[error("its head is over a limit ({MAX_HEAD} bytes, {MAX_FIELDS} fields)")]
    TooLarge,
    /// There were too many interim responses.
    #[error("over {MAX_INTERIM} interim responses came before it")]
    TooManyInterim,
    /// How its body is framed.
    #[error("it does not tell clearly where its body ends")]
    Framing,
    /// Its transfer coding.
    #[error("its Transfer-Encoding is not `chunked` alone")]
    Coding,
    /// Its body.
    #[error(transparent)]
    Body(#[from] body::Malformed),
    /// It ended before its end.
    #[error("the connection closed before the response was complete")]
    Cut,
}

/// The heads of the responses to one request.
pub struct Heads {
    /// Whether the request's method is HEAD.
    to_head: bool,
    /// How much has been searched for the end of the head.
    searched: usize,
    interim: usize,
}

impl Heads {
    /// None has come yet.
    pub fn new(to_head: bool) -> Self {
        Heads { to_head, searched: 0, interim: 0 }
    }

    /// The next head, if all of it is in `buffer`.
    ///
    /// # Errors
    /// When it is not one.
    pub fn take(&mut self, buffer: &mut BytesMut) -> Result<Option<Next>, Malformed> {
        if self.searched == 0 {
            // Robustness: an empty line in front of a message is ignored.
            skip_empty_lines(buffer);
            if buffer == "\r" {
                return Ok(None);
            }
        }
        let Some(end) = blank_line(buffer, self.searched) else {
            let start = buffer.len().min(START.len());
            if buffer[..start] != START[..start] {
                return Err(Malformed::Head(httparse::Error::Version));
            }
            if buffer.len() > MAX_HEAD {
                return Err(Malformed::TooLarge);
            }
            self.searched = buffer.len();
            return Ok(None);
        };
        self.searched = 0;
        if end > MAX_HEAD {
            return Err(Malformed::TooLarge);
        }
        let next = parse(buffer.split_to(end).freeze(), self.to_head)?;
        if matches!(next, Next::Interim(..)) {
            self.interim += 1;
            if self.interim > MAX_INTERIM {
                return Err(Malformed::TooManyInterim);
            }
        }
        Ok(Some(next))
    }
}

fn parse(bytes: Bytes, to_head: bool) -> Result<Next, Malformed> {
    let mut room = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    match config.parse_response_with_uninit_headers(&mut parsed, &bytes, &mut room) {
        Ok(httparse::Status::Complete(length)) if length == bytes.len() => {}
        Ok(_) => return Err(Malformed::Head(httparse::Error::NewLine)),
        Err(httparse::Error::TooManyHeaders) => return Err(Malformed::TooLarge),
        Err(error) => return Err(Malformed::Head(error)),
    }
    let code = parsed.code.unwrap_or_default();
    let status = StatusCode::from_u16(code).map_err(|_| Malformed::Status)?;
    let version = if parsed.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
    let mut headers = Headers::with_capacity(parsed.headers.len());
    let mut closes = false;
    for field in parsed.headers.iter() {
        if status != StatusCode::SWITCHING_PROTOCOLS && field.name.eq_ignore_ascii_case("connection") {
            // Most origins say one of these every time, and it concerns nobody else. It is left out at
            // once, before somebody reads which headers it names.
            let says = |word: &str| field.value.eq_ignore_ascii_case(word.as_bytes());
            closes |= says("close");
            if says("keep-alive") || says("close") {
                continue;
            }
        }
        let name = name_in_any_case(field.name.as_bytes())
            .map_err(|_| Malformed::Head(httparse::Error::HeaderName))?;
        let value = HeaderValue::from_maybe_shared(bytes.slice_ref(field.value));
        headers.append(name, value.map_err(|_| Malformed::Head(httparse::Error::HeaderValue))?);
    }
    if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(Next::Interim(status, headers));
    }
    let (body, framed_once) = framing(status, version, to_head, &mut headers)?;
    let keeps = framed_once
        && !closes
        && version == Version::HTTP_11
        && status != StatusCode::SWITCHING_PROTOCOLS
        && !matches!(body, Body::UntilClose)
        && !has_option(&headers, "close");
    Ok(Next::Final(Head { said: Said { status, version, headers }, body, keeps }))
}

/// How the body is framed (RFC 9112 section 6.3), and whether that is told in one way only. The headers tell
/// it in one way afterwards.
fn framing(
    status: StatusCode,
    version: Version,
    to_head: bool,
    headers: &mut Headers,
) -> Result<(Body, bool), Malformed> {
    if to_head || is_bodiless(status) {
        // A 204 that tells of a body may be followed by one, which is not to be read as the next response.
        let tells = |name: HeaderName| headers.get_all(name).any(|value| value != "0");
        let tells_body = status == StatusCode::NO_CONTENT
            && (tells(header::TRANSFER_ENCODING) || tells(header::CONTENT_LENGTH));
        return Ok((Body::Ended, !tells_body));
    }
    let mut codings = headers.get_all(header::TRANSFER_ENCODING);
    if let Some(coding) = codings.next() {
        let chunked = is_chunked(coding.as_bytes()) && codings.next().is_none();
        return match chunked {
            _ if version == Version::HTTP_10 => Err(Malformed::Framing),
            false => Err(Malformed::Coding),
            true => {
                drop(codings);
                let lengths = headers.remove(header::CONTENT_LENGTH).is_some();
                Ok((Body::Chunked(Chunks::Size), !lengths))
            }
        };
    }
    drop(codings);
    Ok(match length(headers)? {
        None => (Body::UntilClose, true),
        Some(0) => (Body::Ended, true),
        Some(length) => (Body::Length(length), true),
    })
}

/// What `content-length` tells. Told several times, it must be the same (RFC 9110 section 8.6).
fn length(headers: &mut Headers) -> Result<Option<u64>, Malformed> {
    let mut length = None;
    let mut times = 0;
    for value in headers.get_all(header::CONTENT_LENGTH) {
        for value in value.as_bytes().split(|&byte| byte == b',') {
            let told = digits(value.trim_ascii()).ok_or(Malformed::Framing)?;
            if length.is_some_and(|length| length != told) {
                return Err(Malformed::Framing);
            }
            length = Some(told);
            times += 1;
        }
    }
    if let (Some(length), 2..) = (length, times) {
        headers.insert(header::CONTENT_LENGTH, length.into());
    }
    Ok(length)
}

/// What every response begins with.
const START: &[u8] = b"HTTP/1.";
/// A head at most.
const MAX_HEAD: usize = 400 * 1024;
/// As many fields in it at most.
const MAX_FIELDS: usize = 256;
/// As many interim responses to one request at most.
const MAX_INTERIM: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_with_whatever_bytes_its_values_have() {
        let head = final_head("HTTP/1.1 299 \r\nX-A: a\r\nx-a:  b\t\r\nE:\r\nX-B: \u{ff}\r\n\r\n");
        let said = head.said;
        assert_eq!((said.status.as_u16(), said.version), (299, Version::HTTP_11));
        let values: Vec<_> = said.headers.get_all("x-a").collect();
        assert_eq!(values, ["a", "b"]);
        assert_eq!(
            (said.headers["e"].as_bytes(), said.headers["x-b"].as_bytes()),
            (&b""[..], "\u{ff}".as_bytes())
        );
        assert!(matches!(head.body, Body::UntilClose) && !head.keeps);
    }

    #[test]
    fn the_end_of_a_body_is_told_in_one_way() {
        let framing = |lines: &str| {
            let head = final_head(&format!("HTTP/1.1 200 OK\r\n{lines}\r\n"));
            let length =
                head.said.headers.get("content-length").map(|value| value.to_str().unwrap().to_owned());
            (shown(&head.body), head.keeps, length)
        };
        let told = |text: &str| Some(text.to_owned());
        assert_eq!(framing("Content-Length: 5\r\n"), ("length 5".into(), true, told("5")));
        assert_eq!(framing("Content-Length: 0\r\n"), ("ended".into(), true, told("0")));
        assert_eq!(
            framing("Content-Length: 5\r\nContent-Length: 5 , 5\r\n"),
            ("length 5".into(), true, told("5"))
        );
        assert_eq!(framing("Transfer-Encoding: Chunked\r\n"), ("chunked".into(), true, None));
        // Two ends are told: what follows the one may be the rest of the other.
        assert_eq!(
            framing("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
            ("chunked".into(), false, None)
        );
        assert_eq!(framing(""), ("until close".into(), false, None));
    }

    #[test]
    fn a_body_with_another_coding_than_chunks_is_not_read() {
        for codings in [
            "",
            "gzip",
            "gzip, chunked",
            "chunked, gzip",
            "chunked, chunked",
            "chunked,",
            ",chunked",
            "identity",
            "chunked;x=y",
            "gzip\r\nTransfer-Encoding: chunked",
            "chunked\r\ntransfer-encoding: chunked",
            "gzip\r\nContent-Length: 5",
        ] {
            let text = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: {codings}\r\n\r\n");
            assert_eq!(parsed(&text, false).err(), Some(Malformed::Coding), "{codings}");
            assert!(parsed(&text, true).unwrap().body.is_ended(), "there is no body after HEAD");
        }
    }

    #[test]
    fn some_responses_have_no_body_whatever_they_tell() {
        for (status, to_head) in [(304, false), (200, true), (404, true), (204, true)] {
            let text = format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n");
            let head = parsed(&text, to_head).unwrap();
            assert!(head.body.is_ended() && head.keeps, "{status}");
        }
        for framing in
            ["Content-Length: 9", "Transfer-Encoding: chunked", "Content-Length: 0\r\nContent-Length: 9"]
        {
            let head = final_head(&format!("HTTP/1.1 204 X\r\n{framing}\r\n\r\n"));
            assert!(head.body.is_ended() && !head.keeps, "what follows may be a body: {framing}");
            let head = final_head(&format!("HTTP/1.1 304 X\r\n{framing}\r\n\r\n"));
            assert!(head.body.is_ended() && head.keeps, "it tells of what it is not: {framing}");
        }
    }

    #[test]
    fn a_connection_is_kept_unless_something_speaks_against_it() {
        let keeps = |line: &str, fields: &str| {
            final_head(&format!("{line} 200 OK\r\nContent-Length: 1\r\n{fields}\r\n")).keeps
        };
        assert!(keeps("HTTP/1.1", "") && keeps("HTTP/1.1", "Connection: x, keep-alive\r\n"));
        assert!(!keeps("HTTP/1.1", "Connection: x\r\nConnection: keep-alive, Close\r\n"));
        assert!(!keeps("HTTP/1.0", "") && !keeps("HTTP/1.0", "Connection: keep-alive\r\n"));
    }

    #[test]
    fn what_a_connection_says_of_itself_alone_is_not_among_the_headers() {
        for (says, keeps) in [("Keep-Alive", true), ("close", false)] {
            let head = final_head(&format!("HTTP/1.1 204 No\r\nConnection: {says}\r\nx: y\r\n\r\n"));
            assert_eq!((head.keeps, head.said.headers.len()), (keeps, 1), "{says}");
        }
        let head = final_head("HTTP/1.1 204 No\r\nConnection: x\r\nx: y\r\n\r\n");
        assert_eq!(head.said.headers["connection"], "x", "it names a header that must not pass");
    }

    #[test]
    fn what_is_no_head_is_refused() {
        let long = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "x".repeat(MAX_HEAD));
        let endless = format!("HTTP/1.1 200 OK\r\nx: {}", "x".repeat(MAX_HEAD));
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(MAX_FIELDS + 1));
        for wrong in [
            "SSH-2.0",
            "\0",
            "\rHTTP/1.1 200 OK\r\n\r\n",
            "HTTP/2.0 200 OK",
            "HTTP/1.2 200 OK\r\n\r\n",
            "HTTP/1.1 20 OK\r\n\r\n",
            "HTTP/1.1 099 OK\r\n\r\n",
            "HTTP/1.1 abc\r\n\r\n",
            "HTTP/1.1 200 OK\r\nbad\r\n\r\n",
            "HTTP/1.1 200 OK\r\nx: a\r\n b\r\n\r\n",
            "HTTP/1.1 200 OK\r\n x: a\r\n\r\n",
            "HTTP/1.1 200 OK\r\nx : a\r\n\r\n",
            "HTTP/1.1 200 OK\r\nx: \0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 4, 5\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: +4\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 4,\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551616\r\n\r\n",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            &long,
            &endless,
            &many,
        ] {
            assert!(parsed(wrong, false).is_err(), "{:?}", &wrong[..wrong.len().min(100)]);
        }
    }

    #[test]
    fn any_reasonable_number_of_interim_responses_comes_first() {
        let interim = "HTTP/1.1 103 Early\r\nLink: </a>\r\n\r\n";
        let last = "HTTP/1.1 204 No\r\n\r\n";
        assert_eq!(parsed(&(interim.repeat(MAX_INTERIM) + last), false).unwrap().said.status, 204);
        let more = interim.repeat(MAX_INTERIM + 1) + last;
        assert_eq!(parsed(&more, false).err(), Some(Malformed::TooManyInterim));
    }

    #[test]
    fn empty_lines_before_a_head_are_nothing() {
        assert_eq!(final_head("\r\n\r\nHTTP/1.1 200 OK\n\n").said.status, 200);
    }

    fn final_head(text: &str) -> Head {
        parsed(text, false).unwrap()
    }

    fn parsed(text: &str, to_head: bool) -> Result<Head, Malformed> {
        let mut heads = Heads::new(to_head);
        let mut buffer = BytesMut::from(text);
        loop {
            match heads.take(&mut buffer)? {
                Some(Next::Interim(..)) => {}
                Some(Next::Final(head)) => return Ok(head),
                None => panic!("only a part: {buffer:?}"),
            }
        }
    }

    fn shown(body: &Body) -> String {
        match body {
            Body::Ended => "ended".into(),
            Body::Length(length) => format!("length {length}"),
            Body::Chunked(_) => "chunked".into(),
            Body::UntilClose => "until close".into(),
        }
    }
}
