//! Which job runs next, and on which connection: the decisions, under the queue's one lock. Used by `queue`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Condvar;

use super::claim::{self, Claim};
use super::job::{Job, Priority};
use super::{SlotId, Ticket};
use crate::ftp::RemotePath;

pub(super) struct State {
    pub(super) waiting: Vec<Job>,
    pub(super) slots: Vec<Slot>,
    /// So many jobs have been submitted.
    pub(super) tickets: u64,
    /// So many slots have been made.
    pub(super) slot_ids: u64,
    /// Learned: never above `limit_wanted`.
    pub(super) limit: usize,
    pub(super) limit_wanted: usize,
    pub(super) limit_lowered: Option<Instant>,
    /// The last attempt at a further session was ended without a word.
    pub(super) was_silent: bool,
    pub(super) closing: bool,
}

impl State {
    /// Gives waiting jobs to idle connections; returns a new slot when one more connection should be started.
    pub(super) fn dispatch(&mut self) -> Option<SlotId> {
        if self.limit < self.limit_wanted && self.limit_lowered.is_some_and(|at| at.elapsed() > LIMIT_MEMORY)
        {
            self.limit += 1;
            self.limit_lowered = Some(Instant::now());
        }
        if !self.slots.iter().any(|slot| matches!(slot.state, SlotState::Idle(_))) {
            return if self.waiting.is_empty() { None } else { self.grow(0) };
        }
        // Whoever prepares now is ready before whoever has not begun to: a job that needs a data connection waits for that.
        let mut soon_ready = self.preparing();
        let mut order: Vec<_> = self.waiting.iter().map(|job| (job.urgency(), job.ticket)).collect();
        order.sort_unstable();
        let mut is_left = false;
        let mut unready = 0;
        for (_, ticket) in order {
            if !self.slots.iter().any(|slot| matches!(slot.state, SlotState::Idle(_))) {
                is_left = true;
                break;
            }
            let runnable = |job: &Job| job.ticket == ticket && self.may_run(job);
            let Some(at) = self.waiting.iter().position(runnable) else { continue };
            let needs_data = self.waiting[at].needs_data;
            match self.idle_for(needs_data, needs_data && soon_ready > 0) {
                Some(slot) => {
                    let job = self.waiting.remove(at);
                    let is_slow = matches!(self.slots[slot].state, SlotState::Idle(Readiness::Fresh));
                    unready += usize::from(needs_data && is_slow && job.priority != Priority::ReadAhead);
                    self.slots[slot].state = SlotState::Assigned { job };
                    self.slots[slot].signal.notify_one();
                }
                None => {
                    is_left = true;
                    soon_ready = soon_ready.saturating_sub(usize::from(needs_data));
                }
            }
        }
        if is_left || unready > 0 { self.grow(unready) } else { None }
    }

    /// The idle connection that suits a job best. `selective` wants none that could as well prepare itself first.
    fn idle_for(&self, needs_data: bool, selective: bool) -> Option<usize> {
        let idle = self.slots.iter().enumerate().filter_map(|(at, slot)| match slot.state {
            SlotState::Idle(Readiness::Fresh) if selective => None,
            SlotState::Idle(readiness) => {
                Some((at, (readiness == Readiness::Ready) == needs_data, slot.live))
            }
            _ => None,
        });
        let best = idle.max_by_key(|&(at, fits, live)| (live, fits, std::cmp::Reverse(at)));
        best.map(|(at, ..)| at)
    }

    /// How many sessions make a data connection ready now.
    fn preparing(&self) -> usize {
        self.slots.iter().filter(|slot| slot.live && slot.is_starting()).count()
    }

    /// A new slot, when more jobs can run than connections are being made, `unready` of them already on a connection that
    /// must first prepare itself.
    pub(super) fn grow(&mut self, unready: usize) -> Option<SlotId> {
        let live = self.slots.iter().any(|slot| slot.live);
        if self.slots.len() >= self.limit || self.closing || (live && self.growth_pauses()) {
            return None;
        }
        let logging_in = |slot: &&Slot| !slot.live && slot.is_starting();
        let logging_in = self.slots.iter().filter(logging_in).count();
        let runnable = |data: bool, ahead: bool| {
            let fits = |job: &&Job| job.needs_data == data && (job.priority == Priority::ReadAhead) == ahead;
            self.waiting.iter().filter(fits).filter(|job| self.may_run(job)).count()
        };
        let for_ahead = (self.limit - 1).saturating_sub(self.reading_ahead());
        let data =
            unready + runnable(true, false) + (runnable(true, true) + runnable(false, true)).min(for_ahead);
        // A connection that gets ready soon is enough for what needs no data connection.
        let other = runnable(false, false);
        if logging_in >= data + other.saturating_sub(self.preparing()) {
            return None;
        }
        Some(self.add_slot())
    }

    pub(super) fn add_slot(&mut self) -> SlotId {
        let id = SlotId(self.slot_ids);
        self.slot_ids += 1;
        let signal = Arc::new(Condvar::new());
        self.slots.push(Slot { id, state: SlotState::starting(), live: false, signal });
        id
    }

    /// Whether a further session could not be had a moment ago.
    fn growth_pauses(&self) -> bool {
        self.slots.iter().any(|slot| matches!(slot.state, SlotState::Pausing))
    }

    /// Whether no connection is free, and none will be soon unless a job ends.
    pub(super) fn is_crowded(&self) -> bool {
        let is_coming = |slot: &Slot| match slot.state {
            SlotState::Idle(_) => true,
            SlotState::Starting { since } => since.elapsed() < SOON,
            _ => false,
        };
        let is_stuck = |slot: &Slot| slot.is_starting() && !is_coming(slot);
        (self.slots.len() >= self.limit || self.growth_pauses() || self.slots.iter().any(is_stuck))
            && !self.slots.iter().any(is_coming)
    }

    /// Puts a job back in line. When the mount ends it gets it back: nobody would take it any more.
    #[must_use]
    pub(super) fn put_back(&mut self, job: Job) -> Option<Job> {
        if self.closing {
            return Some(job);
        }
        self.waiting.push(job);
        None
    }

    pub(super) fn may_run(&self, job: &Job) -> bool {
        // Read-ahead may wait for long: nobody waits for it in turn.
        let earlier = |other: &Job| {
            other.ticket < job.ticket
                && other.priority != Priority::ReadAhead
                && claim::conflict(&other.claims, &job.claims)
        };
        if job.priority == Priority::ReadAhead && self.reading_ahead() + 1 >= self.limit.max(2) {
            return false;
        }
        !self.waiting.iter().any(earlier)
            && !self.slots.iter().any(|slot| match &slot.state {
                SlotState::Running(running) => claim::conflict(&running.claims, &job.claims),
                SlotState::Assigned { job: other } => claim::conflict(&other.claims, &job.claims),
                _ => false,
            })
    }

    /// Whether a job waits for a path that this one claims.
    pub(super) fn holds_a_path(&self, running: &Running) -> bool {
        let waits = |job: &Job| job.ticket > running.ticket && claim::conflict(&job.claims, &running.claims);
        self.waiting.iter().any(waits)
    }

    /// How many jobs on other connections end just now because somebody waits.
    pub(super) fn stepping_aside(&self, but: SlotId) -> usize {
        let steps = |slot: &&Slot| match &slot.state {
            SlotState::Running(running) => {
                slot.id != but && running.steps_aside.is_some_and(|since| since.elapsed() < SOON)
            }
            _ => false,
        };
        self.slots.iter().filter(steps).count()
    }

    pub(super) fn waiting_ahead(&self) -> usize {
        self.waiting.iter().filter(|job| job.priority == Priority::ReadAhead).count()
    }

    pub(super) fn reading_ahead(&self) -> usize {
        let ahead = |slot: &&Slot| match &slot.state {
            SlotState::Running(running) => running.priority == Priority::ReadAhead,
            SlotState::Assigned { job } => job.priority == Priority::ReadAhead,
            _ => false,
        };
        self.slots.iter().filter(ahead).count()
    }

    pub(super) fn slot(&mut self, id: SlotId) -> Option<&mut Slot> {
        self.slots.iter_mut().find(|s| s.id == id)
    }

    pub(super) fn running(&self, id: SlotId) -> Option<&Running> {
        match &self.slots.iter().find(|slot| slot.id == id)?.state {
            SlotState::Running(running) => Some(running),
            _ => None,
        }
    }

    pub(super) fn running_mut(&mut self, id: SlotId) -> Option<&mut Running> {
        match &mut self.slot(id)?.state {
            SlotState::Running(running) => Some(running),
            _ => None,
        }
    }

    pub(super) fn remove(&mut self, id: SlotId) -> Option<Slot> {
        let at = self.slots.iter().position(|slot| slot.id == id)?;
        Some(self.slots.remove(at))
    }
}

pub(super) struct Slot {
    pub(super) id: SlotId,
    pub(super) state: SlotState,
    pub(super) live: bool,
    pub(super) signal: Arc<Condvar>,
}

impl Slot {
    fn is_starting(&self) -> bool {
        matches!(self.state, SlotState::Starting { .. })
    }
}

pub(super) enum SlotState {
    /// The thread is logging in, making a data connection ready or looking after its session.
    Starting {
        since: Instant,
    },
    /// It could not log in, and waits a while before it tries again.
    Pausing,
    Idle(Readiness),
    Assigned {
        job: Job,
    },
    Running(Running),
}

/// A job on a connection.
pub(super) struct Running {
    pub(super) since: Instant,
    pub(super) ticket: Ticket,
    pub(super) priority: Priority,
    /// How urgent it was when it began.
    urgency: Priority,
    pub(super) claims: Vec<Claim>,
    /// Since when it has known that it is to end for somebody else.
    pub(super) steps_aside: Option<Instant>,
}

impl Running {
    pub(super) fn new(job: &Job) -> Self {
        Self {
            since: Instant::now(),
            ticket: job.ticket,
            priority: job.priority,
            urgency: job.urgency(),
            claims: job.claims.clone(),
            steps_aside: None,
        }
    }

    /// How urgent it is by now. What was waited for for long is as urgent as anything, until it has had its turn.
    pub(super) fn urgency(&self) -> Priority {
        if self.since.elapsed() < TURN { self.urgency.min(self.priority) } else { self.priority }
    }
}

impl SlotState {
    pub(super) fn starting() -> Self {
        Self::Starting { since: Instant::now() }
    }
}

/// Whether a transfer can start at once on an idle connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Readiness {
    /// A data connection stands.
    Ready,
    /// It has just served, or logged in.
    Fresh,
    /// It has tried, in vain.
    Unable,
}

/// What one connection does at a moment.
#[derive(Clone, Debug)]
pub enum Doing {
    Connecting,
    /// Logged in, and making the next data connection ready.
    Preparing,
    /// Logged in, and waiting for work.
    Nothing,
    Job {
        priority: Priority,
        /// The first path that it touches, where it claims one.
        path: Option<RemotePath>,
        for_long: Duration,
        /// Whether it has a session, or is getting one.
        is_live: bool,
    },
}

/// How long a learned limit is believed before one more session is tried: other clients of the account may have left.
const LIMIT_MEMORY: Duration = Duration::from_secs(60);

/// How long no further session is tried after one could not be had: the ones that live go on meanwhile.
pub(super) const GROWTH_PAUSE: Duration = Duration::from_secs(2);
/// What has waited for two seconds to begin is not interrupted for so long.
const TURN: Duration = Duration::from_secs(1);
/// A connection that is being made, or given up, is ready by then, or hangs: somebody who waits had better get another one.
const SOON: Duration = Duration::from_secs(3);
