//! A message on its way from its sender to whoever receives it.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body_util::BodyExt;
use hyper::body::Body as _;
use tokio::time::timeout;

use super::{Delivered, Sending};
use crate::{
    front::{
        body::{self, Limits, Unread},
        http::Ask,
        incoming::Incoming,
        served::Told,
    },
    proto::flow::FRAME,
    stream::{
        Over, Writer,
        memory::{Budget, Share},
        pace::paused,
        ready::{self, Next},
    },
    wire::{Code, Fault, Side},
};

/// What is sent.
pub struct Body {
    body: Incoming,
    /// What came before there was a receiver.
    ahead: BytesMut,
    /// What was found behind parts that were read together.
    behind: Option<Next<Incoming>>,
    ended: bool,
    /// Whether the caller sends it only when it is asked to.
    expects: bool,
    limits: Limits,
    /// How long the receiver may take nothing.
    idle: Duration,
    budget: Budget,
    share: Option<Share>,
    taken: usize,
}

impl Body {
    /// The body of a request.
    pub fn new(body: Incoming, expects: bool, limits: Limits, idle: Duration, budget: &Budget) -> Self {
        let ended = body.is_end_stream();
        let (ahead, budget) = (BytesMut::new(), budget.clone());
        Body { body, ahead, behind: None, ended, expects, limits, idle, budget, share: None, taken: 0 }
    }

    /// Sends it to whoever comes; no more than `inline` bytes are read before.
    ///
    /// # Errors
    /// When nobody comes, what is known is not enough to say what arrived, or the caller breaks off.
    pub async fn deliver<A: Ask>(
        mut self,
        sending: &mut impl Sending,
        inline: usize,
        told: &mut Told<A>,
    ) -> Result<Delivered, Fault> {
        let announced = self.body.size_hint().lower();
        if announced > self.limits.max as u64 {
            return Err(body::too_large(self.limits.max));
        }
        if !self.ended && !self.expects {
            let room = self.body.size_hint().upper().map_or(inline, |most| most.min(inline as u64) as usize);
            self.share = Some(self.budget.take(room)?);
        }
        let matched = self.wait(sending, inline).await.map_err(|unread| told.unread(unread))?;
        let delivered = self.pass(matched, sending).await.map_err(|unread| told.unread(unread));
        told.served.bytes_in = self.taken as u64;
        if delivered.is_ok() && !self.ended {
            // To close a connection on a caller that is still sending would take the answer from it.
            tokio::spawn(self.linger());
        }
        delivered
    }

    /// Waits for a receiver. What comes meanwhile is read as far as there is room: that is how it is noticed
    /// that the caller goes away.
    async fn wait(&mut self, sending: &mut impl Sending, inline: usize) -> Result<Writer, Unread> {
        let mut matched = std::pin::pin!(sending.matched());
        loop {
            let reads = !self.ended && !self.expects && self.ahead.len() < inline;
            tokio::select! {
                biased;
                writer = &mut matched => return Ok(writer?),
                frame = self.next(), if reads => {
                    let data = self.read(frame, inline - self.ahead.len())?;
                    self.ahead.extend_from_slice(&data);
                }
            }
        }
    }

    /// Sends it.
    async fn pass(&mut self, writer: Writer, sending: &mut impl Sending) -> Result<Delivered, Unread> {
        let mut ended = std::pin::pin!(sending.ended());
        let passed = tokio::select! {
            biased;
            // The receiver has what it will have.
            ended = &mut ended => return Ok(ended?),
            passed = self.pump(writer) => passed,
        };
        match passed {
            Err(Broken::Caller(unread)) => return Err(unread),
            Ok(()) | Err(Broken::Receiver) => {}
        }
        match timeout(self.idle, ended).await {
            Ok(ended) => Ok(ended?),
            Err(_) => Err(stalled(self.idle).into()),
        }
    }

    async fn pump(&mut self, mut writer: Writer) -> Result<(), Broken> {
        let ahead = self.ahead.split().freeze();
        self.send(&mut writer, ahead).await?;
        self.share = None;
        // Who sends in chunks may do so as it comes to mind.
        let sized = self.body.size_hint().exact().is_some();
        let (idle, pause) = (self.idle, if sized { self.limits.pause } else { self.idle });
        while !self.ended {
            match timeout(idle, writer.ready()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(Broken::Receiver),
                Err(_) => return Err(Broken::Caller(stalled(idle).into())),
            }
            let frame = tokio::select! {
                biased;
                _ = writer.over() => return Err(Broken::Receiver),
                frame = timeout(pause, self.next()) => frame,
            };
            let read = match frame {
                Ok(frame) => self.read(frame, FRAME),
                Err(_) => Err(paused(pause).into()),
            };
            match read {
                Ok(data) => self.send(&mut writer, data).await?,
                Err(unread) => {
                    writer.cut(unread.fault.clone());
                    return Err(Broken::Caller(unread));
                }
            }
        }
        writer.finish(HeaderMap::new()).await.map_err(|_| Broken::Receiver)
    }

    async fn send(&self, writer: &mut Writer, data: Bytes) -> Result<(), Broken> {
        match timeout(self.idle, writer.send(data)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(Over::Stopped | Over::Cut(_))) => Err(Broken::Receiver),
            Err(_) => Err(Broken::Caller(stalled(self.idle).into())),
        }
    }

    async fn next(&mut self) -> Next<Incoming> {
        match self.behind.take() {
            Some(next) => next,
            None => self.body.frame().await,
        }
    }

    /// Takes what the caller sent, and small parts that are here with it, up to about `most` bytes.
    fn read(&mut self, frame: Next<Incoming>, most: usize) -> Result<Bytes, Unread> {
        let frame = frame.transpose().map_err(|error| body::unreadable(&error))?;
        // Trailers have no place in what is received.
        let data = frame.and_then(|frame| frame.into_data().ok());
        let Some(first) = data else {
            self.ended = true;
            return Ok(Bytes::new());
        };
        let (data, behind) = ready::gather(&mut self.body, first, most);
        self.ended = behind.is_none() && self.body.is_end_stream();
        self.behind = behind;
        self.taken += data.len();
        if self.taken > self.limits.max {
            return Err(body::too_large(self.limits.max).into());
        }
        Ok(data)
    }

    /// Reads on for a while, and forgets.
    async fn linger(mut self) {
        let reading = async { while let Ok(Some(Ok(_))) = timeout(LINGER_PAUSE, self.body.frame()).await {} };
        timeout(LINGER, reading).await.ok();
    }
}

/// Why a message was not sent to its end.
enum Broken {
    /// The caller broke a rule, or is gone.
    Caller(Unread),
    /// The receiver wants no more, or is gone.
    Receiver,
}

fn stalled(idle: Duration) -> Fault {
    let idle = humantime::format_duration(idle);
    Fault::new(
        Code::SessionCut,
        Side::Client,
        format!("the receiver took nothing for {idle} (--stream-idle)"),
    )
}

/// How long the caller is read after the answer at most, and how long it may pause then.
const LINGER: Duration = Duration::from_secs(30);
const LINGER_PAUSE: Duration = Duration::from_secs(5);
