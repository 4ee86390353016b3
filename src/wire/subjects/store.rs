//! The subjects on which brokers are asked about what they store, and on which they say that a job is over.

use super::{Kind, Subjects};
use crate::wire::{
    JobId, Name, SessionId,
    session::upstream as sessions,
    store::{StoreRequest, StoreVerb},
};

/// What a question to a broker is about. The subject says so, and NATS permissions with it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum StoreScope {
    /// Jobs that may go to one upstream.
    Jobs(Name),
    /// Jobs that may go to several upstreams.
    Chains,
    /// All jobs and dead letters.
    All,
    /// One session.
    Session(SessionId),
    /// All sessions.
    Sessions,
}

impl StoreScope {
    /// The scope of what concerns `job`.
    pub fn of(job: &JobId) -> Self {
        job.upstream.clone().map_or(StoreScope::Chains, StoreScope::Jobs)
    }

    /// What the ids of questions, and of the streams that belong to them, have in place of the upstream.
    pub fn token(&self) -> Name {
        let name = match self {
            StoreScope::Jobs(upstream) => return upstream.clone(),
            StoreScope::Session(_) | StoreScope::Sessions => return sessions(),
            StoreScope::Chains => "_chains",
            StoreScope::All => "_operator",
        };
        name.parse().expect("it is a name")
    }

    /// Whether `request` is about what its subject says it is about.
    pub fn covers(&self, request: &StoreRequest) -> bool {
        let named = request.job_id.as_ref().or(request.job.as_ref().map(|job| &job.job_id));
        let fits = match self {
            StoreScope::Jobs(upstream) => named.is_none_or(|id| id.upstream.as_ref() == Some(upstream)),
            StoreScope::Chains => named.is_none_or(|id| id.upstream.is_none()),
            StoreScope::All | StoreScope::Session(_) | StoreScope::Sessions => named.is_none(),
        };
        fits && request.request_id.upstream() == self.token().as_str()
    }
}

impl Subjects {
    /// `relay.jobs.<upstream>.<verb>`, `relay.chains.<verb>`, `relay.jobs.<verb>`, `relay.sessions.<id>.<verb>` or
    /// `relay.sessions.<verb>`
    pub fn store(&self, scope: &StoreScope, verb: StoreVerb) -> String {
        let verb = verb.as_str();
        match scope {
            StoreScope::Jobs(upstream) => self.join(Kind::Jobs, &format!("{upstream}.{verb}")),
            StoreScope::Chains => self.join(Kind::Chains, verb),
            StoreScope::All => self.join(Kind::Jobs, verb),
            StoreScope::Session(id) => self.join(Kind::Sessions, &format!("{id}.{verb}")),
            StoreScope::Sessions => self.join(Kind::Sessions, verb),
        }
    }

    /// Every subject on which brokers are asked about what they store.
    pub fn every_store(&self) -> [String; 5] {
        [
            self.join(Kind::Jobs, "*.*"),
            self.join(Kind::Jobs, "*"),
            self.join(Kind::Chains, "*"),
            self.join(Kind::Sessions, "*.*"),
            self.join(Kind::Sessions, "*"),
        ]
    }

    /// What a question on `subject` is about, and what is to be done.
    pub fn store_scope(&self, subject: &str) -> Option<(StoreScope, StoreVerb)> {
        let rest = subject.strip_prefix(self.prefix.as_str())?.strip_prefix('.')?;
        let mut tokens = rest.split('.');
        let kind = Kind::parse(tokens.next()?)?;
        let (first, second, none) = (tokens.next()?, tokens.next(), tokens.next());
        if none.is_some() {
            return None;
        }
        let scope = match (kind, second) {
            (Kind::Jobs, Some(_)) => StoreScope::Jobs(first.parse().ok()?),
            (Kind::Jobs, None) => StoreScope::All,
            (Kind::Chains, None) => StoreScope::Chains,
            (Kind::Sessions, Some(_)) => StoreScope::Session(first.parse().ok()?),
            (Kind::Sessions, None) => StoreScope::Sessions,
            _ => return None,
        };
        Some((scope, StoreVerb::parse(second.unwrap_or(first))?))
    }

    /// `relay.ended.<upstream>.<uuid>`, or `relay.ended.<uuid>` of a job that may go to several upstreams
    pub fn ended(&self, job: &JobId) -> String {
        self.join(Kind::Ended, &job.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_subject_of_a_question_says_what_it_is_about() {
        let subjects = Subjects::new("relay".parse().unwrap());
        let session: SessionId = "_____________________w".parse().unwrap();
        let shop = StoreScope::Jobs("shop".parse().unwrap());
        for (scope, verb, text) in [
            (shop, StoreVerb::Accept, "relay.jobs.shop.accept"),
            (StoreScope::Chains, StoreVerb::Start, "relay.chains.start"),
            (StoreScope::All, StoreVerb::List, "relay.jobs.list"),
            (StoreScope::Session(session), StoreVerb::Put, "relay.sessions._____________________w.put"),
            (StoreScope::Sessions, StoreVerb::Count, "relay.sessions.count"),
        ] {
            assert_eq!(subjects.store(&scope, verb), text);
            assert_eq!(subjects.store_scope(text), Some((scope, verb)));
        }
        for other in [
            "relay.jobs",
            "relay.jobs.shop",
            "relay.jobs.shop.steal",
            "relay.jobs.shop.read.x",
            "relay.chains.shop.read",
            "relay.sessions.short.get",
            "relay.job.shop.read",
            "other.jobs.shop.read",
        ] {
            assert_eq!(subjects.store_scope(other), None, "{other}");
        }
    }

    #[test]
    fn a_question_is_about_what_its_subject_names() {
        let request = |id: &str, job: Option<&str>| StoreRequest {
            job_id: job.map(|job| job.parse().unwrap()),
            ..StoreRequest::new(id.parse().unwrap())
        };
        let shop = StoreScope::Jobs("shop".parse().unwrap());
        let (of_shop, of_all) =
            ("shop.0191e3a0-7c1e-4b61-9d5e-0f6f4a3b2c1d", "0191e3a0-7c1e-4b61-9d5e-0f6f4a3b2c1d");
        assert!(shop.covers(&request("client.a.shop.1", Some(of_shop))));
        assert!(
            !shop.covers(&request("client.a.other.1", Some(of_shop))),
            "the answer would go to another's"
        );
        assert!(!shop.covers(&request("client.a.shop.1", Some(of_all))));
        assert!(StoreScope::Chains.covers(&request("client.a._chains.1", Some(of_all))));
        assert!(!StoreScope::Chains.covers(&request("client.a._chains.1", Some(of_shop))));
        assert!(StoreScope::All.covers(&request("operator.a._operator.1", None)));
        assert!(!StoreScope::All.covers(&request("operator.a._operator.1", Some(of_shop))));
    }
}
