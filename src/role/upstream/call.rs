//! One request at the origin: issued, its response begun into one message or streamed.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderMap, StatusCode, header};
use http_body::Frame;
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout_at};

use super::{
    callee::Callee,
    member::{Member, Setup},
};
use crate::{
    origin::{Answer, AnswerBody, BodyCut, Call, Hear, OnContinue, Outgoing},
    proto::{
        flow::{FIRST_WINDOW, FRAME, INLINE, SMALL},
        serving::Input,
    },
    role::shell::Shell,
    stream::{Gathered, Stream, Upload, Writer, ready, tunnel},
    sync::Mutex,
    wire::{
        Ack, Code, Fault, Headers, Interim, Kind, Reply, Request, RequestId, Side, State, codec,
        headers::{self, trailers},
        interim::Allowance,
    },
};

/// A response, as far as it goes into the reply.
struct Begun {
    body: Bytes,
    trailers: HeaderMap,
    ended: bool,
}

/// What of a response does not go into the reply.
struct Rest {
    /// What is here already.
    ahead: Bytes,
    body: AnswerBody,
    /// Trailers, when they are here already.
    trailers: HeaderMap,
}

impl Member {
    /// Starts the call. The stream of the request's body is opened here, before the next message is read: it
    /// may be the first frame.
    pub(super) fn call(&self, number: u64, request: Request) -> Option<Input> {
        let member = self.myself()?;
        let upload = match self.open_upload(number, &request) {
            Ok(upload) => upload,
            Err(fault) => {
                return Some(Input::Done { number, reply: Reply::error(request.client_req_id, &fault) });
            }
        };
        let (id, window, interim) = (request.client_req_id.clone(), request.window, request.interim);
        let on_continue = upload.as_ref().and_then(Upload::on_continue);
        let call = call_of(request, upload);
        let mut calls = self.calls.lock();
        // A task's cell is aligned to 128 bytes, which the allocator has at hand only in small sizes.
        let task = tokio::spawn(Box::pin(member.serve(number, id, call, on_continue, interim, window)));
        calls.insert(number, task.abort_handle());
        None
    }

    fn open_upload(&self, number: u64, request: &Request) -> Result<Option<Upload>, Fault> {
        if !request.stream {
            return Ok(None);
        }
        let stream = self.stream(number, &request.client_req_id)?;
        let expects = request.headers.contains_key(header::EXPECT);
        Ok(Some(Upload::new(stream, request.body.clone(), expects)))
    }

    fn stream(&self, number: u64, peer: &RequestId) -> Result<Arc<Stream>, Fault> {
        let own = RequestId::new(&self.core.id, &self.name, number);
        let stream = self.streams.open(&own)?;
        stream.connect(peer);
        Ok(stream)
    }

    async fn serve(
        self: Arc<Self>,
        number: u64,
        id: RequestId,
        call: Call,
        on_continue: Option<OnContinue>,
        interim: bool,
        window: Option<u64>,
    ) {
        let passing = Passing { member: &self, number, id: &id, allowance: Mutex::default() };
        let hear = |status, headers| passing.on(status, headers);
        let hear: Option<Hear<'_>> = if interim { Some(&hear) } else { None };
        // What changes meanwhile is for the calls after this one.
        let setup = self.setup();
        let called = match &setup.callee {
            Callee::Origin(origin) => origin.call_and_hear(call, on_continue, hear).await,
            // Boxed, as all that is not the usual case here.
            Callee::Egress(egress) => Box::pin(egress.call(call, on_continue, hear)).await,
        };
        let outcome = match called {
            Ok(answer) => self.answer(&setup, number, &id, answer, window).await,
            Err(fault) => Err(fault),
        };
        if let Some(stream) = self.streams.get(number) {
            stream.settle();
        }
        self.calls.lock().remove(&number);
        let (outcome, input) = match outcome {
            Ok(Some(reply)) => ("answered", Input::Done { number, reply }),
            Ok(None) => ("answered", Input::StreamEnded { number }),
            Err(fault) => ("failed", Input::Done { number, reply: Reply::error(id, &fault) }),
        };
        self.core.metrics.count_call(outcome);
        self.feed(input);
    }

    /// The reply when it is all of the response; otherwise streams what the reply does not hold.
    async fn answer(
        self: &Arc<Self>,
        setup: &Setup,
        number: u64,
        id: &RequestId,
        mut answer: Answer,
        window: Option<u64>,
    ) -> Result<Option<Reply>, Fault> {
        if answer.status == StatusCode::SWITCHING_PROTOCOLS {
            // Boxed, as all that is not the usual case here: every request would take the room of it.
            Box::pin(self.tunnel(setup, number, id, answer)).await?;
            return Ok(None);
        }
        let inline = self.inline();
        let first = window.map_or(inline, |window| inline.min(usize::try_from(window).unwrap_or(inline)));
        // Many replies may be on their way at once.
        let inline = inline.min(first.max(SMALL));
        let mut begun = self.gather(setup, &mut answer.body, first, inline).await?;
        // The last part may be more than goes into the reply.
        let whole = begun.ended && begun.body.len() <= inline;
        let ahead = if whole { Bytes::new() } else { begun.body.split_off(begun.body.len().min(first)) };
        let headers = headers::end_to_end(answer.headers);
        let mut reply = Reply::response(id.clone(), answer.status, headers, begun.body);
        if whole {
            reply.trailers = trailers::sift(begun.trailers);
            self.check_size(&reply)?;
            return Ok(Some(reply));
        }
        self.check_size(&reply)?;
        let stream = self.stream(number, id).map_err(seen)?;
        let sent = reply.body.as_ref().map_or(0, Bytes::len);
        reply.window = window.map(|window| window.saturating_sub(sent as u64).min(FIRST_WINDOW));
        let writer = stream.writer(reply.window.unwrap_or(FIRST_WINDOW));
        stream.settle();
        reply.stream = true;
        self.feed(Input::Head { number, reply });
        let rest = Rest { ahead, body: answer.body, trailers: begun.trailers };
        Box::pin(self.pump(setup, rest, writer, sent)).await;
        Ok(None)
    }

    /// What goes into the reply: a response of up to `inline` bytes whole, otherwise what is here already, so that the
    /// first byte of an event stream is on its way as soon as the origin wrote it. Of one that is too large to be whole,
    /// `first` bytes.
    async fn gather(
        &self,
        setup: &Setup,
        body: &mut AnswerBody,
        first: usize,
        inline: usize,
    ) -> Result<Begun, Fault> {
        let announced = body.size_hint();
        let is_large = announced.lower() > inline as u64;
        let inline = if is_large { first } else { inline };
        if announced.lower() > setup.max_body as u64 {
            return Err(setup.too_large());
        }
        let small = announced.exact().is_some_and(|bytes| bytes <= inline as u64);
        let mut deadline = None;
        let mut parts = Gathered::default();
        let mut trailers = HeaderMap::new();
        let mut ended = body.is_end_stream();
        while !ended && parts.len() < inline {
            let frame = match body.frame().now_or_never() {
                Some(frame) => frame,
                None if small => {
                    let until = *deadline.get_or_insert_with(|| Instant::now() + SOON);
                    let Ok(frame) = Box::pin(timeout_at(until, body.frame())).await else { break };
                    frame
                }
                None => break,
            };
            match frame.transpose()?.map(Frame::into_data) {
                None => ended = true,
                Some(Ok(data)) => parts.push(data),
                Some(Err(frame)) => trailers = frame.into_trailers().unwrap_or_default(),
            }
            ended |= body.is_end_stream();
        }
        if parts.len() > setup.max_body {
            return Err(setup.too_large());
        }
        Ok(Begun { body: parts.freeze(), trailers, ended })
    }

    /// Whether the reply goes through NATS. Its head is measured only when it could matter: encoding twice would
    /// cost every response.
    fn check_size(&self, reply: &Reply) -> Result<(), Fault> {
        let max = self.core.bus.max_payload();
        let near = reply.body.as_ref().map_or(0, Bytes::len) + HEAD_ALLOWANCE > max;
        if near && codec::encode(reply).len() + IDS_ALLOWANCE > max {
            let detail = format!(
                "the response's head does not fit in one message, the NATS server's max_payload is {max}"
            );
            return Err(Fault::new(Code::ResponseTooLarge, Side::Upstream, detail));
        }
        Ok(())
    }

    /// Streams the rest of a response.
    async fn pump(&self, setup: &Setup, rest: Rest, mut writer: Writer, mut sent: usize) {
        let Rest { ahead, mut body, mut trailers } = rest;
        sent += ahead.len();
        if writer.send(ahead).await.is_err() {
            return;
        }
        let mut behind = None;
        loop {
            // Credit first: what can't be sent on stays with the origin.
            if writer.ready().await.is_err() {
                return;
            }
            let frame = match behind.take() {
                Some(next) => next,
                None => tokio::select! {
                    biased;
                    frame = body.frame() => frame,
                    _ = writer.over() => return,
                },
            };
            match frame.map(|frame| frame.map(Frame::into_data)) {
                None => break,
                Some(Ok(Ok(data))) => {
                    let (data, next) = ready::gather(&mut body, data, FRAME);
                    behind = next;
                    sent += data.len();
                    if sent > setup.max_body {
                        writer.cut(setup.too_large());
                        return;
                    }
                    if writer.send(data).await.is_err() {
                        return;
                    }
                }
                Some(Ok(Err(frame))) => trailers = frame.into_trailers().unwrap_or_default(),
                Some(Err(fault)) => {
                    writer.cut(fault);
                    return;
                }
            }
        }
        // Whoever wants no more has had enough.
        writer.finish(trailers::sift(trailers)).await.ok();
    }

    async fn tunnel(
        self: &Arc<Self>,
        setup: &Setup,
        number: u64,
        id: &RequestId,
        answer: Answer,
    ) -> Result<(), Fault> {
        let stream = self.stream(number, id).map_err(seen)?;
        let headers = headers::end_to_end(answer.headers.clone());
        let mut reply = Reply::response(id.clone(), answer.status, headers, Bytes::new());
        reply.upgrade = answer.headers.get(header::UPGRADE).cloned();
        reply.stream = true;
        let (reader, writer) = (stream.reader(FIRST_WINDOW), stream.writer(FIRST_WINDOW));
        stream.settle();
        let unspoken =
            || Fault::new(Code::OriginBroken, Side::Upstream, "the origin switched protocols unasked");
        let io = answer.into_upgraded().ok_or_else(unspoken)?;
        self.feed(Input::Head { number, reply });
        let origin = &setup.settings.origin;
        let patience = tunnel::Patience { idle: origin.stream_idle, stall: origin.send_timeout };
        let ended = tunnel::carry(io, Bytes::new(), reader, writer, patience).await;
        if let Some(fault) = ended.fault {
            tracing::debug!(%id, %fault, "an upgraded connection broke off");
        }
        Ok(())
    }

    /// Bytes of a body that ride in one message at most.
    fn inline(&self) -> usize {
        INLINE.min(self.core.bus.max_payload() / 2)
    }
}

impl Setup {
    fn too_large(&self) -> Fault {
        let max = self.max_body;
        let detail = format!("the response's body is over {max} bytes, the agent's --max-body");
        Fault::new(Code::ResponseTooLarge, Side::Upstream, detail)
    }
}

fn call_of(request: Request, upload: Option<Upload>) -> Call {
    let body = match upload {
        Some(upload) => Outgoing::Stream(Box::pin(upload.map_err(BodyCut))),
        None => {
            let trailers = (!request.trailers.is_empty()).then_some(request.trailers);
            Outgoing::Whole { body: request.body, trailers }
        }
    };
    let (method, url, headers) = (request.method, request.url, request.headers);
    Call { method, url, headers, upgrade: request.upgrade, body }
}

fn seen(fault: Fault) -> Fault {
    Fault { maybe_seen: true, ..fault }
}

/// Passes on what an origin says before its response.
struct Passing<'a> {
    member: &'a Member,
    number: u64,
    id: &'a RequestId,
    allowance: Mutex<Allowance>,
}

impl Passing<'_> {
    fn on(&self, status: StatusCode, headers: Headers) {
        let interim = Interim::new(status, headers);
        let Some(interim) = interim.filter(|interim| self.allowance.lock().passes(interim)) else { return };
        let core = &self.member.core;
        let ack = Ack {
            upstream_id: Some(core.id.clone()),
            upstream_req_id: Some(RequestId::new(&core.id, &self.member.name, self.number)),
            interim: Some(Box::new(interim)),
            ..Ack::new(self.id.clone(), State::Interim)
        };
        let payload = codec::encode(&ack);
        if payload.len() <= core.bus.max_payload() {
            core.publish(core.subjects.of_request(Kind::Ack, self.id), payload);
        }
    }
}

/// How long the rest of a small response may take for all of it to go into one message.
const SOON: Duration = Duration::from_millis(10);
/// A head is never larger: the origin's connection reads it under a limit.
const HEAD_ALLOWANCE: usize = 512 * 1024;
/// What ids add to a reply after it is measured.
const IDS_ALLOWANCE: usize = 512;
