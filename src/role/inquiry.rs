//! Questions to every process of the relay: connects, asks once, gathers what comes, prints it.

use std::{fmt::Write, time::Duration};

use bytes::Bytes;
use serde::Serialize;
use tokio::{sync::mpsc, time::timeout};

use crate::{
    bus::{Bus, Event},
    config::Nats,
};

/// Connects to NATS to ask as `name`.
///
/// # Errors
/// When NATS can't be reached.
pub async fn connect(nats: &Nats, name: &str) -> anyhow::Result<Bus> {
    reach(nats, name).await.map(|(bus, _)| bus)
}

/// Connects to NATS as `name`, and tells what happens to the connection after that.
///
/// # Errors
/// When NATS can't be reached.
pub async fn reach(nats: &Nats, name: &str) -> anyhow::Result<(Bus, mpsc::Receiver<Event>)> {
    let credentials = nats.credentials(name.to_owned())?;
    let (bus, mut events) = Bus::connect(&credentials).await?;
    let connected = async {
        while let Some(event) = events.recv().await {
            match event {
                Event::Connected => return Ok(()),
                Event::LoginRefused(why) | Event::Trouble(why) => {
                    anyhow::bail!("cannot connect to NATS at {}: {why}", credentials.servers)
                }
                Event::Unreachable(what) => {
                    let why = bus.why_unreachable().await.unwrap_or(what);
                    anyhow::bail!("cannot connect to NATS at {}: {why}", credentials.servers)
                }
                _ => {}
            }
        }
        Ok(())
    };
    let late =
        || anyhow::anyhow!("cannot reach NATS at {}: is it running? set --server", credentials.servers);
    timeout(CONNECT, connected).await.map_err(|_| late())??;
    Ok((bus, events))
}

/// What everybody answers to `question` on `subject`, until nobody has for `wait`.
///
/// # Errors
/// When the question can't be sent.
pub async fn ask(bus: &Bus, subject: String, question: Bytes, wait: Duration) -> anyhow::Result<Vec<Bytes>> {
    let inbox = bus.new_inbox();
    let mut answers = bus.subscribe(inbox.clone()).await?;
    bus.ask(subject, inbox, question)?;
    let mut all = Vec::new();
    while let Ok(Some(answer)) = timeout(wait, answers.next()).await {
        if answer.nobody {
            break;
        }
        all.push(answer.payload);
    }
    Ok(all)
}

/// Prints what is known, as one JSON document or as `table` writes it.
///
/// # Errors
/// When it can't be JSON.
pub fn print<R: Serialize>(rows: &[R], json: bool, table: fn(&[R]) -> String) -> anyhow::Result<()> {
    let text = if json { serde_json::to_string_pretty(rows)? + "\n" } else { table(rows) };
    print!("{text}");
    Ok(())
}

/// Lines in columns, the first line their names.
pub fn table<const N: usize>(lines: &[[String; N]]) -> String {
    let width = |column: usize| lines.iter().map(|line| line[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    let mut text = String::new();
    for line in lines {
        let cells = line.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        // Writing to a String can't fail.
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

const CONNECT: Duration = Duration::from_secs(5);
