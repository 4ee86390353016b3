//! `relay dlq`: the jobs that finally failed, or whose end could not be told: shows them, lets them go on from where
//! they failed, forgets them.

use std::{collections::BTreeSet, io::Write};

use super::jobs::{
    TRIES,
    desk::{Desk, Refusal, each, in_the_way},
    print_list, print_one,
    view::{self, Bodies, Row, Whole},
};
use crate::{
    bus::store::Trouble,
    config::{DlqCommand, DlqShow, DlqSome},
    proto::jobs,
    wire::{
        Job, codec,
        job::{Content, JobId},
    },
};

/// Does what the command says.
///
/// # Errors
/// What is in the way, and what to do about it.
pub async fn run(command: DlqCommand) -> anyhow::Result<()> {
    match command {
        DlqCommand::Ls(settings) => {
            let desk = Desk::open(&settings.nats, NAME).await?;
            let letters = desk.letters().await.map_err(in_the_way)?;
            let rows: Vec<Row> = letters.iter().map(Row::of).collect();
            print_list(&rows, settings.json, NONE)
        }
        DlqCommand::Show(settings) => show(settings).await,
        DlqCommand::Replay(settings) => {
            let (desk, ids) = which(settings).await?;
            each(&ids, async |id| replay(&desk, id).await).await
        }
        DlqCommand::Purge(settings) => {
            let (desk, ids) = which(settings).await?;
            each(&ids, async |id| purge(&desk, id).await).await
        }
    }
}

async fn show(settings: DlqShow) -> anyhow::Result<()> {
    let desk = Desk::open(&settings.nats, NAME).await?;
    let kept = desk.letter(&settings.id).await.map_err(in_the_way)?;
    let kept = kept.ok_or_else(|| anyhow::anyhow!(no_letter(&settings.id)))?;
    let whole = Whole::of(&kept);
    if !settings.body {
        return print_one(&whole, settings.json);
    }
    let response = view::response(&kept.job);
    let bodies =
        Bodies { input: body(&desk, Some(&kept.job.input)).await?, response: body(&desk, response).await? };
    if settings.json {
        return print_one(&whole.with(&bodies), true);
    }
    print_one(&whole, false)?;
    print_body("input", Some(&kept.job.input), bodies.input.as_deref())?;
    print_body("response", response, bodies.response.as_deref())
}

async fn body(desk: &Desk, content: Option<&Content>) -> anyhow::Result<Option<bytes::Bytes>> {
    match content {
        Some(content) => desk.body(content).await.map_err(in_the_way),
        None => Ok(None),
    }
}

/// Prints a body as it is: it may be anything.
fn print_body(name: &str, content: Option<&Content>, body: Option<&[u8]>) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match (content, body) {
        (Some(content), Some(body)) if content.size > 0 => {
            writeln!(out, "\n{name}:")?;
            out.write_all(body)?;
            writeln!(out)?;
        }
        (Some(content), None) if content.size > 0 => writeln!(out, "\n{name}: no longer there")?,
        _ => {}
    }
    Ok(())
}

async fn which(settings: DlqSome) -> anyhow::Result<(Desk, Vec<JobId>)> {
    let DlqSome { ids, all, nats } = settings;
    let desk = Desk::open(&nats, NAME).await?;
    if !all {
        return Ok((desk, ids));
    }
    let letters = desk.letters().await.map_err(in_the_way)?;
    if letters.is_empty() {
        println!("{NONE}");
    }
    Ok((desk, letters.into_iter().map(|kept| kept.job.job_id).collect()))
}

async fn replay(desk: &Desk, id: &JobId) -> Result<&'static str, Refusal> {
    let letter = desk.letter(id).await?.ok_or_else(|| Refusal::Job(no_letter(id)))?.job;
    let subject = desk.subjects.job(id);
    for _ in 0..TRIES {
        let record = desk.job(id).await?;
        let revision = record.as_ref().map_or(0, |record| record.revision);
        let failed = what_failed(&letter, record.map(|record| record.job)).map_err(Refusal::Job)?;
        let next = jobs::replayed(failed.clone());
        match desk.ask(desk.store.replace(&subject, revision, codec::encode(&next))).await {
            Ok(_) => {
                desk.ask(desk.store.remove(&desk.subjects.dead_stream(), &desk.subjects.dead(id))).await?;
                desk.forget(no_longer_needed(&failed, Some(&next))).await;
                return Ok("runs again");
            }
            Err(Trouble::Changed) => {}
            Err(trouble) => return Err(trouble.into()),
        }
    }
    Err(Refusal::Job(format!("the job {id} changes too quickly to be replayed: try again")))
}

/// What is to be replayed: the record where it is still kept, for it is the younger one.
///
/// # Errors
/// Why it is not to be replayed.
fn what_failed(letter: &Job, record: Option<Job>) -> Result<Job, String> {
    match record {
        None => Ok(letter.clone()),
        Some(record) if jobs::is_dead(&record) => Ok(record),
        Some(Job { job_id: id, state, .. }) if state.is_over() => Err(format!(
            "the job {id} is {} meanwhile: there is nothing to replay, `relay dlq purge {id}` forgets the letter",
            state.as_str()
        )),
        Some(Job { job_id: id, state, .. }) => {
            Err(format!("the job {id} runs again already: it is {}", state.as_str()))
        }
    }
}

async fn purge(desk: &Desk, id: &JobId) -> Result<&'static str, Refusal> {
    let letter = desk.letter(id).await?.ok_or_else(|| Refusal::Job(no_letter(id)))?.job;
    let record = desk.job(id).await?.map(|record| record.job);
    desk.ask(desk.store.remove(&desk.subjects.dead_stream(), &desk.subjects.dead(id))).await?;
    // A job that runs again, or did, needs its bodies; the record of one that failed only says what became of it.
    let needed = record.as_ref().filter(|record| !jobs::is_dead(record));
    desk.forget(no_longer_needed(&letter, needed)).await;
    Ok("purged")
}

/// The objects of `before` that `now` has no use for.
fn no_longer_needed<'a>(before: &'a Job, now: Option<&'a Job>) -> impl Iterator<Item = &'a str> {
    let kept: BTreeSet<&str> = now.iter().flat_map(|now| now.objects()).collect();
    before.objects().filter(move |object| !kept.contains(object))
}

fn no_letter(id: &JobId) -> String {
    format!("there is no dead letter of the job {id}: `relay dlq ls` lists those there are")
}

const NAME: &str = "relay dlq";
const NONE: &str = "there are no dead letters: no job has finally failed";
