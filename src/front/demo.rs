//! The demo origin: answers every request with what it received, as text, so that a newcomer sees headers
//! and body arrive.

use std::{convert::Infallible, fmt::Write, future::Future};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;

use super::listen;

/// Serves until `until` is done.
pub async fn serve(listener: TcpListener, until: impl Future<Output = ()>) {
    listen::accept(listener, until, |stream, peer| {
        tokio::spawn(async move {
            let service = service_fn(|request| async { Ok::<_, Infallible>(echo(request).await) });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                tracing::debug!(%peer, %error, "connection ended early");
            }
        });
    })
    .await;
}

async fn echo(request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let mut text = format!("Hello from the demo origin. It received:\n\n{} {}\n", head.method, head.uri);
    for (name, value) in &head.headers {
        // Writing to a String can't fail.
        let _ = writeln!(text, "{name}: {}", String::from_utf8_lossy(value.as_bytes()));
    }
    match Limited::new(body, MAX_SHOWN).collect().await {
        Ok(body) => {
            let body = body.to_bytes();
            let _ = write!(text, "\n({} bytes of body)\n{}", body.len(), String::from_utf8_lossy(&body));
        }
        Err(error) => {
            let _ = write!(text, "\n(a body that could not be read: {error})");
        }
    }
    if !text.ends_with('\n') {
        text.push('\n');
    }
    let mut response = Response::new(Full::new(Bytes::from(text)));
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}

const MAX_SHOWN: usize = 1024 * 1024;
