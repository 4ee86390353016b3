//! WebSockets that say little: opened, silent, and asked at the end whether they still live.

use std::io::{Read, Write};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::{Value, json};

use crate::{http1::Connection, origin::FRAME};

/// How many.
#[derive(Args)]
pub struct Load {
    #[arg(long)]
    port: u16,
    #[arg(long, default_value_t = 1000)]
    count: usize,
}

/// Opens them, says so, and waits for the end of the input before it asks them all again.
pub fn run(load: &Load) -> Result<Value> {
    let mut sockets = Vec::new();
    for number in 0..load.count {
        sockets.push(open(load.port).with_context(|| format!("opening WebSocket {number}"))?);
    }
    println!("{}", json!({ "open": sockets.len() }));
    std::io::stdout().flush()?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    for (number, socket) in sockets.iter_mut().enumerate() {
        hello(socket).with_context(|| format!("WebSocket {number} was silent"))?;
    }
    Ok(json!({ "alive": sockets.len() }))
}

fn open(port: u16) -> Result<Connection> {
    let mut socket = Connection::to(port)?;
    socket.shrink();
    socket.say(ASK)?;
    let head = socket.head()?.context("closed in place of an answer")?;
    ensure!(head.starts_with("HTTP/1.1 101 "), "answered {}", head.lines().next().unwrap_or_default());
    hello(&mut socket)?;
    Ok(socket)
}

/// One frame there and one back.
fn hello(socket: &mut Connection) -> Result<()> {
    socket.say(HELLO)?;
    let mut heard = 0;
    while heard < FRAME.len() {
        let bytes = socket.some()?;
        ensure!(bytes > 0, "closed");
        heard += bytes;
    }
    Ok(())
}

/// The example of RFC 6455 §1.3.
const ASK: &[u8] = b"GET /socket HTTP/1.1\r\nhost: bench\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
    sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
/// A text frame that says `hello`, masked with zeros as it comes from a client.
const HELLO: &[u8] = b"\x81\x85\0\0\0\0hello";
