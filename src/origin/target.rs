//! The request target on the origin: the configured base path and the caller's own path and query.

use bytes::Bytes;
use http::{Method, uri::PathAndQuery};

use crate::wire::{Code, Fault, Side};

/// The target on the origin: `base` and the caller's own path and query, nothing else.
///
/// # Errors
/// When it could leave the configured origin or is no path.
pub fn target(base: &str, method: &Method, url: String) -> Result<PathAndQuery, Fault> {
    let refused = |why: &'static str| Fault::new(Code::BadTarget, Side::Upstream, why);
    if url == "*" && *method == Method::OPTIONS {
        return Ok(PathAndQuery::from_static("*"));
    }
    if !url.starts_with('/') {
        return Err(refused("the request target must be a path on the origin"));
    }
    // With a base path, `..` would climb out of what was configured.
    if !base.is_empty() && has_dot_segment(&url) {
        return Err(refused("the request target has a '..' segment, which could leave the configured path"));
    }
    let path = if base.is_empty() { url } else { [base, &url].concat() };
    PathAndQuery::from_maybe_shared(Bytes::from(path))
        .map_err(|_| refused("the request target is not a valid path"))
}

fn has_dot_segment(url: &str) -> bool {
    let path = url.split(['?', '#']).next().unwrap_or_default().to_ascii_lowercase();
    path.replace("%2e", ".")
        .replace("%2f", "/")
        .replace("%5c", "/")
        .replace('\\', "/")
        .split('/')
        .any(|s| s == "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_cannot_leave_the_configured_host() {
        let get = |url: &str| target("", &Method::GET, url.to_owned()).map(|target| target.to_string());
        assert_eq!(get("/a?b=c").unwrap(), "/a?b=c");
        // It is a path that begins with two slashes, on the configured host.
        assert_eq!(get("//evil.example/x").unwrap(), "//evil.example/x");
        for bad in ["http://evil.example/", "evil.example:80", "", "*", "/a b", "@evil"] {
            assert_eq!(get(bad).unwrap_err().code, Code::BadTarget, "{bad:?}");
        }
    }

    #[test]
    fn a_target_cannot_climb_out_of_the_configured_path() {
        let get = |url: &str| target("/base", &Method::GET, url.to_owned()).map(|target| target.to_string());
        assert_eq!(get("/a/..b/c?x=/../").unwrap(), "/base/a/..b/c?x=/../");
        for bad in ["/../secret", "/a/%2e%2E/secret", "/a/..%2fsecret", "/..\\secret", "/a/.%2e"] {
            assert_eq!(get(bad).unwrap_err().code, Code::BadTarget, "{bad:?}");
        }
    }
}
