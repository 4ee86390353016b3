//! An answer on its way to its caller, with the streams that belong to it.

use http::StatusCode;

use super::{Asker, Caller};
use crate::{
    front::http::Answered,
    proto::{
        exchange::{Answer, Input},
        flow::{FIRST_WINDOW, LEAST_WINDOW},
    },
    wire::{Code, Fault, Kind, Reply, Side, StreamMessage, Word},
};

impl Asker {
    /// Hands the answer to its caller, with the streams that belong to it. They are opened before the next
    /// message is read: it may be their first frame.
    pub(super) fn answer(&self, caller: Caller, number: u64, answer: Answer) -> Option<Input<Caller>> {
        let streams = match &answer {
            Answer::Response(reply) if reply.stream => reply.client_req_id.upstream().parse().ok(),
            Answer::Response(_) | Answer::Fault(_) => None,
        };
        let answered = match answer {
            Answer::Response(reply) if reply.stream => self.open_response(reply),
            answer => {
                if let Some(upload) = self.streams.get(number) {
                    match &answer {
                        Answer::Response(reply) => upload.settle_answered(reply.upstream_req_id.as_ref()),
                        Answer::Fault(fault) => upload.fail(fault.clone()),
                    }
                }
                Answered { answer, reader: None, writer: None }
            }
        };
        let opened = answered.reader.is_some();
        // The caller may be gone this very moment; then nobody wants it.
        let heard = caller.answer(answered);
        streams.filter(|_| !(opened && heard)).map(|upstream| Input::StreamEnded { upstream })
    }

    fn open_response(&self, reply: Box<Reply>) -> Answered {
        let opened = match &reply.upstream_req_id {
            Some(peer) => self.streams.open(&reply.client_req_id).map(|stream| (stream, peer)),
            None => Err(Fault::new(Code::BadMessage, Side::Client, "a streamed response names no agent")),
        };
        match opened {
            Ok((stream, peer)) => {
                stream.connect(peer);
                let granted = reply.window.map_or(FIRST_WINDOW, |window| window.min(FIRST_WINDOW));
                let reader = Some(stream.reader(granted));
                if granted < LEAST_WINDOW {
                    // What was asked for came with the reply; the caller takes it as it takes the rest.
                    stream.let_in();
                }
                let switches = reply.status_code == Some(StatusCode::SWITCHING_PROTOCOLS);
                let writer = switches.then(|| stream.writer(FIRST_WINDOW));
                stream.settle();
                Answered { answer: Answer::Response(reply), reader, writer }
            }
            Err(fault) => {
                if let Some(upload) = self.streams.get(reply.client_req_id.number()) {
                    upload.fail(fault.clone());
                }
                if let Some(to) = reply.upstream_req_id {
                    let cancel = StreamMessage { to, word: Word::Cancel };
                    let subject = self.core.subjects.of_request(Kind::Body, &cancel.to);
                    self.core.publish(subject, cancel.encode());
                }
                let fault = Fault { maybe_seen: true, ..fault };
                Answered { answer: Answer::Fault(fault), reader: None, writer: None }
            }
        }
    }
}
