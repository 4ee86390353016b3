//! Real programs as callers.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use super::stage::*;
use crate::support::{process, *};

#[tokio::test]
async fn nc_and_socat_are_answered() {
    let origin = Origin::echo().await;
    let stage = Stage::start(&echo(&origin)).await;
    let address = stage.address().await;
    let port = address.port().to_string();
    for mut command in [
        // -N: half-close at the end of the input.
        with_args("nc", &["-N", "127.0.0.1", &port]),
        with_args("socat", &["-t", "30", "-", &format!("TCP:{address}")]),
    ] {
        let shown = format!("{command:?}");
        let said = tokio::task::spawn_blocking(move || {
            let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect(&shown);
            let lines = "{\"request\":\"echo\",\"id\":1,\"data\":[1]}\nbad\n";
            child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
            String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
        });
        let said = said.await.unwrap();
        assert_eq!(said.lines().count(), 3, "{said}");
        assert!(said.contains("\"status\": \"ok\"") && said.contains("bad_line"), "{said}");
    }
}

#[tokio::test]
async fn python_pipelines_a_thousand_requests_over_tcp_and_unix() {
    let origin = Origin::echo().await;
    let directory = tempfile::TempDir::new().unwrap();
    let path = directory.path().join("relay.sock");
    let path = path.to_str().unwrap();
    let stage = Stage::with(&echo(&origin), &["--unix", path, "--tcp", "127.0.0.1:0"]).await;
    let tcp = stage.socket.lines("socket listens");
    let port = tcp[0].rsplit(':').next().unwrap().trim().to_owned();
    for place in [port.as_str(), path] {
        let mut command = Command::new("python3");
        command.args(["-B", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/socket/caller.py"), place, "1000"]);
        let ended = process::run(command).await;
        assert!(ended.status.success(), "{}{}", ended.out, ended.err);
    }
    assert_eq!(origin.hits(), 2000);
}

fn with_args(program: &str, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args);
    command
}
