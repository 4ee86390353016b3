//! What tests of streams look at: processes that have nothing left, downloads read bit by bit, HTTP/2.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use tokio::net::TcpStream;

use crate::{site, site::Site, support::*};

/// A relay before a site.
pub async fn relay() -> (Relay, Site) {
    let (origin, site) = Site::start().await;
    (Relay::to(origin).start().await, site)
}

/// Waits until neither agent has anything left of any request.
pub async fn nothing_is_left(roles: &[&Role]) {
    for role in roles {
        for name in ["relay_streams", "relay_requests_in_flight"] {
            eventually_async(&format!("{name} is 0 again"), || async { role.metric(name, "").await == 0.0 })
                .await;
        }
    }
}

/// Waits until the origin's connection is closed, which must be soon.
pub async fn origin_is_left(relay: &Relay) {
    let left = eventually("the origin is left", || relay.origin.connected() == 0);
    within(SOON, "the origin's connection is closed", left).await;
}

/// The beginning of a request.
pub fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n")
}

/// The head of a request with a body of that length.
pub fn put(path: &str, length: u64) -> String {
    format!("PUT {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n")
}

/// The head of a request with a body in chunks.
pub fn put_chunks(path: &str) -> String {
    format!("PUT {path} HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n")
}

/// A request for another protocol.
pub fn upgrade(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
}

/// A body's bytes as one chunk.
pub fn chunk(at: u64, length: u64) -> Vec<u8> {
    [format!("{length:x}\r\n").into_bytes(), site::pattern(at, length), b"\r\n".to_vec()].concat()
}

/// A GET over an HTTP/2 connection of its own.
pub async fn h2_get(address: SocketAddr, path: &str) -> (http::Response<h2::RecvStream>, H2) {
    let request = http::Request::get(format!("http://test{path}")).body(()).unwrap();
    let mut h2 = H2::connect(address).await;
    let (response, _) = h2.0.send_request(request, true).unwrap();
    (response.await.expect("a head"), h2)
}

/// An HTTP/2 connection.
#[derive(Clone)]
pub struct H2(pub h2::client::SendRequest<Bytes>);

impl H2 {
    /// Connects.
    pub async fn connect(address: SocketAddr) -> H2 {
        let stream = TcpStream::connect(address).await.unwrap();
        let (sender, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        H2(sender.ready().await.unwrap())
    }
}

/// Reads a body over HTTP/2: its bytes, or how it was reset.
pub async fn h2_body(body: &mut h2::RecvStream) -> Result<Vec<u8>, h2::Error> {
    let mut bytes = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len()).ok();
        bytes.extend(&data);
    }
    Ok(bytes)
}

/// How soon after its caller an origin must be left.
pub const SOON: Duration = Duration::from_secs(1);
