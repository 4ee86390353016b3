//! The commands and pages of those who look after a relay, each as the user that nats/accounts.conf has for it.

use serde_json::Value;

use crate::support::{
    accounts::{Accounts, password},
    process::{Ended, run},
    *,
};

/// Runs `relay` as a user.
async fn command(accounts: &Accounts, user: &str, args: &[&str]) -> Ended {
    let server = accounts.0.url();
    let mut command = process::relay(&[args, &["--server", &server, "--user", user]].concat());
    command.env("NATS_PASSWORD", password(user));
    run(command).await
}

/// What it prints, when it does what it is told.
async fn done(accounts: &Accounts, args: &[&str]) -> String {
    let ended = command(accounts, "operator", args).await;
    assert!(ended.status.success(), "{args:?}: {ended:?}");
    ended.out
}

/// The job in the path of a 202.
async fn accepted(client: &Role) -> String {
    let later = http().post(client.url("/").await).header("prefer", "respond-async");
    let answer = later.body("asked").send().await.unwrap();
    assert_eq!(answer.status(), 202);
    let location = answer.headers()["location"].to_str().unwrap();
    location.rsplit('/').next().unwrap().to_owned()
}

#[tokio::test]
async fn an_operator_looks_after_jobs_and_dead_letters_with_the_user_that_is_shipped() {
    let accounts = Accounts::start().await;
    // There is no agent, so in the end the broker gives up.
    let broker = accounts.broker(&["--job-lifetime", "3s", "--wait", "25s"]).await;
    let jobs = ["--upstream", "hello", "--jobs", "on"];
    let client = accounts.spawn("client", "client", &jobs).ready().await;
    let job = accepted(&client).await;
    let other = accepted(&client).await;
    let listed = done(&accounts, &["jobs", "ls"]).await;
    assert!(listed.contains(&job) && listed.contains(&other), "{listed}");
    assert!(done(&accounts, &["jobs", "show", &job]).await.contains("running"));
    assert_eq!(done(&accounts, &["jobs", "cancel", &other]).await, format!("{other} cancelled\n"));

    broker.counts("relay_dead_letters_total", "", 1.0).await;
    let letters = done(&accounts, &["dlq", "ls"]).await;
    assert!(letters.contains(&job) && !letters.contains(&other), "{letters}");
    assert!(done(&accounts, &["dlq", "show", &job, "--body"]).await.contains("asked"));
    assert_eq!(done(&accounts, &["dlq", "replay", &job]).await, format!("{job} runs again\n"));
    broker.counts("relay_dead_letters_total", "", 2.0).await;
    assert_eq!(done(&accounts, &["dlq", "purge", &job]).await, format!("{job} purged\n"));
    assert!(!done(&accounts, &["dlq", "ls"]).await.contains(&job));
    accounts.refused_nothing(&[&broker, &client]).await;
}

#[tokio::test]
async fn a_broker_has_its_own_requests_watched_as_others_do() {
    let accounts = Accounts::start().await;
    let gate = tokio::sync::watch::Sender::new(false);
    let origin = Origin::gated(&gate).await;
    let (broker, agent) = tokio::join!(accounts.broker(&[]), accounts.agent("hello", &origin));
    let jobs = ["--upstream", "hello", "--jobs", "on"];
    let client = accounts.spawn("client", "client", &jobs).ready().await;
    let mut observer = accounts.person("observer").await;
    let mut renewals = observer.bus.subscribe("relay.lease.broker.*.hello.renew".into()).await.unwrap();
    assert!(observer.may_subscribe("relay.who").await, "NATS answers in order: the one before is in force");
    accepted(&client).await;
    within(WAIT, "the hold is renewed", renewals.next()).await.unwrap();
    gate.send_replace(true);
    broker.counts("relay_jobs_ended_total", "done", 1.0).await;
    accounts.refused_nothing(&[&broker, &agent, &client]).await;
}

#[tokio::test]
async fn an_operator_and_an_observer_see_who_is_there_and_which_routes() {
    let accounts = Accounts::start().await;
    let origin = Origin::saying("hello").await;
    let route = "hello.example.com";
    let flags = ["--realm", "hello", "--name", "hello", "--to", &origin.url(), "--route", route];
    let (broker, agent, client) = tokio::join!(
        accounts.broker(&[]),
        accounts.spawn("upstream", "agent_hello", &flags).ready(),
        accounts.limited_client("hello"),
    );
    for (user, realm) in [("operator", &[][..]), ("observer", &["--realm", "observer"])] {
        let ps = command(&accounts, user, &[&["ps", "--json"], realm].concat()).await;
        let rows: Value = serde_json::from_str(&ps.out).unwrap();
        let roles: Vec<_> =
            rows.as_array().unwrap().iter().map(|row| row["role"].as_str().unwrap()).collect();
        assert_eq!(roles, ["broker", "client", "upstream"], "{user}: {ps:?}");
        let routes = command(&accounts, user, &[&["routes"], realm].concat()).await;
        assert!(routes.out.contains(route), "{user}: {routes:?}");
    }
    let stats = done(&accounts, &["cache", "stats"]).await;
    assert!(stats.contains(&client.process_id().await), "{stats}");
    accounts.refused_nothing(&[&broker, &agent, &client]).await;
}

#[tokio::test]
async fn a_brokers_page_for_prometheus_lists_all_and_the_others_say_that_they_may_not() {
    let accounts = Accounts::start().await;
    let origin = Origin::saying("hello").await;
    let (broker, agent, client) =
        tokio::join!(accounts.broker(&[]), accounts.agent("hello", &origin), accounts.client("hello"));
    let (status, page) = broker.page("/sd").await;
    let targets: Value = serde_json::from_str(&page).unwrap();
    assert_eq!((status, targets.as_array().unwrap().len()), (200, 3), "{page}");
    accounts.refused_nothing(&[&broker, &agent, &client]).await;
    for role in [&agent, &client] {
        for _ in 0..3 {
            let (status, page) = role.page("/sd").await;
            assert_eq!(status, 503, "{page}");
            assert!(page.contains("NATS permissions refuse") && page.contains("broker"), "{page}");
        }
        assert!(role.lines("NATS permissions").len() <= 1, "once is enough: {}", role.log());
        assert_eq!(role.page("/readyz").await.0, 200);
    }
}

#[tokio::test]
async fn a_broker_that_shares_the_account_of_its_jetstream_with_others_says_so_once() {
    let accounts = Accounts::start().await;
    let (warned, apart) = (accounts.spawn("broker", "broker", &[]).ready(), accounts.broker(&[]));
    let (warned, apart) = tokio::join!(warned, apart);
    let line = warned.says("--store-user").await;
    assert!(line.contains("WARN") && line.contains("docs/OPERATING.md"), "{line}");
    assert_eq!(warned.lines("--store-user").len(), 1, "{}", warned.log());
    assert!(apart.lines("--store-user").is_empty(), "{}", apart.log());
    // Where nobody logs in there is nothing to keep apart.
    let nats = Nats::with_jetstream().await;
    let alone = nats.broker(&[]).await;
    assert!(alone.lines("--store-user").is_empty(), "{}", alone.log());
}

const WAIT: std::time::Duration = std::time::Duration::from_secs(20);
