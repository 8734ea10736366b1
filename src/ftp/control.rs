//! The control connection: batches of commands out, replies in, each wait with a deadline.
//!
//! It counts which replies are still owed. A reply that nobody waits for (an idle timeout's 421, the second 500 of
//! linux-ftpd, a late 426) means that questions and answers may no longer match, so it ends the session: a new login is
//! cheaper than guessing. The dialogue goes to the log under the target `ftpfs::dialogue`, passwords never. Used by
//! `session`, and by `doctor`, which must see every reply.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags};

use super::command::Batch;
use super::features::Features;
use super::proxy::{Host, Proxy};
use super::reply::{Parser, Reply};
use super::stream::{self, Step, Stream};
use super::tls::{Connector, Slot, TlsStream};
use super::{Config, Error};

/// One control connection.
pub struct Control {
    stream: Stream,
    parser: Parser,
    features: Features,
    timeout: Duration,
    /// Commands whose final reply has not come yet.
    owed: VecDeque<&'static str>,
    /// Set by the first error; nothing is sent or read afterwards.
    ended: bool,
    peer: SocketAddr,
    /// The proxy in between, and the server as it was named to it; `peer` is then the proxy.
    proxy: Option<(Proxy, String)>,
    local: SocketAddr,
    slot: Option<Slot>,
    opened: Instant,
    /// Tells the connections of a mount apart in the log.
    number: u64,
}

impl Control {
    /// Resolves the host and connects to the first address that answers; the greeting is still to be read. The address that
    /// worked last is tried first.
    pub fn connect(config: &Config, features: &Features) -> Result<Self, Error> {
        let unreachable = |error: io::Error| Error::Unreachable { text: error.to_string() };
        let mut addresses = resolve(config)?;
        addresses.retain(|address| config.data.family.allows(address));
        if addresses.is_empty() {
            return Err(Error::Unreachable {
                text: format!("{} has no address of the kind asked for", config.host),
            });
        }
        take_turns(&mut addresses);
        let known = features.address();
        addresses.sort_by_key(|address| Some(*address) != known);
        let tcp = stream::connect_any(&addresses, config.connect_timeout).map_err(unreachable)?;
        let (local, peer) =
            tcp.local_addr().and_then(|local| Ok((local, tcp.peer_addr()?))).map_err(unreachable)?;
        if let Some(proxy) = &config.proxy {
            let deadline = Instant::now() + config.connect_timeout;
            proxy.tunnel(&tcp, Host::new(bare(&config.host)), config.port, deadline).map_err(unreachable)?;
        }
        features.connected_to(peer);
        let number = features.counters().session();
        log::debug!(target: DIALOGUE, "[{number}] connected to {peer}");
        let stream = Stream::Plain(tcp);
        stream.give_up_after((config.timeout / 3).max(SHORTEST_SILENCE));
        Ok(Self {
            stream,
            parser: Parser::default(),
            features: features.clone(),
            timeout: config.timeout,
            owed: VecDeque::from(["connecting"]),
            ended: false,
            peer,
            proxy: config.proxy.clone().map(|proxy| (proxy, bare(&config.host).to_owned())),
            local,
            slot: None,
            opened: Instant::now(),
            number,
        })
    }

    /// Connects once more to the server's host (an address equal to [`Control::peer`]'s means that) or to another one, for
    /// data: the way that this connection took, and from the same local address, because servers refuse another. It is still
    /// to be waited for ([`stream::wait_connected`]); only a proxy is waited for here, at most until the deadline.
    pub fn begin_dial(&self, to: SocketAddr, deadline: Instant) -> io::Result<TcpStream> {
        let Some((proxy, name)) = &self.proxy else {
            return stream::begin_connect_held(to, Some(self.local));
        };
        let host = if to.ip() == self.peer.ip() { Host::new(name) } else { Host::Address(to.ip()) };
        let tcp = stream::connect(self.peer, None, deadline)?;
        proxy.tunnel(&tcp, host, to.port(), deadline)?;
        Ok(tcp)
    }

    /// Whether a proxy stands between: then the address of the server is not known, and it cannot come to us.
    pub fn is_proxied(&self) -> bool {
        self.proxy.is_some()
    }

    /// Puts TLS around the connection and completes the handshake. Nothing that came in the clear is taken over.
    pub fn secure(&mut self, connector: &Connector, slot: Slot) -> Result<(), Error> {
        if self.parser.has_leftovers() || (self.owed.is_empty() && !self.stream.is_quiet()) {
            // RFC 4217 section 4.2: what was sent in the clear behind the 234 may come from anybody.
            self.ended = true;
            return Err(Error::Tls {
                text: "the server sent something in the clear before TLS began".to_owned(),
            });
        }
        let tcp = self.stream.tcp().try_clone().map_err(|error| Error::Tls { text: error.to_string() })?;
        let mut tls = connector.begin(tcp, &slot)?;
        let deadline = Instant::now() + self.timeout;
        loop {
            let flags = match tls.handshake() {
                Ok(Step::Done(_)) => break,
                Ok(Step::NeedsRead) => PollFlags::POLLIN,
                Ok(Step::NeedsWrite) => PollFlags::POLLOUT,
                Err(error) => {
                    self.ended = true;
                    return Err(Error::Tls { text: error.to_string() });
                }
            };
            if let Err(error) = stream::wait(&mut [self.stream.poll_fd(flags)], deadline) {
                return Err(self.fail("the TLS handshake", &error));
            }
        }
        self.stream = Stream::Tls(Box::new(tls));
        self.slot = Some(slot);
        Ok(())
    }

    /// The TLS sessions for data connections, when this connection is inside TLS.
    pub fn slot(&self) -> Option<&Slot> {
        self.slot.as_ref()
    }

    /// What TLS has agreed on, when this connection is inside it.
    pub fn tls(&self) -> Option<&TlsStream> {
        self.stream.tls()
    }

    /// Sends all commands of a batch in one write; one reply is then owed for each.
    pub fn send(&mut self, batch: &Batch) -> Result<(), Error> {
        let during = batch.names().first().copied().unwrap_or("sending");
        if self.ended {
            return Err(Error::Lost { during, text: "the session has ended".to_owned() });
        }
        if self.owed.is_empty() {
            self.check_quiet(during)?;
        }
        for line in batch.shown() {
            log::debug!(target: DIALOGUE, "[{}] > {line}", self.number);
        }
        self.features.counters().batch(batch.names().len());
        self.owed.extend(batch.names());
        self.stream.quick_ack();
        let deadline = Instant::now() + self.timeout;
        let mut rest = batch.bytes();
        while !rest.is_empty() {
            let flags = match self.stream.write(rest) {
                Ok(Step::Done(n)) => {
                    rest = rest.get(n..).unwrap_or_default();
                    continue;
                }
                Ok(Step::NeedsRead) => PollFlags::POLLIN,
                // Replies are taken in meanwhile: else a server whose replies nobody takes stops reading, and both wait.
                Ok(Step::NeedsWrite) if self.parser.has_room() => PollFlags::POLLOUT | PollFlags::POLLIN,
                Ok(Step::NeedsWrite) => PollFlags::POLLOUT,
                // The reason may have been sent before the end: it comes as the next reply.
                Err(error) if stream::is_broken(&error) => return Ok(()),
                Err(error) => return Err(self.fail(during, &error)),
            };
            if flags.contains(PollFlags::POLLOUT | PollFlags::POLLIN) && self.read_some()? {
                continue;
            }
            if let Err(error) = stream::wait(&mut [self.stream.poll_fd(flags)], deadline) {
                return Err(self.fail(during, &error));
            }
        }
        Ok(())
    }

    /// The next reply, within the configured timeout. 421 is the end of the session, whatever it answers, and so is 221.
    pub fn reply(&mut self) -> Result<Reply, Error> {
        self.reply_by(Instant::now() + self.timeout)
    }

    /// The next reply, before `deadline`.
    pub fn reply_by(&mut self, deadline: Instant) -> Result<Reply, Error> {
        let during = self.during();
        let reply = self.any_reply_by(deadline)?;
        if says_goodbye(&reply) {
            self.ended = true;
            return Err(Error::Lost { during, text: reply.to_string() });
        }
        Ok(reply)
    }

    /// The next reply, 421 too: while logging in it says why.
    pub fn any_reply(&mut self) -> Result<Reply, Error> {
        self.any_reply_by(Instant::now() + self.timeout)
    }

    /// A reply if one has come, without waiting.
    pub fn try_reply(&mut self) -> Result<Option<Reply>, Error> {
        let during = self.during();
        match self.take() {
            Ok(Some(reply)) if says_goodbye(&reply) => {
                self.ended = true;
                Err(Error::Lost { during, text: reply.to_string() })
            }
            taken => taken,
        }
    }

    /// Counts the reply that came last, a 1xx, as the final one: Pure-FTPd ends a cut RETR so.
    pub fn settle(&mut self) {
        self.owed.pop_front();
    }

    /// Counts all commands as answered: a marker has shown that nothing more will come.
    pub fn settle_all(&mut self) {
        self.owed.clear();
    }

    /// How many commands still wait for their final reply.
    pub fn owed(&self) -> usize {
        self.owed.len()
    }

    /// Whether the session can go on: no error so far, nothing owed, nothing come unasked.
    pub fn is_alive(&mut self) -> bool {
        // The TLS session would be too old for the next data connection (facts: tls, pitfall 5).
        let is_stale = self.slot.is_some() && self.opened.elapsed() > TLS_LIFETIME;
        // The laptop is in another network now: nothing that is sent from the old address comes back.
        let is_here = stream::is_own_address(self.local);
        !self.ended && !is_stale && is_here && self.owed.is_empty() && self.check_quiet("waiting").is_ok()
    }

    /// Ends the session: nothing more will be sent.
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// Whether the session has ended.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// The server's address: where data connections go.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Our address: where data connections come from.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// For waiting on this and a data connection at once.
    pub fn poll_fd(&self) -> PollFd<'_> {
        self.stream.poll_fd(PollFlags::POLLIN)
    }

    /// The next reply, whose inner lines go to `text` as they come, each with an LF: a listing by STAT. The time-out is for
    /// each piece of it.
    pub fn reply_with_text(
        &mut self,
        text: &mut dyn FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<Reply, Error> {
        self.parser.set_text_apart(true);
        let outcome = self.piece_by_piece(text);
        self.parser.set_text_apart(false);
        outcome.inspect_err(|_| self.ended = true)
    }

    fn piece_by_piece(&mut self, text: &mut dyn FnMut(&[u8]) -> Result<(), Error>) -> Result<Reply, Error> {
        let during = self.during();
        let mut deadline = Instant::now() + self.timeout;
        loop {
            let reply = self.parsed()?;
            let piece = self.parser.take_text();
            if !piece.is_empty() {
                deadline = Instant::now() + self.timeout;
                text(&piece)?;
            }
            match reply {
                Some(reply) if reply.code == 421 => {
                    return Err(Error::Lost { during, text: reply.to_string() });
                }
                Some(reply) => return Ok(reply),
                None => {}
            }
            if !self.read_some()?
                && let Err(error) = stream::wait(&mut [self.poll_fd()], deadline)
            {
                return Err(self.fail(during, &error));
            }
        }
    }

    fn any_reply_by(&mut self, deadline: Instant) -> Result<Reply, Error> {
        let during = self.during();
        loop {
            if let Some(reply) = self.take()? {
                return Ok(reply);
            }
            if let Err(error) = stream::wait(&mut [self.poll_fd()], deadline) {
                return Err(self.fail(during, &error));
            }
        }
    }

    /// The next reply of what has come.
    fn take(&mut self) -> Result<Option<Reply>, Error> {
        loop {
            if let Some(reply) = self.parsed()? {
                return Ok(Some(reply));
            }
            if !self.read_some()? {
                return Ok(None);
            }
        }
    }

    /// The next reply of what has been read.
    fn parsed(&mut self) -> Result<Option<Reply>, Error> {
        if self.ended {
            return Err(Error::Lost { during: self.during(), text: "the session has ended".to_owned() });
        }
        match self.parser.next_reply() {
            Ok(Some(reply)) => {
                log::debug!(target: DIALOGUE, "[{}] < {reply}", self.number);
                if !reply.is_preliminary() {
                    self.owed.pop_front();
                }
                Ok(Some(reply))
            }
            Ok(None) => Ok(None),
            Err(malformed) => {
                self.ended = true;
                Err(Error::Protocol { text: malformed.to_string() })
            }
        }
    }

    /// Reads what is there, without waiting; false when nothing is.
    fn read_some(&mut self) -> Result<bool, Error> {
        let during = self.during();
        let mut buffer = [0; READ_AT_ONCE];
        match self.stream.read(&mut buffer) {
            Ok(Step::Done(0)) => {
                self.ended = true;
                log::debug!(target: DIALOGUE, "[{}] closed by the server", self.number);
                Err(Error::Lost { during, text: "closed by the server".to_owned() })
            }
            Ok(Step::Done(n)) => {
                self.parser.push(buffer.get(..n).unwrap_or_default());
                self.stream.quick_ack();
                Ok(true)
            }
            Ok(Step::NeedsRead | Step::NeedsWrite) => Ok(false),
            Err(error) => Err(self.fail(during, &error)),
        }
    }

    /// An idle connection has nothing to say. What comes unasked is the server's goodbye, or out of step.
    fn check_quiet(&mut self, during: &'static str) -> Result<(), Error> {
        match self.take() {
            Ok(None) if !self.parser.has_leftovers() => Ok(()),
            Ok(None) => {
                self.ended = true;
                Err(Error::Lost { during, text: "half a reply came unasked".to_owned() })
            }
            Ok(Some(reply)) => {
                self.ended = true;
                Err(Error::Lost { during, text: reply.to_string() })
            }
            Err(error) => Err(error),
        }
    }

    fn fail(&mut self, during: &'static str, error: &io::Error) -> Error {
        self.ended = true;
        log::debug!(target: DIALOGUE, "[{}] {during}: {error}", self.number);
        Error::control(during, error)
    }

    fn during(&self) -> &'static str {
        self.owed.front().copied().unwrap_or("waiting")
    }
}

/// 221 is the answer to QUIT (which is not waited for), and libunftp's to a session that was idle: it may cross a command, and
/// is no success of that. FileZilla ends listings by STAT with it, which are not read here.
fn says_goodbye(reply: &Reply) -> bool {
    matches!(reply.code, 421 | 221)
}

/// IPv4 and IPv6 by turns, the resolver's favourite first: where one kind does not work, the other is not far down (RFC 8305
/// section 4).
fn take_turns(addresses: &mut Vec<SocketAddr>) {
    let is_ipv4 = addresses.first().is_some_and(SocketAddr::is_ipv4);
    let (first, second): (Vec<_>, Vec<_>) =
        addresses.iter().partition(|address| address.is_ipv4() == is_ipv4);
    let mut second = second.into_iter();
    addresses.clear();
    for address in first {
        addresses.push(address);
        addresses.extend(second.next());
    }
    addresses.extend(second);
}

/// A host without the brackets of an IPv6 address in a URL.
fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// All addresses of the host (or of the proxy, which then looks up the host), within twice the connect timeout: the
/// resolver itself knows no deadline.
pub fn resolve(config: &Config) -> Result<Vec<SocketAddr>, Error> {
    let (host, port) = match &config.proxy {
        None => (bare(&config.host), config.port),
        Some(proxy) => (proxy.host.as_str(), proxy.port),
    };
    let target = (host.to_owned(), port);
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || sender.send(target.to_socket_addrs().map(Iterator::collect::<Vec<_>>)));
    let unreachable = |text: String| Error::Unreachable { text: format!("{host}: {text}") };
    match receiver.recv_timeout(config.connect_timeout.saturating_mul(2)) {
        Ok(Ok(addresses)) if addresses.is_empty() => Err(unreachable("it has no address".to_owned())),
        Ok(Ok(addresses)) => Ok(addresses),
        Ok(Err(error)) => Err(unreachable(error.to_string())),
        Err(_) => Err(unreachable("the name server does not answer".to_owned())),
    }
}

/// Well above what a segment and its acknowledgement take over a satellite, with one of them lost.
const SHORTEST_SILENCE: Duration = Duration::from_secs(2);
/// Most replies are a line; listings by STAT are long.
const READ_AT_ONCE: usize = 16 * 1024;
/// The shortest session lifetime that a server was seen to offer is an hour (Pure-FTPd).
const TLS_LIFETIME: Duration = Duration::from_secs(50 * 60);
/// The log target of what is said on control connections.
const DIALOGUE: &str = "ftpfs::dialogue";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_both_kinds_are_tried_by_turns() {
        let parse =
            |list: &[&str]| list.iter().map(|text| text.parse().unwrap()).collect::<Vec<SocketAddr>>();
        let mut addresses = parse(&["[::1]:21", "[::2]:21", "[::3]:21", "192.0.2.1:21"]);
        take_turns(&mut addresses);
        assert_eq!(addresses, parse(&["[::1]:21", "192.0.2.1:21", "[::2]:21", "[::3]:21"]));
        let mut addresses = parse(&["192.0.2.1:21", "[::1]:21", "[::2]:21"]);
        take_turns(&mut addresses);
        assert_eq!(addresses, parse(&["192.0.2.1:21", "[::1]:21", "[::2]:21"]));
        take_turns(&mut Vec::new());
    }
}
