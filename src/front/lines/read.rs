//! A line to a wish, or to what is wrong with it. No line ends a connection.

use serde_json::value::RawValue;

use super::json::{self, Flaw, MAX_DEPTH, Members};

/// What a line wants.
#[derive(Debug)]
pub enum Said {
    /// A request.
    Ask(Ask),
    /// The end of one.
    Cancel(Id),
}

/// A request by its name.
#[derive(Debug)]
pub struct Ask {
    /// The caller's id.
    pub id: Id,
    /// The name.
    pub name: String,
    /// What goes into the URL.
    pub params: Vec<(String, String)>,
    /// What goes into the body.
    pub data: Option<Box<RawValue>>,
    /// Headers of this request alone.
    pub headers: Vec<(String, String)>,
    /// How long it may take, in seconds.
    pub timeout: Option<f64>,
}

/// An id in JSON, as it was spelled.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Id(Box<str>);

impl Id {
    fn new(value: &RawValue) -> Self {
        Id(value.get().into())
    }

    /// The id in JSON.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What is wrong with a line.
#[derive(Debug)]
pub struct Refusal {
    /// The id, when it could be read.
    pub id: Option<Id>,
    /// The kind of mistake.
    pub code: Refused,
    /// One sentence.
    pub why: String,
}

/// Kinds of mistakes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refused {
    /// It is not a request: no JSON, no object, a field missing, unknown or of the wrong type.
    BadLine,
    /// It is over the limit.
    LineTooLong,
    /// There is no request of that name.
    UnknownRequest,
    /// A parameter is missing or can't be used.
    BadParams,
    /// The data does not fit the request.
    BadData,
    /// A header that can't be set.
    BadHeaders,
    /// A time that can't be had.
    BadTimeout,
    /// The id is that of a request in flight.
    DuplicateId,
    /// There is no request in flight with that id.
    UnknownId,
    /// There are as many requests in flight as there may be.
    Busy,
}

impl Refused {
    /// The code in replies and metrics; it never changes.
    pub fn as_str(self) -> &'static str {
        match self {
            Refused::BadLine => "bad_line",
            Refused::LineTooLong => "line_too_long",
            Refused::UnknownRequest => "unknown_request",
            Refused::BadParams => "bad_params",
            Refused::BadData => "bad_data",
            Refused::BadHeaders => "bad_headers",
            Refused::BadTimeout => "bad_timeout",
            Refused::DuplicateId => "duplicate_id",
            Refused::UnknownId => "unknown_id",
            Refused::Busy => "busy",
        }
    }
}

/// Reads a line.
///
/// # Errors
/// What is wrong with it, with the id when that can be read.
pub fn read(line: &[u8]) -> Result<Said, Refusal> {
    let bad = |id, why: String| Refusal { id, code: Refused::BadLine, why };
    let text =
        std::str::from_utf8(line).map_err(|error| bad(None, format!("the line is not UTF-8: {error}")))?;
    let not_json = |error: serde_json::Error| bad(None, format!("the line is not JSON: {error}"));
    let whole: &RawValue = serde_json::from_str(text).map_err(not_json)?;
    if !whole.get().starts_with('{') {
        return Err(bad(None, "the line is not an object, as {\"request\":…,\"id\":…}".into()));
    }
    let Members(members) = serde_json::from_str(whole.get()).map_err(not_json)?;
    let mut ids = members.iter().filter(|(name, _)| name == "id" || name == "cancel");
    // Two of them could both be meant.
    let id = match (ids.next(), ids.next()) {
        (Some((_, value)), None) => Some(Id::new(value)),
        _ => None,
    };
    read_members(whole.get(), &members).map_err(|why| bad(id, why))
}

fn read_members(text: &str, members: &[(String, &RawValue)]) -> Result<Said, String> {
    match json::flaw(text) {
        None => {}
        Some(Flaw::TooDeep) => {
            return Err(format!("the line has more than {MAX_DEPTH} arrays and objects in each other"));
        }
        Some(Flaw::Twice(name)) => return Err(format!("'{}' is there twice", shown(&name))),
        Some(Flaw::NoName) => return Err("the line is not JSON: a name has half of a surrogate pair".into()),
    }
    let of = |wanted: &str| members.iter().find(|(name, _)| name == wanted).map(|(_, value)| *value);
    if let Some((name, _)) = members.iter().find(|(name, _)| !FIELDS.contains(&name.as_str())) {
        return Err(format!("there is no field '{}'; there are {}", shown(name), FIELDS.join(", ")));
    }
    if let Some(id) = of("cancel") {
        return match members.len() {
            1 => Ok(Said::Cancel(Id::new(id))),
            _ => Err("'cancel' stands alone, as {\"cancel\":ID}".into()),
        };
    }
    let given = |wanted: &str| of(wanted).filter(|value| !json::is_null(value));
    let name = of("request").ok_or("'request' is missing")?;
    let name = serde_json::from_str::<String>(name.get()).map_err(|_| "'request' must be a text")?;
    let id = Id::new(of("id").ok_or("'id' is missing")?);
    let params = given("params").map_or(Ok(Vec::new()), |value| texts("params", value, json::scalar))?;
    let text = |value: &RawValue| serde_json::from_str(value.get()).ok();
    let headers = given("headers").map_or(Ok(Vec::new()), |value| texts("headers", value, text))?;
    let timeout = given("timeout").map(seconds).transpose()?;
    Ok(Said::Ask(Ask { id, name, params, data: given("data").map(ToOwned::to_owned), headers, timeout }))
}

/// An object of texts, or of what is as good as one.
fn texts(
    field: &str,
    value: &RawValue,
    text: impl Fn(&RawValue) -> Option<String>,
) -> Result<Vec<(String, String)>, String> {
    let members = serde_json::from_str::<Members>(value.get());
    let Members(members) = members.map_err(|_| format!("'{field}' must be an object"))?;
    let pairs = members.into_iter().map(|(name, value)| match text(value) {
        Some(text) => Ok((name, text)),
        None if field == "params" => {
            Err(format!("'{field}': '{}' must be a text, a number, true or false", shown(&name)))
        }
        None => Err(format!("'{field}': '{}' must be a text", shown(&name))),
    });
    pairs.collect()
}

fn seconds(value: &RawValue) -> Result<f64, String> {
    let number = serde_json::from_str::<f64>(value.get()).ok();
    number
        .filter(|seconds| *seconds > 0.0)
        .ok_or_else(|| "'timeout' must be a number of seconds above 0".into())
}

/// A caller's word as it may be told again.
pub fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

const FIELDS: [&str; 7] = ["request", "id", "params", "data", "headers", "timeout", "cancel"];
const SHOWN: usize = 64;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_says_what_is_asked() {
        let line = r#" {"request":"hl2", "id":"123", "params":{"count":1,"big":1E400,"t":true,"s":"x"},"data":{"a":[1]}} "#;
        let Ok(Said::Ask(ask)) = read(line.as_bytes()) else { panic!() };
        assert_eq!((ask.name.as_str(), ask.id.as_str()), ("hl2", "\"123\""));
        let params: Vec<_> = ask.params.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        assert_eq!(params, [("count", "1"), ("big", "1E400"), ("t", "true"), ("s", "x")]);
        assert_eq!(ask.data.unwrap().get(), r#"{"a":[1]}"#);
        let nulls = br#"{"request":"a","id":null,"params":null,"data":null,"headers":null,"timeout":null}"#;
        assert!(matches!(read(nulls), Ok(Said::Ask(Ask { data: None, timeout: None, .. }))));
        assert!(matches!(read(br#"{"cancel":[1]}"#), Ok(Said::Cancel(id)) if id.as_str() == "[1]"));
    }

    #[test]
    fn an_id_keeps_its_type_and_its_spelling() {
        for id in [
            "1",
            "-0",
            "1.50",
            "1e400",
            "12345678901234567890123",
            "null",
            "true",
            r#""\u00e4""#,
            "[1, {\"a\":2}]",
        ] {
            let line = format!(r#"{{"id":{id},"request":"a"}}"#);
            let Ok(Said::Ask(ask)) = read(line.as_bytes()) else { panic!("{id}") };
            assert_eq!(ask.id.as_str(), id);
        }
    }

    #[test]
    fn what_is_wrong_is_said_and_the_id_is_there_when_it_can_be_read() {
        let deep = format!(r#"{{"request":"a","id":7,"data":{}1{}}}"#, "[".repeat(65), "]".repeat(65));
        let deeper = format!(r#"{{"request":"a","id":7,"data":{}"#, "[".repeat(60_000));
        let cases: &[(&[u8], Option<&str>, &str)] = &[
            (b"hello", None, "not JSON"),
            (b"{", None, "not JSON"),
            (b"{}{}", None, "not JSON"),
            (b"{\"request\":\"a\",\"id\":1,}", None, "not JSON"),
            (b"{'request':'a'}", None, "not JSON"),
            (b"NaN", None, "not JSON"),
            (b"\0", None, "not JSON"),
            (b"{\"request\":\"a\0\",\"id\":1}", None, "not JSON"),
            (b"{\"request\":\"\xff\",\"id\":1}", None, "not UTF-8"),
            (b"\xef\xbb\xbf{\"request\":\"a\",\"id\":1}", None, "not JSON"),
            (deeper.as_bytes(), None, "not JSON"),
            (b"[1]", None, "not an object"),
            (b"1", None, "not an object"),
            (b"null", None, "not an object"),
            (b"\"text\"", None, "not an object"),
            (b"{}", None, "'request' is missing"),
            (br#"{"request":"a"}"#, None, "'id' is missing"),
            (br#"{"id":1}"#, Some("1"), "'request' is missing"),
            (br#"{"id":1,"request":2}"#, Some("1"), "'request' must be a text"),
            (br#"{"id":1,"request":null}"#, Some("1"), "'request' must be a text"),
            (br#"{"id":1,"request":"\ud800"}"#, Some("1"), "'request' must be a text"),
            (br#"{"id":1,"request":"a","params":[]}"#, Some("1"), "'params' must be an object"),
            (br#"{"id":1,"request":"a","params":{"x":{}}}"#, Some("1"), "'params': 'x' must be a text"),
            (br#"{"id":1,"request":"a","params":{"x":null}}"#, Some("1"), "'params': 'x' must be a text"),
            (br#"{"id":1,"request":"a","headers":{"x":1}}"#, Some("1"), "'headers': 'x' must be a text"),
            (br#"{"id":1,"request":"a","timeout":"1s"}"#, Some("1"), "'timeout' must be"),
            (br#"{"id":1,"request":"a","timeout":-1}"#, Some("1"), "'timeout' must be"),
            (br#"{"id":1,"request":"a","timeout":1e400}"#, Some("1"), "'timeout' must be"),
            (br#"{"id":1,"request":"a","parms":{}}"#, Some("1"), "no field 'parms'"),
            (br#"{"id":1,"request":"a","request":"b"}"#, Some("1"), "'request' is there twice"),
            (br#"{"id":1,"id":2,"request":"a"}"#, None, "'id' is there twice"),
            (br#"{"id":1,"\u0069d":2,"request":"a"}"#, None, "'id' is there twice"),
            (br#"{"id":1,"request":"a","params":{"x":1,"x":2}}"#, Some("1"), "'x' is there twice"),
            (br#"{"id":1,"request":"a","data":[{"x":[{"y":1,"y":2}]}]}"#, Some("1"), "'y' is there twice"),
            (br#"{"id":1,"request":"a","data":{"\ud800":1}}"#, Some("1"), "not JSON"),
            (br#"{"cancel":1,"request":"a"}"#, Some("1"), "'cancel' stands alone"),
            (br#"{"cancel":1,"id":1}"#, None, "'cancel' stands alone"),
            (deep.as_bytes(), Some("7"), "more than 64"),
        ];
        for (line, id, why) in cases {
            let refusal = read(line).expect_err(why);
            let line = String::from_utf8_lossy(line);
            assert!(refusal.why.contains(why), "{line:.100}: {}", refusal.why);
            assert_eq!(refusal.id.as_ref().map(Id::as_str), *id, "{line:.100}");
        }
    }

    #[test]
    fn a_long_word_is_not_told_whole() {
        let line = format!(r#"{{"id":1,"request":"a","{}":1}}"#, "ä".repeat(10_000));
        assert!(read(line.as_bytes()).unwrap_err().why.len() < 500);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_fail(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            drop(read(&bytes));
        }

        #[test]
        fn no_text_of_json_parts_makes_it_fail(parts in proptest::collection::vec(
            prop_oneof![
                Just("{"), Just("}"), Just("["), Just("]"), Just(","), Just(":"), Just("\"id\""), Just("\"request\""),
                Just("1"), Just("\"\\ud8\""), Just("null"), Just("\"params\""), Just("-"), Just("\\"), Just("\""),
            ], 0..40))
        {
            drop(read(parts.concat().as_bytes()));
        }

        #[test]
        fn whatever_a_serialiser_writes_is_read(id in any::<f64>(), name in ".*", value in ".*") {
            let line = serde_json::json!({"id": id, "request": name, "params": {"x": value}}).to_string();
            let said = read(line.as_bytes());
            let Ok(Said::Ask(ask)) = said else { panic!("{line}") };
            prop_assert_eq!(ask.name, name);
            prop_assert_eq!(&ask.params[0].1, &value);
        }
    }
}
