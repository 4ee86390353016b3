//! Where callers come in: a TCP address or a UNIX socket, and the bytes of one connection.

use std::{
    fmt, fs,
    io::{self, IoSlice},
    mem::MaybeUninit,
    os::unix::{
        fs::{FileTypeExt, MetadataExt, PermissionsExt},
        net::UnixDatagram,
    },
    path::{Path, PathBuf},
    pin::Pin,
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use anyhow::{Context, bail};
use bytes::{Buf, Bytes, BytesMut};
use futures_util::FutureExt;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf, Ready},
    net::{TcpListener, TcpStream, UnixListener, UnixSocket, UnixStream},
};

use super::{
    listen::{self, Accept, BACKLOG},
    patience::Patience,
};
use crate::{
    config::{Entrance, Mode, Owner},
    descriptors::{self, Descriptor},
    wire::headers::Peer,
};

/// Listens for callers.
pub enum Listener {
    /// At an address.
    Tcp(TcpListener),
    /// At a UNIX socket, whose file goes with it.
    Unix(UnixListener, SocketFile),
}

impl Listener {
    /// Binds `entrance`; a UNIX socket gets `mode`.
    ///
    /// # Errors
    /// When the address is taken or not ours, or the socket can't be made; that is fatal to whoever asked.
    pub fn bind(entrance: &Entrance, mode: Mode) -> anyhow::Result<Self> {
        Listener::bind_for(entrance, mode, None)
    }

    /// Binds `entrance`; a UNIX socket gets `mode`, and `owner` if one is named.
    ///
    /// # Errors
    /// As [`Listener::bind`], and when there is no such owner.
    pub fn bind_for(entrance: &Entrance, mode: Mode, owner: Option<&Owner>) -> anyhow::Result<Self> {
        match entrance {
            Entrance::Tcp(address) => listen::bind(address.0).map(Listener::Tcp),
            Entrance::Unix(path) => bind_unix(path, mode, owner)
                .with_context(|| format!("cannot listen on unix:{}", path.display()))
                .map(|(listener, file)| Listener::Unix(listener, file)),
        }
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn address(&self) -> io::Result<Address> {
        match self {
            Listener::Tcp(listener) => listener.local_addr().map(Address::Tcp),
            Listener::Unix(_, file) => Ok(Address::Unix(file.path.clone())),
        }
    }
}

impl Accept for Listener {
    type Connection = Socket;
    type Peer = Peer;

    async fn accept(&mut self) -> io::Result<(Socket, Peer)> {
        let descriptor = descriptors::for_caller().await;
        match self {
            Listener::Tcp(listener) => {
                let (stream, peer) = Accept::accept(listener).await?;
                // An IPv4 caller of an IPv6 listener is who it is.
                Ok((Socket::new(Kind::Tcp(stream), descriptor), Peer::Address(peer.ip().to_canonical())))
            }
            Listener::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                Ok((Socket::new(Kind::Unix(stream), descriptor), Peer::Unknown))
            }
        }
    }
}

/// Where requests can be sent to.
#[derive(Debug, Clone)]
pub enum Address {
    /// There.
    Tcp(std::net::SocketAddr),
    /// To a UNIX socket.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => address.fmt(f),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

fn bind_unix(path: &Path, mode: Mode, owner: Option<&Owner>) -> anyhow::Result<(UnixListener, SocketFile)> {
    let ids = owner.map(ids).transpose()?;
    remove_stale(path)?;
    let socket = UnixSocket::new_stream()?;
    socket.bind(path)?;
    // Nobody can connect before it listens, so nobody can before it has its permissions.
    fs::set_permissions(path, fs::Permissions::from_mode(mode.0)).context("cannot set its permissions")?;
    if let Some((user, group)) = ids {
        std::os::unix::fs::chown(path, user, group).context("cannot set its owner")?;
    }
    let made = fs::symlink_metadata(path)?;
    let file = SocketFile { path: path.to_owned(), device: made.dev(), inode: made.ino() };
    Ok((socket.listen(BACKLOG)?, file))
}

/// The numbers of an owner, as the system's files have them.
fn ids(owner: &Owner) -> anyhow::Result<(Option<u32>, Option<u32>)> {
    let find = |what: &str, file: &str, name: &Option<String>| {
        let Some(name) = name else { return Ok(None) };
        if let Ok(number) = name.parse() {
            return Ok(Some(number));
        }
        let all = fs::read_to_string(file).with_context(|| format!("cannot read {file}"))?;
        let mut lines = all.lines().map(|line| line.split(':').collect::<Vec<_>>());
        let line = lines.find(|line| line.first() == Some(&name.as_str()));
        let number = line.and_then(|line| line.get(2)?.parse().ok());
        number.map(Some).with_context(|| format!("there is no {what} '{name}'"))
    };
    Ok((find("user", "/etc/passwd", &owner.user)?, find("group", "/etc/group", &owner.group)?))
}

/// Removes what a process that is gone has left behind, and nothing else.
fn remove_stale(path: &Path) -> anyhow::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    if !found.file_type().is_socket() {
        bail!("there is a file of that name, which is no socket");
    }
    // Of the wrong type, so that nobody who listens gets a connection of it, and none is waited for: a socket
    // that is in use is told from one that is not before types are compared.
    let refused = UnixDatagram::unbound()?.connect(path).err().map(|error| error.kind());
    match refused {
        Some(io::ErrorKind::ConnectionRefused) => {
            fs::remove_file(path).context("cannot remove the socket of a process that is gone")
        }
        Some(io::ErrorKind::PermissionDenied) => bail!("there is a socket, and it may not be opened"),
        Some(_) | None => bail!("another process listens there"),
    }
}

/// The file of a UNIX socket. It is removed with its handle, unless another has taken its place.
pub struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|found| (found.dev(), found.ino()) == (self.device, self.inode));
        if is_ours {
            fs::remove_file(&self.path).ok();
        }
    }
}

/// One caller's connection. What was read from it to see what it is can be put back.
pub struct Socket {
    kind: Kind,
    /// What is read before anything else.
    first: Bytes,
    /// How long the caller may take nothing of what is written, if there is a limit.
    send_timeout: Option<Duration>,
    /// Whether it takes something, once it did not at once.
    sends: Option<Box<Patience>>,
    /// Held for as long as it is open.
    _descriptor: Option<Descriptor>,
}

enum Kind {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    fn new(kind: Kind, descriptor: impl Into<Option<Descriptor>>) -> Self {
        Socket { kind, first: Bytes::new(), send_timeout: None, sends: None, _descriptor: descriptor.into() }
    }

    /// From now on a write fails, as timed out, once the caller has taken nothing for `limit` of what it should take.
    pub fn set_send_timeout(&mut self, limit: Duration) {
        self.send_timeout = Some(limit);
    }

    fn in_time(
        &mut self,
        written: Poll<io::Result<usize>>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<io::Result<usize>> {
        match (&written, self.send_timeout) {
            (Poll::Pending, Some(limit)) => {
                let sends = self.sends.get_or_insert_with(|| Box::new(Patience::new(limit)));
                sends.poll(cx).map(|()| {
                    let limit = humantime::format_duration(limit);
                    let why =
                        format!("the caller took nothing of what is sent to it for {limit} (--send-timeout)");
                    Err(io::Error::new(io::ErrorKind::TimedOut, why))
                })
            }
            (Poll::Pending, None) => written,
            (Poll::Ready(_), _) => {
                self.sends.iter_mut().for_each(|sends| sends.rest());
                written
            }
        }
    }

    /// Says how the connection ends when it is dropped: by a reset, also when the process is killed, or in order. What was
    /// written and is not sent goes with a reset. A UNIX socket has no such thing.
    pub fn resets_when_dropped(&self, resets: bool) {
        let Kind::Tcp(stream) = &self.kind else { return };
        let linger = resets.then_some(Duration::ZERO);
        // A connection that is broken already can't be told.
        SockRef::from(stream).set_linger(linger).ok();
    }

    /// Has the system send a probe each `pause` in which nothing else is sent. To do without it is no harm.
    pub fn probe(&self, pause: Duration) {
        if let Kind::Tcp(stream) = &self.kind {
            let probes = TcpKeepalive::new().with_time(pause).with_interval(pause);
            SockRef::from(stream).set_tcp_keepalive(&probes).ok();
        }
    }

    /// Whether the other end has reset the connection, or is gone, which reading does not tell behind its end.
    pub fn is_reset(&self) -> bool {
        let (error, ready) = match &self.kind {
            Kind::Tcp(stream) => (stream.take_error(), stream.ready(Interest::WRITABLE).now_or_never()),
            Kind::Unix(stream) => (stream.take_error(), stream.ready(Interest::WRITABLE).now_or_never()),
        };
        let is_closed = ready.is_some_and(|ready| ready.is_ok_and(Ready::is_write_closed));
        is_closed || !matches!(error, Ok(None))
    }

    /// Puts `bytes` back: they are read again, before what comes next.
    pub fn put_back(&mut self, bytes: Bytes) {
        debug_assert!(self.first.is_empty(), "only what was read can be put back");
        self.first = bytes;
    }

    /// Reads what is there into `bytes`, at most up to `limit` in all; waits for at least one byte.
    ///
    /// # Errors
    /// When the connection breaks, or ends.
    pub async fn read_some(&mut self, bytes: &mut BytesMut, limit: usize) -> io::Result<()> {
        std::future::poll_fn(|cx| {
            // On the stack, so that a caller that says nothing costs no memory.
            let mut space = [MaybeUninit::uninit(); FIRST_READ];
            let room = limit.saturating_sub(bytes.len()).min(FIRST_READ);
            let mut read = ReadBuf::uninit(space.get_mut(..room).unwrap_or_default());
            std::task::ready!(Pin::new(&mut *self).poll_read(cx, &mut read))?;
            if read.filled().is_empty() {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            bytes.extend_from_slice(read.filled());
            Poll::Ready(Ok(()))
        })
        .await
    }
}

/// The far end of a test's.
#[cfg(test)]
impl From<UnixStream> for Socket {
    fn from(stream: UnixStream) -> Self {
        Socket::new(Kind::Unix(stream), None)
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let socket = self.get_mut();
        if !socket.first.is_empty() {
            let bytes = socket.first.len().min(buf.remaining());
            buf.put_slice(&socket.first[..bytes]);
            socket.first.advance(bytes);
            if socket.first.is_empty() {
                // An empty slice would keep the memory of what was put back for as long as the connection lasts.
                socket.first = Bytes::new();
            }
            return Poll::Ready(Ok(()));
        }
        match &mut socket.kind {
            Kind::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Kind::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut TaskContext<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let socket = self.get_mut();
        let written = match &mut socket.kind {
            Kind::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Kind::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
        };
        socket.in_time(written, cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let socket = self.get_mut();
        let written = match &mut socket.kind {
            Kind::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Kind::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        };
        socket.in_time(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        // A socket keeps nothing back.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().kind {
            Kind::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Kind::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// Bytes read at first, at most: most requests' heads fit.
const FIRST_READ: usize = 4096;
