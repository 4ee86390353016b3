//! What a widely used client makes of the listener.

use std::process::Command;

use crate::support::process::{Ended, run};

/// Runs curl to its end, however that is.
pub async fn try_curl(args: &[&str]) -> Ended {
    let mut command = Command::new("curl");
    command.args(["-sS", "--max-time", "30", "--noproxy", "*"]).args(args);
    run(command).await
}

/// Runs curl, which must succeed; what it printed.
pub async fn curl(args: &[&str]) -> String {
    let ended = try_curl(args).await;
    assert!(ended.status.success(), "{ended:?}");
    ended.out
}

/// Prints the HTTP version and the status after the body.
pub const VERSION_AND_STATUS: [&str; 2] = ["-w", " %{http_version} %{http_code}"];
