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

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use parking_lot::Mutex;

    use super::super::{Job, Next, Priority, Readiness};
    use super::*;
    use crate::ftp::Error;

    fn queue(limit: usize) -> (Arc<Queue>, Arc<Mutex<Vec<SlotId>>>) {
        let started = Arc::new(Mutex::new(Vec::new()));
        let log = started.clone();
        (Queue::new(limit, move |_, slot| log.lock().push(slot)), started)
    }

    fn job(priority: Priority) -> Job {
        Job::new(priority, |_, _| Ok(()), |_| {})
    }

    fn take(queue: &Arc<Queue>, slot: SlotId) -> Job {
        match queue.next(slot, Readiness::Ready, Duration::ZERO) {
            Next::Job(job) => job,
            _ => panic!("there is no job for it"),
        }
    }

    #[test]
    fn a_job_gives_way_when_a_further_session_cannot_be_had() {
        let (queue, started) = queue(3);
        queue.submit(job(Priority::Read));
        let first = started.lock()[0];
        queue.set_live(first, true);
        take(&queue, first);
        let turn = Turn::new(&queue, first, 0);
        queue.submit(job(Priority::Names));
        let second = started.lock()[1];
        assert!(!turn.is_wanted(false), "the second connection will be there soon");
        std::thread::scope(|scope| {
            let pausing = scope.spawn(|| queue.pause_growth(second));
            while !turn.is_wanted(false) {
                std::thread::yield_now();
            }
            queue.submit(job(Priority::Names));
            assert_eq!(started.lock().len(), 2, "nor is a third one tried meanwhile");
            take(&queue, first);
            assert!(pausing.join().unwrap(), "it is tried again for the one that still waits");
        });
    }

    #[test]
    fn a_pause_ends_with_the_mount() {
        let (queue, started) = queue(2);
        queue.submit(job(Priority::Read));
        let slot = started.lock()[0];
        std::thread::scope(|scope| {
            let pausing = scope.spawn(|| queue.pause_growth(slot));
            queue.close();
            assert!(!pausing.join().unwrap());
        });
    }

    #[test]
    fn a_job_that_is_given_back_stays_as_urgent_as_it_has_become() {
        let (queue, started) = queue(2);
        let ticket = queue.submit(job(Priority::ReadAhead));
        let first = started.lock()[0];
        let ahead = take(&queue, first);
        queue.promote(ticket, Priority::Read);
        queue.give_back(first, ahead);
        queue.leave(first);
        let second = started.lock()[1];
        assert_eq!(take(&queue, second).priority, Priority::Read);
    }

    #[test]
    fn a_job_that_is_given_back_when_the_mount_ends_ends() {
        let (queue, started) = queue(1);
        let (tell, told) = channel();
        queue.submit(Job::new(Priority::Read, |_, _| Ok(()), move |end| tell.send(end).unwrap()));
        let slot = started.lock()[0];
        let taken = take(&queue, slot);
        queue.close();
        queue.give_back(slot, taken);
        assert!(matches!(told.try_recv(), Ok(Err(Error::Cancelled))));
    }

    #[test]
    fn where_no_thread_can_be_started_jobs_end() {
        let queue = Queue::new(2, |queue: Arc<Queue>, slot| queue.fail_to_start(slot, libc::EAGAIN));
        let (tell, told) = channel();
        queue.submit(Job::new(Priority::Read, |_, _| Ok(()), move |end| tell.send(end).unwrap()));
        assert!(matches!(told.try_recv(), Ok(Err(Error::Local { errno: libc::EAGAIN }))));
    }
}
