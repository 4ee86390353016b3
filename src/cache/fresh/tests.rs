use http::{HeaderName, HeaderValue};

use super::*;

const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

#[test]
fn a_response_is_stored_when_it_may_be_and_it_is_of_use() {
    for (status, headers, stored) in [
        (200, &[("cache-control", "max-age=60")][..], true),
        (200, &[("cache-control", "s-maxage=60, private")], false),
        (200, &[("cache-control", "max-age=60, no-store")], false),
        (200, &[("cache-control", "max-age=60, no-store, must-understand")], true),
        (299, &[("cache-control", "max-age=60, must-understand")], false),
        (299, &[("cache-control", "max-age=60")], true),
        (206, &[("cache-control", "max-age=60")], false),
        (304, &[("cache-control", "max-age=60")], false),
        (200, &[("cache-control", "no-cache"), ("etag", "\"a\"")], true),
        (200, &[("cache-control", "max-age=0")], false),
        (200, &[("cache-control", "max-age=0, stale-if-error=9")], true),
        (200, &[], false),
        (200, &[("etag", "\"a\"")], true),
        (404, &[("last-modified", "Sat, 05 Nov 1994 08:49:37 GMT"), ("date", DATE)], true),
        (403, &[("last-modified", "Sat, 05 Nov 1994 08:49:37 GMT"), ("date", DATE)], false),
        (403, &[("cache-control", "public"), ("etag", "\"a\"")], true),
        (302, &[("expires", "Sun, 06 Nov 1994 08:49:38 GMT"), ("date", DATE)], true),
        (200, &[("cache-control", "max-age=60"), ("vary", "*")], false),
        (200, &[("cache-control", "max-age=60"), ("set-cookie", "a=1")], false),
        (200, &[("cache-control", "max-age=60, public"), ("set-cookie", "a=1")], true),
        (200, &[("cache-control", "s-maxage=60"), ("set-cookie", "a=1")], true),
        (200, &[("cdn-cache-control", "max-age=60"), ("set-cookie", "a=1")], true),
        (200, &[("cdn-cache-control", "max-age=60"), ("cache-control", "no-store")], true),
        (200, &[("cdn-cache-control", "no-store"), ("cache-control", "max-age=60")], false),
    ] {
        assert_eq!(judge(status, headers, &[]).is_some(), stored, "{status} {headers:?}");
    }
}

#[test]
fn what_somebody_is_let_in_for_is_not_everybodys() {
    let asked = &[("authorization", "Basic x")];
    for (said, stored) in [
        ("max-age=60", false),
        ("max-age=60, public", true),
        ("s-maxage=60", true),
        ("max-age=60, must-revalidate", true),
    ] {
        assert_eq!(judge(200, &[("cache-control", said)], asked).is_some(), stored, "{said}");
    }
    assert_eq!(judge(200, &[("cache-control", "max-age=60")], &[("cache-control", "no-store")]), None);
}

#[test]
fn a_response_is_fresh_for_as_long_as_it_says() {
    for (headers, lifetime) in [
        (&[("cache-control", "max-age=60")][..], 60),
        (&[("cache-control", "max-age=60, s-maxage=5")], 5),
        (&[("cache-control", "max-age=60"), ("expires", "0")], 60),
        (&[("cache-control", "max-age=60"), ("cdn-cache-control", "max-age=7")], 7),
        (&[("expires", "Sun, 06 Nov 1994 08:50:37 GMT"), ("date", DATE)], 60),
        // The other two forms of dates.
        (&[("expires", "Sunday, 06-Nov-94 08:50:37 GMT"), ("date", DATE)], 60),
        (&[("expires", "Sun Nov  6 08:50:37 1994"), ("date", DATE)], 60),
        (&[("expires", "0"), ("etag", "\"a\"")], 0),
        (&[("expires", "Sun, 06 Nov 1994 08:49:00 GMT"), ("date", DATE), ("etag", "\"a\"")], 0),
        (&[("last-modified", "Sun, 06 Nov 1994 08:32:57 GMT"), ("date", DATE)], 100),
        (&[("last-modified", "Sun, 06 Nov 1983 08:32:57 GMT"), ("date", DATE)], 86400),
        // Targeted: the others do not count.
        (
            &[
                ("cdn-cache-control", "public"),
                ("expires", "Sun, 06 Nov 1994 08:50:37 GMT"),
                ("etag", "\"a\""),
            ],
            0,
        ),
    ] {
        let fresh = judge(200, headers, &[]).unwrap();
        assert_eq!(fresh.lifetime.as_secs(), lifetime, "{headers:?}");
    }
}

#[test]
fn a_response_is_as_old_as_the_oldest_word_on_it() {
    let now = Instant::now();
    let second = Duration::from_secs(1);
    let times = Times { asked: now, now: now + 2 * second, clock: clock() + 5 * second };
    let age = |headers: &[(&'static str, &'static str)]| initial_age(&map(headers), times).as_secs();
    assert_eq!(age(&[]), 2, "it took as long");
    assert_eq!(age(&[("date", DATE)]), 5);
    assert_eq!(age(&[("date", DATE), ("age", "1")]), 5);
    assert_eq!(age(&[("age", "10")]), 12, "and as long as it took");
    assert_eq!(age(&[("age", "10, 20")]), 12);
    assert_eq!(age(&[("age", "-1")]), 2);
    assert_eq!(age(&[("age", "soon")]), 2);
    assert_eq!(age(&[("date", "Sun, 06 Nov 2094 08:49:37 GMT")]), 2, "from the future");
    let fresh = judge(200, &[("cache-control", "max-age=60"), ("age", "50")], &[]).unwrap();
    assert_eq!((fresh.ttl(fresh.came), fresh.ttl(fresh.came + 20 * second)), (10, -10));
}

#[test]
fn a_stored_response_is_used_as_both_sides_allow() {
    use Use::{Ask, AskForCaller, Fresh, Refresh, Stale};
    // Said by the origin, seconds later, said by the caller.
    for (said, later, asked, usable) in [
        ("max-age=60", 59, "", Fresh),
        ("max-age=60", 60, "", Ask),
        ("max-age=60", 1, "no-cache", AskForCaller),
        ("max-age=60", 10, "max-age=10", Fresh),
        ("max-age=60", 11, "max-age=10", AskForCaller),
        ("max-age=60", 1, "max-age=0", AskForCaller),
        ("max-age=60", 50, "min-fresh=10", Fresh),
        ("max-age=60", 51, "min-fresh=10", AskForCaller),
        ("max-age=60", 70, "max-stale", Stale),
        ("max-age=60", 70, "max-stale=10", Stale),
        ("max-age=60", 71, "max-stale=10", Ask),
        ("max-age=60, must-revalidate", 70, "max-stale", Ask),
        ("max-age=60, proxy-revalidate", 70, "max-stale", Ask),
        ("max-age=60, proxy-revalidate", 59, "", Fresh),
        ("s-maxage=60", 70, "max-stale", Ask),
        ("no-cache, max-age=60", 1, "max-stale", Ask),
        ("max-age=60, stale-while-revalidate=10", 69, "", Refresh),
        ("max-age=60, stale-while-revalidate=10", 70, "", Ask),
        ("max-age=60, stale-while-revalidate=10", 61, "max-age=90", Ask),
        ("s-maxage=60, stale-while-revalidate=10", 61, "", Refresh),
        ("max-age=60, must-revalidate, stale-while-revalidate=10", 61, "", Ask),
    ] {
        let fresh = judge(200, &[("cache-control", said), ("etag", "\"a\"")], &[]).unwrap();
        let now = fresh.came + Duration::from_secs(later);
        let mut headers = Headers::new();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_str(asked).unwrap());
        assert_eq!(fresh.usable(&Wants::of(&headers), now), usable, "{said}; {later} s; {asked}");
    }
}

#[test]
fn a_stored_response_stands_in_for_an_error_when_it_may() {
    for (said, later, asked, survives) in [
        ("max-age=60, stale-if-error=10", 70, "", true),
        ("max-age=60, stale-if-error=10", 71, "", false),
        ("max-age=60", 61, "", false),
        ("max-age=60", 61, "stale-if-error=10", true),
        ("s-maxage=60, stale-if-error=10", 61, "", true),
        ("max-age=60, stale-if-error=10, must-revalidate", 61, "", false),
        ("max-age=60, stale-if-error=10, no-cache", 1, "", false),
        // Asked for anew while it was fresh.
        ("max-age=60, stale-if-error=10", 1, "no-cache", true),
    ] {
        let fresh = judge(200, &[("cache-control", said), ("etag", "\"a\"")], &[]).unwrap();
        let mut headers = Headers::new();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_str(asked).unwrap());
        let now = fresh.came + Duration::from_secs(later);
        assert_eq!(fresh.survives(&Wants::of(&headers), now), survives, "{said}; {later} s; {asked}");
    }
}

fn judge(
    status: u16,
    headers: &[(&'static str, &'static str)],
    asked: &[(&'static str, &'static str)],
) -> Option<Fresh> {
    let now = Instant::now();
    let times = Times { asked: now, now, clock: clock() };
    let asked = map(asked);
    let status = StatusCode::from_u16(status).unwrap();
    Fresh::judge(status, &map(headers), &asked, &Wants::of(&asked), times).map(|(fresh, _)| fresh)
}

fn clock() -> SystemTime {
    httpdate::parse_http_date(DATE).unwrap()
}

fn map(pairs: &[(&'static str, &'static str)]) -> Headers {
    let mut headers = Headers::new();
    for (name, value) in pairs {
        headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    headers
}

#[test]
fn a_date_is_read_in_any_case_and_whatever_day_of_the_week_it_says() {
    let right = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
    let read = |text: &str| {
        let mut headers = Headers::new();
        headers.insert(header::DATE, http::HeaderValue::from_str(text).unwrap());
        date(&headers, header::DATE)
    };
    for text in [
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "sun, 06 nov 1994 08:49:37 gmt",
        "SUN, 06 NOV 1994 08:49:37 GMT",
        "Mon, 06 Nov 1994 08:49:37 GMT",
        "Friday, 06-Nov-94 08:49:37 GMT",
        "sunday, 06-NOV-94 08:49:37 gmt",
        "wed nov  6 08:49:37 1994",
    ] {
        assert_eq!(read(text), Some(right), "{text}");
    }
    for text in ["0", "-1", "", "x", "Sun, 32 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:37 CET", "a b"]
    {
        assert_eq!(read(text), None, "{text}");
    }
}

#[test]
fn the_time_that_a_response_took_counts_whether_it_tells_an_age_or_not() {
    let asked = Instant::now();
    let times = Times { asked, now: asked + Duration::from_secs(3), clock: SystemTime::UNIX_EPOCH };
    assert_eq!(initial_age(&Headers::new(), times), Duration::from_secs(3));
    let mut old = Headers::new();
    old.insert(header::AGE, http::HeaderValue::from_static("5"));
    assert_eq!(initial_age(&old, times), Duration::from_secs(8));
}
