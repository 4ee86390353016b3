//! nats/cluster: three servers, relay's processes on different ones, and what happens when one of them stops.

mod support;

use std::{
    collections::BTreeSet,
    fs,
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use support::{
    configured::{configuration, nats_server},
    *,
};
use tempfile::TempDir;

#[tokio::test]
async fn requests_cross_the_cluster_and_go_on_when_the_agents_server_stops() {
    let cluster = Cluster::start().await;
    let origin = Origin::saying("crossed").await;
    let agent_flags = ["--name", "hello", "--to", &origin.url()];
    let (client, agent, broker) = tokio::join!(
        Role::spawn(&cluster.url("a"), "client", &["--upstream", "hello"], &[]).ready(),
        Role::spawn(&cluster.url("b"), "upstream", &agent_flags, &[]).ready(),
        Role::spawn(&cluster.url("c"), "broker", &["--wait", "25s"], &[]).ready(),
    );
    // What the agent said on b is known on c, and who listens on them is known on a.
    broker.counts("relay_agents", "", 1.0).await;
    cluster.has_heard_of("a", "relay.req.hello").await;
    cluster.has_heard_of("a", "relay.hold.*").await;
    for _ in 0..10 {
        assert_eq!(client.get("/").await.text().await.unwrap(), "crossed");
    }

    // It was told of b only, and has learnt of the others there.
    cluster.server("b").kill9();
    agent.says("connected to NATS again").await;
    for _ in 0..10 {
        let answer = client.get("/").await;
        assert_eq!((answer.status().as_u16(), answer.text().await.unwrap().as_str()), (200, "crossed"));
    }
    assert_eq!(client.metric("relay_nats_reconnects_total", "").await, 0.0, "its own server is still there");
    assert_eq!(agent.metric("relay_nats_reconnects_total", "").await, 1.0);
    agent.term();
    assert!(agent.ended().await.success());
}

#[tokio::test]
async fn a_server_that_does_not_answer_any_more_is_left_for_another() {
    let cluster = Cluster::start().await;
    let origin = Origin::saying("elsewhere").await;
    let agent_flags = ["--name", "hello", "--to", &origin.url()];
    let (client, _agent, broker) = tokio::join!(
        Role::spawn(&cluster.url("a"), "client", &["--upstream", "hello"], &[]).ready(),
        Role::spawn(&cluster.url("b"), "upstream", &agent_flags, &[]).ready(),
        Role::spawn(&cluster.url("c"), "broker", &[], &[]).ready(),
    );
    broker.counts("relay_agents", "", 1.0).await;
    cluster.has_heard_of("a", "relay.req.hello").await;
    assert_eq!(client.get("/").await.status(), 200);
    cluster.server("a").stop();
    let noticed = client.says("does not answer; connecting anew");
    within(Duration::from_secs(8), "it is noticed, far before TCP does", noticed).await;
    client.says("connected to NATS again").await;
    eventually_async("requests go on", || async { client.get("/").await.status() == 200 }).await;
}

#[tokio::test]
async fn a_server_that_is_shutting_down_is_left_before_it_ends_connections_and_no_request_fails() {
    let cluster = Cluster::start().await;
    let origin = Origin::saying("elsewhere").await;
    let agent_flags = ["--name", "hello", "--to", &origin.url()];
    let (client, agent, other, broker) = tokio::join!(
        Role::spawn(&cluster.url("a"), "client", &["--upstream", "hello"], &[]).ready(),
        Role::spawn(&cluster.url("b"), "upstream", &agent_flags, &[]).ready(),
        Role::spawn(&cluster.url("c"), "upstream", &agent_flags, &[]).ready(),
        Role::spawn(&cluster.url("c"), "broker", &[], &[]).ready(),
    );
    broker.counts("relay_agents", "", 2.0).await;
    cluster.has_heard_of("a", "relay.req.hello").await;
    let load = Load::start(&client, 4).await;
    load.goes_on(100).await;
    // It would end them after ten seconds, one by one.
    cluster.server("b").usr2();
    agent.says("moving to another").await;
    agent.says("connected to NATS again").await;
    load.goes_on(100).await;
    let (_, failed) = load.end().await;
    assert!(failed.is_empty(), "{:?}", load::counted(&failed));
    assert_eq!(client.metric("relay_nats_reconnects_total", "").await, 0.0);
    drop(other);
}

#[tokio::test]
async fn a_request_is_held_on_one_server_and_answered_by_an_agent_that_comes_on_another() {
    let cluster = Cluster::start().await;
    let origin = Origin::saying("at last").await;
    let (client, broker) = tokio::join!(
        Role::spawn(&cluster.url("a"), "client", &["--upstream", "hello"], &[]).ready(),
        Role::spawn(&cluster.url("c"), "broker", &["--wait", "25s"], &[]).ready(),
    );
    cluster.has_heard_of("a", "relay.hold.*").await;
    let agent = async {
        broker.counts("relay_requests_held", "", 1.0).await;
        Role::spawn(&cluster.url("b"), "upstream", &["--name", "hello", "--to", &origin.url()], &[])
            .ready()
            .await
    };
    let (answer, _agent) = tokio::join!(client.get("/"), agent);
    assert_eq!(answer.text().await.unwrap(), "at last");
    assert_eq!(origin.hits(), 1);
}

#[tokio::test]
async fn a_process_that_is_told_of_several_servers_takes_one_that_is_there() {
    let cluster = Cluster::start().await;
    cluster.server("a").kill9();
    let all = ["a", "b", "c"].map(|id| cluster.url(id)).join(",");
    let broker = Role::spawn(&all, "broker", &[], &[]).ready().await;
    broker.says("connected to NATS").await;
}

#[tokio::test]
async fn callers_meet_across_the_cluster_and_their_session_outlives_a_server() {
    let cluster = Cluster::start().await;
    let sessions = ["--sessions", "/meet"];
    let (near, far, _broker) = tokio::join!(
        Role::spawn(&cluster.url("a"), "client", &sessions, &[]).ready(),
        Role::spawn(&cluster.url("c"), "client", &sessions, &[]).ready(),
        Role::spawn(&cluster.url("c"), "broker", &[], &[]).ready(),
    );
    let make =
        || async { near.raw().await.ask("PUT /meet HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").await };
    // The servers may still be choosing who leads.
    eventually_async("a session can be made", || async { make().await.status == 201 }).await;
    let made = make().await;
    let (path, cookie) = (made.value("location"), made.value("set-cookie"));
    let cookie = cookie.split(';').next().unwrap();
    let meet = || async {
        let mut host = near.raw().await;
        host.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\nCookie: {cookie}\r\nX-Timeout: 5\r\n\r\n"))
            .await;
        let post =
            format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nX-Timeout: 5\r\n\r\nhello");
        let sent = far.raw().await.ask(post).await;
        (sent.status, sent.value("x-bytes-delivered"), host.answer().await.text())
    };
    for _ in 0..10 {
        assert_eq!(meet().await, (200, "5".to_owned(), "hello".to_owned()));
    }
    cluster.server("b").kill9();
    eventually_async("they meet again", || async { meet().await.0 == 200 }).await;
    for _ in 0..10 {
        assert_eq!(meet().await, (200, "5".to_owned(), "hello".to_owned()));
    }
}

#[tokio::test]
async fn a_chain_is_kept_on_three_servers_and_outlives_one_of_them() {
    let cluster = Cluster::start().await;
    let gate = tokio::sync::watch::Sender::new(false);
    let origin = Origin::gated(&gate).await;
    let flags = ["--name", "hello", "--to", &origin.url()];
    let (client, _agent, _broker) = tokio::join!(
        Role::spawn(&cluster.url("a"), "client", &["--upstream", "hello", "--jobs", "on"], &[]).ready(),
        Role::spawn(&cluster.url("b"), "upstream", &flags, &[]).ready(),
        Role::spawn(&cluster.url("b"), "broker", &[], &[]).ready(),
    );
    cluster.has_heard_of("a", "relay.req.hello").await;
    let url = client.url("/").await;
    let ask = || http().post(&url).header("prefer", "respond-async").header("idempotency-key", "k").send();
    // Until the three have elected who leads the stream, it can't be stored.
    eventually_async("a job is accepted", || async { ask().await.unwrap().status() == 202 }).await;
    let accepted = ask().await.unwrap();
    let page = client.url(accepted.headers()["location"].to_str().unwrap()).await;
    eventually("its request is under way", || origin.hits() == 1).await;
    let streams = cluster.asked("a", "jsz?streams=1&config=1").await.to_string();
    assert!(
        streams.contains(r#""name":"relay-jobs""#) && streams.contains(r#""num_replicas":3"#),
        "{streams}"
    );
    cluster.server("c").kill9();
    gate.send_replace(true);
    eventually_async("it is done", || async {
        http().get(&page).send().await.is_ok_and(|answer| {
            answer.status() == 200 && answer.headers().get("x-relay-job").is_some_and(|state| state == "done")
        })
    })
    .await;
    assert_eq!(origin.hits(), 1);
}

/// Three servers that know each other.
struct Cluster {
    servers: Vec<(&'static str, SocketAddr, Process)>,
    _directory: TempDir,
}

impl Cluster {
    /// nats/cluster in a copy with free ports and a directory of its own. Between choosing a port and
    /// listening on it somebody else may take it; then others are chosen.
    async fn start() -> Cluster {
        for _ in 0..5 {
            if let Some(cluster) = Cluster::try_start().await {
                return cluster;
            }
        }
        panic!("no free ports for a cluster");
    }

    async fn try_start() -> Option<Cluster> {
        let directory = TempDir::new().unwrap();
        let held: Vec<_> = (0..PORTS.len()).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let free: Vec<_> = held.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
        drop(held);
        for file in ["routes.include", "a.conf", "b.conf", "c.conf"] {
            let text = fs::read_to_string(configuration(&format!("cluster/{file}"))).unwrap();
            let text = PORTS.iter().zip(&free).fold(text, |text, (port, free)| {
                text.replace(&format!("127.0.0.1:{port}"), &format!("127.0.0.1:{free}"))
            });
            let text = text.replace("/tmp/relay-nats", directory.path().to_str().unwrap());
            fs::write(directory.path().join(file), text).unwrap();
        }
        let mut servers = Vec::new();
        for (id, port) in ["a", "b", "c"].into_iter().zip(free) {
            let mut command = nats_server(&["-m", "-1", "-c"], &[]);
            command.arg(directory.path().join(format!("{id}.conf")));
            servers.push((id, SocketAddr::from(([127, 0, 0, 1], port)), Process::spawn(id, command)));
        }
        let cluster = Cluster { servers, _directory: directory };
        cluster.is_whole().await.then_some(cluster)
    }

    /// Waits until each server has a route to both others and tells clients of all three; false when one
    /// of them ended.
    async fn is_whole(&self) -> bool {
        for (id, _, process) in &self.servers {
            let knows_all = || async {
                let (routes, info) = (self.asked(id, "routez").await, self.asked(id, "varz").await);
                let names = routes["routes"].as_array().into_iter().flatten();
                let names: BTreeSet<_> = names.filter_map(|route| route["remote_name"].as_str()).collect();
                names.len() == 2 && info["connect_urls"].as_array().is_some_and(|urls| urls.len() == 3)
            };
            eventually_async("the server knows the others", || async {
                !self.is_running() || (!process.lines(MONITOR).is_empty() && knows_all().await)
            })
            .await;
        }
        self.is_running()
    }

    fn is_running(&self) -> bool {
        self.servers.iter().all(|(_, _, process)| process.is_running())
    }

    /// Waits until the server has heard from another that somebody there listens to `subject`.
    async fn has_heard_of(&self, id: &str, subject: &str) {
        eventually_async("the server knows who listens elsewhere", || async {
            let routes = self.asked(id, "routez?subs=1").await;
            let lists =
                routes["routes"].as_array().into_iter().flatten().map(|route| &route["subscriptions_list"]);
            lists.flat_map(|list| list.as_array().into_iter().flatten()).any(|heard| heard == subject)
        })
        .await;
    }

    /// What the monitor of a server says; nothing when it has ended.
    async fn asked(&self, id: &str, page: &str) -> serde_json::Value {
        let line = self.server(id).says(MONITOR).await;
        let address = line.rsplit(' ').next().unwrap();
        let Ok(answer) = http().get(format!("http://{address}/{page}")).send().await else {
            return serde_json::Value::Null;
        };
        answer.text().await.ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
    }

    fn url(&self, id: &str) -> String {
        let (_, address, _) = self.servers.iter().find(|(other, ..)| *other == id).unwrap();
        format!("nats://{address}")
    }

    fn server(&self, id: &str) -> &Process {
        let (_, _, process) = self.servers.iter().find(|(other, ..)| *other == id).unwrap();
        process
    }
}

/// The ports of nats/cluster: of the servers a, b and c, and of the routes between them.
const PORTS: [u16; 6] = [4222, 4223, 4224, 6222, 6223, 6224];
const MONITOR: &str = "Starting http monitor on";
