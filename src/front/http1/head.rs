//! The head of a request: what it says, how its body is framed, and whether another may follow on the connection
//! (RFC 9112 sections 2 to 6 and 9.3).

use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};
use http::{HeaderName, HeaderValue, Method, Version, header};

use crate::{
    framing::{
        blank_line,
        body::{Body, Chunks},
        digits, is_chunked, skip_empty_lines,
    },
    front::message::Head,
    wire::{
        Headers, UnfitByte,
        headers::{has_word, name_in_any_case},
    },
};

mod line;

use line::Unusual;

/// A request's head.
#[derive(Debug)]
pub struct Asked {
    /// What it says.
    pub head: Head,
    /// What follows it.
    pub body: Body,
    /// Whether the body comes only when it is asked for.
    pub expects: bool,
    /// Whether another request may follow.
    pub keeps: bool,
    /// Whether it may change to another protocol.
    pub upgrades: bool,
    /// Whether the response may have trailers.
    pub takes_trailers: bool,
}

/// Why what came is not read as a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It is none.
    Malformed,
    /// Its version is none of HTTP/1.
    Version,
    /// Its target is none.
    Target,
    /// Its target has a byte that none has.
    Unfit(UnfitByte),
    /// Its target is longer than any that is read.
    TargetTooLong,
    /// Its head is larger than what is read of one, or has too many fields, or its `Connection` names too many.
    TooLarge,
    /// It tells the end of its body in two ways.
    TwoFramings,
    /// Its body has a transfer coding other than the chunked one.
    Coding,
}

/// The heads of the requests of one connection.
pub struct Heads {
    /// How much has been searched for the end of the head.
    searched: usize,
    /// What is read of a head at most, in bytes.
    limit: usize,
}

impl Heads {
    /// None has come yet; of each, no more than `limit` bytes are read.
    pub fn new(limit: usize) -> Self {
        Heads { searched: 0, limit }
    }

    /// The next head, if all of it is in `buffer`.
    ///
    /// # Errors
    /// When it is not one that is read.
    pub fn take(&mut self, buffer: &mut BytesMut) -> Result<Option<Asked>, Refusal> {
        if self.searched == 0 {
            // Empty lines before a request are skipped (RFC 9112 §2.2).
            skip_empty_lines(buffer);
            if buffer.is_empty() || buffer == "\r" {
                return Ok(None);
            }
        } else if blank_line(buffer, self.searched).is_none() {
            return self.wait(buffer);
        }
        // Values are slices of it.
        let bytes = std::mem::take(buffer).freeze();
        let Some((length, asked)) = parse(&bytes)? else {
            *buffer = bytes.try_into_mut().unwrap_or_else(BytesMut::from);
            return self.wait(buffer);
        };
        if length > self.limit {
            return Err(Refusal::TooLarge);
        }
        self.searched = 0;
        if length < bytes.len() {
            *buffer = BytesMut::from(&bytes[length..]);
        }
        Ok(Some(asked))
    }

    fn wait(&mut self, buffer: &BytesMut) -> Result<Option<Asked>, Refusal> {
        if buffer.len() >= self.limit {
            return Err(Refusal::TooLarge);
        }
        self.searched = buffer.len();
        Ok(None)
    }
}

/// Reads a head and tells how long it is, if all of it is in `bytes`.
fn parse(bytes: &Bytes) -> Result<Option<(usize, Asked)>, Refusal> {
    match read(bytes, None) {
        Err(Refusal::Malformed) => match line::unusual(bytes)? {
            Some(Unusual { head, target }) => read(&head, Some(target)),
            None => Ok(None),
        },
        usual => usual,
    }
}

/// Reads the head in `bytes`, with this target instead of the one that is there.
fn read(bytes: &Bytes, target: Option<Bytes>) -> Result<Option<(usize, Asked)>, Refusal> {
    let mut room = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut []);
    let config = httparse::ParserConfig::default();
    let length = match config.parse_request_with_uninit_headers(&mut parsed, bytes, &mut room) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(Refusal::TooLarge),
        Err(_) => return Err(Refusal::Malformed),
    };
    let version = if parsed.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
    let method = Method::from_bytes(parsed.method.unwrap_or_default().as_bytes());
    let method = method.map_err(|_| Refusal::Malformed)?;
    let target = target.unwrap_or_else(|| bytes.slice_ref(parsed.path.unwrap_or_default().as_bytes()));
    let target = line::target(&method, target)?;
    // With room for what is added on the way to the origin.
    let mut headers = Headers::with_capacity(parsed.headers.len() + ROOM);
    let mut said = Said::default();
    for field in parsed.headers.iter() {
        let name = name_in_any_case(field.name.as_bytes()).map_err(|_| Refusal::Malformed)?;
        let value = HeaderValue::from_maybe_shared(bytes.slice_ref(field.value));
        let value = value.map_err(|_| Refusal::Malformed)?;
        if said.hear(&name, value.as_bytes()) {
            headers.append(name, value);
        }
    }
    if said.options > MAX_OPTIONS {
        return Err(Refusal::TooLarge);
    }
    let is_1_1 = version == Version::HTTP_11;
    let asked = Asked {
        body: said.body(version)?,
        expects: said.expects && is_1_1,
        keeps: !said.closes && (is_1_1 || said.keeps),
        upgrades: said.upgrades && is_1_1,
        takes_trailers: said.takes_trailers,
        head: Head { method, version, target, headers },
    };
    Ok(Some((length, asked)))
}

/// What headers say to whoever reads the connection.
#[derive(Default)]
struct Said {
    length: Option<Result<u64, Refusal>>,
    /// Whether there is the chunked coding alone, when there are codings.
    chunked: Option<bool>,
    expects: bool,
    closes: bool,
    keeps: bool,
    upgrades: bool,
    takes_trailers: bool,
    /// How much `Connection` names.
    options: usize,
}

impl Said {
    /// Takes note of a header; says whether it is one of those that are passed on.
    fn hear(&mut self, name: &HeaderName, value: &[u8]) -> bool {
        match *name {
            header::CONTENT_LENGTH => {
                let length = digits(value).ok_or(Refusal::Malformed);
                return match self.length {
                    None => {
                        self.length = Some(length);
                        true
                    }
                    // The same again is one too many, but harmless (RFC 9110 §8.6).
                    Some(before) if before == length => false,
                    Some(_) => {
                        self.length = Some(Err(Refusal::Malformed));
                        false
                    }
                };
            }
            header::TRANSFER_ENCODING => {
                self.chunked = Some(self.chunked.is_none() && is_chunked(value));
            }
            header::CONNECTION => {
                self.options += memchr::memchr_iter(b',', value).count() + 1;
                self.closes |= has_word(value, "close");
                self.keeps |= has_word(value, "keep-alive");
            }
            header::EXPECT => self.expects = value.eq_ignore_ascii_case(b"100-continue"),
            header::UPGRADE => self.upgrades = true,
            header::TE => self.takes_trailers |= has_word(value, "trailers"),
            _ => {}
        }
        true
    }

    /// How the body is framed (RFC 9112 section 6.3). Two readers may see the end of a request that tells it twice,
    /// and so the beginning of the next, at different places.
    fn body(&self, version: Version) -> Result<Body, Refusal> {
        match (self.chunked, self.length) {
            (Some(_), Some(_)) => Err(Refusal::TwoFramings),
            // HTTP/1.0 has no transfer codings: the framing is faulty (RFC 9112 section 6.1).
            (Some(_), None) if version != Version::HTTP_11 => Err(Refusal::Malformed),
            (Some(true), None) => Ok(Body::Chunked(Chunks::Size)),
            (Some(false), None) => Err(Refusal::Coding),
            (None, None | Some(Ok(0))) => Ok(Body::Ended),
            (None, Some(Ok(length))) => Ok(Body::Length(length)),
            (None, Some(Err(refusal))) => Err(refusal),
        }
    }
}

/// What is read of headers, at most.
pub const MAX_HEADERS: usize = 100;
/// What `Connection` headers may name at most: each name is looked up among the headers.
pub const MAX_OPTIONS: usize = 100;
/// Headers that are added on the way to the origin.
const ROOM: usize = 6;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::front::message::Target;

    #[test]
    fn a_head_is_read_as_it_was_written() {
        let asked = asked(
            "PROPFIND /a/b?c=%20d HTTP/1.1\r\nHost: a\r\nX-A: 1\r\nAccept:\t*/*  \r\nx-a: \u{e4}\r\nE:\r\n\r\n",
        );
        let head = &asked.head;
        assert_eq!((head.method.as_str(), head.version), ("PROPFIND", Version::HTTP_11));
        assert_eq!(head.target, Target { url: Some("/a/b?c=%20d".into()), authority: None });
        let fields: Vec<_> =
            head.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        let (empty, umlaut) = (&b""[..], "\u{e4}".as_bytes());
        let expected =
            [("host", &b"a"[..]), ("x-a", b"1"), ("accept", b"*/*"), ("x-a", umlaut), ("e", empty)];
        assert_eq!(fields, expected);
        assert!(asked.keeps && !asked.expects && !asked.upgrades && !asked.takes_trailers);
        assert_eq!(asked.body, Body::Ended);
    }

    #[test]
    fn the_end_of_a_body_is_told_in_one_way() {
        let framing = |lines: &str| {
            let asked = taken(&format!("POST / HTTP/1.1\r\n{lines}\r\n"))?.unwrap();
            Ok((asked.body, asked.head.headers.get_all(header::CONTENT_LENGTH).count()))
        };
        assert_eq!(framing(""), Ok((Body::Ended, 0)));
        assert_eq!(framing("Content-Length: 0\r\n"), Ok((Body::Ended, 1)));
        assert_eq!(framing("Content-Length: 5\r\n"), Ok((Body::Length(5), 1)));
        assert_eq!(framing("content-length:5\r\nContent-Length: 5\r\n"), Ok((Body::Length(5), 1)));
        let chunked = || Body::Chunked(Chunks::Size);
        assert_eq!(framing("Transfer-Encoding: Chunked\r\n"), Ok((chunked(), 0)));
        assert_eq!(framing("Transfer-Encoding:\t chunked \r\n"), Ok((chunked(), 0)));
        let twice = ["Content-Length: 5", "Content-Length: x", "Content-Length: 0"];
        for twice in twice {
            for lines in [
                format!("{twice}\r\nTransfer-Encoding: chunked\r\n"),
                format!("Transfer-Encoding: gzip\r\nA: b\r\n{twice}\r\n"),
            ] {
                assert_eq!(framing(&lines), Err(Refusal::TwoFramings), "{lines}");
            }
        }
        for wrong in [
            "Content-Length: 5\r\nContent-Length: 6\r\n",
            "Content-Length: 5, 5\r\n",
            "Content-Length: +5\r\n",
            "Content-Length: -1\r\n",
            "Content-Length:\r\n",
            "Content-Length: 99999999999999999999\r\n",
            "Content-Length: 0x5\r\n",
            "Content-Length: 5 5\r\n",
            "Content-Length: 5,\r\n",
            "Content-Length: 5;x\r\n",
            "Content-Length: 5\r\nContent-Length:\r\n",
        ] {
            assert_eq!(framing(wrong), Err(Refusal::Malformed), "{wrong}");
        }
        for codings in [
            "",
            ",",
            "gzip",
            "gzip, chunked",
            "chunked, gzip",
            "chunked, chunked",
            "chunked,",
            ", chunked",
            "identity",
            "identity, chunked",
            "chunked;x=y",
            "chunked x",
            "\"chunked\"",
            "xchunked",
            "chunked\r\nTransfer-Encoding: chunked",
            "chunked\r\nTransfer-Encoding: identity",
            "gzip\r\nTransfer-Encoding: chunked",
            "chunked\r\nA: b\r\ntransfer-encoding:",
        ] {
            assert_eq!(
                framing(&format!("Transfer-Encoding: {codings}\r\n")),
                Err(Refusal::Coding),
                "{codings}"
            );
        }
        for codings in ["chunked", "gzip"] {
            let old = taken(&format!("POST / HTTP/1.0\r\nTransfer-Encoding: {codings}\r\n\r\n"));
            assert_eq!(old.err(), Some(Refusal::Malformed), "HTTP/1.0 has no codings");
        }
    }

    #[test]
    fn another_request_may_follow_unless_something_speaks_against_it() {
        let keeps = |version: &str, lines: &str| asked(&format!("GET / {version}\r\n{lines}\r\n")).keeps;
        assert!(keeps("HTTP/1.1", "") && !keeps("HTTP/1.0", ""));
        assert!(keeps("HTTP/1.0", "Connection: x, Keep-Alive\r\n"));
        assert!(!keeps("HTTP/1.1", "Connection: Close\r\n"));
        for version in ["HTTP/1.0", "HTTP/1.1"] {
            assert!(!keeps(version, "Connection: x, close\r\nConnection: keep-alive\r\n"));
        }
    }

    #[test]
    fn what_only_http_1_1_has_is_not_heard_of_an_older_caller() {
        let lines = "Expect: 100-Continue\r\nUpgrade: x\r\nTE: gzip, trailers\r\n\r\n";
        let new = asked(&format!("GET / HTTP/1.1\r\n{lines}"));
        assert!(new.expects && new.upgrades && new.takes_trailers);
        let old = asked(&format!("GET / HTTP/1.0\r\n{lines}"));
        assert!(!old.expects && !old.upgrades);
    }

    #[test]
    fn any_byte_may_be_in_a_target_and_a_later_minor_version_is_read_as_the_last_known() {
        let head = b"PUT /\xE4\xFF?<\x80 HTTP/1.7\r\nX-A: \xE4\r\nContent-Length: 2\r\n\r\nokGET";
        for cut in 1..head.len() {
            let mut heads = Heads::new(LIMIT);
            let mut buffer = BytesMut::from(&head[..cut]);
            if cut < head.len() - 5 {
                assert!(heads.take(&mut buffer).unwrap().is_none(), "{cut}");
                buffer.extend_from_slice(&head[cut..]);
            } else {
                buffer = BytesMut::from(&head[..]);
            }
            let asked = heads.take(&mut buffer).unwrap().expect("all of it is here");
            let url = asked.head.target.url.unwrap();
            assert_eq!(url.as_bytes(), b"/\xE4\xFF?<\x80");
            assert_eq!((asked.head.version, asked.body), (Version::HTTP_11, Body::Length(2)));
            assert_eq!(asked.head.headers.get("x-a").unwrap().as_bytes(), b"\xE4");
            assert_eq!(&buffer[..], b"okGET");
        }
    }

    #[test]
    fn what_is_no_head_is_refused() {
        for (wrong, refusal) in [
            ("hello there\r\n\r\n", Refusal::Malformed),
            ("\0", Refusal::Malformed),
            ("\rGET / HTTP/1.1\r\n\r\n", Refusal::Malformed),
            ("\r\n\r\rGET / HTTP/1.1\r\n\r\n", Refusal::Malformed),
            ("\u{16}\u{3}\u{1}", Refusal::Malformed),
            ("GET / HTTP/2.0\r\n\r\n", Refusal::Version),
            ("GET / HTTP/1.2\r\na b: c\r\n\r\n", Refusal::Malformed),
            ("GET / HTTP/1.1\r\na b: c\r\n\r\n", Refusal::Malformed),
            ("GET / HTTP/1.1\r\na : c\r\n\r\n", Refusal::Malformed),
            ("GET / HTTP/1.1\r\na: b\r\n c\r\n\r\n", Refusal::Malformed),
            ("GET / HTTP/1.1\r\na: b\rc\r\n\r\n", Refusal::Malformed),
            (&format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(101)), Refusal::TooLarge),
            (&format!("GET / HTTP/1.1\r\na: {}\r\n\r\n", "b".repeat(LIMIT)), Refusal::TooLarge),
            (&format!("GET / HTTP/1.1\r\na: {}", "b".repeat(LIMIT)), Refusal::TooLarge),
        ] {
            assert_eq!(taken(wrong).map(|asked| asked.is_some()), Err(refusal), "{wrong}");
        }
        assert!(taken(&format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(100))).unwrap().is_some());
    }

    #[test]
    fn long_names_are_names_as_well() {
        let long = "X".repeat(65);
        let asked = asked(&format!("GET / HTTP/1.1\r\n{long}: 1\r\n{}: 2\r\n\r\n", &long[1..]));
        let names: Vec<_> = asked.head.headers.keys().map(|name| name.as_str().to_owned()).collect();
        assert_eq!(names, [long.to_lowercase(), long[1..].to_lowercase()]);
    }

    proptest! {
        #[test]
        fn it_does_not_matter_how_a_head_comes(
            lines in proptest::collection::vec(
                "(GET|POST) /[a-z{# ]{0,3} HTTP/1.[01]|(content-length: ?[0-9]|[Tt]e|Transfer-Encoding: chunked|[a-z]{1,70}: [ -~]{0,9}|[ -~]{0,9})",
                0..8,
            ),
            end in prop::sample::select(vec!["\r\n", "\n"]),
            cuts in proptest::collection::vec(1_usize..30, 1..20),
        ) {
            let text = format!("\r\n{}{end}{end}rest", lines.join(end));
            let whole = run(&text, &[text.len()]);
            let parts = run(&text, &cuts);
            prop_assert_eq!(whole, parts);
        }
    }

    /// All that comes of `text` when it comes in parts of these sizes, and what is left at the end. One that is no
    /// HTTP may be refused before all of it is here, so where it ends is not told.
    fn run(text: &str, cuts: &[usize]) -> (Vec<String>, Option<String>) {
        let mut heads = Heads::new(LIMIT);
        let (mut buffer, mut rest) = (BytesMut::new(), text.as_bytes());
        let mut told = Vec::new();
        for cut in cuts.iter().cycle() {
            loop {
                match heads.take(&mut buffer) {
                    Ok(Some(asked)) => told.push(format!("{asked:?}")),
                    Ok(None) => break,
                    Err(refusal) => {
                        told.push(format!("{refusal:?}"));
                        return (told, None);
                    }
                }
            }
            if rest.is_empty() {
                break;
            }
            let (part, after) = rest.split_at((*cut).min(rest.len()));
            buffer.extend_from_slice(part);
            rest = after;
        }
        (told, Some(String::from_utf8_lossy(&buffer).into_owned()))
    }

    fn asked(text: &str) -> Asked {
        taken(text).unwrap().expect("all of it")
    }

    fn taken(text: &str) -> Result<Option<Asked>, Refusal> {
        Heads::new(LIMIT).take(&mut BytesMut::from(text))
    }

    const LIMIT: usize = 128 * 1024;
}
