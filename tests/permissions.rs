//! What nats/accounts.conf allows and what it refuses, with a real nats-server that runs it: every role
//! works with its own user, and nobody can do what is another's.
//! And what holds without any permissions: nothing that NATS or another process would publish for a user has an effect.

mod support;

#[path = "permissions/allowed.rs"]
mod allowed;
#[path = "permissions/deputies.rs"]
mod deputies;
#[path = "permissions/detours.rs"]
mod detours;
#[path = "permissions/families.rs"]
mod families;
#[path = "permissions/foreign.rs"]
mod foreign;
#[path = "permissions/matrix.rs"]
mod matrix;
#[path = "permissions/refused.rs"]
mod refused;
#[path = "permissions/tools.rs"]
mod tools;
#[path = "permissions/users.rs"]
mod users;
