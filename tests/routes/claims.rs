//! Who has a route.

use relay::wire::{Claim, Subjects, codec, message::VERSION};

use super::*;

#[tokio::test]
async fn agents_of_one_upstream_share_a_route_and_it_stays_when_one_goes() {
    let nats = Nats::start().await;
    let origin = Origin::saying("shop").await;
    let (first, second, client) = tokio::join!(
        agent(&nats, "shop", &origin, &["shop.example.com"]),
        agent(&nats, "shop", &origin, &["shop.example.com"]),
        nats.client(&[]),
    );
    becomes(&[&client], "shop.example.com", 200).await;
    for _ in 0..100 {
        assert_eq!(get(&client, "shop.example.com", "/").await.0, 200);
    }
    for agent in [&first, &second] {
        assert!(agent.metric("relay_origin_calls_total", "answered").await >= 10.0, "both have a share");
    }
    first.term();
    assert!(first.ended().await.success());
    for _ in 0..20 {
        assert_eq!(get(&client, "shop.example.com", "/").await.0, 200);
    }
}

#[tokio::test]
async fn the_second_upstream_that_claims_a_route_is_told_and_gets_it_when_the_first_is_gone() {
    let nats = Nats::start().await;
    let (first, second) = (Origin::saying("first").await, Origin::saying("second").await);
    let (early, late) = tokio::join!(nats.client(&[]), nats.client(&[]));
    let has_it = agent(&nats, "first", &first, &["shop.example.com"]).await;
    becomes(&[&early, &late], "shop.example.com", 200).await;
    let wants_it = agent(&nats, "second", &second, &["shop.example.com", "second.example.com"]).await;
    wants_it.says("'first' claimed it first").await;
    becomes(&[&early, &late], "second.example.com", 200).await;
    early.counts("relay_claims_refused_total", "taken", 1.0).await;
    let routes = seen::routes(&nats, &[]).await;
    assert!(routes.contains("refused: 'first' claimed it first"), "{routes}");
    for client in [&early, &late] {
        assert_eq!(get(client, "shop.example.com", "/").await, (200, "first".to_owned()));
    }
    // Whoever comes now decides as the others did.
    let latest = nats.client(&[]).await;
    assert_eq!(get(&latest, "shop.example.com", "/").await, (200, "first".to_owned()));

    has_it.term();
    assert!(has_it.ended().await.success());
    for client in [&early, &late, &latest] {
        eventually_async("the second has it", || async {
            get(client, "shop.example.com", "/").await == (200, "second".to_owned())
        })
        .await;
    }
    wants_it.says("is served again").await;
}

#[tokio::test]
async fn what_is_no_route_stops_the_agent_with_its_reason() {
    let nats = Nats::start().await;
    for (route, why) in [
        ("example.com:80", "ports do not matter"),
        ("exa mple.com", "a host is labels"),
        ("example.com/api/*", "leave out the *"),
        ("/a/../b", "without . and .."),
    ] {
        let agent = nats.spawn("upstream", &["--name", "a", "--to", "3000", "--route", route]);
        assert!(!agent.ended().await.success());
        assert!(agent.log().contains(why), "{}", agent.log());
    }
}

#[tokio::test]
async fn a_claim_that_is_not_what_it_should_be_is_refused_and_counted_and_others_go_on() {
    let nats = Nats::start().await;
    let origin = Origin::saying("shop").await;
    let (_agent, client) =
        tokio::join!(agent(&nats, "shop", &origin, &["shop.example.com"]), nats.client(&[]));
    becomes(&[&client], "shop.example.com", 200).await;
    let bus = nats.connect().await;
    let mut told = bus.subscribe("relay.claim.agent.Evil.>".into()).await.unwrap();
    let subjects = Subjects::new("relay".parse().unwrap());
    let claim = Claim {
        v: VERSION,
        upstream_id: "agent.Evil".parse().unwrap(),
        upstream_target: "evil".parse().unwrap(),
        route: "evil.example.com".parse().unwrap(),
        age: u64::MAX,
        strip: false,
        waiting: false,
        withdrawn: false,
    };
    let publish = |subject: &str, payload: Vec<u8>| {
        bus.publish(subject.to_owned(), payload.into()).unwrap();
    };
    // Another route inside than outside, another agent, another upstream: each is somebody else's.
    let stolen = Claim { route: "shop.example.com".parse().unwrap(), ..claim.clone() };
    let mine = subjects.route(&claim.upstream_target, &claim.upstream_id, &claim.route);
    publish(&mine, codec::encode(&stolen).to_vec());
    publish(
        &mine,
        codec::encode(&Claim { upstream_id: "agent.Other".parse().unwrap(), ..claim.clone() }).to_vec(),
    );
    publish(
        &mine,
        codec::encode(&Claim { upstream_target: "shop".parse().unwrap(), ..claim.clone() }).to_vec(),
    );
    client.counts("relay_messages_dropped_total", "misaddressed", 3.0).await;
    // Not even a route.
    let hostile: Vec<u8> = codec::encode(&claim).to_vec();
    let hostile = String::from_utf8_lossy(&hostile).into_owned();
    assert!(hostile.contains("evil.example.com"));
    let mut bytes = codec::encode(&claim).to_vec();
    let at = bytes.windows(4).position(|window| window == b"evil").unwrap();
    let at = at + bytes[at + 1..].windows(4).position(|window| window == b"evil").unwrap() + 1;
    bytes[at] = b'*';
    publish(&mine, bytes);
    for junk in [&b""[..], b"\xc1", b"\x81\xa1v\x01", &[0xdf, 0xff, 0xff, 0xff, 0xff]] {
        publish(&mine, junk.to_vec());
    }
    client.counts("relay_claims_refused_total", "malformed", 5.0).await;
    let why = within(std::time::Duration::from_secs(10), "it is told", told.next()).await.unwrap();
    assert!(String::from_utf8_lossy(&why.payload).contains("not a route"), "{why:?}");
    assert_eq!(get(&client, "shop.example.com", "/").await, (200, "shop".to_owned()));
    assert_eq!(get(&client, "evil.example.com", "/").await.0, 404);
}

#[tokio::test]
async fn a_huge_table_is_refused_from_its_limit_on_and_counted() {
    let nats = Nats::start().await;
    let origin = Origin::saying("shop").await;
    let (_agent, client) =
        tokio::join!(agent(&nats, "shop", &origin, &["shop.example.com"]), nats.client(&[]));
    let bus = nats.connect().await;
    let subjects = Subjects::new("relay".parse().unwrap());
    let limit = relay::proto::routes::MAX_ROUTES_OF_AGENT;
    for i in 0..limit + 10 {
        let claim = Claim {
            v: VERSION,
            upstream_id: "agent.Huge".parse().unwrap(),
            upstream_target: "huge".parse().unwrap(),
            route: format!("h{i}.example.com").parse().unwrap(),
            age: 0,
            strip: false,
            waiting: false,
            withdrawn: false,
        };
        let subject = subjects.route(&claim.upstream_target, &claim.upstream_id, &claim.route);
        while bus.publish(subject.clone(), codec::encode(&claim)).is_err() {
            bus.flush().await;
        }
    }
    client.counts("relay_claims_refused_total", "limit", 10.0).await;
    assert_eq!(client.metric("relay_routes", "").await, limit as f64 + 1.0);
    assert_eq!(get(&client, "shop.example.com", "/").await.0, 200);
}
