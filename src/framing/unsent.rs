//! What the system keeps of a connection that takes nothing.

use std::os::fd::AsFd;

/// Lets the system keep little that is not yet sent: what the other side does not read stays where it can be counted,
/// and does not use up the system's memory for TCP. What is on its way to a side that reads is as much as ever. A
/// listener's connections have it from the listener.
pub fn keep_little_unsent<S: AsFd>(socket: &S) {
    #[cfg(target_os = "linux")]
    // A system that can't do this works as well, for as long as the other sides read.
    socket2::SockRef::from(socket).set_tcp_notsent_lowat(UNSENT).ok();
    #[cfg(not(target_os = "linux"))]
    let _ = socket;
}

/// Bytes that the system may hold of what is not sent yet.
#[cfg(target_os = "linux")]
const UNSENT: u32 = 64 * 1024;

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_connection_has_it_from_its_listener() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        keep_little_unsent(&listener);
        let _near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        assert_eq!(socket2::SockRef::from(&accepted).tcp_notsent_lowat().unwrap(), UNSENT);
    }
}
