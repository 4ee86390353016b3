//! docker-compose.yml and the Dockerfile, held to what they start. There is no Docker here: the compose file
//! is read as compose reads it, each command line is given to relay and to nats-server, and in the end all
//! of it runs as processes of this machine.

mod support;

#[path = "compose/dockerfile.rs"]
mod dockerfile;
#[path = "compose/file.rs"]
mod file;
#[path = "compose/relay_command.rs"]
mod relay_command;

use std::time::Duration;

use dockerfile::Dockerfile;
use file::{Compose, Service, duration};
use relay::config::{Command, Entrance, Listen};
use support::{
    configured::{Server, nats_server},
    process::{relay, run},
    *,
};

#[test]
fn the_compose_file_has_only_keys_that_compose_knows() {
    let unknown = Compose::read().unknown_keys();
    assert!(unknown.is_empty(), "{unknown:#?}");
}

#[test]
fn every_role_is_a_service_and_the_upstream_agent_can_be_scaled() {
    let compose = Compose::read();
    for service in ["nats", "broker", "client", "upstream", "origin"] {
        compose.service(service);
    }
    // Two containers can have neither one name nor one port of the host.
    let upstream = compose.service("upstream");
    for key in ["container_name", "hostname", "ports"] {
        assert!(upstream.get(key).is_none(), "{key}");
    }
}

#[test]
fn every_image_is_built_here_or_pinned() {
    for service in Compose::read().services() {
        let image = service.text("image");
        let built = service.get("build").is_some();
        assert!(built || is_pinned(&image), "{}: {image}", service.name);
    }
    for image in Dockerfile::read().images() {
        assert!(is_pinned(&image), "{image}");
    }
}

#[test]
fn whoever_waits_for_another_to_be_healthy_waits_for_one_that_says_so() {
    let compose = Compose::read();
    let image_says = Dockerfile::read().has("HEALTHCHECK");
    for service in compose.services() {
        for (other, condition) in service.depends_on() {
            let other = compose.service(&other);
            assert_eq!(condition, "service_healthy", "{} only waits for {}", service.name, other.name);
            let says = other.get("healthcheck").is_some() || (image_says && other.is_relay());
            assert!(says, "{} has no health check", other.name);
        }
    }
    for (service, others) in
        [("broker", &["nats"][..]), ("client", &["nats"]), ("upstream", &["nats", "origin"]), ("origin", &[])]
    {
        let waits: Vec<_> =
            compose.service(service).depends_on().into_iter().map(|(other, _)| other).collect();
        assert_eq!(waits, others, "{service}");
    }
}

#[test]
fn every_command_line_is_one_that_relay_accepts() {
    for service in Compose::read().services().iter().filter(|service| service.is_relay()) {
        relay_command::check(&service.words("command"), &service.environment());
        relay_command::check_health(service.health_check());
    }
    let image = Dockerfile::read();
    assert_eq!(image.words("ENTRYPOINT"), ["relay"]);
    relay_command::check(&image.words("CMD"), &[]);
    relay_command::check_health(Some(image.health_check()));
    // What the comments tell people to type.
    let told = image.comments.iter().filter_map(|line| line.split_once("docker run relay "));
    let told: Vec<_> = told.map(|(_, args)| args.split(' ').map(str::to_owned).collect::<Vec<_>>()).collect();
    assert!(!told.is_empty());
    for args in told {
        relay_command::check(&args, &[]);
    }
}

#[test]
fn every_variable_that_is_set_or_told_of_exists() {
    let all: Vec<_> = ["client", "upstream", "broker"].into_iter().map(relay_command::variables).collect();
    let (image, compose) = (Dockerfile::read(), Compose::read());
    // The image's variables are there for every role.
    for (name, _) in image.variables() {
        assert!(all.iter().all(|role| role.contains_key(&name)), "{name}");
    }
    let words = image.comments.iter().chain(&compose.comments).flat_map(|line| {
        line.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).map(str::to_owned).collect::<Vec<_>>()
    });
    let told: Vec<_> = words.filter(|word| word.starts_with("RELAY_") || word.starts_with("NATS_")).collect();
    assert!(told.len() >= 2, "{told:?}");
    for name in told {
        assert!(all.iter().any(|role| role.contains_key(&name)), "{name}");
    }
}

#[test]
fn every_mounted_file_is_here_and_every_volume_is_declared() {
    let compose = Compose::read();
    let mounts: Vec<_> = compose.services().iter().flat_map(Service::mounts).collect();
    assert!(!mounts.is_empty());
    for mount in mounts {
        match mount.host_path() {
            Some(path) => assert!(path.is_file(), "{}", path.display()),
            None => assert!(compose.volumes().contains(&mount.source), "{}", mount.source),
        }
    }
    // What the server keeps outlives its container.
    let kept = compose.service("nats").mounts().into_iter().find(|mount| mount.host_path().is_none());
    assert_eq!(kept.expect("a volume").target, STORE);
    let config = std::fs::read_to_string(configured::configuration("development.conf")).unwrap();
    assert!(config.contains(&format!("store_dir: \"{STORE}/")), "{config}");
}

#[tokio::test]
async fn the_mounted_configuration_is_one_that_nats_server_accepts() {
    let args = server_args(&Compose::read().service("nats"));
    let args: Vec<_> = args.iter().map(String::as_str).chain(["-t"]).collect();
    let checked = run(nats_server(&args, &[])).await;
    assert!(checked.status.success(), "{args:?}: {}", checked.err);
    assert!(
        checked.err.contains("configuration file") && checked.err.contains("is valid"),
        "{}",
        checked.err
    );
}

#[test]
fn the_ports_that_services_name_are_those_they_listen_on() {
    let (compose, image) = (Compose::read(), Dockerfile::read());
    let port = |text: &str| text.rsplit(':').next().and_then(|port| port.parse::<u16>().ok());
    let config = std::fs::read_to_string(configured::configuration("development.conf")).unwrap();
    let listens =
        |key: &str| config.lines().find_map(|line| port(line.strip_prefix(key)?.trim_matches(['"', ' '])));
    let nats = listens("listen: ").expect("development.conf listens");
    for service in compose.services().iter().filter(|service| service.is_relay()) {
        let variable =
            |name: &str| service.environment().into_iter().find(|(key, _)| key == name).map(|(_, v)| v);
        if let Some(url) = variable("NATS_URL") {
            assert_eq!(url, format!("nats://nats:{nats}"), "{}", service.name);
            // The image asks for health where the process tells it.
            let admin = variable("RELAY_ADMIN").expect("an admin address");
            assert_eq!(port(&admin), port(image.health_check().last().unwrap()), "{}", service.name);
        }
    }
    let asked = compose.service("nats").health_check().expect("a health check");
    let monitor =
        format!("http://127.0.0.1:{}/healthz", listens("http: ").expect("development.conf has a monitor"));
    assert_eq!(asked.last(), Some(&monitor));

    let client = compose.service("client");
    let Command::Client(settings) = relay_command::parse(&client.words("command"), &client.environment())
    else {
        panic!("a client agent")
    };
    let Entrance::Tcp(Listen(address)) = settings.listen else { panic!("{:?}", settings.listen) };
    assert!(address.ip().is_unspecified(), "only the container itself would reach it");
    assert_eq!(client.published_ports(), [address.port()]);

    let (origin, upstream) = (compose.service("origin"), compose.service("upstream"));
    let Command::Demo(demo) = relay_command::parse(&origin.words("command"), &[]) else {
        panic!("an origin")
    };
    let Command::Upstream(agent) = relay_command::parse(&upstream.words("command"), &upstream.environment())
    else {
        panic!("an upstream agent")
    };
    assert_eq!(agent.member.shown(), format!("http://origin:{}/", demo.listen.0.port()));
    assert_eq!(Some(agent.member.name), settings.upstream);
}

#[test]
fn a_container_is_given_longer_to_stop_than_relay_takes() {
    for service in Compose::read().services().iter().filter(|service| service.is_relay()) {
        let grace = match relay_command::parse(&service.words("command"), &service.environment()) {
            Command::Client(settings) => settings.process.grace,
            Command::Upstream(settings) => settings.process.grace,
            Command::Broker(settings) => settings.process.grace,
            _ => Duration::ZERO,
        };
        let allowed = duration(&service.text("stop_grace_period"));
        assert!(allowed > grace, "{}: {allowed:?} for {grace:?}", service.name);
    }
}

#[tokio::test]
async fn what_the_compose_file_starts_answers_a_request() {
    let compose = Compose::read();
    let nats = run_server(&compose.service("nats")).await;
    // Every container has an address of its own; here everybody is on the loopback, on free ports.
    let here = |text: &str, origin: &str| {
        let text = text.replace("nats://nats:4222", &nats.url()).replace("http://origin:3000", origin);
        match text.strip_prefix("0.0.0.0:") {
            Some(_) => "127.0.0.1:0".to_owned(),
            None => text,
        }
    };
    let start = |service: &str, origin: &str| {
        let service = compose.service(service);
        let args: Vec<_> = service.words("command").iter().map(|word| here(word, origin)).collect();
        let mut command = relay(&args.iter().map(String::as_str).collect::<Vec<_>>());
        command.envs(service.environment().into_iter().map(|(name, value)| (name, here(&value, origin))));
        Role::of(&args[0], command)
    };
    let origin = start("origin", "");
    let said = origin.says("demo origin on http://").await;
    let url = said.rsplit(' ').next().unwrap();
    is_healthy(url).await;
    let (client, one, two, broker) = tokio::join!(
        start("client", url).ready(),
        start("upstream", url).ready(),
        start("upstream", url).ready(),
        start("broker", url).ready(),
    );
    let answer = client.post("/path?query", "a body").await;
    assert_eq!(answer.status(), 200);
    let text = answer.text().await.unwrap();
    assert!(text.contains("POST /path?query") && text.ends_with("a body\n"), "{text}");
    let later = http().get(client.url("/").await).header("prefer", "respond-async, wait=30");
    assert_eq!(later.send().await.unwrap().headers()["x-relay-job"], "done");
    for process in [&client, &one, &two, &broker] {
        is_healthy(&format!("http://{}", process.admin().await)).await;
    }
}

/// The service's nats-server, which keeps its files in a directory of its own.
async fn run_server(service: &Service) -> Server {
    let directory = tempfile::TempDir::new().unwrap();
    let (mut args, config) = (server_args(service), directory.path().join("nats.conf"));
    let given = args.iter_mut().find(|arg| arg.ends_with(".conf")).expect("a configuration");
    let text = std::fs::read_to_string(&*given).unwrap();
    std::fs::write(&config, text.replace(STORE, directory.path().to_str().unwrap())).unwrap();
    *given = config.to_str().unwrap().to_owned();
    Server::by(directory, &args.iter().map(String::as_str).collect::<Vec<_>>(), &[]).await
}

/// As the image and the compose file ask for it.
async fn is_healthy(url: &str) {
    let asked = run(relay(&["health", url])).await;
    assert!(asked.status.success(), "{url}: {}", asked.err);
}

/// The arguments of nats-server, with the files that are mounted in place of what they are in the container.
fn server_args(service: &Service) -> Vec<String> {
    let mut words = service.words("command");
    assert_eq!(words.remove(0), "nats-server");
    let mounts = service.mounts();
    let on_host = |word: &String| {
        let mount = mounts.iter().find(|mount| mount.target == *word)?;
        Some(mount.host_path()?.to_str()?.to_owned())
    };
    let mapped: Vec<_> = words.iter().map(|word| on_host(word).unwrap_or_else(|| word.clone())).collect();
    assert_ne!(mapped, words, "no configuration is mounted");
    mapped
}

fn is_pinned(image: &str) -> bool {
    image
        .rsplit_once(':')
        .is_some_and(|(_, tag)| tag.starts_with(|c: char| c.is_ascii_digit()) || tag.contains('-'))
}

const STORE: &str = "/tmp/relay-nats";
