//! Answers: replies as values that can be sent later, by anybody, once.
//!
//! A file call either is answered at once, or its [`Answer`] travels with a job. Then it is [`Waiting::hold`]ed: a
//! watcher looks after everybody who waits, and answers ETIMEDOUT when the time is over and EINTR when the caller is
//! being killed or has a signal pending (Ctrl-C, kill): a process in a FUSE call cannot be killed until it is answered, and fuser does not
//! tell us about FUSE_INTERRUPT, but the pending signal can be read in /proc. The job goes on; its result finds nobody. So what an
//! answer hands out, or does to a file, is done by whoever has [`Answer::claim`]ed it. A signal that only stops a program (Ctrl-Z),
//! or has a handler of its own (a timer), waits until the call is answered.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use log::{debug, error};
use parking_lot::{Condvar, Mutex};

use super::Errno;

/// A reply to one file call.
pub struct Answer<T> {
    send: Option<Send<T>>,
    /// Takes it from the watcher; false when that was faster. None when nobody watches.
    claim: Option<Claim>,
}

type Send<T> = Box<dyn FnOnce(Result<T, Errno>) + std::marker::Send>;
type Claim = Box<dyn FnOnce() -> bool + std::marker::Send>;

impl<T> Answer<T> {
    pub fn new(send: impl FnOnce(Result<T, Errno>) + std::marker::Send + 'static) -> Self {
        Self { send: Some(Box::new(send)), claim: None }
    }

    /// Makes sure of being the one who answers: from here on it is not given up. None when it has been. To be asked before
    /// anything is done that only an answer undoes (a handle, a look-up that the kernel counts, a file that is emptied): a
    /// caller who has heard EINTR never closes what it was not given.
    pub fn claim(mut self) -> Option<Self> {
        let is_ours = self.claim.take().is_none_or(|claim| claim());
        is_ours.then_some(self)
    }

    /// Sends the reply.
    pub fn send(mut self, result: Result<T, Errno>) {
        if let Some(send) = self.send.take() {
            send(result);
        }
    }

    /// An answer that is made from what comes.
    pub fn and_then<U>(
        mut self,
        make: impl FnOnce(U) -> Result<T, Errno> + std::marker::Send + 'static,
    ) -> Answer<U>
    where
        T: 'static,
    {
        let claim = self.claim.take();
        let send: Send<U> = Box::new(move |result| self.send(result.and_then(make)));
        Answer { send: Some(send), claim }
    }

    pub fn ok(self, value: T) {
        self.send(Ok(value));
    }

    pub fn error(self, errno: Errno) {
        self.send(Err(errno));
    }
}

impl<T> Drop for Answer<T> {
    fn drop(&mut self) {
        if let Some(send) = self.send.take() {
            send(Err(Errno::IO));
        }
    }
}

/// Who asks: a thread of a program.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    /// 0 when the kernel itself asks (write-back, read-ahead).
    pub pid: u32,
}

/// Everybody who waits for an answer.
pub struct Waiting {
    callers: Mutex<Callers>,
    changed: Condvar,
}

#[derive(Default)]
struct Callers {
    next: u64,
    waiting: HashMap<u64, Held>,
}

struct Held {
    caller: Caller,
    since: Instant,
    limit: Option<Duration>,
    give_up: Box<dyn FnOnce(Errno) + std::marker::Send>,
}

impl Waiting {
    /// Starts the watcher, which ends when this is dropped.
    pub fn new() -> Arc<Self> {
        let waiting = Arc::new(Self { callers: Mutex::default(), changed: Condvar::new() });
        let watched = Arc::downgrade(&waiting);
        std::thread::Builder::new()
            .name("waiting".into())
            .spawn(move || watch(&watched))
            .expect("a thread can be started when the mount starts");
        waiting
    }

    /// An answer that is given up when the caller is interrupted, or after `limit`.
    pub fn hold<T: std::marker::Send + 'static>(
        self: &Arc<Self>,
        caller: Caller,
        limit: Option<Duration>,
        mut answer: Answer<T>,
    ) -> Answer<T> {
        let below = answer.claim.take();
        let cell = Arc::new(Mutex::new(Some(answer)));
        let give_up = {
            let cell = cell.clone();
            Box::new(move |errno| {
                let answer = cell.lock().take();
                if let Some(answer) = answer {
                    answer.error(errno);
                }
            })
        };
        let number = {
            let mut callers = self.callers.lock();
            callers.next += 1;
            let number = callers.next;
            callers.waiting.insert(number, Held { caller, since: Instant::now(), limit, give_up });
            number
        };
        self.changed.notify_one();
        // Whoever takes it out of the table answers it.
        let take_out = {
            let waiting = Arc::downgrade(self);
            move || {
                let waiting = Weak::upgrade(&waiting);
                waiting.is_none_or(|waiting| waiting.callers.lock().waiting.remove(&number).is_some())
            }
        };
        let claim: Claim = {
            let take_out = take_out.clone();
            Box::new(move || take_out() && below.is_none_or(|below| below()))
        };
        let send: Send<T> = Box::new(move |result| {
            take_out();
            let answer = cell.lock().take();
            if let Some(answer) = answer {
                answer.send(result);
            }
        });
        Answer { send: Some(send), claim: Some(claim) }
    }

    /// How many callers wait now.
    pub fn count(&self) -> usize {
        self.callers.lock().waiting.len()
    }
}

fn watch(waiting: &Weak<Waiting>) {
    while let Some(waiting) = waiting.upgrade() {
        let mut callers = waiting.callers.lock();
        if callers.waiting.is_empty() {
            waiting.changed.wait_for(&mut callers, Duration::from_secs(1));
        }
        let watched: Vec<_> = callers
            .waiting
            .iter()
            .map(|(&number, held)| (number, held.caller, held.since.elapsed(), held.limit))
            .collect();
        drop(callers);
        for (number, caller, since, limit) in watched {
            let errno = match limit {
                Some(limit) if since > limit => Errno::TIMEDOUT,
                _ if since > GRACE && (has_pending_signal(caller) || is_dying(caller)) => Errno::INTR,
                _ => continue,
            };
            let held = waiting.callers.lock().waiting.remove(&number);
            if let Some(held) = held {
                debug!("giving up a call of {} after {since:?}: {errno}", caller.pid);
                // Without the watcher nothing would have an end any more.
                let given_up = catch_unwind(AssertUnwindSafe(|| (held.give_up)(errno)));
                if given_up.is_err() {
                    error!("giving up a call panicked");
                }
            }
        }
        std::thread::sleep(PERIOD);
    }
}

/// Whether the calling thread has a signal that it would act on: pending, not blocked, not ignored.
fn has_pending_signal(caller: Caller) -> bool {
    if caller.pid == 0 {
        return false;
    }
    let Ok(status) = std::fs::read_to_string(format!("/proc/{}/status", caller.pid)) else { return false };
    let mask = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0)
    };
    let caught = mask("SigCgt:");
    let ending = (caught & ASKING_TO_END) | !(caught | STOPPING | DEFAULT_IGNORED);
    (mask("SigPnd:") | mask("ShdPnd:")) & !mask("SigBlk:") & !mask("SigIgn:") & ending != 0
}

/// Whether the calling thread is being ended by a signal: the kernel closes its files then, and until that is answered not even
/// `kill -9` helps. (A thread that ends by itself waits for its uploads, as if it had closed the files.)
fn is_dying(caller: Caller) -> bool {
    if caller.pid == 0 {
        return false;
    }
    let Ok(stat) = std::fs::read(format!("/proc/{}/stat", caller.pid)) else { return false };
    // The name, in brackets, may hold anything.
    let after = stat.iter().rposition(|&b| b == b')').and_then(|at| stat.get(at + 1..)).unwrap_or_default();
    let fields: Vec<i64> = String::from_utf8_lossy(after)
        .split_ascii_whitespace()
        .skip(1)
        .map(|field| field.parse().unwrap_or(0))
        .collect();
    let field = |number: usize| fields.get(number - FIRST_NUMBER).copied().unwrap_or(0);
    field(FLAGS) & PF_EXITING != 0 && field(EXIT_CODE) & SIGNAL_MASK != 0
}

/// Fields of /proc/PID/stat, numbered as in proc(5); the third, a letter, is the last before the numbers.
const FIRST_NUMBER: usize = 4;
const FLAGS: usize = 9;
const EXIT_CODE: usize = 52;
/// include/linux/sched.h.
const PF_EXITING: i64 = 4;
/// Of the exit code, as waitpid(2) gives it.
const SIGNAL_MASK: i64 = 0x7f;
/// A call is looked at after this long: nearly all are over by then.
const GRACE: Duration = Duration::from_millis(150);
const PERIOD: Duration = Duration::from_millis(50);
/// Pending for a moment, and ending nothing.
const DEFAULT_IGNORED: u64 = signals(&[libc::SIGCHLD, libc::SIGCONT, libc::SIGURG, libc::SIGWINCH]);
/// A program with a handler for these may want to end all the same. Other handlers (git's progress has one for SIGALRM, profilers for
/// SIGPROF) run when the call is over: with EINTR a close() would fail that nothing was wrong with.
const ASKING_TO_END: u64 = signals(&[libc::SIGINT, libc::SIGTERM, libc::SIGQUIT, libc::SIGHUP]);
/// Ctrl-Z and its like: pending until the call is over, and then the program only stops. With EINTR it would go on to an error.
const STOPPING: u64 = signals(&[libc::SIGTSTP, libc::SIGSTOP, libc::SIGTTIN, libc::SIGTTOU]);

/// A mask as in /proc/PID/status.
const fn signals(numbers: &[libc::c_int]) -> u64 {
    let (mut mask, mut at) = (0, 0);
    while at < numbers.len() {
        mask |= 1 << (numbers[at] - 1);
        at += 1;
    }
    mask
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn whoever_waits_too_long_is_told_so_once() {
        let waiting = Waiting::new();
        let (tell, told) = mpsc::channel();
        let answer = Answer::new(move |result: Result<(), Errno>| tell.send(result).unwrap());
        let answer = waiting.hold(Caller { pid: 0 }, Some(Duration::from_millis(1)), answer);
        assert_eq!(told.recv_timeout(Duration::from_secs(10)).unwrap(), Err(Errno::TIMEDOUT));
        answer.ok(());
        assert!(told.recv_timeout(Duration::from_millis(1)).is_err(), "only one answer");
    }

    #[test]
    fn an_answer_that_is_claimed_is_not_given_up_and_one_that_was_given_up_is_not_claimed() {
        let waiting = Waiting::new();
        let (tell, told) = mpsc::channel();
        let hold = |limit| {
            let tell = tell.clone();
            let answer = Answer::new(move |result: Result<u32, Errno>| tell.send(result).unwrap());
            // Two calls of the file system on the way of one: both watch.
            let answer =
                waiting.hold(Caller { pid: 0 }, Some(limit), answer).and_then(|value: u32| Ok(value + 1));
            waiting.hold(Caller { pid: 0 }, None, answer)
        };
        let late = hold(Duration::from_millis(1));
        assert_eq!(told.recv_timeout(Duration::from_secs(10)).unwrap(), Err(Errno::TIMEDOUT));
        assert!(late.claim().is_none());
        let claimed = hold(Duration::from_millis(300)).claim().unwrap();
        assert_eq!(waiting.count(), 0);
        assert!(told.recv_timeout(Duration::from_millis(600)).is_err());
        claimed.ok(1);
        assert_eq!(told.recv_timeout(Duration::from_secs(10)).unwrap(), Ok(2));
    }

    #[test]
    fn an_answer_that_is_forgotten_is_an_error_not_a_hang() {
        let (tell, told) = mpsc::channel();
        drop(Answer::new(move |result: Result<(), Errno>| tell.send(result).unwrap()));
        assert_eq!(told.recv().unwrap(), Err(Errno::IO));
    }
}
