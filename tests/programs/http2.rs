//! HTTP/2 by httpx, over TLS: to an origin of HTTP/2 and to one of HTTP/1.1.

use crate::stage::{Plan, Stage};

const H2: Plan = Plan::of("http2").tls().h2c();

cases! {
    H2 =>
        uploads_and_downloads,
        an_answer_that_begins_before_the_request_has_ended,
        events_as_they_come,
        many_requests_on_one_connection;
    Plan::of("http2").tls() =>
        uploads_and_downloads_of_an_origin_of_http_1_1,
        events_of_an_origin_of_http_1_1;
}

async fn uploads_and_downloads(stage: &Stage) {
    stage.file("big", 16 << 20);
    stage.caller("with_httpx", "uploads_and_downloads_over_http_2").await;
}

async fn an_answer_that_begins_before_the_request_has_ended(stage: &Stage) {
    stage.caller("with_httpx", "sends_back_what_it_streams").await;
}

async fn events_as_they_come(stage: &Stage) {
    stage.caller("with_httpx", "sees_events_as_they_come").await;
}

async fn many_requests_on_one_connection(stage: &Stage) {
    stage.caller("with_httpx", "carries_many_requests_on_one_connection").await;
}

async fn uploads_and_downloads_of_an_origin_of_http_1_1(stage: &Stage) {
    uploads_and_downloads(stage).await;
}

async fn events_of_an_origin_of_http_1_1(stage: &Stage) {
    events_as_they_come(stage).await;
}
