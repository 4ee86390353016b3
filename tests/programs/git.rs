//! git over HTTP: a clone, and a push too large for one buffer.

use std::{fs, process::Command};

use crate::{
    curl::{curl, json},
    stage::{Plan, Stage, succeeds},
};

cases! {
    Plan::of("git") => a_repository_is_cloned, a_large_push_arrives, a_fetch_of_many_branches_is_understood;
}

async fn a_repository_is_cloned(stage: &Stage) {
    repository(stage, 1).await;
    git(stage, "", &["clone", &remote(stage), "copy"]).await;
    assert_eq!(head(stage, "copy").await, head(stage, "origin.git").await);
    git(stage, "copy", &["fsck", "--strict"]).await;
    stage.same("work/large", "copy/large");
}

async fn a_large_push_arrives(stage: &Stage) {
    repository(stage, 1).await;
    git(stage, "", &["clone", &remote(stage), "copy"]).await;
    // More than http.postBuffer, so that git sends chunks; and random, so that it packs to no less.
    stage.file("copy/more", 20 << 20);
    git(stage, "copy", &["add", "."]).await;
    git(stage, "copy", &["commit", "-m", "more"]).await;
    git(stage, "copy", &["push", "origin", "HEAD"]).await;
    assert_eq!(head(stage, "copy").await, head(stage, "origin.git").await);
    git(stage, "origin.git", &["fsck", "--strict"]).await;
    let largest = posts(stage).await.iter().filter_map(|post| post["bytes"].as_u64()).max();
    assert!(largest > Some(20 << 20), "the largest request had {largest:?} bytes");
    git(stage, "", &["clone", &remote(stage), "second"]).await;
    stage.same("copy/more", "second/more");
}

async fn a_fetch_of_many_branches_is_understood(stage: &Stage) {
    // So many names that git compresses its request.
    repository(stage, 60).await;
    git(stage, "", &["clone", "--mirror", &remote(stage), "copy.git"]).await;
    let names = ["for-each-ref", "--format=%(objectname) %(refname)", "refs/heads"];
    assert_eq!(git(stage, "copy.git", &names).await, git(stage, "origin.git", &names).await);
    let posts = posts(stage).await;
    assert!(posts.iter().any(|post| post["encoding"] == "gzip"), "none was compressed: {posts:?}");
}

/// A repository at the origin, with a large file and this many branches of a commit each.
async fn repository(stage: &Stage, branches: usize) {
    git(stage, "", &["init", "work"]).await;
    stage.file("work/large", 3 << 20);
    git(stage, "work", &["add", "."]).await;
    git(stage, "work", &["commit", "-m", "first"]).await;
    for number in 1..branches {
        git(stage, "work", &["checkout", "-b", &format!("branch-{number}")]).await;
        git(stage, "work", &["commit", "--allow-empty", "-m", &format!("number {number}")]).await;
    }
    git(stage, "", &["clone", "--bare", "work", "origin.git"]).await;
    git(stage, "origin.git", &["config", "http.receivepack", "true"]).await;
}

async fn head(stage: &Stage, repository: &str) -> String {
    git(stage, repository, &["rev-parse", "HEAD"]).await
}

/// The requests to git's services, as the origin saw them.
async fn posts(stage: &Stage) -> Vec<serde_json::Value> {
    json(curl(stage, "/log", &[])).await.as_array().cloned().unwrap_or_default()
}

fn remote(stage: &Stage) -> String {
    format!("{}/origin.git", stage.url)
}

/// git in a folder of the stage, as nobody in particular.
async fn git(stage: &Stage, folder: &str, args: &[&str]) -> String {
    let mut command: Command = stage.program("git");
    for name in ["GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"] {
        command.env(name, "/dev/null");
    }
    for name in ["GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"] {
        command.env(name, "test@localhost");
    }
    // Nobody is there to be asked.
    command.env("GIT_TERMINAL_PROMPT", "0");
    // A test that runs in a hook must not work on the repository of the hook.
    for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
        command.env_remove(name);
    }
    command.arg("-C").arg(fs::canonicalize(stage.path(folder)).unwrap()).args(args);
    succeeds(command).await
}
