//! WebSockets, by the websockets package and by aiohttp.

use crate::stage::{Plan, Stage};

/// What waits, waits shorter than the connection is quiet.
const HASTY: Plan = Plan::of("websocket").flags(&[], &["--ttl", "2s"], &["--response-wait", "2s"]);

cases! {
    Plan::of("websocket") =>
        messages_come_back,
        large_messages_come_back_uncompressed_too,
        messages_in_parts_come_back,
        fifty_are_open_at_once,
        both_sides_can_ping,
        the_origin_says_why_it_closes,
        the_origin_hears_why_the_caller_closes,
        the_caller_sees_that_the_origin_is_gone,
        the_origin_sees_that_the_caller_is_gone,
        a_refusal_is_an_answer,
        aiohttp_talks,
        aiohttp_sees_the_origin_close;
    HASTY =>
        a_quiet_connection_stays_open;
}

async fn messages_come_back(stage: &Stage) {
    stage.caller("with_websockets", "messages_come_back").await;
}

async fn large_messages_come_back_uncompressed_too(stage: &Stage) {
    stage.caller("with_websockets", "large_messages_come_back_uncompressed_too").await;
}

async fn messages_in_parts_come_back(stage: &Stage) {
    stage.caller("with_websockets", "messages_in_parts_come_back").await;
}

async fn fifty_are_open_at_once(stage: &Stage) {
    stage.caller("with_websockets", "fifty_are_open_at_once").await;
}

async fn both_sides_can_ping(stage: &Stage) {
    stage.caller("with_websockets", "both_sides_can_ping").await;
}

async fn the_origin_says_why_it_closes(stage: &Stage) {
    stage.caller("with_websockets", "the_origin_says_why_it_closes").await;
}

async fn the_origin_hears_why_the_caller_closes(stage: &Stage) {
    stage.caller("with_websockets", "the_origin_hears_why_the_caller_closes").await;
}

async fn the_caller_sees_that_the_origin_is_gone(stage: &Stage) {
    stage.caller("with_websockets", "the_caller_sees_that_the_origin_is_gone").await;
}

async fn the_origin_sees_that_the_caller_is_gone(stage: &Stage) {
    stage.caller("with_websockets", "the_origin_sees_that_the_caller_is_gone").await;
}

async fn a_refusal_is_an_answer(stage: &Stage) {
    stage.caller("with_websockets", "a_refusal_is_an_answer").await;
}

async fn aiohttp_talks(stage: &Stage) {
    stage.caller("with_aiohttp", "talks_over_a_websocket").await;
}

async fn aiohttp_sees_the_origin_close(stage: &Stage) {
    stage.caller("with_aiohttp", "sees_the_origin_close_a_websocket").await;
}

async fn a_quiet_connection_stays_open(stage: &Stage) {
    stage.caller("with_websockets", "a_quiet_connection_stays_open").await;
}
