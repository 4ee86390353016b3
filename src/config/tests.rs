use std::time::Duration;

use bytesize::ByteSize;
use clap::{CommandFactory, FromArgMatches};

use super::*;

#[test]
fn the_command_line_is_sound() {
    file::command().debug_assert();
}

#[test]
fn every_flag_that_takes_a_value_has_a_variable_of_its_own() {
    for role in file::command().get_subcommands() {
        for arg in
            role.get_arguments().filter(|arg| arg.get_long().is_some() && arg.get_action().takes_values())
        {
            let variable = arg.get_env().and_then(|v| v.to_str()).unwrap_or_default();
            assert!(
                ["RELAY_", "NATS_", "RUST_"].iter().any(|start| variable.starts_with(start)),
                "{} --{}",
                role.get_name(),
                arg.get_id()
            );
        }
    }
}

#[test]
fn a_file_sets_what_flags_set_and_flags_win() {
    let text = r#"
        server = "nats://a:4222,nats://b:4222"
        [client]
        upstream = "shop"
        ttl = "90s"
        max-body = "128KiB"
        max-in-flight = 5
        trusted-proxy = ["10.0.0.0/8", "192.0.2.1"]
        [broker]
        wait = "3s"
    "#;
    let client = match from_file(text, &["client", "--ttl", "7s"]).unwrap() {
        Command::Client(client) => client,
        other => panic!("{other:?}"),
    };
    assert_eq!(client.process.nats.server, "nats://a:4222,nats://b:4222");
    assert_eq!(client.upstream.as_ref().map(|name| name.as_str()), Some("shop"));
    assert_eq!(client.ttl, Duration::from_secs(7));
    assert_eq!(client.max_body, Some(ByteSize::kib(128)));
    assert_eq!(client.max_in_flight, 5);
    assert_eq!(client.trusted_proxy.len(), 2);
}

#[test]
fn every_mistake_in_a_file_is_reported_at_once() {
    let text = r#"
        colour = "blue"
        [client]
        ttl = "soon"
        listen = "nowhere"
        [broker]
        max-holds = 0
        [waiter]
        a = 1
    "#;
    let mistakes = file::apply(text, "client").unwrap_err();
    let all = mistakes.join("\n");
    assert_eq!(mistakes.len(), 5, "{all}");
    for part in ["colour: no such setting", "client.ttl", "client.listen", "broker.max-holds", "[waiter]"] {
        assert!(all.contains(part), "{part} in {all}");
    }
}

#[test]
fn an_address_may_be_a_port_and_then_it_is_loopback() {
    assert_eq!("8000".parse::<Listen>().unwrap().0.to_string(), "127.0.0.1:8000");
    assert_eq!(":8000".parse::<Listen>().unwrap().0.to_string(), "127.0.0.1:8000");
    assert_eq!("0.0.0.0:8000".parse::<Listen>().unwrap().0.to_string(), "0.0.0.0:8000");
    assert_eq!("[::1]:8000".parse::<Listen>().unwrap().0.to_string(), "[::1]:8000");
    assert!("70000".parse::<Listen>().is_err());
    assert!("example.com".parse::<Listen>().is_err());
}

#[test]
fn requests_come_in_at_an_address_or_at_a_unix_socket() {
    assert!(matches!("8000".parse(), Ok(Entrance::Tcp(_))));
    assert_eq!("unix:/run/relay.sock".parse(), Ok(Entrance::Unix("/run/relay.sock".into())));
    for bad in ["unix:", "unix:relay.sock", "unix:/run/", "example.com"] {
        assert!(bad.parse::<Entrance>().is_err(), "{bad}");
    }
    assert_eq!("0660".parse(), Ok(Mode(0o660)));
    for bad in ["rw", "0999", "7777", ""] {
        assert!(bad.parse::<Mode>().is_err(), "{bad}");
    }
    assert_eq!("unix".parse(), Ok(Trusted::Unix));
    assert!("10.0.0.0/8".parse::<Trusted>().is_ok() && "::1".parse::<Trusted>().is_ok());
}

#[test]
fn an_origin_is_a_scheme_a_host_and_a_path() {
    for (good, shown) in [
        ("http://127.0.0.1:3000", "http://127.0.0.1:3000/"),
        ("https://example.com/base", "https://example.com/base"),
        ("h2c://example.com:50051", "h2c://example.com:50051/"),
        ("3000", "http://127.0.0.1:3000/"),
        ("127.0.0.1:3000", "http://127.0.0.1:3000/"),
        ("http://[::1]:1/", "http://[::1]:1/"),
        ("unix:/run/app.sock", "unix:/run/app.sock"),
        ("unix:///run/app.sock", "unix:/run/app.sock"),
    ] {
        assert_eq!(good.parse::<OriginUrl>().map(|url| url.to_string()), Ok(shown.to_owned()), "{good}");
    }
    for bad in
        ["ftp://x", "http://", "http://u:p@x", "http://x/?a=b", "", "http://x y", "unix:", "unix:app.sock"]
    {
        assert!(bad.parse::<OriginUrl>().is_err(), "{bad}");
    }
}

#[test]
fn secrets_do_not_print() {
    let secret: Secret = "hunter2".parse().unwrap();
    assert!(!format!("{secret:?}").contains("hunter2"));
}

#[test]
fn a_role_s_own_key_wins_over_the_one_at_the_top() {
    let text = "ttl = \"9s\"\n[client]\nttl = \"3s\"\nupstream = \"shop\"";
    match from_file(text, &["client"]).unwrap() {
        Command::Client(client) => assert_eq!(client.ttl, Duration::from_secs(3)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_agent_may_serve_several_upstreams() {
    let text = r#"
        ttl = "9s"
        realm = "shops"
        [[upstream]]
        name = "shop"
        to = "3000"
        route = ["shop.example.com", "example.com/shop"]
        [[upstream]]
        name = "blog"
        to = "3001"
        ttl = "2s"
        strip-prefix = true
        route = "/blog"
    "#;
    let agent = match from_file(text, &["upstream", "--ack-delay", "7ms"]).unwrap() {
        Command::Upstream(agent) => agent,
        other => panic!("{other:?}"),
    };
    let seen: Vec<_> = agent
        .members()
        .map(|m| (m.name.as_str(), m.ttl.as_secs(), m.ack_delay.as_millis(), m.route.len(), m.strip_prefix))
        .collect();
    assert_eq!(seen, [("shop", 9, 7, 2, Switch::Off), ("blog", 2, 7, 1, Switch::On)]);
    assert_eq!(agent.process.realm.unwrap().as_str(), "shops");
    // Other roles do not mind.
    assert_eq!(file::apply(text, "broker").unwrap().len(), 1);
}

#[test]
fn every_mistake_in_several_upstreams_is_reported_at_once() {
    let text = r#"
        [[upstream]]
        name = "shop"
        to = "3000"
        route = ["shop.example.com:80"]
        realm = "x"
        [[upstream]]
        to = "ftp://x"
        colour = "red"
        [[broker]]
        wait = "1s"
    "#;
    let mistakes = file::apply(text, "upstream").unwrap_err();
    let all = mistakes.join("\n");
    assert_eq!(mistakes.len(), 5, "{all}");
    for part in ["upstream shop: route", "shop: realm", "upstream 2: to", "2: colour", "[[broker]]"] {
        assert!(all.contains(part), "{part} in {all}");
    }
    let twice = "[[upstream]]\nname = \"a\"\nto = \"1\"\n".repeat(2);
    let lines = file::apply(&twice, "upstream").unwrap();
    let all = file::joined(lines.into_iter().map(|line| read(line, &["upstream"]).unwrap()).collect());
    assert!(all.unwrap_err()[0].contains("'a' is there more than once"));
}

fn from_file(text: &str, args: &[&str]) -> Result<Command, clap::Error> {
    let lines = file::apply(text, args[0]).unwrap();
    let commands: Result<Vec<Command>, clap::Error> =
        lines.into_iter().map(|line| read(line, args)).collect();
    Ok(file::joined(commands?).unwrap())
}

fn read(line: clap::Command, args: &[&str]) -> Result<Command, clap::Error> {
    let matches = line.try_get_matches_from(["relay"].iter().chain(args))?;
    Ok(Cli::from_arg_matches(&matches)?.command)
}

#[test]
fn every_flag_of_a_role_has_a_heading_and_every_command_an_example_that_it_takes() {
    let cli = Cli::command();
    for role in ["client", "upstream", "broker", "socket"] {
        let role = cli.find_subcommand(role).unwrap();
        for arg in role.get_arguments().filter(|arg| arg.get_id() != "help") {
            assert!(arg.get_help_heading().is_some(), "{} {}", role.get_name(), arg.get_id());
        }
    }
    let mut commands: Vec<_> = cli.get_subcommands().collect();
    while let Some(command) = commands.pop() {
        let example =
            command.get_after_help().unwrap_or_else(|| panic!("{}", command.get_name())).to_string();
        let line = example.strip_prefix("Example:\n  ").unwrap();
        let line = line.replace("ID", "5f0c4f3e-6f0e-4c0e-9d0a-0f6b1c2d3e4f");
        if line.starts_with("relay ") {
            Cli::try_parse_from(line.split(' ')).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
        commands.extend(command.get_subcommands());
    }
}

#[test]
fn what_people_type_first_is_what_they_mean() {
    let listen = |text: &str| text.parse::<Listen>().map(|listen| listen.0.to_string());
    assert_eq!(listen("localhost:8000"), Ok("127.0.0.1:8000".to_owned()));
    assert_eq!(listen("LocalHost:8000"), Ok("127.0.0.1:8000".to_owned()));
    assert!(listen("localhost").is_err() && listen("localhost:99999").is_err());
    let route = |text: &str| values::parse_route(text).map(|route| route.to_string());
    assert_eq!(route("http://shop.example.com/a/"), Ok("shop.example.com/a".to_owned()));
    assert_eq!(route("HTTPS://*.example.com"), Ok("*.example.com".to_owned()));
    assert_eq!(route("/a"), Ok("/a".to_owned()));
    assert!(route("http://").is_err() && route("http://h:80/").is_err() && route("http://h/?q").is_err());
}

#[test]
fn a_port_that_is_none_and_a_time_of_nothing_are_refused() {
    for bad in ["http://h:99999", "http://h:0", "h:65536", "https://[::1]:70000/x", "99999"] {
        assert!(bad.parse::<OriginUrl>().is_err(), "{bad}");
    }
    for good in ["http://h:65535", "http://[::1]:80", "h:1"] {
        assert!(good.parse::<OriginUrl>().is_ok(), "{good}");
    }
    for zero in ["0s", "0ms", "0"] {
        assert!(values::parse_time(zero).is_err(), "{zero}");
    }
    assert!(values::parse_time("1ms").is_ok());
}

#[test]
fn a_file_may_use_the_names_that_flags_had() {
    let lines =
        file::apply("tlsca = \"/a\"\ntlscert = \"/b\"\ntlskey = \"/c\"\nupstream = \"hello\"", "client")
            .unwrap();
    let matches = lines[0].clone().try_get_matches_from(["relay", "client"]).unwrap();
    let Command::Client(client) = Cli::from_arg_matches(&matches).unwrap().command else {
        panic!("no client agent")
    };
    let nats = client.process.nats;
    assert_eq!(
        [nats.nats_ca, nats.nats_cert, nats.nats_key].map(|path| path.unwrap()),
        ["/a", "/b", "/c"].map(std::path::PathBuf::from)
    );
}
