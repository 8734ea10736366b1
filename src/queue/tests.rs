//! Which job is taken when, and by which connection.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;

use super::*;

fn queue(limit: usize) -> (Arc<Queue>, Arc<Mutex<Vec<SlotId>>>) {
    let started = Arc::new(Mutex::new(Vec::new()));
    let log = started.clone();
    (Queue::new(limit, move |_, slot| log.lock().push(slot)), started)
}

fn job(priority: Priority, claims: Vec<Claim>) -> Job {
    Job::new(priority, |_, _| Ok(()), |_| {}).claim(claims)
}

fn taken(next: Next) -> Option<Priority> {
    match next {
        Next::Job(job) => Some(job.priority),
        _ => None,
    }
}

fn take(queue: &Arc<Queue>, slot: SlotId) -> Job {
    match queue.next(slot, Readiness::Ready, NOW) {
        Next::Job(job) => job,
        _ => panic!("there is no job for it"),
    }
}

/// As [`queue`], with the first connection logged in and a reader's job on it.
fn queue_that_reads(limit: usize) -> (Arc<Queue>, Arc<Mutex<Vec<SlotId>>>, SlotId) {
    let (queue, started) = queue(limit);
    queue.submit(job(Priority::Read, vec![]).with_data());
    let first = started.lock()[0];
    queue.set_live(first, true);
    take(&queue, first);
    (queue, started, first)
}

const NOW: Duration = Duration::ZERO;

#[test]
fn the_most_urgent_job_is_taken_first() {
    let (queue, started) = queue(1);
    queue.submit(job(Priority::BackgroundUpload, vec![]));
    queue.submit(job(Priority::Names, vec![]));
    let slot = started.lock()[0];
    assert_eq!(started.lock().len(), 1, "the limit is one connection");
    assert_eq!(taken(queue.next(slot, Readiness::Ready, NOW)), Some(Priority::Names));
    assert_eq!(taken(queue.next(slot, Readiness::Ready, NOW)), Some(Priority::BackgroundUpload));
    assert!(matches!(queue.next(slot, Readiness::Ready, NOW), Next::Idle));
}

#[test]
fn read_ahead_leaves_one_connection_free_until_somebody_waits_for_it() {
    let (queue, started) = queue(2);
    queue.submit(job(Priority::ReadAhead, vec![]));
    let second = queue.submit(job(Priority::ReadAhead, vec![]));
    let first = started.lock()[0];
    assert_eq!(taken(queue.next(first, Readiness::Ready, NOW)), Some(Priority::ReadAhead));
    assert_eq!(started.lock().len(), 1, "the second connection is not for read-ahead");
    queue.promote(second, Priority::Read);
    let other = started.lock()[1];
    assert_eq!(taken(queue.next(other, Readiness::Ready, NOW)), Some(Priority::Read));
}

#[test]
fn what_nobody_waits_for_is_done_on_the_only_connection_when_it_rests() {
    let (queue, started) = queue(1);
    queue.submit(job(Priority::ReadAhead, vec![]));
    assert!(started.lock().is_empty(), "no connection is made for it");
    queue.submit(job(Priority::Names, vec![]));
    let slot = started.lock()[0];
    assert_eq!(taken(queue.next(slot, Readiness::Ready, NOW)), Some(Priority::Names));
    assert_eq!(taken(queue.next(slot, Readiness::Ready, NOW)), Some(Priority::ReadAhead));
    assert!(queue.is_empty() && !queue.plans_ahead());
}

#[test]
fn no_more_is_planned_ahead_than_will_be_done_soon() {
    let (queue, _) = queue(8);
    for _ in 0..MOST_AHEAD {
        assert!(queue.plans_ahead());
        queue.submit(job(Priority::ReadAhead, vec![]));
    }
    assert!(!queue.plans_ahead());
}

#[test]
fn a_transfer_that_finds_no_connection_ready_has_one_more_made_meanwhile() {
    let (queue, started, first) = queue_that_reads(3);
    assert!(matches!(queue.next(first, Readiness::Fresh, NOW), Next::Idle), "it prepares itself now");
    queue.submit(job(Priority::Read, vec![]).with_data());
    assert_eq!(started.lock().len(), 2);
    assert!(taken(queue.next(first, Readiness::Ready, NOW)).is_some(), "whoever is free first takes the job");
}

#[test]
fn a_program_that_is_quicker_than_the_preparation_gets_a_further_connection_too() {
    let (queue, started, first) = queue_that_reads(3);
    std::thread::scope(|scope| {
        let taker = scope.spawn(|| taken(queue.next(first, Readiness::Fresh, Duration::from_secs(10))));
        while queue.connections() != (1, 1) {
            std::thread::yield_now();
        }
        queue.submit(job(Priority::Read, vec![]).with_data());
        assert!(taker.join().unwrap().is_some(), "there is no better one yet");
    });
    assert_eq!(started.lock().len(), 2);
}

#[test]
fn a_transfer_waits_for_the_connection_that_is_nearly_ready() {
    let (queue, started) = queue(3);
    let read = || job(Priority::Read, vec![]).with_data();
    queue.submit(read());
    queue.submit(read());
    let slots = started.lock().clone();
    for &slot in &slots {
        queue.set_live(slot, true);
        assert!(taken(queue.next(slot, Readiness::Ready, NOW)).is_some());
    }
    let (preparing, served) = (slots[0], slots[1]);
    assert!(matches!(queue.next(preparing, Readiness::Fresh, NOW), Next::Idle), "it prepares itself now");
    queue.submit(read());
    assert_eq!(started.lock().len(), 3, "one more is made meanwhile");
    assert!(matches!(queue.next(served, Readiness::Fresh, NOW), Next::Idle), "it would be ready later");
    assert!(taken(queue.next(preparing, Readiness::Ready, NOW)).is_some());
    queue.submit(read());
    assert!(taken(queue.next(served, Readiness::Unable, NOW)).is_some(), "the job tells why it cannot be");
}

#[test]
fn jobs_that_change_one_path_run_one_after_another() {
    let (queue, started) = queue(2);
    let path = RemotePath::parse(b"/a/b").unwrap();
    queue.submit(job(Priority::Upload, vec![Claim::Exclusive(path.clone())]));
    queue.submit(job(Priority::Names, vec![Claim::Tree(path.parent().unwrap())]));
    let first = started.lock()[0];
    assert_eq!(taken(queue.next(first, Readiness::Ready, NOW)), Some(Priority::Upload));
    assert_eq!(started.lock().len(), 1, "the second job cannot run yet, so no connection is made for it");
    assert_eq!(taken(queue.next(first, Readiness::Ready, NOW)), Some(Priority::Names));
}

#[test]
fn a_running_job_learns_that_somebody_more_urgent_waits() {
    let (queue, started) = queue(1);
    queue.submit(job(Priority::Read, vec![]));
    let slot = started.lock()[0];
    assert!(taken(queue.next(slot, Readiness::Ready, NOW)).is_some());
    let turn = Turn::new(&queue, slot, 0);
    assert!(!turn.is_wanted(true));
    queue.submit(job(Priority::Read, vec![]));
    assert!(!turn.is_wanted(false) && turn.is_wanted(true));
    queue.submit(job(Priority::Names, vec![]));
    assert!(turn.is_wanted(false));
}

#[test]
fn one_job_steps_aside_for_one_that_waits_and_another_for_the_next() {
    let (queue, started) = queue(2);
    for _ in 0..2 {
        queue.submit(job(Priority::Read, vec![]).with_data());
    }
    let slots = started.lock().clone();
    for &slot in &slots {
        queue.set_live(slot, true);
        take(&queue, slot);
    }
    let turns = [0, 1].map(|at| Turn::new(&queue, slots[at], 0));
    let path = RemotePath::parse(b"/a").unwrap();
    queue.submit(job(Priority::Names, vec![Claim::Exclusive(path.clone())]));
    assert!(turns[0].is_wanted(false));
    assert!(!turns[1].is_wanted(false), "one is enough");
    assert!(turns[0].is_wanted(false), "it has not ended yet");
    queue.submit(job(Priority::Names, vec![Claim::Exclusive(path)]));
    assert!(!turns[1].is_wanted(false), "that one could not run beside the first");
    queue.submit(job(Priority::Names, vec![]));
    assert!(turns[1].is_wanted(false));
}

#[test]
fn what_has_waited_for_long_has_a_turn_before_it_is_interrupted() {
    let (queue, started) = queue(1);
    let mut read = job(Priority::Read, vec![Claim::Shared(RemotePath::parse(b"/a").unwrap())]);
    read.since -= Duration::from_secs(60);
    queue.submit(read);
    let slot = started.lock()[0];
    take(&queue, slot);
    let turn = Turn::new(&queue, slot, 0);
    queue.submit(job(Priority::Names, vec![]));
    assert!(!turn.is_wanted(false));
    while !turn.is_wanted(false) {
        std::thread::yield_now();
    }
}

#[test]
fn who_waits_for_a_path_does_not_wait_for_a_turn() {
    let (queue, started) = queue(2);
    let path = RemotePath::parse(b"/a").unwrap();
    queue.submit(job(Priority::Read, vec![Claim::Shared(path.clone())]));
    let slot = started.lock()[0];
    take(&queue, slot);
    let turn = Turn::new(&queue, slot, 0);
    assert!(!turn.holds_a_path());
    queue.submit(job(Priority::Upload, vec![Claim::Exclusive(path)]));
    assert!(turn.holds_a_path() && turn.is_wanted(false));
}

#[test]
fn sessions_that_were_still_logging_in_when_others_were_refused_count() {
    let (queue, started) = queue(8);
    for _ in 0..8 {
        queue.submit(job(Priority::Names, vec![]));
    }
    let slots = started.lock().clone();
    assert_eq!(slots.len(), 8);
    queue.set_live(slots[0], true);
    for &refused in &slots[5..] {
        assert_eq!(queue.refuse_growth(refused, true), Growth::Ended);
        queue.leave(refused);
    }
    assert_eq!(queue.limit(), 1);
    slots[1..5].iter().for_each(|&slot| queue.set_live(slot, true));
    assert_eq!(queue.limit(), 5);
}

#[test]
fn closing_ends_every_waiting_job() {
    let (queue, _) = queue(1);
    let ended = Arc::new(AtomicUsize::new(0));
    for _ in 0..3 {
        let ended = ended.clone();
        queue.submit(Job::new(
            Priority::Names,
            |_, _| Ok(()),
            move |outcome| {
                assert!(matches!(outcome, Err(Error::Cancelled)));
                ended.fetch_add(1, Ordering::Relaxed);
            },
        ));
    }
    queue.close();
    assert_eq!(ended.load(Ordering::Relaxed), 3);
}

#[test]
fn what_lay_in_line_for_nobody_does_not_count_as_waited_for_all_that_time() {
    let (queue, started) = queue(2);
    queue.submit(job(Priority::Read, vec![]));
    let slot = started.lock()[0];
    assert!(taken(queue.next(slot, Readiness::Ready, NOW)).is_some());
    let turn = Turn::new(&queue, slot, 0);
    let mut ahead = job(Priority::ReadAhead, vec![]);
    ahead.since -= Duration::from_secs(60);
    let ahead = queue.submit(ahead);
    queue.submit(job(Priority::Names, vec![]));
    let other = started.lock()[1];
    assert!(taken(queue.next(other, Readiness::Ready, NOW)).is_some());
    queue.promote(ahead, Priority::Read);
    assert!(!turn.is_wanted(false), "a transfer would be cut for it, and begun anew");
    let mut background = job(Priority::BackgroundUpload, vec![]);
    background.since -= Duration::from_secs(60);
    queue.submit(background);
    assert!(!turn.is_wanted(false), "nobody waits for it");
}

#[test]
fn a_job_gives_way_when_a_further_session_cannot_be_had() {
    let (queue, started, first) = queue_that_reads(3);
    let turn = Turn::new(&queue, first, 0);
    queue.submit(job(Priority::Names, vec![]));
    let second = started.lock()[1];
    assert!(!turn.is_wanted(false), "the second connection will be there soon");
    std::thread::scope(|scope| {
        let pausing = scope.spawn(|| queue.pause_growth(second));
        while !turn.is_wanted(false) {
            std::thread::yield_now();
        }
        queue.submit(job(Priority::Names, vec![]));
        assert_eq!(started.lock().len(), 2, "nor is a third one tried meanwhile");
        take(&queue, first);
        assert!(pausing.join().unwrap(), "it is tried again for the one that still waits");
    });
}

#[test]
fn a_session_that_was_refused_without_a_word_is_tried_again_by_itself() {
    let (queue, started, first) = queue_that_reads(3);
    queue.submit(job(Priority::Read, vec![]).with_data());
    let second = started.lock()[1];
    let refused = match queue.next(second, Readiness::Fresh, NOW) {
        Next::Job(job) => job,
        _ => panic!("it is to connect for that job"),
    };
    assert_eq!(queue.refuse_growth(second, false), Growth::Later);
    queue.give_back(second, refused);
    // Nothing else happens meanwhile: the first one reads on.
    assert!(queue.pause_growth(second), "somebody waits");
    assert!(!Turn::new(&queue, first, 0).is_wanted(false));
    take(&queue, second);
}

#[test]
fn a_pause_ends_with_the_mount() {
    let (queue, started) = queue(2);
    queue.submit(job(Priority::Read, vec![]));
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
    let ticket = queue.submit(job(Priority::ReadAhead, vec![]));
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
