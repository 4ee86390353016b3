//! Small commands: `decode`, `health`, `demo`.

use std::{
    io::{IsTerminal, Read, Write},
    time::Duration,
};

use anyhow::{Context, bail};
use bytes::Bytes;

use super::signals::Signals;
use crate::{
    config::{Decode, Demo, Health},
    front::{demo, listen},
    wire::{headers::Credentials, show},
};

/// Prints the message on standard input as text, a batch of them a line each. What is not a relay message is passed through, so that
/// `nats sub '>'` can be translated too.
///
/// # Errors
/// When standard input can't be read.
pub fn decode(settings: &Decode) -> anyhow::Result<()> {
    let mut input = std::io::stdin().lock();
    if input.is_terminal() {
        bail!(
            "nothing to decode: pipe one message in, or use `nats sub 'relay.>' --translate 'relay decode'`"
        );
    }
    let mut payload = Vec::new();
    input.read_to_end(&mut payload).context("cannot read standard input")?;
    let mut out = std::io::stdout().lock();
    let payload = Bytes::from(payload);
    let hidden = (!settings.full).then(|| Credentials::with(&settings.credential_header));
    match show::to_lines(&payload, hidden.as_ref()) {
        Some(text) => writeln!(out, "{text}")?,
        None => out.write_all(&payload)?,
    }
    Ok(())
}

/// Asks an admin listener whether its process is ready.
///
/// # Errors
/// When it is not, or can't be asked.
pub async fn health(settings: Health) -> anyhow::Result<()> {
    let base = settings.url.trim_end_matches('/');
    let base = if base.contains("://") { base.to_owned() } else { format!("http://{base}") };
    let client = reqwest::Client::builder().timeout(HEALTH).build()?;
    let response = client.get(format!("{base}/readyz")).send().await;
    let response =
        response.with_context(|| format!("cannot ask {base}: is that the process's --admin address?"))?;
    let ready = response.status().is_success();
    let text = response.text().await.unwrap_or_default();
    if !ready {
        bail!("{}", text.trim());
    }
    println!("{}", text.trim());
    Ok(())
}

/// Runs the demo origin until it is told to stop.
///
/// # Errors
/// When the address can't be had.
pub async fn demo(settings: Demo) -> anyhow::Result<()> {
    let listener = listen::bind(settings.listen.0)?;
    println!("demo origin on http://{}", listener.local_addr()?);
    let mut signals = Signals::listen()?;
    demo::serve(listener, async move { signals.stop().await }).await;
    Ok(())
}

const HEALTH: Duration = Duration::from_secs(3);
