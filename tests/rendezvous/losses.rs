//! What is lost when a process or NATS is, and what is not.

use std::time::Duration;

use crate::{
    stage::{Session, Stage, chunk, client},
    support::*,
};

#[tokio::test]
async fn a_client_agent_that_dies_with_sessions_open_leaves_the_others_going_on() {
    let stage = Stage::two().await;
    let (dies, lives) = (&stage.clients[0], &stage.clients[1]);
    let session = Session::made(dies, "").await;
    let other = stage.session().await;
    // A receiver waits there that will be gone.
    let mut lost = dies.raw().await;
    lost.send(session.host_gets()).await;
    dies.counts("relay_session_waits", "", 1.0).await;
    // A message is on its way from there, and one to there.
    let (mut from, mut at) = (dies.raw().await, lives.raw().await);
    at.send(other.guest_gets()).await;
    from.send(other.posts_chunks(&other.cookie())).await;
    from.send(chunk("some")).await;
    at.says(b"some").await;
    let third = stage.session().await;
    let (mut to, mut sender) = (dies.raw().await, lives.raw().await);
    to.send(third.host_gets()).await;
    sender.send(third.posts_chunks("")).await;
    sender.send(chunk("other")).await;
    to.says(b"other").await;
    dies.kill9();
    at.says(b"0\r\nX-Relay-Incomplete: 1\r\n\r\n").await;
    let unknown = sender.answer().await;
    assert_eq!((unknown.status, unknown.problem().code.as_str()), (502, "session_cut"));
    // The session outlives it, and the receiver that died is in nobody's way.
    let mut host = lives.raw().await;
    host.send(session.host_gets()).await;
    let sent = lives.raw().await.ask(session.guest_posts("hello")).await;
    assert_eq!((sent.status, host.answer().await.text().as_str()), (200, "hello"));
}

#[tokio::test]
async fn a_sender_that_waits_finds_a_receiver_that_comes_after_one_that_died() {
    let stage = Stage::two().await;
    let session = stage.session().await;
    let mut lost = stage.near().await;
    lost.send(session.host_gets()).await;
    stage.clients[0].counts("relay_session_waits", "", 1.0).await;
    stage.clients[0].kill9();
    let mut sender = stage.far().await;
    sender.send(session.guest_posts("hello")).await;
    stage.clients[1].counts("relay_session_waits", "", 1.0).await;
    let received = stage.far().await.ask(session.host_gets()).await;
    assert_eq!((received.status, received.text().as_str()), (200, "hello"));
    assert_eq!(sender.answer().await.value("x-bytes-delivered"), "5");
}

#[tokio::test]
async fn nats_that_is_started_again_has_every_session() {
    let Stage { clients, nats, broker: _broker } = Stage::two().await;
    let session = Session::made(&clients[0], "").await;
    let secure = Session::made(&clients[0], "X-Type: secure\r\n").await;
    let permit = format!("{}X-Peer-Address: 127.0.0.1\r\n", secure.cookie());
    assert_eq!(clients[0].raw().await.ask(secure.ask("PUT", &permit)).await.status, 200);
    // Whoever waits goes on waiting.
    let mut host = clients[0].raw().await;
    host.send(session.host_gets()).await;
    clients[0].counts("relay_session_waits", "", 1.0).await;
    let nats = nats.restart().await;
    for client in &clients {
        eventually_async("it is connected", || async { client.page("/readyz").await.0 == 200 }).await;
    }
    let third = client(&nats, &[]).await;
    let sent = third.raw().await.ask(session.guest_posts("hello")).await;
    assert_eq!((sent.status, sent.value("x-bytes-delivered").as_str()), (200, "5"));
    assert_eq!(host.answer().await.text(), "hello");
    let mut host = clients[1].raw().await;
    host.send(secure.host_gets()).await;
    assert_eq!(third.raw().await.ask(secure.guest_posts("x")).await.status, 200);
    assert_eq!(host.answer().await.text(), "x");
}

#[tokio::test]
async fn while_nats_is_away_sessions_say_so_at_once() {
    let stage = Stage::one().await;
    let session = stage.session().await;
    stage.nats.process().kill9();
    eventually_async("it is noticed", || async { stage.clients[0].page("/readyz").await.0 != 200 }).await;
    let answer = within(Duration::from_secs(2), "an answer", async {
        stage.near().await.ask(session.host_gets()).await
    })
    .await;
    assert_eq!((answer.status, answer.problem().code.as_str()), (503, "nats_unreachable"));
}
