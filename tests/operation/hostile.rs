//! Processes that say of themselves what no relay says, to operators who look: their terminals are safe, and what is not
//! known is not told as nothing.

use std::{
    io::Write,
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use relay::{
    bus::Bus,
    wire::{CacheStats, ProcessId, codec::encode, message::VERSION, printable},
};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::support::{
    process::{Ended, run},
    *,
};

#[tokio::test]
async fn what_a_process_says_does_nothing_to_the_terminal_of_who_looks() {
    let nats = Nats::start().await;
    let bus = nats.connect().await;
    let texts = [HOSTILE.to_owned(), "x".repeat(70_000), "\u{301}".repeat(70_000), "世".repeat(70_000)];
    let stats: Vec<Bytes> = texts.iter().map(|text| stats(text)).collect();
    let routes: Vec<Bytes> = texts
        .iter()
        .map(|text| {
            let claimed = json!({"route": text, "strip": true, "standing": text, "by": text, "why": text});
            text_of(
                &json!({"name": text, "id": text, "process": text, "upstream": text, "routes": [claimed]}),
            )
        })
        .collect();
    let _services = [
        answers(&bus, "$SRV.STATS", stats, 1).await,
        answers(&bus, "$SRV.ROUTES", routes, 1).await,
        answers(&bus, "relay.cache.stats", vec![largest_stats()], 1).await,
        answers(&bus, "relay.cache.purge", vec![purged(), purged()], 1).await,
    ];
    for args in [
        &["ps"][..],
        &["ps", "--json"],
        &["routes"],
        &["routes", "--json"],
        &["cache", "stats"],
        &["cache", "stats", "--json"],
        &["cache", "purge", "--all"],
    ] {
        let said = ask(&nats, args).await;
        assert!(said.status.success() && said.err.is_empty(), "{args:?}: {said:?}");
        is_safe(&said);
        if args.contains(&"--json") {
            let rows: Value = serde_json::from_str(&said.out).unwrap();
            assert!(!rows.as_array().unwrap().is_empty(), "{args:?}");
        } else if args[0] != "cache" {
            assert!(said.out.contains("\\u{1b}]0;owned"), "{args:?}: it is told what was said");
        }
    }
}

#[tokio::test]
async fn answers_that_never_end_do() {
    let nats = Nats::start().await;
    let bus = nats.connect().await;
    let _many = answers(&bus, "$SRV.STATS", vec![stats("relay")], 1_000_000).await;
    let said = ask(&nats, &["ps"]).await;
    assert!(said.status.success() && said.err.contains("there may be more"), "{}", said.err);
    assert!(said.out.lines().count() <= 10_001);

    // One every now and then, each before the wait for the next is over.
    let _slow = trickle(&bus, "$SRV.ROUTES", Duration::from_millis(50)).await;
    let started = Instant::now();
    let said = ask(&nats, &["routes", "--timeout", "5s"]).await;
    assert!(said.err.contains("more answers still came"), "{said:?} after {:?}", started.elapsed());
}

#[tokio::test]
async fn who_may_not_ask_or_is_not_answered_is_told_so_and_not_that_nobody_is_there() {
    let refuse = |what: &str| {
        format!("authorization {{ users: [{{ user: u, password: p, permissions: {{ {what} }} }}] }}")
    };
    for (config, subject) in [
        (refuse("publish: { deny: [\"$SRV.>\", \"relay.>\"] }"), "$SRV.STATS"),
        (refuse("subscribe: { deny: \"_INBOX.>\" }"), "_INBOX."),
    ] {
        let nats = Nats::with(&config).await;
        for (args, asked) in
            [(&["ps"][..], "$SRV.STATS"), (&["routes"], "$SRV.ROUTES"), (&["cache", "stats"], "cache.stats")]
        {
            let said = ask(&nats, &[args, &["--user", "u", "--password", "p"]].concat()).await;
            assert_eq!((said.status.code(), said.out.as_str()), (Some(1), ""), "{args:?}: {said:?}");
            let subject = if subject == "$SRV.STATS" { asked } else { subject };
            assert!(
                said.err.contains(subject) && said.err.contains("does not let"),
                "{args:?}: {}",
                said.err
            );
        }
    }
    let nats = Nats::start().await;
    let bus = nats.connect().await;
    let mut silent = bus.subscribe("$SRV.STATS".into()).await.unwrap();
    bus.flush().await;
    let said = ask(&nats, &["ps", "--json"]).await;
    assert_eq!((said.status.code(), said.out.as_str()), (Some(1), ""), "{said:?}");
    assert!(said.err.contains("not known") && said.err.contains("--timeout"), "{}", said.err);
    assert!(silent.next().await.is_some());
    drop(silent);
    bus.flush().await;
    let said = ask(&nats, &["ps", "--json"]).await;
    assert_eq!(
        (said.status.code(), said.out.trim(), said.err.as_str()),
        (Some(0), "[]", ""),
        "nobody is there"
    );
}

#[tokio::test]
async fn decode_shows_what_is_no_message_of_the_relay_without_obeying_it() {
    let hostile = rmp_serde::to_vec_named(&json!({"v": 1, "body": HOSTILE, HOSTILE: "x"})).unwrap();
    for payload in [HOSTILE.as_bytes(), &hostile, b"\x9b2J\xff\x1b[2J"] {
        let mut decode = process::relay(&["decode", "--full"]);
        let mut child =
            decode.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(payload).unwrap();
        let output = child.wait_with_output().unwrap();
        let shown = String::from_utf8(output.stdout).unwrap();
        assert!(!shown.is_empty() && printable::text(&shown) == shown, "{shown:?}");
    }
}

/// Answers each question on `subject` with these, as often.
async fn answers(bus: &Bus, subject: &str, answers: Vec<Bytes>, times: usize) -> Answering {
    let mut questions = bus.subscribe(subject.into()).await.unwrap();
    bus.flush().await;
    let bus = bus.clone();
    let answers = Arc::new(answers);
    Answering(tokio::spawn(async move {
        while let Some(question) = questions.next().await {
            let Some(reply) = question.reply else { continue };
            for turn in 0..times {
                for answer in answers.iter() {
                    bus.publish(reply.to_string(), answer.clone()).ok();
                }
                if turn % 1000 == 999 {
                    bus.flush().await;
                }
            }
        }
    }))
}

/// Answers each question on `subject` for ever, every `pause`.
async fn trickle(bus: &Bus, subject: &str, pause: Duration) -> Answering {
    let mut questions = bus.subscribe(subject.into()).await.unwrap();
    bus.flush().await;
    let bus = bus.clone();
    Answering(tokio::spawn(async move {
        let Some(reply) = questions.next().await.and_then(|question| question.reply) else { return };
        let mut tick = tokio::time::interval(pause);
        loop {
            tick.tick().await;
            bus.publish(reply.to_string(), Bytes::from_static(b"{}")).ok();
        }
    }))
}

/// It ends with this.
struct Answering(JoinHandle<()>);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn ask(nats: &Nats, args: &[&str]) -> Ended {
    let url = nats.url();
    run(process::relay(&[args, &["--server", &url]].concat())).await
}

#[track_caller]
fn is_safe(said: &Ended) {
    for text in [&said.out, &said.err] {
        let shown = printable::text(text);
        assert!(shown == *text && !text.contains('\t'), "{}", text.chars().take(3000).collect::<String>());
        assert!(text.lines().all(|line| line.len() < 500_000));
    }
}

fn stats(text: &str) -> Bytes {
    let data = json!({
        "role": text, "upstream": text, "in_flight": u64::MAX, "limit": u64::MAX, "requests": u64::MAX,
        "failed": u64::MAX, "uptime": u64::MAX, "accepting": true, "admin": text,
    });
    text_of(&json!({
        "name": format!("relay-{text}"), "version": text, "metadata": {"process": text},
        "endpoints": [{"data": data}],
    }))
}

fn largest_stats() -> Bytes {
    let most = u64::MAX;
    let client_id: ProcessId = "client.Test12345678".parse().unwrap();
    encode(&CacheStats {
        v: VERSION,
        client_id,
        entries: most,
        bytes: most,
        limit: most,
        hits: most,
        misses: most,
        stale: most,
        revalidated: most,
        collapsed: most,
        bypassed: most,
        evictions: most,
    })
}

fn purged() -> Bytes {
    let client_id: ProcessId = "client.Test12345678".parse().unwrap();
    encode(&relay::wire::Purged { v: VERSION, client_id, purged: u64::MAX })
}

fn text_of(value: &Value) -> Bytes {
    value.to_string().into()
}

const HOSTILE: &str =
    "\x1b]0;owned\x07\x1b[2J\u{9b}2J\u{9d}0;x\u{9c}\x7f\r\n\u{202e}gnp\u{2066}\u{200b}\u{feff}\x08";
