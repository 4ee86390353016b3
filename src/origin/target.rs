//! The request target on the origin: the configured base path and the caller's own path and query.

use bytes::Bytes;
use http::Method;

use crate::wire::{Code, Fault, RequestTarget, Side, dots::has_dot_segment};

/// The target on the origin: `base` and the caller's own path and query, nothing else. With `is_border`, a path is what
/// keeps callers in: a dot segment would lead out of it.
///
/// # Errors
/// When it could leave the configured origin or path, or is no path.
pub fn target(base: &str, is_border: bool, method: &Method, url: RequestTarget) -> Result<Bytes, Fault> {
    let refused = |why: String| Fault::new(Code::BadTarget, Side::Upstream, why);
    if url == *"*" && *method == Method::OPTIONS {
        return Ok(url.into_bytes());
    }
    if !url.starts_with("/") {
        return Err(refused("the request target must be a path on the origin".to_owned()));
    }
    if (is_border || !base.is_empty()) && has_dot_segment(url.as_bytes()) {
        return Err(refused(
            "the request target has a '.' or '..' segment, in this or another spelling, which could leave the \
             configured path: write the path without it"
                .to_owned(),
        ));
    }
    url.check().map_err(|unfit| refused(unfit.to_string()))?;
    Ok(if base.is_empty() { url.into_bytes() } else { [base.as_bytes(), url.as_bytes()].concat().into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_cannot_leave_the_configured_host() {
        let get = |url: &str| target("", false, &Method::GET, url.into());
        assert_eq!(get("/a?b=c").unwrap(), "/a?b=c");
        // It is a path that begins with two slashes, on the configured host.
        assert_eq!(get("//evil.example/x").unwrap(), "//evil.example/x");
        for bad in
            ["http://evil.example/", "evil.example:80", "", "*", "/a b", "@evil", "/a#b", "/#", "/a?b#c"]
        {
            assert_eq!(get(bad).unwrap_err().code, Code::BadTarget, "{bad:?}");
        }
    }

    #[test]
    fn a_target_cannot_climb_out_of_the_configured_path() {
        for (base, is_border) in [("/base", false), ("/base", true), ("", true)] {
            let get = |url: &str| target(base, is_border, &Method::GET, url.into());
            assert_eq!(get("/a/..b/c?x=/../").unwrap(), format!("{base}/a/..b/c?x=/../"));
            for bad in [
                "/../secret",
                "/a/%2e%2E/secret",
                "/a/..%2fsecret",
                "/..\\secret",
                "/a/.%2e",
                "/..;/a",
                "/%252e.",
            ] {
                assert_eq!(get(bad).unwrap_err().code, Code::BadTarget, "{bad:?}");
            }
        }
    }
}
