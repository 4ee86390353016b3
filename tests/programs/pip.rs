//! pip installs from an index behind the relay.

use std::{fs, process::Command};

use crate::stage::{Plan, Stage, python, succeeds};

cases! {
    Plan::of("web") => a_package_is_found_and_installed;
}

async fn a_package_is_found_and_installed(stage: &Stage) {
    let mut wheel = python("callers/wheel.py");
    wheel.arg(stage.path("simple"));
    succeeds(wheel).await;
    // The index of the origin is what the folder has under /files/.
    let index = format!("{}/files/simple/", stage.url);
    let mut pip = Command::new(python("").get_program());
    pip.args(["-m", "pip", "--isolated", "--disable-pip-version-check", "install", "--no-cache-dir"]);
    pip.args(["--no-input", "--retries", "0", "--index-url", &index, "--target"]).arg(stage.path("site"));
    pip.args(["relay-tiny==1.0"]);
    succeeds(pip).await;
    let module = fs::read_to_string(stage.path("site/relay_tiny.py")).unwrap();
    assert_eq!(module, "WORD = \"carried\"\n");
}
