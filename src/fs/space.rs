//! statfs: how much can still be stored.
//!
//! Answered from memory, always: file managers and `df` ask again and again, and a machine that is about to sleep asks every mount.
//! Where the server tells ([`Space`]), it is asked behind the answer, at most every [`LIFE`], and the next answer has it.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::FileSystem;
use crate::ftp::Space;
use crate::queue::{Job, Priority};

/// What was told last.
#[derive(Default)]
pub struct SpaceLeft(Mutex<Told>);

#[derive(Default)]
struct Told {
    space: Option<Space>,
    asked: Option<Instant>,
    /// A question is under way.
    is_asking: bool,
}

impl FileSystem {
    /// None: the server has not told.
    pub fn space_left(&self) -> Option<Space> {
        let mut told = self.space.0.lock();
        let is_due = !told.is_asking
            && told.asked.is_none_or(|at| at.elapsed() >= LIFE)
            && Space::is_told_by(&self.features);
        let space = told.space;
        if !is_due {
            return space;
        }
        told.asked = Some(Instant::now());
        told.is_asking = true;
        drop(told);
        let this = self.this.clone();
        let end = move |outcome: Result<Option<Space>, _>| {
            let Some(fs) = this.upgrade() else { return };
            let mut told = fs.space.0.lock();
            told.is_asking = false;
            if let Ok(space) = outcome {
                told.space = space;
            }
        };
        let job = Job::new(
            Priority::ReadAhead,
            |session, _| {
                let root = session.root().clone();
                session.space(&root)
            },
            end,
        );
        self.submit(job.until(self.deadline()));
        space
    }
}

/// Somebody copies, and looks how it becomes less.
const LIFE: Duration = Duration::from_secs(10);
