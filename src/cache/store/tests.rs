use std::time::SystemTime;

use http::{HeaderName, HeaderValue, StatusCode};

use super::*;
use crate::cache::{
    control::Wants,
    entry::{Pieces, take_tags},
    fresh::Times,
};

const PAGE: &str = "http://a.example/page";

#[test]
fn what_is_stored_is_found_by_the_same_request_only() {
    let mut test = Test::new(1 << 20);
    test.store(PAGE, &[("accept-encoding", "gzip")], &[("vary", "accept-encoding")], 10);
    assert_eq!(test.look(PAGE, &[("accept-encoding", "gzip")]), "hit");
    assert_eq!(test.look(PAGE, &[]), "fetch VaryMiss");
    assert_eq!(test.look("http://b.example/page", &[("accept-encoding", "gzip")]), "fetch UriMiss");
    assert_eq!(test.look("https://a.example/page", &[("accept-encoding", "gzip")]), "fetch UriMiss");
    test.store(PAGE, &[("accept-encoding", "gzip")], &[("vary", "accept-encoding")], 10);
    assert_eq!(test.cache.len(), 1, "it took the other's place");
    test.store(PAGE, &[], &[("vary", "accept-encoding")], 10);
    assert_eq!((test.cache.len(), test.look(PAGE, &[])), (2, "hit".to_owned()));
}

#[test]
fn one_fetches_and_the_others_wait_for_it() {
    let mut test = Test::new(1 << 20);
    let ticket = test.fetch(PAGE, &[]);
    assert_eq!((test.look(PAGE, &[]), test.look(PAGE, &[])), ("wait".into(), "wait".into()));
    // A part, a condition, or nothing that is not new: these are nobody else's.
    for own in [("range", "bytes=0-1"), ("if-none-match", "\"a\""), ("cache-control", "no-cache")] {
        assert_eq!(test.look(PAGE, &[own]), "fetch UriMiss", "{own:?}");
    }
    let (stored, released) = test.cache.store(&ticket, &question(PAGE, &[]), &response(&[], &[], 10));
    assert!(stored && released.waiters.len() == 2 && matches!(released.with, Resolution::Stored(_)));
    assert_eq!(test.look(PAGE, &[]), "hit");
}

#[test]
fn what_can_not_be_stored_is_waited_for_once() {
    let mut test = Test::new(1 << 20);
    let ticket = test.fetch(PAGE, &[]);
    assert_eq!(test.look(PAGE, &[]), "wait");
    let released = test.cache.give_up(&ticket, Resolution::Alone, test.now);
    assert_eq!(released.waiters.len(), 1);
    let _first = test.fetch(PAGE, &[]);
    assert_eq!(test.look(PAGE, &[]), "fetch UriMiss", "nobody waits again");
    test.now += PASSES;
    let _first = test.fetch(PAGE, &[]);
    assert_eq!(test.look(PAGE, &[]), "wait", "after a while it is tried");
}

#[test]
fn those_who_will_get_something_else_do_not_wait() {
    let mut test = Test::new(1 << 20);
    let gzip = &[("accept-encoding", "gzip")];
    test.store(PAGE, &[], &[("vary", "accept-encoding")], 10);
    let _ticket = test.fetch(PAGE, gzip);
    assert_eq!(test.look(PAGE, gzip), "wait");
    assert_eq!(test.look(PAGE, &[("accept-encoding", "br")]), "fetch VaryMiss");
}

#[test]
fn what_is_arriving_is_followed() {
    let mut test = Test::new(1 << 20);
    let ticket = test.fetch(PAGE, &[]);
    assert_eq!(test.look(PAGE, &[]), "wait");
    let head = response(&[], &[], 0).head;
    let (_fill, released) = test.cache.begin(&ticket, head, Some(10), false);
    assert!(released.waiters.len() == 1 && matches!(released.with, Resolution::Follow(_)));
    assert_eq!(test.look(PAGE, &[]), "follow");
    assert_eq!(test.look(PAGE, &[("range", "bytes=0-1")]), "fetch UriMiss");
    test.cache.overflowed(&ticket, test.now);
    assert_eq!(test.look(PAGE, &[]), "fetch UriMiss");
}

#[test]
fn a_stale_response_is_fetched_anew_by_one_only() {
    let mut test = Test::new(1 << 20);
    test.store(PAGE, &[], &[("cache-control", "max-age=10, stale-while-revalidate=10")], 10);
    test.now += Duration::from_secs(11);
    assert_eq!(test.look(PAGE, &[]), "stale, refresh");
    assert_eq!(test.look(PAGE, &[]), "stale");
    test.now += Duration::from_secs(10);
    assert_eq!(test.look(PAGE, &[]), "wait", "for the one who does");
    assert_eq!(test.look(PAGE, &[("cache-control", "only-if-cached")]), "nothing");
}

#[test]
fn a_purge_hits_what_is_stored_and_what_is_being_fetched() {
    let url = |url: &str| Key::parse(url).unwrap();
    for (selector, hits) in [
        (Selector::Url(url(PAGE)), true),
        (Selector::Url(url("http://a.example/")), false),
        (Selector::Prefix(url("http://A.example/pa")), true),
        (Selector::Prefix(url("http://a.example/pages")), false),
        (Selector::Host("a.example".into()), true),
        (Selector::Host("example".into()), false),
        (Selector::Tag("two".into()), true),
        (Selector::Tag("tw".into()), false),
        (Selector::All, true),
    ] {
        let headers = &[("surrogate-key", "one two")];
        let mut test = Test::new(1 << 20);
        test.store(PAGE, &[], headers, 10);
        assert_eq!(test.cache.purge(&selector), u64::from(hits), "{selector:?}");
        assert_eq!(test.look(PAGE, &[]) == "hit", !hits, "{selector:?}");

        let mut test = Test::new(1 << 20);
        let ticket = test.fetch(PAGE, &[]);
        assert_eq!(test.cache.purge(&selector), 0);
        let (stored, _) = test.cache.store(&ticket, &question(PAGE, &[]), &response(&[], headers, 10));
        assert_eq!(stored, !hits, "asked for before {selector:?}");

        let mut test = Test::new(1 << 20);
        let ticket = test.fetch(PAGE, &[]);
        let response = response(&[], headers, 10);
        let (_fill, _) = test.cache.begin(&ticket, Arc::clone(&response.head), None, false);
        test.cache.purge(&selector);
        assert_eq!(test.look(PAGE, &[]) == "follow", !hits, "{selector:?}");
        let (stored, _) = test.cache.store(&ticket, &question(PAGE, &[]), &response);
        assert_eq!(stored, !hits, "on its way at {selector:?}");
    }
}

#[test]
fn it_never_takes_more_than_it_may() {
    let mut test = Test::new(1 << 20);
    for number in 0..1000 {
        test.store(&format!("{PAGE}{number}"), &[], &[], 10_000);
        assert!(test.cache.bytes() <= 1 << 20, "{} bytes", test.cache.bytes());
    }
    let (stored, evicted) = (test.cache.len(), test.cache.evictions());
    assert!(stored > 50 && stored + evicted == 1000, "{stored} stored, {evicted} evicted");
    // Too large for one.
    let ticket = test.fetch(PAGE, &[]);
    let large = response(&[], &[], 1 << 20);
    assert!(!test.cache.store(&ticket, &question(PAGE, &[]), &large).0);
}

#[test]
fn one_url_has_a_bounded_number_of_variants() {
    let mut test = Test::new(64 << 20);
    for number in 0..100 {
        let name: &'static str = Box::leak(format!("v{number}").into_boxed_str());
        test.store(PAGE, &[("accept", name)], &[("vary", "accept")], 10);
    }
    assert_eq!((test.cache.len(), test.cache.evictions()), (64, 36));
    assert_eq!(test.cache.purge(&Selector::All), 64);
    assert!(test.cache.is_empty());
}

struct Test {
    cache: Cache<()>,
    now: Instant,
}

impl Test {
    fn new(total: u64) -> Test {
        Test { cache: Cache::new(Limits { total, object: total }), now: Instant::now() }
    }

    fn look(&mut self, url: &str, asked: &[(&'static str, &'static str)]) -> String {
        let question = question(url, asked);
        match self.cache.look(&question, false, self.now, || ()) {
            Found::Hit { stale: false, .. } => "hit".into(),
            Found::Hit { refresh: Some(_), .. } => "stale, refresh".into(),
            Found::Hit { .. } => "stale".into(),
            Found::Follow(_) => "follow".into(),
            Found::Wait(_) => "wait".into(),
            Found::Nothing => "nothing".into(),
            Found::Fetch { ticket, why, .. } => {
                self.cache.give_up(&ticket, Resolution::Again, self.now);
                format!("fetch {why:?}")
            }
        }
    }

    fn fetch(&mut self, url: &str, asked: &[(&'static str, &'static str)]) -> Ticket {
        match self.cache.look(&question(url, asked), false, self.now, || ()) {
            Found::Fetch { ticket, .. } => ticket,
            _ => panic!("{url} is there, or somebody fetches it"),
        }
    }

    fn store(
        &mut self,
        url: &str,
        asked: &[(&'static str, &'static str)],
        headers: &[(&'static str, &'static str)],
        bytes: usize,
    ) {
        let ticket = self.cache.open(&question(url, asked), true);
        self.cache.store(&ticket, &question(url, asked), &response(asked, headers, bytes));
    }
}

fn question(url: &str, asked: &[(&'static str, &'static str)]) -> Question {
    let headers = map(asked);
    let wants = Wants::of(&headers);
    Question { key: Key::parse(url).unwrap(), headers, wants, head: false }
}

fn response(
    asked: &[(&'static str, &'static str)],
    headers: &[(&'static str, &'static str)],
    bytes: usize,
) -> Stored {
    let now = Instant::now();
    let times = Times { asked: now, now, clock: SystemTime::UNIX_EPOCH };
    let mut headers = map(headers);
    let tags = take_tags(&mut headers);
    headers.set_default(header::CACHE_CONTROL, HeaderValue::from_static("max-age=60"));
    let upstream = "hello".parse().unwrap();
    let head = Head::of(&question(PAGE, asked), &upstream, StatusCode::OK, &headers, &tags, times).unwrap();
    Stored { head: Arc::new(head), body: Pieces::copy(&vec![0; bytes]) }
}

fn map(pairs: &[(&'static str, &'static str)]) -> Headers {
    let mut headers = Headers::new();
    for (name, value) in pairs {
        headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    headers
}
