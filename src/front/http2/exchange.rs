//! A request on its stream, and its response.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use h2::{Reason, RecvStream, ext::Protocol, server::SendResponse};
use http::{Method, header};
use hyper::body::Body;
use tokio::sync::oneshot;

use super::{
    connect::{self, Asked},
    sending::{Ended, Sending},
    switched::Switched,
};
use crate::{
    framing::{digits, http2::Received},
    front::{
        incoming::Incoming,
        interim,
        message::{Head, Request, Response},
        stalled,
        upgrade::Upgraded,
    },
    wire::{Fault, Interim},
};

/// One request, which is answered on its stream.
pub struct Exchange {
    respond: SendResponse<Bytes>,
    method: Method,
    connect: Option<Connect>,
}

/// An extended CONNECT that was not answered yet.
struct Connect {
    asked: Asked,
    received: Received,
    switch: oneshot::Sender<Upgraded>,
    granted: bool,
}

impl Exchange {
    /// The request of a stream, and how it is answered.
    pub fn begin(request: http::Request<RecvStream>, respond: SendResponse<Bytes>) -> (Request, Self) {
        let (mut parts, stream) = request.into_parts();
        let protocol = parts.extensions.remove::<Protocol>();
        let method = parts.method.clone();
        let mut head = Head::from(parts);
        head.join_cookies();
        let length = head.headers.get(header::CONTENT_LENGTH).and_then(|told| digits(told.as_bytes()));
        let received = Received::new(stream, length);
        let Some(protocol) = protocol else {
            let request = Request { head, body: Incoming::Http2(Box::new(received)), upgrade: None };
            return (request, Exchange { respond, method, connect: None });
        };
        let asked = connect::upgrade(&mut head, &protocol);
        let (switch, on_upgrade) = oneshot::channel();
        let request = Request { head, body: Incoming::Nothing, upgrade: Some(on_upgrade) };
        let connect = Connect { asked, received, switch, granted: false };
        (request, Exchange { respond, method, connect: Some(connect) })
    }

    /// Waits for `answer`, and sends on what the origin says before it. There is none for a caller that goes away.
    pub async fn answered<T>(&mut self, answer: impl Future<Output = T>) -> Option<T> {
        let mut answer = pin!(answer);
        poll_fn(|cx| {
            let (answer, said) = interim::hearing(|| answer.as_mut().poll(cx));
            said.into_iter().for_each(|interim| self.inform(interim));
            match answer {
                Poll::Ready(answer) => Poll::Ready(Some(answer)),
                Poll::Pending => self.respond.poll_reset(cx).map(|_| None),
            }
        })
        .await
    }

    fn inform(&mut self, interim: Interim) {
        let mut response = http::Response::new(());
        *response.status_mut() = interim.status;
        *response.headers_mut() = interim.headers.into();
        // The wait for the answer notices a caller that is gone.
        self.respond.send_informational(response).ok();
    }

    /// Answers an extended CONNECT as HTTP/2 has it.
    ///
    /// # Errors
    /// When what the origin says would be taken for a change of protocols, and is none.
    pub fn settle<B>(&mut self, response: &mut Response<B>) -> Result<(), Fault> {
        if let Some(connect) = &mut self.connect {
            connect.granted = connect.asked.granted(&mut response.status, &mut response.headers)?;
        }
        Ok(())
    }

    /// Sends the response, whose caller may take nothing of it for `limit`.
    pub async fn send<B>(mut self, response: Response<B>, limit: Duration) -> Ended
    where
        B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Unpin,
    {
        let (head, body) = response.into_http2(&self.method).into_parts();
        let mut head = http::Response::from_parts(head, ());
        let connect = self.connect.take().filter(|connect| connect.granted);
        if connect.is_some() {
            // What follows has no length (RFC 9110 section 9.3.6).
            head.headers_mut().remove(header::CONTENT_LENGTH);
        }
        let ends = connect.is_none() && body.is_end_stream();
        let Ok(stream) = self.respond.send_response(head, ends) else {
            self.respond.send_reset(Reason::INTERNAL_ERROR);
            return Ended::Done;
        };
        if let Some(Connect { received, switch, .. }) = connect {
            // Without a task that waits for it, it ends here.
            switch.send(Upgraded::Http2(Switched::new(received, stream))).ok();
            return Ended::Done;
        }
        if ends {
            return Ended::Done;
        }
        let mut sending = Sending::new(stream, body, limit);
        let ended = poll_fn(|cx| sending.poll(cx)).await;
        stalled::drop_body(ended == Ended::Stalled, sending);
        ended
    }
}
