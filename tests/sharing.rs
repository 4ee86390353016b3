//! How the agents of one upstream share its requests: by weight, by variant, by how quick they are.

mod support;

#[path = "sharing/speed.rs"]
mod speed;
#[path = "sharing/variant.rs"]
mod variant;
#[path = "sharing/weight.rs"]
mod weight;
