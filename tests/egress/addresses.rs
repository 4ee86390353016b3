//! Where a host name may lead: not into the agent's own network, unless that is allowed.

use super::asking::*;
use crate::support::*;

#[tokio::test]
async fn a_name_that_leads_into_the_agent_s_own_network_is_refused() {
    let (nats, origin) = (Nats::start().await, Origin::echo().await);
    let url = format!("http://localhost:{}", origin.address().port());
    // That the address itself is allowed is another matter.
    let _agent = egress(&nats, &["--allow", &url, "--allow", &origin.url()]).await;
    let mut asker = Asker::at(&nats).await;
    let error = asker.refused(&format!("{url}/")).await;
    assert_eq!(error.code, "egress_refused");
    assert!(error.message.contains("loopback") && error.message.contains("--allow-network"), "{error:?}");
    assert!(!error.message.contains("127.0.0.1") && !error.message.contains("::1"), "{error:?}");
    assert_eq!(origin.connections(), 0);
    assert_eq!(text(&asker.get(&origin.url()).await, 200), "");
}

#[tokio::test]
async fn an_allowed_network_may_be_reached_by_name() {
    let (nats, origin) = (Nats::start().await, Origin::saying("in here").await);
    let port = origin.address().port();
    let url = format!("http://localhost:{port}");
    let _agent = egress(&nats, &["--allow", &url, "--allow-network", LOOPBACK]).await;
    let mut asker = Asker::at(&nats).await;
    for url in [url, format!("HTTP://LocalHost.:{port}/x")] {
        assert_eq!(text(&asker.get(&url).await, 200), "in here");
        assert_eq!(origin.last().value("host"), format!("localhost:{port}"));
    }
    assert_eq!(origin.connections(), 1, "it is one host");
    // A network is no permission to name its addresses.
    let by_address = origin.url();
    assert_eq!(asker.refused(&by_address).await.code, "egress_refused");
}

#[tokio::test]
async fn another_network_is_not_enough() {
    let (nats, origin) = (Nats::start().await, Origin::echo().await);
    let url = format!("http://localhost:{}", origin.address().port());
    let _agent = egress(&nats, &["--allow", &url, "--allow-network", "10.0.0.0/8,192.0.2.7"]).await;
    assert_eq!(Asker::at(&nats).await.refused(&url).await.code, "egress_refused");
    assert_eq!(origin.connections(), 0);
}

#[tokio::test]
async fn a_name_that_there_is_not_is_told_so() {
    let nats = Nats::start().await;
    let _agent = egress(&nats, &["--allow", "http://nobody.invalid"]).await;
    assert_eq!(Asker::at(&nats).await.refused("http://nobody.invalid/").await.code, "origin_dns");
}
