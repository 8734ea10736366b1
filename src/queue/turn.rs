//! What a running job asks between two blocks: is somebody waiting whom it keeps from running? Used by long jobs, which step
//! aside then. One for each who waits: the others go on.

use std::sync::Arc;
use std::time::Instant;

use super::{Queue, SlotId};

/// What a running job may ask of the queue.
pub struct Turn<'q> {
    queue: &'q Arc<Queue>,
    slot: SlotId,
    /// 0 at the first attempt; higher when a connection was lost under the attempt before.
    pub attempt: u32,
}

impl<'q> Turn<'q> {
    pub(crate) fn new(queue: &'q Arc<Queue>, slot: SlotId, attempt: u32) -> Self {
        Self { queue, slot, attempt }
    }

    /// Whether somebody waits whom this job keeps from running: a more urgent job without a connection, for which no other
    /// job steps aside already, or one that waits for a path that this job claims. With `fair`, an equally urgent job counts
    /// too. Whoever is told so steps aside.
    pub fn is_wanted(&self, fair: bool) -> bool {
        let mut state = self.queue.state.lock();
        if state.waiting.is_empty() {
            return false;
        }
        let Some(running) = state.running(self.slot) else { return state.slot(self.slot).is_none() };
        if state.holds_a_path(running) {
            return true;
        }
        let urgency = running.urgency();
        let stepping_aside = state.stepping_aside(self.slot);
        let is_urgent =
            |job: &_| super::Job::urgency(job) < urgency || (fair && super::Job::urgency(job) == urgency);
        let urgent = state.waiting.iter().filter(|job| is_urgent(job) && state.may_run(job));
        let is_wanted = state.is_crowded() && urgent.take(stepping_aside + 1).count() > stepping_aside;
        if let Some(running) = state.running_mut(self.slot) {
            running.steps_aside = is_wanted.then(Instant::now);
        }
        is_wanted
    }

    /// Whether somebody waits for a path that this job claims.
    pub fn holds_a_path(&self) -> bool {
        let state = self.queue.state.lock();
        state.running(self.slot).is_some_and(|running| state.holds_a_path(running))
    }
}
