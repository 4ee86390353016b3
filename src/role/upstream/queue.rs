//! A member's place in its queue group: taken, kept, and left without losing a message.

use std::{pin::pin, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};

use super::member::Member;
use crate::{bus::Subscription, proto::serving::Input, role::shell::Shell};

/// Whether a member is to be in its queue group, and whether it is.
#[derive(Default)]
pub(super) struct Queue {
    wish: watch::Sender<Wish>,
    place: watch::Sender<Place>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Wish {
    member: bool,
    /// Raised when it is to subscribe in another way.
    round: u64,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Place {
    #[default]
    Out,
    In,
    Leaving,
}

impl Queue {
    /// Whether it is to be there: it comes, or leaves and comes back when it is wanted again.
    pub fn want(&self, wanted: bool) {
        self.wish.send_modify(|wish| wish.member = wanted);
    }

    /// Subscribes anew: with another weight, or to another subject.
    pub fn subscribe_anew(&self) {
        self.wish.send_modify(|wish| wish.round += 1);
    }

    /// Waits until it has left.
    pub async fn is_left(&self) {
        self.is(Place::Out).await;
    }

    async fn is(&self, place: Place) {
        // The sender is here.
        self.place.subscribe().wait_for(|now| *now == place).await.ok();
    }
}

impl Member {
    /// Subscribes to the requests, once for each part of its weight: NATS picks one of all subscriptions at random.
    ///
    /// # Errors
    /// When the connection to NATS is closed for good.
    pub(super) async fn subscribe(&self) -> anyhow::Result<Vec<Subscription>> {
        let setup = self.setup();
        let subjects = &self.core.subjects;
        let mut taken = Vec::new();
        for _ in 0..setup.settings.weight {
            let subject = match &setup.settings.variant {
                Some(variant) => subjects.req_variant(&self.name, variant),
                None => subjects.req(&self.name),
            };
            taken.push(self.core.bus.join(subject).await?);
        }
        Ok(taken)
    }

    /// Takes a place in the queue group and says so when it is true: others would send requests into the void.
    pub(super) fn join(&self, turn: u64) {
        self.queue.want(true);
        let Some(member) = self.myself() else { return };
        tokio::spawn(async move {
            member.queue.is(Place::In).await;
            member.core.round_trip().await;
            member.feed(Input::Joined { turn });
        });
    }

    /// Leaves its place for a moment: it takes one again when the connection is there anew.
    pub(super) async fn step_aside(&self) {
        self.queue.want(false);
        timeout(LONGEST_ROUND_TRIP, self.queue.is_left()).await.ok();
    }

    /// Takes what the queue group has for it, while it is to be there. `first` are the subscriptions that it
    /// has already.
    pub(super) async fn attend(self: Arc<Self>, first: Option<Vec<Subscription>>) {
        let mut wish = self.queue.wish.subscribe();
        let mut subscriptions = first;
        let mut readers = JoinSet::new();
        // The sender is in what this task holds: waiting for it can't fail.
        while wish.wait_for(|wish| wish.member).await.is_ok() {
            let round = wish.borrow().round;
            // It fails when the connection is closed for good, and then the process ends.
            let Ok(taken) = (match subscriptions.take() {
                Some(taken) => Ok(taken),
                None => self.subscribe().await,
            }) else {
                return;
            };
            let stay = watch::Sender::new(true);
            for requests in taken {
                readers.spawn(Arc::clone(&self).read_requests(requests, stay.subscribe()));
            }
            self.queue.place.send_replace(Place::In);
            wish.wait_for(|wish| !wish.member || wish.round != round).await.ok();
            if wish.borrow().member {
                // The new ones first: somebody must be there all the time.
                subscriptions = self.subscribe().await.ok();
                self.core.round_trip().await;
                stay.send_replace(false);
                continue;
            }
            self.queue.place.send_replace(Place::Leaving);
            stay.send_replace(false);
            while readers.join_next().await.is_some() {}
            self.queue.place.send_replace(Place::Out);
        }
    }

    async fn read_requests(self: Arc<Self>, mut requests: Subscription, mut stay: watch::Receiver<bool>) {
        // Without NATS nothing is on its way.
        if self.take_until(&mut requests, stay.wait_for(|stay| !*stay)).await && self.core.bus.is_connected()
        {
            self.leave(requests).await;
        }
    }

    /// Takes requests until `end`; false when no more can come.
    async fn take_until(&self, requests: &mut Subscription, end: impl Future) -> bool {
        let mut end = pin!(end);
        loop {
            tokio::select! {
                biased;
                message = requests.next() => match message {
                    Some(message) => self.on_request(&message),
                    None => return false,
                },
                _ = &mut end => return true,
            }
        }
    }

    /// Leaves the queue group without losing what NATS has already sent: whoever asked would wait in vain, and may not
    /// ask anybody else.
    async fn leave(&self, mut requests: Subscription) {
        requests.stop().await;
        let round_trip = timeout(LONGEST_ROUND_TRIP, self.core.round_trip());
        if self.take_until(&mut requests, round_trip).await && self.core.bus.is_connected() {
            requests.end().await;
            // Which it does at once, unless NATS goes away in this moment.
            self.take_until(&mut requests, sleep(LONGEST_ROUND_TRIP)).await;
        }
    }
}

/// How long to wait for NATS when leaving.
const LONGEST_ROUND_TRIP: Duration = Duration::from_secs(2);
