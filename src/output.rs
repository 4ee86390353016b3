//! Standard error and standard output of a process that serves. A task that has something to say hands it to a thread that
//! writes, by a queue with a bound: a reader that has gone or does not read, or a full disk, costs lines, which are counted,
//! and never a request (`docs/decisions/18`).
//!
//! A command that ends by itself writes as usual: its reader may make it wait.

use std::{
    fs::File,
    io::{self, Write},
    mem,
    os::fd::{AsFd, BorrowedFd},
    sync::{
        Condvar, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use crate::sync::Mutex;

/// Lets log lines be written by a thread of their own from now on.
///
/// # Errors
/// When the system has no descriptor or no thread for it.
pub fn start_log() -> io::Result<()> {
    LOG.start(io::stderr().as_fd(), tell_of_lost_lines)
}

/// Where log lines go. Each call of `write` takes a whole line or several, never waits, and never fails.
pub fn log() -> impl Write {
    Log
}

/// Log lines that were lost so far: the queue was full, or standard error did not take them.
pub fn lost_log_lines() -> u64 {
    LOG.lost.load(Ordering::Relaxed)
}

/// Says something on standard error that is no line of the log. A process with a log does not wait for its reader.
pub fn complain(text: &str) {
    if LOG.started.load(Ordering::Relaxed) {
        LOG.push(format!("{text}\n").as_bytes());
    } else {
        // No one is left to tell that it can't be written.
        writeln!(io::stderr(), "{text}").ok();
    }
}

/// Says something on standard output, for a process that serves: it does not wait for its reader, which may be gone.
pub fn announce(text: &str) {
    if !OUT.started.load(Ordering::Relaxed) && OUT.start(io::stdout().as_fd(), |_| ()).is_err() {
        return;
    }
    OUT.push(format!("{text}\n").as_bytes());
}

/// Waits until all that was said is written, for [`LAST_LINES`] at most.
pub fn flush() {
    for output in [&LOG, &OUT] {
        output.flush(LAST_LINES);
    }
}

/// How long a process that ends waits for its last lines to be written.
pub const LAST_LINES: Duration = Duration::from_secs(1);

/// Bytes that wait to be written, at most: some 5,000 lines.
const LIMIT: usize = 1024 * 1024;
/// How long lines gather after some were written, so that a busy process wakes its writer 200 times a second and not for
/// each line. The first line after a pause is written at once.
const GATHER: Duration = Duration::from_millis(5);
/// How long a writer waits before it asks again a descriptor that others have made non-blocking.
const NOT_YET: Duration = Duration::from_millis(20);
/// Room that is kept between two bursts.
const ROOM: usize = 64 * 1024;

static LOG: Output = Output::new();
static OUT: Output = Output::new();

struct Output {
    started: AtomicBool,
    queue: Mutex<Queue>,
    /// There is something to write, or it is urgent.
    news: Condvar,
    /// All is written.
    rest: Condvar,
    lost: AtomicU64,
}

struct Queue {
    bytes: Vec<u8>,
    writer: Writer,
    /// The process waits for the last lines.
    is_urgent: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Writer {
    /// Waits to be told of a line.
    Waiting,
    /// Will look by itself, or has been told.
    Awake,
    /// Writes what it took.
    Writing,
}

impl Output {
    const fn new() -> Self {
        Output {
            started: AtomicBool::new(false),
            queue: Mutex::new(Queue { bytes: Vec::new(), writer: Writer::Awake, is_urgent: false }),
            news: Condvar::new(),
            rest: Condvar::new(),
            lost: AtomicU64::new(0),
        }
    }

    /// `std`'s own handle has a lock, which a writer that is stuck would keep from all others: a copy has none.
    fn start(&'static self, to: BorrowedFd<'_>, tell: fn(u64)) -> io::Result<()> {
        let to = File::from(to.try_clone_to_owned()?);
        thread::Builder::new().name("output".into()).spawn(move || self.run(to, tell))?;
        self.started.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn push(&self, lines: &[u8]) {
        let mut queue = self.queue.lock();
        if queue.bytes.len() + lines.len() > LIMIT {
            drop(queue);
            self.lose(lines);
            return;
        }
        queue.bytes.extend_from_slice(lines);
        if queue.writer == Writer::Waiting {
            queue.writer = Writer::Awake;
            drop(queue);
            self.news.notify_one();
        }
    }

    fn lose(&self, lines: &[u8]) {
        let count = memchr::memchr_iter(b'\n', lines).count();
        self.lost.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// Writes what is queued, for ever. `tell` is told how many lines were lost, once a line can be written again.
    fn run(&self, mut to: impl Write, tell: fn(u64)) {
        let (mut batch, mut is_cut, mut told) = (Vec::new(), false, 0);
        loop {
            self.take(&mut batch);
            let rest = write(&mut to, &batch, &mut is_cut);
            self.lose(&batch[rest..]);
            let lost = self.lost.load(Ordering::Relaxed);
            if rest == batch.len() && lost > told {
                tell(lost - told);
                told = lost;
            }
            batch.clear();
            batch.shrink_to(ROOM);
            self.gather();
        }
    }

    /// Waits for lines and takes them.
    fn take(&self, batch: &mut Vec<u8>) {
        let mut queue = self.queue.lock();
        while queue.bytes.is_empty() {
            queue.writer = Writer::Waiting;
            queue = self.news.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        queue.writer = Writer::Writing;
        mem::swap(&mut queue.bytes, batch);
    }

    /// Lets lines gather after a batch was written.
    fn gather(&self) {
        let mut queue = self.queue.lock();
        queue.writer = Writer::Awake;
        if queue.bytes.is_empty() {
            self.rest.notify_all();
        }
        let waited = self.news.wait_timeout_while(queue, GATHER, |queue| !queue.is_urgent);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    fn flush(&self, longest: Duration) {
        if !self.started.load(Ordering::Relaxed) {
            return;
        }
        let mut queue = self.queue.lock();
        queue.is_urgent = true;
        self.news.notify_one();
        let is_busy = |queue: &mut Queue| !queue.bytes.is_empty() || queue.writer == Writer::Writing;
        drop(self.rest.wait_timeout_while(queue, longest, is_busy).unwrap_or_else(PoisonError::into_inner));
    }
}

/// Writes lines, and returns how many bytes were written: all, or those before an error. `is_cut` is whether the last
/// line that was written ended before its end; the next begins on a line of its own.
fn write(to: &mut impl Write, lines: &[u8], is_cut: &mut bool) -> usize {
    let mut written = 0;
    while written < lines.len() {
        let next = if *is_cut { b"\n" } else { &lines[written..] };
        match to.write(next) {
            Ok(0) => break,
            Ok(_) if *is_cut => *is_cut = false,
            Ok(more) => written += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(NOT_YET),
            Err(_) => break,
        }
    }
    *is_cut |= written > 0 && lines[written - 1] != b'\n';
    written
}

fn tell_of_lost_lines(lines: u64) {
    tracing::warn!(lines, "log lines were lost: standard error did not take them");
}

struct Log;

impl Write for Log {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        LOG.push(lines);
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, mpsc};

    use super::*;

    /// Takes each batch, and answers what the test says.
    struct Slow {
        written: mpsc::Sender<Vec<u8>>,
        answers: mpsc::Receiver<io::Result<usize>>,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.written.send(bytes.to_vec()).ok();
            match self.answers.recv() {
                Ok(answer) => answer.map(|most| bytes.len().min(most)),
                Err(_) => Ok(bytes.len()),
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_that_finds_no_room_is_lost_and_counted_and_the_writer_is_not_waited_for() {
        let output = Arc::new(Output::new());
        let (written, batches) = mpsc::channel();
        let (go, answers) = mpsc::channel();
        let writer = Arc::clone(&output);
        thread::spawn(move || writer.run(Slow { written, answers }, |_| ()));
        output.push(b"first\n");
        assert_eq!(batches.recv().unwrap(), b"first\n");
        let line = [vec![b'x'; 999], vec![b'\n']].concat();
        for _ in 0..2_000 {
            output.push(&line);
        }
        let kept = LIMIT / line.len();
        assert_eq!(output.lost.load(Ordering::Relaxed), 2_000 - kept as u64);
        go.send(Ok(usize::MAX)).unwrap();
        assert_eq!(batches.recv().unwrap().len(), kept * line.len());
        // It is not written yet, and may never be.
        output.started.store(true, Ordering::Relaxed);
        output.flush(Duration::ZERO);
        drop(go);
        output.flush(Duration::from_secs(60));
        assert!(output.queue.lock().bytes.is_empty());
    }

    #[test]
    fn a_line_that_broke_off_is_lost_and_the_next_begins_on_its_own() {
        let broken = || Err(io::Error::from(io::ErrorKind::StorageFull));
        let (written, batches) = mpsc::channel();
        let (go, answers) = mpsc::channel();
        let mut slow = Slow { written, answers };
        let mut is_cut = false;
        for answer in [Err(io::ErrorKind::Interrupted.into()), Ok(6), broken()] {
            go.send(answer).unwrap();
        }
        assert_eq!(write(&mut slow, b"one\ntwo\nthree\n", &mut is_cut), 6);
        assert!(is_cut);
        go.send(broken()).unwrap();
        assert_eq!(write(&mut slow, b"four\n", &mut is_cut), 0);
        drop(go);
        assert_eq!(write(&mut slow, b"five\n", &mut is_cut), 5);
        let batches: Vec<_> = batches.try_iter().skip(3).collect();
        assert_eq!(batches, [b"\n".to_vec(), b"\n".to_vec(), b"five\n".to_vec()]);
        assert!(!is_cut);
    }
}
