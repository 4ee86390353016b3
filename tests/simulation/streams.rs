//! Streams: two sides of one, joined by a link that delays and loses any message, under a virtual clock.
//!
//! Whatever is lost, a receiver has a prefix of what was sent, and the whole of it when it is told so; nobody
//! sends more than it was allowed; and both sides come to an end within the time that silence takes.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::HeaderMap;
use relay::{
    proto::flow::{ALIVE, Due, FIRST_WINDOW, Flow, Heard, SILENT},
    wire::{Code, Fault, Side, Word},
};

use crate::chance::Chance;

/// One side: the machine, what it has yet to send, and what it has received.
struct End {
    flow: Flow,
    left: u64,
    sent: Vec<u64>,
    unread: Vec<u64>,
    received: Vec<u64>,
    complete: bool,
    delivered: bool,
    /// It has forgotten the stream: cut, or over in both directions.
    gone: bool,
    cut: bool,
    granted: u64,
    bytes: u64,
}

struct World {
    now: Instant,
    start: Instant,
    ends: [End; 2],
    /// Messages under way, by arrival; order between the same two is kept, as NATS keeps it.
    link: BTreeMap<(Instant, u64), (usize, Word)>,
    last: [Instant; 2],
    serial: u64,
    loss: u64,
    lost: u64,
    given_up: bool,
    window: u64,
    /// Who gives the stream up, and when.
    leaves: Option<(usize, Instant)>,
    chance: Chance,
}

impl World {
    fn new(seed: u64, loss: u64, both: bool) -> World {
        let mut chance = Chance::new(seed);
        let now = Instant::now();
        let size = |chance: &mut Chance| chance.between(0, 40) * 16 * 1024;
        let left = [size(&mut chance), if both { size(&mut chance) } else { 0 }];
        let uses = [true, both];
        let end = |own: usize, left: u64| {
            let mut flow = Flow::new(now);
            if uses[own] {
                flow.open_sending(FIRST_WINDOW);
            }
            if uses[1 - own] {
                flow.open_receiving(FIRST_WINDOW);
            }
            End {
                flow,
                left,
                sent: Vec::new(),
                unread: Vec::new(),
                received: Vec::new(),
                complete: false,
                delivered: !uses[own],
                gone: false,
                cut: false,
                granted: FIRST_WINDOW,
                bytes: 0,
            }
        };
        let ends = [end(0, left[0]), end(1, left[1])];
        let window = chance.pick(&[FIRST_WINDOW, 4 * FIRST_WINDOW, 64 * FIRST_WINDOW]);
        let last = [now, now];
        World {
            now,
            start: now,
            ends,
            link: BTreeMap::new(),
            last,
            serial: 0,
            loss,
            lost: 0,
            given_up: false,
            window,
            leaves: None,
            chance,
        }
    }

    /// One side gives the stream up while it runs.
    fn with_a_leaver(mut self) -> World {
        let who = self.chance.count(0, 1);
        let after = Duration::from_micros(self.chance.between(0, 500_000));
        self.leaves = Some((who, self.now + after));
        self.given_up = true;
        self
    }

    fn run(&mut self) {
        let limit = SILENT * 8;
        let mut tick = self.now + Duration::from_secs(1);
        while !self.ends.iter().all(|end| end.gone) {
            assert!(self.now - self.start < limit, "both sides come to an end");
            if self.leaves.is_some_and(|(_, at)| at <= self.now) {
                self.leave();
            }
            for own in 0..2 {
                self.write(own);
                self.read(own);
            }
            let next = self.link.first_key_value().map(|((at, _), _)| *at).unwrap_or(tick).min(tick);
            self.now = next.max(self.now);
            while let Some(entry) = self.link.first_entry() {
                if entry.key().0 > self.now {
                    break;
                }
                let (to, word) = entry.remove();
                self.hear(to, word);
            }
            if tick <= self.now {
                tick += Duration::from_secs(1);
                (0..2).for_each(|own| self.tick(own));
            }
        }
    }

    /// Sends what credit allows: each frame's bytes are its number, so that order can be checked.
    fn write(&mut self, own: usize) {
        while !self.ends[own].gone && self.ends[own].flow.is_sending() {
            let end = &mut self.ends[own];
            let size = end.left.min(end.flow.room()).min(16 * 1024);
            let word = if end.left == 0 {
                end.flow.finish(HeaderMap::new(), self.now)
            } else if size == 0 {
                return;
            } else {
                end.left -= size;
                end.sent.push(size);
                end.flow.send(Bytes::from(vec![0; usize::try_from(size).unwrap()]), self.now)
            };
            let allowed = self.ends[1 - own].granted;
            assert!(self.ends[own].flow.sent() <= allowed, "nobody sends more than it was allowed");
            self.say(own, word);
        }
    }

    fn leave(&mut self) {
        let Some((own, _)) = self.leaves.take() else { return };
        if !self.ends[own].gone {
            (self.ends[own].gone, self.ends[own].cut) = (true, true);
            let word = if own == 0 { Word::Cancel } else { Word::Cut((&fault()).into()) };
            self.say(own, word);
        }
    }

    /// Takes what was received, sometimes.
    fn read(&mut self, own: usize) {
        if self.ends[own].gone && self.ends[own].cut || self.chance.per_mille(300) {
            return;
        }
        for size in std::mem::take(&mut self.ends[own].unread) {
            let end = &mut self.ends[own];
            end.received.push(size);
            if let Some(word) = end.flow.read(size, self.window, self.now) {
                if let Word::Credit { bytes } = word {
                    end.granted = end.granted.max(bytes);
                }
                self.say(own, word);
            }
        }
    }

    fn say(&mut self, from: usize, word: Word) {
        if self.chance.per_mille(self.loss) {
            self.lost += 1;
            return;
        }
        let delay = Duration::from_micros(self.chance.between(100, 30_000));
        let to = 1 - from;
        self.last[to] = self.last[to].max(self.now + delay);
        self.serial += 1;
        self.link.insert((self.last[to], self.serial), (to, word));
    }

    fn hear(&mut self, own: usize, word: Word) {
        if self.ends[own].gone {
            // A process that does not know a stream says so to whoever says where it is.
            if let Word::Position { .. } = word {
                self.say(own, Word::Cut((&fault()).into()));
            }
            return;
        }
        let end = &mut self.ends[own];
        match end.flow.hear(word, self.now) {
            Heard::Nothing | Heard::Room | Heard::Stopped => {}
            Heard::Data(data) => {
                end.bytes += data.len() as u64;
                end.unread.push(data.len() as u64);
            }
            Heard::Last(data, _) => {
                end.bytes += data.len() as u64;
                end.complete = true;
                self.say(own, Word::Done);
            }
            Heard::Again(word) => self.say(own, word),
            Heard::Delivered => end.delivered = true,
            Heard::Cut(_) | Heard::Cancelled => (end.gone, end.cut) = (true, true),
            Heard::Broken(_) => {
                (end.gone, end.cut) = (true, true);
                self.say(own, Word::Cut((&fault()).into()));
            }
        }
        let end = &mut self.ends[own];
        end.gone |= end.flow.is_over();
    }

    fn tick(&mut self, own: usize) {
        if self.ends[own].gone {
            return;
        }
        let end = &mut self.ends[own];
        match end.flow.tick(self.window, self.now) {
            Due::Nothing => {}
            Due::Say(word) => {
                if let Word::Position { credit, .. } = word {
                    end.granted = end.granted.max(credit);
                }
                self.say(own, word);
            }
            Due::Silent => (self.ends[own].gone, self.ends[own].cut) = (true, true),
        }
    }

    fn check(&mut self) {
        for own in 0..2 {
            let unread = std::mem::take(&mut self.ends[own].unread);
            self.ends[own].received.extend(unread);
            let (sender, receiver) = (&self.ends[1 - own], &self.ends[own]);
            assert!(sender.sent.starts_with(&receiver.received), "a receiver has a prefix of what was sent");
            if receiver.complete {
                assert_eq!(receiver.received, sender.sent, "a complete body is all of it");
                assert_eq!(sender.left, 0);
            }
            if sender.delivered && !sender.cut && !sender.sent.is_empty() {
                assert!(receiver.complete, "what is said to have arrived has arrived");
            }
            if self.lost == 0 && !self.given_up {
                assert!(!receiver.cut && sender.delivered, "nothing breaks off when nothing is lost");
            }
        }
    }
}

fn fault() -> Fault {
    Fault::new(Code::StreamCut, Side::Upstream, "simulated")
}

fn each(loss: u64, both: bool, leaver: bool) {
    assert!(ALIVE * 3 < SILENT, "a side may miss a word or two of the other's being there");
    let one = std::env::var("RELAY_SIM_SEED").ok().map(|seed| seed.parse::<u64>().expect("a number"));
    let runs = std::env::var("RELAY_SIM_RUNS").ok().map_or(1000, |runs| runs.parse().expect("a number"));
    for seed in one.map_or(1..=runs, |seed| seed..=seed) {
        let run = std::panic::catch_unwind(|| {
            let mut world = World::new(seed, loss, both);
            if leaver {
                world = world.with_a_leaver();
            }
            world.run();
            world.check();
        });
        assert!(run.is_ok(), "loss {loss}, both ways {both}: repeat with RELAY_SIM_SEED={seed}");
    }
}

#[test]
fn a_stream_without_loss_arrives_whole() {
    each(0, false, false);
    each(0, true, false);
}

#[test]
fn a_stream_that_loses_any_message_is_whole_or_cut_and_never_anything_else() {
    each(20, false, false);
    each(20, true, false);
}

#[test]
fn a_stream_that_loses_most_messages_comes_to_an_end() {
    each(600, false, false);
    each(600, true, false);
}

#[test]
fn a_stream_that_one_side_gives_up_ends_on_the_other_though_the_word_is_lost() {
    for loss in [0, 100, 600] {
        each(loss, false, true);
        each(loss, true, true);
    }
}
