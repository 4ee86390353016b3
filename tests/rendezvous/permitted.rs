//! Who may do what: tokens, secure sessions, guesses.

use crate::stage::{SESSIONS, Session, Stage};

#[tokio::test]
async fn a_session_that_is_not_there_is_not_found_and_a_wrong_token_is_denied() {
    let stage = Stage::two().await;
    let session = stage.session().await;
    let ask = async |request: String| {
        let answer = stage.far().await.ask(request).await;
        (answer.status, answer.problem().code)
    };
    let wrong = "Cookie: token=\"AAAAAAAAAAAAAAAAAAAAAA\"\r\n";
    for method in ["GET", "POST", "DELETE"] {
        assert_eq!(ask(session.ask(method, wrong)).await, (403, "session_denied".into()), "{method}");
    }
    assert_eq!(ask(session.ask("DELETE", "")).await.0, 403, "only the host deletes");
    let peer = "X-Peer-Address: 127.0.0.1\r\n";
    assert_eq!(ask(session.ask("PUT", peer)).await.0, 403, "only the host permits");
    for path in
        ["/cama/session/AAAAAAAAAAAAAAAAAAAAAA", "/cama/session/", "/cama/session/x/y", "/cama/session/.."]
    {
        let other = Session { path: path.into(), token: session.token.clone() };
        for method in ["GET", "POST", "DELETE"] {
            assert_eq!(
                ask(other.ask(method, &session.cookie())).await,
                (404, "session_unknown".into()),
                "{path}"
            );
        }
    }
    let host = stage.near().await.ask(session.ask("DELETE", &session.cookie())).await;
    assert_eq!(host.status, 200);
    assert_eq!(ask(session.host_gets()).await.0, 404, "it is deleted");
    assert_eq!(ask(session.ask("DELETE", &session.cookie())).await.0, 404);
}

#[tokio::test]
async fn one_right_token_among_others_is_enough() {
    let stage = Stage::one().await;
    let session = stage.session().await;
    let cookies = format!("Cookie: a=b; token=\"AAAAAAAAAAAAAAAAAAAAAA\"; token={}\r\n", session.token);
    let answer = stage.near().await.ask(session.ask("DELETE", &cookies)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[tokio::test]
async fn only_the_permitted_address_is_the_guest_of_a_secure_session() {
    let stage = Stage::two().await;
    let session = Session::made(&stage.clients[0], "X-Type: secure\r\n").await;
    let denied = stage.far().await.ask(session.guest_posts("no")).await;
    assert_eq!((denied.status, denied.problem().code.as_str()), (403, "session_denied"));
    let permit = async |address: &str| {
        let headers = format!("{}X-Peer-Address: {address}\r\n", session.cookie());
        stage.near().await.ask(session.ask("PUT", &headers)).await.status
    };
    assert_eq!(permit("nobody").await, 400);
    assert_eq!(permit("192.0.2.1").await, 200);
    assert_eq!(stage.far().await.ask(session.guest_posts("no")).await.status, 403);
    assert_eq!(permit("127.0.0.1").await, 200);
    let mut host = stage.near().await;
    host.send(session.host_gets()).await;
    assert_eq!(stage.far().await.ask(session.guest_posts("yes")).await.status, 200);
    assert_eq!(host.answer().await.text(), "yes");
    let basic = stage.session().await;
    let headers = format!("{}X-Peer-Address: 127.0.0.1\r\n", basic.cookie());
    assert_eq!(stage.near().await.ask(basic.ask("PUT", &headers)).await.status, 400);
}

#[tokio::test]
async fn behind_a_trusted_proxy_the_callers_own_address_counts() {
    let stage = Stage::with(&["--trusted-proxy", "127.0.0.1/32"]).await;
    let session = Session::made(&stage.clients[0], "X-Type: secure\r\n").await;
    let permit = format!("{}X-Peer-Address: 192.0.2.7\r\n", session.cookie());
    assert_eq!(stage.near().await.ask(session.ask("PUT", &permit)).await.status, 200);
    for (headers, status) in [
        ("X-Forwarded-For: 192.0.2.7\r\n", 504),
        ("Forwarded: for=192.0.2.7\r\n", 504),
        ("X-Forwarded-For: 192.0.2.7, 192.0.2.8\r\n", 403),
        ("Forwarded: for=192.0.2.7\r\nX-Forwarded-For: 192.0.2.8\r\n", 403),
        ("", 403),
    ] {
        let answer = stage.near().await.ask(session.ask("GET", &format!("{headers}X-Timeout: 0\r\n"))).await;
        assert_eq!(answer.status, status, "{headers}");
    }
    // Anybody can write such a header: without a proxy that is trusted it is nobody's word.
    let plain = stage.nats.client(&SESSIONS).await;
    let answer = plain.raw().await.ask(session.ask("GET", "X-Forwarded-For: 192.0.2.7\r\n")).await;
    assert_eq!(answer.status, 403);
}

#[tokio::test]
async fn who_guesses_is_held_up_and_who_is_right_is_not() {
    let flags = ["--session-guesses", "5", "--trusted-proxy", "127.0.0.1/32"];
    let mut stage = Stage::with(&flags).await;
    stage.clients.push(crate::stage::client(&stage.nats, &flags).await);
    let session = stage.session().await;
    let from = |address: &str| format!("X-Forwarded-For: {address}\r\nX-Timeout: 0\r\n");
    for client in &stage.clients {
        let mut statuses = Vec::new();
        for turn in 0..8_u8 {
            let path = format!("/cama/session/AAAAAAAAAAAAAAAAAAAA{}A", char::from(b'A' + turn));
            let guess = Session { path, token: String::new() };
            statuses.push(client.raw().await.ask(guess.ask("GET", &from("192.0.2.1"))).await.status);
        }
        assert_eq!(statuses, [404, 404, 404, 404, 404, 429, 429, 429]);
        // The right one is right wherever it is asked for, at a client agent that has not seen it yet too.
        for _ in 0..3 {
            let answer = client.raw().await.ask(session.ask("GET", &from("192.0.2.1"))).await;
            assert_eq!(answer.status, 504, "the session is there, and nobody sends");
            let answer =
                client.raw().await.ask(session.ask("GET", &(session.cookie() + &from("192.0.2.1")))).await;
            assert_eq!(answer.status, 504);
        }
        let wrong = Session { token: "AAAAAAAAAAAAAAAAAAAAAA".into(), path: session.path.clone() };
        for guess in [
            wrong.ask("GET", &(wrong.cookie() + &from("192.0.2.1"))),
            wrong.ask("DELETE", &(wrong.cookie() + &from("192.0.2.1"))),
        ] {
            let held = client.raw().await.ask(guess).await;
            assert_eq!((held.status, held.problem().code.as_str()), (429, "session_guesses"));
        }
        let malformed = Session { path: "/cama/session/x".into(), token: String::new() };
        assert_eq!(client.raw().await.ask(malformed.ask("GET", &from("192.0.2.1"))).await.status, 429);
        assert_eq!(client.raw().await.ask(session.ask("GET", &from("192.0.2.2"))).await.status, 504);
    }
}

#[tokio::test]
async fn an_address_makes_so_many_sessions_in_a_minute_and_those_behind_a_proxy_are_told_apart() {
    let stage = Stage::with(&["--sessions-per-address", "3", "--trusted-proxy", "127.0.0.1/32"]).await;
    let make = |address: &'static str| {
        let stage = &stage;
        async move {
            let request = format!(
                "PUT /cama/session HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {address}\r\nContent-Length: 0\r\n\r\n"
            );
            stage.near().await.ask(request).await
        }
    };
    for _ in 0..3 {
        assert_eq!(make("192.0.2.1").await.status, 201);
    }
    let refused = make("192.0.2.1").await.problem();
    refused.is(429, "session_rate", "client").names("--sessions-per-address");
    assert_eq!(refused.retry_after, Some(10));
    assert_eq!(make("192.0.2.2").await.status, 201);
    // One who has an address of IPv6 has all of its /64.
    let statuses = ["2001:db8::1", "2001:db8::2", "2001:db8:0:0:ffff::3", "2001:db8::4", "2001:db8:0:1::1"];
    let mut made = Vec::new();
    for address in statuses {
        made.push(make(address).await.status);
    }
    assert_eq!(made, [201, 201, 201, 429, 201]);
}
