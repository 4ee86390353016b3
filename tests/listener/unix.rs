//! UNIX sockets.

use std::{
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::{Path, PathBuf},
};

use crate::{
    curl::curl,
    support::{
        process::{self, run},
        *,
    },
};

#[tokio::test]
async fn requests_come_in_at_a_unix_socket_and_their_caller_is_unknown() {
    let place = Place::new();
    let relay = Relay::to(Origin::echo().await).client(&["--listen", &place.flag()]).start().await;
    assert_eq!(ask(&place.path(), &["-d", "data"]).await, "data");
    let seen = relay.origin.only();
    assert_eq!(seen.value("forwarded"), "for=unknown;proto=http;host=localhost");
    assert_eq!(seen.value("x-forwarded-for"), "unknown");
    relay.client.says("peer=unknown").await;
    let mode = std::fs::metadata(place.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
}

#[tokio::test]
async fn a_proxy_at_the_unix_socket_is_believed_when_it_is_said_to_be_trusted() {
    let place = Place::new();
    let flags = ["--listen", &place.flag(), "--trusted-proxy", "unix", "--listen-mode", "0600"];
    let relay = Relay::to(Origin::echo().await).client(&flags).start().await;
    ask(&place.path(), &["-H", "X-Forwarded-For: 203.0.113.9"]).await;
    assert_eq!(relay.origin.only().value("x-forwarded-for"), "203.0.113.9, unknown");
    let mode = std::fs::metadata(place.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn the_socket_of_a_process_that_is_gone_is_replaced_and_ones_own_is_removed() {
    let place = Place::new();
    let nats = Nats::start().await;
    let flag = place.flag();
    let flags = ["--upstream", "hello", "--listen", &flag];
    let first = nats.client(&flags).await;
    first.kill9();
    assert!(std::fs::symlink_metadata(place.path()).unwrap().file_type().is_socket(), "it is left behind");
    let second = nats.client(&flags).await;
    second.term();
    second.ended().await;
    assert!(!place.path().exists());
}

#[tokio::test]
async fn a_socket_on_which_somebody_listens_is_left_alone() {
    let place = Place::new();
    let relay = Relay::to(Origin::echo().await).client(&["--listen", &place.flag()]).start().await;
    let url = relay.nats.url();
    let args = ["client", "--server", &url, "--upstream", "hello", "--listen", &place.flag()];
    let ended = run(process::relay(&args)).await;
    assert!(!ended.status.success(), "{ended:?}");
    assert!(ended.err.contains("another process listens there"), "{ended:?}");
    assert!(ended.err.contains(place.path().to_str().unwrap()), "{ended:?}");
    assert_eq!(ask(&place.path(), &["-d", "still there"]).await, "still there");
}

#[tokio::test]
async fn a_file_that_is_no_socket_is_left_alone() {
    let place = Place::new();
    std::fs::write(place.path(), "precious").unwrap();
    let args = ["client", "--upstream", "hello", "--listen", &place.flag()];
    let ended = run(process::relay(&args)).await;
    assert!(!ended.status.success() && ended.err.contains("no socket"), "{ended:?}");
    assert_eq!(std::fs::read_to_string(place.path()).unwrap(), "precious");
}

#[tokio::test]
async fn everything_in_one_process_can_listen_at_a_unix_socket() {
    let place = Place::new();
    let nats = Nats::start().await;
    let up = process::relay(&["up", "--server", &nats.url(), "--listen", &place.flag()]);
    let up = Process::spawn("relay up", up);
    up.says(&format!("--unix-socket {}", place.path().display())).await;
    assert!(ask(&place.path(), &[]).await.contains("Hello from the demo origin"));
    up.term();
    up.ended().await;
    assert!(!place.path().exists());
}

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Place {
        Place(tempfile::TempDir::new().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("relay.sock")
    }

    fn flag(&self) -> String {
        format!("unix:{}", self.path().display())
    }
}

async fn ask(socket: &Path, args: &[&str]) -> String {
    let socket = socket.to_str().unwrap();
    curl(&[&["--unix-socket", socket, "http://localhost/"], args].concat()).await
}
