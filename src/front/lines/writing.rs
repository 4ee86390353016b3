//! The way out of a connection: replies in a bounded queue, written several at once. Whoever takes nothing of them
//! for too long is given up.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    sync::mpsc,
    time::timeout,
};

use super::Closed;
use crate::stream::memory::Share;

/// A line on its way out.
pub struct Line {
    /// The line, with its end.
    pub bytes: Bytes,
    /// What it takes of the memory for bodies, until it is written.
    pub shares: Vec<Share>,
}

impl From<Bytes> for Line {
    fn from(bytes: Bytes) -> Self {
        Line { bytes, shares: Vec::new() }
    }
}

/// Writes all lines of `queue`, and then the end. Each write may take `slow`.
///
/// # Errors
/// When the other side takes no more.
pub async fn write(
    mut to: impl AsyncWrite + Unpin,
    mut queue: mpsc::Receiver<Line>,
    slow: Duration,
) -> Result<(), Closed> {
    while let Some(Line { bytes, mut shares }) = queue.recv().await {
        let mut bytes = bytes;
        let mut together = BytesMut::new();
        while bytes.len() + together.len() < TOGETHER
            && let Ok(more) = queue.try_recv()
        {
            if together.is_empty() {
                together.extend_from_slice(&std::mem::take(&mut bytes));
            }
            together.extend_from_slice(&more.bytes);
            shares.extend(more.shares);
        }
        if !together.is_empty() {
            bytes = together.freeze();
        }
        write_all(&mut to, bytes, slow).await?;
    }
    to.shutdown().await.map_err(|_| Closed::Gone)
}

async fn write_all(
    to: &mut (impl AsyncWrite + Unpin),
    mut bytes: Bytes,
    slow: Duration,
) -> Result<(), Closed> {
    while bytes.has_remaining() {
        match timeout(slow, to.write(&bytes)).await {
            Err(_) => return Err(Closed::SlowReader),
            Ok(Ok(0) | Err(_)) => return Err(Closed::Gone),
            Ok(Ok(written)) => bytes.advance(written),
        }
    }
    Ok(())
}

/// Replies that wait to be written, at most. When they are as many, no line is read.
pub const QUEUE: usize = 64;
/// Bytes that are written at once, about.
const TOGETHER: usize = 64 * 1024;
