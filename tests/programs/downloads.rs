//! Downloads that break and are resumed, by curl and wget.

use std::{fs, process::Command};

use crate::{
    curl::curl,
    stage::{Plan, Stage, run, succeeds},
};

const SIZE: usize = 16 << 20;

cases! {
    Plan::of("web") =>
        curl_sees_the_break_and_resumes,
        curl_gets_the_part_it_wants,
        curl_learns_that_there_is_no_more,
        wget_resumes_what_is_there,
        wget_goes_on_after_a_break_by_itself;
}

async fn curl_sees_the_break_and_resumes(stage: &Stage) {
    stage.file("big", SIZE);
    let (code, said) = run(curl(stage, "/cut/big", &["--output", "received"])).await;
    // 18: the transfer ended early. 56: the connection was reset.
    assert!(matches!(code, Some(18 | 56)), "curl ended with {code:?}: {said}");
    let part = fs::metadata(stage.path("received")).unwrap().len();
    assert!(part <= SIZE as u64 / 2, "{part} bytes of the half");
    fs::write(stage.path("received"), &fs::read(stage.path("big")).unwrap()[..1 << 20]).unwrap();
    let shown =
        ["--continue-at", "-", "--output", "received", "--write-out", "%{http_code} %{size_download}"];
    let said = succeeds(curl(stage, "/cut/big", &shown)).await;
    assert_eq!(said, format!("206 {}", SIZE - (1 << 20)));
    stage.same("big", "received");
}

async fn curl_gets_the_part_it_wants(stage: &Stage) {
    stage.file("big", SIZE);
    let whole = fs::read(stage.path("big")).unwrap();
    for (range, part) in
        [("0-0", &whole[..1]), ("1048576-9437183", &whole[1 << 20..9 << 20]), ("-7", &whole[SIZE - 7..])]
    {
        let flags = ["--range", range, "--output", "received", "--dump-header", "head"];
        succeeds(curl(stage, "/files/big", &flags)).await;
        assert!(fs::read(stage.path("received")).unwrap() == part, "bytes {range}");
        let head = fs::read_to_string(stage.path("head")).unwrap().to_ascii_lowercase();
        assert!(head.contains(" 206 ") && head.contains("content-range: bytes "), "{head}");
    }
}

async fn curl_learns_that_there_is_no_more(stage: &Stage) {
    stage.file("big", SIZE);
    fs::copy(stage.path("big"), stage.path("received")).unwrap();
    let shown = ["--continue-at", "-", "--output", "received", "--write-out", "%{http_code}"];
    // Not all versions of curl call this a success.
    let (_, said) = run(curl(stage, "/files/big", &shown)).await;
    assert!(said.contains("416"), "{said}");
    stage.same("big", "received");
}

async fn wget_resumes_what_is_there(stage: &Stage) {
    stage.file("big", SIZE);
    fs::write(stage.path("received"), &fs::read(stage.path("big")).unwrap()[..SIZE / 3]).unwrap();
    let said = succeeds(wget(stage, "/files/big", &["--continue"])).await;
    assert!(said.contains("206"), "{said}");
    stage.same("big", "received");
    // Once more, when all is there.
    let said = succeeds(wget(stage, "/files/big", &["--continue"])).await;
    assert!(said.contains("416"), "{said}");
    stage.same("big", "received");
}

async fn wget_goes_on_after_a_break_by_itself(stage: &Stage) {
    stage.file("big", SIZE);
    let said = succeeds(wget(stage, "/cut/big", &["--tries", "3", "--waitretry", "0"])).await;
    assert!(said.contains("206"), "it began anew: {said}");
    stage.same("big", "received");
}

fn wget(stage: &Stage, page: &str, flags: &[&str]) -> Command {
    let mut command = stage.program("wget");
    command.args(["--no-config", "--no-verbose", "--server-response", "--output-document", "received"]);
    command.args(flags).arg(format!("{}{page}", stage.url));
    command
}
