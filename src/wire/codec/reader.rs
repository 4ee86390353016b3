//! Reads MessagePack value by value, for the messages that every request takes: serde finds its way through a
//! map by way of generic machinery that took a tenth of an agent's time.
//!
//! Nothing is allocated, and a length is believed only as far as there are bytes.

use super::{MAX_DEPTH, Malformed};

/// What is left of a message.
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads `message` from its beginning.
    pub fn new(message: &'a [u8]) -> Self {
        Reader { rest: message }
    }

    /// Bytes that are left.
    pub fn left(&self) -> usize {
        self.rest.len()
    }

    /// The beginning of a map: so many keys follow, each with its value.
    ///
    /// # Errors
    /// As for every method here: what is next is something else, or cut.
    pub fn map(&mut self) -> Result<usize, Malformed> {
        match self.byte()? {
            short @ 0x80..=0x8f => Ok(usize::from(short & 0x0f)),
            0xde => self.length(2),
            0xdf => self.length(4),
            _ => Err(expected("a map")),
        }
    }

    /// The beginning of a list: so many values follow.
    #[inline]
    pub fn list(&mut self) -> Result<usize, Malformed> {
        match self.byte()? {
            short @ 0x90..=0x9f => Ok(usize::from(short & 0x0f)),
            0xdc => self.length(2),
            0xdd => self.length(4),
            _ => Err(expected("a list")),
        }
    }

    /// Bytes, or a text as bytes.
    #[inline]
    pub fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let (length, rest) = match self.rest {
            [short @ 0xa0..=0xbf, rest @ ..] => (short & 0x1f, rest),
            [0xc4 | 0xd9, length, rest @ ..] => (*length, rest),
            _ => return self.long_bytes(),
        };
        let (taken, rest) = rest.split_at_checked(usize::from(length)).ok_or_else(cut)?;
        self.rest = rest;
        Ok(taken)
    }

    /// Those whose length takes more than a byte, and what is none.
    #[cold]
    fn long_bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length = match self.byte()? {
            0xc4 | 0xd9 => 1,
            0xc5 | 0xda => 2,
            0xc6 | 0xdb => 4,
            _ => return Err(expected("a text or bytes")),
        };
        let length = self.length(length)?;
        self.take(length)
    }

    /// A text.
    pub fn text(&mut self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed::new("a text is not UTF-8"))
    }

    /// A number that is not negative.
    pub fn number(&mut self) -> Result<u64, Malformed> {
        let (bytes, signed) = match self.byte()? {
            small @ 0x00..=0x7f => return Ok(u64::from(small)),
            0xcc => (1, false),
            0xcd => (2, false),
            0xce => (4, false),
            0xcf => (8, false),
            0xd0 => (1, true),
            0xd1 => (2, true),
            0xd2 => (4, true),
            0xd3 => (8, true),
            _ => return Err(expected("a number")),
        };
        let number = self.big_endian(bytes)?;
        let negative = signed && number >> (8 * bytes - 1) != 0;
        if negative { Err(Malformed::new("a number is negative")) } else { Ok(number) }
    }

    /// True or false.
    pub fn flag(&mut self) -> Result<bool, Malformed> {
        match self.byte()? {
            0xc2 => Ok(false),
            0xc3 => Ok(true),
            _ => Err(expected("true or false")),
        }
    }

    /// What `read` reads, unless nil is next.
    pub fn unless_nil<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Option<T>, Malformed> {
        if let [0xc0, rest @ ..] = self.rest {
            self.rest = rest;
            return Ok(None);
        }
        read(self).map(Some)
    }

    /// The bytes of the next value, whatever it is.
    pub fn any(&mut self) -> Result<&'a [u8], Malformed> {
        let before = self.rest;
        self.skip(MAX_DEPTH)?;
        Ok(&before[..before.len() - self.rest.len()])
    }

    fn skip(&mut self, depth: usize) -> Result<(), Malformed> {
        let depth = depth.checked_sub(1).ok_or_else(|| Malformed::new("too deep"))?;
        let (length, values) = match self.byte()? {
            0x00..=0x7f | 0xe0..=0xff | 0xc0 | 0xc2 | 0xc3 => (0, 0),
            map @ 0x80..=0x8f => (0, 2 * usize::from(map & 0x0f)),
            list @ 0x90..=0x9f => (0, usize::from(list & 0x0f)),
            text @ 0xa0..=0xbf => (usize::from(text & 0x1f), 0),
            0xc1 => return Err(expected("a value")),
            0xc4 | 0xd9 => (self.length(1)?, 0),
            0xc5 | 0xda => (self.length(2)?, 0),
            0xc6 | 0xdb => (self.length(4)?, 0),
            // Extensions have a type before their bytes.
            0xc7 => (self.length(1)? + 1, 0),
            0xc8 => (self.length(2)? + 1, 0),
            0xc9 => (self.length(4)? + 1, 0),
            extension @ 0xd4..=0xd8 => ((1 << (extension - 0xd4)) + 1, 0),
            0xcc | 0xd0 => (1, 0),
            0xcd | 0xd1 => (2, 0),
            0xca | 0xce | 0xd2 => (4, 0),
            0xcb | 0xcf | 0xd3 => (8, 0),
            0xdc => (0, self.length(2)?),
            0xdd => (0, self.length(4)?),
            0xde => (0, 2 * self.length(2)?),
            0xdf => (0, 2 * self.length(4)?),
        };
        self.take(length)?;
        (0..values).try_for_each(|_| self.skip(depth))
    }

    #[inline]
    fn byte(&mut self) -> Result<u8, Malformed> {
        let (first, rest) = self.rest.split_first().ok_or_else(cut)?;
        self.rest = rest;
        Ok(*first)
    }

    #[inline]
    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or_else(cut)?;
        self.rest = rest;
        Ok(taken)
    }

    fn big_endian(&mut self, bytes: usize) -> Result<u64, Malformed> {
        Ok(self.take(bytes)?.iter().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    /// A length of so many bytes.
    fn length(&mut self, bytes: usize) -> Result<usize, Malformed> {
        self.big_endian(bytes).map(|length| usize::try_from(length).unwrap_or(usize::MAX / 2))
    }
}

#[cold]
fn expected(what: &str) -> Malformed {
    Malformed::new(format!("{what} was expected"))
}

#[cold]
fn cut() -> Malformed {
    Malformed::new("it is cut")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_number_is_read_in_whatever_form_it_is_written() {
        for (bytes, number) in [
            (&b"\x7f"[..], Ok(127)),
            (b"\xcc\xff", Ok(255)),
            (b"\xcd\x01\x00", Ok(256)),
            (b"\xce\0\0\0\x01", Ok(1)),
            (b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff", Ok(u64::MAX)),
            (b"\xd0\x7f", Ok(127)),
            (b"\xd3\0\0\0\0\0\0\0\x05", Ok(5)),
            (b"\xd0\xff", Err("a number is negative")),
            (b"\xd3\xff\xff\xff\xff\xff\xff\xff\xff", Err("a number is negative")),
            (b"\xff", Err("a number was expected")),
            (b"\xa11", Err("a number was expected")),
            (b"\xcd\x01", Err("it is cut")),
        ] {
            let read = Reader::new(bytes).number().map_err(|why| why.to_string());
            assert_eq!(read, number.map_err(str::to_owned), "{bytes:x?}");
        }
    }

    #[test]
    fn nil_is_nothing() {
        let mut reader = Reader::new(b"\xc0\xc3");
        assert_eq!(reader.unless_nil(Reader::flag).unwrap(), None);
        assert_eq!(reader.unless_nil(Reader::flag).unwrap(), Some(true));
        assert!(reader.unless_nil(Reader::flag).is_err());
    }

    proptest! {
        #[test]
        fn any_value_is_as_long_as_it_was_written(value in any_value(), after in any::<u8>()) {
            let written = rmp_serde::to_vec(&value).unwrap();
            let both = [&written[..], &[after]].concat();
            let mut reader = Reader::new(&both);
            prop_assert_eq!(reader.any().unwrap(), &written[..]);
            prop_assert_eq!(reader.left(), 1);
            prop_assert!(Reader::new(&written[..written.len() - 1]).any().is_err());
        }
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(json!(null)),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "[a-zé]{0,300}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 64, 20, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..20).prop_map(Value::from),
                prop::collection::btree_map("[a-z]{0,40}", inner, 0..20)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }
}
