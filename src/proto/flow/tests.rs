use super::*;
use crate::wire::{Code, Side};

fn pair() -> (Flow, Flow, Instant) {
    let now = Instant::now();
    let (mut sender, mut receiver) = (Flow::new(now), Flow::new(now));
    sender.open_sending(10);
    receiver.open_receiving(10);
    (sender, receiver, now)
}

fn data(bytes: usize) -> Bytes {
    Bytes::from(vec![b'x'; bytes])
}

#[test]
fn a_body_arrives_in_order_and_is_complete_with_its_end() {
    let (mut sender, mut receiver, now) = pair();
    let first = sender.send(data(4), now);
    let last = sender.finish(HeaderMap::new(), now);
    assert_eq!(receiver.hear(first, now), Heard::Data(data(4)));
    assert_eq!(receiver.hear(last, now), Heard::Last(Bytes::new(), HeaderMap::new()));
    assert!(receiver.is_over());
    assert!(!sender.is_over(), "it does not know yet that all of it arrived");
    assert_eq!(sender.hear(Word::Done, now), Heard::Delivered);
    assert!(sender.is_over());
}

#[test]
fn a_lost_frame_breaks_the_body_at_the_next_one() {
    let (mut sender, mut receiver, now) = pair();
    drop(sender.send(data(1), now));
    let second = sender.send(data(1), now);
    assert!(matches!(receiver.hear(second, now), Heard::Broken(_)));
}

#[test]
fn a_lost_last_frame_is_noticed_by_the_senders_position() {
    let (mut sender, mut receiver, now) = pair();
    let first = sender.send(data(1), now);
    receiver.hear(first, now);
    drop(sender.finish(HeaderMap::new(), now));
    let Due::Say(position) = sender.tick(0, now + ALIVE) else { panic!("it says nothing") };
    assert!(matches!(receiver.hear(position, now), Heard::Broken(_)));
}

#[test]
fn a_repeated_frame_is_taken_once() {
    let (mut sender, mut receiver, now) = pair();
    let first = sender.send(data(1), now);
    receiver.hear(first.clone(), now);
    assert_eq!(receiver.hear(first, now), Heard::Nothing);
}

#[test]
fn credit_is_given_as_the_body_is_read_and_a_lost_one_is_made_good() {
    let (mut sender, mut receiver, now) = pair();
    let first = sender.send(data(10), now);
    assert_eq!(sender.room(), 0);
    receiver.hear(first, now);
    assert_eq!(receiver.read(4, 10, now), None, "too little to speak of");
    assert_eq!(receiver.read(2, 10, now), Some(Word::Credit { bytes: 16 }), "lost");
    let Due::Say(position) = receiver.tick(0, now + ALIVE) else { panic!("it says nothing") };
    assert_eq!(sender.hear(position, now), Heard::Room);
    assert_eq!(sender.room(), 6);
    assert_eq!(sender.hear(Word::Credit { bytes: 12 }, now), Heard::Nothing, "credit never shrinks");
    assert_eq!(sender.room(), 6);
}

#[test]
fn more_than_was_allowed_breaks_the_body() {
    let (_, mut receiver, now) = pair();
    let frame = Word::Frame { seq: 0, data: data(11), end: None };
    assert!(matches!(receiver.hear(frame, now), Heard::Broken(_)));
}

#[test]
fn an_end_with_another_length_breaks_the_body() {
    let (_, mut receiver, now) = pair();
    let end = Some(End { length: 5, trailers: HeaderMap::new() });
    assert!(matches!(receiver.hear(Word::Frame { seq: 0, data: data(4), end }, now), Heard::Broken(_)));
}

#[test]
fn a_lost_done_is_said_again() {
    let (mut sender, mut receiver, now) = pair();
    let last = sender.finish(HeaderMap::new(), now);
    receiver.hear(last, now);
    let Due::Say(position) = sender.tick(0, now + ALIVE) else { panic!("it says nothing") };
    assert_eq!(receiver.hear(position, now), Heard::Again(Word::Done));
}

#[test]
fn a_lost_credit_is_made_good_after_the_other_direction_has_ended() {
    let (mut one, mut other, now) = pair();
    other.open_sending(10);
    one.open_receiving(10);
    let last = one.finish(HeaderMap::new(), now);
    other.hear(last, now);
    let data = other.send(data(10), now);
    one.hear(data, now);
    assert!(one.read(10, 10, now).is_some(), "lost");
    let Due::Say(position) = one.tick(0, now + ALIVE) else { panic!("it says nothing") };
    assert_eq!(other.hear(position, now), Heard::Room);
}

/// Whoever says that it does not know the stream may have had all of it, or may have given it up.
#[test]
fn a_cut_after_the_end_does_not_count_as_delivered() {
    let (mut sender, _, now) = pair();
    sender.finish(HeaderMap::new(), now);
    let unknown = Fault::new(Code::StreamCut, Side::Client, "no such stream");
    assert!(matches!(sender.hear(Word::Cut((&unknown).into()), now), Heard::Cut(_)));
}

#[test]
fn a_silent_side_is_taken_for_gone() {
    let (mut sender, _, now) = pair();
    assert!(matches!(sender.tick(0, now + ALIVE), Due::Say(_)));
    assert_eq!(sender.tick(0, now + ALIVE), Due::Nothing, "once is enough");
    sender.hear(Word::Credit { bytes: 0 }, now + ALIVE);
    assert!(matches!(sender.tick(0, now + SILENT), Due::Say(_)));
    assert_eq!(sender.tick(0, now + ALIVE + SILENT), Due::Silent);
}

#[test]
fn what_is_not_wanted_any_more_is_not_sent() {
    let (mut sender, _, now) = pair();
    assert_eq!(sender.hear(Word::Stop, now), Heard::Stopped);
    assert!(sender.is_over());
    assert_eq!(sender.hear(Word::Stop, now), Heard::Nothing);
}

#[test]
fn a_position_gives_a_slow_reader_all_the_credit_that_is_due() {
    let (_, mut receiver, now) = pair();
    receiver.hear(Word::Frame { seq: 0, data: data(10), end: None }, now);
    assert_eq!(receiver.read(1, 12, now), None, "too little to tell at once");
    let due = receiver.tick(12, now + ALIVE);
    assert_eq!(due, Due::Say(Word::Position { frames: 0, credit: 13 }));
    assert_eq!(receiver.ahead(), 12);
    receiver.stop_receiving();
    assert_eq!(receiver.ahead(), 9, "what was granted beyond the end does not come");
}

#[test]
fn what_may_come_without_credit_is_bounded_however_many_requests_are_open() {
    for requests in [10, 100, 2000, 10_000] {
        let (mut promised, mut smallest) = (0, USUAL_FIRST);
        for _ in 0..requests {
            let window = first_window(promised).unwrap_or(USUAL_FIRST);
            smallest = smallest.min(window);
            promised += window;
        }
        assert!(promised <= AT_ONCE + requests * LEAST_FIRST, "{requests} requests: {promised} bytes");
        assert!(requests > 10 || smallest == USUAL_FIRST, "a few have all they need");
        assert!(smallest >= LEAST_FIRST);
    }
}
