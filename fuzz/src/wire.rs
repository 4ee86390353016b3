//! What crosses NATS.

use bytes::Bytes;
use relay::wire::{
    Ack, CacheStats, Claim, Here, Hold, Job, JobId, Kind, Lease, Lost, Meet, Name, News, ProcessId, Purge,
    Purged, Refused, RequestId, Session, SessionId, StreamMessage, batch, codec, job::JobKey, show, subjects,
};

use crate::messages;

/// Every reader of messages. What is read and written again reads the same.
pub fn messages(data: &[u8]) {
    let bytes = Bytes::copy_from_slice(data);
    if let Ok(request) = codec::decode_request(&bytes) {
        assert_eq!(codec::decode_request(&codec::encode(&request)).ok().as_ref(), Some(&request));
    }
    if let Ok(reply) = codec::decode_reply(&bytes) {
        assert_eq!(codec::decode_reply(&codec::encode(&reply)).ok().as_ref(), Some(&reply));
    }
    if let Ok(message) = StreamMessage::decode(&bytes) {
        assert_eq!(StreamMessage::decode(&message.encode()).ok().as_ref(), Some(&message));
    }
    macro_rules! read {
        ($($message:ty),+) => {
            $(if let Ok(message) = codec::decode::<$message>(data) {
                let again = codec::encode(&message);
                assert_eq!(codec::decode::<$message>(&again).map(|m| format!("{m:?}")).ok(), Some(format!("{message:?}")));
            })+
        };
    }
    read!(
        Ack, Hold, Lease, Lost, Here, Claim, Refused, Purge, Purged, CacheStats, Job, JobKey, Session, Meet,
        News
    );
}

/// A list of messages.
pub fn batch(data: &[u8]) {
    let (mut count, mut length) = (0, 0);
    let read = batch::each(&Bytes::copy_from_slice(data), |number, message| {
        assert_eq!(number, count, "they come in order");
        count += 1;
        length += message.len();
    });
    assert!(read.is_err() || length <= data.len(), "it is made of what came");
}

/// `relay decode`.
pub fn decode(data: &[u8]) {
    show::to_json(data, None);
    show::to_lines(&Bytes::copy_from_slice(data), None);
}

/// Subjects, and the ids in them.
pub fn subjects(data: &[u8]) {
    let Some(text) = crate::text(data) else { return };
    let relay = messages::subjects();
    relay.kind(text);
    for own in [messages::agent(), messages::client(), messages::broker()] {
        relay.address(&own, text);
    }
    for kind in [Kind::Ack, Kind::Resp, Kind::Body, Kind::Hold, Kind::Lease, Kind::Meet] {
        relay.id_of(kind, text);
        relay.nth_id_of(kind, text, 1);
        relay.upstream_of(kind, text);
    }
    relay.announced(text);
    relay.claimant(text);
    relay.cache_verb(text);
    relay.job_of(text);
    relay.is_about(text, &messages::at_client());
    relay.is_beside(text, &messages::at_client());
    subjects::numbers(text).for_each(drop);
    macro_rules! same {
        ($($id:ty),+) => {
            $(if let Ok(id) = text.parse::<$id>() {
                assert_eq!(id.to_string(), text, "an id is its own text");
            })+
        };
    }
    same!(Name, ProcessId, RequestId, SessionId);
    text.parse::<JobId>().ok();
}

/// One of each message.
pub fn corpus() -> Vec<Vec<u8>> {
    messages::messages().into_iter().map(|(_, bytes)| bytes.to_vec()).collect()
}

/// Batches, and what is no batch.
pub fn batches() -> Vec<Vec<u8>> {
    let mut all = corpus();
    all.push(messages::batch_of_replies().to_vec());
    all
}

/// Subjects of every kind.
pub fn subject_texts() -> Vec<Vec<u8>> {
    let relay = messages::subjects();
    let id = messages::at_client();
    let mut also = relay.of_request(Kind::Ack, &id);
    subjects::also(&mut also, &relay.of_request(Kind::Ack, &messages::another_reply().client_req_id));
    let texts = [
        relay.req(&messages::hello()),
        relay.of_request(Kind::Body, &messages::at_agent()),
        relay.of_request(Kind::Meet, &messages::receiver()),
        relay.probe_reply(&messages::broker(), &messages::hello(), &messages::agent()),
        relay.lost(&messages::client(), &messages::broker()),
        relay.route(&messages::hello(), &messages::agent(), &messages::route()),
        relay.here(&messages::hello(), &messages::agent()),
        relay.job(&messages::chain()),
        relay.ready(&messages::agent()),
        id.to_string(),
        messages::chain().to_string(),
        also,
    ];
    texts.into_iter().map(String::into_bytes).collect()
}
