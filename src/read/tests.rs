//! Readers that share: the cache among them, and streams that end in the very moment in which somebody joins.

use std::sync::mpsc::channel;

use parking_lot::Mutex;

use super::blocks::PAGE;
use super::*;
use crate::queue::{Job, Readiness, SlotId, Turn};

/// Without connections: what is asked for never comes.
fn reads() -> Arc<Reads> {
    Reads::new(Queue::new(1, |_, _| {}), 64 << 20, None, true, "")
}

fn content(ino: u64) -> Content {
    Content { ino: Ino(ino), version: Version(1), size: 1 << 30, modified: None, locate: Arc::new(|| None) }
}

/// How far a stream may run ahead of whoever has read so much from the start on.
fn window(reads: &Reads, ino: u64) -> u64 {
    let mut ahead = 0;
    (0..100).for_each(|piece| ahead = reads.note(&content(ino), piece << 17, 1 << 17).ahead);
    ahead
}

#[test]
fn readers_share_the_cache_among_those_that_read_now_not_with_files_read_before() {
    let reads = reads();
    for ino in 100..600 {
        reads.note(&content(ino), 0, 4096);
    }
    assert_eq!(window(&reads, 1), MAX_WINDOW);
    for ino in 2..6 {
        reads.read(&content(ino), 0, 4096, Box::new(drop));
    }
    assert_eq!(window(&reads, 1), (64 << 20) / (4 * 4));
}

/// Streams as `Reads` keeps them, and their transfers without a network.
struct Place {
    queue: Arc<Queue>,
    slot: SlotId,
    streams: Mutex<Vec<Arc<Stream>>>,
    begun: AtomicU64,
}

impl Place {
    fn new() -> Arc<Self> {
        let started = Arc::new(Mutex::new(Vec::new()));
        let log = started.clone();
        let queue = Queue::new(1, move |_, slot| log.lock().push(slot));
        queue.submit(Job::new(Priority::Names, |_, _| Ok(()), |_| {}));
        let slot = started.lock()[0];
        queue.next(slot, Readiness::Ready, Duration::ZERO);
        Arc::new(Self { queue, slot, streams: Mutex::default(), begun: AtomicU64::new(0) })
    }

    /// As `Reads::wait_for`: joins a stream, or begins one.
    fn read(self: &Arc<Self>, offset: u64, window: u64, done: Done) {
        let goal = (offset + PAGE + window).min(SIZE);
        let mut waiter = Some(Waiter::new(offset, PAGE as usize, done));
        let mut streams = self.streams.lock();
        if streams.iter().any(|stream| stream.join(offset, goal, window, &mut waiter)) {
            return;
        }
        let waiter = waiter.expect("nobody has taken it");
        let content = Content { size: SIZE, ..content(1) };
        let stream = Arc::new(Stream::new(content, offset, goal, window, waiter));
        streams.push(stream.clone());
        drop(streams);
        self.begun.fetch_add(1, Ordering::Relaxed);
        let place = self.clone();
        std::thread::spawn(move || place.transfer(&stream));
    }

    /// As `Transfer`: brings pages while the stream goes on, is interrupted now and then; whoever still waits reads anew.
    fn transfer(self: &Arc<Self>, stream: &Arc<Stream>) {
        let turn = Turn::new(&self.queue, self.slot, 0);
        let mut next = stream.begin(false);
        while next < SIZE && stream.goes_on(&turn, Instant::now(), 0) {
            next += PAGE;
            stream.advance(next).into_iter().for_each(|waiter| (waiter.done)(Ok(Vec::new().into())));
            if next.is_multiple_of(7 * PAGE) {
                break;
            }
        }
        let waiters = stream.end();
        self.streams.lock().retain(|other| !Arc::ptr_eq(other, stream));
        waiters.into_iter().for_each(|waiter| self.read(waiter.offset, 0, waiter.done));
    }
}

#[test]
fn a_reader_that_joins_when_the_stream_ends_is_never_forgotten() {
    let place = Place::new();
    let (answered, answers) = channel();
    std::thread::scope(|scope| {
        for reader in 0..READERS {
            let (place, answered) = (&place, answered.clone());
            scope.spawn(move || {
                let mut dice = reader + 1;
                for _ in 0..READS {
                    dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let (page, leaves) = ((dice >> 33) % (SIZE / PAGE), dice >> 61 == 0);
                    let (tell, told) = channel();
                    let answered = answered.clone();
                    place.read(
                        page * PAGE,
                        0,
                        Box::new(move |_| {
                            answered.send(()).expect("the test counts them");
                            tell.send(()).expect("a reader waits");
                        }),
                    );
                    if leaves {
                        place.streams.lock().iter().for_each(|stream| stream.leave());
                    }
                    told.recv_timeout(STANDSTILL).expect("somebody was forgotten");
                }
            });
        }
    });
    drop(answered);
    assert_eq!(answers.iter().count() as u64, READERS * READS, "each was answered once");
    let begun = place.begun.load(Ordering::Relaxed);
    assert!(begun > READS, "streams ended all the time: {begun}");
}

const SIZE: u64 = 64 * PAGE;
const READERS: u64 = 6;
const READS: u64 = 300;
/// Nothing takes that long here.
const STANDSTILL: Duration = Duration::from_secs(60);
