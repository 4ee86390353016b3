//! The client agent's answers to whoever operates the caches.

use std::sync::Arc;

use prometheus_client::metrics::counter::Counter;

use super::Client;
use crate::{
    bus::{Message, Subscription},
    cache::{key::Key, store::Selector},
    telemetry::Cached,
    wire::{CacheStats, Purge, Purged, codec, message::VERSION, subjects::CacheVerb},
};

impl Client {
    /// Reads what is asked of all caches.
    pub(super) async fn read_cache_questions(self: Arc<Self>, mut questions: Subscription) {
        while let Some(question) = questions.next().await {
            self.on_cache_question(&question);
        }
    }

    fn on_cache_question(&self, question: &Message) {
        let verb = self.core.subjects.cache_verb(&question.subject);
        let answer = match verb {
            Some(CacheVerb::Purge) => {
                let purge = codec::decode::<Purge>(&question.payload).map(|purge| selector(&purge));
                self.core.accept(question, purge).map(|selector| {
                    let purged = self.cache.as_ref().map_or(0, |cache| cache.purge(&selector));
                    tracing::info!(?selector, purged, "responses are forgotten");
                    codec::encode(&Purged { v: VERSION, client_id: self.core.id.clone(), purged })
                })
            }
            Some(CacheVerb::Stats) => Some(codec::encode(&self.cache_stats())),
            None => None,
        };
        if let Some(answer) = answer {
            self.core.answer(question, answer);
        }
    }

    fn cache_stats(&self) -> CacheStats {
        let counted = self.cache.as_ref().map(|cache| cache.counted()).unwrap_or_default();
        CacheStats {
            v: VERSION,
            client_id: self.core.id.clone(),
            entries: counted.entries,
            bytes: counted.bytes,
            limit: counted.limit,
            hits: counted.fresh + counted.collapsed + counted.stale,
            misses: counted.missed + counted.revalidated,
            stale: counted.stale,
            revalidated: counted.revalidated,
            collapsed: counted.collapsed,
            bypassed: counted.bypassed,
            evictions: counted.evictions,
        }
    }

    /// Brings the cache's metrics up to date.
    pub(super) fn refresh_cache_metrics(&self) {
        if let Some(cache) = &self.cache {
            let counted = cache.counted();
            let metrics = &self.core.metrics;
            metrics.cache_entries.set(signed(counted.entries));
            metrics.cache_bytes.set(signed(counted.bytes));
            metrics.cache_waiting.set(signed(counted.waiting));
            catch_up(&metrics.cache_evictions, counted.evictions);
            for (result, count) in [
                ("hit", counted.fresh),
                ("collapsed", counted.collapsed),
                ("stale", counted.stale),
                ("revalidated", counted.revalidated),
                ("miss", counted.missed),
                ("bypass", counted.bypassed),
            ] {
                catch_up(&metrics.cached.get_or_create(&Cached { result }), count);
            }
        }
    }
}

/// What a purge is for; `None` when it names nothing, or more than one thing.
fn selector(purge: &Purge) -> Option<Selector> {
    let key = |url: &String| Key::parse(url);
    let named = [
        purge.url.as_ref().map(|url| key(url).map(Selector::Url)),
        purge.prefix.as_ref().map(|prefix| key(prefix).map(Selector::Prefix)),
        purge.host.clone().map(|host| Some(Selector::Host(host))),
        purge.tag.clone().map(|tag| Some(Selector::Tag(tag))),
        purge.all.then_some(Some(Selector::All)),
    ];
    let mut named = named.into_iter().flatten();
    named.next().filter(|_| named.next().is_none()).flatten()
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Counters are scraped; what they count is counted where it happens.
fn catch_up(counter: &Counter, count: u64) {
    counter.inc_by(count.saturating_sub(counter.get()));
}
