//! Many threads at once on one queue: no job is forgotten, none ends twice, and no two run that must not.
//!
//! Connections wait here for ever (`next` is given an hour, so that no upkeep heals a wake-up that was missed), and leave, lose
//! their job and refuse to grow at random. What is counted is jobs; a clock only tells that nothing moves any more.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use super::*;

#[test]
fn no_job_is_forgotten_whatever_connections_do() {
    for (seed, limit) in [(1, 1), (2, 2), (3, 3), (4, 8)] {
        let running = Arc::new(Running::default());
        let with = running.clone();
        let queue = Queue::new(limit, move |queue, slot| {
            let running = with.clone();
            std::thread::spawn(move || connection(&queue, slot, &running));
        });
        let (ended, ends) = channel();
        std::thread::scope(|scope| {
            for caller in 0..CALLERS {
                let (queue, ended) = (&queue, ended.clone());
                scope.spawn(move || call(queue, &mut Dice(seed * 1000 + caller + 1), &ended));
            }
        });
        drop(ended);
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
        let running = Arc::new(Running::default());
        let queue = Queue::new(3, move |queue, slot| {
            let running = running.clone();
            std::thread::spawn(move || connection(&queue, slot, &running));
        });
        let (ended, ends) = channel();
        std::thread::scope(|scope| {
            for caller in 0..CALLERS {
                let (queue, ended) = (&queue, ended.clone());
                scope.spawn(move || call(queue, &mut Dice(seed * 1000 + caller + 1), &ended));
            }
            scope.spawn(|| {
                (0..seed * 20).for_each(|_| std::thread::yield_now());
                queue.close();
            });
        });
        drop(ended);
        for count in 0..CALLERS * JOBS {
            assert!(ends.recv_timeout(STANDSTILL).is_ok(), "seed {seed}: forgotten after {count}");
        }
        assert!(queue.is_empty());
    }
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
        let priority = PRIORITIES[dice.below(4) as usize];
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
    if queue.has_other(slot) && dice.below(8) == 0 && queue.refuse_growth(slot, dice.below(2) == 0) {
        return queue.leave(slot);
    }
    queue.set_live(slot, true);
    let mut readiness = Readiness::Fresh;
    loop {
        let patience = if readiness == Readiness::Fresh { Duration::ZERO } else { Duration::from_secs(3600) };
        match queue.next(slot, readiness, patience) {
            Next::Job(job) => {
                readiness = [Readiness::Fresh, Readiness::Ready][dice.below(2) as usize];
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
            Next::Idle => readiness = [Readiness::Ready, Readiness::Unable][dice.below(2) as usize],
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

/// xorshift: the same numbers each time; what differs is how the threads run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

const CALLERS: u64 = 6;
const JOBS: u64 = 40;
/// Nothing takes that long here: something was forgotten.
const STANDSTILL: Duration = Duration::from_secs(60);
