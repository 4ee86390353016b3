//! x
pub mod bus;
pub mod config;
pub mod origin;
pub mod proto;
pub mod wire;
