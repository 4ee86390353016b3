//! The end of sessions: deletion, expiry, and that use puts it off.

use std::time::{Duration, Instant};

use futures_util::future::join_all;

use crate::{
    stage::{Session, Stage},
    support::*,
};

#[tokio::test]
async fn deletion_releases_all_who_wait_at_every_client_agent_at_once() {
    let stage = Stage::two().await;
    let session = stage.session().await;
    let mut waiting = Vec::new();
    for request in [session.guest_posts("a"), session.guest_posts("b"), session.host_posts("c")] {
        for client in &stage.clients {
            let mut raw = client.raw().await;
            raw.send(&request).await;
            waiting.push(raw);
        }
    }
    for client in &stage.clients {
        client.counts("relay_session_waits", "", 3.0).await;
    }
    let other = stage.session().await;
    let mut elsewhere = stage.far().await;
    elsewhere.send(other.guest_gets()).await;
    let began = Instant::now();
    assert_eq!(stage.near().await.ask(session.ask("DELETE", &session.cookie())).await.status, 200);
    let answers = join_all(waiting.iter_mut().map(Raw::answer)).await;
    let statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [410; 6]);
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(stage.near().await.ask(other.host_posts("d")).await.status, 200, "the other session goes on");
    assert_eq!(elsewhere.answer().await.text(), "d");
}

#[tokio::test]
async fn a_session_nobody_uses_expires_and_releases_all_who_wait() {
    let stage = Stage::with(&["--session-ttl", "2s"]).await;
    let session = stage.session().await;
    let began = Instant::now();
    let (mut host, mut guest) = (stage.near().await, stage.near().await);
    host.send(session.host_gets()).await;
    guest.send(session.guest_gets()).await;
    for raw in [&mut host, &mut guest] {
        let answer = raw.answer().await;
        assert_eq!((answer.status, answer.problem().code.as_str()), (410, "session_gone"));
    }
    let lasted = began.elapsed();
    assert!((1.9..3.5).contains(&lasted.as_secs_f64()), "{lasted:?}");
    assert_eq!(stage.near().await.ask(session.guest_gets()).await.status, 404);
    // NATS forgets what nobody waits in.
    let forgotten = stage.session().await;
    let is_forgotten = async || stage.near().await.ask(forgotten.ask("PUT", "")).await.status == 400;
    assert!(is_forgotten().await, "to ask without an address uses nothing");
    tokio::time::sleep(Duration::from_millis(4500)).await;
    assert_eq!(stage.near().await.ask(forgotten.ask("DELETE", &forgotten.cookie())).await.status, 404);
}

#[tokio::test]
async fn use_puts_the_end_off_and_gives_the_host_a_new_cookie() {
    let stage = Stage::with(&["--session-ttl", "3s"]).await;
    let session = stage.session().await;
    let began = Instant::now();
    let mut renewed = 0;
    while began.elapsed() < Duration::from_secs(7) {
        let mut host = stage.near().await;
        host.send(session.host_gets()).await;
        assert_eq!(stage.near().await.ask(session.guest_posts("x")).await.status, 200);
        let received = host.answer().await;
        assert_eq!(received.status, 200, "after {:?}", began.elapsed());
        let cookie = received.value("set-cookie");
        if !cookie.is_empty() {
            assert!(cookie.starts_with(&format!("token=\"{}\"; Path=", session.token)), "{cookie}");
            renewed += 1;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert!((2..8).contains(&renewed), "{renewed} times in 7 s");
}

#[tokio::test]
async fn who_waits_in_a_session_that_others_use_goes_on_waiting() {
    let stage = Stage::with(&["--session-ttl", "2s"]).await;
    let session = stage.session().await;
    let mut host = stage.near().await;
    host.send(session.host_gets()).await;
    // A guest that asks for what nobody sends uses it as well.
    for _ in 0..4 {
        let answer = stage.near().await.ask(session.ask("GET", "X-Timeout: 1\r\n")).await;
        assert_eq!(answer.status, 504);
    }
    assert_eq!(stage.near().await.ask(session.guest_posts("late")).await.status, 200);
    assert_eq!(host.answer().await.text(), "late");
}

#[tokio::test]
async fn a_client_agent_that_stops_releases_who_waits() {
    let stage = Stage::two().await;
    let session = Session::made(&stage.clients[0], "").await;
    let mut host = stage.near().await;
    host.send(session.host_gets()).await;
    stage.clients[0].counts("relay_session_waits", "", 1.0).await;
    stage.clients[0].term();
    let answer = host.answer().await;
    assert_eq!((answer.status, answer.problem().code.as_str()), (503, "sessions_away"));
    assert!(stage.clients[0].ended().await.success());
    let mut host = stage.far().await;
    host.send(session.host_gets()).await;
    assert_eq!(stage.far().await.ask(session.guest_posts("x")).await.status, 200, "the session is NATS's");
}
