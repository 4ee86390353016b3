//! The records of sessions in NATS: made, used, changed and deleted. Each use reads the record, decides and writes
//! it where nobody else has written meanwhile; that makes it last anew.

use std::{
    net::IpAddr,
    pin::Pin,
    time::{Duration, SystemTime},
};

use super::{Sessions, Waiting, away, gone, unknown};
use crate::{
    front::rendezvous::Cookie,
    proto::rendezvous::admission::{self, Visitor},
    store::sessions::RecordError,
    wire::{
        Code, Fault, Session, SessionId, SessionState, Side,
        message::{VERSION, millis},
        session::{Role, SessionKind, Token},
    },
};

/// A session that was used.
pub struct Used {
    /// As it is now.
    pub session: Session,
    /// The revision of its record.
    pub revision: u64,
    /// The caller's part.
    pub role: Role,
    /// The host's cookie, when it is time for a new one.
    pub cookie: Option<Cookie>,
}

/// A session and its revision, when it is there.
pub type Found = Result<Option<(u64, Session)>, RecordError>;
/// Looks for a session.
pub type Looking = Pin<Box<dyn Future<Output = Found> + Send>>;

/// What for.
pub enum Purpose<'a> {
    /// To let this address be the guest.
    Permit(IpAddr),
    /// To send.
    Send,
    /// To receive, with this request.
    Receive(&'a mut Waiting),
}

impl Sessions {
    /// Makes a session.
    pub(super) async fn make(
        &self,
        kind: SessionKind,
        visitor: &Visitor,
    ) -> Result<(SessionId, Cookie), Fault> {
        self.check()?;
        self.count_made(visitor)?;
        let records = self.records.count().await.map_err(told)?;
        if records >= self.max_sessions as u64 {
            let detail = format!("there are {records} sessions, the limit of --max-sessions");
            return Err(Fault::new(Code::SessionsFull, Side::Client, detail));
        }
        let (id, token) = (SessionId::new(self.random()?), Token::new(self.random()?));
        let expires = seconds() + self.ttl.as_secs();
        let session = Session {
            v: VERSION,
            kind,
            token: token.hash(),
            ttl: millis(self.ttl),
            cookie: expires,
            peer: None,
            host: None,
            guest: None,
        };
        self.guessing.was_right(&id, &session);
        // The caller does not know the id of a session that may have been made.
        self.records.put(&id, session, 0).await.map_err(unused)?;
        Ok((id, Cookie { token, expires }))
    }

    /// Uses the session, which makes it last anew.
    pub(super) async fn enter(
        &self,
        id: &SessionId,
        visitor: &Visitor,
        mut purpose: Purpose<'_>,
    ) -> Result<Used, Fault> {
        for turn in 0..TRIES {
            let found = self.read(id, visitor).await;
            // Deleted between reading and writing.
            let was_there = |fault: Fault| if fault.code == Code::SessionUnknown { gone() } else { fault };
            let (session, revision) = if turn == 0 { found? } else { found.map_err(was_there)? };
            let decided = self.decide(&session, visitor, &mut purpose).await;
            let (role, mut next) = decided.map_err(|fault| self.judge(visitor, fault))?;
            if turn > 0 && matches!(purpose, Purpose::Send) {
                // It was written a moment ago, by somebody else: it lasts anew.
                return Ok(Used { session, revision, role, cookie: None });
            }
            let ttl = Duration::from_millis(session.ttl);
            let cookie = (role == Role::Host).then(|| renewed(&session, visitor, ttl)).flatten();
            next.cookie = cookie.as_ref().map_or(session.cookie, |cookie| cookie.expires);
            match self.records.put(id, next.clone(), revision).await {
                Ok(revision) => return Ok(Used { session: next, revision, role, cookie }),
                // Somebody else used it meanwhile.
                Err(RecordError::Conflict) => self.step_back(turn).await,
                Err(error) if matches!(purpose, Purpose::Permit(_)) => return Err(told(error)),
                // Whether it lasts anew or not: nothing was sent.
                Err(error) => return Err(unused(error)),
            }
        }
        Err(told(RecordError::Conflict))
    }

    async fn decide(
        &self,
        session: &Session,
        visitor: &Visitor,
        purpose: &mut Purpose<'_>,
    ) -> Result<(Role, Session), Fault> {
        match purpose {
            Purpose::Permit(guest) => {
                visitor.must_be_host(session)?;
                Ok((Role::Host, admission::permit(session, *guest)?))
            }
            Purpose::Send => Ok((visitor.role(session)?, session.clone())),
            Purpose::Receive(waiting) => {
                let role = visitor.role(session)?;
                let other = session.receiver(role).filter(|other| *other != waiting.own());
                if let Some(other) = other
                    && self.is_there(other, waiting).await
                {
                    let detail = format!("the {role} of this session receives already");
                    return Err(Fault::new(Code::SessionBusy, Side::Client, detail));
                }
                Ok((role, session.with_receiver(role, waiting.own().clone())))
            }
        }
    }

    /// Ends the session.
    pub(super) async fn end(&self, id: &SessionId, visitor: &Visitor) -> Result<(), Fault> {
        for turn in 0..TRIES {
            let (session, revision) = self.read(id, visitor).await?;
            visitor.must_be_host(&session).map_err(|fault| self.judge(visitor, fault))?;
            match self.records.delete(id, revision).await {
                Ok(revision) => {
                    self.announce(id, SessionState::Gone, revision, None);
                    return Ok(());
                }
                Err(RecordError::Conflict) => self.step_back(turn).await,
                Err(error) => return Err(told(error)),
            }
        }
        Err(told(RecordError::Conflict))
    }

    /// Deletes a revision that has expired, and returns what is there then: a request may use it this very moment.
    pub(super) async fn expire(&self, id: &SessionId, revision: u64) -> Found {
        match self.records.delete(id, revision).await {
            Ok(_) => {
                self.announce(id, SessionState::Gone, revision, None);
                Ok(None)
            }
            Err(RecordError::Conflict) => self.look(id).await,
            Err(error) => Err(error),
        }
    }

    /// The record, for whoever waits already: he knows the id.
    pub(super) async fn look(&self, id: &SessionId) -> Found {
        self.records.get(id).await
    }

    /// Lets others write first, for a moment that is nobody else's.
    async fn step_back(&self, turn: u32) {
        let chance = self.random().map_or(0, |bits| u64::from(bits[0]));
        tokio::time::sleep(Duration::from_micros(chance * u64::from(turn + 1) * 10)).await;
    }

    async fn read(&self, id: &SessionId, visitor: &Visitor) -> Result<(Session, u64), Fault> {
        let turn = self.guessing.turn(id, visitor).await?;
        let found = self.look(id).await.map_err(told)?;
        self.guessing.looked_up(id, visitor, found.as_ref().map(|(_, session)| session), turn).await;
        match found {
            Some((revision, session)) => Ok((session, revision)),
            None => Err(self.guessing.was_wrong(visitor, unknown())),
        }
    }

    /// A wrong token may be a guess; a guest that is not permitted guesses nothing.
    fn judge(&self, visitor: &Visitor, fault: Fault) -> Fault {
        if fault.code == Code::SessionDenied && !visitor.tokens.is_empty() {
            return self.guessing.was_wrong(visitor, fault);
        }
        fault
    }
}

/// The host's cookie, when it expires before the session has lasted half as long as it does.
fn renewed(session: &Session, visitor: &Visitor, ttl: Duration) -> Option<Cookie> {
    let now = seconds();
    if session.cookie > now + ttl.as_secs() / 2 {
        return None;
    }
    let token = visitor.tokens.iter().find(|token| session.token.is_of(token))?;
    Some(Cookie { token: token.clone(), expires: now + ttl.as_secs() })
}

fn told(error: RecordError) -> Fault {
    match error {
        RecordError::Conflict => away("too many use the session at once"),
        RecordError::Away(why) => away(why),
        RecordError::Unknown(why) => {
            let detail = format!("it is not known whether the session was changed or deleted: {why}");
            Fault::new(Code::SessionUnconfirmed, Side::Client, detail)
        }
    }
}

/// The fault of what may be done anew, whether it was done or not.
fn unused(error: RecordError) -> Fault {
    match error {
        RecordError::Unknown(why) => away(why),
        error => told(error),
    }
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// How often a record is written again that somebody else writes at the same time.
const TRIES: u32 = 20;
