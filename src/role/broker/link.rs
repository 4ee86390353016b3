//! The broker's way to JetStream: a connection of its own, to an account where nothing but brokers is, or the one it has
//! to everybody else.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use tokio::sync::mpsc;

use super::storing::Storing;
use crate::{
    bus::{Bus, Event, store::Store},
    config::{self, Broker as Settings},
    role::core::Core,
    telemetry::Throttle,
};

/// The way to JetStream.
pub struct StoreLink {
    /// The connection.
    pub bus: Bus,
    /// What is stored over it.
    pub store: Store,
    storing: OnceLock<Arc<Storing>>,
    /// Whether the main connection is used for JetStream, and nobody was told yet that this needs thought.
    shares_account: AtomicBool,
}

impl StoreLink {
    /// Connects, or starts trying to. Without settings of its own for that, JetStream is used over the connection that
    /// `core` has.
    ///
    /// # Errors
    /// When a setting can't be used.
    pub async fn connect(core: &Core, settings: &Settings) -> anyhow::Result<Arc<StoreLink>> {
        let name = format!("relay {} {} store", core.role, core.id);
        let Some(credentials) = settings.store.credentials(&settings.process.nats, name)? else {
            return Ok(StoreLink::over(core.bus.clone(), true));
        };
        let (bus, events) = Bus::connect(&credentials).await?;
        let link = StoreLink::over(bus, false);
        tokio::spawn(Arc::clone(&link).follow(events));
        Ok(link)
    }

    fn over(bus: Bus, shares_account: bool) -> Arc<StoreLink> {
        let (store, shares_account) = (bus.store(), AtomicBool::new(shares_account));
        Arc::new(StoreLink { bus, store, storing: OnceLock::new(), shares_account })
    }

    /// The main connection is up. Warns once when JetStream is used over it while users have permissions: they do not hold for
    /// what JetStream publishes. Where nobody logs in, all trust each other anyway.
    pub fn on_main_link(&self) {
        if self.bus.demands_login() && self.shares_account.swap(false, Ordering::Relaxed) {
            tracing::warn!(
                "JetStream is in the NATS account of client agents and upstream agents: a user there who may ask it for anything can have it publish \
                 on every subject, whatever its permissions are. Give JetStream an account of its own and brokers a user in it \
                 (--store-user, --store-creds), see \"Permissions and realms\" in docs/OPERATING.md and nats/accounts.conf"
            );
        }
    }

    /// Refusals are told to `storing` as well.
    pub fn tell_of_refusals(&self, storing: &Arc<Storing>) {
        self.storing.set(Arc::clone(storing)).ok();
    }

    /// NATS refused a publication: what waits for its answer need not.
    pub fn on_publish_denied(&self, subject: &str) {
        self.store.deny(subject);
        if let Some(storing) = self.storing.get() {
            storing.on_publish_denied(subject);
        }
    }

    async fn follow(self: Arc<Self>, mut events: mpsc::Receiver<Event>) {
        let mut told = None;
        while let Some(event) = events.recv().await {
            match event {
                Event::Connected => {
                    told = None;
                    if let Some(held_back) = CONNECTED.pass(Instant::now()) {
                        tracing::info!(held_back, "connected to NATS where jobs and sessions are stored");
                    }
                }
                Event::Disconnected => {
                    if let Some(held_back) = GONE.pass(Instant::now()) {
                        tracing::warn!(
                            held_back,
                            "the connection to where jobs and sessions are stored is gone; trying again"
                        );
                    }
                }
                Event::PublishDenied(subject) | Event::SubscribeDenied(subject) => {
                    if let Some(held_back) = DENIED.pass(Instant::now()) {
                        tracing::warn!(%subject, held_back, "NATS permissions refuse what storing jobs and sessions needs");
                    }
                    self.on_publish_denied(&subject);
                }
                Event::LameDuck => {
                    tracing::info!("the NATS server where jobs and sessions are stored is shutting down");
                }
                Event::Dropped => {
                    if let Some(held_back) = SLOW.pass(Instant::now()) {
                        tracing::warn!(
                            held_back,
                            "messages of JetStream were dropped: this process can't keep up"
                        );
                    }
                }
                Event::LoginRefused(why) | Event::Unreachable(why) | Event::Trouble(why) => {
                    // Told again at every attempt to connect; once is enough.
                    if told.as_ref() != Some(&why) {
                        let server = config::shown(self.bus.servers());
                        tracing::warn!(%server, %why, "NATS where jobs and sessions are stored (--store-server, --store-user)");
                        told = Some(why);
                    }
                }
            }
        }
    }
}

static CONNECTED: Throttle = Throttle::per_second_after_some();
static GONE: Throttle = Throttle::per_second_after_some();
static SLOW: Throttle = Throttle::per_second();
static DENIED: Throttle = Throttle::per_second();
