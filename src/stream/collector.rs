//! A whole body in memory: the one place where bodies are collected, for all who need one whole.
//!
//! Memory is taken from a [`Hold`] before a part is read: for what has arrived and for what one read may bring. While
//! the sender is waited for, no more is held than what has arrived, and what its buffer has doubled to. Not counted is
//! the part that is being copied, one for each thread.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame};
use tokio::time::timeout;

use super::{
    memory::{Hold, owned},
    pace::{Pace, paused},
};
use crate::wire::Fault;

/// What a body is held to.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Bytes of it at most.
    pub most: usize,
    /// Bytes that its sender says it has, if it says so; no more than a hint.
    pub announced: Option<u64>,
    /// How long the caller that sends it may pause, and take for [`super::pace::LEAST`] bytes; without one, the source
    /// sees to that.
    pub pause: Option<Duration>,
}

/// Why a body is not collected.
#[derive(Debug, PartialEq)]
pub enum Uncollected<E> {
    /// It is larger than [`Rules::most`].
    TooLarge,
    /// There is no memory for it, or its sender is slower than [`Rules::pause`] lets it be.
    Refused(Fault),
    /// It broke off.
    Broken(E),
}

impl Uncollected<Fault> {
    /// The fault, which is `too_large` when the body is.
    pub fn fault(self, too_large: impl FnOnce() -> Fault) -> Fault {
        match self {
            Uncollected::TooLarge => too_large(),
            Uncollected::Refused(fault) | Uncollected::Broken(fault) => fault,
        }
    }
}

/// A body that is collected, with what it takes of the memory for bodies.
pub struct Collected<H> {
    /// Its bytes.
    pub bytes: Bytes,
    /// Its trailers.
    pub trailers: HeaderMap,
    /// What it takes.
    pub hold: H,
}

impl<H: Hold> Collected<H> {
    /// The bytes, which own what they take.
    pub fn into_bytes(self) -> Bytes {
        owned(self.bytes, self.hold)
    }
}

/// Collects one body.
pub struct Collector<H> {
    rules: Rules,
    hold: H,
    /// Bytes that are held beside the body: a head, trailers.
    beside: usize,
    /// All of the body while it is one part.
    first: Bytes,
    /// All of it, once there were several.
    rest: Vec<u8>,
    trailers: HeaderMap,
    ended: bool,
}

impl<H: Hold> Collector<H> {
    /// Nothing yet of a body that is held to `rules`, in the memory of `hold`.
    pub fn new(rules: Rules, hold: H) -> Self {
        Collector {
            rules,
            hold,
            beside: 0,
            first: Bytes::new(),
            rest: Vec::new(),
            trailers: HeaderMap::new(),
            ended: false,
        }
    }

    /// Counts `bytes` more than the body has, as long as it is held.
    pub fn beside(&mut self, bytes: usize) {
        self.beside += bytes;
    }

    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.first.len().max(self.rest.len())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether all of the body is here.
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    /// Collects all that `body` has.
    ///
    /// # Errors
    /// Why it does not.
    pub async fn all<B>(mut self, body: &mut B) -> Result<Collected<H>, Uncollected<B::Error>>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        if self.rules.announced.is_some_and(|bytes| bytes > self.rules.most as u64) {
            return Err(Uncollected::TooLarge);
        }
        let pause = self.rules.pause;
        let mut pace = pause.map(|pause| Pace::new(pause, self.rules.announced));
        while !self.ended {
            if self.now(body)? {
                continue;
            }
            self.settle()?;
            let (asked, before) = (Instant::now(), self.len());
            let part = poll_fn(|cx| self.poll_part(body, cx));
            match pause {
                Some(pause) => match timeout(pause, part).await {
                    Ok(part) => part?,
                    Err(_) => return Err(Uncollected::Refused(paused(pause))),
                },
                None => part.await?,
            }
            let brought = self.len() - before;
            match &mut pace {
                Some(pace) if !self.ended => {
                    pace.keeps(brought, asked.elapsed()).map_err(Uncollected::Refused)?;
                }
                Some(_) | None => {}
            }
        }
        self.collected()
    }

    /// Takes what arrives of `body` within `patience`, up to its end.
    ///
    /// # Errors
    /// Why the body is not collected.
    pub async fn within<B>(&mut self, body: &mut B, patience: Duration) -> Result<(), Uncollected<B::Error>>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let parts = async {
            while !self.ended {
                poll_fn(|cx| self.poll_part(body, cx)).await?;
            }
            Ok(())
        };
        timeout(patience, parts).await.unwrap_or(Ok(()))
    }

    /// Takes a part if one is here; says whether one was, or the end.
    ///
    /// # Errors
    /// Why the body is not collected.
    pub fn now<B>(&mut self, body: &mut B) -> Result<bool, Uncollected<B::Error>>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        match self.poll_part(body, &mut Context::from_waker(Waker::noop())) {
            Poll::Ready(part) => part.map(|()| true),
            Poll::Pending => Ok(false),
        }
    }

    /// Takes the next part.
    fn poll_part<B>(&mut self, body: &mut B, cx: &mut Context<'_>) -> Poll<Result<(), Uncollected<B::Error>>>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        self.take_room(self.len() + self.coming())?;
        let part = Pin::new(&mut *body).poll_frame(cx).map(|frame| self.take(frame));
        self.ended |= body.is_end_stream();
        self.take_room(0)?;
        part
    }

    /// Adds a part that is here already.
    ///
    /// # Errors
    /// When it is too much.
    pub fn push<E>(&mut self, data: Bytes) -> Result<(), Uncollected<E>> {
        let length = self.len() + data.len();
        if length > self.rules.most {
            return Err(Uncollected::TooLarge);
        }
        if self.is_empty() {
            self.first = data;
            return self.take_room(0);
        }
        self.reserve(length)?;
        self.rest.extend_from_slice(&std::mem::take(&mut self.first));
        self.rest.extend_from_slice(&data);
        Ok(())
    }

    /// What there is now: all of the body, or its beginning.
    ///
    /// # Errors
    /// When there is no memory for what is beside it.
    pub fn collected<E>(mut self) -> Result<Collected<H>, Uncollected<E>> {
        self.take_room(0)?;
        let bytes = if self.rest.is_empty() { self.first } else { self.rest.into() };
        Ok(Collected { bytes, trailers: self.trailers, hold: self.hold })
    }

    fn take<E>(&mut self, frame: Option<Result<Frame<Bytes>, E>>) -> Result<(), Uncollected<E>> {
        match frame.transpose().map_err(Uncollected::Broken)?.map(Frame::into_data) {
            None => self.ended = true,
            Some(Ok(data)) => self.push(data)?,
            Some(Err(frame)) => {
                self.trailers = frame.into_trailers().unwrap_or_default();
                let fields = self.trailers.iter();
                self.beside += fields.map(|(name, value)| name.as_str().len() + value.len()).sum::<usize>();
                self.ended = true;
            }
        }
        Ok(())
    }

    /// What one read may bring.
    fn coming(&self) -> usize {
        let left = self.rules.announced.map_or(u64::MAX, |bytes| bytes.saturating_sub(self.len() as u64));
        let most = (self.rules.most - self.len()).saturating_add(1).min(READ);
        usize::try_from(left).unwrap_or(usize::MAX).min(most)
    }

    /// A small part may keep alive all that was read with it: while more is waited for, it is copied.
    fn settle<E>(&mut self) -> Result<(), Uncollected<E>> {
        if self.first.is_empty() || self.first.len() >= READ {
            return Ok(());
        }
        self.reserve(self.first.len())?;
        self.rest.extend_from_slice(&std::mem::take(&mut self.first));
        Ok(())
    }

    /// Makes room for `length` bytes in one piece: twice of what there was, but no more than was announced or may be.
    fn reserve<E>(&mut self, length: usize) -> Result<(), Uncollected<E>> {
        let capacity = self.rest.capacity();
        if length <= capacity {
            return Ok(());
        }
        let announced = self.rules.announced.and_then(|bytes| usize::try_from(bytes).ok());
        let most = announced.unwrap_or(usize::MAX).min(self.rules.most).max(length);
        let wanted = if capacity == 0 { (4 * length).max(LEAST) } else { 2 * capacity };
        let room = wanted.clamp(length, most);
        self.take_room(room)?;
        self.rest.reserve_exact(room - self.rest.len());
        Ok(())
    }

    /// Holds what is here, and no less than room for `bytes` of the body.
    fn take_room<E>(&mut self, bytes: usize) -> Result<(), Uncollected<E>> {
        let here = self.rest.capacity().max(self.first.len());
        self.hold.resize(self.beside + here.max(bytes)).map_err(Uncollected::Refused)
    }
}

/// What one read brings at most: as much as a connection reads at once, or one frame of a stream.
const READ: usize = 128 * 1024;
/// Bytes that are taken for the beginning of a body that comes in parts.
const LEAST: usize = 4 * 1024;

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::{stream::memory::Budget, wire::Code};

    /// What a body does when it is asked for more.
    enum Step {
        Part(usize),
        /// It has nothing, once.
        Wait,
        Trailers,
        Break,
        /// It has nothing, and never will have.
        Stall,
    }

    struct Steps<'a> {
        steps: VecDeque<Step>,
        bytes: u8,
        budget: &'a Budget,
        /// The most that was held while it was waited for, beside twice of what had come.
        slack: usize,
        came: usize,
        /// Whether it has more than was announced.
        lies: bool,
    }

    impl<'a> Steps<'a> {
        fn new(budget: &'a Budget, steps: impl IntoIterator<Item = Step>) -> Self {
            Steps { steps: steps.into_iter().collect(), bytes: 0, budget, slack: 0, came: 0, lies: false }
        }
    }

    impl Body for Steps<'_> {
        type Data = Bytes;
        type Error = &'static str;

        fn poll_frame(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
            let body = self.get_mut();
            let Some(step) = body.steps.pop_front() else { return Poll::Ready(None) };
            match step {
                Step::Part(size) => {
                    let room = body.budget.taken() >= body.came + size;
                    assert!(room || body.lies, "there is room before it is read");
                    body.came += size;
                    body.bytes = body.bytes.wrapping_add(1);
                    Poll::Ready(Some(Ok(Frame::data(vec![body.bytes; size].into()))))
                }
                Step::Wait => {
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
                Step::Trailers => {
                    let trailers =
                        HeaderMap::from_iter([(http::header::ETAG, "x".repeat(100).parse().unwrap())]);
                    Poll::Ready(Some(Ok(Frame::trailers(trailers))))
                }
                Step::Break => Poll::Ready(Some(Err("broken"))),
                Step::Stall => {
                    body.slack = body.budget.taken();
                    body.steps.push_front(Step::Stall);
                    Poll::Pending
                }
            }
        }
    }

    fn rules(most: usize, announced: Option<u64>) -> Rules {
        Rules { most, announced, pause: None }
    }

    async fn collect(
        steps: impl IntoIterator<Item = Step>,
        limit: usize,
        rules: Rules,
    ) -> Result<(Vec<u8>, usize), Uncollected<&'static str>> {
        let budget = Budget::new(limit);
        let mut body = Steps::new(&budget, steps);
        body.lies = rules.announced == Some(0);
        let collected = Collector::new(rules, budget.share()).all(&mut body).await;
        let collected = collected.map(Collected::into_bytes);
        let taken = budget.taken();
        let bytes = collected.map(|bytes| (bytes.to_vec(), taken));
        assert_eq!(budget.taken(), 0, "all is given back");
        bytes
    }

    #[tokio::test]
    async fn parts_are_collected_in_their_order_whatever_is_announced() {
        for announced in [None, Some(0), Some(220_008), Some(1 << 30)] {
            let steps = [1, 7, 0, 100_000, 120_000].map(Step::Part);
            let steps = steps.into_iter().flat_map(|part| [Step::Wait, part]);
            let most = if announced == Some(1 << 30) { 1 << 31 } else { 220_008 };
            let (bytes, taken) = collect(steps, 1 << 20, rules(most, announced)).await.unwrap();
            let expected = [&vec![1; 1][..], &[2; 7], &vec![4; 100_000], &vec![5; 120_000]].concat();
            assert!(bytes == expected, "{announced:?}");
            assert!((220_008..=440_016).contains(&taken), "{taken}");
        }
        let (bytes, taken) = collect([Step::Part(10)], 1 << 20, rules(10, None)).await.unwrap();
        assert_eq!((bytes.len(), taken), (10, 10));
        let (bytes, _) = collect([], 0, rules(0, Some(0))).await.unwrap();
        assert!(bytes.is_empty());
    }

    #[tokio::test]
    async fn a_body_without_room_is_refused_before_it_is_read() {
        let steps = || (0..100).map(|_| Step::Part(10_000));
        for announced in [None, Some(1_000_000)] {
            let refused = collect(steps(), 1_000_000 - 1, rules(1_000_000, announced)).await.unwrap_err();
            let Uncollected::Refused(fault) = refused else { panic!("{refused:?}") };
            assert_eq!(fault.code, Code::ClientFull);
        }
        // What it never reads, it cannot have read too soon.
        let refused = collect([Step::Part(1)], 0, rules(1, None)).await.unwrap_err();
        assert!(matches!(refused, Uncollected::Refused(_)));
    }

    #[tokio::test]
    async fn a_body_over_its_limit_is_too_large_as_soon_as_that_is_known() {
        let refused = collect([Step::Break], 1 << 20, rules(10, Some(11))).await.unwrap_err();
        assert_eq!(refused, Uncollected::TooLarge, "it is not read at all");
        let steps = [Step::Part(6), Step::Part(5), Step::Break];
        assert_eq!(collect(steps, 1 << 20, rules(10, None)).await.unwrap_err(), Uncollected::TooLarge);
        // A limit that no body reaches takes no memory.
        let (bytes, taken) =
            collect([Step::Part(6), Step::Part(5)], 1 << 20, rules(usize::MAX, None)).await.unwrap();
        assert_eq!((bytes.len(), taken), (11, LEAST));
        assert_eq!(
            collect([Step::Break], 1 << 20, rules(10, None)).await.unwrap_err(),
            Uncollected::Broken("broken")
        );
    }

    #[tokio::test]
    async fn a_sender_that_stalls_or_trickles_is_refused_and_holds_little_meanwhile() {
        let budget = Budget::new(1 << 30);
        let pause = Duration::from_millis(50);
        for (sent, announced) in [(1, None), (1, Some(1 << 24)), (100_000, Some(1 << 24)), (0, Some(5))] {
            let mut body = Steps::new(&budget, [Step::Part(sent), Step::Stall]);
            let rules = Rules { most: 1 << 24, announced, pause: Some(pause) };
            let stalled = Collector::new(rules, budget.share()).all(&mut body).await;
            let Err(Uncollected::Refused(fault)) = stalled else { panic!("it stalls") };
            assert_eq!(fault.code, Code::BodyTimeout);
            // While it was polled, one read more.
            assert!(body.slack <= 4 * sent + LEAST + READ, "{sent}: {}", body.slack);
            assert_eq!(budget.taken(), 0);
        }
        let trickle = (0..100_000).flat_map(|_| [Step::Wait, Step::Part(1)]);
        let rules = Rules { most: 1 << 24, announced: None, pause: Some(Duration::from_nanos(1)) };
        let slow = Collector::new(rules, budget.share()).all(&mut Steps::new(&budget, trickle)).await;
        let Err(Uncollected::Refused(fault)) = slow else { panic!("it trickles") };
        assert_eq!(fault.code, Code::BodyTimeout);
    }

    #[tokio::test]
    async fn what_is_held_beside_a_body_counts_and_a_caller_that_goes_away_gives_all_back() {
        let budget = Budget::new(1 << 20);
        let mut collector = Collector::new(rules(1 << 20, None), budget.share());
        collector.beside(5000);
        let mut body = Steps::new(&budget, [Step::Part(10), Step::Trailers]);
        let collected = collector.all(&mut body).await.ok().unwrap();
        assert!(collected.trailers.len() == 1 && budget.taken() > 5100, "{}", budget.taken());
        drop(collected);
        assert_eq!(budget.taken(), 0);

        let mut body = Steps::new(&budget, [Step::Part(70_000), Step::Part(70_000), Step::Stall]);
        let mut collecting = Box::pin(Collector::new(rules(1 << 20, None), budget.share()).all(&mut body));
        assert!(futures_util::FutureExt::now_or_never(&mut collecting).is_none());
        assert!(budget.taken() >= 140_000);
        drop(collecting);
        assert_eq!(budget.taken(), 0);
    }
}
