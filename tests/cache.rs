//! The shared cache of a client agent: what it answers, what it keeps, what it forgets, and what it survives.

mod support;

#[path = "cache/arriving.rs"]
mod arriving;
#[path = "cache/bounds.rs"]
mod bounds;
#[path = "cache/collapsing.rs"]
mod collapsing;
#[path = "cache/poisoning.rs"]
mod poisoning;
#[path = "cache/purging.rs"]
mod purging;
#[path = "cache/ranges.rs"]
mod ranges;
#[path = "cache/stage.rs"]
mod stage;
#[path = "cache/stale.rs"]
mod stale;
#[path = "cache/storing.rs"]
mod storing;
#[path = "cache/validating.rs"]
mod validating;
