//! Origins that speak TLS.

use std::path::{Path, PathBuf};

use crate::support::*;

#[tokio::test]
async fn an_https_origin_works_with_its_authority() {
    let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let origin = Origin::tls(&certificate, |seen| async move { answer(200, seen.body) }).await;
    let client = Place::new(&certificate).serve(&origin, "localhost").await;
    for _ in 0..3 {
        let answer = client.0.post("/", "over TLS").await;
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.text().await.unwrap(), "over TLS");
    }
    assert_eq!(origin.connections(), 1, "a TLS connection is kept");
}

#[tokio::test]
async fn an_https_origin_of_an_unknown_authority_is_502() {
    let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let origin = Origin::tls(&certificate, |_| async { answer(200, "") }).await;
    let somebody = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let client = Place::new(&somebody).serve(&origin, "localhost").await;
    problem(client.0.get("/").await).await.is(502, "origin_tls", "upstream").names("localhost");
    assert_eq!(origin.hits(), 0);
}

#[tokio::test]
async fn an_https_origin_with_another_name_is_502() {
    let certificate = rcgen::generate_simple_self_signed(["other.example".to_owned()]).unwrap();
    let origin = Origin::tls(&certificate, |_| async { answer(200, "") }).await;
    let client = Place::new(&certificate).serve(&origin, "localhost").await;
    problem(client.0.get("/").await).await.is(502, "origin_tls", "upstream");
    assert_eq!(origin.hits(), 0);
}

#[tokio::test]
async fn an_origin_that_does_not_speak_tls_is_502() {
    let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let origin = Origin::echo().await;
    let client = Place::new(&certificate).serve(&origin, "localhost").await;
    problem(client.0.get("/").await).await.is(502, "origin_tls", "upstream");
}

/// Where an agent finds the authority it is to believe.
struct Place(tempfile::TempDir);

impl Place {
    fn new(certificate: &rcgen::CertifiedKey<rcgen::KeyPair>) -> Place {
        let directory = tempfile::TempDir::new().unwrap();
        std::fs::write(pem(directory.path()), certificate.cert.pem()).unwrap();
        Place(directory)
    }

    async fn serve(self, origin: &Origin, host: &str) -> (Role, Role, Nats, Place) {
        let nats = Nats::start().await;
        let (to, ca) = (format!("https://{host}:{}", origin.address().port()), pem(self.0.path()));
        let flags = ["--ca", ca.to_str().unwrap()];
        let (client, agent) =
            tokio::join!(nats.client(&["--upstream", "hello"]), nats.upstream("hello", &to, &flags));
        (client, agent, nats, self)
    }
}

fn pem(directory: &Path) -> PathBuf {
    directory.join("ca.pem")
}
