//! What tests of jobs have in common: a relay with JetStream, servers that say who they are, and callers.

use http::Response;
use reqwest::{RequestBuilder, Response as Answer};
use serde_json::Value;

use crate::support::{Nats, Origin, Role, Seen, answer, eventually_async, http};

/// A nats-server with JetStream, a broker, and a client agent in front of the upstream `one`.
pub struct Stage {
    pub nats: Nats,
    pub broker: Role,
    pub client: Role,
    pub one: Origin,
    agents: Vec<Role>,
}

impl Stage {
    /// With brokers that try again quickly, and a first server that says who it is.
    pub async fn start() -> Stage {
        Stage::with(says("one").await, &[], &[]).await
    }

    /// With this first server, and flags of the broker and the client agent.
    pub async fn with(one: Origin, broker: &[&str], client: &[&str]) -> Stage {
        let nats = Nats::with(JETSTREAM).await;
        let broker = nats.broker(&[QUICK, broker].concat()).await;
        let anywhere: &[&str] = if client.contains(&"--forward-to") { &[] } else { &["--forward-to", "any"] };
        let client = nats.client(&[&["--upstream", "one", "--jobs", "on"], anywhere, client].concat()).await;
        let agent = nats.upstream("one", &one.url(), &[]).await;
        Stage { nats, broker, client, one, agents: vec![agent] }
    }

    /// One more upstream.
    pub async fn serve(&mut self, name: &str, origin: &Origin) {
        self.agents.push(self.nats.upstream(name, &origin.url(), &[]).await);
    }

    /// A request that starts a chain, with an id of its own.
    pub async fn chain(&self, path: &str, to: &str, params: &str, methods: &str) -> RequestBuilder {
        let id = uuid::Uuid::new_v4().to_string();
        http()
            .post(self.client.url(path).await)
            .header("x-forward-id", id)
            .header("x-forward-errors-to", "http://errors/told")
            .header("x-forward-referer", "ORIGIN")
            .header("x-forward-to", to)
            .header("x-forward-query-params", params)
            .header("x-forward-method", methods)
    }

    /// A request that is to be answered later.
    pub async fn later(&self, path: &str) -> RequestBuilder {
        http().post(self.client.url(path).await).header("prefer", "respond-async")
    }

    /// What the page of a job says, by the 202 that named it.
    pub async fn page(&self, accepted: &Answer) -> Answer {
        self.client.get(&location(accepted)).await
    }

    /// What a job came to, once it is over.
    pub async fn over(&self, accepted: &Answer) -> Answer {
        let page = self.client.url(&location(accepted)).await;
        eventually_async("the job is over", || async {
            let state = value(&http().get(&page).send().await.unwrap(), "x-relay-job");
            ["done", "failed", "cancelled"].contains(&state.as_str())
        })
        .await;
        http().get(&page).send().await.unwrap()
    }

    /// What is known of a job.
    pub async fn progress(&self, accepted: &Answer) -> Value {
        let page = self.client.get(&format!("{}/progress", location(accepted))).await;
        serde_json::from_slice(&page.bytes().await.unwrap()).unwrap()
    }
}

/// Where a 202 says that its job is shown.
pub fn location(accepted: &Answer) -> String {
    assert_eq!(accepted.status(), 202);
    accepted.headers()["location"].to_str().unwrap().to_owned()
}

/// A server that answers with its name around what it got.
pub async fn says(name: &'static str) -> Origin {
    Origin::start(move |seen: Seen| async move { said(name, &seen) }).await
}

/// Its answer.
pub fn said(name: &'static str, seen: &Seen) -> Response<bytes::Bytes> {
    let body = format!("{name}({})", String::from_utf8_lossy(&seen.body));
    let mut response = answer(200, body);
    response.headers_mut().insert("content-type", format!("text/x-{name}").parse().unwrap());
    response
}

/// A header of an answer, as text; empty without one.
pub fn value(answer: &Answer, name: &str) -> String {
    answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
}

pub const JETSTREAM: &str = r#"jetstream { store_dir: "$DIR/jetstream" }"#;
const QUICK: &[&str] = &["--job-backoff", "50ms", "--job-attempts", "3", "--wait", "300ms"];
