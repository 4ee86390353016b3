//! Where a URL leads: to a route that an agent registered, and for a job that may use names, to an outside host that an
//! egress agent may call, or to an upstream by its name. Nothing else can be reached.

use http::HeaderValue;

use super::Runner;
use crate::{
    front::{destination::CLIMBS, http::Sought},
    proto::routes,
    wire::{Code, Fault, Job, Name, RequestTarget, Side, Target, job::Reach, target::Host},
};

/// A request's way.
pub(super) struct Way {
    /// The upstream.
    pub upstream: Name,
    /// What its agent is asked for.
    pub url: RequestTarget,
    /// What the route strips from the front of the path.
    pub stripped: Option<HeaderValue>,
    /// The `Host` that the origin gets.
    pub host: String,
}

impl Runner {
    /// The way to an absolute URL, for a job that may go there.
    pub(super) fn way_to(&self, job: &Job, url: &str) -> Result<Way, Fault> {
        // What is told is logged, and a query may be a secret.
        let shown = url.split('?').next().unwrap_or_default();
        let target =
            Target::parse(url).map_err(|why| no_way(Code::BadTarget, format!("'{shown}': {why}")))?;
        let way = self.find(&target, job.reach())?;
        let may = job.only.is_empty() || job.only.contains(&way.upstream);
        if may && job.job_id.upstream.as_ref().is_none_or(|only| *only == way.upstream) {
            return Ok(way);
        }
        let detail = format!(
            "the broker refuses it: the client agent that took the job lets it not go to the upstream '{}', where {shown} leads (--forward-to)",
            way.upstream
        );
        Err(no_way(Code::NotAllowed, detail))
    }

    fn find(&self, target: &Target, reach: Reach) -> Result<Way, Fault> {
        let (host, wanted) = (target.authority(), target.path_and_query());
        let path = wanted.split('?').next().unwrap_or_default();
        let is_known = match self.asker.routing().seek(&host, path.as_bytes()) {
            Sought::Found(found) => {
                let (url, stripped) = routes::strip(wanted.into(), found.strip);
                return Ok(Way { upstream: found.upstream, url, stripped, host });
            }
            Sought::Climbs => return Err(no_way(Code::BadTarget, CLIMBS.to_owned())),
            Sought::Nowhere => true,
            Sought::NotYet => false,
        };
        let by_name = match reach {
            Reach::Routes => None,
            Reach::Names => self.find_by_name(target),
        };
        if let Some((upstream, url)) = by_name {
            return Ok(Way { upstream, url: url.into(), stripped: None, host });
        }
        if !is_known {
            let detail = "the broker is starting and has not received all routes".to_owned();
            return Err(no_way(Code::NotReady, detail));
        }
        Err(no_way(
            Code::NoRoute,
            match reach {
                Reach::Routes => {
                    format!(
                        "no route leads to {host}{path}, and the job may go where routes lead, nowhere else"
                    )
                }
                Reach::Names => {
                    format!("{host} is no route, no upstream's name, and no egress agent here may call it")
                }
            },
        ))
    }

    /// The upstream of a URL whose host is an outside one, or an upstream's name, and what its agent is asked for.
    fn find_by_name(&self, target: &Target) -> Option<(Name, String)> {
        if let Some(upstream) = self.asker.egress_to(target) {
            return Some((upstream, target.to_string()));
        }
        // A name is one label: a host with a dot is never an upstream.
        match target.host() {
            Host::Name(name) => Some((name.parse().ok()?, target.path_and_query().to_owned())),
            Host::Ip(_) => None,
        }
    }
}

fn no_way(code: Code, detail: String) -> Fault {
    Fault::new(code, Side::Broker, detail)
}
