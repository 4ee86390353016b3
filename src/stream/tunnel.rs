//! Bytes of another protocol, both ways: what is left of a request after `101 Switching Protocols`.

use std::{
    future::poll_fn,
    io,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::timeout,
};

use super::{Over, Reader, Writer};
use crate::wire::{Code, Fault, Side};

/// How a tunnel ended.
#[derive(Debug, Default)]
pub struct Ended {
    /// Bytes read here and sent.
    pub sent: u64,
    /// Bytes received and written here.
    pub received: u64,
    /// Why it broke off, if it did.
    pub fault: Option<Fault>,
}

/// How long a tunnel may stand still.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// How long both directions may be silent.
    pub idle: Duration,
    /// How long the connection may take nothing of what is written to it.
    pub stall: Duration,
}

/// Carries bytes between `io` and a stream until both directions have ended, one breaks off, or `patience` is over.
/// `first` was received before.
pub async fn carry<IO>(io: IO, first: Bytes, reader: Reader, writer: Writer, patience: Patience) -> Ended
where
    IO: AsyncRead + AsyncWrite,
{
    let (from, to) = tokio::io::split(io);
    let (sent, received) = (AtomicU64::new(0), AtomicU64::new(0));
    let side = writer.side();
    let out = send(from, writer, &sent);
    let Patience { idle, stall } = patience;
    let back = receive(to, first, reader, &received, stall);
    let both = async { tokio::try_join!(out, back) };
    let watched = watch(&sent, &received, idle);
    let fault = tokio::select! {
        ended = both => ended.err(),
        () = watched => {
            let idle = humantime::format_duration(idle);
            Some(Fault::new(Code::StreamCut, side, format!("nothing was said for {idle} (--stream-idle)")))
        }
    };
    Ended { sent: sent.load(Ordering::Relaxed), received: received.load(Ordering::Relaxed), fault }
}

async fn send(mut from: impl AsyncRead + Unpin, mut writer: Writer, count: &AtomicU64) -> Result<(), Fault> {
    let mut buffer = BytesMut::new();
    // A connection that says little keeps little: a thousand idle ones should not cost a thousand buffers.
    let mut room = SMALLEST_READ;
    loop {
        if let Err(over) = writer.ready().await {
            return over.into_fault();
        }
        buffer.reserve(room);
        let read = tokio::select! {
            read = from.read_buf(&mut buffer) => read,
            // The other direction may have ended before, and then nobody else sees it.
            over = writer.over() => return over.into_fault(),
        };
        let bytes = match read {
            Ok(0) => break,
            Ok(bytes) => bytes,
            Err(error) => {
                let fault = broke(writer.side(), &error);
                writer.cut(fault.clone());
                return Err(fault);
            }
        };
        count.fetch_add(bytes as u64, Ordering::Relaxed);
        room = if bytes >= room { (room * 2).min(LARGEST_READ) } else { (room / 2).max(SMALLEST_READ) };
        if let Err(over) = writer.send(buffer.split().freeze()).await {
            return over.into_fault();
        }
    }
    match writer.finish(HeaderMap::new()).await {
        Ok(()) => Ok(()),
        Err(over) => over.into_fault(),
    }
}

async fn receive(
    mut to: impl AsyncWrite + Unpin,
    first: Bytes,
    mut reader: Reader,
    count: &AtomicU64,
    stall: Duration,
) -> Result<(), Fault> {
    let side = reader.side();
    let broke = |error: io::Error| broke(side, &error);
    let late = |_| {
        let stall = humantime::format_duration(stall);
        let why =
            format!("the connection took nothing of what is written to it for {stall} (--send-timeout)");
        Fault::new(Code::SendTimeout, side, why)
    };
    let mut next = Some(first);
    while let Some(mut data) = next {
        while !data.is_empty() {
            let written = timeout(stall, to.write(&data)).await.map_err(late)?.map_err(broke)?;
            if written == 0 {
                return Err(broke(io::ErrorKind::WriteZero.into()));
            }
            count.fetch_add(written as u64, Ordering::Relaxed);
            data.advance(written);
        }
        timeout(stall, to.flush()).await.map_err(late)?.map_err(broke)?;
        next = match poll_fn(|cx| reader.poll_data(cx)).await {
            Some(frame) => Some(frame?.into_data().unwrap_or_default()),
            None => None,
        };
    }
    to.shutdown().await.map_err(broke)
}

/// Is done when neither count has moved for `idle`.
async fn watch(sent: &AtomicU64, received: &AtomicU64, idle: Duration) {
    let total = || sent.load(Ordering::Relaxed) + received.load(Ordering::Relaxed);
    loop {
        let before = total();
        tokio::time::sleep(idle).await;
        if total() == before {
            return;
        }
    }
}

impl Over {
    /// What it comes to: to be stopped is no fault.
    fn into_fault(self) -> Result<(), Fault> {
        match self {
            Over::Stopped => Ok(()),
            Over::Cut(fault) => Err(fault),
        }
    }
}

fn broke(side: Side, error: &io::Error) -> Fault {
    let code = if error.kind() == io::ErrorKind::TimedOut { Code::SendTimeout } else { Code::StreamCut };
    Fault::new(code, side, format!("the connection broke: {error}"))
}

/// Bytes read at once.
const SMALLEST_READ: usize = 1024;
const LARGEST_READ: usize = 64 * 1024;
