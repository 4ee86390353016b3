//! A request whose body is here, and its whole response: for whoever has no caller to stream to.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::Asker;
use crate::{
    proto::{
        exchange::{Answer, Input},
        flow::FIRST_WINDOW,
    },
    role::shell::Shell,
    stream::{Reader, Writer, memory::Reserve},
    wire::{Code, Fault, Name, Reply, Request, Side},
};

/// A response on its way. It counts as in flight until this is dropped.
pub struct Arriving<'a> {
    /// Its head, with the beginning of its body.
    pub reply: Box<Reply>,
    /// The rest of its body, when there is one.
    pub rest: Option<Reader>,
    _ended: Option<Ended<'a>>,
}

impl Asker {
    /// Gets `request` answered, whose body is here and may be of any size.
    ///
    /// # Errors
    /// A fault that says whether the origin may have seen the request.
    pub async fn ask_with_body(self: &Arc<Self>, mut request: Request) -> Result<Arriving<'_>, Fault> {
        let upstream = request.upstream_target.clone();
        let answered = if request.body.len() <= self.inline() {
            self.ask(request).await
        } else {
            let rest = request.body.split_off(self.inline());
            request.stream = true;
            let stream = self.streams.open(&request.client_req_id)?;
            tokio::spawn(send(stream.writer(FIRST_WINDOW), rest));
            tokio::select! {
                biased;
                answered = self.ask(request) => answered,
                fault = stream.lost() => return Err(fault),
            }
        };
        let ended = answered.reader.is_some().then(|| Ended { asker: self, upstream });
        match answered.answer {
            Answer::Response(reply) if reply.status_code == Some(StatusCode::SWITCHING_PROTOCOLS) => {
                let detail = "the upstream agent switched protocols unasked";
                Err(Fault::new(Code::OriginBroken, Side::Client, detail))
            }
            Answer::Response(reply) => Ok(Arriving { reply, rest: answered.reader, _ended: ended }),
            Answer::Fault(fault) => Err(fault),
        }
    }

    /// Gets `request` answered, whose body is here. Its response's may have `most` bytes, and one that comes in parts
    /// waits for room for that many, which its bytes own.
    ///
    /// # Errors
    /// A fault that says whether the origin may have seen the request.
    pub async fn ask_whole(
        self: &Arc<Self>,
        request: Request,
        most: usize,
        room: &Reserve,
    ) -> Result<(Reply, Bytes), Fault> {
        let Arriving { mut reply, rest, _ended } = self.ask_with_body(request).await?;
        let first = reply.body.take().unwrap_or_default();
        match rest {
            None if first.len() > most => Err(too_large(most)),
            None => Ok((*reply, first)),
            Some(rest) => {
                let body = rest.whole(first, (most, None), room.take(most).await, || too_large(most)).await;
                Ok((*reply, body.map_err(|fault| Fault { maybe_seen: true, ..fault })?))
            }
        }
    }
}

async fn send(mut writer: Writer, rest: Bytes) {
    // What goes wrong, the answer tells.
    if writer.send(rest).await.is_ok() {
        writer.finish(HeaderMap::new()).await.ok();
    }
}

fn too_large(most: usize) -> Fault {
    let detail = format!("the response's body is over {most} bytes, the most that is kept");
    Fault::new(Code::ResponseTooLarge, Side::Client, detail)
}

/// A response that is streamed counts as in flight until this is dropped.
struct Ended<'a> {
    asker: &'a Asker,
    upstream: Name,
}

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.asker.feed(Input::StreamEnded { upstream: self.upstream.clone() });
    }
}
