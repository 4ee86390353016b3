//! Whether a request may be sent again: the one place that decides it.

use http::Method;

use crate::wire::{Code, Fault};

/// What to do with a request that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The fault is the answer.
    Answer,
    /// Nothing can run twice by it: send it again.
    Again,
}

/// Decides on a fault that a broker or an agent raised, for the `attempt`th try of a `method` request.
///
/// A request that somebody may have got is sent again only when running it twice is the same as
/// running it once (RFC 9110 §9.2.2) *and* whoever had it is known to be gone. An origin's own failures
/// are its answer. A body that was streamed is gone with the agent that had it. One more try is enough: whoever
/// kills two agents would kill a third.
pub fn after_fault(fault: &Fault, method: &Method, streamed: bool, attempt: u32) -> Verdict {
    match fault.code {
        Code::AgentGone if !streamed && method.is_idempotent() && attempt < MAX_ATTEMPTS => Verdict::Again,
        _ => Verdict::Answer,
    }
}

/// Decides on the `refusals`th refusal by agents that did not start. Another member of the queue group may
/// have room; when several have not, the broker is the better judge. An agent that drains is a member for a
/// moment only, but NATS may pick it again and again until then.
pub fn after_refusal(leaving: bool, refusals: u32) -> Verdict {
    let most = if leaving { MAX_REFUSALS_BY_LEAVING } else { MAX_REFUSALS };
    if refusals <= most { Verdict::Again } else { Verdict::Answer }
}

const MAX_ATTEMPTS: u32 = 2;
const MAX_REFUSALS: u32 = 3;
const MAX_REFUSALS_BY_LEAVING: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Side;

    #[test]
    fn only_idempotent_methods_follow_a_dead_agent_and_only_once() {
        let gone = Fault::new(Code::AgentGone, Side::Broker, "gone");
        assert_eq!(after_fault(&gone, &Method::GET, false, 1), Verdict::Again);
        assert_eq!(after_fault(&gone, &Method::PUT, false, 1), Verdict::Again);
        assert_eq!(after_fault(&gone, &Method::GET, false, 2), Verdict::Answer);
        assert_eq!(after_fault(&gone, &Method::POST, false, 1), Verdict::Answer);
        assert_eq!(after_fault(&gone, &Method::PATCH, false, 1), Verdict::Answer);
    }

    #[test]
    fn a_streamed_body_is_not_sent_again() {
        let gone = Fault::new(Code::AgentGone, Side::Broker, "gone");
        assert_eq!(after_fault(&gone, &Method::PUT, true, 1), Verdict::Answer);
    }

    #[test]
    fn no_other_fault_is_tried_again() {
        for &code in Code::ALL {
            if code != Code::AgentGone {
                let fault = Fault::new(code, Side::Upstream, "x");
                assert_eq!(after_fault(&fault, &Method::GET, false, 1), Verdict::Answer, "{code}");
            }
        }
    }
}
