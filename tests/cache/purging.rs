//! Purges, at all client agents at once.

use super::stage::*;
use crate::support::{process::Ended, *};

#[tokio::test]
async fn a_purge_reaches_every_client_agent() {
    let relay = relay().await;
    let second = relay.nats.client(&["--upstream", "hello", "--cache", "1MB"]).await;
    let _without = relay.nats.client(&["--upstream", "hello"]).await;
    let page = |name: &str, tags: &str| format!("/{name}?cache-control=max-age=600&surrogate-key={tags}");
    let pages = [page("a/1", "one+all"), page("a/2", "two+all"), page("b/1", "one+all")];
    let fill = async || {
        for client in [&relay.client, &second] {
            for page in &pages {
                let got = get(client, page, &[("host", "a.example")]).await;
                assert_eq!(got.value("surrogate-key"), "", "it is the cache's own");
            }
        }
    };
    for (what, purged) in [
        (["--url", "http://a.example/a/1?cache-control=max-age=600&surrogate-key=one+all"], 2),
        (["--url", "http://a.example/a/1"], 0),
        (["--prefix", "http://A.example:80/a/"], 4),
        (["--host", "a.example"], 6),
        (["--host", "b.example"], 0),
        (["--tag", "one"], 4),
        (["--tag", "all"], 6),
    ] {
        fill().await;
        let said = relay_cache(&relay, &[&["purge"], &what[..]].concat()).await;
        assert_eq!(said.out, format!("{purged} responses forgotten at 3 client agents\n"), "{what:?}");
        assert_eq!(stored(&relay.client).await + stored(&second).await, 6.0 - f64::from(purged), "{what:?}");
    }
    fill().await;
    let said = relay_cache(&relay, &["purge", "--all"]).await;
    assert_eq!(said.out, "6 responses forgotten at 3 client agents\n");
}

#[tokio::test]
async fn a_purge_hits_what_is_on_its_way() {
    let (relay, gate) = gated().await;
    let page = "/page?cache-control=max-age=600&surrogate-key=news";
    for what in [&["--tag", "news"][..], &["--all"]] {
        gate.send_replace(0);
        let purges = async {
            eventually("the origin has it", || relay.origin.open() == 1).await;
            relay_cache(&relay, &[&["purge"], what].concat()).await;
            gate.send_replace(usize::MAX);
        };
        let (got, ()) = tokio::join!(get(&relay.client, page, &[]), purges);
        assert_eq!(got.cache, "relay; fwd=uri-miss; ttl=600", "{what:?}");
        assert_eq!(stored(&relay.client).await, 0.0);
    }
}

#[tokio::test]
async fn the_statistics_are_told_for_each_client_agent() {
    let relay = relay().await;
    let _without = relay.nats.client(&["--upstream", "hello"]).await;
    for _ in 0..4 {
        get(&relay.client, "/page?cache-control=max-age=600", &[]).await;
    }
    let said = relay_cache(&relay, &["stats", "--json"]).await;
    let rows: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    let row = rows.as_array().unwrap().iter().find(|row| row["entries"] == 1).unwrap();
    assert_eq!((&row["hits"], &row["misses"], &row["hit_ratio"]), (&3.into(), &1.into(), &0.75.into()));
    assert!(row["bytes"].as_u64().unwrap() > 100 && rows.as_array().unwrap().len() == 2);
    let table = relay_cache(&relay, &["stats"]).await.out;
    let head: Vec<_> = table.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(head, ["PROCESS", "ENTRIES", "BYTES", "HITS", "MISSES", "RATIO", "STALE", "EVICTIONS"]);
    assert!(table.contains("75.0%"), "{table}");
}

#[tokio::test]
async fn a_purge_says_what_is_wrong_with_it() {
    let relay = relay().await;
    for (what, why) in [
        (&["purge"][..], "--url"),
        (&["purge", "--url", "/page"], "http://HOST/PATH"),
        (&["purge", "--all", "--tag", "a"], "cannot be used with"),
    ] {
        let said = process::run(process::relay(&[&["cache"], what].concat())).await;
        assert!(!said.status.success() && said.err.contains(why), "{what:?}: {}", said.err);
    }
    let nobody = Nats::start().await;
    let said = process::run(process::relay(&["cache", "purge", "--all", "--server", &nobody.url()])).await;
    assert_eq!(said.out, "0 responses forgotten at 0 client agents\n");
    drop(relay);
}

async fn relay_cache(relay: &Relay, args: &[&str]) -> Ended {
    let url = relay.nats.url();
    let ended = process::run(process::relay(&[&["cache"], args, &["--server", &url]].concat())).await;
    assert!(ended.status.success(), "{args:?}: {}", ended.err);
    ended
}

async fn stored(client: &Role) -> f64 {
    client.metric("relay_cache_entries", "").await
}
