//! Listings of last resort: STAT when no data connection can be had, and names without anything else when that is all that
//! a server lists.
//!
//! `STAT path` gives LIST's lines on the control connection. Servers expand globs in the path and cut it at blanks, so CWD
//! goes ahead as proof that the folder is there, and a path that would be expanded is refused. NLST's names are made entries
//! by asking each for its size: who has one is a file, who can be entered is a folder, and who is neither stays out and is
//! counted, because it may be a line of an error text.

use super::Session;
use crate::ftp::command::Command;
use crate::ftp::features::BLOCKED;
use crate::ftp::listing::{Entry, Format, Kind, Listing};
use crate::ftp::{Error, RemotePath};

impl Session {
    /// Lists over the control connection.
    pub(super) fn list_by_stat(&mut self, folder: &RemotePath) -> Result<Listing, Error> {
        if folder.as_bytes().iter().any(|byte| b"*?[]{}".contains(byte)) {
            return Err(Error::Data { during: "STAT", text: BLOCKED.to_owned() });
        }
        self.done(&Command::Cwd(folder), folder)?;
        let reply = self.one(&Command::Stat(folder), &[])?;
        if !reply.is_success() {
            return Err(match self.refused("STAT", reply, &[folder]) {
                // What the user must know is why STAT was asked at all.
                Error::Unsupported { .. } => Error::Data { during: "LIST", text: BLOCKED.to_owned() },
                error => error,
            });
        }
        let mut parser = self.listing_parser(Format::List);
        // The first and the last line are about the reply.
        let lines = reply.lines.get(1..reply.lines.len().saturating_sub(1)).unwrap_or_default();
        for line in lines {
            parser.push(line);
            parser.push(b"\n");
        }
        let listing = parser.finish();
        if listing.entries.is_empty() && listing.unparsed > 0 {
            return Err(Error::Data { during: "LIST", text: BLOCKED.to_owned() });
        }
        Ok(listing)
    }

    /// Lists with NLST; `unparsed` is what LIST gave, which is kept when NLST is no better.
    pub(super) fn list_by_names(&mut self, folder: &RemotePath, unparsed: Listing) -> Result<Listing, Error> {
        let fetched = match self.fetch(Some(Command::Cwd(folder)), Command::Nlst, folder, Format::Names) {
            Ok(fetched) => fetched.listing,
            Err(Error::Refused { .. } | Error::Unsupported { .. }) => return Ok(unparsed),
            Err(error) => return Err(error),
        };
        if fetched.entries.len() > MAX_ASKED {
            log::warn!(
                "{folder}: {} names without anything else are too many to ask for",
                fetched.entries.len()
            );
            return Ok(unparsed);
        }
        let mut listing =
            Listing { unparsed: fetched.unparsed, truncated: fetched.truncated, entries: Vec::new() };
        let paths: Vec<RemotePath> = fetched.entries.iter().map(|entry| folder.join(&entry.name)).collect();
        let commands: Vec<Command<'_>> =
            paths.iter().flat_map(|path| [Command::Size(path), Command::Mdtm(path)]).collect();
        let replies = self.ask(&commands)?;
        for ((entry, path), replies) in fetched.entries.into_iter().zip(&paths).zip(replies.chunks(2)) {
            let [size, mdtm] = replies else { break };
            let size = self.size_in(size);
            let kind = match size {
                Some(_) if self.server().sizes_only_files() => Some(Kind::File),
                _ if self.one(&Command::Cwd(path), &[])?.is_success() => Some(Kind::Directory),
                size => size.map(|_| Kind::File),
            };
            match kind {
                Some(kind) => {
                    let size = size.filter(|_| kind == Kind::File);
                    listing.entries.push(Entry { kind, size, modified: self.mdtm(mdtm), ..entry });
                }
                None => listing.unparsed += 1,
            }
        }
        Ok(listing)
    }
}

/// Each costs a round trip on a server that keeps no order: more than a minute on a long line.
const MAX_ASKED: usize = 500;
