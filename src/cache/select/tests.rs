use crate::cache::{control::Wants, fresh::Times, key::Key};

use http::HeaderName;

use super::*;

const MODIFIED: &str = "Sun, 06 Nov 1994 08:00:00 GMT";

#[test]
fn a_range_is_cut_out_of_a_whole_response() {
    for (range, expected) in [
        ("bytes=0-0", Some((0, 1))),
        ("bytes=2-5", Some((2, 6))),
        ("Bytes = 2-5", Some((2, 6))),
        ("bytes=90-", Some((90, 100))),
        ("bytes=90-1000", Some((90, 100))),
        ("bytes=-10", Some((90, 100))),
        ("bytes=-1000", Some((0, 100))),
        ("bytes=0-99999999999999999999999", Some((0, 100))),
        ("bytes=5-2", None),
        ("bytes=a-b", None),
        ("bytes=+1-2", None),
        ("bytes=-", None),
        ("bytes=0-1,5-6", None),
        ("lines=0-1", None),
    ] {
        let answer = ask(&[("range", range)], false);
        match expected {
            Some((start, end)) => {
                assert_eq!((answer.status.as_u16(), answer.body), (206, Body::Part(start..end)), "{range}");
                assert_eq!(answer.headers["content-range"], format!("bytes {start}-{}/100", end - 1));
                assert_eq!(answer.headers["content-length"], format!("{}", end - start));
            }
            None => assert_eq!((answer.status.as_u16(), answer.body), (200, Body::Whole), "{range}"),
        }
    }
    for range in ["bytes=100-", "bytes=100-200", "bytes=-0"] {
        let answer = ask(&[("range", range)], false);
        assert_eq!((answer.status.as_u16(), answer.body), (416, Body::Nothing), "{range}");
        assert_eq!(answer.headers["content-range"], "bytes */100");
    }
}

#[test]
fn a_range_of_something_else_is_the_whole() {
    for (condition, status) in [
        ("\"a,b\"", 206),
        ("\"b\"", 200),
        ("W/\"a,b\"", 200),
        (MODIFIED, 206),
        ("Sun, 06 Nov 1994 09:00:00 GMT", 200),
    ] {
        let answer = ask(&[("range", "bytes=0-1"), ("if-range", condition)], false);
        assert_eq!(answer.status, status, "{condition}");
    }
}

#[test]
fn who_has_it_already_is_told_so() {
    for (name, condition, status) in [
        ("if-none-match", "\"a,b\"", 304),
        ("if-none-match", "W/\"a,b\"", 304),
        ("if-none-match", "\"x\", W/\"a,b\"", 304),
        ("if-none-match", "*", 304),
        ("if-none-match", "\"a\"", 200),
        ("if-none-match", "\"x,\"a,b\"", 200),
        ("if-modified-since", MODIFIED, 304),
        ("if-modified-since", "Sun, 06 Nov 1994 07:59:59 GMT", 200),
        ("if-modified-since", "yesterday", 200),
    ] {
        let answer = ask(&[(name, condition)], false);
        assert_eq!(answer.status, status, "{name}: {condition}");
        assert_eq!(answer.headers.contains_key("content-type"), status == 200);
        assert!(answer.headers.contains_key("etag") && answer.headers.contains_key("age"));
    }
    // The entity tag counts, when there is one.
    let both = [("if-none-match", "\"x\""), ("if-modified-since", MODIFIED)];
    assert_eq!(ask(&both, false).status, 200);
}

#[test]
fn head_gets_the_head() {
    let answer = ask(&[("range", "bytes=0-1")], true);
    assert_eq!((answer.status.as_u16(), answer.body), (200, Body::Nothing));
    assert_eq!(answer.headers["content-length"], "100");
    assert_eq!(ask(&[("if-none-match", "*")], true).status, 304);
}

fn ask(asked: &[(&'static str, &'static str)], head: bool) -> Answer {
    let now = Instant::now();
    let stored = map(&[
        ("cache-control", "max-age=60"),
        ("content-type", "text/plain"),
        ("etag", "\"a,b\""),
        ("last-modified", MODIFIED),
        ("date", "Sun, 06 Nov 1994 08:49:37 GMT"),
    ]);
    let headers = map(asked);
    let wants = Wants::of(&headers);
    let question = Question { key: Key::parse("http://a.example/").unwrap(), headers, wants, head };
    let times = Times { asked: now, now, clock: SystemTime::UNIX_EPOCH };
    let upstream = "hello".parse().unwrap();
    let head = Head::of(&question, &upstream, StatusCode::OK, &stored, &[], times).unwrap();
    answer(&question, &head, Some(100), now)
}

fn map(pairs: &[(&'static str, &'static str)]) -> Headers {
    let mut headers = Headers::new();
    for (name, value) in pairs {
        headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    headers
}
