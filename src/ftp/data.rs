//! Data connections: made ahead of the command that uses them, and closed the moment they have served.
//!
//! A passive one goes to the control connection's peer, from the control connection's local address (servers refuse
//! another), to the port that the server named; the address in a 227 reply is not looked at unless the user asks, so no
//! reply can send us to a third host. An active one is a listener until the server has connected to it: only the server
//! may, and the listener is closed at once. One that waits for its command is *ready*; it is worth keeping for
//! [`READY_FOR`].
//!
//! TLS begins when the command has been sent: most servers start their side only then, so nothing is gained by an earlier
//! ClientHello, and the session that it presents is the newest. Used by `session`.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags};

use super::Error;
use super::config::DataPolicy;
use super::control::Control;
use super::stream::{self, Step, Stream};
use super::tls::{Connector, Slot, TlsStream};

/// One data connection.
pub struct Data {
    channel: Channel,
    opened: Instant,
    port: u16,
    /// Made with a small window.
    is_small: bool,
}

enum Channel {
    Open(Stream),
    /// Active: the server has not connected yet. TLS, if any, begins once it has.
    Listening {
        listener: TcpListener,
        server: IpAddr,
        tls: Option<(Arc<Connector>, Slot)>,
    },
    /// Between two states, and after an error in between.
    Closed,
}

impl Data {
    /// Connects to the port that the server has opened for us.
    pub fn connect(control: &Control, to: SocketAddr, deadline: Instant) -> io::Result<Self> {
        let data = Self::begin_connect(control, to, deadline)?;
        data.wait_connected(deadline)?;
        Ok(data)
    }

    /// As [`Data::connect`], without waiting for the server: nothing may be done with it before [`Data::wait_connected`].
    pub fn begin_connect(control: &Control, to: SocketAddr, deadline: Instant) -> io::Result<Self> {
        let tcp = control.begin_dial(to, deadline)?;
        if tcp.local_addr()? == to && !control.is_proxied() {
            // A port on this very machine that nobody listens on can connect to itself.
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let is_small = !control.is_proxied();
        let channel = Channel::Open(Stream::Plain(tcp));
        Ok(Self { channel, opened: Instant::now(), port: to.port(), is_small })
    }

    /// Waits until a passive connection stands.
    pub fn wait_connected(&self, deadline: Instant) -> io::Result<()> {
        match &self.channel {
            Channel::Open(Stream::Plain(tcp)) => stream::wait_connected(tcp, deadline),
            _ => Ok(()),
        }
    }

    /// The server's port when passive, ours when active.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What has gone wrong with a passive connection that nobody has waited for. Told once.
    pub fn failure(&self) -> Option<io::Error> {
        match &self.channel {
            Channel::Open(Stream::Plain(tcp)) => tcp.take_error().ok().flatten(),
            _ => None,
        }
    }

    /// Whether a passive connection is still being made, or has failed.
    pub fn is_connecting(&self) -> bool {
        matches!(&self.channel, Channel::Open(stream) if !stream.is_connected())
    }

    /// Listens for the server's connection, and gives the address to tell it.
    pub fn listen(control: &Control, policy: &DataPolicy) -> io::Result<(Self, SocketAddr)> {
        let mut here = control.local();
        here.set_port(0);
        let listener = match &policy.active_ports {
            None => TcpListener::bind(here)?,
            Some(ports) => {
                // Not always from the first: a port that has just been used is in TIME_WAIT on one side.
                let count = usize::from(ports.end().saturating_sub(*ports.start())) + 1;
                let start = usize::from(control.local().port()) % count;
                let mut bound = Err(io::ErrorKind::AddrInUse.into());
                for port in ports.clone().cycle().skip(start).take(count) {
                    here.set_port(port);
                    bound = TcpListener::bind(here);
                    if bound.is_ok() {
                        break;
                    }
                }
                bound?
            }
        };
        listener.set_nonblocking(true)?;
        let told = policy.active_address.unwrap_or(here.ip());
        let address = SocketAddr::new(told, listener.local_addr()?.port());
        let channel = Channel::Listening { listener, server: control.peer().ip(), tls: None };
        Ok((Self { channel, opened: Instant::now(), port: address.port(), is_small: false }, address))
    }

    /// Begins TLS: now, or once the server has connected.
    pub fn secure(&mut self, connector: &Arc<Connector>, slot: &Slot) -> Result<(), Error> {
        self.channel = match std::mem::replace(&mut self.channel, Channel::Closed) {
            Channel::Open(stream) => match stream.into_tcp() {
                Some(tcp) => Channel::Open(Stream::Tls(Box::new(connector.begin(tcp, slot)?))),
                None => return Err(Error::Tls { text: "TLS begins twice".to_owned() }),
            },
            Channel::Listening { listener, server, .. } => {
                Channel::Listening { listener, server, tls: Some((Arc::clone(connector), slot.clone())) }
            }
            Channel::Closed => Channel::Closed,
        };
        Ok(())
    }

    /// Reads what is there.
    pub fn read(&mut self, buf: &mut [u8]) -> io::Result<Step> {
        match self.open()? {
            Some(stream) => stream.read(buf),
            None => Ok(Step::NeedsRead),
        }
    }

    /// Writes what fits.
    pub fn write(&mut self, buf: &[u8]) -> io::Result<Step> {
        match self.open()? {
            Some(stream) => stream.write(buf),
            None => Ok(Step::NeedsRead),
        }
    }

    /// Goes on with connecting and the TLS handshake; `Done(0)` once data can flow.
    pub fn handshake(&mut self) -> io::Result<Step> {
        match self.open()? {
            Some(stream) => stream.handshake(),
            None => Ok(Step::NeedsRead),
        }
    }

    /// Says that all has been sent.
    pub fn shut_write(&mut self) -> io::Result<Step> {
        match self.open()? {
            Some(stream) => stream.shut_write(),
            None => Ok(Step::NeedsRead),
        }
    }

    /// Closes in order.
    pub fn close(self) {
        if let Channel::Open(stream) = self.channel {
            stream.close();
        }
    }

    /// Drops the connection and whatever is under way on it.
    pub fn reset(self) {
        if let Channel::Open(stream) = &self.channel {
            stream.reset_on_close();
        }
    }

    /// See [`Stream::hold_back`].
    pub fn hold_back(&self) {
        // What has been offered must not be taken back: it would be dropped when it comes.
        if let (true, Channel::Open(stream)) = (self.is_small, &self.channel) {
            stream.hold_back();
        }
    }

    /// See [`Stream::let_go`].
    pub fn let_go(&self) {
        if let (true, Channel::Open(stream)) = (self.is_small, &self.channel) {
            stream.let_go();
        }
    }

    /// See [`Stream::offer`].
    pub fn offer(&self, bytes: u64) {
        if let Channel::Open(stream) = &self.channel {
            stream.offer(bytes);
        }
    }

    /// Bytes not yet acknowledged by the peer.
    pub fn unsent(&self) -> usize {
        match &self.channel {
            Channel::Open(stream) => stream.unsent(),
            _ => 0,
        }
    }

    /// See [`Stream::untransmitted`].
    pub fn untransmitted(&self) -> usize {
        match &self.channel {
            Channel::Open(stream) => stream.untransmitted(),
            _ => usize::MAX,
        }
    }

    /// See [`Stream::wake_when_transmitted`].
    pub fn wake_when_transmitted(&self) {
        if let Channel::Open(stream) = &self.channel {
            stream.wake_when_transmitted();
        }
    }

    /// See [`Stream::was_reset`].
    pub fn was_reset(&self) -> bool {
        matches!(&self.channel, Channel::Open(stream) if stream.was_reset())
    }

    /// See [`Stream::was_ended_by_peer`].
    pub fn was_ended_by_peer(&self) -> bool {
        matches!(&self.channel, Channel::Open(stream) if stream.was_ended_by_peer())
    }

    /// What TLS has agreed on, on an open connection.
    pub fn tls(&self) -> Option<&TlsStream> {
        match &self.channel {
            Channel::Open(stream) => stream.tls(),
            Channel::Listening { .. } | Channel::Closed => None,
        }
    }

    /// Whether the peer may still send something that must be taken before closing: inside TLS, session tickets.
    pub fn is_tls(&self) -> bool {
        matches!(&self.channel, Channel::Open(stream) if stream.is_tls())
    }

    /// Whether it may still be used for a transfer: young enough, and not closed by the server.
    pub fn is_ready(&self) -> bool {
        let is_open = match &self.channel {
            Channel::Open(stream) => stream.is_connected() && stream.is_quiet(),
            Channel::Listening { .. } => true,
            Channel::Closed => false,
        };
        is_open && self.opened.elapsed() < READY_FOR
    }

    /// Whether asking for another one leaves a port of the server's unused.
    pub fn is_passive(&self) -> bool {
        matches!(self.channel, Channel::Open(_))
    }

    /// Active, and the server has not connected yet.
    pub fn is_listening(&self) -> bool {
        matches!(self.channel, Channel::Listening { .. })
    }

    /// For waiting; none when there is nothing to wait for.
    pub fn poll_fd(&self, flags: PollFlags) -> Option<PollFd<'_>> {
        match &self.channel {
            Channel::Open(stream) => Some(stream.poll_fd(flags)),
            Channel::Listening { listener, .. } => Some(PollFd::new(listener.as_fd(), PollFlags::POLLIN)),
            Channel::Closed => None,
        }
    }

    /// The open stream; none while the server has still to connect.
    fn open(&mut self) -> io::Result<Option<&mut Stream>> {
        if let Channel::Listening { listener, server, tls } = &mut self.channel {
            let Some(tcp) = accept(listener, *server)? else { return Ok(None) };
            tcp.set_nonblocking(true)?;
            tcp.set_nodelay(true)?;
            let stream = match tls.take() {
                None => Stream::Plain(tcp),
                Some((connector, slot)) => {
                    let tls =
                        connector.begin(tcp, &slot).map_err(|error| io::Error::other(error.to_string()))?;
                    Stream::Tls(Box::new(tls))
                }
            };
            self.channel = Channel::Open(stream);
        }
        match &mut self.channel {
            Channel::Open(stream) => Ok(Some(stream)),
            _ => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

/// The server's connection, if it has come. Others are turned away.
fn accept(listener: &TcpListener, server: IpAddr) -> io::Result<Option<TcpStream>> {
    for _ in 0..MAX_STRANGERS {
        match listener.accept() {
            Ok((tcp, from)) if from.ip().to_canonical() == server.to_canonical() => return Ok(Some(tcp)),
            Ok((_, stranger)) => log::warn!("{stranger} is not the server: its connection is closed"),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("strangers keep connecting"))
}

/// All servers measured keep an unused data connection for at least 290 s; a NAT box may be quicker.
const READY_FOR: Duration = Duration::from_secs(240);
/// How many connections from elsewhere are turned away before the port is given up.
const MAX_STRANGERS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_server_may_come_to_the_port_that_it_was_told() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let to = listener.local_addr().unwrap();
        let from = |host: &str| {
            stream::connect(
                to,
                Some(SocketAddr::new(host.parse().unwrap(), 0)),
                Instant::now() + Duration::from_secs(5),
            )
            .unwrap()
        };
        let server = "127.0.0.1".parse().unwrap();
        let stranger = from("127.0.0.2");
        assert!(accept(&listener, server).unwrap().is_none());
        let _server = from("127.0.0.1");
        assert!(accept(&listener, server).unwrap().is_some());
        let turned_away = Stream::Plain(stranger).read(&mut [0]);
        assert!(matches!(turned_away, Ok(Step::Done(0)) | Err(_)), "{turned_away:?}");
        let crowd: Vec<_> = (0..MAX_STRANGERS).map(|_| from("127.0.0.3")).collect();
        assert!(accept(&listener, server).is_err(), "{} strangers are too many", crowd.len());
    }
}
