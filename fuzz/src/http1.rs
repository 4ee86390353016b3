//! HTTP/1: what callers and origins send.

use bytes::BytesMut;
use relay::{
    framing::body::{Body, Chunks},
    front::http1::head as requests,
    origin::http1::head as responses,
};

/// All requests in `data` and their bodies; it does not matter in which parts they come.
pub fn request_head(data: &[u8]) {
    let whole = read_requests(data, data.len().max(1));
    assert_eq!(whole, read_requests(data, 1), "byte by byte it is another thing");
    assert_eq!(whole, read_requests(data, 7), "in parts it is another thing");
}

fn read_requests(data: &[u8], part: usize) -> Vec<String> {
    let mut heads = requests::Heads::new(64 * 1024);
    let (mut buffer, mut told) = (BytesMut::new(), Vec::new());
    let mut body = Body::Ended;
    for part in data.chunks(part) {
        buffer.extend_from_slice(part);
        loop {
            if !body.is_ended() {
                match take_all(&mut body, &mut buffer) {
                    Ok((bytes, true)) => told.push(bytes),
                    Ok((bytes, false)) => {
                        told.push(bytes);
                        break;
                    }
                    Err(why) => return joined(told, why),
                }
            }
            match heads.take(&mut buffer) {
                Ok(Some(asked)) => {
                    told.push(format!("\u{1}{:?}\u{1}", asked.head));
                    body = asked.body;
                }
                Ok(None) => break,
                Err(_) => return joined(told, String::new()),
            }
        }
    }
    joined(told, String::new())
}

/// Parts of one body follow each other; how many there were is not told. What is no HTTP may be refused before all of it
/// is here, so whether it was is not told either.
fn joined(told: Vec<String>, end: String) -> Vec<String> {
    (told.concat() + &end).split('\u{1}').map(str::to_owned).collect()
}

fn take_all(body: &mut Body, buffer: &mut BytesMut) -> Result<(String, bool), String> {
    let mut bytes = String::new();
    loop {
        match body.take(buffer) {
            Ok(Some(frame)) => match frame.into_data() {
                Ok(data) => bytes.push_str(&data.escape_ascii().to_string()),
                Err(frame) => bytes.push_str(&format!("{:?}", frame.into_trailers().ok())),
            },
            Ok(None) => return Ok((bytes, body.is_ended())),
            Err(why) => return Err(bytes + &why.to_string()),
        }
    }
}

/// A response; the first byte tells whether it answers HEAD.
pub fn response_head(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else { return };
    let read = |part: usize| {
        let mut heads = responses::Heads::new(*first == b'!');
        let mut buffer = BytesMut::new();
        for part in rest.chunks(part) {
            buffer.extend_from_slice(part);
            loop {
                match heads.take(&mut buffer) {
                    Ok(Some(responses::Next::Final(head))) => {
                        return Some(format!("{:?} {:?} {}", head.said, head.body, head.keeps));
                    }
                    Ok(Some(responses::Next::Interim(..))) => {}
                    Ok(None) => break,
                    Err(_) => return None,
                }
            }
        }
        None
    };
    assert_eq!(read(rest.len().max(1)), read(1), "byte by byte it is another thing");
}

/// A chunked body, and one of known length.
pub fn chunked_body(data: &[u8]) {
    let read = |part: usize| {
        let mut body = Body::Chunked(Chunks::Size);
        let (mut buffer, mut told) = (BytesMut::new(), String::new());
        for part in data.chunks(part) {
            buffer.extend_from_slice(part);
            match take_all(&mut body, &mut buffer) {
                Ok((bytes, _)) => told.push_str(&bytes),
                Err(why) => return (told + &why, false),
            }
        }
        (told, body.is_ended())
    };
    assert_eq!(read(data.len().max(1)), read(1), "byte by byte it is another thing");
    let mut body = Body::Length(data.len() as u64);
    let taken = take_all(&mut body, &mut BytesMut::from(data)).expect("a body of known length is whole");
    assert!(taken.1, "it ends with its last byte");
}

/// Responses, with the byte before them that tells of what.
pub fn responses() -> Vec<Vec<u8>> {
    let texts: &[&str] = &[
        ".HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        ".HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: x, close\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "!HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
        ".HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: </a>\r\n\r\nHTTP/1.1 204 No\r\n\r\n",
        ".HTTP/1.0 304 Not Modified\r\nContent-Length: 5 , 5\r\nETag: \"a\"\r\n\r\n",
        ".HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nbytes",
        ".\r\n\nHTTP/1.1 299 \r\nX-A: \u{e4}\r\nx-a:  b\t\r\nE:\r\n\r\n",
    ];
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// Chunked bodies.
pub fn bodies() -> Vec<Vec<u8>> {
    let texts: &[&str] = &[
        "5\r\nhello\r\n0\r\n\r\n",
        "4;a=b\r\nabcd\r\n10 \r\n0123456789abcdef\r\n0\r\nX-End: yes\r\nY: z\r\n\r\nstray",
        "A\r\n0123456789\r\n00\r\n\r\n",
        "0\r\n\r\n",
    ];
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}
