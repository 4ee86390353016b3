//! Which addresses an outside host may have: public ones, and those of networks that the operator names. A name
//! that leads elsewhere would let whoever controls it reach the agent's own network.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

use crate::wire::{Code, Fault, Side};

/// What may be connected to.
pub struct Addresses {
    networks: Vec<IpNet>,
}

impl Addresses {
    /// Public addresses, and those in `networks`.
    pub fn new(networks: Vec<IpNet>) -> Self {
        Addresses { networks }
    }

    /// Those addresses of `host` that may be connected to.
    ///
    /// # Errors
    /// When it has some, but none of these.
    pub fn of(&self, host: &str, found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, Fault> {
        let mut kind = None;
        let kept = |address: &SocketAddr| match self.refused(address.ip()) {
            None => true,
            Some(why) => {
                kind.get_or_insert(why);
                false
            }
        };
        let kept: Vec<_> = found.into_iter().filter(kept).collect();
        match kind {
            Some(kind) if kept.is_empty() => {
                let detail = format!(
                    "the host '{host}' has no address that may be called: {kind} addresses have to be allowed (--allow-network)"
                );
                Err(Fault::new(Code::EgressRefused, Side::Upstream, detail))
            }
            Some(_) | None => Ok(kept),
        }
    }

    /// What kind of address this is, when it may not be connected to.
    fn refused(&self, address: IpAddr) -> Option<&'static str> {
        // An IPv4 address in IPv6's clothes is the same address to the system.
        let address = address.to_canonical();
        if self.networks.iter().any(|network| network.contains(&address)) {
            return None;
        }
        match address {
            IpAddr::V4(address) => special_v4(address),
            IpAddr::V6(address) => special_v6(address),
        }
    }
}

/// What kind of address this is, when it is not a public one (RFC 6890, IANA's registry of special addresses).
fn special_v4(address: Ipv4Addr) -> Option<&'static str> {
    match address.octets() {
        [0, 0, 0, 0] => Some("unspecified"),
        [0, ..] => Some("reserved"),
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Some("private"),
        [100, 64..=127, ..] => Some("shared (CGNAT)"),
        [127, ..] => Some("loopback"),
        [169, 254, ..] => Some("link-local"),
        [192, 0, 0, _] | [192, 88, 99, _] => Some("reserved"),
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => Some("documentation"),
        [198, 18..=19, ..] => Some("benchmarking"),
        [224..=239, ..] => Some("multicast"),
        [255, 255, 255, 255] => Some("broadcast"),
        [240..=255, ..] => Some("reserved"),
        _ => None,
    }
}

/// The same of IPv6, of which only 2000::/3 is public: without its special parts, and with the IPv4 address in it
/// looked at where there is one.
fn special_v6(address: Ipv6Addr) -> Option<&'static str> {
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        special_v4(Ipv4Addr::new(a, b, c, d))
    };
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Some("unspecified"),
        [0, 0, 0, 0, 0, 0, 0, 1] => Some("loopback"),
        // NAT64 (RFC 6052), 6to4 (RFC 3056).
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => v4(high, low),
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => Some("documentation"),
        // Teredo and others of the IETF (RFC 2928).
        [0x2001, 0..=0x1ff, ..] => Some("reserved"),
        [0x2000..=0x3fff, ..] => None,
        [0xfc00..=0xfdff, ..] => Some("unique local"),
        [0xfe80..=0xfebf, ..] => Some("link-local"),
        [0xff00..=0xffff, ..] => Some("multicast"),
        _ => Some("reserved"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(address: &str, networks: &[&str]) -> Option<&'static str> {
        let networks = networks.iter().map(|network| network.parse().unwrap()).collect();
        Addresses::new(networks).refused(address.parse().unwrap())
    }

    #[test]
    fn an_address_that_is_not_public_is_refused_by_its_kind() {
        for (address, kind) in [
            ("0.0.0.0", "unspecified"),
            ("0.1.2.3", "reserved"),
            ("10.0.0.1", "private"),
            ("100.64.0.1", "shared (CGNAT)"),
            ("100.127.255.255", "shared (CGNAT)"),
            ("127.0.0.1", "loopback"),
            ("127.255.0.1", "loopback"),
            ("169.254.169.254", "link-local"),
            ("172.16.0.1", "private"),
            ("172.31.255.255", "private"),
            ("192.0.0.8", "reserved"),
            ("192.0.2.1", "documentation"),
            ("192.88.99.1", "reserved"),
            ("192.168.1.1", "private"),
            ("198.18.0.1", "benchmarking"),
            ("198.51.100.1", "documentation"),
            ("203.0.113.1", "documentation"),
            ("224.0.0.1", "multicast"),
            ("240.0.0.1", "reserved"),
            ("255.255.255.255", "broadcast"),
            ("::", "unspecified"),
            ("::1", "loopback"),
            ("::7f00:1", "reserved"),
            ("::ffff:127.0.0.1", "loopback"),
            ("::ffff:169.254.169.254", "link-local"),
            ("::ffff:0:10.0.0.1", "reserved"),
            ("64:ff9b::10.0.0.1", "private"),
            ("64:ff9b:1::8.8.8.8", "reserved"),
            ("100::1", "reserved"),
            ("2001::1", "reserved"),
            ("2001:1ff::1", "reserved"),
            ("2001:db8::1", "documentation"),
            ("2002:7f00:1::1", "loopback"),
            ("2002:a9fe:a9fe::1", "link-local"),
            ("3fff:1::1", "documentation"),
            ("4000::1", "reserved"),
            ("5f00::1", "reserved"),
            ("fc00::1", "unique local"),
            ("fd00:ec2::254", "unique local"),
            ("fe80::1", "link-local"),
            ("fec0::1", "reserved"),
            ("ff02::1", "multicast"),
        ] {
            assert_eq!(refused(address, &[]), Some(kind), "{address}");
        }
    }

    #[test]
    fn a_public_address_is_not() {
        for address in [
            "1.1.1.1",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "223.255.255.255",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
            "2002:808:808::1",
            "2001:200::1",
            "2606:4700::1111",
            "3ffe::1",
        ] {
            assert_eq!(refused(address, &[]), None, "{address}");
        }
    }

    #[test]
    fn an_address_of_an_allowed_network_is_not_whatever_form_it_has_on_this_machine() {
        assert_eq!(refused("10.1.2.3", &["10.1.0.0/16"]), None);
        assert_eq!(refused("::ffff:10.1.2.3", &["10.1.0.0/16"]), None);
        assert_eq!(refused("10.2.0.1", &["10.1.0.0/16"]), Some("private"));
        assert_eq!(refused("64:ff9b::10.1.2.3", &["10.1.0.0/16"]), Some("private"), "it is somewhere else");
        assert_eq!(refused("fd00::1", &["10.0.0.0/8", "fd00::/64"]), None);
        assert_eq!(refused("::1", &["127.0.0.0/8"]), Some("loopback"));
    }

    #[test]
    fn only_the_good_addresses_of_a_name_are_left_and_there_must_be_one() {
        let addresses = Addresses::new(Vec::new());
        let parse =
            |list: &[&str]| list.iter().map(|address| address.parse().unwrap()).collect::<Vec<SocketAddr>>();
        let mixed = parse(&["127.0.0.1:443", "1.1.1.1:443", "[::1]:443", "[2606:4700::1111]:443"]);
        let kept = addresses.of("mixed.example", mixed).unwrap();
        assert_eq!(kept, parse(&["1.1.1.1:443", "[2606:4700::1111]:443"]));
        let fault = addresses.of("evil.example", parse(&["169.254.169.254:80", "10.0.0.1:80"])).unwrap_err();
        assert_eq!((fault.code, fault.maybe_seen), (Code::EgressRefused, false));
        assert!(fault.detail.contains("evil.example") && fault.detail.contains("link-local"), "{fault}");
        assert!(!fault.detail.contains("169.254"), "{fault}");
        assert_eq!(addresses.of("none.example", Vec::new()).unwrap(), []);
    }
}
