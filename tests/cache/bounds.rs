//! A cache takes no more memory than it was given.

use super::stage::*;
use crate::support::*;

#[tokio::test]
async fn the_cache_stays_within_its_size() {
    let relay = Relay::to(told().await).client(&["--cache", "4MB"]).start().await;
    let http = http();
    for number in 0..200 {
        let url = relay.url(&format!("/{number}?cache-control=max-age=600&bytes=100000")).await;
        http.get(url).send().await.unwrap().bytes().await.unwrap();
    }
    let metric = async |name| relay.client.metric(name, "").await;
    let (bytes, entries) = (metric("relay_cache_bytes").await, metric("relay_cache_entries").await);
    assert!((1_000_000.0..=4_000_000.0).contains(&bytes), "{bytes}");
    assert!(entries >= 10.0 && metric("relay_cache_evictions_total").await == 200.0 - entries, "{entries}");
    // What is left is whole.
    let last = get(&relay.client, "/199?cache-control=max-age=600&bytes=100000", &[]).await;
    assert_eq!(last.body.len(), 100_000);
}
