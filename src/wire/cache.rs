//! The messages of the shared caches: an operator asks all client agents, each answers where the question says.

use serde::{Deserialize, Serialize};

use super::ids::ProcessId;

/// Responses are to be forgotten: those that one of the fields names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Purge {
    /// Protocol version.
    pub v: u8,
    /// The one with this URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Those whose URLs begin so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// Those of this host, at any port when it names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Those with this word in their `Surrogate-Key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// All.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
}

/// A client agent has forgotten what was to be forgotten.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Purged {
    /// Protocol version.
    pub v: u8,
    /// The client agent.
    pub client_id: ProcessId,
    /// Responses that it had stored.
    pub purged: u64,
}

/// What a client agent's cache has and has done since the start; zeros when it has no cache.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CacheStats {
    /// Protocol version.
    pub v: u8,
    /// The client agent.
    pub client_id: ProcessId,
    /// Responses stored.
    pub entries: u64,
    /// Bytes they take.
    pub bytes: u64,
    /// Bytes they may take.
    pub limit: u64,
    /// Requests answered without asking the origin for them.
    pub hits: u64,
    /// Requests that the origin was asked for.
    pub misses: u64,
    /// Answers that were stale.
    pub stale: u64,
    /// Misses of which the origin said that what is stored is still the same.
    pub revalidated: u64,
    /// Hits that another caller's request fetched at the same time.
    pub collapsed: u64,
    /// Requests that are none of a cache's.
    pub bypassed: u64,
    /// Responses that had to make room.
    pub evictions: u64,
}
