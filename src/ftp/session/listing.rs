//! Listings: MLSD where the server has it, else STAT where that is known to be good ([`super::stat`]), else CWD and
//! `LIST -a`, else CWD and LIST; remembered for the mount.
//!
//! LIST never gets a path: servers expand globs in it, cut it at blanks and take `-x` for options. When the CWD in front
//! of it fails the listing that follows is of another folder, and is discarded. An empty answer is a claim to be checked:
//! several servers answer 226 and nothing for a folder that is missing or cannot be read.

use std::time::SystemTime;

use super::Session;
use crate::ftp::command::Command;
use crate::ftp::features::{Ability, Capability, Server};
use crate::ftp::listing::{Entry, Format, Kind, Listing, Parser, Progress};
use crate::ftp::reply::Reply;
use crate::ftp::{Error, Refusal, RemotePath};

impl Session {
    /// Lists a folder.
    pub fn list(&mut self, folder: &RemotePath) -> Result<Listing, Error> {
        let mut outcome = None;
        self.list_many(&[folder], &mut |_, progress| {
            if let Progress::Ended(ended) = progress {
                outcome = Some(ended);
            }
        })?;
        outcome.unwrap_or_else(|| Err(Error::Protocol { text: "no listing".to_owned() }))
    }

    /// Lists a folder over a data connection. Where none can be had: STAT. `piece` sees the entries of a large folder as
    /// they come.
    pub(super) fn list_by_transfer(
        &mut self,
        folder: &RemotePath,
        piece: &mut dyn FnMut(&[Entry]),
    ) -> Result<Listing, Error> {
        if self.features.data_is_blocked() {
            return self.list_without_data(folder);
        }
        if self.features.ability(Capability::Mlst) != Ability::No && self.server().lists_with_mlsd() {
            match self.fetch(None, Command::Mlsd(folder), folder, Format::Mlsd, piece) {
                Ok(fetched) => {
                    self.features.learn(Capability::Mlst, true);
                    if fetched.bytes == 0 {
                        // Neither names nor the folder's own line: ask whether it can be entered at all.
                        self.done(&Command::Cwd(folder), folder)?;
                    }
                    return Ok(fetched.listing);
                }
                Err(Error::Unsupported { command: "MLSD" }) => self.features.learn(Capability::Mlst, false),
                Err(error) => return Err(error),
            }
        }
        self.list_lines_or_names(folder, piece)
    }

    /// Where symlinks of a folder point, for servers whose MLSD does not tell: LIST.
    pub fn link_targets(&mut self, folder: &RemotePath) -> Result<Listing, Error> {
        self.list_lines_or_names(folder, &mut |_| {})
    }

    fn list_lines_or_names(
        &mut self,
        folder: &RemotePath,
        piece: &mut dyn FnMut(&[Entry]),
    ) -> Result<Listing, Error> {
        let listing = self.list_lines(folder, piece)?;
        if listing.entries.is_empty() && listing.unparsed > 0 {
            // Not one line is understood: perhaps they are names and nothing else.
            return self.list_by_names(folder, listing);
        }
        Ok(listing)
    }

    fn list_lines(&mut self, folder: &RemotePath, piece: &mut dyn FnMut(&[Entry])) -> Result<Listing, Error> {
        if let Some(options) = self.config.list.options.clone() {
            return Ok(self.fetch_list(folder, &options, piece)?.0);
        }
        let all = self.features.ability(Capability::ListAll);
        if all != Ability::No {
            match self.fetch_list(folder, "-a", piece) {
                // Where `-a` is taken for a name that is not there, some answer with nothing.
                Ok((_, 0)) if all == Ability::Unknown => {}
                Ok((listing, _)) => {
                    self.features.learn(Capability::ListAll, true);
                    return Ok(listing);
                }
                // CWD's refusal is about the folder, LIST's may be about the option.
                Err(Error::Refused { command: "LIST", .. }) if all == Ability::Unknown => {}
                Err(Error::Unsupported { command: "LIST" }) if all == Ability::Unknown => {
                    // At once: it may have cost the session.
                    self.features.learn(Capability::ListAll, false);
                }
                Err(error) => return Err(error),
            }
        }
        let (listing, lines) = self.fetch_list(folder, "", piece)?;
        // Two empty answers are an empty folder.
        if lines > 0 && self.features.ability(Capability::ListAll) == Ability::Unknown {
            self.features.learn(Capability::ListAll, false);
        }
        Ok(listing)
    }

    /// CWD and LIST; tells how many lines there were, too.
    fn fetch_list(
        &mut self,
        folder: &RemotePath,
        options: &str,
        piece: &mut dyn FnMut(&[Entry]),
    ) -> Result<(Listing, usize), Error> {
        let enter = Some(Command::Cwd(folder));
        let fetched = self.fetch(enter, Command::List(options), folder, Format::List, piece)?;
        let is_own_line = self.server() == Server::Vsftpd
            && fetched.lines == 1
            && matches!(fetched.listing.entries.as_slice(),
                [only] if only.kind == Kind::Directory && Some(&only.name) == folder.name().as_ref());
        if is_own_line {
            // vsftpd's way of saying that the folder cannot be read.
            let (meaning, reply) = (Refusal::Denied, fetched.reply);
            return Err(Error::Refused { command: "LIST", meaning, reply });
        }
        Ok((fetched.listing, fetched.lines))
    }

    /// A parser that knows this server's names and zone.
    pub(super) fn listing_parser(&self, format: Format) -> Parser {
        let zone = if format == Format::List { self.config.list.zone.clone() } else { None };
        Parser::with_clock(format, SystemTime::now(), zone).in_codepage(self.config.codepage)
    }

    pub(super) fn fetch(
        &mut self,
        before: Option<Command<'_>>,
        command: Command<'_>,
        folder: &RemotePath,
        format: Format,
        show: &mut dyn FnMut(&[Entry]),
    ) -> Result<Fetched, Error> {
        let mut transfer = self.start(before, command, &[], folder, false)?;
        let mut parser = self.listing_parser(format);
        let mut buffer = vec![0; 64 * 1024];
        let (mut bytes, mut lines, mut shown) = (0, 0, 0);
        loop {
            let n = self.receive(&mut transfer, &mut buffer)?;
            if n == 0 {
                break;
            }
            let piece = buffer.get(..n).unwrap_or_default();
            bytes += n;
            lines += piece.iter().filter(|&&b| b == b'\n').count();
            if bytes > MAX_LISTING || lines > MAX_LINES {
                self.cut(&mut transfer);
                return Err(self.end_on(Error::Endless { command: transfer.command }));
            }
            parser.push(piece);
            let entries = parser.entries().get(shown..).unwrap_or_default();
            if entries.len() >= PIECE {
                shown += entries.len();
                show(entries);
            }
        }
        let reply = self.conclude(&mut transfer)?;
        let mut listing = parser.finish();
        listing.truncated |= reply.words().contains("output truncated");
        Ok(Fetched { listing, reply, bytes, lines })
    }
}

/// A listing that came to its end.
pub(super) struct Fetched {
    pub listing: Listing,
    reply: Reply,
    bytes: usize,
    lines: usize,
}

/// More names than that are a folder made to fill our memory: about 200 bytes each while a listing is taken over.
pub(super) const MAX_LINES: usize = 1_000_000;
/// A folder with more entries is shown while it comes, so many at a time.
pub(super) const PIECE: usize = 2000;
/// A million names of 255 bytes.
pub(super) const MAX_LISTING: usize = 256 * 1024 * 1024;
