//! Every right that relay needs, and every one that it must not have: one line each, tried on the server.
//!
//! OWN is the agent's own upstream, OTHER one of another agent, ROUTE the agent's own as it stands in a subject. The rest are the subjects of
//! docs/PROTOCOL.md, with P and Q for processes and 1f for a number.

use crate::support::{accounts::Accounts, configured::Person};

#[tokio::test]
async fn an_agent_may_do_what_its_own_upstream_needs_and_nothing_for_another() {
    let accounts = Accounts::start().await;
    for (own, others) in [
        ("hello", ["billing", "payroll"]),
        ("billing", ["hello", "payroll"]),
        ("payroll", ["hello", "billing"]),
    ] {
        let mut agent = accounts.person(&format!("agent_{own}")).await;
        for other in others {
            let route = match own {
                "hello" => "com.example.hello./".to_owned(),
                own => format!("com.example./.{own}"),
            };
            let named =
                |line: &&str| line.replace("OWN", own).replace("OTHER", other).replace("ROUTE", &route);
            check(&mut agent, AGENT_MAY.iter().map(named), AGENT_MAY_NOT.iter().map(named)).await;
        }
    }
}

#[tokio::test]
async fn a_client_agent_may_ask_for_everything_and_answer_nothing() {
    let accounts = Accounts::start().await;
    check(&mut accounts.person("client").await, texts(CLIENT_MAY), texts(CLIENT_MAY_NOT)).await;
}

#[tokio::test]
async fn a_limited_client_agent_may_ask_for_its_upstream_only() {
    let accounts = Accounts::start().await;
    check(&mut accounts.person("client_hello").await, texts(LIMITED_MAY), texts(LIMITED_MAY_NOT)).await;
}

#[tokio::test]
async fn a_socket_may_ask_for_everything_and_take_no_part_in_routes() {
    let accounts = Accounts::start().await;
    check(&mut accounts.person("socket").await, texts(SOCKET_MAY), texts(SOCKET_MAY_NOT)).await;
}

#[tokio::test]
async fn a_broker_may_act_for_whoever_is_gone_but_not_announce_or_listen_in() {
    let accounts = Accounts::start().await;
    check(&mut accounts.person("broker").await, texts(BROKER_MAY), texts(BROKER_MAY_NOT)).await;
}

#[tokio::test]
async fn an_observer_may_see_everything_and_take_part_in_nothing() {
    let accounts = Accounts::start().await;
    check(&mut accounts.person("observer").await, texts(OBSERVER_MAY), texts(OBSERVER_MAY_NOT)).await;
}

#[tokio::test]
async fn an_operator_may_purge_and_list_and_sees_no_request() {
    let accounts = Accounts::start().await;
    check(&mut accounts.person("operator").await, texts(OPERATOR_MAY), texts(OPERATOR_MAY_NOT)).await;
}

const AGENT_MAY: &[&str] = &[
    "join relay.req.OWN",
    "subscribe relay.*.OWN.P.>",
    "subscribe relay.who",
    "subscribe relay.who.OWN",
    "subscribe relay.here.OWN.>",
    "subscribe relay.gone.OWN.>",
    "subscribe $SRV.*",
    "subscribe $SRV.*.relay-upstream-OWN",
    "subscribe $SRV.*.relay-upstream-OWN.OWN-P",
    "publish relay.ack.client.P.OWN.1f",
    "publish relay.ack.broker.P.OWN.1f",
    "publish relay.resp.client.P.OWN.1f",
    "publish relay.resp.broker.P.OWN.1f",
    "publish relay.body.client.P.OWN.1f",
    "publish relay.here.OWN.OWN.P",
    "publish relay.gone.OWN.OWN.P",
    "publish relay.route.OWN.OWN.P.ROUTE./",
    "publish relay.route.OWN.OWN.P.ROUTE.deeper./",
    "publish relay.probe.broker.P.OWN.OWN.Q",
    "publish relay.who.OWN.P.ready",
    "publish _INBOX.P.1",
];

const AGENT_MAY_NOT: &[&str] = &[
    // Read what others are sent: requests, also of its own upstream without the queue group, and answers.
    "join relay.req.OTHER",
    "join relay.req.*",
    "join relay.>",
    "join relay.hold.*",
    "subscribe relay.req.OWN",
    "subscribe relay.req.OTHER",
    "subscribe relay.req.*",
    "subscribe relay.>",
    "subscribe >",
    "subscribe relay.*.OTHER.P.>",
    "subscribe relay.*.*.P.>",
    "subscribe relay.*.client.P.>",
    "subscribe relay.*.broker.P.>",
    "subscribe relay.resp.client.*.>",
    "subscribe relay.resp.client.P.OTHER.1f",
    "subscribe relay.here.>",
    "subscribe relay.here.OTHER.>",
    "subscribe relay.route.>",
    "subscribe relay.who.OTHER",
    "subscribe _INBOX.>",
    "subscribe relay.cache.>",
    "publish relay.cache.purge",
    "subscribe $SYS.>",
    // Answer for another upstream.
    "publish relay.ack.client.P.OTHER.1f",
    "publish relay.ack.broker.P.OTHER.1f",
    "publish relay.resp.client.P.OTHER.1f",
    "publish relay.resp.broker.P.OTHER.1f",
    "publish relay.body.client.P.OTHER.1f",
    // Register for another upstream or as another agent, or take one from the register.
    "publish relay.here.OTHER.OWN.P",
    "publish relay.here.OTHER.OTHER.P",
    "publish relay.here.OWN.OTHER.P",
    "publish relay.gone.OTHER.OTHER.P",
    "publish relay.gone.OWN.OTHER.P",
    // Claim another's routes, or more than its own, or say what became of a claim.
    "publish relay.route.OTHER.OTHER.P.ROUTE./",
    "publish relay.route.OWN.OTHER.P.ROUTE./",
    "publish relay.route.OWN.OWN.P.com.example././",
    "publish relay.route.OWN.OWN.P.com.example.+././",
    "publish relay.route.OWN.OWN.P.com.example.other././",
    "publish relay.route.OWN.OWN.P.com.example./.other./",
    "publish relay.route.OWN.OWN.P.+././",
    "publish relay.claim.OTHER.P.OTHER",
    // Say that another agent is alive, or ask it.
    "publish relay.probe.broker.P.OTHER.OTHER.Q",
    "publish relay.probe.broker.P.OWN.OTHER.Q",
    "publish relay.probe.OTHER.P.OTHER",
    // Ask, hold, renew, call the roll.
    "publish relay.req.OWN",
    "publish relay.req.OTHER",
    "publish relay.hold.OWN",
    "publish relay.lease.broker.P.OWN.1f",
    "publish relay.who",
    "publish relay.who.OTHER",
    "publish relay.who.OTHER.P.ready",
    "publish $SRV.PING",
    "publish $JS.API.INFO",
    "publish $SYS.REQ.SERVER.PING",
];

const CLIENT_MAY: &[&str] = &[
    // Sessions.
    "subscribe relay.session.*",
    "subscribe _INBOX.client.>",
    "publish relay.session.P",
    "publish relay.meet.client.P._sessions.1f",
    "publish relay.meet.other-realm.P._sessions.1f",
    "publish relay.body.client.P._sessions.1f",
    "subscribe relay.cache.>",
    "subscribe relay.*.client.P.>",
    "subscribe relay.here.payroll.>",
    "subscribe relay.gone.payroll.>",
    "publish relay.who.payroll",
    "subscribe relay.here.>",
    "subscribe relay.gone.>",
    "subscribe relay.route.>",
    "subscribe $SRV.*",
    "subscribe $SRV.*.relay-client",
    "publish relay.probe.payroll.P.payroll",
    "publish relay.claim.payroll.P.payroll",
    "publish relay.who",
    "publish relay.req.hello",
    "publish relay.req.payroll",
    "publish relay.hold.payroll",
    "publish relay.lease.broker.P.payroll.1f",
    "publish relay.lease.broker.P.payroll.renew",
    "publish relay.body.billing.P.billing.1f",
    "publish relay.who.payroll",
    "publish relay.who.client.P.ready",
    "publish _INBOX.P.1",
    "subscribe _INBOX.client.P.1",
    "publish relay.jobs.payroll.accept",
    "publish relay.jobs.payroll.read",
    "publish relay.jobs.payroll.body",
    "publish relay.jobs.payroll.cancel",
    "publish relay.chains.begin",
    "publish relay.chains.start",
    "publish relay.chains.abandon",
    "publish relay.sessions.P.put",
    "publish relay.sessions.count",
    "subscribe relay.ended.payroll.U",
    "subscribe relay.ended.U",
];

const CLIENT_MAY_NOT: &[&str] = &[
    // The bucket is there to be read and written, one record at a time.
    "subscribe $KV.relay-sessions.P",
    "subscribe relay.meet.>",
    "subscribe _INBOX.broker.P.1",
    "publish $KV.other.P",
    "publish $JS.API.STREAM.DELETE.KV_relay-sessions",
    "publish $JS.API.STREAM.PURGE.KV_relay-sessions",
    "publish $JS.API.STREAM.UPDATE.KV_relay-sessions",
    "publish $JS.API.STREAM.INFO.KV_other",
    "publish $JS.API.CONSUMER.CREATE.KV_relay-sessions",
    "publish relay.cache.purge",
    "join relay.req.hello",
    "join relay.hold.*",
    "subscribe relay.req.hello",
    "subscribe relay.*.client-hello.P.>",
    "subscribe relay.*.broker.P.>",
    "subscribe relay.*.billing.P.>",
    "subscribe relay.resp.>",
    "subscribe relay.>",
    "subscribe _INBOX.>",
    "publish relay.ack.client.P.hello.1f",
    "publish relay.resp.client.P.hello.1f",
    "publish relay.here.hello.hello.P",
    "publish relay.gone.hello.hello.P",
    "publish relay.route.hello.hello.P.com.example.hello././",
    "publish relay.probe.broker.P.hello.hello.Q",
    "publish relay.lease.client.P.broker.Q.lost",
    "publish $SRV.PING",
    "publish $JS.API.INFO",
    "publish relay.dead.chain.U",
    "publish $JS.API.STREAM.PURGE.relay-jobs",
    "publish $JS.API.STREAM.DELETE.relay-jobs",
    "publish $JS.API.CONSUMER.MSG.NEXT.relay-jobs.brokers",
    "publish $JS.ACK.relay-jobs.brokers.1.1.1.1.1",
    "subscribe _INBOX.broker.P.1",
    "publish $KV.relay-sessions.P",
    "publish $JS.API.STREAM.INFO.KV_relay-sessions",
    "publish $JS.API.STREAM.CREATE.KV_relay-sessions",
    "publish $JS.API.STREAM.MSG.GET.KV_relay-sessions",
    "publish relay.job.payroll.U",
    "publish relay.chain.U",
    "publish relay.key.payroll.h",
    "publish $JS.API.DIRECT.GET.relay-jobs.relay.job.payroll.U",
    "subscribe relay.job.payroll.U",
    "subscribe relay.chain.U",
];

const LIMITED_MAY: &[&str] = &[
    "subscribe relay.cache.>",
    "subscribe relay.*.client-hello.P.>",
    "subscribe relay.here.hello.>",
    "subscribe relay.gone.hello.>",
    "subscribe relay.route.hello.>",
    "publish relay.who.hello",
    "publish relay.probe.hello.P.hello",
    "publish relay.claim.hello.P.hello",
    "subscribe $SRV.*",
    "publish relay.req.hello",
    "publish relay.hold.hello",
    "publish relay.lease.broker.P.hello.1f",
    "publish relay.lease.broker.P.hello.renew",
    "publish relay.body.hello.P.hello.1f",
    "publish relay.who.hello",
    "publish relay.who.client-hello.P.ready",
    "publish _INBOX.P.1",
    "subscribe _INBOX.client-hello.P.1",
    "publish relay.jobs.hello.accept",
    "publish relay.jobs.hello.read",
    "publish relay.jobs.hello.body",
    "publish relay.jobs.hello.cancel",
    "subscribe relay.ended.hello.U",
];

const LIMITED_MAY_NOT: &[&str] = &[
    "subscribe relay.session.*",
    "publish relay.session.P",
    "publish relay.meet.client.P._sessions.1f",
    "publish $KV.relay-sessions.P",
    "publish $JS.API.STREAM.MSG.GET.KV_relay-sessions",
    "subscribe relay.here.payroll.>",
    "publish relay.who.payroll",
    "publish relay.req.payroll",
    "publish relay.req.billing",
    "publish relay.hold.payroll",
    "publish relay.lease.broker.P.payroll.1f",
    "publish relay.lease.broker.P.payroll.renew",
    "publish relay.body.payroll.P.payroll.1f",
    "publish relay.body.hello.P.payroll.1f",
    "publish relay.resp.client.P.hello.1f",
    "publish relay.here.hello.hello.P",
    "publish relay.route.hello.hello.P.com.example.hello././",
    "publish relay.probe.payroll.P.payroll",
    "publish relay.claim.payroll.P.payroll",
    "publish relay.who",
    "publish relay.who.payroll",
    "publish relay.who.client.P.ready",
    "join relay.req.hello",
    "subscribe relay.*.client.P.>",
    "subscribe relay.*.*.P.>",
    "subscribe relay.resp.client.P.>",
    "subscribe relay.here.payroll.>",
    "subscribe relay.gone.payroll.>",
    "subscribe relay.here.>",
    "subscribe relay.gone.>",
    "subscribe relay.route.>",
    "subscribe relay.>",
    "publish relay.job.payroll.U",
    "publish relay.chain.U",
    "publish relay.key.payroll.h",
    "publish $JS.API.DIRECT.GET.relay-jobs.relay.job.payroll.U",
    "publish $JS.API.DIRECT.GET.relay-jobs.relay.chain.U",
    "subscribe relay.job.payroll.U",
    "subscribe relay.chain.U",
    "subscribe _INBOX.client.P.1",
    "publish relay.job.hello.U",
    "publish relay.key.hello.h",
    "publish $JS.API.DIRECT.GET.relay-jobs.relay.job.hello.U",
    "subscribe relay.job.hello.U",
];

const SOCKET_MAY: &[&str] = &[
    "subscribe relay.*.socket.P.>",
    "subscribe relay.here.>",
    "subscribe relay.gone.>",
    "subscribe $SRV.*",
    "publish relay.req.payroll",
    "publish relay.hold.payroll",
    "publish relay.lease.broker.P.payroll.1f",
    "publish relay.lease.broker.P.payroll.renew",
    "publish relay.body.billing.P.billing.1f",
    "publish relay.probe.payroll.P.payroll",
    "publish relay.who",
    "publish relay.who.socket.P.ready",
    "publish _INBOX.P.1",
];

const SOCKET_MAY_NOT: &[&str] = &[
    "subscribe relay.*.client.P.>",
    "subscribe relay.*.broker.P.>",
    "subscribe relay.*.payroll.P.>",
    "subscribe relay.route.>",
    "subscribe relay.cache.>",
    "subscribe relay.req.hello",
    "subscribe relay.>",
    "join relay.req.hello",
    "join relay.hold.*",
    "publish relay.claim.payroll.P.payroll",
    "publish relay.resp.client.P.hello.1f",
    "publish relay.ack.client.P.hello.1f",
    "publish relay.here.hello.hello.P",
    "publish relay.who.client.P.ready",
    "publish relay.cache.purge",
    "publish $SRV.PING",
    "publish $JS.API.INFO",
];

const BROKER_MAY: &[&str] = &[
    "publish relay.who.payroll",
    "join relay.hold.*",
    "join relay.hold.hello",
    "subscribe relay.*.broker.P.>",
    "subscribe relay.here.>",
    "subscribe relay.gone.>",
    "subscribe $SRV.*",
    "publish relay.req.payroll",
    "publish relay.ack.client.P.payroll.1f",
    "publish relay.resp.client-hello.P.hello.1f",
    "publish relay.body.payroll.P.payroll.1f",
    "publish relay.lease.client.P.broker.Q.lost",
    "publish relay.probe.payroll.P.payroll",
    "publish relay.who",
    "publish relay.who.payroll",
    "publish relay.who.broker.P.ready",
    "publish _INBOX.P.1",
    "publish relay.hold.hello",
    "publish relay.claim.hello.P.hello",
    "subscribe _INBOX.broker.P.1",
    "subscribe relay.route.>",
    "publish relay.stored.client.P.hello.1f",
    "publish relay.ended.hello.U",
    "publish relay.ended.U",
    "join relay.jobs.*",
    "join relay.jobs.*.*",
    "join relay.chains.*",
    "join relay.sessions.*.*",
];

const BROKER_MAY_NOT: &[&str] = &[
    "join relay.req.*",
    "join relay.req.hello",
    "subscribe relay.hold.*",
    "subscribe relay.req.hello",
    "subscribe relay.*.client.P.>",
    "subscribe relay.*.billing.P.>",
    "subscribe relay.>",
    "publish relay.here.hello.hello.P",
    "publish relay.gone.hello.hello.P",
    "publish $SRV.PING",
    "publish $JS.API.INFO",
    "publish relay.key.hello.h",
    "publish $JS.API.STREAM.INFO.other",
    "publish $JS.API.STREAM.DELETE.KV_other",
    "subscribe _INBOX.client.P.1",
    "publish relay.job.hello.U",
    "publish relay.chain.U",
    "publish relay.dead.chain.U",
    "publish $JS.API.STREAM.CREATE.relay-jobs",
    "publish $JS.API.STREAM.UPDATE.relay-dead",
    "publish $JS.API.CONSUMER.CREATE.relay-jobs.brokers",
    "publish $JS.API.CONSUMER.MSG.NEXT.relay-jobs.brokers",
    "publish $JS.ACK.relay-jobs.brokers.1.1.1.1.1",
    "publish $O.relay-bodies.C.X",
];

const OBSERVER_MAY: &[&str] = &[
    "subscribe relay.>",
    "subscribe relay.req.payroll",
    "subscribe relay.*.observer.P.>",
    "subscribe _INBOX.>",
    "publish $SRV.PING",
    "publish $SRV.STATS",
];

const OBSERVER_MAY_NOT: &[&str] = &[
    "join relay.req.hello",
    "join relay.hold.*",
    "join relay.>",
    "subscribe $SYS.>",
    "publish relay.req.hello",
    "publish relay.resp.client.P.hello.1f",
    "publish relay.ack.client.P.hello.1f",
    "publish relay.body.hello.P.hello.1f",
    "publish relay.here.hello.hello.P",
    "publish relay.probe.hello.P.hello",
    "publish relay.who",
    "publish _INBOX.P.1",
];

const OPERATOR_MAY: &[&str] = &[
    "publish relay.cache.purge",
    "publish relay.cache.stats",
    "publish $SRV.STATS",
    "subscribe _INBOX.P.1",
    "publish relay.jobs.list",
    "publish relay.jobs.letters",
    "publish relay.jobs.hello.replay",
    "publish relay.chains.purge",
    "subscribe relay.*.operator.P.>",
];

const OPERATOR_MAY_NOT: &[&str] = &[
    "subscribe relay.>",
    "subscribe relay.req.hello",
    "subscribe relay.cache.purge",
    "join relay.req.hello",
    "publish relay.req.hello",
    "publish relay.resp.client.P.hello.1f",
    "publish relay.here.hello.hello.P",
    "publish relay.who",
    "publish _INBOX.P.1",
    "publish $JS.API.STREAM.PURGE.relay-jobs",
    "publish $JS.API.STREAM.DELETE.relay-dead",
    "publish relay.dead.chain.U",
    "publish relay.job.hello.U",
    "publish relay.chain.U",
    "publish $JS.API.STREAM.PURGE.relay-dead",
    "publish $JS.API.CONSUMER.CREATE.relay-dead.x",
];

/// Tries everything; all that is not as it should be is told together.
async fn check(
    person: &mut Person,
    may: impl Iterator<Item = String>,
    may_not: impl Iterator<Item = String>,
) {
    let mut wrong = Vec::new();
    let lines = may.map(|line| (line, true)).chain(may_not.map(|line| (line, false)));
    for (line, right) in lines {
        let allowed = match line.split_once(' ') {
            Some(("publish", subject)) => person.may_publish(subject, "").await,
            Some(("subscribe", subject)) => person.may_subscribe(subject).await,
            Some(("join", subject)) => person.may_join(subject).await,
            _ => panic!("what is '{line}'?"),
        };
        if allowed != right {
            wrong.push(format!("{line}: {}", if allowed { "allowed" } else { "refused" }));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn texts(lines: &'static [&'static str]) -> impl Iterator<Item = String> {
    lines.iter().map(|line| (*line).to_owned())
}
