//! Further streams for one file: several transfers at different places, when a single one is slower than the line.
//!
//! Where each connection gets only so much (a window that is small for the distance, a loss now and then, a limit of the
//! server's per session), several bring several times as much. Nothing tells that in advance, so it is tried: while a
//! reader always waits and its stream runs at a steady rate, one further stream begins some megabytes ahead of it. If
//! all together then bring clearly more, it stays, and one more is tried; if not, this mount tries no more for
//! [`REMEMBERED`].
//!
//! Each stream runs until where the next one began and ends there; then one begins ahead of them all. So no byte is asked for
//! twice; what is under way when a stream ends is in vain (`Download::offer` is to keep that small). A trial that does not pay costs one
//! transfer more, because the stream in front ends where the further one goes on as the reader's own. The distance is
//! what a stream brings in [`STRIDE`], within a part of the cache.
//!
//! It is never at the price of others: a further stream is read-ahead to the queue, which interrupts it for whatever is more
//! urgent; it begins only when one more connection stands idle besides ([`Queue::has_spare`](crate::queue::Queue::has_spare)) and nobody else reads; and when
//! somebody begins to, or the reader seeks, all of them end at once. [`Further`] only counts and decides; `transfer` asks
//! it from time to time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use log::debug;

use super::blocks::{BLOCK, PAGE};
use super::stream::Stream;
use super::{File, Reads, transfer};

/// What has been found out about further streams of one content.
pub(super) struct Further {
    /// So many streams are worth it, or are being tried.
    wanted: usize,
    trial: Option<Trial>,
    /// What streams that have ended had brought.
    past: u64,
    /// When the period began that is measured, and what all streams had brought until then.
    period: Option<(Instant, u64)>,
    /// Whether the reader has waited all the time since.
    waits: bool,
    /// Bytes per second in the last period in which it did.
    rate: Option<u64>,
    /// When it was last seen waiting.
    waited: Option<Instant>,
    rests_until: Option<Instant>,
}

/// One stream more than before: does it pay?
struct Trial {
    /// Bytes per second before it began.
    before: u64,
    /// Periods in which there was clearly more.
    better: u32,
    periods: u32,
}

/// What came of a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Pays,
    /// So many streams are enough.
    Enough(usize),
}

impl Default for Further {
    fn default() -> Self {
        Self {
            wanted: 1,
            trial: None,
            past: 0,
            period: None,
            waits: true,
            rate: None,
            waited: None,
            rests_until: None,
        }
    }
}

impl Further {
    /// Looks at what has come so far. `running` streams have brought `brought` bytes in all, `most` may be tried.
    fn look(
        &mut self,
        now: Instant,
        brought: u64,
        waits: bool,
        running: usize,
        most: usize,
    ) -> Option<Verdict> {
        if waits {
            self.waited = Some(now);
        }
        self.waits &= waits;
        let (since, before) = *self.period.get_or_insert((now, brought));
        let elapsed = now.duration_since(since);
        if elapsed < PERIOD {
            return None;
        }
        self.period = Some((now, brought));
        if !std::mem::replace(&mut self.waits, true) {
            self.rate = None;
            return None;
        }
        let rate = brought.saturating_sub(before) * 1000 / elapsed.as_millis().max(1) as u64;
        let last = self.rate.replace(rate);
        let Some(trial) = &mut self.trial else {
            let is_steady = last.is_some_and(|last| rate <= last + last / 4);
            if is_steady && running == self.wanted && self.wanted < most && !self.rests(now) {
                self.wanted += 1;
                self.trial = Some(Trial { before: rate.max(last.unwrap_or(0)), better: 0, periods: 0 });
            }
            return None;
        };
        if running < self.wanted {
            return None;
        }
        let others = self.wanted as u64 - 1;
        trial.periods += 1;
        trial.better += u32::from(rate >= trial.before + trial.before * 3 / (10 * others));
        if trial.better >= CONVINCING {
            self.trial = None;
            return Some(Verdict::Pays);
        }
        if trial.periods < PERIODS {
            return None;
        }
        self.trial = None;
        self.wanted -= 1;
        Some(Verdict::Enough(self.wanted))
    }

    /// Others read, or wait for a connection: one stream for a while.
    pub(super) fn rest(&mut self, now: Instant) {
        self.wanted = 1;
        self.trial = None;
        self.rate = None;
        self.rests_until = Some(now + REST);
    }

    fn rests(&self, now: Instant) -> bool {
        self.rests_until.is_some_and(|until| now < until)
    }

    /// Whether there are further streams, or have been.
    pub(super) fn is_active(&self) -> bool {
        self.wanted > 1
    }

    /// A stream has ended that had brought so much.
    pub(super) fn add(&mut self, brought: u64) {
        self.past += brought;
    }
}

/// What trials have shown for a while: how many streams a file may have.
#[derive(Default)]
pub(super) struct Lesson(Option<(usize, Instant)>);

impl Reads {
    /// Looks, now and then, whether the reader of this stream would be served better by several, and begins one more.
    pub(super) fn keep_pace(self: &Arc<Self>, stream: &Arc<Stream>) {
        let now = Instant::now();
        let begun = {
            let mut files = self.files.lock();
            let others = || {
                let others = files.iter().filter(|(key, _)| **key != stream.key());
                others.flat_map(|(_, file)| &file.streams).any(|stream| !stream.is_ahead())
            };
            let is_alone = !others();
            let readers = files.values().filter(|file| !file.streams.is_empty()).count().max(1) as u64;
            let Some(file) = files.get_mut(&stream.key()) else { return };
            let running: Vec<_> = file.streams.iter().filter_map(|stream| stream.progress()).collect();
            let brought = file.further.past + running.iter().map(|progress| progress.brought).sum::<u64>();
            let waits = file.streams.iter().any(|stream| stream.is_waited_for(now));
            let longest = self.blocks.limit() / (2 * MOST as u64 * readers);
            let each = file.further.rate.unwrap_or(0) / running.len().max(1) as u64;
            // What one brings in a second must fit: getting up to speed takes as long.
            let most = if is_alone && each <= longest { self.most_streams(now) } else { 1 };
            let verdict = file.further.look(now, brought, waits, running.len(), most);
            if let Some(verdict) = verdict {
                debug!("{} streams for one file: {verdict:?}", running.len());
            }
            if let Some(Verdict::Enough(enough)) = verdict {
                self.lesson.lock().0 = Some((enough, now + REMEMBERED));
            }
            let is_idle = file.further.waited.is_none_or(|at| now.duration_since(at) > FOLLOWS);
            file.streams.iter().for_each(|stream| stream.hold(is_idle));
            if running.len() >= file.further.wanted || !is_alone || is_idle {
                return;
            }
            self.one_more(file, stream, longest)
        };
        if let Some(stream) = begun {
            transfer::submit(self, stream);
        }
    }

    /// Puts one more stream ahead of the others, if it is worth it and there is a connection for it.
    fn one_more(self: &Arc<Self>, file: &mut File, stream: &Stream, longest: u64) -> Option<Arc<Stream>> {
        let content = stream.content();
        let last = file.streams.iter().filter_map(|stream| Some((stream.progress()?.next, stream)));
        let (next, last) = last.max_by_key(|(next, _)| *next)?;
        let running = file.streams.len() as u64;
        let rate = file.further.rate.unwrap_or(0) / running;
        let stride = (rate * STRIDE).max(SHORTEST).min(longest).next_multiple_of(BLOCK);
        let left = content.size.saturating_sub(next);
        let worth = if running == 1 { WORTH } else { stride + SHORTEST };
        let from = (next + stride).next_multiple_of(BLOCK);
        if left < worth.max(stride + SHORTEST)
            || self.blocks.read(content.ino, content.version, from, PAGE as usize).is_ok()
            || !self.queue.has_spare()
            || !last.end_at(from)
        {
            return None;
        }
        let stream = Arc::new(Stream::further(content.clone(), from, stride));
        file.streams.push(stream.clone());
        Some(stream)
    }

    /// How many streams a file may have.
    fn most_streams(&self, now: Instant) -> usize {
        let lesson = self.lesson.lock();
        lesson.0.filter(|(_, until)| now < *until).map_or(self.streams, |(most, _)| most.min(self.streams))
    }

    /// A further stream has failed: it does not pay here.
    pub(super) fn further_failed(&self) {
        self.lesson.lock().0 = Some((1, Instant::now() + REMEMBERED));
    }

    /// Whether a stream that has come to where it was to end need not go on: what follows is here, or comes.
    pub(super) fn is_continued(&self, stream: &Stream, at: u64) -> bool {
        let (ino, version) = stream.key();
        let files = self.files.lock();
        let streams = files.get(&(ino, version)).map(|file| file.streams.as_slice()).unwrap_or_default();
        streams.iter().any(|other| other.is_from(at))
            || self.blocks.read(ino, version, at, PAGE as usize).is_ok()
    }
}

/// Streams of one file at most.
pub(super) const MOST: usize = 4;
/// How often a transfer looks.
pub(super) const LOOK: Duration = Duration::from_millis(50);
/// Bytes that must still be to come for a first trial.
pub(super) const WORTH: u64 = 32 * 1024 * 1024;
/// What is measured at once: long enough for the waves of a server that limits its rate.
const PERIOD: Duration = Duration::from_millis(500);
/// A trial is this long at most: the new stream must log in, perhaps, and get up to speed.
const PERIODS: u32 = 6;
/// Clearly more in so many of them.
const CONVINCING: u32 = 2;
/// How far ahead a stream begins, in seconds of one stream: starting one costs some round trips, and speed comes slowly.
const STRIDE: u64 = 4;
const SHORTEST: u64 = 1024 * 1024;
/// Further streams go on for so long after the reader was seen waiting.
const FOLLOWS: Duration = Duration::from_secs(1);
/// After others have read.
const REST: Duration = Duration::from_secs(5);
/// How long it is believed that further streams do not pay.
const REMEMBERED: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;

    /// Periods with so many bytes per second each, in which all that are wanted run; gives what came of it.
    fn measure(further: &mut Further, now: &mut Instant, rates: &[u64], waits: bool) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        for rate in rates {
            let brought = further.period.map_or(0, |(_, brought)| brought) + rate / 2;
            let running = further.wanted;
            further.look(*now, brought - rate / 2, waits, running, MOST);
            *now += PERIOD;
            verdicts.extend(further.look(*now, brought, waits, running, MOST));
        }
        verdicts
    }

    #[test]
    fn what_pays_stays_and_one_more_is_tried() {
        let (mut further, mut now) = (Further::default(), Instant::now());
        measure(&mut further, &mut now, &[1000, 1000], true);
        assert_eq!(further.wanted, 2, "it is steady");
        assert_eq!(measure(&mut further, &mut now, &[1200, 1900, 2000], true), [Verdict::Pays]);
        measure(&mut further, &mut now, &[2000], true);
        assert_eq!(further.wanted, 3);
        assert_eq!(measure(&mut further, &mut now, &[2050; 6], true), [Verdict::Enough(2)]);
        assert_eq!(further.wanted, 2);
    }

    #[test]
    fn nothing_is_tried_while_it_gets_faster_or_the_reader_has_enough() {
        let (mut further, mut now) = (Further::default(), Instant::now());
        measure(&mut further, &mut now, &[100, 200, 400, 800, 1600], true);
        assert_eq!(further.wanted, 1);
        measure(&mut further, &mut now, &[1600; 9], false);
        assert_eq!(further.wanted, 1);
    }

    #[test]
    fn when_others_read_there_is_one_stream_for_a_while() {
        let (mut further, mut now) = (Further::default(), Instant::now());
        measure(&mut further, &mut now, &[1000, 1000], true);
        further.rest(now);
        measure(&mut further, &mut now, &[1000; 8], true);
        assert_eq!(further.wanted, 1);
        measure(&mut further, &mut now, &[1000; 4], true);
        assert_eq!(further.wanted, 2);
    }
}
