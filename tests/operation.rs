//! What an operator sees: the admin listener, logs, commands, the `nats` command, `relay up`, and what is said
//! when something is set wrongly.

mod support;

#[path = "operation/admin.rs"]
mod admin;
#[path = "operation/commands.rs"]
mod commands;
#[path = "operation/hostile.rs"]
mod hostile;
#[path = "operation/logs.rs"]
mod logs;
#[path = "operation/lost_lines.rs"]
mod lost_lines;
#[path = "operation/mistakes.rs"]
mod mistakes;
#[path = "operation/nats.rs"]
mod nats;
#[path = "operation/up.rs"]
mod up;
