//! One session's loop: a line comes, perhaps something goes wrong with it, it is done, a reply goes.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::Shared;
use super::data::Data;
use super::faults::{Fault, Then};
use super::wire::Wire;

/// Serves a client until it leaves or is shown the door.
pub(super) fn serve(shared: &Shared, stream: TcpStream) {
    let Ok(_tracked) = shared.track(&stream) else { return };
    let _ = stream.set_nodelay(true);
    let Some(number) = shared.counters.opened(shared.max_sessions.load(Ordering::SeqCst)) else {
        let _ = (&stream).write_all(b"421 There are too many connections from your internet address.\r\n");
        return;
    };
    let mut session = Session::new(shared, number, stream);
    // However it ends: the client sees the end of the connection, and the count goes down.
    let _ = session.run();
    if !session.is_cut {
        session.wire.into_inner().close();
    }
    shared.counters.closed();
}

/// What a session remembers between commands.
pub(super) struct Session<'a> {
    pub shared: &'a Shared,
    pub wire: BufReader<Wire>,
    /// PROT P.
    pub protects: bool,
    pub user: String,
    pub logged_in: bool,
    pub cwd: Vec<u8>,
    pub rest: u64,
    pub rename_from: Option<std::path::PathBuf>,
    pub data: Data,
    /// What goes wrong with the command at hand, if it shall go wrong while it is done.
    pub fault: Option<Fault>,
    number: u64,
    /// Replies are thrown away: something else is said in their place.
    muted: bool,
    /// To end without a word of TLS's own.
    is_cut: bool,
}

impl<'a> Session<'a> {
    fn new(shared: &'a Shared, number: u64, stream: TcpStream) -> Self {
        Self {
            shared,
            wire: BufReader::new(Wire::Plain(stream)),
            protects: false,
            user: String::new(),
            logged_in: false,
            cwd: b"/".to_vec(),
            rest: 0,
            rename_from: None,
            data: Data::None,
            fault: None,
            number,
            muted: false,
            is_cut: false,
        }
    }

    fn run(&mut self) -> io::Result<()> {
        self.wire.get_ref().tcp().set_read_timeout(Some(self.shared.options.idle))?;
        if self.handle("CONNECT", b"")? == Flow::End {
            return Ok(());
        }
        while let Some(line) = self.next_line()? {
            let (verb, argument) = split(&line);
            self.shared.counters.command(self.number, &verb, &argument);
            if self.handle(&verb, &argument)? == Flow::End {
                return Ok(());
            }
        }
        Ok(())
    }

    /// `None` at the end of the connection, and after an idle time-out (which is told).
    fn next_line(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        match (&mut self.wire).take(LONGEST_LINE).read_until(b'\n', &mut line) {
            Ok(0) => return Ok(None),
            Ok(_) if !line.ends_with(b"\n") => return Ok(None),
            Ok(_) => {}
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                self.reply("421 Timeout.")?;
                return Ok(None);
            }
            Err(e) => return Err(e),
        }
        line.pop();
        if line.ends_with(b"\r") {
            line.pop();
        }
        Ok(Some(without_telnet(&line)))
    }

    fn handle(&mut self, verb: &str, argument: &[u8]) -> io::Result<Flow> {
        let Some(fault) = self.shared.faults.take(verb, argument) else {
            return self.execute(verb, argument);
        };
        match fault {
            Fault::Reply(text) => self.reply(&text)?,
            Fault::Raw(bytes) => self.wire.get_mut().write_all(&bytes)?,
            Fault::First(bytes) => {
                self.wire.get_mut().write_all(&bytes)?;
                return self.execute(verb, argument);
            }
            Fault::Flood { head, unit, bytes } => self.flood(&head, &unit, bytes)?,
            Fault::Close => return Ok(Flow::End),
            Fault::Silent => return self.until_the_client_leaves(),
            Fault::Delay(time) => {
                self.sleep(time);
                return self.execute(verb, argument);
            }
            Fault::Done(then) => {
                self.muted = true;
                let flow = self.execute(verb, argument)?;
                self.muted = false;
                self.say(then)?;
                return Ok(flow);
            }
            other => {
                self.fault = Some(other);
                let flow = self.execute(verb, argument);
                self.fault = None;
                return flow;
            }
        }
        Ok(Flow::Next)
    }

    pub fn reply(&mut self, text: &str) -> io::Result<()> {
        self.reply_bytes(text.as_bytes())
    }

    /// For replies that carry a path.
    pub fn reply_bytes(&mut self, text: &[u8]) -> io::Result<()> {
        if self.muted {
            return Ok(());
        }
        // One write: some clients take a reply for two when it comes in pieces.
        self.wire.get_mut().write_all(&[text, b"\r\n"].concat())
    }

    fn flood(&mut self, head: &[u8], unit: &[u8], bytes: u64) -> io::Result<()> {
        let block = unit.repeat((64 * 1024 / unit.len().max(1)).max(1));
        let to = self.wire.get_mut();
        to.write_all(head)?;
        let mut sent = 0;
        while sent < bytes && !self.shared.ending.load(Ordering::SeqCst) {
            to.write_all(&block)?;
            sent += block.len() as u64;
        }
        self.shared.counters.flooded(sent);
        Ok(())
    }

    /// The scripted end of a command. An error ends the session.
    pub fn say(&mut self, then: Then) -> io::Result<()> {
        match then {
            Then::Reply(text) => self.reply(&text),
            Then::Silent => self.until_the_client_leaves().map(|_| ()),
            Then::Close => Err(io::ErrorKind::ConnectionAborted.into()),
            Then::Cut => {
                self.is_cut = true;
                Err(io::ErrorKind::ConnectionAborted.into())
            }
        }
    }

    /// Takes what comes and says nothing; ends as an error, so that the session ends too.
    fn until_the_client_leaves(&mut self) -> io::Result<Flow> {
        self.wire.get_ref().tcp().set_read_timeout(None)?;
        let mut ignored = [0; 4096];
        while self.wire.read(&mut ignored)? > 0 {}
        Ok(Flow::End)
    }

    /// AUTH TLS: what was sent in the clear behind it does not count.
    pub fn secure(&mut self) -> io::Result<()> {
        let Some(acceptor) = self.shared.acceptor.as_ref().filter(|_| !self.wire.get_ref().is_tls()) else {
            return self.reply("500 Unknown command.");
        };
        self.reply("234 Proceed with negotiation.")?;
        let tcp = self.wire.get_ref().tcp().try_clone()?;
        self.wire = BufReader::new(Wire::secured(tcp, acceptor)?);
        Ok(())
    }

    /// In small steps, so that the server can end meanwhile.
    fn sleep(&self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end && !self.shared.ending.load(Ordering::SeqCst) {
            std::thread::sleep((end - Instant::now()).min(Duration::from_millis(10)));
        }
    }
}

/// Whether the session goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    Next,
    End,
}

/// The command in capitals, and what follows the first blank, as it is.
fn split(line: &[u8]) -> (String, Vec<u8>) {
    let at = line.iter().position(|&b| b == b' ').unwrap_or(line.len());
    let (verb, rest) = line.split_at(at);
    let argument = rest.strip_prefix(b" ").unwrap_or(rest);
    (String::from_utf8_lossy(verb).to_uppercase(), argument.to_vec())
}

/// RFC 959 commands are telnet lines: 255 is doubled, and starts a telnet command when it is not.
fn without_telnet(line: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(line.len());
    let mut bytes = line.iter().copied();
    while let Some(byte) = bytes.next() {
        if byte != IAC {
            out.push(byte);
        } else if bytes.next() == Some(IAC) {
            out.push(IAC);
        }
    }
    out
}

const IAC: u8 = 255;
/// Paths are at most 4096 bytes, every one of which may be doubled.
const LONGEST_LINE: u64 = 16 * 1024;
