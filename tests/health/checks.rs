//! Checks of the origin.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use crate::support::{load::counted, process::run, *};

#[tokio::test]
async fn an_unhealthy_agent_gets_no_requests_until_it_is_healthy() {
    let sick = Sick::start().await;
    let relay = Relay::to(Origin::echo().await).start().await;
    let agent = relay.nats.upstream("hello", &sick.origin.url(), CHECKED).await;
    agent.says("the origin is healthy").await;
    let load = Load::start(&relay.client, 4).await;
    eventually("it works", || sick.asked() > 10).await;
    assert_eq!(agent.metric("relay_origin_healthy", "hello").await, 1.0);

    sick.is_well.store(false, Ordering::Relaxed);
    let line = agent.says("the origin is unhealthy").await;
    assert!(line.contains("503"), "{line}");
    eventually_async("it has left", || async { state(&relay, &agent).await == "unhealthy" }).await;
    // What NATS had sent it before has come by now.
    load.goes_on(200).await;
    let before = sick.asked();
    load.goes_on(200).await;
    assert_eq!(sick.asked(), before);
    assert_eq!(agent.metric("relay_origin_healthy", "hello").await, 0.0);
    assert!(agent.metric("relay_health_checks_failed_total", "hello").await >= 2.0);
    assert_eq!(agent.page("/readyz").await.0, 200, "the process is well");

    sick.is_well.store(true, Ordering::Relaxed);
    eventually("it works again", || sick.asked() > before + 10).await;
    let (asked, failed) = load.end().await;
    assert!(failed.is_empty(), "of {asked}: {:?}", counted(&failed));
}

#[tokio::test]
async fn requests_wait_for_an_unhealthy_agent_that_is_alone() {
    let sick = Sick::start().await;
    sick.is_well.store(false, Ordering::Relaxed);
    let relay = Relay::to(Origin::echo().await).start().await;
    relay.agent.term();
    assert!(relay.agent.ended().await.success());
    let agent = relay.nats.upstream("hello", &sick.origin.url(), CHECKED).await;
    let broker = relay.broker.as_ref().unwrap();
    let heals = async {
        broker.counts("relay_requests_held", "", 1.0).await;
        sick.is_well.store(true, Ordering::Relaxed);
    };
    let (answer, ()) = tokio::join!(relay.get("/"), heals);
    assert_eq!(answer.status(), 200);
    drop(agent);
}

#[tokio::test]
async fn a_check_that_takes_too_long_has_failed() {
    let relay = Relay::to(Origin::silent().await)
        .agent(&["--health", "/healthz?deep=1", "--health-timeout", "50ms", "--health-interval", "50ms"])
        .start()
        .await;
    let line = relay.agent.says("the origin is unhealthy").await;
    assert!(line.contains("/healthz?deep=1") && line.contains("50ms"), "{line}");
    let seen = relay.origin.last();
    assert_eq!((seen.method.as_str(), seen.target.as_str()), ("GET", "/healthz?deep=1"));
    assert!(seen.value("host").starts_with("127.0.0.1") && seen.value("user-agent").contains("relay"));
}

/// An origin that says 503 to checks while it is sick.
struct Sick {
    origin: Origin,
    is_well: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
}

impl Sick {
    async fn start() -> Sick {
        let (is_well, asked) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
        let (well, count) = (Arc::clone(&is_well), Arc::clone(&asked));
        let origin = Origin::start(move |seen| {
            let (well, count) = (Arc::clone(&well), Arc::clone(&count));
            async move {
                match (seen.target.as_str(), well.load(Ordering::Relaxed)) {
                    ("/healthz", true) => answer(204, ""),
                    ("/healthz", false) => answer(503, "no database"),
                    _ => {
                        count.fetch_add(1, Ordering::Relaxed);
                        tokio::time::sleep(Duration::from_millis(1)).await;
                        answer(200, seen.body)
                    }
                }
            }
        })
        .await;
        Sick { origin, is_well, asked }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

/// The state of one agent, as `relay ps` tells it.
pub async fn state(relay: &Relay, agent: &Role) -> String {
    let process = agent.says("connected to NATS").await;
    let ps = run(process::relay(&["ps", "--json", "--server", &relay.nats.url()])).await;
    let rows: Vec<serde_json::Value> = serde_json::from_str(&ps.out).unwrap();
    let row = rows.iter().find(|row| process.contains(row["process"].as_str().unwrap()));
    row.map(|row| row["state"].as_str().unwrap().to_owned()).unwrap_or_default()
}

const CHECKED: &[&str] = &["--health", "/healthz", "--health-interval", "30ms", "--health-fall", "2"];
