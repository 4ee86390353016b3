//! Callers: reqwest for ordinary requests, raw bytes for the others, and what an error must look like.

use std::{io, net::SocketAddr, time::Duration};

use relay::wire::Code;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// An HTTP client that follows nothing and knows no proxy. Each test has its own: a connection lives in
/// the runtime that made it.
pub fn http() -> reqwest::Client {
    let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
    client.timeout(Duration::from_secs(60)).build().expect("a client can be built")
}

/// An error as a caller reads it.
#[derive(Debug)]
pub struct Problem {
    pub status: u16,
    pub code: String,
    pub detail: String,
    pub raised_by: String,
    pub request_id: String,
    pub retry_after: Option<u64>,
    pub proxy_status: String,
}

/// Reads an error, which must have everything that every error has.
pub async fn problem(response: reqwest::Response) -> Problem {
    problem_of(response, false).await
}

/// The same of a request that an origin has seen: it never asks to come again.
pub async fn problem_after_seen(response: reqwest::Response) -> Problem {
    problem_of(response, true).await
}

async fn problem_of(response: reqwest::Response, is_seen: bool) -> Problem {
    let status = response.status().as_u16();
    let header = |name: &str| {
        response
            .headers()
            .get(name)
            .map(|value| value.to_str().expect("a text").to_owned())
            .unwrap_or_default()
    };
    let (kind, proxy_status, id, retry) =
        (header("content-type"), header("proxy-status"), header("x-relay-id"), header("retry-after"));
    let text = response.text().await.expect("a whole body");
    Problem::check(status, &kind, proxy_status, &id, (&retry, is_seen), &text)
}

impl Problem {
    fn check(
        status: u16,
        kind: &str,
        proxy_status: String,
        id: &str,
        (retry, is_seen): (&str, bool),
        text: &str,
    ) -> Problem {
        assert_eq!(kind, "application/problem+json", "status {status}: {text}");
        let json: serde_json::Value = serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"));
        let field =
            |name: &str| json[name].as_str().unwrap_or_else(|| panic!("no {name} in {text}")).to_owned();
        let problem = Problem {
            status,
            code: field("code"),
            detail: field("detail"),
            raised_by: field("raised_by"),
            request_id: field("request_id"),
            retry_after: retry.parse().ok(),
            proxy_status,
        };
        assert_eq!(json["status"], status, "{text}");
        assert_eq!(field("type"), format!("urn:relay:{}", problem.code));
        assert!(!field("title").is_empty() && !problem.detail.is_empty(), "{text}");
        assert_eq!(problem.request_id, id, "the id in the header is the one in the body");
        let row = Code::parse(&problem.code).row();
        assert_eq!((status, problem.code.as_str()), (row.status, row.text), "a code has one status");
        let comes_again = row.retry_after.is_some() && !is_seen;
        assert_eq!(problem.retry_after.is_some(), comes_again, "Retry-After of {problem:?}");
        let proxy_status = format!("relay; error={}; details=\"", row.proxy_error);
        assert!(problem.proxy_status.starts_with(&proxy_status), "{}", problem.proxy_status);
        problem
    }

    /// It must be this one, raised by that side.
    #[track_caller]
    pub fn is(&self, status: u16, code: &str, raised_by: &str) -> &Problem {
        let seen = (self.status, self.code.as_str(), self.raised_by.as_str());
        assert_eq!(seen, (status, code, raised_by), "{self:?}");
        self
    }

    /// Its sentence must name this.
    #[track_caller]
    pub fn names(&self, what: &str) -> &Problem {
        assert!(self.detail.contains(what), "'{what}' in '{}'", self.detail);
        self
    }
}

/// A connection on which a test writes what it likes. It is reset when it is dropped: its caller is gone, and does not
/// only say nothing more.
pub struct Raw {
    stream: TcpStream,
    rest: Vec<u8>,
}

/// A response as it was on the wire.
#[derive(Debug, Clone)]
pub struct RawAnswer {
    pub status: u16,
    /// The head, status line included.
    pub head: String,
    /// Header pairs, names in lower case.
    pub headers: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.stream.set_zero_linger().ok();
    }
}

impl Raw {
    /// Says nothing more, and still reads.
    pub async fn end(&mut self) {
        self.stream.shutdown().await.expect("the connection can be ended");
    }

    /// Connects.
    pub async fn connect(address: SocketAddr) -> Raw {
        Raw { stream: TcpStream::connect(address).await.expect("something listens there"), rest: Vec::new() }
    }

    /// GETs `path` on a connection of its own.
    pub async fn get(address: SocketAddr, path: &str) -> io::Result<RawAnswer> {
        let mut raw = Raw { stream: TcpStream::connect(address).await?, rest: Vec::new() };
        let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        raw.stream.write_all(request.as_bytes()).await?;
        raw.read(false).await
    }

    /// Writes.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.expect("the connection takes it");
    }

    /// Writes, unless the other side has closed; that some peers do before all is written.
    pub async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref()).await
    }

    /// Writes a request and reads its response.
    pub async fn ask(&mut self, bytes: impl AsRef<[u8]>) -> RawAnswer {
        self.send(bytes).await;
        self.answer().await
    }

    /// Reads one response.
    pub async fn answer(&mut self) -> RawAnswer {
        let read = tokio::time::timeout(PATIENCE, self.read(false)).await.expect("an answer in time");
        read.expect("a whole answer")
    }

    /// Reads one response that may take its time.
    pub async fn patient_answer(&mut self, patience: Duration) -> RawAnswer {
        let read = tokio::time::timeout(patience, self.read(false)).await.expect("an answer in time");
        read.expect("a whole answer")
    }

    /// Reads one response without a body, as to HEAD.
    pub async fn answer_to_head(&mut self) -> RawAnswer {
        let read = tokio::time::timeout(PATIENCE, self.read(true)).await.expect("an answer in time");
        read.expect("a whole answer")
    }

    /// Reads one response, or how the connection ended before one was whole.
    pub async fn try_answer(&mut self) -> io::Result<RawAnswer> {
        tokio::time::timeout(PATIENCE, self.read(false)).await.expect("an answer or an end in time")
    }

    /// Reads one response that may take its time; nothing when it breaks off.
    pub async fn patient_or_cut(&mut self, patience: Duration) -> Option<RawAnswer> {
        tokio::time::timeout(patience, self.read(false)).await.expect("an answer or an end in time").ok()
    }

    /// Waits until these bytes have come.
    pub async fn says(&mut self, bytes: &[u8]) {
        let read = async {
            while find(&self.rest, bytes).is_none() {
                self.fill().await.expect("the other side says it");
            }
        };
        tokio::time::timeout(PATIENCE, read).await.expect("the other side says it in time");
    }

    /// Reads and forgets, until the other side closes.
    pub async fn read_on(&mut self) {
        while self.fill().await.is_ok() {
            self.rest.clear();
        }
    }

    /// Whatever else comes until the other side closes.
    pub async fn until_closed(&mut self) -> Vec<u8> {
        let read = async {
            // A reset is a way of closing.
            while self.fill().await.is_ok() {}
        };
        tokio::time::timeout(PATIENCE, read).await.expect("the other side closes in time");
        std::mem::take(&mut self.rest)
    }

    /// Whatever else comes until the other side closes in order; otherwise how it broke.
    pub async fn until_end(&mut self) -> io::Result<Vec<u8>> {
        let read = async {
            loop {
                match self.fill().await {
                    Ok(()) => {}
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                    Err(error) => return Err(error),
                }
            }
        };
        tokio::time::timeout(PATIENCE, read).await.expect("the other side closes in time")?;
        Ok(std::mem::take(&mut self.rest))
    }

    async fn read(&mut self, head_only: bool) -> io::Result<RawAnswer> {
        let end = loop {
            match find(&self.rest, b"\r\n\r\n") {
                Some(at) => break at + 4,
                None => self.fill().await?,
            }
        };
        let head: Vec<u8> = self.rest.drain(..end).collect();
        let mut lines = head.split(|&b| b == b'\n').map(<[u8]>::trim_ascii);
        let status = lines.next().and_then(|line| std::str::from_utf8(line.get(9..12)?).ok()?.parse().ok());
        let headers: Vec<_> = lines.filter_map(pair).collect();
        let mut answer = RawAnswer {
            status: status.ok_or_else(|| io::Error::other("no status line"))?,
            head: String::from_utf8_lossy(&head).into_owned(),
            headers,
            body: Vec::new(),
        };
        let none = head_only || answer.status < 200 || matches!(answer.status, 204 | 304);
        if !none {
            answer.body = self.body(&answer).await?;
        }
        Ok(answer)
    }

    async fn body(&mut self, answer: &RawAnswer) -> io::Result<Vec<u8>> {
        if answer.value("transfer-encoding").contains("chunked") {
            return self.chunks().await;
        }
        match answer.value("content-length").parse() {
            Ok(length) => self.take(length).await,
            Err(_) => {
                while self.fill().await.is_ok() {}
                Ok(std::mem::take(&mut self.rest))
            }
        }
    }

    async fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let end = loop {
                match find(&self.rest, b"\r\n") {
                    Some(at) => break at,
                    None => self.fill().await?,
                }
            };
            let line = self.take(end + 2).await?;
            let size = std::str::from_utf8(&line[..end])
                .ok()
                .and_then(|text| usize::from_str_radix(text.trim(), 16).ok());
            let size = size.ok_or_else(|| io::Error::other("no chunk size"))?;
            let chunk = self.take(size + 2).await?;
            if size == 0 {
                return Ok(body);
            }
            body.extend_from_slice(&chunk[..size]);
        }
    }

    async fn take(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.rest.len() < length {
            self.fill().await?;
        }
        Ok(self.rest.drain(..length).collect())
    }

    async fn fill(&mut self) -> io::Result<()> {
        match self.stream.read_buf(&mut self.rest).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

impl RawAnswer {
    /// The values of one header, in order, joined by ` | `.
    pub fn value(&self, name: &str) -> String {
        let values = self.headers.iter().filter(|(n, _)| n == name);
        values.map(|(_, value)| String::from_utf8_lossy(value)).collect::<Vec<_>>().join(" | ")
    }

    /// Whether there is such a header.
    pub fn has(&self, name: &str) -> bool {
        self.headers.iter().any(|(n, _)| n == name)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as an error.
    pub fn problem(&self) -> Problem {
        Problem::check(
            self.status,
            &self.value("content-type"),
            self.value("proxy-status"),
            &self.value("x-relay-id"),
            (&self.value("retry-after"), false),
            &self.text(),
        )
    }
}

fn pair(line: &[u8]) -> Option<(String, Vec<u8>)> {
    let colon = line.iter().position(|&b| b == b':')?;
    let name = String::from_utf8_lossy(&line[..colon]).to_ascii_lowercase();
    Some((name, line[colon + 1..].trim_ascii().to_vec()))
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}

const PATIENCE: Duration = Duration::from_secs(30);
