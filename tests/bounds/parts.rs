//! Bodies in parts of one byte, which cost as much as other bodies of their size.

use futures_util::FutureExt;
use relay::bus::Subscription;
use tokio::io::AsyncWriteExt;

use crate::support::{origin::read_request, *};

/// Bytes of a body, each a chunk: several times what rides in one message.
const BYTES: usize = 600_000;
/// Messages at most: a busy machine may hand over little at once.
const MESSAGES: usize = BYTES / 100;

#[tokio::test]
async fn an_upload_in_chunks_of_one_byte_is_few_messages() {
    let relay = Relay::to(Origin::echo().await).start().await;
    let mut frames = frames(&relay).await;
    let mut raw = relay.raw().await;
    let head = "POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n";
    raw.send(format!("{head}{}0\r\n\r\n", "1\r\nx\r\n".repeat(BYTES))).await;
    let answer = raw.answer().await;
    assert_eq!((answer.status, answer.body.len()), (200, BYTES));
    assert_few(&mut frames);
}

#[tokio::test]
async fn a_response_in_chunks_of_one_byte_is_few_messages_and_keeps_its_trailers() {
    let origin = Origin::tcp(|mut stream| async move {
        read_request(&mut stream).await;
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n";
        let body = format!("{head}{}0\r\nx-sum: 7\r\n\r\n", "1\r\nx\r\n".repeat(BYTES));
        stream.write_all(body.as_bytes()).await.ok();
        // The agent closes the connection, or asks again.
        read_request(&mut stream).await;
    })
    .await;
    let relay = Relay::to(origin).start().await;
    let mut frames = frames(&relay).await;
    let mut raw = relay.raw().await;
    raw.send("GET / HTTP/1.1\r\nHost: test\r\nTE: trailers\r\nConnection: TE\r\n\r\n").await;
    let answer = raw.answer().await;
    assert_eq!((answer.status, answer.body.len()), (200, BYTES));
    assert_few(&mut frames);
}

async fn frames(relay: &Relay) -> Subscription {
    let bus = relay.nats.connect().await;
    let frames = bus.subscribe("relay.body.>".into()).await.unwrap();
    bus.flush().await;
    frames
}

fn assert_few(frames: &mut Subscription) {
    let mut count = 0;
    while let Some(Some(_)) = frames.next().now_or_never() {
        count += 1;
    }
    assert!((1..MESSAGES).contains(&count), "{count} messages");
}
