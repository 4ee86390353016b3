//! The holds that brokers keep for one client agent, grouped as they are renewed: one message for each
//! broker and upstream, however many holds.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::{Duration, Instant},
};

use crate::{
    proto::deadlines::Deadlines,
    wire::{Name, ProcessId},
};

/// Holds by broker and upstream, each with the request's number here.
#[derive(Default)]
pub(super) struct Leases {
    groups: BTreeMap<(ProcessId, Name), Group>,
    renewals: Deadlines<(ProcessId, Name)>,
}

/// The holds at one broker for one upstream.
struct Group {
    /// The request's number here, by the hold's number at the broker.
    holds: HashMap<u64, u64>,
    renew: Instant,
    /// Renewals since the broker last answered one.
    unanswered: u32,
}

/// A group that is due.
pub(super) enum Due {
    /// It is to be renewed, its holds in order.
    Renew { broker: ProcessId, upstream: Name, holds: Vec<u64> },
    /// The broker has been silent for too long.
    Silent { broker: ProcessId },
}

impl Leases {
    /// The broker took `hold` for request `number`.
    pub fn add(&mut self, broker: ProcessId, upstream: Name, hold: u64, number: u64, now: Instant) {
        let key = (broker, upstream);
        let renewals = &mut self.renewals;
        let group = self.groups.entry(key.clone()).or_insert_with(|| {
            let renew = now + RENEW;
            renewals.add(renew, key);
            Group { holds: HashMap::new(), renew, unanswered: 0 }
        });
        group.holds.insert(hold, number);
    }

    /// A hold is not renewed any more; the broker forgets it by itself.
    pub fn remove(&mut self, broker: &ProcessId, upstream: &Name, hold: u64) {
        if let Some(group) = self.groups.get_mut(&(broker.clone(), upstream.clone())) {
            group.holds.remove(&hold);
        }
    }

    /// A broker is gone: the requests it held, in order.
    pub fn remove_broker(&mut self, broker: &ProcessId) -> Vec<u64> {
        let keys: Vec<_> = self.groups.keys().filter(|(b, _)| b == broker).cloned().collect();
        let mut numbers = Vec::new();
        for key in keys {
            if let Some(group) = self.groups.remove(&key) {
                self.renewals.drop(group.renew, key);
                numbers.extend(group.holds.into_values());
            }
        }
        sorted(numbers)
    }

    /// A broker answered a renewal and does not have `holds`: the requests they were for, in order.
    pub fn remove_lost(&mut self, broker: &ProcessId, holds: &[u64]) -> Vec<u64> {
        let of_broker = self.groups.iter_mut().filter(|((b, _), _)| b == broker);
        let groups: Vec<_> = of_broker.map(|(_, group)| group).collect();
        let mut numbers = Vec::new();
        for group in groups {
            group.unanswered = 0;
            numbers.extend(holds.iter().filter_map(|hold| group.holds.remove(hold)));
        }
        sorted(numbers)
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Leases::default();
    }

    /// One group that is due. An empty group ends here.
    pub fn pop_due(&mut self, now: Instant) -> Option<Due> {
        while let Some(key) = self.renewals.pop_due(now) {
            let Some(group) = self.groups.get_mut(&key) else { continue };
            if group.holds.is_empty() {
                self.groups.remove(&key);
                continue;
            }
            group.renew = now + RENEW;
            self.renewals.add(group.renew, key.clone());
            // Somebody who watches `relay.>` hears every renewal, and then NATS never says that the broker is gone.
            if group.unanswered >= SILENT_RENEWALS {
                return Some(Due::Silent { broker: key.0 });
            }
            group.unanswered += 1;
            let holds = sorted(group.holds.keys().copied());
            return Some(Due::Renew { broker: key.0, upstream: key.1, holds });
        }
        None
    }

    /// When the next group is due.
    pub fn next(&self) -> Option<Instant> {
        self.renewals.next()
    }

    /// Holds in all groups.
    pub fn len(&self) -> usize {
        self.groups.values().map(|group| group.holds.len()).sum()
    }

    /// Whether nothing is kept, not even an empty group.
    pub fn is_idle(&self) -> bool {
        self.groups.is_empty() && self.renewals.next().is_none()
    }
}

/// In order, so that a run can be repeated: a map's order is not.
pub(super) fn sorted(numbers: impl IntoIterator<Item = u64>) -> Vec<u64> {
    numbers.into_iter().collect::<BTreeSet<_>>().into_iter().collect()
}

/// Renewals that a broker may leave unanswered: by then it has forgotten the holds.
const SILENT_RENEWALS: u32 = 3;
/// How often a lease is renewed; a broker forgets one after [`crate::proto::supervision::LEASE`].
pub const RENEW: Duration = Duration::from_secs(1);
