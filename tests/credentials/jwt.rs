//! What `nsc` would make: an operator, an account it vouches for, and users that the account vouches for.

use data_encoding::BASE64URL_NOPAD;
use nkeys::KeyPair;
use serde_json::{Value, json};

/// An account of an operator of its own.
pub struct Account {
    operator: KeyPair,
    key: KeyPair,
}

impl Account {
    /// A new one.
    pub fn new() -> Account {
        Account { operator: KeyPair::new_operator(), key: KeyPair::new_account() }
    }

    /// The configuration of a server that trusts its operator and knows the account.
    pub fn server(&self) -> String {
        let operator = token(&self.operator, &self.operator, json!({ "type": "operator", "version": 2 }));
        let limits = json!({ "subs": -1, "conn": -1, "leaf": -1, "imports": -1, "exports": -1, "data": -1,
            "payload": -1, "wildcards": true });
        let account =
            token(&self.operator, &self.key, json!({ "type": "account", "version": 2, "limits": limits }));
        format!(
            "operator: {operator}\nresolver: MEMORY\nresolver_preload: {{ {}: {account} }}\n",
            self.key.public_key()
        )
    }

    /// The credentials file of a new user.
    pub fn user(&self) -> String {
        let user = KeyPair::new_user();
        let rights = json!({ "type": "user", "version": 2, "pub": {}, "sub": {}, "subs": -1, "data": -1,
            "payload": -1 });
        let (jwt, seed) = (token(&self.key, &user, rights), user.seed().unwrap());
        format!(
            "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        )
    }
}

/// A JWT in which `issuer` vouches for `subject`.
fn token(issuer: &KeyPair, subject: &KeyPair, nats: Value) -> String {
    let part = |json: Value| BASE64URL_NOPAD.encode(json.to_string().as_bytes());
    let claims = json!({ "jti": subject.public_key(), "iat": 1, "iss": issuer.public_key(), "name": "test",
        "sub": subject.public_key(), "nats": nats });
    let signed = format!("{}.{}", part(json!({ "typ": "JWT", "alg": "ed25519-nkey" })), part(claims));
    let signature = issuer.sign(signed.as_bytes()).unwrap();
    format!("{signed}.{}", BASE64URL_NOPAD.encode(&signature))
}
