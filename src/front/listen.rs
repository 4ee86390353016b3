//! Accepting connections: bind or fail loudly, keep accepting whatever a single connection does.

use std::{future::Future, net::SocketAddr, time::Duration};

use anyhow::Context;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Binds `address`.
///
/// # Errors
/// When the address is taken or not ours; that is fatal to whoever asked for it.
pub fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let listen = || {
        let socket = socket?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    listen().with_context(|| format!("cannot listen on {address}"))
}

/// Accepts until `until` is done, and hands each connection to `serve`.
pub async fn accept(
    listener: TcpListener,
    until: impl Future<Output = ()>,
    mut serve: impl FnMut(TcpStream, SocketAddr),
) {
    let mut until = std::pin::pin!(until);
    loop {
        tokio::select! {
            biased;
            () = &mut until => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    // It only costs latency when the system refuses it.
                    stream.set_nodelay(true).ok();
                    serve(stream, peer);
                }
                Err(error) => {
                    // Out of file descriptors, most likely: others must finish first.
                    tracing::warn!(%error, "cannot accept a connection; trying again");
                    tokio::time::sleep(PAUSE).await;
                }
            },
        }
    }
}

const BACKLOG: u32 = 4096;
const PAUSE: Duration = Duration::from_millis(50);
