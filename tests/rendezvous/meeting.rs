//! Who meets whom, and who is turned away.

use std::time::Duration;

use crate::{
    stage::{END, Session, Stage, chunk},
    support::*,
};

#[tokio::test]
async fn either_side_may_come_first_and_either_may_send() {
    for stage in [Stage::one().await, Stage::two().await] {
        let session = stage.session().await;
        let (near, far) = (&stage.clients[0], stage.clients.last().unwrap());
        for (turn, (first, second, at)) in [
            (session.host_gets(), session.guest_posts("a"), near),
            (session.guest_gets(), session.host_posts("b"), far),
            (session.host_posts("c"), session.guest_gets(), near),
            (session.guest_posts("d"), session.host_gets(), far),
        ]
        .into_iter()
        .enumerate()
        {
            let other = if std::ptr::eq(at, near) { far } else { near };
            let (mut one, mut two) = (at.raw().await, other.raw().await);
            one.send(first).await;
            at.counts("relay_session_waits", "", 1.0).await;
            let (answers, text) = ([two.ask(second).await, one.answer().await], ["a", "b", "c", "d"][turn]);
            assert!(answers.iter().all(|answer| answer.status == 200), "{turn}: {answers:?}");
            assert!(answers.iter().any(|answer| answer.text() == text), "{turn}");
            assert!(answers.iter().any(|answer| answer.value("x-bytes-delivered") == "1"), "{turn}");
            eventually_async("nobody waits", || async { at.metric("relay_session_waits", "").await == 0.0 })
                .await;
        }
    }
}

#[tokio::test]
async fn messages_follow_each_other_on_two_connections() {
    let stage = Stage::two().await;
    let session = stage.session().await;
    let (mut host, mut guest) = (stage.near().await, stage.far().await);
    for turn in 0..50 {
        let text = format!("message {turn}");
        guest.send(session.guest_posts(&text)).await;
        let received = host.ask(session.host_gets()).await;
        assert_eq!((received.status, received.text()), (200, text.clone()), "{turn}");
        let sent = guest.answer().await;
        assert_eq!(sent.value("x-bytes-delivered"), text.len().to_string());
    }
}

#[tokio::test]
async fn a_message_of_nothing_arrives() {
    let stage = Stage::two().await;
    let session = stage.session().await;
    for (request, length) in [(session.guest_posts(""), "0"), (session.posts_chunks("") + END, "")] {
        let mut host = stage.near().await;
        host.send(session.host_gets()).await;
        let sent = stage.far().await.ask(request).await;
        assert_eq!(sent.status, 200, "{}", sent.text());
        let received = host.answer().await;
        assert_eq!((received.status, received.value("content-length").as_str()), (200, length));
        assert!(received.body.is_empty());
    }
}

#[tokio::test]
async fn a_second_receiver_of_one_part_is_turned_away_and_the_first_still_receives() {
    let stage = Stage::two().await;
    let session = stage.session().await;
    let mut first = stage.near().await;
    first.send(session.host_gets()).await;
    stage.clients[0].counts("relay_session_waits", "", 1.0).await;
    for client in &stage.clients {
        let second = client.raw().await.ask(session.host_gets()).await;
        assert_eq!((second.status, second.problem().code.as_str()), (409, "session_busy"));
    }
    // It is one of its part only.
    let mut guest = stage.far().await;
    guest.send(session.posts_chunks("")).await;
    guest.send(chunk("some")).await;
    first.says(b"some").await;
    let second = stage.far().await.ask(session.host_gets()).await;
    assert_eq!(second.status, 409, "it receives, so it is there");
    guest.send(END).await;
    assert_eq!((first.answer().await.status, guest.answer().await.status), (200, 200));
}

#[tokio::test]
async fn a_receiver_that_went_away_is_in_nobodys_way() {
    let stage = Stage::two().await;
    let session = stage.session().await;
    let mut first = stage.near().await;
    first.send(session.host_gets()).await;
    stage.clients[0].counts("relay_session_waits", "", 1.0).await;
    drop(first);
    eventually_async("it is noticed", || async {
        stage.clients[0].metric("relay_session_waits", "").await == 0.0
    })
    .await;
    let mut next = stage.far().await;
    next.send(session.host_gets()).await;
    let sent = stage.near().await.ask(session.guest_posts("hello")).await;
    assert_eq!(sent.value("x-bytes-delivered"), "5");
    assert_eq!(next.answer().await.text(), "hello");
}

#[tokio::test]
async fn a_sender_that_went_away_while_it_waited_sends_nothing() {
    let stage = Stage::two().await;
    let session = stage.session().await;
    let mut lost = stage.near().await;
    lost.send(session.guest_posts("lost")).await;
    stage.clients[0].counts("relay_session_waits", "", 1.0).await;
    drop(lost);
    eventually_async("it is noticed", || async {
        stage.clients[0].metric("relay_session_waits", "").await == 0.0
    })
    .await;
    let mut host = stage.far().await;
    host.send(session.host_gets()).await;
    assert_eq!(stage.near().await.ask(session.guest_posts("hello")).await.status, 200);
    assert_eq!(host.answer().await.text(), "hello");
}

#[tokio::test]
async fn several_senders_wait_and_each_message_is_received_once() {
    let stage = Stage::two().await;
    let session = stage.session().await;
    let mut senders = Vec::new();
    for turn in 0..10 {
        let mut sender = stage.clients[turn % 2].raw().await;
        sender.send(session.guest_posts(&format!("{turn}"))).await;
        senders.push(sender);
    }
    let mut received = Vec::new();
    for _ in 0..10 {
        let answer = stage.near().await.ask(session.host_gets()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        received.push(answer.text());
    }
    for sender in &mut senders {
        assert_eq!(sender.answer().await.value("x-bytes-delivered"), "1");
    }
    received.sort();
    assert_eq!(received, (0..10).map(|turn| turn.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn the_time_bounds_the_wait_and_not_the_transfer() {
    let stage = Stage::two().await;
    let session = stage.session().await;
    let mut host = stage.near().await;
    host.send(session.ask("GET", &format!("{}X-Timeout: 1\r\n", session.cookie()))).await;
    let mut guest = stage.far().await;
    guest.send(session.posts_chunks("X-Timeout: 1\r\n")).await;
    for _ in 0..5 {
        guest.send(chunk("slowly")).await;
        host.says(b"slowly").await;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    guest.send(END).await;
    assert_eq!(host.answer().await.text(), "slowly".repeat(5));
    assert_eq!(guest.answer().await.value("x-bytes-relayed"), "30");
}

#[tokio::test]
async fn what_sessions_do_not_have_is_refused_by_name() {
    let stage = Stage::one().await;
    let session = stage.session().await;
    let ask = async |request: String| stage.near().await.ask(request).await;
    for (method, allowed) in [("PATCH", "GET, POST, PUT, DELETE"), ("OPTIONS", "GET, POST, PUT, DELETE")] {
        let answer = ask(session.ask(method, "")).await;
        assert_eq!((answer.status, answer.value("allow").as_str()), (405, allowed), "{method}");
        assert_eq!(answer.problem().code, "session_method");
    }
    let mut raw = stage.near().await;
    raw.send(session.ask("HEAD", "")).await;
    assert_eq!(raw.answer_to_head().await.status, 405, "it would receive a message and show nothing of it");
    let making = Session { path: "/cama/session".into(), token: String::new() };
    for method in ["GET", "POST", "DELETE"] {
        let answer = ask(making.ask(method, "")).await;
        assert_eq!((answer.status, answer.value("allow").as_str()), (405, "PUT"), "{method}");
    }
    for bad in ["X-Timeout: soon\r\n", "X-Timeout: -1\r\n", "X-Timeout: 1\r\nX-Timeout: 2\r\n"] {
        let answer = ask(session.ask("GET", bad)).await;
        assert_eq!((answer.status, answer.problem().code.as_str()), (400, "session_header"), "{bad}");
    }
    assert_eq!(ask(making.ask("PUT", "X-Type: strange\r\n")).await.status, 400);
    let other = Session { path: "/cama/sessions".into(), token: String::new() };
    assert_eq!(ask(other.ask("GET", "")).await.problem().code, "no_route", "it is none of theirs");
}
