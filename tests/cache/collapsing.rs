//! Many who ask for the same at once.

use futures_util::future::join_all;

use super::stage::*;
use crate::support::*;

#[tokio::test]
async fn a_hundred_misses_are_one_request() {
    for said in ["max-age=60", "max-age=0&etag=%22a%22", "no-cache&etag=%22a%22"] {
        let (relay, gate) = gated().await;
        let page = format!("/page?cache-control={said}");
        let asking = join_all((0..100).map(|_| get(&relay.client, &page, &[])));
        let opens = async {
            relay.client.counts("relay_cache_waiting", "", 99.0).await;
            gate.send_replace(usize::MAX);
        };
        let (answers, ()) = tokio::join!(asking, opens);
        assert_eq!(relay.origin.hits(), 1, "{said}");
        let collapsed =
            answers.iter().filter(|got| got.is("1", "fwd=uri-miss").cache.ends_with("; collapsed"));
        assert_eq!(collapsed.count(), 99, "{said}");
    }
}

#[tokio::test]
async fn what_can_not_be_shared_is_fetched_by_each_at_once() {
    let (relay, gate) = gated().await;
    let page = "/page?cache-control=private";
    let asking = join_all((0..20).map(|_| get(&relay.client, page, &[])));
    let opens = async {
        relay.client.counts("relay_cache_waiting", "", 19.0).await;
        eventually("one of them is there", || relay.origin.hits() == 1).await;
        gate.send_replace(1);
        eventually("all the others are there, at once", || relay.origin.open() == 19).await;
        gate.send_replace(usize::MAX);
    };
    let (answers, ()) = tokio::join!(asking, opens);
    let mut bodies: Vec<_> = answers.iter().map(Got::text).collect();
    bodies.sort();
    bodies.dedup();
    assert_eq!((relay.origin.hits(), bodies.len()), (20, 20), "to each its own");
    // Known by now: nobody waits for anybody.
    gate.send_replace(20);
    let asking = join_all((0..5).map(|_| get(&relay.client, page, &[])));
    let opens = async {
        eventually("all are there", || relay.origin.open() == 5).await;
        gate.send_replace(usize::MAX);
    };
    tokio::join!(asking, opens);
}

#[tokio::test]
async fn each_variant_is_fetched_once() {
    let (relay, gate) = gated().await;
    let page = "/page?cache-control=max-age=60&vary=accept-language";
    let languages = ["de", "en"].into_iter().cycle().take(20);
    let asking = join_all(languages.map(|language| {
        let client = &relay.client;
        async move { (language, get(client, page, &[("accept-language", language)]).await) }
    }));
    let opens = async {
        relay.client.counts("relay_cache_waiting", "", 19.0).await;
        gate.send_replace(usize::MAX);
    };
    let (answers, ()) = tokio::join!(asking, opens);
    assert_eq!(relay.origin.hits(), 2);
    for language in ["de", "en"] {
        let mut bodies: Vec<_> =
            answers.iter().filter(|(l, _)| *l == language).map(|(_, got)| got.text()).collect();
        bodies.dedup();
        assert_eq!(bodies.len(), 1, "{language}: {bodies:?}");
    }
}

#[tokio::test]
async fn a_caller_that_leaves_hands_over_to_one_who_waits() {
    let (relay, gate) = gated().await;
    let page = "/page?cache-control=max-age=60";
    let mut leaver = relay.raw().await;
    let host = relay.client.address().await;
    leaver.send(format!("GET {page} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
    eventually("the origin has it", || relay.origin.open() == 1).await;
    let asking = join_all((0..5).map(|_| get(&relay.client, page, &[])));
    let leaves = async {
        relay.client.counts("relay_cache_waiting", "", 5.0).await;
        drop(leaver);
        eventually("one of those who waited asks", || relay.origin.hits() == 2).await;
        gate.send_replace(usize::MAX);
    };
    let (answers, ()) = tokio::join!(asking, leaves);
    assert!(answers.iter().all(|got| got.text() == "2"), "{answers:?}");
    assert_eq!(relay.origin.hits(), 2);
}

#[tokio::test]
async fn those_who_waited_for_an_error_get_what_is_stale() {
    let (relay, gate) = gated().await;
    gate.send_replace(1);
    let page = "/page?cache-control=max-age=60,stale-if-error=1000&age=100";
    get(&relay.client, page, &[]).await.is("1", "fwd=uri-miss");
    let asking = join_all((0..5).map(|_| get(&relay.client, page, &[])));
    let breaks = async {
        relay.client.counts("relay_cache_waiting", "", 4.0).await;
        // An idempotent request that broke off is tried once more.
        loop {
            relay.origin.close_connections();
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let answers = tokio::select! {
        answers = asking => answers,
        () = breaks => unreachable!("it goes on"),
    };
    for answer in &answers {
        answer.is("1", "fwd=stale");
    }
    assert!(relay.origin.hits() <= 3, "{}", relay.origin.hits());
    assert_eq!(answers.iter().filter(|got| got.cache.ends_with("collapsed")).count(), 4);
}
