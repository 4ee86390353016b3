//! UNIX sockets.

use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};

use tokio::net::UnixStream;

use super::stage::*;
use crate::support::{process, *};

#[tokio::test]
async fn a_unix_socket_has_its_mode_and_owner_and_is_removed_at_the_end() {
    let origin = Origin::echo().await;
    let directory = tempfile::TempDir::new().unwrap();
    let path = directory.path().join("relay.sock");
    let flag = path.to_str().unwrap();
    let own = std::fs::metadata(directory.path()).unwrap();
    let owner = format!("{}:{}", own.uid(), own.gid());
    let flags = ["--unix", flag, "--unix-mode", "0600", "--unix-owner", &owner];
    let stage = Stage::with(&echo(&origin), &flags).await;
    let made = std::fs::symlink_metadata(&path).unwrap();
    assert_eq!((made.permissions().mode() & 0o777, made.uid(), made.gid()), (0o600, own.uid(), own.gid()));
    Caller::of(UnixStream::connect(&path).await.unwrap()).works().await;
    stage.socket.says("peer=unknown").await;
    // What a process that was killed left behind is replaced.
    stage.socket.kill9();
    assert!(std::fs::symlink_metadata(&path).unwrap().file_type().is_socket(), "it is left behind");
    let stage = Stage::with(&echo(&origin), &flags).await;
    Caller::of(UnixStream::connect(&path).await.unwrap()).works().await;
    // One that is in use is not.
    let file = stage.path("requests.toml");
    let line = ["socket", "--requests", file.to_str().unwrap(), "--unix", flag];
    let ended = process::run(process::relay(&line)).await;
    assert!(!ended.status.success() && ended.err.contains("another process listens there"), "{ended:?}");
    Caller::of(UnixStream::connect(&path).await.unwrap()).works().await;
    stage.socket.term();
    stage.socket.ended().await;
    assert!(!path.exists());
}

#[tokio::test]
async fn an_owner_that_does_not_exist_stops_the_start() {
    let directory = tempfile::TempDir::new().unwrap();
    let (requests, path) = (directory.path().join("requests.toml"), directory.path().join("relay.sock"));
    std::fs::write(&requests, request("a", "http://127.0.0.1:1/", "")).unwrap();
    let flags = ["socket", "--requests", requests.to_str().unwrap(), "--unix", path.to_str().unwrap()];
    let ended =
        process::run(process::relay(&[&flags[..], &["--unix-owner", "nobody-of-that-name"]].concat())).await;
    assert!(
        !ended.status.success() && ended.err.contains("there is no user 'nobody-of-that-name'"),
        "{ended:?}"
    );
}
