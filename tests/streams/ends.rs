//! How a message ends over HTTP/2: by END_STREAM alone. What is reset before is not complete, whatever the reason says.

use std::{
    io,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use h2::Reason;
use http::Request;
use tokio::net::TcpStream;

use crate::{
    seen::{H2, nothing_is_left, relay},
    site::{self, Upload},
    support::{frames::Frames, *},
};

#[tokio::test]
async fn an_upload_that_is_reset_before_its_end_is_complete_for_nobody() {
    let (origin, site) = site::Site::start().await;
    let relay = Relay::to(origin).nats("jetstream {}").client(&["--jobs", "on"]).start().await;
    let address = relay.client.address().await;
    for reason in [Reason::NO_ERROR, Reason::CANCEL, Reason::INTERNAL_ERROR] {
        for (told, sent) in [
            (Some(100), 15),
            (Some(100), 0),
            // As many as it told, and then no end.
            (Some(15), 15),
            (Some(131_072), 9000),
            (Some(131_073), 9000),
            (Some(200_000), 60_000),
            (None, 15),
            (None, 60_000),
        ] {
            for prefer in [None, Some("respond-async")] {
                let mut h2 = H2::connect(address).await;
                let mut request = Request::put("http://test/upload");
                if let Some(told) = told {
                    request = request.header("content-length", told);
                }
                if let Some(prefer) = prefer {
                    request = request.header("prefer", prefer);
                }
                let (answer, mut body) = h2.0.send_request(request.body(()).unwrap(), false).unwrap();
                if sent > 0 {
                    body.send_data(site::pattern(0, sent).into(), false).unwrap();
                }
                body.send_reset(reason);
                answer.await.expect_err("it is reset");
                let (other, _) =
                    h2.0.send_request(Request::get("http://test/").body(()).unwrap(), true).unwrap();
                assert_eq!(other.await.unwrap().status(), 200, "the connection goes on");
            }
        }
    }
    nothing_is_left(&[&relay.client, &relay.agent]).await;
    // Whatever reached the origin is seen there to its end.
    eventually("uploads end", || {
        let begun = site.asked().iter().filter(|asked| *asked == "PUT /upload").count();
        site.uploads().len() == begun
    })
    .await;
    assert!(site.uploads().iter().all(|upload| matches!(upload, Upload::Cut(_))), "{:?}", site.uploads());
    assert_eq!(relay.client.metric("relay_jobs_accepted_total", "").await, 0.0);
}

#[tokio::test]
async fn an_upload_of_another_length_than_it_told_reaches_nobody_as_complete() {
    let (relay, site) = relay().await;
    for (told, sent) in [(100, 99), (100, 101), (1, 0), (0, 1), (200_000, 199_999), (200_000, 200_001)] {
        for trailers in [false, true] {
            let mut h2 = H2::connect(relay.client.address().await).await;
            let request = Request::put("http://test/upload").header("content-length", told);
            let (answer, mut body) = h2.0.send_request(request.body(()).unwrap(), false).unwrap();
            body.send_data(site::pattern(0, sent).into(), !trailers).unwrap();
            if trailers {
                body.send_trailers(http::HeaderMap::from_iter([(
                    http::HeaderName::from_static("x-end"),
                    http::HeaderValue::from_static("1"),
                )]))
                .unwrap();
            }
            let error = answer.await.expect_err("it is refused");
            assert_eq!(error.reason(), Some(Reason::PROTOCOL_ERROR), "{told} {sent}: {error}");
        }
    }
    nothing_is_left(&[&relay.client, &relay.agent]).await;
    assert!(site.uploads().iter().all(|upload| matches!(upload, Upload::Cut(_))), "{:?}", site.uploads());
}

#[tokio::test]
async fn the_last_part_of_a_known_length_goes_on_with_the_end_and_its_trailers() {
    let (relay, site) = relay().await;
    for (length, trailers) in [(15, false), (15, true), (300_000, false), (300_000, true)] {
        let mut h2 = H2::connect(relay.client.address().await).await;
        let request = Request::put("http://test/upload").header("content-length", length);
        let (answer, mut body) = h2.0.send_request(request.body(()).unwrap(), false).unwrap();
        body.send_data(site::pattern(0, length).into(), false).unwrap();
        if trailers {
            body.send_trailers(http::HeaderMap::new()).unwrap();
        } else {
            body.send_data(Bytes::new(), true).unwrap();
        }
        assert_eq!(answer.await.unwrap().status(), 200);
        assert_eq!(site.uploads().last(), Some(&Upload::Whole(length)));
    }
}

#[tokio::test]
async fn a_response_that_an_origin_resets_before_its_end_is_cut_and_not_cached() {
    let script = Arc::new(Mutex::new(("", "")));
    let next = Arc::clone(&script);
    let origin = Origin::tcp(move |stream| {
        let next = Arc::clone(&next);
        async move {
            // The relay may go away at any moment.
            resets(stream, &next).await.ok();
        }
    })
    .await;
    let nats = Nats::start().await;
    let url = format!("h2c://{}", origin.address());
    let (agent, client) = tokio::join!(
        nats.upstream("hello", &url, &[]),
        nats.client(&["--upstream", "hello", "--cache", "8MB"]),
    );
    for end in ["NO_ERROR", "CANCEL", "GOAWAY", "FIN"] {
        for kind in ["length", "full", "chunks", "large", "none"] {
            for turn in 0..2 {
                *script.lock().unwrap() = (kind, end);
                let mut raw = client.raw().await;
                raw.send(format!("GET /{end}/{kind} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
                match raw.try_answer().await {
                    Ok(answer) => assert_eq!(answer.status, 502, "{end} {kind} {turn} looks whole"),
                    Err(error) => assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof),
                }
            }
        }
        for (method, kind) in [("HEAD", "none"), ("GET", "204"), ("GET", "304")] {
            *script.lock().unwrap() = (kind, end);
            let mut raw = client.raw().await;
            raw.send(format!("{method} /{end}/{kind} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
            assert_eq!(raw.answer_to_head().await.status, 502, "{method} {end} {kind} looks whole");
        }
    }
    for kind in ["204", "304"] {
        *script.lock().unwrap() = (kind, "content");
        client
            .raw()
            .await
            .ask(format!("GET /content/{kind} HTTP/1.1\r\nHost: a\r\n\r\n"))
            .await
            .problem()
            .is(502, "origin_broken", "upstream");
        // The length is that of another response.
        *script.lock().unwrap() = (kind, "empty");
        let answer = client.raw().await.ask(format!("GET /empty/{kind} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        assert_eq!(answer.status.to_string(), kind);
    }
    nothing_is_left(&[&client, &agent]).await;
}

/// Answers each request with the beginning of a response, and then with an end that is none, as `next` says.
async fn resets(stream: TcpStream, next: &Mutex<(&str, &str)>) -> io::Result<()> {
    let mut frames = Frames::serve(stream).await?;
    loop {
        let stream = frames.next_of(frames::HEADERS).await?.stream;
        let (kind, end) = *next.lock().unwrap();
        let status = if kind.parse::<u16>().is_ok() { kind } else { "200" };
        let length = match kind {
            "length" => Some("5"),
            "full" | "204" | "304" => Some("4"),
            "large" => Some("300000"),
            _ => None,
        };
        let mut fields = vec![(":status", status), ("cache-control", "max-age=60")];
        fields.extend(length.map(|length| ("content-length", length)));
        frames.head(0, stream, &fields).await?;
        match kind {
            "large" => {
                for _ in 0..4 {
                    frames.send(frames::DATA, 0, stream, [b'x'; 10_000]).await?;
                }
            }
            "length" | "full" | "chunks" => frames.send(frames::DATA, 0, stream, "half").await?,
            _ => {}
        }
        // What was sent is read before the end comes.
        frames.ping().await?;
        match end {
            "NO_ERROR" => frames.reset(stream, 0).await?,
            "CANCEL" => frames.reset(stream, 8).await?,
            "GOAWAY" => {
                frames.send(frames::GOAWAY, 0, 0, [0; 8]).await?;
                frames.ping().await.ok();
                return Ok(());
            }
            "content" => frames.send(frames::DATA, frames::END_STREAM, stream, "text").await?,
            "empty" => frames.send(frames::DATA, frames::END_STREAM, stream, "").await?,
            _ => return Ok(()),
        }
    }
}
