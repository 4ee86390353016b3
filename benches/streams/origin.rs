//! The origin: `GET /N` is answered with N bytes, a body that is sent is read, `GET /events` has one event and
//! then nothing, and `GET /socket` becomes a WebSocket that answers whatever it is told with one frame.

use std::{
    net::{Ipv4Addr, TcpListener, TcpStream},
    thread,
};

use anyhow::{Context, Result};
use clap::Args;

use crate::{
    http1::{Connection, length},
    unary,
};

/// Where it listens.
#[derive(Args)]
pub struct Ports {
    /// For HTTP/1.1.
    #[arg(long)]
    port: u16,
    /// For gRPC.
    #[arg(long)]
    grpc_port: u16,
}

/// Serves until the process ends.
pub fn serve(ports: &Ports) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, ports.port)).context("listening")?;
    let grpc = ports.grpc_port;
    thread::spawn(move || {
        if let Err(error) = unary::serve(grpc) {
            eprintln!("streams: gRPC: {error:#}");
            std::process::exit(1);
        }
    });
    for stream in listener.incoming() {
        let stream = stream?;
        // Who asks may go away at any time, in the middle of a body too.
        thread::Builder::new().stack_size(STACK).spawn(move || answer_all(stream).ok())?;
    }
    Ok(())
}

fn answer_all(stream: TcpStream) -> Result<()> {
    let mut connection = Connection::new(stream)?;
    while let Some(head) = connection.head()? {
        let mut words = head.split(' ');
        match (words.next().unwrap_or_default(), words.next().unwrap_or_default()) {
            ("GET", "/events") => {
                connection.say(EVENTS)?;
                while connection.some()? > 0 {}
            }
            ("GET", "/socket") => return talk(connection),
            ("GET", path) => {
                let bytes = path.trim_start_matches('/').parse().context("a path that is no number")?;
                send(&mut connection, bytes)?;
            }
            _ => {
                connection.read_body(length(&head)?, |_| ())?;
                send(&mut connection, 0)?;
            }
        }
    }
    Ok(())
}

fn send(connection: &mut Connection, bytes: u64) -> Result<()> {
    let mut head = format!("HTTP/1.1 200 OK\r\ncontent-length: {bytes}\r\n\r\n").into_bytes();
    if bytes <= SMALL {
        head.resize(head.len() + usize::try_from(bytes)?, b'x');
        return connection.say(&head);
    }
    connection.say(&head)?;
    connection.write_body(bytes, |_| ())
}

fn talk(mut connection: Connection) -> Result<()> {
    connection.shrink();
    connection.say(SWITCHING)?;
    while connection.some()? > 0 {
        connection.say(FRAME)?;
    }
    Ok(())
}

/// A body up to this size leaves in one piece with its head.
const SMALL: u64 = 16 * 1024;
/// Of a connection's thread: a thousand of them are nothing.
const STACK: usize = 64 * 1024;
const EVENTS: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-store\r\n\
    transfer-encoding: chunked\r\n\r\n11\r\ndata: the first\n\n\r\n";
/// The answer to the example of RFC 6455 §1.3, which is what our load asks with.
const SWITCHING: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
    sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
/// A text frame that says `hello`.
pub const FRAME: &[u8] = b"\x81\x05hello";
