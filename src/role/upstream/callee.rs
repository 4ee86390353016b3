//! Whom a member calls: its one origin, or the outside hosts that its requests name.

use crate::{
    config::Member as Settings,
    origin::{Egress, Origin},
    wire::Fault,
};

/// Whom a member calls.
pub(super) enum Callee {
    /// One origin; requests name a path on it.
    Origin(Box<Origin>),
    /// Outside hosts; requests name a whole URL.
    Egress(Box<Egress>),
}

impl Callee {
    /// Whom `settings` say.
    ///
    /// # Errors
    /// When a setting can't be used.
    pub fn new(settings: &Settings) -> anyhow::Result<Self> {
        Ok(if settings.is_egress() {
            Callee::Egress(Box::new(Egress::new(&settings.egress, &settings.origin)?))
        } else {
            let is_border = settings.route.iter().any(|route| !route.path().is_empty());
            Callee::Origin(Box::new(Origin::new(&settings.origin)?.below_path(is_border)))
        })
    }

    /// Whether a connection to the origin can be made. Outside hosts are not tried: one that is away says
    /// nothing of the others.
    ///
    /// # Errors
    /// A fault that says why not.
    pub async fn try_connect(&self) -> Result<(), Fault> {
        match self {
            Callee::Origin(origin) => origin.try_connect().await,
            Callee::Egress(_) => Ok(()),
        }
    }

    /// Closes connections that have been idle for too long.
    pub fn close_idle(&self) {
        match self {
            Callee::Origin(origin) => origin.close_idle(),
            Callee::Egress(egress) => egress.close_idle(),
        }
    }
}
