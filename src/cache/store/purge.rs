//! Purges: what is stored is forgotten, and what is being fetched is not stored.

use super::{Cache, Flight, Resource, State};
use crate::cache::{entry::Head, key::Key};

/// What a purge is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// One URL.
    Url(Key),
    /// Every URL that begins so.
    Prefix(Key),
    /// Everything at a host.
    Host(String),
    /// Everything with a tag.
    Tag(String),
    /// Everything.
    All,
}

impl<W> Cache<W> {
    /// Forgets what `selector` names, and what is being fetched of it; says how many responses were stored.
    pub fn purge(&mut self, selector: &Selector) -> u64 {
        for (key, flights) in &mut self.flights {
            flights.iter_mut().for_each(|flight| flight.purge(selector, key));
        }
        if let Selector::Url(key) = selector {
            return self.entries.remove(key).map_or(0, |(_, resource)| resource.len());
        }
        let before = self.len();
        self.entries.retain(|key, resource| !selector.names(key, resource));
        before - self.len()
    }
}

impl<W> Flight<W> {
    /// Whether a purge concerned what came.
    pub(super) fn is_purged_for(&self, head: &Head) -> bool {
        self.is_purged || self.tags.iter().any(|tag| head.has_tag(tag))
    }

    fn purge(&mut self, selector: &Selector, key: &Key) {
        match (selector, &self.state) {
            (Selector::Tag(tag), State::Asked(_)) if self.tags.len() < MOST_TAGS => {
                self.tags.push(tag.clone());
            }
            (Selector::Tag(_), State::Asked(_)) => self.is_purged = true,
            (Selector::Tag(tag), State::Arriving(fill)) => {
                self.is_purged |= fill.head.has_tag(tag);
            }
            (Selector::Url(_) | Selector::Prefix(_) | Selector::Host(_) | Selector::All, _) => {
                self.is_purged |= selector.names_key(key);
            }
        }
    }
}

impl Selector {
    fn names(&self, key: &Key, resource: &Resource) -> bool {
        match (self, resource) {
            (Selector::Tag(tag), Resource::Variants(variants)) => {
                variants.iter().any(|variant| variant.stored.head.has_tag(tag))
            }
            (Selector::Tag(_), Resource::Passes(_)) => false,
            (Selector::Url(_) | Selector::Prefix(_) | Selector::Host(_) | Selector::All, _) => {
                self.names_key(key)
            }
        }
    }

    fn names_key(&self, key: &Key) -> bool {
        match self {
            Selector::Url(url) => key == url,
            Selector::Prefix(prefix) => key.as_str().starts_with(prefix.as_str()),
            Selector::Host(host) => key.is_at(host),
            Selector::Tag(_) => false,
            Selector::All => true,
        }
    }
}

/// Tags that are remembered for one that is being fetched.
const MOST_TAGS: usize = 64;
