//! One TCP connection that never blocks, and the one way to wait for several of them: `poll` with a deadline.
//!
//! Sockets are non-blocking throughout, because a transfer must watch its data and its control connection at once, and
//! because a deadline on a blocking socket is a deadline per system call, not per wait. Used by `control` and `data`.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, SockaddrStorage, sockopt};

use super::tls::TlsStream;

/// A connection, in the clear or inside TLS.
pub enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream>),
}

/// What one attempt to read or write came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// So many bytes; reading 0 means the end.
    Done(usize),
    /// Try again when the socket can be read.
    NeedsRead,
    /// Try again when the socket can be written.
    NeedsWrite,
}

impl Stream {
    /// Reads what is there. `Done(0)` is the clean end of the stream only.
    pub fn read(&mut self, buf: &mut [u8]) -> io::Result<Step> {
        match self {
            Self::Plain(tcp) => step(Step::NeedsRead, || tcp.read(buf)),
            Self::Tls(tls) => tls.read(buf),
        }
    }

    /// Writes what fits.
    pub fn write(&mut self, buf: &[u8]) -> io::Result<Step> {
        match self {
            Self::Plain(tcp) => step(Step::NeedsWrite, || tcp.write(buf)),
            Self::Tls(tls) => tls.write(buf),
        }
    }

    /// Says that nothing more will be sent. `Done(0)` once it is said.
    pub fn shut_write(&mut self) -> io::Result<Step> {
        match self {
            Self::Plain(tcp) => tcp.shutdown(Shutdown::Write).map(|()| Step::Done(0)),
            Self::Tls(tls) => tls.shut_write(),
        }
    }

    /// Goes on with the TLS handshake, if there is one. `Done(0)` once data can flow.
    pub fn handshake(&mut self) -> io::Result<Step> {
        match self {
            Self::Plain(_) => Ok(Step::Done(0)),
            Self::Tls(tls) => tls.handshake(),
        }
    }

    /// Closes in order: inside TLS the peer is told (vsftpd waits for it), without waiting for its answer.
    pub fn close(mut self) {
        if let Self::Tls(tls) = &mut self {
            tls.say_goodbye();
        }
    }

    /// What TLS has agreed on.
    pub fn tls(&self) -> Option<&TlsStream> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(tls) => Some(tls),
        }
    }

    /// Whether this is inside TLS.
    pub fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// The socket below.
    pub fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => tls.tcp(),
        }
    }

    /// For `poll`.
    pub fn poll_fd(&self, flags: PollFlags) -> PollFd<'_> {
        PollFd::new(self.tcp().as_fd(), flags)
    }

    /// Makes closing this connection a reset: what is under way in either direction is dropped.
    pub fn reset_on_close(&self) {
        let linger = libc::linger { l_onoff: 1, l_linger: 0 };
        if let Err(error) = socket::setsockopt(self.tcp(), sockopt::Linger, &linger) {
            log::debug!("SO_LINGER: {error}");
        }
    }

    /// Bytes that the kernel has taken but the peer not yet acknowledged.
    pub fn unsent(&self) -> usize {
        let mut bytes: libc::c_int = 0;
        // SAFETY: TIOCOUTQ (SIOCOUTQ) writes one int through the pointer, which is valid for the call.
        let result = unsafe { libc::ioctl(self.tcp().as_raw_fd(), libc::TIOCOUTQ, &mut bytes) };
        if result == 0 { usize::try_from(bytes).unwrap_or(0) } else { 0 }
    }

    /// Bytes that the kernel has taken and not sent yet, the end of our direction counted as one; many when that cannot be told.
    pub fn untransmitted(&self) -> usize {
        let mut bytes: libc::c_int = 0;
        // SAFETY: SIOCOUTQNSD writes one int through the pointer, which is valid for the call.
        let result = unsafe { libc::ioctl(self.tcp().as_raw_fd(), SIOCOUTQNSD, &mut bytes) };
        if result == 0 { usize::try_from(bytes).unwrap_or(0) } else { usize::MAX }
    }

    /// From now on it counts as writable only when everything has been sent.
    pub fn wake_when_transmitted(&self) {
        set_option(self.tcp(), libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT, 1);
    }

    /// Acknowledges the next segments at once. A server with Nagle's algorithm holds back the second of two small replies
    /// until the first is acknowledged, which by default we do 40 ms later: measured on six of ten servers, 44 ms a
    /// transfer. The kernel falls back by itself, so this is said anew whenever replies are due.
    pub fn quick_ack(&self) {
        // Failure changes nothing.
        set_option(self.tcp(), libc::IPPROTO_TCP, libc::TCP_QUICKACK, 1);
    }

    /// Keeps the window as small as [`begin_connect_held`] made it until [`Stream::let_go`]: most of what the peer would send is
    /// not wanted.
    pub fn hold_back(&self) {
        if can_unlock(self.tcp()) {
            // Saying so once more is what keeps it from growing.
            set_window(self.tcp(), HELD_WINDOW);
        }
    }

    /// Ends the connection when nothing of what was sent has been acknowledged for so long: the peer, or the way to it, is gone.
    pub fn give_up_after(&self, silence: Duration) {
        let milliseconds = u32::try_from(silence.as_millis()).unwrap_or(u32::MAX);
        if let Err(error) = socket::setsockopt(self.tcp(), sockopt::TcpUserTimeout, &milliseconds) {
            log::debug!("TCP_USER_TIMEOUT: {error}");
        }
    }

    /// The window is the kernel's affair, from here on.
    pub fn let_go(&self) {
        if can_unlock(self.tcp()) {
            set_window(self.tcp(), FIRST_WINDOW);
            unlock(self.tcp());
            // What the buffer was at first bounds the window until it outgrows the one just set, which it then never needs to.
            self.offer(u64::MAX);
        }
    }

    /// Asks the kernel for a window of no more than this, or little more. What was offered before stays offered, and a kernel
    /// that lets the buffer grow may offer more: the peer may send beyond it, but no more than ever.
    pub fn offer(&self, bytes: u64) {
        let most = libc::c_int::MAX >> 1;
        let bytes = libc::c_int::try_from(bytes).unwrap_or(most).clamp(SMALLEST_OFFER, most);
        set_option(self.tcp(), libc::IPPROTO_TCP, libc::TCP_WINDOW_CLAMP, bytes);
    }

    /// Whether it stands: not while it is being made.
    pub fn is_connected(&self) -> bool {
        self.tcp().peer_addr().is_ok()
    }

    /// Whether the peer has dropped the connection. Told once.
    pub fn was_reset(&self) -> bool {
        matches!(self.tcp().take_error(), Ok(Some(error)) if is_broken(&error))
    }

    /// Whether the peer has closed its side, in the clear, and sent nothing before.
    pub fn was_ended_by_peer(&self) -> bool {
        matches!(self, Self::Plain(tcp) if matches!(tcp.peek(&mut [0]), Ok(0)))
    }

    /// Whether nothing has come and the peer has not gone, without waiting.
    pub fn is_quiet(&self) -> bool {
        matches!(self.tcp().peek(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// The socket itself, which another stream is to be put around. None when this is one already.
    pub fn into_tcp(self) -> Option<TcpStream> {
        match self {
            Self::Plain(tcp) => Some(tcp),
            Self::Tls(_) => None,
        }
    }
}

/// Whether this machine still has the address of a connection.
pub fn is_own_address(local: SocketAddr) -> bool {
    let mut probe = local;
    probe.set_port(0);
    !matches!(UdpSocket::bind(probe), Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable)
}

/// Waits until one of the sockets is ready, or has failed; `TimedOut` when the deadline passes first.
pub fn wait(fds: &mut [PollFd<'_>], deadline: Instant) -> io::Result<()> {
    crate::lock::assert_none_held();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        // Rounded up: a wait of a fraction of a millisecond must not become a busy loop.
        let left = (left + Duration::from_micros(999)).min(LONGEST_POLL);
        match nix::poll::poll(fds, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)) {
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Connects to one address, from a given local address (not its port) if there is one.
pub fn connect(to: SocketAddr, from: Option<SocketAddr>, deadline: Instant) -> io::Result<TcpStream> {
    let tcp = begin_connect(to, from)?;
    wait_connected(&tcp, deadline)?;
    Ok(tcp)
}

/// Begins to connect; [`wait_connected`] tells what came of it.
pub fn begin_connect(to: SocketAddr, from: Option<SocketAddr>) -> io::Result<TcpStream> {
    begin_connect_with(to, from, |_| {})
}

/// As [`begin_connect`], with a small window at first: a server that is to send a little must not have sent much before it
/// is told to stop. It grows as ever, unless it is held back.
pub fn begin_connect_held(to: SocketAddr, from: Option<SocketAddr>) -> io::Result<TcpStream> {
    begin_connect_with(to, from, |fd| {
        // Unlocked before the handshake: a locked buffer would bound the window for good.
        if can_unlock(fd) {
            set_window(fd, HELD_WINDOW);
            unlock(fd);
        }
    })
}

fn begin_connect_with(
    to: SocketAddr,
    from: Option<SocketAddr>,
    prepare: impl FnOnce(&OwnedFd),
) -> io::Result<TcpStream> {
    let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let fd =
        socket::socket(family, SockType::Stream, SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC, None)?;
    prepare(&fd);
    if let Some(mut from) = from {
        // A link-local address says nothing without its scope, which is why this is not an `IpAddr`.
        from.set_port(0);
        socket::bind(fd.as_raw_fd(), &SockaddrStorage::from(from))?;
    }
    match socket::connect(fd.as_raw_fd(), &SockaddrStorage::from(to)) {
        Ok(()) | Err(Errno::EINPROGRESS | Errno::EINTR) => {}
        Err(errno) => return Err(errno.into()),
    }
    let tcp = TcpStream::from(fd);
    tcp.set_nodelay(true)?;
    Ok(tcp)
}

/// Waits until a connection stands.
pub fn wait_connected(tcp: &TcpStream, deadline: Instant) -> io::Result<()> {
    wait(&mut [PollFd::new(tcp.as_fd(), PollFlags::POLLOUT)], deadline)?;
    match socket::getsockopt(tcp, sockopt::SocketError)? {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

/// Connects to the first of several addresses of a host that answers (RFC 8305): the next one is tried as soon as one has
/// failed or has been silent for a moment, and each has `patience`. The error is that of the last one.
pub fn connect_any(addresses: &[SocketAddr], patience: Duration) -> io::Result<TcpStream> {
    let mut coming = addresses.iter();
    let mut under_way: Vec<(TcpStream, SocketAddr, Instant)> = Vec::new();
    let mut next_at = Instant::now();
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    loop {
        let now = Instant::now();
        if under_way.is_empty() || now >= next_at {
            match coming.next() {
                None if under_way.is_empty() => return Err(last),
                None => {}
                Some(&to) => match begin_connect(to, None) {
                    Ok(tcp) => {
                        under_way.push((tcp, to, now + patience));
                        next_at = now + STAGGER;
                    }
                    Err(error) => {
                        last = named(to, &error);
                        continue;
                    }
                },
            }
        }
        let mut until = under_way.iter().map(|(.., deadline)| *deadline).min().unwrap_or(now);
        if !coming.as_slice().is_empty() {
            until = until.min(next_at);
        }
        let mut fds: Vec<_> =
            under_way.iter().map(|(tcp, ..)| PollFd::new(tcp.as_fd(), PollFlags::POLLOUT)).collect();
        if let Err(error) = wait(&mut fds, until)
            && error.kind() != io::ErrorKind::TimedOut
        {
            return Err(error);
        }
        let ready: Vec<bool> = fds.iter().map(|fd| fd.any() == Some(true)).collect();
        for ((tcp, to, deadline), ready) in std::mem::take(&mut under_way).into_iter().zip(ready) {
            if ready {
                match tcp.take_error()? {
                    None => return Ok(tcp),
                    Some(error) => {
                        last = named(to, &error);
                        next_at = Instant::now();
                    }
                }
            } else if Instant::now() >= deadline {
                last = named(to, &io::ErrorKind::TimedOut.into());
            } else {
                under_way.push((tcp, to, deadline));
            }
        }
    }
}

fn named(address: SocketAddr, error: &io::Error) -> io::Error {
    log::debug!("{address}: {error}");
    io::Error::new(error.kind(), format!("{address}: {error}"))
}

/// Whether an error means that the peer has closed or reset the connection.
pub fn is_broken(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::UnexpectedEof
            | io::ErrorKind::NotConnected
    )
}

fn step(otherwise: Step, mut attempt: impl FnMut() -> io::Result<usize>) -> io::Result<Step> {
    loop {
        match attempt() {
            Ok(n) => return Ok(Step::Done(n)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(otherwise),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Sets the receive buffer, which from then on does not grow.
fn set_window(socket: &impl AsFd, bytes: usize) {
    if let Err(error) = socket::setsockopt(socket, sockopt::RcvBuf, &bytes) {
        log::debug!("SO_RCVBUF: {error}");
    }
}

/// Lets a receive buffer that was set grow again.
fn unlock(socket: &impl AsFd) -> bool {
    set_option(socket, libc::SOL_SOCKET, SO_BUF_LOCK, 0)
}

/// For the options that `nix` does not know.
fn set_option(socket: &impl AsFd, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> bool {
    // SAFETY: the option's value is an int that lives for the call, and its size is passed.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            option,
            std::ptr::from_ref(&value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    result == 0
}

/// Whether this kernel (5.14 or later) can undo what setting a buffer does. Elsewhere none is set.
fn can_unlock(socket: &impl AsFd) -> bool {
    static CAN: OnceLock<bool> = OnceLock::new();
    *CAN.get_or_init(|| unlock(socket))
}

/// linux/sockios.h; the libc crate does not have it for every target.
const SIOCOUTQNSD: libc::Ioctl = 0x894b;
/// socket(7); the libc crate lacks it.
const SO_BUF_LOCK: libc::c_int = 72;
/// Two segments of loopback: a peer that has room for less than one waits a fifth of a second.
const SMALLEST_OFFER: libc::c_int = 128 * 1024;
/// The kernel doubles it, and about 28 KiB may be under way: two first flights of a server.
const HELD_WINDOW: usize = 16 * 1024;
/// What every system allows: a long line gets up to speed sooner than from where it was held.
const FIRST_WINDOW: usize = 208 * 1024;
/// `poll` counts milliseconds in an int; a deadline further away is waited for in pieces.
const LONGEST_POLL: Duration = Duration::from_secs(60);
/// RFC 8305 section 5: how long an address may be silent before the next one is tried, too.
const STAGGER: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    #[test]
    fn an_address_that_is_silent_or_refuses_does_not_keep_the_others_waiting() {
        let (silent, _crowd) = silent();
        let refusing = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let there = TcpListener::bind("127.0.0.1:0").unwrap();
        let live = there.local_addr().unwrap();
        for addresses in [&[silent, live][..], &[refusing, live], &[silent, refusing, live], &[live, silent]]
        {
            let began = Instant::now();
            let tcp = connect_any(addresses, PATIENCE).unwrap();
            assert_eq!(tcp.peer_addr().unwrap(), live);
            assert!(began.elapsed() < PATIENCE / 2, "the silent one was waited for");
        }
    }

    #[test]
    fn where_nobody_answers_the_last_error_is_told_in_bounded_time() {
        let (silent, _crowd) = silent();
        let refusing = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let brief = Duration::from_millis(50);
        assert_eq!(connect_any(&[], brief).unwrap_err().kind(), io::ErrorKind::AddrNotAvailable);
        assert_eq!(connect_any(&[refusing], brief).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        let error = connect_any(&[refusing, silent], brief).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(error.to_string().contains(&silent.to_string()), "{error}");
    }

    /// An address whose queue of new connections is full: further ones are neither accepted nor refused.
    fn silent() -> (SocketAddr, Vec<TcpStream>) {
        let fd = socket::socket(AddressFamily::Inet, SockType::Stream, SockFlag::empty(), None).unwrap();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        socket::bind(fd.as_raw_fd(), &SockaddrStorage::from(any)).unwrap();
        socket::listen(&fd, socket::Backlog::new(0).unwrap()).unwrap();
        let address: SockaddrStorage = socket::getsockname(fd.as_raw_fd()).unwrap();
        let address = SocketAddr::from(*address.as_sockaddr_in().unwrap());
        let crowd = (0..4).map(|_| begin_connect(address, None).unwrap());
        let crowd = crowd.collect::<Vec<_>>().into_iter().chain([TcpStream::from(fd)]).collect();
        (address, crowd)
    }
}
