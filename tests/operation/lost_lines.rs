//! A log that can't be written costs lines, never a request, and never the end of a process.

use std::{
    fs::File,
    io::{PipeReader, pipe},
    net::SocketAddr,
    process::{ExitStatus, Stdio},
};

use crate::support::{process::relay, *};

#[tokio::test]
async fn a_role_whose_log_has_no_reader_any_more_works_counts_the_lines_and_stops_in_order() {
    every_role_works_with(|| pipe().unwrap().1.into()).await;
}

#[tokio::test]
async fn a_role_whose_log_is_on_a_full_disk_works_counts_the_lines_and_stops_in_order() {
    every_role_works_with(|| File::options().write(true).open("/dev/full").unwrap().into()).await;
}

#[tokio::test]
async fn a_client_agent_whose_log_is_not_read_answers_and_stops_in_order() {
    let nats = Nats::start().await;
    let origin = Origin::echo().await;
    let _agent = nats.upstream("hello", &origin.url(), &[]).await;
    let (unread, log) = pipe().unwrap();
    let flags = ["--upstream", "hello", "--log", "trace"];
    let client = Deaf::start(&nats, "client", &flags, log.into()).await;
    while client.lost().await == 0.0 {
        assert_eq!(client.status().await, 200);
    }
    client.works().await;
    assert_eq!(client.stopped().await.code(), Some(0));
    drop(unread);
}

#[tokio::test]
async fn a_log_that_is_read_again_says_how_many_lines_it_lacks() {
    let nats = Nats::start().await;
    let origin = Origin::echo().await;
    let _agent = nats.upstream("hello", &origin.url(), &[]).await;
    let (late, log) = pipe().unwrap();
    let flags = ["--upstream", "hello", "--log", "trace"];
    let client = Deaf::start(&nats, "client", &flags, log.into()).await;
    while client.lost().await == 0.0 {
        assert_eq!(client.status().await, 200);
    }
    let read = tokio::task::spawn_blocking(|| is_told(late));
    assert!(within(WITHIN, "the log says it", read).await.unwrap());
    client.works().await;
}

#[tokio::test]
async fn relay_up_goes_on_when_what_it_says_has_no_reader() {
    let nats = Nats::start().await;
    let port = origin::unused_port();
    let listen = format!("127.0.0.1:{port}");
    let command = relay(&["up", "--listen", &listen, "--server", &nats.url()]);
    let (out, err) = (pipe().unwrap().1.into(), pipe().unwrap().1.into());
    let up = Process::spawn_saying_to("relay up", command, out, err);
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    answers(&up, address, "/").await;
    for _ in 0..3 {
        assert_eq!(Raw::get(address, "/").await.unwrap().status, 200);
    }
    up.interrupt();
    assert_eq!(up.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_process_that_cannot_start_says_so_by_its_exit_code_when_it_cannot_say_it() {
    let (unread, log) = pipe().unwrap();
    for log in [pipe().unwrap().1, log] {
        let command =
            relay(&["client", "--upstream", "hello", "--listen", "127.0.0.1:0", "--creds", "/none"]);
        let client = Process::spawn_saying_to("relay client", command, Stdio::null(), log.into());
        assert_eq!(client.ended().await.code(), Some(1));
    }
    drop(unread);
}

async fn every_role_works_with(log: impl Fn() -> Stdio) {
    let nats = Nats::start().await;
    let origin = Origin::echo().await;
    let requests = nats.directory().join("requests.toml");
    std::fs::write(&requests, "[request.hello]\nurl = \"http://127.0.0.1:1/\"\n").unwrap();
    let socket = ["--requests", requests.to_str().unwrap(), "--tcp", "127.0.0.1:0"];
    let upstream = ["--name", "hello", "--to", &origin.url()];
    let upstream = Deaf::start(&nats, "upstream", &upstream, log()).await;
    let broker = Deaf::start(&nats, "broker", &[], log()).await;
    let socket = Deaf::start(&nats, "socket", &socket, log()).await;
    let client = Deaf::start(&nats, "client", &["--upstream", "hello"], log()).await;
    let before = client.lost().await;
    for _ in 0..3 {
        assert_eq!(client.status().await, 200);
    }
    // One for each request in the access log, on its way to the descriptor.
    eventually_async("the lines are counted", || async { client.lost().await >= before + 3.0 }).await;
    for role in [client, upstream, broker, socket] {
        assert!(role.lost().await > 0.0);
        role.works().await;
        assert_eq!(role.stopped().await.code(), Some(0));
    }
}

/// Whether the log says at last that lines were lost.
fn is_told(log: PipeReader) -> bool {
    use std::io::{BufRead, BufReader};
    BufReader::new(log).lines().map_while(Result::ok).any(|line| line.contains("log lines were lost"))
}

/// Waits until something answers at an address.
async fn answers(process: &Process, address: SocketAddr, path: &str) {
    eventually_async("it answers", || async {
        assert!(process.is_running(), "it has ended");
        Raw::get(address, path).await.is_ok_and(|answer| answer.status == 200)
    })
    .await;
}

/// A process whose messages reach no other.
struct Deaf {
    process: Process,
    admin: SocketAddr,
    listen: SocketAddr,
}

impl Deaf {
    async fn start(nats: &Nats, role: &str, flags: &[&str], log: Stdio) -> Deaf {
        let [admin, listen] = [(); 2].map(|()| SocketAddr::from(([127, 0, 0, 1], origin::unused_port())));
        let (url, at) = (nats.url(), [admin, listen].map(|address| address.to_string()));
        let mut args = vec![role, "--server", &url, "--admin", &at[0]];
        if role == "client" {
            args.extend(["--listen", &at[1]]);
        }
        let command = relay(&[&args, flags].concat());
        let process = Process::spawn_saying_to(role, command, Stdio::null(), log);
        answers(&process, admin, "/readyz").await;
        Deaf { process, admin, listen }
    }

    async fn status(&self) -> u16 {
        Raw::get(self.listen, "/").await.expect("the client agent answers").status
    }

    async fn lost(&self) -> f64 {
        let text = Raw::get(self.admin, "/metrics").await.expect("the admin listener answers").text();
        let value = text.lines().find_map(|line| line.strip_prefix("relay_log_lines_lost_total "));
        value.expect("the metric is there").parse().unwrap()
    }

    /// It is ready.
    async fn works(&self) {
        assert_eq!(Raw::get(self.admin, "/readyz").await.expect("the admin listener answers").status, 200);
    }

    async fn stopped(self) -> ExitStatus {
        self.process.term();
        within(WITHIN, "it stops", self.process.ended()).await
    }
}

const WITHIN: std::time::Duration = std::time::Duration::from_secs(30);
