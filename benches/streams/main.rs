//! An origin and load for what relay streams: bulk bodies, small requests beside them, event streams,
//! WebSockets and gRPC.
//!
//! `bin/bench` starts `streams origin` behind every system and runs the other commands against it; each prints
//! one line of JSON. HTTP/1 is written to blocking sockets, a thread for each connection, so that a measurement
//! of gigabytes a second is one of the system in between.

mod bulk;
mod http1;
mod latency;
mod origin;
mod sockets;
mod unary;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// An origin and load for streams.
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    command: Command,
    /// `cargo bench` passes this to every benchmark; it means nothing here.
    #[arg(long, hide = true, global = true)]
    bench: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Answers all the other commands until it is stopped.
    Origin(origin::Ports),
    /// Moves large bodies.
    Bulk(bulk::Load),
    /// Small requests at a steady rate on one connection.
    Steady(latency::Steady),
    /// Small requests one after the other, and the first event of event streams.
    Events(latency::Events),
    /// WebSockets that are opened, are silent until the end of the input, and then must still answer.
    Sockets(sockets::Load),
    /// gRPC calls with one message each way, on one connection.
    Unary(unary::Load),
}

fn main() -> Result<()> {
    let seen = match Args::parse().command {
        Command::Origin(ports) => return origin::serve(&ports),
        Command::Bulk(load) => bulk::run(&load)?,
        Command::Steady(load) => latency::steady(&load)?,
        Command::Events(load) => latency::events(&load)?,
        Command::Sockets(load) => sockets::run(&load)?,
        Command::Unary(load) => unary::run(&load)?,
    };
    println!("{seen}");
    Ok(())
}
