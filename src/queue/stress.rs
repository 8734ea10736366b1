//! Many threads at once on one queue: no job is forgotten, none ends twice, and no two run that must not.
//!
//! Connections wait here for ever (`next` is given an hour, so that no upkeep heals a wake-up that was missed), and leave, lose
//! their job and refuse to grow at random. What is counted is jobs; a clock only tells that nothing moves any more.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use super::dice::Dice;
use super::*;

#[test]
fn no_job_is_forgotten_whatever_connections_do() {
    for (seed, limit) in [(1, 1), (2, 2), (3, 3), (4, 8)] {
        let (queue, running) = queue(limit);
        let ends = call_from_all(&queue, seed, || ());
        // A job that was forgotten keeps its sender.
        for count in 0..CALLERS * JOBS {
            let outcome = ends.recv_timeout(STANDSTILL);
            let state = || format!("{:?}, {} waiting", queue.look().0, queue.look().1);
            assert!(outcome.is_ok(), "limit {limit}: nothing moves after {count} jobs: {}", state());
        }
        assert!(ends.recv_timeout(STANDSTILL).is_err(), "one ended twice");
        assert_eq!(running.clashes.load(Ordering::Relaxed), 0, "limit {limit}");
        queue.close();
    }
}

#[test]
fn whatever_comes_while_the_mount_ends_ends_too() {
    for seed in 1..=10 {
        let (queue, _) = queue(3);
        let ends = call_from_all(&queue, seed, || {
            (0..seed * 20).for_each(|_| std::thread::yield_now());
            queue.close();
        });
        for count in 0..CALLERS * JOBS {
            assert!(ends.recv_timeout(STANDSTILL).is_ok(), "seed {seed}: forgotten after {count}");
        }
        assert!(queue.is_empty());
    }
}

/// A queue whose connections do what [`connection`] does.
fn queue(limit: usize) -> (Arc<Queue>, Arc<Running>) {
    let running = Arc::new(Running::default());
    let with = running.clone();
    let queue = Queue::new(limit, move |queue, slot| {
        let running = with.clone();
        std::thread::spawn(move || connection(&queue, slot, &running));
    });
    (queue, running)
}

/// Has all callers submit their jobs at once, and does something meanwhile. Every end of a job is told.
fn call_from_all(queue: &Arc<Queue>, seed: u64, meanwhile: impl FnOnce() + Send) -> Receiver<()> {
    let (ended, ends) = channel();
    std::thread::scope(|scope| {
        for caller in 0..CALLERS {
            let ended = ended.clone();
            scope.spawn(move || call(queue, &mut Dice(seed * 1000 + caller + 1), &ended));
        }
        scope.spawn(meanwhile);
    });
    ends
}

/// Submits jobs. Some become urgent soon, and in the end somebody waits for each: read-ahead has no connection made for it.
fn call(queue: &Arc<Queue>, dice: &mut Dice, ended: &Sender<()>) {
    const PRIORITIES: [Priority; 4] =
        [Priority::Names, Priority::Read, Priority::Upload, Priority::ReadAhead];
    let mut tickets = Vec::new();
    for _ in 0..JOBS {
        let ended = ended.clone();
        let end = move |_| ended.send(()).expect("the test waits for it");
        let path = RemotePath::parse(format!("/{}/{}", dice.below(2), dice.below(3)).as_bytes()).unwrap();
        let claim = match dice.below(6) {
            0 => Claim::Tree(path.parent().unwrap()),
            1 | 2 => Claim::Exclusive(path),
            _ => Claim::Shared(path),
        };
        let priority = PRIORITIES[dice.below(4)];
        let job = Job::new(priority, |_, _| Ok(()), end).claim([claim]);
        let ticket = queue.submit(if dice.below(2) == 0 { job.with_data() } else { job });
        if dice.below(4) == 0 {
            queue.promote(ticket, Priority::Read);
        }
        tickets.push(ticket);
    }
    tickets.into_iter().for_each(|ticket| queue.promote(ticket, Priority::Read));
}

/// What a connection's thread does, without a network.
fn connection(queue: &Arc<Queue>, slot: SlotId, running: &Running) {
    let mut dice = Dice(slot.0 * 77 + 5);
    if queue.has_other(slot)
        && dice.below(8) == 0
        && queue.refuse_growth(slot, dice.below(2) == 0) != Growth::Needed
    {
        return queue.leave(slot);
    }
    queue.set_live(slot, true);
    let mut readiness = Readiness::Fresh;
    loop {
        let patience = if readiness == Readiness::Fresh { Duration::ZERO } else { Duration::from_secs(3600) };
        match queue.next(slot, readiness, patience) {
            Next::Job(job) => {
                readiness = [Readiness::Fresh, Readiness::Ready][dice.below(2)];
                running.begin(&job);
                Turn::new(queue, slot, 0).is_wanted(dice.below(2) == 0);
                (0..dice.below(3)).for_each(|_| std::thread::yield_now());
                running.end(&job);
                match dice.below(10) {
                    // It was lost, and no other can be had.
                    0 => {
                        queue.set_live(slot, false);
                        queue.give_back(slot, job);
                        break;
                    }
                    1 => {
                        job.task.finish(Ok(()));
                        break;
                    }
                    _ => job.task.finish(Ok(())),
                }
            }
            Next::Idle => readiness = [Readiness::Ready, Readiness::Unable][dice.below(2)],
            Next::Close => break,
        }
    }
    queue.leave(slot);
}

/// The claims of jobs that run.
#[derive(Default)]
struct Running {
    claims: Mutex<Vec<(Ticket, Vec<Claim>)>>,
    clashes: AtomicUsize,
}

impl Running {
    fn begin(&self, job: &Job) {
        let mut claims = self.claims.lock();
        let clashes = claims.iter().filter(|(_, other)| claim::conflict(other, &job.claims)).count();
        self.clashes.fetch_add(clashes, Ordering::Relaxed);
        claims.push((job.ticket, job.claims.clone()));
    }

    fn end(&self, job: &Job) {
        self.claims.lock().retain(|(ticket, _)| *ticket != job.ticket);
    }
}

const CALLERS: u64 = 6;
const JOBS: u64 = 40;
/// Nothing takes that long here: something was forgotten.
const STANDSTILL: Duration = Duration::from_secs(60);
