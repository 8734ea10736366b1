//! When the upload of what is acknowledged starts: the oldest first, not while a program is likely to change it once more, and only one
//! at a time where the server could not be reached.

use std::time::{Duration, Instant};

use super::Pending;
use crate::fs::FileSystem;
use crate::fs::writing::Begun;
use crate::queue::Priority;
use crate::write::draft::Generation;

impl FileSystem {
    /// Starts what may start; gives the time until there may be more. No more than there may be connections: what has not
    /// begun can still be renamed or removed here alone.
    pub(super) fn start_uploads(&self) -> Duration {
        let now = Instant::now();
        let (mut ready, mut free, down) = {
            let state = self.writeback.state.lock();
            let running = state.files.values().filter(|pending| pending.sending.is_some()).count();
            let most = if state.down.is_some() { 1 } else { self.queue.limit() };
            let ready: Vec<_> = state
                .files
                .iter()
                .filter(|(_, pending)| pending.sending.is_none())
                .map(|(&ino, pending)| (pending.order(), ino, Start::of(pending)))
                .collect();
            (ready, most.saturating_sub(running), state.down)
        };
        if let Some((until, _)) = down.filter(|&(until, _)| until > now) {
            return until - now;
        }
        ready.sort_unstable_by_key(|&(order, ..)| order);
        let mut wait = LONG;
        for (_, ino, start) in ready {
            if free == 0 {
                break;
            }
            if let Some(after) = start.after.filter(|&after| after > now) {
                wait = wait.min(after - now);
                continue;
            }
            // `echo > x` closes a copy before it writes; git, rsync and editors rename what they have just closed, and set its
            // time: that costs nothing before it is sent.
            let is_open = self.tree.lock().node(ino).is_some_and(|node| node.opens > 0);
            // What is being written just now is nobody's version; but a log that is always open gets there, too.
            let generation = self.drafts.find(ino).map(|draft| draft.lock().generation());
            let rest = match is_open {
                _ if generation.is_some_and(|now| now != start.generation) => STILL_WRITING,
                true => STILL_OPEN,
                false => JUST_CLOSED,
            };
            let left = rest.saturating_sub(start.since.elapsed());
            if !start.is_urgent && !left.is_zero() {
                wait = wait.min(left);
                continue;
            }
            match self.drafts.begin(ino) {
                Begun::Now => {
                    self.upload(ino, Priority::BackgroundUpload);
                    free -= 1;
                }
                // An fsync() sends it.
                Begun::AnotherRuns => {}
                // An fsync() has sent it.
                Begun::NothingToSend => self.forget_pending(ino),
            }
        }
        wait
    }
}

/// What decides when an upload starts.
struct Start {
    after: Option<Instant>,
    since: Instant,
    generation: Generation,
    is_urgent: bool,
}

impl Start {
    fn of(pending: &Pending) -> Self {
        let Pending { after, since, generation, is_urgent, .. } = *pending;
        Self { after, since, generation, is_urgent }
    }
}

/// How long a file is left alone after a close().
const JUST_CLOSED: Duration = Duration::from_millis(100);
const STILL_OPEN: Duration = Duration::from_millis(300);
const STILL_WRITING: Duration = Duration::from_secs(30);
/// Nothing to do until somebody says so.
const LONG: Duration = Duration::from_secs(3600);
