//! Chance that is the same each time, for tests; those in `tests/` include this file.

/// Marsaglia's xorshift: good enough to pick bytes, and the same everywhere. Not to begin with 0.
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit.max(1) as u64) as usize
    }
}
