//! Everything has a bound with a name, and reaching it has an answer that tells the name.

mod support;

#[path = "bounds/agents.rs"]
mod agents;
#[path = "bounds/crowd.rs"]
mod crowd;
#[path = "bounds/descriptors.rs"]
mod descriptors;
#[path = "bounds/floods.rs"]
mod floods;
#[path = "bounds/hostile.rs"]
mod hostile;
#[path = "bounds/load.rs"]
mod load;
#[path = "bounds/malformed.rs"]
mod malformed;
#[path = "bounds/parts.rs"]
mod parts;
#[path = "bounds/sizes.rs"]
mod sizes;
#[path = "bounds/slow.rs"]
mod slow;
#[path = "bounds/stalled.rs"]
mod stalled;
