//! Whoever tries what is another's: the server refuses it, the log says so, and the other's requests still
//! get their own answers.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use relay::wire::{Headers, Here, ProcessId, Reply, RequestId, codec};
use tokio::sync::watch;

use crate::support::{
    accounts::{Accounts, USERS, password, variable},
    configured::{configuration, nats_server},
    process::{relay, run},
    *,
};

#[tokio::test]
async fn an_agent_with_billings_user_gets_nothing_that_is_for_payroll() {
    let accounts = Accounts::start().await;
    let (own, others) = (Origin::saying("payroll").await, Origin::saying("stolen").await);
    let (broker, agent, client) = tokio::join!(
        accounts.broker(&["--wait", "500ms"]),
        accounts.agent("payroll", &own),
        accounts.client("payroll"),
    );
    let flags = ["--realm", "billing", "--name", "payroll", "--to", &others.url()];
    let thief = accounts.spawn("upstream", "agent_billing", &flags);
    not_ready(&thief, "relay.req.payroll").await;
    for _ in 0..20 {
        assert_eq!(client.get("/").await.text().await.unwrap(), "payroll");
    }
    assert_eq!(broker.metric("relay_agents", "").await, 1.0, "the broker knows payroll's own agent only");
    // Nor when there is nobody else to take it.
    agent.term();
    assert!(agent.ended().await.success());
    problem(client.get("/").await).await.is(503, "no_agent", "broker");
    assert_eq!((own.hits(), others.hits()), (20, 0));
}

#[tokio::test]
async fn an_agent_with_billings_user_is_not_ready_in_payrolls_realm() {
    let accounts = Accounts::start().await;
    let origin = Origin::saying("stolen").await;
    let flags = ["--realm", "payroll", "--name", "payroll", "--to", &origin.url()];
    not_ready(&accounts.spawn("upstream", "agent_billing", &flags), "relay.*.payroll.").await;
}

#[tokio::test]
async fn a_client_agent_without_its_realm_is_not_ready_and_does_not_flood_the_log() {
    let accounts = Accounts::start().await;
    not_ready(&accounts.spawn("client", "client_hello", &["--upstream", "hello"]), "relay.*.client.").await;
}

#[tokio::test]
async fn a_client_agent_for_hello_that_asks_for_payroll_is_403() {
    let accounts = Accounts::start().await;
    let (hello, payroll) = (Origin::saying("hello").await, Origin::saying("payroll").await);
    let (_broker, _agents, allowed, not) = tokio::join!(
        accounts.broker(&[]),
        async { tokio::join!(accounts.agent("hello", &hello), accounts.agent("payroll", &payroll)) },
        accounts.limited_client("hello"),
        accounts.limited_client("payroll"),
    );
    for _ in 0..3 {
        problem(not.get("/").await)
            .await
            .is(403, "not_allowed", "client")
            .names("payroll")
            .names("NATS refuses");
        assert_eq!(allowed.get("/").await.text().await.unwrap(), "hello");
    }
    not.says("refuse a publication").await;
    assert_eq!((hello.hits(), payroll.hits()), (3, 0));
}

#[tokio::test]
async fn an_answer_to_payrolls_request_is_payrolls_agents_alone() {
    let accounts = Accounts::start().await;
    let gate = watch::Sender::new(false);
    let origin = Origin::gated(&gate).await;
    let (_agent, client) = tokio::join!(accounts.agent("payroll", &origin), accounts.client("payroll"));
    let (mut thief, mut observer) =
        (accounts.person("agent_billing").await, accounts.person("observer").await);
    let mut requests = observer.bus.subscribe("relay.req.payroll".into()).await.unwrap();
    assert!(observer.may_subscribe("relay.>").await, "NATS answers in order: the one before is in force");
    let forge = async {
        let request = requests.next().await.expect("a request");
        let id = codec::decode_request(&request.payload).unwrap().client_req_id;
        assert!(!thief.may_publish(&format!("relay.resp.{id}"), forged(&id)).await);
        assert!(!thief.may_publish(&format!("relay.ack.{id}"), "").await);
        // What NATS lets through, because the subject says billing, the client agent does not believe: the
        // same number as another request's, and then another's id inside.
        let same: RequestId = id.as_str().replace(".payroll.", ".billing.").parse().unwrap();
        assert!(thief.may_publish(&format!("relay.resp.{same}"), forged(&same)).await);
        assert!(thief.may_publish(&format!("relay.resp.{same}"), forged(&id)).await);
        client.counts("relay_messages_dropped_total", "misaddressed", 1.0).await;
        gate.send_replace(true);
    };
    let (answer, ()) = tokio::join!(client.post("/", "the agent's own answer"), forge);
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.text().await.unwrap(), "the agent's own answer");
}

#[tokio::test]
async fn an_announcement_for_payroll_on_billings_subject_registers_nobody() {
    let accounts = Accounts::start().await;
    let (broker, mut thief) = tokio::join!(accounts.broker(&[]), accounts.person("agent_billing"));
    let process: ProcessId = "billing.P".parse().unwrap();
    for name in ["payroll", "billing"] {
        let here = Here::of(process.clone(), name.parse().unwrap());
        assert!(thief.may_publish("relay.here.billing.billing.P", codec::encode(&here)).await);
        broker.counts("relay_messages_dropped_total", "misaddressed", 1.0).await;
    }
    broker.counts("relay_agents", "", 1.0).await;
    assert_eq!(broker.metric("relay_agents", "").await, 1.0, "billing alone is there");
}

#[tokio::test]
async fn an_observer_watches_and_lists_but_takes_no_request() {
    let accounts = Accounts::start().await;
    let origin = Origin::saying("hello").await;
    let (broker, agent, client) = tokio::join!(
        accounts.broker(&[]),
        accounts.agent("hello", &origin),
        accounts.limited_client("hello")
    );
    let mut observer = accounts.person("observer").await;
    let mut all = observer.bus.subscribe("relay.>".into()).await.unwrap();
    // It would be a member of the group, and take the agent's requests, while the callers ask.
    let _group = observer.bus.join("relay.req.hello".into()).await.unwrap();
    assert!(!observer.may_join("relay.req.hello").await);
    assert!(observer.may_subscribe("relay.req.hello").await);
    for _ in 0..20 {
        assert_eq!(client.get("/").await.text().await.unwrap(), "hello");
    }
    assert_eq!(origin.hits(), 20, "the agent got them all");
    let mut seen = (0, 0);
    while seen != (20, 20) {
        let message = within(Duration::from_secs(10), "the observer sees it", all.next()).await.unwrap();
        seen.0 += usize::from(message.subject.as_str() == "relay.req.hello");
        seen.1 += usize::from(message.subject.starts_with("relay.resp.client-hello."));
    }

    let url = accounts.0.url();
    let mut ps = relay(&["ps", "--json", "--server", &url, "--user", "observer", "--realm", "observer"]);
    ps.env("NATS_PASSWORD", password("observer"));
    let listed = run(ps).await;
    assert!(listed.status.success(), "{}", listed.err);
    let rows: serde_json::Value = serde_json::from_str(&listed.out).unwrap();
    let roles: Vec<_> = rows.as_array().unwrap().iter().map(|row| row["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["broker", "client", "upstream"], "{rows}");
    assert!(broker.lines("refuse").is_empty() && agent.lines("refuse").is_empty());
}

#[tokio::test]
async fn the_server_does_not_start_while_a_password_is_missing() {
    for missing in USERS {
        let said = checked(|name| (name != variable(missing)).then(|| password(missing))).await.unwrap_err();
        assert!(said.contains(&variable(missing)), "{said}");
    }
}

#[tokio::test]
async fn a_password_of_digits_needs_quotes_of_its_own() {
    checked(|_| Some("1234".to_owned())).await.unwrap_err();
    checked(|_| Some("\"1234\"".to_owned())).await.unwrap();
}

/// Whether the server accepts its configuration while each variable is what `value` says; if not, what it
/// says.
async fn checked(value: impl Fn(&str) -> Option<String>) -> Result<(), String> {
    let set = USERS.iter().filter_map(|user| Some((variable(user), value(&variable(user))?)));
    let set: Vec<_> = set.collect();
    let set: Vec<_> = set.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let mut command = nats_server(&["-t"], &set);
    command.arg("-c").arg(configuration("accounts.conf"));
    let ended = run(command).await;
    if ended.status.success() { Ok(()) } else { Err(ended.err) }
}

/// It says what it was refused, it says it once, and it never says that it is ready.
async fn not_ready(process: &Role, refused: &str) {
    let line = process.says(refused).await;
    assert!(line.contains("refuse a subscription") && line.contains("--realm"), "{line}");
    for _ in 0..100 {
        let (status, text) = process.page("/readyz").await;
        assert_eq!(status, 503, "{text}");
        assert!(text.contains("permissions"), "{text}");
    }
    assert!(process.lines("refuse").len() < 5, "{}", process.log());
    assert!(process.is_running());
}

/// An answer of somebody else's.
fn forged(to: &RequestId) -> Bytes {
    codec::encode(&Reply::response(to.clone(), StatusCode::OK, Headers::new(), Bytes::from("forged")))
}
