//! What people are shown: messages as text, for those who watch the traffic with `nats sub`, and the beginnings of
//! long texts.

use std::fmt;

use bytes::Bytes;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::{batch, headers::Credentials};

/// A MessagePack map as JSON, or `None` when `payload` is not one. With `hidden`, long bodies are cut and the values
/// of those headers are left out.
pub fn to_json(payload: &[u8], hidden: Option<&Credentials>) -> Option<String> {
    let mut reader = rmp_serde::Deserializer::from_read_ref(payload);
    reader.set_max_depth(MAX_DEPTH);
    let mut value = Shown.deserialize(&mut reader).ok()?;
    let Value::Object(fields) = &mut value else { return None };
    if let Some(hidden) = hidden {
        hide(fields, hidden);
    }
    serde_json::to_string(&value).ok()
}

/// The messages of a payload as JSON, a line each, or `None` when it has none. Otherwise as [`to_json`].
pub fn to_lines(payload: &Bytes, hidden: Option<&Credentials>) -> Option<String> {
    let mut lines = Vec::new();
    batch::each(payload, |_, message| lines.push(to_json(&message, hidden))).ok()?;
    let lines: Vec<String> = lines.into_iter().collect::<Option<_>>()?;
    (!lines.is_empty()).then(|| lines.join("\n"))
}

fn hide(fields: &mut Map<String, Value>, hidden: &Credentials) {
    for pairs in ["headers", "trailers"] {
        let Some(Value::Array(pairs)) = fields.get_mut(pairs) else { continue };
        for pair in pairs {
            if let [Value::String(name), value] =
                pair.as_array_mut().map_or(&mut [][..], |p| p.as_mut_slice())
                && hidden.contains(name)
            {
                *value = "(hidden; --full shows it)".into();
            }
        }
    }
    if let Some(Value::String(body)) = fields.get_mut("body")
        && body.len() > SHOWN_BODY
    {
        *body = format!("{}… ({} bytes; --full shows all)", beginning(body, SHOWN_BODY), body.len());
    }
    // A job has what it sends and what it was answered within.
    fields.values_mut().filter_map(Value::as_object_mut).for_each(|fields| hide(fields, hidden));
}

/// The first `most` bytes of a text, or a few less where they would end within a character.
pub fn beginning(text: &str, most: usize) -> &str {
    let end = (0..=most.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    &text[..end]
}

struct Shown;

impl<'de> DeserializeSeed<'de> for Shown {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Value, D::Error> {
        d.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Shown {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a message")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_bytes<E>(self, value: &[u8]) -> Result<Value, E> {
        Ok(match std::str::from_utf8(value) {
            Ok(text) => text.into(),
            Err(_) => format!("({} bytes, not text)", value.len()).into(),
        })
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, d: D) -> Result<Value, D::Error> {
        d.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(Shown)? {
            items.push(item);
        }
        Ok(items.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            fields.insert(name, map.next_value_seed(Shown)?);
        }
        Ok(fields.into())
    }
}

const SHOWN_BODY: usize = 1024;
const MAX_DEPTH: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_hidden_and_long_bodies_are_cut_unless_all_is_asked_for() {
        #[derive(serde::Serialize)]
        struct Message {
            v: u8,
            headers: Vec<(&'static str, serde_bytes::ByteBuf)>,
            body: serde_bytes::ByteBuf,
            #[serde(skip_serializing_if = "Option::is_none")]
            within: Option<Box<Message>>,
        }
        let message = Message {
            v: 1,
            headers: vec![
                ("authorization", serde_bytes::ByteBuf::from("Bearer x1y2")),
                ("x-auth-token", serde_bytes::ByteBuf::from("x1y2")),
                ("accept", "*/*".as_bytes().to_vec().into()),
            ],
            body: serde_bytes::ByteBuf::from("é".repeat(2000)),
            within: None,
        };
        let within =
            Message { v: 1, headers: Vec::new(), body: Vec::new().into(), within: Some(message.into()) };
        for message in [within.within.as_deref().unwrap(), &within] {
            is_hidden(message);
        }
    }

    #[test]
    fn each_message_of_a_batch_has_a_line() {
        let mut batch = batch::Batch::with_room(0);
        batch.add(b"\x81\xa1v\x01");
        assert_eq!(to_lines(&b"\x81\xa1v\x01"[..].into(), None).unwrap(), "{\"v\":1}");
        batch.add(b"\x81\xa1v\x02");
        assert_eq!(to_lines(&batch.finish(), None).unwrap(), "{\"v\":1}\n{\"v\":2}");
    }

    fn is_hidden(message: &impl serde::Serialize) {
        let payload = rmp_serde::to_vec_named(message).unwrap();
        let short = to_json(&payload, Some(&Credentials::default())).unwrap();
        assert!(!short.contains("x1y2") && short.contains("*/*") && short.len() < 2000, "{short}");
        let full = to_json(&payload, None).unwrap();
        assert!(full.contains("x1y2") && full.len() > 4000);
    }

    #[test]
    fn a_beginning_ends_between_characters() {
        for (most, shown) in [(0, ""), (1, "a"), (2, "a"), (3, "aé"), (4, "aéb"), (9, "aéb")] {
            assert_eq!(beginning("aéb", most), shown, "{most}");
        }
    }

    #[test]
    fn what_is_not_a_message_is_not_shown_as_one() {
        for other in [
            &b"hello"[..],
            b"",
            b"\x90",
            b"\x91\xa1v",
            b"\x93\x01\x02\x03",
            &[0xdc, 0xff, 0xff],
            &[0x91; 200],
        ] {
            assert_eq!(to_json(other, None), None, "{other:?}");
            assert_eq!(to_lines(&other.into(), None), None, "{other:?}");
        }
    }
}
