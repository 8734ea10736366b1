//! RETR: a stream of bytes from an offset on, that can be stopped early.
//!
//! A file that is read in several transfers may be replaced between two of them. So the server can be asked for size and
//! time right ahead of RETR: in the same segment where it keeps order, which costs no round trip, and before it elsewhere.
//! What the answers mean is up to the caller.

use std::time::SystemTime;

use super::Session;
use super::attributes::mlst_entry;
use super::transfer::Transfer;
use crate::ftp::command::Command;
use crate::ftp::features::{Ability, Capability};
use crate::ftp::reply::Reply;
use crate::ftp::{Error, Kind, Precision, RemotePath};

/// What the server says of a file at the moment at which it begins to send it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Bytes; none where the server does not tell.
    pub size: Option<u64>,
    /// To the second; none where the server does not tell.
    pub modified: Option<SystemTime>,
}

impl Session {
    /// Starts RETR at `offset`; on a server without REST at the start, and what lies before `offset` is thrown away. A
    /// refusal of the file itself comes with the first `read`.
    pub fn retrieve(&mut self, path: &RemotePath, offset: u64) -> Result<Download<'_>, Error> {
        let download = self.retrieve_after(&[], path, offset)?.1;
        download.let_go();
        Ok(download)
    }

    /// As [`Session::retrieve`], with the server held back until [`Download::let_go`].
    pub fn retrieve_held(&mut self, path: &RemotePath, offset: u64) -> Result<Download<'_>, Error> {
        Ok(self.retrieve_after(&[], path, offset)?.1)
    }

    /// As [`Session::retrieve_held`], and tells what is about to come: MLST where listings are MLSD's, so that both agree;
    /// SIZE and MDTM elsewhere.
    pub fn retrieve_told(&mut self, path: &RemotePath, offset: u64) -> Result<(Told, Download<'_>), Error> {
        let mut questions = Vec::with_capacity(2);
        if self.features.has_exact_listing() {
            questions.push(Command::Mlst(path));
        } else {
            for (capability, question) in
                [(Capability::Size, Command::Size(path)), (Capability::Mdtm, Command::Mdtm(path))]
            {
                if self.features.ability(capability) != Ability::No {
                    questions.push(question);
                }
            }
        }
        let (answers, download) = self.retrieve_after(&questions, path, offset)?;
        let mut told = Told::default();
        for (question, answer) in questions.iter().zip(&answers) {
            match question {
                Command::Mlst(_) => {
                    let entry = mlst_entry(answer, path).filter(|entry| entry.kind == Kind::File);
                    told.size = entry.as_ref().and_then(|entry| entry.size);
                    let modified = entry.and_then(|entry| entry.modified);
                    told.modified = modified.filter(|at| at.precision == Precision::Second).map(|at| at.at);
                }
                Command::Mdtm(_) => told.modified = download.session.mdtm(answer).map(|at| at.at),
                _ => {
                    if answer.is_unknown_command() {
                        download.session.features.learn(Capability::Size, false);
                    }
                    told.size = download.session.size_in(answer);
                }
            }
        }
        Ok((told, download))
    }

    fn retrieve_after(
        &mut self,
        questions: &[Command<'_>],
        path: &RemotePath,
        offset: u64,
    ) -> Result<(Vec<Reply>, Download<'_>), Error> {
        self.make_ready()?;
        if let Some(data) = &self.ready {
            data.hold_back();
        }
        if offset > 0 && self.features.ability(Capability::RestRetr) != Ability::No {
            match self.start_asking(
                questions,
                Some(Command::Rest(offset)),
                Command::Retr(path),
                &[],
                path,
                false,
            ) {
                Err(Error::Unsupported { command: "REST" }) => {}
                started => {
                    let (answers, transfer) = started?;
                    return Ok((answers, Download { session: self, transfer, skip: 0, is_over: false }));
                }
            }
        }
        let (answers, transfer) =
            self.start_asking(questions, None, Command::Retr(path), &[], path, false)?;
        Ok((answers, Download { session: self, transfer, skip: offset, is_over: false }))
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
    /// Whether the server can begin in the middle of a file.
    pub fn can_restart(&self) -> bool {
        self.session.features.ability(Capability::RestRetr) != Ability::No
    }

    /// Most of the file is wanted: from here on the server is not held back.
    pub fn let_go(&self) {
        if let Some(data) = &self.transfer.data {
            data.let_go();
        }
    }

    /// So many bytes more are wanted: see [`stream::Stream::offer`](crate::ftp::stream::Stream::offer).
    pub fn offer(&self, bytes: u64) {
        if let Some(data) = &self.transfer.data {
            data.offer(bytes);
        }
    }

    /// The next bytes; 0 at the end of the stream. Errors: the refusal (also one that comes after 150), a broken or silent
    /// connection. Whether all bytes have come only the caller knows: a server may say 226 to a truncated file.
    pub fn read(&mut self, buf: &mut [u8]) -> Result<usize, Error> {
        loop {
            let got = self.session.receive(&mut self.transfer, buf);
            if let Some(got) = self.without_skipped(got, buf)? {
                return Ok(got);
            }
        }
    }

    /// The next bytes that are here already; none when [`Download::read`] would wait for them.
    pub fn read_now(&mut self, buf: &mut [u8]) -> Result<Option<usize>, Error> {
        loop {
            let Some(got) = self.session.receive_now(&mut self.transfer, buf).transpose() else {
                return Ok(None);
            };
            if let Some(got) = self.without_skipped(got, buf)? {
                return Ok(Some(got));
            }
        }
    }

    /// What has come, less what was not asked for; none when nothing is left of it.
    fn without_skipped(&mut self, got: Result<usize, Error>, buf: &mut [u8]) -> Result<Option<usize>, Error> {
        let got = got.inspect_err(|_| self.is_over = true)?;
        let skipped = got.min(usize::try_from(self.skip).unwrap_or(usize::MAX));
        self.skip -= skipped as u64;
        if skipped > 0 {
            buf.copy_within(skipped..got, 0);
        }
        Ok((got == 0 || skipped < got).then(|| got - skipped))
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
