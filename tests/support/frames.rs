//! HTTP/2 frame by frame (RFC 9113 section 4), for what no library would send: header blocks are literals, without
//! compression.

use std::io;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A connection that is read and written frame by frame.
pub struct Frames(TcpStream);

/// A frame that came.
#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frames {
    /// Speaks as a caller.
    pub async fn call(mut stream: TcpStream) -> io::Result<Frames> {
        stream.write_all(PREFACE).await?;
        let mut frames = Frames(stream);
        frames.send(SETTINGS, 0, 0, []).await?;
        Ok(frames)
    }

    /// Speaks as an origin.
    pub async fn serve(mut stream: TcpStream) -> io::Result<Frames> {
        stream.read_exact(&mut [0; PREFACE.len()]).await?;
        let mut frames = Frames(stream);
        frames.send(SETTINGS, 0, 0, []).await?;
        Ok(frames)
    }

    /// Writes a frame.
    pub async fn send(
        &mut self,
        kind: u8,
        flags: u8,
        stream: u32,
        payload: impl AsRef<[u8]>,
    ) -> io::Result<()> {
        let payload = payload.as_ref();
        let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        self.0.write_all(&frame).await
    }

    /// Writes a head of these fields.
    pub async fn head(&mut self, flags: u8, stream: u32, fields: &[(&str, &str)]) -> io::Result<()> {
        let fields: Vec<_> = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
        self.send(HEADERS, END_HEADERS | flags, stream, block(&fields)).await
    }

    /// Resets a stream.
    pub async fn reset(&mut self, stream: u32, code: u32) -> io::Result<()> {
        self.send(RST_STREAM, 0, stream, code.to_be_bytes()).await
    }

    /// Waits until all that was sent has been read.
    pub async fn ping(&mut self) -> io::Result<()> {
        self.send(PING, 0, 0, [7; 8]).await?;
        loop {
            let frame = self.next_of(PING).await?;
            if frame.flags & ACK != 0 {
                return Ok(());
            }
        }
    }

    /// The next frame that is none of SETTINGS, which are acknowledged.
    pub async fn next(&mut self) -> io::Result<Frame> {
        loop {
            let mut head = [0; 9];
            self.0.read_exact(&mut head).await?;
            let [a, b, c, kind, flags, stream @ ..] = head;
            let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
            self.0.read_exact(&mut payload).await?;
            if kind != SETTINGS {
                return Ok(Frame { kind, flags, stream: u32::from_be_bytes(stream), payload });
            }
            if flags & ACK == 0 {
                self.send(SETTINGS, ACK, 0, []).await?;
            }
        }
    }

    /// The next frame of this kind.
    pub async fn next_of(&mut self, kind: u8) -> io::Result<Frame> {
        loop {
            let frame = self.next().await?;
            if frame.kind == kind {
                return Ok(frame);
            }
        }
    }
}

/// A header block of literals.
pub fn block(fields: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            assert!(text.len() < 127, "lengths are of one byte here");
            block.push(text.len() as u8);
            block.extend(*text);
        }
    }
    block
}
