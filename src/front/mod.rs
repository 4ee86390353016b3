//! Where people come in. `http` is the client agent's listener, `relay` one request there, `upload` and `body`
//! its body and its response's, `served` what is told of it; `admin` is the operator's listener; `problem` is the
//! one place that turns a fault into a response.

pub mod admin;
pub mod body;
pub mod demo;
pub mod http;
pub mod listen;
pub mod problem;
pub mod relay;
pub mod served;
pub mod upload;
