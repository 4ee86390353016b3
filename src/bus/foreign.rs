//! Messages that no relay process sends, refused before they are read. Relay publishes without NATS headers, and the only status it
//! acts on is the server's 503, "no responders". JetStream adds headers to every stored message that it sends on a reply subject
//! (`DIRECT.GET`) or republishes, and a reply subject under `$JS.` to every message that it delivers to a push consumer: NATS
//! does not check the permissions of the user who aims them.

use std::sync::atomic::{AtomicU64, Ordering};

use async_nats::{HeaderMap, Message, StatusCode};

/// Why a message is not one of relay's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Foreign {
    /// It carries NATS headers.
    Headers,
    /// It has a status other than 503, or a 503 that says more than that.
    Status,
    /// An answer to it would go to JetStream.
    JetStreamReply,
}

impl Foreign {
    /// All of them.
    pub const ALL: [Foreign; 3] = [Foreign::Headers, Foreign::Status, Foreign::JetStreamReply];

    /// The value of the metric's label `reason`.
    pub fn as_str(self) -> &'static str {
        match self {
            Foreign::Headers => "headers",
            Foreign::Status => "status",
            Foreign::JetStreamReply => "jetstream_reply",
        }
    }

    /// What makes `message` one that relay does not send, if anything does. `takes_headers` where other programs send too.
    fn of(message: &Message, takes_headers: bool) -> Option<Foreign> {
        match message.status {
            Some(StatusCode::NO_RESPONDERS) if is_bare(message) => return None,
            Some(_) => return Some(Foreign::Status),
            None => {}
        }
        if !takes_headers && message.headers.as_ref().is_some_and(|headers| !headers.is_empty()) {
            return Some(Foreign::Headers);
        }
        let reply = message.reply.as_ref()?;
        reply.as_bytes().starts_with(JETSTREAM).then_some(Foreign::JetStreamReply)
    }
}

/// Whether it says nothing but its status and, from nats-server 2.12 on, which subject nobody listens to.
fn is_bare(message: &Message) -> bool {
    let names_more =
        |headers: &HeaderMap| headers.iter().any(|(name, _)| AsRef::<str>::as_ref(name) != NO_RESPONDERS_TO);
    message.payload.is_empty() && message.reply.is_none() && !message.headers.as_ref().is_some_and(names_more)
}

/// How many foreign messages one connection dropped, for each reason.
#[derive(Debug, Default)]
pub struct Dropped([AtomicU64; Foreign::ALL.len()]);

impl Dropped {
    /// Whether `message` may be read, with NATS headers if `takes_headers`; one that may not is counted. The first of each reason is worth a warning.
    pub fn lets_in(&self, message: &Message, takes_headers: bool) -> bool {
        let Some(foreign) = Foreign::of(message, takes_headers) else { return true };
        let (subject, reason) = (&message.subject, foreign.as_str());
        if self.0[foreign as usize].fetch_add(1, Ordering::Relaxed) == 0 {
            tracing::warn!(%subject, reason, "a message that relay does not send was dropped; the next ones are only counted");
        } else {
            tracing::debug!(%subject, reason, "a message that relay does not send was dropped");
        }
        false
    }

    /// Messages dropped so far because of `foreign`.
    pub fn count(&self, foreign: Foreign) -> u64 {
        self.0[foreign as usize].load(Ordering::Relaxed)
    }
}

const JETSTREAM: &[u8] = b"$JS.";
const NO_RESPONDERS_TO: &str = "Nats-Subject";

#[cfg(test)]
mod tests {
    use async_nats::Subject;

    use super::*;

    fn message(headers: Option<HeaderMap>, status: Option<u16>, reply: Option<&'static str>) -> Message {
        Message {
            subject: Subject::from_static("relay.req.hello"),
            reply: reply.map(Subject::from_static),
            payload: bytes::Bytes::new(),
            headers,
            status: status.map(|status| StatusCode::from_u16(status).unwrap()),
            description: None,
            length: 0,
        }
    }

    fn headers(lines: &[(&'static str, &'static str)]) -> Option<HeaderMap> {
        let mut headers = HeaderMap::new();
        lines.iter().for_each(|(name, value)| headers.append(*name, *value));
        Some(headers)
    }

    #[test]
    fn what_relay_and_the_server_send_is_let_in() {
        for reply in [None, Some("relay.ack.client.P.hello.1"), Some("_INBOX.operator.x"), Some("$JSON.x")] {
            assert_eq!(Foreign::of(&message(None, None, reply), false), None, "{reply:?}");
        }
        for named in [&[][..], &[("Nats-Subject", "relay.req.hello")]] {
            assert_eq!(Foreign::of(&message(headers(named), Some(503), None), false), None, "no responders");
        }
    }

    #[test]
    fn what_jetstream_sends_is_not() {
        let asked = message(headers(&[("Accept-Encoding", "snappy")]), None, Some("_INBOX.x"));
        assert_eq!(Foreign::of(&asked, true), None, "nats micro asks so");
        assert_eq!(Foreign::of(&asked, false), Some(Foreign::Headers));
        let stored = headers(&[("Nats-Stream", "relay-jobs"), ("Nats-Sequence", "1")]);
        assert_eq!(Foreign::of(&message(stored.clone(), None, None), false), Some(Foreign::Headers));
        assert_eq!(Foreign::of(&message(stored, Some(503), None), false), Some(Foreign::Status));
        let answered = message(headers(&[]), Some(503), Some("relay.ack.client.P.hello.1"));
        assert_eq!(Foreign::of(&answered, false), Some(Foreign::Status));
        for status in [100, 404, 408, 409] {
            assert_eq!(Foreign::of(&message(headers(&[]), Some(status), None), false), Some(Foreign::Status));
        }
        for reply in ["$JS.ACK.relay-jobs.c.1.1.1.1.0", "$JS.FC.x", "$JS.API.STREAM.DELETE.relay-jobs"] {
            let foreign = Foreign::of(&message(None, None, Some(reply)), false);
            assert_eq!(foreign, Some(Foreign::JetStreamReply), "{reply}");
        }
    }

    #[test]
    fn each_reason_is_counted_in_its_place() {
        let dropped = Dropped::default();
        assert!(dropped.lets_in(&message(None, None, None), false));
        assert!(!dropped.lets_in(&message(None, Some(404), None), false));
        assert!(!dropped.lets_in(&message(None, None, Some("$JS.ACK.x")), true));
        assert!(!dropped.lets_in(&message(None, None, Some("$JS.ACK.x")), true));
        assert_eq!(Foreign::ALL.map(|foreign| dropped.count(foreign)), [0, 1, 2]);
    }
}
