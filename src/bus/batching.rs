//! Puts publications that go the same way at the same time into one message.

use std::vec::Drain;

use async_nats::Subject;
use bytes::Bytes;

use super::outbox::Item;
use crate::wire::{Batch, ids::cut_last, subjects};

/// A message to be published.
pub struct Publication {
    /// Where to.
    pub subject: Subject,
    /// Where an answer goes.
    pub reply: Option<Subject>,
    /// The bytes.
    pub payload: Bytes,
    /// With what it may share a message.
    pub batching: Batching,
}

/// With what a publication may share a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Batching {
    /// With nothing.
    Never,
    /// With what has the same subject, and whose replies go to the same process about the same upstream.
    Subject {
        /// Publications in one message at most.
        most: usize,
    },
    /// With what goes to the same process about the same upstream: its subject differs in nothing but the last token.
    Addressee,
}

/// Makes batches of what was gathered. Its memory is used again and again.
#[derive(Default)]
pub struct Batches {
    items: Vec<Item>,
    /// Those of the items that more may go into.
    open: Vec<Open>,
}

/// A publication that more may go into.
struct Open {
    /// Its place among the items.
    at: usize,
    /// How much of its subject has to be the same.
    same: usize,
    /// Publications in it at most.
    most: usize,
    /// When there are two or more: what it says, and its reply subject.
    batch: Option<(Batch, String)>,
}

impl Batches {
    /// What is to be sent for `gathered` to a server that takes `max_payload` bytes in one message. What goes alone is
    /// overtaken by nothing that was published after it: a process hears in its order what is said to it.
    pub fn of(&mut self, gathered: impl Iterator<Item = Item>, max_payload: usize) -> Drain<'_, Item> {
        for item in gathered {
            match item {
                Item::Publication(publication) if max_payload >= ROOM => self.add(publication),
                Item::Publication(_) | Item::Flush(_) => self.add_alone(item),
            }
        }
        self.close();
        self.items.drain(..)
    }

    fn add(&mut self, publication: Publication) {
        let (same, most) = match publication.batching {
            Batching::Never => return self.add_alone(Item::Publication(publication)),
            _ if publication.payload.len() > LONGEST => {
                return self.add_alone(Item::Publication(publication));
            }
            Batching::Subject { most } => (publication.subject.len(), most),
            Batching::Addressee => {
                (cut_last(&publication.subject).map_or(0, |(start, _)| start.len() + 1), MOST)
            }
        };
        for open in &mut self.open {
            if let Item::Publication(first) = &self.items[open.at]
                && open.same == same
                && first.subject.get(..same) == publication.subject.get(..same)
                && open.take(first, &publication)
            {
                return;
            }
        }
        if self.open.len() == MOST_OPEN {
            self.close();
        }
        self.open.push(Open { at: self.items.len(), same, most, batch: None });
        self.items.push(Item::Publication(publication));
    }

    fn add_alone(&mut self, item: Item) {
        self.close();
        self.items.push(item);
    }

    fn close(&mut self) {
        for Open { at, batch, .. } in self.open.drain(..) {
            if let (Item::Publication(first), Some((batch, reply))) = (&mut self.items[at], batch) {
                first.payload = batch.finish();
                first.reply = Some(reply.into());
            }
        }
    }
}

impl Open {
    /// Takes another publication; false when there is no room for it.
    fn take(&mut self, first: &Publication, next: &Publication) -> bool {
        let (Some(first_reply), Some(next_reply)) = (&first.reply, &next.reply) else { return false };
        if self.most < 2 {
            return false;
        }
        let (batch, reply) = self.batch.get_or_insert_with(|| {
            // It grows as it is filled: a thousand of them may wait for a server that is away.
            let mut batch = Batch::with_room(2 * (first.payload.len() + next.payload.len()));
            batch.add(&first.payload);
            (batch, first_reply.to_string())
        });
        if batch.count() >= self.most || batch.length_with(&next.payload) > ROOM {
            return false;
        }
        batch.add(&next.payload);
        subjects::also(reply, next_reply);
        true
    }
}

/// Publications in one message at most.
const MOST: usize = 32;
/// A publication that shares a message, in bytes at most.
const LONGEST: usize = 4 * 1024;
/// A message with several publications, in bytes at most: two always fit.
const ROOM: usize = 16 * 1024;
/// Batches that are filled at a time, at most.
const MOST_OPEN: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::batch;

    #[test]
    fn requests_for_one_upstream_share_messages() {
        let sent = sent((0..5).map(|n| request("hello", n)));
        assert_eq!(sent, ["req.hello ack.c.1.hello.0-1-2-3: 0 1 2 3", "req.hello ack.c.1.hello.4: 4"]);
    }

    #[test]
    fn replies_share_a_message_when_they_go_to_one_process_about_one_upstream() {
        let sent = sent([
            reply("c.1.hello", 0),
            reply("c.2.hello", 1),
            reply("c.1.other", 2),
            reply("c.1.hello", 3),
            reply("c.2.hello", 4),
        ]);
        let expected = [
            "resp.c.1.hello.0 resp.u.1.hello.0-3: 0 3",
            "resp.c.2.hello.1 resp.u.1.hello.1-4: 1 4",
            "resp.c.1.other.2 resp.u.1.hello.2: 2",
        ];
        assert_eq!(sent, expected);
    }

    #[test]
    fn what_goes_alone_is_not_overtaken() {
        let alone = |n| Publication { batching: Batching::Never, ..reply("c.1.hello", n) };
        let sent = sent([
            reply("c.1.hello", 0),
            reply("c.1.hello", 1),
            alone(2),
            reply("c.1.hello", 3),
            reply("c.1.hello", 4),
        ]);
        let expected = [
            "resp.c.1.hello.0 resp.u.1.hello.0-1: 0 1",
            "resp.c.1.hello.2 resp.u.1.hello.2: 2",
            "resp.c.1.hello.3 resp.u.1.hello.3-4: 3 4",
        ];
        assert_eq!(sent, expected);
    }

    #[test]
    fn what_is_large_goes_alone_and_a_message_stays_small() {
        let sized = |n, size| Publication { payload: vec![b'x'; size].into(), ..reply("c.1.hello", n) };
        let large =
            Batches::default().of([item(sized(0, LONGEST + 1)), item(sized(1, 1))].into_iter(), ROOM).count();
        assert_eq!(large, 2);
        let mut batches = Batches::default();
        let sent: Vec<_> = batches.of((0..8).map(|n| item(sized(n, LONGEST))), ROOM).collect();
        let sizes: Vec<_> = sent.iter().map(|item| publication_of(item).payload.len()).collect();
        assert!(sent.len() > 2 && sizes.iter().all(|&size| size <= ROOM), "{sizes:?}");
    }

    #[test]
    fn many_ways_at_once_and_a_server_of_small_messages_lose_nothing() {
        let many = || (0..100).map(|n| item(reply(&format!("c.{}.hello", n % 50), n)));
        let numbers = |sent: Drain<'_, Item>| {
            let mut numbers = Vec::new();
            for item in sent {
                let payload = &publication_of(&item).payload;
                batch::each(payload, |_, message| {
                    numbers.push(String::from_utf8_lossy(&message).into_owned())
                })
                .unwrap();
            }
            numbers.sort_by_key(|number| number.parse::<u64>().unwrap());
            numbers
        };
        let all: Vec<_> = (0..100).map(|n| n.to_string()).collect();
        assert_eq!(numbers(Batches::default().of(many(), ROOM)), all);
        let mut batches = Batches::default();
        let small = batches.of(many(), ROOM - 1);
        assert_eq!(small.len(), 100);
        assert_eq!(numbers(small), all);
    }

    fn request(upstream: &str, n: u64) -> Publication {
        Publication {
            subject: format!("req.{upstream}").into(),
            reply: Some(format!("ack.c.1.{upstream}.{n:x}").into()),
            payload: n.to_string().into(),
            batching: Batching::Subject { most: 4 },
        }
    }

    fn reply(to: &str, n: u64) -> Publication {
        Publication {
            subject: format!("resp.{to}.{n:x}").into(),
            reply: Some(format!("resp.u.1.hello.{n:x}").into()),
            payload: n.to_string().into(),
            batching: Batching::Addressee,
        }
    }

    fn item(publication: Publication) -> Item {
        Item::Publication(publication)
    }

    fn publication_of(item: &Item) -> &Publication {
        let Item::Publication(publication) = item else { panic!("nothing was flushed") };
        publication
    }

    /// What is sent: subject, reply subject and what is in it.
    fn sent(publications: impl IntoIterator<Item = Publication>) -> Vec<String> {
        let show = |item: Item| {
            let Publication { subject, reply, payload, .. } = publication_of(&item);
            let mut shown = format!("{subject} {}:", reply.as_deref().unwrap_or_default());
            batch::each(payload, |_, message| shown += &format!(" {}", String::from_utf8_lossy(&message)))
                .unwrap();
            shown
        };
        Batches::default().of(publications.into_iter().map(item), ROOM).map(show).collect()
    }
}
