//! Backends that register themselves: who gets which request, who may claim what, and how the table follows
//! agents that come, go, die and come back.

mod support;

#[path = "routes/border.rs"]
mod border;
#[path = "routes/claims.rs"]
mod claims;
#[path = "routes/lives.rs"]
mod lives;
#[path = "routes/permitted.rs"]
mod permitted;
#[path = "routes/routing.rs"]
mod routing;
#[path = "routes/seen.rs"]
mod seen;

use support::*;

/// GETs `path` of `host` at a client agent: the status and the body.
async fn get(client: &Role, host: &str, path: &str) -> (u16, String) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let answer = client.raw().await.ask(request).await;
    (answer.status, answer.text())
}

/// Waits until a GET of `host` has this status at each of `clients`.
async fn becomes(clients: &[&Role], host: &str, status: u16) {
    for client in clients {
        let what = format!("{host} is {status}");
        eventually_async(&what, || async { get(client, host, "/").await.0 == status }).await;
    }
}

/// An agent of `upstream` with these routes that is ready.
async fn agent(nats: &Nats, upstream: &str, origin: &Origin, routes: &[&str]) -> Role {
    let flags: Vec<&str> = routes.iter().flat_map(|route| ["--route", route]).collect();
    nats.upstream(upstream, &origin.url(), &flags).await
}
