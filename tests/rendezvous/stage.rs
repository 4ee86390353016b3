//! Client agents with sessions, and callers who use them.

use crate::support::*;

/// NATS with JetStream on a disk, a broker that stores sessions there, and client agents.
pub struct Stage {
    pub clients: Vec<Role>,
    pub nats: Nats,
    pub broker: Role,
}

/// What NATS is told.
pub const JETSTREAM: &str = "jetstream { store_dir: \"$DIR/jetstream\" }";
/// What client agents are told.
pub const SESSIONS: [&str; 2] = ["--sessions", "/cama/session"];

impl Stage {
    /// One client agent with these flags.
    pub async fn with(flags: &[&str]) -> Stage {
        let nats = Nats::with(JETSTREAM).await;
        let broker = nats.broker(&[]).await;
        let client = client(&nats, flags).await;
        Stage { clients: vec![client], nats, broker }
    }

    /// One client agent.
    pub async fn one() -> Stage {
        Stage::with(&[]).await
    }

    /// Two client agents.
    pub async fn two() -> Stage {
        let mut stage = Stage::one().await;
        stage.clients.push(client(&stage.nats, &[]).await);
        stage
    }

    /// A session, made at the first client agent.
    pub async fn session(&self) -> Session {
        Session::made(&self.clients[0], "").await
    }

    /// Whoever asks at the last client agent, which may be the first.
    pub async fn far(&self) -> Raw {
        self.clients.last().unwrap().raw().await
    }

    /// Whoever asks at the first.
    pub async fn near(&self) -> Raw {
        self.clients[0].raw().await
    }
}

/// A client agent with sessions.
pub async fn client(nats: &Nats, flags: &[&str]) -> Role {
    nats.client(&[&SESSIONS, flags].concat()).await
}

/// A session as its host knows it.
pub struct Session {
    pub path: String,
    pub token: String,
}

impl Session {
    /// Made there, with these header lines.
    pub async fn made(client: &Role, headers: &str) -> Session {
        let request = format!("PUT /cama/session HTTP/1.1\r\nHost: a\r\n{headers}Content-Length: 0\r\n\r\n");
        let answer = client.raw().await.ask(request).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        let cookie = answer.value("set-cookie");
        let token = cookie.split('"').nth(1).unwrap().to_owned();
        Session { path: answer.value("location"), token }
    }

    /// The host's header line.
    pub fn cookie(&self) -> String {
        format!("Cookie: token=\"{}\"\r\n", self.token)
    }

    /// A request without a body, with these header lines.
    pub fn ask(&self, method: &str, headers: &str) -> String {
        format!("{method} {} HTTP/1.1\r\nHost: a\r\n{headers}Content-Length: 0\r\n\r\n", self.path)
    }

    /// The host receives.
    pub fn host_gets(&self) -> String {
        self.ask("GET", &self.cookie())
    }

    /// The guest receives.
    pub fn guest_gets(&self) -> String {
        self.ask("GET", "")
    }

    /// The guest sends a text.
    pub fn guest_posts(&self, text: &str) -> String {
        self.posts("", text)
    }

    /// The host sends a text.
    pub fn host_posts(&self, text: &str) -> String {
        self.posts(&self.cookie(), text)
    }

    fn posts(&self, headers: &str, text: &str) -> String {
        let (path, length) = (&self.path, text.len());
        format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\n{headers}Content-Type: text/plain\r\nContent-Length: {length}\r\n\r\n{text}"
        )
    }

    /// Somebody begins to send in chunks.
    pub fn posts_chunks(&self, headers: &str) -> String {
        let path = &self.path;
        format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\n{headers}Content-Type: application/binary\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
    }
}

/// A chunk.
pub fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

/// The end of a body in chunks.
pub const END: &str = "0\r\n\r\n";
