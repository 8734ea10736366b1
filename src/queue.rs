//! The queue of a mount: jobs with priorities, and the rules for who may run when.
//!
//! A file call that memory cannot answer becomes a [`Job`]: a piece of straight-line code that will run on a connection
//! thread with a session of its own, and an end that sends the reply. FTP servers allow few sessions, so jobs wait here,
//! the most urgent first; but what has waited for seconds is overtaken no more ([`Job::urgency`]): otherwise a close() on
//! the only session would wait as long as other programs ask for names. The queue hands a job to an idle connection (one
//! with a data connection ready, when the job needs one), or asks for a new connection thread while there are fewer than
//! the limit.
//!
//! Two rules keep jobs out of each other's way. *Claims*: jobs on the same path where one of them changes it run one
//! after another, in the order in which they came (some servers lock a file that is being uploaded and then answer
//! nothing at all). *Stepping aside*: a long job asks its [`Turn`] between blocks whether somebody more urgent waits
//! and no connection is free; then it ends early and gives the connection up. One job does so for each that waits. What had to
//! wait for long itself has a second first, or it would be ended again and again before it had brought anything.
//!
//! Connections are made ahead of their need, too. A connection that has just served is not ready for the next transfer
//! for two round trips, so a program that does one thing after the other would wait for it again and again: when a job
//! that needs a data connection finds none ready, one more connection is logged in meanwhile, up to the limit. Soon a
//! few of them take turns, and each transfer starts at once. A transfer waits for a connection that is getting ready rather
//! than take one that has only just served: that would be ready later ([`Readiness`]).
//!
//! Read-ahead is work that nobody waits for. It never takes the last of several connections, starts only when nothing else can, and
//! is promoted ([`Queue::promote`]) the moment somebody does wait for it. Where there is but one connection it is done on that, when
//! it rests: what is worth nothing there sees that for itself ([`Queue::plans_ahead`]), and nothing waits for ever. Nor does
//! more of it come than will be done soon.
//!
//! The lock is never held across I/O: whatever a job does happens outside. `fs`, `read` and `write` submit; only
//! `connection` takes.

pub mod claim;
#[cfg(test)]
mod dice;
pub mod job;
mod state;
#[cfg(test)]
mod stress;
#[cfg(test)]
mod tests;
mod turn;

use std::sync::Arc;
use std::time::{Duration, Instant};

use log::debug;
use parking_lot::Mutex;

pub use claim::Claim;
pub use job::{Job, Priority, Task, Until};
pub use state::Doing;
pub(crate) use state::Readiness;
use state::{GROWTH_PAUSE, Running, Slot, SlotState, State};
pub use turn::Turn;

use crate::ftp::{Error, RemotePath};

/// Where jobs wait, one per mount.
pub struct Queue {
    state: Mutex<State>,
    spawn: Box<dyn Fn(Arc<Queue>, SlotId) + Send + Sync>,
}

impl Queue {
    /// A queue that grows to at most `limit` connections; `spawn` starts the thread of a new one.
    pub fn new(limit: usize, spawn: impl Fn(Arc<Queue>, SlotId) + Send + Sync + 'static) -> Arc<Self> {
        let limit = limit.max(1);
        Arc::new(Self {
            state: Mutex::new(State {
                waiting: Vec::new(),
                slots: Vec::new(),
                tickets: 0,
                slot_ids: 0,
                limit,
                limit_wanted: limit,
                limit_lowered: None,
                was_silent: false,
                closing: false,
            }),
            spawn: Box::new(spawn),
        })
    }

    /// Puts a job in line. Its end is called exactly once: from a connection thread, or from here when the mount ends or no
    /// thread can be started.
    pub fn submit(self: &Arc<Self>, mut job: Job) -> Ticket {
        let mut state = self.state.lock();
        let ticket = Ticket(state.tickets);
        if state.closing {
            drop(state);
            job.task.finish(Err(Error::Cancelled));
            return ticket;
        }
        job.ticket = ticket;
        state.tickets += 1;
        state.waiting.push(job);
        let new = state.dispatch();
        drop(state);
        self.start(new);
        ticket
    }

    /// Makes a job that waits or runs as urgent as this, if it is less so.
    pub fn promote(self: &Arc<Self>, ticket: Ticket, to: Priority) {
        let mut state = self.state.lock();
        if let Some(job) = state.waiting.iter_mut().find(|job| job.ticket == ticket) {
            job.promote(to);
        }
        for slot in &mut state.slots {
            match &mut slot.state {
                SlotState::Assigned { job } if job.ticket == ticket => job.promote(to),
                SlotState::Running(running) if running.ticket == ticket => {
                    running.priority = running.priority.min(to);
                }
                _ => {}
            }
        }
        let new = state.dispatch();
        drop(state);
        self.start(new);
    }

    /// Starts the first connection before there is a job: there is a session already, which is to be looked after.
    pub(crate) fn start_first(self: &Arc<Self>) {
        let mut state = self.state.lock();
        let new = state.slots.is_empty().then(|| state.add_slot());
        drop(state);
        self.start(new);
    }

    /// Starts the thread of a new connection, if there is to be one. Not under the lock.
    fn start(self: &Arc<Self>, new: Option<SlotId>) {
        if let Some(slot) = new {
            (self.spawn)(self.clone(), slot);
        }
    }

    /// Waits for a job for the connection `slot`, at most `patience`. The slot's former job counts as ended.
    pub(crate) fn next(self: &Arc<Self>, slot: SlotId, readiness: Readiness, patience: Duration) -> Next {
        let mut state = self.state.lock();
        let Some(entry) = state.slot(slot) else { return Next::Close };
        let signal = entry.signal.clone();
        if let SlotState::Running(_) | SlotState::Starting { .. } = entry.state {
            entry.state = SlotState::Idle(readiness);
        }
        let new = state.dispatch();
        if let Some(new) = new {
            drop(state);
            (self.spawn)(self.clone(), new);
            state = self.state.lock();
        }
        let until = Instant::now() + patience;
        loop {
            let closing = state.closing;
            let Some(entry) = state.slot(slot) else { return Next::Close };
            match std::mem::replace(&mut entry.state, SlotState::Idle(readiness)) {
                SlotState::Assigned { job } => {
                    entry.state = SlotState::Running(Running::new(&job));
                    return Next::Job(job);
                }
                _ if closing => return Next::Close,
                _ => {}
            }
            if signal.wait_until(&mut state, until).timed_out() {
                let Some(entry) = state.slot(slot) else { return Next::Close };
                if !matches!(entry.state, SlotState::Assigned { .. }) {
                    // Whatever upkeep follows must not be interrupted by an assignment: not idle while it lasts.
                    entry.state = SlotState::starting();
                    return Next::Idle;
                }
            }
        }
    }

    /// Marks whether a session is logged in on `slot`. So many as live are allowed, whatever was refused meanwhile.
    pub(crate) fn set_live(&self, slot: SlotId, live: bool) {
        let mut state = self.state.lock();
        state.was_silent &= !live;
        if let Some(entry) = state.slot(slot) {
            entry.live = live;
        }
        if live {
            let count = state.slots.iter().filter(|slot| slot.live).count();
            state.limit = state.limit.max(count).min(state.limit_wanted);
        }
    }

    /// The server refused a further session: keep to those that live. Where it has not said why, that may have been the line,
    /// and it is asked once more before it is believed.
    pub(crate) fn refuse_growth(&self, slot: SlotId, is_said: bool) -> Growth {
        let mut state = self.state.lock();
        let live = state.slots.iter().filter(|s| s.id != slot && s.live).count();
        if live == 0 {
            return Growth::Needed;
        }
        if !is_said && !std::mem::replace(&mut state.was_silent, true) {
            return Growth::Later;
        }
        if live < state.limit {
            debug!("the server allows {live} sessions");
            state.limit = live;
        }
        state.limit_lowered = Some(Instant::now());
        Growth::Ended
    }

    /// Whether another slot has a session.
    pub(crate) fn has_other(&self, slot: SlotId) -> bool {
        self.state.lock().slots.iter().any(|other| other.id != slot && other.live)
    }

    /// Whether the session of a slot that rests may be missed elsewhere: it is not the only one, or there are few.
    pub(crate) fn is_spare(&self, slot: SlotId) -> bool {
        let state = self.state.lock();
        state.limit < state.limit_wanted || state.slots.iter().any(|other| other.id != slot && other.live)
    }

    /// A further session could not be had on `slot` just now: waits a while, in which no other one is tried unless there is
    /// none at all. Tells whether it is of use then.
    pub(crate) fn pause_growth(&self, slot: SlotId) -> bool {
        let mut state = self.state.lock();
        let Some(entry) = state.slot(slot) else { return false };
        entry.state = SlotState::Pausing;
        let signal = entry.signal.clone();
        let until = Instant::now() + GROWTH_PAUSE;
        while !state.closing && !signal.wait_until(&mut state, until).timed_out() {}
        if let Some(entry) = state.slot(slot) {
            entry.state = SlotState::starting();
        }
        !state.closing && state.waiting.iter().any(|job| state.may_run(job))
    }

    /// Gives the job of `slot` back, to be run on another connection, at its old place and as urgent as it has become.
    pub(crate) fn give_back(self: &Arc<Self>, slot: SlotId, mut job: Job) {
        let mut state = self.state.lock();
        if let Some(entry) = state.slot(slot) {
            if let SlotState::Running(running) = &entry.state {
                job.promote(running.priority);
            }
            entry.state = SlotState::Pausing;
        }
        let late = state.put_back(job);
        let new = state.dispatch();
        drop(state);
        cancel(late);
        self.start(new);
    }

    /// Ends a slot: its thread exits after this.
    pub(crate) fn leave(self: &Arc<Self>, slot: SlotId) {
        let mut state = self.state.lock();
        let late = match state.remove(slot) {
            Some(Slot { state: SlotState::Assigned { job }, .. }) => state.put_back(job),
            _ => None,
        };
        let new = state.dispatch();
        drop(state);
        cancel(late);
        self.start(new);
    }

    /// The thread of a slot could not be started. What there is must do for a while; when there is nothing, jobs end.
    pub(crate) fn fail_to_start(&self, slot: SlotId, errno: i32) {
        let mut state = self.state.lock();
        state.remove(slot);
        let waiting = match state.slots.len() {
            0 => std::mem::take(&mut state.waiting),
            left => {
                state.limit = state.limit.min(left);
                state.limit_lowered = Some(Instant::now());
                Vec::new()
            }
        };
        drop(state);
        for job in waiting {
            job.task.finish(Err(Error::Local { errno }));
        }
    }

    /// Whether the mount ends.
    pub(crate) fn is_closing(&self) -> bool {
        self.state.lock().closing
    }

    /// How many connection threads there are, and how many of them have nothing to do.
    pub fn connections(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.slots.len(), state.slots.iter().filter(|s| matches!(s.state, SlotState::Idle(_))).count())
    }

    /// The most sessions that this mount may have now.
    pub fn limit(&self) -> usize {
        self.state.lock().limit
    }

    /// Whether planning ahead is of use: there is more than one connection, and not much that was planned waits already.
    pub fn plans_ahead(&self) -> bool {
        let state = self.state.lock();
        state.limit > 1 && state.waiting_ahead() < MOST_AHEAD
    }

    /// What every connection does now, and how many jobs wait.
    pub fn look(&self) -> (Vec<Doing>, usize) {
        let state = self.state.lock();
        let doing = |slot: &Slot| match &slot.state {
            SlotState::Starting { .. } if slot.live => Doing::Preparing,
            SlotState::Starting { .. } | SlotState::Pausing => Doing::Connecting,
            SlotState::Idle(_) | SlotState::Assigned { .. } => Doing::Nothing,
            SlotState::Running(running) => {
                let path = running.claims.first().map(|claim| claim.path().clone());
                let for_long = running.since.elapsed();
                Doing::Job { priority: running.priority, path, for_long, is_live: slot.live }
            }
        };
        (state.slots.iter().map(doing).collect(), state.waiting.len())
    }

    /// Whether a connection stands idle that nobody will miss: no job waits, and another one is idle, too. Where there are
    /// fewer, one more is made for the next time, up to the limit.
    pub fn has_spare(self: &Arc<Self>) -> bool {
        let mut state = self.state.lock();
        if !state.waiting.is_empty() {
            return false;
        }
        let idle = |slot: &&Slot| slot.live && matches!(slot.state, SlotState::Idle(_));
        if state.slots.iter().filter(idle).count() > 1 {
            return true;
        }
        let new = state.grow(1);
        drop(state);
        self.start(new);
        false
    }

    /// Whether a job waits that takes away what is at this path.
    pub fn unlinks(&self, path: &RemotePath) -> bool {
        let state = self.state.lock();
        let at = |job: &Job| job.claims.iter().any(|claim| claim.path() == path);
        state.waiting.iter().any(|job| job.unlinks && at(job))
    }

    /// Whether no job waits.
    pub fn is_empty(&self) -> bool {
        self.state.lock().waiting.is_empty()
    }

    /// No more jobs; what waits is ended with `Cancelled`, what runs comes to its end, idle connections close.
    pub fn close(&self) {
        let waiting = {
            let mut state = self.state.lock();
            state.closing = true;
            for slot in &state.slots {
                slot.signal.notify_all();
            }
            std::mem::take(&mut state.waiting)
        };
        cancel(waiting);
    }
}

/// Ends jobs that nobody will run. Not under the lock.
fn cancel(jobs: impl IntoIterator<Item = Job>) {
    for job in jobs {
        job.task.finish(Err(Error::Cancelled));
    }
}

/// Names a job, from [`Queue::submit`] to its end. Whoever came later has a higher one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Ticket(u64);

/// Names one connection thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SlotId(u64);

/// What comes of a further session that the server has refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Growth {
    /// There is no other one: that is an error.
    Needed,
    /// It is tried once more, see [`Queue::pause_growth`].
    Later,
    /// There will be no more than there are.
    Ended,
}

/// What a connection thread is to do next.
pub(crate) enum Next {
    Job(Job),
    /// Nothing came: time for upkeep.
    Idle,
    /// The mount ends.
    Close,
}

/// Of jobs that nobody waits for, so many may wait for a connection: four walks over folders at their fastest.
const MOST_AHEAD: usize = 256;
