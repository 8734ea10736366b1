//! Listings on the control connection (`STAT path`): many in one segment where a server is known to answer them well, and
//! the last resort where no data connection can be had.
//!
//! A listing by LIST uses up a data connection, and vsftpd needs three round trips to be ready for the next one. By STAT
//! it takes one, and a hundred folders can be asked for at once. vsftpd takes a path that it can open as a folder for
//! that folder, whatever blanks and stars are in it, and tells hidden names too. Two things have to be seen to:
//!
//! * Of a path that it cannot open it makes a pattern. A pattern's answer lacks the folder's own line (`.`), so a listing
//!   without that line proves nothing, and the folder is listed by LIST, whose CWD tells what is wrong.
//! * A name with a line break ends the reply where whoever made that name wants it, and what stands behind it would be
//!   taken for the answer to the next command: for a 226, say. So every STAT is followed by a REST with a random number,
//!   which vsftpd repeats in its answer. Where the number is not in its place, the session ends, nothing that it said
//!   counts, and the folder is listed by LIST.
//!
//! On other servers STAT expands patterns and cuts paths at blanks, so as a last resort CWD goes ahead as proof that the
//! folder is there, and a path that would be expanded or cut is refused. On a server that is not known a path with blanks is
//! asked for, and an answer in which anything is odd refused: `ls`, given two paths for one, has something to say of it.

use std::hash::{BuildHasher, Hasher, RandomState};

use super::Session;
use super::listing::{MAX_LINES, MAX_LISTING, PIECE};
use crate::ftp::command::{Batch, Command};
use crate::ftp::features::{BLOCKED, Capability, Server};
use crate::ftp::listing::{Entry, Format, Kind, Listing, Parser, Progress};
use crate::ftp::reply::Reply;
use crate::ftp::{Error, Refusal, RemotePath};

impl Session {
    /// Whether [`Session::list_many`] asks for many folders in the round trips of one.
    pub fn lists_together(&self) -> bool {
        self.features.lists_together() && self.config.list.options.is_none()
    }

    /// Lists folders; `each` gets every outcome as it comes, with the folder's place. An error of the session is returned
    /// instead, and is that of every folder that had no outcome before.
    pub fn list_many(
        &mut self,
        folders: &[&RemotePath],
        each: &mut dyn FnMut(usize, Progress<'_>),
    ) -> Result<(), Error> {
        let trusted = |at: &usize| {
            self.lists_together()
                && folders.get(*at).is_some_and(|folder| !self.features.distrusts_status(folder))
        };
        let (together, mut alone): (Vec<usize>, Vec<usize>) = (0..folders.len()).partition(trusted);
        let asked: Vec<&RemotePath> = together.iter().filter_map(|&at| folders.get(at).copied()).collect();
        if !asked.is_empty() {
            self.list_together(&asked, &mut |place, progress| {
                let Some(&at) = together.get(place) else { return };
                match progress {
                    Proven::Entries(entries) => each(at, Progress::Entries(entries)),
                    Proven::Listing(listing) => each(at, Progress::Ended(Ok(listing))),
                    Proven::Nothing => alone.push(at),
                }
            })?;
        }
        for at in alone {
            let Some(folder) = folders.get(at) else { continue };
            match self.list_by_transfer(folder, &mut |entries| each(at, Progress::Entries(entries))) {
                Err(error) if error.ends_session() || error.is_transient() => return Err(error),
                Err(error) => {
                    let error = self.reason(error, folder)?;
                    each(at, Progress::Ended(Err(error)));
                }
                Ok(listing) => each(at, Progress::Ended(Ok(listing))),
            }
        }
        Ok(())
    }

    /// Why a folder cannot be entered, when the server did not tell: what the folder above has of that name.
    fn reason(&mut self, error: Error, folder: &RemotePath) -> Result<Error, Error> {
        let (Error::Refused { command, meaning: Refusal::Unclear, reply }, Some(parent)) =
            (&error, folder.parent().filter(|_| self.lists_together()))
        else {
            return Ok(error);
        };
        let mut siblings = None;
        self.list_together(&[&parent], &mut |_, progress| {
            if let Proven::Listing(listing) = progress {
                siblings = Some(listing);
            }
        })?;
        let Some(siblings) = siblings else { return Ok(error) };
        let itself = siblings.entries.iter().find(|entry| Some(&entry.name) == folder.name().as_ref());
        let meaning = match itself.map(|entry| entry.kind) {
            None => Refusal::NotFound,
            Some(Kind::File | Kind::Special) => Refusal::NotDirectory,
            Some(Kind::Directory | Kind::Symlink) => Refusal::Denied,
        };
        Ok(Error::Refused { command, meaning, reply: reply.clone() })
    }

    fn list_together(
        &mut self,
        folders: &[&RemotePath],
        each: &mut dyn FnMut(usize, Proven<'_>),
    ) -> Result<(), Error> {
        self.settle();
        let marks: Vec<u64> = folders.iter().map(|_| mark()).collect();
        let mut commands: Vec<Command<'_>> = Vec::with_capacity(2 * folders.len() + 1);
        for (folder, mark) in folders.iter().zip(&marks) {
            commands.extend([Command::Stat(folder), Command::Rest(*mark)]);
        }
        // No transfer shall begin there.
        commands.push(Command::Rest(0));
        let mut batch = Batch::default();
        for command in &commands {
            if !batch.has_room_for(command) {
                self.control.send(&std::mem::take(&mut batch))?;
            }
            batch.push(command, self.wire())?;
        }
        self.control.send(&batch)?;
        for (at, mark) in marks.iter().enumerate() {
            let mut parser = self.listing_parser(Format::List);
            let mut shown = 0;
            let reply = self.status(&mut parser, &mut |parser| {
                let entries = parser.entries().get(shown..).unwrap_or_default();
                if entries.len() >= PIECE && parser.shows_itself() {
                    shown += entries.len();
                    each(at, Proven::Entries(entries));
                }
            })?;
            let marked = self.control.reply()?;
            let is_marked = marked.code == 350 && marked.words().contains(&format!("({mark})"));
            if !is_marked {
                if marked.code >= 400 {
                    self.features.learn(Capability::ListByStat, false);
                } else {
                    log::warn!("a name in {} breaks the server's replies apart", named(folders, at));
                }
                self.features.distrust_status(folders.get(at).copied());
                let text = format!("the number behind it was answered with {marked}");
                return Err(self.end_on(Error::Lost { during: "STAT", text }));
            }
            if !reply.is_success() {
                log::debug!("no listings by STAT: {reply}");
                self.features.learn(Capability::ListByStat, false);
            }
            let is_proven = reply.code == 213 && parser.shows_itself();
            each(at, if is_proven { Proven::Listing(parser.finish()) } else { Proven::Nothing });
        }
        let last = self.control.reply()?;
        if last.code != 350 {
            return Err(self.end_on(Error::Lost { during: "REST", text: last.to_string() }));
        }
        Ok(())
    }

    /// Reads the answer to STAT; its inner lines go to the parser as they come, and `look` sees it then.
    fn status(&mut self, parser: &mut Parser, look: &mut dyn FnMut(&Parser)) -> Result<Reply, Error> {
        let (mut bytes, mut lines, counters) = (0, 0, self.features.clone());
        self.control.reply_with_text(&mut |text| {
            bytes += text.len();
            counters.counters().received(text.len());
            lines += text.iter().filter(|&&b| b == b'\n').count();
            if bytes > MAX_LISTING || lines > MAX_LINES {
                return Err(Error::Endless { command: "STAT" });
            }
            parser.push(text);
            look(parser);
            Ok(())
        })
    }

    /// Where no data connection can be had.
    pub(super) fn list_without_data(&mut self, folder: &RemotePath) -> Result<Listing, Error> {
        let has_blanks = folder.as_bytes().contains(&b' ');
        let is_cut = has_blanks && self.server().cuts_status_at_blanks();
        if is_cut || folder.as_bytes().iter().any(|byte| b"*?[]{}".contains(byte)) {
            return Err(Error::Data { during: "STAT", text: BLOCKED.to_owned() });
        }
        self.done(&Command::Cwd(folder), folder)?;
        self.send(&[Command::Stat(folder)])?;
        let mut parser = self.listing_parser(Format::List);
        let reply = self.status(&mut parser, &mut |_| {})?;
        if !reply.is_success() {
            return Err(match self.refused("STAT", reply, &[folder]) {
                // What the user must know is why STAT was asked at all.
                Error::Unsupported { .. } => Error::Data { during: "LIST", text: BLOCKED.to_owned() },
                error => error,
            });
        }
        // libunftp has entries on the reply's first and last line, too.
        for line in &reply.lines {
            parser.push_doubtful(line);
        }
        let mut listing = parser.finish();
        let is_odd = listing.entries.is_empty() || listing.unparsed > 0;
        let is_unread = listing.entries.is_empty() && listing.unparsed > 0;
        if is_unread || has_blanks && is_odd && self.server() == Server::Unknown {
            return Err(Error::Data { during: "LIST", text: BLOCKED.to_owned() });
        }
        listing.truncated |= reply.words().contains("output truncated")
            || self.server() == Server::PureFtpd && listing.entries.len() >= PURE_FTPD_MOST;
        Ok(listing)
    }
}

/// What STAT has told of a folder.
enum Proven<'a> {
    /// More entries, while it is still telling.
    Entries(&'a [Entry]),
    Listing(Listing),
    /// It may not have been the folder, but what a pattern matches.
    Nothing,
}

/// Pure-FTPd leaves out what comes behind so many entries, by default, and does not always say so.
const PURE_FTPD_MOST: usize = 10_000;

fn named(folders: &[&RemotePath], at: usize) -> String {
    folders.get(at).map(ToString::to_string).unwrap_or_default()
}

/// A number of fifteen digits that nobody can know beforehand: vsftpd takes longer ones for 0.
fn mark() -> u64 {
    FIRST_MARK + RandomState::new().build_hasher().finish() % (9 * FIRST_MARK)
}

const FIRST_MARK: u64 = 100_000_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_have_fifteen_digits_and_differ() {
        let (one, other) = (mark(), mark());
        assert_ne!(one, other);
        assert!([one, other].iter().all(|mark| mark.to_string().len() == 15));
    }
}
