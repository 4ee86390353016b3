//! Every user of nats/accounts.conf × every family of subjects: what is allowed and what is refused, tried on a real server. The
//! users are in users.rs, the families and what docs/PROTOCOL.md means them for in families.rs.

use std::collections::BTreeMap;

use super::{
    families::{self, Row},
    users::{self, Part, User},
};
use crate::support::{accounts::Accounts, configured::Person};

#[tokio::test]
async fn a_broker_may_do_what_the_table_says_and_no_more() {
    check("broker").await;
}

#[tokio::test]
async fn a_brokers_store_may_do_what_the_table_says_and_no_more() {
    check("store").await;
}

#[tokio::test]
async fn a_client_agent_may_do_what_the_table_says_and_no_more() {
    check("client").await;
}

#[tokio::test]
async fn a_limited_client_agent_may_do_what_the_table_says_and_no_more() {
    check("client_hello").await;
}

#[tokio::test]
async fn an_agent_may_do_what_the_table_says_and_no_more() {
    for user in ["agent_hello", "agent_billing", "agent_payroll"] {
        check(user).await;
    }
}

#[tokio::test]
async fn a_socket_may_do_what_the_table_says_and_no_more() {
    check("socket").await;
}

#[tokio::test]
async fn an_operator_may_do_what_the_table_says_and_no_more() {
    check("operator").await;
}

#[tokio::test]
async fn an_observer_may_do_what_the_table_says_and_no_more() {
    check("observer").await;
}

#[test]
fn every_user_is_checked() {
    let text = include_str!("matrix.rs");
    for user in users::ALL.iter().filter(|user| user.part != Part::System) {
        // The system's user may do everything, in an account of its own.
        assert!(text.contains(&format!("\"{}\"", user.name)), "{} is not checked", user.name);
    }
}

/// Tries everything; all that is not as it should be is told together.
async fn check(name: &str) {
    let user = users::ALL.into_iter().find(|user| user.name == name).unwrap();
    let rows: BTreeMap<String, Row> =
        families::all().into_iter().map(|row| (row.subject.clone(), row)).collect();
    let accounts = Accounts::start().await;
    let mut person = accounts.person(name).await;
    let mut wrong = Vec::new();
    type Expected = fn(&Row, &User) -> bool;
    let ways: [(&str, Expected); 3] =
        [("publish", Row::may_publish), ("subscribe", Row::may_subscribe), ("join", Row::may_join)];
    for (way, expected) in ways {
        let tried: Vec<&Row> = rows.values().filter(|row| way != "publish" || !row.is_pattern).collect();
        for some in tried.chunks(AT_ONCE) {
            let subjects: Vec<String> = some.iter().map(|row| row.subject.clone()).collect();
            let refused = refused(&mut person, way, &subjects).await;
            for row in some {
                let allowed = !refused.contains(&row.subject);
                if allowed != expected(row, &user) {
                    let is = if allowed { "allowed" } else { "refused" };
                    wrong.push(format!("{way} {}: {is}", row.subject));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{name}, {} rows, {} wrong: {wrong:#?}", rows.len(), wrong.len());
}

async fn refused(person: &mut Person, way: &str, subjects: &[String]) -> Vec<String> {
    match way {
        "publish" => person.refused_to_publish(subjects).await,
        "subscribe" => person.refused_to_subscribe(subjects, false).await,
        _ => person.refused_to_subscribe(subjects, true).await,
    }
}

/// What the client library tells of at once; it forgets what it has no room for.
const AT_ONCE: usize = 50;
