//! Ten thousand requests open at once.

use std::{process::Command, time::Duration};

use tokio::{sync::watch, task::JoinSet};

use crate::support::*;

#[tokio::test]
async fn ten_thousand_open_requests_are_all_answered_in_bounded_memory() {
    let (requests, files) = room_for(10_000);
    let gate = watch::Sender::new(false);
    let origin = Origin::gated(&gate).await;
    let nats = Nats::start().await;
    // Four fifths at the origin, by two agents at their limits; one fifth waits at the broker for room.
    let share = (requests * 2 / 5).to_string();
    let agent = ["--name", "hello", "--to", &origin.url(), "--max-in-flight", &share, "--ttl", "150s"];
    let client = ["--upstream", "hello", "--ttl", "150s", "--access-log", "off"];
    let broker = ["--wait", "150s", "--ack-wait", "100s", "--response-wait", "150s"];
    let (client, one, two, broker) = tokio::join!(
        start(&nats, files, "client", &client),
        start(&nats, files, "upstream", &agent),
        start(&nats, files, "upstream", &agent),
        start(&nats, files, "broker", &broker),
    );
    let address = client.address().await;
    let mut callers = JoinSet::new();
    for number in 0..requests {
        callers.spawn(async move {
            let mut raw = Raw::connect(address).await;
            let text = number.to_string();
            let length = text.len();
            raw.send(format!("POST /{number} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{text}"))
                .await;
            let answer = raw.patient_answer(Duration::from_secs(150)).await;
            (number, answer)
        });
        // Not all in one instant: the listener's queue has a bound too.
        if number % 200 == 0 {
            client.counts("relay_connections", "", number as f64 * 0.5).await;
        }
    }
    eventually_async("all are open", || async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        client.metric("relay_requests_in_flight", "").await >= requests as f64
    })
    .await;
    let at_origin = requests * 4 / 5;
    eventually("the agents have as many as they may", || origin.open() >= at_origin - 1).await;
    let memory = [&client, &one, &two, &broker].map(|role| role.memory() >> 20);
    println!(
        "{requests} open: client {} MB, agents {} and {} MB, broker {} MB",
        memory[0], memory[1], memory[2], memory[3]
    );
    assert!(memory[0] + memory[1] + memory[2] < 600, "client and agents take {memory:?} MB");
    gate.send_replace(true);
    let mut answered = 0;
    while let Some(done) = callers.join_next().await {
        let (number, answer) = done.unwrap();
        assert_eq!((answer.status, answer.text()), (200, number.to_string()));
        answered += 1;
    }
    assert_eq!((answered, origin.hits()), (requests, requests), "each was answered and ran once");
    eventually_async("nothing is kept", || async {
        client.metric("relay_requests_in_flight", "").await + one.metric("relay_requests_in_flight", "").await
            == 0.0
    })
    .await;
}

/// How many of `wanted` requests the limit on open files leaves room for in this process, which has the
/// callers' sockets and the origin's; and that limit.
fn room_for(wanted: usize) -> (usize, usize) {
    let pid = std::process::id().to_string();
    let limit = |which: &str| {
        let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap_or_default();
        let line =
            limits.lines().find(|line| line.starts_with("Max open files")).unwrap_or_default().to_owned();
        let mut numbers = line.split_whitespace().skip(3);
        let (soft, hard) = (numbers.next(), numbers.next());
        let number = if which == "soft" { soft } else { hard };
        number.map_or(1024, |number| number.parse().unwrap_or(1_000_000_usize))
    };
    let files = limit("hard").min(65_535);
    // It raises our own limit; where there is no `prlimit`, what is allowed now must do.
    Command::new("prlimit").args(["--pid", &pid, &format!("--nofile={files}:{files}")]).status().ok();
    let ours = limit("soft");
    let requests = (ours.saturating_sub(600) * 5 / 9).min(wanted);
    if requests < wanted {
        println!("only {ours} open files are allowed here: {requests} requests instead of {wanted}");
    }
    (requests, files)
}

/// A role that may open so many files, or as many as the system allows.
pub async fn start(nats: &Nats, files: usize, role: &str, flags: &[&str]) -> Role {
    let mut args = vec![role, "--server"];
    let url = nats.url();
    args.extend([url.as_str(), "--admin", "127.0.0.1:0"]);
    if role == "client" {
        args.extend(["--listen", "127.0.0.1:0"]);
    }
    args.extend(flags);
    let relay = process::relay(&args);
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("ulimit -n {files} || ulimit -n $(ulimit -Hn); exec \"$0\" \"$@\"")]);
    shell.arg(relay.get_program()).args(relay.get_args());
    for (name, value) in relay.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    Role::of(role, shell).ready().await
}
