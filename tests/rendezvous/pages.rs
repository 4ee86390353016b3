//! Browsers: pages of other sites, cookies, and what is shown.

use crate::stage::{Session, Stage};

const HERE: &str = "https://app.example.com";

#[tokio::test]
async fn a_page_of_a_site_that_is_named_may_be_host_and_guest() {
    let stage = Stage::with(&["--session-origin", "https://app.example.com,https://b.example.com"]).await;
    let making = Session { path: "/cama/session".into(), token: String::new() };
    let preflight = format!(
        "Origin: {HERE}\r\nAccess-Control-Request-Method: PUT\r\nAccess-Control-Request-Headers: x-type\r\n"
    );
    let answer = stage.near().await.ask(making.ask("OPTIONS", &preflight)).await;
    assert_eq!((answer.status, answer.body.len()), (204, 0));
    assert_eq!(answer.value("access-control-allow-origin"), HERE);
    assert_eq!(answer.value("access-control-allow-credentials"), "true");
    assert!(answer.value("access-control-allow-methods").contains("PUT"));
    assert!(answer.value("access-control-allow-headers").contains("X-Type"));
    let made = stage.near().await.ask(making.ask("PUT", &format!("Origin: {HERE}\r\n"))).await;
    assert_eq!((made.status, made.value("access-control-allow-origin").as_str()), (201, HERE));
    assert!(made.value("access-control-expose-headers").contains("Location"));
    assert_eq!(made.value("vary"), "Origin");
    // What fails is told to pages, too.
    let one = Session { path: made.value("location"), token: String::new() };
    let late = stage.near().await.ask(one.ask("GET", &format!("Origin: {HERE}\r\nX-Timeout: 0\r\n"))).await;
    assert_eq!((late.status, late.value("access-control-allow-origin").as_str()), (504, HERE));
    let stranger = stage.near().await.ask(making.ask("PUT", "Origin: https://evil.example.com\r\n")).await;
    assert!(!stranger.has("access-control-allow-origin"));
}

#[tokio::test]
async fn a_page_of_any_other_site_is_a_guest_at_most() {
    let stage = Stage::with(&["--session-origin", "*"]).await;
    let session = stage.session().await;
    let answer =
        stage.near().await.ask(session.ask("GET", &format!("Origin: {HERE}\r\nX-Timeout: 0\r\n"))).await;
    assert_eq!(answer.value("access-control-allow-origin"), "*");
    assert!(!answer.has("access-control-allow-credentials"), "no cookies");
}

#[tokio::test]
async fn without_the_setting_pages_elsewhere_get_nothing() {
    let stage = Stage::one().await;
    let session = stage.session().await;
    let preflight = format!("Origin: {HERE}\r\nAccess-Control-Request-Method: GET\r\n");
    let answer = stage.near().await.ask(session.ask("OPTIONS", &preflight)).await;
    assert_eq!(answer.status, 405);
    assert!(!answer.has("access-control-allow-origin"));
}

#[tokio::test]
async fn cookies_are_for_tls_where_there_is_tls_and_for_other_sites_where_those_are_named() {
    let trusted = ["--trusted-proxy", "127.0.0.1/32"];
    let making = Session { path: "/cama/session".into(), token: String::new() };
    for (flags, headers, expected) in [
        (&trusted[..], "", "SameSite=Lax;"),
        (&trusted[..], "X-Forwarded-Proto: https\r\n", "SameSite=Lax; Secure;"),
        (&["--session-origin", HERE][..], "X-Forwarded-Proto: https\r\n", "SameSite=Lax;"),
        (
            &[&trusted[..], &["--session-origin", HERE]].concat(),
            "X-Forwarded-Proto: https\r\n",
            "SameSite=None; Secure;",
        ),
    ] {
        let stage = Stage::with(flags).await;
        let cookie = stage.near().await.ask(making.ask("PUT", headers)).await.value("set-cookie");
        assert!(
            cookie.contains(&format!("HttpOnly; {expected} Path=/cama")),
            "{flags:?} {headers}: {cookie}"
        );
    }
}

#[tokio::test]
async fn what_a_stranger_sends_is_no_page_of_this_site() {
    let stage = Stage::one().await;
    let session = stage.session().await;
    for (headers, sandboxed) in
        [("Sec-Fetch-Dest: document\r\n", true), ("Sec-Fetch-Dest: empty\r\n", false), ("", false)]
    {
        let mut sender = stage.near().await;
        sender.send(session.host_posts("<script>")).await;
        let received = stage.near().await.ask(session.ask("GET", headers)).await;
        assert_eq!(received.text(), "<script>");
        assert_eq!(received.value("content-security-policy") == "sandbox", sandboxed, "{headers}");
    }
}
