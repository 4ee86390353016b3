//! curl: bodies of many sizes and framings, expectations, and every version of HTTP it knows.

use std::{fs, process::Command, process::Stdio};

use serde_json::Value;

use crate::stage::{Plan, Stage, run, succeeds};

const WEB: Plan = Plan::of("web");
const BIG: usize = 64 << 20;

cases! {
    WEB =>
        a_big_upload_arrives_whole,
        a_big_download_arrives_whole,
        an_upload_of_unknown_length_arrives_whole,
        an_upload_and_its_answer_of_no_length_arrive_with_http_1_0,
        a_body_that_was_asked_for_is_sent,
        a_body_that_is_refused_is_never_sent,
        head_tells_the_length_and_sends_nothing,
        trailers_arrive,
        an_offer_to_upgrade_to_http_2_harms_nothing,
        an_empty_body_is_empty,
        an_upload_that_is_slow_is_waited_for;
    Plan::of("http2").h2c() => http_2_is_spoken_without_asking;
    Plan::of("http2").h2c().tls() => http_2_is_agreed_upon_over_tls;
    Plan::of("http2").tls() => http_2_callers_reach_an_origin_of_http_1_1;
}

async fn a_big_upload_arrives_whole(stage: &Stage) {
    stage.file("big", BIG);
    let told = json(curl(stage, "/sum?save=received", &["--upload-file", "big"])).await;
    assert_eq!((told["method"].as_str(), told["bytes"].as_u64()), (Some("PUT"), Some(BIG as u64)));
    stage.same("big", "received");
}

async fn a_big_download_arrives_whole(stage: &Stage) {
    stage.file("big", BIG);
    succeeds(curl(stage, "/files/big", &["--output", "received"])).await;
    stage.same("big", "received");
}

async fn an_upload_of_unknown_length_arrives_whole(stage: &Stage) {
    let big = stage.file("big", BIG / 4);
    let mut command = curl(stage, "/sum?save=received", &["--upload-file", "-"]);
    fed(&mut command, &format!("cat {}", big.display()));
    let told = json(command).await;
    assert_eq!(told["bytes"].as_u64(), Some(BIG as u64 / 4));
    stage.same("big", "received");
}

async fn an_upload_and_its_answer_of_no_length_arrive_with_http_1_0(stage: &Stage) {
    stage.file("big", 3 << 20);
    let told = json(curl(stage, "/sum?save=received", &["--http1.0", "--upload-file", "big"])).await;
    assert_eq!(told["bytes"].as_u64(), Some(3 << 20));
    stage.same("big", "received");
    // There are no chunks in HTTP/1.0: the end of the connection is the end of the body.
    succeeds(curl(stage, "/echo", &["--http1.0", "--data-binary", "@big", "--output", "echoed"])).await;
    stage.same("big", "echoed");
}

async fn a_body_that_was_asked_for_is_sent(stage: &Stage) {
    stage.file("big", 3 << 20);
    // Longer than the test waits: curl sends its body when it is told to, or never.
    let patient = ["--header", "Expect: 100-continue", "--expect100-timeout", "600", "--upload-file", "big"];
    let told = json(curl(stage, "/sum?save=received", &patient)).await;
    assert_eq!(told["bytes"].as_u64(), Some(3 << 20));
    stage.same("big", "received");
}

async fn a_body_that_is_refused_is_never_sent(stage: &Stage) {
    stage.file("big", 3 << 20);
    for status in ["401", "413", "417"] {
        let page = format!("/refuse/{status}?name=by-{status}");
        let patient = ["--header", "Expect: 100-continue", "--expect100-timeout", "600"];
        let mut command = curl(stage, &page, &patient);
        command.args(["--upload-file", "big", "--write-out", "%{http_code} %{size_upload}\n"]);
        command.args(["--output", "answer", "--max-time", "30"]);
        let said = run(command).await.1;
        // What it says of the error may come before or after.
        let line = said.lines().find(|line| line.starts_with(status)).unwrap_or_default();
        match status {
            // curl tries once more, without the expectation: RFC 9110, section 10.1.1.
            "417" => assert!(!line.is_empty(), "{said}"),
            _ => {
                assert_eq!(line, format!("{status} 0"), "{said}");
                assert_eq!(fs::read_to_string(stage.path("answer")).unwrap(), "no, thank you\n");
            }
        }
        let arrived = json(curl(stage, &format!("/refused?name=by-{status}"), &[])).await;
        assert_eq!(arrived, Value::from(0), "bytes of the body at the origin");
    }
}

async fn head_tells_the_length_and_sends_nothing(stage: &Stage) {
    stage.file("big", 3 << 20);
    for _ in 0..2 {
        let head = succeeds(curl(stage, "/files/big", &["--head"])).await.to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 200"), "{head}");
        assert!(head.contains("content-length: 3145728") && head.contains("accept-ranges: bytes"), "{head}");
    }
}

async fn trailers_arrive(stage: &Stage) {
    let flags = ["--header", "TE: trailers", "--dump-header", "head", "--output", "received"];
    succeeds(curl(stage, "/trailers", &flags)).await;
    let head = fs::read_to_string(stage.path("head")).unwrap().to_ascii_lowercase();
    let (head, trailers) = head.split_once("\r\n\r\n").unwrap();
    let body = fs::read_to_string(stage.path("received")).unwrap();
    assert_eq!(body.lines().count(), 100, "{body}");
    assert!(head.contains("trailer: x-digest"), "{head}");
    assert!(trailers.starts_with("x-digest: "), "after the head: '{trailers}'");
}

async fn an_offer_to_upgrade_to_http_2_harms_nothing(stage: &Stage) {
    let shown = ["--http2", "--data", "a body", "--write-out", "%{http_code} %{http_version}\n"];
    let said = succeeds(curl(stage, "/hello", &shown)).await;
    assert_eq!(said, "hello from POST\n200 1.1");
}

async fn an_empty_body_is_empty(stage: &Stage) {
    for flags in [&["--request", "POST", "--data", ""][..], &["--upload-file", "/dev/null"]] {
        let told = json(curl(stage, "/sum", flags)).await;
        assert_eq!(told["bytes"].as_u64(), Some(0));
    }
    stage.file("empty", 0);
    succeeds(curl(stage, "/files/empty", &["--output", "received"])).await;
    assert_eq!(fs::metadata(stage.path("received")).map_or(0, |file| file.len()), 0);
}

async fn an_upload_that_is_slow_is_waited_for(stage: &Stage) {
    let mut command = curl(stage, "/sum", &["--upload-file", "-"]);
    // The pauses are what is tried.
    fed(&mut command, "for i in 1 2 3 4 5 6; do echo $i; sleep 0.5; done");
    assert_eq!(json(command).await["bytes"].as_u64(), Some(12));
}

async fn http_2_is_spoken_without_asking(stage: &Stage) {
    stage.file("big", 8 << 20);
    let flags = ["--http2-prior-knowledge", "--data-binary", "@big"];
    let told = json(curl(stage, "/sum", &flags)).await;
    assert_eq!((told["bytes"].as_u64(), told["version"].as_str()), (Some(8 << 20), Some("2")));
    let flags = ["--http2-prior-knowledge", "--output", "received", "--write-out", "%{http_version}"];
    assert_eq!(succeeds(curl(stage, "/files/big", &flags)).await, "2");
    stage.same("big", "received");
}

async fn http_2_is_agreed_upon_over_tls(stage: &Stage) {
    stage.file("big", 8 << 20);
    let shown = ["--write-out", "%{http_version}", "--output", "received"];
    for (flag, version) in [("--http2", "2"), ("--http1.1", "1.1")] {
        assert_eq!(succeeds(curl(stage, "/files/big", &[&[flag], &shown[..]].concat())).await, version);
        stage.same("big", "received");
    }
    let told = json(curl(stage, "/sum", &["--http2", "--data-binary", "@big"])).await;
    assert_eq!((told["bytes"].as_u64(), told["version"].as_str()), (Some(8 << 20), Some("2")));
}

async fn http_2_callers_reach_an_origin_of_http_1_1(stage: &Stage) {
    stage.file("big", 8 << 20);
    let shown = ["--http2", "--data-binary", "@big", "--write-out", "\n%{http_version}"];
    let said = succeeds(curl(stage, "/sum", &shown)).await;
    let (told, version) = said.split_once('\n').unwrap();
    let told: Value = serde_json::from_str(told).unwrap();
    assert_eq!((told["bytes"].as_u64(), version), (Some(8 << 20), "2"));
    succeeds(curl(stage, "/echo", &["--http2", "--data-binary", "@big", "--output", "received"])).await;
    stage.same("big", "received");
}

/// curl for a page of the stage, silent but for errors. A body is sent at once unless the flags say
/// otherwise: curl's own second of waiting for 100 would only make the tests slow.
pub fn curl(stage: &Stage, page: &str, flags: &[&str]) -> Command {
    let mut command = stage.program("curl");
    command.args(["--disable", "--silent", "--show-error", "--fail-with-body", "--no-buffer"]);
    command.arg("--cacert").arg(stage.path("certificate.pem"));
    if !flags.iter().any(|flag| flag.starts_with("Expect:")) {
        command.args(["--header", "Expect:"]);
    }
    command.args(flags).arg(format!("{}{page}", stage.url));
    command
}

/// What it prints, which must be JSON.
pub async fn json(command: Command) -> Value {
    let said = succeeds(command).await;
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
}

/// Has the program read what a line of shell writes.
fn fed(command: &mut Command, line: &str) {
    let mut shell = Command::new("sh");
    let quoted = command.get_args().map(|arg| format!("'{}'", arg.to_string_lossy()));
    let program =
        format!("{} {}", command.get_program().to_string_lossy(), quoted.collect::<Vec<_>>().join(" "));
    shell.args(["-c", &format!("{{ {line}; }} | exec {program}")]).stdin(Stdio::null());
    if let Some(folder) = command.get_current_dir() {
        shell.current_dir(folder);
    }
    *command = shell;
}
