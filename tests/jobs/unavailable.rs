//! What can't be stored is refused at once, and ordinary requests never notice.

use std::time::{Duration, Instant};

use crate::{
    stage::{JETSTREAM, Stage, says, value},
    support::{Nats, Origin, Relay, Seen, answer, eventually, eventually_async, http, problem},
};

#[tokio::test]
async fn without_jetstream_jobs_are_refused_at_once_and_ordinary_requests_go_on() {
    let relay = Relay::to(Origin::echo().await).client(&["--jobs", "on"]).start().await;
    let started = Instant::now();
    let later = http().get(relay.url("/").await).header("prefer", "respond-async").send().await.unwrap();
    problem(later).await.is(503, "jobs_unavailable", "broker").names("without JetStream");
    let page = relay.get("/.relay/jobs/00000000-0000-4000-8000-000000000000").await;
    problem(page).await.is(503, "jobs_unavailable", "broker");
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    assert_eq!(relay.get("/").await.status(), 200);
    assert_eq!(relay.origin.hits(), 1);
}

#[tokio::test]
async fn without_a_broker_jobs_are_refused_at_once_and_ordinary_requests_go_on() {
    let nats = Nats::with(JETSTREAM).await;
    let one = says("one").await;
    let _agent = nats.upstream("one", &one.url(), &[]).await;
    let client = nats.client(&["--upstream", "one", "--jobs", "on"]).await;
    let later = http().get(client.url("/").await).header("prefer", "respond-async").send().await.unwrap();
    problem(later).await.is(503, "jobs_unavailable", "client").names("no broker is there");
    assert_eq!(one.hits(), 0);
    assert_eq!(client.get("/").await.status(), 200);
}

#[tokio::test]
async fn where_no_more_jobs_fit_they_are_refused_and_nothing_is_sent() {
    let quotas = ["--max-jobs-per-upstream", "9", "--max-jobs-per-caller", "9"];
    let at = Stage::with(says("one").await, &[&["--max-jobs", "2"], &quotas[..]].concat(), &[]).await;
    for _ in 0..2 {
        assert_eq!(at.later("/").await.send().await.unwrap().status(), 202);
    }
    let refused = at.later("/").await.send().await.unwrap();
    problem(refused).await.is(503, "jobs_unavailable", "broker").names("no room");
    assert_eq!(http().get(at.client.url("/").await).send().await.unwrap().status(), 200);
    eventually("all that was accepted has run", || at.one.hits() == 3).await;
    let chain = at.chain("/", "http://one", "", "POST").await.send().await.unwrap();
    problem(chain).await.is(503, "jobs_unavailable", "broker");
    assert_eq!(at.one.hits(), 3, "the first server of a chain that can't be stored is not asked");
}

#[tokio::test]
async fn a_permission_that_is_missing_is_named_at_once() {
    let config = format!(
        r#"{JETSTREAM}
        authorization {{ users: [
            {{ user: all, password: all }},
            {{ user: client, password: client, permissions: {{ publish: {{ deny: ["relay.jobs.>", "relay.chains.>"] }} }} }}
        ] }}"#
    );
    let nats = Nats::with(&config).await;
    let _broker = nats.broker(&["--user", "all", "--password", "all"]).await;
    let one = says("one").await;
    let all = ["--name", "one", "--to", &one.url(), "--user", "all", "--password", "all"];
    let _agent = nats.spawn("upstream", &all).ready().await;
    let user = ["--user", "client", "--password", "client"];
    let client = nats.client(&[&["--upstream", "one", "--jobs", "on"], &user[..]].concat()).await;
    let started = Instant::now();
    let later = http().get(client.url("/").await).header("prefer", "respond-async").send().await.unwrap();
    problem(later)
        .await
        .is(503, "jobs_unavailable", "client")
        .names("permissions refuse relay.jobs.one.accept");
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    assert_eq!(client.get("/").await.status(), 200);
}

#[tokio::test]
async fn a_client_agent_takes_no_jobs_unless_it_is_told_to() {
    for flags in [&[][..], &["--jobs", "off"]] {
        let nats = Nats::with(JETSTREAM).await;
        let one = says("one").await;
        let (to, flags) = (one.url(), [&["--upstream", "one"], flags].concat());
        let (_broker, _agent, client) =
            tokio::join!(nats.broker(&[]), nats.upstream("one", &to, &[]), nats.client(&flags));
        let url = client.url("/").await;
        let later = http().post(&url).header("prefer", "respond-async").body("x").send().await.unwrap();
        assert_eq!((later.status().as_u16(), later.text().await.unwrap()), (200, "one(x)".into()));
        assert_eq!(one.only().value("prefer"), "respond-async");

        let fixed = [
            ("x-forward-id", "12345678-1234-1234-1234-1234567890AB"),
            ("x-forward-errors-to", "http://one/"),
            ("x-forward-referer", "ORIGIN"),
        ];
        let chained =
            || fixed.iter().fold(http().post(&url), |request, (name, value)| request.header(*name, *value));
        let lists = chained()
            .header("x-forward-to", "http://one/next")
            .header("x-forward-query-params", "")
            .header("x-forward-method", "POST");
        problem(lists.send().await.unwrap()).await.is(501, "jobs_off", "client").names("--jobs on");
        let page = client.get("/.relay/jobs/00000000-0000-4000-8000-000000000000").await;
        problem(page).await.is(404, "no_job", "client").names("--jobs on");
        assert_eq!(one.hits(), 1, "neither has been sent anywhere");
        assert_eq!(
            chained().send().await.unwrap().status(),
            200,
            "the last of a chain is an ordinary request"
        );
    }
}

#[tokio::test]
async fn a_job_whose_response_there_is_no_room_for_fails_and_says_so() {
    let large = Origin::start(|_| async { answer(200, vec![b'x'; 200_000]) }).await;
    let at = Stage::with(large, &["--max-job-bytes", "64KiB"], &[]).await;
    let accepted = at.later("/").await.send().await.unwrap();
    let over = at.over(&accepted).await;
    assert_eq!(value(&over, "x-relay-job"), "failed");
    problem(over).await.is(503, "jobs_unavailable", "broker").names("can't be stored");
    at.broker.counts("relay_dead_letters_total", "", 1.0).await;
    assert_eq!(at.one.hits(), 1, "it has run, and is not sent again");
}

#[tokio::test]
async fn large_responses_there_is_no_room_for_end_their_jobs_at_once_and_hold_up_no_others() {
    let large = Origin::start(|seen: Seen| async move {
        answer(200, vec![b'x'; if seen.target == "/large" { 2_000_000 } else { 10 }])
    });
    let at = Stage::with(large.await, &["--max-job-bytes", "1MiB", "--max-job-runs", "2"], &[]).await;
    let mut accepted = Vec::new();
    for _ in 0..10 {
        let asked = http().get(at.client.url("/large").await).header("prefer", "respond-async");
        accepted.push(asked.send().await.unwrap());
    }
    let small = at.later("/small").await.header("prefer", "wait=30").send().await.unwrap();
    assert_eq!(value(&small, "x-relay-job"), "done");
    for accepted in &accepted {
        let over = at.over(accepted).await;
        assert_eq!(value(&over, "x-relay-job"), "failed");
        problem(over).await.is(503, "jobs_unavailable", "broker").names("can't be stored");
    }
    at.broker.counts("relay_dead_letters_total", "", 10.0).await;
    assert_eq!(at.one.hits(), 11, "a request that has run is not sent again, though it is a GET");
    let told = at.broker.lines("can't be stored");
    assert_eq!(told.iter().filter(|line| line.contains("WARN")).count(), 1, "{told:#?}");
}

#[tokio::test]
async fn a_dead_letter_there_is_no_room_for_leaves_a_record_that_says_that_the_job_failed() {
    let refuses = Origin::start(|_| async { answer(503, "no") }).await;
    let at = Stage::with(refuses, &["--max-job-bytes", "64KiB"], &[]).await;
    // There is room for three of them as jobs, in 16 KiB, and for two as dead letters, in 8 KiB.
    for _ in 0..3 {
        let asked = at.later("/").await.header("x-long", "x".repeat(2_500));
        let over = at.over(&asked.send().await.unwrap()).await;
        assert_eq!((over.status().as_u16(), value(&over, "x-relay-job")), (503, "failed".into()));
        assert_eq!(over.text().await.unwrap(), "no");
    }
    at.broker.says("a dead letter can't be stored").await;
    let client = async_nats::connect(at.nats.url()).await.unwrap();
    let jobs = async_nats::jetstream::new(client).get_stream("relay-jobs").await.unwrap();
    eventually_async("no broker has anything left to do", || async {
        let info = jobs.consumer_info("brokers").await.unwrap();
        info.num_ack_pending == 0 && info.num_pending == 0
    })
    .await;
    assert_eq!(at.broker.metric("relay_dead_letters_total", "").await, 2.0);
}

#[tokio::test]
async fn headers_that_a_record_has_no_room_for_are_refused() {
    let at = Stage::with(says("one").await, &[], &["--max-header-bytes", "256KiB"]).await;
    let long = at.later("/").await.header("x-long", "x".repeat(140_000)).send().await.unwrap();
    problem(long).await.is(431, "headers_too_large", "client").names("an eighth of NATS's max_payload");
    assert_eq!(at.one.hits(), 0);
}
