//! How many jobs may be kept of one upstream, and of one caller.

use crate::{
    stage::{Stage, location, says, value},
    support::{http, problem},
};

#[tokio::test]
async fn one_upstream_leaves_room_for_the_jobs_of_others() {
    let mut at = Stage::with(says("one").await, &["--max-jobs-per-upstream", "2"], &[]).await;
    let two = says("two").await;
    at.serve("two", &two).await;
    let other = at.nats.client(&["--upstream", "two", "--jobs", "on"]).await;
    let keyed = async || at.later("/").await.header("idempotency-key", "k").send().await.unwrap();
    let first = keyed().await;
    at.over(&at.later("/").await.send().await.unwrap()).await;

    let refused = at.later("/").await.send().await.unwrap();
    assert_eq!(value(&refused, "retry-after"), "60");
    problem(refused).await.is(503, "jobs_full", "broker").names("--max-jobs-per-upstream");
    let refused = at.later("/").await.header("idempotency-key", "other").send().await.unwrap();
    problem(refused).await.is(503, "jobs_full", "broker");
    assert_eq!(location(&keyed().await), location(&first), "a job that is there is no new one");
    let later = http().get(other.url("/").await).header("prefer", "respond-async, wait=30");
    assert_eq!(value(&later.send().await.unwrap(), "x-relay-job"), "done");

    // Jobs that may go to several upstreams are counted together.
    for n in 0..3 {
        let chain = at.chain("/", "http://two/x", "", "POST").await.send().await.unwrap();
        if n < 2 {
            at.over(&chain).await;
        } else {
            problem(chain).await.is(503, "jobs_full", "broker");
        }
    }
    // Another broker counts the same.
    let broker = at.nats.broker(&["--max-jobs-per-upstream", "2"]).await;
    at.broker.term();
    assert!(at.broker.ended().await.success());
    problem(at.later("/").await.send().await.unwrap()).await.is(503, "jobs_full", "broker");
    drop(broker);
}

#[tokio::test]
async fn one_caller_leaves_room_for_the_jobs_of_others() {
    let flags = ["--trusted-proxy", "127.0.0.0/8"];
    let mut at = Stage::with(says("one").await, &["--max-jobs-per-caller", "2"], &flags).await;
    let two = says("two").await;
    at.serve("two", &two).await;
    let later =
        async |caller: &str| at.later("/").await.header("x-forwarded-for", caller).send().await.unwrap();
    assert_eq!(later("192.0.2.1").await.status(), 202);
    let chain = at.chain("/", "http://two/x", "", "POST").await.header("x-forwarded-for", "192.0.2.1");
    at.over(&chain.send().await.unwrap()).await;

    let refused = later("192.0.2.1").await;
    assert_eq!(value(&refused, "retry-after"), "60");
    problem(refused).await.is(429, "too_many_jobs", "broker").names("--max-jobs-per-caller");
    let chain = at.chain("/", "http://two/x", "", "POST").await.header("x-forwarded-for", "192.0.2.1");
    problem(chain.send().await.unwrap()).await.is(429, "too_many_jobs", "broker");
    assert_eq!(two.hits(), 1, "nothing of a chain that is refused is sent");
    assert_eq!(later("192.0.2.2").await.status(), 202);
    let ordinary = http().get(at.client.url("/").await).header("x-forwarded-for", "192.0.2.1");
    assert_eq!(ordinary.send().await.unwrap().status(), 200);
}
