//! Rendezvous sessions at the listener: two callers who find each other at a URL, and what one sends the other
//! receives. `asked` is what a request says, `told` how it is answered, `sending` a body on its way to whoever
//! receives it, `relayed` that body at the receiver's connection, `delivery` what of it has gone out there.
//! Sessions themselves are kept by whoever is a [`Rendezvous`].

use std::{future::Future, net::IpAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, StatusCode};
use hyper::body::Body;

use super::{
    body::{Held, Outgoing},
    http::{Ask, Front},
    incoming::Incoming,
    message::{Request, Response},
    problem,
    served::{Decision, Told as Record},
};
use crate::{
    config::{Origins, SessionsAt},
    proto::rendezvous::admission::Visitor,
    stream::{Reader, Writer},
    wire::{
        Code, Fault, Headers, SessionId, Side,
        headers::Caller,
        session::{self, SessionKind, Token},
    },
};

mod asked;
pub mod delivery;
mod relayed;
mod sending;
mod told;

pub use delivery::Receipt;
pub use relayed::Relayed;

use asked::{Asked, Verb};

/// What sessions are held to at the listener.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Where they are.
    pub at: SessionsAt,
    /// How long a request waits for the other side when it does not say, and at most.
    pub wait: Duration,
    /// See `wait`.
    pub longest_wait: Duration,
    /// Web pages elsewhere that may use them.
    pub origins: Vec<Origins>,
}

impl Rules {
    /// Whether the request for `path` is a session's.
    pub fn is_for(&self, path: &[u8]) -> bool {
        let rest = path.strip_prefix(self.at.as_str().as_bytes());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
    }
}

/// A session that is new, or whose cookie is.
#[derive(Debug, Clone)]
pub struct Cookie {
    /// The token.
    pub token: Token,
    /// The second, since 1970, in which it expires.
    pub expires: u64,
}

/// Something that is received.
pub struct Received {
    /// What it is.
    pub content_type: Option<Bytes>,
    /// Its length, when that is known.
    pub length: Option<u64>,
    /// Where it comes from.
    pub reader: Reader,
    /// To be told what of it has gone out.
    pub receipt: Receipt,
    /// The host's cookie, when it is time for a new one.
    pub cookie: Option<Cookie>,
}

/// What became of something that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivered {
    /// Bytes that have gone out at the receiver's connection.
    pub bytes: u64,
    /// Whether they are all.
    pub whole: bool,
}

/// What is to be sent.
#[derive(Debug, Clone)]
pub struct Parcel {
    /// What it is.
    pub content_type: Option<Bytes>,
    /// Its length, when that is known.
    pub length: Option<u64>,
}

/// A request that waits for a receiver, and then sends.
pub trait Sending: Send {
    /// Waits for a receiver.
    fn matched(&mut self) -> impl Future<Output = Result<Writer, Fault>> + Send;
    /// Waits until the receiver has what it will have. To be polled while it is sent.
    fn ended(&mut self) -> impl Future<Output = Result<Delivered, Fault>> + Send;
    /// The host's cookie, when it is time for a new one.
    fn cookie(&self) -> Option<Cookie>;
}

/// Whoever keeps sessions, and brings senders and receivers together.
pub trait Rendezvous: Send + Sync + 'static {
    /// One that sends.
    type Sending: Sending;

    /// What they are held to.
    fn rules(&self) -> &Rules;
    /// Makes a session.
    fn allocate(
        &self,
        kind: SessionKind,
        visitor: &Visitor,
    ) -> impl Future<Output = Result<(SessionId, Cookie), Fault>> + Send;
    /// Lets `guest` be the guest of a secure one.
    fn permit(
        &self,
        id: &SessionId,
        visitor: &Visitor,
        guest: IpAddr,
    ) -> impl Future<Output = Result<(), Fault>> + Send;
    /// Ends one.
    fn delete(&self, id: &SessionId, visitor: &Visitor) -> impl Future<Output = Result<(), Fault>> + Send;
    /// Waits for something to receive.
    fn receive(
        self: &Arc<Self>,
        id: &SessionId,
        visitor: &Visitor,
        wait: Duration,
    ) -> impl Future<Output = Result<Received, Fault>> + Send;
    /// Begins to wait for whoever receives this.
    fn send(
        self: &Arc<Self>,
        id: &SessionId,
        visitor: &Visitor,
        parcel: Parcel,
        wait: Duration,
    ) -> impl Future<Output = Result<Self::Sending, Fault>> + Send;
    /// A request named a session that can't be: its address guesses.
    fn guessed(&self, visitor: &Visitor) -> Fault;
    /// So many bytes have gone out.
    fn relayed(&self, bytes: u64);
}

/// What a request to a session comes to.
enum Outcome {
    /// A head alone.
    Head(Response<()>),
    /// What is received, whose request is over with its end.
    Relayed(Response<()>, Box<Received>),
    Refused(Fault, Option<&'static str>),
}

impl<A: Ask> Front<A> {
    /// Answers a request to a session.
    pub(super) async fn at_session(
        self: Arc<Self>,
        sessions: Arc<A::Sessions>,
        request: Request,
        caller: Caller,
    ) -> Response<Outgoing<A>> {
        let name = session::upstream();
        let Request { mut head, body, .. } = request;
        let (method, version) = (head.method.clone(), head.version);
        let id = self.ask.mint(&name);
        let mut record = Record::new(Arc::clone(&self.ask), id.clone(), name, method.clone(), caller.peer);
        let page = told::page(sessions.rules(), &head.headers);
        let asked = match self.check(&mut head) {
            Ok(url) => Asked::read(sessions.rules(), &self.opening, &head, &url, &caller),
            Err(fault) => Err(fault),
        };
        let outcome = match asked {
            Err(fault) => Outcome::Refused(fault, None),
            Ok(asked) => self.meet(&sessions, asked, body, &mut record).await,
        };
        let mut response = match outcome {
            Outcome::Head(response) => {
                record.answered(response.status);
                record.served.decision = Decision::Response;
                nothing(response)
            }
            Outcome::Relayed(response, received) => {
                record.answered(response.status);
                let count = move |bytes| sessions.relayed(bytes);
                relayed::response(response, *received, version, record, Box::new(count)).await
            }
            Outcome::Refused(fault, allow) => {
                record.failed(&fault);
                let mut response = match fault.code {
                    Code::SessionTimeout => nothing(told::timed_out()),
                    _ => problem::response(&fault, Some(&id), &method, self.settings.fault_details)
                        .map(Outgoing::Whole),
                };
                if let Some(allow) = allow {
                    response.headers.insert(http::header::ALLOW, http::HeaderValue::from_static(allow));
                }
                record.answered(response.status);
                response
            }
        };
        if let Some(page) = page {
            page.tell(&mut response.headers);
        }
        response
    }

    async fn meet(
        self: &Arc<Self>,
        sessions: &Arc<A::Sessions>,
        asked: Asked,
        body: Incoming,
        record: &mut Record<A>,
    ) -> Outcome {
        let allow = asked.allowed();
        let met = Box::pin(self.met(sessions, asked, body, record)).await;
        met.unwrap_or_else(|fault| {
            let allow = (fault.code == Code::SessionMethod).then_some(allow);
            Outcome::Refused(fault, allow)
        })
    }

    async fn met(
        self: &Arc<Self>,
        sessions: &Arc<A::Sessions>,
        asked: Asked,
        body: Incoming,
        record: &mut Record<A>,
    ) -> Result<Outcome, Fault> {
        let Asked { at, id, verb, visitor, secure } = asked;
        if let Verb::Preflight = verb {
            return Ok(Outcome::Head(told::empty(StatusCode::NO_CONTENT)));
        }
        let Some(id) = id else {
            let Verb::Allocate(kind) = verb else { return Err(no_method()) };
            let (id, cookie) = sessions.allocate(kind, &visitor).await?;
            return Ok(Outcome::Head(told::allocated(sessions.rules(), &id, kind, &cookie, secure)));
        };
        let id: SessionId = id.parse().map_err(|_| sessions.guessed(&visitor))?;
        let path = format!("{at}/{id}");
        match verb {
            Verb::Permit(guest) => {
                sessions.permit(&id, &visitor, guest).await?;
                Ok(Outcome::Head(told::empty(StatusCode::OK)))
            }
            Verb::Delete => {
                sessions.delete(&id, &visitor).await?;
                Ok(Outcome::Head(told::deleted(visitor.tokens.first(), &path)))
            }
            Verb::Receive { wait, from_page } => {
                let received = sessions.receive(&id, &visitor, wait).await?;
                let cookie = received.cookie.clone();
                let mut response = told::received(&received, from_page);
                told::renew(&mut response, sessions.rules(), &path, cookie.as_ref(), secure);
                Ok(Outcome::Relayed(response, Box::new(received)))
            }
            Verb::Send { wait, content_type, expects } => {
                let length = body.size_hint().exact();
                let parcel = Parcel { content_type, length };
                let mut sending = sessions.send(&id, &visitor, parcel, wait).await?;
                let limits = self.settings.body;
                let outgoing =
                    sending::Body::new(body, expects, limits, self.settings.stream_idle, &self.budget);
                let delivered = outgoing.deliver(&mut sending, self.ask.inline(), record).await?;
                let mut response = told::delivered(delivered, length.is_some());
                told::renew(&mut response, sessions.rules(), &path, sending.cookie().as_ref(), secure);
                Ok(Outcome::Head(response))
            }
            Verb::Allocate(_) | Verb::Other | Verb::Preflight => Err(no_method()),
        }
    }
}

fn nothing<A: Ask>(response: Response<()>) -> Response<Outgoing<A>> {
    response.map(|()| Outgoing::Whole(Held::empty()))
}

fn no_method() -> Fault {
    let detail = "a session is made with PUT, and then has GET, POST, PUT and DELETE";
    Fault::new(Code::SessionMethod, Side::Client, detail)
}

/// Methods of the place where sessions are made, and of one.
const MAKING: &str = "PUT";
const ONE: &str = "GET, POST, PUT, DELETE";

/// Whether `method` can be answered at all by what is at a session's URL.
fn is_preflight(method: &Method, headers: &Headers) -> bool {
    method == Method::OPTIONS && headers.contains_key(http::header::ACCESS_CONTROL_REQUEST_METHOD)
}
