//! Calls to the origin: the only place that speaks HTTP outwards for a relayed request.
//!
//! The connection always goes to the configured origin; what a request brings is a path on it. Bodies
//! stream both ways. `connect` makes connections, `pool` keeps them, `http1` speaks on them, `outgoing` is
//! what is sent and `answer` what comes back.

use std::sync::{Arc, Mutex};

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use hyper::body::Incoming;

use crate::{
    config::{HostHeader, Origin as Settings},
    wire::{Code, Fault, Side},
};

mod answer;
mod connect;
mod http1;
mod outgoing;
mod pool;
mod stream;
mod target;

pub use answer::{Answer, AnswerBody};
pub use http1::Switched;
pub use outgoing::{BodyCut, BoxedBody, Outgoing};

use answer::Source;
use connect::Connector;
use http1::{Connection, Failure};
use outgoing::Payload;
use pool::Pool;

/// One origin and its connections.
pub struct Origin {
    connector: Connector,
    /// What stands before every request target: the configured URL's path, without its last slash.
    base: String,
    authority: HeaderValue,
    host_header: HostHeader,
    pool: Arc<Pool>,
}

/// One request to the origin.
pub struct Call {
    /// The method.
    pub method: Method,
    /// The request target in origin form; `*` for `OPTIONS *`.
    pub url: String,
    /// The headers. Those that frame the body are told anew; `te: trailers` passes.
    pub headers: HeaderMap,
    /// The protocol to switch to, when one is asked for.
    pub upgrade: Option<HeaderValue>,
    /// The body.
    pub body: Outgoing,
}

impl Origin {
    /// The origin that `settings` describe.
    ///
    /// # Errors
    /// When certificates can't be read.
    pub fn new(settings: &Settings) -> anyhow::Result<Self> {
        let uri = settings.to.uri();
        let authority = uri.authority().map_or("", |a| a.as_str());
        Ok(Origin {
            connector: Connector::new(settings)?,
            base: uri.path().trim_end_matches('/').to_owned(),
            authority: HeaderValue::from_str(authority)?,
            host_header: settings.host_header,
            pool: Arc::new(Pool::new(settings.pool_size, settings.pool_idle)),
        })
    }

    /// Issues a request and returns when the head of its response is here. `on_continue` is called when the
    /// origin sends `100 Continue`. Dropping the future, or the answer before its end, aborts the call.
    ///
    /// # Errors
    /// A fault that says whether the origin may have seen the request.
    pub async fn call(
        &self,
        call: Call,
        on_continue: Option<Box<dyn FnOnce() + Send>>,
    ) -> Result<Answer, Fault> {
        let switches = call.upgrade.is_some();
        let mut request = self.request(call)?;
        if let Some(go) = on_continue {
            tell_continue(&mut request, go);
        }
        let idempotent = request.method().is_idempotent();
        // A kept connection may have been closed by the origin while the request was on its way.
        while let Some(mut connection) = self.pool.checkout() {
            // What streams can be had once only: it is sent again only if all of it is still here.
            let spare = if idempotent { outgoing::again(&request) } else { None };
            match connection.head(request).await {
                Ok(response) => return self.answer(connection, response, switches).await,
                Err(Failure { unsent: Some(unsent), .. }) => request = unsent,
                Err(Failure { fault, unsent: None }) => {
                    request = spare.ok_or(fault)?;
                    break;
                }
            }
        }
        let mut connection = self.connector.connect().await?;
        match connection.head(request).await {
            Ok(response) => self.answer(connection, response, switches).await,
            Err(failure) => Err(failure.fault),
        }
    }

    /// Closes connections that have been idle for too long.
    pub fn close_idle(&self) {
        self.pool.close_idle();
    }

    fn request(&self, call: Call) -> Result<Request<Payload>, Fault> {
        let target = target::target(&self.base, &call.method, &call.url)?;
        let mut request = Request::new(Payload::from(call.body));
        *request.method_mut() = call.method;
        *request.uri_mut() = target;
        let mut headers = call.headers;
        outgoing::strip(&mut headers);
        outgoing::tell_length(&mut headers, request.body());
        if self.host_header == HostHeader::Rewrite || !headers.contains_key(header::HOST) {
            headers.insert(header::HOST, self.authority.clone());
        }
        *request.headers_mut() = headers;
        http1::prepare(&mut request, call.upgrade);
        Ok(request)
    }

    async fn answer(
        &self,
        connection: Connection,
        response: Response<Incoming>,
        switches: bool,
    ) -> Result<Answer, Fault> {
        let (head, body) = response.into_parts();
        let source = match (head.status, switches) {
            (StatusCode::SWITCHING_PROTOCOLS, true) => Source::Switched(connection.into_switched().await),
            (StatusCode::SWITCHING_PROTOCOLS, false) => {
                let detail = "the origin switched protocols, which it was not asked to";
                return Err(Fault::new(Code::OriginBroken, Side::Upstream, detail));
            }
            _ => {
                // To an origin that speaks HTTP/1.0, hyper sends no more chunks: a stream would lose its body.
                let again = head.version != Version::HTTP_10;
                Source::Http1 { body, connection, pool: again.then(|| Arc::clone(&self.pool)) }
            }
        };
        Ok(Answer {
            status: head.status,
            version: head.version,
            headers: head.headers,
            body: AnswerBody::new(source, IDLE),
        })
    }
}

/// Has `go` called once, when the origin says that it wants the body.
fn tell_continue(request: &mut Request<Payload>, go: Box<dyn FnOnce() + Send>) {
    let go = Mutex::new(Some(go));
    hyper::ext::on_informational(request, move |response| {
        if response.status() == StatusCode::CONTINUE
            && let Some(go) = go.lock().ok().and_then(|mut go| go.take())
        {
            go();
        }
    });
}

/// The fault of a connection that broke. Nothing tells how far the origin got.
fn broken(error: &hyper::Error) -> Fault {
    let source = std::error::Error::source(error);
    if let Some(BodyCut(fault)) = source.and_then(|source| source.downcast_ref()) {
        return Fault { maybe_seen: true, ..fault.clone() };
    }
    let mut detail = String::from("the origin's answer was not complete HTTP: ");
    detail.push_str(&error.to_string());
    if let Some(source) = source {
        detail.push_str(": ");
        detail.push_str(&source.to_string());
    }
    Fault::new(Code::OriginBroken, Side::Upstream, detail)
}

const IDLE: std::time::Duration = std::time::Duration::from_secs(60);
