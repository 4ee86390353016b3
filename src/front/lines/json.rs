//! JSON looked at without being changed: what a caller wrote stays as it was spelled, and what two readers could
//! understand differently is found.

use std::{collections::HashSet, fmt};

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The members of an object in their order, each value as it was spelled. A name may be there more than once.
pub struct Members<'a>(pub Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reading;
        impl<'de> Visitor<'de> for Reading {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Reading)
    }
}

/// Whether arrays and objects are in each other more than [`MAX_DEPTH`] times.
pub fn is_too_deep(text: &str) -> bool {
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'{' | b'[' if !in_text => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return true;
                }
            }
            b'}' | b']' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

/// A name that is there more than once in some object of `text`, which is not too deep.
///
/// # Errors
/// When a name is no text, as one with half of a surrogate pair.
pub fn duplicate(text: &str) -> serde_json::Result<Option<String>> {
    match text.trim_start().as_bytes().first() {
        Some(b'{') => {
            let Members(members) = serde_json::from_str(text)?;
            let mut names = HashSet::with_capacity(members.len());
            for (name, value) in &members {
                if !names.insert(name.as_str()) {
                    return Ok(Some(name.clone()));
                }
                if let found @ Some(_) = duplicate(value.get())? {
                    return Ok(found);
                }
            }
        }
        Some(b'[') => {
            for value in serde_json::from_str::<Vec<&RawValue>>(text)? {
                if let found @ Some(_) = duplicate(value.get())? {
                    return Ok(found);
                }
            }
        }
        Some(_) | None => {}
    }
    Ok(None)
}

/// A text, a number or true or false, as a text: a number as it was spelled.
pub fn scalar(value: &RawValue) -> Option<String> {
    match value.get().as_bytes().first() {
        Some(b'"') => serde_json::from_str(value.get()).ok(),
        Some(b'{' | b'[' | b'n') | None => None,
        Some(_) => Some(value.get().to_owned()),
    }
}

/// Whether it is null.
pub fn is_null(value: &RawValue) -> bool {
    value.get() == "null"
}

/// How often arrays and objects may be in each other.
pub const MAX_DEPTH: usize = 64;
