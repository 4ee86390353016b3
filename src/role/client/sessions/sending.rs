//! A request that sends.

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
    front::rendezvous::{Cookie, Delivered, Parcel, Sending as Front},
    proto::{
        Machine,
        flow::FIRST_WINDOW,
        rendezvous::{
            admission::Visitor,
            life::Life,
            sender::{Command, Input, Outcome, Sender},
        },
    },
    store::sessions::RecordError,
    stream::Writer,
    wire::{Code, Fault, RequestId, Session, SessionId, Side, session::Role},
};

/// A request that waits for a receiver, and then sends.
pub struct Sending {
    sessions: Arc<Sessions>,
    id: SessionId,
    role: Role,
    waiting: Waiting,
    news: Subscription,
    machine: Sender,
    cookie: Option<Cookie>,
    /// The session is being looked for.
    looking: Option<Looking>,
    writer: Option<Writer>,
    outcome: Option<Outcome>,
}

impl Sending {
    /// Begins to wait.
    pub async fn begin(
        sessions: &Arc<Sessions>,
        id: &SessionId,
        visitor: &Visitor,
        parcel: Parcel,
        wait: Duration,
    ) -> Result<Sending, Fault> {
        let until = until(wait);
        let mut waiting = Waiting::new(sessions, id)?;
        // Before the record is read: who is not in it yet will be in the news.
        let news = sessions.news(id).await?;
        let Used { session, revision, role, cookie } = sessions.enter(id, visitor, Purpose::Send).await?;
        waiting.entered();
        sessions.announce(id, crate::wire::SessionState::Used, revision, None);
        let now = Instant::now();
        let life = Life::new(Duration::from_millis(session.ttl), revision, now);
        let machine = Sender::new(
            waiting.own().clone(),
            id.clone(),
            role,
            parcel.content_type,
            parcel.length,
            until,
            life,
            session.receiver(role.other()).cloned(),
            now,
        );
        Ok(Sending {
            sessions: Arc::clone(sessions),
            id: id.clone(),
            role,
            waiting,
            news,
            machine,
            cookie,
            looking: None,
            writer: None,
            outcome: None,
        })
    }

    /// Lets one thing happen.
    async fn turn(&mut self) -> Result<(), Fault> {
        while let Some(command) = self.machine.poll_command() {
            self.perform(command)?;
        }
        if self.outcome.is_some() || self.writer.is_some() {
            return Ok(());
        }
        let due = self.machine.poll_timeout().unwrap_or_else(Instant::now);
        let matched = self.machine.is_matched();
        let input = tokio::select! {
            biased;
            heard = self.waiting.heard() => Some(match heard {
                Heard::Meet(said) => Input::Meet(said),
                Heard::Nobody => Input::Nobody,
            }),
            Some(message) = self.news.next() => self.sessions.read_news(&self.id, &message).map(Input::News),
            found = async { self.looking.as_mut().expect("it is looked for").await }, if self.looking.is_some() => {
                self.looking = None;
                Some(looked(found, self.role))
            }
            () = sleep_until(due.into()) => None,
            () = self.sessions.core.stopping(), if !matched => return Err(Sessions::stopping()),
        };
        let now = Instant::now();
        match input {
            Some(input) => self.machine.handle(input, now),
            None => self.machine.handle_timeout(now),
        }
        Ok(())
    }

    fn perform(&mut self, command: Command) -> Result<(), Fault> {
        let sessions = &self.sessions;
        match command {
            Command::Tell(said) => sessions.tell(&said),
            Command::Look => {
                let (sessions, id) = (Arc::clone(sessions), self.id.clone());
                self.looking = Some(Box::pin(async move { sessions.look(&id).await }));
            }
            Command::Expire(revision) => {
                let (sessions, id) = (Arc::clone(sessions), self.id.clone());
                self.looking = Some(Box::pin(async move { sessions.expire(&id, revision).await }));
            }
            Command::Begin { stream: to, begin } => {
                self.waiting.met();
                let stream = sessions.asker.streams().open(self.waiting.own())?;
                stream.connect(&to);
                let writer = stream.writer(FIRST_WINDOW);
                stream.settle();
                sessions.tell(&begin);
                self.writer = Some(writer);
            }
            Command::End(outcome) => self.outcome = Some(outcome),
        }
        Ok(())
    }

    fn failed(outcome: Outcome) -> Fault {
        match outcome {
            Outcome::TimedOut => timed_out(),
            Outcome::Gone => gone(),
            Outcome::Delivered { .. } | Outcome::Lost => {
                let detail = "the receiver's client agent was lost, so what it has received is not known";
                Fault::new(Code::SessionCut, Side::Client, detail)
            }
        }
    }
}

impl Front for Sending {
    async fn matched(&mut self) -> Result<Writer, Fault> {
        loop {
            self.turn().await?;
            if let Some(writer) = self.writer.take() {
                return Ok(writer);
            }
            if let Some(outcome) = self.outcome {
                return Err(Self::failed(outcome));
            }
        }
    }

    async fn ended(&mut self) -> Result<Delivered, Fault> {
        loop {
            self.turn().await?;
            match self.outcome {
                Some(Outcome::Delivered { bytes, whole }) => return Ok(Delivered { bytes, whole }),
                Some(outcome) => return Err(Self::failed(outcome)),
                None => {}
            }
        }
    }

    fn cookie(&self) -> Option<Cookie> {
        self.cookie.clone()
    }
}

fn looked(found: Found, role: Role) -> Input {
    let receiver = |session: &Session| -> Option<RequestId> { session.receiver(role.other()).cloned() };
    match found {
        Ok(found) => Input::Looked(found.map(|(revision, session)| (revision, receiver(&session)))),
        Err(RecordError::Conflict | RecordError::Away(_) | RecordError::Unknown(_)) => Input::LookedInVain,
    }
}
