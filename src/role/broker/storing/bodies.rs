//! Bodies that do not fit in a message: taken from client agents and sent to those who ask, as streams under credit.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    time::timeout,
};

use super::{Storing, bad, named, no_job, unavailable};
use crate::{
    proto::flow::FIRST_WINDOW,
    stream::Writer,
    wire::{Code, Fault, Job, Name, RequestId, Side, StoreReply, StoreRequest, StoreScope, store::Part},
};

type Object = Box<dyn AsyncRead + Send + Unpin>;

impl Storing {
    /// Takes the body of a job that is to be stored, and stores it as an object. Nothing of it is let in before there
    /// is memory for all of it.
    pub(super) async fn take_body(
        &self,
        scope: &StoreScope,
        request: &StoreRequest,
        job: &mut Job,
    ) -> Result<(), Fault> {
        let size = usize::try_from(job.input.size).unwrap_or(usize::MAX);
        if size > self.largest {
            let most = self.largest;
            let detail = format!(
                "a job's body is over {most} bytes, the most that a broker stores (--max-job-memory)"
            );
            return Err(Fault::new(Code::BodyTooLarge, Side::Broker, detail));
        }
        let Ok(memory) = timeout(ROOM, self.memory.take(size)).await else {
            let detail = "the broker has no memory for another job's body now (--max-job-memory)";
            return Err(Fault::new(Code::JobsUnavailable, Side::Broker, detail));
        };
        let own = self.next_id(&scope.token());
        let stream = self.streams.open(&own)?;
        stream.connect(&request.request_id);
        let reader = stream.reader(FIRST_WINDOW);
        stream.settle();
        self.reply(&StoreReply { stream: Some(own), ..StoreReply::done(request.request_id.clone()) });
        let too_large = || bad("the job's body is longer than the job says");
        let body =
            timeout(BODY, reader.whole(Bytes::new(), (size, Some(size as u64)), memory, too_large)).await;
        let body = body.map_err(|_| {
            let detail = format!("the job's body did not come within {} s", BODY.as_secs());
            Fault::new(Code::BodyTimeout, Side::Broker, detail)
        })??;
        if body.len() != size {
            return Err(bad("the job's body is shorter than the job says"));
        }
        let name = format!("{}.{}", job.job_id, uuid::Uuid::new_v4().simple());
        let stored = self.store.put_object(&self.core.subjects.bodies_bucket(), &name, &body).await;
        stored.map_err(|trouble| unavailable(&trouble))?;
        job.input.object = Some(name);
        Ok(())
    }

    /// Streams a body to the process that asks for it, after the answer that names the stream; the answer names none
    /// when the body is no longer there.
    pub(super) async fn send_body(&self, scope: &StoreScope, request: StoreRequest) -> Result<(), Fault> {
        let mut reply = StoreReply::done(request.request_id.clone());
        let Some(object) = self.object(&request).await? else {
            self.reply(&reply);
            return Ok(());
        };
        let own = self.next_id(&scope.token());
        let stream = self.streams.open(&own)?;
        stream.connect(&request.request_id);
        let writer = stream.writer(FIRST_WINDOW);
        stream.settle();
        reply.stream = Some(own);
        self.reply(&reply);
        pump(object, writer).await;
        Ok(())
    }

    /// The object that has the body which a question names.
    async fn object(&self, request: &StoreRequest) -> Result<Option<Object>, Fault> {
        let id = named(request)?;
        let part = request.part.ok_or_else(|| bad("the question names no body"))?;
        let dead = matches!(part, Part::LetterInput | Part::LetterOutcome);
        let kept = self.find(id, dead).await.map_err(|trouble| unavailable(&trouble))?;
        let job = kept.ok_or_else(|| no_job(id))?.job;
        let content = match part {
            Part::Input | Part::LetterInput => Some(&job.input),
            Part::Outcome | Part::LetterOutcome => job.outcome.as_ref().map(|outcome| &outcome.content),
        };
        let Some(name) = content.and_then(|content| content.object.as_deref()) else { return Ok(None) };
        let subjects = &self.core.subjects;
        let buckets = [subjects.bodies_bucket(), subjects.dead_bodies_bucket()];
        self.store.open_object(&buckets, name).await.map_err(|trouble| unavailable(&trouble))
    }

    fn next_id(&self, token: &Name) -> RequestId {
        let number = self.numbers.lock().fresh();
        RequestId::new(&self.core.id, token, number)
    }
}

/// Sends what is read, as credit allows.
async fn pump(mut object: Object, mut writer: Writer) {
    let mut buffer = BytesMut::new();
    loop {
        if writer.ready().await.is_err() {
            return;
        }
        buffer.reserve(READ);
        match timeout(BODY, object.read_buf(&mut buffer)).await {
            Ok(Ok(0)) => break,
            Ok(Ok(_)) => {
                if writer.send(buffer.split().freeze()).await.is_err() {
                    return;
                }
            }
            Ok(Err(error)) => return writer.cut(cut(error.to_string())),
            Err(_) => return writer.cut(cut("JetStream did not send all of it".into())),
        }
    }
    // A process that wants no more has had enough.
    writer.finish(HeaderMap::new()).await.ok();
}

fn cut(why: String) -> Fault {
    Fault::new(Code::StreamCut, Side::Broker, format!("a stored body can't be read: {why}"))
}

/// How long a body waits for memory.
const ROOM: Duration = Duration::from_secs(5);
/// How long a body may take to come.
const BODY: Duration = Duration::from_secs(60);
/// Bytes of an object that are read at once.
const READ: usize = 64 * 1024;
