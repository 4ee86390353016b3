//! What a request is to a cache, and what the cache needs of requests and responses besides.

use http::{HeaderName, Method, StatusCode, header};

use crate::{
    cache::{
        control::Wants,
        entry::{Head, Question, take_tags},
        key::Key,
    },
    front::{
        relay::{Asked, Outcome},
        served::Decision,
    },
    wire::{
        Headers,
        headers::{X_FORWARDED_PROTO, seen_by_origin, set},
        route::without_port,
    },
};

/// What a request is to a cache.
pub enum Concern {
    /// Something it may have.
    Question(Question),
    /// None of its business.
    Bypass,
    /// Of a method that is none of its business, and may change what the key names.
    Method {
        /// What it may change.
        changes: Option<Key>,
    },
}

impl Concern {
    /// What `asked` is. The headers of a question are taken: most are answered without being passed on.
    pub fn of(asked: &mut Asked) -> Concern {
        if asked.upgrade.is_some() {
            return Concern::Bypass;
        }
        let method = &asked.head.method;
        if *method != Method::GET && *method != Method::HEAD {
            let changes = if method.is_safe() { None } else { key(asked) };
            return Concern::Method { changes };
        }
        // What the origin does not see must not say what is looked for, nor what an answer is stored for.
        seen_by_origin(&mut asked.head.headers, &asked.caller);
        let (headers, host) = (&asked.head.headers, host(asked));
        let key = key(asked);
        let bypass = asked.body.is_some() || BYPASSING.iter().any(|name| headers.contains_key(*name));
        match key {
            Some(key) if !bypass && !is_seen_as_another(asked, host) => {
                let wants = Wants::of(headers);
                let is_written_so = key.authority() == host;
                let mut headers = std::mem::take(&mut asked.head.headers);
                if !is_written_so {
                    set(&mut headers, header::HOST, key.authority());
                }
                Concern::Question(Question { key, headers, wants, head: asked.head.method == Method::HEAD })
            }
            Some(_) | None => Concern::Bypass,
        }
    }
}

/// The key of what `asked` is for; none when its target is no text.
fn key(asked: &Asked) -> Option<Key> {
    Key::new(scheme(asked), host(asked), asked.url.as_text()?)
}

/// The scheme the caller used, at a trusted proxy too.
fn scheme(asked: &Asked) -> &'static str {
    let told = asked.caller.trusted.then(|| asked.head.headers.get(X_FORWARDED_PROTO)).flatten();
    let told = told.and_then(|value| value.to_str().ok()).and_then(|text| text.split(',').next());
    match told.map(str::trim) {
        Some(told) if told.eq_ignore_ascii_case("https") => "https",
        Some(told) if told.eq_ignore_ascii_case("http") => "http",
        Some(_) | None if asked.caller.tls => "https",
        Some(_) | None => "http",
    }
}

/// The host that the request is for.
fn host(asked: &Asked) -> &str {
    asked.head.headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default()
}

/// Whether a trusted proxy says that the caller asked for another host, or in another way: the origin may answer for
/// that, and its answer must not be stored for what the key says.
fn is_seen_as_another(asked: &Asked, host: &str) -> bool {
    if !asked.caller.trusted {
        return false;
    }
    let scheme = scheme(asked);
    let is_https = scheme == "https";
    let other = |told: &[u8], text: &str| !told.trim_ascii().eq_ignore_ascii_case(text.as_bytes());
    let own_port = if is_https { "443" } else { "80" };
    let port = host[without_port(host).len()..].strip_prefix(':').unwrap_or(own_port);
    asked.head.headers.iter().any(|(name, value)| {
        let told = value.as_bytes();
        match name.as_str() {
            "forwarded" => told.split(|&b| matches!(b, b',' | b';')).any(|pair| {
                let mut sides = pair.splitn(2, |&b| b == b'=').map(<[u8]>::trim_ascii);
                let name = sides.next().unwrap_or_default().to_ascii_lowercase();
                let value = sides.next().unwrap_or_default();
                let value = value.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\"")).unwrap_or(value);
                match name.as_slice() {
                    b"host" => other(value, host),
                    b"proto" => other(value, scheme),
                    _ => false,
                }
            }),
            "x-forwarded-host"
            | "x-original-host"
            | "x-host"
            | "x-host-override"
            | "x-http-host-override" => other(told, host),
            "x-forwarded-proto" | "x-forwarded-scheme" | "x-scheme" | "x-url-scheme" => other(told, scheme),
            "x-forwarded-ssl" | "front-end-https" | "x-https" => {
                [&b"on"[..], b"1", b"true", b"https"].iter().any(|on| told.eq_ignore_ascii_case(on))
                    != is_https
            }
            "x-forwarded-port" => other(told, port),
            "x-forwarded-prefix" | "x-forwarded-path" => !told.is_empty(),
            "x-forwarded-uri" | "x-original-url" | "x-original-uri" | "x-rewrite-url" => {
                told != asked.url.as_bytes()
            }
            _ => false,
        }
    })
}

/// Headers of requests that no cache may answer: conditions that are not a cache's to judge, and what makes an origin act
/// on another method.
const BYPASSING: [&str; 6] = [
    "expect",
    "if-match",
    "if-unmodified-since",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
];

impl Asked {
    /// The same once more; it has no body.
    pub fn again(&self) -> Box<Asked> {
        Box::new(Asked {
            head: self.head.clone(),
            url: self.url.clone(),
            body: None,
            upgrade: None,
            caller: self.caller.clone(),
            named: self.named,
            to: self.to.clone(),
        })
    }
}

impl Outcome {
    /// Its status.
    pub fn status(&self) -> StatusCode {
        match self {
            Outcome::Whole(response) | Outcome::Job(response) => response.status,
            Outcome::Streamed(response, ..) | Outcome::Upgraded(response, _) => response.status,
            Outcome::Stored(response, _) => response.status,
            Outcome::Followed(response, ..) => response.status,
        }
    }

    /// Its headers.
    pub fn headers(&self) -> &Headers {
        match self {
            Outcome::Whole(response) | Outcome::Job(response) => &response.headers,
            Outcome::Streamed(response, ..) | Outcome::Upgraded(response, _) => &response.headers,
            Outcome::Stored(response, _) => &response.headers,
            Outcome::Followed(response, ..) => &response.headers,
        }
    }

    /// Its headers, when it came from an agent.
    pub fn headers_mut(&mut self) -> Option<&mut Headers> {
        match self {
            Outcome::Whole(response) => Some(&mut response.headers),
            Outcome::Streamed(response, ..) => Some(&mut response.headers),
            Outcome::Upgraded(..) | Outcome::Stored(..) | Outcome::Followed(..) | Outcome::Job(_) => None,
        }
    }

    /// Its headers, and the tags that were among them.
    pub fn into_headers(mut self) -> (Headers, Vec<Box<str>>) {
        let mut headers = self.headers_mut().map(std::mem::take).unwrap_or_default();
        let tags = take_tags(&mut headers);
        (headers, tags)
    }

    /// What is told of a request that ends with it.
    pub fn decision(&self) -> Decision {
        match self {
            Outcome::Stored(_, decision) | Outcome::Followed(_, _, decision) => *decision,
            Outcome::Whole(_) | Outcome::Streamed(..) | Outcome::Upgraded(..) => Decision::Response,
            Outcome::Job(_) => Decision::Job,
        }
    }

    /// Whether this answer to HEAD says that what is stored is outdated (RFC 9111 §4.3.5).
    pub fn is_other_than(&self, stored: &Head) -> bool {
        let same = |name: &HeaderName| match (self.headers().get(name), stored.headers.get(name)) {
            (Some(new), Some(old)) => new == old,
            (None, _) | (_, None) => true,
        };
        let names = [header::ETAG, header::LAST_MODIFIED, header::CONTENT_LENGTH];
        self.status() == StatusCode::OK && !names.iter().all(same)
    }
}
