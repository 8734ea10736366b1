//! Novell NetWare: rights in brackets where Unix has permissions.
//!
//! ```text
//! d [R----F--] supervisor            512       Jan 16 18:53    login
//! - [RWCEAFMS] joe                214059       Oct 20  2001    file
//! -[RWCEMFA]  1 joe                  253       Apr 11 00:20 file
//! ```
//!
//! The rights are those of the person who asks and have no counterpart in mode bits. Blanks before the name are padding.

use super::time::{self, Clock};
use super::unix::find_date;
use super::{Draft, Kind, Line};

/// Reads a line; none when it has no rights in brackets.
pub(super) fn parse<'a>(line: &'a [u8], clock: &Clock) -> Option<Line<'a>> {
    let (letter, rest) = line.split_first()?;
    let kind = match letter {
        b'd' => Kind::Directory,
        b'-' => Kind::File,
        _ => return None,
    };
    let rest = rest.trim_ascii_start().strip_prefix(b"[")?;
    let bracket = rest.iter().take(MOST_RIGHTS).position(|b| *b == b']')?;
    let rights = rest.get(..bracket)?;
    if !rights.iter().all(|b| b.is_ascii_uppercase() || matches!(b, b'-' | b' ')) {
        return None;
    }
    let found = find_date(rest.get(bracket + 1..)?, |text| time::unix_date(text, clock))?;
    let name = found.name.trim_ascii_start();
    Some(Line::Entry(Draft {
        name,
        kind,
        size: found.size,
        modified: found.modified,
        mode: None,
        target: None,
    }))
}

/// Rights between the brackets: eight, and room.
const MOST_RIGHTS: usize = 16;
