//! Which of a caller's header fields may pass on: one list, for fields before a body and after it.
//!
//! Origins believe some fields because a proxy in front sets them: who the caller is, which host, path and scheme it
//! asked for, that its certificate was verified. A caller that sets one itself is somebody else, so they pass from
//! trusted proxies alone. Names are compared as an origin reads them that keeps fields as variables (RFC 3875 §4.1.18):
//! there `X_Forwarded_For` and `X.Forwarded.For` are `X-Forwarded-For`, so whatever is neither letter nor digit is read
//! as `-`. What a trusted proxy sets itself it spells with `-`: other spellings are its caller's.

use http::HeaderName;

use super::Caller;

/// What is believed of the fields of a caller.
#[derive(Debug, Clone, Copy)]
pub struct FieldRules {
    /// Whether the caller is a trusted proxy.
    pub trusted: bool,
    /// Whether names with `_` pass.
    pub underscores: bool,
}

/// Who may set a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Setter {
    /// Every caller.
    Anyone,
    /// A trusted proxy.
    Proxy,
    /// The relay.
    Relay,
}

impl Caller {
    /// What is believed of its fields.
    pub fn rules(&self) -> FieldRules {
        FieldRules { trusted: self.trusted, underscores: self.underscores }
    }
}

impl FieldRules {
    /// Whether a field of this name may pass on.
    pub fn pass(self, name: &HeaderName) -> bool {
        let text = name.as_str();
        if is_plain_name(text) {
            return match setter(text) {
                Setter::Anyone => true,
                Setter::Proxy => self.trusted,
                Setter::Relay => false,
            };
        }
        let dropped = text.contains('_') && !(self.trusted || self.underscores);
        !dropped && is_anyones(name)
    }
}

/// Whether every caller may set a field of this name, and it tells nothing of the message itself by another spelling.
pub(super) fn is_anyones(name: &HeaderName) -> bool {
    let text = name.as_str();
    if is_plain_name(text) {
        return setter(text) == Setter::Anyone;
    }
    // Longer names than any in the list can only begin with one of them.
    let mut room = [0; LONGEST];
    let length = text.len().min(LONGEST);
    for (to, from) in room.iter_mut().zip(text.bytes()) {
        *to = if is_plain(from) { from } else { b'-' };
    }
    let plain = std::str::from_utf8(&room[..length]).unwrap_or_default();
    setter(plain) == Setter::Anyone && !OF_THE_MESSAGE.contains(&plain)
}

/// Whether a name, which is in lower case, has nothing but letters, digits and `-`. Every header of every request is looked
/// at, so eight bytes at once; the last eight may have been looked at before.
fn is_plain_name(name: &str) -> bool {
    let (words, _) = name.as_bytes().as_chunks::<8>();
    match name.as_bytes().last_chunk::<8>() {
        Some(last) => words.iter().chain([last]).all(|word| is_plain_word(u64::from_le_bytes(*word))),
        None => name.bytes().all(is_plain),
    }
}

fn is_plain_word(word: u64) -> bool {
    const EACH: u64 = u64::from_le_bytes([1; 8]);
    const TOP: u64 = EACH << 7;
    // The top bit of each byte that is at least `least`, for bytes whose own top bit is not set: nothing is carried over.
    let at_least = |least: u8| word + EACH * u64::from(0x80 - least);
    let within = |first: u8, last: u8| at_least(first) & !at_least(last + 1);
    word & TOP == 0 && (within(b'a', b'z') | within(b'0', b'9') | within(b'-', b'-')) & TOP == TOP
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'
}

/// Who may set the field `name`, in lower case and with `-` alone. Nearly every name is told by its first two letters.
fn setter(name: &str) -> Setter {
    let of_a_proxy = match name.as_bytes() {
        [b'x', b'-', ..] => {
            let rest = &name[2..];
            if rest.starts_with("relay-") {
                return Setter::Relay;
            }
            X_NAMES.contains(&rest) || X_BEGINNINGS.iter().any(|start| rest.starts_with(start))
        }
        [b'a', b'l' | b'z', ..]
        | [b'c', b'd' | b'f' | b'l', ..]
        | [b'd', b'o', ..]
        | [b'f', b'a' | b'l' | b'o' | b'r', ..]
        | [b'i', b'n', ..]
        | [b'p', b'r', ..]
        | [b'r', b'e', ..]
        | [b's', b's', ..]
        | [b't', b'r', ..]
        | [b'w', b'l', ..] => NAMES.contains(&name) || BEGINNINGS.iter().any(|start| name.starts_with(start)),
        _ => false,
    };
    if of_a_proxy { Setter::Proxy } else { Setter::Anyone }
}

/// Names without a common beginning: addresses as content networks and old servers tell them (Akamai, Alibaba,
/// DigitalOcean, Fastly, Imperva, Fly), that TLS was spoken (Microsoft), users of single sign-on (Authelia), and `Proxy`,
/// which programs behind CGI take for a setting of theirs (CVE-2016-5385).
const NAMES: [&str; 17] = [
    "ali-cdn-real-ip",
    "cdn-loop-client-ip",
    "cdn-real-ip",
    "cdn-src-ip",
    "client-ip",
    "cluster-client-ip",
    "do-connecting-ip",
    "fastly-client-ip",
    "fastly-ssl",
    "fly-client-ip",
    "forwarded",
    "forwarded-for",
    "front-end-https",
    "incap-client-ip",
    "proxy",
    "proxy-client-ip",
    "true-client-ip",
];
/// `CF-…` is Cloudflare's, `Client-Cert` RFC 9440's, `WL-Proxy-…` WebLogic's.
const BEGINNINGS: [&str; 9] = [
    "cf-",
    "client-cert",
    "fly-forwarded-",
    "forwarded-",
    "remote-",
    "ssl-client-",
    "true-client-",
    "wl-proxy-",
    "azure-client",
];
/// The same after `X-`: addresses, hosts, schemes and URLs; and what makes a server send a file of its own (Rack).
const X_NAMES: [&str; 23] = [
    "accel-mapping",
    "anonymous-consumer",
    "client-dn",
    "client-ip",
    "client-port",
    "client-verify",
    "cluster-client-ip",
    "credential-identifier",
    "forward-for",
    "forward-host",
    "forward-proto",
    "host",
    "host-override",
    "http-host-override",
    "https",
    "nf-client-connection-ip",
    "proxyuser-ip",
    "rewrite-url",
    "scheme",
    "sendfile-type",
    "sucuri-clientip",
    "true-client-ip",
    "url-scheme",
];
/// `X-Original-…` and `X-Real-…` are of nginx and IIS, `X-ARR-…`, `X-Azure-…` and `X-MS-Client-Principal…` Microsoft's,
/// `X-Envoy-…` Envoy's, `X-AppEngine-…` and `X-Goog-…` Google's, `X-Amzn-OIDC-…` Amazon's, `X-Consumer-…` Kong's; the
/// others name users, as single sign-on does (OAuth2 Proxy, Authentik, Grafana).
const X_BEGINNINGS: [&str; 21] = [
    "akamai-",
    "amzn-oidc-",
    "appengine-",
    "arr-",
    "auth-request-",
    "authenticated-",
    "authentik-",
    "azure-",
    "client-cert",
    "consumer-",
    "envoy-",
    "forwarded",
    "goog-authenticated-",
    "goog-iap-",
    "ms-client-principal",
    "original-",
    "originating-",
    "real-",
    "remote-",
    "ssl",
    "webauth-",
];
/// What frames a message or concerns one hop, and is none of that in another spelling here, but is for some origins.
const OF_THE_MESSAGE: [&str; 8] = [
    "content-length",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "transfer-encoding",
    "content-encoding",
];
/// What of a name is compared, in bytes.
const LONGEST: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_says_who_a_caller_is_passes_from_trusted_proxies_alone() {
        for name in [
            "forwarded",
            "x-forwarded",
            "x-forwarded-for",
            "x-forwarded-anything",
            "x-forwarded-client-cert",
            "x-real-ip",
            "true-client-ip",
            "x-true-client-ip",
            "x-client-ip",
            "client-ip",
            "x-cluster-client-ip",
            "x-proxyuser-ip",
            "x-original-url",
            "x-original-forwarded-for",
            "x-originating-ip",
            "x-rewrite-url",
            "x-remote-addr",
            "x-host",
            "cf-connecting-ip",
            "cf-connecting-ipv6",
            "cf-access-authenticated-user-email",
            "fastly-client-ip",
            "front-end-https",
            "x-envoy-external-address",
            "x-azure-clientip",
            "client-cert",
            "client-cert-chain",
            "ssl-client-verify",
            "x-ssl-client-s-dn",
            "remote-user",
            "x-auth-request-email",
            "proxy",
        ] {
            let is = |name: &HeaderName, trusted| FieldRules { trusted, underscores: true }.pass(name);
            let plain = HeaderName::from_static(name);
            assert!(!is(&plain, false) && is(&plain, true), "{name}");
            for other in ["_", ".", "~", "!"] {
                let spelled: HeaderName = name.replace('-', other).parse().unwrap();
                assert!(spelled == plain || !is(&spelled, false) && !is(&spelled, true), "{spelled}");
            }
        }
    }

    #[test]
    fn a_name_is_plain_when_each_of_its_bytes_is() {
        for byte in 0..=u8::MAX {
            for (before, after) in [(0, 0), (0, 8), (7, 0), (8, 3), (3, 9)] {
                let name = [vec![b'a'; before], vec![byte], vec![b'z'; after]].concat();
                if let Ok(name) = std::str::from_utf8(&name) {
                    assert_eq!(is_plain_name(name), is_plain(byte), "{name:?}");
                }
            }
        }
        assert!(is_plain_name("") && is_plain_name("x-forwarded-for") && !is_plain_name("x-forwarded_for"));
    }

    #[test]
    fn every_name_in_the_list_is_found() {
        let names = NAMES.iter().chain(&BEGINNINGS).map(|name| (*name).to_owned());
        let x_names = X_NAMES.iter().chain(&X_BEGINNINGS).map(|name| format!("x-{name}"));
        for name in names.chain(x_names) {
            assert_eq!(setter(&name), Setter::Proxy, "{name}");
        }
    }

    #[test]
    fn what_every_caller_may_say_passes() {
        for name in [
            "host",
            "accept",
            "accept-encoding",
            "authorization",
            "cookie",
            "content-type",
            "content-length",
            "cache-control",
            "priority",
            "pragma",
            "prefer",
            "from",
            "dnt",
            "sec-fetch-site",
            "referer",
            "range",
            "x-api-key",
            "x-request-id",
            "x-client-info",
            "x-client-version",
            "x-goog-api-key",
            "x-requested-with",
            "x-forward-to",
            "x-http-method-override",
            "forwards",
            "client-id",
            "proxy-status",
            "x-csrf-token",
            "x",
            "x-",
            "traceparent",
            "x-b3-traceid",
            "x.dotted",
        ] {
            let name: HeaderName = name.parse().unwrap();
            assert!(FieldRules { trusted: false, underscores: false }.pass(&name), "{name}");
        }
    }

    #[test]
    fn names_with_an_underscore_pass_when_a_proxy_or_the_operator_says_so() {
        let name = HeaderName::from_static("my_header");
        for (trusted, underscores, passes) in
            [(false, false, false), (false, true, true), (true, false, true)]
        {
            assert_eq!(FieldRules { trusted, underscores }.pass(&name), passes);
        }
    }

    #[test]
    fn what_is_the_relays_own_or_frames_a_message_passes_in_no_spelling() {
        let trusted = FieldRules { trusted: true, underscores: true };
        let long = format!("x_relay_{}", "x".repeat(100));
        for name in ["x-relay-id", "x_relay_id", "x.relay-id", &long, "content_length", "transfer.encoding"] {
            assert!(!trusted.pass(&name.parse().unwrap()), "{name}");
        }
    }
}
