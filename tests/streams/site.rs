//! An origin that streams in every way an origin can, byte by byte: what it does is in the path.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    sync::watch,
};

use crate::support::{Origin, eventually};

/// The origin as the test sees it.
#[derive(Clone, Default)]
pub struct Site(Arc<Inner>);

#[derive(Default)]
struct Inner {
    /// Bytes of request bodies that were read.
    read: AtomicU64,
    uploads: Mutex<Vec<Upload>>,
    asked: Mutex<Vec<String>>,
    gate: watch::Sender<bool>,
}

/// A request's body as the origin saw it end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upload {
    /// To its end, of so many bytes, all of them right.
    Whole(u64),
    /// Cut after so many bytes.
    Cut(u64),
    /// Other bytes than were sent.
    Wrong,
}

struct Head {
    method: String,
    path: String,
    length: Option<u64>,
    chunked: bool,
    upgrade: bool,
    expects: bool,
}

impl Site {
    /// An origin, and what it is seen by.
    pub async fn start() -> (Origin, Site) {
        let site = Site::default();
        let for_origin = site.clone();
        let origin = Origin::tcp(move |stream| {
            let site = for_origin.clone();
            async move {
                // Whoever asked may be gone at any moment.
                site.serve(BufReader::new(stream)).await.ok();
            }
        });
        (origin.await, site)
    }

    /// Lets `/gated` go on.
    pub fn open(&self) {
        self.0.gate.send_replace(true);
    }

    /// Bytes of request bodies so far.
    pub fn read(&self) -> u64 {
        self.0.read.load(Ordering::Relaxed)
    }

    /// The uploads that ended, in order.
    pub fn uploads(&self) -> Vec<Upload> {
        self.0.uploads.lock().unwrap().clone()
    }

    /// The paths that were asked for.
    pub fn asked(&self) -> Vec<String> {
        self.0.asked.lock().unwrap().clone()
    }

    /// Waits until so many requests have come.
    pub async fn is_asked(&self, times: usize) {
        eventually("the origin is asked", || self.asked().len() >= times).await;
    }

    /// Waits until so many bytes of request bodies have come.
    pub async fn reads(&self, bytes: u64) {
        eventually("the origin reads", || self.read() >= bytes).await;
    }

    async fn serve(&self, mut stream: BufReader<TcpStream>) -> io::Result<()> {
        while let Some(head) = head(&mut stream).await? {
            self.0.asked.lock().unwrap().push(format!("{} {}", head.method, head.path));
            if !self.answer(&mut stream, &head).await? {
                break;
            }
        }
        Ok(())
    }

    /// Answers; whether the connection can be used again.
    async fn answer(&self, stream: &mut BufReader<TcpStream>, head: &Head) -> io::Result<bool> {
        let parts: Vec<&str> = head.path.trim_start_matches('/').split('/').collect();
        match parts.as_slice() {
            ["silent"] => gone(stream).await,
            ["endless"] => {
                say(stream, CHUNKED).await?;
                let mut at = 0;
                loop {
                    chunk(stream, at, 16 << 10).await?;
                    at += 16 << 10;
                }
            }
            // Something, and then nothing more.
            ["first", kind] => {
                let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {}\r\n", kind.replace('+', "/"));
                say(stream, &format!("{head}Transfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")).await?;
                gone(stream).await
            }
            // Something, and the rest when the test says so.
            ["gated", kind] => {
                let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {}\r\n", kind.replace('+', "/"));
                say(stream, &format!("{head}Transfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")).await?;
                self.gate(stream).await?;
                say(stream, "4\r\nlast\r\n0\r\n\r\n").await?;
                Ok(true)
            }
            ["size", size] => {
                let size = size.parse().unwrap();
                say(stream, &format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n")).await?;
                if head.method != "HEAD" {
                    sized(stream, 0, size).await?;
                }
                Ok(true)
            }
            ["chunks", size] => {
                say(stream, CHUNKED).await?;
                let (size, mut at): (u64, u64) = (size.parse().unwrap(), 0);
                while at < size {
                    let length = (size - at).min(16 << 10);
                    chunk(stream, at, length).await?;
                    at += length;
                }
                say(stream, "0\r\n\r\n").await?;
                Ok(true)
            }
            ["range", from, size] => {
                let (from, size): (u64, u64) = (from.parse().unwrap(), size.parse().unwrap());
                let range = format!("bytes {from}-{}/{}", from + size - 1, from + size + 1000);
                let length = format!("Content-Length: {size}\r\nContent-Range: {range}\r\n\r\n");
                say(stream, &format!("HTTP/1.1 206 Partial Content\r\n{length}")).await?;
                sized(stream, from, size).await?;
                Ok(true)
            }
            ["status", status] => {
                say(stream, &format!("HTTP/1.1 {status} Status\r\nETag: \"1\"\r\n\r\n")).await?;
                Ok(true)
            }
            ["cut", "length", told, sent] => {
                say(stream, &format!("HTTP/1.1 200 OK\r\nContent-Length: {told}\r\n\r\n")).await?;
                sized(stream, 0, sent.parse().unwrap()).await?;
                Ok(false)
            }
            ["cut", "chunks", sent] => {
                say(stream, CHUNKED).await?;
                let (sent, mut at): (u64, u64) = (sent.parse().unwrap(), 0);
                while at < sent {
                    chunk(stream, at, 1000).await?;
                    at += 1000;
                }
                Ok(false)
            }
            ["upload"] => self.upload(stream, head).await,
            // An answer at once, and all the same every byte is read.
            ["early-upload"] => {
                say(stream, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly").await?;
                let mut at = 0;
                let whole = match head.chunked {
                    true => self.read_chunks(stream, &mut at).await?,
                    false => self.read_sized(stream, head.length.unwrap_or(0), &mut at).await?,
                };
                self.0.uploads.lock().unwrap().push(if whole { Upload::Whole(at) } else { Upload::Wrong });
                Ok(true)
            }
            ["gated-upload"] => {
                self.0.gate.subscribe().wait_for(|open| *open).await.ok();
                self.upload(stream, head).await
            }
            ["unread"] => gone(stream).await,
            // As servers do it that are good to their callers: they read on for a while, and forget.
            ["refuse", status] => {
                say(stream, &refusal(status)).await?;
                stream.shutdown().await?;
                tokio::io::copy(stream, &mut tokio::io::sink()).await?;
                Ok(false)
            }
            // And as others do: what was not read makes a reset of the end.
            ["slam", status] => {
                say(stream, &refusal(status)).await?;
                Ok(false)
            }
            ["ws"] if head.upgrade => {
                say(
                    stream,
                    "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n",
                )
                .await?;
                let mut buffer = vec![0; 64 << 10];
                loop {
                    match stream.read(&mut buffer).await? {
                        0 => return Ok(false),
                        bytes => stream.write_all(&buffer[..bytes]).await?,
                    }
                }
            }
            ["half"] if head.upgrade => {
                say(
                    stream,
                    "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nbye",
                )
                .await?;
                stream.shutdown().await?;
                gone(stream).await
            }
            _ => {
                say(stream, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").await?;
                Ok(true)
            }
        }
    }

    /// Waits for the gate, unless whoever asked goes away.
    async fn gate(&self, stream: &mut BufReader<TcpStream>) -> io::Result<()> {
        let mut gate = self.0.gate.subscribe();
        tokio::select! {
            _ = gate.wait_for(|open| *open) => Ok(()),
            ended = gone(stream) => ended.map(|_| ()).and(Err(io::ErrorKind::ConnectionAborted.into())),
        }
    }

    async fn upload(&self, stream: &mut BufReader<TcpStream>, head: &Head) -> io::Result<bool> {
        if head.expects {
            say(stream, "HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        let mut at = 0;
        let ended = if head.chunked {
            self.read_chunks(stream, &mut at).await
        } else {
            self.read_sized(stream, head.length.unwrap_or(0), &mut at).await
        };
        let upload = match &ended {
            Ok(true) => Upload::Whole(at),
            Ok(false) => Upload::Wrong,
            Err(_) => Upload::Cut(at),
        };
        self.0.uploads.lock().unwrap().push(upload);
        ended?;
        let text = at.to_string();
        say(stream, &format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len())).await?;
        Ok(true)
    }

    async fn read_chunks(&self, stream: &mut BufReader<TcpStream>, at: &mut u64) -> io::Result<bool> {
        loop {
            let line = line(stream).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
            let size = u64::from_str_radix(&line, 16).map_err(io::Error::other)?;
            let right = self.read_sized(stream, *at + size, at).await?;
            // The line's end; after the last chunk, that of no trailers.
            line_end(stream).await?;
            if size == 0 || !right {
                return Ok(right);
            }
        }
    }

    async fn read_sized(
        &self,
        stream: &mut BufReader<TcpStream>,
        end: u64,
        at: &mut u64,
    ) -> io::Result<bool> {
        let mut buffer = vec![0; 64 << 10];
        while *at < end {
            let room = buffer.len().min(usize::try_from(end - *at).unwrap_or(usize::MAX));
            let bytes = stream.read(&mut buffer[..room]).await?;
            if bytes == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if !is_right(*at, &buffer[..bytes]) {
                return Ok(false);
            }
            *at += bytes as u64;
            self.0.read.fetch_add(bytes as u64, Ordering::Relaxed);
        }
        Ok(true)
    }
}

/// The bytes of every body here, between two places.
pub fn pattern(at: u64, length: u64) -> Vec<u8> {
    (at..at + length).map(|at| (at % PRIME) as u8).collect()
}

/// Whether these are the bytes at that place.
pub fn is_right(at: u64, data: &[u8]) -> bool {
    (at..).zip(data).all(|(at, byte)| (at % PRIME) as u8 == *byte)
}

fn refusal(status: &str) -> String {
    format!("HTTP/1.1 {status} No\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno")
}

async fn sized(stream: &mut BufReader<TcpStream>, from: u64, size: u64) -> io::Result<()> {
    let mut at = 0;
    while at < size {
        let length = (size - at).min(64 << 10);
        stream.write_all(&pattern(from + at, length)).await?;
        at += length;
    }
    Ok(())
}

async fn chunk(stream: &mut BufReader<TcpStream>, at: u64, length: u64) -> io::Result<()> {
    let mut chunk = format!("{length:x}\r\n").into_bytes();
    chunk.extend(pattern(at, length));
    chunk.extend(b"\r\n");
    stream.write_all(&chunk).await
}

async fn say(stream: &mut BufReader<TcpStream>, text: &str) -> io::Result<()> {
    stream.write_all(text.as_bytes()).await
}

/// Waits until the other side closes, and reads nothing of what it sends: what it has sent stays where it is.
async fn gone(stream: &mut BufReader<TcpStream>) -> io::Result<bool> {
    loop {
        let ready =
            stream.get_ref().ready(tokio::io::Interest::READABLE | tokio::io::Interest::ERROR).await?;
        if ready.is_read_closed() || ready.is_error() {
            return Ok(false);
        }
        let mut peeked = [0; 1];
        if stream.get_ref().peek(&mut peeked).await? == 0 {
            return Ok(false);
        }
        // There is something, and it is not read.
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

async fn line(stream: &mut BufReader<TcpStream>) -> io::Result<Option<String>> {
    let mut line = String::new();
    match stream.read_line(&mut line).await? {
        0 => Ok(None),
        _ => Ok(Some(line.trim_end().to_owned())),
    }
}

async fn line_end(stream: &mut BufReader<TcpStream>) -> io::Result<()> {
    match line(stream).await?.as_deref() {
        Some("") => Ok(()),
        _ => Err(io::Error::other("no end of the chunk")),
    }
}

async fn head(stream: &mut BufReader<TcpStream>) -> io::Result<Option<Head>> {
    let Some(first) = line(stream).await? else { return Ok(None) };
    let mut words = first.split(' ').map(str::to_owned);
    let mut head = Head {
        method: words.next().unwrap_or_default(),
        path: words.next().unwrap_or_default(),
        length: None,
        chunked: false,
        upgrade: false,
        expects: false,
    };
    while let Some(line) = line(stream).await?.filter(|line| !line.is_empty()) {
        let line = line.to_ascii_lowercase();
        let Some((name, value)) = line.split_once(": ") else { continue };
        match name {
            "content-length" => head.length = value.parse().ok(),
            "transfer-encoding" => head.chunked = value == "chunked",
            "upgrade" => head.upgrade = true,
            "expect" => head.expects = true,
            _ => {}
        }
    }
    Ok(Some(head))
}

const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
/// No number of whole frames is a whole repetition: one that is lost, doubled or out of place is seen.
const PRIME: u64 = 251;
