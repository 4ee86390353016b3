//! A way to NATS that takes time, as between two networks, and that can be cut.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, watch},
    task::JoinHandle,
    time::Instant,
};

/// Passes connections on to a server, every byte so much later. It ends with its handle.
pub struct Distance {
    address: SocketAddr,
    accepting: JoinHandle<()>,
    state: watch::Sender<State>,
}

/// What passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    All,
    /// What is sent to the server, and nothing of what it says.
    Questions,
    Nothing,
    /// Connections are closed, and new ones at once.
    Closed,
}

/// Which way it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    There,
    Back,
}

impl Distance {
    /// A way to `server` that takes `delay` in each direction.
    pub async fn to(server: SocketAddr, delay: Duration) -> Distance {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (state, passes) = watch::channel(State::All);
        let accepting = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                if *passes.borrow() == State::Closed {
                    continue;
                }
                let Ok(far) = TcpStream::connect(server).await else { continue };
                near.set_nodelay(true).ok();
                far.set_nodelay(true).ok();
                let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
                carry(near_in, far_out, delay, Direction::There, passes.clone());
                carry(far_in, near_out, delay, Direction::Back, passes.clone());
            }
        });
        Distance { address, accepting, state }
    }

    /// Nothing passes any more, and nobody is told.
    pub fn cut(&self) {
        self.state.send_replace(State::Nothing);
    }

    /// Nothing that the server sends passes any more, without an error.
    pub fn mute(&self) {
        self.state.send_replace(State::Questions);
    }

    /// All connections are closed, and new ones as well.
    pub fn close(&self) {
        self.state.send_replace(State::Closed);
    }

    /// What was on its way arrives, and everything passes again.
    pub fn mend(&self) {
        self.state.send_replace(State::All);
    }

    /// `nats://…` of the near end.
    pub fn url(&self) -> String {
        format!("nats://{}", self.address)
    }
}

impl Drop for Distance {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    delay: Duration,
    direction: Direction,
    mut passes: watch::Receiver<State>,
) {
    let (sender, mut receiver) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    let mut closed = passes.clone();
    tokio::spawn(async move {
        loop {
            let mut bytes = Vec::with_capacity(64 * 1024);
            let read = tokio::select! {
                read = from.read_buf(&mut bytes) => read,
                _ = closed.wait_for(|state| *state == State::Closed) => return,
            };
            match read {
                Ok(0) | Err(_) => return,
                Ok(_) => drop(sender.send((Instant::now() + delay, bytes))),
            }
        }
    });
    tokio::spawn(async move {
        while let Some((at, bytes)) = receiver.recv().await {
            tokio::time::sleep_until(at).await;
            let decided = passes.wait_for(|state| match (state, direction) {
                (State::All | State::Closed, _) | (State::Questions, Direction::There) => true,
                (State::Questions, Direction::Back) | (State::Nothing, _) => false,
            });
            if decided.await.map_or(true, |state| *state == State::Closed) {
                return;
            }
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
        // The other side has closed; so does this.
        to.shutdown().await.ok();
    });
}
