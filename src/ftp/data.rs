//! Data connections: made ahead of the command that uses them, and closed the moment they have served.
//!
//! A passive one goes to the control connection's peer, from the control connection's local address (servers refuse
//! another), to the port that the server named; the address in a 227 reply is not looked at, so no reply can send us to
//! a third host. One that waits for its command is *ready*; it is worth keeping for [`READY_FOR`]. Used by `session`.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags};

use super::control::Control;
use super::stream::{self, Step, Stream};

/// One data connection.
pub struct Data {
    stream: Stream,
    opened: Instant,
}

impl Data {
    /// Connects to the port that the server has opened for us.
    pub fn connect(control: &Control, port: u16, deadline: Instant) -> io::Result<Self> {
        let mut address = control.peer();
        address.set_port(port);
        let tcp = stream::connect(address, Some(control.local().ip()), deadline)?;
        if tcp.local_addr()? == address {
            // A port on this very machine that nobody listens on can connect to itself.
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        Ok(Self { stream: Stream::Plain(tcp), opened: Instant::now() })
    }

    /// Reads what is there.
    pub fn read(&mut self, buf: &mut [u8]) -> io::Result<Step> {
        self.stream.read(buf)
    }

    /// Writes what fits.
    pub fn write(&mut self, buf: &[u8]) -> io::Result<Step> {
        self.stream.write(buf)
    }

    /// Says that all has been sent.
    pub fn shut_write(&mut self) -> io::Result<Step> {
        self.stream.shut_write()
    }

    /// Drops the connection and whatever is under way on it.
    pub fn reset(self) {
        self.stream.reset_on_close();
    }

    /// Bytes not yet acknowledged by the peer.
    pub fn unsent(&self) -> usize {
        self.stream.unsent()
    }

    /// Whether it may still be used for a transfer: young enough, and not closed by the server.
    pub fn is_ready(&self) -> bool {
        self.opened.elapsed() < READY_FOR && self.stream.is_quiet()
    }

    /// For waiting.
    pub fn poll_fd(&self, flags: PollFlags) -> PollFd<'_> {
        self.stream.poll_fd(flags)
    }

    /// The other end.
    pub fn peer(&self) -> io::Result<SocketAddr> {
        self.stream.tcp().peer_addr()
    }
}

/// All servers measured keep an unused data connection for at least 290 s; a NAT box may be quicker.
const READY_FOR: Duration = Duration::from_secs(240);
