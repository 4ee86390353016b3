//! What routing costs: the table itself at several sizes, and claims for a client agent to fill its table with.
//!
//! `cargo bench --bench routes -- --sizes 1,1000,100000` prints one line of JSON: nanoseconds for a lookup at each
//! size. With `--claim N --server URL` it claims N routes on NATS as agents would, prints `claimed`, and keeps
//! them with heartbeats until it is ended.

use std::{
    collections::BTreeMap,
    hint::black_box,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use async_nats::Client;
use bytes::Bytes;
use clap::Parser;
use relay::{
    proto::{
        Machine,
        routes::{Input, MAX_ROUTES_OF_AGENT, Routes},
    },
    wire::{Claim, Here, Name, ProcessId, Route, Subjects, codec, message::VERSION},
};
use serde_json::json;

/// What routing costs.
#[derive(Parser)]
struct Args {
    /// Sizes of the table to look things up in.
    #[arg(long, value_delimiter = ',', default_value = "1,1000,100000")]
    sizes: Vec<usize>,
    /// Claim so many routes on NATS instead.
    #[arg(long)]
    claim: Option<usize>,
    /// The NATS server.
    #[arg(long, default_value = "nats://127.0.0.1:4222")]
    server: String,
    /// `cargo bench` passes this to every benchmark; it means nothing here.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let args = Args::parse();
    if let Some(routes) = args.claim {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        return runtime.block_on(keep_claims(&args.server, routes));
    }
    let lookups: BTreeMap<String, f64> =
        args.sizes.iter().map(|&size| (size.to_string(), nanoseconds(size))).collect();
    println!("{}", json!({ "lookup_ns": lookups }));
    Ok(())
}

/// Nanoseconds for one lookup among `size` routes, half of them hosts and half paths: the median of rounds.
fn nanoseconds(size: usize) -> f64 {
    let mut table = Routes::default();
    for claim in claims(size) {
        table.handle(Input::Claim(claim), Instant::now());
    }
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|round| {
            let began = Instant::now();
            for i in 0..LOOKUPS {
                let number = (i * 7919 + round) % size;
                let found = table.find(black_box(&host(number)), black_box("/a/b/c?d"));
                assert!(black_box(found).is_some());
            }
            began.elapsed().as_nanos() as f64 / LOOKUPS as f64
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    rounds[ROUNDS / 2]
}

fn host(number: usize) -> String {
    format!("h{number}.example.com")
}

fn route(number: usize) -> Route {
    let path = if number.is_multiple_of(2) { "" } else { "/a/b" };
    format!("{}{path}", host(number)).parse().expect("it is a route")
}

fn claims(size: usize) -> impl Iterator<Item = Claim> {
    (0..size).map(|number| Claim {
        v: VERSION,
        upstream_id: agent(number / MAX_ROUTES_OF_AGENT),
        upstream_target: upstream(),
        route: route(number),
        age: 0,
        strip: false,
        waiting: false,
        withdrawn: false,
    })
}

fn agent(number: usize) -> ProcessId {
    format!("agent.Filler{number}").parse().expect("it is a process")
}

fn upstream() -> Name {
    "filler".parse().expect("it is a name")
}

async fn keep_claims(server: &str, size: usize) -> Result<()> {
    let client = async_nats::connect(server).await.context("cannot connect to NATS")?;
    let subjects = Subjects::new("relay".parse()?);
    let mut digests: BTreeMap<ProcessId, u64> = BTreeMap::new();
    for (count, claim) in claims(size).enumerate() {
        let digest = digests.entry(claim.upstream_id.clone()).or_default();
        *digest = digest.wrapping_add(claim.hash());
        let subject = subjects.route(&claim.upstream_target, &claim.upstream_id, &claim.route);
        client.publish(subject, codec::encode(&claim)).await?;
        if count % BURST == BURST - 1 {
            client.flush().await?;
            tokio::time::sleep(BREATH).await;
        }
    }
    announce(&client, &subjects, &digests).await?;
    println!("claimed");
    loop {
        tokio::time::sleep(HEARTBEAT).await;
        announce(&client, &subjects, &digests).await?;
    }
}

async fn announce(client: &Client, subjects: &Subjects, digests: &BTreeMap<ProcessId, u64>) -> Result<()> {
    for (agent, &routes) in digests {
        let here = Here { routes, ..Here::of(agent.clone(), upstream()) };
        let payload: Bytes = codec::encode(&here);
        client.publish(subjects.here(&upstream(), agent), payload).await?;
    }
    client.flush().await?;
    Ok(())
}

/// Claims at once, and what is waited after them: agents do not all come in the same millisecond, and the queue of a
/// client agent holds 64 Ki messages.
const BURST: usize = 4096;
const BREATH: Duration = Duration::from_millis(10);
const ROUNDS: usize = 15;
const LOOKUPS: usize = 20_000;
const HEARTBEAT: Duration = Duration::from_secs(2);
