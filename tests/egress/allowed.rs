//! What an egress agent calls: the hosts that it is told to, and no others.

use http::{Method, header};

use super::asking::*;
use crate::support::*;

#[tokio::test]
async fn an_allowed_host_is_called_by_the_url_s_own_path_and_name() {
    let (nats, origin) = (Nats::start().await, Origin::saying("here").await);
    let url = origin.url();
    let _agent = egress(&nats, &["--allow", &url, "--host-header", "keep"]).await;
    let mut asker = Asker::at(&nats).await;
    assert_eq!(text(&asker.get(&format!("{url}/a//b?c=d")).await, 200), "here");
    let seen = origin.only();
    assert_eq!(seen.target, "/a//b?c=d");
    assert_eq!(seen.values("host"), [origin.address().to_string()]);
    for _ in 0..3 {
        assert_eq!(text(&asker.get(&url).await, 200), "here");
    }
    assert_eq!(origin.last().target, "/");
    assert_eq!(origin.connections(), 1, "connections are kept");
}

#[tokio::test]
async fn each_host_has_its_own_connections() {
    let nats = Nats::start().await;
    let (one, two) = (Origin::saying("one").await, Origin::saying("two").await);
    let _agent = egress(&nats, &["--allow", &[one.url(), two.url()].join(",")]).await;
    let mut asker = Asker::at(&nats).await;
    for _ in 0..3 {
        assert_eq!(text(&asker.get(&one.url()).await, 200), "one");
        assert_eq!(text(&asker.get(&two.url()).await, 200), "two");
    }
    assert_eq!((one.connections(), two.connections()), (1, 1));
}

#[tokio::test]
async fn what_is_not_allowed_is_refused_and_nobody_sees_it() {
    let (nats, origin, other) = (Nats::start().await, Origin::echo().await, Origin::echo().await);
    let (url, port) = (origin.url(), origin.address().port());
    let _agent = egress(&nats, &["--allow", &url, "--allow", "https://*.partner.example"]).await;
    let mut asker = Asker::at(&nats).await;
    for refused in [
        other.url(),
        format!("https://127.0.0.1:{port}/"),
        format!("http://localhost:{port}/"),
        format!("http://[::ffff:127.0.0.1]:{port}/"),
        "http://127.0.0.1/".into(),
        "https://partner.example/".into(),
        "http://api.partner.example/".into(),
        "https://api.partner.example:8443/".into(),
        "https://api.partner.example.evil.example/".into(),
        "http://169.254.169.254/latest/meta-data/".into(),
    ] {
        let error = asker.refused(&refused).await;
        assert_eq!(error.code, "egress_refused", "{refused}");
        assert!(error.message.contains("--allow"), "{}", error.message);
        assert!(!error.message.contains("partner.example,"), "it tells what it may call: {}", error.message);
    }
    for no_url in [
        "/".to_owned(),
        "/a".into(),
        format!("//127.0.0.1:{port}/"),
        format!("127.0.0.1:{port}"),
        "*".into(),
        String::new(),
        format!("{url}@{}/", other.address()),
        format!("http://user@127.0.0.1:{port}/"),
        format!("http://{}#@127.0.0.1:{port}/", other.address()),
        format!("http://{}\\@127.0.0.1:{port}/", other.address()),
        format!("http://2130706433:{port}/"),
        format!("http://0x7f.1:{port}/"),
        format!("http://127.1:{port}/"),
        format!("{url}/ HTTP/1.1\r\nx: y"),
        format!("unix:/run/x{url}"),
    ] {
        assert_eq!(asker.refused(&no_url).await.code, "egress_refused", "{no_url:?}");
    }
    assert_eq!((origin.connections(), other.connections()), (0, 0));
    assert_eq!(text(&asker.get(&url).await, 200), "");
}

#[tokio::test]
async fn a_redirect_is_passed_on_and_not_followed() {
    let (nats, elsewhere) = (Nats::start().await, Origin::echo().await);
    let to = elsewhere.url();
    let origin = Origin::start(move |_| {
        let mut answer = answer(302, "moved");
        answer.headers_mut().insert(header::LOCATION, to.parse().unwrap());
        async move { answer }
    })
    .await;
    let _agent = egress(&nats, &["--allow", &[origin.url(), elsewhere.url()].join(",")]).await;
    let reply = Asker::at(&nats).await.get(&origin.url()).await;
    assert_eq!(text(&reply, 302), "moved");
    assert_eq!(reply.headers["location"], elsewhere.url());
    assert_eq!(elsewhere.connections(), 0);
}

#[tokio::test]
async fn an_https_host_must_prove_that_it_is_the_one_in_the_url() {
    let nats = Nats::start().await;
    let certificate = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, certificate.cert.pem()).unwrap();
    let origin = Origin::tls(&certificate, |seen| async move { answer(200, seen.value("host")) }).await;
    let port = origin.address().port();
    let (by_name, by_address) = (format!("https://localhost:{port}"), format!("https://127.0.0.1:{port}"));
    let allow = [by_name.as_str(), &by_address].join(",");
    let rules = ["--allow", &allow, "--allow-network", LOOPBACK];
    let mut asker = Asker::at(&nats).await;

    let unknown = egress(&nats, &rules).await;
    assert_eq!(asker.refused(&by_name).await.code, "origin_tls", "nobody vouches for it");
    drop(unknown);
    let ca = file.path().to_str().unwrap();
    let _known = egress(&nats, &[&rules[..], &["--ca", ca]].concat()).await;
    assert_eq!(text(&asker.get(&by_name).await, 200), format!("localhost:{port}"));
    assert_eq!(asker.refused(&by_address).await.code, "origin_tls", "the certificate is for a name");
    assert_eq!(origin.hits(), 1);
}

#[tokio::test]
async fn a_host_that_is_down_says_nothing_of_the_others() {
    let (nats, origin) = (Nats::start().await, Origin::echo().await);
    // Nothing listens at this address: a port of 127.0.0.1 may be another test's a moment later.
    let down = format!("http://127.0.0.9:{}", origin::unused_port());
    let allow = [origin.url(), down.clone()].join(",");
    let _agent = egress(&nats, &["--allow", &allow, "--eject-after", "1"]).await;
    let mut asker = Asker::at(&nats).await;
    for _ in 0..10 {
        assert_eq!(asker.refused(&down).await.code, "origin_refused");
    }
    let here = asker.here().await;
    assert!(here.accepting && !here.failing, "{here:?}");
    assert_eq!(text(&asker.get(&origin.url()).await, 200), "");
}

#[tokio::test]
async fn an_ordinary_agent_calls_nothing_but_its_origin() {
    let (nats, origin, other) = (Nats::start().await, Origin::echo().await, Origin::echo().await);
    let _agent = nats.upstream("hello", &origin.url(), &[]).await;
    let mut asker = Asker::at(&nats).await;
    for url in [other.url(), origin.url()] {
        let reply = asker.ask("hello", Method::GET, &url).await;
        assert_eq!(reply.error.expect("an error").code, "bad_target");
    }
    assert_eq!((origin.connections(), other.connections()), (0, 0));
}
