//! Python's packages for HTTP: requests, aiohttp, and its own client for server-sent events.

use crate::stage::{Plan, Stage};

const BIG: usize = 64 << 20;
/// What waits, waits shorter than the callers are silent. A stream that has begun is not waited for.
const HASTY: Plan = Plan::of("web").flags(&[], &["--ttl", "2s"], &["--response-wait", "2s"]);

cases! {
    Plan::of("web") =>
        requests_uploads_from_a_generator,
        requests_downloads_piece_by_piece,
        requests_resumes_only_the_same_version,
        requests_sees_that_a_download_was_cut,
        aiohttp_uploads_and_downloads,
        aiohttp_is_answered_while_it_sends,
        each_event_is_here_before_the_next_is_written,
        the_origin_learns_that_the_listener_has_left,
        fifty_listeners_at_once;
    HASTY => a_long_silence_ends_nothing;
}

async fn requests_uploads_from_a_generator(stage: &Stage) {
    stage.caller("with_requests", "uploads_from_a_generator").await;
}

async fn requests_downloads_piece_by_piece(stage: &Stage) {
    stage.file("big", BIG);
    stage.caller("with_requests", "downloads_piece_by_piece").await;
}

async fn requests_resumes_only_the_same_version(stage: &Stage) {
    stage.file("big", 3 << 20);
    stage.caller("with_requests", "resumes_only_the_same_version").await;
}

async fn requests_sees_that_a_download_was_cut(stage: &Stage) {
    stage.file("big", 8 << 20);
    stage.caller("with_requests", "sees_that_a_download_was_cut").await;
}

async fn aiohttp_uploads_and_downloads(stage: &Stage) {
    stage.file("big", BIG);
    stage.caller("with_aiohttp", "uploads_and_downloads").await;
}

async fn aiohttp_is_answered_while_it_sends(stage: &Stage) {
    stage.caller("with_aiohttp", "is_answered_while_it_sends").await;
}

async fn each_event_is_here_before_the_next_is_written(stage: &Stage) {
    stage.caller("with_sockets", "each_event_is_here_before_the_next_is_written").await;
}

async fn a_long_silence_ends_nothing(stage: &Stage) {
    stage.caller("with_sockets", "a_long_silence_ends_nothing").await;
}

async fn the_origin_learns_that_the_listener_has_left(stage: &Stage) {
    stage.caller("with_sockets", "the_origin_learns_that_the_listener_has_left").await;
}

async fn fifty_listeners_at_once(stage: &Stage) {
    stage.caller("with_sockets", "fifty_listeners_at_once").await;
}
