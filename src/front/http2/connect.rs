//! An extended CONNECT (RFC 8441) as the change of protocols that HTTP/1 has, and the other way round: WebSocket has a
//! question and an answer in HTTP/1 that HTTP/2 leaves out.

use data_encoding::BASE64;
use h2::ext::Protocol;
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use ring::{
    digest,
    rand::{SecureRandom, SystemRandom},
};

use crate::{
    front::message::Head,
    wire::{Code, Fault, Headers, Side},
};

/// What a caller asked for.
pub struct Asked {
    /// What the origin answers to our question, where the protocol has one.
    accept: Option<String>,
}

/// Makes a GET with `Upgrade` of an extended CONNECT for `protocol`.
pub fn upgrade(head: &mut Head, protocol: &Protocol) -> Asked {
    head.method = Method::GET;
    let headers = &mut head.headers;
    // HTTP/2 has neither, so what is here is ours.
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    if let Ok(protocol) = HeaderValue::from_str(protocol.as_str()) {
        headers.insert(header::UPGRADE, protocol);
    }
    let is_websocket = protocol.as_str().eq_ignore_ascii_case("websocket");
    Asked { accept: is_websocket.then(|| ask(headers)) }
}

/// Asks the origin whether it speaks WebSocket (RFC 6455 section 4.1); returns what it should say.
fn ask(headers: &mut Headers) -> String {
    let mut nonce = [0; 16];
    // It is no secret: without randomness it is as good.
    SystemRandom::new().fill(&mut nonce).ok();
    let key = BASE64.encode(&nonce);
    let accept = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{MAGIC}").as_bytes());
    if let Ok(key) = HeaderValue::try_from(key) {
        headers.insert(header::SEC_WEBSOCKET_KEY, key);
    }
    headers.set_default(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    BASE64.encode(accept.as_ref())
}

impl Asked {
    /// The head of the answer as HTTP/2 has it; whether the stream goes on with the other protocol.
    ///
    /// # Errors
    /// When the origin answers as if the protocol had been changed, and it has not.
    pub fn granted(&self, status: &mut StatusCode, headers: &mut Headers) -> Result<bool, Fault> {
        if *status != StatusCode::SWITCHING_PROTOCOLS {
            // To the caller, success means that the stream has changed.
            return if status.is_success() {
                Err(refused("did not change to the protocol"))
            } else {
                Ok(false)
            };
        }
        let accept = headers.remove(header::SEC_WEBSOCKET_ACCEPT);
        if let Some(expected) = &self.accept
            && accept.is_none_or(|accept| accept != expected.as_str())
        {
            return Err(refused("did not answer as a WebSocket server does (Sec-WebSocket-Accept)"));
        }
        *status = StatusCode::OK;
        let of_http1: [HeaderName; 3] = [header::CONNECTION, header::UPGRADE, header::CONTENT_LENGTH];
        headers.retain(|name, _| !of_http1.contains(name));
        Ok(true)
    }
}

fn refused(what: &str) -> Fault {
    let detail = format!("the origin {what} that the extended CONNECT asked for");
    Fault { maybe_seen: true, ..Fault::new(Code::OriginBroken, Side::Client, detail) }
}

/// What a server adds to the question (RFC 6455 section 1.3).
const MAGIC: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
