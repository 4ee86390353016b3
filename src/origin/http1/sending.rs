//! A request on its way out: its head and a small body in one buffer, a large one behind it as it is, and a
//! body that streams framed as it comes (RFC 9112 sections 3, 6 and 7).

use std::{
    collections::VecDeque,
    io::IoSlice,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use http_body::Frame;
use tokio::io::AsyncWrite;

use crate::{
    framing::{LINE_END, size},
    origin::{
        outgoing::{BodyCut, Go, Measured, Payload, Request},
        stream::Stream,
    },
    wire::{Fault, Headers, headers::trailers::may_trail},
};

/// A request, or what is left of it.
pub struct Sending {
    /// What is written next, before the queue.
    next: Bytes,
    queue: VecDeque<Bytes>,
    /// What the rest of the body comes from.
    body: Option<Box<Measured>>,
    chunked: bool,
    /// Whether some of it has been written.
    touched: bool,
    /// Whether its method is HEAD.
    pub to_head: bool,
    /// Whom to tell that the origin wants the body.
    pub go: Option<Go>,
}

/// Why a request is not sent to its end.
pub enum Stopped {
    /// Its body was cut.
    Cut(Fault),
    /// The origin takes nothing more.
    Deaf,
    /// The origin has taken nothing.
    Refused,
}

impl Sending {
    /// `request` as it is written, with what only HTTP/1 says in headers.
    pub fn new(request: Request, upgrade: Option<&HeaderValue>) -> Box<Self> {
        let Request { method, target, mut headers, payload, go } = request;
        let chunked = match &payload {
            Payload::Whole(_) => false,
            Payload::Trailed(..) => true,
            Payload::Stream(_) => !headers.contains_key(header::CONTENT_LENGTH),
        };
        if matches!(payload, Payload::Stream(_)) && !chunked {
            // Only chunks are followed by trailers.
            headers.remove(header::TRAILER);
        }
        let small = match &payload {
            Payload::Whole(body) if body.len() <= SMALL => body,
            Payload::Whole(_) | Payload::Trailed(..) | Payload::Stream(_) => &Bytes::new(),
        };
        let added = added(&headers, &payload, chunked, upgrade);
        let mut sending = Sending {
            next: begin([method.as_str().as_bytes(), &target], &headers, &added, small),
            queue: VecDeque::new(),
            body: None,
            chunked,
            touched: false,
            to_head: method == Method::HEAD,
            go,
        };
        sending.follow(payload);
        Box::new(sending)
    }

    /// The same request again, when its body can be had again. Nothing may have been written of it.
    pub fn again(&self) -> Option<Box<Self>> {
        let again = || Sending {
            next: self.next.clone(),
            queue: self.queue.clone(),
            body: None,
            chunked: self.chunked,
            touched: false,
            to_head: self.to_head,
            go: self.go.clone(),
        };
        self.body.is_none().then(|| Box::new(again()))
    }

    /// Sends as much as is here and as the origin takes; ready when that was all.
    ///
    /// # Errors
    /// When the rest is not sent.
    pub fn poll(&mut self, stream: &mut Stream, cx: &mut Context<'_>) -> Poll<Result<(), Stopped>> {
        loop {
            if let Err(BodyCut(fault)) = self.gather(cx) {
                return Poll::Ready(Err(Stopped::Cut(fault)));
            }
            if self.next.is_empty() {
                ready!(Pin::new(&mut *stream).poll_flush(cx)).ok();
                if stream.is_deaf() {
                    return Poll::Ready(Err(Stopped::Deaf));
                }
                return if self.body.is_none() { Poll::Ready(Ok(())) } else { Poll::Pending };
            }
            let written = ready!(self.poll_write(stream, cx));
            if stream.is_deaf() {
                let stopped = if !self.touched && stream.takes_all_or_nothing() {
                    Stopped::Refused
                } else {
                    Stopped::Deaf
                };
                return Poll::Ready(Err(stopped));
            }
            self.touched = true;
            self.advance(written);
        }
    }

    /// What follows the head.
    fn follow(&mut self, payload: Payload) {
        match payload {
            Payload::Whole(body) if body.len() <= SMALL => {}
            Payload::Whole(body) => self.push(body),
            Payload::Trailed(body, trailers) => {
                self.push_chunk(body);
                self.push_end(trailers.map(|trailers| *trailers));
            }
            Payload::Stream(body) => self.body = Some(body),
        }
    }

    /// Takes what is here of the body: all that is goes out at once.
    fn gather(&mut self, cx: &mut Context<'_>) -> Result<(), BodyCut> {
        while let Some(body) = &mut self.body {
            if !self.chunked && body.is_complete() {
                self.body = None;
                return Ok(());
            }
            if self.queue.len() >= MAX_PIECES {
                return Ok(());
            }
            let Poll::Ready(frame) = body.poll_frame(cx) else { return Ok(()) };
            match frame.transpose()?.map(Frame::into_data) {
                Some(Ok(data)) if self.chunked => self.push_chunk(data),
                Some(Ok(data)) => self.push(data),
                Some(Err(frame)) => self.push_end(frame.into_trailers().ok()),
                None => self.push_end(None),
            }
        }
        Ok(())
    }

    fn push_chunk(&mut self, data: Bytes) {
        // A chunk of nothing would be the last.
        if !data.is_empty() {
            self.push(Bytes::from(format!("{:x}\r\n", data.len())));
            self.push(data);
            self.push(Bytes::from_static(LINE_END));
        }
    }

    /// Ends the body. Where there are no chunks, there are no trailers.
    fn push_end(&mut self, trailers: Option<HeaderMap>) {
        self.body = None;
        if !self.chunked {
            return;
        }
        let trailers = trailers.unwrap_or_default();
        let fields = || trailers.iter().filter(|(name, _)| may_trail(name));
        let mut end = Vec::with_capacity(size(fields()) + 5);
        end.extend_from_slice(b"0\r\n");
        write(fields(), &mut end);
        end.extend_from_slice(LINE_END);
        self.push(end.into());
    }

    fn push(&mut self, piece: Bytes) {
        if self.next.is_empty() {
            self.next = piece;
        } else if !piece.is_empty() {
            self.queue.push_back(piece);
        }
    }

    fn poll_write(&mut self, stream: &mut Stream, cx: &mut Context<'_>) -> Poll<usize> {
        let stream = Pin::new(stream);
        // What fails makes the stream deaf.
        let written = if self.queue.is_empty() {
            ready!(stream.poll_write(cx, &self.next))
        } else {
            let mut slices = [IoSlice::new(&[]); MAX_PIECES + 4];
            let pieces = std::iter::once(&self.next).chain(&self.queue);
            let count =
                slices.iter_mut().zip(pieces).map(|(slice, piece)| *slice = IoSlice::new(piece)).count();
            ready!(stream.poll_write_vectored(cx, &slices[..count]))
        };
        Poll::Ready(written.unwrap_or_default())
    }

    fn advance(&mut self, mut written: usize) {
        while written >= self.next.len() {
            written -= self.next.len();
            // What has been written is held no longer.
            self.next = self.queue.pop_front().unwrap_or_default();
            if self.next.is_empty() {
                return;
            }
        }
        self.next.advance(written);
    }
}

/// The fields that frame a request and concern its connection.
fn added(
    headers: &Headers,
    payload: &Payload,
    chunked: bool,
    upgrade: Option<&HeaderValue>,
) -> Vec<(HeaderName, HeaderValue)> {
    let mut added = Vec::new();
    if let Payload::Whole(body) = payload
        && !body.is_empty()
        && !headers.contains_key(header::CONTENT_LENGTH)
    {
        added.push((header::CONTENT_LENGTH, body.len().into()));
    }
    if chunked {
        added.push((header::TRANSFER_ENCODING, HeaderValue::from_static("chunked")));
    }
    if let Some(protocol) = upgrade {
        added.push((header::CONNECTION, HeaderValue::from_static("upgrade")));
        added.push((header::UPGRADE, protocol.clone()));
    } else if headers.contains_key(header::TE) {
        // RFC 9110 §10.1.4.
        added.push((header::CONNECTION, HeaderValue::from_static("te")));
    }
    added
}

/// A head and a small body, in a buffer of their size.
fn begin(
    [method, target]: [&[u8]; 2],
    headers: &Headers,
    added: &[(HeaderName, HeaderValue)],
    small: &[u8],
) -> Bytes {
    let start = [method, b" ", target, b" HTTP/1.1\r\n"];
    let fields = || headers.iter().chain(added.iter().map(|(name, value)| (name, value)));
    let length = start.iter().map(|part| part.len()).sum::<usize>() + size(fields()) + LINE_END.len();
    let mut begun = Vec::with_capacity(length + small.len());
    for part in start {
        begun.extend_from_slice(part);
    }
    write(fields(), &mut begun);
    begun.extend_from_slice(LINE_END);
    begun.extend_from_slice(small);
    begun.into()
}

fn write<'a>(fields: impl Iterator<Item = (&'a HeaderName, &'a HeaderValue)>, into: &mut Vec<u8>) {
    for (name, value) in fields {
        into.extend_from_slice(name.as_str().as_bytes());
        into.extend_from_slice(b": ");
        into.extend_from_slice(value.as_bytes());
        into.extend_from_slice(LINE_END);
    }
}

/// Up to how many bytes a body is copied behind its head.
const SMALL: usize = 4 * 1024;
/// As many pieces are gathered before they are written.
const MAX_PIECES: usize = 16;

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use http_body_util::StreamBody;
    use tokio::{io::AsyncReadExt, net::UnixStream};

    use super::*;
    use crate::origin::{outgoing::Outgoing, stream::Carrier};

    #[tokio::test]
    async fn a_head_and_a_small_body_are_one_piece_of_its_own_size() {
        let sending = sending("GET", &[("host", "a"), ("x-b", "1")], whole(""));
        assert_eq!(sending.next, "GET /x?y HTTP/1.1\r\nhost: a\r\nx-b: 1\r\n\r\n");
        let sending = self::sending("POST", &[("te", "trailers")], whole("body"));
        let text = "POST /x?y HTTP/1.1\r\nte: trailers\r\ncontent-length: 4\r\nconnection: te\r\n\r\nbody";
        assert_eq!(sending.next, text);
        assert!(sending.queue.is_empty());
        let again = sending.again().unwrap();
        assert_eq!(again.next.as_ptr(), sending.next.as_ptr(), "nothing is copied");
    }

    #[tokio::test]
    async fn a_large_body_is_written_from_where_it_is() {
        let body = Bytes::from(vec![b'x'; 3 << 20]);
        let address = body.as_ptr();
        let sending = sending("PUT", &[], Outgoing::Whole { body, trailers: None });
        assert_eq!((sending.queue.len(), sending.queue[0].as_ptr()), (1, address));
        let text = written(sending).await;
        assert!(text.starts_with("PUT /x?y HTTP/1.1\r\ncontent-length: 3145728\r\n\r\nxxx"));
        assert_eq!(text.len(), text.find("xxx").unwrap() + (3 << 20));
    }

    #[tokio::test]
    async fn a_stream_of_unknown_length_is_chunked_and_ends_with_its_trailers() {
        let trailers: HeaderMap = [(header::ETAG, "t"), (header::HOST, "no")]
            .map(|(n, v)| (n, v.parse().unwrap()))
            .into_iter()
            .collect();
        let frames = ["one", "", "three"].map(|text| Ok(Frame::data(Bytes::from(text))));
        let frames = frames.into_iter().chain([Ok(Frame::trailers(trailers))]);
        let body = Outgoing::Stream(Box::pin(StreamBody::new(futures_util::stream::iter(frames))));
        let text = written(sending("GET", &[], body)).await;
        let body = "3\r\none\r\n5\r\nthree\r\n0\r\netag: t\r\n\r\n";
        assert_eq!(text, format!("GET /x?y HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n{body}"));
    }

    #[tokio::test]
    async fn a_whole_body_with_trailers_is_one_chunk() {
        let trailers: HeaderMap = [(header::ETAG, "t".parse().unwrap())].into_iter().collect();
        let body = Outgoing::Whole { body: "body".into(), trailers: Some(trailers) };
        let sending = sending("POST", &[], body);
        let again = sending.again().expect("it is all here");
        for sending in [sending, again] {
            let text = written(sending).await;
            assert!(
                text.ends_with("transfer-encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\netag: t\r\n\r\n"),
                "{text}"
            );
        }
    }

    #[tokio::test]
    async fn a_stream_of_known_length_is_done_with_its_last_byte() {
        let frames = futures_util::stream::iter([Ok(Frame::data(Bytes::from("four")))]);
        // It never says that it ends.
        let frames = futures_util::StreamExt::chain(frames, futures_util::stream::pending());
        let body = Outgoing::Stream(Box::pin(StreamBody::new(frames)));
        let text = written(sending("POST", &[("content-length", "4")], body)).await;
        assert!(text.ends_with("content-length: 4\r\n\r\nfour"), "{text}");
    }

    #[tokio::test]
    async fn an_origin_that_has_closed_has_taken_nothing() {
        let (near, far) = UnixStream::pair().unwrap();
        drop(far);
        let mut stream = Stream::from(Carrier::Unix(near));
        let mut sending = sending("POST", &[], whole("body"));
        let stopped = poll_fn(|cx| sending.poll(&mut stream, cx)).await;
        assert!(matches!(stopped, Err(Stopped::Refused)));
        assert!(written(sending).await.ends_with("body"), "all of it is still here");
    }

    fn whole(body: &'static str) -> Outgoing {
        Outgoing::Whole { body: body.into(), trailers: None }
    }

    fn sending(method: &str, fields: &[(&'static str, &'static str)], body: Outgoing) -> Box<Sending> {
        let fields = fields.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v)));
        let mut headers: Headers = fields.collect();
        let payload = Payload::new(body, &mut headers);
        headers.remove(header::TRAILER);
        let (method, target) = (method.parse().unwrap(), "/x?y".into());
        Sending::new(Request { method, target, headers, payload, go: None }, None)
    }

    async fn written(mut sending: Box<Sending>) -> String {
        let (near, mut far) = UnixStream::pair().unwrap();
        let mut stream = Stream::from(Carrier::Unix(near));
        let mut text = String::new();
        let sent = async move { poll_fn(|cx| sending.poll(&mut stream, cx)).await.is_ok() };
        let (sent, read) = tokio::join!(sent, far.read_to_string(&mut text));
        assert!(sent && read.is_ok());
        text
    }
}
