//! What a broker is asked to store: it believes of a question what its subject says, and answers where its id says.

use relay::{
    bus::{Bus, Message, Subscription},
    wire::{
        Job, JobId, JobState, Kind, ProcessId, RequestId, StoreReply, StoreRequest, StoreScope, StoreVerb,
        Subjects, codec,
        job::{Content, Hop},
        store::Part,
    },
};

use crate::{
    stage::{JETSTREAM, Stage, location, says, value},
    support::{Nats, eventually, http, problem, within},
};

/// A process of the test's own that asks brokers.
struct Asker {
    bus: Bus,
    subjects: Subjects,
    own: ProcessId,
    inbox: Subscription,
}

impl Asker {
    async fn at(nats: &Nats) -> Asker {
        let bus = nats.connect().await;
        let subjects = Subjects::new("relay".parse().unwrap());
        let own: ProcessId = "asker.aaaaaaaaaaaa".parse().unwrap();
        let inbox = bus.subscribe(subjects.inbox(&own)).await.unwrap();
        Asker { bus, subjects, own, inbox }
    }

    /// Asks with an id whose upstream is `token`; the reply subject is `reply`, or the one of the id.
    fn ask(
        &self,
        scope: &StoreScope,
        verb: StoreVerb,
        token: &str,
        reply: Option<&str>,
        fill: impl FnOnce(&mut StoreRequest),
    ) {
        let id = RequestId::new(&self.own, &token.parse().unwrap(), 1);
        let mut request = StoreRequest::new(id.clone());
        fill(&mut request);
        let reply = reply.map_or_else(|| self.subjects.of_request(Kind::Stored, &id), str::to_owned);
        self.bus.ask(self.subjects.store(scope, verb), reply, codec::encode(&request)).unwrap();
    }

    async fn answer(&mut self) -> StoreReply {
        let message: Message =
            within(std::time::Duration::from_secs(10), "an answer", self.inbox.next()).await.unwrap();
        codec::decode(&message.payload).unwrap()
    }

    /// A job for `upstream` whose record may say anything.
    fn job(&self, upstream: &str) -> Job {
        let id = JobId::random(Some(upstream.parse().unwrap()));
        let input = Content { body: b"x".to_vec(), size: 1, ..Content::default() };
        let mut job = Job::new(id, self.own.clone(), JobState::Running, input);
        job.hops = vec![Hop {
            method: "POST".into(),
            url: "/".into(),
            upstream: Some(upstream.parse().unwrap()),
            repeatable: false,
        }];
        job
    }
}

#[tokio::test]
async fn a_broker_answers_where_the_id_of_a_question_says_and_nowhere_else() {
    let at = Stage::start().await;
    let mut asker = Asker::at(&at.nats).await;
    let mut elsewhere = asker.bus.subscribe("relay.req.victim".into()).await.unwrap();
    let one = StoreScope::Jobs("one".parse().unwrap());
    let unknown = JobId::random(Some("one".parse().unwrap()));
    asker.ask(&one, StoreVerb::Read, "one", Some("relay.req.victim"), |request| {
        request.job_id = Some(unknown)
    });
    assert_eq!(asker.answer().await.error.unwrap().code, "no_job");
    // Neither is a question answered whose id is another upstream's, or none that its subject names.
    asker.ask(&one, StoreVerb::Read, "two", None, |request| request.job_id = Some(JobId::random(None)));
    asker.ask(&one, StoreVerb::List, "two", None, |_| {});
    at.broker.counts("relay_messages_dropped_total", "reason=\"misaddressed\"", 2.0).await;
    asker.bus.flush().await;
    assert!(
        futures_util::FutureExt::now_or_never(elsewhere.next()).is_none(),
        "nothing came to the reply subject"
    );
    assert!(futures_util::FutureExt::now_or_never(asker.inbox.next()).is_none(), "nor any other answer");
}

#[tokio::test]
async fn what_only_brokers_write_in_a_record_is_not_taken_from_others() {
    let at = Stage::start().await;
    let mut asker = Asker::at(&at.nats).await;
    let secret = vec![b's'; 600_000];
    let large = at.later("/").await.body(secret.clone()).send().await.unwrap();
    let theirs: JobId = location(&large).rsplit('/').next().unwrap().parse().unwrap();
    let one = StoreScope::of(&theirs);
    asker.ask(&one, StoreVerb::Read, "one", None, |request| request.job_id = Some(theirs.clone()));
    let object = asker.answer().await.job.unwrap().input.object.expect("it is too large for a record");
    eventually("the job has run", || at.one.hits() == 1).await;

    // A job that names another's body has none, and one that says that it is over runs all the same.
    let mut job = asker.job("one");
    job.input.object = Some(object);
    (job.state, job.done, job.age) = (JobState::Done, 1, u64::MAX);
    let id = job.job_id.clone();
    asker.ask(&one, StoreVerb::Accept, "one", None, |request| request.job = Some(Box::new(job)));
    assert_eq!(asker.answer().await.error, None);
    eventually("the second job has run", || at.one.hits() == 2).await;
    assert_eq!(at.one.seen()[1].body, "x");
    asker.ask(&one, StoreVerb::Body, "one", None, |request| {
        (request.job_id, request.part) = (Some(id), Some(Part::Input));
    });
    assert_eq!(asker.answer().await.stream, None, "its body is in its record");

    // Nor does a job go to another upstream than its subject names, or in another process's name.
    let mut other = asker.job("one");
    other.hops[0].upstream = Some("two".parse().unwrap());
    let mut forged = asker.job("one");
    forged.client_id = "client.bbbbbbbbbbbb".parse().unwrap();
    for job in [other, forged] {
        asker.ask(&one, StoreVerb::Accept, "one", None, |request| request.job = Some(Box::new(job)));
        assert_eq!(asker.answer().await.error.unwrap().code, "bad_job");
    }
}

#[tokio::test]
async fn a_job_of_which_jetstream_does_not_say_whether_it_is_stored_is_told_with_its_location() {
    let (nats, store) = (Nats::start().await, Nats::with(JETSTREAM).await);
    let broker = nats.broker(&["--store-server", &store.url()]).await;
    let one = says("one").await;
    let _agent = nats.upstream("one", &one.url(), &[]).await;
    let client = nats.client(&["--upstream", "one", "--jobs", "on"]).await;
    let before = http().post(client.url("/").await).header("prefer", "respond-async, wait=20").send().await;
    assert_eq!(before.unwrap().text().await.unwrap(), "one()", "it is stored at another server");

    store.process().stop();
    let later = http().post(client.url("/").await).header("prefer", "respond-async").body("once");
    let unknown = later.send().await.unwrap();
    let page = value(&unknown, "location");
    assert_eq!(value(&unknown, "retry-after"), "", "a second request would be a second job");
    problem(unknown).await.is(504, "job_unconfirmed", "broker").names(&page);
    store.process().cont();
    let over = http().get(client.url(&page).await).header("prefer", "wait=30").send().await.unwrap();
    assert_eq!(
        (value(&over, "x-relay-job").as_str(), over.text().await.unwrap().as_str()),
        ("done", "one(once)")
    );
    assert_eq!(one.hits(), 2);
    drop(broker);
}
