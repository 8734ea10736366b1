//! What a draft changes in the content that the server has: for a patch, and to tell whether that content matters.

use std::ops::Range;

use super::{Base, Draft};
use crate::ftp::Told;

impl Draft {
    /// What the server has below, when anything of it is part of what is to be sent now.
    pub(in crate::write) fn old_content(&self) -> Option<Told> {
        let base = self.base.as_ref()?;
        let is_part = !self.dirty.gaps(0..base.limit.min(self.size)).is_empty();
        is_part.then_some(Told { size: Some(base.content.size), modified: self.base_time })
    }

    /// The ranges in which the file differs from what the server has, when it has not been cut and has grown without holes.
    pub(in crate::write) fn changed_ranges(&self) -> Option<(&Base, Vec<Range<u64>>)> {
        let base = self.base.as_ref().filter(|base| base.limit == base.content.size)?;
        let has_holes = !self.dirty.gaps(base.content.size..self.size.max(base.content.size)).is_empty();
        if self.dirty.is_empty() || self.size < base.content.size || has_holes {
            return None;
        }
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for range in self.dirty.iter() {
            match ranges.last_mut() {
                // A transfer costs more than what lies between, when that is here.
                Some(last)
                    if range.start - last.end <= NEAR
                        && self.present.gaps(last.end..range.start).is_empty() =>
                {
                    last.end = range.end;
                }
                _ => ranges.push(range.clone()),
            }
        }
        Some((base, ranges))
    }
}

/// Changes so close together are sent as one.
const NEAR: u64 = 64 << 10;
