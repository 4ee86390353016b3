use std::time::{Instant, SystemTime};

use http::{HeaderValue, StatusCode, header};

use super::*;
use crate::{
    cache::{control::Wants, entry::Question, fresh::Times, key::Key},
    wire::Headers,
};

#[test]
fn every_reader_gets_every_byte_whenever_it_came() {
    let (fill, room) = fill(1000, true);
    let mut early = fill.follow().unwrap();
    assert_eq!(read(&mut early), Err("pending"));
    assert_eq!(fill.push(&Bytes::from_static(b"one")), Pushed::Kept);
    let mut late = fill.follow().unwrap();
    fill.push(&Bytes::from_static(b"two"));
    assert_eq!((read(&mut early), read(&mut late)), (Ok("one".into()), Ok("one".into())));
    assert!(!early.is_finished() && fill.whole().is_none());
    fill.finish(HeaderMap::new());
    assert_eq!((read(&mut early), read(&mut early)), (Ok("two".into()), Err("end")));
    assert!(early.is_finished() && !late.is_finished());
    let whole: Vec<u8> = fill.whole().unwrap().part(0, 6).into_iter().flatten().collect();
    assert_eq!(whole, b"onetwo");
    drop((early, late));
    drop(fill);
    assert_eq!(room.used(), 0);
}

#[test]
fn a_body_that_breaks_off_is_not_whole_for_anybody() {
    let (fill, _room) = fill(1000, true);
    let mut reader = fill.follow().unwrap();
    fill.push(&Bytes::from_static(b"one"));
    fill.cut(Fault::new(Code::StreamCut, Side::Client, "gone"));
    assert_eq!((read(&mut reader), read(&mut reader)), (Ok("one".into()), Err("cut")));
    assert!(!reader.is_finished() && fill.whole().is_none() && fill.follow().is_none());
}

#[test]
fn what_is_too_large_passes_through_at_the_pace_of_the_fastest() {
    let (fill, _room) = fill(10, true);
    let (mut fast, mut slow) = (fill.follow().unwrap(), fill.follow().unwrap());
    assert_eq!(fill.push(&Bytes::from_static(b"123456")), Pushed::Kept);
    assert_eq!(fill.push(&Bytes::from_static(b"789012")), Pushed::Overflowed);
    assert!(fill.follow().is_none(), "the beginning will be forgotten");
    assert_eq!(wanted(&fill), None, "nobody has read what is here");
    assert_eq!((read(&mut fast), read(&mut fast)), (Ok("123456".into()), Ok("789012".into())));
    assert_eq!(wanted(&fill), Some(true));
    let large = Bytes::from(vec![b'x'; LEAST_LAG as usize]);
    assert_eq!(fill.push(&large), Pushed::Passed);
    assert_eq!(read(&mut slow), Err("cut"), "it is over a limit behind");
    assert_eq!(read(&mut fast).unwrap().len(), large.len());
    assert_eq!(fill.state().pieces.len(), 0);
    drop(fast);
    drop(slow);
    assert_eq!(wanted(&fill), Some(false));
}

#[test]
fn a_body_whose_end_is_known_goes_on_without_readers() {
    for persists in [true, false] {
        let (fill, _room) = fill(10, persists);
        let reader = fill.follow().unwrap();
        assert_eq!(wanted(&fill), Some(true));
        drop(reader);
        assert_eq!(wanted(&fill), Some(persists));
    }
}

#[test]
fn all_fills_together_have_a_limit() {
    let room = Room::new(200);
    let one = Fill::new(head(), 1000, true, Arc::clone(&room));
    let other = Fill::new(head(), 1000, true, Arc::clone(&room));
    let data = Bytes::from_static(&[0; 100]);
    assert_eq!((one.push(&data), other.push(&data)), (Pushed::Kept, Pushed::Overflowed));
    drop(one);
    assert_eq!(room.used(), 0);
}

fn fill(limit: u64, persists: bool) -> (Arc<Fill>, Arc<Room>) {
    let room = Room::new(10_000);
    (Fill::new(head(), limit, persists, Arc::clone(&room)), room)
}

fn head() -> Arc<Head> {
    let now = Instant::now();
    let times = Times { asked: now, now, clock: SystemTime::UNIX_EPOCH };
    let mut headers = Headers::new();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("max-age=60"));
    let key = Key::parse("http://a.example/").unwrap();
    let question = Question { key, headers: Headers::new(), wants: Wants::default(), head: false };
    Arc::new(Head::of(&question, &"hello".parse().unwrap(), StatusCode::OK, &headers, &[], times).unwrap())
}

fn read(follower: &mut Follower) -> Result<String, &'static str> {
    match follower.poll_data(&mut Context::from_waker(Waker::noop())) {
        Poll::Pending => Err("pending"),
        Poll::Ready(None) => Err("end"),
        Poll::Ready(Some(Err(_))) => Err("cut"),
        Poll::Ready(Some(Ok(frame))) => {
            Ok(String::from_utf8(frame.into_data().unwrap_or_default().to_vec()).unwrap())
        }
    }
}

fn wanted(fill: &Fill) -> Option<bool> {
    match fill.poll_wanted(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(wanted) => Some(wanted),
        Poll::Pending => None,
    }
}
