//! A member's origin is tried, and what is found out is told.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, header};
use tokio::time::timeout;

use super::{
    callee::Callee,
    member::{Member, Setup},
};
use crate::{
    descriptors,
    origin::{Call, Origin, Outgoing},
    proto::serving::{Input, News, Turn},
    role::shell::Shell,
    telemetry::{Label, OfUpstream},
    wire::{Code, Fault, Headers},
};

impl Member {
    /// Starts a check, or an attempt to connect when there is no check.
    pub(super) fn check(&self) {
        let Some(member) = self.myself() else { return };
        tokio::spawn(async move {
            let failure = match member.try_origin(&member.setup()).await {
                Ok(()) => None,
                Err(Failure::Origin(why)) => Some(why),
                Err(Failure::Own) => {
                    tracing::debug!(upstream = %member.name, "the origin can't be checked: no file descriptor is left");
                    member.feed(Input::NotChecked);
                    return;
                }
            };
            if let Some(why) = &failure {
                member.core.metrics.checks_failed.get_or_create(&member.label()).inc();
                tracing::debug!(upstream = %member.name, %why, "the origin was checked");
            }
            member.feed(Input::Checked { failure });
        });
    }

    async fn try_origin(self: &Arc<Self>, setup: &Setup) -> Result<(), Failure> {
        let health = &setup.settings.health;
        let (Some(path), Callee::Origin(origin)) = (&health.path, &setup.callee) else {
            return setup.callee.try_connect().await.map_err(Failure::from);
        };
        let late = |_| {
            let limit = humantime::format_duration(health.timeout);
            if descriptors::are_exhausted() {
                Failure::Own
            } else {
                Failure::Origin(format!("{} did not answer within {limit}", path.0))
            }
        };
        timeout(health.timeout, ask(origin, path.0.clone())).await.map_err(late)?
    }

    /// Says what became of the origin.
    pub(super) fn tell(&self, news: News) {
        let (upstream, origin) = (&self.name, self.setup().settings.shown());
        match news {
            News::Healthy => tracing::info!(%upstream, %origin, "the origin is healthy"),
            News::Unhealthy { why } => tracing::warn!(%upstream, %origin, %why, "the origin is unhealthy"),
            News::Ejected { why } => {
                self.core.metrics.ejections.get_or_create(&self.label()).inc();
                tracing::warn!(%upstream, %origin, %why, "the origin is given up until it can be connected to");
            }
        }
    }

    /// Says that it stands by, or works again.
    pub(super) fn tell_turn(&self, turn: Turn) {
        let upstream = &self.name;
        match turn {
            Turn::StandsBy { own, others } => {
                self.core.metrics.stand_bys.get_or_create(&self.label()).inc();
                let (own, others) = (shown(own), shown(others));
                tracing::warn!(%upstream, %own, %others, "this agent is much slower than its siblings and stands by");
            }
            Turn::Works => tracing::info!(%upstream, "this agent works again"),
        }
    }

    pub(super) fn label(&self) -> OfUpstream {
        OfUpstream { upstream: Label(self.name.clone()) }
    }
}

/// Why a check failed.
enum Failure {
    /// The origin did not pass it.
    Origin(String),
    /// This process could not make it.
    Own,
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        match fault.code {
            Code::OutOfDescriptors => Failure::Own,
            _ => Failure::Origin(fault.detail.into_owned()),
        }
    }
}

async fn ask(origin: &Origin, url: String) -> Result<(), Failure> {
    let mut headers = Headers::new();
    headers.insert(header::USER_AGENT, HeaderValue::from_static(AGENT));
    let body = Outgoing::Whole { body: Bytes::new(), trailers: None };
    let call = Call { method: Method::GET, url: url.clone().into(), headers, upgrade: None, body };
    let mut answer = origin.call(call, None).await?;
    if !(200..400).contains(&answer.status.as_u16()) {
        return Err(Failure::Origin(format!("{url} was answered with {}", answer.status)));
    }
    // Read to its end, so that the connection is of use again; a long one is not worth that.
    let mut read = 0;
    while let Some(frame) = answer.body.frame().await {
        let frame = frame?;
        read += frame.data_ref().map_or(0, Bytes::len);
        if read > ENOUGH {
            break;
        }
    }
    Ok(())
}

/// A time as a person reads it.
fn shown(time: Duration) -> String {
    format!("{:.1}ms", time.as_secs_f64() * 1e3)
}

const AGENT: &str = concat!("relay/", env!("CARGO_PKG_VERSION"), " health check");
/// Bytes of a check's answer that are read.
const ENOUGH: usize = 64 * 1024;
