//! Calls to outside hosts: each goes where its own URL says, if that is allowed. Each host is an [`Origin`] with
//! its own connections; a bounded number of them is kept.

use std::{collections::HashMap, sync::Arc, time::Instant};

use http::HeaderValue;

use super::{Answer, Call, Hear, OnContinue, Origin, addresses::Addresses, connect::Connector, tls::Trust};
use crate::{
    config::{Egress as Rules, Origin as Settings, OriginHttp},
    sync::Mutex,
    wire::{
        Allow, Code, Fault, Side, Target,
        target::{Host, Scheme},
    },
};

/// The outside hosts that may be called, and the connections to some of them.
pub struct Egress {
    allow: Vec<Allow>,
    addresses: Arc<Addresses>,
    trust: Trust,
    /// What counts for every host.
    settings: Settings,
    hosts: Mutex<Hosts>,
}

type Hosts = HashMap<(Scheme, Host, u16), Known>;

/// A host that was called.
struct Known {
    origin: Arc<Origin>,
    used: Instant,
}

impl Egress {
    /// Calls what `rules` allow, as `settings` say.
    ///
    /// # Errors
    /// When certificates can't be read.
    pub fn new(rules: &Rules, settings: &Settings) -> anyhow::Result<Self> {
        Ok(Egress {
            allow: rules.allow.clone(),
            addresses: Arc::new(Addresses::new(rules.allow_network.clone())),
            trust: Trust::new(settings)?,
            settings: settings.clone(),
            hosts: Mutex::default(),
        })
    }

    /// Issues a request to the host that its URL names, as [`Origin::call_and_hear`].
    ///
    /// # Errors
    /// A fault that says whether the host may have seen the request.
    pub async fn call(
        &self,
        call: Call,
        on_continue: Option<OnContinue>,
        hear: Option<Hear<'_>>,
    ) -> Result<Answer, Fault> {
        let target = self.target(&call.url.to_string())?;
        let origin = self.origin(&target)?;
        let call = Call { url: target.path_and_query().into(), ..call };
        origin.call_and_hear(call, on_continue, hear).await
    }

    /// Closes connections that have been idle for too long, and forgets the hosts that they went to.
    pub fn close_idle(&self) {
        let mut hosts = self.hosts.lock();
        hosts.retain(|_, known| {
            known.origin.close_idle();
            let is_called = Arc::strong_count(&known.origin) > 1;
            is_called || known.used.elapsed() < self.settings.pool_idle
        });
    }

    /// What `url` names, when it may be called.
    fn target(&self, url: &str) -> Result<Target, Fault> {
        let target = Target::parse(url)
            .map_err(|why| refused(format!("the request does not name a host to call: {why}")))?;
        if !self.allow.iter().any(|allow| allow.allows(&target)) {
            let (scheme, authority) = (target.scheme(), target.authority());
            return Err(refused(format!("{scheme}://{authority} is not allowed by this agent (--allow)")));
        }
        Ok(target)
    }

    /// The host that `target` names. When there are too many, the one that was not called for longest is
    /// forgotten: calls to it that run keep its connections until they end.
    fn origin(&self, target: &Target) -> Result<Arc<Origin>, Fault> {
        let key = (target.scheme(), target.host().clone(), target.port());
        let mut hosts = self.hosts.lock();
        if let Some(known) = hosts.get_mut(&key) {
            known.used = Instant::now();
            return Ok(Arc::clone(&known.origin));
        }
        let origin = Arc::new(self.outside(target)?);
        if hosts.len() >= MAX_HOSTS {
            let oldest = hosts.iter().min_by_key(|(_, known)| known.used).map(|(key, _)| key.clone());
            oldest.and_then(|key| hosts.remove(&key));
        }
        hosts.insert(key, Known { origin: Arc::clone(&origin), used: Instant::now() });
        Ok(origin)
    }

    fn outside(&self, target: &Target) -> Result<Origin, Fault> {
        let unfit = |why: anyhow::Error| Fault::new(Code::OriginTls, Side::Upstream, format!("{why:#}"));
        let only_http1 = self.settings.origin_http == OriginHttp::Http11;
        let timeout = (only_http1, self.settings.connect_timeout);
        let connector = Connector::outside(target, &self.addresses, &self.trust, timeout).map_err(unfit)?;
        let authority = HeaderValue::try_from(target.authority()).map_err(|error| unfit(error.into()))?;
        Ok(Origin::behind(connector, authority, &self.settings))
    }
}

fn refused(detail: String) -> Fault {
    Fault::new(Code::EgressRefused, Side::Upstream, detail)
}

/// Hosts whose connections are kept at most.
const MAX_HOSTS: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Command};

    fn egress(flags: &[&str]) -> Egress {
        let line = [&["relay", "upstream", "--name", "egress", "--egress"], flags].concat();
        match config::from_flags(&line).unwrap() {
            Command::Upstream(agent) => Egress::new(&agent.member.egress, &agent.member.origin).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    fn get(egress: &Egress, host: &str) -> Arc<Origin> {
        egress.origin(&egress.target(&format!("https://{host}.partner.example/x")).unwrap()).unwrap()
    }

    #[test]
    fn of_too_many_hosts_the_one_that_was_not_called_for_longest_is_forgotten() {
        let egress = egress(&["--allow", "https://*.partner.example"]);
        let (first, second) = (get(&egress, "first"), get(&egress, "second"));
        for n in 2..MAX_HOSTS {
            get(&egress, &n.to_string());
        }
        assert!(Arc::ptr_eq(&get(&egress, "first"), &first));
        get(&egress, "one-more");
        assert_eq!(egress.hosts.lock().len(), MAX_HOSTS);
        assert!(Arc::ptr_eq(&get(&egress, "FIRST"), &first));
        assert!(!Arc::ptr_eq(&get(&egress, "second"), &second));
    }

    #[test]
    fn a_host_without_connections_is_forgotten_unless_it_is_being_called() {
        let egress = egress(&["--allow", "https://*.partner.example", "--pool-idle", "0s"]);
        let called = get(&egress, "called");
        get(&egress, "idle");
        egress.close_idle();
        assert!(Arc::ptr_eq(&get(&egress, "called"), &called));
        assert_eq!(egress.hosts.lock().len(), 1);
    }
}
