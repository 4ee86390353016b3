//! Whether an origin is the relay itself.

use std::net::{IpAddr, UdpSocket};

use crate::{config::OriginUrl, front::entrance::Address};

/// Whether a request to `origin` would come in at `listens`. A name that can't be resolved leads nowhere.
pub async fn leads_back(origin: &OriginUrl, listens: &Address) -> bool {
    match (origin, listens) {
        (OriginUrl::Unix(path), Address::Unix(own)) => match (path.canonicalize(), own.canonicalize()) {
            (Ok(path), Ok(own)) => path == own,
            (_, _) => path == own,
        },
        (OriginUrl::Tcp(uri), Address::Tcp(own)) => {
            let usual = if uri.scheme_str() == Some("https") { 443 } else { 80 };
            let port = uri.port_u16().unwrap_or(usual);
            if port != own.port() {
                return false;
            }
            let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
            let found = tokio::net::lookup_host((host, port)).await;
            found.is_ok_and(|mut found| found.any(|address| reaches(address.ip(), own.ip())))
        }
        (OriginUrl::Unix(_), Address::Tcp(_)) | (OriginUrl::Tcp(_), Address::Unix(_)) => false,
    }
}

/// Whether a connection to `target` comes to whoever listens at `own`, on the same port.
fn reaches(target: IpAddr, own: IpAddr) -> bool {
    let (target, own) = (target.to_canonical(), own.to_canonical());
    if target == own {
        return true;
    }
    // A listener at `[::]` takes IPv4 as well; a connection to an unspecified address is one to this machine.
    let same_family = target.is_ipv4() == own.is_ipv4();
    match (target.is_unspecified(), own.is_unspecified()) {
        (true, true) => own.is_ipv6(),
        (true, false) => same_family && own.is_loopback(),
        (false, true) => (same_family || own.is_ipv6()) && is_of_this_machine(target),
        (false, false) => false,
    }
}

/// An address can be bound only where it is.
fn is_of_this_machine(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_this_machine_reaches_whoever_listens_at_all_of_them() {
        let reaches = |target: &str, own: &str| reaches(target.parse().unwrap(), own.parse().unwrap());
        for (target, own) in [
            ("127.0.0.1", "127.0.0.1"),
            ("127.0.0.1", "0.0.0.0"),
            ("127.0.0.1", "::"),
            ("127.9.9.9", "0.0.0.0"),
            ("0.0.0.0", "127.0.0.1"),
            ("0.0.0.0", "0.0.0.0"),
            ("0.0.0.0", "::"),
            ("::ffff:127.0.0.1", "127.0.0.1"),
            ("::1", "::1"),
            ("::", "::1"),
        ] {
            assert!(reaches(target, own), "{target} {own}");
        }
        for (target, own) in [("127.0.0.2", "127.0.0.1"), ("192.0.2.7", "0.0.0.0"), ("::1", "0.0.0.0")] {
            assert!(!reaches(target, own), "{target} {own}");
        }
    }
}
