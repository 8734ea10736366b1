//! Listings of last resort: names without anything else, when that is all that a server lists.
//!
//! NLST's names are made entries by asking each for its size: who has one is a file, who can be entered is a folder, and who
//! is neither stays out and is counted, because it may be a line of an error text.

use super::Session;
use crate::ftp::command::Command;
use crate::ftp::listing::{Entry, Format, Kind, Listing};
use crate::ftp::{Error, RemotePath};

impl Session {
    /// Lists with NLST; `unparsed` is what LIST gave, which is kept when NLST is no better.
    pub(super) fn list_by_names(&mut self, folder: &RemotePath, unparsed: Listing) -> Result<Listing, Error> {
        let fetched =
            match self.fetch(Some(Command::Cwd(folder)), Command::Nlst, folder, Format::Names, &mut |_| {}) {
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
