//! The users of nats/accounts.conf as they are meant to be: what each one is, in this table, and who there is, in the file.

use std::{collections::BTreeMap, fs};

use crate::support::{accounts::USERS, configured::configuration};

/// What a user is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// A broker's connection to JetStream.
    Store,
    Broker,
    /// A client agent that may ask any upstream, and keep sessions.
    Client,
    /// A client agent for one upstream.
    Limited(&'static str),
    /// An agent of one upstream, whose routes begin with these tokens.
    Agent(&'static str, &'static str),
    Socket,
    Operator,
    Observer,
    /// For the server's own administration.
    System,
}

/// A user.
#[derive(Debug, Clone, Copy)]
pub struct User {
    pub name: &'static str,
    pub account: &'static str,
    /// What its processes' ids begin with.
    pub realm: &'static str,
    pub part: Part,
}

/// Every user. One that is in the file and not here fails `the_file_has_the_users_of_the_table`.
pub const ALL: [User; 11] = [
    user("sys", "SYS", "-", Part::System),
    user("store", "STORE", "store", Part::Store),
    user("broker", "RELAY", "broker", Part::Broker),
    user("client", "RELAY", "client", Part::Client),
    user("client_hello", "RELAY", "client-hello", Part::Limited("hello")),
    user("agent_hello", "RELAY", "hello", Part::Agent("hello", "com.example.hello./.")),
    user("agent_billing", "RELAY", "billing", Part::Agent("billing", "com.example./.billing.")),
    user("agent_payroll", "RELAY", "payroll", Part::Agent("payroll", "com.example./.payroll.")),
    user("socket", "RELAY", "socket", Part::Socket),
    user("operator", "RELAY", "operator", Part::Operator),
    user("observer", "RELAY", "observer", Part::Observer),
];

/// Every realm that has a user, and one that has none.
pub const REALMS: [&str; 11] = [
    "broker",
    "client",
    "client-hello",
    "hello",
    "billing",
    "payroll",
    "socket",
    "operator",
    "observer",
    "store",
    "stranger",
];

/// Every upstream that has an agent, and one that has none.
pub const UPSTREAMS: [&str; 4] = ["hello", "billing", "payroll", "other"];

const fn user(name: &'static str, account: &'static str, realm: &'static str, part: Part) -> User {
    User { name, account, realm, part }
}

impl User {
    /// Whether it may ask `upstream`, or every upstream when that is `*`.
    pub fn asks(&self, upstream: &str) -> bool {
        match self.part {
            Part::Broker | Part::Client | Part::Socket => true,
            Part::Limited(own) => own == upstream,
            _ => false,
        }
    }

    /// Whether it asks `upstream` by routes.
    pub fn routes(&self, upstream: &str) -> bool {
        self.asks(upstream) && self.part != Part::Socket
    }

    /// Whether it is an agent of `upstream`.
    pub fn serves(&self, upstream: &str) -> bool {
        matches!(self.part, Part::Agent(own, _) if own == upstream)
    }

    /// Whether a process runs as it.
    pub fn is_process(&self) -> bool {
        self.is_caller() || matches!(self.part, Part::Broker | Part::Agent(..))
    }

    /// Whether requests come in at it.
    pub fn is_caller(&self) -> bool {
        matches!(self.part, Part::Client | Part::Limited(_) | Part::Socket)
    }
}

/// Its accounts, each with the names of its users and its text.
pub fn in_the_file() -> BTreeMap<String, (Vec<String>, String)> {
    let text = fs::read_to_string(configuration("accounts.conf")).unwrap();
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim_end());
    let mut accounts: BTreeMap<String, (Vec<String>, String)> = BTreeMap::new();
    let mut account = None;
    for line in lines.skip_while(|line| !line.starts_with("accounts {")).skip(1) {
        if let Some(rest) = line.strip_prefix("    ")
            && let Some((name, _)) = rest.split_once(" {")
            && name.chars().all(|c| c.is_ascii_uppercase())
        {
            account = Some(name.to_owned());
        }
        let Some(account) = &account else { continue };
        let (users, text) = accounts.entry(account.clone()).or_default();
        let named = line.split("user: ").nth(1).map(|rest| rest.split([',', ' ']).next().unwrap_or_default());
        users.extend(named.map(str::to_owned));
        text.push_str(line);
        text.push('\n');
    }
    accounts
}

#[test]
fn the_file_has_the_users_of_the_table() {
    let mut in_the_table: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for user in ALL {
        in_the_table.entry(user.account.to_owned()).or_default().push(user.name.to_owned());
    }
    let in_the_file: BTreeMap<_, _> =
        in_the_file().into_iter().map(|(account, (users, _))| (account, users)).collect();
    assert_eq!(in_the_file, in_the_table, "give each user a row in the table, and what is new a family");
    for user in ALL {
        assert!(USERS.contains(&user.name), "{} has no password in the tests", user.name);
    }
}

#[test]
fn nothing_crosses_the_border_of_an_account_and_jetstream_is_in_one_where_nobody_but_brokers_is() {
    for (account, (_, text)) in in_the_file() {
        assert_eq!(text.contains("jetstream"), account == "STORE", "JetStream in {account}");
        for way in ["imports", "exports", "mappings", "allow_responses", "default_permissions", "trace_dest"]
        {
            assert!(!text.contains(way), "{account} has {way}: tests/permissions/detours.rs does not try it");
        }
    }
    let text = fs::read_to_string(configuration("accounts.conf")).unwrap();
    for listener in ["leafnodes", "gateway", "cluster", "mqtt", "websocket", "authorization", "no_auth_user"]
    {
        let is_there = text.lines().any(|line| line.trim_start().starts_with(listener));
        assert!(!is_there, "{listener} is a way in that no test tries");
    }
}
