//! Reading positions: is this read the next one of a sequential reader, and how far may a stream run ahead of it?
//!
//! Several programs may read one file at several places, and the kernel's own read-ahead makes requests overlap and
//! swap places a little, so a file has a few cursors, and "next" has some slack. A reader that leaves gaps (a strided
//! one) gets the gaps only while they are small. One that comes backwards, piece by piece (`tac`), gets what lies in
//! front of it, more with every piece.

/// The positions of the readers of one file, the latest last.
#[derive(Default)]
pub(super) struct Cursors(Vec<Cursor>);

struct Cursor {
    /// Of the last read.
    start: u64,
    /// The furthest read so far.
    end: u64,
    ahead: u64,
    behind: u64,
}

/// How many bytes are worth fetching with a read, beyond what it asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Window {
    /// After its end.
    pub(super) ahead: u64,
    /// In front of its start.
    pub(super) behind: u64,
}

impl Cursors {
    /// Notes a read.
    pub(super) fn advance(&mut self, offset: u64, len: u64) -> Window {
        let end = offset + len;
        let near = |cursor: &Cursor| {
            offset <= cursor.end + SLACK && offset + SLACK >= cursor.end || end == cursor.start
        };
        let cursor = match self.0.iter().rposition(near) {
            Some(at) => {
                let mut cursor = self.0.remove(at);
                if end > cursor.end {
                    let gap = offset.saturating_sub(cursor.end);
                    cursor.end = end;
                    cursor.behind = 0;
                    cursor.ahead = match gap {
                        ..=SMALL_GAP => (cursor.ahead * 2).clamp(FIRST_WINDOW, LAST_WINDOW),
                        _ if cursor.ahead < 2 * FIRST_WINDOW => 0,
                        _ => cursor.ahead / 2,
                    };
                } else if end == cursor.start && offset > 0 {
                    cursor.end = end;
                    cursor.ahead = 0;
                    cursor.behind = (cursor.behind * 2).min(LAST_BEHIND).max(len);
                }
                cursor.start = offset;
                cursor
            }
            None => {
                Cursor { start: offset, end, ahead: if offset == 0 { START_WINDOW } else { 0 }, behind: 0 }
            }
        };
        // Whoever takes its first step backwards may have come by chance.
        let behind = if cursor.behind > len { cursor.behind } else { 0 };
        let window = Window { ahead: cursor.ahead, behind };
        if self.0.len() >= MAX_CURSORS {
            self.0.remove(0);
        }
        self.0.push(cursor);
        window
    }
}

/// The kernel keeps two read-ahead windows of 96 KiB in flight, in any order.
const SLACK: u64 = 256 * 1024;
/// Whoever skips more than this is not reading everything.
const SMALL_GAP: u64 = 32 * 1024;
/// At the start of a file most programs go on, but some only look at the head: the stream waits, and nothing more comes.
const START_WINDOW: u64 = 4096;
const FIRST_WINDOW: u64 = 64 * 1024;
const LAST_WINDOW: u64 = 64 * 1024 * 1024;
/// What is fetched in front of a reader that comes backwards, at most.
const LAST_BEHIND: u64 = 1024 * 1024;
/// Readers of one file that are told apart.
const MAX_CURSORS: usize = 80;

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: u64 = 1024;

    fn ahead(cursors: &mut Cursors, offset: u64, len: u64) -> u64 {
        cursors.advance(offset, len).ahead
    }

    #[test]
    fn the_window_doubles_for_a_sequential_reader_and_stays_closed_for_a_random_one() {
        let mut cursors = Cursors::default();
        assert_eq!(ahead(&mut cursors, 0, 131_072), START_WINDOW);
        assert_eq!(ahead(&mut cursors, 131_072, 131_072), FIRST_WINDOW);
        assert_eq!(ahead(&mut cursors, 262_144, 131_072), 2 * FIRST_WINDOW);
        assert_eq!(ahead(&mut cursors, 900_000_000, 4096), 0);
        assert_eq!(ahead(&mut cursors, 500_000_000, 4096), 0);
        let again = ahead(&mut cursors, 393_216, 131_072);
        assert_eq!(again, 4 * FIRST_WINDOW, "the sequential reader is remembered");
    }

    #[test]
    fn two_readers_do_not_spoil_each_other() {
        let mut cursors = Cursors::default();
        for step in 1..5u64 {
            let one = ahead(&mut cursors, (step - 1) * 131_072, 131_072);
            let two = ahead(&mut cursors, 1_000_000_000 + step * 131_072, 131_072);
            assert!(step == 1 || one >= FIRST_WINDOW << (step - 2));
            assert_eq!(two > 0, step > 1);
        }
    }

    #[test]
    fn a_strided_reader_gets_no_window() {
        let mut cursors = Cursors::default();
        let windows: Vec<_> = (0..20).map(|i| ahead(&mut cursors, i * 256 * KIB, 64 * KIB)).collect();
        assert_eq!(windows[0], START_WINDOW);
        assert!(windows[1..].iter().all(|&window| window == 0), "{windows:?}");
    }

    #[test]
    fn a_reader_that_comes_backwards_gets_more_with_every_step() {
        let mut cursors = Cursors::default();
        let steps: Vec<_> =
            (0..8).map(|i| cursors.advance((100 - i) * 8 * KIB, 8 * KIB).behind / KIB).collect();
        assert_eq!(steps, [0, 0, 16, 32, 64, 128, 256, 512]);
        assert_eq!(cursors.advance(94 * 8 * KIB, 8 * KIB).behind, 0, "it turned round");
    }
}
