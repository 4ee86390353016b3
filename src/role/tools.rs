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
    output,
    wire::{headers::Credentials, printable, show},
};

/// Prints the message on standard input as text, a batch of them a line each. What is not a relay message is passed through as text, so that
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
        Some(text) => writeln!(out, "{}", printable::json(text))?,
        // Another's message: who reads this looks at a terminal, though not at ours.
        None => out.write_all(printable::bytes(&payload).as_bytes())?,
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
    // An admin address is on this machine or beside it, whatever proxy the environment names for the way out.
    let client = reqwest::Client::builder().no_proxy().timeout(HEALTH).build()?;
    let response = client.get(format!("{base}/readyz")).send().await;
    let response =
        response.with_context(|| format!("cannot ask {base}: is that the process's --admin address?"))?;
    let ready = response.status().is_success();
    let text = printable::text(&short(response).await).into_owned();
    if !ready {
        bail!("{}", text.trim());
    }
    println!("{}", text.trim());
    Ok(())
}

/// The beginning of a page.
async fn short(mut page: reqwest::Response) -> String {
    let mut bytes = Vec::new();
    while let Ok(Some(part)) = page.chunk().await
        && bytes.len() < LONGEST_PAGE
    {
        bytes.extend_from_slice(&part);
    }
    bytes.truncate(LONGEST_PAGE);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Runs the demo origin until it is told to stop.
///
/// # Errors
/// When the address can't be had.
pub async fn demo(settings: Demo) -> anyhow::Result<()> {
    let listener = listen::bind(settings.listen.0)?;
    output::announce(&format!("demo origin on http://{}", listener.local_addr()?));
    let mut signals = Signals::listen()?;
    demo::serve(listener, async move { signals.stop().await }).await;
    Ok(())
}

const HEALTH: Duration = Duration::from_secs(3);
/// Bytes of a page that are shown.
const LONGEST_PAGE: usize = 64 * 1024;
