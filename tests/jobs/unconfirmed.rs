//! What a caller is told of a job that may be stored: never that it was refused, when it runs.

use std::{collections::BTreeMap, time::Duration};

use async_nats::jetstream;
use reqwest::{RequestBuilder, Response};
use tokio::task::JoinSet;

use crate::{
    stage::{JETSTREAM, location, says, value},
    support::{Distance, Nats, Origin, Role, eventually_async, http, problem},
};

/// A relay whose brokers store at a server of their own.
struct Apart {
    nats: Nats,
    /// The server where jobs are stored, unless it is the same.
    apart: Option<Nats>,
    brokers: Vec<Role>,
    client: Role,
    _agents: [Role; 2],
    one: Origin,
    two: Origin,
}

impl Apart {
    /// With a broker for each of these ways to the store; the store itself without any.
    async fn with(ways: &[&Distance], store: Nats) -> Apart {
        let nats = Nats::start().await;
        let mut brokers = Vec::new();
        for url in ways.iter().map(|way| way.url()) {
            brokers.push(nats.broker(&["--store-server", &url]).await);
        }
        if ways.is_empty() {
            brokers.push(nats.broker(&["--store-server", &store.url()]).await);
        }
        let (one, two) = (says("one").await, says("two").await);
        let agents =
            [nats.upstream("one", &one.url(), &[]).await, nats.upstream("two", &two.url(), &[]).await];
        let client = nats.client(&["--upstream", "one", "--jobs", "on", "--forward-to", "any"]).await;
        Apart { nats, apart: Some(store), brokers, client, _agents: agents, one, two }
    }

    fn store(&self) -> &Nats {
        self.apart.as_ref().unwrap_or(&self.nats)
    }

    /// How often each body has been sent to a server.
    fn runs(&self) -> BTreeMap<String, usize> {
        let mut runs = BTreeMap::new();
        for seen in self.one.seen().iter().chain(&self.two.seen()) {
            // A chain's first server has run before anything is stored of what follows.
            let body = String::from_utf8_lossy(&seen.body).into_owned();
            *runs.entry(body).or_default() += 1;
        }
        runs
    }

    async fn later(&self) -> RequestBuilder {
        http().post(self.client.url("/").await).header("prefer", "respond-async")
    }

    async fn chain(&self) -> RequestBuilder {
        http()
            .post(self.client.url("/").await)
            .header("x-forward-id", uuid::Uuid::new_v4().to_string())
            .header("x-forward-errors-to", "http://two/told")
            .header("x-forward-referer", "ORIGIN")
            .header("x-forward-to", "http://two/next")
            .header("x-forward-query-params", "")
            .header("x-forward-method", "POST")
    }

    /// Sends one job of each kind; `n` tells them from others.
    async fn send_all(&self, n: usize, asked: &mut JoinSet<Told>) {
        let large = format!("large {n} {}", "x".repeat(400_000));
        let keyed = self.later().await.header("idempotency-key", n.to_string());
        let called_back = self.later().await.header("x-relay-callback", "http://two/back");
        let keyed_and_called_back = self.later().await.header("x-relay-callback", "http://two/back");
        let kinds = [
            (self.later().await, format!("plain {n}")),
            (keyed, format!("keyed {n}")),
            (called_back, format!("callback {n}")),
            (keyed_and_called_back.header("idempotency-key", format!("c{n}")), format!("keyed callback {n}")),
            (self.later().await, large),
            (self.chain().await, format!("chain {n}")),
        ];
        for (request, body) in kinds {
            asked.spawn(
                async move { Told { answer: request.body(body.clone()).send().await.unwrap(), body } },
            );
        }
    }

    /// What is stored of jobs by now.
    async fn stored(&self) -> u64 {
        let client = async_nats::connect(self.store().url()).await.unwrap();
        let stream = jetstream::new(client).get_stream("relay-jobs").await.unwrap();
        stream.get_info().await.unwrap().state.messages
    }

    /// Waits until no broker has anything left to do.
    async fn is_at_rest(&self) {
        let client = async_nats::connect(self.store().url()).await.unwrap();
        let jobs = jetstream::new(client).get_stream("relay-jobs").await.unwrap();
        eventually_async("no broker has anything left to do", || async {
            let info = jobs.consumer_info("brokers").await.unwrap();
            info.num_ack_pending == 0 && info.num_pending == 0
        })
        .await;
    }

    /// Checks what callers were told against what has run.
    async fn is_true(&self, told: Vec<Told>) {
        let mut accepted = Vec::new();
        for Told { answer, body } in &told {
            let retry = value(answer, "retry-after");
            match answer.status().as_u16() {
                202 => accepted.push((body, location(answer))),
                503 => assert!(!value(answer, "location").starts_with('/'), "{body}: {answer:?}"),
                504 => {
                    assert_eq!(retry, "", "{body}");
                    assert!(value(answer, "location").starts_with("/.relay/jobs/"), "{body}: {answer:?}");
                }
                status => panic!("{status} for {body}"),
            }
        }
        for (body, page) in &accepted {
            let page = self.client.url(page).await;
            eventually_async(&format!("{body:.20} is done"), || async {
                let state = value(&http().get(&page).send().await.unwrap(), "x-relay-job");
                state == "done"
            })
            .await;
        }
        self.is_at_rest().await;
        let runs = self.runs();
        for Told { answer, body } in told {
            let chained = format!("one({body})");
            let is_chain = body.starts_with("chain");
            let ran = runs.get(if is_chain { &chained } else { &body }).copied().unwrap_or_default();
            let first = runs.get(&body).copied().unwrap_or_default();
            let shown: String = body.chars().take(20).collect();
            assert!(ran <= 1 && first <= 1, "{shown} ran {ran} times");
            match (answer.status().as_u16(), value(&answer, "retry-after").as_str()) {
                (202, _) => assert_eq!(ran, 1, "{shown}"),
                (503, "") => assert_eq!((ran, is_chain), (0, true), "{shown}: its first server has answered"),
                (503, _) => assert_eq!((ran, first), (0, 0), "{shown} was refused, and has run"),
                _ => {}
            }
        }
    }
}

struct Told {
    body: String,
    answer: Response,
}

/// Sends jobs all the time while `frozen` is frozen for so long.
async fn freeze(at: &Apart, first: usize, lasts: Duration) {
    let frozen = at.store();
    let mut asked = JoinSet::new();
    for n in first..first + 3 {
        at.send_all(n, &mut asked).await;
    }
    frozen.process().stop();
    let thaws = tokio::time::sleep(lasts);
    tokio::pin!(thaws);
    let mut others = tokio::time::interval(lasts / 6);
    for n in first + 3.. {
        tokio::select! {
            _ = others.tick() => at.send_all(n, &mut asked).await,
            () = &mut thaws => break,
        }
    }
    frozen.process().cont();
    at.is_true(asked.join_all().await).await;
}

#[tokio::test]
async fn no_job_that_is_refused_runs_when_the_store_is_frozen_for_a_moment() {
    let at = Apart::with(&[], Nats::with(JETSTREAM).await).await;
    freeze(&at, 0, Duration::from_millis(2_500)).await;
    freeze(&at, 100, Duration::from_millis(4_500)).await;
}

#[tokio::test]
async fn no_job_that_is_refused_runs_when_the_store_is_frozen_for_longer_than_anybody_waits() {
    let at = Apart::with(&[], Nats::with(JETSTREAM).await).await;
    freeze(&at, 0, Duration::from_secs(25)).await;
}

#[tokio::test]
async fn no_job_that_is_refused_runs_when_the_nats_server_of_all_is_frozen() {
    let nats = Nats::with(JETSTREAM).await;
    let broker = nats.broker(&[]).await;
    let (one, two) = (says("one").await, says("two").await);
    let agents = [nats.upstream("one", &one.url(), &[]).await, nats.upstream("two", &two.url(), &[]).await];
    let client = nats.client(&["--upstream", "one", "--jobs", "on", "--forward-to", "any"]).await;
    let at = Apart { nats, apart: None, brokers: vec![broker], client, _agents: agents, one, two };
    freeze(&at, 0, Duration::from_millis(4_500)).await;
}

#[tokio::test]
async fn a_job_that_a_broker_stored_before_it_was_killed_is_accepted() {
    let store = Nats::with(JETSTREAM).await;
    let way = Distance::to(store.address(), Duration::ZERO).await;
    let mut at = Apart::with(&[&way], store).await;
    way.mute();
    let asked = tokio::spawn(at.later().await.body("once").send());
    eventually_async("it is stored, and the broker does not hear so", || async { at.stored().await == 1 })
        .await;
    at.brokers.clear();
    at.brokers.push(at.nats.broker(&["--store-server", &at.store().url()]).await);
    let answer = asked.await.unwrap().unwrap();
    assert_eq!(answer.status(), 202, "the other broker finds it");
    at.is_true(vec![Told { answer, body: "once".into() }]).await;
}

#[tokio::test]
async fn a_job_whose_broker_loses_the_store_in_the_middle_is_not_refused() {
    let store = Nats::with(JETSTREAM).await;
    let way = Distance::to(store.address(), Duration::ZERO).await;
    let at = Apart::with(&[&way], store).await;
    way.mute();
    let asked = tokio::spawn(at.later().await.body("once").send());
    eventually_async("it is stored, and the broker does not hear so", || async { at.stored().await == 1 })
        .await;
    way.close();
    let unknown = asked.await.unwrap().unwrap();
    let page = value(&unknown, "location");
    assert_eq!(value(&unknown, "retry-after"), "");
    problem(unknown).await.is(504, "job_unconfirmed", "broker").names(&page);
    way.mend();
    let page = at.client.url(&page).await;
    eventually_async("its location says what became of it", || async {
        value(&http().get(&page).send().await.unwrap(), "x-relay-job") == "done"
    })
    .await;
    assert_eq!(at.one.hits(), 1);
}
