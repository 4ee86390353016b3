//! How long small things take: requests at a steady rate, requests one after the other, and first events.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use clap::Args;
use serde_json::{Value, json};

use crate::http1::{Connection, length};

/// A steady rate.
#[derive(Args)]
pub struct Steady {
    #[arg(long)]
    port: u16,
    #[arg(long, default_value_t = 200)]
    rate: u32,
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
}

/// One after the other.
#[derive(Args)]
pub struct Events {
    #[arg(long)]
    port: u16,
    #[arg(long, default_value_t = 500)]
    requests: usize,
}

/// Requests at a steady rate on one connection. A request that had to wait for the answer to the one before is
/// counted from the moment it was due; those that were due when the time is over are not sent.
pub fn steady(load: &Steady) -> Result<Value> {
    let mut connection = Connection::to(load.port)?;
    let mut latencies = Vec::new();
    let every = Duration::from_secs(1) / load.rate;
    let begin = Instant::now();
    let end = begin + Duration::from_secs_f64(load.seconds);
    let mut due = begin;
    while due.max(Instant::now()) < end {
        let early = due.saturating_duration_since(Instant::now());
        thread::sleep(early);
        let since = if early.is_zero() { due } else { Instant::now() };
        get(&mut connection)?;
        latencies.push(since.elapsed());
        due += every;
    }
    Ok(percentiles(latencies))
}

/// Plain requests on one connection, then event streams, each on a connection of its own as it never ends: from
/// the request to the first byte of its first event.
pub fn events(load: &Events) -> Result<Value> {
    let mut connection = Connection::to(load.port)?;
    let mut plain = Vec::new();
    let mut first = Vec::new();
    for _ in 0..load.requests {
        let since = Instant::now();
        get(&mut connection)?;
        plain.push(since.elapsed());
    }
    for _ in 0..load.requests {
        let mut connection = Connection::to(load.port)?;
        let since = Instant::now();
        connection.ask("/events")?;
        connection.answer()?;
        ensure!(connection.some()? > 0, "an event stream ended before its first event");
        first.push(since.elapsed());
    }
    Ok(json!({ "plain": percentiles(plain), "first_event": percentiles(first) }))
}

fn get(connection: &mut Connection) -> Result<()> {
    connection.ask("/200")?;
    let length = length(&connection.answer()?)?;
    connection.read_body(length, |_| ())
}

/// How many there are and how long they took.
pub fn percentiles(mut latencies: Vec<Duration>) -> Value {
    latencies.sort_unstable();
    let at = |share: f64| {
        let rank = (latencies.len() as f64 * share).ceil() as usize;
        latencies.get(rank.saturating_sub(1)).map(|latency| latency.as_nanos() as f64 / 1000.0)
    };
    json!({ "count": latencies.len(), "p50_us": at(0.50), "p99_us": at(0.99), "max_us": at(1.0) })
}
