//! gRPC calls of one message each way, and the service that answers them: HTTP/2 without TLS.

use std::{
    convert::Infallible,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use clap::Args;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::Incoming,
    client::conn::http2::{self, SendRequest},
    server,
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::{Builder, Runtime},
    task::JoinSet,
};

use crate::latency;

/// How many calls at a time.
#[derive(Args)]
pub struct Load {
    #[arg(long)]
    port: u16,
    #[arg(long, default_value_t = 1)]
    concurrent: usize,
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
}

/// Answers every call with the message it brought.
pub fn serve(port: u16) -> Result<()> {
    runtime()?.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.context("listening")?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let connection = server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service_fn(echo));
            tokio::spawn(connection);
        }
    })
}

async fn echo(
    request: Request<Incoming>,
) -> Result<Response<impl hyper::body::Body<Data = Bytes, Error = Infallible>>> {
    let message = request.into_body().collect().await?.to_bytes();
    let status = HeaderMap::from_iter([(GRPC_STATUS, HeaderValue::from_static("0"))]);
    let body = Full::new(message).with_trailers(std::future::ready(Some(Ok(status))));
    Ok(Response::builder().header("content-type", "application/grpc").body(body)?)
}

/// Keeps so many calls open for the given time.
pub fn run(load: &Load) -> Result<Value> {
    runtime()?.block_on(async {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, load.port)).await.context("connecting")?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let begin = Instant::now() + WARM_UP;
        let end = begin + Duration::from_secs_f64(load.seconds);
        let mut callers: JoinSet<_> =
            (0..load.concurrent).map(|_| repeat(sender.clone(), begin, end)).collect();
        let mut latencies = Vec::new();
        let mut made = 0;
        while let Some(caller) = callers.join_next().await {
            let (calls, measured) = caller??;
            made += calls;
            latencies.extend(measured);
        }
        let rate = latencies.len() as f64 / load.seconds;
        Ok(json!({ "requests_per_s": rate, "requests": made, "latency": latency::percentiles(latencies) }))
    })
}

/// Calls one after the other; how many, and how long those took that began and ended inside the measured time.
async fn repeat(
    mut sender: SendRequest<Full<Bytes>>,
    begin: Instant,
    end: Instant,
) -> Result<(u64, Vec<Duration>)> {
    // A message's head: not compressed, and its length.
    let message = Bytes::from([&[0, 0, 0, 0, MESSAGE][..], &[b'x'; MESSAGE as usize]].concat());
    let mut latencies = Vec::new();
    let mut calls = 0;
    while Instant::now() < end {
        let since = Instant::now();
        call(&mut sender, message.clone()).await?;
        calls += 1;
        if since >= begin && Instant::now() <= end {
            latencies.push(since.elapsed());
        }
    }
    Ok((calls, latencies))
}

async fn call(sender: &mut SendRequest<Full<Bytes>>, message: Bytes) -> Result<()> {
    let request = Request::post("http://bench/bench.Bench/Echo")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(message.clone()))?;
    let answer = sender.send_request(request).await?;
    let head = answer.headers().get(GRPC_STATUS).cloned();
    let body = answer.into_body().collect().await?;
    let status = body.trailers().and_then(|trailers| trailers.get(GRPC_STATUS).cloned()).or(head);
    ensure!(status.as_ref().is_some_and(|status| status == "0"), "a call ended with gRPC status {status:?}");
    ensure!(body.to_bytes() == message, "a call had another answer");
    Ok(())
}

fn runtime() -> Result<Runtime> {
    Builder::new_current_thread().enable_all().build().context("starting a runtime")
}

const GRPC_STATUS: http::HeaderName = http::HeaderName::from_static("grpc-status");
/// Bytes of a message.
const MESSAGE: u8 = 200;
const WARM_UP: Duration = Duration::from_millis(300);
