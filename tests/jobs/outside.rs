//! Hops to hosts outside: only where an egress agent may call.

use crate::{
    stage::{Stage, says, value},
    support::Origin,
};

#[tokio::test]
async fn a_hop_to_an_outside_host_runs_at_an_egress_agent() {
    let at = Stage::start().await;
    let outside = says("outside").await;
    let egress = ["--name", "egress", "--egress", "--allow", &outside.url()];
    let _agent = at.nats.spawn("upstream", &egress).ready().await;
    let url = format!("{}/x", outside.url());
    let accepted = at.chain("/", &url, "a=b", "POST").await.body("x").send().await.unwrap();
    assert_eq!(at.over(&accepted).await.text().await.unwrap(), "outside(one(x))");
    let seen = outside.only();
    assert_eq!((seen.target.as_str(), seen.value("host")), ("/x?a=b", outside.address().to_string()));
}

#[tokio::test]
async fn an_agent_that_brokers_do_not_believe_gets_no_outside_host() {
    let mut at = Stage::start().await;
    let (outside, errors) = (says("outside").await, says("errors").await);
    at.serve("errors", &errors).await;
    let rogue = ["--name", "rogue", "--egress", "--allow", &outside.url()];
    let _agent = at.nats.spawn("upstream", &rogue).ready().await;
    let accepted = at.chain("/", &outside.url(), "", "POST").await.send().await.unwrap();
    assert_eq!(value(&at.over(&accepted).await, "x-relay-job"), "failed");
    assert_eq!(at.progress(&accepted).await["error"]["code"], "no_route");
    assert_eq!((outside.hits(), errors.hits()), (0, 1));
}

#[tokio::test]
async fn a_redirect_of_an_outside_host_is_not_followed() {
    let mut at = Stage::start().await;
    let errors = says("errors").await;
    at.serve("errors", &errors).await;
    let outside = Origin::start(|_| async {
        let mut response = crate::support::answer(302, "");
        response.headers_mut().insert("location", "http://127.0.0.1:1/".parse().unwrap());
        response
    })
    .await;
    let egress = ["--name", "egress", "--egress", "--allow", &outside.url()];
    let _agent = at.nats.spawn("upstream", &egress).ready().await;
    let accepted = at.chain("/", &outside.url(), "", "POST").await.send().await.unwrap();
    at.over(&accepted).await;
    assert_eq!(errors.only().value("x-forward-error-code"), "302");
}
