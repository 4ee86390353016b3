//! A member claims its routes, and tells what becomes of them.

use std::time::Instant;

use super::member::Member;
use crate::{
    bus::Message,
    proto::claims::{Claims, Row, Standing},
    sync::MutexGuard,
    wire::{Claim, Refused, codec},
};

impl Member {
    /// A client agent refuses a claim.
    pub fn on_refused(&self, message: &Message) {
        let read = codec::decode::<Refused>(&message.payload);
        let own = read.map(|refused| (refused.upstream_target == self.name).then_some(refused));
        let Some(refused) = self.core.accept(message, own) else { return };
        let (news, said) = self.claims().refused(&refused, Instant::now());
        if let Some(news) = news {
            self.tell_of_route(&news);
        }
        self.publish_claims(said.as_slice());
    }

    fn tell_of_route(&self, Row { route, standing, .. }: &Row) {
        let upstream = &self.name;
        match standing {
            Standing::Served => tracing::info!(%upstream, "route {route} is served again"),
            Standing::Taken { by } => {
                tracing::warn!(%upstream, "route {route} is not served: upstream '{by}' claimed it first");
            }
            Standing::Refused { why } => tracing::warn!(%upstream, "route {route} is not served: {why}"),
        }
    }

    /// Claims all its routes: somebody may not know of them.
    pub(super) fn claim_all(&self) {
        let claims = self.claims().all(Instant::now());
        self.publish_claims(&claims);
    }

    /// At a heartbeat: what others refused and nobody refuses any more is served.
    pub(super) fn claim_contested(&self) {
        let (said, news) = self.claims().beat(Instant::now());
        self.publish_claims(&said);
        news.iter().for_each(|news| self.tell_of_route(news));
    }

    /// Publishes `claims`.
    pub(super) fn publish_claims(&self, claims: &[Claim]) {
        for claim in claims {
            let subject = self.core.subjects.route(&self.name, &self.core.id, &claim.route);
            self.core.publish(subject, codec::encode(claim));
        }
    }

    /// The routes it claims.
    pub(super) fn claims(&self) -> MutexGuard<'_, Claims> {
        self.claims.lock()
    }
}
