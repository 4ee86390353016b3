//! Who may do what in a session: decided from its record and from what the caller shows.

use std::net::IpAddr;

use crate::wire::{
    Code, Fault, Side,
    session::{Role, Session, SessionKind, Token},
};

/// What a caller shows of itself.
#[derive(Debug, Clone, Default)]
pub struct Visitor {
    /// Every token it has a cookie with. One that is right makes it the host.
    pub tokens: Vec<Token>,
    /// Its address, as far as it can be believed.
    pub address: Option<IpAddr>,
}

impl Visitor {
    /// Its part in `session`.
    ///
    /// # Errors
    /// When its token is wrong, or it may not be the guest.
    pub fn role(&self, session: &Session) -> Result<Role, Fault> {
        // All are compared, so that the time does not tell which was right.
        let right = self.tokens.iter().filter(|token| session.token.is_of(token)).count();
        if right > 0 {
            return Ok(Role::Host);
        }
        if !self.tokens.is_empty() {
            return Err(denied("the token is not this session's"));
        }
        match session.kind {
            SessionKind::Basic => Ok(Role::Guest),
            SessionKind::Secure if session.peer.is_some() && session.peer == self.address => Ok(Role::Guest),
            SessionKind::Secure if session.peer.is_none() => {
                Err(denied("the host of this secure session has not permitted a guest yet (X-Peer-Address)"))
            }
            SessionKind::Secure => {
                Err(denied("the host of this secure session has permitted another address"))
            }
        }
    }

    /// Nothing, when it is the host.
    ///
    /// # Errors
    /// When it is not.
    pub fn must_be_host(&self, session: &Session) -> Result<(), Fault> {
        match self.tokens.is_empty() {
            true => Err(denied("only the host, who has the token, may do this")),
            false => self.role(session).map(drop),
        }
    }
}

/// `session`, with a guest permitted.
///
/// # Errors
/// When everybody is permitted already.
pub fn permit(session: &Session, peer: IpAddr) -> Result<Session, Fault> {
    match session.kind {
        SessionKind::Secure => Ok(Session { peer: Some(peer.to_canonical()), ..session.clone() }),
        SessionKind::Basic => {
            let detail =
                "X-Peer-Address is for secure sessions: this one is basic, and anybody may be its guest";
            Err(Fault::new(Code::SessionHeader, Side::Client, detail))
        }
    }
}

fn denied(detail: &'static str) -> Fault {
    Fault::new(Code::SessionDenied, Side::Client, detail)
}
