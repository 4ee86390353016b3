//! Where the records of sessions are: servers that keep them for ever, buckets that others made or deleted, and a
//! JetStream that does not say what it has done.

use std::time::Duration;

use async_nats::jetstream::{self, stream::Config};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::{
    stage::{JETSTREAM, Session, Stage, client},
    support::*,
};

/// A way to `nats` on which its first word says that it is of this version.
async fn aged(nats: &Nats, version: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, server) = (listener.local_addr().unwrap(), nats.address());
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let mut far = TcpStream::connect(server).await.unwrap();
            tokio::spawn(async move {
                let mut info = Vec::new();
                while !info.ends_with(b"\r\n") {
                    far.read_buf(&mut info).await.unwrap();
                }
                let info = String::from_utf8(info).unwrap();
                let own = info.split("\"version\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
                near.write_all(info.replace(&own, version).as_bytes()).await.unwrap();
                tokio::io::copy_bidirectional(&mut near, &mut far).await.ok();
            });
        }
    });
    format!("nats://{address}")
}

#[tokio::test]
async fn a_server_on_which_sessions_would_never_expire_is_refused_with_the_reason() {
    let (nats, store) = (Nats::start().await, Nats::with(JETSTREAM).await);
    let _broker = nats.broker(&["--store-server", &aged(&store, "2.10.29").await]).await;
    let client = client(&nats, &[]).await;
    let making = Session { path: "/cama/session".into(), token: String::new() };
    let answer = client.raw().await.ask(making.ask("PUT", "")).await;
    let problem = answer.problem();
    assert_eq!((answer.status, problem.code.as_str()), (503, "sessions_away"));
    assert!(
        problem.detail.contains("need NATS 2.11 or later, and this server is 2.10.29"),
        "{}",
        problem.detail
    );
}

#[tokio::test]
async fn a_bucket_in_which_records_last_for_ever_is_changed_and_one_that_is_deleted_made_again() {
    let nats = Nats::with(JETSTREAM).await;
    let jetstream = jetstream::new(async_nats::connect(nats.url()).await.unwrap());
    let config = Config {
        name: "KV_relay-sessions".into(),
        subjects: vec!["$KV.relay-sessions.>".into()],
        max_messages_per_subject: 1,
        allow_rollup: true,
        ..Config::default()
    };
    jetstream.create_stream(config).await.unwrap();
    let _broker = nats.broker(&[]).await;
    let client = client(&nats, &["--session-ttl", "1s"]).await;
    Session::made(&client, "").await;
    let bucket = jetstream.get_stream("KV_relay-sessions").await.unwrap();
    assert!(bucket.cached_info().config.allow_message_ttl);
    eventually_async("it expires", || async { bucket.get_info().await.unwrap().state.messages == 0 }).await;
    jetstream.delete_stream("KV_relay-sessions").await.unwrap();
    Session::made(&client, "").await;
}

#[tokio::test]
async fn a_session_that_may_be_deleted_is_not_said_to_be_there() {
    let (nats, store) = (Nats::start().await, Nats::with(JETSTREAM).await);
    let way = Distance::to(store.address(), Duration::from_millis(200)).await;
    let broker = nats.broker(&["--store-server", &way.url()]).await;
    let stage = Stage { clients: vec![client(&nats, &[]).await], nats, broker };
    let session = stage.session().await;
    let jetstream = jetstream::new(async_nats::connect(store.url()).await.unwrap());
    let bucket = jetstream.get_stream("KV_relay-sessions").await.unwrap();
    let before = bucket.get_info().await.unwrap().state.last_sequence;
    let mut host = stage.near().await;
    host.send(session.ask("DELETE", &session.cookie())).await;
    eventually_async("it is deleted, and the broker has not heard so", || async {
        bucket.get_info().await.unwrap().state.last_sequence > before
    })
    .await;
    way.mute();
    let answer = host.patient_answer(Duration::from_secs(20)).await;
    let problem = answer.problem();
    assert_eq!((answer.status, problem.code.as_str()), (504, "session_unconfirmed"), "{}", problem.detail);
}
