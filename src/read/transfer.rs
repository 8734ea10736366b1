//! The transfer of a stream: a task of the queue that runs RETR and hands its bytes on.
//!
//! Between two pieces of data it asks the stream whether to go on. When only a little is wanted (a random reader's piece,
//! the head of a file) the server is held back: what it has sent when we cut the transfer is in vain.

use std::sync::Arc;
use std::time::Instant;

use log::debug;

use super::blocks::PAGE;
use super::stream::Stream;
use super::{Reads, SMALL_FILE, UNKNOWN_SIZE, further};
use crate::ftp::features::{Ability, Capability};
use crate::ftp::{Download, Error, Refusal, RemotePath, Session, explain, reply::Reply};
use crate::queue::{Claim, Job, Priority, Task, Turn};

/// Puts a stream in line for a connection.
pub(super) fn submit(reads: &Arc<Reads>, stream: Arc<Stream>) {
    let claim = (stream.content().locate)().map(Claim::Shared);
    let task = Box::new(Transfer { reads: reads.clone(), stream: stream.clone(), progress: false });
    let priority = if stream.is_speculation() { Priority::ReadAhead } else { Priority::Read };
    let ticket = reads.queue.submit(Job::of(priority, task).claim(claim).with_data());
    if stream.is_speculation() {
        stream.set_ticket(ticket);
        // Somebody may have joined before there was a ticket.
        stream.to_promote().into_iter().for_each(|ticket| reads.queue.promote(ticket, Priority::Read));
    }
}

struct Transfer {
    reads: Arc<Reads>,
    stream: Arc<Stream>,
    progress: bool,
}

impl Task for Transfer {
    fn attempt(&mut self, session: &mut Session, turn: &Turn<'_>) -> Result<(), Error> {
        self.progress = false;
        if self.stream.is_pointless(self.reads.queue.limit() > 1) {
            return Ok(());
        }
        let path = (self.stream.content().locate)().ok_or_else(gone)?;
        self.transfer(session, turn, &path).map_err(|error| explain::access(session, &path, error))
    }

    fn has_progressed(&self) -> bool {
        self.progress
    }

    fn finish(self: Box<Self>, outcome: Result<(), Error>) {
        let waiters = self.stream.end();
        self.reads.remove(&self.stream);
        if self.stream.is_further() && outcome.is_err() {
            self.reads.further_failed();
        }
        for waiter in waiters {
            match &outcome {
                Ok(()) => self.reads.read(self.stream.content(), waiter.offset, waiter.len, waiter.done),
                Err(error) => (waiter.done)(Err(error.clone())),
            }
        }
        if self.stream.left().is_some() {
            self.reads.keep_pace(&self.stream);
        }
    }
}

impl Transfer {
    fn transfer(&mut self, session: &mut Session, turn: &Turn<'_>, path: &RemotePath) -> Result<(), Error> {
        let size = self.stream.content().size;
        let cannot_restart = session.features().ability(Capability::RestRetr) == Ability::No;
        // What passes on the way there is kept, unless it would push out what others read.
        let mut next = self.stream.begin(cannot_restart && size <= self.reads.blocks.limit() / 2);
        let mut download = self.begin(session, path, next)?;
        if !download.can_restart() {
            if self.stream.is_further() {
                download.abandon();
                return Ok(());
            }
            self.stream.cannot_restart();
        }
        let is_worth_several = download.can_restart()
            && (self.stream.is_further()
                || size != UNKNOWN_SIZE && size.saturating_sub(next) >= further::WORTH);
        let mut look_at = Instant::now() + further::LOOK;
        let mut is_bounded = false;
        let mut buffer = vec![0; CHUNK];
        let mut filled = 0;
        let mut served = 0;
        let mut is_held = self.stream.is_little();
        if !is_held {
            download.let_go();
        }
        loop {
            if is_worth_several && Instant::now() >= look_at {
                self.reads.keep_pace(&self.stream);
                look_at = Instant::now() + further::LOOK;
            }
            if let Some(stop) = self.stream.stopped_at()
                && !self.reads.is_continued(&self.stream, stop)
            {
                self.stream.go_past();
            }
            if next < size && !self.stream.goes_on(turn, served) {
                download.abandon();
                return Ok(());
            }
            let mut limit = buffer.len();
            if let Some(left) = self.stream.left() {
                is_bounded = true;
                download.offer(left.saturating_sub(filled as u64));
                limit = limit.min(usize::try_from(left).unwrap_or(limit)).max(filled + 1);
            } else if std::mem::take(&mut is_bounded) {
                download.offer(u64::MAX);
            }
            if is_held {
                is_held = self.stream.is_little();
                let wanted = self.stream.wanted();
                if is_held {
                    // What is not read is not made room for.
                    let more = wanted.saturating_sub(next).next_multiple_of(PAGE).max(PAGE);
                    limit = limit.min(usize::try_from(more).unwrap_or(limit)).max(filled + 1);
                } else {
                    download.let_go();
                }
            }
            let got = download.read(buffer.get_mut(filled..limit).unwrap_or_default())?;
            filled += got;
            if got == 0 && size == UNKNOWN_SIZE {
                download.finish()?;
                // Only a confirmed end is one.
                self.reads.ends_at(self.stream.content(), next + filled as u64);
                self.deliver(next, buffer.get(..filled).unwrap_or_default());
                return Ok(());
            }
            let at_end = next + filled as u64 >= size;
            let whole = if at_end { filled } else { filled - filled % PAGE as usize };
            let whole = (whole as u64).min(size - next) as usize;
            if whole > 0 {
                self.deliver(next, buffer.get(..whole).unwrap_or_default());
                next += whole as u64;
                served += whole as u64;
                buffer.copy_within(whole..filled, 0);
                filled -= whole;
            }
            if got == 0 {
                download.finish()?;
                return if next < size {
                    Err(Error::WrongLength { expected: size, got: next })
                } else {
                    Ok(())
                };
            }
            if next >= size && filled > 0 {
                debug!("{path} has grown while it was read");
                download.abandon();
                return Ok(());
            }
        }
    }

    /// Starts RETR. What may be put beside bytes of another transfer is asked about first.
    fn begin<'s>(
        &self,
        session: &'s mut Session,
        path: &RemotePath,
        next: u64,
    ) -> Result<Download<'s>, Error> {
        let content = self.stream.content();
        let versions = &self.reads.versions;
        let is_kept = self.reads.disk.is_some();
        if content.size <= SMALL_FILE && next == 0 && !is_kept && !versions.knows(content) {
            // It comes whole.
            let download = session.retrieve_held(path, next)?;
            versions.note(content, content.modified);
            return Ok(download);
        }
        let (told, download) = session.retrieve_told(path, next)?;
        if let Err(changed) = versions.check(content, told) {
            debug!("{path} has changed on the server: {told:?}");
            download.abandon();
            return Err(changed);
        }
        Ok(download)
    }

    /// New bytes at `at`: into the cache, and to those who waited for them.
    fn deliver(&mut self, at: u64, data: &[u8]) {
        let content = self.stream.content();
        self.progress = true;
        self.reads.blocks.insert(content.ino, content.version, at, data);
        self.reads.keep_on_disk(content, at..at + data.len() as u64);
        for waiter in self.stream.advance(at + data.len() as u64) {
            match self.reads.blocks.read(content.ino, content.version, waiter.offset, waiter.len) {
                Ok(data) => (waiter.done)(Ok(data)),
                // Evicted between the two, or joined with a gap behind the stream: start over for this reader.
                Err(_) => self.reads.read(content, waiter.offset, waiter.len, waiter.done),
            }
        }
    }
}

fn gone() -> Error {
    let reply = Reply { code: 550, lines: vec![b"(removed here)".to_vec()] };
    Error::Refused { command: "RETR", meaning: Refusal::NotFound, reply }
}

/// One read of the socket at most: a few segments of a fast link, and little enough to be in the processor's cache when it is
/// copied.
const CHUNK: usize = 96 * 1024;
