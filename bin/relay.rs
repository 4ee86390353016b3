//! The command: reads settings, runs what they say, turns an error into an exit code.

use std::{future::Future, process::ExitCode};

use anyhow::Context;
use relay::{
    config::{self, Command, LogFormat, Process},
    output, panics,
    role::{broker, caches, client, dlq, jobs, ps, routes, socket, tools, up, upstream},
    telemetry,
    wire::printable,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    panics::supervise(|| match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // It may say what others wrote.
            output::complain(&format!("relay: {}", printable::text(&format!("{error:#}"))));
            ExitCode::FAILURE
        }
    })
}

fn run() -> anyhow::Result<()> {
    let args: Vec<_> = std::env::args_os().collect();
    let command = config::parse(args.clone())?;
    let warnings = config::warnings(&args, &command);
    let start_log = |process: &Process| {
        telemetry::init_logs(&process.log, process.log_format)?;
        warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        anyhow::Ok(())
    };
    if !is_role(&command) {
        warnings.iter().for_each(|warning| output::complain(&format!("relay: {warning}")));
    }
    match command {
        Command::Client(settings) => {
            start_log(&settings.process)?;
            block_on(client::run(settings))
        }
        Command::Upstream(settings) => {
            start_log(&settings.process)?;
            block_on(upstream::run(settings, args))
        }
        Command::Broker(settings) => {
            start_log(&settings.process)?;
            block_on(broker::run(settings))
        }
        Command::Socket(settings) => {
            start_log(&settings.process)?;
            block_on(socket::run(settings))
        }
        Command::Up(settings) => {
            let filter = std::env::var("RUST_LOG").unwrap_or_else(|_| "warn".into());
            telemetry::init_logs(&filter, LogFormat::Human)?;
            block_on(up::run(settings))
        }
        Command::Ps(settings) => block_on(ps::run(settings)),
        Command::Routes(settings) => block_on(routes::run(settings)),
        Command::Cache(settings) => block_on(caches::run(settings.command)),
        Command::Jobs(settings) => block_on(jobs::run(settings.command)),
        Command::Dlq(settings) => block_on(dlq::run(settings.command)),
        Command::Health(settings) => block_on(tools::health(settings)),
        Command::Demo(settings) => block_on(tools::demo(settings)),
        Command::Decode(settings) => tools::decode(&settings),
    }
}

/// Whether it runs until it is told to stop, with a log.
fn is_role(command: &Command) -> bool {
    matches!(command, Command::Client(_) | Command::Upstream(_) | Command::Broker(_) | Command::Socket(_))
}

/// One thread: an agent's work is waiting, and two threads that hand each other wake-ups were measured
/// 18 % slower.
fn block_on(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start the runtime")?;
    let result = runtime.block_on(work);
    // A name lookup may still run on a helper thread; nobody waits for it.
    runtime.shutdown_background();
    result
}
