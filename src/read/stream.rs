//! A stream: where one RETR is that feeds the block cache, who waits for its bytes, and how far it may run.
//!
//! Between two pieces of data its [`transfer`](super::transfer) looks here where it stands: on while somebody waits for
//! what comes or the window is open; paused (not reading, so TCP holds the server back) while nobody wants more; ended
//! when its connection is wanted, or after a pause of [`LINGER`]. Readers who still wait when it ends are served by a new
//! stream, so nobody notices that a connection was taken away. Where a further stream has begun ahead of it, it ends.

use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::{Content, Done, Fetching, Wanted, ahead_bytes};
use crate::queue::{Ticket, Turn};
use crate::tree::{Ino, Version};

/// One running or queued transfer of a file.
pub(super) struct Stream {
    content: Content,
    from: u64,
    state: Mutex<State>,
    wake: Condvar,
    origin: Origin,
}

/// Why there is a stream.
enum Origin {
    /// A reader waited for its first bytes.
    Asked,
    /// It reads ahead of anybody's asking, as long as this says so.
    Ahead(Wanted),
    /// A reader's own stream is too slow for it.
    Further,
}

/// How far a stream is that runs or waits for its connection.
pub(super) struct Progress {
    pub(super) next: u64,
    pub(super) brought: u64,
}

struct State {
    /// The offset of the next byte that will be put into the cache: always the start of a page, or the size.
    next: u64,
    /// It may run up to here without being asked.
    goal: u64,
    window: u64,
    /// Another stream has begun here.
    stop: u64,
    waiters: Vec<Waiter>,
    /// When it last brought something that was waited for.
    waited_for: Option<Instant>,
    /// Whether nobody wanted more for a moment since somebody looked.
    has_paused: bool,
    /// Whoever it runs ahead of has enough for now.
    is_held: bool,
    ended: bool,
    ticket: Option<Ticket>,
    /// The server begins every transfer at the start of the file: whatever lies ahead is nearest from here.
    cannot_restart: bool,
}

impl State {
    fn new(next: u64, goal: u64) -> Self {
        Self {
            next,
            goal,
            window: 0,
            stop: u64::MAX,
            waiters: Vec::new(),
            waited_for: None,
            has_paused: false,
            is_held: false,
            ended: false,
            ticket: None,
            cannot_restart: false,
        }
    }

    /// Whether there is something to bring now.
    fn is_busy(&self) -> bool {
        !self.waiters.is_empty() || self.next < self.goal && !self.is_held
    }

    /// Whether it has brought all that it is to bring.
    fn is_through(&self, content: &Content) -> bool {
        self.next >= self.stop.min(content.size)
    }
}

/// Somebody who waits for bytes that a stream will bring.
pub(super) struct Waiter {
    pub(super) offset: u64,
    pub(super) len: usize,
    /// For so long it has waited, over several streams perhaps.
    pub(super) since: Instant,
    pub(super) done: Done,
}

impl Waiter {
    pub(super) fn new(offset: u64, len: usize, done: Done) -> Self {
        Self { offset, len, since: Instant::now(), done }
    }

    fn end(&self) -> u64 {
        self.offset + self.len as u64
    }
}

impl Stream {
    pub(super) fn new(content: Content, from: u64, goal: u64, window: u64, waiter: Waiter) -> Self {
        let state = State { window, waiters: vec![waiter], ..State::new(from, goal) };
        Self::of(content, Origin::Asked, state)
    }

    /// A stream that brings the first `goal` bytes before anybody asks for them.
    pub(super) fn ahead(content: Content, goal: u64, wanted: Wanted) -> Self {
        Self::of(content, Origin::Ahead(wanted), State::new(0, goal))
    }

    /// A stream that runs far ahead of a reader who has one already.
    pub(super) fn further(content: Content, from: u64, stride: u64) -> Self {
        let goal = (from + stride + stride / 2).min(content.size);
        Self::of(content, Origin::Further, State { window: stride, ..State::new(from, goal) })
    }

    fn of(content: Content, origin: Origin, state: State) -> Self {
        Self { content, from: state.next, state: Mutex::new(state), wake: Condvar::new(), origin }
    }

    pub(super) fn content(&self) -> &Content {
        &self.content
    }

    /// Whether it brings what no reader has come near yet.
    pub(super) fn is_ahead(&self) -> bool {
        matches!(self.origin, Origin::Ahead(_))
    }

    pub(super) fn is_further(&self) -> bool {
        matches!(self.origin, Origin::Further)
    }

    /// Whether nobody waited for it when it was made.
    pub(super) fn is_speculation(&self) -> bool {
        !matches!(self.origin, Origin::Asked)
    }

    /// How far it is, unless it has ended.
    pub(super) fn progress(&self) -> Option<Progress> {
        let state = self.state.lock();
        let goes_on = !state.ended && !self.is_ahead();
        goes_on.then(|| Progress { next: state.next, brought: state.next.saturating_sub(self.from) })
    }

    /// Bytes that it has brought.
    pub(super) fn brought(&self) -> u64 {
        self.state.lock().next.saturating_sub(self.from)
    }

    /// Whether a reader has waited for it all the time since this was asked last, or nearly so.
    pub(super) fn is_waited_for(&self, now: Instant) -> bool {
        let mut state = self.state.lock();
        let has_paused = std::mem::take(&mut state.has_paused);
        let lately = state.waited_for.is_some_and(|at| now.duration_since(at) < LATELY);
        !has_paused && !state.ended && (lately || !state.waiters.is_empty())
    }

    /// Whether this one brings, or has begun to bring, what is at an offset.
    pub(super) fn is_from(&self, offset: u64) -> bool {
        !self.state.lock().ended && self.from == offset
    }

    /// Another stream begins at `stop`, and this one ends there. False when it is too late for that.
    pub(super) fn end_at(&self, stop: u64) -> bool {
        let mut state = self.state.lock();
        if state.ended || state.next + MARGIN > stop || state.stop < stop {
            return false;
        }
        state.stop = stop;
        if self.is_further() {
            state.goal = state.goal.max(stop);
        }
        true
    }

    /// Where it is to end, if it has come there.
    pub(super) fn stopped_at(&self) -> Option<u64> {
        let state = self.state.lock();
        (state.next >= state.stop).then_some(state.stop)
    }

    /// Nobody else brings what it was to end before.
    pub(super) fn go_past(&self) {
        self.state.lock().stop = u64::MAX;
    }

    /// How many bytes it still has to bring; none when it goes on to the end of the file.
    pub(super) fn left(&self) -> Option<u64> {
        let state = self.state.lock();
        (state.stop < u64::MAX).then(|| state.stop.saturating_sub(state.next))
    }

    /// Whether those that it runs ahead of have enough for now.
    pub(super) fn hold(&self, is_held: bool) {
        let mut state = self.state.lock();
        if self.is_further() && state.is_held != is_held {
            state.is_held = is_held;
            self.wake.notify_all();
        }
    }

    /// Others read: a further stream that nobody waits for ends.
    pub(super) fn yield_to_others(&self) {
        if self.is_further() {
            self.leave();
        }
    }

    /// Whether it has ended before it was through.
    pub(super) fn was_interrupted(&self) -> bool {
        !self.state.lock().is_through(&self.content)
    }

    /// Names the job that it is, once it is one.
    pub(super) fn set_ticket(&self, ticket: Ticket) {
        self.state.lock().ticket = Some(ticket);
    }

    /// The offset of the first byte that is to come; after a rewind, the start of the file.
    pub(super) fn begin(&self, rewind: bool) -> u64 {
        let mut state = self.state.lock();
        if rewind {
            state.next = 0;
        }
        state.next
    }

    /// The server cannot begin in the middle of a file.
    pub(super) fn cannot_restart(&self) {
        self.state.lock().cannot_restart = true;
    }

    /// Up to where its bytes are wanted now.
    pub(super) fn wanted(&self) -> u64 {
        let state = self.state.lock();
        let asked = state.waiters.iter().map(Waiter::end).max().unwrap_or(0);
        state.goal.max(asked)
    }

    /// Whether it brings what was asked for and no more, and that is not the rest of the file.
    pub(super) fn is_little(&self) -> bool {
        let state = self.state.lock();
        (state.window == 0 || self.is_head()) && state.goal < self.content.size
    }

    /// Whether what has come up to `end` is to be put into the cache although more of its block is on the way: somebody waits
    /// for it, or nobody for more.
    pub(super) fn is_due(&self, end: u64) -> bool {
        let state = self.state.lock();
        end >= state.goal || state.waiters.iter().any(|waiter| waiter.end() <= end)
    }

    /// Since when somebody has waited for it.
    pub(super) fn waited_for_since(&self) -> Option<Instant> {
        self.state.lock().waiters.iter().map(|waiter| waiter.since).min()
    }

    /// Whether somebody waits for it.
    pub(super) fn has_waiters(&self) -> bool {
        !self.state.lock().waiters.is_empty()
    }

    /// Everything up to `next` is in the cache: gives those who waited for it.
    pub(super) fn advance(&self, next: u64) -> Vec<Waiter> {
        let mut state = self.state.lock();
        state.next = next;
        let (ready, rest): (Vec<_>, _) =
            std::mem::take(&mut state.waiters).into_iter().partition(|waiter| waiter.end() <= next);
        state.waiters = rest;
        if !ready.is_empty() {
            state.waited_for = Some(Instant::now());
        }
        ready
    }

    /// Ends; gives those who still wait.
    pub(super) fn end(&self) -> Vec<Waiter> {
        let mut state = self.state.lock();
        state.ended = true;
        std::mem::take(&mut state.waiters)
    }

    pub(super) fn key(&self) -> (Ino, Version) {
        (self.content.ino, self.content.version)
    }

    /// How far it is; none when it has ended or has not begun.
    pub(super) fn look(&self) -> Option<Fetching> {
        let state = self.state.lock();
        let fetching = Fetching { ino: self.content.ino, at: state.next, size: self.content.size };
        (!state.ended && state.next > 0).then_some(fetching)
    }

    /// Only the head of a large file: whoever wants more needs a stream with a wider window.
    fn is_head(&self) -> bool {
        self.is_ahead() && self.content.size > ahead_bytes(self.content.size)
    }

    /// Takes the waiter if this stream will soon pass `missing`.
    pub(super) fn join(&self, missing: u64, goal: u64, window: u64, waiter: &mut Option<Waiter>) -> bool {
        let mut state = self.state.lock();
        let reach = match state.cannot_restart {
            true => u64::MAX,
            false => state.goal.max(state.next + READ_THROUGH),
        };
        if state.ended || missing < state.next || missing > reach || missing >= state.stop {
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
            // Not for every little piece: waking it costs more than that. It looks around by itself, too.
            if state.goal.saturating_sub(state.next) >= (window / 2).min(WORTH_WAKING)
                || state.goal >= self.content.size
            {
                self.wake.notify_all();
            }
        }
    }

    /// Whoever read here has gone: it ends, unless somebody waits for it or it is there for those who are still to come.
    pub(super) fn leave(&self) {
        let mut state = self.state.lock();
        if state.waiters.is_empty() && !self.is_ahead() {
            state.ended = true;
            self.wake.notify_all();
        }
    }

    /// The job to make more urgent: it was to read ahead, and now somebody waits for it.
    pub(super) fn to_promote(&self) -> Option<Ticket> {
        let state = self.state.lock();
        state.ticket.filter(|_| self.is_speculation() && !state.waiters.is_empty())
    }

    /// Whether nobody will want what this stream is about to fetch, or nothing is to be fetched ahead (any more); then it has ended.
    pub(super) fn is_pointless(&self, may_be_ahead: bool) -> bool {
        let mut state = self.state.lock();
        let is_unwanted = match &self.origin {
            Origin::Asked => false,
            Origin::Ahead(wanted) => !may_be_ahead || !wanted(),
            Origin::Further => !may_be_ahead,
        };
        state.ended |= state.waiters.is_empty() && is_unwanted;
        state.ended
    }

    /// Whether to go on reading, when the transfer that began then has brought so much; waits while nobody wants more.
    pub(super) fn goes_on(&self, turn: &Turn<'_>, began: Instant, served: u64) -> bool {
        let mut state = self.state.lock();
        let is_random = state.window == 0 && !state.cannot_restart;
        let linger = Instant::now() + if is_random { Duration::ZERO } else { LINGER };
        if self.is_head() && state.next >= state.goal {
            state.ended = true;
            return false;
        }
        loop {
            if state.is_through(&self.content) {
                state.ended = true;
                return false;
            }
            let busy = state.is_busy();
            let fair = !busy || served >= QUANTUM;
            // A transfer that ends before it has served anybody was in vain, and the next one would be, too.
            let is_young = !state.waiters.is_empty()
                && state.waited_for.is_none()
                && (served == 0 || began.elapsed() < HEAD_START);
            let is_wanted = || if is_young { turn.holds_a_path() } else { turn.is_wanted(fair) };
            if parking_lot::MutexGuard::unlocked(&mut state, is_wanted) {
                state.ended = true;
                return false;
            }
            if state.ended {
                return false;
            }
            // Looked at again: the lock was let go meanwhile.
            if state.is_busy() {
                return true;
            }
            if Instant::now() >= linger {
                state.ended = true;
                return false;
            }
            state.has_paused = true;
            self.wake.wait_for(&mut state, LOOK_AROUND);
        }
    }
}

/// A jump forward of up to this is read through: less than what is in flight anyway.
const READ_THROUGH: u64 = 128 * 1024;
/// How long a paused stream keeps its connection for a reader that may come back.
const LINGER: Duration = Duration::from_secs(5);
/// A reader that was served so short a time ago is waiting again, or about to.
const LATELY: Duration = Duration::from_millis(300);
/// A stream may have asked for so much already, beyond what it has brought.
const MARGIN: u64 = 256 * 1024;
/// A paused stream goes on when its reader has made so much room.
const WORTH_WAKING: u64 = 1024 * 1024;
/// How long a transfer goes on for whoever has waited for it, however urgent others are.
const HEAD_START: Duration = Duration::from_millis(250);
/// How often a paused stream looks whether its connection is wanted.
const LOOK_AROUND: Duration = Duration::from_millis(20);
/// After this many bytes a stream makes room for another reader that waits for a connection.
const QUANTUM: u64 = 8 * 1024 * 1024;
