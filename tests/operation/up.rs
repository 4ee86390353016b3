//! `relay up`: everything in one process, with a nats-server of its own.

use std::{net::SocketAddr, process::Command, time::Duration};

use crate::support::{
    process::{run, tool},
    *,
};

#[tokio::test]
async fn up_prints_a_line_that_works_and_stops_with_all_it_started() {
    let up = up(&["--listen", "127.0.0.1:0"]);
    let curl = up.says("curl -i http").await.trim().to_owned();
    let said = run(shell(&curl)).await;
    assert!(said.status.success(), "{curl}: {said:?}");
    assert!(said.out.starts_with("HTTP/1.1 200 OK") && said.out.contains("some data"), "{said:?}");

    let server = nats_of(&up).await;
    let ps = run(process::relay(&["ps", "--server", &format!("nats://{server}")])).await;
    for role in ["broker", "client", "upstream"] {
        assert!(ps.out.contains(role), "{}", ps.out);
    }
    up.interrupt();
    assert!(up.ended().await.success());
    assert!(up.lines("WARN").is_empty(), "{}", up.log());
    eventually("its nats-server has ended too", || std::net::TcpStream::connect(server).is_err()).await;
}

#[tokio::test]
async fn up_puts_an_origin_of_ones_own_online() {
    let origin = Origin::echo().await;
    let up = up(&[&origin.url(), "--listen", "127.0.0.1:0", "--name", "mine"]);
    let line = up.says("requests").await;
    let url = line.split_whitespace().last().unwrap().to_owned();
    up.says("curl").await;
    let answer = http().post(format!("{url}/x")).body("hello").send().await.unwrap();
    assert_eq!(answer.text().await.unwrap(), "hello");
    assert_eq!(origin.only().target, "/x");
    up.term();
    assert!(up.ended().await.success());
}

#[tokio::test]
async fn up_takes_jobs() {
    let up = up(&["--listen", "127.0.0.1:0"]);
    let line = up.says("requests").await;
    let url = line.split_whitespace().last().unwrap().to_owned();
    up.says("curl").await;
    let later = http().get(&url).header("prefer", "respond-async, wait=30").send().await.unwrap();
    assert_eq!((later.status().as_u16(), later.headers()["x-relay-job"].to_str().unwrap()), (200, "done"));
}

#[tokio::test]
async fn up_uses_a_nats_server_of_ones_own() {
    let nats = Nats::start().await;
    let up = up(&["--listen", "127.0.0.1:0", "--server", &nats.url()]);
    up.says("curl").await;
    assert_eq!(nats_of(&up).await, nats.address());
    let ps = run(process::relay(&["ps", "--server", &nats.url()])).await;
    assert!(ps.out.contains("upstream"), "{}", ps.out);
}

#[tokio::test]
async fn up_says_at_once_that_the_credentials_are_refused() {
    let nats = Nats::with(r#"authorization { user: "me", password: "s3cret" }"#).await;
    let up = up(&["--listen", "127.0.0.1:0", "--server", &nats.url().replace("//", "//me:wr0ng@")]);
    let ended = within(Duration::from_secs(8), "it ends before it has waited for NATS", up.ended());
    assert!(!ended.await.success());
    let said = up.log();
    assert!(said.contains("refuses the credentials") && said.contains(&nats.url()), "{said}");
    assert!(!said.contains("wr0ng"), "{said}");
}

#[tokio::test]
async fn up_does_not_put_itself_online() {
    let port = origin::unused_port();
    for (origin, listen) in [
        (format!("http://127.0.0.1:{port}/base"), format!("127.0.0.1:{port}")),
        (format!("http://localhost:{port}"), format!("127.0.0.1:{port}")),
        (format!("http://127.0.0.1:{port}"), format!("0.0.0.0:{port}")),
        (format!("http://0.0.0.0:{port}"), port.to_string()),
        (port.to_string(), port.to_string()),
        (format!("http://[::1]:{port}"), format!("[::]:{port}")),
    ] {
        let up = up(&[&origin, "--listen", &listen]);
        assert!(!up.ended().await.success(), "{origin} at {listen}");
        let said = up.log();
        assert!(said.contains("circle") && said.contains("--listen"), "{said}");
    }
}

#[tokio::test]
async fn a_second_up_on_the_same_port_says_what_to_do() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let second = up(&["--listen", &address]);
    assert!(!second.ended().await.success());
    let said = second.log();
    assert!(said.contains(&address) && said.contains("--listen"), "{said}");
}

#[tokio::test]
async fn up_without_a_nats_server_says_what_to_do() {
    let up = Process::spawn(
        "relay up",
        process::relay(&["up", "--listen", "127.0.0.1:0", "--nats-server", "/nowhere/nats-server"]),
    );
    assert!(!up.ended().await.success());
    let said = up.says("/nowhere/nats-server").await;
    assert!(said.contains("install nats-server") && said.contains("--server"), "{said}");
}

#[tokio::test]
async fn up_ends_when_its_nats_server_does() {
    let up = up(&["--listen", "127.0.0.1:0", "--grace", "1s"]);
    up.says("curl").await;
    let server = child_of(&up, "nats-server").await;
    Command::new("kill").args(["-KILL", &server.to_string()]).status().unwrap();
    assert!(!within(Duration::from_secs(20), "it ends", up.ended()).await.success());
    up.says("nats-server ended").await;
}

#[tokio::test]
async fn killing_up_leaves_no_nats_server_behind() {
    if !std::path::Path::new("/usr/bin/setpriv").exists() {
        println!("no setpriv on this system: nothing ends a child with its parent");
        return;
    }
    let up = up(&["--listen", "127.0.0.1:0"]);
    let server = nats_of(&up).await;
    up.says("curl").await;
    up.kill9();
    eventually("its nats-server has ended too", || std::net::TcpStream::connect(server).is_err()).await;
}

fn up(flags: &[&str]) -> Process {
    let server = tool("RELAY_NATS_SERVER", "nats-server");
    let mut command = process::relay(&[&["up"], flags].concat());
    command.arg("--nats-server").arg(server);
    Process::spawn("relay up", command)
}

/// Where its nats-server is.
async fn nats_of(up: &Process) -> SocketAddr {
    let line = up.says("nats://").await;
    let at = line.find("nats://").unwrap() + "nats://".len();
    line[at..].split_whitespace().next().unwrap().parse().unwrap()
}

/// What a person would paste.
fn shell(line: &str) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", line]);
    shell
}

/// The child of a process that runs `program`.
async fn child_of(process: &Process, program: &str) -> u32 {
    let parent = process.id();
    found("it has a child", || {
        let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
        children.split_whitespace().filter_map(|id| id.parse().ok()).find(|id: &u32| {
            let name = std::fs::read_to_string(format!("/proc/{id}/comm")).unwrap_or_default();
            name.trim() == program
        })
    })
    .await
}
