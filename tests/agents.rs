//! What an upstream agent is besides its requests: several upstreams in one process, routes.

mod support;

#[path = "agents/reload.rs"]
mod reload;
#[path = "agents/routes.rs"]
mod routes;
#[path = "agents/several.rs"]
mod several;
