//! Hops that fail: what is tried again, and who is told.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use crate::{
    stage::{Stage, says, value},
    support::{Origin, Seen, answer},
};

#[tokio::test]
async fn a_server_that_answers_with_an_error_is_told_with_all_that_is_not_done() {
    let mut at = Stage::start().await;
    let bad = Origin::start(|_| async {
        let mut response = answer(418, "short and stout");
        response.headers_mut().insert("content-type", "text/x-teapot".parse().unwrap());
        response
    })
    .await;
    let errors = failing_first(1).await;
    let never = says("never").await;
    at.serve("bad", &bad).await;
    at.serve("errors", &errors.0).await;
    at.serve("never", &never).await;
    let chain = at.chain("/p", "http://bad, http://never/x", "a=b, c=d%2Ce", "POST, PUT");
    let accepted = chain.await.send().await.unwrap();
    let over = at.over(&accepted).await;
    assert_eq!(value(&over, "x-relay-job"), "failed");
    assert_eq!((over.status().as_u16(), over.text().await.unwrap()), (418, "short and stout".into()));
    // It was told again as the first time failed, and by the same key.
    let told = errors.0.seen();
    assert_eq!(told.len(), 2);
    assert_eq!(told[0].value("idempotency-key"), told[1].value("idempotency-key"));
    let told = &told[1];
    assert_eq!(format!("{} {}", told.method, told.target), "POST /told");
    for (name, expected) in [
        ("x-forward-error-condition", "External"),
        ("x-forward-error-code", "418"),
        ("x-forward-error-message", "hop 1 was answered with 418 I'm a teapot"),
        ("x-forward-to", "http://bad, http://never/x"),
        ("x-forward-query-params", "a=b, c=d%2Ce"),
        ("x-forward-method", "POST, PUT"),
        ("content-type", "text/x-teapot"),
    ] {
        assert_eq!(told.value(name), expected, "{name}");
    }
    assert_eq!(told.value("x-forward-id"), value(&accepted, "x-forward-id"));
    assert_eq!(told.value("x-forward-referer"), format!("http://{}/p", at.client.address().await));
    assert_eq!(&told.body[..], b"short and stout");
    assert_eq!((bad.hits(), never.hits()), (1, 0), "a POST that was answered is not sent again");
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_is_an_internal_error_after_several_attempts() {
    let mut at = Stage::start().await;
    let errors = says("errors").await;
    at.serve("errors", &errors).await;
    let accepted = at.chain("/", "http://nobody/x", "", "POST").await.send().await.unwrap();
    at.over(&accepted).await;
    let told = errors.only();
    assert_eq!(told.value("x-forward-error-condition"), "Internal");
    assert!(told.values("x-forward-error-code").is_empty());
    assert!(told.value("x-forward-error-message").contains("no upstream agent is there"), "{told:?}");
    assert_eq!(told.value("x-forward-to"), "http://nobody/x");
    let progress = at.progress(&accepted).await;
    assert_eq!(
        (progress["state"].as_str(), progress["error"]["code"].as_str()),
        (Some("failed"), Some("no_agent"))
    );
}

#[tokio::test]
async fn what_nobody_may_call_is_not_called() {
    let mut at = Stage::with(says("one").await, &[], &["--forward-to", "errors"]).await;
    let (errors, secret) = (says("errors").await, says("secret").await);
    at.serve("errors", &errors).await;
    at.serve("secret", &secret).await;
    for (to, code) in [("http://example.com/x", "no_route"), ("http://secret/x", "not_allowed")] {
        let accepted = at.chain("/", to, "", "POST").await.send().await.unwrap();
        at.over(&accepted).await;
        let progress = at.progress(&accepted).await;
        assert_eq!(progress["error"]["code"], code, "{to}: {progress}");
    }
    assert_eq!((errors.hits(), secret.hits()), (2, 0));
}

#[tokio::test]
async fn a_put_that_is_asked_to_come_again_is_sent_again_by_the_same_key() {
    let mut at = Stage::start().await;
    let (busy, hits) = failing_first(2).await;
    at.serve("busy", &busy).await;
    let accepted = at.chain("/", "http://busy/x", "", "PUT").await.send().await.unwrap();
    assert_eq!(value(&at.over(&accepted).await, "x-relay-job"), "done");
    assert_eq!(hits.load(Ordering::Relaxed), 3);
    let keys: std::collections::BTreeSet<_> =
        busy.seen().iter().map(|seen| seen.value("idempotency-key")).collect();
    assert_eq!(keys.len(), 1);
}

#[tokio::test]
async fn a_post_that_may_have_run_is_sent_again_only_where_that_is_asked_for() {
    for (flags, hits) in [(&[][..], 1), (&["--retry-unsafe"][..], 3)] {
        let mut at = Stage::with(says("one").await, flags, &[]).await;
        let (busy, _) = failing_first(2).await;
        at.serve("busy", &busy).await;
        let accepted = at.chain("/", "http://busy/x", "", "POST").await.send().await.unwrap();
        at.over(&accepted).await;
        assert_eq!(busy.hits(), hits);
    }
}

/// A server that answers 503 so often, then 200.
async fn failing_first(times: usize) -> (Origin, Arc<AtomicUsize>) {
    let hits = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&hits);
    let origin = Origin::start(move |_: Seen| {
        let hit = counter.fetch_add(1, Ordering::Relaxed);
        async move { if hit < times { answer(503, "busy") } else { answer(200, "done") } }
    });
    (origin.await, hits)
}
