//! What a body on its way changes: while it moves nobody has to answer yet, and a response that is still
//! arriving counts as in flight.

use std::{hash::BuildHasher, time::Instant};

use super::{Exchanges, one::Phase};
use crate::wire::Name;

impl<C, H: BuildHasher> Exchanges<C, H> {
    /// A body moved on: the waits for the response begin anew, here and at the broker.
    pub(super) fn progress(&mut self, number: u64, now: Instant) {
        let Some(exchange) = self.open.get_mut(&number) else { return };
        exchange.ends = now + self.settings.ttl;
        if let Phase::Taken { .. } = exchange.phase {
            exchange.since = now;
        }
        self.tell_broker(number, now);
        self.schedule(number);
    }

    pub(super) fn stream_begins(&mut self, upstream: &Name) {
        self.streaming += 1;
        self.per_upstream.entry(upstream.clone()).or_default().open += 1;
    }

    pub(super) fn stream_ended(&mut self, upstream: &Name) {
        self.streaming = self.streaming.saturating_sub(1);
        if let Some(upstream) = self.per_upstream.get_mut(upstream) {
            upstream.open -= 1;
        }
        self.forget_quiet(upstream);
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use crate::{
        proto::exchange::{
            Input,
            tests::{Client, upstream},
        },
        wire::{Code, State},
    };

    #[test]
    fn the_rest_of_a_body_goes_to_the_agent_that_took_its_request() {
        let mut client = Client::new();
        let request = client.open_streamed(Method::PUT);
        client.taken(&request, "agent.a", 7);
        assert_eq!(client.does(), ["publish".to_owned(), format!("connect {} to 7", request.number())]);
        client.taken(&request, "agent.b", 8);
        assert_eq!(client.does(), ["cancel 8"], "it goes to one agent only");
    }

    #[test]
    fn a_request_whose_body_is_streamed_is_sent_again_only_while_nobody_took_it() {
        let mut client = Client::new();
        let request = client.open_streamed(Method::PUT);
        client.ack(&request, State::Draining);
        assert_eq!(client.does(), ["publish", "publish alone"]);
        client.gone(&request, 1);
        assert_eq!(client.does().last().unwrap(), "answer: agent_gone, seen");
    }

    #[test]
    fn a_body_that_moves_keeps_its_request_from_running_out() {
        let mut client = Client::new();
        let request = client.open_streamed(Method::PUT);
        client.taken(&request, "agent.a", 1);
        client.pass(250);
        client.held(&request, "broker.a", 1);
        client.does();
        for _ in 0..10 {
            client.pass(1000);
            client.feed(Input::Progress { number: request.number() });
            let did = client.does();
            assert!(did.iter().any(|did| did.ends_with(" taken")), "a broker hears of it: {did:?}");
        }
        client.pass(5000);
        let answer = client.does().pop().unwrap();
        assert_eq!(answer, format!("answer: {}, seen", Code::TtlExpired));
    }

    #[test]
    fn a_response_counts_as_in_flight_until_its_stream_has_ended() {
        let mut client = Client::new();
        let request = client.open(Method::GET);
        client.respond_streamed(&request);
        assert_eq!(client.does(), ["publish", "answer: response"]);
        assert_eq!(client.machine.in_flight(), 1);
        client.feed(Input::StreamEnded { upstream: upstream() });
        assert!(client.machine.is_idle());
    }
}
