//! Settings that cannot be used: the process ends, and says in a sentence what was wrong.

use crate::support::{
    process::{Ended, run},
    *,
};

#[tokio::test]
async fn a_wrong_flag_is_named() {
    for (args, parts) in [
        (&["upstream", "--name", "hello"][..], &["--to"][..]),
        (&["client", "--upstream", "hello", "--only", "hello"], &["--upstream", "--only"]),
        (&["client", "--upstream", "a.b"], &["a.b", "--upstream"]),
        (&["client", "--upstream", "hello", "--ttl", "soon"], &["--ttl", "soon"]),
        (&["client", "--upstream", "hello", "--max-body", "much"], &["--max-body", "much"]),
        (&["client", "--upstream", "hello", "--listen", "example.com:80"], &["--listen", "IP:PORT"]),
        (&["client", "--upstream", "hello", "--colour", "blue"], &["--colour"]),
        (
            &["client", "--upstream", "hello", "--trusted-proxy", "everybody"],
            &["--trusted-proxy", "10.0.0.0/8"],
        ),
        (&["upstream", "--name", "hello", "--to", "ftp://x"], &["--to", "http"]),
        (
            &["upstream", "--name", "hello", "--to", "3000", "--max-in-flight", "0"],
            &["--max-in-flight", "at least 1"],
        ),
        (&["broker", "--admin", "everywhere"], &["--admin"]),
        (&["client", "--upstream", "hello", "--ttl", "0s"], &["--ttl", "0s"]),
        (&["upstream", "--name", "hello", "--to", "http://h:99999"], &["--to", "99999", "65535"]),
        (&["broker", "--ack-wait", "0ms"], &["--ack-wait"]),
        (&["brocker"], &["brocker", "broker"]),
    ] {
        let ended = fails(args).await;
        for part in parts {
            assert!(ended.err.contains(part), "'{part}' of {args:?} in {}", ended.err);
        }
        assert_eq!(ended.status.code(), Some(2), "{ended:?}");
    }
}

#[tokio::test]
async fn an_address_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let nats = Nats::start().await;
    let url = nats.url();
    for flag in ["--listen", "--admin"] {
        let mut args = vec!["client", "--server", &url, "--upstream", "hello", flag, &address];
        if flag == "--admin" {
            args.extend(["--listen", "127.0.0.1:0"]);
        }
        let ended = fails(&args).await;
        assert!(ended.err.contains(&format!("cannot listen on {address}")), "{ended:?}");
    }
}

#[tokio::test]
async fn every_mistake_of_a_settings_file_is_named_at_once() {
    let directory = tempfile::TempDir::new().unwrap();
    let file = directory.path().join("relay.toml");
    std::fs::write(
        &file,
        "colour = \"blue\"\n[client]\nttl = \"soon\"\nupstream = \"hello\"\n[waiter]\na = 1\n",
    )
    .unwrap();
    let path = file.to_str().unwrap();
    let ended = fails(&["client", "--config", path]).await;
    for part in [path, "colour", "client.ttl", "waiter"] {
        assert!(ended.err.contains(part), "'{part}' in {}", ended.err);
    }
    std::fs::write(&file, "this is = = no TOML\n").unwrap();
    assert!(fails(&["client", "--config", path]).await.err.contains(path));
    let missing = directory.path().join("missing.toml");
    let ended = fails(&["client", "--config", missing.to_str().unwrap()]).await;
    assert!(ended.err.contains("missing.toml"), "{ended:?}");
}

#[tokio::test]
async fn a_settings_file_and_variables_are_used() {
    let nats = Nats::start().await;
    let origin = Origin::echo().await;
    let directory = tempfile::TempDir::new().unwrap();
    let file = directory.path().join("relay.toml");
    let text = format!(
        "server = \"{}\"\nadmin = \"127.0.0.1:0\"\n[client]\nlisten = \"127.0.0.1:0\"\nmax-body = \"2KiB\"\n",
        nats.url()
    );
    std::fs::write(&file, text).unwrap();
    let mut client = process::relay(&["client", "--config", file.to_str().unwrap()]);
    client.env("RELAY_UPSTREAM", "hello");
    let client = Role::of("client", client).ready().await;
    let mut agent = process::relay(&["upstream", "--admin", "127.0.0.1:0"]);
    agent.envs([("RELAY_NAME", "hello"), ("RELAY_TO", &origin.url()), ("NATS_URL", &nats.url())]);
    let _agent = Role::of("upstream", agent).ready().await;
    assert_eq!(client.post("/", "x").await.status(), 200);
    let refused = client.post("/", vec![b'x'; 2049]).await;
    problem(refused).await.is(413, "body_too_large", "client").names("2048");
}

#[tokio::test]
async fn files_that_cannot_be_read_are_named() {
    let nats = Nats::start().await;
    let url = nats.url();
    for flag in ["--creds", "--nkey", "--tlsca"] {
        let ended =
            fails(&["broker", "--server", &url, flag, "/nowhere/at-all", "--admin", "127.0.0.1:0"]).await;
        assert!(ended.err.contains("/nowhere/at-all"), "{flag}: {ended:?}");
    }
    let ended = fails(&[
        "upstream",
        "--server",
        &url,
        "--name",
        "a",
        "--to",
        "https://localhost:1",
        "--ca",
        "/nowhere",
    ])
    .await;
    assert!(ended.err.contains("/nowhere"), "{ended:?}");
    let ended = fails(&["broker", "--server", "::::"]).await;
    assert!(!ended.err.contains("panicked"), "{ended:?}");
}

#[tokio::test]
async fn files_that_say_nothing_are_named_at_the_start() {
    let directory = tempfile::TempDir::new().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (cert, key) = (file("cert", &pair.cert.pem()), file("key", &pair.signing_key.serialize_pem()));
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let other_key = file("other-key", &other.signing_key.serialize_pem());
    let junk = file("junk", "SUBSECRETSECRET\n");
    let empty = file("empty", "");
    let broken = file("broken", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    for (flags, named) in [
        (&["--nkey", &junk][..], &junk),
        (&["--nkey", &empty], &empty),
        (&["--store-nkey", &junk], &junk),
        (&["--creds", &junk], &junk),
        (&["--nats-ca", &junk], &junk),
        (&["--tlsca", &empty], &empty),
        (&["--nats-ca", &broken], &broken),
        (&["--nats-cert", &junk, "--nats-key", &key], &junk),
        (&["--nats-cert", &cert, "--nats-key", &junk], &junk),
        (&["--tlscert", &cert, "--tlskey", &other_key], &other_key),
    ] {
        let ended = fails(&[&["broker", "--admin", "127.0.0.1:0"], flags].concat()).await;
        assert!(ended.err.contains(named.as_str()) && !ended.err.contains("SECRET"), "{flags:?}: {ended:?}");
    }
}

#[tokio::test]
async fn what_is_probably_not_meant_is_warned_about() {
    let nats = Nats::start().await;
    let directory = tempfile::TempDir::new().unwrap();
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (cert, key) = (directory.path().join("cert"), directory.path().join("key"));
    std::fs::write(&cert, pair.cert.pem()).unwrap();
    std::fs::write(&key, pair.signing_key.serialize_pem()).unwrap();
    let (cert, key) = (cert.to_str().unwrap(), key.to_str().unwrap());
    let variables = [("RELAY_LISTEM", "8000"), ("RELAY_NATS_TLS_CA", "x")];
    let flags = ["--upstream", "hello", "--tlscert", cert, "--tlskey", key];
    let client = Role::spawn(&nats.url(), "client", &flags, &variables);
    client.says("callers are served without TLS").await;
    let warned = client.says("RELAY_LISTEM").await;
    assert!(warned.contains("WARN") && client.lines("RELAY_NATS_TLS_CA").is_empty(), "{}", client.log());
    let flags = ["--upstream", "hello", "--nats-cert", cert, "--nats-key", key];
    let client = Role::spawn(&nats.url(), "client", &flags, &[]);
    client.says("client agent listens").await;
    assert!(client.lines("without TLS").is_empty(), "{}", client.log());
    let mut ps = process::relay(&["ps", "--server", &nats.address().port().to_string()]);
    ps.env("RELAY_LISTEM", "8000");
    let ps = run(ps).await;
    assert!(ps.status.success() && ps.err.contains("RELAY_LISTEM"), "{ps:?}");
}

#[tokio::test]
async fn help_and_version_are_printed() {
    for args in [&["--help"][..], &["client", "--help"], &["upstream", "-h"], &["--version"]] {
        let ended = run(process::relay(args)).await;
        assert!(
            ended.status.success() && !ended.out.is_empty() && ended.err.is_empty(),
            "{args:?}: {ended:?}"
        );
    }
    let help = run(process::relay(&["broker", "--help"])).await.out;
    for part in ["--wait", "[default: 10s]", "RELAY_ACK_WAIT", "--response-wait"] {
        assert!(help.contains(part), "'{part}' in {help}");
    }
}

async fn fails(args: &[&str]) -> Ended {
    let ended = run(process::relay(args)).await;
    assert!(!ended.status.success(), "{args:?}: {ended:?}");
    assert!(!ended.err.is_empty() && !ended.err.contains("panicked"), "{args:?}: {ended:?}");
    ended
}
