//! The transfer of a stream: a task of the queue that runs RETR and hands its bytes on.
//!
//! Between two pieces of data it asks the stream whether to go on. When only a little is wanted (a random reader's piece,
//! the head of a file) the server is held back: what it has sent when we cut the transfer is in vain.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use log::debug;

use super::incoming::Incoming;
use super::stream::Stream;
use super::{Reads, SMALL_FILE, UNKNOWN_SIZE, further};
use crate::ftp::features::{Ability, Capability};
use crate::ftp::{Download, Error, Refusal, RemotePath, Session, explain, reply::Reply};
use crate::queue::{Claim, Job, Priority, Task, Turn};

/// Puts a stream in line for a connection.
pub(super) fn submit(reads: &Arc<Reads>, stream: Arc<Stream>) {
    let claim = (stream.content().locate)().map(Claim::Shared);
    let task =
        Box::new(Transfer { reads: reads.clone(), stream: stream.clone(), progress: false, furthest: 0 });
    let priority = if stream.is_speculation() { Priority::ReadAhead } else { Priority::Read };
    let mut job = Job::of(priority, task).claim(claim).with_data();
    if let Some(since) = stream.waited_for_since() {
        job = job.waited_for_since(since);
    }
    let ticket = reads.queue.submit(job);
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
    /// Up to where it has brought something in any attempt: what comes again is no progress.
    furthest: u64,
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
                Ok(()) => self.reads.read_for(self.stream.content(), waiter),
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
        let began = Instant::now();
        let mut look_at = began + further::LOOK;
        let mut is_bounded = false;
        let mut is_held = self.stream.is_little();
        let mut incoming = self.incoming(next, is_held);
        let mut served = 0;
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
            if next < size && !self.stream.goes_on(turn, began, served) {
                self.put(&mut incoming);
                download.abandon();
                return Ok(());
            }
            if let Some(left) = self.stream.left() {
                is_bounded = true;
                download.offer(left.saturating_sub(incoming.pending()));
            } else if std::mem::take(&mut is_bounded) {
                download.offer(u64::MAX);
            }
            if is_held && !self.stream.is_little() {
                is_held = false;
                download.let_go();
            }
            let got = self.receive(&mut download, &mut incoming).inspect_err(|_| self.put(&mut incoming))?;
            incoming.add(got);
            served += got as u64;
            if got == 0 {
                download.finish().inspect_err(|_| self.put(&mut incoming))?;
                let is_end = size == UNKNOWN_SIZE;
                if is_end {
                    // Only a confirmed end is one.
                    self.reads.ends_at(self.stream.content(), incoming.next());
                }
                let range = incoming.put(&self.reads.blocks, self.stream.content(), is_end);
                let end = range.end;
                self.hand_on(range);
                return match is_end || end >= size {
                    true => Ok(()),
                    false => Err(Error::WrongLength { expected: size, got: end }),
                };
            }
            if incoming.next() > size {
                debug!("{path} has grown while it was read");
                download.abandon();
                return Ok(());
            }
            if incoming.is_full() {
                next = incoming.next();
                let following = self.incoming(next, is_held);
                let full = std::mem::replace(&mut incoming, following);
                let range = full.finish(&self.reads.blocks, self.stream.content());
                self.hand_on(range);
            } else if self.stream.is_due(incoming.pages_end()) {
                self.put(&mut incoming);
            }
        }
    }

    /// Where the bytes at `at` are to be received.
    fn incoming(&self, at: u64, is_held: bool) -> Incoming {
        let size = self.stream.content().size;
        // What is not read is not made room for.
        let end = if is_held { self.stream.wanted() } else { size };
        Incoming::new(&self.reads.blocks, at, end, size)
    }

    /// The next bytes. What has come before is put into the cache when they must be waited for and nobody waits here.
    fn receive(&mut self, download: &mut Download<'_>, incoming: &mut Incoming) -> Result<usize, Error> {
        if let Some(got) = download.read_now(incoming.room())? {
            return Ok(got);
        }
        if !self.stream.has_waiters() {
            self.put(incoming);
        }
        download.read(incoming.room())
    }

    /// The whole pages that have come: into the cache.
    fn put(&mut self, incoming: &mut Incoming) {
        let range = incoming.put(&self.reads.blocks, self.stream.content(), false);
        self.hand_on(range);
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

    /// New bytes are in the cache: for those who waited for them, and for the disk.
    fn hand_on(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let content = self.stream.content();
        self.progress |= range.end > self.furthest;
        self.furthest = self.furthest.max(range.end);
        self.reads.keep_on_disk(content, range.clone());
        for waiter in self.stream.advance(range.end) {
            match self.reads.blocks.read(content.ino, content.version, waiter.offset, waiter.len) {
                Ok(data) => (waiter.done)(Ok(data)),
                // Evicted between the two, or joined with a gap behind the stream: start over for this reader.
                Err(_) => self.reads.read_for(content, waiter),
            }
        }
    }
}

fn gone() -> Error {
    let reply = Reply { code: 550, lines: vec![b"(removed here)".to_vec()] };
    Error::Refused { command: "RETR", meaning: Refusal::NotFound, reply }
}
