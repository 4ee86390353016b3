//! A nats-server with nats/accounts.conf, and each role as the user that is meant for it.

use super::{
    Origin, Role,
    configured::{Person, Server},
};

/// The server.
pub struct Accounts(pub Server);

impl Accounts {
    /// With a password of its own for every user, each in the variable that the configuration names.
    pub async fn start() -> Accounts {
        Accounts::changed(&[]).await
    }

    /// With each first text of the configuration replaced by the second.
    pub async fn changed(changes: &[(&str, &str)]) -> Accounts {
        let variables: Vec<_> = USERS.iter().map(|user| (variable(user), password(user))).collect();
        let variables: Vec<_> =
            variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        Accounts(Server::changed("accounts.conf", changes, &variables).await)
    }

    /// A broker that is ready.
    pub async fn broker(&self, flags: &[&str]) -> Role {
        let flags = [&["--user", "broker", "--store-user", "store"], flags].concat();
        let (own, store) = (password("broker"), password("store"));
        let variables = [("NATS_PASSWORD", own.as_str()), ("RELAY_STORE_PASSWORD", store.as_str())];
        Role::spawn(&self.0.url(), "broker", &flags, &variables).ready().await
    }

    /// An agent of `upstream` that is ready.
    pub async fn agent(&self, upstream: &str, origin: &Origin) -> Role {
        let user = format!("agent_{upstream}");
        self.spawn("upstream", &user, &["--realm", upstream, "--name", upstream, "--to", &origin.url()])
            .ready()
            .await
    }

    /// A client agent for `upstream`, which may ask for any, that is ready.
    pub async fn client(&self, upstream: &str) -> Role {
        self.spawn("client", "client", &["--upstream", upstream, "--jobs", "on"]).ready().await
    }

    /// A client agent for `upstream`, which may ask for hello only, that is ready.
    pub async fn limited_client(&self, upstream: &str) -> Role {
        let flags = ["--realm", "client-hello", "--upstream", upstream, "--jobs", "on"];
        self.spawn("client", "client_hello", &flags).ready().await
    }

    /// Any role as any user, started and not waited for.
    pub fn spawn(&self, role: &str, user: &str, flags: &[&str]) -> Role {
        let (flags, password) = ([&["--user", user], flags].concat(), password(user));
        Role::spawn(&self.0.url(), role, &flags, &[("NATS_PASSWORD", &password)])
    }

    /// A connection of the test's own.
    pub async fn person(&self, user: &str) -> Person {
        self.0.person(user, &password(user)).await
    }

    /// The server refused nothing to anybody so far, and no process was told so.
    pub async fn refused_nothing(&self, processes: &[&Role]) {
        let refusals = self.0.refusals(&self.person("broker").await).await;
        assert!(refusals.is_empty(), "{refusals:#?}");
        for process in processes {
            let told = process.lines("NATS permissions");
            assert!(told.is_empty(), "{told:#?}");
        }
    }
}

/// The password of a user.
pub fn password(user: &str) -> String {
    format!("the-password-of-{user}")
}

/// The variable that has it.
pub fn variable(user: &str) -> String {
    format!("RELAY_NATS_{}_PASSWORD", user.to_uppercase())
}

/// Everybody.
pub const USERS: &[&str] = &[
    "broker",
    "store",
    "client",
    "client_hello",
    "agent_hello",
    "agent_billing",
    "agent_payroll",
    "socket",
    "operator",
    "socket",
    "observer",
    "sys",
];
