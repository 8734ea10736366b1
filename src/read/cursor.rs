//! Reading positions: is this read the next one of a sequential reader, and how far may a stream run ahead of it?
//!
//! Several programs may read one file at several places, and the kernel's own read-ahead makes requests overlap and
//! swap places a little, so a file has a few cursors, and "next" has some slack.

/// The positions of the readers of one file, the latest last.
#[derive(Default)]
pub(super) struct Cursors(Vec<Cursor>);

struct Cursor {
    end: u64,
    window: u64,
}

impl Cursors {
    /// Notes a read; returns the window: how many bytes ahead of it are worth fetching (0: none).
    pub(super) fn advance(&mut self, offset: u64, len: u64) -> u64 {
        let near = |cursor: &Cursor| offset <= cursor.end + SLACK && offset + SLACK >= cursor.end;
        let cursor = match self.0.iter().position(near) {
            Some(at) => {
                let mut cursor = self.0.remove(at);
                if offset + len > cursor.end {
                    cursor.end = offset + len;
                    cursor.window = (cursor.window * 2).clamp(FIRST_WINDOW, LAST_WINDOW);
                }
                cursor
            }
            None => Cursor { end: offset + len, window: if offset == 0 { FIRST_WINDOW } else { 0 } },
        };
        let window = cursor.window;
        if self.0.len() >= MAX_CURSORS {
            self.0.remove(0);
        }
        self.0.push(cursor);
        window
    }
}

/// The kernel keeps two read-ahead windows of 128 KiB in flight, in any order.
const SLACK: u64 = 256 * 1024;
/// What a reader at the start of a file gets ahead: a program that only looks at the head should not cost more.
const FIRST_WINDOW: u64 = 64 * 1024;
const LAST_WINDOW: u64 = 64 * 1024 * 1024;
/// Readers of one file that are told apart.
const MAX_CURSORS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_doubles_for_a_sequential_reader_and_stays_closed_for_a_random_one() {
        let mut cursors = Cursors::default();
        assert_eq!(cursors.advance(0, 131_072), FIRST_WINDOW);
        assert_eq!(cursors.advance(131_072, 131_072), 2 * FIRST_WINDOW);
        assert_eq!(cursors.advance(262_144, 131_072), 4 * FIRST_WINDOW);
        assert_eq!(cursors.advance(900_000_000, 4096), 0);
        assert_eq!(cursors.advance(500_000_000, 4096), 0);
        assert_eq!(
            cursors.advance(393_216, 131_072),
            8 * FIRST_WINDOW,
            "the sequential reader is remembered"
        );
    }

    #[test]
    fn two_readers_do_not_spoil_each_other() {
        let mut cursors = Cursors::default();
        for step in 0..4u64 {
            let one = cursors.advance(step * 131_072, 131_072);
            let two = cursors.advance(1_000_000_000 + step * 131_072, 131_072);
            assert!(one >= FIRST_WINDOW << step);
            assert_eq!(two > 0, step > 0);
        }
    }
}
