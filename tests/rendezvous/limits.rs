//! Bounds, and what is told at them; and what is told when JetStream is not there.

use std::time::{Duration, Instant};

use crate::{
    stage::{JETSTREAM, SESSIONS, Session, Stage, client},
    support::*,
};

#[tokio::test]
async fn there_are_only_so_many_sessions() {
    let stage = Stage::with(&["--max-sessions", "2"]).await;
    let first = stage.session().await;
    stage.session().await;
    let making = Session { path: "/cama/session".into(), token: String::new() };
    let full = stage.near().await.ask(making.ask("PUT", "")).await;
    assert_eq!((full.status, full.problem().code.as_str()), (503, "sessions_full"));
    assert_eq!(stage.near().await.ask(first.ask("DELETE", &first.cookie())).await.status, 200);
    eventually_async("there is room", || async {
        stage.near().await.ask(making.ask("PUT", "")).await.status == 201
    })
    .await;
}

#[tokio::test]
async fn only_so_many_wait() {
    let stage = Stage::with(&["--max-waits-per-session", "2", "--max-session-waits", "3"]).await;
    let (one, two) = (stage.session().await, stage.session().await);
    let mut waiting = Vec::new();
    for request in [one.guest_posts("a"), one.guest_posts("b"), two.guest_posts("c")] {
        let mut raw = stage.near().await;
        raw.send(request).await;
        waiting.push(raw);
        stage.clients[0].counts("relay_session_waits", "", waiting.len() as f64).await;
        if waiting.len() == 2 {
            let full = stage.near().await.ask(one.host_gets()).await;
            assert_eq!((full.status, full.problem().code.as_str()), (429, "session_waiting"));
        }
    }
    let full = stage.near().await.ask(two.host_gets()).await;
    assert_eq!((full.status, full.problem().code.as_str()), (503, "sessions_full"));
    drop(waiting.remove(0));
    eventually_async("there is room", || async {
        stage.near().await.ask(one.host_gets()).await.status == 200
    })
    .await;
}

#[tokio::test]
async fn without_jetstream_sessions_say_so_at_once_and_all_else_works() {
    let nats = Nats::start().await;
    let origin = Origin::saying("hello").await;
    let _broker = nats.broker(&[]).await;
    let client = client(&nats, &[]).await;
    let _agent = nats.upstream("hello", &origin.url(), &["--route", "/"]).await;
    eventually_async("it is relayed", || async { client.get("/").await.status() == 200 }).await;
    let making = Session { path: "/cama/session".into(), token: String::new() };
    let one = Session { path: "/cama/session/AAAAAAAAAAAAAAAAAAAAAA".into(), token: String::new() };
    for request in [making.ask("PUT", ""), one.ask("GET", ""), one.ask("DELETE", ""), one.guest_posts("x")] {
        let began = Instant::now();
        let answer = client.raw().await.ask(request).await;
        let problem = answer.problem();
        assert_eq!((answer.status, problem.code.as_str()), (503, "sessions_away"), "{}", problem.detail);
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        assert!(problem.detail.contains("relay-sessions"), "{}", problem.detail);
    }
    assert_eq!(client.get("/").await.text().await.unwrap(), "hello");
}

#[tokio::test]
async fn without_a_broker_sessions_say_so_at_once() {
    let nats = Nats::with(JETSTREAM).await;
    let client = client(&nats, &[]).await;
    let making = Session { path: "/cama/session".into(), token: String::new() };
    let answer = client.raw().await.ask(making.ask("PUT", "")).await;
    let problem = answer.problem();
    assert_eq!((answer.status, problem.code.as_str()), (503, "sessions_away"));
    assert!(problem.detail.contains("no broker is there"), "{}", problem.detail);
}

#[tokio::test]
async fn without_the_permission_sessions_say_which_at_once() {
    let config = format!(
        "{JETSTREAM}\naccounts {{ RELAY {{ jetstream: enabled\n users: [ {{ user: client, password: c, \
         permissions {{ publish: {{ deny: [\"relay.sessions.>\"] }} }} }} ] }} }}"
    );
    let nats = Nats::with(&config).await;
    let flags = ["--user", "client"];
    let variables = [("NATS_PASSWORD", "c")];
    let client =
        Role::spawn(&nats.url(), "client", &[&SESSIONS[..], &flags].concat(), &variables).ready().await;
    let began = Instant::now();
    let making = Session { path: "/cama/session".into(), token: String::new() };
    let answer = client.raw().await.ask(making.ask("PUT", "")).await;
    assert_eq!(answer.status, 503);
    assert!(answer.problem().detail.contains("relay.sessions.count"), "{}", answer.problem().detail);
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

#[tokio::test]
async fn without_a_setting_there_are_no_sessions() {
    let nats = Nats::with(JETSTREAM).await;
    let client = nats.client(&[]).await;
    let making = Session { path: "/cama/session".into(), token: String::new() };
    assert_eq!(client.raw().await.ask(making.ask("PUT", "")).await.problem().code, "no_route");
    let wrong = Role::spawn(&nats.url(), "client", &["--sessions", "cama/"], &[]);
    assert!(!wrong.ended().await.success());
    assert!(wrong.log().contains("must be a path as /cama/session"), "{}", wrong.log());
}
