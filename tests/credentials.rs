//! Every way to log in to NATS: the upstream agent is told by flags, the client agent by the variables of
//! the `nats` command, and a request crosses. Each server refuses whoever comes without.

mod support;

#[path = "credentials/certificates.rs"]
mod certificates;
#[path = "credentials/jwt.rs"]
mod jwt;

use std::{
    fs,
    path::{Path, PathBuf},
};

use certificates::Authority;
use nkeys::KeyPair;
use support::{configured::Server, process::relay, *};
use tempfile::TempDir;

#[tokio::test]
async fn a_user_and_a_password_let_in() {
    let nats = Nats::with(r#"authorization { user: "me", password: "s3cret" }"#).await;
    let flags = ["--user", "me", "--password", "s3cret"];
    crosses(&nats.url(), &flags, &[("NATS_USER", "me"), ("NATS_PASSWORD", "s3cret")]).await;
    is_refused(&nats.url(), &[]).await;
}

#[tokio::test]
async fn a_token_lets_in() {
    let nats = Nats::with(r#"authorization { token: "s3cret" }"#).await;
    crosses(&nats.url(), &["--token", "s3cret"], &[("NATS_TOKEN", "s3cret")]).await;
    is_refused(&nats.url(), &["--token", "another"]).await;
}

#[tokio::test]
async fn an_nkey_lets_in() {
    let place = Place::new();
    let (key, other) = (KeyPair::new_user(), KeyPair::new_user());
    let nats = Nats::with(&format!("authorization {{ users: [ {{ nkey: {} }} ] }}", key.public_key())).await;
    let seed = place.file("user.nk", &format!("{}\n", key.seed().unwrap()));
    crosses(&nats.url(), &["--nkey", &seed], &[("NATS_NKEY", &seed)]).await;
    let other = place.file("other.nk", &other.seed().unwrap());
    is_refused(&nats.url(), &["--nkey", &other]).await;
}

#[tokio::test]
async fn a_credentials_file_lets_in() {
    let place = Place::new();
    let (account, stranger) = (jwt::Account::new(), jwt::Account::new());
    let nats = Nats::with(&account.server()).await;
    let creds = place.file("user.creds", &account.user());
    crosses(&nats.url(), &["--creds", &creds], &[("NATS_CREDS", &creds)]).await;
    let stranger = place.file("stranger.creds", &stranger.user());
    is_refused(&nats.url(), &["--creds", &stranger]).await;
}

#[tokio::test]
async fn a_context_of_the_nats_command_lets_in() {
    let place = Place::new();
    let nats = Nats::with(r#"authorization { user: "me", password: "s3cret" }"#).await;
    place.context("work", &[("url", &nats.url()), ("user", "me"), ("password", "s3cret")]);
    let origin = Origin::saying("crossed").await;
    let agent =
        place.process(&["upstream", "--context", "work", "--name", "hello", "--to", &origin.url()], &[]);
    let client = place.process(&["client", "--upstream", "hello"], &[("NATS_CONTEXT", "work")]);
    let (client, _agent) = tokio::join!(client.ready(), agent.ready());
    reaches(&client).await;
    // What is set wins over the context.
    let wrong =
        place.process(&["client", "--upstream", "hello", "--password", "x"], &[("NATS_CONTEXT", "work")]);
    wrong.says("authorization violation").await;
}

#[tokio::test]
async fn tls_needs_the_servers_authority_only() {
    let place = Place::new();
    let (authority, stranger) = (Authority::new(), Authority::new());
    let nats = tls_server(&place, &authority, "false").await;
    let url = format!("tls://127.0.0.1:{}", nats.port("nats"));
    let ca = place.file("authority.pem", &authority.pem());
    crosses(&url, &["--tlsca", &ca], &[("NATS_CA", &ca)]).await;
    // The authority alone says that the connection must be TLS.
    crosses(&nats.url(), &["--tlsca", &ca], &[("NATS_CA", &ca)]).await;
    let stranger = place.file("stranger.pem", &stranger.pem());
    let refused = Role::spawn(&url, "upstream", &[AGENT, &["--tlsca", &stranger]].concat(), &[]);
    let warning = refused.says("WARN NATS").await;
    assert!(warning.contains("invalid peer certificate: UnknownIssuer"), "{warning}");
    assert_eq!(refused.page("/readyz").await.0, 503);
    let attempts = || nats.process().lines("TLS handshake error").len();
    eventually("it has tried again and again", || attempts() >= 6).await;
    assert_eq!(refused.lines("WARN NATS").len(), 1, "once is enough: {}", refused.log());
}

#[tokio::test]
async fn a_password_is_not_told_to_a_server_without_tls_when_tls_was_asked_for() {
    let place = Place::new();
    let nats = Nats::with(r#"authorization { user: "me", password: "s3cret" }"#).await;
    let ca = place.file("authority.pem", &Authority::new().pem());
    let login = ["--user", "me", "--password", "s3cret"];
    let spawn =
        |url: &str, flags: &[&str]| Role::spawn(url, "upstream", &[AGENT, &login, flags].concat(), &[]);
    for process in [spawn(&nats.url(), &["--tlsca", &ca]), spawn(&nats.url().replace("nats:", "tls:"), &[])] {
        process.says("WARN NATS").await;
        assert_eq!(process.page("/readyz").await.0, 503);
        assert!(process.lines("connected to NATS").is_empty(), "{}", process.log());
    }
}

#[tokio::test]
async fn mutual_tls_needs_a_certificate_too() {
    let place = Place::new();
    let (authority, stranger) = (Authority::new(), Authority::new());
    let nats = tls_server(&place, &authority, "true").await;
    let url = format!("tls://127.0.0.1:{}", nats.port("nats"));
    let ca = place.file("authority.pem", &authority.pem());
    let (cert, key) = place.pair("client", &authority.client());
    let flags = ["--tlsca", &ca, "--tlscert", &cert, "--tlskey", &key];
    crosses(&url, &flags, &[("NATS_CA", &ca), ("NATS_CERT", &cert), ("NATS_KEY", &key)]).await;

    // The same by a context.
    place.context("tls", &[("url", &url), ("ca", &ca), ("cert", &cert), ("key", &key)]);
    let by_context = place.process(&["client", "--upstream", "hello", "--context", "tls"], &[]).ready().await;
    assert!(by_context.lines("WARN").is_empty());

    let (cert, key) = place.pair("stranger", &stranger.client());
    for flags in [&["--tlsca", &ca][..], &["--tlsca", &ca, "--tlscert", &cert, "--tlskey", &key]] {
        let refused = Role::spawn(&url, "upstream", &[AGENT, flags].concat(), &[]);
        let warning = refused.says("WARN NATS").await;
        assert!(warning.contains("alert") || warning.contains("reset"), "{warning}");
        nats.process().says("TLS handshake error").await;
        assert_eq!(refused.page("/readyz").await.0, 503);
    }
}

#[tokio::test]
async fn nats_over_websocket_works_through_web_ports() {
    let nats = Server::changed("websocket.conf", &[("127.0.0.1:8080", "127.0.0.1:-1")], &[]).await;
    crosses(&format!("ws://127.0.0.1:{}", nats.port("websocket")), &[], &[]).await;
}

#[tokio::test]
async fn nats_over_websocket_and_tls_works_as_the_configuration_says() {
    let place = Place::new();
    let authority = Authority::new();
    let (cert, key) = place.pair("server", &authority.server());
    let tls = format!("tls {{ cert_file: {cert:?}, key_file: {key:?} }}");
    let changes = [("127.0.0.1:8080", "127.0.0.1:-1"), ("no_tls: true", &tls)];
    let nats = Server::changed("websocket.conf", &changes, &[]).await;
    let ca = place.file("authority.pem", &authority.pem());
    let url = format!("wss://127.0.0.1:{}", nats.port("websocket"));
    crosses(&url, &["--tlsca", &ca], &[("NATS_CA", &ca)]).await;
}

#[tokio::test]
async fn a_process_with_a_wrong_password_says_so_and_works_as_soon_as_it_is_right() {
    let place = Place::new();
    place.file("users.conf", r#"authorization { user: "me", password: "old" }"#);
    // The server reads includes from where its configuration is: in a directory beside this one.
    let beside = place.0.path().file_name().unwrap().to_str().unwrap();
    let nats = Nats::with(&format!("include \"../{beside}/users.conf\"")).await;
    let origin = Origin::saying("crossed").await;
    let login = ["--user", "me", "--password", "new"];
    let (url, to) = (nats.url(), origin.url());
    let spawn = |role, flags: &[&str]| Role::spawn(&url, role, &[flags, &login].concat(), &[]);
    let client = spawn("client", &["--upstream", "hello"]);
    let agent = spawn("upstream", &["--name", "hello", "--to", &to]);
    let broker = spawn("broker", &[]);
    for process in [&client, &agent, &broker] {
        process.says("WARN NATS refuses the credentials").await;
        let (status, text) = process.page("/readyz").await;
        assert_eq!((status, text.as_str()), (503, "not ready: not yet connected to NATS\n"));
        assert_eq!(process.page("/healthz").await.0, 200, "it is alive, restarting it would not help");
        assert!(!process.log().contains("\"new\""), "the password is not in the log");
    }
    let answer = within(std::time::Duration::from_secs(10), "an answer at once", client.get("/")).await;
    problem(answer).await.is(503, "nats_unreachable", "client");

    place.file("users.conf", r#"authorization { user: "me", password: "new" }"#);
    let _nats = nats.restart().await;
    let (client, _agent, _broker) = tokio::join!(client.ready(), agent.ready(), broker.ready());
    reaches(&client).await;
}

#[tokio::test]
async fn a_file_that_cannot_be_read_ends_the_process_with_its_name() {
    let place = Place::new();
    let not_there = place.path("not-there");
    let not_there = not_there.to_str().unwrap();
    for flags in [
        &["--creds", not_there][..],
        &["--nkey", not_there],
        &["--tlsca", not_there],
        &["--tlscert", not_there, "--tlskey", not_there],
    ] {
        let ended = process::run(relay(&[&["broker", "--admin", "off"], flags].concat())).await;
        assert!(!ended.status.success());
        assert!(ended.err.contains(not_there), "{flags:?}: {}", ended.err);
    }
    let ended = process::run(relay(&["broker", "--admin", "off", "--context", "nobody"])).await;
    assert!(!ended.status.success());
    assert!(ended.err.contains("context 'nobody'"), "{}", ended.err);
}

/// A request crosses between an agent that is told by `flags` and a client agent that is told by `variables`.
async fn crosses(url: &str, flags: &[&str], variables: &[(&str, &str)]) {
    let origin = Origin::saying("crossed").await;
    let to = origin.url();
    let agent = Role::spawn(url, "upstream", &[&["--name", "hello", "--to", &to], flags].concat(), &[]);
    let client = Role::spawn(url, "client", &["--upstream", "hello"], variables);
    let (client, agent) = tokio::join!(client.ready(), agent.ready());
    reaches(&client).await;
    for process in [&client, &agent] {
        assert!(process.lines("WARN").is_empty(), "{}", process.log());
    }
}

/// The agent may have only just joined its queue group; without a broker nobody waits for that.
async fn reaches(client: &Role) {
    eventually_async("a request crosses", || async {
        let answer = client.get("/").await;
        answer.status() == 200 && answer.text().await.is_ok_and(|text| text == "crossed")
    })
    .await;
}

/// The server does not let in whoever comes with `flags`.
async fn is_refused(url: &str, flags: &[&str]) {
    let refused = Role::spawn(url, "upstream", &[AGENT, flags].concat(), &[]);
    refused.says("authorization violation").await;
    assert_eq!(refused.page("/readyz").await.0, 503);
    assert!(refused.is_running());
}

/// nats/tls.conf with a certificate of `authority`.
async fn tls_server(place: &Place, authority: &Authority, verify: &str) -> Server {
    let (cert, key) = place.pair("server", &authority.server());
    let ca = place.file("clients.pem", &authority.pem());
    let variables = [
        ("RELAY_NATS_TLS_CERT", cert.as_str()),
        ("RELAY_NATS_TLS_KEY", &key),
        ("RELAY_NATS_TLS_CA", &ca),
        ("RELAY_NATS_TLS_VERIFY", verify),
    ];
    Server::of("tls.conf", &variables).await
}

const AGENT: &[&str] = &["--name", "hello", "--to", "http://127.0.0.1:9"];

/// A directory for keys and certificates, and for contexts of the `nats` command.
struct Place(TempDir);

impl Place {
    fn new() -> Place {
        Place(TempDir::new().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file; returns its path.
    fn file(&self, name: &str, text: &str) -> String {
        write(&self.path(name), text)
    }

    /// Writes a certificate and its key; returns their paths.
    fn pair(&self, name: &str, (cert, key): &(String, String)) -> (String, String) {
        (self.file(&format!("{name}.pem"), cert), self.file(&format!("{name}.key"), key))
    }

    fn context(&self, name: &str, fields: &[(&str, &str)]) {
        let fields: serde_json::Map<_, _> =
            fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
        write(
            &self.path("nats/context").join(format!("{name}.json")),
            &serde_json::Value::from(fields).to_string(),
        );
    }

    /// A process that finds its contexts here and is told nothing else about NATS.
    fn process(&self, args: &[&str], variables: &[(&str, &str)]) -> Role {
        let mut command = relay(args);
        command.args(["--admin", "127.0.0.1:0"]).env("XDG_CONFIG_HOME", self.0.path());
        if args[0] == "client" {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        Role::of(args[0], {
            command.envs(variables.iter().copied());
            command
        })
    }
}

fn write(path: &Path, text: &str) -> String {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    path.to_str().unwrap().to_owned()
}
