//! The last errors of a mount, with the server's words: for whoever asks later what went wrong.

use std::collections::VecDeque;
use std::time::SystemTime;

use parking_lot::Mutex;

/// Bounded; the oldest goes first.
#[derive(Default)]
pub struct Troubles(Mutex<VecDeque<Trouble>>);

/// Something that did not work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    pub at: SystemTime,
    pub text: String,
}

impl Troubles {
    pub fn note(&self, text: String) {
        let mut troubles = self.0.lock();
        if troubles.len() >= KEPT {
            troubles.pop_front();
        }
        troubles.push_back(Trouble { at: SystemTime::now(), text });
    }

    /// The oldest first.
    pub fn read(&self) -> Vec<Trouble> {
        self.0.lock().iter().cloned().collect()
    }
}

/// More than anybody reads.
const KEPT: usize = 10;
