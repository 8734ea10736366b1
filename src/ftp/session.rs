//! One logged-in session: everything that can be asked of a server, each in the fewest round trips that it allows.
//!
//! A session is straight-line code around one control connection. It never has more than one transfer under way, sends
//! nothing into a running one, and when an answer is odd, late or missing it is over (`is_alive` turns false): a new
//! login costs less than guessing which answer belongs to what. While idle it keeps a data connection *ready*
//! ([`Session::make_ready`]), so that the next transfer takes one round trip to its first byte.
//!
//! The parts: `login` (connecting, logging in, learning), `ready` (data connections ahead of their use), `transfer` (what
//! RETR, STOR and LIST share), `cut`, `download`, `upload`, `listing`, `stat` (listings on the control connection), `bare` (listings of last resort), `attributes`. Only `connection` and its jobs call this.

mod attributes;
mod bare;
mod cut;
mod download;
mod listing;
mod login;
mod ready;
mod space;
mod stat;
mod transfer;
mod upload;

use std::collections::VecDeque;
use std::sync::Arc;

pub use download::{Download, Told};
pub use ready::{eprt_argument, port_argument};
pub use space::Space;
pub use upload::{After, How, Stored};

use super::codepage::Codepage;
use super::command::{Batch, Command, Wire};
use super::control::Control;
use super::data::Data;
use super::features::{Order, Server, Way};
use super::refusal;
use super::reply::Reply;
use super::{Config, Error, Features, Refusal, RemotePath};

/// One control connection, logged in, with TYPE I set.
pub struct Session {
    config: Arc<Config>,
    features: Features,
    control: Control,
    root: RemotePath,
    /// A data connection that waits for its command, or is being made.
    ready: Option<Data>,
    /// How that was asked for.
    ready_way: Way,
    /// It was asked for behind an upload that is confirmed, and there is no answer yet.
    port_owed: bool,
    /// An RNTO was refused: on Pure-FTPd its RNFR still holds, also behind one that is refused.
    source_stands: bool,
    /// A REST has been sent whose transfer did not end well: on ftp-srv and libunftp it would hit the next one.
    restart_pending: bool,
    /// Data connections are inside TLS (PROT P).
    protects_data: bool,
}

impl Session {
    /// The folder on the server that is the root of the mount (Config::folder resolved against PWD).
    pub fn root(&self) -> &RemotePath {
        &self.root
    }

    /// The encoding of the server's names, when it is not UTF-8.
    pub fn codepage(&self) -> Option<Codepage> {
        self.config.codepage
    }

    /// What is known of this server.
    pub fn features(&self) -> &Features {
        &self.features
    }

    /// False when the session can no longer be used: an earlier error ended it, or the server has closed it or sent 421
    /// meanwhile (looks without waiting).
    pub fn is_alive(&mut self) -> bool {
        self.settle();
        self.control.is_alive()
    }

    /// Takes the answer to what was asked for the next transfer, behind an upload whose caller has been answered by now.
    pub fn settle(&mut self) {
        if std::mem::take(&mut self.port_owed) && !self.control.has_ended() {
            self.take_port_behind();
        }
    }

    /// Whether a data connection waits for the next transfer.
    pub fn is_ready(&self) -> bool {
        self.ready.as_ref().is_some_and(Data::is_ready)
    }

    /// A new session with the same server, when this one has ended and something is to be set right.
    pub fn another(&self) -> Result<Self, Error> {
        Self::open(&self.config, &self.features)
    }

    /// Says QUIT without waiting for the answer.
    pub fn quit(mut self) {
        if self.is_alive() {
            // Whether it arrives makes no difference: the connection is closed either way.
            let _ = self.send(&[Command::Quit]);
        }
    }

    /// RNFR and RNTO. Whether an existing target is replaced is up to the server (`Features::rename_replaces`).
    pub fn rename(&mut self, from: &RemotePath, to: &RemotePath) -> Result<(), Error> {
        let paths = [from, to];
        // Pure-FTPd would rename the source of the refused RNTO when this RNFR is refused, too.
        let together = self.features.order() == Order::Strict && !self.source_stands;
        let (first, second) = if together {
            self.send(&[Command::Rnfr(from), Command::Rnto(to)])?;
            let first = self.control.reply()?;
            (first, self.control.reply()?)
        } else {
            let first = self.one(&Command::Rnfr(from), &[])?;
            if !first.is_intermediate() {
                return Err(self.refused("RNFR", first, &paths));
            }
            (first, self.one(&Command::Rnto(to), &[])?)
        };
        if !first.is_intermediate() {
            return Err(self.refused("RNFR", first, &paths));
        }
        self.source_stands = !second.is_success();
        if second.is_success() {
            return Ok(());
        }
        if second.words().contains("already exists") {
            self.features.rename_does_not_replace();
        }
        Err(self.refused("RNTO", second, &paths))
    }

    /// DELE. Some servers remove an empty folder with it: the caller knows what it deletes.
    pub fn delete(&mut self, path: &RemotePath) -> Result<(), Error> {
        self.done(&Command::Dele(path), path)
    }

    /// MKD.
    pub fn make_directory(&mut self, path: &RemotePath) -> Result<(), Error> {
        let reply = self.one(&Command::Mkd(path), &[])?;
        match reply.code {
            250 | 257 => Ok(()),
            // Also a 200, which no server measured gives: it answers something else.
            _ => Err(self.refused("MKD", reply, &[path])),
        }
    }

    /// RMD.
    pub fn remove_directory(&mut self, path: &RemotePath) -> Result<(), Error> {
        self.done(&Command::Rmd(path), path)
    }

    /// Sends a command whose only good answer is 2xx.
    fn done(&mut self, command: &Command<'_>, path: &RemotePath) -> Result<(), Error> {
        let reply = self.one(command, &[])?;
        if reply.is_success() { Ok(()) } else { Err(self.refused(command.name(), reply, &[path])) }
    }

    /// Sends one command and gives its reply; codes in `unwanted` count as refusals.
    fn one(&mut self, command: &Command<'_>, unwanted: &[u16]) -> Result<Reply, Error> {
        self.send(std::slice::from_ref(command))?;
        let reply = self.control.reply()?;
        if reply.is_preliminary() || unwanted.contains(&reply.code) {
            return Err(self.refused(command.name(), reply, &[]));
        }
        Ok(reply)
    }

    /// Sends independent commands, together where the server keeps order, and gives their replies in order.
    fn ask(&mut self, commands: &[Command<'_>]) -> Result<Vec<Reply>, Error> {
        let mut replies = Vec::with_capacity(commands.len());
        self.ask_each(commands, &|| commands.len(), &mut |_, reply| replies.push(reply))?;
        Ok(replies)
    }

    /// As [`Session::ask`]; gives each reply to `take` as it comes, and sends no more than the first `allowed` commands, a
    /// number that may grow meanwhile.
    fn ask_each(
        &mut self,
        commands: &[Command<'_>],
        allowed: &dyn Fn() -> usize,
        take: &mut dyn FnMut(&mut Self, Reply),
    ) -> Result<(), Error> {
        self.settle();
        let mut owed = VecDeque::new();
        let ahead = if self.server().takes_segments() { ASKED_AHEAD } else { 0 };
        let mut next = 0;
        loop {
            let most = allowed().min(commands.len());
            if next < most && owed.len() <= ahead {
                let mut batch = Batch::default();
                while let Some(command) = commands.get(next).filter(|_| next < most) {
                    let together = self.features.order() >= Order::Independent && batch.has_room_for(command);
                    if !batch.names().is_empty() && !together {
                        break;
                    }
                    batch.push(command, self.wire())?;
                    next += 1;
                }
                self.control.send(&batch)?;
                owed.extend(batch.names().iter().copied());
                if ahead > 0 {
                    continue;
                }
            }
            // One by one where more may be sent meanwhile, else all of a batch.
            let left = if ahead > 0 { owed.len().saturating_sub(1) } else { 0 };
            if owed.is_empty() {
                return Ok(());
            }
            while owed.len() > left {
                let Some(name) = owed.pop_front() else { break };
                let reply = self.control.reply()?;
                if reply.is_preliminary() {
                    return Err(self.refused(name, reply, &[]));
                }
                take(self, reply);
            }
        }
    }

    /// Sends commands in one write; the caller reads the replies.
    fn send(&mut self, commands: &[Command<'_>]) -> Result<(), Error> {
        self.settle();
        let mut batch = Batch::default();
        for command in commands {
            batch.push(command, self.wire())?;
        }
        self.control.send(&batch)
    }

    /// The error for an unwanted reply; ends the session when the reply makes no sense.
    fn refused(&mut self, command: &'static str, reply: Reply, paths: &[&RemotePath]) -> Error {
        let mut error = refusal::refused(command, reply, paths);
        if let Error::Refused { meaning, .. } = &mut error
            && *meaning == Refusal::NotFound
            && !self.features.server().tells_reasons()
        {
            *meaning = Refusal::Unclear;
        }
        self.end_on(error)
    }

    /// Passes an error on, and ends the session when it is of that kind.
    fn end_on(&mut self, error: Error) -> Error {
        if error.ends_session() {
            self.control.end();
        }
        error
    }

    fn server(&self) -> Server {
        self.features.server()
    }

    fn wire(&self) -> Wire {
        Wire { doubles_iac: self.server().doubles_iac(), codepage: self.config.codepage }
    }
}

/// Commands whose answers are still to come, on servers that read them one by one: enough to keep a server busy over a
/// long line (20 times in a millisecond, 100 ms away). Sending takes replies in, so neither side can block the other.
const ASKED_AHEAD: usize = 2048;
