use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method};
use proptest::{collection::vec, prelude::*};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

use super::{
    Connection, Sending,
    head::{Heads, Malformed, Next},
};
use crate::{
    framing::body::Body,
    origin::{
        outgoing::{Payload, Request},
        stream::Carrier,
    },
    wire::Headers,
};

#[tokio::test]
async fn what_waits_holds_no_buffer() {
    let (mut connection, mut far) = connected();
    for _ in 0..2 {
        connection.sending = Some(get());
        let mut heads = Heads::new(false);
        let mut now = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(connection.poll_send(&mut now).is_ok());
        assert!(connection.poll_head(&mut heads, &mut now).is_pending());
        assert!(connection.sending.is_none(), "the request is gone");
        assert_eq!(connection.input.buffer.capacity(), 0);
        far.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none").await.unwrap();
        let head = std::future::poll_fn(|cx| connection.poll_head(&mut heads, cx)).await;
        let Ok(Next::Final(head)) = head else { panic!("no head") };
        connection.body = head.body;
        assert_eq!(data(&mut connection).await, "one");
        assert!(connection.is_end_stream() && connection.is_usable());
        assert_eq!(connection.input.buffer.capacity(), 0, "nor does what is idle");
    }
}

#[tokio::test]
async fn what_an_origin_says_or_does_unasked_ends_a_connection() {
    for said in [&b""[..], b"HTTP/1.1 408 Timeout\r\n\r\n"] {
        let (mut connection, mut far) = connected();
        assert!(connection.is_usable());
        far.write_all(said).await.unwrap();
        drop(far);
        // It is seen as soon as the runtime has heard of it.
        while connection.is_usable() {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn a_request_that_cannot_have_left_comes_back() {
    let (mut connection, far) = connected();
    drop(far);
    let failure = connection.head(get(), None).await.expect_err("nobody is there");
    let (mut connection, mut far) = connected();
    let answered = async {
        far.write_all(b"HTTP/1.1 204 No\r\n\r\n").await.unwrap();
        far.read_u8().await.unwrap()
    };
    let (head, first) = tokio::join!(connection.head(failure.unsent.expect("the request"), None), answered);
    assert_eq!((head.ok().expect("a head").status.as_u16(), first), (204, b'G'));
}

#[tokio::test]
async fn a_response_is_read_while_the_origin_reads_nothing() {
    let (mut connection, mut far) = connected();
    far.write_all(b"HTTP/1.1 413 No\r\nContent-Length: 2\r\n\r\nno").await.unwrap();
    let request = request(Method::POST, vec![0; 8 << 20]);
    let head = connection.head(request, None).await.ok().expect("a head");
    assert_eq!((head.status.as_u16(), data(&mut connection).await), (413, "no".into()));
    assert!(connection.is_end_stream() && !connection.is_usable(), "the request is still on its way");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn nothing_an_origin_sends_is_a_panic(bytes in noise(), cuts in vec(1_usize..40, 1..20), to_head: bool) {
        let whole = read(&bytes, &[bytes.len().max(1)], to_head);
        prop_assert_eq!(read(&bytes, &cuts, to_head).ok(), whole.ok());
    }

    #[test]
    fn a_response_is_the_same_however_its_bytes_arrive(
        interim in 0_usize..3,
        fields in vec(("[a-z]{1,10}", "[!-~]{0,20}"), 0..5),
        body in framed(),
        cuts in vec(1_usize..40, 1..20),
    ) {
        let (framing, bytes, data, trailers) = body;
        let fields: String = fields.iter().map(|(name, value)| format!("x-{name}: {value}\r\n")).collect();
        let head = format!("HTTP/1.1 200 OK\r\n{fields}{framing}\r\n");
        let interim_head = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n".repeat(interim);
        let all = [interim_head.as_bytes(), head.as_bytes(), &bytes].concat();
        let seen = read(&all, &cuts, false).unwrap();
        prop_assert_eq!(&seen, &read(&all, &[all.len()], false).unwrap());
        prop_assert_eq!((seen.interim, seen.status, seen.trailers), (interim, 200, trailers));
        prop_assert_eq!(seen.data, data);
        prop_assert_eq!(seen.rest, b"");
        // Whatever is missing is missed.
        if !framing.is_empty() {
            for end in 0..all.len() {
                prop_assert!(read(&all[..end], &cuts, false).is_err(), "{}", end);
            }
        }
    }
}

fn connected() -> (Connection, UnixStream) {
    let (near, far) = UnixStream::pair().unwrap();
    (Connection::new(Carrier::Unix(near).into()), far)
}

fn get() -> Box<Sending> {
    request(Method::GET, Vec::new())
}

fn request(method: Method, body: Vec<u8>) -> Box<Sending> {
    let (target, payload) = (Bytes::from_static(b"/"), Payload::Whole(body.into()));
    Sending::new(Request { method, target, headers: Headers::new(), payload, go: None }, None)
}

async fn data(connection: &mut Connection) -> Bytes {
    let frame = std::future::poll_fn(|cx| connection.poll_frame(cx)).await;
    frame.expect("a frame").expect("no fault").into_data().expect("data")
}

/// What a call sees of a response.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    interim: usize,
    status: u16,
    headers: Headers,
    data: Vec<u8>,
    trailers: HeaderMap,
    rest: Vec<u8>,
}

/// Reads a response that arrives in pieces of these sizes, over and over, after which the connection ends.
fn read(bytes: &[u8], cuts: &[usize], to_head: bool) -> Result<Seen, Malformed> {
    let mut cuts = cuts.iter().cycle();
    let mut left = bytes;
    let mut buffer = BytesMut::new();
    let mut fill = |buffer: &mut BytesMut| {
        let (piece, rest) = left.split_at(left.len().min(*cuts.next().expect("pieces")));
        buffer.extend_from_slice(piece);
        left = rest;
        piece.len()
    };
    let mut heads = Heads::new(to_head);
    let mut interim = 0;
    let head = loop {
        match heads.take(&mut buffer)? {
            Some(Next::Interim(..)) => interim += 1,
            Some(Next::Final(head)) => break head,
            None if fill(&mut buffer) == 0 => return Err(Malformed::Cut),
            None => {}
        }
    };
    let mut body: Body = head.body;
    let (mut data, mut trailers) = (Vec::new(), HeaderMap::new());
    while !body.is_ended() {
        match body.take(&mut buffer)?.map(http_body::Frame::into_data) {
            Some(Ok(bytes)) => data.extend_from_slice(&bytes),
            Some(Err(frame)) => trailers = frame.into_trailers().expect("trailers"),
            None if body.is_ended() => {}
            None if fill(&mut buffer) == 0 => body.close()?,
            None => {}
        }
    }
    while fill(&mut buffer) > 0 {}
    let (status, headers) = (head.said.status.as_u16(), head.said.headers);
    Ok(Seen { interim, status, headers, data, trailers, rest: buffer.to_vec() })
}

/// Bytes of which some look like HTTP.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        vec(any::<u8>(), 0..20),
        prop::sample::select(vec![
            "HTTP/1.1 200 OK\r\n",
            "HTTP/1.0 200\r\n",
            "HTTP/1.1 103 x\r\n",
            "HTTP/1.1 204 \n",
            "\r\n",
            "\n",
            "\r",
            ":",
            " ",
            "Content-Length: ",
            "5",
            "3, 3",
            "Transfer-Encoding: chunked\r\n",
            "0\r\n\r\n",
            "3\r\nabc\r\n",
            "3;x\r\nabc\r\n",
            "a: b\r\n",
            "ffffffffffffffff\r\n",
            "Connection: close\r\n",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
    ];
    let begun = prop::sample::select(vec![
        "",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\n",
    ]);
    (begun, vec(piece, 0..12)).prop_map(|(begun, pieces)| [begun.as_bytes(), &pieces.concat()].concat())
}

/// A body: the header that frames it, its bytes, and what is in them.
fn framed() -> impl Strategy<Value = (String, Vec<u8>, Vec<u8>, HeaderMap)> {
    let data = || vec(any::<u8>(), 0..60);
    prop_oneof![
        data().prop_map(|data| (String::new(), data.clone(), data, HeaderMap::new())),
        data().prop_map(|data| {
            (format!("content-length: {}\r\n", data.len()), data.clone(), data, HeaderMap::new())
        }),
        (vec((vec(any::<u8>(), 1..30), "(;[a-z]{0,9})?"), 0..5), vec("[!-~]{0,9}", 0..3)).prop_map(
            |(chunks, values)| {
                let (mut bytes, mut data, mut trailers) = (Vec::new(), Vec::new(), HeaderMap::new());
                for (chunk, extension) in chunks {
                    bytes.extend_from_slice(format!("{:x}{extension}\r\n", chunk.len()).as_bytes());
                    bytes.extend_from_slice(&chunk);
                    bytes.extend_from_slice(b"\r\n");
                    data.extend_from_slice(&chunk);
                }
                bytes.extend_from_slice(b"0\r\n");
                for value in values {
                    bytes.extend_from_slice(format!("x-end: {value}\r\n").as_bytes());
                    trailers.append("x-end", value.parse().expect("a value"));
                }
                bytes.extend_from_slice(b"\r\n");
                ("transfer-encoding: chunked\r\n".to_owned(), bytes, data, trailers)
            }
        ),
    ]
}
