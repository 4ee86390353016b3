//! How a test asks an agent: by the wire's own messages, on a connection of its own.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use relay::{
    bus::{Bus, Subscription},
    wire::{
        Error, Headers, Here, Name, ProcessId, Reply, Request, RequestId, Side,
        codec::{decode, decode_reply, encode},
        message::VERSION,
    },
};

use crate::support::*;

/// Somebody who may ask any agent.
pub struct Asker {
    bus: Bus,
    own: ProcessId,
    replies: Subscription,
    number: u64,
}

impl Asker {
    /// At this server.
    pub async fn at(nats: &Nats) -> Asker {
        let bus = nats.connect().await;
        let own: ProcessId = "broker.Test12345678".parse().unwrap();
        let replies = bus.subscribe(format!("relay.resp.{own}.>")).await.unwrap();
        Asker { bus, own, replies, number: 0 }
    }

    /// GETs a URL through the agent `egress`. The request names another host in its headers.
    pub async fn get(&mut self, url: &str) -> Reply {
        self.ask("egress", Method::GET, url).await
    }

    /// The error that a GET comes to.
    pub async fn refused(&mut self, url: &str) -> Error {
        let reply = self.get(url).await;
        let error = reply.error.unwrap_or_else(|| panic!("{url}: {:?}", reply.status_code));
        assert_eq!(error.raised_by, Side::Upstream, "{url}");
        assert!(!error.maybe_seen, "{url}");
        error
    }

    /// Asks an agent and waits for its reply.
    pub async fn ask(&mut self, upstream: &str, method: Method, url: &str) -> Reply {
        self.number += 1;
        let upstream: Name = upstream.parse().unwrap();
        let id = RequestId::new(&self.own, &upstream, self.number);
        let mut headers = Headers::new();
        headers.insert(header::HOST, HeaderValue::from_static("elsewhere.example"));
        let request = Request {
            v: VERSION,
            client_id: self.own.clone(),
            client_req_id: id.clone(),
            client_req_ttl: 30_000,
            upstream_target: upstream.clone(),
            method,
            url: url.into(),
            headers,
            body: Bytes::new(),
            stream: false,
            trailers: HeaderMap::new(),
            upgrade: None,
            interim: false,
            window: None,
            broker_id: None,
            broker_req_id: None,
            broker_req_ttl: None,
        };
        self.bus.ask(format!("relay.req.{upstream}"), format!("relay.ack.{id}"), encode(&request)).unwrap();
        let message = within(PATIENCE, "a reply", self.replies.next()).await.unwrap();
        let reply = decode_reply(&message.payload).unwrap();
        assert_eq!(reply.client_req_id, id);
        reply
    }

    /// What the agent `egress` says of itself when somebody asks.
    pub async fn here(&self) -> Here {
        let mut said = self.bus.subscribe("relay.here.egress.>".into()).await.unwrap();
        self.bus.publish("relay.who.egress".into(), Bytes::new()).unwrap();
        let message = within(PATIENCE, "an announcement", said.next()).await.unwrap();
        decode(&message.payload).unwrap()
    }
}

/// An egress agent that is ready.
pub async fn egress(nats: &Nats, flags: &[&str]) -> Role {
    nats.spawn("upstream", &[&["--name", "egress", "--egress"], flags].concat()).ready().await
}

/// The body of a response as text, which must have this status.
#[track_caller]
pub fn text(reply: &Reply, status: u16) -> String {
    assert_eq!(reply.status_code.map(|status| status.as_u16()), Some(status), "{:?}", reply.error);
    String::from_utf8(reply.body.clone().unwrap_or_default().to_vec()).unwrap()
}

/// The networks of this machine itself.
pub const LOOPBACK: &str = "127.0.0.0/8,::1/128";
const PATIENCE: Duration = Duration::from_secs(30);
