//! Rendezvous sessions: their ids and tokens, the record of one in NATS, and what client agents tell each other
//! of those who wait in it.

use std::{fmt, net::IpAddr, str::FromStr};

use data_encoding::BASE64URL_NOPAD;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_bytes::ByteBuf;
use subtle::ConstantTimeEq;

use super::ids::{InvalidId, Name, RequestId};

/// A session's id: 128 random bits in the 22 letters of base64 for URLs, so that it is a token of a subject, a
/// key of a bucket and a segment of a path as it is.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(Name);

impl SessionId {
    /// The id that is made of these bits.
    pub fn new(random: [u8; 16]) -> Self {
        SessionId(BASE64URL_NOPAD.encode(&random).parse().expect("its letters are those of a name"))
    }

    /// The id as it stands in paths, subjects and keys.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The id as a token of a subject.
    pub fn name(&self) -> &Name {
        &self.0
    }
}

impl FromStr for SessionId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let name: Name = text.parse()?;
        match BASE64URL_NOPAD.decode(text.as_bytes()) {
            Ok(bits) if bits.len() == 16 => Ok(SessionId(name)),
            Ok(_) | Err(_) => Err(InvalidId::Name),
        }
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for SessionId {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for SessionId {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(|_| de::Error::custom("is not a session's id"))
    }
}

/// What makes its bearer the host of a session. It is never shown; NATS has its hash alone.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// The token that is made of these bits.
    pub fn new(random: [u8; 16]) -> Self {
        Token(BASE64URL_NOPAD.encode(&random))
    }

    /// What a caller says is one.
    pub fn said(text: &str) -> Self {
        Token(text.to_owned())
    }

    /// For the host alone.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What is kept of it.
    pub fn hash(&self) -> TokenHash {
        TokenHash(ByteBuf::from(digest(&SHA256, self.0.as_bytes()).as_ref()))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// The SHA-256 of a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TokenHash(ByteBuf);

impl TokenHash {
    /// Whether it is that of `token`; how long that takes does not tell how much of it is right.
    pub fn is_of(&self, token: &Token) -> bool {
        self.0.ct_eq(&token.hash().0).into()
    }
}

/// Who may be the guest of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SessionKind {
    /// Whoever knows its id.
    Basic,
    /// Only the address that the host has permitted.
    Secure,
}

impl SessionKind {
    /// As `X-Type` has it.
    pub fn as_str(self) -> &'static str {
        match self {
            SessionKind::Basic => "basic",
            SessionKind::Secure => "secure",
        }
    }
}

/// The two parts of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Has the token.
    Host,
    /// Has none.
    Guest,
}

impl Role {
    /// The other one.
    pub fn other(self) -> Role {
        match self {
            Role::Host => Role::Guest,
            Role::Guest => Role::Host,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Host => "host",
            Role::Guest => "guest",
        })
    }
}

/// A session, as the bucket has it. NATS forgets it when it has not been written for as long as it lasts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// Protocol version.
    pub v: u8,
    /// Who may be its guest.
    pub kind: SessionKind,
    /// The hash of the host's token.
    pub token: TokenHash,
    /// Milliseconds that it lasts without being used.
    pub ttl: u64,
    /// The second, since 1970, in which the host's cookie expires, as it was told.
    pub cookie: u64,
    /// The address that may be the guest of a secure one.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "address")]
    pub peer: Option<IpAddr>,
    /// Who received last as the host; whether it still does, it knows itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<RequestId>,
    /// Who received last as the guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest: Option<RequestId>,
}

impl Session {
    /// Who received last in this part.
    pub fn receiver(&self, role: Role) -> Option<&RequestId> {
        match role {
            Role::Host => self.host.as_ref(),
            Role::Guest => self.guest.as_ref(),
        }
    }
}

impl Session {
    /// The same, with this receiver.
    pub fn with_receiver(&self, role: Role, receiver: RequestId) -> Session {
        let session = self.clone();
        match role {
            Role::Host => Session { host: Some(receiver), ..session },
            Role::Guest => Session { guest: Some(receiver), ..session },
        }
    }
}

/// What those who wait in a session, or relay, tell each other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Meet {
    /// Protocol version.
    pub v: u8,
    /// The request it is said to.
    pub to: RequestId,
    /// The request that says it.
    pub from: RequestId,
    /// What is said.
    pub say: Say,
    /// The session, in an offer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    /// The part of whoever offers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// The content type of what is offered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<ByteBuf>,
    /// Its length, when that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<u64>,
    /// With which stream an offer is accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<RequestId>,
    /// Bytes that the receiver has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Whether they are all.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub whole: bool,
}

/// What one request tells another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Say {
    /// A sender has something for a receiver.
    Offer,
    /// The receiver takes it.
    Accept,
    /// The receiver is another sender's, or gone.
    Refuse,
    /// The sender has heard that it is taken, and sends.
    Begin,
    /// The sender does not want to any more.
    Withdraw,
    /// Is the receiver still there?
    Ask,
    /// It is.
    There,
    /// It is not; with what it has received, when it is known.
    Over,
}

/// What is told to all who wait in a session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct News {
    /// Protocol version.
    pub v: u8,
    /// The session.
    pub session: SessionId,
    /// What has become of it.
    pub state: SessionState,
    /// The revision of its record.
    pub revision: u64,
    /// A part of it that is waited in for something to receive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// By this request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receiver: Option<RequestId>,
}

/// What has become of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SessionState {
    /// It was used, so that it lasts anew.
    Used,
    /// It is no more.
    Gone,
}

impl Meet {
    /// A message that says no more than `say`.
    pub fn new(from: RequestId, to: RequestId, say: Say) -> Self {
        let v = super::message::VERSION;
        let (session, role, content_type, length, stream, bytes) = Default::default();
        Meet { v, to, from, say, session, role, content_type, length, stream, bytes, whole: false }
    }
}

/// An address as text: serde has other ideas where nobody is meant to read along.
mod address {
    use super::{Deserialize, Deserializer, IpAddr, Serializer, de};

    pub fn serialize<S: Serializer>(address: &Option<IpAddr>, s: S) -> Result<S::Ok, S::Error> {
        match address {
            Some(address) => s.collect_str(address),
            None => s.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<IpAddr>, D::Error> {
        let text = String::deserialize(d)?;
        text.parse().map(Some).map_err(|_| de::Error::custom("is not an address"))
    }
}

/// Where other requests have the name of their upstream, those of sessions have this.
pub fn upstream() -> Name {
    "_sessions".parse().expect("it is a name")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_128_bits_and_has_one_spelling() {
        let id = SessionId::new([0xff; 16]);
        assert_eq!(id.as_str(), "_____________________w");
        assert_eq!(id.as_str().parse::<SessionId>().unwrap(), id);
        for bad in ["", "a", "_____________________x", "______________________", "snfRhUdWQo6junaRzcIeUA=="] {
            assert!(bad.parse::<SessionId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_token_is_known_by_its_hash_and_never_shown() {
        let token = Token::new([7; 16]);
        assert!(token.hash().is_of(&Token::said(token.reveal())));
        assert!(!token.hash().is_of(&Token::said("")) && !token.hash().is_of(&Token::new([8; 16])));
        assert!(!format!("{token:?}").contains(token.reveal()));
    }
}
