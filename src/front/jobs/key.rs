//! A caller's own name for its request, the `Idempotency-Key`: whose it is, and what it was used for.
//!
//! A key is no secret, and the job that it leads to is. So it is one caller's, at one host: by every credential that
//! came with the request, all of its values.

use std::collections::BTreeMap;

use data_encoding::HEXLOWER;
use http::{HeaderValue, header};
use ring::digest::{self, Digest};

use crate::{
    front::message::Head,
    wire::{
        Code, Fault, Headers, RequestTarget, Side,
        headers::{Credentials, IDEMPOTENCY_KEY},
        store::CallerKey,
    },
};

/// Reads the key of a request for `url` whose response goes to `callback`.
///
/// # Errors
/// When there are several.
pub(super) fn read(
    head: &Head,
    credentials: &Credentials,
    url: &RequestTarget,
    callback: Option<&str>,
    body: &[u8],
) -> Result<Option<CallerKey>, Fault> {
    let mut keys = head.headers.get_all(IDEMPOTENCY_KEY);
    let Some(key) = keys.next() else { return Ok(None) };
    if keys.next().is_some() {
        let detail = "a request has one Idempotency-Key at most";
        return Err(Fault::new(Code::BadJob, Side::Client, detail));
    }
    let value = |name| head.headers.get(name).map(HeaderValue::as_bytes);
    let mut whose = Hash::new();
    whose.add(key.as_bytes());
    whose.add_option(value(header::HOST));
    for (name, values) in by_name(&head.headers, credentials) {
        whose.add(name.as_bytes());
        whose.add_list(&values);
    }
    let mut asked = Hash::new();
    asked.add(head.method.as_str().as_bytes());
    asked.add(url.as_bytes());
    asked.add_option(value(header::CONTENT_TYPE));
    asked.add_option(value(header::CONTENT_ENCODING));
    asked.add_option(callback.map(str::as_bytes));
    asked.add(body);
    let (whose, asked) = (whose.finish(), asked.finish());
    Ok(Some(CallerKey { hash: HEXLOWER.encode(whose.as_ref()), asked: asked.as_ref().to_vec() }))
}

/// The credentials of a request: the names in order, and of each the values as they came. The parts of a cookie that
/// came in several fields, as HTTP/2 allows (RFC 9113 §8.2.3), are one cookie.
fn by_name<'a>(headers: &'a Headers, credentials: &Credentials) -> BTreeMap<&'a str, Vec<Vec<u8>>> {
    let mut found: BTreeMap<&str, Vec<Vec<u8>>> = BTreeMap::new();
    for (name, value) in headers.iter().filter(|(name, _)| credentials.contains(name.as_str())) {
        found.entry(name.as_str()).or_default().push(value.as_bytes().to_vec());
    }
    if let Some(cookie) = found.get_mut(header::COOKIE.as_str()) {
        *cookie = vec![cookie.join(&b"; "[..])];
    }
    found
}

/// A hash of texts and lists of texts. Each has its length before it, and a text that is absent has none, so that what
/// differs is never hashed alike.
struct Hash(digest::Context);

impl Hash {
    fn new() -> Self {
        Hash(digest::Context::new(&digest::SHA256))
    }

    fn add(&mut self, text: &[u8]) {
        self.count(text.len());
        self.0.update(text);
    }

    fn add_option(&mut self, text: Option<&[u8]>) {
        self.count(usize::from(text.is_some()));
        text.into_iter().for_each(|text| self.add(text));
    }

    fn add_list(&mut self, texts: &[Vec<u8>]) {
        self.count(texts.len());
        texts.iter().for_each(|text| self.add(text));
    }

    fn count(&mut self, count: usize) {
        self.0.update(&(count as u64).to_be_bytes());
    }

    fn finish(self) -> Digest {
        self.0.finish()
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, Method, Version};

    use super::*;
    use crate::front::message::Target;

    /// The hash of a request with the key `k` at the host `a` and these headers.
    fn whose(pairs: &[(&'static str, &'static str)]) -> String {
        key(pairs, None).unwrap().hash
    }

    fn key(pairs: &[(&'static str, &'static str)], callback: Option<&str>) -> Result<CallerKey, Fault> {
        let own = [("idempotency-key", "k"), ("host", "a")].into_iter();
        let own = own.filter(|(name, _)| *name != "host" || !pairs.iter().any(|(other, _)| other == name));
        let pairs = own.chain(pairs.iter().copied());
        let headers =
            pairs.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let head = Head {
            method: Method::POST,
            target: Target::default(),
            version: Version::HTTP_11,
            headers: headers.collect(),
        };
        let added = Credentials::with(&[HeaderName::from_static("x-tenant")]);
        read(&head, &added, &"/pay".into(), callback, b"10").map(|key| key.expect("it has one"))
    }

    #[test]
    fn callers_who_differ_in_any_credential_have_keys_of_their_own() {
        let callers: &[&[(&str, &str)]] = &[
            &[],
            &[("authorization", "")],
            &[("authorization", "a")],
            &[("authorization", "b")],
            &[("authorization", "a"), ("authorization", "b")],
            &[("authorization", "b"), ("authorization", "a")],
            &[("authorization", "ab")],
            &[("authorization", "a, b")],
            &[("proxy-authorization", "a")],
            &[("cookie", "a")],
            &[("cookie", "b")],
            &[("cookie", "a"), ("cookie", "b")],
            &[("authorization", "a"), ("cookie", "b")],
            &[("x-api-key", "a")],
            &[("x-api-key", "b")],
            &[("x_api_key", "a")],
            &[("api-key", "a")],
            &[("x-auth-token", "a")],
            &[("x-tenant", "a")],
            &[("x-tenant", "b")],
            &[("x-forwarded-user", "a")],
            &[("host", "b")],
        ];
        let hashes: Vec<_> = callers.iter().map(|pairs| whose(pairs)).collect();
        let distinct: std::collections::BTreeSet<_> = hashes.iter().collect();
        assert_eq!(distinct.len(), callers.len(), "{hashes:#?}");
    }

    #[test]
    fn the_same_caller_has_the_same_key_however_its_fields_are_ordered() {
        let one = whose(&[("authorization", "a"), ("accept", "x"), ("x-api-key", "b"), ("cookie", "c; d")]);
        let two = whose(&[("cookie", "c"), ("x-api-key", "b"), ("cookie", "d"), ("authorization", "a")]);
        assert_eq!(one, two);
    }

    #[test]
    fn another_callback_is_another_request() {
        let [none, one, other] =
            [None, Some("http://a/"), Some("http://b/")].map(|callback| key(&[], callback).unwrap().asked);
        assert!(none != one && one != other && none != other);
    }

    #[test]
    fn a_request_has_one_key() {
        let fault = key(&[("idempotency-key", "l")], None).unwrap_err();
        assert_eq!(fault.code, Code::BadJob);
    }
}
