//! What was accepted is done, whoever is killed.

use std::{collections::BTreeSet, time::Duration};

use tokio::sync::watch;

use crate::{
    stage::{JETSTREAM, Stage, location, says, value},
    support::{Nats, Origin, Seen, eventually, http, problem},
};

/// A server that waits for the gate before it answers with what it got.
async fn gated(gate: &watch::Sender<bool>) -> Origin {
    let gate = gate.subscribe();
    Origin::start(move |seen: Seen| {
        let mut gate = gate.clone();
        async move {
            gate.wait_for(|open| *open).await.ok();
            crate::stage::said("gated", &seen)
        }
    })
    .await
}

#[tokio::test]
async fn a_chain_goes_on_where_a_broker_that_died_stopped() {
    let gate = watch::Sender::new(false);
    let mut at = Stage::start().await;
    let (two, middle, last) = (says("two").await, gated(&gate).await, says("last").await);
    at.serve("two", &two).await;
    at.serve("gated", &middle).await;
    at.serve("last", &last).await;
    let chain = at.chain("/", "http://two, http://gated, http://last", ",,", "POST,POST,PUT");
    let accepted = chain.await.body("x").send().await.unwrap();
    eventually("the hop in the middle is under way", || middle.hits() == 1).await;
    at.broker.kill9();
    at.broker = at.nats.broker(&[]).await;
    eventually("the other broker asks again", || middle.hits() == 2).await;
    gate.send_replace(true);
    assert_eq!(at.over(&accepted).await.text().await.unwrap(), "last(gated(two(one(x))))");
    let keys: Vec<_> = middle.seen().iter().map(|seen| seen.value("idempotency-key")).collect();
    assert_eq!(keys[0], keys[1], "it can be told that it is the same");
    assert_eq!((at.one.hits(), two.hits(), last.hits()), (1, 1, 1));
}

#[tokio::test]
async fn a_broker_that_is_stopped_finishes_what_it_has() {
    let gate = watch::Sender::new(false);
    let mut at = Stage::start().await;
    let slow = gated(&gate).await;
    at.serve("gated", &slow).await;
    let accepted = at.chain("/", "http://gated", "", "POST").await.send().await.unwrap();
    eventually("the hop is under way", || slow.hits() == 1).await;
    at.broker.term();
    gate.send_replace(true);
    assert!(at.broker.ended().await.success());
    let _other = at.nats.broker(&[]).await;
    assert_eq!(value(&at.over(&accepted).await, "x-relay-job"), "done");
    assert_eq!(slow.hits(), 1);
}

#[tokio::test]
async fn a_broker_whose_grace_is_over_leaves_nothing_to_others_that_may_not_run_twice() {
    let gate = watch::Sender::new(false);
    for grace in ["1s", "60s"] {
        let at = Stage::with(gated(&gate).await, &["--grace", grace], &[]).await;
        let post = at.later("/post").await.body("x").send().await.unwrap();
        let get =
            http().get(at.client.url("/get").await).header("prefer", "respond-async").send().await.unwrap();
        let keyed = at.later("/keyed").await.header("idempotency-key", "k").send().await.unwrap();
        eventually("all are under way", || at.one.hits() == 3).await;
        let other = at.nats.broker(&["--wait", "300ms"]).await;
        at.broker.term();
        if grace == "60s" {
            at.broker.says("stopping").await;
            at.broker.term();
        }
        assert!(at.broker.ended().await.success());
        eventually("what may run twice is asked again", || at.one.hits() == 5).await;
        gate.send_replace(true);
        assert_eq!(value(&at.over(&get).await, "x-relay-job"), "done");
        assert_eq!(value(&at.over(&keyed).await, "x-relay-job"), "done");
        let failed = at.over(&post).await;
        assert_eq!(value(&failed, "x-relay-job"), "failed");
        problem(failed).await.is(504, "response_timeout", "broker").names("not known what came of it");
        other.counts("relay_dead_letters_total", "", 1.0).await;
        let posts = at.one.seen().iter().filter(|seen| seen.target == "/post").count();
        assert_eq!(posts, 1, "it may have run");
        gate.send_replace(false);
    }
}

#[tokio::test]
async fn chains_outlive_all_brokers_and_a_restart_of_nats() {
    let nats = Nats::with(JETSTREAM).await;
    let gate = watch::Sender::new(false);
    let (one, two) = (says("one").await, gated(&gate).await);
    let agents = [nats.upstream("one", &one.url(), &[]).await, nats.upstream("two", &two.url(), &[]).await];
    let client = nats.client(&["--upstream", "one", "--forward-to", "any", "--jobs", "on"]).await;
    let broker = nats.broker(&[]).await;
    let mut pages = Vec::new();
    for n in 0..20 {
        let chain = http()
            .post(client.url(&format!("/{n}")).await)
            .header("x-forward-id", uuid::Uuid::new_v4().to_string())
            .header("x-forward-errors-to", "http://errors/")
            .header("x-forward-referer", "ORIGIN")
            .header("x-forward-to", "http://two, http://two/last")
            .header("x-forward-query-params", ",")
            .header("x-forward-method", "POST,PUT");
        pages.push(location(&chain.send().await.unwrap()));
    }
    broker.kill9();
    let nats = nats.restart().await;
    gate.send_replace(true);
    let _broker = nats.broker(&[]).await;
    for page in &pages {
        let waits = http().get(client.url(page).await).header("prefer", "wait=40").send().await.unwrap();
        assert_eq!(waits.text().await.unwrap(), "gated(gated(one()))");
    }
    let keys: BTreeSet<_> = two.seen().iter().map(|seen| seen.value("idempotency-key")).collect();
    assert_eq!(
        (one.hits(), keys.len()),
        (20, 40),
        "what was under way at the broker that died runs again, as itself"
    );
    drop(agents);
}

#[tokio::test]
async fn brokers_share_the_jobs() {
    let at = Stage::start().await;
    let other = at.nats.broker(&[]).await;
    for n in 0..40 {
        at.later(&format!("/{n}")).await.send().await.unwrap();
    }
    eventually("all have run", || at.one.hits() >= 40).await;
    at.broker.counts("relay_job_hops_total", "", 1.0).await;
    other.counts("relay_job_hops_total", "", 1.0).await;
    tokio::time::timeout(Duration::from_secs(10), async {
        while at.broker.metric("relay_job_hops_total", "").await
            + other.metric("relay_job_hops_total", "").await
            < 40.0
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .unwrap();
    assert_eq!(at.one.hits(), 40);
}
