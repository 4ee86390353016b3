//! New settings for an agent that runs.

use std::{fs, time::Duration};

use tokio::sync::watch;

use super::several::{file, text};
use crate::support::{load::counted, *};

#[tokio::test]
async fn upstreams_come_go_and_change_while_requests_run() {
    let nats = Nats::start().await;
    let (gate, slow) = (watch::Sender::new(false), Origin::saying("new").await);
    let (old, blog) = (Origin::gated(&gate).await, Origin::echo().await);
    let settings = file(&[("shop", &old.url(), ""), ("blog", &blog.url(), "")]);
    let agent = nats.spawn("upstream", &["--config", settings.path().to_str().unwrap()]);
    let (agent, to_shop, to_blog, to_news) = tokio::join!(
        agent.ready(),
        nats.client(&["--upstream", "shop"]),
        nats.client(&["--upstream", "blog"]),
        nats.client(&["--upstream", "news"]),
    );
    let load = Load::start(&to_blog, 4).await;
    let running = tokio::spawn(http().post(to_shop.url("/").await).body("began before").send());
    eventually("the old origin has it", || old.open() == 1).await;

    // The file is looked at by itself.
    fs::write(
        settings.path(),
        text(&[("shop", &slow.url(), ""), ("blog", &blog.url(), "ttl = \"9s\""), ("news", &slow.url(), "")]),
    )
    .unwrap();
    eventually_async("there is one more", || async { to_news.get("/").await.status() == 200 }).await;
    eventually_async("it has changed", || async { to_shop.get("/").await.text().await.unwrap() == "new" })
        .await;
    load.goes_on(50).await;
    // What was running is the old origin's still.
    assert_eq!(old.open(), 1);
    gate.send_replace(true);
    let answer = running.await.unwrap().unwrap();
    assert_eq!((answer.status().as_u16(), answer.text().await.unwrap().as_str()), (200, "began before"));

    fs::write(settings.path(), text(&[("blog", &blog.url(), "")])).unwrap();
    agent.hangup();
    eventually_async("it is gone", || async { to_news.get("/").await.status() == 503 }).await;
    eventually_async("it is gone", || async { to_shop.get("/").await.status() == 503 }).await;
    load.goes_on(50).await;
    let (asked, failed) = load.end().await;
    assert!(failed.is_empty(), "of {asked}: {:?}", counted(&failed));
    assert!(agent.is_running());
}

#[tokio::test]
async fn an_upstream_that_is_removed_finishes_and_may_come_back_before_it_has() {
    let nats = Nats::start().await;
    let gate = watch::Sender::new(false);
    let (shop, blog) = (Origin::gated(&gate).await, Origin::echo().await);
    let both = text(&[("shop", &shop.url(), ""), ("blog", &blog.url(), "")]);
    let settings = file(&[("shop", &shop.url(), ""), ("blog", &blog.url(), "")]);
    let agent = nats.spawn("upstream", &["--config", settings.path().to_str().unwrap()]);
    let (agent, client) = tokio::join!(agent.ready(), nats.client(&["--upstream", "shop"]));
    let first = tokio::spawn(http().post(client.url("/").await).body("first").send());
    eventually("the origin has it", || shop.open() == 1).await;
    fs::write(settings.path(), text(&[("blog", &blog.url(), "")])).unwrap();
    agent.hangup();
    agent.says("the upstream is no longer served").await;
    eventually_async("nobody takes more", || async { client.get("/").await.status() == 503 }).await;
    fs::write(settings.path(), both).unwrap();
    agent.hangup();
    agent.says("the upstream is served again").await;
    let second = tokio::spawn(http().post(client.url("/").await).body("second").send());
    eventually_async("it is taken", || async { shop.open() == 2 || second.is_finished() }).await;
    gate.send_replace(true);
    for (task, body) in [(first, "first"), (second, "second")] {
        let answer = within(Duration::from_secs(20), body, task).await.unwrap().unwrap();
        assert_eq!(answer.text().await.unwrap(), body);
    }
}

#[tokio::test]
async fn settings_that_can_not_be_used_are_refused_with_all_their_mistakes() {
    let nats = Nats::start().await;
    let shop = Origin::saying("shop").await;
    let settings = file(&[("shop", &shop.url(), "")]);
    let agent = nats.spawn("upstream", &["--config", settings.path().to_str().unwrap()]);
    let (agent, client) = tokio::join!(agent.ready(), nats.client(&["--upstream", "shop"]));
    fs::write(
        settings.path(),
        text(&[("shop", "ftp://x", "colour = 1"), ("blog", "3000", "route = \"a:1\"")]),
    )
    .unwrap();
    agent.hangup();
    agent.says("the old settings stay").await;
    for part in ["upstream shop: to", "upstream shop: colour", "upstream blog: route"] {
        assert_eq!(agent.lines(part).len(), 1, "{part}");
    }
    // What only shows when it is tried is told alike.
    let blind = "ca = \"/nowhere\"";
    fs::write(settings.path(), text(&[("shop", "https://a", blind), ("blog", "https://a", blind)])).unwrap();
    agent.hangup();
    eventually("all is told", || agent.lines("/nowhere").len() == 2).await;
    assert_eq!(client.get("/").await.text().await.unwrap(), "shop");
}

#[tokio::test]
async fn what_is_the_process_s_needs_a_restart() {
    let nats = Nats::start().await;
    let shop = Origin::saying("shop").await;
    let settings = file(&[("shop", &shop.url(), "")]);
    let agent = nats.spawn("upstream", &["--config", settings.path().to_str().unwrap()]).ready().await;
    let more = format!("realm = \"other\"\ngrace = \"1s\"\n{}", text(&[("shop", &shop.url(), "")]));
    fs::write(settings.path(), more).unwrap();
    agent.hangup();
    agent.says("--realm has changed, which needs a restart").await;
    agent.says("--grace has changed, which needs a restart").await;
}

#[tokio::test]
async fn a_hangup_ends_nobody() {
    let nats = Nats::start().await;
    let (agent, broker) = tokio::join!(nats.upstream("hello", "http://127.0.0.1:1", &[]), nats.broker(&[]));
    for role in [&agent, &broker] {
        role.hangup();
        assert_eq!(role.page("/readyz").await.0, 200);
        assert!(role.is_running());
    }
}
