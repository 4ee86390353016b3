//! Agents whose origin does not work leave their queue group, and come back when it does.

mod support;

#[path = "health/checks.rs"]
mod checks;
#[path = "health/ejection.rs"]
mod ejection;
