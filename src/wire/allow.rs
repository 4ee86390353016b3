//! Which outside hosts an egress agent may call: `https://api.partner.com`, `https://*.partner.com`,
//! `http://192.0.2.7:8080`. Scheme, host and port have to match; a port that is not written is the scheme's own.

use std::{borrow::Cow, fmt, str::FromStr, sync::Arc};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, SeqAccess, Visitor},
};

use super::target::{self, Host, InvalidTarget, Scheme, Target};

/// Outside hosts that may be called.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Allow {
    scheme: Scheme,
    hosts: Hosts,
    port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Hosts {
    /// This one.
    One(Host),
    /// Every name below this one, at any depth.
    Below(Arc<str>),
}

/// Patterns of one agent at most.
pub const MAX_ALLOW: usize = 64;

impl Allow {
    /// Whether this may be called.
    pub fn matches(&self, scheme: Scheme, host: &Host, port: u16) -> bool {
        let is_host = match (&self.hosts, host) {
            (Hosts::One(one), host) => one == host,
            (Hosts::Below(above), Host::Name(name)) => {
                let rest = name.strip_suffix(&**above).and_then(|rest| rest.strip_suffix('.'));
                rest.is_some_and(|rest| !rest.is_empty())
            }
            (Hosts::Below(_), Host::Ip(_)) => false,
        };
        is_host && self.scheme == scheme && self.port == port
    }

    /// Whether this URL may be called.
    pub fn allows(&self, target: &Target) -> bool {
        self.matches(target.scheme(), target.host(), target.port())
    }
}

impl FromStr for Allow {
    type Err = InvalidTarget;

    fn from_str(text: &str) -> Result<Self, InvalidTarget> {
        let (scheme, authority) = target::split_scheme(text)?;
        if authority.contains(['/', '?']) {
            return Err(InvalidTarget::Path);
        }
        let (host, port) = target::split_port(scheme, authority)?;
        let hosts = match host.strip_prefix("*.").map(Host::parse) {
            None => Hosts::One(Host::parse(host)?),
            Some(Ok(Host::Name(name))) => Hosts::Below(name),
            Some(Ok(Host::Ip(_))) => return Err(InvalidTarget::Host),
            Some(Err(why)) => return Err(why),
        };
        Ok(Allow { scheme, hosts, port })
    }
}

impl fmt::Display for Allow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, target::authority(self.scheme, &self.hosts, self.port))
    }
}

impl fmt::Display for Hosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Hosts::One(host) => host.fmt(f),
            Hosts::Below(name) => write!(f, "*.{name}"),
        }
    }
}

impl Serialize for Allow {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Allow {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = Cow::<'_, str>::deserialize(d)?;
        text.parse().map_err(|error| de::Error::custom(format_args!("not a host to call: {error}")))
    }
}

/// Reads a list of at most [`MAX_ALLOW`].
pub(super) fn read_list<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<Allow>, D::Error> {
    struct List;

    impl<'de> Visitor<'de> for List {
        type Value = Vec<Allow>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "at most {MAX_ALLOW} hosts to call")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<Allow>, A::Error> {
            let mut list = Vec::new();
            while let Some(allow) = items.next_element()? {
                if list.len() == MAX_ALLOW {
                    return Err(de::Error::invalid_length(MAX_ALLOW + 1, &self));
                }
                list.push(allow);
            }
            Ok(list)
        }
    }

    d.deserialize_seq(List)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_has_one_canonical_text() {
        for (text, canonical) in [
            ("https://*.Partner.com.", "https://*.partner.com"),
            ("HTTP://api.partner.com:80", "http://api.partner.com"),
            ("https://api.partner.com:80", "https://api.partner.com:80"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("http://[::0:1]:80", "http://[::1]"),
        ] {
            let allow: Allow = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(allow.to_string(), canonical, "{text}");
            assert_eq!(canonical.parse(), Ok(allow), "{text}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused_with_its_reason() {
        for (text, why) in [
            ("", InvalidTarget::Scheme),
            ("partner.com", InvalidTarget::Scheme),
            ("h2c://partner.com", InvalidTarget::Scheme),
            ("https://partner.com/", InvalidTarget::Path),
            ("https://partner.com/v1", InvalidTarget::Path),
            ("https://partner.com?x", InvalidTarget::Path),
            ("https://me@partner.com", InvalidTarget::UserInfo),
            ("https://partner.com#", InvalidTarget::Fragment),
            ("https://partner.com:0", InvalidTarget::Port),
            ("https://*", InvalidTarget::Host),
            ("https://*.", InvalidTarget::Host),
            ("https://*.*.com", InvalidTarget::Host),
            ("https://api.*.com", InvalidTarget::Host),
            ("https://*partner.com", InvalidTarget::Host),
            ("https://*.192.0.2.1", InvalidTarget::Host),
            ("https://*.[::1]", InvalidTarget::Host),
            ("https://*.1", InvalidTarget::Number),
            ("https://2130706433", InvalidTarget::Number),
        ] {
            assert_eq!(text.parse::<Allow>(), Err(why), "{text}");
        }
    }

    #[test]
    fn a_pattern_matches_its_scheme_its_host_and_its_port_and_nothing_else() {
        for (allow, url, matches) in [
            ("https://partner.com", "https://partner.com/x", true),
            ("https://partner.com", "https://PARTNER.com.:443/x", true),
            ("https://partner.com", "http://partner.com/x", false),
            ("https://partner.com", "http://partner.com:443/x", false),
            ("https://partner.com", "https://partner.com:8443/x", false),
            ("https://partner.com", "https://api.partner.com/", false),
            ("https://partner.com", "https://partner.com.evil/", false),
            ("https://partner.com", "https://evilpartner.com/", false),
            ("https://*.partner.com", "https://api.partner.com/", true),
            ("https://*.partner.com", "https://a.b.partner.com/", true),
            ("https://*.partner.com", "https://partner.com/", false),
            ("https://*.partner.com", "https://evilpartner.com/", false),
            ("https://*.partner.com", "https://api.partner.com.evil/", false),
            ("https://*.partner.com:8443", "https://api.partner.com:8443/", true),
            ("https://*.partner.com:8443", "https://api.partner.com/", false),
            ("http://127.0.0.1:80", "http://127.0.0.1/", true),
            ("http://127.0.0.1", "http://127.0.0.2/", false),
            ("http://127.0.0.1", "http://localhost/", false),
            ("http://127.0.0.1", "http://[::ffff:127.0.0.1]/", false),
            ("http://[::1]", "http://[0:0::1]:80/", true),
        ] {
            let target = Target::parse(url).unwrap_or_else(|error| panic!("{url}: {error}"));
            assert_eq!(allow.parse::<Allow>().unwrap().allows(&target), matches, "{allow} {url}");
        }
    }
}
