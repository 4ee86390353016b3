//! Real processes, each as its own user: everything works, and the server refuses nothing on the way.

use std::time::Duration;

use nkeys::KeyPair;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::watch,
};

use crate::support::{
    accounts::{Accounts, password},
    *,
};

#[tokio::test]
async fn two_client_agents_let_their_callers_meet() {
    let accounts = Accounts::start().await;
    let broker = accounts.broker(&[]).await;
    let flags = ["--sessions", "/meet"];
    let one = accounts.spawn("client", "client", &flags).ready().await;
    let two = accounts.spawn("client", "client", &flags).ready().await;
    let made = one.raw().await.ask("PUT /meet HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(made.status, 201, "{}", made.text());
    let (path, cookie) = (made.value("location"), made.value("set-cookie"));
    let cookie = cookie.split(';').next().unwrap();
    let mut host = one.raw().await;
    host.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\nCookie: {cookie}\r\n\r\n")).await;
    let sent = two
        .raw()
        .await
        .ask(format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"))
        .await;
    assert_eq!((sent.status, sent.value("x-bytes-delivered").as_str()), (200, "5"), "{}", sent.text());
    assert_eq!(host.answer().await.text(), "hello");
    let gone =
        one.raw().await.ask(format!("DELETE {path} HTTP/1.1\r\nHost: a\r\nCookie: {cookie}\r\n\r\n")).await;
    assert_eq!(gone.status, 200);
    accounts.refused_nothing(&[&broker, &one, &two]).await;
    // Who may not keep sessions says so at once, and which right is missing.
    let limited = accounts
        .spawn(
            "client",
            "client_hello",
            &["--realm", "client-hello", "--only", "hello", "--sessions", "/meet"],
        )
        .ready()
        .await;
    let refused = limited.raw().await.ask("PUT /meet HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(refused.status, 503);
    assert!(
        refused.problem().detail.contains("permissions refuse relay.sessions.count"),
        "{}",
        refused.problem().detail
    );
}

#[tokio::test]
async fn every_caller_reaches_its_own_upstream() {
    let accounts = Accounts::start().await;
    let (billing, payroll) = (Origin::saying("billing").await, Origin::saying("payroll").await);
    let hello = Origin::saying("hello").await;
    let (broker, agents, clients) = tokio::join!(
        accounts.broker(&[]),
        async {
            tokio::join!(
                accounts.agent("billing", &billing),
                accounts.agent("payroll", &payroll),
                accounts.agent("hello", &hello),
            )
        },
        async {
            tokio::join!(
                accounts.client("billing"),
                accounts.client("payroll"),
                accounts.limited_client("hello"),
            )
        },
    );
    for (client, upstream) in [(&clients.0, "billing"), (&clients.1, "payroll"), (&clients.2, "hello")] {
        for _ in 0..5 {
            let answer = client.get("/").await;
            assert_eq!((answer.status().as_u16(), answer.text().await.unwrap().as_str()), (200, upstream));
        }
    }
    // The agents have announced themselves, and the broker knows them.
    broker.counts("relay_agents", "", 3.0).await;
    accounts
        .refused_nothing(&[&broker, &agents.0, &agents.1, &agents.2, &clients.0, &clients.1, &clients.2])
        .await;
}

#[tokio::test]
async fn large_bodies_stream_both_ways() {
    let accounts = Accounts::start().await;
    let origin = Origin::echo().await;
    let (agent, client) = tokio::join!(accounts.agent("hello", &origin), accounts.limited_client("hello"));
    let large = vec![b'x'; 3 << 20];
    let answer = client.post("/", large.clone()).await;
    assert_eq!(answer.status(), 200);
    assert!(answer.bytes().await.unwrap() == large, "it came back as it was sent");
    accounts.refused_nothing(&[&agent, &client]).await;
}

#[tokio::test]
async fn a_socket_asks_an_upstream_with_bodies_of_any_size() {
    let accounts = Accounts::start().await;
    let origin = Origin::echo().await;
    let requests = tempfile::NamedTempFile::new().unwrap();
    let definition =
        "[request.a]\nupstream = 'hello'\nurl = '/'\nmethod = 'POST'\nbody = 'raw'\nresponse = 'text'\n";
    std::fs::write(&requests, definition).unwrap();
    let flags = ["--requests", requests.path().to_str().unwrap(), "--tcp", "0", "--max-line", "4MiB"];
    let (broker, agent, socket) =
        tokio::join!(accounts.broker(&[]), accounts.agent("hello", &origin), async {
            accounts.spawn("socket", "socket", &flags).ready().await
        },);
    let line = socket.says("socket listens address=").await;
    let address = line.split("address=").nth(1).unwrap().trim();
    let mut caller = tokio::net::TcpStream::connect(address).await.unwrap();
    let data = "x".repeat(1 << 20);
    let line = format!("{{\"request\":\"a\",\"id\":1,\"data\":\"{data}\"}}\n");
    caller.write_all(line.as_bytes()).await.unwrap();
    caller.shutdown().await.unwrap();
    let mut said = String::new();
    caller.read_to_string(&mut said).await.unwrap();
    assert!(said.contains("\"status\": \"ok\"") && said.contains(&data), "{said:.300}");
    accounts.refused_nothing(&[&broker, &agent, &socket]).await;
}

#[tokio::test]
async fn an_operator_reaches_the_cache_of_every_client_agent() {
    let accounts = Accounts::start().await;
    let clients = tokio::join!(accounts.client("payroll"), accounts.limited_client("hello"));
    let server = accounts.0.url();
    let line = ["cache", "purge", "--all", "--server", &server, "--user", "operator"];
    let mut purge = process::relay(&line);
    purge.env("NATS_PASSWORD", password("operator"));
    assert_eq!(process::run(purge).await.out, "0 responses forgotten at 2 client agents\n");
    accounts.refused_nothing(&[&clients.0, &clients.1]).await;
}

#[tokio::test]
async fn a_request_is_held_until_its_agent_comes() {
    let accounts = Accounts::start().await;
    let (broker, client) = tokio::join!(accounts.broker(&["--wait", "25s"]), accounts.client("payroll"));
    woken(&accounts, &broker, &client, "payroll").await;
}

#[tokio::test]
async fn a_limited_client_agents_request_is_held_until_its_agent_comes() {
    let accounts = Accounts::start().await;
    let (broker, client) =
        tokio::join!(accounts.broker(&["--wait", "25s"]), accounts.limited_client("hello"));
    woken(&accounts, &broker, &client, "hello").await;
}

#[tokio::test]
async fn an_agent_that_is_killed_with_a_request_is_502() {
    let accounts = Accounts::start().await;
    let origin = Origin::silent().await;
    let (broker, agent, client) =
        tokio::join!(accounts.broker(&[]), accounts.agent("billing", &origin), accounts.client("billing"));
    let death = async {
        eventually("the origin has the request", || origin.hits() == 1).await;
        client.counts("relay_requests_held", "", 1.0).await;
        agent.kill9();
    };
    let (answer, ()) = tokio::join!(client.post("/", "once"), death);
    problem(answer).await.is(502, "agent_gone", "broker");
    accounts.refused_nothing(&[&broker, &agent, &client]).await;
}

#[tokio::test]
async fn a_caller_that_goes_away_cancels_the_call() {
    let accounts = Accounts::start().await;
    let origin = Origin::silent().await;
    let (broker, agent, client) = tokio::join!(
        accounts.broker(&[]),
        accounts.agent("hello", &origin),
        accounts.limited_client("hello")
    );
    let mut caller = client.raw().await;
    caller.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
    eventually("the origin has the request", || origin.hits() == 1).await;
    drop(caller);
    eventually("the origin's caller hangs up", || origin.cancelled() == 1).await;
    agent.counts("relay_origin_calls_total", "cancelled", 1.0).await;
    accounts.refused_nothing(&[&broker, &agent, &client]).await;
}

#[tokio::test]
async fn an_agent_that_is_told_to_stop_finishes_and_the_other_goes_on() {
    let accounts = Accounts::start().await;
    let gate = watch::Sender::new(false);
    let (slow, quick) = (Origin::gated(&gate).await, Origin::saying("the other").await);
    let (broker, leaving, client) =
        tokio::join!(accounts.broker(&[]), accounts.agent("billing", &slow), accounts.client("billing"),);
    let stop = async {
        eventually("the origin has the request", || slow.hits() == 1).await;
        let other = accounts.agent("billing", &quick).await;
        broker.counts("relay_agents", "", 2.0).await;
        leaving.term();
        eventually_async("the broker knows that it leaves", || async {
            broker.metric("relay_agents", "").await == 1.0
        })
        .await;
        for _ in 0..5 {
            assert_eq!(client.get("/").await.text().await.unwrap(), "the other");
        }
        gate.send_replace(true);
        other
    };
    let (answer, other) = tokio::join!(client.post("/", "the last one"), stop);
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.text().await.unwrap(), "the last one");
    assert!(leaving.ended().await.success());
    assert_eq!(slow.hits(), 1, "it got nothing new");
    accounts.refused_nothing(&[&broker, &leaving, &other, &client]).await;
}

#[tokio::test]
async fn another_broker_takes_over_what_a_killed_one_held() {
    let accounts = Accounts::start().await;
    let origin = Origin::saying("at last").await;
    let (first, client) = tokio::join!(accounts.broker(&["--wait", "25s"]), accounts.limited_client("hello"));
    let rescue = async {
        first.counts("relay_requests_held", "", 1.0).await;
        let second = accounts.broker(&["--wait", "25s"]).await;
        first.kill9();
        second.counts("relay_requests_held", "", 1.0).await;
        (accounts.agent("hello", &origin).await, second)
    };
    let (answer, (agent, second)) = tokio::join!(client.get("/"), rescue);
    assert_eq!(answer.text().await.unwrap(), "at last");
    accounts.refused_nothing(&[&first, &second, &agent, &client]).await;
}

#[tokio::test]
async fn an_nkey_takes_the_place_of_a_password_and_the_permissions_stay() {
    let key = KeyPair::new_user();
    let nkey = format!("nkey: {}", key.public_key());
    let password = ("password: $RELAY_NATS_AGENT_BILLING_PASSWORD", "");
    let accounts = Accounts::changed(&[("user: agent_billing", &nkey), password]).await;
    let seed = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&seed, key.seed().unwrap()).unwrap();
    let (seed, url) = (seed.path().to_str().unwrap(), accounts.0.url());
    let origin = Origin::saying("billing").await;
    let to = origin.url();
    let agent = |name| {
        let flags = ["--nkey", seed, "--realm", "billing", "--name", name, "--to", &to];
        Role::spawn(&url, "upstream", &flags, &[])
    };
    let (broker, own, client) =
        tokio::join!(accounts.broker(&[]), agent("billing").ready(), accounts.client("billing"));
    assert_eq!(client.get("/").await.text().await.unwrap(), "billing");
    accounts.refused_nothing(&[&broker, &own, &client]).await;
    let others = agent("payroll");
    others.says("refuse a subscription").await;
    assert_eq!(others.page("/readyz").await.0, 503);
}

/// A request that finds nobody waits at the broker, its lease is renewed, and then its agent comes.
async fn woken(accounts: &Accounts, broker: &Role, client: &Role, upstream: &str) {
    let origin = Origin::saying("at last").await;
    let observer = accounts.person("observer").await;
    let mut renewals =
        observer.bus.subscribe(format!("relay.lease.broker.*.{upstream}.renew")).await.unwrap();
    let agent = async {
        broker.counts("relay_requests_held", "", 1.0).await;
        within(Duration::from_secs(10), "the lease is renewed", renewals.next()).await;
        accounts.agent(upstream, &origin).await
    };
    let (answer, agent) = tokio::join!(client.get("/"), agent);
    assert_eq!((answer.status().as_u16(), answer.text().await.unwrap().as_str()), (200, "at last"));
    eventually_async("the broker forgets what is answered", || async {
        broker.metric("relay_requests_held", "").await == 0.0
    })
    .await;
    accounts.refused_nothing(&[broker, &agent, client]).await;
}

#[tokio::test]
async fn jobs_and_chains_run_as_the_users_that_are_meant_for_them() {
    let accounts = Accounts::start().await;
    let (hello, billing) = (Origin::echo().await, Origin::echo().await);
    let broker = accounts.broker(&["--job-backoff", "50ms", "--wait", "300ms"]).await;
    let agents = (accounts.agent("hello", &hello).await, accounts.agent("billing", &billing).await);
    let (client, limited) = (accounts.client("hello").await, accounts.limited_client("hello").await);
    // Too large for a record, and answered after a wait: all that a client agent needs.
    let body = vec![b'x'; 1 << 20];
    let later = http().post(client.url("/").await).header("prefer", "respond-async, wait=30");
    let answer = later.header("idempotency-key", "k").body(body.clone()).send().await.unwrap();
    assert!(answer.status() == 200 && answer.bytes().await.unwrap() == body);
    let later = http().post(limited.url("/").await).header("prefer", "respond-async, wait=30").body("small");
    assert_eq!(later.send().await.unwrap().text().await.unwrap(), "small");
    let chain = |client: String| {
        http()
            .post(client)
            .header("x-forward-id", uuid::Uuid::new_v4().to_string())
            .header("x-forward-errors-to", "http://hello/")
            .header("x-forward-referer", "ORIGIN")
            .header("x-forward-to", "http://hello/next")
            .header("x-forward-query-params", "")
            .header("x-forward-method", "POST")
            .header("prefer", "wait=30")
            .body("chained")
    };
    let answer = chain(client.url("/").await).send().await.unwrap();
    assert_eq!(answer.text().await.unwrap(), "chained");
    accounts.refused_nothing(&[&broker, &agents.0, &agents.1, &client, &limited]).await;
    // One that may ask for hello alone can have no broker go elsewhere for it.
    problem(chain(limited.url("/").await).send().await.unwrap())
        .await
        .is(503, "jobs_unavailable", "client")
        .names("permissions refuse relay.chains.begin");
}
