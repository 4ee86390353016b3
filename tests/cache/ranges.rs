//! Parts of what is stored.

use super::stage::*;
use crate::support::*;

#[tokio::test]
async fn a_part_is_cut_out_of_what_is_stored() {
    let relay = relay().await;
    // One that rides in a message, and one that is streamed.
    for bytes in [1000, 1_000_000] {
        let page = format!("/page?cache-control=max-age=60&etag=%22v1%22&bytes={bytes}");
        get(&relay.client, &page, &[]).await;
        stored(&relay.client, &page).await;
        let last = bytes - 1;
        let part = get(&relay.client, &page, &[("range", "bytes=-10")]).await;
        assert_eq!(part.is("bbbbbbbbbb", "hit").status, 206);
        assert_eq!(part.value("content-range"), format!("bytes {}-{last}/{bytes}", bytes - 10));
        let same = [("range", "bytes=5-6"), ("if-range", "\"v1\"")];
        assert_eq!(get(&relay.client, &page, &same).await.status, 206);
        let other = [("range", "bytes=5-6"), ("if-range", "\"v2\"")];
        assert_eq!(get(&relay.client, &page, &other).await.status, 200);
        let several = get(&relay.client, &page, &[("range", "bytes=0-1,5-6")]).await;
        assert_eq!((several.status, several.body.len()), (200, bytes));
        let beyond = get(&relay.client, &page, &[("range", &format!("bytes={bytes}-"))]).await;
        assert_eq!((beyond.status, beyond.value("content-range")), (416, format!("bytes */{bytes}")));
    }
    assert_eq!(relay.origin.hits(), 2);
}

#[tokio::test]
async fn a_part_of_what_is_not_stored_is_the_origins() {
    let origin = Origin::start(|seen| async move {
        let mut response = answer(if seen.value("range").is_empty() { 200 } else { 206 }, "part");
        response.headers_mut().insert("cache-control", "max-age=60".parse().unwrap());
        response.headers_mut().insert("content-range", "bytes 0-3/100".parse().unwrap());
        response
    })
    .await;
    let relay = Relay::to(origin).client(&["--cache", "1MB"]).start().await;
    for hits in [1, 2] {
        let part = get(&relay.client, "/", &[("range", "bytes=0-3")]).await;
        assert_eq!((part.status, part.cache.as_str()), (206, "relay; fwd=uri-miss"));
        assert_eq!(relay.origin.hits(), hits, "a part is not stored");
    }
}

async fn stored(client: &Role, page: &str) {
    eventually_async("it is stored", || async {
        get(client, page, &[("cache-control", "only-if-cached")]).await.status == 200
    })
    .await;
}
