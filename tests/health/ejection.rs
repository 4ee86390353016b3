//! Origins that cannot be connected to.

use std::net::SocketAddr;

use super::checks::state;
use crate::support::{load::counted, process::run, *};

#[tokio::test]
async fn an_agent_that_can_not_connect_leaves_its_requests_to_another() {
    let nowhere = origin::unused_port();
    let relay = Relay::start().await;
    let flags = ["--eject-after", "3", "--health-interval", "30ms"];
    let agent = relay.nats.upstream("hello", &format!("http://127.0.0.1:{nowhere}"), &flags).await;
    let load = Load::start(&relay.client, 4).await;
    let line = agent.says("the origin is given up").await;
    assert!(line.contains("WARN") && line.contains(&nowhere.to_string()), "{line}");
    eventually_async("it has left", || async { state(&relay, &agent).await == "unhealthy" }).await;
    let (_, failed) = load.end().await;
    assert!(failed.is_empty(), "another agent got what this one could not pass on: {:?}", counted(&failed));
    assert_eq!(agent.metric("relay_ejections_total", "hello").await, 1.0);

    let load = Load::start(&relay.client, 4).await;
    load.goes_on(100).await;
    let (_, failed) = load.end().await;
    assert!(failed.is_empty(), "{:?}", counted(&failed));

    let _origin = listen(SocketAddr::from(([127, 0, 0, 1], nowhere))).await;
    eventually_async("it is back", || async { state(&relay, &agent).await == "accepting" }).await;
    let before = agent.metric("relay_origin_calls_total", "answered").await;
    let load = Load::start(&relay.client, 4).await;
    load.goes_on(100).await;
    let (_, failed) = load.end().await;
    assert!(failed.is_empty(), "{:?}", counted(&failed));
    assert!(agent.metric("relay_origin_calls_total", "answered").await > before + 10.0);
}

#[tokio::test]
async fn an_agent_that_can_not_connect_and_is_alone_says_so_at_once() {
    let nowhere = origin::unused_port();
    let nats = Nats::start().await;
    let flags = ["--eject-after", "2", "--health-interval", "30ms"];
    let to = format!("http://127.0.0.1:{nowhere}");
    let (agent, client, _broker) = tokio::join!(
        nats.upstream("hello", &to, &flags),
        nats.client(&["--upstream", "hello"]),
        nats.broker(&[]),
    );
    for _ in 0..10 {
        problem(client.get("/").await).await.is(502, "origin_refused", "upstream");
    }
    let ps = run(process::relay(&["ps", "--server", &nats.url()])).await;
    assert!(ps.out.contains("accepting, failing"), "{}", ps.out);
    let _origin = listen(SocketAddr::from(([127, 0, 0, 1], nowhere))).await;
    agent.says("the origin is healthy").await;
    assert_eq!(client.get("/").await.status(), 200);
}

/// An origin at this address that answers every request.
async fn listen(address: SocketAddr) -> tokio::task::JoinHandle<()> {
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
            tokio::spawn(origin::serve(stream, move |_| Some(answer.into())));
        }
    })
}
