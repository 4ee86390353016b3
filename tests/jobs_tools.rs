//! `relay jobs` and `relay dlq`: real commands at a real JetStream, with a broker that works on what they leave.

mod support;

use bytes::Bytes;
use relay::{
    bus::{
        Bus,
        store::{Record, Store, Trouble},
    },
    proto::jobs,
    wire::{
        Code, Error, Fault, Job, JobId, JobState, Side, Subjects, codec,
        job::{Content, Hop, Logged, Outcome, Reach},
    },
};
use serde_json::Value;
use support::{
    process::{Ended, run},
    *,
};

#[tokio::test]
async fn jobs_are_listed_oldest_first_without_what_may_be_secret() {
    let site = Site::start().await;
    let first = site.keep(&request(JobState::Running)).await;
    let second = site.keep(&finished()).await;
    let ls = site.relay(&["jobs", "ls"]).await;
    assert!(ls.status.success(), "{ls:?}");
    let lines: Vec<&str> = ls.out.lines().collect();
    assert!(lines[0].starts_with("JOB ") && lines[0].contains("STATE"), "{}", ls.out);
    assert!(
        lines[1].starts_with(&first) && lines[1].contains(" running  0/1   shop      POST /orders "),
        "{}",
        ls.out
    );
    assert!(lines[2].starts_with(&second) && lines[2].contains(" done     2/2 "), "{}", ls.out);
    assert!(!ls.out.contains("secret"), "{}", ls.out);

    let rows = site.json(&["jobs", "ls", "--json"]).await;
    assert!(!rows.to_string().contains("secret"), "{rows}");
    assert_eq!((rows[0]["job"].as_str(), rows[0]["url"].as_str()), (Some(first.as_str()), Some("/orders")));
    assert_eq!((rows[1]["state"].as_str(), rows[1]["done"].as_u64()), (Some("done"), Some(2)));

    let rows = site.json(&["jobs", "ls", "--json", "--state", "done"]).await;
    assert_eq!((rows.as_array().unwrap().len(), rows[0]["job"].as_str()), (1, Some(second.as_str())));
    let none = site.relay(&["jobs", "ls", "--state", "telling"]).await;
    assert_eq!((none.status.code(), none.out.as_str()), (Some(0), "no job is telling, of 2 that are kept\n"));
    let wrong = site.relay(&["jobs", "ls", "--state", "lost"]).await;
    assert!(!wrong.status.success() && wrong.err.contains("cancelled"), "{wrong:?}");
}

#[tokio::test]
async fn one_job_is_shown_whole_but_for_its_bodies_and_headers() {
    let site = Site::start().await;
    let id = site.keep(&finished()).await;
    let show = site.relay(&["jobs", "show", &id]).await;
    for part in [
        "hop 1      POST http://one.example/a?key=secret: 200, 3 attempts\n",
        "hop 2      PUT http://two.example/b: 201, 1 attempt\n",
        "response   201, 4 bytes of text/plain\n",
        "errors to  http://errors.example/\n",
    ] {
        assert!(show.out.contains(part), "{part} is not in\n{}", show.out);
    }
    assert!(!show.out.contains("kept") && !show.out.contains("Bearer"), "{}", show.out);
    let whole = site.json(&["jobs", "show", &id, "--json"]).await;
    assert_eq!(
        (whole["hops"][0]["status"].as_u64(), whole["response"]["size"].as_u64()),
        (Some(200), Some(4))
    );
    assert!(!whole.to_string().contains("Bearer"), "{whole}");

    let failed = site.keep(&failed("http://errors.example/")).await;
    let show = site.relay(&["jobs", "show", &failed]).await;
    assert!(show.out.contains("hop_failed: hop 1 was answered with 500"), "{}", show.out);
    assert!(show.out.contains("POST http://echo/first?a=b: not done\n"), "{}", show.out);
    let other = JobId::random(None).to_string();
    site.refuses(&["jobs", "show", &other], "there is no job").await;
    site.refuses(&["jobs", "show", "shop"], "a job's id is a UUID").await;
}

#[tokio::test]
async fn a_job_that_waits_is_cancelled_and_one_that_is_over_is_not() {
    let site = Site::start().await;
    let object = "an-object";
    let job = with_object(request(JobState::Running), object);
    site.store.put_object(&site.subjects.bodies_bucket(), object, &Bytes::from("asked")).await.unwrap();
    let waiting = site.keep(&job).await;
    let done = site.keep(&finished()).await;
    let cancel = site.relay(&["jobs", "cancel", &done, &waiting]).await;
    assert_eq!((cancel.status.code(), cancel.out), (Some(1), format!("{waiting} cancelled\n")));
    assert_eq!(cancel.err, format!("relay: the job {done} is over: it is done\n"));
    let now = site.job(&waiting).await.unwrap();
    assert_eq!((now.state, now.fault().unwrap().code), (JobState::Cancelled, Code::JobCancelled));
    assert_eq!(site.object(object).await, None, "nobody needs its body any more");
    site.refuses(&["jobs", "cancel", &waiting], "is over: it is cancelled").await;
    site.refuses(&["jobs", "cancel", &JobId::random(None).to_string()], "there is no job").await;
}

#[tokio::test]
async fn a_dead_letter_is_shown_and_goes_on_from_where_it_failed() {
    let site = Site::start().await;
    let echo = Origin::echo().await;
    let _agent = site.nats.upstream("echo", &echo.url(), &[]).await;
    let object = "what-hop-1-is-sent";
    site.store
        .put_object(&site.subjects.bodies_bucket(), object, &Bytes::from("in an object"))
        .await
        .unwrap();
    let id = site.keep(&with_object(failed("http://echo/errors"), object)).await;
    site.buried(&id).await;

    let ls = site.relay(&["dlq", "ls"]).await;
    assert!(
        ls.out.contains(&id) && ls.out.contains(" failed ") && ls.out.contains("hop_failed"),
        "{}",
        ls.out
    );
    assert!(!ls.out.contains("a=b"), "{}", ls.out);
    let rows = site.json(&["dlq", "ls", "--json"]).await;
    assert_eq!(rows[0]["error"], "hop_failed");
    let show = site.relay(&["dlq", "show", &id]).await;
    assert!(show.out.contains("12 bytes, the object what-hop-1-is-sent"), "{}", show.out);
    assert!(!show.out.contains("in an object") && !show.out.contains("no way"), "{}", show.out);
    let show = site.relay(&["dlq", "show", &id, "--body"]).await;
    assert!(show.out.ends_with("\ninput:\nin an object\n\nresponse:\nno way\n"), "{}", show.out);
    let whole = site.json(&["dlq", "show", &id, "--body", "--json"]).await;
    let bodies = (whole["input"]["body"].as_str(), whole["response"]["body"].as_str());
    assert_eq!(bodies, (Some("in an object"), Some("no way")));

    let replay = site.relay(&["dlq", "replay", &id]).await;
    assert_eq!((replay.status.code(), replay.out), (Some(0), format!("{id} runs again\n")), "{}", replay.err);
    eventually_async("the chain is done", || async { site.job(&id).await.unwrap().state == JobState::Done })
        .await;
    let seen: Vec<(String, Vec<u8>)> =
        echo.seen().iter().map(|seen| (seen.target.clone(), seen.body.to_vec())).collect();
    assert_eq!(seen, [("/first?a=b".to_owned(), b"in an object".to_vec())]);
    site.refuses(&["dlq", "show", &id], "there is no dead letter").await;
    site.refuses(&["dlq", "replay", &id], "there is no dead letter").await;
    let none = site.relay(&["dlq", "ls"]).await;
    assert_eq!(none.out, "there are no dead letters: no job has finally failed\n");
}

#[tokio::test]
async fn a_dead_letter_is_not_replayed_beside_its_job_but_after_its_record() {
    let site = Site::start().await;
    // The letter of a job that runs, and that of one that is done.
    for (state, told) in [(JobState::Running, "runs again already"), (JobState::Done, "is done meanwhile")] {
        let job = request(state);
        let id = site.keep(&job).await;
        site.keep_letter(&Job { state: JobState::Failed, error: Some(error()), ..job }).await;
        site.refuses(&["dlq", "replay", &id], told).await;
        assert_eq!(site.job(&id).await.unwrap().state, state);
    }
    // All of them at once: the record of one has expired.
    let letter = Job { state: JobState::Failed, error: Some(error()), ..request(JobState::Failed) };
    let id = site.keep_letter(&letter).await;
    let all = site.relay(&["dlq", "replay", "--all"]).await;
    assert_eq!((all.status.code(), all.out), (Some(1), format!("{id} runs again\n")));
    assert_eq!(all.err.lines().count(), 2, "{}", all.err);
    assert_eq!(site.job(&id).await.unwrap().state, JobState::Running);
    // Its id or all of them, and not nothing.
    site.refuses(&["dlq", "replay"], "<ID|--all>").await;
    site.refuses(&["dlq", "purge", "--all", &id], "cannot be used with").await;
}

#[tokio::test]
async fn purged_dead_letters_are_gone_with_the_bodies_that_nobody_needs() {
    let site = Site::start().await;
    let mut ids = Vec::new();
    for (object, state) in [("needed", JobState::Running), ("unneeded", JobState::Failed)] {
        site.store.put_object(&site.subjects.bodies_bucket(), object, &Bytes::from("body")).await.unwrap();
        let job = Job { state, error: Some(error()), ..with_object(request(state), object) };
        ids.push(site.keep(&job).await);
        site.keep_letter(&Job { state: JobState::Failed, ..job }).await;
    }
    let one = site.relay(&["dlq", "purge", &ids[0]]).await;
    assert_eq!((one.status.code(), one.out), (Some(0), format!("{} purged\n", ids[0])), "{}", one.err);
    let all = site.relay(&["dlq", "purge", "--all"]).await;
    assert_eq!((all.status.code(), all.out), (Some(0), format!("{} purged\n", ids[1])), "{}", all.err);
    assert_eq!(site.object("needed").await.as_deref(), Some(&b"body"[..]), "its job runs");
    assert_eq!(site.object("unneeded").await, None);
    let all = site.relay(&["dlq", "purge", "--all"]).await;
    assert!(all.status.success() && all.out.starts_with("there are no dead letters"), "{all:?}");
    site.refuses(&["dlq", "purge", &ids[1]], "there is no dead letter").await;
    assert!(site.job(&ids[1]).await.is_some(), "the record stays as long as any");
}

#[tokio::test]
async fn what_is_missing_is_said_at_once_with_what_to_do() {
    let id = JobId::random(None).to_string();
    let commands: [&[&str]; 7] = [
        &["jobs", "ls"],
        &["jobs", "show", &id],
        &["jobs", "cancel", &id],
        &["dlq", "ls"],
        &["dlq", "show", &id],
        &["dlq", "replay", &id],
        &["dlq", "purge", "--all"],
    ];
    let config = "authorization { users = [ { user: u, password: p, permissions: { publish: { deny: [\"relay.jobs.>\", \"relay.chains.>\"] } } } ] }";
    let denied = Nats::with(&format!("jetstream {{ store_dir: \"$DIR/js\" }}\n{config}")).await;
    let plain = Nats::start().await;
    let _broker = plain.broker(&[]).await;
    for (nats, user, told) in [
        (&plain, &[][..], "start it with -js"),
        (&Nats::with_jetstream().await, &[][..], "no broker is there to ask"),
        (&denied, &["--user", "u", "--password", "p"][..], "NATS permissions refuse relay."),
    ] {
        for command in commands {
            let server = nats.url();
            let ended = run(process::relay(&[command, &["--server", &server], user].concat())).await;
            assert_eq!(
                (ended.status.code(), ended.out.as_str()),
                (Some(1), ""),
                "{command:?}: {}",
                ended.err
            );
            assert_eq!(ended.err.lines().count(), 1, "{command:?}: {}", ended.err);
            assert!(ended.err.contains(told), "{command:?}: {}", ended.err);
        }
    }
}

#[tokio::test]
async fn nothing_kept_is_no_mistake() {
    let site = Site::start().await;
    for (command, told) in [("jobs", "no jobs are kept"), ("dlq", "there are no dead letters")] {
        let ls = site.relay(&[command, "ls"]).await;
        assert!(ls.status.success() && ls.out.starts_with(told), "{ls:?}");
        assert_eq!(site.json(&[command, "ls", "--json"]).await, Value::Array(Vec::new()));
    }
    // Another relay in the same account has its own.
    let other = site.relay(&["jobs", "ls", "--prefix", "other"]).await;
    assert!(!other.status.success() && other.err.contains("no broker is there to ask"), "{other:?}");
}

/// JetStream, a broker that has set it up, and a connection of the test's own.
struct Site {
    store: Store,
    subjects: Subjects,
    _broker: Role,
    _bus: Bus,
    nats: Nats,
}

impl Site {
    async fn start() -> Site {
        let nats = Nats::with_jetstream().await;
        let broker = nats.broker(&["--job-attempts", "1"]).await;
        let bus = nats.connect().await;
        let site = Site {
            store: bus.store(),
            subjects: Subjects::new("relay".parse().unwrap()),
            _broker: broker,
            _bus: bus,
            nats,
        };
        let bucket = site.subjects.bodies_bucket();
        eventually_async("the broker has set up what it needs", || async {
            site.store.get_object(&bucket, "none", 1).await.is_ok()
        })
        .await;
        site
    }

    /// Keeps a job's record; returns its id.
    async fn keep(&self, job: &Job) -> String {
        self.store.create(&self.subjects.job(&job.job_id), codec::encode(job)).await.unwrap();
        job.job_id.to_string()
    }

    /// Keeps a dead letter; returns its job's id.
    async fn keep_letter(&self, job: &Job) -> String {
        self.store.put(&self.subjects.dead(&job.job_id), codec::encode(job)).await.unwrap();
        job.job_id.to_string()
    }

    async fn job(&self, id: &str) -> Option<Job> {
        let subject = self.subjects.job(&id.parse().unwrap());
        decoded(self.store.last(&self.subjects.jobs_stream(), &subject).await)
    }

    /// Waits until a broker has found that a job failed.
    async fn buried(&self, id: &str) {
        let (stream, subject) = (self.subjects.dead_stream(), self.subjects.dead(&id.parse().unwrap()));
        eventually_async("there is a dead letter", || async {
            decoded(self.store.last(&stream, &subject).await).is_some()
        })
        .await;
    }

    async fn object(&self, name: &str) -> Option<Bytes> {
        self.store.get_object(&self.subjects.bodies_bucket(), name, 1 << 20).await.unwrap()
    }

    async fn relay(&self, args: &[&str]) -> Ended {
        run(process::relay(&[args, &["--server", &self.nats.url()]].concat())).await
    }

    async fn json(&self, args: &[&str]) -> Value {
        let ended = self.relay(args).await;
        serde_json::from_str(&ended.out).unwrap_or_else(|error| panic!("{error}: {ended:?}"))
    }

    async fn refuses(&self, args: &[&str], told: &str) {
        let ended = self.relay(args).await;
        assert!(!ended.status.success() && ended.out.is_empty(), "{ended:?}");
        assert!(ended.err.contains(told), "'{told}' is not in {ended:?}");
    }
}

fn decoded(last: Result<Option<Record>, Trouble>) -> Option<Job> {
    last.unwrap().map(|record| codec::decode(&record.bytes).unwrap())
}

/// A request for an upstream that has no agent: it waits.
fn request(state: JobState) -> Job {
    let upstream = "shop".parse().unwrap();
    let id = JobId::random(Some("shop".parse().unwrap()));
    let hop = Hop {
        method: "POST".into(),
        url: "/orders?token=secret".into(),
        upstream: Some(upstream),
        repeatable: false,
    };
    let content = content("asked", &[("authorization", "Bearer x")]);
    Job { hops: vec![hop], ..Job::new(id, client(), state, content) }
}

/// A chain that is done.
fn finished() -> Job {
    let hops = [("POST", "http://one.example/a?key=secret"), ("PUT", "http://two.example/b")];
    let outcome = Outcome { status: 201, content: content("kept", &[("content-type", "text/plain")]) };
    Job {
        hops: hops.map(|(method, url)| hop(method, url)).to_vec(),
        done: 2,
        errors_to: Some("http://errors.example/".into()),
        log: vec![Logged { status: 200, attempts: 3 }, Logged { status: 201, attempts: 1 }],
        outcome: Some(outcome),
        ..Job::new(JobId::random(None), client(), JobState::Done, Content::default())
    }
}

/// A chain whose only hop, at the upstream `echo`, failed; it was told.
fn failed(errors_to: &str) -> Job {
    let job = Job {
        reach: Some(Reach::Names),
        hops: vec![hop("POST", "http://echo/first?a=b")],
        errors_to: Some(errors_to.into()),
        outcome: Some(Outcome { status: 500, content: content("no way", &[]) }),
        error: Some(error()),
        ..Job::new(JobId::random(None), client(), JobState::Failed, content("input", &[]))
    };
    assert!(jobs::is_dead(&job));
    job
}

fn with_object(job: Job, object: &str) -> Job {
    let input = Content { body: Vec::new(), object: Some(object.into()), size: 12, ..job.input };
    Job { input, ..job }
}

fn hop(method: &str, url: &str) -> Hop {
    Hop { method: method.into(), url: url.into(), upstream: None, repeatable: method == "PUT" }
}

fn content(body: &str, headers: &[(&str, &str)]) -> Content {
    Content {
        headers: headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec().into()))
            .collect(),
        body: body.into(),
        object: None,
        size: body.len() as u64,
    }
}

fn error() -> Error {
    Error::from(&Fault::new(
        Code::HopFailed,
        Side::Upstream,
        "hop 1 was answered with 500 Internal Server Error",
    ))
}

fn client() -> relay::wire::ProcessId {
    "client.abc".parse().unwrap()
}
