//! `relay jobs`: which jobs there are, what became of one, and the end of those that somebody cancels.

use self::{
    desk::{Desk, each, in_the_way},
    view::{Row, Whole},
};
use crate::{
    config::{JobsCommand, JobsLs},
    role::inquiry,
    wire::{StoreVerb, job::JobId},
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
            let desk = Desk::open(&settings.operator, NAME).await?;
            let kept = desk.job(&settings.id).await.map_err(in_the_way)?;
            let kept = kept.ok_or_else(|| anyhow::anyhow!(no_job(&settings.id)))?;
            print_one(&Whole::of(&kept), settings.json)
        }
        JobsCommand::Cancel(settings) => {
            let desk = Desk::open(&settings.operator, NAME).await?;
            each(&desk, &settings.ids, StoreVerb::Cancel, "cancelled").await
        }
    }
}

async fn ls(settings: JobsLs) -> anyhow::Result<()> {
    let desk = Desk::open(&settings.operator, NAME).await?;
    let mut kept = desk.jobs().await.map_err(in_the_way)?;
    let none = match &settings.state {
        None => {
            "no jobs are kept: send a request with `Prefer: respond-async`, or a forward chain".to_owned()
        }
        Some(state) => format!("no job is {state}, of {} that are kept", kept.len()),
    };
    kept.retain(|kept| settings.state.as_ref().is_none_or(|state| kept.state.as_str() == state));
    let rows: Vec<Row> = kept.iter().map(Row::of).collect();
    print_list(&rows, settings.json, &none)
}

/// Prints a list.
///
/// # Errors
/// When it can't be JSON.
pub(super) fn print_list(rows: &[Row], json: bool, none: &str) -> anyhow::Result<()> {
    let text = if json { inquiry::document(&rows)? } else { view::table(rows, none) };
    print!("{text}");
    Ok(())
}

/// Prints one job.
///
/// # Errors
/// When it can't be JSON.
pub(super) fn print_one(whole: &Whole, json: bool) -> anyhow::Result<()> {
    let text = if json { inquiry::document(whole)? } else { whole.text() };
    print!("{text}");
    Ok(())
}

fn no_job(id: &JobId) -> String {
    format!("there is no job {id}, or no longer: `relay jobs ls` lists those that are kept")
}

const NAME: &str = "relay jobs";
