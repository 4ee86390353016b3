//! Where a URL leads: to a route that somebody registered, to an outside host that some agent may call, or to an
//! upstream by its name. Nothing else can be reached.

use super::Runner;
use crate::{
    front::{destination::CLIMBS, http::Sought},
    proto::routes,
    wire::{Code, Fault, Job, Name, Side, Target, target::Host},
};

/// A request's way.
pub(super) struct Way {
    /// The upstream.
    pub upstream: Name,
    /// What its agent is asked for.
    pub url: String,
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
        let way = self.find(&target)?;
        let may = job.only.is_empty() || job.only.contains(&way.upstream);
        if may && job.job_id.upstream.as_ref().is_none_or(|only| *only == way.upstream) {
            return Ok(way);
        }
        let detail = format!("the job may not go to the upstream '{}', where {shown} leads", way.upstream);
        Err(no_way(Code::NotAllowed, detail))
    }

    fn find(&self, target: &Target) -> Result<Way, Fault> {
        let (host, wanted) = (target.authority(), target.path_and_query());
        let path = wanted.split('?').next().unwrap_or_default();
        let sought = match self.asker.routing().seek(&host, path) {
            Sought::Found(found) => {
                let (url, _) = routes::strip(wanted.to_owned(), found.strip);
                return Ok(Way { upstream: found.upstream, url, host });
            }
            Sought::Climbs => return Err(no_way(Code::BadTarget, CLIMBS.to_owned())),
            sought @ (Sought::Nowhere | Sought::NotYet) => sought,
        };
        if let Some(upstream) = self.asker.egress_to(target) {
            return Ok(Way { upstream, url: target.to_string(), host });
        }
        // A name is one label: a host with a dot is never an upstream.
        if let Host::Name(name) = target.host()
            && let Ok(upstream) = name.parse::<Name>()
        {
            return Ok(Way { upstream, url: wanted.to_owned(), host });
        }
        match sought {
            Sought::NotYet => {
                let detail = "the broker has just come and does not know all routes yet".to_owned();
                Err(no_way(Code::NotReady, detail))
            }
            Sought::Found(_) | Sought::Climbs | Sought::Nowhere => {
                let detail =
                    format!("{host} is no route, no upstream's name, and no egress agent here may call it");
                Err(no_way(Code::NoRoute, detail))
            }
        }
    }
}

fn no_way(code: Code, detail: String) -> Fault {
    Fault::new(code, Side::Broker, detail)
}
