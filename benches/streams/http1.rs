//! As much of HTTP/1.1 as a load generator and its origin need: heads, and bodies whose length is announced.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};

/// One side of a connection.
pub struct Connection {
    stream: TcpStream,
    /// What was read beyond the last head.
    spare: Vec<u8>,
    buffer: Vec<u8>,
}

impl Connection {
    /// A new connection to a port of this machine; a peer that is silent for [`PATIENCE`] fails it.
    pub fn to(port: u16) -> Result<Self> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).context("connecting")?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Connection::new(stream)
    }

    /// One over `stream`.
    pub fn new(stream: TcpStream) -> Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Connection { stream, spare: Vec::new(), buffer: vec![b'x'; CHUNK] })
    }

    /// The next head, `None` at the end.
    pub fn head(&mut self) -> Result<Option<String>> {
        loop {
            if let Some(at) = self.spare.windows(4).position(|four| four == b"\r\n\r\n") {
                let rest = self.spare.split_off(at + 4);
                let head = std::mem::replace(&mut self.spare, rest);
                return Ok(Some(String::from_utf8(head).context("a head that is no text")?));
            }
            if self.more()? == 0 {
                return Ok(None);
            }
        }
    }

    /// Writes all of `bytes`.
    pub fn say(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(bytes)?)
    }

    /// Asks for `path`.
    pub fn ask(&mut self, path: &str) -> Result<()> {
        self.say(format!("GET {path} HTTP/1.1\r\nhost: bench\r\n\r\n").as_bytes())
    }

    /// The head of a response with status 200.
    pub fn answer(&mut self) -> Result<String> {
        let head = self.head()?.context("closed in place of an answer")?;
        ensure!(head.starts_with("HTTP/1.1 200 "), "answered {}", head.lines().next().unwrap_or_default());
        Ok(head)
    }

    /// Reads a body of `length` bytes, told of each part.
    pub fn read_body(&mut self, length: u64, mut read: impl FnMut(u64)) -> Result<()> {
        let mut left = length;
        let here = left.min(self.spare.len() as u64);
        self.spare.drain(..usize::try_from(here)?);
        left -= here;
        read(here);
        while left > 0 {
            let most = self.buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let bytes = self.stream.read(&mut self.buffer[..most])? as u64;
            if bytes == 0 {
                bail!("a body broke off");
            }
            left -= bytes;
            read(bytes);
        }
        Ok(())
    }

    /// Writes a body of `length` bytes, told of each part.
    pub fn write_body(&mut self, length: u64, mut written: impl FnMut(u64)) -> Result<()> {
        let mut left = length;
        while left > 0 {
            let part = self.buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            self.stream.write_all(&self.buffer[..part])?;
            left -= part as u64;
            written(part as u64);
        }
        Ok(())
    }

    /// Waits for any bytes of a body or of another protocol and takes them; none at the end.
    pub fn some(&mut self) -> Result<usize> {
        if self.spare.is_empty() {
            self.more()?;
        }
        Ok(std::mem::take(&mut self.spare).len())
    }

    /// Gives its large buffer back: from here on little is said.
    pub fn shrink(&mut self) {
        self.buffer = vec![0; 1024];
    }

    fn more(&mut self) -> Result<usize> {
        loop {
            match self.stream.read(&mut self.buffer) {
                Ok(bytes) => {
                    self.spare.extend_from_slice(&self.buffer[..bytes]);
                    return Ok(bytes);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// The length that a head announces.
pub fn length(head: &str) -> Result<u64> {
    let mut fields = head.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = fields
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .context("a head without Content-Length")?;
    value.trim().parse().context("a Content-Length that is no number")
}

/// Bytes read or written at once at most.
const CHUNK: usize = 256 * 1024;
const PATIENCE: Duration = Duration::from_secs(10);
