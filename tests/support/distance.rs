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
    whole: watch::Sender<bool>,
}

impl Distance {
    /// A way to `server` that takes `delay` in each direction.
    pub async fn to(server: SocketAddr, delay: Duration) -> Distance {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (whole, passes) = watch::channel(true);
        let accepting = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let Ok(far) = TcpStream::connect(server).await else { continue };
                near.set_nodelay(true).ok();
                far.set_nodelay(true).ok();
                let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
                carry(near_in, far_out, delay, passes.clone());
                carry(far_in, near_out, delay, passes.clone());
            }
        });
        Distance { address, accepting, whole }
    }

    /// Nothing passes any more, and nobody is told.
    pub fn cut(&self) {
        self.whole.send_replace(false);
    }

    /// What was on its way arrives, and everything passes again.
    pub fn mend(&self) {
        self.whole.send_replace(true);
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
    mut passes: watch::Receiver<bool>,
) {
    let (sender, mut receiver) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    tokio::spawn(async move {
        loop {
            let mut bytes = Vec::with_capacity(64 * 1024);
            match from.read_buf(&mut bytes).await {
                Ok(0) | Err(_) => return,
                Ok(_) => drop(sender.send((Instant::now() + delay, bytes))),
            }
        }
    });
    tokio::spawn(async move {
        while let Some((at, bytes)) = receiver.recv().await {
            tokio::time::sleep_until(at).await;
            if passes.wait_for(|passes| *passes).await.is_err() {
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
