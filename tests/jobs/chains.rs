//! Forward chains, line by line as the contract has them.

use crate::{
    stage::{Stage, location, said, says, value},
    support::{Origin, Seen, answer, eventually, http, problem},
};

#[tokio::test]
async fn each_server_is_sent_what_the_one_before_answered() {
    let mut at = Stage::start().await;
    let (two, three, four) = (says("two").await, says("three").await, says("four").await);
    at.serve("two", &two).await;
    at.serve("three", &three).await;
    at.serve("four", &four).await;
    let chain = at.chain(
        "/a/document?first=1",
        "http://two, http://three/own, http://four:8080",
        "foo=bar%2Cbaz, , n=1",
        "POST, POST, PUT",
    );
    let accepted = chain.await.body("start").send().await.unwrap();
    let id = value(&accepted, "x-forward-id");
    assert_eq!(location(&accepted), format!("/.relay/jobs/{id}"));
    let over = at.over(&accepted).await;
    assert_eq!((over.status().as_u16(), value(&over, "x-relay-job")), (200, "done".into()));
    assert_eq!(value(&over, "content-type"), "text/x-four");
    assert_eq!(over.text().await.unwrap(), "four(three(two(one(start))))");

    let (first, second, third, last) = (at.one.only(), two.only(), three.only(), four.only());
    let requests = [&first, &second, &third, &last];
    let targets = requests.map(|seen| format!("{} {}", seen.method, seen.target));
    assert_eq!(
        targets,
        ["POST /a/document?first=1", "POST /a/document?foo=bar%2Cbaz", "POST /own", "PUT /a/document?n=1"]
    );
    assert!(requests.iter().all(|seen| seen.value("x-forward-id") == id));
    assert!(requests.iter().all(|seen| seen.value("x-forward-errors-to") == "http://errors/told"));
    for list in ["x-forward-to", "x-forward-query-params", "x-forward-method"] {
        assert!(requests.iter().all(|seen| seen.values(list).is_empty()), "{list}");
    }
    let entrance = at.client.address().await;
    assert_eq!(
        requests.map(|seen| seen.value("x-forward-referer")),
        [
            "ORIGIN".to_owned(),
            format!("http://{entrance}/a/document?first=1"),
            "http://two/a/document?foo=bar%2Cbaz".into(),
            "http://three/own".into(),
        ]
    );
    assert_eq!(second.value("content-type"), "text/x-one");
    let progress = at.progress(&accepted).await;
    assert_eq!(progress["log"].as_array().map(Vec::len), Some(3), "one for each hop");
    assert_eq!(progress["attempts"], 3, "{progress}");
    assert_eq!(last.value("host"), "four:8080");
    let keys: Vec<_> = [&second, &third, &last].iter().map(|seen| seen.value("idempotency-key")).collect();
    let distinct: std::collections::BTreeSet<_> = keys.iter().collect();
    assert!(distinct.len() == 3 && keys.iter().all(|key| key.contains(&id)), "{keys:?}");
}

#[tokio::test]
async fn a_server_may_name_the_path_by_which_what_follows_is_asked() {
    let first = Origin::start(|_| async {
        let mut response = answer(200, "x");
        response.headers_mut().insert("x-canonical-iri", "http://one/canonical/7".parse().unwrap());
        response
    });
    let mut at = Stage::with(first.await, &[], &[]).await;
    let two = says("two").await;
    at.serve("two", &two).await;
    let accepted = at.chain("/alias", "http://two", "a=b", "POST").await.send().await.unwrap();
    at.over(&accepted).await;
    assert_eq!(two.only().target, "/canonical/7?a=b");
}

#[tokio::test]
async fn a_first_server_that_does_not_succeed_answers_the_caller_and_nothing_follows() {
    let first = Origin::start(|seen: Seen| async move {
        if seen.target == "/good" { said("one", &seen) } else { answer(409, "not now") }
    });
    let mut at = Stage::with(first.await, &[], &[]).await;
    let two = says("two").await;
    at.serve("two", &two).await;
    let refused = at.chain("/bad", "http://two", "", "POST").await.build().unwrap();
    let mut again = refused.try_clone().unwrap();
    let answered = http().execute(refused).await.unwrap();
    assert_eq!((answered.status().as_u16(), answered.text().await.unwrap()), (409, "not now".into()));
    // The chain never started: its id is free.
    *again.url_mut() = at.client.url("/good").await.parse().unwrap();
    let accepted = http().execute(again).await.unwrap();
    assert_eq!(at.over(&accepted).await.text().await.unwrap(), "two(one())");
    assert_eq!(two.hits(), 1);
}

#[tokio::test]
async fn a_caller_may_wait_for_the_last_server() {
    let mut at = Stage::start().await;
    let two = says("two").await;
    at.serve("two", &two).await;
    let waits = at.chain("/", "http://two", "", "POST").await.header("prefer", "wait=30");
    let answered = waits.body("x").send().await.unwrap();
    assert_eq!((answered.status().as_u16(), value(&answered, "x-relay-job")), (200, "done".into()));
    assert_eq!(answered.text().await.unwrap(), "two(one(x))");
    let silent = Origin::silent().await;
    at.serve("silent", &silent).await;
    let waits = at.chain("/", "http://silent", "", "POST").await.header("prefer", "wait=1");
    assert_eq!(waits.send().await.unwrap().status(), 202);
}

#[tokio::test]
async fn three_headers_alone_are_the_last_request_of_a_chain_and_pass() {
    let at = Stage::start().await;
    let request = http()
        .post(at.client.url("/last").await)
        .header("x-forward-id", "12345678-1234-1234-1234-1234567890AB")
        .header("x-forward-errors-to", "http://errors/")
        .header("x-forward-referer", "http://before/x");
    let answered = request.body("x").send().await.unwrap();
    assert_eq!((answered.status().as_u16(), answered.text().await.unwrap()), (200, "one(x)".into()));
    assert_eq!(at.one.only().value("x-forward-referer"), "http://before/x");
}

#[tokio::test]
async fn what_is_no_chain_is_refused_and_nothing_is_sent_anywhere() {
    let mut at = Stage::start().await;
    let two = says("two").await;
    at.serve("two", &two).await;
    for (to, params, methods, told) in [
        ("http://two, http://two", "", "POST, POST", "they must be as many"),
        ("http://two, http://two", ",", "PUT, POST", "a PUT"),
        ("http://two", "", "DELETE", "neither POST nor PUT"),
        ("two", "", "POST", "X-Forward-To: 'two'"),
    ] {
        let refused = at.chain("/", to, params, methods).await.send().await.unwrap();
        problem(refused).await.is(400, "bad_forward", "client").names(told);
    }
    let mixed = http().get(at.client.url("/").await).header("x-forward-id", "x").send().await.unwrap();
    problem(mixed).await.is(400, "bad_forward", "client").names("X-Forward-Errors-To");
    let many = |element: &str| vec![element; 33].join(",");
    let long = at.chain("/", &many("http://two"), &many(""), &many("POST")).await.send().await.unwrap();
    problem(long).await.is(400, "bad_forward", "client").names("at most 32 hops");
    assert_eq!((at.one.hits(), two.hits()), (0, 0));
}

#[tokio::test]
async fn a_chain_that_comes_back_is_refused() {
    let mut at = Stage::start().await;
    let two = says("two").await;
    at.serve("two", &two).await;
    let first = at.chain("/", "http://two", "", "POST").await.build().unwrap();
    let again = first.try_clone().unwrap();
    let accepted = http().execute(first).await.unwrap();
    at.over(&accepted).await;
    let refused = http().execute(again).await.unwrap();
    problem(refused).await.is(508, "chain_loop", "broker").names(&value(&accepted, "x-forward-id"));
    assert_eq!((at.one.hits(), two.hits()), (1, 1));
}

#[tokio::test]
async fn bodies_that_do_not_fit_in_a_message_go_on_whole() {
    let size = 3_000_000;
    let first = Origin::start(move |_| async move { answer(200, vec![b'a'; size]) }).await;
    let mut at = Stage::with(first, &[], &[]).await;
    let two = Origin::start(|seen: Seen| async move { answer(200, [&seen.body[..], b"b"].concat()) }).await;
    at.serve("two", &two).await;
    let accepted = at.chain("/", "http://two, http://two", ",", "POST,POST").await.send().await.unwrap();
    let over = at.over(&accepted).await;
    let body = over.bytes().await.unwrap();
    assert_eq!((body.len(), &body[size..]), (size + 2, &b"bb"[..]));
}

#[tokio::test]
async fn the_progress_of_a_chain_can_be_read_and_it_can_be_cancelled() {
    let mut at = Stage::start().await;
    let (silent, never) = (Origin::silent().await, says("never").await);
    at.serve("silent", &silent).await;
    at.serve("never", &never).await;
    let accepted =
        at.chain("/", "http://silent?".trim_end_matches('?'), "secret=1", "POST").await.send().await.unwrap();
    eventually("the hop is under way", || silent.connected() > 0).await;
    let page = at.page(&accepted).await;
    assert_eq!((page.status().as_u16(), value(&page, "x-relay-job")), (202, "running".into()));
    let progress = at.progress(&accepted).await;
    assert_eq!(progress["hops"][0]["url"], "http://silent/");
    assert_eq!(progress["kind"], "chain");
    let page = at.client.url(&location(&accepted)).await;
    assert_eq!(http().delete(&page).send().await.unwrap().status(), 204);
    let gone = http().get(&page).send().await.unwrap();
    assert_eq!(value(&gone, "x-relay-job"), "cancelled");
    problem(gone).await.is(410, "job_cancelled", "broker");
    problem(http().delete(&page).send().await.unwrap()).await.is(409, "job_over", "broker");
    assert_eq!(http().post(&page).send().await.unwrap().status(), 405);
    let unknown = at.client.get("/.relay/jobs/00000000-0000-4000-8000-000000000000").await;
    problem(unknown).await.is(404, "no_job", "broker");
}
