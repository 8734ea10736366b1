//! EPLF, Bernstein's easily parsed list format: publicfile, anonftpd and some routers.
//!
//! ```text
//! +i8388621.48594,m825718503,r,s280,up644,<TAB>file
//! +i8388621.50690,m824255907,/,<TAB>folder
//! ```
//!
//! Facts by their first letters: `/` can be entered, `r` can be retrieved, `s` bytes, `m` seconds since 1970 in UTC, `up`
//! permissions in octal.

use std::time::{Duration, UNIX_EPOCH};

use super::{Draft, Kind, Line, Modified, Precision};

/// Reads a line; none when it does not start with `+` and facts.
pub(super) fn parse(line: &[u8]) -> Option<Line<'_>> {
    let rest = line.strip_prefix(b"+")?;
    let (facts, name) = match rest.iter().position(|b| *b == b'\t') {
        Some(tab) => (rest.get(..tab)?, rest.get(tab + 1..)?),
        // Seen with a blank for the tab.
        None => {
            let end = rest.windows(2).position(|pair| pair == b", ")?;
            (rest.get(..end)?, rest.get(end + 2..)?)
        }
    };
    let mut draft = Draft { kind: Kind::Special, ..Draft::named(name) };
    for fact in facts.split(|b| *b == b',') {
        match fact.split_first() {
            Some((b'/', _)) => draft.kind = Kind::Directory,
            Some((b'r', _)) if draft.kind == Kind::Special => draft.kind = Kind::File,
            Some((b's', digits)) => draft.size = super::size(digits),
            Some((b'm', seconds)) => {
                draft.modified = super::size(seconds).and_then(|seconds| {
                    let at = UNIX_EPOCH.checked_add(Duration::from_secs(seconds))?;
                    Some(Modified { at, precision: Precision::Second })
                });
            }
            Some((b'u', permissions)) => draft.mode = permissions.strip_prefix(b"p").and_then(super::octal),
            _ => {}
        }
    }
    Some(Line::Entry(draft))
}
