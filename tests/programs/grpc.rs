//! gRPC over cleartext HTTP/2 on both sides: every kind of call, errors in trailers, deadlines and cancellation.

use crate::stage::{Plan, Stage};

cases! {
    Plan::of("rpc").h2c() =>
        one_answer_to_one_message,
        many_answers_to_one_message,
        one_answer_to_many_messages,
        answers_between_messages,
        an_error_after_an_answer_is_in_the_trailers,
        an_error_can_be_the_whole_answer,
        a_deadline_ends_the_call_on_both_sides,
        a_cancellation_reaches_the_server;
}

async fn one_answer_to_one_message(stage: &Stage) {
    stage.caller("with_grpc", "one_answer_to_one_message").await;
}

async fn many_answers_to_one_message(stage: &Stage) {
    stage.caller("with_grpc", "many_answers_to_one_message").await;
}

async fn one_answer_to_many_messages(stage: &Stage) {
    stage.caller("with_grpc", "one_answer_to_many_messages").await;
}

async fn answers_between_messages(stage: &Stage) {
    stage.caller("with_grpc", "answers_between_messages").await;
}

async fn an_error_after_an_answer_is_in_the_trailers(stage: &Stage) {
    stage.caller("with_grpc", "an_error_after_an_answer_is_in_the_trailers").await;
}

async fn an_error_can_be_the_whole_answer(stage: &Stage) {
    stage.caller("with_grpc", "an_error_can_be_the_whole_answer").await;
}

async fn a_deadline_ends_the_call_on_both_sides(stage: &Stage) {
    stage.caller("with_grpc", "a_deadline_ends_the_call_on_both_sides").await;
}

async fn a_cancellation_reaches_the_server(stage: &Stage) {
    stage.caller("with_grpc", "a_cancellation_reaches_the_server").await;
}
