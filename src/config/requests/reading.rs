//! What each key of a named request may say. Every mistake is told, with the place it is at; a secret never is.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use bytesize::ByteSize;
use http::{HeaderName, HeaderValue, Method, header};
use toml::{Table, Value};

use super::{BodyKind, Definition, Expected, Requests, ResponseKind, Secrets, To, template};
use crate::{
    config::{HostHeader, Origin, OriginHttp, OriginUrl, Switch},
    wire::Headers,
};

/// Reads the text of a file.
///
/// # Errors
/// All mistakes.
pub(super) fn read(text: &str, secrets: &dyn Secrets) -> Result<Requests, Vec<String>> {
    let table: Table = match text.parse() {
        Ok(table) => table,
        Err(error) => return Err(vec![error.to_string().trim_end().replace('\n', "\n  ")]),
    };
    let mut requests = Requests::default();
    let mut mistakes = Vec::new();
    for (key, value) in &table {
        match (key.as_str(), value) {
            ("request", Value::Table(all)) => read_all(all, secrets, &mut requests, &mut mistakes),
            _ => mistakes.push(format!("{key}: no such key; there are [request.NAME] tables")),
        }
    }
    if requests.is_empty() && mistakes.is_empty() {
        mistakes.push("there is no [request.NAME] table".into());
    }
    if mistakes.is_empty() { Ok(requests) } else { Err(mistakes) }
}

fn read_all(all: &Table, secrets: &dyn Secrets, requests: &mut Requests, mistakes: &mut Vec<String>) {
    if all.len() > MAX_REQUESTS {
        mistakes.push(format!("there are {} requests; there may be at most {MAX_REQUESTS}", all.len()));
        return;
    }
    let mut found = BTreeMap::new();
    for (name, value) in all {
        let Value::Table(table) = value else {
            mistakes.push(format!("request.{name}: must be a table, [request.{name}]"));
            continue;
        };
        if !is_name(name) {
            let rule = "a name has letters, digits, '_', '-' and '.', 64 at most";
            mistakes.push(format!("request.{name}: {rule}"));
        }
        let files = &mut requests.files;
        let mut section = Section { place: format!("request.{name}"), table, secrets, files, mistakes };
        if let Some(definition) = section.definition(name) {
            found.insert(name.clone(), Arc::new(definition));
        }
    }
    requests.all = found;
}

fn is_name(name: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    (1..=64).contains(&name.len()) && name.bytes().all(fits)
}

/// One table, and where its mistakes go.
struct Section<'a> {
    place: String,
    table: &'a Table,
    secrets: &'a dyn Secrets,
    files: &'a mut Vec<PathBuf>,
    mistakes: &'a mut Vec<String>,
}

impl Section<'_> {
    fn definition(&mut self, name: &str) -> Option<Definition> {
        let before = self.mistakes.len();
        for key in self.table.keys().filter(|key| !KEYS.contains(&key.as_str())) {
            self.mistakes.push(format!("{}: {key}: no such key", self.place));
        }
        let method = self.method();
        let target = self.target();
        let (body, response) = (self.body(), self.response());
        let mut headers = self.headers();
        let allow_headers = self.allow_headers();
        if let Some(credentials) = self.auth() {
            if allow_headers.contains(&header::AUTHORIZATION) {
                self.wrong("allow-headers", "a line can't replace the credentials of 'auth'");
            }
            headers.insert(header::AUTHORIZATION, credentials);
        }
        let timeout = self.time("timeout").unwrap_or(TIMEOUT);
        let max_timeout = self.time("max-timeout");
        if max_timeout.is_some_and(|max| max < timeout) {
            self.wrong("max-timeout", "is shorter than 'timeout'");
        }
        let expect = self.expect();
        let max_response = self.size("max-response");
        let (to, url) = target.filter(|_| self.mistakes.len() == before)?;
        Some(Definition {
            name: name.to_owned(),
            to,
            method,
            url,
            expect,
            headers,
            allow_headers,
            body,
            response,
            timeout,
            max_timeout,
            max_response,
        })
    }

    fn wrong(&mut self, key: &str, why: impl std::fmt::Display) {
        self.mistakes.push(format!("{}: {key}: {why}", self.place));
    }

    fn text(&mut self, key: &str) -> Option<String> {
        match self.table.get(key)? {
            Value::String(text) => Some(text.clone()),
            _ => {
                self.wrong(key, "must be a text");
                None
            }
        }
    }

    fn time(&mut self, key: &str) -> Option<Duration> {
        let text = self.text(key)?;
        match humantime::parse_duration(&text) {
            Ok(time) if time.is_zero() => self.wrong(key, "must be longer than nothing"),
            Ok(time) if time > MAX_TIMEOUT => self.wrong(key, "may be an hour at most"),
            Ok(time) => return Some(time),
            Err(error) => self.wrong(key, format!("{error}; write a time as 10s")),
        }
        None
    }

    fn size(&mut self, key: &str) -> Option<usize> {
        let text = match self.table.get(key)? {
            Value::Integer(number) => number.to_string(),
            _ => self.text(key)?,
        };
        match text.parse::<ByteSize>() {
            Ok(size) => usize::try_from(size.as_u64()).ok(),
            Err(_) => {
                self.wrong(key, "write a size as 1MiB");
                None
            }
        }
    }

    fn method(&mut self) -> Method {
        let text = match self.table.contains_key("method") {
            true => self.text("method").unwrap_or_else(|| "GET".into()),
            false => "GET".into(),
        };
        match text.parse::<Method>() {
            Ok(Method::CONNECT) => self.wrong("method", "CONNECT is not a request to a server"),
            Ok(method) if text.bytes().any(|b| b.is_ascii_lowercase()) => {
                self.wrong("method", format!("write {} in capitals", method.as_str().to_uppercase()));
            }
            Ok(method) => return method,
            Err(_) => self.wrong("method", "is not a method"),
        }
        Method::GET
    }

    /// Who is asked, and for what.
    fn target(&mut self) -> Option<(To, template::Template)> {
        if !self.table.contains_key("url") {
            self.wrong("url", "is missing");
            return None;
        }
        let url = self.text("url")?;
        if self.table.contains_key("upstream") {
            for key in ORIGIN_KEYS.into_iter().filter(|key| self.table.contains_key(*key)) {
                self.wrong(key, "is the upstream agent's to know");
            }
            let upstream = self.text("upstream")?;
            let upstream = upstream.parse().map_err(|error| self.wrong("upstream", error)).ok();
            let template = template::of_path(&url).map_err(|why| self.wrong("url", why)).ok();
            return Some((To::Upstream(upstream?), template?));
        }
        let read = template::of_url(&url);
        let origin_settings = self.origin();
        match read {
            Ok((origin, template)) => {
                let is_tls =
                    matches!(&origin, OriginUrl::Tcp(uri) if uri.scheme() == Some(&http::uri::Scheme::HTTPS));
                for key in TLS_KEYS.into_iter().filter(|key| self.table.contains_key(*key) && !is_tls) {
                    self.wrong(key, "is for https");
                }
                Some((To::Url(Box::new(Origin { to: Some(origin), ..origin_settings })), template))
            }
            Err(why) => {
                self.wrong("url", why);
                None
            }
        }
    }

    /// How a server is called; certificates are always verified.
    fn origin(&mut self) -> Origin {
        let (cert, key) = (self.path("cert"), self.path("key"));
        if cert.is_some() != key.is_some() {
            self.wrong(if cert.is_some() { "cert" } else { "key" }, "'cert' and 'key' go together");
        }
        Origin {
            to: None,
            host_header: HostHeader::Rewrite,
            origin_http: OriginHttp::Auto,
            connect_timeout: self.time("connect-timeout").unwrap_or(CONNECT_TIMEOUT),
            pool_idle: POOL_IDLE,
            pool_max_age: POOL_MAX_AGE,
            pool_size: POOL_SIZE,
            max_body: None,
            // A request has an end, which comes first.
            idle_timeout: MAX_TIMEOUT,
            send_timeout: MAX_TIMEOUT,
            stream_idle: MAX_TIMEOUT,
            ca: self.path("ca"),
            cert,
            key,
            sni: self.text("sni"),
            insecure: Switch::Off,
        }
    }

    fn path(&mut self, key: &str) -> Option<PathBuf> {
        let path = self.text(key)?;
        let path = self.secrets.locate(&path);
        self.files.push(path.clone());
        Some(path)
    }

    fn expect(&mut self) -> Vec<Expected> {
        let items = match self.table.get("expect") {
            None => return vec![Expected::Class(2)],
            Some(Value::Array(items)) if items.is_empty() => {
                self.wrong("expect", "is an empty list: nothing would be ok");
                return Vec::new();
            }
            Some(Value::Array(items)) => items.as_slice(),
            Some(one) => std::slice::from_ref(one),
        };
        let read: Vec<_> = items.iter().map(expected).collect();
        if read.contains(&None) {
            self.wrong("expect", "write statuses as 200, [200, 404] or \"2xx\"");
        }
        read.into_iter().flatten().collect()
    }

    fn body(&mut self) -> BodyKind {
        let all = [
            ("none", BodyKind::None),
            ("form", BodyKind::Form),
            ("json", BodyKind::Json),
            ("raw", BodyKind::Raw),
        ];
        self.one_of("body", &all).unwrap_or(BodyKind::None)
    }

    fn response(&mut self) -> ResponseKind {
        let all = [
            ("auto", ResponseKind::Auto),
            ("json", ResponseKind::Json),
            ("text", ResponseKind::Text),
            ("binary", ResponseKind::Binary),
        ];
        self.one_of("response", &all).unwrap_or(ResponseKind::Auto)
    }

    fn one_of<T: Copy>(&mut self, key: &str, all: &[(&str, T)]) -> Option<T> {
        let text = self.text(key)?;
        let found = all.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
        if found.is_none() {
            let names: Vec<_> = all.iter().map(|(name, _)| *name).collect();
            self.wrong(key, format!("must be one of {}", names.join(", ")));
        }
        found
    }

    fn headers(&mut self) -> Headers {
        let mut headers = Headers::new();
        let table = match self.table.get("headers") {
            None => return headers,
            Some(Value::Table(table)) => table,
            Some(_) => {
                self.wrong("headers", "must be a table of texts");
                return headers;
            }
        };
        for (name, value) in table {
            let place = format!("headers.{name}");
            match (self.header_name(&place, name), value.as_str().map(HeaderValue::from_str)) {
                (Some(header::AUTHORIZATION), _) => {
                    self.wrong(&place, "a secret does not belong in this file; use 'auth'");
                }
                (Some(name), Some(Ok(value))) => headers.insert(name, value),
                (_, Some(Err(_))) => self.wrong(&place, "has a character that a header can't have"),
                (_, None) => self.wrong(&place, "must be a text"),
                (None, _) => {}
            }
        }
        headers
    }

    fn allow_headers(&mut self) -> Vec<HeaderName> {
        let items = match self.table.get("allow-headers") {
            None => return Vec::new(),
            Some(Value::Array(items)) => items,
            Some(_) => {
                self.wrong("allow-headers", "must be a list of header names");
                return Vec::new();
            }
        };
        let mut names = Vec::new();
        for item in items {
            match item.as_str() {
                Some(name) => names.extend(self.header_name("allow-headers", name)),
                None => self.wrong("allow-headers", "must be a list of header names"),
            }
        }
        names
    }

    /// A header that may be set: those that frame a message or concern one connection may not.
    fn header_name(&mut self, place: &str, text: &str) -> Option<HeaderName> {
        let Ok(name) = text.parse::<HeaderName>() else {
            self.wrong(place, format!("'{text}' is not a header's name"));
            return None;
        };
        let to_upstream = self.table.contains_key("upstream");
        if NOT_ITS_OWN.contains(&name.as_str())
            || name.as_str().starts_with("x-relay-")
            || (name == header::HOST && !to_upstream)
        {
            self.wrong(place, format!("'{name}' can't be set"));
            return None;
        }
        Some(name)
    }

    fn auth(&mut self) -> Option<HeaderValue> {
        let table = match self.table.get("auth")? {
            Value::Table(table) => table,
            Value::String(none) if none == "none" => return None,
            _ => {
                self.wrong("auth", AUTH);
                return None;
            }
        };
        let keys: Vec<&str> = table.keys().map(String::as_str).collect();
        let value = |key: &str| table.get(key).and_then(Value::as_str);
        let line = match keys.as_slice() {
            ["bearer-file" | "bearer-env"] => {
                let token = self.secret(keys[0], value(keys[0]))?;
                format!("Bearer {token}")
            }
            ["user", from @ ("password-file" | "password-env")]
            | [from @ ("password-file" | "password-env"), "user"] => {
                let Some(user) = value("user").filter(|user| !user.contains(':')) else {
                    self.wrong("auth.user", "must be a text without ':'");
                    return None;
                };
                let password = self.secret(from, value(from))?;
                let both = format!("{user}:{password}");
                format!("Basic {}", data_encoding::BASE64.encode(both.as_bytes()))
            }
            _ => {
                self.wrong("auth", AUTH);
                return None;
            }
        };
        let Ok(mut line) = HeaderValue::from_str(&line) else {
            self.wrong("auth", "the secret has a character that a header can't have");
            return None;
        };
        line.set_sensitive(true);
        Some(line)
    }

    /// The secret that `key` names, without the end of its line.
    fn secret(&mut self, key: &str, named: Option<&str>) -> Option<String> {
        let place = format!("auth.{key}");
        let Some(named) = named else {
            self.wrong(&place, "must be a text");
            return None;
        };
        let found = if key.ends_with("-file") {
            let path = self.secrets.locate(named);
            self.files.push(path.clone());
            self.secrets.file(&path)
        } else {
            let unset = || format!("the variable {named} is not set");
            self.secrets.variable(named).ok_or_else(unset)
        };
        match found.map(|secret| secret.trim_end_matches(['\r', '\n']).to_owned()) {
            Ok(secret) if secret.is_empty() => self.wrong(&place, format!("{named} is empty")),
            Ok(secret) => return Some(secret),
            Err(why) => self.wrong(&place, why),
        }
        None
    }
}

fn expected(value: &Value) -> Option<Expected> {
    match value {
        Value::Integer(status @ 100..=599) => u16::try_from(*status).ok().map(Expected::Status),
        Value::String(text) => match text.as_bytes() {
            [class @ b'1'..=b'5', b'x', b'x'] => Some(Expected::Class(u16::from(class - b'0'))),
            _ => None,
        },
        _ => None,
    }
}

const KEYS: [&str; 17] = [
    "method",
    "url",
    "upstream",
    "expect",
    "auth",
    "headers",
    "allow-headers",
    "body",
    "response",
    "timeout",
    "max-timeout",
    "max-response",
    "connect-timeout",
    "ca",
    "cert",
    "key",
    "sni",
];
/// What is only known of a server that is called straight.
const ORIGIN_KEYS: [&str; 5] = ["connect-timeout", "ca", "cert", "key", "sni"];
const TLS_KEYS: [&str; 4] = ["ca", "cert", "key", "sni"];
const NOT_ITS_OWN: [&str; 10] = [
    "connection",
    "content-length",
    "expect",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
const AUTH: &str = "write \"none\", { bearer-file = \"…\" }, { bearer-env = \"…\" }, { user = \"…\", password-file = \"…\" } or \
     { user = \"…\", password-env = \"…\" }";

const MAX_REQUESTS: usize = 10_000;
const TIMEOUT: Duration = Duration::from_secs(30);
/// How long any request may take.
pub const MAX_TIMEOUT: Duration = Duration::from_secs(3600);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const POOL_IDLE: Duration = Duration::from_secs(30);
/// How long a connection is used at most.
const POOL_MAX_AGE: Duration = Duration::from_secs(5 * 60);
const POOL_SIZE: usize = 64;
