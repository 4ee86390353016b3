use std::time::{Duration, Instant};

use super::{
    admission::{Visitor, permit},
    life::Life,
    rates::Rates,
    receiver::{self, Kept, Receiver},
    sender::{self, Sender},
};
use crate::{
    proto::Machine,
    wire::{
        Code, Meet, News, ProcessId, RequestId, SessionState,
        message::VERSION,
        session::{Role, Say, Session, SessionId, SessionKind, Token, upstream},
    },
};

#[test]
fn the_token_makes_the_host_and_a_wrong_one_nobody() {
    let session = session(SessionKind::Basic);
    let visitor = |tokens: &[u8]| Visitor {
        tokens: tokens.iter().map(|bits| Token::new([*bits; 16])).collect(),
        address: None,
    };
    assert_eq!(visitor(&[1]).role(&session), Ok(Role::Host));
    assert_eq!(visitor(&[2, 1]).role(&session), Ok(Role::Host), "a browser may have another one as well");
    assert_eq!(visitor(&[]).role(&session), Ok(Role::Guest));
    assert_eq!(visitor(&[2]).role(&session).unwrap_err().code, Code::SessionDenied);
    assert!(visitor(&[1]).must_be_host(&session).is_ok());
    assert!(visitor(&[2]).must_be_host(&session).is_err() && visitor(&[]).must_be_host(&session).is_err());
}

#[test]
fn only_the_permitted_address_is_the_guest_of_a_secure_session() {
    let at = |address: &str| Visitor { tokens: Vec::new(), address: address.parse().ok() };
    let secure = session(SessionKind::Secure);
    assert!(at("192.0.2.1").role(&secure).is_err(), "nobody is permitted yet");
    assert!(at("unknown").role(&secure).is_err());
    let secure = permit(&secure, "::ffff:192.0.2.1".parse().unwrap()).unwrap();
    assert_eq!(at("192.0.2.1").role(&secure), Ok(Role::Guest));
    assert!(at("192.0.2.2").role(&secure).is_err() && at("unknown").role(&secure).is_err());
    assert_eq!(
        permit(&session(SessionKind::Basic), "192.0.2.1".parse().unwrap()).unwrap_err().code,
        Code::SessionHeader
    );
}

#[test]
fn an_address_that_guesses_is_held_up_and_others_are_not() {
    let start = Instant::now();
    let mut guesses = Rates::new(6);
    let bad = "192.0.2.1".parse().ok();
    for _ in 0..6 {
        assert!(guesses.is_within(bad, start));
        guesses.count(bad, start);
    }
    assert!(!guesses.is_within(bad, start));
    assert!(guesses.is_within("192.0.2.2".parse().ok(), start) && guesses.is_within(None, start));
    assert!(!guesses.is_within(bad, start + Duration::from_secs(9)));
    assert!(guesses.is_within(bad, start + Duration::from_secs(11)));
}

#[test]
fn a_thousand_times_more_addresses_than_are_kept_take_no_more_room_and_do_not_stop_anybody() {
    let now = Instant::now();
    let mut guesses = Rates::new(2);
    for address in 0..100_000_u32 {
        guesses.count(Some(std::net::Ipv4Addr::from_bits(address).into()), now);
    }
    let bad: Option<std::net::IpAddr> = "2001:db8::1".parse().ok();
    guesses.count(bad, now);
    guesses.count("2001:db8::2".parse().ok(), now);
    assert!(!guesses.is_within(bad, now), "they are one network");
}

#[test]
fn whoever_comes_first_they_meet() {
    let now = Instant::now();
    // The receiver is there.
    let (mut receiver, mut sender) = (a_receiver(now), a_sender(Some(id(1)), now));
    assert_eq!(receiver.poll_command(), Some(receiver::Command::Announce));
    let offer = told(&mut sender);
    assert_eq!(offer.say, Say::Offer);
    matches(&mut receiver, &mut sender, offer, now);
    // The sender is there.
    let (mut receiver, mut sender) = (a_receiver(now), a_sender(None, now));
    assert_eq!(sender.poll_command(), None);
    sender.handle(sender::Input::News(news(Some(id(1)), 8)), now);
    let offer = told(&mut sender);
    receiver.poll_command();
    matches(&mut receiver, &mut sender, offer, now);
}

#[test]
fn a_second_sender_is_refused_and_waits_for_the_next_receiver() {
    let now = Instant::now();
    let (mut receiver, mut sender) = (a_receiver(now), a_sender(Some(id(1)), now));
    receiver.poll_command();
    let offer = told(&mut sender);
    let other = Meet { from: id(3), ..offer.clone() };
    receiver.handle(receiver::Input::Meet(other), now);
    assert!(matches!(receiver.poll_command(), Some(receiver::Command::Accept(_))));
    receiver.handle(receiver::Input::Meet(offer), now);
    let Some(receiver::Command::Tell(refuse)) = receiver.poll_command() else { panic!("it says so") };
    assert_eq!((refuse.say, &refuse.to), (Say::Refuse, &id(2)));
    sender.handle(sender::Input::Meet(refuse), now);
    assert_eq!(sender.poll_command(), None);
    sender.handle(sender::Input::News(news(Some(id(4)), 9)), now);
    assert_eq!(told(&mut sender).to, id(4));
}

#[test]
fn a_sender_that_leaves_between_offer_and_begin_costs_the_receiver_nothing() {
    let now = Instant::now();
    for goodbye in [receiver::Input::Nobody, receiver::Input::Meet(Meet::new(id(2), id(1), Say::Withdraw))] {
        let (mut receiver, mut sender) = (a_receiver(now), a_sender(Some(id(1)), now));
        receiver.poll_command();
        receiver.handle(receiver::Input::Meet(told(&mut sender)), now);
        receiver.poll_command();
        receiver.handle(goodbye, now);
        assert_eq!(receiver.poll_command(), Some(receiver::Command::Release));
        assert_eq!(receiver.poll_command(), Some(receiver::Command::Announce));
        receiver.handle(receiver::Input::Meet(Meet { from: id(3), ..sender_offer(now) }), now);
        assert!(matches!(receiver.poll_command(), Some(receiver::Command::Accept(_))));
    }
}

#[test]
fn what_is_lost_is_said_again_and_what_is_accepted_too_late_is_withdrawn() {
    let now = Instant::now();
    let mut sender = a_sender(Some(id(1)), now);
    let offer = told(&mut sender);
    for _ in 0..2 {
        let later = sender.poll_timeout().unwrap();
        sender.handle_timeout(later);
    }
    let again: Vec<_> = std::iter::from_fn(|| sender.poll_command()).collect();
    assert!(again.contains(&sender::Command::Tell(offer)), "{again:?}");
    sender.handle_timeout(now + WAIT);
    assert_eq!(sender.poll_command(), Some(sender::Command::End(sender::Outcome::TimedOut)));
    let accept = Meet { stream: Some(id(9)), ..Meet::new(id(1), id(2), Say::Accept) };
    sender.handle(sender::Input::Meet(accept), now + WAIT);
    assert_eq!(told(&mut sender).say, Say::Withdraw);
}

#[test]
fn a_session_that_is_deleted_or_expires_ends_all_who_wait() {
    let now = Instant::now();
    let (mut receiver, mut sender) = (a_receiver(now), a_sender(None, now));
    receiver.poll_command();
    let gone = News { state: SessionState::Gone, ..news(None, 8) };
    receiver.handle(receiver::Input::News(gone.clone()), now);
    sender.handle(sender::Input::News(gone), now);
    assert_eq!(receiver.poll_command(), Some(receiver::Command::End(receiver::Outcome::Gone)));
    assert_eq!(sender.poll_command(), Some(sender::Command::End(sender::Outcome::Gone)));

    // Nobody has used it for as long as it lasts.
    let mut receiver = a_receiver(now);
    receiver.poll_command();
    receiver.handle_timeout(now + TTL);
    assert_eq!(receiver.poll_command(), Some(receiver::Command::Look));
    receiver.handle(receiver::Input::Looked(Some(7)), now + TTL);
    assert_eq!(receiver.poll_command(), Some(receiver::Command::Expire(7)));
    assert_eq!(receiver.poll_command(), None, "another may use it until it is deleted");
    receiver.handle(receiver::Input::Looked(None), now + TTL);
    assert_eq!(receiver.poll_command(), Some(receiver::Command::End(receiver::Outcome::Gone)));

    // Somebody has.
    let mut receiver = a_receiver(now);
    receiver.poll_command();
    receiver.handle_timeout(now + TTL);
    receiver.poll_command();
    receiver.handle(receiver::Input::Looked(Some(8)), now + TTL);
    assert_eq!(receiver.poll_command(), None);

    // Another request has used it while it was being deleted; or that is not known.
    for found in [receiver::Input::Looked(Some(8)), receiver::Input::LookedInVain] {
        let mut receiver = a_receiver(now);
        receiver.poll_command();
        receiver.handle_timeout(now + TTL);
        receiver.handle(receiver::Input::Looked(Some(7)), now + TTL);
        assert_eq!(receiver.poll_command(), Some(receiver::Command::Look));
        assert_eq!(receiver.poll_command(), Some(receiver::Command::Expire(7)));
        receiver.handle_timeout(now + TTL);
        receiver.handle(found, now + TTL);
        assert_eq!(receiver.poll_command(), None);
    }
}

#[test]
fn a_receiver_that_is_done_says_what_it_has() {
    let ask = Meet::new(id(2), id(1), Say::Ask);
    let receiving = Kept::Receiving { from: id(2) };
    assert_eq!(receiving.answer(&ask).unwrap().say, Say::There);
    let received = Kept::Received { from: id(2), bytes: 5, whole: true };
    let over = received.answer(&ask).unwrap();
    assert_eq!((over.say, over.bytes, over.whole), (Say::Over, Some(5), true));
    let stranger = Meet::new(id(3), id(1), Say::Ask);
    assert_eq!(received.answer(&stranger).unwrap().bytes, None, "it is the sender's alone");
    assert_eq!(received.answer(&Meet::new(id(3), id(1), Say::Offer)).unwrap().say, Say::Refuse);
}

/// From the offer to what was delivered.
fn matches(receiver: &mut Receiver, sender: &mut Sender, offer: Meet, now: Instant) {
    receiver.handle(receiver::Input::Meet(offer.clone()), now);
    assert_eq!(receiver.poll_command(), Some(receiver::Command::Accept(Box::new(offer.clone()))));
    let accept = Meet { stream: Some(id(9)), ..Meet::new(id(1), id(2), Say::Accept) };
    sender.handle(sender::Input::Meet(accept), now);
    let Some(sender::Command::Begin { stream, begin }) = sender.poll_command() else { panic!("it begins") };
    assert_eq!(stream, id(9));
    receiver.handle(receiver::Input::Meet(begin), now);
    assert_eq!(
        receiver.poll_command(),
        Some(receiver::Command::End(receiver::Outcome::Matched(Box::new(offer))))
    );
    let over = Meet { bytes: Some(3), whole: false, ..Meet::new(id(1), id(2), Say::Over) };
    sender.handle(sender::Input::Meet(over), now);
    let delivered = sender::Outcome::Delivered { bytes: 3, whole: false };
    assert_eq!(sender.poll_command(), Some(sender::Command::End(delivered)));
}

fn told(sender: &mut Sender) -> Meet {
    match sender.poll_command() {
        Some(sender::Command::Tell(said)) => said,
        other => panic!("it says nothing: {other:?}"),
    }
}

fn sender_offer(now: Instant) -> Meet {
    told(&mut a_sender(Some(id(1)), now))
}

fn a_receiver(now: Instant) -> Receiver {
    Receiver::new(id(1), session_id(), Role::Host, now + WAIT, Life::new(TTL, 7, now))
}

fn a_sender(receiver: Option<RequestId>, now: Instant) -> Sender {
    let life = Life::new(TTL, 7, now);
    Sender::new(id(2), session_id(), Role::Guest, None, Some(3), now + WAIT, life, receiver, now)
}

fn news(receiver: Option<RequestId>, revision: u64) -> News {
    let (session, state) = (session_id(), SessionState::Used);
    News { v: VERSION, session, state, revision, role: Some(Role::Host), receiver }
}

fn session(kind: SessionKind) -> Session {
    let (peer, host, guest) = (None, None, None);
    Session { v: VERSION, kind, token: Token::new([1; 16]).hash(), ttl: 60_000, cookie: 0, peer, host, guest }
}

fn session_id() -> SessionId {
    SessionId::new([5; 16])
}

fn id(number: u64) -> RequestId {
    let process: ProcessId = "client.abc".parse().unwrap();
    RequestId::new(&process, &upstream(), number)
}

const TTL: Duration = Duration::from_secs(60);
const WAIT: Duration = Duration::from_secs(90);
