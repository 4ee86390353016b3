//! One of each message, and how a message is read by its name.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode};
use relay::wire::{
    Ack, CacheStats, Claim, Code, End, Fault, Headers, Here, Hold, Interim, Job, JobId, JobState, Known,
    Lease, Lost, Meet, Name, News, ProcessId, Purge, Purged, Refused, Reply, Request, RequestId, Route,
    Session, SessionId, SessionState, Side, State, StreamMessage, Subjects, Word,
    batch::Batch,
    codec,
    job::{Content, Hop, JobKey, Logged},
    message::VERSION,
    session::{Role, Say, SessionKind, Token, upstream},
};

/// One of each message, by the name that `docs/PROTOCOL.md` gives its dump.
pub fn messages() -> Vec<(&'static str, Bytes)> {
    vec![
        ("request", codec::encode(&request())),
        ("request after a wake", codec::encode(&request_after_a_wake())),
        ("reply", codec::encode(&reply())),
        ("error", codec::encode(&error())),
        ("taken", codec::encode(&taken())),
        ("interim", codec::encode(&interim())),
        ("held", codec::encode(&held())),
        ("streamed request", codec::encode(&streamed_request())),
        ("switched", codec::encode(&switched())),
        ("frame", frame().encode()),
        ("last frame", last_frame().encode()),
        ("credit", credit().encode()),
        ("position", position().encode()),
        ("done", about_the_agents(Word::Done).encode()),
        ("stop", about_the_agents(Word::Stop).encode()),
        ("cut", cut().encode()),
        ("cancel", about_the_agents(Word::Cancel).encode()),
        ("hold", codec::encode(&hold())),
        ("lease", codec::encode(&lease())),
        ("lost", codec::encode(&lost())),
        ("here", codec::encode(&here())),
        ("egress here", codec::encode(&egress_here())),
        ("claim", codec::encode(&claim())),
        ("refused", codec::encode(&refused())),
        ("purge", codec::encode(&purge())),
        ("purged", codec::encode(&purged())),
        ("cache stats", codec::encode(&cache_stats())),
        ("job", codec::encode(&job())),
        ("job key", codec::encode(&job_key())),
        ("session", codec::encode(&session())),
        ("offer", codec::encode(&offer())),
        ("accept", codec::encode(&accept())),
        ("over", codec::encode(&over())),
        ("news", codec::encode(&news())),
    ]
}

pub fn request() -> Request {
    Request {
        v: VERSION,
        client_id: client(),
        client_req_id: at_client(),
        client_req_ttl: 60_000,
        upstream_target: hello(),
        method: Method::POST,
        url: "/greet?from=docs".into(),
        headers: pairs(&[("host", b"shop.example"), ("x-name", b"caf\xe9"), ("via", b"1.1 relay")]),
        body: Bytes::from_static(b"hi"),
        stream: false,
        trailers: http::HeaderMap::new(),
        upgrade: None,
        interim: false,
        window: None,
        broker_id: None,
        broker_req_id: None,
        broker_req_ttl: None,
    }
}

pub fn request_after_a_wake() -> Request {
    Request {
        client_req_ttl: 58_499,
        broker_id: Some(broker()),
        broker_req_id: Some(at_broker()),
        broker_req_ttl: Some(8_499),
        ..request()
    }
}

pub fn streamed_request() -> Request {
    Request { body: Bytes::from_static(b"beg"), stream: true, ..request() }
}

pub fn switched() -> Reply {
    Reply {
        upstream_id: Some(agent()),
        upstream_req_id: Some(at_agent()),
        stream: true,
        upgrade: Some(HeaderValue::from_static("websocket")),
        ..Reply::response(at_client(), StatusCode::SWITCHING_PROTOCOLS, Headers::new(), Bytes::new())
    }
}

pub fn about_the_agents(word: Word) -> StreamMessage {
    StreamMessage { to: at_agent(), word }
}

pub fn frame() -> StreamMessage {
    about_the_agents(Word::Frame { seq: 7, data: Bytes::from_static(b"hello"), end: None })
}

pub fn last_frame() -> StreamMessage {
    let end = End { length: 4_294_967_296, trailers: pairs(&[("grpc-status", b"0")]).into() };
    let word = Word::Frame { seq: 8, data: Bytes::new(), end: Some(end) };
    StreamMessage { to: at_client(), word }
}

pub fn credit() -> StreamMessage {
    StreamMessage { to: at_client(), word: Word::Credit { bytes: 4_194_304 } }
}

pub fn position() -> StreamMessage {
    about_the_agents(Word::Position { frames: 9, credit: 65_536 })
}

pub fn cut() -> StreamMessage {
    let fault =
        Fault::new(Code::OriginSilent, Side::Upstream, "the origin sent nothing for 1m (--idle-timeout)");
    StreamMessage { to: at_client(), word: Word::Cut((&fault).into()) }
}

pub fn reply() -> Reply {
    let headers = pairs(&[("content-type", b"text/plain"), ("set-cookie", b"a=1"), ("set-cookie", b"b=2")]);
    Reply {
        upstream_id: Some(agent()),
        upstream_req_id: Some(at_agent()),
        ..Reply::response(at_client(), StatusCode::CREATED, headers, Bytes::from_static(b"hello"))
    }
}

pub fn batch_of_replies() -> Bytes {
    let mut batch = Batch::with_room(0);
    [reply(), another_reply()].iter().for_each(|reply| batch.add(&codec::encode(reply)));
    batch.finish()
}

pub fn another_reply() -> Reply {
    let at_client = RequestId::new(&client(), &hello(), 0x57c1_ab81_0000_0003);
    Reply {
        upstream_id: Some(agent()),
        upstream_req_id: Some(RequestId::new(&agent(), &hello(), 0xf01c_64f9_0000_0003)),
        ..Reply::response(at_client, StatusCode::NO_CONTENT, Headers::new(), Bytes::new())
    }
}

pub fn error() -> Reply {
    let fault =
        Fault::new(Code::NoAgent, Side::Broker, "no upstream agent for 'hello' came within 10s (--wait)");
    Reply { broker_req_id: Some(at_broker()), ..Reply::error(at_client(), &fault) }
}

pub fn taken() -> Ack {
    Ack {
        upstream_id: Some(agent()),
        upstream_req_id: Some(at_agent()),
        upstream_req_ttl: Some(29_988),
        ..Ack::new(at_client(), State::Taken)
    }
}

pub fn interim() -> Ack {
    let said = Interim::new(StatusCode::EARLY_HINTS, pairs(&[("link", b"</a.css>; rel=preload")]));
    Ack {
        upstream_id: Some(agent()),
        upstream_req_id: Some(at_agent()),
        interim: said.map(Box::new),
        ..Ack::new(at_client(), State::Interim)
    }
}

pub fn held() -> Ack {
    Ack {
        broker_id: Some(broker()),
        broker_req_id: Some(at_broker()),
        broker_req_ttl: Some(10_000),
        ..Ack::new(at_client(), State::Held)
    }
}

pub fn hold() -> Hold {
    Hold {
        v: VERSION,
        client_id: client(),
        client_req_id: at_client(),
        client_req_ttl: 59_747,
        upstream_target: hello(),
        age: 252,
        known: Known::Taken,
        known_for: 238,
        upstream_id: Some(agent()),
    }
}

pub fn lease() -> Lease {
    Lease { v: VERSION, client_id: client(), holds: vec![at_broker().number(), 2] }
}

pub fn lost() -> Lost {
    Lost { v: VERSION, holds: vec![2] }
}

pub fn here() -> Here {
    Here { version: "0.1.0".into(), in_flight: 1, limit: 1000, ..Here::of(agent(), hello()) }
}

pub fn egress_here() -> Here {
    let allow = ["https://*.partner.com", "http://192.0.2.7:8080"].map(|allow| allow.parse().unwrap());
    Here { upstream_target: "egress".parse().unwrap(), allow: allow.into(), ..here() }
}

pub fn claim() -> Claim {
    Claim {
        v: VERSION,
        upstream_id: agent(),
        upstream_target: hello(),
        route: route(),
        age: 300_000,
        strip: true,
        waiting: true,
        withdrawn: false,
    }
}

pub fn refused() -> Refused {
    Refused {
        v: VERSION,
        upstream_target: hello(),
        route: route().to_string(),
        by: Some("shop".parse().unwrap()),
        earlier: 60_000,
        why: None,
    }
}

pub fn route() -> Route {
    "shop.example.com/v1.2".parse().unwrap()
}

/// A chain whose first hop is done, and whose second is to be tried again.
pub fn job() -> Job {
    let headers = pairs(&[("content-type", b"text/plain")]);
    let body = Bytes::from_static(b"hi");
    let mut job = Job::new(chain(), client(), JobState::Running, Content::whole(&headers, &body));
    let hop = |method: &str, url: &str, repeatable| Hop {
        method: method.into(),
        url: url.into(),
        upstream: None,
        repeatable,
    };
    job.hops = vec![hop("POST", "http://translate?to=en", false), hop("PUT", "http://archive/store", true)];
    (job.age, job.done, job.attempts, job.pause) = (1200, 1, 1, 1000);
    job.path = "/documents/7".into();
    job.referer = "http://translate/documents/7?to=en".into();
    job.errors_to = Some("http://errors/".into());
    job.log = vec![Logged { status: 200, attempts: 1 }];
    job
}

pub fn job_key() -> JobKey {
    JobKey { v: VERSION, job_id: JobId { upstream: Some(hello()), uuid: chain().uuid }, asked: vec![1; 4] }
}

pub fn chain() -> JobId {
    "0191e3a0-7c1e-4b61-9d5e-0f6f4a3b2c1d".parse().unwrap()
}

pub fn purge() -> Purge {
    let tag = Some("product-7".into());
    Purge { v: VERSION, url: None, prefix: None, host: None, tag, all: false }
}

pub fn session() -> Session {
    Session {
        v: VERSION,
        kind: SessionKind::Secure,
        token: Token::said("eiSbBCLVSYuJGE0QzWea6g").hash(),
        ttl: 3_600_000,
        cookie: 1_623_233_894,
        peer: "192.0.2.7".parse().ok(),
        host: Some(receiver()),
        guest: None,
    }
}

pub fn offer() -> Meet {
    Meet {
        session: Some(session_id()),
        role: Some(Role::Guest),
        content_type: Some(serde_bytes::ByteBuf::from("text/plain")),
        length: Some(5),
        ..Meet::new(sender(), receiver(), Say::Offer)
    }
}

pub fn accept() -> Meet {
    let stream = RequestId::new(&client(), &upstream(), 0x41a7_0000_0000_0009);
    Meet { stream: Some(stream), ..Meet::new(receiver(), sender(), Say::Accept) }
}

pub fn over() -> Meet {
    Meet { bytes: Some(5), whole: true, ..Meet::new(receiver(), sender(), Say::Over) }
}

pub fn news() -> News {
    let (session, state, role) = (session_id(), SessionState::Used, Some(Role::Host));
    News { v: VERSION, session, state, revision: 7, role, receiver: Some(receiver()) }
}

pub fn session_id() -> SessionId {
    "snfRhUdWQo6junaRzcIeUA".parse().unwrap()
}

/// Two requests in sessions.
pub fn receiver() -> RequestId {
    RequestId::new(&client(), &upstream(), 0x23b5_b450_0000_0004)
}

pub fn sender() -> RequestId {
    RequestId::new(&client(), &upstream(), 0x8bd2_5c14_0000_0005)
}

pub fn purged() -> Purged {
    Purged { v: VERSION, client_id: client(), purged: 12 }
}

pub fn cache_stats() -> CacheStats {
    CacheStats {
        v: VERSION,
        client_id: client(),
        entries: 2,
        bytes: 3000,
        limit: 256_000_000,
        hits: 9,
        misses: 3,
        stale: 1,
        revalidated: 1,
        collapsed: 2,
        bypassed: 4,
        evictions: 0,
    }
}

pub fn subjects() -> Subjects {
    Subjects::new("relay".parse().unwrap())
}

pub fn client() -> ProcessId {
    "client.oCDzi4CCel1n".parse().unwrap()
}

pub fn agent() -> ProcessId {
    "agent.GFSuTE5gD7rq".parse().unwrap()
}

pub fn broker() -> ProcessId {
    "broker.KLxOGdcI66eu".parse().unwrap()
}

pub fn hello() -> Name {
    "hello".parse().unwrap()
}

pub fn at_client() -> RequestId {
    RequestId::new(&client(), &hello(), 0x23b5_b450_0000_0002)
}

pub fn at_agent() -> RequestId {
    RequestId::new(&agent(), &hello(), 0x8bd2_5c14_0000_0002)
}

pub fn at_broker() -> RequestId {
    RequestId::new(&broker(), &hello(), 0x819c_0c43_0000_0001)
}

pub fn pairs(pairs: &[(&'static str, &[u8])]) -> Headers {
    let mut headers = Headers::new();
    for (name, value) in pairs {
        headers.append(HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap());
    }
    headers
}

/// Reads `bytes` as the message `name`: what was read, or why it was refused.
pub fn read_as(name: &str, bytes: &[u8]) -> Result<String, String> {
    fn shown<M: std::fmt::Debug>(read: Result<M, codec::Malformed>) -> Result<String, String> {
        read.map(|message| format!("{message:?}")).map_err(|why| why.to_string())
    }
    match name {
        "request" | "request after a wake" | "streamed request" => {
            shown(codec::decode_request(&Bytes::copy_from_slice(bytes)))
        }
        "reply" | "error" | "switched" => shown(codec::decode_reply(&Bytes::copy_from_slice(bytes))),
        "taken" | "interim" | "held" => shown(codec::decode::<Ack>(bytes)),
        "frame" | "last frame" | "credit" | "position" | "done" | "stop" | "cut" | "cancel" => {
            shown(StreamMessage::decode(&Bytes::copy_from_slice(bytes)))
        }
        "hold" => shown(codec::decode::<Hold>(bytes)),
        "lease" => shown(codec::decode::<Lease>(bytes)),
        "lost" => shown(codec::decode::<Lost>(bytes)),
        "here" | "egress here" => shown(codec::decode::<Here>(bytes)),
        "claim" => shown(codec::decode::<Claim>(bytes)),
        "refused" => shown(codec::decode::<Refused>(bytes)),
        "purge" => shown(codec::decode::<Purge>(bytes)),
        "purged" => shown(codec::decode::<Purged>(bytes)),
        "cache stats" => shown(codec::decode::<CacheStats>(bytes)),
        "job" => shown(codec::decode::<Job>(bytes)),
        "job key" => shown(codec::decode::<JobKey>(bytes)),
        "session" => shown(codec::decode::<Session>(bytes)),
        "offer" | "accept" | "over" => shown(codec::decode::<Meet>(bytes)),
        "news" => shown(codec::decode::<News>(bytes)),
        other => panic!("there is no message {other}"),
    }
}

/// The same message with one more field at its end.
pub fn with_field(message: &[u8], name: &str, value: &[u8]) -> Vec<u8> {
    assert!((0x80..0x8f).contains(&message[0]), "a map of less than 15 fields");
    let mut longer = message.to_vec();
    longer[0] += 1;
    longer.extend(rmp_serde::to_vec(name).unwrap());
    longer.extend_from_slice(value);
    longer
}
