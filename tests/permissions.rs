//! What nats/accounts.conf allows and what it refuses, with a real nats-server that runs it: every role
//! works with its own user, and nobody can do what is another's.

mod support;

#[path = "permissions/allowed.rs"]
mod allowed;
#[path = "permissions/refused.rs"]
mod refused;
#[path = "permissions/table.rs"]
mod table;
