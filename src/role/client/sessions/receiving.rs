//! A request that receives.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::time::sleep_until;

use super::{
    Sessions, gone,
    records::{Found, Looking, Purpose, Used},
    timed_out, until,
    waiting::{Heard, Waiting},
};
use crate::{
    bus::Subscription,
    front::rendezvous::Received,
    proto::{
        Machine,
        flow::FIRST_WINDOW,
        rendezvous::{
            admission::Visitor,
            life::Life,
            receiver::{Command, Input, Kept, Outcome, Receiver},
        },
    },
    store::sessions::RecordError,
    stream::Reader,
    wire::{
        Fault, Meet, RequestId, SessionId, SessionState,
        session::{Role, Say, upstream},
    },
};

/// A request on its way to a sender.
struct Receiving<'a> {
    sessions: &'a Arc<Sessions>,
    id: &'a SessionId,
    role: Role,
    revision: u64,
    own: RequestId,
    machine: Receiver,
    /// Where what was accepted comes in.
    stream: Option<(RequestId, Reader)>,
    /// The session is being looked for.
    looking: Option<Looking>,
}

/// Waits for something to receive.
pub async fn receive(
    sessions: &Arc<Sessions>,
    id: &SessionId,
    visitor: &Visitor,
    wait: Duration,
) -> Result<Received, Fault> {
    let until = until(wait);
    let mut waiting = Waiting::new(sessions, id)?;
    // Before the record is written: whoever reads it there may have news.
    let news = sessions.news(id).await?;
    let used = sessions.enter(id, visitor, Purpose::Receive(&mut waiting)).await?;
    let Used { session, revision, role, cookie } = used;
    waiting.entered();
    let life = Life::new(Duration::from_millis(session.ttl), revision, Instant::now());
    let own = waiting.own().clone();
    let mut receiving = Receiving {
        sessions,
        id,
        role,
        revision,
        machine: Receiver::new(own.clone(), id.clone(), role, until, life),
        own,
        stream: None,
        looking: None,
    };
    let offer = receiving.run(&mut waiting, news).await?;
    let Some((_, reader)) = receiving.stream.take() else { return Err(gone()) };
    let sender = offer.from.clone();
    let (own, table) = waiting.receives(sender.clone());
    let teller = Arc::clone(sessions);
    let receipt = Box::new(move |bytes, whole| {
        table.keep(own.number(), Kept::Received { from: sender.clone(), bytes, whole });
        teller.tell(&Meet { bytes: Some(bytes), whole, ..Meet::new(own, sender, Say::Over) });
    });
    let content_type = offer.content_type.map(|kind| kind.into_vec().into());
    Ok(Received { content_type, length: offer.length, reader, receipt, cookie })
}

impl Receiving<'_> {
    async fn run(&mut self, waiting: &mut Waiting, mut news: Subscription) -> Result<Meet, Fault> {
        let stopping = self.sessions.core.stopping();
        let mut stopping = std::pin::pin!(stopping);
        loop {
            while let Some(command) = self.machine.poll_command() {
                if let Some(outcome) = self.perform(command)? {
                    return match outcome {
                        Outcome::Matched(offer) => Ok(*offer),
                        Outcome::TimedOut => Err(timed_out()),
                        Outcome::Gone => Err(gone()),
                    };
                }
            }
            let due = self.machine.poll_timeout().unwrap_or_else(Instant::now);
            let input = tokio::select! {
                biased;
                heard = waiting.heard() => Some(match heard {
                    Heard::Meet(said) => Input::Meet(said),
                    Heard::Nobody => Input::Nobody,
                }),
                Some(message) = news.next() => {
                    self.sessions.read_news(self.id, &message).map(|news| {
                        self.revision = self.revision.max(news.revision);
                        Input::News(news)
                    })
                }
                found = async { self.looking.as_mut().expect("it is looked for").await }, if self.looking.is_some() => {
                    self.looking = None;
                    Some(looked(found))
                }
                () = sleep_until(due.into()) => None,
                () = &mut stopping => return Err(Sessions::stopping()),
            };
            let now = Instant::now();
            match input {
                Some(input) => self.machine.handle(input, now),
                None => self.machine.handle_timeout(now),
            }
        }
    }

    fn perform(&mut self, command: Command) -> Result<Option<Outcome>, Fault> {
        let sessions = self.sessions;
        match command {
            Command::Tell(said) => sessions.tell(&said),
            Command::Accept(offer) => {
                let stream = sessions.asker.streams().open(&sessions.asker.mint(&upstream()))?;
                stream.connect(&offer.from);
                let reader = stream.reader(FIRST_WINDOW);
                stream.settle();
                self.stream = Some((stream.id().clone(), reader));
                self.accept(&offer);
            }
            Command::AcceptAgain(offer) => self.accept(&offer),
            Command::Release => self.stream = None,
            Command::Announce => {
                let receiver = Some((self.role, &self.own));
                sessions.announce(self.id, SessionState::Used, self.revision, receiver);
            }
            Command::Look => {
                let (sessions, id) = (Arc::clone(sessions), self.id.clone());
                self.looking = Some(Box::pin(async move { sessions.look(&id).await }));
            }
            Command::Expire(revision) => {
                let (sessions, id) = (Arc::clone(sessions), self.id.clone());
                self.looking = Some(Box::pin(async move { sessions.expire(&id, revision).await }));
            }
            Command::End(outcome) => return Ok(Some(outcome)),
        }
        Ok(None)
    }

    fn accept(&self, offer: &Meet) {
        let stream = self.stream.as_ref().map(|(id, _)| id.clone());
        let accept = Meet::new(self.own.clone(), offer.from.clone(), Say::Accept);
        self.sessions.tell(&Meet { stream, ..accept });
    }
}

fn looked(found: Found) -> Input {
    match found {
        Ok(found) => Input::Looked(found.map(|(revision, _)| revision)),
        Err(RecordError::Conflict | RecordError::Away(_) | RecordError::Unknown(_)) => Input::LookedInVain,
    }
}
