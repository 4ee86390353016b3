//! What a peer may send: anything. It is read, or it is an error; it is never a panic and never costs
//! more memory than it brings.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode};
use proptest::prelude::*;
use relay::{
    proto::flow::{Flow, Heard},
    wire::{
        Address, End, Headers, Kind, Name, ProcessId, Reply, Request, RequestId, StreamMessage, Word, batch,
        codec, message::VERSION, show,
    },
};

use super::messages::*;

#[test]
fn a_length_that_is_a_lie_costs_no_memory() {
    let before = most_memory();
    let huge: [&[u8]; 6] = [
        b"\xdd\xff\xff\xff\xff",     // an array of 4294967295
        b"\xdf\xff\xff\xff\xff",     // a map
        b"\xc6\xff\xff\xff\xff",     // bytes
        b"\xdb\xff\xff\xff\xff",     // a text
        b"\xc9\xff\xff\xff\xff\x01", // an extension
        b"\xdd\xff\xff\xff\xff\xdd\xff\xff\xff\xff\xdd\xff\xff\xff\xff",
    ];
    for lie in huge {
        read_as_everything(lie);
        read_as_everything(&[lie, b"\xa1v\x01"].concat());
        for (_, bytes) in messages() {
            read_as_everything(&with_field(&bytes, "from_the_future", lie));
            for field in ["headers", "body", "holds", "error", "url", "client_id", "client_req_id", "v"] {
                read_as_everything(&with_value(&bytes, field, lie));
            }
        }
    }
    let grown = most_memory() - before;
    assert!(grown < 1 << 30, "{grown} bytes");
}

#[test]
fn depth_without_end_is_an_error() {
    // A process reads on its main thread, whose stack is larger than a test's.
    let reader = std::thread::Builder::new().stack_size(8 * 1024 * 1024).spawn(|| {
        for nest in [b"\x91".as_slice(), b"\x81\xa1a"] {
            let deep = nest.repeat(100_000);
            read_as_everything(&deep);
            for (name, bytes) in messages() {
                assert!(read_as(name, &with_field(&bytes, "from_the_future", &deep)).is_err(), "{name}");
            }
        }
    });
    reader.unwrap().join().unwrap();
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        read_as_everything(&bytes);
    }

    #[test]
    fn bytes_that_begin_like_a_message_are_read_without_a_panic(
        fields in 0u8..16,
        bytes in prop::collection::vec(any::<u8>(), 0..256),
    ) {
        read_as_everything(&[&[0x80 | fields, 0xa1, b'v', VERSION], bytes.as_slice()].concat());
    }

    #[test]
    fn a_message_that_is_cut_is_an_error(which in 0..messages().len(), cut in any::<prop::sample::Index>()) {
        let (name, bytes) = messages().swap_remove(which);
        let cut = &bytes[..cut.index(bytes.len())];
        prop_assert!(read_as(name, cut).is_err());
        read_as_everything(cut);
    }

    #[test]
    fn a_message_with_flipped_bits_is_read_without_a_panic(
        which in 0..messages().len(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), 0u8..8), 1..8),
    ) {
        let mut bytes = messages().swap_remove(which).1.to_vec();
        for (at, bit) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
        }
        read_as_everything(&bytes);
    }

    #[test]
    fn a_request_is_read_as_it_was_written(request in any_request()) {
        prop_assert_eq!(codec::decode_request(&codec::encode(&request)).unwrap(), request);
    }

    #[test]
    fn a_response_is_read_as_it_was_written(
        status in 200u16..1000,
        headers in any_headers(),
        body in any_body(),
    ) {
        let status = StatusCode::from_u16(status).unwrap();
        let reply = Reply::response(at_client(), status, headers, body);
        prop_assert_eq!(codec::decode_reply(&codec::encode(&reply)).unwrap(), reply);
    }

    #[test]
    fn what_is_said_of_a_stream_is_read_as_it_was_said(word in any_word()) {
        let said = about_the_agents(word);
        let bytes = said.encode();
        prop_assert_eq!(StreamMessage::decode(&bytes).unwrap(), said);
        for cut in 0..bytes.len().min(64) {
            prop_assert!(StreamMessage::decode(&bytes.slice(..cut)).is_err());
        }
    }

    #[test]
    fn no_words_let_more_through_than_was_granted(
        words in prop::collection::vec((any_word(), 0u64..30), 0..60),
        granted in 0u64..5000,
    ) {
        let mut now = Instant::now();
        let mut flow = Flow::new(now);
        flow.open_receiving(granted);
        flow.open_sending(granted);
        let (mut received, mut ended) = (0, false);
        for (word, pause) in words {
            now += Duration::from_secs(pause);
            flow.tick(u64::MAX, now);
            match flow.hear(word, now) {
                Heard::Data(data) => {
                    prop_assert!(!ended);
                    received += data.len() as u64;
                }
                Heard::Last(data, _) => {
                    prop_assert!(!ended);
                    received += data.len() as u64;
                    ended = true;
                }
                // Whoever hears these ends the stream.
                Heard::Broken(_) | Heard::Cut(_) | Heard::Cancelled => break,
                Heard::Nothing | Heard::Room | Heard::Delivered | Heard::Stopped | Heard::Again(_) => {}
            }
            prop_assert!(received <= granted);
            if flow.is_sending() && flow.room() > 0 {
                flow.send(Bytes::from_static(b"x"), now);
            }
        }
    }

    #[test]
    fn any_subject_is_read_without_a_panic(subject in any_subject()) {
        let relay = subjects();
        for own in [client(), agent(), broker()] {
            relay.address(&own, &subject);
        }
        if let Some((upstream, process)) = relay.announced(&subject) {
            let end = format!("{upstream}.{process}");
            prop_assert!(subject.ends_with(&end));
        }
        for kind in Kind::ALL {
            if let Some(id) = relay.id_of(kind, &subject) {
                prop_assert_eq!(relay.of_request(kind, &id), subject.as_str());
                prop_assert!(relay.is_about(&subject, &id));
            }
            relay.upstream_of(kind, &subject);
        }
        for at in 0..3 {
            relay.nth_id_of(Kind::Ack, &subject, at);
        }
        relay.kind(&subject);
    }

    #[test]
    fn an_id_has_one_spelling(text in any_subject()) {
        if let Ok(id) = text.parse::<RequestId>() {
            prop_assert_eq!(id.as_str(), &text);
            let process = id.process().parse::<ProcessId>().unwrap();
            let upstream = id.upstream().parse::<Name>().unwrap();
            prop_assert_eq!(RequestId::new(&process, &upstream, id.number()), id);
        }
        if let Ok(process) = text.parse::<ProcessId>() {
            prop_assert_eq!(format!("{}.{}", process.realm(), process.process()), text);
        }
    }

    #[test]
    fn an_id_is_found_again_in_its_subject(realm in NAME, process in NAME, upstream in NAME, number in any::<u64>()) {
        let own: ProcessId = format!("{realm}.{process}").parse().unwrap();
        let id = RequestId::new(&own, &upstream.parse().unwrap(), number);
        let subject = subjects().of_request(Kind::Resp, &id);
        let address = Address::Request { kind: Kind::Resp, upstream: &upstream, number };
        prop_assert_eq!(subjects().address(&own, &subject), Some(address));
        prop_assert_eq!(subjects().id_of(Kind::Resp, &subject), Some(id));
    }
}

prop_compose! {
    fn any_request()(
        method in "[A-Z!#$%&'*+.^_`|~0-9-]{1,20}",
        url in prop_oneof![".{0,200}".prop_map(String::into_bytes), prop::collection::vec(any::<u8>(), 0..200)],
        headers in any_headers(),
        body in any_body(),
        ttl in any::<u64>(),
        broker_req_ttl in any::<Option<u64>>(),
    ) -> Request {
        Request {
            client_req_ttl: ttl,
            method: Method::from_bytes(method.as_bytes()).unwrap(),
            url: Bytes::from(url).into(),
            headers,
            body,
            broker_req_ttl,
            ..request()
        }
    }
}

/// Frames mostly: they are what carries something.
fn any_word() -> impl Strategy<Value = Word> {
    let number = prop_oneof![0u64..8, any::<u64>(), Just(u64::MAX)];
    let end = prop::option::weighted(0.2, (number.clone(), any_headers()));
    let frame =
        (prop_oneof![4 => 0u64..8, 1 => any::<u64>()], any_body(), end).prop_map(|(seq, data, end)| {
            Word::Frame {
                seq,
                data,
                end: end.map(|(length, trailers)| End { length, trailers: trailers.into() }),
            }
        });
    prop_oneof![
        6 => frame,
        1 => number.clone().prop_map(|bytes| Word::Credit { bytes }),
        1 => (number.clone(), number).prop_map(|(frames, credit)| Word::Position { frames, credit }),
        1 => prop::sample::select(vec![Word::Done, Word::Stop, Word::Cancel, cut().word]),
    ]
}

/// Short ones, which are copied out of their message, and long ones, which are slices of it.
fn any_body() -> impl Strategy<Value = Bytes> {
    let bytes = prop::collection::vec(any::<u8>(), 0..200);
    (bytes, 1..200usize).prop_map(|(bytes, times)| bytes.repeat(times).into())
}

fn any_headers() -> impl Strategy<Value = Headers> {
    let value = prop::collection::vec((0x20u8..=0xff).prop_filter("DEL", |byte| *byte != 0x7f), 0..60);
    let pairs = prop::collection::vec(("[a-z0-9!#$%&'*+.^_`|~-]{1,30}", value), 0..30);
    pairs.prop_map(|pairs| {
        let mut headers = Headers::new();
        for (name, value) in pairs {
            headers.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_bytes(&value).unwrap(),
            );
        }
        headers
    })
}

/// Anything at all, and what is almost a subject of ours.
fn any_subject() -> impl Strategy<Value = String> {
    let token = prop_oneof![
        Just("relay".to_owned()),
        (0..Kind::ALL.len()).prop_map(|kind| Kind::ALL[kind].as_str().to_owned()),
        Just("agent".to_owned()),
        Just("GFSuTE5gD7rq".to_owned()),
        Just("hello".to_owned()),
        Just("renew".to_owned()),
        Just("lost".to_owned()),
        Just("ready".to_owned()),
        any::<u64>().prop_map(|number| format!("{number:x}")),
        "[*>. é0-9A-Za-z_-]{0,4}",
    ];
    let ours = prop::collection::vec(token, 0..9).prop_map(|tokens| tokens.join("."));
    prop_oneof![ours.clone(), ours.prop_map(|rest| format!("relay.{rest}")), ".{0,80}"]
}

const NAME: &str = "[A-Za-z0-9_-]{1,64}";

fn read_as_everything(bytes: &[u8]) {
    for (name, _) in messages() {
        // Right or wrong, an answer is all that is asked for.
        read_as(name, bytes).ok();
    }
    let payload = Bytes::copy_from_slice(bytes);
    show::to_lines(&payload, Some(&relay::wire::headers::Credentials::default()));
    show::to_lines(&payload, None);
    batch::each(&payload, |_, message| assert!(message.len() <= payload.len())).ok();
}

/// The same message up to the field `name`, whose value is `value`; then nothing.
fn with_value(message: &[u8], name: &str, value: &[u8]) -> Vec<u8> {
    let name = rmp_serde::to_vec(name).unwrap();
    let at = message
        .windows(name.len())
        .position(|window| window == name)
        .map_or(message.len(), |at| at + name.len());
    [&message[..at], value].concat()
}

/// The most address space this process has had, in bytes.
fn most_memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmPeak:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap_or(0) * 1024
}
