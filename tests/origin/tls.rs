//! TLS to origins: which HTTP is chosen, who is believed, who is let in. And UNIX sockets, which need none.

use std::{path::PathBuf, sync::Arc};

use bytes::Bytes;
use http::Version;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedKey, DnType, IsCa, Issuer, KeyPair, date_time_ymd,
};
use relay::{origin::Call, wire::Code};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig,
        crypto::{self, ring::sign::any_supported_type},
        pki_types::{CertificateDer, PrivateKeyDer},
        server::WebPkiClientVerifier,
        sign,
    },
};

use super::{calls::*, http2};
use crate::support::Origin;

#[tokio::test]
async fn an_https_origin_that_chooses_http2_gets_it() {
    let place = Place::new("localhost");
    let server = place.server(&["h2", "http/1.1"], None).await;
    let origin = origin(&https(&server, "localhost"), &["--ca", &place.file("cert.pem")]);
    for _ in 0..3 {
        let answer = timely(origin.call(post("/", "secret"), None)).await.unwrap();
        assert_eq!(answer.version, Version::HTTP_2);
        ends_with(answer, "https://test/ secret").await;
    }
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_target_that_http2_does_not_have_goes_by_http1_where_that_is_spoken_too() {
    let place = Place::new("localhost");
    let server = place.server(&["h2", "http/1.1"], None).await;
    let origin = origin(&https(&server, "localhost"), &["--ca", &place.file("cert.pem")]);
    for (target, version) in
        [(&b"/{}"[..], Version::HTTP_2), (b"/<>", Version::HTTP_11), (b"/\xE4", Version::HTTP_11)]
    {
        let call = Call { url: Bytes::from_static(target).into(), ..get("/") };
        assert_eq!(timely(origin.call(call, None)).await.unwrap().version, version);
    }
}

#[tokio::test]
async fn an_https_origin_may_be_held_to_http1_and_may_ask_for_it() {
    let place = Place::new("localhost");
    let server = place.server(&["h2", "http/1.1"], None).await;
    let url = https(&server, "localhost");
    let flags = ["--ca", &place.file("cert.pem"), "--origin-http", "1.1"];
    let answer = timely(origin(&url, &flags).call(post("/", "secret"), None)).await.unwrap();
    assert_eq!(answer.version, Version::HTTP_11);
    ends_with(answer, "one").await;
    let egress = egress(&[&flags[..], &["--allow", &url, "--allow-network", "127.0.0.0/8,::1"]].concat());
    let answer = timely(egress.call(get(&format!("{url}/")), None, None)).await.unwrap();
    assert_eq!(answer.version, Version::HTTP_11);

    let origin = origin(&url, &flags[..2]);
    for (path, version) in [("/", Version::HTTP_2), ("/by-http1", Version::HTTP_11), ("/", Version::HTTP_2)] {
        let answer = timely(origin.call(post(path, "secret"), None)).await.unwrap();
        assert_eq!(answer.version, version, "{path}");
    }
    // What was sent in part can't be sent again.
    let (feed, mut call) = feed();
    call.url = "/by-http1".into();
    feed.data("some");
    let fault = timely(origin.call(call, None)).await.err().unwrap();
    assert!(fault.code == Code::OriginBroken && fault.detail.contains("--origin-http 1.1"), "{fault}");
}

#[tokio::test]
async fn an_https_origin_that_chooses_http1_gets_it() {
    let place = Place::new("localhost");
    for chosen in [&["http/1.1"][..], &[]] {
        let server = place.server(chosen, None).await;
        let origin = origin(&https(&server, "localhost"), &["--ca", &place.file("cert.pem")]);
        for _ in 0..3 {
            let answer = timely(origin.call(get("/"), None)).await.unwrap();
            assert_eq!(answer.version, Version::HTTP_11);
            ends_with(answer, "one").await;
        }
        assert_eq!(server.connections(), 1, "a connection that was made to choose is used and kept");
    }
}

#[tokio::test]
async fn an_outside_host_is_told_its_own_name_over_the_http_that_it_chooses() {
    let place = Place::new("localhost");
    for (chosen, version) in [(&["h2", "http/1.1"][..], Version::HTTP_2), (&["http/1.1"], Version::HTTP_11)] {
        let server = place.server(chosen, None).await;
        let url = https(&server, "localhost");
        let flags = ["--allow", &url, "--allow-network", "127.0.0.0/8,::1", "--ca", &place.file("cert.pem")];
        let egress = egress(&flags);
        for _ in 0..3 {
            let answer =
                timely(egress.call(post(&format!("{url}/x?y"), "secret"), None, None)).await.unwrap();
            assert_eq!(answer.version, version);
            let said =
                if version == Version::HTTP_2 { format!("{url}/x?y secret") } else { "one".to_owned() };
            ends_with(answer, &said).await;
        }
        assert_eq!(server.connections(), 1);
    }
}

#[tokio::test]
async fn a_call_that_is_to_switch_protocols_is_made_over_http1() {
    let place = Place::new("localhost");
    let server = place.server(&["h2", "http/1.1"], None).await;
    let origin = origin(&https(&server, "localhost"), &["--ca", &place.file("cert.pem")]);
    let mut call = get("/");
    call.upgrade = Some("websocket".parse().unwrap());
    assert_eq!(timely(origin.call(call, None)).await.unwrap().version, Version::HTTP_11);
    assert_eq!(timely(origin.call(get("/"), None)).await.unwrap().version, Version::HTTP_2);
}

#[tokio::test]
async fn an_origin_that_asks_for_a_certificate_gets_it() {
    let (place, agent) = (Place::new("localhost"), Place::new("agent"));
    let server = place.server(&["h2"], Some(&agent)).await;
    let (to, ca) = (https(&server, "localhost"), place.file("cert.pem"));
    let flags = ["--ca", &ca, "--cert", &agent.file("cert.pem"), "--key", &agent.file("key.pem")];
    let known = origin(&to, &flags);
    ends_with(timely(known.call(post("/", "x"), None)).await.unwrap(), "https://test/ x").await;
    let unknown = origin(&to, &["--ca", &ca]);
    assert!(timely(unknown.call(get("/"), None)).await.is_err(), "nobody is let in without one");
}

#[tokio::test]
async fn an_origin_that_asks_for_a_certificate_in_vain_has_refused_tls() {
    let (place, agent, other) = (Place::new("localhost"), Place::new("agent"), Place::new("other"));
    let ca = place.file("cert.pem");
    let (cert, key) = (other.file("cert.pem"), other.file("key.pem"));
    let server = place.server(&["http/1.1"], Some(&agent)).await;
    let to = https(&server, "localhost");
    for (flags, why) in [
        (&["--ca", &ca][..], "asks for a client certificate"),
        (&["--ca", &ca, "--cert", &cert, "--key", &key], "does not accept the client certificate"),
    ] {
        let fault = timely(origin(&to, flags).call(post("/", "x"), None)).await.err().unwrap();
        assert_eq!((fault.code, fault.maybe_seen), (Code::OriginTls, false), "{fault}");
        assert!(fault.detail.contains(why), "{fault}");
    }
}

#[tokio::test]
async fn an_origin_without_tls_is_said_to_have_none() {
    let server = Origin::tcp(|mut stream| async move {
        assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    })
    .await;
    let called = origin(&https(&server, "localhost"), &[]);
    let fault = timely(called.call(get("/"), None)).await.err().unwrap();
    assert_eq!((fault.code, fault.maybe_seen), (Code::OriginTls, false));
    assert!(fault.detail.contains("does not speak TLS") && fault.detail.contains("http://"), "{fault}");
}

#[tokio::test]
async fn an_origin_can_be_asked_for_by_another_name() {
    let place = Place::new("inside.example");
    let server = place.server(&["h2"], None).await;
    let (to, ca) = (https(&server, "127.0.0.1"), place.file("cert.pem"));
    let named = origin(&to, &["--ca", &ca, "--sni", "inside.example"]);
    ends_with(timely(named.call(post("/", "x"), None)).await.unwrap(), "https://test/ x").await;
    for flags in [&["--ca", &ca][..], &["--ca", &ca, "--sni", "other.example"]] {
        let fault = timely(origin(&to, flags).call(get("/"), None)).await.err().unwrap();
        assert_eq!((fault.code, fault.maybe_seen), (Code::OriginTls, false));
    }
}

#[tokio::test]
async fn a_certificate_in_the_file_of_authorities_is_accepted_from_the_server_itself() {
    let authority = Place::of("authority.example", |params| params.is_ca = unlimited());
    let issued = issued_by(&authority);
    for place in [Place::of("localhost", |params| params.is_ca = unlimited()), issued] {
        let server = place.server(&["h2"], None).await;
        let to = https(&server, "localhost");
        let flags = ["--ca", &place.file("cert.pem")];
        ends_with(timely(origin(&to, &flags).call(post("/", "x"), None)).await.unwrap(), "https://test/ x")
            .await;
        let outside = [&flags[..], &["--allow", &to, "--allow-network", "127.0.0.0/8,::1"]].concat();
        let egress = egress(&outside);
        timely(egress.call(get(&format!("{to}/")), None, None)).await.unwrap();
    }
}

#[tokio::test]
async fn a_certificate_in_the_file_of_authorities_must_have_the_name_and_be_valid_and_the_same() {
    let other = Place::of("localhost", |params| params.is_ca = unlimited());
    let named = Place::of("other.example", |params| params.is_ca = unlimited());
    let mut cases = vec![("not valid for name", named.file("cert.pem"), &named)];
    let late = Place::of("localhost", |params| {
        (params.is_ca, params.not_after) = (unlimited(), date_time_ymd(2001, 1, 1));
    });
    cases.push(("expired", late.file("cert.pem"), &late));
    let early = Place::of("localhost", |params| {
        (params.is_ca, params.not_before) = (unlimited(), date_time_ymd(2999, 1, 1));
    });
    cases.push(("not valid yet", early.file("cert.pem"), &early));
    let same = Place::of("localhost", |params| params.is_ca = unlimited());
    cases.push(("CaUsedAsEndEntity", other.file("cert.pem"), &same));
    let issued = issued_by(&Place::of("authority.example", |params| params.is_ca = unlimited()));
    cases.push(("UnknownIssuer", other.file("cert.pem"), &issued));
    for (why, file, shown) in cases {
        let server = shown.server(&["h2"], None).await;
        let called = origin(&https(&server, "localhost"), &["--ca", &file]);
        let fault = timely(called.call(get("/"), None)).await.err().unwrap();
        assert_eq!((fault.code, fault.maybe_seen), (Code::OriginTls, false), "{why}");
        assert!(fault.detail.contains(why), "{why}: {fault}");
    }
}

#[tokio::test]
async fn a_certificate_in_the_file_of_authorities_is_accepted_only_from_the_owner_of_its_key() {
    let listed = Place::of("localhost", |params| params.is_ca = unlimited());
    let file = listed.file("cert.pem");
    let mut thief = Place::new("localhost");
    thief.certificate.cert = listed.certificate.cert;
    let server = thief.server(&["h2"], None).await;
    let called = origin(&https(&server, "localhost"), &["--ca", &file]);
    let fault = timely(called.call(get("/"), None)).await.err().unwrap();
    assert!(fault.code == Code::OriginTls && fault.detail.contains("BadSignature"), "{fault}");
}

#[tokio::test]
async fn an_insecure_origin_is_believed_whatever_it_shows() {
    let place = Place::new("somebody.example");
    let server = place.server(&["h2"], None).await;
    let to = https(&server, "127.0.0.1");
    let believing = origin(&to, &["--insecure"]);
    ends_with(timely(believing.call(post("/", "x"), None)).await.unwrap(), "https://test/ x").await;
    let fault = timely(origin(&to, &["--insecure", "off"]).call(get("/"), None)).await.err().unwrap();
    assert_eq!(fault.code, Code::OriginTls);
}

#[tokio::test]
async fn an_origin_on_a_unix_socket_is_called_by_its_path() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("app.sock");
    let to = format!("unix:{}", path.display());
    let nobody = timely(origin(&to, &[]).call(get("/"), None)).await.err().unwrap();
    assert_eq!((nobody.code, nobody.maybe_seen), (Code::OriginUnreachable, false));
    assert!(nobody.detail.contains("app.sock"), "{nobody}");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 4096];
            while let Ok(length @ 1..) = stream.read(&mut request).await {
                let host = String::from_utf8_lossy(&request[..length]).to_lowercase();
                let host = host.lines().find_map(|line| line.strip_prefix("host: ")).unwrap().to_owned();
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{host}", host.len());
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        }
    });
    for (flags, host) in [(&[][..], "test"), (&["--host-header", "rewrite"], "localhost")] {
        let origin = origin(&to, flags);
        for _ in 0..2 {
            ends_with(timely(origin.call(get("/"), None)).await.unwrap(), host).await;
        }
    }
}

#[test]
fn settings_of_tls_are_refused_for_an_origin_without_it() {
    let place = Place::new("localhost");
    let (cert, key) = (place.file("cert.pem"), place.file("key.pem"));
    for flags in [&["--sni", "x"][..], &["--insecure"], &["--cert", &cert, "--key", &key]] {
        let line = [&["relay", "upstream", "--name", "hello", "--to", "http://127.0.0.1:1"], flags].concat();
        let Ok(relay::config::Command::Upstream(settings)) = relay::config::from_flags(&line) else {
            panic!("{line:?}")
        };
        let error = relay::origin::Origin::new(&settings.member.origin).err().expect("a mistake");
        assert!(error.to_string().contains(flags[0]), "{error}");
    }
}

fn unlimited() -> IsCa {
    IsCa::Ca(BasicConstraints::Unconstrained)
}

/// A place called `localhost`, with a certificate of `authority`.
fn issued_by(authority: &Place) -> Place {
    let mut params = CertificateParams::new(vec!["authority.example".to_owned()]).unwrap();
    params.is_ca = unlimited();
    params.distinguished_name.push(DnType::CommonName, "an authority");
    let issuer = Issuer::new(params, &authority.certificate.signing_key);
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, "a server");
    let signing_key = KeyPair::generate().unwrap();
    Place::keeping(CertifiedKey { cert: params.signed_by(&signing_key, &issuer).unwrap(), signing_key })
}

/// A directory with a certificate and its key.
struct Place {
    directory: TempDir,
    certificate: CertifiedKey<KeyPair>,
}

impl Place {
    fn new(host: &str) -> Place {
        Place::of(host, |_| ())
    }

    /// One whose certificate is self-signed and has what `change` gives it.
    fn of(host: &str, change: impl FnOnce(&mut CertificateParams)) -> Place {
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        change(&mut params);
        let signing_key = KeyPair::generate().unwrap();
        Place::keeping(CertifiedKey { cert: params.self_signed(&signing_key).unwrap(), signing_key })
    }

    fn keeping(certificate: CertifiedKey<KeyPair>) -> Place {
        let directory = TempDir::new().unwrap();
        std::fs::write(directory.path().join("cert.pem"), certificate.cert.pem()).unwrap();
        std::fs::write(directory.path().join("key.pem"), certificate.signing_key.serialize_pem()).unwrap();
        Place { directory, certificate }
    }

    fn file(&self, name: &str) -> String {
        let path: PathBuf = self.directory.path().join(name);
        path.to_str().unwrap().to_owned()
    }

    fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.certificate.cert.der().clone()]
    }

    /// A server with this certificate that chooses by `protocols` and, if so, lets in `known` alone. Over
    /// HTTP/2 it answers with the URL and the body, over HTTP/1 with `one`.
    async fn server(&self, protocols: &[&str], known: Option<&Place>) -> Origin {
        let provider = Arc::new(crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = match known {
            None => builder.with_no_client_auth(),
            Some(known) => {
                let mut roots = RootCertStore::empty();
                roots.add(known.certificate.cert.der().clone()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let key = PrivateKeyDer::try_from(self.certificate.signing_key.serialize_der()).unwrap();
        // The key need not be the certificate's.
        let shown = sign::CertifiedKey::new(self.chain(), any_supported_type(&key).unwrap());
        let mut config = builder.with_cert_resolver(Arc::new(sign::SingleCertAndKey::from(shown)));
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let (told, _) = tokio::sync::mpsc::unbounded_channel();
        Origin::tcp(move |stream| {
            let (acceptor, told) = (acceptor.clone(), told.clone());
            async move {
                // Who does not believe us, or is not known, ends here.
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                    let handler = |mut exchange: http2::Exchange| async move {
                        if exchange.request.uri().path() == "/by-http1" {
                            exchange.body.data().await;
                            return exchange.respond.refuse(h2::Reason::HTTP_1_1_REQUIRED);
                        }
                        let (body, _) = http2::read(&mut exchange.body).await;
                        exchange.respond.answer(200, format!("{} {body}", exchange.request.uri())).await;
                    };
                    return http2::serve(stream, h2::server::Builder::new(), Arc::new(handler), told).await;
                }
                let mut request = vec![0; 4096];
                while let Ok(1..) = stream.read(&mut request).await {
                    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none").await.ok();
                }
            }
        })
        .await
    }
}

fn https(server: &Origin, host: &str) -> String {
    format!("https://{host}:{}", server.address().port())
}
