//! `relay dlq`: the jobs that finally failed, or whose end could not be told: shows them, lets them go on from where
//! they failed, forgets them.

use std::io::{IsTerminal, Write};

use super::jobs::{
    desk::{Desk, each, in_the_way},
    print_list, print_one,
    view::{self, Bodies, Row, Whole},
};
use crate::{
    config::{DlqCommand, DlqShow, DlqSome},
    wire::{
        StoreVerb,
        job::{Content, JobId},
        printable,
        store::Part,
    },
};

/// Does what the command says.
///
/// # Errors
/// What is in the way, and what to do about it.
pub async fn run(command: DlqCommand) -> anyhow::Result<()> {
    match command {
        DlqCommand::Ls(settings) => {
            let desk = Desk::open(&settings.operator, NAME).await?;
            let letters = desk.letters().await.map_err(in_the_way)?;
            let rows: Vec<Row> = letters.iter().map(Row::of).collect();
            print_list(&rows, settings.json, NONE)
        }
        DlqCommand::Show(settings) => show(settings).await,
        DlqCommand::Replay(settings) => {
            let (desk, ids) = which(settings).await?;
            each(&desk, &ids, StoreVerb::Replay, "runs again").await
        }
        DlqCommand::Purge(settings) => {
            let (desk, ids) = which(settings).await?;
            each(&desk, &ids, StoreVerb::Purge, "purged").await
        }
    }
}

async fn show(settings: DlqShow) -> anyhow::Result<()> {
    let desk = Desk::open(&settings.operator, NAME).await?;
    let kept = desk.letter(&settings.id).await.map_err(in_the_way)?;
    let kept = kept.ok_or_else(|| anyhow::anyhow!(no_letter(&settings.id)))?;
    let whole = Whole::of(&kept);
    if !settings.body {
        return print_one(&whole, settings.json);
    }
    let response = view::response(&kept.job);
    let id = &settings.id;
    let bodies = Bodies {
        input: body(&desk, id, Part::LetterInput, Some(&kept.job.input)).await?,
        response: body(&desk, id, Part::LetterOutcome, response).await?,
    };
    if settings.json {
        return print_one(&whole.with(&bodies), true);
    }
    print_one(&whole, false)?;
    print_body("input", Some(&kept.job.input), bodies.input.as_deref())?;
    print_body("response", response, bodies.response.as_deref())
}

async fn body(
    desk: &Desk,
    id: &JobId,
    part: Part,
    content: Option<&Content>,
) -> anyhow::Result<Option<bytes::Bytes>> {
    match content {
        Some(content) => desk.body(id, part, content).await.map_err(in_the_way),
        None => Ok(None),
    }
}

/// Prints a body: as it is, or so that it does nothing to the terminal that it is printed on.
fn print_body(name: &str, content: Option<&Content>, body: Option<&[u8]>) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match (content, body) {
        (Some(content), Some(body)) if content.size > 0 => {
            writeln!(out, "\n{name}:")?;
            if out.is_terminal() {
                out.write_all(printable::bytes(body).as_bytes())?;
            } else {
                out.write_all(body)?;
            }
            writeln!(out)?;
        }
        (Some(content), None) if content.size > 0 => writeln!(out, "\n{name}: no longer there")?,
        _ => {}
    }
    Ok(())
}

async fn which(settings: DlqSome) -> anyhow::Result<(Desk, Vec<JobId>)> {
    let DlqSome { ids, all, operator } = settings;
    let desk = Desk::open(&operator, NAME).await?;
    if !all {
        return Ok((desk, ids));
    }
    let letters = desk.letters().await.map_err(in_the_way)?;
    if letters.is_empty() {
        println!("{NONE}");
    }
    Ok((desk, letters.into_iter().map(|letter| letter.job_id).collect()))
}

fn no_letter(id: &JobId) -> String {
    format!("there is no dead letter of the job {id}: `relay dlq ls` lists those there are")
}

const NAME: &str = "relay dlq";
const NONE: &str = "there are no dead letters: no job has finally failed";
