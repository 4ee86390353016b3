//! Several upstreams in one process.

use std::io::Write;

use tempfile::NamedTempFile;

use crate::support::{process::run, *};

#[tokio::test]
async fn one_process_serves_several_upstreams() {
    let nats = Nats::start().await;
    let (shop, blog) = (Origin::saying("shop").await, Origin::saying("blog").await);
    let file = file(&[("shop", &shop.url(), ""), ("blog", &blog.url(), "max-in-flight = 7")]);
    let (agent, to_shop, to_blog) = tokio::join!(
        nats.spawn("upstream", &["--config", file.path().to_str().unwrap()]).ready(),
        nats.client(&["--upstream", "shop"]),
        nats.client(&["--upstream", "blog"]),
    );
    for _ in 0..4 {
        assert_eq!(to_shop.get("/").await.text().await.unwrap(), "shop");
        assert_eq!(to_blog.get("/").await.text().await.unwrap(), "blog");
    }
    // Each is a service of its own.
    let ps = run(process::relay(&["ps", "--json", "--server", &nats.url()])).await;
    let rows: Vec<serde_json::Value> = serde_json::from_str(&ps.out).unwrap();
    let agents: Vec<_> = rows.iter().filter(|row| row["role"] == "upstream").collect();
    let seen: Vec<_> = agents.iter().map(|row| (row["upstream"].as_str(), row["limit"].as_u64())).collect();
    assert_eq!(seen, [(Some("blog"), Some(7)), (Some("shop"), Some(1000))], "{}", ps.out);
    assert_eq!(agents[0]["process"], agents[1]["process"]);
    assert!(agents.iter().all(|row| row["requests"] == 4), "{}", ps.out);

    agent.term();
    assert!(agent.ended().await.success());
    for client in [&to_shop, &to_blog] {
        assert_eq!(client.get("/").await.status(), 503);
    }
}

#[tokio::test]
async fn a_stream_of_one_upstream_does_not_meet_another_s() {
    let nats = Nats::start().await;
    let (shop, blog) = (Origin::echo().await, Origin::echo().await);
    let file = file(&[("shop", &shop.url(), ""), ("blog", &blog.url(), "")]);
    let (_agent, to_shop, to_blog) = tokio::join!(
        nats.spawn("upstream", &["--config", file.path().to_str().unwrap()]).ready(),
        nats.client(&["--upstream", "shop"]),
        nats.client(&["--upstream", "blog"]),
    );
    let (one, two) = (vec![b'1'; 3_000_000], vec![b'2'; 3_000_000]);
    let (first, second) = tokio::join!(to_shop.post("/", one.clone()), to_blog.post("/", two.clone()));
    let (first, second) = tokio::join!(first.bytes(), second.bytes());
    assert!(first.unwrap() == one && second.unwrap() == two);
}

#[tokio::test]
async fn all_mistakes_in_several_upstreams_are_told_at_the_start() {
    let file = file(&[("shop", "ftp://x", ""), ("blog", "3000", "route = \"a:80\"\nadmin = \"off\"")]);
    let path = file.path().to_str().unwrap();
    let ended = run(process::relay(&["upstream", "--config", path])).await;
    assert!(!ended.status.success());
    for part in ["upstream shop: to", "upstream blog: route", "upstream blog: admin"] {
        assert!(ended.err.contains(part), "{part} in {}", ended.err);
    }
    let file = super::several::file(&[("shop", "3000", ""), ("shop", "3001", "")]);
    let path = file.path().to_str().unwrap();
    let ended = run(process::relay(&["upstream", "--config", path])).await;
    assert!(!ended.status.success() && ended.err.contains("'shop' is there more than once"), "{}", ended.err);
    // What is wrong on the command line is said once.
    let ended = run(process::relay(&["upstream", "--config", path, "--colour", "red"])).await;
    assert!(!ended.status.success());
    assert_eq!(ended.err.matches("--colour").count(), 1, "{}", ended.err);
}

/// A settings file with an upstream for each name, origin and further lines.
pub fn file(upstreams: &[(&str, &str, &str)]) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text(upstreams).as_bytes()).unwrap();
    file
}

/// Its text.
pub fn text(upstreams: &[(&str, &str, &str)]) -> String {
    let table = |(name, to, more): &(&str, &str, &str)| {
        format!("[[upstream]]\nname = \"{name}\"\nto = \"{to}\"\n{more}\n")
    };
    upstreams.iter().map(table).collect()
}
