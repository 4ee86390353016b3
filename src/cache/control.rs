//! What requests and responses say about caching: `Cache-Control` (RFC 9111 §5.2), its targeted relative
//! `CDN-Cache-Control` (RFC 9213), and the extensions of RFC 5861.

use std::time::Duration;

use http::{HeaderName, HeaderValue, header};
use sfv::{BareItem, Dictionary, ListEntry, Parser};

use crate::wire::Headers;

/// What a response says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said {
    /// Not to be stored.
    pub no_store: bool,
    /// Not to be used without asking the origin.
    pub no_cache: bool,
    /// For one user only.
    pub private: bool,
    /// May be stored even where it otherwise might not.
    pub public: bool,
    /// Not to be used stale.
    pub must_revalidate: bool,
    /// The same, said to shared caches.
    pub proxy_revalidate: bool,
    /// To be stored only by who knows its status; then `no-store` is not meant.
    pub must_understand: bool,
    /// How long it is fresh.
    pub max_age: Option<Duration>,
    /// How long it is fresh in a shared cache.
    pub s_maxage: Option<Duration>,
    /// How long it may be used stale while it is fetched anew.
    pub stale_while_revalidate: Option<Duration>,
    /// How long it may be used stale in place of an error.
    pub stale_if_error: Option<Duration>,
    /// Whether it was said to caches like this one in particular: `Expires` does not count then.
    pub targeted: bool,
}

/// What a request says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wants {
    /// Nothing that was not asked of the origin now.
    pub no_cache: bool,
    /// The answer is not to be stored.
    pub no_store: bool,
    /// Only what is stored.
    pub only_if_cached: bool,
    /// No older than this.
    pub max_age: Option<Duration>,
    /// Fresh for at least this long.
    pub min_fresh: Option<Duration>,
    /// Stale by no more than this.
    pub max_stale: Option<Duration>,
    /// Stale by no more than this, in place of an error.
    pub stale_if_error: Option<Duration>,
}

impl Said {
    /// What these headers of a response say. The targeted field wins, when it can be read and is not empty.
    pub fn of(headers: &Headers) -> Said {
        if let Some(said) = targeted(headers) {
            return said;
        }
        let mut said = Said::default();
        each_directive(headers.get_all(header::CACHE_CONTROL), |name, value| {
            said.hear(name, || value.map_or(Duration::ZERO, age));
        });
        said
    }

    /// Takes one directive. `no-cache` and `private` that name fields are taken as if they named none, which
    /// RFC 9111 §5.2.2 allows. Of a directive that is there twice, the first counts.
    fn hear(&mut self, name: &str, time: impl FnOnce() -> Duration) {
        match name {
            "no-store" => self.no_store = true,
            "no-cache" => self.no_cache = true,
            "private" => self.private = true,
            "public" => self.public = true,
            "must-revalidate" => self.must_revalidate = true,
            "proxy-revalidate" => self.proxy_revalidate = true,
            "must-understand" => self.must_understand = true,
            "max-age" => drop(self.max_age.get_or_insert_with(time)),
            "s-maxage" => drop(self.s_maxage.get_or_insert_with(time)),
            "stale-while-revalidate" => drop(self.stale_while_revalidate.get_or_insert_with(time)),
            "stale-if-error" => drop(self.stale_if_error.get_or_insert_with(time)),
            _ => {}
        }
    }
}

impl Wants {
    /// What these headers of a request say.
    pub fn of(headers: &Headers) -> Wants {
        let mut wants = Wants::default();
        let mut said = false;
        each_directive(headers.get_all(header::CACHE_CONTROL), |name, value| {
            said = true;
            // What can't be read is not asked for.
            let time = || value.and_then(seconds);
            match name {
                "no-cache" => wants.no_cache = true,
                "no-store" => wants.no_store = true,
                "only-if-cached" => wants.only_if_cached = true,
                "max-age" => wants.max_age = wants.max_age.or_else(time),
                "min-fresh" => wants.min_fresh = wants.min_fresh.or_else(time),
                "max-stale" if value.is_none() => wants.max_stale = Some(Duration::MAX),
                "max-stale" => wants.max_stale = wants.max_stale.or_else(time),
                "stale-if-error" => wants.stale_if_error = wants.stale_if_error.or_else(time),
                _ => {}
            }
        });
        // What HTTP/1.0 says for `no-cache`, where nothing newer is said (RFC 9111 §5.4).
        if !said {
            each_directive(headers.get_all(header::PRAGMA), |name, _| wants.no_cache |= name == "no-cache");
        }
        wants
    }
}

/// What the targeted field says, a dictionary of RFC 9651. One that is empty or can't be read is ignored
/// (RFC 9213 §2.1), and so is a member that is not of its directive's type.
fn targeted(headers: &Headers) -> Option<Said> {
    let mut lines = headers.get_all(TARGETED);
    let first = lines.next()?.as_bytes();
    let whole = lines.fold(first.to_vec(), |all, line| [&all, line.as_bytes()].join(&b", "[..]));
    let members: Dictionary = Parser::new(&whole).parse().ok()?;
    if members.is_empty() {
        return None;
    }
    let mut said = Said { targeted: true, ..Said::default() };
    for (name, member) in &members {
        let ListEntry::Item(item) = member else { continue };
        match &item.bare_item {
            BareItem::Boolean(true) if !is_time(name.as_str()) => said.hear(name.as_str(), || Duration::ZERO),
            // They may name fields.
            BareItem::String(_) | BareItem::Token(_) if matches!(name.as_str(), "no-cache" | "private") => {
                said.hear(name.as_str(), || Duration::ZERO);
            }
            BareItem::Integer(number) if is_time(name.as_str()) => {
                let number = u64::try_from(i64::from(*number)).unwrap_or(0);
                said.hear(name.as_str(), || Duration::from_secs(number.min(LONGEST)));
            }
            _ => {}
        }
    }
    Some(said)
}

fn is_time(name: &str) -> bool {
    matches!(name, "max-age" | "s-maxage" | "stale-while-revalidate" | "stale-if-error")
}

/// Every directive of a list: its name in lower case, and its value without quotes.
fn each_directive<'a>(
    values: impl IntoIterator<Item = &'a HeaderValue>,
    mut hear: impl FnMut(&str, Option<&str>),
) {
    for value in values {
        let mut rest = String::from_utf8_lossy(value.as_bytes());
        rest.to_mut().retain(|c| c != '\0');
        let mut rest: &str = &rest;
        loop {
            rest = rest.trim_start_matches([' ', '\t', ',']);
            if rest.is_empty() {
                break;
            }
            let end = rest.find([',', '=']).unwrap_or(rest.len());
            let name = rest[..end].trim_end().to_ascii_lowercase();
            rest = &rest[end..];
            match rest.strip_prefix('=') {
                None => hear(&name, None),
                Some(after) => {
                    let (value, left) = argument(after);
                    rest = left;
                    hear(&name, Some(value));
                }
            }
        }
    }
}

/// A token or a quoted string, and what follows it. Commas in a quoted string are its own.
fn argument(text: &str) -> (&str, &str) {
    let Some(inside) = text.strip_prefix('"') else {
        let end = text.find(',').unwrap_or(text.len());
        return (text[..end].trim(), &text[end..]);
    };
    let mut escaped = false;
    let end = inside.find(|c| {
        let is_end = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        is_end
    });
    match end {
        Some(end) => {
            let rest = &inside[end + 1..];
            (&inside[..end], &rest[rest.find(',').unwrap_or(rest.len())..])
        }
        None => (inside, ""),
    }
}

/// A response's time. One that is not a whole number makes it stale (RFC 9111 §4.2.1).
fn age(text: &str) -> Duration {
    seconds(text).unwrap_or(Duration::ZERO)
}

/// Whole seconds; too many are as many as can be (RFC 9111 §1.2.2).
pub fn seconds(text: &str) -> Option<Duration> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| Duration::from_secs(text.parse().unwrap_or(LONGEST).min(LONGEST)))
}

/// The targeted field that is for a cache in front of an origin (RFC 9213 §3.1).
pub const TARGETED: HeaderName = HeaderName::from_static("cdn-cache-control");
/// More seconds than any cache lives.
const LONGEST: u64 = 1 << 31;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directives_are_read_however_they_are_written() {
        let secs = |n| Some(Duration::from_secs(n));
        for (text, expected) in [
            ("max-age=60", Said { max_age: secs(60), ..Said::default() }),
            ("MAX-AGE=60, Public", Said { max_age: secs(60), public: true, ..Said::default() }),
            ("max-age=\"60\" , , no-cache", Said { max_age: secs(60), no_cache: true, ..Said::default() }),
            ("private=\"a, no-store, b\"", Said { private: true, ..Said::default() }),
            ("x=\"a\\\", no-store\", no-cache=\"y\"", Said { no_cache: true, ..Said::default() }),
            ("max-age=1, max-age=9", Said { max_age: secs(1), ..Said::default() }),
            ("max-age=1.5", Said { max_age: secs(0), ..Said::default() }),
            ("max-age=-1", Said { max_age: secs(0), ..Said::default() }),
            ("max-age", Said { max_age: secs(0), ..Said::default() }),
            ("max-age=99999999999999999999", Said { max_age: secs(1 << 31), ..Said::default() }),
            (
                "s-maxage=5,stale-while-revalidate=6,stale-if-error=7",
                Said {
                    s_maxage: secs(5),
                    stale_while_revalidate: secs(6),
                    stale_if_error: secs(7),
                    ..Said::default()
                },
            ),
            ("no-storey, xno-store, \"no-store", Said::default()),
        ] {
            assert_eq!(Said::of(&map(&[("cache-control", text)])), expected, "{text}");
        }
        let lines = map(&[("cache-control", "no-store"), ("cache-control", "must-understand")]);
        assert!(Said::of(&lines).no_store && Said::of(&lines).must_understand);
    }

    #[test]
    fn the_targeted_field_wins_when_it_can_be_read() {
        let said =
            |targeted| Said::of(&map(&[("cache-control", "no-store"), ("cdn-cache-control", targeted)]));
        let fresh = said("max-age=60, stale-if-error=9;note=\"x\"");
        assert_eq!(
            (fresh.no_store, fresh.max_age, fresh.targeted),
            (false, Some(Duration::from_secs(60)), true)
        );
        assert!(said("private").private && said("private=\"x-y\"").private);
        assert!(!said("private=?0, max-age=1").private);
        // Not of the directive's type: as if it were not there.
        assert_eq!(said("max-age=1.5, public").max_age, None);
        for unreadable in ["", "max-age=", "Max-Age=60", "max-age=60,", "max-age=\"60"] {
            assert!(said(unreadable).no_store, "{unreadable:?}");
        }
    }

    #[test]
    fn a_request_says_what_it_puts_up_with() {
        let wants = |text| Wants::of(&map(&[("cache-control", text)]));
        assert_eq!(wants("max-stale").max_stale, Some(Duration::MAX));
        assert_eq!(wants("max-stale=3, min-fresh=x").max_stale, Some(Duration::from_secs(3)));
        assert_eq!(wants("min-fresh=x"), Wants::default());
        assert!(Wants::of(&map(&[("pragma", "no-cache")])).no_cache);
        assert!(!Wants::of(&map(&[("pragma", "no-cache"), ("cache-control", "max-age=9")])).no_cache);
    }

    fn map(pairs: &[(&'static str, &'static str)]) -> Headers {
        let mut headers = Headers::new();
        for (name, value) in pairs {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }
}
