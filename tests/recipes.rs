//! Every recipe of docs/RECIPES.md: its commands, as they stand there, do what it says. Only ports and addresses
//! are the test's own.

mod support;

use std::{collections::BTreeMap, fs};

use support::*;

#[tokio::test]
async fn a_cached_page_costs_no_message_survives_its_backend_and_is_purged_by_its_tag() {
    let stage = Stage::start().await;
    let entrance = stage.run("caching", &[]).await;
    let page = Origin::start(|_| async move {
        let mut page = answer(200, "page");
        let headers = page.headers_mut();
        headers.insert("cache-control", "max-age=60, stale-if-error=3600".parse().unwrap());
        headers.insert("surrogate-key", "product-7".parse().unwrap());
        page
    })
    .await;
    let agents = stage.run("moving-old", &[(3001, &page)]).await;
    let get = || async {
        let request = "GET /7 HTTP/1.1\r\nHost: shop.example.com\r\nConnection: close\r\n\r\n";
        entrance[0].raw().await.ask(request).await
    };
    eventually_async("the page is there", || async { get().await.status == 200 }).await;
    let hit = get().await;
    assert!(hit.value("cache-status").starts_with("relay; hit; ttl="), "{}", hit.value("cache-status"));
    assert_eq!(page.hits(), 1);
    agents[0].term();
    assert!(agents[0].ended().await.success());
    let survivor = get().await;
    assert_eq!((survivor.status, survivor.text().as_str()), (200, "page"));

    let mut said = Vec::new();
    for line in lines("purging", &[]) {
        let words: Vec<&str> = line.split(' ').collect();
        let ended =
            process::run(process::relay(&[&words[..], &["--server", &stage.nats.url()]].concat())).await;
        assert!(ended.status.success(), "{}", ended.err);
        said.push(ended.out);
    }
    assert_eq!(said[0], "1 responses forgotten at 2 client agents\n");
    assert!(said[1].contains("ENTRIES"), "{}", said[1]);
    assert_eq!(get().await.status, 404, "and nobody serves it any more");
}

#[tokio::test]
async fn scaling_agents_of_one_name_share_and_a_small_one_is_not_overrun() {
    let stage = Stage::start().await;
    let (one, two) = (Origin::saying("1").await, Origin::saying("2").await);
    let _agents = stage.run("scaling", &[(3001, &one), (3002, &two)]).await;
    stage.becomes("shop.example.com", "/", &["1", "2"]).await;
    for _ in 0..60 {
        assert_eq!(stage.get("shop.example.com", "/").await.0, 200);
    }
    assert!(one.hits() > 10 && two.hits() > 10, "{} and {}", one.hits(), two.hits());
    let small = Origin::saying("3").await;
    let _small = stage.run("scaling-uneven", &[(3003, &small)]).await;
    stage.becomes("shop.example.com", "/", &["3"]).await;
}

#[tokio::test]
async fn a_backend_moves_under_load_and_no_request_fails() {
    let stage = Stage::start().await;
    let (before, after) = (Origin::echo().await, Origin::echo().await);
    let old = stage.run("moving-old", &[(3001, &before)]).await;
    stage.becomes("shop.example.com", "/", &[""]).await;
    let load = Load::start_at(&stage.client, 8, Some("shop.example.com")).await;
    load.goes_on(200).await;
    let _new = stage.run("moving-new", &[(3002, &after)]).await;
    load.goes_on(200).await;
    old[0].term();
    assert!(old[0].ended().await.success());
    let at_old = before.hits();
    load.goes_on(200).await;
    let (asked, failed) = load.end().await;
    assert!(failed.is_empty(), "{:?} of {asked}", support::load::counted(&failed));
    assert_eq!(before.hits(), at_old, "nothing goes to the old machine any more");
    assert_eq!(before.hits() + after.hits(), asked + 1, "and nothing went twice");
}

#[tokio::test]
async fn many_services_stand_behind_one_name() {
    let stage = Stage::start().await;
    let (site, shop, api) =
        (Origin::saying("site").await, Origin::saying("shop").await, Origin::saying("api").await);
    let _agents = stage.run("paths", &[(3001, &site), (3002, &shop), (3003, &api)]).await;
    for (path, text) in [("/", "site"), ("/shop/1", "shop"), ("/api/users?id=1", "api")] {
        stage.becomes("www.example.com", path, &[text]).await;
    }
    let seen = api.last();
    assert_eq!(
        (seen.target.as_str(), seen.values("x-forwarded-prefix")),
        ("/users?id=1", vec!["/api".to_owned()])
    );
}

#[tokio::test]
async fn microservices_are_called_by_name() {
    let stage = Stage::start().await;
    let (billing, stock) = (Origin::saying("billing").await, Origin::saying("stock").await);
    let _agents = stage.run("microservices", &[(3001, &billing), (3002, &stock)]).await;
    stage.becomes("billing", "/invoices", &["billing"]).await;
    stage.becomes("stock", "/", &["stock"]).await;
}

#[tokio::test]
async fn a_laptop_is_on_the_shared_domain_until_it_leaves() {
    let stage = Stage::start().await;
    let code = Origin::saying("work in progress").await;
    let laptop = stage.run("laptop", &[(3001, &code)]).await;
    stage.becomes("alice.dev.example.com", "/", &["work in progress"]).await;
    laptop[0].interrupt();
    assert!(laptop[0].ended().await.success());
    stage.is_gone("alice.dev.example.com").await;
}

#[tokio::test]
async fn a_temporary_service_is_a_404_afterwards() {
    let stage = Stage::start().await;
    let preview = Origin::saying("preview").await;
    let agents = stage.run("temporary", &[(3001, &preview)]).await;
    stage.becomes("preview.example.com", "/", &["preview"]).await;
    // What `timeout` does at the end of the hour.
    agents[0].term();
    assert!(agents[0].ended().await.success());
    stage.is_gone("preview.example.com").await;
}

#[tokio::test]
async fn what_is_there_can_be_looked_into_and_called_by_name() {
    let stage = Stage::start().await;
    let shop = Origin::saying("shop").await;
    let _agents = stage.run("moving-old", &[(3001, &shop)]).await;
    stage.becomes("shop.example.com", "/", &["shop"]).await;
    for (line, expected) in
        stage.lines("looking", &[]).into_iter().zip(["upstream  shop", "shop.example.com"])
    {
        let words: Vec<&str> = line.split(' ').collect();
        let ended =
            process::run(process::relay(&[&words[..], &["--server", &stage.nats.url()]].concat())).await;
        assert!(ended.out.contains(expected), "{line}: {}{}", ended.out, ended.err);
    }
    let tooling = stage.run("tooling", &[]).await;
    let request =
        "GET /health HTTP/1.1\r\nHost: tools\r\nX-Relay-Upstream: shop\r\nConnection: close\r\n\r\n";
    assert_eq!(tooling[0].raw().await.ask(request).await.text(), "shop");
}

#[tokio::test]
async fn a_file_goes_from_one_machine_to_another_and_is_the_same() {
    let nats = Nats::with("jetstream { store_dir: \"$DIR/jetstream\" }").await;
    let roles = run(&nats, "sessions", &[]).await;
    let (near, far) = (roles[0].address().await.to_string(), roles[1].address().await.to_string());
    let folder = tempfile::TempDir::new().unwrap();
    let size = match std::env::var("RELAY_BULK") {
        Ok(text) => text.parse::<bytesize::ByteSize>().expect("RELAY_BULK is a size").as_u64(),
        Err(_) => 1 << 30,
    };
    let text: String = ["session-make", "session-receive", "session-send"].map(block).join("\n");
    let [make, receive, send] = text.lines().collect::<Vec<_>>()[..] else { panic!("one line each: {text}") };
    // Two machines, of which one knows the other's session by phone.
    let script = format!(
        "head -c {size} /dev/urandom > file\n{make}\n{receive} & \n{send} > answer\nwait $! && sha256sum < file > one && sha256sum < copy > two && cmp one two && cat answer"
    );
    let script = script.replace("127.0.0.1:8000", &near).replace("127.0.0.1:8001", &far);
    let mut shell = std::process::Command::new("sh");
    shell.arg("-ec").arg(script).current_dir(folder.path());
    let output = tokio::task::spawn_blocking(move || shell.output()).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert!(said.contains(&format!("X-Bytes-Delivered: {size}")), "{said}");
}

/// NATS, and the entrance of the recipes.
struct Stage {
    nats: Nats,
    client: Role,
    _broker: Role,
}

impl Stage {
    async fn start() -> Stage {
        let nats = Nats::start().await;
        let mut entrance = run(&nats, "entrance", &[]).await.into_iter();
        let (client, broker) = (entrance.next().unwrap(), entrance.next().unwrap());
        Stage { nats, client, _broker: broker }
    }

    /// Runs the commands of a block, with these origins in place of its ports, until all are ready.
    async fn run(&self, block: &str, origins: &[(u16, &Origin)]) -> Vec<Role> {
        run(&self.nats, block, origins).await
    }

    fn lines(&self, block: &str, origins: &[(u16, &Origin)]) -> Vec<String> {
        lines(block, origins)
    }

    async fn get(&self, host: &str, path: &str) -> (u16, String) {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let answer = self.client.raw().await.ask(request).await;
        (answer.status, answer.text())
    }

    /// Waits until each of these texts has been the answer.
    async fn becomes(&self, host: &str, path: &str, texts: &[&str]) {
        for text in texts {
            let what = format!("{host}{path} says {text}");
            eventually_async(&what, || async { self.get(host, path).await == (200, (*text).to_owned()) })
                .await;
        }
    }

    async fn is_gone(&self, host: &str) {
        eventually_async("its route is gone", || async { self.get(host, "/").await.0 == 404 }).await;
    }
}

async fn run(nats: &Nats, block: &str, origins: &[(u16, &Origin)]) -> Vec<Role> {
    let mut roles = Vec::new();
    for line in lines(block, origins) {
        let words: Vec<&str> = line.split(' ').collect();
        let (role, flags) = words.split_first().unwrap();
        roles.push(nats.spawn(role, flags).ready().await);
    }
    roles
}

/// The text of one block.
fn block(name: &str) -> String {
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/RECIPES.md")).unwrap();
    let blocks: BTreeMap<&str, &str> = text
        .split("\n```sh ")
        .skip(1)
        .filter_map(|rest| rest.split("\n```").next()?.split_once('\n'))
        .collect();
    blocks.get(name).unwrap_or_else(|| panic!("docs/RECIPES.md has no block {name}")).trim_end().to_owned()
}

/// The commands of one block, without the program's name, and with this test's ports.
fn lines(name: &str, origins: &[(u16, &Origin)]) -> Vec<String> {
    block(name)
        .lines()
        .map(|line| {
            let mut line = line.strip_prefix("relay ").expect("a relay command").to_owned();
            for (port, origin) in origins {
                for written in [format!("http://127.0.0.1:{port}"), format!("--to {port}")] {
                    let to = if written.starts_with("--to") {
                        format!("--to {}", origin.url())
                    } else {
                        origin.url()
                    };
                    line = line.replace(&written, &to);
                }
            }
            line.replace("--listen 8000", "--listen 127.0.0.1:0")
                .replace("--listen 8001", "--listen 127.0.0.1:0")
        })
        .collect()
}
