//! Settings of an egress agent: which go together, what it announces by them, and new ones while it runs.

use std::fs;

use http::Method;

use super::asking::*;
use crate::support::{
    process::{relay, run},
    *,
};

#[tokio::test]
async fn settings_that_do_not_go_together_are_refused_with_the_reason() {
    let many = (0..65).map(|n| format!("https://{n}.partner.example")).collect::<Vec<_>>().join(",");
    let (to, allow) = (["--to", "http://127.0.0.1:1"], ["--allow", "https://partner.example"]);
    let egress = [&["--egress"], &allow[..]].concat();
    for (flags, parts) in [
        (vec![], &["--to is missing"][..]),
        (vec!["--egress"], &["--egress needs --allow"]),
        (vec!["--egress", "off"], &["--to is missing"]),
        ([&to[..], &allow].concat(), &["--allow is for", "--egress"]),
        ([&to[..], &["--allow-network", "10.0.0.0/8"]].concat(), &["--allow-network is for", "--egress"]),
        ([&egress[..], &to].concat(), &["--to can't be used with --egress"]),
        ([&egress[..], &["--sni", "x"]].concat(), &["--sni can't be used with --egress"]),
        ([&egress[..], &["--insecure"]].concat(), &["--insecure can't be used with --egress"]),
        ([&egress[..], &["--route", "/x"]].concat(), &["--route can't be used with --egress"]),
        ([&egress[..], &["--health", "/x"]].concat(), &["--health", "can't be used with --egress"]),
        ([&egress[..], &["--health-rise", "7"]].concat(), &["--health", "can't be used with --egress"]),
        (vec!["--egress", "--allow", &many], &["at most 64"]),
        (vec!["--egress", "--allow", "partner.example"], &["--allow", "http://HOST"]),
        (vec!["--egress", "--allow", "https://partner.example/v1"], &["--allow", "without a path"]),
        ([&egress[..], &["--allow-network", "home"]].concat(), &["--allow-network", "10.0.0.0/8"]),
    ] {
        let ended = run(relay(&[&["upstream", "--name", "egress"], &flags[..]].concat())).await;
        assert_eq!(ended.status.code(), Some(2), "{flags:?}: {ended:?}");
        for part in parts {
            assert!(ended.err.contains(part), "'{part}' of {flags:?} in {}", ended.err);
        }
    }
}

#[tokio::test]
async fn an_egress_agent_announces_what_it_calls() {
    let nats = Nats::start().await;
    let patterns = ["https://*.partner.example", "http://192.0.2.7:8080"];
    let _agent = egress(&nats, &["--allow", patterns[0], "--allow", patterns[1]]).await;
    let here = Asker::at(&nats).await.here().await;
    assert_eq!(here.allow.iter().map(ToString::to_string).collect::<Vec<_>>(), patterns);
    let shown = run(relay(&["ps", "--json", "--server", &nats.url()])).await;
    let rows: serde_json::Value = serde_json::from_str(&shown.out).unwrap();
    assert_eq!(rows[0]["allow"], serde_json::json!(patterns), "{}", shown.out);
}

#[tokio::test]
async fn an_egress_agent_may_serve_other_upstreams_and_gets_new_settings_while_it_runs() {
    let nats = Nats::start().await;
    let (shop, one, two) =
        (Origin::saying("shop").await, Origin::saying("one").await, Origin::saying("two").await);
    let settings = |calls: &str| {
        let shop = shop.url();
        format!("[[upstream]]\nname = \"shop\"\nto = \"{shop}\"\n[[upstream]]\nname = \"egress\"\n{calls}\n")
    };
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(&file, settings(&format!("egress = true\nallow = [\"{}\"]", one.url()))).unwrap();
    let agent = nats.spawn("upstream", &["--config", file.path().to_str().unwrap()]).ready().await;
    let mut asker = Asker::at(&nats).await;
    assert_eq!(text(&asker.ask("shop", Method::GET, "/").await, 200), "shop");
    assert_eq!(text(&asker.get(&one.url()).await, 200), "one");
    assert_eq!(asker.refused(&two.url()).await.code, "egress_refused");

    fs::write(&file, settings(&format!("egress = true\nallow = [\"{}\"]", two.url()))).unwrap();
    agent.hangup();
    agent.says("the upstream has new settings").await;
    assert_eq!(asker.here().await.allow[0].to_string(), two.url());
    assert_eq!(asker.refused(&one.url()).await.code, "egress_refused");
    assert_eq!(text(&asker.get(&two.url()).await, 200), "two");

    fs::write(&file, settings("egress = true")).unwrap();
    agent.hangup();
    agent.says("upstream 'egress': --egress needs --allow").await;
    assert_eq!(text(&asker.get(&two.url()).await, 200), "two", "the old settings stay");

    // The same upstream may become an ordinary one.
    fs::write(&file, settings(&format!("to = \"{}\"", one.url()))).unwrap();
    agent.hangup();
    eventually("they are used", || agent.lines("the upstream has new settings").len() == 2).await;
    assert_eq!(text(&asker.get("/").await, 200), "one");
    assert_eq!(asker.get(&two.url()).await.error.unwrap().code, "bad_target");
    assert!(asker.here().await.allow.is_empty());
}
