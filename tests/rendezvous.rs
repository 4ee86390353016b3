//! Rendezvous sessions: two callers who find each other at a URL, at one client agent or at two, and what one sends
//! the other receives.
//!
//! `rendezvous/stage.rs` has the client agents and the callers.

mod support;

#[path = "rendezvous/stage.rs"]
mod stage;

#[path = "rendezvous/document.rs"]
mod document;
#[path = "rendezvous/ends.rs"]
mod ends;
#[path = "rendezvous/limits.rs"]
mod limits;
#[path = "rendezvous/losses.rs"]
mod losses;
#[path = "rendezvous/meeting.rs"]
mod meeting;
#[path = "rendezvous/pages.rs"]
mod pages;
#[path = "rendezvous/permitted.rs"]
mod permitted;
#[path = "rendezvous/records.rs"]
mod records;
#[path = "rendezvous/transfers.rs"]
mod transfers;
