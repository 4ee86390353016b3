//! How a test calls: an origin by flags, a body it feeds piece by piece, and what came back.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use http_body::{Body, Frame};
use relay::{
    config::{self, Command},
    origin::{Answer, BodyCut, Call, Egress, Origin, Outgoing},
    wire::{Code, Fault, Headers, Side},
};
use tokio::sync::mpsc;

/// The origin that these flags of an upstream agent describe.
pub fn origin(to: &str, flags: &[&str]) -> Origin {
    let flags = [&["relay", "upstream", "--name", "hello", "--to", to], flags].concat();
    match config::from_flags(&flags).expect("flags that are right") {
        Command::Upstream(settings) => Origin::new(&settings.member.origin).expect("an origin"),
        other => panic!("{other:?}"),
    }
}

/// The outside hosts that these flags of an upstream agent describe.
pub fn egress(flags: &[&str]) -> Egress {
    let flags = [&["relay", "upstream", "--name", "egress", "--egress"], flags].concat();
    match config::from_flags(&flags).expect("flags that are right") {
        Command::Upstream(settings) => {
            Egress::new(&settings.member.egress, &settings.member.origin).expect("an egress")
        }
        other => panic!("{other:?}"),
    }
}

/// A GET.
pub fn get(url: &str) -> Call {
    call(Method::GET, url, Outgoing::Whole { body: Bytes::new(), trailers: None })
}

/// A POST of what is whole.
pub fn post(url: &str, body: &'static str) -> Call {
    call(Method::POST, url, Outgoing::Whole { body: body.into(), trailers: None })
}

/// Any call, for the host `test`.
pub fn call(method: Method, url: &str, body: Outgoing) -> Call {
    let headers = headers(&[("host", "test")]);
    Call { method, url: url.into(), headers, upgrade: None, body }
}

/// A POST of what is fed.
pub fn feed() -> (Feed, Call) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let body = Outgoing::Stream(Box::pin(Fed(receiver)));
    (Feed(sender), call(Method::POST, "/", body))
}

/// Headers.
pub fn headers(pairs: &[(&'static str, &'static str)]) -> Headers {
    let pair = |(name, value): &(&'static str, &'static str)| {
        (HeaderName::from_static(name), HeaderValue::from_static(value))
    };
    pairs.iter().map(pair).collect()
}

/// The same as trailers, or for whoever speaks HTTP by a library.
pub fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    headers(pairs).into()
}

/// The other end of a body. It ends with its handle.
pub struct Feed(mpsc::UnboundedSender<Result<Frame<Bytes>, BodyCut>>);

impl Feed {
    /// Sends a piece; nobody may be there any more.
    pub fn data(&self, data: &'static str) {
        self.0.send(Ok(Frame::data(data.into()))).ok();
    }

    /// Sends trailers.
    pub fn trailers(&self, pairs: &[(&'static str, &'static str)]) {
        self.0.send(Ok(Frame::trailers(map(pairs)))).ok();
    }

    /// Ends the body before its end.
    pub fn cut(self) {
        let fault = Fault::new(Code::BodyTimeout, Side::Client, "the caller has stopped");
        self.0.send(Err(BodyCut(fault))).ok();
    }
}

struct Fed(mpsc::UnboundedReceiver<Result<Frame<Bytes>, BodyCut>>);

impl Body for Fed {
    type Data = Bytes;
    type Error = BodyCut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyCut>>> {
        self.0.poll_recv(cx)
    }
}

/// The next piece of an answer's body.
pub async fn data(answer: &mut Answer) -> Bytes {
    match timely(answer.body.frame()).await {
        Some(Ok(frame)) => frame.into_data().expect("data, no trailers"),
        other => panic!("no data: {other:?}"),
    }
}

/// The rest of an answer: its body and its trailers.
pub async fn rest(answer: &mut Answer) -> Result<(String, HeaderMap), Fault> {
    let (mut text, mut trailers) = (Vec::new(), HeaderMap::new());
    while let Some(frame) = timely(answer.body.frame()).await {
        match frame?.into_data() {
            Ok(data) => text.extend_from_slice(&data),
            Err(frame) => trailers = frame.into_trailers().expect("trailers"),
        }
    }
    Ok((String::from_utf8(text).expect("a text"), trailers))
}

/// The rest of an answer, which must be this.
pub async fn ends_with(mut answer: Answer, text: &str) {
    assert_eq!(rest(&mut answer).await.expect("a whole body").0, text);
}

/// What must not take long.
pub async fn timely<T>(work: impl Future<Output = T>) -> T {
    crate::support::within(Duration::from_secs(30), "an answer", work).await
}
