//! What is to be published, gathered while there is more to come: one write to the server then has what many requests
//! have to say. What a write costs here, at the server and at whoever reads it is shared by all that is in it.

use std::{mem, sync::Arc};

use async_nats::Client;
use tokio::{
    sync::{Notify, oneshot},
    task::yield_now,
};

use super::{
    Full,
    batching::{Batches, Publication},
};
use crate::sync::{Mutex, MutexGuard};

/// What waits to be sent.
#[derive(Default)]
pub struct Outbox {
    queue: Mutex<Vec<Item>>,
    filled: Notify,
}

pub(super) enum Item {
    Publication(Publication),
    /// Somebody wants to know when all before it is on its way.
    Flush(oneshot::Sender<()>),
}

impl Outbox {
    /// Adds a publication.
    ///
    /// # Errors
    /// [`Full`] when too many wait.
    pub fn publish(&self, publication: Publication) -> Result<(), Full> {
        self.push(Item::Publication(publication), MAX_WAITING)
    }

    /// Waits until everything that was added is on its way to the server.
    pub async fn flush(&self) {
        let (flushed, done) = oneshot::channel();
        // There is always room for this, and it ends as well when nobody sends any more.
        self.push(Item::Flush(flushed), usize::MAX).ok();
        done.await.ok();
    }

    /// Sends all that comes, as long as it is polled.
    pub async fn run(self: Arc<Self>, client: Client) {
        let mut gathered = Vec::new();
        let mut batches = Batches::default();
        loop {
            self.filled.notified().await;
            self.gather().await;
            mem::swap(&mut gathered, &mut *self.queue());
            for item in batches.of(gathered.drain(..), client.max_payload()) {
                send(&client, item).await;
            }
        }
    }

    fn push(&self, item: Item, room: usize) -> Result<(), Full> {
        let mut queue = self.queue();
        if queue.len() >= room {
            return Err(Full);
        }
        queue.push(item);
        if queue.len() == 1 {
            self.filled.notify_one();
        }
        Ok(())
    }

    /// Waits while each turn of the runtime brings more: while there is nothing else to do, nothing waits.
    async fn gather(&self) {
        let mut before = 0;
        for _ in 0..MAX_TURNS {
            let now = self.queue().len();
            if now == before || now >= ENOUGH {
                return;
            }
            before = now;
            yield_now().await;
        }
    }

    fn queue(&self) -> MutexGuard<'_, Vec<Item>> {
        self.queue.lock()
    }
}

/// Hands an item to the client, and waits while its own queue is full. It takes all, unless the connection is closed
/// for good: how large a message may be was looked at before.
async fn send(client: &Client, item: Item) {
    match item {
        Item::Publication(Publication { subject, reply: Some(reply), payload, .. }) => {
            client.publish_with_reply(subject, reply, payload).await.ok();
        }
        Item::Publication(Publication { subject, reply: None, payload, .. }) => {
            client.publish(subject, payload).await.ok();
        }
        Item::Flush(flushed) => {
            let client = client.clone();
            // What comes next does not wait for the server.
            tokio::spawn(async move {
                client.flush().await.ok();
                flushed.send(()).ok();
            });
        }
    }
}

/// Publications that wait at most.
const MAX_WAITING: usize = 16 * 1024;
/// Turns that are waited for more, at most.
const MAX_TURNS: usize = 3;
/// As many are not waited with.
const ENOUGH: usize = 48;

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::FutureExt;

    use super::*;
    use crate::bus::Batching;

    fn publication() -> Publication {
        Publication { subject: "a".into(), reply: None, payload: Bytes::new(), batching: Batching::Never }
    }

    #[tokio::test]
    async fn it_waits_while_there_is_more_to_come_and_no_longer() {
        let outbox = Arc::new(Outbox::default());
        let publish = |count: usize| {
            for _ in 0..count {
                outbox.publish(publication()).expect("there is room");
            }
        };
        publish(1);
        let writer = async {
            tokio::task::yield_now().await;
            publish(1);
        };
        tokio::join!(biased; outbox.gather(), writer);
        assert_eq!(outbox.queue().len(), 2, "the second came in the turn that was waited");
        publish(ENOUGH);
        outbox.gather().now_or_never().expect("enough is there");
    }

    #[tokio::test]
    async fn more_than_it_holds_is_refused() {
        let outbox = Outbox::default();
        let publish = || outbox.publish(publication());
        assert!((0..MAX_WAITING).all(|_| publish().is_ok()));
        assert_eq!(publish(), Err(Full));
    }
}
