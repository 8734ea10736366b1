//! Which job runs next, and on which connection: the decisions, under the queue's one lock. Used by `queue`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Condvar;

use super::SlotId;
use super::claim::{self, Claim};
use super::job::{Job, Priority};

pub(super) struct State {
    pub(super) waiting: Vec<Job>,
    pub(super) slots: Vec<Slot>,
    pub(super) next_job: u64,
    /// Learned: never above `limit_wanted`.
    pub(super) limit: usize,
    pub(super) limit_wanted: usize,
    pub(super) limit_lowered: Option<Instant>,
    pub(super) growth_failed: Option<Instant>,
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
        while let Some(at) = self.most_urgent() {
            let needs_data = self.waiting[at].needs_data;
            let idle = self
                .slots
                .iter()
                .enumerate()
                .filter_map(|(i, s)| match s.state {
                    SlotState::Idle { ready } => Some((i, ready == needs_data, s.live)),
                    _ => None,
                })
                .max_by_key(|&(i, fits, live)| (live, fits, std::cmp::Reverse(i)));
            match idle {
                Some((slot, ..)) => {
                    let job = self.waiting.remove(at);
                    self.slots[slot].state = SlotState::Assigned { job };
                    self.slots[slot].signal.notify_one();
                }
                None => return self.grow(),
            }
        }
        None
    }

    /// A new slot, when more jobs can run than connections are being made.
    pub(super) fn grow(&mut self) -> Option<SlotId> {
        let live = self.slots.iter().any(|slot| slot.live);
        let failed = self.growth_failed.is_some_and(|at| at.elapsed() < GROWTH_PAUSE);
        if self.slots.len() >= self.limit || self.closing || (live && failed) {
            return None;
        }
        let starting = |slot: &&Slot| matches!(slot.state, SlotState::Starting);
        let logging_in = self.slots.iter().filter(starting).filter(|slot| !slot.live).count();
        let preparing = self.slots.iter().filter(starting).count() - logging_in;
        let runnable = |data: bool, ahead: bool| {
            let fits = |job: &&Job| job.needs_data == data && (job.priority == Priority::ReadAhead) == ahead;
            self.waiting.iter().filter(fits).filter(|job| self.may_run(job)).count()
        };
        let for_ahead = (self.limit - 1).saturating_sub(self.reading_ahead());
        let data = runnable(true, false) + (runnable(true, true) + runnable(false, true)).min(for_ahead);
        // A connection that gets ready soon is enough for what needs no data connection.
        let other = runnable(false, false);
        if logging_in >= data + other.saturating_sub(preparing) {
            return None;
        }
        let id = SlotId(self.next_job);
        self.next_job += 1;
        let signal = Arc::new(Condvar::new());
        self.slots.push(Slot { id, state: SlotState::Starting, live: false, signal });
        Some(id)
    }

    pub(super) fn most_urgent(&self) -> Option<usize> {
        (0..self.waiting.len())
            .filter(|&at| self.may_run(&self.waiting[at]))
            .min_by_key(|&at| (self.waiting[at].priority, self.waiting[at].number))
    }

    pub(super) fn may_run(&self, job: &Job) -> bool {
        // Read-ahead may wait for long: nobody waits for it in turn.
        let earlier = |other: &Job| {
            other.number < job.number
                && other.priority != Priority::ReadAhead
                && claim::conflict(&other.claims, &job.claims)
        };
        if job.priority == Priority::ReadAhead && self.reading_ahead() + 1 >= self.limit {
            return false;
        }
        !self.waiting.iter().any(earlier)
            && !self.slots.iter().any(|slot| match &slot.state {
                SlotState::Running { claims, .. } => claim::conflict(claims, &job.claims),
                SlotState::Assigned { job: other } => claim::conflict(&other.claims, &job.claims),
                _ => false,
            })
    }

    pub(super) fn reading_ahead(&self) -> usize {
        let ahead = |slot: &&Slot| match &slot.state {
            SlotState::Running { priority, .. } => *priority == Priority::ReadAhead,
            SlotState::Assigned { job } => job.priority == Priority::ReadAhead,
            _ => false,
        };
        self.slots.iter().filter(ahead).count()
    }

    pub(super) fn slot(&mut self, id: SlotId) -> Option<&mut Slot> {
        self.slots.iter_mut().find(|s| s.id == id)
    }
}

pub(super) struct Slot {
    pub(super) id: SlotId,
    pub(super) state: SlotState,
    pub(super) live: bool,
    pub(super) signal: Arc<Condvar>,
}

pub(super) enum SlotState {
    /// The thread is logging in, making a data connection ready or looking after its session.
    Starting,
    Idle {
        ready: bool,
    },
    Assigned {
        job: Job,
    },
    Running {
        since: Instant,
        number: u64,
        priority: Priority,
        claims: Vec<Claim>,
    },
}

/// How long a learned limit is believed before one more session is tried: other clients of the account may have left.
const LIMIT_MEMORY: Duration = Duration::from_secs(60);

/// How long nothing is tried after a further session could not be had: the ones that live go on meanwhile.
const GROWTH_PAUSE: Duration = Duration::from_secs(2);
