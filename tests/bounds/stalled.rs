//! Callers that do not read what they asked for, and origins that do not read what is sent to them.

use bytes::Bytes;
use tokio::{io::AsyncWriteExt, sync::watch};

use crate::support::{origin::read_request, *};

/// An origin of one large response at any path but `/small`; `/stored` may be stored.
async fn large(bytes: usize) -> Origin {
    let body = Bytes::from(vec![b'x'; bytes]);
    Origin::start(move |seen| {
        let body = body.clone();
        async move {
            let mut response = match seen.target.as_str() {
                "/small" => answer(200, "small"),
                _ => answer(200, body),
            };
            if seen.target == "/stored" {
                let fresh = http::HeaderValue::from_static("max-age=3600");
                response.headers_mut().insert(http::header::CACHE_CONTROL, fresh);
            }
            response
        }
    })
    .await
}

/// The same, by HTTP/1 of its own: what nobody reads of it does not use up the memory for TCP of the machine that the
/// relay is tested on.
async fn thrifty(bytes: usize) -> Origin {
    let body = Bytes::from(vec![b'x'; bytes]);
    Origin::tcp(move |mut stream| {
        let body = body.clone();
        async move {
            relay::framing::keep_little_unsent(&stream);
            while let Some(request) = read_request(&mut stream).await {
                let body =
                    if request.starts_with(b"GET /small") { Bytes::from("small") } else { body.clone() };
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                if stream.write_all(head.as_bytes()).await.is_err() || stream.write_all(&body).await.is_err()
                {
                    return;
                }
            }
        }
    })
    .await
}

async fn asks(relay: &Relay, path: &str) -> Raw {
    let mut raw = relay.raw().await;
    raw.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n")).await;
    raw
}

async fn nothing_is_left(role: &Role) {
    for name in ["relay_streams", "relay_requests_in_flight", "relay_connections"] {
        eventually_async(&format!("{name} is 0 again"), || async { role.metric(name, "").await == 0.0 })
            .await;
    }
}

/// A NATS server cuts off a client that it has 64 MiB for (`max_pending`).
#[tokio::test]
async fn answers_that_arrive_all_at_once_do_not_cost_a_busy_client_agent_its_connection() {
    const ALL: u32 = 1600;
    let (gate, whole, streamed) = (watch::Sender::new(false), 120_000, 1 << 20);
    let opens = gate.subscribe();
    let origin = Origin::start(move |seen| {
        let mut opens = opens.clone();
        async move {
            opens.wait_for(|open| *open).await.ok();
            answer(200, vec![b'x'; if seen.target == "/whole" { whole } else { streamed }])
        }
    });
    let relay = Relay::to(origin.await)
        .nats("write_deadline: \"60s\"")
        .agent(&["--max-in-flight", "2000"])
        .start()
        .await;
    let mut waiting = Vec::new();
    for at in 0..ALL {
        let (path, length) = if at % 2 == 0 { ("/whole", whole) } else { ("/streamed", streamed) };
        waiting.push((asks(&relay, path).await, length));
    }
    eventually("the origin has all requests", || relay.origin.hits() == waiting.len()).await;
    let agent = &relay.agent;
    relay.client.stop();
    gate.send_replace(true);
    // Each response has begun or ended: what may come without credit is with the NATS server.
    eventually_async("the agent has all responses", || async {
        let ended = agent.metric("relay_origin_calls_total", "outcome=\"answered\"").await;
        agent.metric("relay_streams", "").await + ended >= f64::from(ALL)
    })
    .await;
    relay.client.cont();
    for (mut raw, length) in waiting {
        let answer = raw.answer().await;
        assert_eq!((answer.status, answer.body.len()), (200, length));
    }
    assert_eq!(relay.client.metric("relay_nats_reconnects_total", "").await, 0.0);
}

#[tokio::test]
async fn a_caller_that_takes_nothing_of_its_response_is_given_up() {
    let relay = Relay::to(large(20 << 20).await).client(&["--send-timeout", "1s"]).start().await;
    let stalled = asks(&relay, "/").await;
    relay.client.says("decision=send_timeout").await;
    relay.client.counts("relay_send_timeouts_total", "", 1.0).await;
    nothing_is_left(&relay.client).await;
    nothing_is_left(&relay.agent).await;
    eventually("the origin is left", || relay.origin.open() == 0).await;
    assert_eq!(relay.get("/small").await.text().await.unwrap(), "small");
    assert_eq!(relay.client.metric("relay_faults_total", "code=\"send_timeout\"").await, 1.0);
    drop(stalled);
}

#[tokio::test]
async fn a_caller_that_takes_nothing_of_what_is_stored_is_given_up() {
    let flags = ["--send-timeout", "1s", "--cache", "64MiB"];
    let relay = Relay::to(large(8 << 20).await).client(&flags).start().await;
    assert_eq!(asks(&relay, "/stored").await.answer().await.body.len(), 8 << 20);
    relay.client.counts("relay_cache_entries", "", 1.0).await;
    let stalled = asks(&relay, "/stored").await;
    relay.client.counts("relay_send_timeouts_total", "", 1.0).await;
    nothing_is_left(&relay.client).await;
    assert_eq!(relay.origin.hits(), 1);
    drop(stalled);
}

#[tokio::test]
async fn a_stream_of_http2_that_is_not_read_is_reset_and_the_others_of_its_connection_go_on() {
    let flags = ["--send-timeout", "1s", "--cache", "64MiB"];
    for path in ["/", "/stored"] {
        let relay = Relay::to(large(8 << 20).await).client(&flags).start().await;
        assert_eq!(relay.get("/stored").await.status(), 200);
        let tcp = tokio::net::TcpStream::connect(relay.client.address().await).await.unwrap();
        let mut builder = h2::client::Builder::new();
        builder.initial_connection_window_size(1 << 20);
        let (sender, connection) = builder.handshake::<_, Bytes>(tcp).await.unwrap();
        tokio::spawn(connection);
        let mut sender = sender.ready().await.unwrap();
        let mut get = |path: &str| {
            let request = http::Request::get(format!("http://test{path}")).body(()).unwrap();
            sender.send_request(request, true).unwrap().0
        };
        // Its window is 64 KiB, and nothing opens it.
        let mut body = get(path).await.unwrap().into_body();
        let mut read = 0;
        let end = loop {
            match body.data().await.expect("it does not end") {
                Ok(data) => read += data.len(),
                Err(error) => break error,
            }
        };
        assert_eq!((end.reason(), read), (Some(h2::Reason::CANCEL), 65_535), "{path}");
        relay.client.counts("relay_send_timeouts_total", "", 1.0).await;
        let mut small = get("/small").await.unwrap().into_body();
        assert_eq!(small.data().await.unwrap().unwrap(), "small");
        eventually_async("no stream is left", || async {
            relay.client.metric("relay_streams", "").await == 0.0
                && relay.agent.metric("relay_streams", "").await == 0.0
        })
        .await;
    }
}

#[tokio::test]
async fn an_event_stream_that_is_idle_is_not_one_whose_caller_reads_nothing() {
    let gate = tokio::sync::watch::Sender::new(false);
    let body = Bytes::from(vec![b'x'; 20 << 20]);
    let opened = gate.clone();
    let origin = Origin::tcp(move |mut stream| {
        let (mut opened, body) = (opened.subscribe(), body.clone());
        async move {
            let request = read_request(&mut stream).await.unwrap_or_default();
            if !request.starts_with(b"GET /events") {
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                stream.write_all(head.as_bytes()).await.ok();
                stream.write_all(&body).await.ok();
                return;
            }
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n";
            stream.write_all(head.as_bytes()).await.unwrap();
            opened.wait_for(|open| *open).await.unwrap();
            stream.write_all(b"data: 2\n\n").await.unwrap();
        }
    })
    .await;
    let relay = Relay::to(origin).client(&["--send-timeout", "1s"]).start().await;
    let mut events = asks(&relay, "/events").await;
    events.says(b"data: 1\n\n").await;
    // Each of these waits for as long as the idle one may not.
    for times in 1..=3 {
        let stalled = asks(&relay, "/").await;
        relay.client.counts("relay_send_timeouts_total", "", f64::from(times)).await;
        drop(stalled);
    }
    gate.send_replace(true);
    events.says(b"data: 2\n\n").await;
}

#[tokio::test]
async fn a_caller_that_switched_protocols_and_reads_nothing_is_given_up() {
    let origin = Origin::tcp(|mut stream| async move {
        read_request(&mut stream).await;
        let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: flood\r\n\r\n";
        stream.write_all(head.as_bytes()).await.ok();
        let flood = [b'x'; 65536];
        while stream.write_all(&flood).await.is_ok() {}
    })
    .await;
    let relay = Relay::to(origin).client(&["--send-timeout", "1s"]).start().await;
    let mut raw = relay.raw().await;
    raw.send("GET / HTTP/1.1\r\nHost: test\r\nConnection: upgrade\r\nUpgrade: flood\r\n\r\n").await;
    relay.client.says("decision=send_timeout").await;
    nothing_is_left(&relay.client).await;
    eventually("the origin is left", || relay.origin.connected() == 0).await;
}

#[tokio::test]
async fn an_origin_that_takes_nothing_of_an_upload_is_given_up() {
    let origin = Origin::tcp(|stream| async move {
        // It reads nothing, and stays.
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let relay = Relay::to(origin).agent(&["--send-timeout", "1s"]).start().await;
    let mut raw = relay.raw().await;
    raw.send(format!("PUT / HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n", 100 << 20)).await;
    let feed = vec![b'x'; 1 << 20];
    // It is sent until the answer is here, and cannot be sent any more.
    let sent = async { while raw.try_send(&feed).await.is_ok() {} };
    tokio::select! {
        () = sent => {}
        _ = relay.client.says("decision=send_timeout") => {}
    }
    raw.answer().await.problem().is(504, "send_timeout", "upstream").names("--send-timeout");
    nothing_is_left(&relay.agent).await;
    drop(raw);
    nothing_is_left(&relay.client).await;
}

#[tokio::test]
async fn hundreds_of_callers_that_read_nothing_take_little_memory_and_others_go_on() {
    let (agent, client) = (["--max-in-flight", "3000"], ["--send-timeout", "10m"]);
    let relay = Relay::to(thrifty(20 << 20).await).agent(&agent).client(&client).start().await;
    assert_eq!(relay.get("/").await.bytes().await.unwrap().len(), 20 << 20, "one that reads");
    let before = relay.client.memory();
    let mut stalled = Vec::new();
    for _ in 0..STALLED {
        stalled.push(asks(&relay, "/").await);
    }
    relay.client.counts("relay_streams", "", STALLED as f64).await;
    for _ in 0..20 {
        assert_eq!(relay.get("/small").await.text().await.unwrap(), "small");
    }
    assert_eq!(relay.get("/").await.bytes().await.unwrap().len(), 20 << 20, "one that reads");
    let taken = relay.client.memory().saturating_sub(before);
    let most = GRANTED + STALLED as u64 * 64 * 1024 + SLACK;
    assert!(taken < most, "{STALLED} take {} KiB each, {} MiB", taken / STALLED as u64 / 1024, taken >> 20);
    assert!(relay.client.lines("slow consumer").is_empty());
    drop(stalled);
    nothing_is_left(&relay.client).await;
    nothing_is_left(&relay.agent).await;
}

const STALLED: usize = 300;
/// What all streams of a process may have ahead of their readers, as long as each has its least.
const GRANTED: u64 = 32 << 20;
/// What the allocator keeps beyond that, and the buffers that frames were read into.
const SLACK: u64 = 16 << 20;
