//! Messages that carry headers and a body, as they are written.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};

use super::{
    Encode,
    writer::{Writer, room},
};
use crate::wire::message::{Reply, Request};

impl Encode for Request {
    fn encode(&self) -> Bytes {
        let size = self.body.len() + self.url.len() + room(self.headers.iter()) + room(self.trailers.iter());
        let mut map = Writer::with_room(HEAD + size);
        map.field("v").number(self.v.into());
        map.field("client_id").text(self.client_id.as_str());
        map.field("client_req_id").text(self.client_req_id.as_str());
        map.field("client_req_ttl").number(self.client_req_ttl);
        map.field("upstream_target").text(self.upstream_target.as_str());
        map.field("method").text(self.method.as_str());
        match self.url.as_text() {
            Some(text) => map.field("url").text(text),
            None => map.field("url").bytes(self.url.as_bytes()),
        }
        map.field("headers").headers(self.headers.len(), self.headers.iter());
        map.field("body").bytes(&self.body);
        after_body(&mut map, self.stream, &self.trailers, self.upgrade.as_ref());
        if self.interim {
            map.field("interim").flag(true);
        }
        if let Some(window) = self.window {
            map.field("window").number(window);
        }
        if let Some(broker) = &self.broker_id {
            map.field("broker_id").text(broker.as_str());
        }
        if let Some(hold) = &self.broker_req_id {
            map.field("broker_req_id").text(hold.as_str());
        }
        if let Some(ttl) = self.broker_req_ttl {
            map.field("broker_req_ttl").number(ttl);
        }
        map.finish()
    }
}

impl Encode for Reply {
    fn encode(&self) -> Bytes {
        let body = self.body.as_ref().map_or(0, Bytes::len);
        let mut map = Writer::with_room(HEAD + body + room(self.headers.iter()) + room(self.trailers.iter()));
        map.field("v").number(self.v.into());
        map.field("client_req_id").text(self.client_req_id.as_str());
        if let Some(hold) = &self.broker_req_id {
            map.field("broker_req_id").text(hold.as_str());
        }
        if let Some(agent) = &self.upstream_id {
            map.field("upstream_id").text(agent.as_str());
        }
        if let Some(at_agent) = &self.upstream_req_id {
            map.field("upstream_req_id").text(at_agent.as_str());
        }
        if let Some(status) = self.status_code {
            map.field("status_code").number(status.as_u16().into());
        }
        if !self.headers.is_empty() {
            map.field("headers").headers(self.headers.len(), self.headers.iter());
        }
        if let Some(body) = &self.body {
            map.field("body").bytes(body);
        }
        after_body(&mut map, self.stream, &self.trailers, self.upgrade.as_ref());
        if let Some(window) = self.window {
            map.field("window").number(window);
        }
        if let Some(error) = &self.error {
            map.field("error").error(error);
        }
        map.finish()
    }
}

/// What comes after a body: whether more of it follows, its trailers, the protocol that the connection changes to.
fn after_body(map: &mut Writer, stream: bool, trailers: &HeaderMap, upgrade: Option<&HeaderValue>) {
    if stream {
        map.field("stream").flag(true);
    }
    if !trailers.is_empty() {
        map.field("trailers").headers(trailers.len(), trailers.iter());
    }
    if let Some(protocol) = upgrade {
        map.field("upgrade").value(protocol);
    }
}

/// Room for what a message has besides headers, a url and a body: field names and ids, most of them short.
const HEAD: usize = 320;
