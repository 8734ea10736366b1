//! Data connections: the listener or address that waits for one, and the bytes that go over it.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::faults::{DataEnd, Fault, Then};
use super::locked;
use super::session::Session;
use super::wire::Wire;

/// How the next data connection comes about.
pub(super) enum Data {
    None,
    Passive(TcpListener),
    Active(SocketAddr),
}

/// What is sent, or where what comes is kept.
pub(super) enum Content {
    Bytes(Vec<u8>),
    File(File),
    Lines(Lines),
    Store(File),
}

impl Session<'_> {
    /// Waits for a client at a new port.
    pub fn listen(&mut self) -> io::Result<u16> {
        let listener = TcpListener::bind((self.shared.options.address, 0))?;
        let port = listener.local_addr()?.port();
        self.data = Data::Passive(listener);
        Ok(port)
    }

    /// A whole transfer, with its replies.
    pub fn transfer(&mut self, content: Content) -> io::Result<()> {
        self.rest = 0;
        let waiting = std::mem::replace(&mut self.data, Data::None);
        if matches!(waiting, Data::None) {
            return self.reply("425 Use PORT or PASV first.");
        }
        let (after, end, then) = match self.fault.take() {
            Some(Fault::NoData(then)) => {
                self.reply("150 Here comes nothing.")?;
                return self.say(then);
            }
            Some(Fault::Data { after, end, then }) => (after, end, Some(then)),
            _ => (u64::MAX, DataEnd::Closed, None),
        };
        let Some(stream) = self.connect(waiting)? else {
            return self.reply("425 Failed to establish connection.");
        };
        if let Some(bytes) = self.shared.options.send_buffer {
            // The kernel doubles it for its own needs.
            nix::sys::socket::setsockopt(&stream, nix::sys::socket::sockopt::SndBuf, &(bytes / 2))?;
        }
        let tracked = self.shared.track(&stream)?;
        self.shared.counters.data_connection();
        self.reply("150 Here we go.")?;
        let mut wire = match self.shared.acceptor.as_ref().filter(|_| self.protects) {
            None => Wire::Plain(stream),
            Some(acceptor) => match Wire::secured(stream, acceptor) {
                Ok(wire) => wire,
                Err(error) => return self.reply(&format!("425 {error}").replace(['\r', '\n'], " ")),
            },
        };
        let moved = match content {
            Content::Bytes(bytes) => self.send(&mut bytes.as_slice(), &mut wire, after),
            Content::Lines(mut lines) => self.send(&mut lines, &mut wire, after),
            Content::File(mut file) => self.send(&mut file, &mut wire, after),
            Content::Store(file) => self.receive(file, &mut wire, after, end == DataEnd::Swallowed),
        };
        self.shared.counters.transferred();
        match end {
            DataEnd::Closed | DataEnd::Swallowed => wire.close(),
            DataEnd::Cut => drop(wire),
            DataEnd::Reset => {
                reset(wire.tcp());
                drop(wire);
            }
            DataEnd::Stalled => {
                let then = then.unwrap_or(Then::Silent);
                let outcome = self.say(then);
                drop((tracked, wire));
                return outcome;
            }
        }
        // With the last copy of its descriptor it is closed, before anything is said.
        drop(tracked);
        match (then, moved) {
            (Some(then), _) => self.say(then),
            (None, Ok(())) => self.reply("226 Transfer complete."),
            (None, Err(Failed::Connection)) => self.reply("426 Connection closed; transfer aborted."),
            (None, Err(Failed::Disk(e))) => self.reply(&format!("451 Local error: {e}")),
        }
    }

    fn connect(&self, waiting: Data) -> io::Result<Option<TcpStream>> {
        let listener = match waiting {
            Data::None => return Ok(None),
            Data::Active(address) => return Ok(TcpStream::connect_timeout(&address, CONNECTS_WITHIN).ok()),
            Data::Passive(listener) => listener,
        };
        listener.set_nonblocking(true)?;
        let deadline = Instant::now() + CONNECTS_WITHIN;
        while Instant::now() < deadline && !self.shared.ending.load(Ordering::SeqCst) {
            match listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(false)?;
                    stream.set_nodelay(true)?;
                    return Ok(Some(stream));
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    std::thread::sleep(Duration::from_millis(1))
                }
                Err(e) => return Err(e),
            }
        }
        Ok(None)
    }

    fn send(&self, from: &mut dyn Read, to: &mut Wire, most: u64) -> Result<(), Failed> {
        let mut from = from.take(most);
        let mut block = vec![0; BLOCK];
        let pace = Pace::default();
        let options = &self.shared.options;
        loop {
            let length = from.read(&mut block).map_err(Failed::Disk)?;
            if length == 0 {
                return Ok(());
            }
            pace.wait_for(length, options.rate_of_each);
            self.shared.pace_of_all.wait_for(length, options.rate_of_all);
            to.write_all(&block[..length]).map_err(|_| Failed::Connection)?;
            self.shared.counters.sent(length);
        }
    }

    fn receive(&self, mut into: File, from: &mut Wire, most: u64, swallows: bool) -> Result<(), Failed> {
        let mut left = most;
        let mut discarded = 0;
        let mut block = vec![0; BLOCK];
        while left > 0 || swallows {
            let wanted = if swallows { BLOCK } else { usize::try_from(left).unwrap_or(BLOCK).min(BLOCK) };
            let length = from.read(&mut block[..wanted]).map_err(|_| Failed::Connection)?;
            if length == 0 {
                break;
            }
            self.shared.counters.received(length);
            let kept = usize::try_from(left).unwrap_or(length).min(length);
            if self.shared.options.discards {
                discarded += kept as u64;
            } else {
                into.write_all(&block[..kept]).map_err(Failed::Disk)?;
            }
            left -= kept as u64;
        }
        if discarded > 0 {
            // Behind what is there for APPE, at REST's offset for STOR.
            let at = into.stream_position().map_err(Failed::Disk)?;
            into.set_len(at + discarded).map_err(Failed::Disk)?;
        }
        Ok(())
    }
}

/// When the next bytes may be sent, where a rate is to be kept.
#[derive(Default)]
pub(super) struct Pace(Mutex<Option<Instant>>);

impl Pace {
    fn wait_for(&self, bytes: usize, rate: Option<u64>) {
        let Some(rate) = rate else { return };
        let now = Instant::now();
        let due = {
            let mut next = locked(&self.0);
            // Who has slept too long makes up for it.
            let due = next.unwrap_or(now).max(now.checked_sub(MADE_UP).unwrap_or(now));
            *next = Some(due + Duration::from_secs_f64(bytes as f64 / rate as f64));
            due
        };
        std::thread::sleep(due.saturating_duration_since(now));
    }
}

/// What a machine that is loaded sleeps too long.
const MADE_UP: Duration = Duration::from_millis(500);

/// A line again and again, with a number in the place of `{}`.
pub(super) struct Lines {
    line: String,
    left: u64,
    number: u64,
    made: Vec<u8>,
}

impl Lines {
    pub fn new(line: String, bytes: u64) -> Self {
        assert!(!line.is_empty(), "it would never come to an end");
        Self { line, left: bytes, number: 0, made: Vec::new() }
    }
}

impl Read for Lines {
    fn read(&mut self, block: &mut [u8]) -> io::Result<usize> {
        while self.made.len() < block.len() && self.left > 0 {
            let before = self.made.len();
            match self.line.split_once("{}") {
                Some((head, tail)) => write!(self.made, "{head}{}{tail}", self.number)?,
                // Many at once: one by one they cost more than reading them does.
                None => self.made.extend(self.line.as_bytes().repeat(block.len() / self.line.len() + 1)),
            }
            self.number += 1;
            self.left = self.left.saturating_sub((self.made.len() - before) as u64);
        }
        let length = self.made.len().min(block.len());
        block[..length].copy_from_slice(&self.made[..length]);
        self.made.drain(..length);
        Ok(length)
    }
}

enum Failed {
    Connection,
    Disk(io::Error),
}

/// Makes the close to come an RST.
fn reset(stream: &TcpStream) {
    let linger = nix::libc::linger { l_onoff: 1, l_linger: 0 };
    let _ = nix::sys::socket::setsockopt(stream, nix::sys::socket::sockopt::Linger, &linger);
}

/// As long as clients under test wait at most.
const CONNECTS_WITHIN: Duration = Duration::from_secs(10);
const BLOCK: usize = 64 * 1024;
