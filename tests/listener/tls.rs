//! TLS with callers.

use std::{path::PathBuf, sync::Arc};

use rcgen::{CertifiedKey, KeyPair};
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    rustls::{self, pki_types::CertificateDer},
};

use crate::{
    curl::{VERSION_AND_STATUS, curl, try_curl},
    support::{
        self,
        process::{self, run},
        *,
    },
};

#[tokio::test]
async fn a_caller_speaks_tls_and_the_origin_is_told() {
    let place = Place::new();
    let relay = Relay::to(Origin::echo().await).client(&place.flags()).start().await;
    let answer =
        place.curl(&relay, &["--http1.1", "-d", "secret", VERSION_AND_STATUS[0], VERSION_AND_STATUS[1]]);
    assert_eq!(answer.await, "secret 1.1 200");
    let seen = relay.origin.only();
    assert_eq!(seen.value("x-forwarded-proto"), "https");
    assert!(seen.value("forwarded").starts_with("for=127.0.0.1;proto=https;"), "{}", seen.value("forwarded"));
    for version in ["1.2", "1.3"] {
        let flags = [&format!("--tlsv{version}"), "--tls-max", version, "-d", version];
        assert_eq!(place.curl(&relay, &flags).await, version);
    }
    let url = place.url(&relay).await;
    assert!(!try_curl(&["--cacert", &place.cert(), "--tls-max", "1.1", &url]).await.status.success());
}

#[tokio::test]
async fn http_2_is_agreed_on_in_the_handshake() {
    let place = Place::new();
    let relay = Relay::to(Origin::echo().await).client(&place.flags()).start().await;
    let flags = ["--http2", "-d", "data", VERSION_AND_STATUS[0], VERSION_AND_STATUS[1]];
    assert_eq!(place.curl(&relay, &flags).await, "data 2 200");
    let seen = relay.origin.only();
    assert_eq!((seen.value("via").as_str(), seen.value("x-forwarded-proto").as_str()), ("2 relay", "https"));
    assert_eq!(seen.value("host"), format!("localhost:{}", relay.client.address().await.port()));
}

#[tokio::test]
async fn a_proxy_may_tell_the_caller_before_the_handshake() {
    let place = Place::new();
    let flags = [&place.flags()[..], &["--proxy-protocol", "on", "--trusted-proxy", "127.0.0.1"]].concat();
    let relay = Relay::to(Origin::echo().await).client(&flags).start().await;
    assert_eq!(place.curl(&relay, &["--haproxy-protocol", "--http2", "-d", "data"]).await, "data");
    let url = place.url(&relay).await;
    let without = try_curl(&["--cacert", &place.cert(), "-4", &url]).await;
    assert!(!without.status.success(), "{without:?}");
}

#[tokio::test]
async fn a_body_that_ends_with_its_connection_is_cut_by_a_reset_below_tls() {
    let place = Place::new();
    let origin = Origin::tcp(|mut stream| async move {
        support::origin::read_request(&mut stream).await;
        // More than is gathered before the response begins.
        let half = "half".repeat(0x1_0000);
        let answer = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n40000\r\n{half}\r\n");
        tokio::io::AsyncWriteExt::write_all(&mut stream, answer.as_bytes()).await.ok();
    });
    let relay = Relay::to(origin.await).client(&place.flags()).start().await;
    let url = place.url(&relay).await;
    let cut = try_curl(&["--cacert", &place.cert(), "--http1.0", &url]).await;
    // 56: receiving failed.
    assert_eq!(cut.status.code(), Some(56), "{cut:?}");
    assert!(cut.err.to_lowercase().contains("reset"), "{cut:?}");
}

#[tokio::test]
async fn a_handshake_that_fails_or_stalls_ends_and_is_counted() {
    let place = Place::new();
    let flags = [&place.flags()[..], &["--header-timeout", "500ms", "--log", "debug"]].concat();
    let relay = Relay::to(Origin::echo().await).client(&flags).start().await;
    let mut plain = relay.raw().await;
    let told = plain.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(told.status, 400, "{}", told.head);
    assert!(told.text().contains("https://"), "{}", told.text());
    assert_eq!(plain.until_closed().await, b"");
    let mut garbage = relay.raw().await;
    garbage.send("\x01 is no handshake").await;
    garbage.until_closed().await;
    let mut silent = relay.raw().await;
    silent.until_closed().await;
    relay.client.counts("relay_connections_refused_total", "reason=\"tls_handshake\"", 3.0).await;
    relay.client.says("the TLS handshake failed").await;
    relay.client.says("--header-timeout").await;
    assert_eq!(place.curl(&relay, &["-d", "others are served"]).await, "others are served");
}

#[tokio::test]
async fn a_new_certificate_is_shown_and_one_that_cannot_be_used_is_not() {
    let place = Place::new();
    let relay = Relay::to(Origin::echo().await).client(&place.flags()).start().await;
    let address = relay.client.address().await;
    let first = place.of.cert.der().clone();
    assert_eq!(shown(address).await, first);

    // A certificate whose key is another's.
    let second = certificate();
    std::fs::write(place.cert(), second.cert.pem()).unwrap();
    relay.client.says("the new certificate can't be used; the old one stays").await;
    assert_eq!(shown(address).await, first);

    std::fs::write(place.key(), second.signing_key.serialize_pem()).unwrap();
    relay.client.says("callers get the new certificate").await;
    assert_eq!(shown(address).await, *second.cert.der());

    let third = certificate();
    std::fs::write(place.cert(), third.cert.pem()).unwrap();
    std::fs::write(place.key(), third.signing_key.serialize_pem()).unwrap();
    let hangup = ["-HUP", &relay.client.id().to_string()];
    assert!(std::process::Command::new("kill").args(hangup).status().unwrap().success());
    eventually_async("it is read again at once", || async { shown(address).await == *third.cert.der() })
        .await;
    assert_eq!(place.curl(&relay, &["-k", "-d", "still there"]).await, "still there");
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_stops_the_start() {
    let place = Place::new();
    let other = Place::new();
    let (cert, key, others) = (place.cert(), place.key(), other.key());
    let text = place.path("text.pem");
    std::fs::write(&text, "no certificate").unwrap();
    let text = text.to_str().unwrap();
    for (flags, parts) in [
        (vec!["--tls-cert", &cert], vec!["--tls-cert", "--tls-key"]),
        (vec!["--tls-key", &key], vec!["--tls-cert", "--tls-key"]),
        (vec!["--tls-cert", "/nowhere", "--tls-key", &key], vec!["/nowhere", "--tls-cert"]),
        (vec!["--tls-cert", &cert, "--tls-key", "/nowhere"], vec!["/nowhere", "--tls-key"]),
        (vec!["--tls-cert", text, "--tls-key", &key], vec![text, "no certificate in PEM"]),
        (vec!["--tls-cert", &cert, "--tls-key", text], vec![text, "no private key in PEM"]),
        (
            vec!["--tls-cert", &cert, "--tls-key", &others],
            vec![&cert, &others, "is not that of the certificate"],
        ),
    ] {
        let args = [&["client", "--upstream", "hello", "--listen", "127.0.0.1:0"], &flags[..]].concat();
        let ended = run(process::relay(&args)).await;
        assert!(!ended.status.success(), "{flags:?}: {ended:?}");
        for part in parts {
            assert!(ended.err.contains(part), "'{part}' in {}", ended.err);
        }
    }
}

/// The certificate that a caller gets.
async fn shown(address: std::net::SocketAddr) -> CertificateDer<'static> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(anybody::Anybody))
        .with_no_client_auth();
    let stream = TcpStream::connect(address).await.unwrap();
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}

struct Place {
    directory: tempfile::TempDir,
    of: CertifiedKey<KeyPair>,
    cert: String,
    key: String,
}

impl Place {
    fn new() -> Place {
        let directory = tempfile::TempDir::new().unwrap();
        let of = certificate();
        let [cert, key] =
            ["cert.pem", "key.pem"].map(|name| directory.path().join(name).to_str().unwrap().to_owned());
        std::fs::write(&cert, of.cert.pem()).unwrap();
        std::fs::write(&key, of.signing_key.serialize_pem()).unwrap();
        Place { directory, of, cert, key }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn cert(&self) -> String {
        self.cert.clone()
    }

    fn key(&self) -> String {
        self.key.clone()
    }

    fn flags(&self) -> [&str; 4] {
        ["--tls-cert", &self.cert, "--tls-key", &self.key]
    }

    async fn url(&self, relay: &Relay) -> String {
        format!("https://localhost:{}/", relay.client.address().await.port())
    }

    async fn curl(&self, relay: &Relay, args: &[&str]) -> String {
        curl(&[&["--cacert", &self.cert(), "-4", &self.url(relay).await], args].concat()).await
    }
}

fn certificate() -> CertifiedKey<KeyPair> {
    rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap()
}

/// A caller that looks at the certificate himself.
mod anybody {
    use tokio_rustls::rustls::{
        DigitallySignedStruct, Error, SignatureScheme,
        client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        crypto::ring,
        pki_types::{CertificateDer, ServerName, UnixTime},
    };

    #[derive(Debug)]
    pub struct Anybody;

    impl ServerCertVerifier for Anybody {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            ring::default_provider().signature_verification_algorithms.supported_schemes()
        }
    }
}
