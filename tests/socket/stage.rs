//! A socket with its requests, and a caller of it that speaks line by line.

use std::{net::SocketAddr, path::PathBuf, process::Command, time::Duration};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, ReadHalf, WriteHalf},
    net::TcpStream,
};

use crate::support::{process, *};

/// A running socket.
pub struct Stage {
    pub socket: Role,
    directory: TempDir,
}

impl Stage {
    /// A socket with these requests, without NATS.
    pub async fn start(requests: &str) -> Stage {
        Stage::with(requests, &[]).await
    }

    /// The same with flags.
    pub async fn with(requests: &str, flags: &[&str]) -> Stage {
        Stage::at("nats://127.0.0.1:1", requests, flags).await
    }

    /// The same at a NATS server.
    pub async fn at(server: &str, requests: &str, flags: &[&str]) -> Stage {
        let directory = TempDir::new().unwrap();
        let file = directory.path().join("requests.toml");
        std::fs::write(&file, requests).unwrap();
        let file = file.to_str().unwrap();
        let place = if flags.contains(&"--unix") { &[][..] } else { &["--tcp", "127.0.0.1:0"] };
        let flags = [&["--requests", file], place, flags].concat();
        let socket = Role::spawn(server, "socket", &flags, &[]).ready().await;
        socket.says("socket listens").await;
        Stage { socket, directory }
    }

    /// Where it takes lines.
    pub async fn address(&self) -> SocketAddr {
        let line = self.socket.says("socket listens address=").await;
        line.split("address=").nth(1).unwrap().trim().parse().unwrap()
    }

    /// A connection.
    pub async fn connect(&self) -> Caller {
        Caller::of(TcpStream::connect(self.address().await).await.unwrap())
    }

    /// The replies to one line on a connection of its own, to the last.
    pub async fn ask(&self, line: Value) -> Value {
        let mut caller = self.connect().await;
        caller.send(&line.to_string()).await;
        caller.last().await
    }

    /// A file beside the requests.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

/// A caller.
pub struct Caller {
    from: BufReader<ReadHalf<Box<dyn Stream>>>,
    to: WriteHalf<Box<dyn Stream>>,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl Caller {
    pub fn of(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Caller {
        let (from, to) = tokio::io::split(Box::new(stream) as Box<dyn Stream>);
        Caller { from: BufReader::new(from), to }
    }

    /// Sends a line.
    pub async fn send(&mut self, line: &str) {
        self.bytes(format!("{line}\n").as_bytes()).await;
    }

    pub async fn bytes(&mut self, bytes: &[u8]) {
        self.to.write_all(bytes).await.unwrap();
    }

    /// Says no more.
    pub async fn finish(&mut self) {
        self.to.shutdown().await.unwrap();
    }

    /// The next line as it is, without its end; nothing at the end.
    pub async fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = within(Duration::from_secs(60), "a line comes", self.from.read_line(&mut line)).await;
        match read {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(line.strip_suffix('\n').expect("a line has an end").to_owned()),
        }
    }

    /// The next reply.
    pub async fn reply(&mut self) -> Value {
        let line = self.line().await.expect("the connection is open");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line}: {error}"))
    }

    /// The last reply to a request: what follows its dispatch, or the error in its place.
    pub async fn last(&mut self) -> Value {
        let reply = self.reply().await;
        if reply["status"] == "dispatched" { self.reply().await } else { reply }
    }

    /// Every reply to the end.
    pub async fn all(&mut self) -> Vec<Value> {
        let mut all = Vec::new();
        while let Some(line) = self.line().await {
            all.push(serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line}: {error}")));
        }
        all
    }

    /// It works: a request for `echo` is answered.
    pub async fn works(&mut self) {
        self.send(&json!({"request": "echo", "id": "works", "data": [1]}).to_string()).await;
        assert_eq!(self.reply().await, json!({"status": "dispatched", "id": "works"}));
        let reply = self.reply().await;
        assert_eq!((&reply["status"], &reply["response"]), (&json!("ok"), &json!([1])), "{reply}");
    }
}

/// A request that is answered with its data.
pub fn echo(origin: &Origin) -> String {
    request("echo", &format!("{}/echo", origin.url()), "method = 'POST'\nbody = 'json'\nresponse = 'json'")
}

/// A definition.
pub fn request(name: &str, url: &str, rest: &str) -> String {
    format!("[request.{name}]\nurl = '{url}'\n{rest}\n")
}

/// `relay socket --check` of these requests: its exit code and all it said.
pub async fn check(requests: &str) -> (Option<i32>, String) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, requests).unwrap();
    let command: Command =
        process::relay(&["socket", "--check", "--requests", file.path().to_str().unwrap()]);
    let ended = process::run(command).await;
    (ended.status.code(), ended.out + &ended.err)
}
