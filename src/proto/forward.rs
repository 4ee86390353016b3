//! Forward chains as a caller asks for them: what the six `X-Forward-*` headers say, and which requests they come to.
//!
//! The three that every request of a chain has are its id, where errors go, and who was before. The three lists
//! say what is to follow: element *i* is hop *i*. With all six a chain starts; with the three alone a request is
//! the last of one, and an ordinary request; any other mix is a mistake, and nothing is sent anywhere.

use http::HeaderName;
use url::Url;
use uuid::Uuid;

use crate::wire::{Code, Fault, Headers, Side, Target, job::Hop, show::beginning};

/// What the headers of a request say.
#[derive(Debug, PartialEq)]
pub enum Asked {
    /// It is none of a chain's.
    Nothing,
    /// It is the last of a chain.
    Last,
    /// It starts a chain.
    Forward(Forward),
}

/// A chain that is asked for.
#[derive(Debug, PartialEq)]
pub struct Forward {
    /// Its id.
    pub id: Uuid,
    /// Where errors are posted.
    pub errors_to: String,
    /// Its hops, in order.
    pub hops: Vec<Hop>,
}

/// Reads the headers. The lists are taken out of them: the server that the request goes to gets the other three.
///
/// # Errors
/// What is wrong with them, and with which.
pub fn read(headers: &mut Headers, max_hops: usize) -> Result<Asked, Fault> {
    let fixed = [ID, ERRORS_TO, REFERER].map(|name| headers.contains_key(&name));
    let lists = [TO, QUERY_PARAMS, METHOD].map(|name| headers.contains_key(&name));
    if !fixed.contains(&true) && !lists.contains(&true) {
        return Ok(Asked::Nothing);
    }
    let names = [ID, ERRORS_TO, REFERER, TO, QUERY_PARAMS, METHOD];
    let is_missing = |(name, has): (HeaderName, bool)| (!has).then_some(name);
    // Without any of the lists, none of them is missed.
    let wanted = if lists == [false; 3] { &names[..3] } else { &names[..] };
    let has = [fixed, lists].concat();
    let missing: Vec<_> = wanted.iter().cloned().zip(has).filter_map(is_missing).collect();
    if fixed != [true; 3] || (lists != [false; 3] && lists != [true; 3]) {
        return Err(mistake(format!("{} missing: {ALL_OR_NONE}", listed(&missing))));
    }
    let id = only(headers, &ID)?;
    let id =
        Uuid::try_parse(id).map_err(|_| mistake(format!("{}: '{}' is not a UUID", shown(&ID), cut(id))))?;
    let errors_to = only(headers, &ERRORS_TO)?.to_owned();
    destination(&ERRORS_TO, &errors_to)?;
    let referer = only(headers, &REFERER)?;
    if referer != ORIGIN {
        destination(&REFERER, referer)
            .map_err(|fault| mistake(format!("{} (or write {ORIGIN})", fault.detail)))?;
    }
    if lists == [false; 3] {
        return Ok(Asked::Last);
    }
    let hops = hops(headers, max_hops)?;
    for name in [TO, QUERY_PARAMS, METHOD] {
        headers.remove(name);
    }
    Ok(Asked::Forward(Forward { id, errors_to, hops }))
}

/// Whether the headers ask for more than one request: one of the three lists is there.
pub fn goes_on(headers: &Headers) -> bool {
    [TO, QUERY_PARAMS, METHOD].iter().any(|name| headers.contains_key(name))
}

fn hops(headers: &Headers, max_hops: usize) -> Result<Vec<Hop>, Fault> {
    let [to, params, methods] = [list(headers, &TO)?, list(headers, &QUERY_PARAMS)?, list(headers, &METHOD)?];
    if to.len() != params.len() || to.len() != methods.len() {
        return Err(mistake(format!(
            "{} has {} elements, {} {}, {} {}: they must be as many",
            shown(&TO),
            to.len(),
            shown(&QUERY_PARAMS),
            params.len(),
            shown(&METHOD),
            methods.len()
        )));
    }
    if to.len() > max_hops {
        return Err(mistake(format!("a chain has at most {max_hops} hops, this one has {}", to.len())));
    }
    let last = to.len() - 1;
    let mut hops = Vec::with_capacity(to.len());
    for (at, ((to, params), method)) in to.iter().zip(&params).zip(&methods).enumerate() {
        if method != "POST" && method != "PUT" {
            let method = cut(method);
            return Err(mistake(format!("{}: '{method}' is neither POST nor PUT", shown(&METHOD))));
        }
        if method == "PUT" && at != last {
            return Err(mistake(format!(
                "{}: a PUT stores what the chain comes to, so it can only be last",
                shown(&METHOD)
            )));
        }
        let url = hop_url(to, params)?;
        hops.push(Hop { method: method.clone(), url, upstream: None, repeatable: method == "PUT" });
    }
    Ok(hops)
}

/// A hop's URL with its query; one that names no path ends after its host: [`on_path`] adds the chain's.
fn hop_url(to: &str, params: &str) -> Result<String, Fault> {
    let target = destination(&TO, to)?;
    let path = target.path_and_query();
    if path.contains('?') {
        return Err(mistake(format!("{}: the query belongs in {}", shown(&TO), shown(&QUERY_PARAMS))));
    }
    if !params.bytes().all(is_query) {
        return Err(mistake(format!("{}: '{}' is not a query string", shown(&QUERY_PARAMS), cut(params))));
    }
    let (scheme, host) = (target.scheme(), target.authority());
    // With and without it, a URL is the same (RFC 3986 §6.2.3).
    let path = if path == "/" { "" } else { path };
    let mark = if params.is_empty() { "" } else { "?" };
    Ok(format!("{scheme}://{host}{path}{mark}{params}"))
}

/// A hop's whole URL: one that names no path is asked for the chain's.
pub fn on_path(url: &str, path: &str) -> String {
    let (host, rest) = url.split_at(host_end(url));
    if rest.starts_with('/') { url.to_owned() } else { format!("{host}{path}{rest}") }
}

/// Whether a hop's URL names a path.
pub fn names_path(url: &str) -> bool {
    url[host_end(url)..].starts_with('/')
}

fn host_end(url: &str) -> usize {
    let after = url.find("://").map_or(0, |at| at + 3);
    url[after..].find(['/', '?']).map_or(url.len(), |at| after + at)
}

/// The path that a server's `X-Canonical-IRI` names: it may be one, or a whole URL.
pub fn canonical_path(value: &str) -> Option<String> {
    let parsed = Url::parse(value).or_else(|_| Url::parse("http://relay")?.join(value)).ok()?;
    Some(parsed.path().to_owned()).filter(|path| path.starts_with('/'))
}

/// The lists for the hops that are not done, for whoever is told of an error.
pub fn lists(hops: &[Hop]) -> [(HeaderName, String); 3] {
    let split = |hop: &Hop| match hop.url.split_once('?') {
        Some((url, params)) => (url.to_owned(), params.to_owned()),
        None => (hop.url.clone(), String::new()),
    };
    let (to, params): (Vec<_>, Vec<_>) = hops.iter().map(split).unzip();
    let methods: Vec<_> = hops.iter().map(|hop| hop.method.clone()).collect();
    [(TO, to.join(", ")), (QUERY_PARAMS, params.join(", ")), (METHOD, methods.join(", "))]
}

/// An absolute URL over HTTP that a request of ours may go to.
///
/// # Errors
/// What is wrong with it; `name` is the header it came in.
pub fn destination(name: &HeaderName, text: &str) -> Result<Target, Fault> {
    Target::parse(text).map_err(|why| mistake(format!("{}: '{}': {why}", shown(name), cut(text))))
}

/// The one value of a header, as text.
fn only<'a>(headers: &'a Headers, name: &HeaderName) -> Result<&'a str, Fault> {
    let mut values = headers.get_all(name);
    match (values.next(), values.next()) {
        (Some(value), None) => {
            value.to_str().map(str::trim).map_err(|_| mistake(format!("{} is not text", shown(name))))
        }
        _ => Err(mistake(format!("{} must be there once", shown(name)))),
    }
}

/// The elements of a list, whether it stands in one line or in several.
fn list(headers: &Headers, name: &HeaderName) -> Result<Vec<String>, Fault> {
    let mut elements = Vec::new();
    for value in headers.get_all(name) {
        let value = value.to_str().map_err(|_| mistake(format!("{} is not text", shown(name))))?;
        elements.extend(value.split(',').map(|element| element.trim().to_owned()));
    }
    Ok(elements)
}

/// A byte of a query (RFC 3986 §3.4), a comma aside, which ends an element.
fn is_query(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+;=:@/?%".contains(&byte)
}

fn mistake(detail: String) -> Fault {
    Fault::new(Code::BadForward, Side::Client, detail)
}

fn listed(names: &[HeaderName]) -> String {
    let names: Vec<_> = names.iter().map(shown).collect();
    let verb = if names.len() == 1 { "is" } else { "are" };
    format!("{} {verb}", names.join(", "))
}

/// A header's name as the documentation writes it.
pub fn shown(name: &HeaderName) -> String {
    let word = |word: &str| match word {
        "id" => "Id".to_owned(),
        word => word[..1].to_ascii_uppercase() + &word[1..],
    };
    name.as_str().split('-').map(word).collect::<Vec<_>>().join("-")
}

/// The beginning of what a caller wrote.
fn cut(text: &str) -> &str {
    beginning(text, SHOWN)
}

/// The chain's id.
pub const ID: HeaderName = HeaderName::from_static("x-forward-id");
/// Where errors are posted.
pub const ERRORS_TO: HeaderName = HeaderName::from_static("x-forward-errors-to");
/// The URL of the hop before.
pub const REFERER: HeaderName = HeaderName::from_static("x-forward-referer");
/// Where the hops go.
pub const TO: HeaderName = HeaderName::from_static("x-forward-to");
/// Their queries.
pub const QUERY_PARAMS: HeaderName = HeaderName::from_static("x-forward-query-params");
/// Their methods.
pub const METHOD: HeaderName = HeaderName::from_static("x-forward-method");
/// The path by which a server knows what it answered.
pub const CANONICAL_IRI: HeaderName = HeaderName::from_static("x-canonical-iri");
/// The referer of a request that somebody sends by hand.
const ORIGIN: &str = "ORIGIN";
const ALL_OR_NONE: &str = "a chain needs X-Forward-Id, X-Forward-Errors-To and X-Forward-Referer, and to go on \
    X-Forward-To, X-Forward-Query-Params and X-Forward-Method";
/// Bytes of a caller's text that a message repeats.
const SHOWN: usize = 100;

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const FIXED: [(&str, &str); 3] = [
        ("x-forward-id", "12345678-1234-1234-1234-1234567890AB"),
        ("x-forward-errors-to", "http://errors.com"),
        ("x-forward-referer", "ORIGIN"),
    ];

    fn headers(pairs: &[(&'static str, &str)]) -> Headers {
        let mut headers = Headers::new();
        for (name, value) in pairs {
            headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn forward(to: &str, params: &str, methods: &str) -> Result<Vec<Hop>, String> {
        let lists = [("x-forward-to", to), ("x-forward-query-params", params), ("x-forward-method", methods)];
        match read(&mut headers(&[&FIXED[..], &lists].concat()), 32) {
            Ok(Asked::Forward(forward)) => Ok(forward.hops),
            Ok(other) => panic!("{other:?}"),
            Err(fault) => Err(fault.detail.into_owned()),
        }
    }

    #[test]
    fn element_i_of_each_list_is_hop_i() {
        let hops = forward(
            "http://one.com, http://two.com/own, https://three.com:8443",
            "foo=bar%2Cbaz, , loneliest_number=1",
            "POST, POST, PUT",
        )
        .unwrap();
        let urls: Vec<_> = hops.iter().map(|hop| on_path(&hop.url, "/a/b")).collect();
        let expected = [
            "http://one.com/a/b?foo=bar%2Cbaz",
            "http://two.com/own",
            "https://three.com:8443/a/b?loneliest_number=1",
        ];
        assert_eq!(urls, expected);
        assert_eq!(hops.iter().map(|hop| hop.method.as_str()).collect::<Vec<_>>(), ["POST", "POST", "PUT"]);
    }

    #[test]
    fn the_lists_may_stand_in_several_lines() {
        let mut all = headers(&FIXED);
        for (name, value) in [
            ("x-forward-to", "http://one.com"),
            ("x-forward-to", "http://two.com"),
            ("x-forward-query-params", ""),
            ("x-forward-query-params", "a=b"),
            ("x-forward-method", "POST, PUT"),
        ] {
            all.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        let Asked::Forward(forward) = read(&mut all, 2).unwrap() else { panic!("a chain") };
        assert_eq!(forward.hops[1].url, "http://two.com?a=b");
        // The first server gets the three that every request of a chain has.
        assert_eq!(all.len(), 3);
    }

    #[test]
    fn three_headers_are_the_last_of_a_chain_and_none_is_an_ordinary_request() {
        assert_eq!(read(&mut headers(&FIXED), 32).unwrap(), Asked::Last);
        assert_eq!(read(&mut headers(&[("host", "a")]), 32).unwrap(), Asked::Nothing);
    }

    #[test]
    fn any_other_mix_is_refused_and_says_what_is_missing() {
        for left_out in 0..3 {
            let mut mixed = FIXED.to_vec();
            let (name, _) = mixed.remove(left_out);
            let fault = read(&mut headers(&mixed), 32).unwrap_err();
            assert!(fault.detail.to_lowercase().starts_with(name), "{}", fault.detail);
            assert_eq!(fault.status(), 400);
        }
        let one_list = [&FIXED[..], &[("x-forward-to", "http://a")]].concat();
        let fault = read(&mut headers(&one_list), 32).unwrap_err();
        let told = "X-Forward-Query-Params, X-Forward-Method are missing";
        assert!(fault.detail.starts_with(told), "{}", fault.detail);
        assert!(read(&mut headers(&[("x-forward-to", "http://a")]), 32).is_err());
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (to, params, methods, told) in [
            ("http://a, http://b", "", "POST, POST", "has 2 elements, X-Forward-Query-Params 1"),
            ("http://a", "x", "GET", "'GET' is neither POST nor PUT"),
            ("http://a", "x", "post", "'post' is neither"),
            ("http://a, http://b", ",", "PUT, POST", "can only be last"),
            ("ftp://a", "", "POST", "write the whole URL"),
            ("a.com", "", "POST", "'a.com': write the whole URL"),
            ("", "", "POST", "'': write the whole URL"),
            ("http://", "", "POST", "a host is a name"),
            ("http://u:p@a", "", "POST", "no user name"),
            ("http://a?x=1", "", "POST", "the query belongs in X-Forward-Query-Params"),
            ("http://a#f", "", "POST", "fragment"),
            ("http://a", "a b", "POST", "'a b' is not a query string"),
            ("http://a", "a#b", "POST", "not a query string"),
        ] {
            let detail = forward(to, params, methods).unwrap_err();
            assert!(detail.contains(told), "{detail} should say {told}");
        }
        for (at, bad, told) in [
            (0, "not-a-uuid", "is not a UUID"),
            (1, "nowhere", "X-Forward-Errors-To: 'nowhere': write the whole URL"),
            (2, "origin", "or write ORIGIN"),
        ] {
            let mut fixed = FIXED;
            fixed[at].1 = bad;
            let detail = read(&mut headers(&fixed), 32).unwrap_err().detail;
            assert!(detail.contains(told), "{detail} should say {told}");
        }
        let twice = [&FIXED[..], &FIXED[..1]].concat();
        assert!(read(&mut headers(&twice), 32).unwrap_err().detail.contains("once"));
    }

    #[test]
    fn a_chain_has_so_many_hops_at_most() {
        let many = |n: usize, element: &str| vec![element; n].join(",");
        assert!(forward(&many(32, "http://a"), &many(32, ""), &many(32, "POST")).is_ok());
        let detail = forward(&many(33, "http://a"), &many(33, ""), &many(33, "POST")).unwrap_err();
        assert!(detail.contains("at most 32 hops"), "{detail}");
    }

    #[test]
    fn a_canonical_iri_is_a_path_or_has_one() {
        for (value, path) in [
            ("/documents/7", Some("/documents/7")),
            ("http://a.com/documents/7?x=1", Some("/documents/7")),
            ("documents/7", Some("/documents/7")),
            ("http://a.com", Some("/")),
            ("urn:isbn:1", None),
        ] {
            assert_eq!(canonical_path(value).as_deref(), path, "{value}");
        }
    }

    #[test]
    fn the_lists_of_what_is_left_say_the_same_again() {
        let hops = forward("http://one.com/x, http://two.com", "a=b, ", "POST, PUT").unwrap();
        let [to, params, methods] = lists(&hops).map(|(_, value)| value);
        assert_eq!(forward(&to, &params, &methods).unwrap(), hops);
    }
}
