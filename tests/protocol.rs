//! The bytes of every message and the text of every subject, as `docs/PROTOCOL.md` tells them to people
//! who write an agent in another language; and that nothing a peer sends can do harm while it is read.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use relay::wire::{
    Ack, Address, CacheStats, CacheVerb, Claim, Here, Hold, Job, JobId, Kind, Lease, Lost, Meet, News, Purge,
    Purged, Refused, Reply, Session, StreamMessage, Subjects, Word, allow::MAX_ALLOW, batch, codec,
    job::JobKey, show, subjects,
};

#[path = "protocol/hostile.rs"]
mod hostile;
#[path = "protocol/messages.rs"]
mod messages;

use messages::*;

/// The reference is the golden file: a dump there is what this program writes, byte for byte.
#[test]
fn the_bytes_of_every_message_are_those_of_the_reference() {
    for (name, bytes) in messages() {
        assert_eq!(hex(&bytes), dump(name), "{name}");
    }
    assert_eq!(hex(&batch_of_replies()), dump("batch"));
}

#[test]
fn the_dumps_of_the_reference_read_as_what_they_say() {
    let read = |name: &str| Bytes::from(unhex(&dump(name)));
    assert_eq!(codec::decode_request(&read("request")).unwrap(), request());
    assert_eq!(codec::decode_request(&read("request after a wake")).unwrap(), request_after_a_wake());
    assert_eq!(codec::decode_reply(&read("reply")).unwrap(), reply());
    assert_eq!(codec::decode_reply(&read("error")).unwrap(), error());
    assert_eq!(codec::decode::<Ack>(&read("taken")).unwrap(), taken());
    assert_eq!(codec::decode::<Ack>(&read("interim")).unwrap(), interim());
    assert_eq!(codec::decode::<Ack>(&read("held")).unwrap(), held());
    assert_eq!(codec::decode_request(&read("streamed request")).unwrap(), streamed_request());
    assert_eq!(codec::decode_reply(&read("switched")).unwrap(), switched());
    let mut replies = Vec::new();
    batch::each(&read("batch"), |_, message| replies.push(codec::decode_reply(&message).unwrap())).unwrap();
    assert_eq!(replies, [reply(), another_reply()]);
    let said = |name: &str| StreamMessage::decode(&read(name)).unwrap();
    assert_eq!(said("frame"), frame());
    assert_eq!(said("last frame"), last_frame());
    assert_eq!(said("credit"), credit());
    assert_eq!(said("position"), position());
    assert_eq!(said("done"), about_the_agents(Word::Done));
    assert_eq!(said("stop"), about_the_agents(Word::Stop));
    assert_eq!(said("cut"), cut());
    assert_eq!(said("cancel"), about_the_agents(Word::Cancel));
    assert_eq!(codec::decode::<Hold>(&read("hold")).unwrap(), hold());
    assert_eq!(codec::decode::<Lease>(&read("lease")).unwrap(), lease());
    assert_eq!(codec::decode::<Lost>(&read("lost")).unwrap(), lost());
    assert_eq!(codec::decode::<Here>(&read("here")).unwrap(), here());
    assert_eq!(codec::decode::<Here>(&read("egress here")).unwrap(), egress_here());
    assert_eq!(codec::decode::<Claim>(&read("claim")).unwrap(), claim());
    assert_eq!(codec::decode::<Refused>(&read("refused")).unwrap(), refused());
    assert_eq!(codec::decode::<Purge>(&read("purge")).unwrap(), purge());
    assert_eq!(codec::decode::<Purged>(&read("purged")).unwrap(), purged());
    assert_eq!(codec::decode::<CacheStats>(&read("cache stats")).unwrap(), cache_stats());
    assert_eq!(codec::decode::<Job>(&read("job")).unwrap(), job());
    assert_eq!(codec::decode::<JobKey>(&read("job key")).unwrap(), job_key());
    assert_eq!(codec::decode::<Session>(&read("session")).unwrap(), session());
    assert_eq!(codec::decode::<Meet>(&read("offer")).unwrap(), offer());
    assert_eq!(codec::decode::<Meet>(&read("accept")).unwrap(), accept());
    assert_eq!(codec::decode::<Meet>(&read("over")).unwrap(), over());
    assert_eq!(codec::decode::<News>(&read("news")).unwrap(), news());
}

#[test]
fn the_text_of_every_subject() {
    let relay = subjects();
    assert_eq!(relay.req(&hello()), "relay.req.hello");
    assert_eq!(relay.req_variant(&hello(), &"canary".parse().unwrap()), "relay.req.hello.canary");
    assert_eq!(relay.hold(&hello()), "relay.hold.hello");
    assert_eq!(relay.every_hold(), "relay.hold.*");
    let of_client = |kind| relay.of_request(kind, &at_client());
    assert_eq!(of_client(Kind::Ack), "relay.ack.client.oCDzi4CCel1n.hello.23b5b45000000002");
    assert_eq!(of_client(Kind::Resp), "relay.resp.client.oCDzi4CCel1n.hello.23b5b45000000002");
    assert_eq!(of_client(Kind::Hold), "relay.hold.client.oCDzi4CCel1n.hello.23b5b45000000002");
    let of_agent = |kind| relay.of_request(kind, &at_agent());
    assert_eq!(of_agent(Kind::Body), "relay.body.agent.GFSuTE5gD7rq.hello.8bd25c1400000002");
    assert_eq!(of_agent(Kind::Resp), "relay.resp.agent.GFSuTE5gD7rq.hello.8bd25c1400000002");
    let of_broker = relay.of_request(Kind::Lease, &at_broker());
    assert_eq!(of_broker, "relay.lease.broker.KLxOGdcI66eu.hello.819c0c4300000001");
    assert_eq!(relay.renew(&broker(), &hello()), "relay.lease.broker.KLxOGdcI66eu.hello.renew");
    let lost = relay.lost(&client(), &broker());
    assert_eq!(lost, "relay.lease.client.oCDzi4CCel1n.broker.KLxOGdcI66eu.lost");
    assert_eq!(relay.probe(&agent(), &hello()), "relay.probe.agent.GFSuTE5gD7rq.hello");
    let answer = relay.probe_reply(&broker(), &hello(), &agent());
    assert_eq!(answer, "relay.probe.broker.KLxOGdcI66eu.hello.agent.GFSuTE5gD7rq");
    assert_eq!(relay.here(&hello(), &agent()), "relay.here.hello.agent.GFSuTE5gD7rq");
    assert_eq!(relay.gone(&hello(), &agent()), "relay.gone.hello.agent.GFSuTE5gD7rq");
    assert_eq!(relay.every(Kind::Here), "relay.here.>");
    assert_eq!(relay.every(Kind::Gone), "relay.gone.>");
    let route = relay.route(&hello(), &agent(), &route());
    assert_eq!(route, "relay.route.hello.agent.GFSuTE5gD7rq.com.example.shop./.v1%2E2./");
    assert_eq!(relay.claimant(&route), Some((hello(), agent())));
    assert_eq!(relay.every(Kind::Route), "relay.route.>");
    assert_eq!(relay.every_of(Kind::Route, &hello()), "relay.route.hello.>");
    assert_eq!(relay.claim(&agent(), &hello()), "relay.claim.agent.GFSuTE5gD7rq.hello");
    assert_eq!(relay.who(), "relay.who");
    assert_eq!(relay.ready(&agent()), "relay.who.agent.GFSuTE5gD7rq.ready");
    assert_eq!(relay.inbox(&agent()), "relay.*.agent.GFSuTE5gD7rq.>");
    assert_eq!(relay.every(Kind::Cache), "relay.cache.>");
    let request = JobId { upstream: Some(hello()), uuid: chain().uuid };
    for (id, job, dead) in [
        (
            chain(),
            "chain.0191e3a0-7c1e-4b61-9d5e-0f6f4a3b2c1d",
            "dead.chain.0191e3a0-7c1e-4b61-9d5e-0f6f4a3b2c1d",
        ),
        (
            request,
            "job.hello.0191e3a0-7c1e-4b61-9d5e-0f6f4a3b2c1d",
            "dead.job.hello.0191e3a0-7c1e-4b61-9d5e-0f6f4a3b2c1d",
        ),
    ] {
        assert_eq!((relay.job(&id), relay.dead(&id)), (format!("relay.{job}"), format!("relay.{dead}")));
        assert_eq!(relay.job_of(&relay.job(&id)), Some(id.clone()));
        assert_eq!(relay.job_of(&relay.dead(&id)), Some(id));
    }
    assert_eq!(relay.key(&hello(), "ab12"), "relay.key.hello.ab12");
    assert_eq!(relay.every_job(), ["relay.job.*.*", "relay.chain.*"]);
    assert_eq!(relay.every_key(), "relay.key.*.*");
    assert_eq!(relay.session(&session_id()), "relay.session.snfRhUdWQo6junaRzcIeUA");
    let at_receiver = relay.of_request(Kind::Meet, &receiver());
    assert_eq!(at_receiver, "relay.meet.client.oCDzi4CCel1n._sessions.23b5b45000000004");
    assert_eq!(relay.sessions_bucket(), "relay-sessions");
    assert_eq!(subjects::record("relay-sessions", "x"), "$KV.relay-sessions.x");
    for (verb, subject) in [(CacheVerb::Purge, "relay.cache.purge"), (CacheVerb::Stats, "relay.cache.stats")]
    {
        assert_eq!(relay.cache(verb), subject);
        assert_eq!(relay.cache_verb(subject), Some(verb));
    }
}

#[test]
fn every_private_subject_says_what_it_is_about() {
    let relay = subjects();
    let at_agent = at_agent();
    let about = |kind| Address::Request { kind, upstream: "hello", number: at_agent.number() };
    for kind in [Kind::Ack, Kind::Resp, Kind::Body, Kind::Hold, Kind::Lease, Kind::Meet] {
        let subject = relay.of_request(kind, &at_agent);
        assert_eq!(relay.address(&agent(), &subject), Some(about(kind)));
        assert_eq!(relay.id_of(kind, &subject).as_ref(), Some(&at_agent));
        assert!(relay.is_about(&subject, &at_agent));
        assert!(!relay.is_about(&subject, &at_broker()));
        assert_eq!(relay.address(&client(), &subject), None, "it is another process's");
    }
    let at_broker =
        |subject: String, expected| assert_eq!(relay.address(&broker(), &subject), Some(expected));
    at_broker(relay.renew(&broker(), &hello()), Address::Renewal);
    at_broker(
        relay.probe_reply(&broker(), &hello(), &agent()),
        Address::Probe { upstream: "hello", agent: agent() },
    );
    at_broker(relay.ready(&broker()), Address::Ready);
    let lost = relay.lost(&client(), &broker());
    assert_eq!(relay.address(&client(), &lost), Some(Address::Lost { broker: broker() }));
    let probed = relay.probe(&agent(), &hello());
    assert_eq!(relay.address(&agent(), &probed), Some(Address::Probed { upstream: "hello" }));
    let claimed = relay.claim(&agent(), &hello());
    assert_eq!(relay.address(&agent(), &claimed), Some(Address::Refused { upstream: "hello" }));
    assert_eq!(relay.announced("relay.here.hello.agent.GFSuTE5gD7rq"), Some((hello(), agent())));
    assert_eq!(relay.announced("relay.gone.hello.agent.GFSuTE5gD7rq"), Some((hello(), agent())));
}

#[test]
fn the_reply_subject_of_a_batch_is_about_all_of_its_requests() {
    let relay = subjects();
    let mut subject = relay.of_request(Kind::Ack, &at_client());
    subjects::also(&mut subject, &relay.of_request(Kind::Ack, &another_reply().client_req_id));
    assert_eq!(subject, "relay.ack.client.oCDzi4CCel1n.hello.23b5b45000000002-57c1ab8100000003");
    let about = relay.address(&client(), &subject);
    let Some(Address::Batch { kind: Kind::Ack, upstream: "hello", numbers }) = about else {
        panic!("{about:?}")
    };
    let numbers: Vec<_> = subjects::numbers(numbers).collect();
    assert_eq!(numbers, [at_client().number(), another_reply().client_req_id.number()]);
    for (at, id) in [(0, Some(at_client())), (1, Some(another_reply().client_req_id)), (2, None)] {
        assert_eq!(relay.nth_id_of(Kind::Ack, &subject, at), id);
    }
    assert_eq!(relay.address(&client(), &subject.replace(".ack.", ".body.")), None);
}

#[test]
fn another_prefix_is_another_relay() {
    let other = Subjects::new("staging".parse().unwrap());
    assert_eq!(other.req(&hello()), "staging.req.hello");
    assert_eq!(other.kind("relay.req.hello"), None);
    assert_eq!(other.address(&agent(), "relay.probe.agent.GFSuTE5gD7rq.hello"), None);
}

#[test]
fn a_field_nobody_knows_is_ignored() {
    // nil, a number, a text, bytes, and maps and arrays in each other.
    let values: [&[u8]; 5] = [
        b"\xc0",
        b"\xcd\x01\x00",
        b"\xa3new",
        b"\xc4\x02\x00\xff",
        b"\x82\x01\x92\xc2\xcb\0\0\0\0\0\0\0\0\xa1x\x90",
    ];
    for (name, bytes) in messages() {
        for value in values {
            let longer = with_field(&bytes, "from_the_future", value);
            assert_eq!(read_as(name, &longer), read_as(name, &bytes), "{name} {value:?}");
        }
    }
}

#[test]
fn fields_may_come_in_any_order() {
    let ordered = show::to_json(&codec::encode(&taken()), None).unwrap();
    let mut fields: Vec<(String, serde_json::Value)> =
        serde_json::from_str::<serde_json::Map<_, _>>(&ordered).unwrap().into_iter().collect();
    for _ in 0..fields.len() {
        fields.rotate_left(1);
        let mut bytes = vec![0x80 + u8::try_from(fields.len()).unwrap()];
        for (name, value) in &fields {
            bytes.extend(rmp_serde::to_vec(name).unwrap());
            bytes.extend(rmp_serde::to_vec(value).unwrap());
        }
        assert_eq!(codec::decode::<Ack>(&bytes).unwrap(), taken(), "first is {}", fields[0].0);
    }
}

#[test]
fn another_version_is_refused_by_name() {
    for (name, bytes) in messages() {
        let mut newer = bytes.to_vec();
        // A map's header, then "v" and its number.
        assert_eq!(&newer[1..4], b"\xa1v\x01", "{name}");
        newer[3] = 2;
        let why = read_as(name, &newer).unwrap_err();
        assert_eq!(why, "protocol version 2, this program speaks 1", "{name}");
    }
}

#[test]
fn a_message_without_a_version_is_refused() {
    for (name, bytes) in messages() {
        let mut without = vec![bytes[0] - 1];
        without.extend_from_slice(&bytes[4..]);
        assert!(read_as(name, &without).unwrap_err().contains("missing field `v`"), "{name}");
    }
}

#[test]
fn a_reply_is_a_response_or_an_error_and_a_final_one() {
    let refused = |reply: &Reply| codec::decode_reply(&codec::encode(reply)).unwrap_err().to_string();
    let both = Reply { error: error().error, ..reply() };
    assert_eq!(refused(&both), "a reply has either a status_code or an error");
    let neither = Reply { status_code: None, ..reply() };
    assert_eq!(refused(&neither), "a reply has either a status_code or an error");
    for status in [100, 101, 199] {
        let informational = Reply { status_code: StatusCode::from_u16(status).ok(), ..reply() };
        assert!(refused(&informational).contains("not a final status"), "{status}");
    }
}

#[test]
fn a_header_cannot_split_a_message() {
    let bytes = codec::encode(&request());
    for (good, bad) in [
        ("1.1 relay", "1.1\r\nelay"),
        ("1.1 relay", "1.1\0relay"),
        ("x-name", "x:name"),
        ("x-name", "x name"),
    ] {
        let hostile = replaced(&bytes, good, bad);
        assert!(codec::decode_request(&hostile).is_err(), "{bad:?}");
    }
    let shouted = codec::decode_request(&replaced(&bytes, "x-name", "X-NAME")).unwrap();
    assert_eq!(shouted, request(), "names are read in lower case");
}

#[test]
fn an_id_that_is_no_id_is_refused() {
    let bytes = codec::encode(&taken());
    for (good, bad) in [
        ("agent.GFSuTE5gD7rq", "agent.GFSuTE5gD7r>"),
        ("agent.GFSuTE5gD7rq", "agentxGFSuTE5gD7rq"),
        ("hello", "*ello"),
    ] {
        assert!(codec::decode::<Ack>(&replaced(&bytes, good, bad)).is_err(), "{bad}");
    }
}

#[test]
fn more_headers_than_one_message_may_have_are_refused() {
    let mut many = request();
    for n in many.headers.len()..codec::MAX_HEADERS {
        many.headers.append(HeaderName::from_static("x-many"), HeaderValue::from(n));
    }
    assert_eq!(codec::decode_request(&codec::encode(&many)).unwrap(), many);
    many.headers.append(HeaderName::from_static("x-many"), HeaderValue::from_static("one more"));
    let why = codec::decode_request(&codec::encode(&many)).unwrap_err().to_string();
    assert!(why.contains("over 1024 headers"), "{why}");
}

#[test]
fn more_hosts_to_call_than_one_agent_may_have_are_refused() {
    let of = |many: usize| {
        let allow = (0..many).map(|n| format!("https://{n}.partner.com").parse().unwrap()).collect();
        Here { allow, ..here() }
    };
    assert_eq!(codec::decode::<Here>(&codec::encode(&of(MAX_ALLOW))).unwrap(), of(MAX_ALLOW));
    let why = codec::decode::<Here>(&codec::encode(&of(MAX_ALLOW + 1))).unwrap_err().to_string();
    assert!(why.contains("at most 64 hosts to call"), "{why}");
}

#[test]
fn a_host_to_call_that_is_none_is_refused() {
    for (good, bad) in [("https://*.", "https://*@"), ("192.0.2.7", "192.0,2.7"), (".com", "#com")] {
        let hostile = replaced(&codec::encode(&egress_here()), good, bad);
        let why = codec::decode::<Here>(&hostile).unwrap_err().to_string();
        assert!(why.contains("not a host to call"), "{bad}: {why}");
    }
}

fn replaced(message: &[u8], old: &str, new: &str) -> Bytes {
    assert_eq!(old.len(), new.len());
    let at = message.windows(old.len()).position(|window| window == old.as_bytes()).unwrap();
    [&message[..at], new.as_bytes(), &message[at + old.len()..]].concat().into()
}

/// The hexadecimal digits of the dump called `name` in the reference: what stands left of `#`.
fn dump(name: &str) -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/PROTOCOL.md");
    let reference = std::fs::read_to_string(path).unwrap();
    let start = format!("```hex {name}\n");
    let (_, rest) =
        reference.split_once(&start).unwrap_or_else(|| panic!("the reference has no dump '{name}'"));
    let (dump, _) = rest.split_once("```").unwrap();
    let digits = dump.lines().flat_map(|line| line.split('#').next().unwrap_or_default().chars());
    digits.filter(|c| !c.is_whitespace()).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(digits: &str) -> Vec<u8> {
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}
