//! The parsers of what strangers send, on inputs that nobody thought of. `fuzz/` has the same for each parser.

#[path = "parsers/against_hyper.rs"]
mod against_hyper;
#[path = "parsers/corpus.rs"]
mod corpus;
#[path = "parsers/mutate.rs"]
mod mutate;
