//! Requests that are answered later.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use crate::{
    stage::{Stage, location, said, says, value},
    support::{Origin, Seen, answer, eventually, http, problem},
};

#[tokio::test]
async fn a_request_is_accepted_at_once_and_its_response_is_kept() {
    let first = Origin::start(|seen: Seen| async move {
        let mut response = said("one", &seen);
        response.headers_mut().insert("set-cookie", "a=b".parse().unwrap());
        response
    });
    let at = Stage::with(first.await, &[], &[]).await;
    let asked = at.later("/report?x=1").await.header("prefer", "return=minimal").header("x-own", "kept");
    let accepted = asked.body("order").send().await.unwrap();
    assert_eq!(value(&accepted, "preference-applied"), "respond-async");
    let over = at.over(&accepted).await;
    assert_eq!((over.status().as_u16(), value(&over, "set-cookie")), (200, "a=b".into()));
    assert_eq!(over.text().await.unwrap(), "one(order)");
    let seen = at.one.only();
    assert_eq!(format!("{} {}", seen.method, seen.target), "POST /report?x=1");
    assert_eq!((seen.value("x-own"), seen.value("prefer")), ("kept".into(), "return=minimal".into()));
    assert_eq!(seen.value("host"), at.client.address().await.to_string());
    assert_eq!(seen.value("x-forwarded-for"), "127.0.0.1");
}

#[tokio::test]
async fn an_empty_body_keeps_its_length_when_it_is_answered_later() {
    let at = Stage::start().await;
    for (turn, (framing, length)) in [
        ("Content-Length: 0\r\n\r\n", "0"),
        ("Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "0"),
        ("\r\n", ""),
    ]
    .into_iter()
    .enumerate()
    {
        let request = format!("PUT /empty HTTP/1.1\r\nHost: a\r\nPrefer: respond-async\r\n{framing}");
        assert_eq!(at.client.raw().await.ask(request).await.status, 202);
        eventually("the request runs", || at.one.hits() == turn + 1).await;
        assert_eq!(at.one.last().value("content-length"), length, "{framing}");
    }
}

#[tokio::test]
async fn a_target_that_is_no_text_is_no_jobs() {
    let at = Stage::start().await;
    let mut raw = at.client.raw().await;
    let refused = raw.ask(b"PUT /\xFF HTTP/1.1\r\nHost: a\r\nPrefer: respond-async\r\n\r\n").await;
    refused.problem().is(400, "bad_target", "client").names("%XX");
    let taken = "PUT /{\u{e4}} HTTP/1.1\r\nHost: a\r\nPrefer: respond-async\r\n\r\n";
    assert_eq!(raw.ask(taken).await.status, 202);
    eventually("the request runs", || at.one.hits() == 1).await;
    assert_eq!(at.one.only().target, "/{\u{e4}}");
}

#[tokio::test]
async fn a_request_waits_for_an_agent_to_come() {
    let nats = crate::support::Nats::with(crate::stage::JETSTREAM).await;
    let _broker = nats.broker(&[]).await;
    let client = nats.client(&["--upstream", "one", "--jobs", "on"]).await;
    let accepted = http().post(client.url("/").await).header("prefer", "respond-async").body("x");
    let accepted = accepted.send().await.unwrap();
    let page = client.get(&location(&accepted)).await;
    assert_eq!(page.status(), 202);
    let one = says("one").await;
    let _agent = nats.upstream("one", &one.url(), &[]).await;
    let waits = http().get(client.url(&location(&accepted)).await).header("prefer", "wait=30");
    assert_eq!(waits.send().await.unwrap().text().await.unwrap(), "one(x)");
    assert_eq!(one.hits(), 1);
}

#[tokio::test]
async fn an_ordinary_preference_is_the_origins() {
    let at = Stage::start().await;
    let answered = http().get(at.client.url("/").await).header("prefer", "wait=5").send().await.unwrap();
    assert_eq!(answered.status(), 200);
    assert_eq!(at.one.only().value("prefer"), "wait=5");
}

#[tokio::test]
async fn the_same_key_is_the_same_job() {
    let at = Stage::start().await;
    let ask = async |key: &str, body: &'static str, who: &str| {
        let asked = at.later("/pay").await.header("idempotency-key", key).header("authorization", who);
        asked.body(body).send().await.unwrap()
    };
    let first = ask("k1", "10", "alice").await;
    let again = ask("k1", "10", "alice").await;
    assert_eq!(location(&first), location(&again));
    at.over(&first).await;
    assert_eq!(location(&first), location(&ask("k1", "10", "alice").await));
    problem(ask("k1", "20", "alice").await).await.is(422, "key_reused", "broker");
    // Somebody else's key leads to a job of their own.
    let other = ask("k1", "10", "bob").await;
    assert_ne!(location(&first), location(&other));
    at.over(&other).await;
    assert_eq!(at.one.hits(), 2);
    assert_eq!(at.one.last().value("idempotency-key"), "k1");
}

#[tokio::test]
async fn callers_who_differ_in_a_credential_never_share_a_job() {
    let at = Stage::with(says("one").await, &[], &["--credential-header", "x-tenant"]).await;
    let ask = async |credentials: &[(&str, &str)]| {
        let asked = at.later("/pay").await.header("idempotency-key", "k1");
        let asked = credentials.iter().fold(asked, |asked, (name, value)| asked.header(*name, *value));
        location(&asked.send().await.unwrap())
    };
    let callers: &[&[(&str, &str)]] = &[
        &[],
        &[("x-api-key", "alice")],
        &[("x-api-key", "bob")],
        &[("authorization", "alice"), ("authorization", "bob")],
        &[("authorization", "alice")],
        &[("cookie", "id=alice"), ("cookie", "theme=dark")],
        &[("cookie", "id=alice"), ("cookie", "theme=light")],
        &[("x-tenant", "alice")],
        &[("x-tenant", "bob")],
    ];
    let mut jobs = std::collections::BTreeSet::new();
    for caller in callers {
        let job = ask(caller).await;
        assert_eq!(job, ask(caller).await, "the same caller");
        assert!(jobs.insert(job), "{caller:?} shares the job of another");
    }
}

#[tokio::test]
async fn the_response_is_posted_to_whoever_is_named() {
    let mut at = Stage::start().await;
    let listener = says("listener").await;
    at.serve("listener", &listener).await;
    let asked = at.later("/report").await.header("x-relay-callback", "http://listener/done?n=1");
    let accepted = asked.body("x").send().await.unwrap();
    at.over(&accepted).await;
    let told = listener.only();
    assert_eq!(format!("{} {}", told.method, told.target), "POST /done?n=1");
    assert_eq!(told.value("x-relay-job"), location(&accepted).trim_start_matches("/.relay/jobs/"));
    assert_eq!((told.value("x-relay-job-status"), &told.body[..]), ("200".into(), &b"one(x)"[..]));
    assert!(at.one.only().values("x-relay-callback").is_empty());
    let bad = at.later("/").await.header("x-relay-callback", "nowhere").send().await.unwrap();
    problem(bad).await.is(400, "bad_job", "client").names("X-Relay-Callback");
}

#[tokio::test]
async fn a_server_that_says_when_to_come_again_is_asked_then() {
    static HITS: AtomicUsize = AtomicUsize::new(0);
    let busy = Origin::start(|_| async {
        if HITS.fetch_add(1, Ordering::Relaxed) > 0 {
            return answer(200, "at last");
        }
        let mut response = answer(503, "busy");
        response.headers_mut().insert("retry-after", "2".parse().unwrap());
        response
    });
    let at = Stage::with(busy.await, &[], &[]).await;
    let started = Instant::now();
    let asked = at.later("/").await.header("idempotency-key", "k");
    let over = at.over(&asked.send().await.unwrap()).await;
    assert_eq!(over.text().await.unwrap(), "at last");
    assert!(started.elapsed() >= Duration::from_secs(2), "it was asked too soon");
}

#[tokio::test]
async fn an_error_that_is_an_answer_is_the_answer() {
    let at = Stage::with(Origin::start(|_| async { answer(404, "no such thing") }).await, &[], &[]).await;
    let over = at.over(&at.later("/").await.send().await.unwrap()).await;
    assert_eq!((over.status().as_u16(), value(&over, "x-relay-job")), (404, "done".into()));
    assert_eq!(at.one.hits(), 1);
}

#[tokio::test]
async fn a_job_ends_with_its_lifetime() {
    let nats = crate::support::Nats::with(crate::stage::JETSTREAM).await;
    let broker = nats.broker(&["--job-lifetime", "1s"]).await;
    let client = nats.client(&["--upstream", "nobody", "--jobs", "on"]).await;
    let accepted = http().post(client.url("/").await).header("prefer", "respond-async").send().await.unwrap();
    broker.counts("relay_jobs_ended_total", "failed", 1.0).await;
    problem(client.get(&location(&accepted)).await).await.is(504, "job_expired", "broker");
    assert!(broker.metric("relay_dead_letters_total", "").await >= 1.0);
}

#[tokio::test]
async fn a_body_may_be_larger_than_a_message_but_not_than_its_limit() {
    let at = Stage::with(Origin::echo().await, &[], &["--max-job-body", "4MB"]).await;
    let body = vec![7_u8; 3_000_000];
    let over = at.over(&at.later("/").await.body(body.clone()).send().await.unwrap()).await;
    assert!(over.bytes().await.unwrap() == body, "the body came back as it was");
    let large = at.later("/").await.body(vec![7_u8; 4_000_001]).send().await.unwrap();
    problem(large).await.is(413, "body_too_large", "client").names("max-job-body");
}

#[tokio::test]
async fn many_jobs_run_beside_each_other_and_each_once() {
    let at = Stage::start().await;
    let mut pages = Vec::new();
    for n in 0..200 {
        pages.push(at.later(&format!("/{n}")).await.send().await.unwrap());
    }
    eventually("all have run", || at.one.hits() >= 200).await;
    for page in &pages {
        assert_eq!(at.over(page).await.status(), 200);
    }
    let distinct: std::collections::BTreeSet<_> = at.one.seen().into_iter().map(|seen| seen.target).collect();
    assert_eq!((distinct.len(), at.one.hits()), (200, 200));
}
