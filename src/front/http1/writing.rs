//! A response as HTTP/1 has it: its head, and how its body is framed (RFC 9112 sections 4 to 7).

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version, header};

use super::{
    lines::{Lines, write_hexadecimal},
    output::{Output, SMALL},
};
use crate::{
    framing::{LINE_END, digits, is_bodiless, size},
    wire::{
        Headers, Interim,
        headers::{
            has_word,
            trailers::{self, may_trail},
        },
    },
};

/// What the request says of its response.
#[derive(Debug, Clone, Copy)]
pub struct Exchange {
    /// The version the caller speaks.
    pub version: Version,
    /// Whether the method is HEAD.
    pub to_head: bool,
    /// Whether the caller takes trailers.
    pub takes_trailers: bool,
    /// Whether another request may follow.
    pub keeps: bool,
    /// Whether names are written as `Content-Length`, and not as `content-length`.
    pub title_case: bool,
}

/// What is known of a body before its first part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// There is none.
    None,
    /// As many bytes.
    Known(u64),
    /// Nothing.
    Unknown,
}

/// How the rest of a body is framed.
#[derive(Debug, PartialEq, Eq)]
pub enum Framing {
    /// As many bytes are to come.
    Length(u64),
    /// In chunks, after which these trailers may follow.
    Chunked(Vec<HeaderName>),
    /// Its end is that of the connection.
    UntilClose,
}

/// Writes the head of a response into `output`; returns how its body is framed, and whether another request may
/// follow.
pub fn write_head(
    exchange: &Exchange,
    status: StatusCode,
    headers: &Headers,
    length: Length,
    output: &mut Output,
) -> (Framing, bool) {
    // Nothing follows a 205, and that is told (RFC 9110 section 15.3.6).
    let length = if status == StatusCode::RESET_CONTENT { Length::None } else { length };
    let fields = size(headers.iter());
    let body = match length {
        Length::Known(length) if length <= SMALL as u64 => length as usize,
        Length::Known(_) | Length::None | Length::Unknown => 0,
    };
    let mut small = output.small(fields + body + ADDED);
    let mut head = Lines { bytes: small.bytes(), title_case: exchange.title_case };
    head.status(exchange.version, status);
    let mut said =
        Said { keeps: exchange.keeps && status != StatusCode::SWITCHING_PROTOCOLS, ..Said::default() };
    for (name, value) in headers {
        if said.hear(exchange, status, length, name, value) {
            head.field(name, value.as_bytes());
        }
    }
    let Said { length: told, trailers, has_date, has_connection, mut keeps } = said;
    let framing = match told {
        Some(length) => Framing::Length(length),
        None => head.framing(exchange, status, length, trailers),
    };
    let framing = if has_body(exchange, status) { framing } else { Framing::Length(0) };
    keeps &= framing != Framing::UntilClose;
    match (keeps, exchange.version) {
        _ if has_connection => {}
        (true, Version::HTTP_10) => head.field(&header::CONNECTION, b"keep-alive"),
        (false, Version::HTTP_11) => head.field(&header::CONNECTION, b"close"),
        _ => {}
    }
    if !has_date {
        head.date();
    }
    head.bytes.extend_from_slice(LINE_END);
    (framing, keeps)
}

/// Writes an interim response into `output`, unless the caller speaks HTTP/1.0 (RFC 9110 section 15.2).
pub fn write_interim(exchange: &Exchange, interim: &Interim, output: &mut Output) {
    if exchange.version == Version::HTTP_10 {
        return;
    }
    let mut small = output.small(size(interim.headers.iter()) + ADDED);
    let mut head = Lines { bytes: small.bytes(), title_case: exchange.title_case };
    head.status(exchange.version, interim.status);
    for (name, value) in &interim.headers {
        head.field(name, value.as_bytes());
    }
    head.bytes.extend_from_slice(LINE_END);
}

/// What headers say that the rest of the head depends on.
#[derive(Default)]
struct Said {
    /// The length of the body.
    length: Option<u64>,
    trailers: Vec<HeaderName>,
    has_date: bool,
    has_connection: bool,
    keeps: bool,
}

impl Said {
    /// Takes note of a header; says whether it is one that is written.
    fn hear(
        &mut self,
        exchange: &Exchange,
        status: StatusCode,
        length: Length,
        name: &HeaderName,
        value: &HeaderValue,
    ) -> bool {
        match *name {
            header::CONTENT_LENGTH => {
                let told = digits(value.as_bytes()).filter(|_| self.length.is_none());
                let Some(told) = told.filter(|&told| tells(exchange, status, length, told)) else {
                    return false;
                };
                self.length = Some(if let Length::Known(known) = length { known } else { told });
            }
            // That is how the hop before this one framed it.
            header::TRANSFER_ENCODING => return false,
            header::CONNECTION => {
                self.has_connection = true;
                self.keeps &= !has_word(value.as_bytes(), "close");
            }
            header::DATE => self.has_date = true,
            // Told once it is known whether any are sent.
            header::TRAILER => {
                let sent = |name: &HeaderName| exchange.takes_trailers && may_trail(name);
                self.trailers.extend(trailers::names(value.as_bytes()).filter(sent));
                return false;
            }
            _ => {}
        }
        true
    }
}

impl Lines<'_> {
    /// Tells how the body is framed, when headers have not.
    fn framing(
        &mut self,
        exchange: &Exchange,
        status: StatusCode,
        length: Length,
        trailers: Vec<HeaderName>,
    ) -> Framing {
        match length {
            Length::Unknown if !has_body(exchange, status) => Framing::Length(0),
            Length::Unknown if exchange.version == Version::HTTP_10 => Framing::UntilClose,
            Length::Unknown => {
                self.field(&header::TRANSFER_ENCODING, b"chunked");
                if let Some(list) = trailers::list(&trailers) {
                    self.field(&header::TRAILER, list.as_bytes());
                }
                Framing::Chunked(trailers)
            }
            Length::Known(length @ 1..) => {
                if !is_bodiless(status) {
                    self.number(&header::CONTENT_LENGTH, length);
                }
                Framing::Length(length)
            }
            Length::None | Length::Known(0) => {
                if has_body(exchange, status) {
                    self.number(&header::CONTENT_LENGTH, 0);
                }
                Framing::Length(0)
            }
        }
    }
}

/// Whether a body follows the head, if there is one.
fn has_body(exchange: &Exchange, status: StatusCode) -> bool {
    !exchange.to_head && !is_bodiless(status)
}

/// Whether a `Content-Length` header tells the truth of a body. One that answers HEAD tells what GET would bring.
fn tells(exchange: &Exchange, status: StatusCode, length: Length, told: u64) -> bool {
    match length {
        _ if is_bodiless(status) => false,
        Length::None => told == 0 || (exchange.to_head && status != StatusCode::RESET_CONTENT),
        Length::Known(known) => known == told || exchange.to_head,
        Length::Unknown => true,
    }
}

impl Framing {
    /// Whether nothing more may come.
    pub fn is_done(&self) -> bool {
        *self == Framing::Length(0)
    }

    /// Adds a part of the body.
    pub fn write(&mut self, mut data: Bytes, output: &mut Output) {
        match self {
            // A chunk of nothing would be the last.
            _ if data.is_empty() => {}
            Framing::Length(left) => {
                // More than was told would be the next response to whoever reads it.
                data.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= data.len() as u64;
                output.push(data);
            }
            Framing::Chunked(_) => {
                let length = data.len();
                let room = if length <= SMALL { length } else { 0 };
                let mut small = output.small(room + CHUNK);
                write_hexadecimal(length, small.bytes());
                small.extend(LINE_END);
                drop(small);
                output.push(data);
                output.small(LINE_END.len()).extend(LINE_END);
            }
            Framing::UntilClose => output.push(data),
        }
    }

    /// Ends the body, with what of `trailers` was announced. Says whether it is whole.
    pub fn end(&self, exchange: &Exchange, trailers: Option<&HeaderMap>, output: &mut Output) -> bool {
        let announced = match self {
            Framing::Length(left) => return *left == 0,
            Framing::UntilClose => return true,
            Framing::Chunked(announced) => announced,
        };
        let mut small = output.small(CHUNK);
        small.extend(LAST_CHUNK);
        let mut lines = Lines { bytes: small.bytes(), title_case: exchange.title_case };
        for (name, value) in trailers.into_iter().flatten() {
            if announced.contains(name) {
                lines.field(name, value.as_bytes());
            }
        }
        small.extend(LINE_END);
        true
    }

    /// Ends a body that breaks off. Only after chunks can that be told, in a trailer, whoever takes trailers.
    pub fn end_cut(&self, output: &mut Output) {
        if let Framing::Chunked(_) = self {
            output.small(CUT.len()).extend(CUT);
        }
    }
}

/// What tells a caller to send the body.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
/// What trailers follow.
const LAST_CHUNK: &[u8] = b"0\r\n";
/// The end of a body that breaks off.
const CUT: &[u8] = b"0\r\nX-Relay-Incomplete: 1\r\n\r\n";
/// What a head has besides the fields it is given: the first line, the framing, the date.
const ADDED: usize = 160;
/// What a chunk has besides its data.
const CHUNK: usize = 32;

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use super::*;

    #[test]
    fn a_response_tells_the_end_of_its_body_as_its_caller_understands_it() {
        let head = |version: Version, length: Length| {
            let exchange = Exchange { version, ..exchange() };
            let (head, framing, keeps) = head(&exchange, 200, &[("x-a", "1")], length);
            (head, framing, keeps)
        };
        let new = "HTTP/1.1 200 OK\r\nx-a: 1\r\n";
        assert_eq!(
            head(Version::HTTP_11, Length::None),
            (format!("{new}content-length: 0\r\n"), Framing::Length(0), true)
        );
        assert_eq!(
            head(Version::HTTP_11, Length::Known(1234)),
            (format!("{new}content-length: 1234\r\n"), Framing::Length(1234), true)
        );
        assert_eq!(
            head(Version::HTTP_11, Length::Unknown),
            (format!("{new}transfer-encoding: chunked\r\n"), Framing::Chunked(Vec::new()), true)
        );
        let old = "HTTP/1.0 200 OK\r\nx-a: 1\r\n";
        assert_eq!(head(Version::HTTP_10, Length::Unknown), (old.to_owned(), Framing::UntilClose, false));
        assert_eq!(
            head(Version::HTTP_10, Length::Known(5)),
            (format!("{old}content-length: 5\r\nconnection: keep-alive\r\n"), Framing::Length(5), true)
        );
    }

    #[test]
    fn a_length_that_is_told_stands_where_it_was_told_when_it_is_true() {
        let told = |length: Length, to_head: bool, status: u16| {
            let exchange = Exchange { to_head, ..exchange() };
            let fields = [("content-length", "5"), ("content-length", "5"), ("x-a", "1")];
            let (head, framing, _) = head(&exchange, status, &fields, length);
            (head.split_once("\r\n").unwrap().1.to_owned(), framing)
        };
        let first = || "content-length: 5\r\nx-a: 1\r\n".to_owned();
        assert_eq!(told(Length::Known(5), false, 200), (first(), Framing::Length(5)));
        assert_eq!(told(Length::Unknown, false, 200), (first(), Framing::Length(5)));
        assert_eq!(told(Length::None, true, 200), (first(), Framing::Length(0)), "what GET would bring");
        let wrong = "x-a: 1\r\ncontent-length: 4\r\n".to_owned();
        assert_eq!(told(Length::Known(4), false, 200), (wrong, Framing::Length(4)));
        let nothing = "x-a: 1\r\ncontent-length: 0\r\n".to_owned();
        assert_eq!(told(Length::None, false, 200), (nothing, Framing::Length(0)));
        assert_eq!(told(Length::None, false, 304), ("x-a: 1\r\n".to_owned(), Framing::Length(0)));
        let (head, ..) = head(&exchange(), 204, &[("content-length", "0")], Length::None);
        assert_eq!(head, "HTTP/1.1 204 No Content\r\n");
    }

    #[test]
    fn what_has_no_body_says_so_whatever_it_has() {
        for (status, to_head) in [(204, false), (304, false), (200, true)] {
            let exchange = Exchange { to_head, ..exchange() };
            let (head, framing, keeps) = head(&exchange, status, &[("trailer", "x")], Length::Unknown);
            assert!(!head.contains("transfer-encoding") && !head.contains("trailer"), "{head}");
            assert!(framing.is_done() && keeps);
        }
    }

    #[test]
    fn a_head_without_a_body_tells_no_length_and_a_205_tells_that_it_is_empty() {
        let fields = [("content-length", "5"), ("transfer-encoding", "chunked"), ("trailer", "x")];
        for length in [Length::None, Length::Known(5), Length::Unknown] {
            for to_head in [false, true] {
                let exchange = Exchange { to_head, ..exchange() };
                for status in [101, 204, 304] {
                    let (head, framing, _) = head(&exchange, status, &fields, length);
                    let framed =
                        ["content-length", "transfer-encoding", "trailer"].map(|name| head.contains(name));
                    assert!(framed == [false; 3] && framing.is_done(), "{head}");
                }
                let (head, framing, keeps) = head(&exchange, 205, &fields, length);
                let told = if to_head { "" } else { "content-length: 0\r\n" };
                assert_eq!(head, format!("HTTP/1.1 205 Reset Content\r\n{told}"));
                assert!(framing.is_done() && keeps);
            }
        }
    }

    #[test]
    fn it_is_said_when_no_other_request_may_follow() {
        let closing = Exchange { keeps: false, ..exchange() };
        let (text, _, keeps) = head(&closing, 200, &[], Length::None);
        assert!(text.ends_with("connection: close\r\n") && !keeps);
        let (text, _, keeps) = head(&exchange(), 200, &[("connection", "close")], Length::None);
        assert!(text.matches("close").count() == 1 && !keeps);
        let (text, _, keeps) =
            head(&exchange(), 101, &[("connection", "upgrade"), ("upgrade", "x")], Length::None);
        assert_eq!(text, "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n");
        assert!(!keeps);
    }

    #[test]
    fn a_date_is_added_where_there_is_none_and_names_may_be_in_title_case() {
        let exchange = Exchange { title_case: true, ..exchange() };
        let mut output = Output::default();
        let headers: Headers =
            [(header::CONTENT_TYPE, HeaderValue::from_static("a/b"))].into_iter().collect();
        write_head(&exchange, StatusCode::from_u16(599).unwrap(), &headers, Length::Unknown, &mut output);
        let text = written(&mut output);
        let (before, date) = text.split_once("Date: ").unwrap();
        assert_eq!(before, "HTTP/1.1 599 \r\nContent-Type: a/b\r\nTransfer-Encoding: chunked\r\n");
        assert!(httpdate::parse_http_date(date.strip_suffix("\r\n\r\n").unwrap()).is_ok());
        let (_, with_date) = (0, head(&exchange, 200, &[("date", "then")], Length::None).0);
        assert_eq!(with_date, "HTTP/1.1 200 OK\r\nDate: then\r\nContent-Length: 0\r\n");
    }

    #[test]
    fn chunks_end_with_the_trailers_that_were_announced_if_somebody_takes_them() {
        let all: HeaderMap = [("x-a", "1"), ("x-b", "2"), ("host", "3")]
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .into_iter()
            .collect();
        let fields = [("trailer", "X-A, host"), ("trailer", "x-c")];
        for (takes_trailers, end) in [(true, "0\r\nx-a: 1\r\n\r\n"), (false, "0\r\n\r\n")] {
            let exchange = Exchange { takes_trailers, ..exchange() };
            let (_, mut framing, _) = head(&exchange, 200, &fields, Length::Unknown);
            let mut output = Output::default();
            for part in ["one", "", "sixteen, a large"] {
                framing.write(Bytes::from(part), &mut output);
            }
            assert!(framing.end(&exchange, Some(&all), &mut output));
            assert_eq!(written(&mut output), format!("3\r\none\r\n10\r\nsixteen, a large\r\n{end}"));
        }
    }

    #[test]
    fn a_body_is_as_long_as_was_told_or_not_whole() {
        let mut output = Output::default();
        let mut framing = Framing::Length(5);
        framing.write(Bytes::from("abc"), &mut output);
        assert!(!framing.is_done() && !framing.end(&exchange(), None, &mut output));
        framing.write(Bytes::from("defgh"), &mut output);
        assert!(framing.is_done() && framing.end(&exchange(), None, &mut output));
        assert_eq!(written(&mut output), "abcde");
    }

    /// A head without its date and its last line.
    fn head(
        exchange: &Exchange,
        status: u16,
        fields: &[(&'static str, &'static str)],
        length: Length,
    ) -> (String, Framing, bool) {
        let headers = fields.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v)));
        let mut output = Output::default();
        let status = StatusCode::from_u16(status).unwrap();
        let (framing, keeps) = write_head(exchange, status, &headers.collect(), length, &mut output);
        let text = written(&mut output);
        let head = text.strip_suffix("\r\n").unwrap();
        let generated = head.find("date: ").filter(|_| !exchange.title_case);
        (head[..generated.unwrap_or(head.len())].to_owned(), framing, keeps)
    }

    fn written(output: &mut Output) -> String {
        let mut bytes = Vec::new();
        let mut now = Context::from_waker(Waker::noop());
        assert!(matches!(output.poll_write(&mut bytes, &mut now, |_| {}), Poll::Ready(Ok(()))));
        String::from_utf8(bytes).unwrap()
    }

    fn exchange() -> Exchange {
        let version = Version::HTTP_11;
        Exchange { version, to_head: false, takes_trailers: false, keeps: true, title_case: false }
    }
}
