//! A client agent that takes no jobs: what needs one is refused, the rest is an ordinary request.

use super::PAGES;
use crate::{
    front::relay::Asked,
    proto::forward,
    wire::{Code, Fault, Side},
};

/// Checks a request at a client agent without `--jobs on`. A preference to be answered later is the origin's to read
/// (RFC 7240 lets it be ignored), and so are the headers of a chain's last request.
///
/// # Errors
/// [`Code::JobsOff`] for the start of a chain, [`Code::NoJob`] for the page of a job.
pub(in crate::front) fn check(asked: &Asked) -> Result<(), Fault> {
    if asked.url.starts_with(PAGES) {
        return Err(Fault::new(Code::NoJob, Side::Client, format!("no job is shown here: {OFF}")));
    }
    if forward::goes_on(&asked.head.headers) {
        return Err(Fault::new(Code::JobsOff, Side::Client, format!("no forward chain starts here: {OFF}")));
    }
    Ok(())
}

const OFF: &str = "jobs are off at this client agent; start it with --jobs on";
