//! RETR: a stream of bytes from an offset on, that can be stopped early.

use super::Session;
use super::transfer::Transfer;
use crate::ftp::command::Command;
use crate::ftp::features::{Ability, Capability};
use crate::ftp::{Error, RemotePath};

impl Session {
    /// Starts RETR at `offset`; on a server without REST at the start, and what lies before `offset` is thrown away. A
    /// refusal of the file itself comes with the first `read`.
    pub fn retrieve(&mut self, path: &RemotePath, offset: u64) -> Result<Download<'_>, Error> {
        if offset > 0 && self.features.ability(Capability::RestRetr) != Ability::No {
            match self.start(Some(Command::Rest(offset)), Command::Retr(path), &[], path, false) {
                Err(Error::Unsupported { command: "REST" }) => {}
                started => {
                    let transfer = started?;
                    return Ok(Download { session: self, transfer, skip: 0, is_over: false });
                }
            }
        }
        let transfer = self.start(None, Command::Retr(path), &[], path, false)?;
        Ok(Download { session: self, transfer, skip: offset, is_over: false })
    }
}

/// A running RETR. Dropped without `finish` or `abandon` it takes the session with it.
pub struct Download<'s> {
    session: &'s mut Session,
    transfer: Transfer,
    /// So many bytes come that were not asked for.
    skip: u64,
    is_over: bool,
}

impl Download<'_> {
    /// Lets the server send only so many bytes before they are read: most of a file is not wanted.
    pub fn limit_window(&self, bytes: usize) {
        if let Some(data) = &self.transfer.data {
            data.limit_window(bytes);
        }
    }

    /// The next bytes; 0 at the end of the stream. Errors: the refusal (also one that comes after 150), a broken or silent
    /// connection. Whether all bytes have come only the caller knows: a server may say 226 to a truncated file.
    pub fn read(&mut self, buf: &mut [u8]) -> Result<usize, Error> {
        let mut result = self.session.receive(&mut self.transfer, buf);
        while let Ok(got @ 1..) = result
            && self.skip > 0
        {
            let skipped = got.min(usize::try_from(self.skip).unwrap_or(usize::MAX));
            self.skip -= skipped as u64;
            if skipped < got {
                buf.copy_within(skipped..got, 0);
                return Ok(got - skipped);
            }
            result = self.session.receive(&mut self.transfer, buf);
        }
        if result.is_err() {
            self.is_over = true;
        }
        result
    }

    /// After `read` gave 0: reads the final reply. Ok only on 2xx.
    pub fn finish(mut self) -> Result<(), Error> {
        if self.is_over {
            return Err(Error::Data { during: "RETR", text: "it has failed already".to_owned() });
        }
        if self.transfer.data.is_some() {
            // Not at the end yet: nothing to confirm.
            self.is_over = true;
            self.session.cut(&mut self.transfer);
            return Err(Error::Data { during: "RETR", text: "finished before its end".to_owned() });
        }
        self.is_over = true;
        self.session.conclude(&mut self.transfer).map(drop)
    }

    /// Stops early, leaving the session usable where this server allows it (`Session::is_alive` tells).
    pub fn abandon(mut self) {
        if self.is_over {
            return;
        }
        self.is_over = true;
        // What is here already may be the rest of the file; then there is nothing to cut.
        let mut buffer = vec![0; 64 * 1024];
        for _ in 0..8 {
            let Some(data) = &mut self.transfer.data else {
                let _ = self.session.conclude(&mut self.transfer);
                return;
            };
            match data.read(&mut buffer) {
                Ok(crate::ftp::stream::Step::Done(0)) => self.transfer.data = None,
                Ok(crate::ftp::stream::Step::Done(_)) => {}
                _ => break,
            }
        }
        self.session.cut(&mut self.transfer);
    }
}

impl Drop for Download<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.session.control.end();
        }
    }
}
