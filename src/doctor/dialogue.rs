//! A control connection that a check holds for itself: step by step, with every reply at hand.

use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::poll::PollFlags;

use crate::ftp::command::{Batch, Command, Protection, Wire};
use crate::ftp::config::TlsMode;
use crate::ftp::control::Control;
use crate::ftp::data::Data;
use crate::ftp::refusal;
use crate::ftp::reply::Reply;
use crate::ftp::stream::{self, Step};
use crate::ftp::tls::{CUT, Connector, Slot, WRONG_VERSION};
use crate::ftp::{Config, Error, Features};

/// A connection, and how far it has come.
pub struct Dialogue {
    pub control: Control,
    config: Config,
    connector: Option<Arc<Connector>>,
    protects_data: bool,
    /// What the greeting said.
    pub greeting: Option<Reply>,
    /// Whether the last data connection went on with the TLS session of this one; none without TLS.
    pub resumed: Option<bool>,
}

/// How a transfer over a data connection ended.
pub enum Listed {
    /// So many bytes came, and the server confirmed them.
    Bytes(usize),
    /// The server's refusal; whether it had connected (active) before.
    Refused(Reply),
    /// Nothing came in time, or the connection broke.
    Failed(String),
}

impl Dialogue {
    /// Connects, and reads the greeting (inside TLS, when that is to begin at once). One that says that the server is full is an
    /// error, as an end without any is.
    pub fn connect(config: &Config) -> Result<Self, Error> {
        let control = Control::connect(config, &Features::new())?;
        let connector = match config.tls.mode {
            TlsMode::Off => None,
            _ => Some(Arc::new(Connector::new(config)?)),
        };
        let mut dialogue = Self {
            control,
            config: config.clone(),
            connector,
            protects_data: false,
            greeting: None,
            resumed: None,
        };
        if config.tls.mode == TlsMode::Implicit {
            dialogue.hear_the_clear()?;
            dialogue.secure()?;
        }
        for _ in 0..MAX_DELAYS {
            let reply = match dialogue.control.any_reply() {
                Err(Error::Lost { text, .. }) => return Err(Error::TooManySessions { text, is_said: false }),
                reply => reply?,
            };
            if is_full(&reply) {
                return Err(Error::TooManySessions { text: reply.to_string(), is_said: true });
            }
            if !reply.is_preliminary() {
                dialogue.greeting = Some(reply);
                break;
            }
        }
        Ok(dialogue)
    }

    /// Connects, and begins TLS with AUTH TLS where that is wanted; beside it the refusal when there is none. As a mount would, it
    /// tries again where a server now and then takes the ClientHello for a command.
    pub fn connect_in_tls(config: &Config) -> Result<(Self, Result<Option<Reply>, Error>), Error> {
        let mut tries = 1;
        loop {
            let mut dialogue = Self::connect(config)?;
            let lets_in = dialogue.greeting.as_ref().is_none_or(Reply::is_success);
            let secured = match config.tls.mode {
                TlsMode::Explicit | TlsMode::Try if lets_in => dialogue.start_tls(),
                _ => Ok(None),
            };
            match secured {
                // The next one only when this one is closed: it would be counted.
                Err(Error::Tls { text })
                    if tries < TLS_TRIES && [WRONG_VERSION, CUT].iter().any(|sign| text.contains(sign)) =>
                {
                    tries += 1;
                }
                secured => return Ok((dialogue, secured)),
            }
        }
    }

    fn start_tls(&mut self) -> Result<Option<Reply>, Error> {
        let reply = self.ask(&Command::AuthTls)?;
        if reply.code != 234 {
            return Ok(Some(reply));
        }
        self.secure()?;
        Ok(None)
    }

    /// A server of TLS from the first byte waits for us; but vsftpd says in the clear that it is full, and one of plain FTP
    /// greets.
    fn hear_the_clear(&mut self) -> Result<(), Error> {
        if stream::wait(&mut [self.control.poll_fd()], Instant::now() + SPEAKS_FIRST).is_err() {
            return Ok(());
        }
        let reply = match self.control.any_reply() {
            Err(Error::Lost { text, .. }) => return Err(Error::TooManySessions { text, is_said: false }),
            reply => reply?,
        };
        Err(match is_full(&reply) {
            true => Error::TooManySessions { text: reply.to_string(), is_said: true },
            false => Error::Tls { text: format!("the server did not answer in TLS: it said {reply}") },
        })
    }

    fn secure(&mut self) -> Result<(), Error> {
        match &self.connector {
            Some(connector) => self.control.secure(connector, Slot::default()),
            None => Ok(()),
        }
    }

    /// USER, PASS and TYPE I; the reply that refused.
    pub fn log_in(&mut self) -> Result<Option<Reply>, Error> {
        let config = self.config.clone();
        let mut reply = self.ask(&Command::User(&config.user))?;
        if reply.code == 331 {
            reply = self.ask(&Command::Pass(&config.password))?;
        }
        if let (332, Some(account)) = (reply.code, &config.account) {
            reply = self.ask(&Command::Acct(account))?;
        }
        if !reply.is_success() {
            return Ok(Some(reply));
        }
        if self.control.slot().is_some() && config.tls.protect_data {
            self.ask(&Command::Pbsz)?;
            self.protects_data = self.ask(&Command::Prot(Protection::Private))?.is_success();
        }
        self.ask(&Command::TypeImage)?;
        Ok(None)
    }

    /// Connects and logs in; for checks that come after one where both went well.
    pub fn open(config: &Config) -> Result<Self, Error> {
        let (mut dialogue, secured) = Self::connect_in_tls(config)?;
        let refused = |reply: Reply| match is_full(&reply) {
            true => Error::TooManySessions { text: reply.to_string(), is_said: true },
            false => Error::Login { reply },
        };
        if let Some(greeting) = dialogue.greeting.clone().filter(|greeting| !greeting.is_success()) {
            return Err(refused(greeting));
        }
        secured?;
        match dialogue.log_in()? {
            Some(reply) => Err(refused(reply)),
            None => Ok(dialogue),
        }
    }

    /// One command, one reply, whatever it says.
    pub fn ask(&mut self, command: &Command<'_>) -> Result<Reply, Error> {
        let mut batch = Batch::default();
        batch.push(command, Wire::default())?;
        self.control.send(&batch)?;
        self.control.any_reply()
    }

    /// LIST of the login folder over `data`. What comes is counted, up to a bound, and thrown away.
    pub fn list(&mut self, data: Data) -> Result<Listed, Error> {
        let deadline = Instant::now() + self.config.timeout;
        let mut batch = Batch::default();
        batch.push(&Command::List(""), Wire::default())?;
        self.control.send(&batch)?;
        let mut data = Some(data);
        if let (true, Some(open), Some(connector), Some(slot)) =
            (self.protects_data, &mut data, &self.connector, self.control.slot())
        {
            open.secure(connector, slot)?;
        }
        let mut bytes = 0;
        let mut buffer = vec![0; 64 * 1024];
        let mut confirmed = None;
        loop {
            while let Some(reply) = self.control.try_reply()? {
                if reply.code >= 400 {
                    return Ok(Listed::Refused(reply));
                }
                if reply.is_success() {
                    confirmed = Some(reply);
                }
            }
            match data.as_mut().map(|open| open.read(&mut buffer)) {
                Some(Ok(Step::Done(n))) => {
                    self.resumed = data.as_ref().and_then(|open| Some(open.tls()?.is_resumed()));
                    if n == 0 {
                        data = None;
                        continue;
                    }
                    bytes += n;
                    if bytes > ENOUGH {
                        return Ok(Listed::Bytes(bytes));
                    }
                    continue;
                }
                Some(Ok(Step::NeedsRead | Step::NeedsWrite)) => {}
                Some(Err(error)) => return Ok(Listed::Failed(error.to_string())),
                None if confirmed.is_some() => return Ok(Listed::Bytes(bytes)),
                None => {}
            }
            let mut fds = vec![self.control.poll_fd()];
            // After the confirmation only data is waited for.
            fds.extend(data.as_ref().and_then(|open| open.poll_fd(PollFlags::POLLIN)));
            if stream::wait(&mut fds, deadline).is_err() {
                return Ok(Listed::Failed("nothing came".to_owned()));
            }
        }
    }

    /// Says QUIT.
    pub fn quit(mut self) {
        let mut batch = Batch::default();
        if batch.push(&Command::Quit, Wire::default()).is_ok() {
            // Whether it arrives makes no difference.
            let _ = self.control.send(&batch);
        }
    }
}

/// Whether the reply to connecting, or to a login that has worked before, is about the number of sessions.
fn is_full(reply: &Reply) -> bool {
    reply.code == 421 || refusal::says_too_many(reply)
}

/// Added to each connection of TLS from the first byte; a line that is longer gets OpenSSL's words.
const SPEAKS_FIRST: Duration = Duration::from_millis(250);
/// How often a server may say 120 before it is ready.
const MAX_DELAYS: usize = 5;
/// ftp-srv fails half of its handshakes so.
const TLS_TRIES: usize = 6;
/// A listing that has brought this much works.
const ENOUGH: usize = 1 << 20;
