//! JSON looked at without being changed: what a caller wrote stays as it was spelled, and what two readers could
//! understand differently is found.

use std::{borrow::Cow, collections::HashSet, fmt};

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

/// What is wrong with JSON although it is JSON.
#[derive(Debug, PartialEq, Eq)]
pub enum Flaw {
    /// Arrays and objects are in each other more than [`MAX_DEPTH`] times.
    TooDeep,
    /// This name is in one object more than once.
    Twice(String),
    /// A name is no text, as one with half of a surrogate pair.
    NoName,
}

/// Looks for what is wrong with `text`, which is JSON, in one pass: a line may be made to take long.
pub fn flaw(text: &str) -> Option<Flaw> {
    // The names so far of each object that is open; an array has none.
    let mut open: Vec<Option<HashSet<Cow<'_, str>>>> = Vec::new();
    let mut name_is_next = false;
    let mut at = 0;
    while let Some(byte) = text.as_bytes().get(at) {
        let mut end = at + 1;
        match byte {
            b'"' => {
                end = end_of_text(text.as_bytes(), at);
                if let (true, Some(Some(names))) = (name_is_next, open.last_mut()) {
                    let Some(name) = text.get(at..end).and_then(name) else { return Some(Flaw::NoName) };
                    if let Some(twice) = names.replace(name) {
                        return Some(Flaw::Twice(twice.into_owned()));
                    }
                }
                name_is_next = false;
            }
            b'{' | b'[' => {
                name_is_next = *byte == b'{';
                open.push(name_is_next.then(HashSet::new));
                if open.len() > MAX_DEPTH {
                    return Some(Flaw::TooDeep);
                }
            }
            b'}' | b']' => {
                open.pop();
                name_is_next = false;
            }
            b',' => name_is_next = matches!(open.last(), Some(Some(_))),
            _ => {}
        }
        at = end;
    }
    None
}

/// Where the text that begins at `start` ends, its quote included.
fn end_of_text(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// A name between its quotes, as it is meant.
fn name(quoted: &str) -> Option<Cow<'_, str>> {
    match quoted.contains('\\') {
        true => serde_json::from_str(quoted).ok().map(Cow::Owned),
        false => quoted.get(1..quoted.len() - 1).map(Cow::Borrowed),
    }
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_name_may_be_in_several_objects_but_not_twice_in_one() {
        for good in [
            r#"{"a":{"a":[{"a":1},{"a":2}]},"b":"a","c":["a","a"],"d":",","e":"}{\"a\":"}"#,
            r#"[{"a":1},{"a":1},"x","x"]"#,
            "[]",
            "1",
            r#""""#,
        ] {
            assert_eq!(flaw(good), None, "{good}");
        }
        for bad in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"\u0061":1}"#,
            r#"{"a":{"x":{}}, "b":[1,{}], "a":1}"#,
            r#"[1,{"b":{"a":"}","a":1}}]"#,
            r#"{"x":"\\","a":1,"a":2}"#,
        ] {
            assert_eq!(flaw(bad), Some(Flaw::Twice("a".into())), "{bad}");
        }
        assert_eq!(flaw(r#"{"\ud800":1}"#), Some(Flaw::NoName));
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert_eq!((flaw(&nested(MAX_DEPTH)), flaw(&nested(MAX_DEPTH + 1))), (None, Some(Flaw::TooDeep)));
    }

    proptest! {
        #[test]
        fn what_a_serialiser_writes_has_no_flaw_until_a_name_is_doubled(value in value(), names in ".*") {
            let text = json!({&names: value.clone(), format!("{names}x"): 1}).to_string();
            prop_assert_eq!(flaw(&text), None);
            let name = Value::from(names.as_str()).to_string();
            let twice = format!("{{{name}:{value},\"\":[{{{name}:1}}],{name}:1}}");
            prop_assume!(!names.is_empty());
            prop_assert_eq!(flaw(&twice), Some(Flaw::Twice(names)));
        }
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf =
            prop_oneof![".*".prop_map(Value::from), any::<f64>().prop_map(Value::from), Just(Value::Null)];
        leaf.prop_recursive(4, 30, 5, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                proptest::collection::btree_map(".*", inner, 0..5).prop_map(|map| json!(map)),
            ]
        })
    }
}
