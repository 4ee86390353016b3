//! Lines that are none, between lines that are: each gets its error, and nothing in flight is lost.

use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, TestRunner},
};
use serde_json::json;
use tokio::sync::watch;

use super::stage::*;
use crate::support::*;

#[tokio::test]
async fn every_bad_line_gets_an_error_and_harms_nothing_in_flight() {
    let gate = watch::Sender::new(false);
    let (slow, fast) = (Origin::gated(&gate).await, Origin::echo().await);
    let stage = Stage::start(&(echo(&fast) + &request("slow", &slow.url(), ""))).await;
    let mut caller = stage.connect().await;
    caller.send(r#"{"request":"slow","id":"in flight"}"#).await;
    caller.reply().await;
    let deep = format!(r#"{{"request":"echo","id":1,"data":{}{}}}"#, "[".repeat(1000), "]".repeat(1000));
    let unclosed = "[".repeat(60_000);
    let long = format!(r#"{{"request":"echo","id":1,"data":"{}"}}"#, "x".repeat(70_000));
    let cases: &[(&[u8], serde_json::Value, &str)] = &[
        (b"GET / HTTP/1.1", json!(null), "bad_line"),
        (b"hello", json!(null), "bad_line"),
        (b"{", json!(null), "bad_line"),
        (b"{}", json!(null), "bad_line"),
        (b"[]", json!(null), "bad_line"),
        (b"null", json!(null), "bad_line"),
        (b"\"request\"", json!(null), "bad_line"),
        (b"\0\0\0", json!(null), "bad_line"),
        (b"\xff\xfe{\"request\"", json!(null), "bad_line"),
        (b"{\"request\":\"echo\",\"id\":1}{\"request\":\"echo\",\"id\":2}", json!(null), "bad_line"),
        (br#"{"request":"echo"}"#, json!(null), "bad_line"),
        (br#"{"id":1}"#, json!(1), "bad_line"),
        (br#"{"id":{"a":[1]},"request":1}"#, json!({"a": [1]}), "bad_line"),
        (br#"{"id":1,"request":"nothing"}"#, json!(1), "unknown_request"),
        (br#"{"id":1,"request":"echo","params":"x"}"#, json!(1), "bad_line"),
        (br#"{"id":1,"request":"echo","headers":{"host":"x"}}"#, json!(1), "bad_headers"),
        (br#"{"id":1,"request":"echo","timeout":1}"#, json!(1), "bad_timeout"),
        (br#"{"id":1,"request":"slow","data":1}"#, json!(1), "bad_data"),
        (br#"{"id":1,"id":1,"request":"echo"}"#, json!(null), "bad_line"),
        (br#"{"cancel":"nobody"}"#, json!("nobody"), "unknown_id"),
        (deep.as_bytes(), json!(1), "bad_line"),
        (unclosed.as_bytes(), json!(null), "bad_line"),
        (long.as_bytes(), json!(null), "line_too_long"),
    ];
    for (line, id, code) in cases {
        caller.bytes(line).await;
        caller.bytes(b"\n").await;
        let reply = caller.reply().await;
        let line = String::from_utf8_lossy(line);
        assert_eq!((&reply["status"], &reply["id"]), (&json!("error"), id), "{line:.100}");
        assert_eq!(reply["code"], *code, "{line:.100}");
        assert!(reply["error"].as_str().is_some_and(|error| !error.is_empty()), "{line:.100}");
    }
    caller.works().await;
    gate.send_replace(true);
    let reply = caller.reply().await;
    assert_eq!((&reply["status"], &reply["id"]), (&json!("ok"), &json!("in flight")));
    stage.socket.counts("relay_socket_lines_refused_total", "bad_line", 10.0).await;
    stage.socket.counts("relay_socket_lines_refused_total", "line_too_long", 1.0).await;
}

/// Random bytes and lines that are nearly right, in one stream with good ones: each good one is answered.
#[tokio::test]
async fn garbage_between_good_lines_loses_none_of_them() {
    let origin = Origin::echo().await;
    let stage = Stage::with(&echo(&origin), &["--max-line", "500B"]).await;
    let piece = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..700),
        "\\PC{0,80}".prop_map(String::into_bytes),
        r#"[{}\[\],:"\\0-9a-z \r]{0,60}"#.prop_map(String::into_bytes),
        (0..60_usize)
            .prop_map(|cut| br#"{"request":"echo","id":"x","data":{"a":[1,2]}}"#[..cut.min(46)].to_vec()),
    ];
    let mut runner = TestRunner::new(Config::default());
    let mut caller = stage.connect().await;
    let (mut asked, mut answered) = (0, 0);
    for _ in 0..40 {
        let mut bytes = Vec::new();
        for _ in 0..10 {
            let garbage = piece.new_tree(&mut runner).unwrap().current();
            bytes.extend(garbage);
            bytes.extend(format!("\n{{\"request\":\"echo\",\"id\":{asked},\"data\":[{asked}]}}\n").bytes());
            asked += 1;
        }
        caller.bytes(&bytes).await;
        let upto = answered + 10;
        while answered < upto {
            let reply = caller.reply().await;
            match (reply["status"].as_str().unwrap(), reply["id"].as_u64()) {
                ("ok", Some(id)) => {
                    assert_eq!(reply["response"], json!([id]));
                    answered += 1;
                }
                ("dispatched", Some(_)) | ("error", None) | ("error", Some(_)) => {}
                // A cut line may be a whole one.
                ("ok" | "dispatched", None) => assert_eq!(reply["id"], "x"),
                other => panic!("{other:?} of {bytes:?}"),
            }
        }
    }
    assert_eq!((asked, answered), (400, 400));
    caller.works().await;
}

#[tokio::test]
async fn a_page_in_a_browser_cannot_have_its_lines_obeyed() {
    let origin = Origin::echo().await;
    let stage = Stage::start(&echo(&origin)).await;
    let mut caller = stage.connect().await;
    let body = "{\"request\":\"echo\",\"id\":1,\"data\":1}\n";
    let head = format!("POST / HTTP/1.1\r\nHost: 127.0.0.1:9876\r\nContent-Length: {}\r\n\r\n", body.len());
    caller.bytes((head + body).as_bytes()).await;
    let all = caller.all().await;
    assert_eq!(all.last().unwrap()["code"], "http", "{all:?}");
    assert_eq!(origin.hits(), 0);
}
