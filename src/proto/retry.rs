//! Whether a request may be sent again: the one place that decides it.

use std::time::Duration;

use http::Method;

use crate::wire::{Code, Fault, Side};

/// What to do with a request that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The fault is the answer.
    Answer,
    /// Nothing can run twice by it: send it again.
    Again,
    /// The agent could not reach its origin, and another may reach its own: send it to that one, if there is one.
    Elsewhere,
}

/// Decides on a fault that a broker or an agent raised, for the `attempt`th try of a `method` request.
///
/// A request that an agent may have got is sent again only when running it twice is the same as
/// running it once (RFC 9110 §9.2.2) *and* that agent is known to be gone or has not acknowledged it. An origin's own
/// failures are its answer. A body that was streamed is gone with the agent that had it; of a request that was not
/// acknowledged nothing was streamed. One more try is enough: a request that kills two agents would kill a third.
///
/// A request of any method goes on to another agent when the origin of the one that took it could not be connected to: none
/// of it was written. `unreached` agents have said so before.
pub fn after_fault(
    fault: &Fault,
    method: &Method,
    streamed: bool,
    attempt: u32,
    unreached: usize,
) -> Verdict {
    match fault.code {
        code if code.is_unsent() && !fault.maybe_seen && fault.raised_by == Side::Upstream => {
            if !streamed && unreached < MAX_UNREACHED { Verdict::Elsewhere } else { Verdict::Answer }
        }
        Code::AgentGone if !streamed => after_silence(method, attempt),
        Code::AckTimeout => after_silence(method, attempt),
        _ => Verdict::Answer,
    }
}

/// Decides on the `attempt`th try of a `method` request that no agent has acknowledged, when one of those that may have
/// it is silent or gone.
pub fn after_silence(method: &Method, attempt: u32) -> Verdict {
    if method.is_idempotent() && attempt < MAX_ATTEMPTS { Verdict::Again } else { Verdict::Answer }
}

/// What to do with a request that agents refused before they started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterRefusal {
    /// Send it again.
    Again,
    /// Send it again after a pause.
    AgainIn(Duration),
    /// A broker is the better judge of when to send it again.
    Wait,
}

/// Decides on the `refusals`th refusal by agents that did not start. Another member of the queue group may
/// have room. An agent that drains is a member for a moment only, but NATS may pick it again and again until
/// then. A full agent stays a member, and NATS picks it as often as one with room: where some agent says
/// that it accepts requests (`elsewhere`), it is worth more tries, with pauses, since it may be gone
/// without a word.
pub fn after_refusal(leaving: bool, elsewhere: bool, refusals: u32) -> AfterRefusal {
    let at_once = if leaving { MAX_REFUSALS_BY_LEAVING } else { MAX_REFUSALS };
    if refusals <= at_once {
        AfterRefusal::Again
    } else if elsewhere && refusals <= MAX_REFUSALS_BY_SOME {
        let doubled = FIRST_REFUSED_PAUSE * 2_u32.pow(refusals - at_once - 1);
        AfterRefusal::AgainIn(doubled.min(LAST_REFUSED_PAUSE))
    } else {
        AfterRefusal::Wait
    }
}

const MAX_ATTEMPTS: u32 = 2;
const MAX_UNREACHED: usize = 2;
const MAX_REFUSALS: u32 = 3;
const MAX_REFUSALS_BY_LEAVING: u32 = 16;
const MAX_REFUSALS_BY_SOME: u32 = 20;
const FIRST_REFUSED_PAUSE: Duration = Duration::from_millis(2);
const LAST_REFUSED_PAUSE: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    fn after_fault(fault: &Fault, method: &Method, streamed: bool, attempt: u32) -> Verdict {
        super::after_fault(fault, method, streamed, attempt, 0)
    }

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
    fn an_idempotent_request_that_no_agent_acknowledged_is_sent_again_once() {
        let late = Fault::new(Code::AckTimeout, Side::Broker, "late");
        assert_eq!(after_fault(&late, &Method::GET, false, 1), Verdict::Again);
        assert_eq!(
            after_fault(&late, &Method::PUT, true, 1),
            Verdict::Again,
            "nothing of its body is on its way"
        );
        assert_eq!(after_fault(&late, &Method::GET, false, 2), Verdict::Answer);
        assert_eq!(after_fault(&late, &Method::POST, false, 1), Verdict::Answer);
    }

    #[test]
    fn a_full_agent_is_passed_by_while_another_says_it_has_room() {
        let tries = |leaving, elsewhere| {
            let decided = (1..).map(|refusals| after_refusal(leaving, elsewhere, refusals));
            decided.take_while(|verdict| *verdict != AfterRefusal::Wait).collect::<Vec<_>>()
        };
        assert_eq!(tries(false, false), [AfterRefusal::Again; 3]);
        assert_eq!(tries(true, false), [AfterRefusal::Again; 16]);
        let pauses = |tries: Vec<_>| {
            let pauses = tries.into_iter().filter_map(|verdict| match verdict {
                AfterRefusal::AgainIn(pause) => Some(pause),
                AfterRefusal::Again | AfterRefusal::Wait => None,
            });
            (pauses.clone().count(), pauses.sum::<Duration>())
        };
        // With one of two agents full, all of these refuse one request in two million.
        assert_eq!((tries(false, true).len(), tries(true, true).len()), (20, 20));
        assert_eq!(pauses(tries(false, true)), (17, Duration::from_millis(2 + 4 + 8 + 16 + 32 + 12 * 50)));
    }

    #[test]
    fn a_request_whose_origin_could_not_be_connected_to_goes_to_two_other_agents_at_most() {
        let after = |fault: &Fault, streamed, unreached| {
            super::after_fault(fault, &Method::POST, streamed, 1, unreached)
        };
        for code in Code::ALL.iter().copied().filter(|code| code.is_unsent()) {
            let fault = Fault::new(code, Side::Upstream, "x");
            assert_eq!(after(&fault, false, 0), Verdict::Elsewhere, "{code}");
            assert_eq!(after(&fault, false, 2), Verdict::Answer, "{code}");
            assert_eq!(after(&fault, true, 0), Verdict::Answer, "its body has gone to the first");
            let seen = Fault { maybe_seen: true, ..fault };
            assert_eq!(after(&seen, false, 0), Verdict::Answer, "{code}");
        }
    }

    #[test]
    fn no_other_fault_is_tried_again() {
        for &code in Code::ALL {
            if !matches!(code, Code::AgentGone | Code::AckTimeout) && !code.is_unsent() {
                let fault = Fault::new(code, Side::Upstream, "x");
                assert_eq!(after_fault(&fault, &Method::GET, false, 1), Verdict::Answer, "{code}");
            }
        }
    }
}
