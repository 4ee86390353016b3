//! The URL of a named request: a fixed origin, and a path and query with `{param}` placeholders. What takes a
//! placeholder's place is encoded for where it stands, so that it can't become anything else.

use std::fmt::Write;

use http::uri::PathAndQuery;

use crate::config::OriginUrl;

/// A path and query with placeholders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Param { name: String, place: Place },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Path,
    Query,
}

/// Why a URL can't be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// There is nothing for this placeholder.
    #[error("the parameter '{0}' is missing")]
    Missing(String),
    /// A path with an empty segment is another path: `/users/` is not a user.
    #[error("the parameter '{0}' is empty, which a part of a path can't be")]
    Empty(String),
    /// `.` and `..` are not segments but ways through the path.
    #[error("the parameters make '{0}' of a part of the path")]
    Dots(String),
    /// Longer than any server takes.
    #[error("the URL would be {0} bytes, it may be at most {MAX_TARGET}")]
    TooLong(usize),
}

/// Reads a whole URL: its origin, and the rest.
///
/// # Errors
/// What is wrong with it.
pub fn of_url(text: &str) -> Result<(OriginUrl, Template), String> {
    let scheme = text.find("://").ok_or("write the whole URL, as https://HOST/PATH")?;
    let end = text[scheme + 3..].find(['/', '?', '#']).map_or(text.len(), |at| scheme + 3 + at);
    let (origin, target) = text.split_at(end);
    if origin.contains(['{', '}']) {
        return Err(
            "a placeholder can't stand in the scheme or the host: a caller must not choose who is called"
                .into(),
        );
    }
    let origin = origin.parse::<OriginUrl>()?;
    let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
    Ok((origin, of_path(&target)?))
}

/// Reads a path and query.
///
/// # Errors
/// What is wrong with it.
pub fn of_path(text: &str) -> Result<Template, String> {
    if !text.starts_with('/') {
        return Err("write a path that begins with '/'".into());
    }
    if text.contains('#') {
        return Err("a fragment is not sent to a server".into());
    }
    let parts = parts(text)?;
    let example: String = parts
        .iter()
        .map(|part| match part {
            Part::Text(text) => text.as_str(),
            Part::Param { .. } => "x",
        })
        .collect();
    let is_path = example.parse::<PathAndQuery>().is_ok() && example.is_ascii();
    if !is_path || example.contains([' ', '"', '<', '>', '\\', '^', '`', '|']) {
        return Err("the path or query has a character that must be percent-encoded".into());
    }
    if let Some(dots) = dots(&example) {
        return Err(format!("'{dots}' can't be a part of the path"));
    }
    Ok(Template(parts))
}

fn parts(text: &str) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let mut place = Place::Path;
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        let (before, braced) = rest.split_at(at);
        if before.contains('?') {
            place = Place::Query;
        }
        let inner = braced.strip_prefix('{').ok_or("a '}' without its '{'")?;
        let (name, after) = inner.split_once('}').ok_or("a '{' without its '}'")?;
        if !is_name(name) {
            return Err(format!("'{{{name}}}' is no placeholder: a name has letters, digits, '_' and '-'"));
        }
        if !before.is_empty() {
            parts.push(Part::Text(before.to_owned()));
        }
        parts.push(Part::Param { name: name.to_owned(), place });
        rest = after;
    }
    if !rest.is_empty() {
        parts.push(Part::Text(rest.to_owned()));
    }
    Ok(parts)
}

fn is_name(name: &str) -> bool {
    let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    starts && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

impl Template {
    /// The path and query with a value in each placeholder's place.
    ///
    /// # Errors
    /// When one is missing, or would change the path.
    pub fn fill<'a>(&self, value: impl Fn(&str) -> Option<&'a str>) -> Result<String, Unfit> {
        let mut url = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => url.push_str(text),
                Part::Param { name, place } => {
                    let value = value(name).ok_or_else(|| Unfit::Missing(name.clone()))?;
                    if *place == Place::Path && value.is_empty() {
                        return Err(Unfit::Empty(name.clone()));
                    }
                    encode(value, &mut url);
                }
            }
        }
        if url.len() > MAX_TARGET {
            return Err(Unfit::TooLong(url.len()));
        }
        match dots(&url) {
            Some(dots) => Err(Unfit::Dots(dots.to_owned())),
            None => Ok(url),
        }
    }

    /// The names of its placeholders, in their order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            Part::Param { name, .. } => Some(name.as_str()),
            Part::Text(_) => None,
        })
    }
}

/// All but what is never special (RFC 3986 §2.3), so that a value stays one segment of a path and one part of a
/// query, whatever is in it.
fn encode(value: &str, url: &mut String) {
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            url.push(char::from(byte));
        } else {
            // Writing to a String can't fail.
            write!(url, "%{byte:02X}").ok();
        }
    }
}

fn dots(url: &str) -> Option<&str> {
    let path = url.split('?').next().unwrap_or_default();
    path.split('/').find(|segment| {
        let plain = segment.replace("%2e", ".").replace("%2E", ".");
        plain == "." || plain == ".."
    })
}

/// Bytes of a request target at most; HTTP libraries give up a little above.
const MAX_TARGET: usize = 60_000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_value_is_encoded_for_where_it_stands() {
        let template = of_path("/news/{app}/x-{n}?count={count}&q={q}").unwrap();
        assert_eq!(template.names().collect::<Vec<_>>(), ["app", "n", "count", "q"]);
        let filled = template.fill(|name| match name {
            "app" => Some("a/b?c#d e"),
            "n" => Some("ü%"),
            "count" => Some("1"),
            "q" => Some("a&b=c+d"),
            _ => None,
        });
        assert_eq!(filled.unwrap(), "/news/a%2Fb%3Fc%23d%20e/x-%C3%BC%25?count=1&q=a%26b%3Dc%2Bd");
    }

    #[test]
    fn a_parameter_that_is_missing_or_would_change_the_path_is_named() {
        let template = of_path("/a/{id}?q={q}").unwrap();
        let fill = |id: Option<&'static str>| template.fill(|name| if name == "id" { id } else { Some("") });
        assert_eq!(fill(None).unwrap_err(), Unfit::Missing("id".into()));
        assert_eq!(fill(Some("")).unwrap_err(), Unfit::Empty("id".into()));
        assert_eq!(fill(Some("..")).unwrap_err(), Unfit::Dots("..".into()));
        assert_eq!(fill(Some(".")).unwrap_err(), Unfit::Dots(".".into()));
        assert_eq!(fill(Some("...")).unwrap(), "/a/...?q=");
        let halves = of_path("/a/{x}{y}/b").unwrap();
        assert_eq!(halves.fill(|_| Some(".")).unwrap_err(), Unfit::Dots("..".into()));
    }

    #[test]
    fn an_origin_is_fixed_and_the_rest_is_a_path() {
        let (origin, template) = of_url("https://api.example:8443/v2/{x}?a=1").unwrap();
        assert_eq!(origin.to_string(), "https://api.example:8443/");
        assert_eq!(template.fill(|_| Some("y")).unwrap(), "/v2/y?a=1");
        let (_, template) = of_url("http://api.example?a={x}").unwrap();
        assert_eq!(template.fill(|_| Some("/")).unwrap(), "/?a=%2F");
        let (_, template) = of_url("http://api.example").unwrap();
        assert_eq!(template.fill(|_| None).unwrap(), "/");
    }

    #[test]
    fn a_url_that_a_caller_could_turn_elsewhere_is_refused() {
        for bad in [
            "https://{host}/x",
            "{scheme}://a/x",
            "https://a{b}/x",
            "https://user:password@a/x",
            "ftp://a/x",
            "a.example/x",
            "https:///x",
            "http://a/x#{y}",
            "http://a/{x",
            "http://a/x}",
            "http://a/{}",
            "http://a/{a b}",
            "http://a/{{a}}",
            "http://a/a b",
            "http://a/ü",
            "http://a/../x",
            "http://a/%2e%2E/x",
        ] {
            assert!(of_url(bad).is_err(), "{bad}");
        }
        assert!(of_path("x").is_err());
    }

    proptest! {
        #[test]
        fn a_value_never_leaves_its_place(segment in ".+", query in ".*") {
            let template = of_path("/a/{s}/b?x={q}&y=1").unwrap();
            let filled = template.fill(|name| Some(if name == "s" { segment.as_str() } else { query.as_str() }));
            prop_assume!(segment != "." && segment != "..");
            let filled = filled.unwrap();
            let uri: http::uri::PathAndQuery = filled.parse().unwrap();
            let segments: Vec<_> = uri.path().split('/').collect();
            prop_assert_eq!(segments.len(), 4);
            let pairs: Vec<_> = url::form_urlencoded::parse(uri.query().unwrap().as_bytes()).collect();
            prop_assert_eq!(pairs.len(), 2);
            prop_assert_eq!(&pairs[0].1, &query);
        }
    }
}
