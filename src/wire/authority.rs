//! Whom a request is for: the value of `Host`, of `:authority`, and of an absolute target's authority (RFC 9110
//! section 7.2, RFC 9112 section 3.2).
//!
//! Stricter than the grammar of URIs where its readers differ: a name is of the characters that host names have,
//! without escapes and sub-delimiters, and a port that is named is a number. One value is looked up among routes, is a
//! cache's key and is told to origins, so it may have one reading only.

use std::net::Ipv6Addr;

use super::recent::Recent;

/// Whether `text` is a host, perhaps with a port: a name or an IPv4 address, or an IPv6 address in brackets. There is
/// no user info, no zone of an address and no empty name.
pub fn is_authority(text: &[u8]) -> bool {
    thread_local!(static RECENT: Recent = const { Recent::new() });
    RECENT.with(|recent| recent.is_valid(text, || is_host_and_port(text)))
}

fn is_host_and_port(text: &[u8]) -> bool {
    let host = match text.first() {
        Some(b'[') => literal(text),
        _ => name(text),
    };
    host.is_some_and(|length| is_port(&text[length..]))
}

/// How long the name at the beginning is, when one is there. Its labels are not empty, but the last may be: `a.` is
/// the name `a` as the root of the DNS has it.
fn name(text: &[u8]) -> Option<usize> {
    let (mut length, mut after_dot, mut has_empty_label) = (0, true, false);
    // Every request comes by here: a look-up for each byte, and no branch but the end.
    for &byte in text {
        let class = NAME[usize::from(byte)];
        if class == OTHER {
            break;
        }
        let is_dot = class == DOT;
        has_empty_label |= is_dot & after_dot;
        after_dot = is_dot;
        length += 1;
    }
    (!has_empty_label && (1..=MAX_NAME).contains(&length)).then_some(length)
}

/// How long the IPv6 address in brackets at the beginning is, when one is there.
fn literal(text: &[u8]) -> Option<usize> {
    let end = text.iter().take(MAX_LITERAL).position(|&byte| byte == b']')?;
    let address = std::str::from_utf8(&text[1..end]).ok()?;
    address.parse::<Ipv6Addr>().is_ok().then_some(end + 1)
}

/// Whether nothing follows a host, or a port.
fn is_port(text: &[u8]) -> bool {
    let Some((&colon, digits)) = text.split_first() else { return true };
    let number = digits.iter().try_fold(0_u32, |number, digit| {
        digit.is_ascii_digit().then(|| number.saturating_mul(10).saturating_add(u32::from(digit - b'0')))
    });
    colon == b':' && number.is_some_and(|number| (1..=u32::from(u16::MAX)).contains(&number))
}

/// What a name is made of: its labels' characters, and the dots between them.
const NAME: [u8; 256] = {
    let mut name = [OTHER; 256];
    let mut byte = 0;
    while byte < name.len() {
        let char = byte as u8;
        if char.is_ascii_alphanumeric() || char == b'-' || char == b'_' {
            name[byte] = LABEL;
        }
        byte += 1;
    }
    name[b'.' as usize] = DOT;
    name
};
const OTHER: u8 = 0;
const LABEL: u8 = 1;
const DOT: u8 = 2;
/// Bytes of a name at most, with a final dot (RFC 1035 section 2.3.4).
const MAX_NAME: usize = 254;
/// Bytes of an address in brackets at most, up to the last bracket.
const MAX_LITERAL: usize = 48;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_or_an_address_perhaps_with_a_port() {
        let longest = ["a".repeat(63).as_str(); 4].join(".")[..253].to_owned();
        for good in [
            "a",
            "shop.example.com",
            "Shop.Example.COM.",
            "shop.example:80",
            "shop.example.:65535",
            "_dmarc.a-b.xn--bcher-kva.example",
            "192.0.2.1:8080",
            "[::1]",
            "[2001:db8::1]:443",
            "[::ffff:192.0.2.1]:1",
            "a:00080",
            &longest,
        ] {
            assert!(is_authority(good.as_bytes()), "{good}");
        }
    }

    #[test]
    fn what_two_readers_could_take_for_two_hosts_is_none() {
        for bad in [
            "",
            ":80",
            "a b",
            "a ",
            "u@h",
            "u:p@h",
            "@h",
            "h:80@evil",
            "a:80:80",
            "a::80",
            "h:",
            "h:0",
            "h:65536",
            "h:99999",
            "h:4294967376",
            "h:18446744073709551696",
            "h:8a",
            "h:+80",
            "h:-1",
            "h: 80",
            "h:80 ",
            "h:80/",
            "[::1",
            "[",
            "[]",
            "]",
            "::1",
            "[::1]x",
            "[::1]:",
            "[::1]80",
            "[::1]:80:80",
            "[::1]]",
            "[[::1]]",
            "[fe80::1%eth0]",
            "[fe80::1%25eth0]",
            "[192.0.2.1]",
            "[v1.a]",
            "[a]",
            "a[::1]",
            "%zz",
            "%41",
            "a%2eb",
            "a,b",
            "a;b",
            "a/b",
            "a?b",
            "a#b",
            "a\\b",
            "a\"b",
            "a'b",
            "a<b",
            "a|b",
            "a=b",
            "a&b",
            "a!b",
            "a*b",
            "*.a",
            "a..b",
            ".a",
            ".",
            "..",
            "a..",
            "a\tb",
            "a\0",
            "a\x7f",
            "a\u{e4}",
            "\u{ff41}",
            "http://a",
        ] {
            assert!(!is_authority(bad.as_bytes()), "{bad:?}");
        }
        assert!(!is_authority(&[b'a'; MAX_NAME + 1]) && !is_authority(&[0xff]));
    }
}
