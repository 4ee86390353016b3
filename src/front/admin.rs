//! The operator's listener: `/healthz`, `/readyz`, `/metrics`, and pages in JSON.

use std::{convert::Infallible, future::Future, io, sync::Arc};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};

use super::listen::{self, Accept};
use crate::descriptors;

/// What an admin listener tells.
pub trait Status: Send + Sync + 'static {
    /// Why the process is not ready; `None` when it is.
    fn unready(&self) -> Option<&'static str>;
    /// The metrics in the Prometheus text format.
    fn metrics(&self) -> String;
    /// Another page, in JSON, or why this process can't show it; `None` when there is no such page.
    fn page(&self, path: &str) -> impl Future<Output = Option<Result<String, String>>> + Send;
}

/// Serves until `until` is done.
pub async fn serve<S: Status>(listener: TcpListener, status: Arc<S>, until: impl Future<Output = ()>) {
    let room = Arc::new(Semaphore::new(descriptors::for_admin()));
    listen::accept(Few { listener, room }, until, |stream, room| {
        let status = Arc::clone(&status);
        tokio::spawn(async move {
            let _room = room;
            let service = service_fn(|request| {
                let status = Arc::clone(&status);
                async move { Ok::<_, Infallible>(answer(&*status, &request).await) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service);
            // Nobody is told: whoever scrapes sees it for himself.
            connection.await.ok();
        });
    })
    .await;
}

/// A listener with so many connections at most that they leave descriptors to the rest of the process.
struct Few {
    listener: TcpListener,
    room: Arc<Semaphore>,
}

impl Accept for Few {
    type Connection = TcpStream;
    type Peer = OwnedSemaphorePermit;

    async fn accept(&mut self) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
        let room = Arc::clone(&self.room).acquire_owned().await.map_err(io::Error::other)?;
        let (stream, _) = Accept::accept(&mut self.listener).await?;
        Ok((stream, room))
    }
}

async fn answer<S: Status>(status: &S, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, "use GET\n".into());
        refused.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    match request.uri().path() {
        "/healthz" => text(StatusCode::OK, "ok\n".into()),
        "/readyz" => match status.unready() {
            None => text(StatusCode::OK, "ready\n".into()),
            Some(why) => text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")),
        },
        "/metrics" => {
            let mut metrics = text(StatusCode::OK, status.metrics());
            let format = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            metrics.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(format));
            metrics
        }
        path => match status.page(path).await {
            Some(Err(why)) => text(StatusCode::SERVICE_UNAVAILABLE, why),
            Some(Ok(page)) => {
                let mut page = text(StatusCode::OK, page);
                let json = HeaderValue::from_static("application/json");
                page.headers_mut().insert(header::CONTENT_TYPE, json);
                page
            }
            None => {
                let there_are =
                    "there are /healthz, /readyz, /metrics and /sd, and /routes at a client agent\n";
                text(StatusCode::NOT_FOUND, there_are.into())
            }
        },
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}
