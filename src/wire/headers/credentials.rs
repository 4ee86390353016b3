//! Which header fields carry credentials, or say who the caller is in their place.
//!
//! One list for all who ask: what `relay decode` hides, and what tells two callers with the same `Idempotency-Key`
//! apart.

use http::HeaderName;

/// The names of header fields that carry credentials: those that are known by their words, and others by name.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    /// Names that the words do not tell, in the form of [`normal`].
    added: Vec<String>,
}

impl Credentials {
    /// The names that are known by their words, and `added`.
    pub fn with(added: &[HeaderName]) -> Self {
        Credentials { added: added.iter().map(|name| normal(name.as_str())).collect() }
    }

    /// Whether fields called `name` carry credentials. `_` and `.` are read as `-`, as many origins do.
    pub fn contains(&self, name: &str) -> bool {
        let name = normal(name);
        let is_known = !OTHERS.contains(&name.as_str()) && name.split('-').any(|word| WORDS.contains(&word));
        is_known || self.added.contains(&name)
    }
}

/// The one spelling of a name.
fn normal(name: &str) -> String {
    name.to_ascii_lowercase().replace(['_', '.'], "-")
}

/// A name with one of these words is that of a credential, or of an identity that a proxy in front vouches for.
const WORDS: [&str; 25] = [
    "apikey",
    "assertion",
    "auth",
    "authentication",
    "authorization",
    "cert",
    "certificate",
    "cookie",
    "cookie2",
    "credential",
    "credentials",
    "dn",
    "email",
    "identity",
    "jwt",
    "key",
    "passwd",
    "password",
    "principal",
    "secret",
    "session",
    "sessionid",
    "token",
    "tokens",
    "user",
];

/// Names with one of the words that are no credentials.
const OTHERS: [&str; 6] =
    ["idempotency-key", "sec-websocket-key", "surrogate-key", "user-agent", "x-cache-key", "x-user-agent"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_known_by_their_words_in_any_spelling() {
        let known = Credentials::default();
        for name in [
            "authorization",
            "Proxy-Authorization",
            "cookie",
            "set-cookie",
            "x-api-key",
            "X_Api_Key",
            "x.api.key",
            "api-key",
            "apikey",
            "x-auth-token",
            "x-access-token",
            "private-token",
            "x-amz-security-token",
            "ocp-apim-subscription-key",
            "x-functions-key",
            "x-goog-iap-jwt-assertion",
            "x-forwarded-client-cert",
            "x-ssl-client-s-dn",
            "remote-user",
            "x-forwarded-user",
            "x-forwarded-email",
            "authentication",
            "x-client-secret",
            "x-session",
        ] {
            assert!(known.contains(name), "{name}");
        }
        for name in [
            "accept",
            "host",
            "idempotency-key",
            "Idempotency_Key",
            "user-agent",
            "sec-websocket-key",
            "surrogate-key",
            "www-authenticate",
            "x-request-id",
            "authority",
            "monkey",
        ] {
            assert!(!known.contains(name), "{name}");
        }
    }

    #[test]
    fn names_can_be_added() {
        let added =
            Credentials::with(&[HeaderName::from_static("x-tenant"), HeaderName::from_static("user-agent")]);
        assert!(added.contains("X-Tenant") && added.contains("x_tenant") && added.contains("user-agent"));
        assert!(!added.contains("x-tenants"));
    }
}
