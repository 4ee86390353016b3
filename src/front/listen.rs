//! Accepting connections: bind or fail loudly, keep accepting whatever a single connection does.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::Context;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::{framing::keep_little_unsent, telemetry::Throttle};

/// Binds `address`.
///
/// # Errors
/// When the address is taken or not ours; that is fatal to whoever asked for it.
pub fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let listen = || -> io::Result<TcpListener> {
        let socket = socket?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let listener = socket.listen(BACKLOG)?;
        // Connections have it from the socket that they come in at.
        keep_little_unsent(&listener);
        Ok(listener)
    };
    listen().with_context(|| format!("cannot listen on {address}"))
}

/// Something that connections come from.
pub trait Accept {
    /// A connection.
    type Connection;
    /// Who is at its other end.
    type Peer;
    /// Waits for the next one.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Connection, Self::Peer)>> + Send;
}

impl Accept for TcpListener {
    type Connection = TcpStream;
    type Peer = SocketAddr;

    async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, peer) = TcpListener::accept(self).await?;
        // It only costs latency when the system refuses it.
        stream.set_nodelay(true).ok();
        Ok((stream, peer))
    }
}

/// Accepts until `until` is done, and hands each connection to `serve`.
pub async fn accept<L: Accept>(
    mut listener: L,
    until: impl Future<Output = ()>,
    mut serve: impl FnMut(L::Connection, L::Peer),
) {
    static REFUSED: Throttle = Throttle::per_second();
    let mut until = std::pin::pin!(until);
    loop {
        tokio::select! {
            biased;
            () = &mut until => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => serve(stream, peer),
                Err(error) => {
                    // Out of file descriptors, most likely: others must finish first.
                    if let Some(held_back) = REFUSED.pass(Instant::now()) {
                        tracing::warn!(%error, held_back, "cannot accept a connection; trying again");
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            },
        }
    }
}

/// Connections that may wait to be accepted.
pub const BACKLOG: u32 = 4096;
const PAUSE: Duration = Duration::from_millis(50);
