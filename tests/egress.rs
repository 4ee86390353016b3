//! Agents that call outside hosts: what they call, what they refuse, and who can't ask them. The tests publish
//! requests themselves, as whoever chains calls does.

mod support;

#[path = "egress/addresses.rs"]
mod addresses;
#[path = "egress/allowed.rs"]
mod allowed;
#[path = "egress/asking.rs"]
mod asking;
#[path = "egress/callers.rs"]
mod callers;
#[path = "egress/settings.rs"]
mod settings;
