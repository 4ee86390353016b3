//! What a panic does to a process: it ends, whichever task panicked (`docs/decisions/16`).
//!
//! A panic is a defect, and the task that it stopped may be one that the process cannot do without. So the process is not
//! ready from that moment on, and stops as by SIGTERM: what is in flight may finish for [`GRACE`], NATS hears goodbye, and
//! the exit code is [`EXIT_CODE`]. What does not get that far ends by [`LIMIT`]. Where a lock was held, what it guards is
//! half changed: the process ends at once when the lock is taken again ([`crate::sync`]).

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    panic::{self, AssertUnwindSafe, PanicHookInfo},
    process::{self, ExitCode},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use tokio::sync::Notify;

use crate::output;

/// The exit code of a process in which code panicked: EX_SOFTWARE of sysexits.h.
pub const EXIT_CODE: u8 = 70;
/// How long what is in flight may take to finish after a panic, at most; `--grace` may be shorter.
pub const GRACE: Duration = Duration::from_secs(5);
/// How long after a panic the process is there at most, whatever it still does.
pub const LIMIT: Duration = Duration::from_secs(10);

static SUPERVISED: AtomicBool = AtomicBool::new(false);
static BEGUN: AtomicBool = AtomicBool::new(false);
static NEWS: Notify = Notify::const_new();

/// Runs a whole process: its exit code is that of `run`, or [`EXIT_CODE`] when code has panicked, in whichever thread.
pub fn supervise(run: impl FnOnce() -> ExitCode) -> ExitCode {
    SUPERVISED.store(true, Ordering::Relaxed);
    panic::set_hook(Box::new(begin));
    // One in the main task has been told already.
    let code = panic::catch_unwind(AssertUnwindSafe(run)).unwrap_or(ExitCode::FAILURE);
    output::flush();
    if begun() { ExitCode::from(EXIT_CODE) } else { code }
}

/// Whether code has panicked: the process is about to end.
pub fn begun() -> bool {
    BEGUN.load(Ordering::Relaxed)
}

/// Is done when code has panicked.
pub async fn first() {
    // Before the look: what happens in between is told to it.
    let news = NEWS.notified();
    if !begun() {
        news.await;
    }
}

/// How long what is in flight may take to finish: `usual`, or less after a panic.
pub fn grace(usual: Duration) -> Duration {
    if begun() { usual.min(GRACE) } else { usual }
}

/// Ends the process at once. It is for what cannot go on after a panic, for this reason; outside of a supervised process,
/// in a test, it panics.
#[cold]
pub fn end(why: &str) -> ! {
    if SUPERVISED.load(Ordering::Relaxed) {
        say(&format!("ending at once: {why}"));
        output::flush();
        process::exit(EXIT_CODE.into());
    }
    panic!("code has panicked before this, and {why}");
}

/// Notes a panic and says it, before anything is unwound.
fn begin(info: &PanicHookInfo<'_>) {
    if is_closed_output(info) {
        return;
    }
    let first = !BEGUN.swap(true, Ordering::Relaxed);
    let (thread, trace) = (thread::current(), Backtrace::capture());
    let mut text = format!("thread '{}' {}", thread.name().unwrap_or("unnamed"), one_line(&info.to_string()));
    if trace.status() == BacktraceStatus::Captured {
        text.push_str(&format!("\n{trace}"));
    }
    say(&text);
    if first {
        say("this is a defect in relay, please report it; the process takes nothing new and stops");
        let ending = thread::Builder::new().name("end".into()).spawn(|| {
            thread::sleep(LIMIT);
            end("it did not stop in time");
        });
        if ending.is_err() {
            end("it cannot be made sure that it stops in time");
        }
        NEWS.notify_waiters();
    }
}

/// Whether a command's reader has closed its output, as `head` does, which `println!` takes for a panic: no defect, and
/// there is nobody to tell.
fn is_closed_output(info: &PanicHookInfo<'_>) -> bool {
    info.payload().downcast_ref::<String>().is_some_and(|text| text.starts_with("failed printing to std"))
}

fn one_line(text: &str) -> String {
    text.lines().map(str::trim_end).collect::<Vec<_>>().join(" ")
}

/// To the log; where there is none, or it leaves out errors, to standard error all the same.
fn say(text: &str) {
    if tracing::enabled!(tracing::Level::ERROR) {
        tracing::error!("{text}");
    } else {
        output::complain(&format!("relay: {text}"));
    }
}
