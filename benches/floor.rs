//! The floor: what a NATS request and its reply cost with nothing of relay around them.
//!
//! `cargo bench --bench floor -- --server URL --outstanding N --seconds S --size BYTES` keeps N requests
//! open against a responder on a connection and thread of its own, and prints one line of JSON. It
//! measures every request and keeps every measurement. It starts no server and makes no HTTP.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use async_nats::{Client, Message, StatusCode, Subject, Subscriber};
use bytes::Bytes;
use clap::Parser;
use futures_util::StreamExt;
use serde_json::json;
use tokio::runtime::{Builder, Runtime};
use tokio::time::{sleep, timeout};

/// Raw NATS request/reply: rate and latency.
#[derive(Parser)]
struct Args {
    /// The NATS server.
    #[arg(long, default_value = "nats://127.0.0.1:4222")]
    server: String,
    /// Requests open at any time.
    #[arg(long, default_value_t = 1)]
    outstanding: usize,
    /// How long to measure.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Payload of a request and of its reply, in bytes.
    #[arg(long, default_value_t = 200)]
    size: usize,
    /// `cargo bench` passes this to every benchmark; it means nothing here.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What one run saw.
struct Outcome {
    /// Every request answered, those of the warm-up too.
    answered: u64,
    /// The requests that began and ended inside the measured time.
    latencies: Vec<Duration>,
    measured: Duration,
}

fn main() -> Result<()> {
    let args = Args::parse();
    if args.outstanding == 0 {
        bail!("--outstanding must be at least 1");
    }
    let subject = Subject::from(format!("floor.{}", std::process::id()));
    let (server, requests) = (args.server.clone(), subject.clone());
    thread::spawn(move || {
        if let Err(error) = runtime().and_then(|rt| rt.block_on(respond(&server, requests))) {
            eprintln!("floor: responder: {error:#}");
            std::process::exit(1);
        }
    });
    let mut outcome = runtime()?.block_on(measure(&args, subject))?;
    println!("{}", summary(&mut outcome));
    Ok(())
}

/// Answers each request with its own payload.
async fn respond(server: &str, subject: Subject) -> Result<()> {
    let client = connect(server).await?;
    let mut requests = client.subscribe(subject).await?;
    while let Some(Message { reply, payload, .. }) = requests.next().await {
        if let Some(reply) = reply {
            client.publish(reply, payload).await?;
        }
    }
    Ok(())
}

async fn measure(args: &Args, subject: Subject) -> Result<Outcome> {
    let client = connect(&args.server).await?;
    let inbox = client.new_inbox();
    let mut replies = client.subscribe(format!("{inbox}.*")).await?;
    let slots = (0..args.outstanding).map(|slot| Subject::from(format!("{inbox}.{slot}"))).collect();
    let requester = Requester { client, subject, slots, payload: Bytes::from(vec![b'x'; args.size]) };

    timeout(PATIENCE, requester.wait_for_the_responder(&mut replies))
        .await
        .map_err(|_| anyhow!("the responder did not answer within {PATIENCE:?}"))??;
    let measured = Duration::from_secs_f64(args.seconds);
    timeout(WARM_UP + measured + PATIENCE, requester.run(&mut replies, measured))
        .await
        .map_err(|_| anyhow!("a reply was lost: not every request was answered within {PATIENCE:?}"))?
}

/// Publishes requests, each slot with one reply subject under the one inbox subscription.
struct Requester {
    client: Client,
    subject: Subject,
    slots: Vec<Subject>,
    payload: Bytes,
}

impl Requester {
    async fn wait_for_the_responder(&self, replies: &mut Subscriber) -> Result<()> {
        loop {
            self.send(0).await?;
            let reply = replies.next().await.context("the subscription ended")?;
            if reply.status != Some(StatusCode::NO_RESPONDERS) {
                return Ok(());
            }
            sleep(Duration::from_millis(5)).await;
        }
    }

    async fn run(&self, replies: &mut Subscriber, measured: Duration) -> Result<Outcome> {
        let begin = Instant::now() + WARM_UP;
        let end = begin + measured;
        let mut sent_at = vec![Instant::now(); self.slots.len()];
        for (slot, at) in sent_at.iter_mut().enumerate() {
            *at = Instant::now();
            self.send(slot).await?;
        }
        let mut outcome = Outcome { answered: 0, latencies: Vec::new(), measured };
        let mut open = self.slots.len();
        while open > 0 {
            let reply = replies.next().await.context("the subscription ended")?;
            let now = Instant::now();
            let slot = slot_of(&reply)?;
            outcome.answered += 1;
            if sent_at[slot] >= begin && now <= end {
                outcome.latencies.push(now - sent_at[slot]);
            }
            if now < end {
                sent_at[slot] = now;
                self.send(slot).await?;
            } else {
                open -= 1;
            }
        }
        Ok(outcome)
    }

    async fn send(&self, slot: usize) -> Result<()> {
        let (subject, reply) = (self.subject.clone(), self.slots[slot].clone());
        Ok(self.client.publish_with_reply(subject, reply, self.payload.clone()).await?)
    }
}

fn slot_of(reply: &Message) -> Result<usize> {
    if let Some(status) = reply.status {
        bail!("NATS answered {status} in place of the responder");
    }
    let (_, slot) = reply.subject.rsplit_once('.').context("a reply on an unknown subject")?;
    slot.parse().context("a reply on an unknown subject")
}

fn summary(outcome: &mut Outcome) -> serde_json::Value {
    outcome.latencies.sort_unstable();
    json!({
        "requests_per_s": outcome.latencies.len() as f64 / outcome.measured.as_secs_f64(),
        "p50_us": percentile(&outcome.latencies, 0.50),
        "p99_us": percentile(&outcome.latencies, 0.99),
        "answered": outcome.answered,
    })
}

fn percentile(sorted: &[Duration], share: f64) -> Option<f64> {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).map(|latency| latency.as_nanos() as f64 / 1000.0)
}

async fn connect(server: &str) -> Result<Client> {
    async_nats::connect(server).await.with_context(|| format!("connecting to {server}"))
}

fn runtime() -> Result<Runtime> {
    Builder::new_current_thread().enable_all().build().context("starting a runtime")
}

/// Run before measuring, so that buffers have grown and the server knows both subjects.
const WARM_UP: Duration = Duration::from_millis(300);
/// A reply later than this counts as lost, and a lost reply fails the run.
const PATIENCE: Duration = Duration::from_secs(5);
