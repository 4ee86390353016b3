//! What JetStream keeps for how long, what it has no room for, and what of it is lost.

use async_nats::jetstream::{self, Context};
use tokio::sync::watch;

use crate::{
    stage::{JETSTREAM, Stage, location, value},
    support::{Nats, Origin, Role, Seen, answer, eventually, eventually_async, http, problem},
};

async fn jetstream_of(nats: &Nats) -> Context {
    jetstream::new(async_nats::connect(nats.url()).await.unwrap())
}

async fn messages(jetstream: &Context, stream: &str) -> u64 {
    jetstream.get_stream(stream).await.map_or(0, |stream| stream.cached_info().state.messages)
}

/// A server that answers with so many bytes as its path says; with the gate shut, `/waits` is not answered.
async fn sized(gate: &watch::Sender<bool>) -> Origin {
    let gate = gate.subscribe();
    Origin::start(move |seen: Seen| {
        let mut gate = gate.clone();
        async move {
            let size = seen.target[1..].parse::<usize>();
            if size.is_err() {
                gate.wait_for(|open| *open).await.ok();
            }
            answer(200, vec![b'x'; size.unwrap_or(1)])
        }
    })
    .await
}

#[tokio::test]
async fn a_job_that_is_over_is_kept_for_as_long_as_it_is_to_be_and_no_longer_for_its_lifetime() {
    let gate = watch::Sender::new(false);
    let at = Stage::with(sized(&gate).await, &["--job-keep", "2s", "--job-lifetime", "1h"], &[]).await;
    let running = at.later("/waits").await.body("x").send().await.unwrap();
    let large = at.later("/600000").await.body("y".repeat(600_000)).send().await.unwrap();
    assert_eq!(value(&at.over(&large).await, "x-relay-job"), "done");
    eventually_async("it is forgotten", || async { at.page(&large).await.status() == 404 }).await;
    let jetstream = jetstream_of(&at.nats).await;
    assert_eq!(messages(&jetstream, "relay-jobs").await, 1, "the other one runs");
    let bodies = jetstream.get_stream("OBJ_relay-bodies").await.unwrap();
    let parts = bodies.info_with_subjects("$O.relay-bodies.C.>").await.unwrap();
    assert_eq!(futures_util::StreamExt::count(parts).await, 0, "no body is left");
    gate.send_replace(true);
    assert_eq!(value(&at.over(&running).await, "x-relay-job"), "done");
}

#[tokio::test]
async fn streams_that_somebody_deleted_are_made_again_and_jobs_go_on() {
    let gate = watch::Sender::new(true);
    let at = Stage::with(sized(&gate).await, &[], &[]).await;
    let jetstream = jetstream_of(&at.nats).await;
    let all = ["relay-jobs", "relay-keys", "relay-dead", "OBJ_relay-bodies", "OBJ_relay-dead-bodies"];
    for deleted in all.iter().map(|name| vec![*name]).chain([all.to_vec()]) {
        for stream in &deleted {
            jetstream.delete_stream(stream).await.unwrap();
        }
        eventually_async("they are there again", || async {
            let mut there = true;
            for stream in &deleted {
                there &= jetstream.get_stream(stream).await.is_ok();
            }
            there
        })
        .await;
        let job = at.later("/600000").await.header("idempotency-key", deleted.join("."));
        let over = at.over(&job.body("x").send().await.unwrap()).await;
        assert_eq!(value(&over, "x-relay-job"), "done", "without {deleted:?}");
    }
    jetstream.get_stream("relay-jobs").await.unwrap().delete_consumer("brokers").await.unwrap();
    let over = at.over(&at.later("/1").await.send().await.unwrap()).await;
    assert_eq!(value(&over, "x-relay-job"), "done");
}

#[tokio::test]
async fn an_answer_that_a_full_disk_does_not_take_ends_its_job_with_a_dead_letter() {
    let gate = watch::Sender::new(true);
    let at = Stage::with(sized(&gate).await, &[], &[]).await;
    at.nats.limit_files(300_000);
    let large = at.later("/900000").await.body("x").send().await.unwrap();
    let small = at.later("/10").await.body("x").send().await.unwrap();
    assert_eq!(value(&at.over(&small).await, "x-relay-job"), "done");
    let over = at.over(&large).await;
    assert_eq!(value(&over, "x-relay-job"), "failed");
    problem(over).await.is(503, "jobs_unavailable", "broker").names("can't be stored");
    at.broker.counts("relay_dead_letters_total", "", 1.0).await;
    assert_eq!(at.one.hits(), 2);
}

#[tokio::test]
async fn parts_of_a_body_that_did_not_fit_take_no_room() {
    let gate = watch::Sender::new(true);
    let at = Stage::with(sized(&gate).await, &["--max-job-bytes", "4MiB"], &[]).await;
    // There is room for 1.5 MiB of bodies.
    for _ in 0..3 {
        let over = at.over(&at.later("/2000000").await.body("x").send().await.unwrap()).await;
        assert_eq!(value(&over, "x-relay-job"), "failed");
    }
    let over = at.over(&at.later("/1000000").await.body("x").send().await.unwrap()).await;
    assert_eq!(value(&over, "x-relay-job"), "done");
}

/// Three brokers that keep the jobs of one upstream in a server of their own.
struct Keeping {
    one: Origin,
    client: Role,
    _others: (Nats, [Role; 4]),
}

impl Keeping {
    async fn start(gate: &watch::Sender<bool>, store: &Nats) -> Keeping {
        let (nats, one) = (Nats::start().await, sized(gate).await);
        let flags = ["--store-server", &store.url()];
        let others = [
            nats.broker(&flags).await,
            nats.broker(&flags).await,
            nats.broker(&flags).await,
            nats.upstream("one", &one.url(), &[]).await,
        ];
        let client = nats.client(&["--upstream", "one", "--jobs", "on"]).await;
        Keeping { one, client, _others: (nats, others) }
    }
}

async fn all_are_done(client: &Role, pages: &[String]) {
    for page in pages {
        let page = client.url(page).await;
        let over = http().get(page).header("prefer", "wait=30").send().await.unwrap();
        assert_eq!(value(&over, "x-relay-job"), "done");
    }
}

#[tokio::test]
async fn nothing_runs_twice_that_may_not_when_a_nats_server_forgets_what_it_handed_out() {
    let gate = watch::Sender::new(false);
    let mut store = Nats::with(JETSTREAM).await;
    let Keeping { one, client, .. } = &Keeping::start(&gate, &store).await;
    let mut jobs = Vec::new();
    for n in 0..12 {
        let later = http().post(client.url("/waits").await).header("prefer", "respond-async");
        jobs.push(location(&later.body(n.to_string()).send().await.unwrap()));
    }
    eventually("all are under way", || one.hits() == 12).await;
    store = store
        .restart_after(|directory| {
            let state = directory.join("jetstream/jetstream/$G/streams/relay-jobs/obs/brokers/o.dat");
            std::fs::remove_file(state).unwrap();
        })
        .await;
    let jobs_stream = jetstream_of(&store).await.get_stream("relay-jobs").await.unwrap();
    eventually_async("each is stored as its broker's", || async {
        let info = jobs_stream.get_info().await.unwrap();
        info.state.first_sequence > 12 && jobs_stream.consumer_info("brokers").await.unwrap().num_pending == 0
    })
    .await;
    gate.send_replace(true);
    all_are_done(client, &jobs).await;
    assert_eq!(one.hits(), 12);
}

#[tokio::test]
async fn a_store_that_is_killed_again_and_again_runs_nothing_twice() {
    let gate = watch::Sender::new(true);
    let mut store = Nats::with(JETSTREAM).await;
    let Keeping { one, client, .. } = &Keeping::start(&gate, &store).await;
    let mut accepted = Vec::new();
    for round in 0..6 {
        for n in 0..15 {
            let later = http().post(client.url("/5").await).header("prefer", "respond-async");
            let answer = later.body(format!("{round}.{n}")).send().await.unwrap();
            if answer.status() == 202 {
                accepted.push(location(&answer));
            }
        }
        store = store.restart().await;
    }
    all_are_done(client, &accepted).await;
    let mut bodies: Vec<_> = one.seen().iter().map(|seen| seen.body.clone()).collect();
    let all = bodies.len();
    bodies.sort();
    bodies.dedup();
    assert_eq!(bodies.len(), all, "each has run once");
}
