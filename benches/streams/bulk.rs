//! Large bodies, down or up, on a number of connections: bytes a second.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::http1::{Connection, length};

/// What is moved.
#[derive(Args)]
pub struct Load {
    #[arg(long)]
    port: u16,
    #[arg(long, default_value_t = 1)]
    connections: usize,
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    #[arg(long, value_enum)]
    direction: Direction,
}

#[derive(Clone, Copy, ValueEnum)]
enum Direction {
    Down,
    Up,
}

/// Moves bodies for the given time. What is on its way at the beginning and at the end cancels out.
pub fn run(load: &Load) -> Result<Value> {
    let moved = Arc::new(AtomicU64::new(0));
    let (failed, failure) = mpsc::channel();
    for _ in 0..load.connections {
        let (moved, failed, port, direction) =
            (Arc::clone(&moved), failed.clone(), load.port, load.direction);
        thread::spawn(move || failed.send(repeat(port, direction, &moved)));
    }
    let wait = |time| match failure.recv_timeout(time) {
        Ok(ended) => ended,
        Err(_) => Ok(()),
    };
    wait(WARM_UP)?;
    let (begin, before) = (Instant::now(), moved.load(Ordering::Relaxed));
    wait(Duration::from_secs_f64(load.seconds))?;
    let (took, after) = (begin.elapsed(), moved.load(Ordering::Relaxed));
    ensure!(after > before, "nothing moved");
    Ok(json!({ "bytes_per_s": (after - before) as f64 / took.as_secs_f64(), "moved": after }))
}

fn repeat(port: u16, direction: Direction, moved: &AtomicU64) -> Result<()> {
    let mut connection = Connection::to(port)?;
    let count = |bytes| {
        moved.fetch_add(bytes, Ordering::Relaxed);
    };
    loop {
        match direction {
            Direction::Down => {
                connection.ask(&format!("/{BODY}"))?;
                let announced = length(&connection.answer()?)?;
                ensure!(announced == BODY, "a body of {announced} bytes");
                connection.read_body(announced, count)?;
            }
            Direction::Up => {
                let head = format!("POST / HTTP/1.1\r\nhost: bench\r\ncontent-length: {BODY}\r\n\r\n");
                connection.say(head.as_bytes())?;
                connection.write_body(BODY, count)?;
                let length = length(&connection.answer()?)?;
                connection.read_body(length, |_| ())?;
            }
        }
    }
}

/// Bytes of one body.
const BODY: u64 = 1 << 30;
/// Run before measuring, so that windows have grown and buffers are full.
const WARM_UP: Duration = Duration::from_millis(300);
