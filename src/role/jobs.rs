//! `relay jobs`: which jobs there are, what became of one, and the end of those that somebody cancels.

use self::{
    desk::{Desk, Refusal, each, in_the_way},
    view::{Row, Whole},
};
use crate::{
    bus::store::Trouble,
    config::{JobsCommand, JobsLs},
    proto::jobs,
    wire::{codec, job::JobId},
};

pub(super) mod desk;
pub(super) mod view;

/// Does what the command says.
///
/// # Errors
/// What is in the way, and what to do about it.
pub async fn run(command: JobsCommand) -> anyhow::Result<()> {
    match command {
        JobsCommand::Ls(settings) => ls(settings).await,
        JobsCommand::Show(settings) => {
            let desk = Desk::open(&settings.nats, NAME).await?;
            let kept = desk.job(&settings.id).await.map_err(in_the_way)?;
            let kept = kept.ok_or_else(|| anyhow::anyhow!(no_job(&settings.id)))?;
            print_one(&Whole::of(&kept), settings.json)
        }
        JobsCommand::Cancel(settings) => {
            let desk = Desk::open(&settings.nats, NAME).await?;
            each(&settings.ids, async |id| cancel(&desk, id).await).await
        }
    }
}

async fn ls(settings: JobsLs) -> anyhow::Result<()> {
    let desk = Desk::open(&settings.nats, NAME).await?;
    let mut kept = desk.jobs().await.map_err(in_the_way)?;
    let none = match &settings.state {
        None => {
            "no jobs are kept: send a request with `Prefer: respond-async`, or a forward chain".to_owned()
        }
        Some(state) => format!("no job is {state}, of {} that are kept", kept.len()),
    };
    kept.retain(|kept| settings.state.as_ref().is_none_or(|state| kept.job.state.as_str() == state));
    let rows: Vec<Row> = kept.iter().map(Row::of).collect();
    print_list(&rows, settings.json, &none)
}

async fn cancel(desk: &Desk, id: &JobId) -> Result<&'static str, Refusal> {
    let subject = desk.subjects.job(id);
    for _ in 0..TRIES {
        let kept = desk.job(id).await?.ok_or_else(|| Refusal::Job(no_job(id)))?;
        let age = kept.age();
        let Some(next) = jobs::cancelled(kept.job.clone(), age) else {
            return Err(Refusal::Job(format!("the job {id} is over: it is {}", kept.job.state.as_str())));
        };
        match desk.ask(desk.store.replace(&subject, kept.revision, codec::encode(&next))).await {
            Ok(_) => {
                desk.forget(kept.job.objects()).await;
                return Ok("cancelled");
            }
            // Its next step was stored meanwhile: that one is cancelled then.
            Err(Trouble::Changed) => {}
            Err(trouble) => return Err(trouble.into()),
        }
    }
    Err(Refusal::Job(format!("the job {id} goes on too quickly to be cancelled: try again")))
}

/// Prints a list.
///
/// # Errors
/// When it can't be JSON.
pub(super) fn print_list(rows: &[Row], json: bool, none: &str) -> anyhow::Result<()> {
    let text = if json { serde_json::to_string_pretty(rows)? + "\n" } else { view::table(rows, none) };
    print!("{text}");
    Ok(())
}

/// Prints one job.
///
/// # Errors
/// When it can't be JSON.
pub(super) fn print_one(whole: &Whole, json: bool) -> anyhow::Result<()> {
    let text = if json { serde_json::to_string_pretty(whole)? + "\n" } else { whole.text() };
    print!("{text}");
    Ok(())
}

fn no_job(id: &JobId) -> String {
    format!("there is no job {id}, or no longer: `relay jobs ls` lists those that are kept")
}

const NAME: &str = "relay jobs";
/// How often a job that goes on meanwhile is tried to be cancelled or replayed.
pub(super) const TRIES: usize = 5;
