//! Whether the URLs of a job lead anywhere that its caller could go, as far as a client agent knows. Brokers know the
//! rest, and hold every request of a job to it.

use http::HeaderName;

use super::Desk;
use crate::{
    front::{
        destination::CLIMBS,
        http::{Ask, Front, Sought},
    },
    proto::forward,
    wire::{Code, Fault, Side, job::Reach, show::beginning},
};

impl<A: Ask> Front<A> {
    /// Checks a URL that came in the header `name`. A hop of a chain that names no path is asked for `chained`, or for
    /// another that a server names.
    ///
    /// # Errors
    /// When no route leads there and the job would have no other way.
    pub(super) fn check_reach(
        &self,
        desk: &Desk,
        name: &HeaderName,
        url: &str,
        chained: Option<&str>,
    ) -> Result<(), Fault> {
        match desk.settings.reach {
            // Only brokers know which names there are, and what egress agents may call.
            Reach::Names => return Ok(()),
            Reach::Routes => {}
        }
        let target = forward::destination(name, &forward::on_path(url, chained.unwrap_or("/")))?;
        let host = target.authority();
        let path = target.path_and_query().split('?').next().unwrap_or_default();
        match self.ask.seek(&host, path.as_bytes()) {
            Sought::Found(_) => Ok(()),
            Sought::Climbs => Err(Fault::new(Code::BadTarget, Side::Client, CLIMBS)),
            Sought::NotYet => {
                let detail = "the client agent is starting and has not received all routes";
                Err(Fault::new(Code::NotReady, Side::Client, detail))
            }
            Sought::Nowhere
                if chained.is_some() && !forward::names_path(url) && self.ask.has_route(&host) =>
            {
                Ok(())
            }
            Sought::Nowhere => {
                let (host, path) = (beginning(&host, SHOWN), beginning(path, SHOWN));
                let detail = format!(
                    "{}: no route leads to {host}{path}; without --forward-to a job goes where routes lead",
                    forward::shown(name)
                );
                Err(Fault::new(Code::NoRoute, Side::Client, detail))
            }
        }
    }
}

/// Bytes of a host or a path that a message repeats.
const SHOWN: usize = 200;
