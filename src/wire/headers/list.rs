//! Headers as they came: a list of names and values, in order, repeated ones apart.

use std::ops::Index;

use http::{HeaderMap, HeaderName, HeaderValue};

/// Header fields in the order in which they were sent.
///
/// A list and not a map: what comes to a proxy is passed on whole, a few names are looked for on the way, and there
/// are so few of them that comparing beats hashing. Values are slices of what they arrived in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers {
    list: Vec<(HeaderName, HeaderValue)>,
}

/// What a header is looked for by.
pub trait Named {
    /// Whether it is this one.
    fn is(&self, name: &HeaderName) -> bool;
}

impl Named for HeaderName {
    fn is(&self, name: &HeaderName) -> bool {
        self == name
    }
}

impl Named for &HeaderName {
    fn is(&self, name: &HeaderName) -> bool {
        *self == name
    }
}

impl Named for &str {
    fn is(&self, name: &HeaderName) -> bool {
        name == *self
    }
}

impl Headers {
    /// None.
    pub const fn new() -> Self {
        Headers { list: Vec::new() }
    }

    /// None yet, with room for `capacity` of them.
    pub fn with_capacity(capacity: usize) -> Self {
        Headers { list: Vec::with_capacity(capacity) }
    }

    /// Makes room for `more`.
    pub fn reserve(&mut self, more: usize) {
        self.list.reserve(more);
    }

    /// How many there are; one that is repeated counts each time.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The first value of `name`.
    pub fn get(&self, name: impl Named) -> Option<&HeaderValue> {
        self.list.iter().find(|(other, _)| name.is(other)).map(|(_, value)| value)
    }

    /// All values of `name`, in order.
    pub fn get_all(&self, name: impl Named) -> impl DoubleEndedIterator<Item = &HeaderValue> {
        self.list.iter().filter(move |(other, _)| name.is(other)).map(|(_, value)| value)
    }

    /// Whether `name` is there.
    pub fn contains_key(&self, name: impl Named) -> bool {
        self.get(name).is_some()
    }

    /// Sets `name`, unless it is there.
    pub fn set_default(&mut self, name: HeaderName, value: HeaderValue) {
        if !self.contains_key(&name) {
            self.append(name, value);
        }
    }

    /// Adds one at the end.
    pub fn append(&mut self, name: HeaderName, value: HeaderValue) {
        self.list.push((name, value));
    }

    /// Sets `name` to this one value, in the place of the first that it had.
    pub fn insert(&mut self, name: HeaderName, value: HeaderValue) {
        let Some(at) = self.list.iter().position(|(other, _)| *other == name) else {
            return self.append(name, value);
        };
        self.list[at].1 = value;
        let mut seen = 0..;
        self.list.retain(|(other, _)| seen.next().is_some_and(|here| here <= at) || *other != name);
    }

    /// Takes `name` out; returns its first value.
    pub fn remove(&mut self, name: impl Named) -> Option<HeaderValue> {
        let first = self.list.iter().position(|(other, _)| name.is(other))?;
        let (_, value) = self.list.remove(first);
        self.list.retain(|(other, _)| !name.is(other));
        Some(value)
    }

    /// Keeps what `keep` says yes to.
    pub fn retain(&mut self, mut keep: impl FnMut(&HeaderName, &HeaderValue) -> bool) {
        self.list.retain(|(name, value)| keep(name, value));
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&HeaderName, &HeaderValue)> + DoubleEndedIterator {
        self.list.iter().map(|(name, value)| (name, value))
    }

    /// All names, in order; one that is repeated comes each time.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &HeaderName> {
        self.list.iter().map(|(name, _)| name)
    }
}

impl IntoIterator for Headers {
    type Item = (HeaderName, HeaderValue);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.list.into_iter()
    }
}

impl<'a> IntoIterator for &'a Headers {
    type Item = (&'a HeaderName, &'a HeaderValue);
    type IntoIter = std::iter::Map<
        std::slice::Iter<'a, (HeaderName, HeaderValue)>,
        fn(&'a (HeaderName, HeaderValue)) -> Self::Item,
    >;

    fn into_iter(self) -> Self::IntoIter {
        self.list.iter().map(|(name, value)| (name, value))
    }
}

impl FromIterator<(HeaderName, HeaderValue)> for Headers {
    fn from_iter<I: IntoIterator<Item = (HeaderName, HeaderValue)>>(pairs: I) -> Self {
        Headers { list: pairs.into_iter().collect() }
    }
}

impl Extend<(HeaderName, HeaderValue)> for Headers {
    fn extend<I: IntoIterator<Item = (HeaderName, HeaderValue)>>(&mut self, pairs: I) {
        self.list.extend(pairs);
    }
}

/// For what is known to be there: it panics otherwise.
impl Index<&str> for Headers {
    type Output = HeaderValue;

    fn index(&self, name: &str) -> &HeaderValue {
        self.get(name).expect("the header is there")
    }
}

/// For what speaks HTTP by a library.
impl From<HeaderMap> for Headers {
    fn from(map: HeaderMap) -> Self {
        let mut headers = Headers::with_capacity(map.len());
        let mut last = None;
        for (name, value) in map {
            // A map names a repeated one once.
            last = name.or(last);
            if let Some(name) = &last {
                headers.append(name.clone(), value);
            }
        }
        headers
    }
}

/// For what speaks HTTP by a library.
impl From<Headers> for HeaderMap {
    fn from(headers: Headers) -> Self {
        let mut map = HeaderMap::with_capacity(headers.len());
        for (name, value) in headers {
            map.append(name, value);
        }
        map
    }
}

#[cfg(test)]
mod tests {
    use http::header::{ACCEPT, COOKIE, HOST};

    use super::*;

    fn headers(pairs: &[(HeaderName, &'static str)]) -> Headers {
        pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn one_that_is_set_stands_where_its_first_stood() {
        let mut set = headers(&[(COOKIE, "a"), (HOST, "h"), (COOKIE, "b"), (ACCEPT, "x"), (COOKIE, "c")]);
        set.insert(COOKIE, HeaderValue::from_static("d"));
        assert_eq!(set, headers(&[(COOKIE, "d"), (HOST, "h"), (ACCEPT, "x")]));
        set.insert(HOST, HeaderValue::from_static("i"));
        assert_eq!(set, headers(&[(COOKIE, "d"), (HOST, "i"), (ACCEPT, "x")]));
    }

    #[test]
    fn taking_one_out_leaves_the_order_of_the_rest() {
        let mut left = headers(&[(HOST, "h"), (COOKIE, "a"), (ACCEPT, "x"), (COOKIE, "b")]);
        assert_eq!(left.remove(COOKIE).unwrap(), "a");
        assert_eq!(left.remove(COOKIE), None);
        assert_eq!(left, headers(&[(HOST, "h"), (ACCEPT, "x")]));
    }

    #[test]
    fn a_map_keeps_repeated_values_and_their_order() {
        let map = HeaderMap::from(headers(&[(COOKIE, "a"), (HOST, "h"), (COOKIE, "b")]));
        assert_eq!(map.get_all(COOKIE).iter().collect::<Vec<_>>(), ["a", "b"]);
        let list = Headers::from(map);
        assert_eq!(list.get_all(COOKIE).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(list.len(), 3);
    }
}
