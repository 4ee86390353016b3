//! Session ids and tokens that are wrong, by address. Whether one is wrong is known only once it is looked up, so that a
//! right one is never refused for the wrong ones that came from its address; but an address that was wrong too often
//! looks up one at a time, with a pause after each that is wrong. Who is right at an id that was right here lately does
//! not wait with the others.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    proto::rendezvous::{
        admission::Visitor,
        rates::{Rates, network},
    },
    sync::Mutex,
    wire::{
        Code, Fault, Session, SessionId, Side,
        session::{Token, TokenHash},
    },
};

/// What is known of those who guess, and of ids that are right.
pub struct Guessing {
    wrong: Mutex<Rates>,
    lanes: Mutex<HashMap<Option<IpAddr>, Lane>>,
    right: Mutex<HashMap<SessionId, TokenHash>>,
}

/// Those of one address that wait for their look-up.
struct Lane {
    turn: Arc<Semaphore>,
    waiting: usize,
}

/// A place in a lane, and once it is its turn, the right to look up.
pub struct Turn<'a> {
    guessing: &'a Guessing,
    who: Option<IpAddr>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Guessing {
    /// Lets an address be wrong `limit` times in a minute before it has to wait.
    pub fn new(limit: usize) -> Self {
        Guessing {
            wrong: Mutex::new(Rates::new(u32::try_from(limit).unwrap_or(u32::MAX))),
            lanes: Mutex::new(HashMap::new()),
            right: Mutex::new(HashMap::new()),
        }
    }

    /// Waits until the visitor may look up `id`; nothing to wait for is no turn.
    ///
    /// # Errors
    /// When too many of its address wait already.
    pub async fn turn(&self, id: &SessionId, visitor: &Visitor) -> Result<Option<Turn<'_>>, Fault> {
        if self.wrong.lock().is_within(visitor.address, Instant::now()) || self.is_right(id, &visitor.tokens)
        {
            return Ok(None);
        }
        let who = network(visitor.address);
        let turn = {
            let mut lanes = self.lanes.lock();
            let new = || Lane { turn: Arc::new(Semaphore::new(1)), waiting: 0 };
            let lane = lanes.entry(who).or_insert_with(new);
            if lane.waiting >= MOST_WAITING {
                return Err(refused());
            }
            lane.waiting += 1;
            Arc::clone(&lane.turn)
        };
        let mut place = Turn { guessing: self, who, permit: None };
        // It is never closed.
        place.permit = turn.acquire_owned().await.ok();
        Ok(Some(place))
    }

    /// The visitor looked up `id` at its `turn`, and this is what there is.
    pub async fn looked_up(
        &self,
        id: &SessionId,
        visitor: &Visitor,
        session: Option<&Session>,
        turn: Option<Turn<'_>>,
    ) {
        let is_right = |session: &Session| shows(&session.token, &visitor.tokens);
        match session {
            Some(session) if is_right(session) => self.was_right(id, session),
            Some(_) => {}
            None => drop(self.right.lock().remove(id)),
        }
        if turn.is_some() && !session.is_some_and(is_right) {
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// `id` is that of `session`.
    pub fn was_right(&self, id: &SessionId, session: &Session) {
        let mut right = self.right.lock();
        if right.len() >= MOST_RIGHT && !right.contains_key(id) {
            let mut keep = false;
            right.retain(|_, _| {
                keep = !keep;
                keep
            });
        }
        right.insert(id.clone(), session.token.clone());
    }

    /// The visitor was wrong; what it is told instead of `fault` when that is too often.
    pub fn was_wrong(&self, visitor: &Visitor, fault: Fault) -> Fault {
        let now = Instant::now();
        let mut wrong = self.wrong.lock();
        let is_within = wrong.is_within(visitor.address, now);
        wrong.count(visitor.address, now);
        if is_within { fault } else { refused() }
    }

    fn is_right(&self, id: &SessionId, tokens: &[Token]) -> bool {
        self.right.lock().get(id).is_some_and(|token| shows(token, tokens))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut lanes = self.guessing.lanes.lock();
        let left = lanes.get_mut(&self.who).map(|lane| {
            lane.waiting -= 1;
            lane.waiting
        });
        if left == Some(0) {
            lanes.remove(&self.who);
        }
    }
}

/// Whether one of `tokens` is right, or there is none that could be wrong.
fn shows(right: &TokenHash, tokens: &[Token]) -> bool {
    tokens.is_empty() || tokens.iter().any(|token| right.is_of(token))
}

fn refused() -> Fault {
    let detail = "too many wrong session ids and tokens came from this address (--session-guesses)";
    Fault::new(Code::SessionGuesses, Side::Client, detail)
}

/// Look-ups of one address that wait at most.
const MOST_WAITING: usize = 1000;
/// Ids that are kept as right.
const MOST_RIGHT: usize = 8192;
/// How long an address waits after a wrong one when it was wrong too often.
const PAUSE: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::wire::session::SessionKind;

    fn visitor(address: &str, token: Option<&Token>) -> Visitor {
        Visitor { tokens: token.cloned().into_iter().collect(), address: address.parse().ok() }
    }

    fn unknown() -> Fault {
        Fault::new(Code::SessionUnknown, Side::Client, "no such session")
    }

    #[tokio::test]
    async fn an_address_that_was_wrong_too_often_looks_up_one_at_a_time_and_is_refused_when_it_is_wrong() {
        let guessing = Guessing::new(3);
        let (bad, id) = (visitor("192.0.2.1", None), SessionId::new([1; 16]));
        for _ in 0..3 {
            assert!(guessing.turn(&id, &bad).await.unwrap().is_none());
            assert_eq!(guessing.was_wrong(&bad, unknown()).code, Code::SessionUnknown);
        }
        let first = guessing.turn(&id, &bad).await.unwrap();
        assert!(first.is_some());
        let mut second = Box::pin(guessing.turn(&id, &bad));
        assert!((&mut second).now_or_never().is_none(), "one at a time");
        assert!(
            guessing.turn(&id, &visitor("192.0.2.2", None)).await.unwrap().is_none(),
            "others do not wait"
        );
        guessing.looked_up(&id, &bad, None, first).await;
        assert_eq!(guessing.was_wrong(&bad, unknown()).code, Code::SessionGuesses);
        let second = second.now_or_never().expect("its turn").unwrap();
        let mut waiting: Vec<_> = (1..MOST_WAITING).map(|_| Box::pin(guessing.turn(&id, &bad))).collect();
        assert!(waiting.iter_mut().all(|turn| turn.now_or_never().is_none()));
        assert!(guessing.turn(&id, &bad).await.is_err(), "what waits is bounded");
        drop((waiting, second));
        assert!(guessing.lanes.lock().is_empty(), "nothing is kept of those who waited");
    }

    #[tokio::test]
    async fn who_is_right_at_an_id_that_was_right_does_not_wait() {
        let guessing = Guessing::new(1);
        let (id, token, other) = (SessionId::new([1; 16]), Token::new([2; 16]), Token::new([3; 16]));
        let session = Session {
            v: crate::wire::message::VERSION,
            kind: SessionKind::Basic,
            token: token.hash(),
            ttl: 1000,
            cookie: 0,
            peer: None,
            host: None,
            guest: None,
        };
        let [host, guest, wrong] = [Some(&token), None, Some(&other)].map(|token| visitor("::1", token));
        guessing.was_wrong(&wrong, unknown());
        guessing.looked_up(&id, &host, Some(&session), None).await;
        assert!(
            guessing.turn(&id, &host).await.unwrap().is_none()
                && guessing.turn(&id, &guest).await.unwrap().is_none()
        );
        assert!(guessing.turn(&id, &wrong).await.unwrap().is_some(), "a wrong token does");
        guessing.looked_up(&id, &host, None, None).await;
        assert!(guessing.turn(&id, &host).await.unwrap().is_some(), "it is gone");
        for number in 0..3 * MOST_RIGHT as u128 {
            guessing.was_right(&SessionId::new(number.to_be_bytes()), &session);
        }
        assert!(guessing.right.lock().len() <= MOST_RIGHT);
    }
}
