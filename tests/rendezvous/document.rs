//! The transcripts of the original's document, byte for byte. It has a `Server` line that we do not send, and its
//! dates, ids and tokens are of its time; in its seventh transcript `Location` and `Set-Cookie` are misspelt.

use crate::{
    stage::{END, Session, Stage, chunk},
    support::*,
};

#[tokio::test]
async fn basic_allocation() {
    let stage = Stage::one().await;
    let mut raw = stage.near().await;
    let request = "PUT /cama/session HTTP/1.1\r\nHost: localhost:8000\r\nContent-Length: 0\r\n\r\n";
    let answer = raw.ask(request).await;
    let (id, token) = id_and_token(&answer);
    let expected = format!(
        "HTTP/1.1 201 Created\r\nDate: (a date)\r\nLocation: /cama/session/{id}\r\n\
         Set-Cookie: token=\"{token}\"; Path=\"/cama/session/{id}\"; Expires=(a date); HttpOnly; SameSite=Lax; \
         Path=/cama/session/{id}\r\nX-Type: basic\r\nContent-Length: 0\r\n\r\n"
    );
    assert_eq!(undated(&answer), expected);
    assert_eq!((id.len(), token.len()), (22, 22), "128 bits each");
}

#[tokio::test]
async fn the_host_waits_for_a_message_and_the_guest_sends_one() {
    for stage in [Stage::one().await, Stage::two().await] {
        let session = stage.session().await;
        let (mut host, mut guest) = (stage.near().await, stage.far().await);
        host.send(transcript(&session, "GET", Some(()), "", "")).await;
        stage.clients[0].counts("relay_session_waits", "", 1.0).await;
        let sent = guest
            .ask(transcript(
                &session,
                "POST",
                None,
                "Content-Type: text/plain\r\nContent-Length: 5\r\n",
                "Hello",
            ))
            .await;
        let received = host.answer().await;
        assert_eq!(
            undated(&received),
            "HTTP/1.1 200 OK\r\nDate: (a date)\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\n"
        );
        assert_eq!(received.text(), "Hello");
        assert_eq!(
            undated(&sent),
            "HTTP/1.1 200 OK\r\nDate: (a date)\r\nContent-Length: 0\r\nX-Bytes-Delivered: 5\r\n\r\n"
        );
    }
}

#[tokio::test]
async fn timeout_behavior() {
    let stage = Stage::one().await;
    let session = stage.session().await;
    for method in ["GET", "POST"] {
        let request = transcript(&session, method, None, "Content-Length: 0\r\nX-Timeout: 1\r\n", "");
        let began = std::time::Instant::now();
        let answer = stage.near().await.ask(request).await;
        let waited = began.elapsed().as_secs_f64();
        assert_eq!(
            undated(&answer),
            "HTTP/1.1 504 Gateway Timeout\r\nDate: (a date)\r\nContent-Length: 0\r\n\r\n"
        );
        assert!((1.0..3.0).contains(&waited), "{method} waited {waited} s");
    }
}

#[tokio::test]
async fn chunk_mode_transfer() {
    for stage in [Stage::one().await, Stage::two().await] {
        let session = stage.session().await;
        let (mut host, mut guest) = (stage.near().await, stage.far().await);
        host.send(transcript(&session, "GET", Some(()), "Content-Length: 0\r\n", "")).await;
        let head = "Content-Type: application/binary\r\nTransfer-Encoding: chunked\r\n";
        guest.send(transcript(&session, "POST", None, head, "")).await;
        let parts = ["a".repeat(0x138), "b".repeat(0x138), "c".repeat(0x4b)];
        for part in &parts {
            guest.send(chunk(part)).await;
            // It is relayed as it comes.
            host.says(part.as_bytes()).await;
        }
        guest.send(END).await;
        let received = host.answer().await;
        assert_eq!(
            undated(&received),
            "HTTP/1.1 200 OK\r\nDate: (a date)\r\nContent-Type: application/binary\r\nTransfer-Encoding: chunked\r\n\r\n"
        );
        assert_eq!(received.text(), parts.concat());
        assert_eq!(
            undated(&guest.answer().await),
            "HTTP/1.1 200 OK\r\nDate: (a date)\r\nX-Bytes-Relayed: 699\r\nContent-Length: 0\r\n\r\n"
        );
    }
}

#[tokio::test]
async fn partial_delivery() {
    for stage in [Stage::one().await, Stage::two().await] {
        let session = stage.session().await;
        let (mut host, mut guest) = (stage.near().await, stage.far().await);
        host.send(session.host_gets()).await;
        guest.send(session.posts_chunks("")).await;
        guest.send(chunk(&"a".repeat(700))).await;
        guest.send(chunk(&"b".repeat(42))).await;
        host.says(&[b'b'; 42]).await;
        drop(host);
        let answer = guest.answer().await;
        assert_eq!(
            undated(&answer),
            "HTTP/1.1 200 OK\r\nDate: (a date)\r\nContent-Length: 0\r\nX-Bytes-Delivered: 742\r\nX-Relay-Incomplete: 1\r\n\r\n"
        );
    }
}

#[tokio::test]
async fn a_sender_that_is_disconnected_gives_the_receiver_an_end_of_chunk() {
    for stage in [Stage::one().await, Stage::two().await] {
        let session = stage.session().await;
        let (mut host, mut guest) = (stage.near().await, stage.far().await);
        host.send(session.host_gets()).await;
        guest.send(session.posts_chunks("")).await;
        guest.send(chunk("some")).await;
        host.says(b"4\r\nsome\r\n").await;
        drop(guest);
        host.says(b"some\r\n0\r\nX-Relay-Incomplete: 1\r\n\r\n").await;
    }
}

#[tokio::test]
async fn secure_allocation() {
    let stage = Stage::one().await;
    let request =
        "PUT /cama/session HTTP/1.1\r\nHost: localhost:8000\r\nX-Type: secure\r\nContent-Length: 0\r\n\r\n";
    let answer = stage.near().await.ask(request).await;
    let (id, token) = id_and_token(&answer);
    let expected = format!(
        "HTTP/1.1 201 Created\r\nDate: (a date)\r\nLocation: /cama/session/{id}\r\nX-Type: secure\r\n\
         Set-Cookie: token=\"{token}\"; Path=\"/cama/session/{id}\"; Expires=(a date); HttpOnly; SameSite=Lax; \
         Path=/cama/session/{id}\r\nContent-Length: 0\r\n\r\n"
    );
    assert_eq!(undated(&answer), expected);
    let session = Session { path: format!("/cama/session/{id}"), token };
    let permit =
        transcript(&session, "PUT", Some(()), "X-Peer-Address: 127.0.0.1\r\nContent-Length: 0\r\n", "");
    let answer = stage.near().await.ask(permit).await;
    assert_eq!(undated(&answer), "HTTP/1.1 200 OK\r\nDate: (a date)\r\nContent-Length: 0\r\n\r\n");
}

#[tokio::test]
async fn deallocation() {
    for stage in [Stage::one().await, Stage::two().await] {
        let session = stage.session().await;
        let (mut host, mut guest) = (stage.near().await, stage.far().await);
        guest.send(session.guest_gets()).await;
        stage.clients.last().unwrap().counts("relay_session_waits", "", 1.0).await;
        let answer = host.ask(transcript(&session, "DELETE", Some(()), "Content-Length: 0\r\n", "")).await;
        let expected = format!(
            "HTTP/1.1 200 OK\r\nDate: (a date)\r\nSet-Cookie: token=\"{}\"; Expires=(a date); Path={}\r\nContent-Length: 0\r\n\r\n",
            session.token, session.path
        );
        assert_eq!(undated(&answer), expected);
        let gone = guest.answer().await;
        assert_eq!((gone.status, gone.problem().code.as_str()), (410, "session_gone"));
        assert!(gone.head.starts_with("HTTP/1.1 410 Gone\r\n"));
    }
}

/// A request as the document writes it.
fn transcript(session: &Session, method: &str, host: Option<()>, headers: &str, body: &str) -> String {
    let cookie = host.map(|()| session.cookie()).unwrap_or_default();
    format!("{method} {} HTTP/1.1\r\nHost: localhost:8000\r\n{cookie}{headers}\r\n{body}", session.path)
}

fn id_and_token(answer: &RawAnswer) -> (String, String) {
    let id = answer.value("location").strip_prefix("/cama/session/").unwrap().to_owned();
    let token = answer.value("set-cookie").split('"').nth(1).unwrap().to_owned();
    (id, token)
}

/// A head without its dates.
fn undated(answer: &RawAnswer) -> String {
    let mut lines = Vec::new();
    for line in answer.head.split("\r\n") {
        let dated = ["Date: ", "Expires="].iter().find_map(|name| line.split_once(name).map(|at| (name, at)));
        lines.push(match dated {
            Some((name, (before, rest))) => {
                let (date, after) = rest.split_at(29);
                httpdate::parse_http_date(date).expect("a date");
                format!("{before}{name}(a date){after}")
            }
            None => line.to_owned(),
        });
    }
    lines.join("\r\n")
}
