//! The connection of a process while it is there: whether the NATS server answers, and what is done when it says that it
//! is about to end.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::time::sleep;

use super::core::Role;
use crate::proto::pulse::{self, Beat, Pulse};

/// Makes round trips, and connects anew when the server does not answer any more.
pub async fn watch<R: Role>(role: Arc<R>) {
    let core = role.core();
    let mut pulse = Pulse::new(Instant::now());
    loop {
        sleep(pulse::LOOK).await;
        let now = Instant::now();
        if !core.is_watched() {
            pulse = Pulse::new(now);
            continue;
        }
        match pulse.look(core.last_trip(), role.is_busy(), now) {
            Beat::Rest => {}
            Beat::Begin => pulse.began(core.begin_trip(), now),
            Beat::Silent => {
                pulse = Pulse::new(now);
                tracing::warn!("the NATS server does not answer; connecting anew");
                core.lost();
                role.on_link(false);
                core.bus.reconnect().await;
            }
        }
    }
}

/// Moves to another server, before this one ends the connection.
pub async fn move_away<R: Role>(role: Arc<R>) {
    let core = role.core();
    if !core.bus.has_other_servers().await {
        tracing::warn!("the NATS server is shutting down, and no other is known");
        return;
    }
    tracing::info!("the NATS server is shutting down: moving to another");
    // Not all processes in the same moment.
    let turn = core.id.as_str().bytes().fold(0_u64, |sum, byte| sum * 31 % 997 + u64::from(byte));
    sleep(Duration::from_millis(turn % 1000)).await;
    role.before_moving().await;
    core.bus.reconnect().await;
}
