//! What a running job asks between two blocks: is somebody waiting whom it keeps from running? Used by long jobs, which step
//! aside then.

use std::sync::Arc;

use super::state::SlotState;
use super::{Queue, SlotId, claim};

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

    /// Whether somebody waits whom this job keeps from running: a more urgent job without a connection, or one that
    /// waits for a path that this job claims. With `fair`, an equally urgent job counts too.
    pub fn is_wanted(&self, fair: bool) -> bool {
        let state = self.queue.state.lock();
        if state.waiting.is_empty() {
            return false;
        }
        let Some(slot) = state.slots.iter().find(|s| s.id == self.slot) else { return true };
        let SlotState::Running { priority, claims, ticket, .. } = &slot.state else { return false };
        let crowded = state.is_crowded();
        state.waiting.iter().any(|job| {
            let urgency = job.urgency();
            let urgent = urgency < *priority || (fair && urgency == *priority);
            (crowded && urgent && state.may_run(job))
                || claim::conflict(&job.claims, claims) && job.ticket > *ticket
        })
    }
}
