//! Questions to every process of the relay: connects, asks once, gathers what comes, prints it. What comes is what any
//! process of the account likes to say: it is bounded in number, size and time, and made fit for a terminal.

use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use tokio::{
    sync::mpsc,
    time::{Instant, timeout, timeout_at},
};

use crate::{
    bus::{Bus, Credentials, Event},
    config::Operator,
    wire::{printable, subjects},
};

/// A connection that asks.
pub struct Asking {
    bus: Bus,
    events: mpsc::Receiver<Event>,
}

/// Connects to NATS to ask as `name`.
///
/// # Errors
/// When NATS can't be reached.
pub async fn connect(operator: &Operator, name: &str) -> anyhow::Result<Asking> {
    let (bus, events) = reach(operator, name).await?;
    Ok(Asking { bus, events })
}

/// Connects to NATS as `name`, and tells what happens to the connection after that.
///
/// # Errors
/// When NATS can't be reached.
pub async fn reach(operator: &Operator, name: &str) -> anyhow::Result<(Bus, mpsc::Receiver<Event>)> {
    let credentials = Credentials {
        inbox: Some(subjects::inbox_of(&operator.realm)),
        ..operator.nats.credentials(name.to_owned())?
    };
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

impl Asking {
    /// What every process answers to `question` on `subject`, until none has for `wait`. What is left out is told on
    /// standard error.
    ///
    /// # Errors
    /// When the question can't be asked, or nothing is known of an answer.
    pub async fn ask(
        mut self,
        subject: String,
        question: Bytes,
        wait: Duration,
    ) -> anyhow::Result<Vec<Bytes>> {
        let asked = ask(&self.bus, Some(&mut self.events), subject, question, wait).await?;
        if let Some(left_out) = asked.left_out {
            eprintln!("relay: {left_out}");
        }
        Ok(asked.answers)
    }
}

/// What was answered.
pub struct Answers {
    /// The answers, as they came.
    pub answers: Vec<Bytes>,
    /// Why there may be more, if there may.
    pub left_out: Option<String>,
}

/// What every process answers to `question` on `subject`, until none has for `wait`; none when NATS says that nobody
/// hears it. Of `events`, what tells that it was not heard.
///
/// # Errors
/// When the question can't be asked, or nothing is known of an answer.
pub async fn ask(
    bus: &Bus,
    mut events: Option<&mut mpsc::Receiver<Event>>,
    subject: String,
    question: Bytes,
    wait: Duration,
) -> anyhow::Result<Answers> {
    let inbox = bus.new_inbox();
    let mut messages = bus.subscribe(inbox.clone()).await?;
    bus.ask(subject.clone(), inbox.clone(), question)?;
    let latest = Instant::now() + LONGEST.max(wait);
    let mut all = Answers { answers: Vec::new(), left_out: None };
    let (mut bytes, mut others) = (0, 0);
    loop {
        let until = (Instant::now() + wait).min(latest);
        let message = tokio::select! {
            biased;
            Some(event) = next(&mut events) => {
                check(event, &subject, &inbox)?;
                continue;
            }
            message = timeout_at(until, messages.next()) => message,
        };
        let answer = match message {
            Ok(Some(answer)) if answer.nobody => return Ok(all),
            Ok(Some(answer)) => answer.payload,
            Ok(None) => {
                anyhow::bail!("the connection to NATS ended before '{subject}' was answered: try again")
            }
            Err(_) => break,
        };
        if answer.len() > LARGEST_ANSWER {
            others += 1;
            continue;
        }
        bytes += answer.len();
        all.answers.push(answer);
        if all.answers.len() >= MOST_ANSWERS || bytes >= MOST_BYTES {
            let answers = all.answers.len();
            all.left_out = Some(format!("these are the first {answers} answers, there may be more"));
            return Ok(all);
        }
    }
    if Instant::now() >= latest {
        all.left_out = Some(format!("after {} s, more answers still came", LONGEST.max(wait).as_secs()));
    } else if others > 0 {
        all.left_out = Some(format!("{others} answers of over {LARGEST_ANSWER} bytes are left out"));
    } else if all.answers.is_empty() {
        let wait = humantime::format_duration(wait);
        anyhow::bail!(
            "'{subject}' is heard, but nothing was answered within {wait}: it is not known who is there; wait longer \
             (--timeout), and see that relay's processes may answer this user"
        );
    }
    Ok(all)
}

async fn next(events: &mut Option<&mut mpsc::Receiver<Event>>) -> Option<Event> {
    match events {
        Some(events) => events.recv().await,
        None => None,
    }
}

/// Whether the question is still being asked.
fn check(event: Event, subject: &str, inbox: &str) -> anyhow::Result<()> {
    let who = "allow it to this user, or be another one";
    match event {
        Event::PublishDenied(denied) if denied == subject => {
            anyhow::bail!("NATS does not let this user publish on '{subject}': {who}")
        }
        Event::SubscribeDenied(denied) if inbox.starts_with(denied.trim_end_matches(['*', '>'])) => {
            anyhow::bail!("NATS does not let this user subscribe to '{denied}', where answers come: {who}")
        }
        Event::Disconnected => {
            anyhow::bail!("the connection to NATS broke before '{subject}' was answered: try again")
        }
        _ => Ok(()),
    }
}

/// Prints what is known, as one JSON document or as `table` writes it.
///
/// # Errors
/// When it can't be JSON.
pub fn print<R: Serialize>(rows: &[R], json: bool, table: fn(&[R]) -> String) -> anyhow::Result<()> {
    let text = if json { document(&rows)? } else { table(rows) };
    print!("{text}");
    Ok(())
}

/// A JSON document that a terminal may be shown.
///
/// # Errors
/// When it can't be JSON.
pub fn document(value: &impl Serialize) -> anyhow::Result<String> {
    Ok(printable::json(serde_json::to_string_pretty(value)?) + "\n")
}

/// Lines in columns, the first line their names. Every cell is one that a terminal may be shown, and clipped.
pub fn table<const N: usize>(lines: &[[String; N]]) -> String {
    let clip = |(column, cell): (usize, &String)| {
        let most = if column + 1 == N { LAST_CELL } else { CELL };
        printable::clipped(cell, most)
    };
    let lines: Vec<Vec<String>> =
        lines.iter().map(|line| line.iter().enumerate().map(clip).collect()).collect();
    let width = |column: usize| lines.iter().map(|line| printable::width(&line[column])).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let start = text.len();
        for (cell, &width) in line.iter().zip(&widths) {
            text.push_str(cell);
            text.extend(std::iter::repeat_n(' ', width + 2 - printable::width(cell)));
        }
        let end = text[start..].trim_end().len();
        text.truncate(start + end);
        text.push('\n');
    }
    text
}

const CONNECT: Duration = Duration::from_secs(5);
/// How long answers are gathered at most, however many still come.
const LONGEST: Duration = Duration::from_secs(10);
/// Answers that are gathered at most, and bytes of them, and of one.
const MOST_ANSWERS: usize = 10_000;
const MOST_BYTES: usize = 32 * 1024 * 1024;
const LARGEST_ANSWER: usize = 1024 * 1024;
/// Columns of a cell at most, and of the last one of a line.
const CELL: usize = 120;
const LAST_CELL: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_as_wide_as_its_cells_are_shown_however_long_they_are() {
        let line = |cells: [&str; 3]| cells.map(String::from);
        let text = table(&[line(["A", "B", "C"]), line(["世界", "x", ""]), line(["é", "\x1b[2J", "end"])]);
        assert_eq!(text, "A     B          C\n世界  x\né     \\u{1b}[2J  end\n");
        let long = "x".repeat(70_000);
        let text = table(&[line(["A", "B", "C"]), line([&long, &long, &long])]);
        assert!(text.lines().all(|line| line.len() < 2 * CELL + LAST_CELL + 20), "{}", text.len());
    }
}
