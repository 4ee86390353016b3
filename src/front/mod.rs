//! Where people come in. `http` is the client agent's listener, `admin` the operator's; `problem` is
//! the one place that turns a fault into a response.

pub mod admin;
pub mod body;
pub mod demo;
pub mod http;
pub mod listen;
pub mod problem;
