//! A stream: one RETR that feeds the block cache and whoever waits for its bytes.
//!
//! It is a task of the queue. Between two pieces of data it looks where it stands: on while somebody waits for what
//! comes or the window is open; paused (not reading, so TCP holds the server back) while nobody wants more; ended when
//! its connection is wanted, or after a pause of [`LINGER`]. Readers who still wait when it ends are served by a new
//! stream, so nobody notices that a connection was taken away.

use std::sync::Arc;
use std::time::{Duration, Instant};

use log::debug;
use parking_lot::{Condvar, Mutex};

use super::blocks::PAGE;
use super::{Content, Done, Reads, Wanted, ahead_bytes};
use crate::ftp::{Error, Refusal, RemotePath, Session, explain, reply::Reply};
use crate::queue::{Claim, Job, Priority, Task, Ticket, Turn};
use crate::tree::{Ino, Version};

/// One running or queued transfer of a file.
pub(super) struct Stream {
    content: Content,
    state: Mutex<State>,
    wake: Condvar,
    /// Read ahead of anybody's asking, as long as this says so.
    wanted: Option<Wanted>,
}

struct State {
    /// The offset of the next byte that will be put into the cache: always the start of a page, or the size.
    next: u64,
    /// It may run up to here without being asked.
    goal: u64,
    window: u64,
    waiters: Vec<Waiter>,
    ended: bool,
    ticket: Option<Ticket>,
}

/// Somebody who waits for bytes that a stream will bring.
pub(super) struct Waiter {
    pub(super) offset: u64,
    pub(super) len: usize,
    pub(super) done: Done,
}

impl Stream {
    pub(super) fn new(content: Content, from: u64, goal: u64, window: u64, waiter: Waiter) -> Self {
        let state = State { next: from, goal, window, waiters: vec![waiter], ended: false, ticket: None };
        Self { content, state: Mutex::new(state), wake: Condvar::new(), wanted: None }
    }

    /// A stream that brings the first `goal` bytes before anybody asks for them.
    pub(super) fn ahead(content: Content, goal: u64, wanted: Wanted) -> Self {
        let state = State { next: 0, goal, window: 0, waiters: Vec::new(), ended: false, ticket: None };
        Self { content, state: Mutex::new(state), wake: Condvar::new(), wanted: Some(wanted) }
    }

    pub(super) fn key(&self) -> (Ino, Version) {
        (self.content.ino, self.content.version)
    }

    /// Whose, how far, of how much; none when it has ended or has not begun.
    pub(super) fn look(&self) -> Option<(Ino, u64, u64)> {
        let state = self.state.lock();
        (!state.ended && state.next > 0).then_some((self.content.ino, state.next, self.content.size))
    }

    /// Only the head of a large file: whoever wants more needs a stream with a wider window.
    fn is_head(&self) -> bool {
        self.wanted.is_some() && self.content.size > ahead_bytes(self.content.size)
    }

    /// Takes the waiter if this stream will soon pass `missing`.
    pub(super) fn join(&self, missing: u64, goal: u64, window: u64, waiter: &mut Option<Waiter>) -> bool {
        let mut state = self.state.lock();
        let reach = state.goal.max(state.next + READ_THROUGH);
        if state.ended || missing < state.next || missing > reach {
            return false;
        }
        if self.is_head() {
            if missing >= state.goal {
                return false;
            }
            state.waiters.extend(waiter.take());
            return true;
        }
        state.waiters.extend(waiter.take());
        state.goal = state.goal.max(goal);
        state.window = state.window.max(window);
        self.wake.notify_all();
        true
    }

    /// A reader that found its bytes in the cache is at `end`: keep ahead of it.
    pub(super) fn extend(&self, end: u64, goal: u64, window: u64) {
        let mut state = self.state.lock();
        if !state.ended
            && !self.is_head()
            && goal > state.goal
            && end <= state.next
            && state.next <= goal + window
        {
            state.goal = goal;
            state.window = state.window.max(window);
            self.wake.notify_all();
        }
    }

    /// The job to make more urgent: it was to read ahead, and now somebody waits for it.
    pub(super) fn to_promote(&self) -> Option<Ticket> {
        let state = self.state.lock();
        state.ticket.filter(|_| self.wanted.is_some() && !state.waiters.is_empty())
    }

    /// Whether nobody will want what this stream is about to fetch; then it has ended.
    fn is_pointless(&self) -> bool {
        let mut state = self.state.lock();
        let pointless = state.waiters.is_empty() && self.wanted.as_ref().is_some_and(|wanted| !wanted());
        state.ended |= pointless;
        pointless
    }

    /// Whether to go on reading; waits while nobody wants more.
    fn goes_on(&self, turn: &Turn<'_>, served: u64) -> bool {
        let mut state = self.state.lock();
        let linger = Instant::now() + if state.window == 0 { Duration::ZERO } else { LINGER };
        if self.is_head() && state.next >= state.goal {
            state.ended = true;
            return false;
        }
        loop {
            let busy = !state.waiters.is_empty() || state.next < state.goal;
            let fair = !busy || served >= QUANTUM;
            if parking_lot::MutexGuard::unlocked(&mut state, || turn.is_wanted(fair)) {
                state.ended = true;
                return false;
            }
            // Looked at again: the lock was let go meanwhile.
            if !state.waiters.is_empty() || state.next < state.goal {
                return true;
            }
            if Instant::now() >= linger {
                state.ended = true;
                return false;
            }
            self.wake.wait_for(&mut state, LOOK_AROUND);
        }
    }
}

/// Puts a stream in line for a connection.
pub(super) fn submit(reads: &Arc<Reads>, stream: Arc<Stream>) {
    let claim = (stream.content.locate)().map(Claim::Shared);
    let task = Box::new(Transfer { reads: reads.clone(), stream: stream.clone(), progress: false });
    let priority = if stream.wanted.is_some() { Priority::ReadAhead } else { Priority::Read };
    let ticket = reads.queue.submit(Job::of(priority, task).claim(claim).with_data());
    if stream.wanted.is_some() {
        stream.state.lock().ticket = Some(ticket);
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
        if self.stream.is_pointless() {
            return Ok(());
        }
        let path = (self.stream.content.locate)().ok_or_else(gone)?;
        self.transfer(session, turn, &path).map_err(|error| explain::access(session, &path, error))
    }

    fn has_progressed(&self) -> bool {
        self.progress
    }

    fn finish(self: Box<Self>, outcome: Result<(), Error>) {
        let waiters = {
            let mut state = self.stream.state.lock();
            state.ended = true;
            std::mem::take(&mut state.waiters)
        };
        self.reads.remove(&self.stream);
        for waiter in waiters {
            match &outcome {
                Ok(()) => self.reads.read(&self.stream.content, waiter.offset, waiter.len, waiter.done),
                Err(error) => (waiter.done)(Err(error.clone())),
            }
        }
    }
}

impl Transfer {
    fn transfer(&mut self, session: &mut Session, turn: &Turn<'_>, path: &RemotePath) -> Result<(), Error> {
        let size = self.stream.content.size;
        let mut next = self.stream.state.lock().next;
        let mut download = session.retrieve(path, next)?;
        if self.stream.is_head() {
            download.limit_window(HEAD_WINDOW);
        }
        let mut buffer = vec![0; CHUNK];
        let mut filled = 0;
        let mut served = 0;
        loop {
            if next < size && !self.stream.goes_on(turn, served) {
                download.abandon();
                return Ok(());
            }
            let got = download.read(buffer.get_mut(filled..).unwrap_or_default())?;
            filled += got;
            let at_end = next + filled as u64 >= size;
            let whole = if at_end { filled } else { filled - filled % PAGE as usize };
            let whole = whole.min((size - next) as usize);
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

    /// New bytes at `at`: into the cache, and to those who waited for them.
    fn deliver(&mut self, at: u64, data: &[u8]) {
        let content = &self.stream.content;
        self.progress = true;
        self.reads.blocks.insert(content.ino, content.version, at, data);
        let next = at + data.len() as u64;
        let ready: Vec<_> = {
            let mut state = self.stream.state.lock();
            state.next = next;
            let (ready, rest) = std::mem::take(&mut state.waiters)
                .into_iter()
                .partition(|waiter| waiter.offset + waiter.len as u64 <= next);
            state.waiters = rest;
            ready
        };
        for waiter in ready {
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

/// A jump forward of up to this is read through: less than what is in flight anyway.
const READ_THROUGH: u64 = 128 * 1024;
/// One read of the socket at most: a few segments of a fast link, and two blocks.
const CHUNK: usize = 256 * 1024;
/// What may be under way beyond the head of a file, at most.
const HEAD_WINDOW: usize = 64 * 1024;
/// How long a paused stream keeps its connection for a reader that may come back.
const LINGER: Duration = Duration::from_secs(5);
/// How often a paused stream looks whether its connection is wanted.
const LOOK_AROUND: Duration = Duration::from_millis(20);
/// After this many bytes a stream makes room for another reader that waits for a connection.
const QUANTUM: u64 = 8 * 1024 * 1024;
