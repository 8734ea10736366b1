//! A line between client and server that can be long, can break, and counts what goes over it.
//!
//! The relay passes control connections on, and rewrites the ports in 227 and 229 replies to ports of its own, so that data
//! connections come through it too (passive ones only, and no TLS: it has to read the replies). Every connection has two
//! threads per direction: one reads and stamps what it read with the time at which it may leave, one waits for that time and
//! writes. So a delay makes the line longer without making it thinner.
//!
//! Round trips are counted, not timed: each time the client sends something after the server spoke, a new one has begun.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::Target;

/// A relay in front of a server; mount it instead of the server.
pub struct Relay {
    line: Arc<Line>,
    url: String,
    password: String,
    listener: Option<JoinHandle<()>>,
    port: u16,
}

/// What went over the line since the last [`Relay::reset`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    pub control_connections: u64,
    pub data_connections: u64,
    /// Commands, by the line ends on control connections.
    pub commands: u64,
    /// Times that a client spoke on a control connection after its server had: command batches that had to wait.
    pub turns: u64,
    /// Data connections that the client had reset before the server's end of them came to it.
    pub resets: u64,
    pub bytes_up: u64,
    pub bytes_down: u64,
}

impl Relay {
    /// In front of a server on 127.0.0.1.
    pub fn new(target: &dyn Target) -> Self {
        let (head, server) = split_port(&target.url());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let line = Arc::new(Line::default());
        let accepting = line.clone();
        let listener = std::thread::spawn(move || accept(&accepting, &listener, server, Role::Control));
        Self {
            line,
            url: format!("{head}:{port}/"),
            password: target.password(),
            listener: Some(listener),
            port,
        }
    }

    /// From now on everything takes this long in each direction: half a round trip.
    pub fn delay(&self, one_way: Duration) {
        self.line.state.lock().unwrap().delay = one_way;
    }

    /// From now on commands take so much longer than data does, as when a segment of theirs is lost: TCP keeps order within a
    /// connection, not between two.
    pub fn hold_commands(&self, longer: Duration) {
        self.line.state.lock().unwrap().commands_held = longer;
    }

    /// Breaks every connection now, with RST as a rebooted router would; new ones are let through.
    pub fn cut(&self) {
        for connection in &self.line.state.lock().unwrap().open {
            connection.cut();
        }
        self.line.changed.notify_all();
    }

    /// Nothing comes through any more, in either direction, and nobody is told. New connections are accepted into the void.
    pub fn black_hole(&self) {
        self.line.state.lock().unwrap().dark = true;
    }

    /// What was held back goes on its way, as TCP's retransmissions would after a short outage. After a long one:
    /// [`Relay::cut`] first.
    pub fn heal(&self) {
        self.line.state.lock().unwrap().dark = false;
        self.line.changed.notify_all();
    }

    pub fn traffic(&self) -> Traffic {
        let count = &self.line.count;
        let of = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
        Traffic {
            control_connections: of(&count.control),
            data_connections: of(&count.data),
            commands: of(&count.commands),
            turns: of(&count.turns),
            resets: of(&count.resets),
            bytes_up: of(&count.up),
            bytes_down: of(&count.down),
        }
    }

    pub fn reset(&self) {
        let count = &self.line.count;
        for counter in [&count.control, &count.data, &count.commands, &count.turns, &count.resets] {
            counter.store(0, Ordering::SeqCst);
        }
        for counter in [&count.up, &count.down] {
            counter.store(0, Ordering::SeqCst);
        }
    }
}

impl Target for Relay {
    fn url(&self) -> String {
        self.url.clone()
    }

    fn password(&self) -> String {
        self.password.clone()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.line.ending.store(true, Ordering::SeqCst);
        self.heal();
        self.cut();
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
        if let Some(listener) = self.listener.take() {
            let _ = listener.join();
        }
    }
}

/// What all connections of a relay share.
#[derive(Default)]
struct Line {
    state: Mutex<State>,
    changed: Condvar,
    ending: AtomicBool,
    count: Counters,
}

#[derive(Default)]
struct State {
    delay: Duration,
    commands_held: Duration,
    dark: bool,
    open: Vec<Arc<Connection>>,
}

/// The two halves of a connection that comes through here.
struct Connection {
    client: TcpStream,
    server: TcpStream,
    broken: AtomicBool,
}

impl Connection {
    /// The last close sends RST to both sides; nobody sees a clean end before.
    fn cut(&self) {
        self.broken.store(true, Ordering::SeqCst);
        for stream in [&self.client, &self.server] {
            let linger = nix::libc::linger { l_onoff: 1, l_linger: 0 };
            let _ = nix::sys::socket::setsockopt(stream, nix::sys::socket::sockopt::Linger, &linger);
            // Wakes whoever reads here.
            let _ = stream.shutdown(Shutdown::Read);
        }
    }

    fn is_broken(&self) -> bool {
        self.broken.load(Ordering::SeqCst)
    }
}

#[derive(Default)]
struct Counters {
    control: AtomicU64,
    data: AtomicU64,
    commands: AtomicU64,
    turns: AtomicU64,
    resets: AtomicU64,
    up: AtomicU64,
    down: AtomicU64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Control,
    Data,
}

impl Line {
    /// Waits in the dark; false when the connection is not to go on.
    fn lets_through(&self, connection: &Connection) -> bool {
        let mut state = self.state.lock().unwrap();
        while state.dark && !connection.is_broken() && !self.ending.load(Ordering::SeqCst) {
            state = self.changed.wait(state).unwrap();
        }
        !connection.is_broken() && !self.ending.load(Ordering::SeqCst)
    }

    fn delay(&self) -> Duration {
        self.state.lock().unwrap().delay
    }

    fn delay_up(&self, role: Role) -> Duration {
        let state = self.state.lock().unwrap();
        state.delay + if role == Role::Control { state.commands_held } else { Duration::ZERO }
    }
}

fn accept(line: &Arc<Line>, listener: &TcpListener, server: u16, role: Role) {
    for client in listener.incoming() {
        if line.ending.load(Ordering::SeqCst) {
            return;
        }
        let Ok(client) = client else { continue };
        let line = line.clone();
        std::thread::spawn(move || pass(&line, client, server, role));
    }
}

/// One connection, until both sides have ended.
fn pass(line: &Arc<Line>, client: TcpStream, server: u16, role: Role) {
    let counter = if role == Role::Control { &line.count.control } else { &line.count.data };
    counter.fetch_add(1, Ordering::SeqCst);
    // The handshake's round trip. (The client believes itself connected: the kernel has accepted for us.)
    std::thread::sleep(line.delay() * 2);
    let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, server)) else { return };
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    // So that a writer notices when the line is cut.
    let _ = client.set_write_timeout(Some(NOTICES));
    let _ = server.set_write_timeout(Some(NOTICES));
    let connection = Arc::new(Connection { client, server, broken: AtomicBool::new(false) });
    line.state.lock().unwrap().open.push(connection.clone());
    // Whether the server spoke last.
    let spoke = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (up, later_up) = sync_channel(IN_FLIGHT);
        let (down, later_down) = sync_channel(IN_FLIGHT);
        let (connection, spoke) = (&*connection, &spoke);
        scope.spawn(move || {
            read(
                line,
                connection,
                &connection.client,
                &up,
                || line.delay_up(role),
                |bytes| {
                    line.count.up.fetch_add(bytes.len() as u64, Ordering::SeqCst);
                    if role == Role::Control && !bytes.is_empty() {
                        let commands = bytes.iter().filter(|&&b| b == b'\n').count();
                        line.count.commands.fetch_add(commands as u64, Ordering::SeqCst);
                        if spoke.swap(false, Ordering::SeqCst) {
                            line.count.turns.fetch_add(1, Ordering::SeqCst);
                        }
                    }
                },
            );
        });
        scope.spawn(move || {
            read(
                line,
                connection,
                &connection.server,
                &down,
                || line.delay(),
                |bytes| {
                    line.count.down.fetch_add(bytes.len() as u64, Ordering::SeqCst);
                },
            );
        });
        scope.spawn(move || write(line, connection, role, &later_up, &connection.server, <[u8]>::to_vec));
        scope.spawn(move || {
            let mut unfinished = Vec::new();
            write(line, connection, role, &later_down, &connection.client, |bytes| {
                if role == Role::Data {
                    return bytes.to_vec();
                }
                spoke.store(true, Ordering::SeqCst);
                unfinished.extend(bytes);
                let whole = unfinished.iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
                with_own_ports(line, &unfinished.drain(..whole).collect::<Vec<_>>())
            });
        });
    });
    line.state.lock().unwrap().open.retain(|kept| !Arc::ptr_eq(kept, &connection));
}

/// When it may leave, and what: empty for the end of the stream, which travels as long as bytes do.
type Chunk = (Instant, Vec<u8>);

fn read(
    line: &Line,
    connection: &Connection,
    mut from: &TcpStream,
    to: &SyncSender<Chunk>,
    delay: impl Fn() -> Duration,
    mut seen: impl FnMut(&[u8]),
) {
    let mut block = vec![0; BLOCK];
    loop {
        let read = from.read(&mut block);
        acknowledge(from);
        if !line.lets_through(connection) {
            return connection.cut();
        }
        // Broken by one side: broken for the other.
        let Ok(length) = read else { return connection.cut() };
        seen(&block[..length]);
        let chunk = (Instant::now() + delay(), block[..length].to_vec());
        if to.send(chunk).is_err() || length == 0 {
            return;
        }
    }
}

/// At once, as our client does: a server that holds back its second small reply until the first is acknowledged would wait
/// 40 ms for this machine otherwise, and tests for a round trip that is none.
fn acknowledge(stream: &TcpStream) {
    let on: nix::libc::c_int = 1;
    // SAFETY: the option's value is an int that lives for the call, and its size is passed.
    unsafe {
        nix::libc::setsockopt(
            std::os::fd::AsRawFd::as_raw_fd(stream),
            nix::libc::IPPROTO_TCP,
            nix::libc::TCP_QUICKACK,
            std::ptr::from_ref(&on).cast(),
            size_of::<nix::libc::c_int>() as nix::libc::socklen_t,
        );
    }
}

fn write(
    line: &Line,
    connection: &Connection,
    role: Role,
    chunks: &Receiver<Chunk>,
    mut to: &TcpStream,
    mut changed: impl FnMut(&[u8]) -> Vec<u8>,
) {
    for (due, bytes) in chunks {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        if !line.lets_through(connection) {
            return connection.cut();
        }
        if bytes.is_empty() {
            let is_gone = to.shutdown(Shutdown::Write).is_err();
            // A session that is ended resets its connection, too, when the answer to QUIT comes to it.
            if is_gone && role == Role::Data && std::ptr::eq(to, &connection.client) {
                line.count.resets.fetch_add(1, Ordering::SeqCst);
            }
            return;
        }
        let bytes = changed(&bytes);
        let mut left = bytes.as_slice();
        while !left.is_empty() {
            match to.write(left) {
                Ok(length) => left = &left[length..],
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock && !connection.is_broken() => {}
                Err(_) => return connection.cut(),
            }
        }
    }
}

/// Replies of 227 and 229 with a port that leads through here.
fn with_own_ports(line: &Arc<Line>, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    for reply in bytes.split_inclusive(|&b| b == b'\n') {
        let text = String::from_utf8_lossy(reply);
        match passive_port(&text).and_then(|port| Some((port, listen(line, port)?))) {
            Some((_, own)) if reply.starts_with(b"229") => {
                out.extend(format!("229 Entering Extended Passive Mode (|||{own}|)\r\n").bytes());
            }
            Some((_, own)) => {
                let (high, low) = (own >> 8, own & 0xff);
                out.extend(format!("227 Entering Passive Mode (127,0,0,1,{high},{low}).\r\n").bytes());
            }
            None => out.extend(reply),
        }
    }
    out
}

fn passive_port(reply: &str) -> Option<u16> {
    let inside = reply.split_once('(')?.1.split_once(')')?.0;
    if reply.starts_with("229 ") {
        return inside.strip_prefix("|||")?.strip_suffix('|')?.parse().ok();
    }
    if !reply.starts_with("227 ") {
        return None;
    }
    let mut last = inside.rsplit(',');
    let (low, high): (u16, u16) = (last.next()?.parse().ok()?, last.next()?.parse().ok()?);
    high.checked_mul(256)?.checked_add(low)
}

/// A port of ours for one data connection.
fn listen(line: &Arc<Line>, server: u16) -> Option<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).ok()?;
    let own = listener.local_addr().ok()?.port();
    let line = line.clone();
    std::thread::spawn(move || {
        let _ = listener.set_nonblocking(true);
        let deadline = Instant::now() + UNUSED_PORT;
        while Instant::now() < deadline && !line.ending.load(Ordering::SeqCst) {
            if let Ok((client, _)) = listener.accept() {
                let _ = client.set_nonblocking(false);
                drop(listener);
                return pass(&line, client, server, Role::Data);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    Some(own)
}

fn split_port(url: &str) -> (String, u16) {
    let (head, tail) = url.rsplit_once(':').expect("our servers' addresses have ports");
    let digits: String = tail.chars().take_while(char::is_ascii_digit).collect();
    (head.to_string(), digits.parse().expect("a port is a number"))
}

/// Chunks on their way at once, per direction: with [`BLOCK`] 16 MiB, more than any test's line holds.
const IN_FLIGHT: usize = 256;
const BLOCK: usize = 64 * 1024;
/// How soon a writer that waits for room sees that its connection was cut.
const NOTICES: Duration = Duration::from_millis(50);
/// A port that was asked for and not used is given up. Clients keep one ready for minutes.
const UNUSED_PORT: Duration = Duration::from_secs(600);
