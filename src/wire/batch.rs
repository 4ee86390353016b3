//! Several messages in one: a MessagePack list of them, each as bytes. A NATS server has as much work with a message
//! whatever is in it, so what goes the same way at the same time goes together.

use bytes::Bytes;

use super::codec::{Malformed, reader::Reader};

/// A list of messages that is being written.
pub struct Batch {
    bytes: Vec<u8>,
    count: u16,
}

impl Batch {
    /// A batch of nothing yet, with room for `room` bytes.
    pub fn with_room(room: usize) -> Self {
        let mut bytes = Vec::with_capacity(room);
        bytes.extend_from_slice(&EMPTY_LIST);
        Batch { bytes, count: 0 }
    }

    /// Adds a message of at most 65,535 bytes.
    ///
    /// # Panics
    /// When it is longer, or the batch has as many already.
    pub fn add(&mut self, message: &[u8]) {
        let length = u16::try_from(message.len()).expect("long messages go alone");
        self.bytes.push(BYTES);
        self.bytes.extend_from_slice(&length.to_be_bytes());
        self.bytes.extend_from_slice(message);
        self.count = self.count.checked_add(1).expect("a batch is sent long before it has so many");
    }

    /// How many messages it has.
    pub fn count(&self) -> usize {
        usize::from(self.count)
    }

    /// How long it is, and would be with one more message.
    pub fn length_with(&self, message: &[u8]) -> usize {
        self.bytes.len() + START_OF_BYTES + message.len()
    }

    /// The whole list.
    pub fn finish(mut self) -> Bytes {
        self.bytes[1..EMPTY_LIST.len()].copy_from_slice(&self.count.to_be_bytes());
        self.bytes.into()
    }
}

/// Hands on the messages of a payload, each with its place: those of a batch, or the one that it is.
///
/// # Errors
/// When it is a list, but not of bytes. What came before is handed on.
pub fn each(payload: &Bytes, mut read: impl FnMut(usize, Bytes)) -> Result<(), Malformed> {
    if !is_list(payload) {
        read(0, payload.clone());
        return Ok(());
    }
    let mut reader = Reader::new(payload);
    for at in 0..reader.list()? {
        read(at, payload.slice_ref(reader.bytes()?));
    }
    Ok(())
}

fn is_list(payload: &[u8]) -> bool {
    matches!(payload, [0x90..=0x9f | 0xdc | 0xdd, ..])
}

/// A list whose length takes two bytes.
const EMPTY_LIST: [u8; 3] = [0xdc, 0, 0];
/// Bytes whose length takes two bytes.
const BYTES: u8 = 0xc5;
/// What precedes each message.
const START_OF_BYTES: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(payload: &Bytes) -> (Vec<(usize, Bytes)>, Result<(), String>) {
        let mut read = Vec::new();
        let end = each(payload, |at, message| read.push((at, message)));
        (read, end.map_err(|why| why.to_string()))
    }

    #[test]
    fn what_goes_into_a_batch_comes_out_of_it() {
        let messages: Vec<Bytes> = (0..300).map(|n| Bytes::from(vec![b'm'; n])).collect();
        let mut batch = Batch::with_room(0);
        for message in &messages {
            let expected = batch.length_with(message);
            batch.add(message);
            assert_eq!(batch.bytes.len(), expected);
        }
        assert_eq!(batch.count(), messages.len());
        let (read, end) = read(&batch.finish());
        assert_eq!((read, end), (messages.into_iter().enumerate().collect(), Ok(())));
    }

    #[test]
    fn a_list_is_read_in_whatever_form_it_is_written() {
        for list in [&b"\x92\xc4\x01a\xa1b"[..], b"\xdd\0\0\0\x02\xc6\0\0\0\x01a\xc5\0\x01b"] {
            let (read, end) = read(&Bytes::from_static(list));
            assert_eq!((read, end), (vec![(0, "a".into()), (1, "b".into())], Ok(())));
        }
    }

    #[test]
    fn what_is_no_list_is_one_message() {
        for alone in [&b"\x81\xa1v\x01"[..], b"", b"hello"] {
            let alone = Bytes::from_static(alone);
            assert_eq!(read(&alone), (vec![(0, alone.clone())], Ok(())));
        }
    }

    #[test]
    fn a_list_that_is_cut_ends_where_it_is_cut() {
        let (read, end) = read(&Bytes::from_static(b"\xdd\xff\xff\xff\xff\xc4\x01a\xc4\x05b"));
        assert_eq!((read, end), (vec![(0, "a".into())], Err("it is cut".into())));
    }
}
