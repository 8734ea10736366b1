//! A set of byte ranges of a file: which bytes are here, which have changed.

use std::ops::Range;

/// Disjoint, sorted, non-touching ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges(Vec<Range<u64>>);

impl Ranges {
    /// Adds a range.
    pub fn insert(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let first = self.0.partition_point(|other| other.end < range.start);
        let last = self.0.partition_point(|other| other.start <= range.end);
        let joined = match (self.0.get(first), last.checked_sub(1).and_then(|last| self.0.get(last))) {
            (Some(left), Some(right)) if first < last => {
                range.start.min(left.start)..range.end.max(right.end)
            }
            _ => range,
        };
        self.0.splice(first..last, [joined]);
    }

    /// Adds all ranges of another set.
    pub fn extend(&mut self, other: Ranges) {
        other.0.into_iter().for_each(|range| self.insert(range));
    }

    /// Takes away everything at and after `end`.
    pub fn truncate(&mut self, end: u64) {
        self.0.retain(|range| range.start < end);
        if let Some(last) = self.0.last_mut() {
            last.end = last.end.min(end);
        }
    }

    /// Takes away everything before `start`.
    pub fn cut_front(&mut self, start: u64) {
        self.0.retain(|range| range.end > start);
        if let Some(first) = self.0.first_mut() {
            first.start = first.start.max(start);
        }
    }

    /// The end of what is in the set from `at` on without a gap; `at` when it is not in the set.
    pub fn reach(&self, at: u64) -> u64 {
        let next = self.0.partition_point(|range| range.end <= at);
        self.0.get(next).filter(|range| range.start <= at).map_or(at, |range| range.end)
    }

    /// The parts of `within` that are not in the set.
    pub fn gaps(&self, within: Range<u64>) -> Vec<Range<u64>> {
        let mut gaps = Vec::new();
        let mut at = within.start;
        let first = self.0.partition_point(|range| range.end <= within.start);
        for range in self.0.iter().skip(first).take_while(|range| range.start < within.end) {
            if range.start > at {
                gaps.push(at..range.start);
            }
            at = range.end;
        }
        if at < within.end {
            gaps.push(at..within.end);
        }
        gaps
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first byte of the set.
    pub fn start(&self) -> Option<u64> {
        self.0.first().map(|range| range.start)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Range<u64>> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_agrees_with_a_set_of_single_bytes() {
        let mut state = 12345u64;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) % below
        };
        for _ in 0..200 {
            let mut ranges = Ranges::default();
            let mut bytes = [false; 64];
            for _ in 0..12 {
                let (a, b) = (random(65), random(65));
                let kind = random(10);
                if kind < 2 {
                    ranges.truncate(a);
                    bytes[a as usize..].fill(false);
                } else if kind == 2 {
                    ranges.cut_front(b);
                    bytes[..b as usize].fill(false);
                } else {
                    ranges.insert(a.min(b)..a.max(b));
                    bytes[a.min(b) as usize..a.max(b) as usize].fill(true);
                }
                assert!(ranges.0.iter().all(|r| !r.is_empty()), "{ranges:?}");
                assert!(ranges.0.windows(2).all(|w| w[0].end < w[1].start), "{ranges:?}");
                let reach = (a..64).find(|&i| !bytes[i as usize]).unwrap_or(64.max(a));
                assert_eq!(ranges.reach(a), reach, "{a} in {ranges:?}");
                let (from, to) = (random(32), 32 + random(33));
                let mut missing = [false; 64];
                ranges
                    .gaps(from..to)
                    .into_iter()
                    .for_each(|r| missing[r.start as usize..r.end as usize].fill(true));
                for i in 0..64 {
                    let inside = (from..to).contains(&i);
                    assert_eq!(
                        missing[i as usize],
                        inside && !bytes[i as usize],
                        "{i} in {from}..{to} of {ranges:?}"
                    );
                }
            }
        }
    }
}
