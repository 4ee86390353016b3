//! The PROXY protocol, versions 1 and 2: what a load balancer in front says about a connection before the
//! caller's first byte (<https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt>).

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use bytes::BytesMut;

use super::entrance::Socket;

/// Whose connection it is, as the proxy says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Somebody's with this address.
    Told(IpAddr),
    /// Somebody's whose address is not told: `UNKNOWN`, or a UNIX socket.
    Untold,
    /// The proxy's own, to see whether we are well.
    Proxy,
}

/// Why what came is no header.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is something else.
    #[error("the connection does not begin with a PROXY protocol header")]
    Missing,
    /// It begins as one.
    #[error("the PROXY protocol header is malformed: {0}")]
    Malformed(&'static str),
    /// The connection broke.
    #[error("the connection broke before its PROXY protocol header was whole: {0}")]
    Broken(#[from] io::Error),
}

/// Reads the header; what comes after it is left to be read.
///
/// # Errors
/// When there is none, or none that can be understood.
pub async fn read(socket: &mut Socket) -> Result<Source, Error> {
    let mut bytes = BytesMut::new();
    loop {
        socket.read_some(&mut bytes, MAX).await?;
        if let Some((source, length)) = parse(&bytes)? {
            socket.put_back(bytes.split_off(length).freeze());
            return Ok(source);
        }
    }
}

/// The source and the header's length, once it is whole.
///
/// # Errors
/// When the bytes do not begin with a header, or with one that cannot be understood.
pub fn parse(bytes: &[u8]) -> Result<Option<(Source, usize)>, Error> {
    if begins(bytes, SIGNATURE) {
        return binary(bytes);
    }
    if begins(bytes, b"PROXY ") {
        return line(bytes);
    }
    Err(Error::Missing)
}

/// Whether it begins with `start`, as far as it is here.
fn begins(bytes: &[u8], start: &[u8]) -> bool {
    let common = bytes.len().min(start.len());
    bytes[..common] == start[..common]
}

/// Version 1: a line of text, `PROXY TCP4 192.0.2.1 198.51.100.1 56324 443`.
fn line(bytes: &[u8]) -> Result<Option<(Source, usize)>, Error> {
    let Some(end) = bytes.iter().take(MAX_LINE).position(|&b| b == b'\n') else {
        return if bytes.len() >= MAX_LINE { Err(Error::Malformed("it has no end")) } else { Ok(None) };
    };
    let line = bytes[..end].strip_suffix(b"\r").ok_or(Error::Malformed("it does not end with CRLF"))?;
    let text = std::str::from_utf8(line).map_err(|_| Error::Malformed("it is not ASCII"))?;
    let mut words = text.split(' ').skip(1);
    let source = match words.next() {
        // Whatever follows is to be ignored.
        Some("UNKNOWN") => Source::Untold,
        Some(family @ ("TCP4" | "TCP6")) => {
            let [source, destination] = [words.next(), words.next()].map(|word| address(family, word));
            let ports = [words.next(), words.next()].map(is_port);
            match (source, destination, ports, words.next()) {
                (Some(source), Some(_), [true, true], None) => Source::Told(source),
                _ => return Err(Error::Malformed("its addresses are not right")),
            }
        }
        _ => return Err(Error::Malformed("its protocol is none of TCP4, TCP6 and UNKNOWN")),
    };
    Ok(Some((source, end + 1)))
}

fn address(family: &str, word: Option<&str>) -> Option<IpAddr> {
    match family {
        "TCP4" => word?.parse::<Ipv4Addr>().ok().map(IpAddr::from),
        _ => word?.parse::<Ipv6Addr>().ok().map(|v6| IpAddr::from(v6).to_canonical()),
    }
}

fn is_port(word: Option<&str>) -> bool {
    word.is_some_and(|word| word.bytes().all(|b| b.is_ascii_digit()) && word.parse::<u16>().is_ok())
}

/// Version 2: a signature, a command, a family, a length and the addresses; then options, which nobody
/// asks for here.
fn binary(bytes: &[u8]) -> Result<Option<(Source, usize)>, Error> {
    let Some((&[command, family, high, low], rest)) =
        bytes.get(SIGNATURE.len()..).and_then(|rest| rest.split_first_chunk())
    else {
        return Ok(None);
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > MAX - HEAD {
        return Err(Error::Malformed("it is too long"));
    }
    let is_proxied = match command {
        0x20 => false,
        0x21 => true,
        _ => return Err(Error::Malformed("its version or command is unknown")),
    };
    let Some(addresses) = rest.get(..length) else { return Ok(None) };
    let short = Error::Malformed("its addresses are not all there");
    let source = match (is_proxied, family >> 4) {
        (false, _) => Source::Proxy,
        (true, 1) => match addresses.first_chunk::<12>() {
            Some(&[a, b, c, d, ..]) => Source::Told(Ipv4Addr::new(a, b, c, d).into()),
            None => return Err(short),
        },
        (true, 2) => match addresses.first_chunk::<36>().and_then(|all| all.first_chunk::<16>()) {
            Some(v6) => Source::Told(IpAddr::from(Ipv6Addr::from(*v6)).to_canonical()),
            None => return Err(short),
        },
        (true, 0 | 3) => Source::Untold,
        (true, _) => return Err(Error::Malformed("its address family is unknown")),
    };
    Ok(Some((source, HEAD + length)))
}

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Bytes of a version 2 header before its addresses.
const HEAD: usize = 16;
/// Bytes of a version 1 header at most, by its definition.
const MAX_LINE: usize = 107;
/// Bytes of a header at most: addresses take up to 216, the rest is for options.
const MAX: usize = 2048;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_tells_the_source() {
        for (line, source) in [
            ("PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n", told("192.0.2.1")),
            ("PROXY TCP6 2001:db8::1 2001:db8::2 4 443\r\n", told("2001:db8::1")),
            ("PROXY TCP6 ::ffff:192.0.2.1 ::1 4 443\r\n", told("192.0.2.1")),
            ("PROXY UNKNOWN\r\n", Source::Untold),
            ("PROXY UNKNOWN ffff::1 ffff::1 65535 65535\r\n", Source::Untold),
        ] {
            let with_more = format!("{line}GET / HTTP/1.1\r\n");
            assert_eq!(parse(with_more.as_bytes()).unwrap(), Some((source, line.len())), "{line}");
            for cut in 1..line.len() {
                assert_eq!(parse(&line.as_bytes()[..cut]).unwrap(), None, "{cut} bytes of {line}");
            }
        }
    }

    #[test]
    fn a_line_that_is_not_right_is_refused() {
        for line in [
            "PROXY TCP4 192.0.2.1 198.51.100.1 56324\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 56324 443 1\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 56324 65536\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 +1 443\r\n",
            "PROXY TCP4 2001:db8::1 2001:db8::2 4 443\r\n",
            "PROXY TCP4  192.0.2.1 198.51.100.1 1 443\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 1 443\n",
            "PROXY UDP4 192.0.2.1 198.51.100.1 1 443\r\n",
            "PROXY \r\n",
            "GET / HTTP/1.1\r\n",
            "proxy tcp4 192.0.2.1 198.51.100.1 1 443\r\n",
        ] {
            assert!(parse(line.as_bytes()).is_err(), "{line}");
        }
        assert!(parse(format!("PROXY UNKNOWN {}", "x".repeat(200)).as_bytes()).is_err());
    }

    #[test]
    fn a_binary_header_tells_the_source() {
        let v4 = [&[192, 0, 2, 1, 198, 51, 100, 1, 1, 2, 3, 4][..], &[4, 0, 1, 0]].concat();
        let mut v6 = vec![0; 36];
        v6[..2].copy_from_slice(&[0x20, 0x01]);
        for (header, source) in [
            (header(0x21, 0x11, &v4), told("192.0.2.1")),
            (header(0x21, 0x21, &v6), told("2001::")),
            (header(0x21, 0x31, &[0; 216]), Source::Untold),
            (header(0x21, 0x00, &[]), Source::Untold),
            (header(0x20, 0x00, &[]), Source::Proxy),
            (header(0x20, 0x11, &v4), Source::Proxy),
        ] {
            let with_more = [&header[..], b"GET"].concat();
            assert_eq!(parse(&with_more).unwrap(), Some((source, header.len())));
            for cut in 1..header.len() {
                assert_eq!(parse(&header[..cut]).unwrap(), None);
            }
        }
    }

    #[test]
    fn a_binary_header_that_is_not_right_is_refused() {
        for header in [
            header(0x11, 0x11, &[0; 12]),
            header(0x22, 0x11, &[0; 12]),
            header(0x21, 0x11, &[0; 11]),
            header(0x21, 0x21, &[0; 35]),
            header(0x21, 0x41, &[0; 12]),
            header(0x21, 0x11, &[0; 4096]),
        ] {
            assert!(parse(&header).is_err(), "{header:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300), kind in 0..3) {
            let start: &[u8] = match kind {
                0 => b"PROXY TCP4 ",
                1 => SIGNATURE,
                _ => b"",
            };
            let bytes = [start, &bytes].concat();
            if let Ok(Some((_, length))) = parse(&bytes) {
                prop_assert!(length <= bytes.len());
            }
        }
    }

    fn told(address: &str) -> Source {
        Source::Told(address.parse().unwrap())
    }

    fn header(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
        let length = u16::try_from(addresses.len()).unwrap().to_be_bytes();
        [SIGNATURE, &[command, family], &length, addresses].concat()
    }
}
