use super::*;
use crate::wire::{
    ProcessId,
    job::{Hop, JobId},
};

const AGE: Duration = Duration::from_secs(7);

#[test]
fn a_request_is_asked_and_its_response_ends_the_job() {
    let job = request("GET");
    assert_eq!(todo(&job, AGE, 1, &policy()), Todo::Ask);
    let done = asked(job, AGE, answer(200, "yes"), &policy(), 0);
    assert_eq!((done.state, done.done, done.age), (JobState::Done, 1, 7_000));
    assert_eq!(done.log, [Logged { status: 200, attempts: 1 }]);
    assert_eq!(done.outcome.as_ref().unwrap().content.body, b"yes");
    assert_eq!(done.input, Content::default(), "it is not needed any more");
    assert_eq!(todo(&done, AGE, 1, &policy()), Todo::Nothing);
}

#[test]
fn what_finally_failed_is_buried_by_whoever_is_handed_its_last_revision() {
    let failed = told(failing(), AGE, answer(204, ""), &policy(), 0);
    assert_eq!(todo(&failed, AGE, 1, &policy()), Todo::Bury);
    assert_eq!(todo(&failed, Duration::MAX, 7, &policy()), Todo::Bury);
}

#[test]
fn any_response_to_a_request_is_an_answer_but_one_that_asks_to_come_again() {
    for status in [200, 302, 404, 500] {
        let done = asked(request("POST"), AGE, answer(status, ""), &policy(), 0);
        assert_eq!((done.state, done.outcome.unwrap().status), (JobState::Done, status));
    }
    let again = asked(request("GET"), AGE, answer(503, ""), &policy(), 0);
    assert_eq!((again.state, again.attempts, again.outcome.clone()), (JobState::Running, 1, None));
    assert_eq!(again.fault().unwrap().code, Code::HopFailed);
    // One that may have run is not sent again for a status: it has run.
    let failed = asked(request("POST"), AGE, answer(503, "down"), &policy(), 0);
    assert_eq!(failed.state, JobState::Failed);
    assert_eq!(failed.outcome.as_ref().unwrap().content.body, b"down");
    assert_eq!(failed.fault().unwrap().detail, "the request was answered with 503 Service Unavailable");
    assert!(is_dead(&failed));
}

#[test]
fn a_job_that_there_is_no_room_for_takes_less_and_less_and_ends() {
    let big = Content { body: vec![b'x'; 1000], size: 1000, ..Content::default() };
    let size = |job: &Job| crate::wire::codec::encode(job).len();

    // A request fails. It can go on with what it was to send, or not at all, but never without that.
    let running = Job { input: big.clone(), ..request("GET") };
    let next = asked(running.clone(), AGE, answer(200, "yes"), &policy(), 0);
    let failed = unanswered(running.clone(), AGE, "full");
    assert_eq!((failed.state, &failed.input, &failed.outcome), (JobState::Failed, &big, &None));
    assert!(is_dead(&failed) && failed.error.as_ref().unwrap().maybe_seen, "{failed:?}");
    let smallest = least(&running, &next, AGE, "full");
    assert!(is_dead(&smallest) && size(&smallest) < size(&failed), "{smallest:?}");
    assert_eq!(smallest.input, Content::gone());

    // A chain tells its failure once, and ends when what came of that can't be stored.
    let running = Job { introduction: vec![("via".into(), vec![b'x'; 200].into())], ..chain(1) };
    let next = asked(running.clone(), AGE, answer(200, "yes"), &policy(), 0);
    let failing = least(&running, &next, AGE, "full");
    assert_eq!((failing.state, failing.done), (JobState::Failing, 0));
    for came in [answer(204, ""), unseen(Code::NoAgent), seen(Code::AckTimeout)] {
        let next = told(failing.clone(), AGE, came, &policy(), 0);
        let over = least(&failing, &next, AGE, "full");
        assert!(over.state == JobState::Failed && size(&over) < size(&failing), "{over:?}");
    }

    // What a request came to is kept, whether or not that could be told.
    let asks_to_be_told = Job { callback: Some("http://caller.example".into()), ..request("GET") };
    let telling = asked(asks_to_be_told, AGE, answer(200, "yes"), &policy(), 0);
    for came in [answer(204, ""), unseen(Code::NoAgent)] {
        let over = least(&telling, &told(telling.clone(), AGE, came, &policy(), 0), AGE, "full");
        assert_eq!((over.state, &over.outcome), (JobState::Done, &Some(outcome(200, "yes"))));
    }
}

#[test]
fn a_hop_of_a_chain_succeeds_with_2xx_only() {
    for status in [302, 404, 500, 599] {
        let failed = asked(chain(3), AGE, answer(status, "no"), &policy(), 0);
        assert_eq!((failed.state, failed.done), (JobState::Failing, 0), "{status}");
        assert_eq!(failed.outcome.as_ref().unwrap().content.body, b"no", "it goes to errors-to");
    }
    let next = asked(chain(3), AGE, answer(204, ""), &policy(), 0);
    assert_eq!((next.state, next.done), (JobState::Running, 1));
}

#[test]
fn pauses_double_up_to_the_longest_and_spread_over_half_of_each() {
    let mut job = request("GET");
    for (attempt, longest) in [(1, 1_000), (2, 2_000), (3, 4_000), (4, 5_000)] {
        for (random, pause) in [(0, longest / 2), (longest / 2, longest), (longest / 2 + 1, longest / 2)] {
            let again = asked(job.clone(), AGE, unseen(Code::OriginRefused), &policy(), random);
            assert_eq!((again.attempts, again.pause), (attempt, pause));
        }
        job = asked(job, AGE, unseen(Code::OriginRefused), &policy(), u64::MAX);
        assert!((longest / 2..=longest).contains(&job.pause), "{}", job.pause);
    }
    let failed = asked(job, AGE, unseen(Code::OriginRefused), &policy(), 0);
    assert_eq!((failed.state, failed.attempts), (JobState::Failed, 5), "the attempts are over");
}

#[test]
fn however_many_attempts_there_were_a_pause_is_a_number() {
    let policy =
        Policy { attempts: u32::MAX, backoff: Duration::MAX, backoff_max: Duration::MAX, ..policy() };
    let job = Job { attempts: u32::MAX - 2, ..request("GET") };
    let again = asked(job, AGE, unseen(Code::OriginRefused), &policy, u64::MAX);
    assert_eq!(again.state, JobState::Running);
    let none = Policy { backoff: Duration::ZERO, backoff_max: Duration::ZERO, ..policy };
    let again = asked(request("GET"), AGE, unseen(Code::OriginRefused), &none, 5);
    assert_eq!(
        again.pause, 1,
        "a revision with a pause is handed out twice, so that it is not asked at once"
    );
}

#[test]
fn a_pause_is_waited_for_once() {
    let job = Job { pause: 1_500, ..request("GET") };
    assert_eq!(todo(&job, AGE, 1, &policy()), Todo::Wait(Duration::from_millis(1_500)));
    assert_eq!(todo(&job, AGE, 2, &policy()), Todo::Ask);
    let telling = Job { state: JobState::Failing, ..job };
    assert_eq!(todo(&telling, AGE, 1, &policy()), Todo::Wait(Duration::from_millis(1_500)));
    assert_eq!(todo(&telling, AGE, 2, &policy()), Todo::Tell);
}

#[test]
fn retry_after_is_obeyed_where_it_is_longer() {
    let busy =
        |seconds| Came::Answer { outcome: outcome(503, ""), retry_after: Some(Duration::from_secs(seconds)) };
    assert_eq!(asked(request("GET"), AGE, busy(30), &policy(), 0).pause, 30_000);
    assert_eq!(asked(request("GET"), AGE, busy(0), &policy(), 0).pause, 500);
    // A fault's too, and that of who is told.
    let fault = Fault { retry_after: Some(Duration::from_secs(9)), ..fault(Code::OriginRefused) };
    assert_eq!(asked(request("GET"), AGE, Came::Fault(fault), &policy(), 0).pause, 9_000);
    assert_eq!(told(failing(), AGE, busy(40), &policy(), 0).pause, 40_000);
}

#[test]
fn a_pause_that_is_asked_for_is_not_longer_than_the_lifetime() {
    let never = || Came::Answer { outcome: outcome(503, ""), retry_after: Some(Duration::MAX) };
    let again = asked(request("GET"), AGE, never(), &policy(), 0);
    assert_eq!(again.pause, 3_593_000, "what is left of an hour: then it expires, and is a dead letter");
    // An end is told after the lifetime too, with the pauses of the policy.
    let late = Duration::from_secs(4_000);
    assert_eq!(told(failing(), late, never(), &policy(), 0).pause, 500);
}

#[test]
fn what_may_have_run_is_sent_again_only_when_it_may_run_twice() {
    let cases = [
        // Certainly not delivered: anything is.
        ("POST", Code::OriginRefused, true),
        ("POST", Code::OriginDns, true),
        // It may have run.
        ("POST", Code::AgentGone, false),
        ("POST", Code::OriginBroken, false),
        ("POST", Code::AckTimeout, false),
        ("GET", Code::AgentGone, true),
        ("GET", Code::ResponseTimeout, true),
        // It would be refused again.
        ("GET", Code::NotAllowed, false),
        ("GET", Code::BodyTooLarge, false),
        ("GET", Code::BadTarget, false),
    ];
    for (method, code, is_again) in cases {
        for job in [request(method), Job { errors_to: Some("http://e".into()), ..request(method) }] {
            let next = asked(job, AGE, unseen(code), &policy(), 0);
            assert_eq!(next.state == JobState::Running, is_again, "{method} {code}");
        }
    }
    let bold = Policy { retry_unsafe: true, ..policy() };
    for came in [unseen(Code::AgentGone), answer(503, "")] {
        assert_eq!(asked(request("POST"), AGE, came, &bold, 0).state, JobState::Running);
    }
    // A fault may know better than its code.
    assert_eq!(asked(request("POST"), AGE, seen(Code::NoAgent), &policy(), 0).state, JobState::Failed);
    let chained = Job { errors_to: Some("http://e".into()), ..request("POST") };
    assert_eq!(asked(chained, AGE, seen(Code::NoAgent), &policy(), 0).state, JobState::Failing);
}

#[test]
fn a_request_waits_for_agents_as_long_as_it_lives_and_that_costs_no_attempt() {
    let mut job = request("POST");
    for code in [Code::NoAgent, Code::AgentsFull, Code::NoRoute, Code::NotReady, Code::BrokerFull].repeat(4) {
        job = asked(job, AGE, unseen(code), &policy(), u64::MAX);
        assert_eq!((job.state, job.fault().unwrap().code), (JobState::Running, code));
        assert!((500..=5_000).contains(&job.pause), "{}", job.pause);
    }
    assert!(job.pause >= 2_500, "it asks less and less often: {}", job.pause);
    assert!(waits_for_agents(&job));
    // When somebody is there, all attempts are left.
    for attempt in 1..5 {
        job = asked(job, AGE, unseen(Code::OriginRefused), &policy(), 0);
        assert_eq!((job.state, job.attempts), (JobState::Running, attempt));
    }
    assert_eq!(asked(job, AGE, unseen(Code::OriginRefused), &policy(), 0).state, JobState::Failed);
}

#[test]
fn a_chain_waits_for_its_next_server_as_long_as_attempts_last() {
    let mut job = chain(2);
    assert!(!waits_for_agents(&job));
    for _ in 1..5 {
        job = asked(job, AGE, unseen(Code::NoAgent), &policy(), 0);
        assert_eq!(job.state, JobState::Running);
    }
    assert_eq!(asked(job, AGE, unseen(Code::NoAgent), &policy(), 0).state, JobState::Failing);
}

#[test]
fn a_job_that_is_not_done_within_its_lifetime_fails() {
    let late = Duration::from_secs(3_600);
    let Todo::Store(failed) = todo(&request("GET"), late, 1, &policy()) else { panic!("it has expired") };
    assert_eq!((failed.state, failed.fault().unwrap().code), (JobState::Failed, Code::JobExpired));
    assert!(is_dead(&failed));
    let Todo::Store(failing) = todo(&chain(2), late, 1, &policy()) else { panic!("it has expired") };
    assert_eq!(failing.state, JobState::Failing);
    assert_eq!(todo(&failing, late, 1, &policy()), Todo::Tell, "that is told however late");
    assert_eq!(todo(&request("GET"), late - Duration::from_millis(1), 1, &policy()), Todo::Ask);
}

#[test]
fn a_job_whose_client_agent_went_away_amid_its_first_request_is_given_up() {
    let begun = Job { state: JobState::Begun, hops: Vec::new(), ..chain(0) };
    assert_eq!(todo(&begun, AGE, 1, &policy()), Todo::Wait(ACCEPTING - AGE));
    let Todo::Store(failed) = todo(&begun, ACCEPTING, 2, &policy()) else { panic!("it is given up") };
    assert_eq!((failed.state, failed.fault().unwrap().code), (JobState::Failed, Code::AgentGone));
    assert!(!is_dead(&failed), "its caller has heard of it, and there is nothing to replay");
}

#[test]
fn a_hop_is_sent_what_the_one_before_answered_and_how_to_read_it() {
    let answered = |pairs: &[(&str, &str)], body: &str| {
        let mut outcome = outcome(200, body);
        outcome.content.headers = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec().into()))
            .collect();
        Came::Answer { outcome, retry_after: None }
    };
    let pairs = [
        ("content-type", "text/csv"),
        ("content-encoding", "gzip"),
        ("content-language", "de"),
        ("set-cookie", "a=b"),
        ("authorization", "Bearer x"),
    ];
    let next = asked(chain(3), AGE, answered(&pairs, "1,2"), &policy(), 0);
    assert_eq!((next.done, next.input.body.as_slice()), (1, &b"1,2"[..]));
    let names: Vec<&str> = next.input.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["content-type", "content-encoding", "content-language"]);
    assert_eq!((next.referer.as_str(), next.path.as_str()), ("http://hop1.example/start?n=1", "/start"));
    assert_eq!((next.attempts, next.pause, next.error.clone(), next.outcome.clone()), (0, 0, None, None));

    // The path by which the server knows it is that of all that follow.
    let canonical = answered(&[("x-canonical-iri", "http://hop2.example/documents/7")], "3");
    let last = asked(next, AGE, canonical, &policy(), 0);
    assert_eq!(
        (last.referer.as_str(), last.path.as_str()),
        ("http://hop2.example/start?n=2", "/documents/7")
    );
    let done = asked(last, AGE, answer(201, "kept"), &policy(), 0);
    assert_eq!((done.state, done.referer.as_str()), (JobState::Done, "http://hop3.example/documents/7?n=3"));
    assert_eq!(done.log.iter().map(|logged| logged.status).collect::<Vec<_>>(), [200, 200, 201]);
    assert_eq!(done.outcome.unwrap().content.body, b"kept");
}

#[test]
fn attempts_are_counted_for_each_hop() {
    let mut job = chain(2);
    for _ in 0..3 {
        job = asked(job, AGE, unseen(Code::OriginRefused), &policy(), 0);
    }
    let next = asked(job, AGE, answer(200, ""), &policy(), 0);
    assert_eq!((next.log.clone(), next.attempts), (vec![Logged { status: 200, attempts: 4 }], 0));
}

#[test]
fn a_failed_chain_is_told_until_somebody_takes_it() {
    let failing = failing();
    assert_eq!(todo(&failing, AGE, 1, &policy()), Todo::Tell);
    let failed = told(failing.clone(), AGE, answer(204, ""), &policy(), 0);
    assert_eq!((failed.state, failed.untold.clone()), (JobState::Failed, None));
    assert_eq!(failed.fault().unwrap().code, Code::HopFailed);
    assert!(is_dead(&failed));

    let mut job = failing;
    for (attempt, came) in [answer(500, ""), unseen(Code::NoRoute), seen(Code::AgentGone), answer(404, "")]
        .into_iter()
        .enumerate()
    {
        job = told(job, AGE, came, &policy(), 0);
        assert_eq!((job.state, job.attempts as usize), (JobState::Failing, attempt + 1));
        assert_eq!(job.fault().unwrap().code, Code::HopFailed, "that is still why it failed");
        assert!(job.pause > 0);
    }
    let untold = told(job, AGE, answer(500, ""), &policy(), 0);
    assert_eq!(untold.state, JobState::Failed);
    assert_eq!(untold.untold.as_ref().unwrap().message, "it was answered with 500");
    assert!(is_dead(&untold));
}

#[test]
fn who_must_not_be_told_is_not_told_again() {
    let untold = told(failing(), AGE, unseen(Code::NotAllowed), &policy(), 0);
    assert_eq!((untold.state, untold.attempts), (JobState::Failed, 1));
    assert_eq!(untold.untold.unwrap().code, "not_allowed");
}

#[test]
fn a_callback_gets_the_response_or_why_there_is_none() {
    let job = Job { callback: Some("http://caller.example".into()), ..request("GET") };
    let telling = asked(job.clone(), AGE, answer(404, "none"), &policy(), 0);
    assert_eq!((telling.state, telling.outcome.as_ref().unwrap().status), (JobState::Telling, 404));
    assert_eq!(todo(&telling, Duration::from_secs(9_999), 1, &policy()), Todo::Tell);
    assert_eq!(told(telling.clone(), AGE, answer(200, ""), &policy(), 0).state, JobState::Done);
    let untold = told(telling, AGE, unseen(Code::NotAllowed), &policy(), 0);
    assert_eq!((untold.state, untold.error.clone(), is_dead(&untold)), (JobState::Done, None, true));

    let failing = asked(job, AGE, unseen(Code::NotAllowed), &policy(), 0);
    assert_eq!((failing.state, failing.attempts), (JobState::Failing, 0));
    assert_eq!(told(failing, AGE, answer(200, ""), &policy(), 0).state, JobState::Failed);
}

#[test]
fn what_is_not_over_can_be_cancelled() {
    for state in JobState::ALL {
        let job = Job { state, ..chain(2) };
        let cancelled = cancelled(job, AGE);
        assert_eq!(cancelled.is_none(), state.is_over(), "{state:?}");
        if let Some(cancelled) = cancelled {
            assert_eq!((cancelled.state, cancelled.age), (JobState::Cancelled, 7_000));
            assert_eq!(cancelled.fault().unwrap().code, Code::JobCancelled);
            assert_eq!(todo(&cancelled, AGE, 1, &policy()), Todo::Nothing);
            assert!(!is_dead(&cancelled), "somebody wanted it so");
        }
    }
}

#[test]
fn a_dead_letter_goes_on_from_where_it_failed_with_a_new_lifetime() {
    let second = asked(chain(3), AGE, answer(200, "one"), &policy(), 0);
    let failing = asked(second, AGE, answer(500, "no"), &policy(), 0);
    let failed = told(failing, AGE, unseen(Code::NotAllowed), &policy(), 0);
    let replayed = replayed(failed.clone());
    assert_eq!((replayed.state, replayed.done, replayed.age), (JobState::Running, 1, 0));
    assert_eq!((replayed.attempts, replayed.pause), (0, 0));
    assert_eq!(
        (replayed.outcome.clone(), replayed.error.clone(), replayed.untold.clone()),
        (None, None, None)
    );
    assert_eq!((&replayed.input, &replayed.log), (&failed.input, &failed.log), "what was done is done");
    assert_eq!(todo(&replayed, Duration::ZERO, 1, &policy()), Todo::Ask);
    assert_eq!(key(&replayed), key(&Job { state: JobState::Running, ..failed }));
}

#[test]
fn a_dead_letter_of_a_job_that_is_done_is_told_again() {
    let job = Job { callback: Some("http://caller.example".into()), ..request("GET") };
    let telling = asked(job, AGE, answer(200, "yes"), &policy(), 0);
    let untold = told(telling.clone(), AGE, unseen(Code::NotAllowed), &policy(), 0);
    let replayed = replayed(untold);
    assert_eq!((replayed.state, &replayed.outcome), (JobState::Telling, &telling.outcome));
    assert_eq!(told(replayed, AGE, answer(200, ""), &policy(), 0).state, JobState::Done);
}

#[test]
fn every_attempt_at_a_hop_has_the_key_of_that_hop() {
    let job = chain(2);
    let id = job.job_id.to_string();
    let again = asked(job.clone(), AGE, unseen(Code::OriginRefused), &policy(), 0);
    assert_eq!((key(&job), key(&again)), (format!("\"{id}.0\""), format!("\"{id}.0\"")));
    let next = asked(again, AGE, answer(200, ""), &policy(), 0);
    assert_eq!(key(&next), format!("\"{id}.1\""));
    let failing = asked(next, AGE, answer(500, ""), &policy(), 0);
    assert_eq!(key(&failing), format!("\"{id}.end\""));
    assert_eq!(key(&told(failing, AGE, answer(500, ""), &policy(), 0)), format!("\"{id}.end\""));
}

/// A request; it may run twice unless it is a POST.
fn request(method: &str) -> Job {
    let hop = Hop {
        method: method.into(),
        url: "/orders?x=1".into(),
        upstream: Some("shop".parse().unwrap()),
        repeatable: method != "POST",
    };
    let input = Content { body: b"asked".to_vec(), size: 5, ..Content::default() };
    let id = JobId::random(Some("shop".parse().unwrap()));
    Job { hops: vec![hop], ..Job::new(id, client(), JobState::Running, input) }
}

/// A chain of so many hops, whose hosts name no path.
fn chain(hops: usize) -> Job {
    let hop = |n| Hop {
        method: "POST".into(),
        url: format!("http://hop{n}.example?n={n}"),
        upstream: None,
        repeatable: false,
    };
    let job = Job::new(JobId::random(None), client(), JobState::Running, Content::default());
    Job {
        hops: (1..=hops).map(hop).collect(),
        path: "/start".into(),
        referer: "ORIGIN".into(),
        errors_to: Some("http://errors.example".into()),
        ..job
    }
}

fn failing() -> Job {
    asked(chain(1), AGE, answer(500, "no"), &policy(), 0)
}

fn client() -> ProcessId {
    "client.abc".parse().unwrap()
}

fn policy() -> Policy {
    Policy {
        attempts: 5,
        backoff: Duration::from_secs(1),
        backoff_max: Duration::from_secs(5),
        lifetime: Duration::from_secs(3_600),
        retry_status: vec![429, 503],
        retry_unsafe: false,
        unheard: Duration::from_secs(70),
    }
}

fn outcome(status: u16, body: &str) -> Outcome {
    let content = Content { body: body.into(), size: body.len() as u64, ..Content::default() };
    Outcome { status, content }
}

fn answer(status: u16, body: &str) -> Came {
    Came::Answer { outcome: outcome(status, body), retry_after: None }
}

/// A fault that asks for no pause.
fn fault(code: Code) -> Fault {
    Fault { retry_after: None, ..Fault::new(code, Side::Upstream, "for a test") }
}

/// A fault as its code has it.
fn unseen(code: Code) -> Came {
    Came::Fault(fault(code))
}

fn seen(code: Code) -> Came {
    Came::Fault(Fault { maybe_seen: true, ..fault(code) })
}
