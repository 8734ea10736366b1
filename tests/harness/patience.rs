//! Waiting for conditions instead of sleeping, each wait with a bound: what hangs is a failure with a name.

use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Waits until it is so, for a minute at most.
#[track_caller]
pub fn eventually(what: &str, condition: impl FnMut() -> bool) {
    look(Duration::from_secs(60), Duration::from_millis(10), what, condition);
}

/// Waits until it is so, for at most `limit`; looks often enough to catch a moment of a transfer.
#[track_caller]
pub fn eventually_within(limit: Duration, what: &str, condition: impl FnMut() -> bool) {
    look(limit, Duration::from_millis(1), what, condition);
}

#[track_caller]
fn look(limit: Duration, pause: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(pause);
    }
}

/// What hangs is not slow: many times the time-out of [`super::mounted::IMPATIENT`].
pub const LONGEST: Duration = Duration::from_secs(30);

/// What hangs is not slow: the limit is many times the time-out in force.
#[track_caller]
pub fn within<T>(limit: Duration, action: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let outcome = action();
    assert!(start.elapsed() < limit, "it took {:?}", start.elapsed());
    outcome
}

/// Several cases at a time: most of them wait.
pub fn at_once<T: Send>(threads: usize, cases: Vec<T>, check: impl Fn(&T) + Sync) {
    let cases = Mutex::new(cases.into_iter());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                // Not in the condition: the lock must not be held while the case runs.
                loop {
                    let Some(case) = cases.lock().unwrap().next() else { return };
                    check(&case);
                }
            });
        }
    });
}
