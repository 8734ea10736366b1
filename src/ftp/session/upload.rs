//! STOR, APPE and REST + STOR: nothing is reported as stored that the server has not confirmed.
//!
//! The data connection is up before the command is sent: every server measured empties the file the moment it reads
//! STOR, even when no data connection can be made. Data and FIN follow the command at once, without waiting for 150.
//! While data is sent the control connection is watched, so that a refusal ends it early; when the data connection
//! breaks the reason is still read. What is to be asked or done afterwards (SIZE, MDTM or MFMT, SITE CHMOD) goes out in
//! STOR's own segment on servers known to answer it after the 226, and in one segment after the 226 elsewhere. vsftpd gets
//! the EPSV of the next transfer there, too; its answer is taken when the caller has been answered ([`Session::settle`]).

mod ending;

use std::io;
use std::time::{Duration, Instant, SystemTime};

use nix::poll::PollFlags;

use super::Session;
use super::attributes::Setter;
use super::download::Told;
use super::transfer::{Failure, Transfer};
use crate::ftp::command::Command;
use crate::ftp::features::{Ability, Capability, Server};
use crate::ftp::listing::{self, Modified, Precision};
use crate::ftp::reply::Reply;
use crate::ftp::stream::Step;
use crate::ftp::{Error, RemotePath};

/// How an upload meets what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// STOR to a name that nothing is lost under: what breaks off is sent again.
    New,
    /// STOR: replaces.
    Replace,
    /// APPE: adds at the end.
    Append,
    /// REST + STOR: overwrites from this offset on.
    From(u64),
}

/// What is to be done or asked once the data is there, in the same round trip where the server allows it.
#[derive(Clone, Debug, Default)]
pub struct After {
    pub modified: Option<SystemTime>,
    pub mode: Option<u32>,
    /// Another file of which size and time are asked for.
    pub about: Option<RemotePath>,
}

/// A confirmed upload.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Bytes sent by this transfer.
    pub sent: u64,
    /// The file's size as the server tells it after the transfer (SIZE, or MLST where SIZE is missing); none if it cannot.
    pub size: Option<u64>,
    /// The file's mtime as the server tells it (or as it was just set).
    pub modified: Option<Modified>,
    /// Whether After::modified was applied / is unsupported / failed: Some(Err) carries the refusal.
    pub modified_set: Option<Result<(), Error>>,
    pub mode_set: Option<Result<(), Error>>,
    /// Of After::about.
    pub about: Option<Told>,
}

/// What is asked behind an upload, in the order in which it is sent.
#[derive(Clone, Copy)]
enum Afterthought {
    Size,
    Mdtm,
    Set(Setter, SystemTime),
    Mode(u32),
    OtherSize,
    OtherMdtm,
}

impl Session {
    /// Uploads everything that `source` gives; returns when the server has confirmed it (226) and told the size.
    pub fn store(
        &mut self,
        path: &RemotePath,
        how: How,
        source: &mut dyn io::Read,
        after: &After,
    ) -> Result<Stored, Error> {
        let (before, command) = match how {
            How::New | How::Replace | How::From(0) => (None, Command::Stor(path)),
            How::Append if self.features.ability(Capability::Append) == Ability::No => {
                return Err(Error::Unsupported { command: "APPE" });
            }
            How::Append => (None, Command::Appe(path)),
            How::From(_) if self.features.ability(Capability::RestStor) == Ability::No => {
                return Err(Error::Unsupported { command: "REST" });
            }
            How::From(offset) => (Some(Command::Rest(offset)), Command::Stor(path)),
        };
        let thoughts = self.afterthoughts(after);
        let commands: Vec<Command<'_>> =
            thoughts.iter().map(|thought| self.afterthought_command(*thought, path, after)).collect();
        let asks_behind = self.server().answers_behind_store();
        let mut behind = if asks_behind { commands.clone() } else { Vec::new() };
        let takes_port = self.may_ask_early();
        behind.extend(takes_port.then_some(Command::Epsv));

        // A STOR that was sent although its REST was refused replaces the file: so never in one segment.
        let careful = before.is_some();
        let mut transfer = self.start(before, command, &behind, path, careful)?;
        let (outcome, sent) = self.upload(&mut transfer, how, source);
        let mut replies = Vec::new();
        // The answers to what was sent behind STOR come whatever became of it.
        if asks_behind && !self.control.has_ended() {
            for _ in &commands {
                match self.control.reply() {
                    Ok(reply) => replies.push(reply),
                    Err(error) if outcome.is_ok() => {
                        log::debug!("after a confirmed upload: {error}");
                        break;
                    }
                    Err(_) => break,
                }
            }
        }
        // It is not what the caller waits for.
        self.port_owed = takes_port;
        if let Err(error) = outcome {
            if transfer.hurried && matches!(error, Error::Data { .. }) {
                self.features.hurry_failed();
            }
            return Err(self.learn_from(how, error));
        }
        match how {
            How::Append => self.features.learn(Capability::Append, true),
            How::From(_) => self.features.learn(Capability::RestStor, true),
            How::New | How::Replace => {}
        }
        if !asks_behind && !commands.is_empty() {
            // The upload is confirmed: that the connection is lost now does not make it undone.
            replies = self.ask(&commands).unwrap_or_else(|error| {
                log::debug!("after a confirmed upload: {error}");
                Vec::new()
            });
        }
        let stored = self.stored(path, sent, after, &thoughts, replies);
        if transfer.hurried && stored.size != Some(sent) {
            self.features.hurry_failed();
        }
        Ok(stored)
    }

    /// Sends it all and waits for the confirmation; tells how many bytes were sent, too.
    fn upload(
        &mut self,
        transfer: &mut Transfer,
        how: How,
        source: &mut dyn io::Read,
    ) -> (Result<(), Error>, u64) {
        let mut sent = 0;
        if self.features.ability(Capability::EarlyData) == Ability::No {
            let deadline = Instant::now() + self.config.timeout;
            if let Err(failure) = transfer.wait_until_begun(&mut self.control, deadline) {
                return (Err(self.failed(transfer, failure)), sent);
            }
        }
        let is_early = !transfer.has_begun;
        // Most files are small, and to be given a large buffer costs more than to send them.
        let mut buffer = vec![0; FIRST_CHUNK];
        loop {
            let filled = match fill(source, &mut buffer) {
                Ok(filled) => filled,
                Err(error) => {
                    // Never let half a file look complete: a reset is an error to most servers.
                    self.cut(transfer);
                    return (Err(Error::Local { errno: error.raw_os_error().unwrap_or(libc::EIO) }), sent);
                }
            };
            let chunk = buffer.get(..filled).unwrap_or_default();
            if let Err(failure) = self.send_chunk(transfer, chunk) {
                return (Err(self.upload_failed(transfer, is_early, failure)), sent);
            }
            sent += filled as u64;
            if filled < buffer.len() {
                break;
            }
            buffer.resize(CHUNK, 0);
        }
        let may_hurry = self.may_hurry(transfer, how, sent);
        let outcome = match self.close_and_confirm(transfer, is_early, sent, may_hurry) {
            Ok(_) => Ok(()),
            Err(failure) => Err(self.upload_failed(transfer, is_early, failure)),
        };
        (outcome, sent)
    }

    /// The error of an upload. Where its first bytes may have overtaken their command (`is_early`), and the server has dropped
    /// them and says nothing more than 150, it waits for another connection: the next attempt waits for its 150.
    fn upload_failed(&mut self, transfer: &mut Transfer, is_early: bool, failure: Failure) -> Error {
        if is_early && transfer.has_begun && matches!(failure, Failure::Unexplained { .. }) {
            self.features.learn(Capability::EarlyData, false);
        }
        self.failed(transfer, failure)
    }

    fn send_chunk(&mut self, transfer: &mut Transfer, mut chunk: &[u8]) -> Result<(), Failure> {
        let mut deadline = Instant::now() + self.config.timeout;
        while !chunk.is_empty() {
            let Some(data) = &mut transfer.data else {
                return Err(Error::Data { during: transfer.command, text: "closed".to_owned() }.into());
            };
            let needs = match data.write(chunk) {
                Ok(Step::Done(n)) => {
                    self.features.counters().sent(n);
                    chunk = chunk.get(n..).unwrap_or_default();
                    deadline = Instant::now() + self.config.timeout;
                    continue;
                }
                Ok(Step::NeedsRead) => PollFlags::POLLIN,
                Ok(Step::NeedsWrite) => PollFlags::POLLOUT,
                Err(error) => return Err(transfer.broken(&mut self.control, &error)),
            };
            self.still_wanted(transfer)?;
            transfer.wait(&self.control, needs, deadline)?;
        }
        Ok(())
    }

    /// While there is data to send, any final reply is an early end: pyftpdlib and Twisted say 226 to a broken upload.
    fn still_wanted(&mut self, transfer: &mut Transfer) -> Result<(), Failure> {
        transfer.look(&mut self.control)?;
        let Some(reply) = &transfer.last else { return Ok(()) };
        let text = format!("the server ended the upload early: {reply}");
        Err(Error::Data { during: transfer.command, text }.into())
    }

    fn afterthoughts(&self, after: &After) -> Vec<Afterthought> {
        let mut thoughts = Vec::new();
        if self.features.ability(Capability::Size) != Ability::No {
            thoughts.push(Afterthought::Size);
        }
        // CHMOD before the time: some servers touch the file with it.
        if let Some(mode) = after.mode
            && self.features.can_set_mode()
        {
            thoughts.push(Afterthought::Mode(mode));
        }
        match (after.modified, self.setter()) {
            (Some(at), Some(setter))
                if setter.is_known(&self.features) && !self.features.must_learn_zone() =>
            {
                thoughts.push(Afterthought::Set(setter, at));
            }
            _ if self.features.ability(Capability::Mdtm) != Ability::No => thoughts.push(Afterthought::Mdtm),
            _ => {}
        }
        if after.about.is_some() {
            let others =
                [(Capability::Size, Afterthought::OtherSize), (Capability::Mdtm, Afterthought::OtherMdtm)];
            let known = others.into_iter().filter(|(way, _)| self.features.ability(*way) != Ability::No);
            thoughts.extend(known.map(|(_, thought)| thought));
        }
        thoughts
    }

    fn afterthought_command<'p>(
        &self,
        thought: Afterthought,
        path: &'p RemotePath,
        after: &'p After,
    ) -> Command<'p> {
        let other = after.about.as_ref().unwrap_or(path);
        match thought {
            Afterthought::OtherSize => Command::Size(other),
            Afterthought::OtherMdtm => Command::Mdtm(other),
            Afterthought::Size => Command::Size(path),
            Afterthought::Mdtm => Command::Mdtm(path),
            Afterthought::Set(setter, at) => self.setter_command(setter, at, path),
            Afterthought::Mode(mode) => Command::SiteChmod(mode, path),
        }
    }

    fn stored(
        &mut self,
        path: &RemotePath,
        sent: u64,
        after: &After,
        thoughts: &[Afterthought],
        replies: Vec<Reply>,
    ) -> Stored {
        let mut stored =
            Stored { sent, size: None, modified: None, modified_set: None, mode_set: None, about: None };
        for (thought, reply) in thoughts.iter().zip(replies) {
            match *thought {
                Afterthought::Size => {
                    stored.size = self.size_in(&reply);
                    if reply.is_unknown_command() {
                        self.features.learn(Capability::Size, false);
                    } else if reply.is_success() && reply.code != 213 {
                        // An answer to something else: what follows cannot be trusted either. (ftp-srv says 213 without
                        // a number for an empty file.)
                        self.control.end();
                    }
                }
                Afterthought::Mdtm => {
                    if self.server() == Server::Vsftpd
                        && let Some(at) = listing::parse_time(reply.first().trim_ascii())
                    {
                        self.features.learn_zone(at, SystemTime::now());
                    }
                    stored.modified = self.mdtm(&reply);
                }
                Afterthought::OtherSize => stored.about.get_or_insert_default().size = self.size_in(&reply),
                Afterthought::OtherMdtm => {
                    stored.about.get_or_insert_default().modified = self.mdtm(&reply).map(|exact| exact.at)
                }
                Afterthought::Mode(_) => stored.mode_set = Some(self.mode_outcome(reply, path)),
                Afterthought::Set(setter, at) => {
                    let outcome = self.setter_outcome(setter, reply, path);
                    if outcome.is_ok() {
                        stored.modified =
                            Some(Modified { at: whole_seconds(at), precision: Precision::Second });
                    }
                    stored.modified_set = Some(outcome);
                }
            }
        }
        // The way of setting times is not known yet: find it.
        if let (Some(at), None) = (after.modified, &stored.modified_set) {
            let outcome = self.set_modified(path, at);
            if outcome.is_ok() {
                stored.modified = Some(Modified { at: whole_seconds(at), precision: Precision::Second });
            }
            stored.modified_set = Some(outcome);
        }
        if after.mode.is_some() && stored.mode_set.is_none() {
            stored.mode_set = Some(Err(Error::Unsupported { command: "SITE CHMOD" }));
        }
        let wants_more = stored.size.is_none() || stored.modified.is_none();
        if wants_more && self.features.ability(Capability::Mlst) == Ability::Yes && !self.control.has_ended()
        {
            match self.stat(path) {
                Ok(entry) => {
                    stored.size = stored.size.or(entry.size);
                    stored.modified = stored.modified.or(entry.modified);
                }
                Err(error) => log::debug!("after a confirmed upload: {error}"),
            }
        }
        stored
    }

    fn learn_from(&mut self, how: How, error: Error) -> Error {
        let capability = match how {
            How::Append => Capability::Append,
            How::From(_) => Capability::RestStor,
            How::New | How::Replace => return error,
        };
        // ProFTPD's default: "451 Append/Restart not permitted, try again".
        let forbids = matches!(&error, Error::Refused { reply, .. } if reply.words().contains("not permitted, try again"));
        if forbids || matches!(error, Error::Unsupported { .. }) {
            self.features.learn(capability, false);
            return Error::Unsupported { command: if how == How::Append { "APPE" } else { "REST" } };
        }
        error
    }
}

/// Reads until the buffer is full or the source has ended.
fn fill(source: &mut dyn io::Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match source.read(rest) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn whole_seconds(at: SystemTime) -> SystemTime {
    match at.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => SystemTime::UNIX_EPOCH + Duration::from_secs(after.as_secs()),
        Err(before) => {
            let before = before.duration();
            SystemTime::UNIX_EPOCH
                - Duration::from_secs(before.as_secs() + u64::from(before.subsec_nanos() > 0))
        }
    }
}

/// Big enough that the look at the source and the socket costs nothing beside the copy, small enough for many mounts.
const CHUNK: usize = 256 * 1024;
const FIRST_CHUNK: usize = 16 * 1024;
