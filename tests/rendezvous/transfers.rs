//! What is sent: how it arrives, how much of it, and what that costs. `RELAY_BULK` sets the size of the large file.

use std::{process::Stdio, time::Duration};

use futures_util::FutureExt;
use tokio::io::AsyncWriteExt;

use crate::{
    stage::{END, Stage, chunk},
    support::*,
};

#[tokio::test]
async fn a_message_with_a_length_that_breaks_off_never_looks_complete() {
    for stage in [Stage::one().await, Stage::two().await] {
        let session = stage.session().await;
        let (mut host, mut guest) = (stage.near().await, stage.far().await);
        host.send(session.host_gets()).await;
        // More than is read ahead, so that it begins before it is whole.
        let length = 300_000;
        guest
            .send(session.guest_posts("").replace("Content-Length: 0", &format!("Content-Length: {length}")))
            .await;
        guest.send(vec![b'x'; length - 1]).await;
        host.says(&[b'x'; 100_000]).await;
        drop(guest);
        let all = host.until_closed().await;
        let head = all.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
        let text = String::from_utf8_lossy(&all[..head]);
        assert!(text.contains("Content-Length: 300000"), "{text}");
        assert!(all.len() - head < length, "{} of {length} came", all.len() - head);
    }
}

#[tokio::test]
async fn a_receiver_that_leaves_while_nothing_is_sent_has_what_it_has_seen() {
    let stage = Stage::two().await;
    for sizes in [vec![1], vec![1, 255, 256, 4095, 4096], vec![70_000, 3, 70_000], vec![300_000]] {
        let session = stage.session().await;
        let (mut host, mut guest) = (stage.near().await, stage.far().await);
        host.send(session.host_gets()).await;
        guest.send(session.posts_chunks("")).await;
        for (turn, size) in sizes.iter().enumerate() {
            let mut text = "-".repeat(*size - 1);
            // None of these is in a head.
            text.push(['#', '$', '%', '&', '!'][turn]);
            guest.send(chunk(&text)).await;
            host.says(&text.as_bytes()[text.len() - 1..]).await;
        }
        // It has seen all; it leaves, and only then more comes.
        drop(host);
        let answer = guest.answer().await;
        let all: usize = sizes.iter().sum();
        assert_eq!(answer.value("x-bytes-delivered"), all.to_string(), "{sizes:?}");
        assert_eq!(answer.value("x-relay-incomplete"), "1");
    }
}

#[tokio::test]
async fn a_receiver_that_is_killed_in_the_middle_leaves_the_number_of_what_it_was_given() {
    let stage = Stage::two().await;
    let session = stage.session().await;
    let file = stage.nats.directory().join("received");
    let mut curl = tokio::process::Command::new("curl")
        .args(["--silent", "--no-buffer", "--max-time", "60", "--limit-rate", "3M", "-o"])
        .arg(&file)
        .args(["-H", session.cookie().trim_end()])
        .arg(stage.clients[0].url(&session.path).await)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut guest = stage.far().await;
    guest.send(session.posts_chunks("")).await;
    let sender = async {
        let part = chunk(&"x".repeat(60_000));
        // Until it is told that nobody takes it any more.
        while guest.try_send(&part).await.is_ok() {
            if let Ok(answer) = tokio::time::timeout(Duration::from_millis(1), guest.answer()).await {
                return answer;
            }
        }
        guest.answer().await
    };
    let written = || std::fs::metadata(&file).map_or(0, |file| file.len());
    let killer = async {
        eventually("some has come", || written() > 2_000_000).await;
        curl.start_kill().unwrap();
        curl.wait().await.unwrap();
        written()
    };
    let (answer, got) = tokio::join!(sender, killer);
    let told: u64 = answer.value("x-bytes-delivered").parse().unwrap();
    // What its system had taken for it, and it had not read, is the difference.
    let read: u64 = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_rmem")
        .unwrap()
        .split_whitespace()
        .last()
        .unwrap()
        .parse()
        .unwrap();
    let sent: u64 = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_wmem")
        .unwrap()
        .split_whitespace()
        .last()
        .unwrap()
        .parse()
        .unwrap();
    assert!((got..=got + read + sent + 200_000).contains(&told), "{told} were told, {got} were written");
}

#[tokio::test]
async fn a_fast_sender_fills_nobody() {
    let stage = Stage::two().await;
    let session = stage.session().await;
    for client in &stage.clients {
        client.forget_peak();
    }
    let before: Vec<_> = stage.clients.iter().map(|client| client.peak_memory()).collect();
    let (mut host, mut guest) = (stage.near().await, stage.far().await);
    host.send(session.host_gets()).await;
    guest.send(session.posts_chunks("")).await;
    let part = chunk(&"x".repeat(1 << 20));
    let mut sent = 0_u64;
    // The receiver reads nothing: the sender is stopped.
    while tokio::time::timeout(Duration::from_secs(2), guest.try_send(&part)).await.is_ok() {
        sent += 1 << 20;
        assert!(sent < 200 << 20, "nothing stops the sender");
    }
    for (client, before) in stage.clients.iter().zip(before) {
        let grown = client.peak_memory().saturating_sub(before);
        assert!(grown < 48 << 20, "it grew by {grown}");
    }
    drop(host);
}

#[tokio::test]
async fn a_message_in_chunks_of_one_byte_is_few_messages_to_nats() {
    let bytes = 600_000;
    let stage = Stage::two().await;
    let bus = stage.nats.connect().await;
    let mut frames = bus.subscribe("relay.body.>".into()).await.unwrap();
    bus.flush().await;
    let session = stage.session().await;
    let (mut host, mut guest) = (stage.near().await, stage.far().await);
    host.send(session.host_gets()).await;
    let text: String = ('a'..='z').cycle().take(bytes).collect();
    let chunks: String = text.chars().map(|byte| format!("1\r\n{byte}\r\n")).collect();
    guest.send(format!("{}{chunks}{END}", session.posts_chunks(""))).await;
    let (got, sent) = (host.answer().await, guest.answer().await);
    assert_eq!(sent.value("x-bytes-relayed"), bytes.to_string());
    assert!(got.body == text.as_bytes(), "{} of {bytes} bytes", got.body.len());
    let mut count = 0;
    while let Some(Some(_)) = frames.next().now_or_never() {
        count += 1;
    }
    // A busy machine may hand over little at once.
    assert!((1..bytes / 100).contains(&count), "{count} messages");
}

#[tokio::test]
async fn a_large_file_arrives_as_it_was_with_curl() {
    let stage = Stage::two().await;
    let session = stage.session().await;
    let size = match std::env::var("RELAY_BULK") {
        Ok(text) => text.parse::<bytesize::ByteSize>().expect("RELAY_BULK is a size").as_u64(),
        Err(_) => 64 << 20,
    };
    let folder = stage.nats.directory();
    let (file, copy) = (folder.join("file"), folder.join("copy"));
    pattern(&file, size).await;
    for chunked in [false, true] {
        let curl = |at: String| {
            let mut command = tokio::process::Command::new("curl");
            command.args(["--silent", "--show-error", "--fail", "--max-time", "900", at.as_str()]);
            command.kill_on_drop(true);
            command
        };
        let mut get = curl(stage.clients[0].url(&session.path).await);
        get.arg("-o").arg(&copy).args(["-H", session.cookie().trim_end()]);
        let mut post = curl(stage.clients[1].url(&session.path).await);
        post.args(["-i", "-X", "POST", "-H", "Content-Type: application/binary", "-T"]).arg(&file);
        if chunked {
            post.args(["-H", "Transfer-Encoding: chunked"]);
        }
        let (got, sent) = tokio::join!(get.output(), post.output());
        let (got, sent) = (got.unwrap(), sent.unwrap());
        assert!(got.status.success() && sent.status.success(), "{got:?} {sent:?}");
        let head = String::from_utf8_lossy(&sent.stdout).into_owned();
        let told = if chunked { "X-Bytes-Relayed" } else { "X-Bytes-Delivered" };
        assert!(head.contains(&format!("{told}: {size}\r\n")), "{head}");
        assert_eq!(hash(&copy).await, hash(&file).await);
    }
}

#[tokio::test]
async fn http2_receives_and_sends_as_well() {
    let stage = Stage::two().await;
    let session = stage.session().await;
    let http = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    let cookie = format!("token=\"{}\"", session.token);
    let get = http.get(stage.clients[0].url(&session.path).await).header("cookie", cookie).send();
    let post = http.post(stage.clients[1].url(&session.path).await).body("hello").send();
    let (got, sent) = tokio::join!(get, post);
    assert_eq!(got.unwrap().text().await.unwrap(), "hello");
    assert_eq!(sent.unwrap().headers()["x-bytes-delivered"], "5");
}

#[tokio::test]
async fn a_caller_that_expects_to_be_asked_is_asked_when_somebody_receives() {
    let stage = Stage::two().await;
    let session = stage.session().await;
    let mut guest = stage.far().await;
    guest
        .send(
            session.guest_posts("").replace("Content-Length: 0", "Expect: 100-continue\r\nContent-Length: 5"),
        )
        .await;
    stage.clients[1].counts("relay_session_waits", "", 1.0).await;
    let mut host = stage.near().await;
    host.send(session.host_gets()).await;
    guest.says(b"HTTP/1.1 100 Continue\r\n\r\n").await;
    guest.send("hello").await;
    assert_eq!(host.answer().await.text(), "hello");
    assert_eq!(guest.answer().await.status, 100);
    assert_eq!(guest.answer().await.value("x-bytes-delivered"), "5");
}

#[tokio::test]
async fn a_connection_that_received_receives_again_and_relays_as_well() {
    let stage = Stage::one().await;
    let origin = Origin::saying("origin").await;
    let _agent = stage.nats.upstream("hello", &origin.url(), &["--route", "/"]).await;
    let client = &stage.clients[0];
    eventually_async("it is relayed", || async { client.get("/").await.status() == 200 }).await;
    let session = stage.session().await;
    let (mut host, mut guest) = (stage.near().await, stage.near().await);
    for turn in 0..3 {
        host.send(session.host_gets()).await;
        guest.send(session.posts_chunks("") + &chunk("some") + END).await;
        assert_eq!(host.answer().await.text(), "some", "{turn}");
        assert_eq!(guest.answer().await.status, 200);
        for raw in [&mut host, &mut guest] {
            assert_eq!(raw.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.text(), "origin");
        }
    }
    assert_eq!(client.metric("relay_session_bytes_total", "").await, 12.0);
    assert!(client.metric("relay_requests_total", "upstream=\"_sessions\"").await >= 7.0);
}

/// Writes a file of that size in which no part is like another.
async fn pattern(path: &std::path::Path, size: u64) {
    let mut file = tokio::io::BufWriter::new(tokio::fs::File::create(path).await.unwrap());
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut block = Vec::with_capacity(1 << 16);
    let mut left = size;
    while left > 0 {
        block.clear();
        while block.len() < 1 << 16 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            block.extend_from_slice(&state.to_le_bytes());
        }
        let part = left.min(block.len() as u64);
        file.write_all(&block[..usize::try_from(part).unwrap()]).await.unwrap();
        left -= part;
    }
    file.flush().await.unwrap();
}

async fn hash(path: &std::path::Path) -> String {
    let output = tokio::process::Command::new("sha256sum").arg(path).output().await.unwrap();
    String::from_utf8_lossy(&output.stdout).split(' ').next().unwrap().to_owned()
}
