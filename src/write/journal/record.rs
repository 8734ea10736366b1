//! A record: what local bytes are, and where on the server they belong.
//!
//! Lines of text, so that a person can read it, with a version in the first line and a checksum in the last. Bytes that
//! would end a line are written as `%0A`. Whoever reads one believes nothing: a path is built by [`RemotePath`] and lies
//! below the root of its mount, ranges are in order and inside the file, and everything is bounded.
//!
//! Pure: no I/O here. Used by [`super`] and by [`crate::write::kept`].

use std::fmt::Write;
use std::ops::Range;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use openssl::sha::sha256;

use crate::ftp::RemotePath;
use crate::percent;

/// Where bytes belong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// `ftp://user@host:port`, without a password.
    pub server: String,
    /// The root of the mount, and the file below it.
    pub root: RemotePath,
    pub path: RemotePath,
    /// Bytes of the whole file.
    pub size: u64,
    /// Which of them are here; the others are those of the file below.
    pub parts: Vec<Range<u64>>,
    pub below: Below,
    pub at: SystemTime,
    /// A time and permission bits that a program has set, to go with the data.
    pub modified: Option<SystemTime>,
    pub mode: Option<u32>,
    /// Why the server does not have it; empty while nothing has gone wrong.
    pub reason: String,
    /// SHA-256 of the bytes that are here, in order.
    pub sum: Option<[u8; 32]>,
    /// Of two versions of a record, the one with the higher turn counts.
    pub turn: u64,
}

/// What the server had under that name when the bytes were written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Below {
    Nothing,
    /// Something, or nothing: it does not matter.
    Unknown,
    File {
        /// Bytes.
        size: u64,
        /// How many of them are still part of the file: fewer after it was cut.
        limit: u64,
        modified: Option<SystemTime>,
    },
}

impl Record {
    /// Whether all bytes are here, so that the file can be made without the server's old one.
    pub fn is_whole(&self) -> bool {
        match self.parts.as_slice() {
            [] => self.size == 0,
            [all] => *all == (0..self.size),
            _ => false,
        }
    }

    /// How many bytes are here.
    pub fn held(&self) -> u64 {
        self.parts.iter().map(|part| part.end - part.start).sum()
    }

    /// The same in [`pieces`].
    pub fn pieces(&self) -> impl Iterator<Item = (u64, usize)> {
        pieces(&self.parts)
    }

    /// The text; none when it would be longer than [`MAX_TEXT`] (thousands of ranges).
    pub fn to_text(&self) -> Option<String> {
        let mut text = format!("{VERSION}\n");
        let mut line = |name: &str, value: &str| {
            let _ = writeln!(text, "{name}: {value}");
        };
        line("server", &escape(self.server.as_bytes()));
        line("root", &escape(self.root.as_bytes()));
        line("path", &escape(self.path.as_bytes()));
        line("size", &self.size.to_string());
        line("at", &time_text(self.at));
        match self.below {
            Below::Nothing => line("below", "nothing"),
            Below::Unknown => line("below", "unknown"),
            Below::File { size, limit, modified: None } => line("below", &format!("{size} {limit}")),
            Below::File { size, limit, modified: Some(at) } => {
                line("below", &format!("{size} {limit} {}", time_text(at)));
            }
        }
        if let Some(at) = self.modified {
            line("modified", &time_text(at));
        }
        if let Some(mode) = self.mode {
            line("mode", &format!("{mode:o}"));
        }
        if !self.reason.is_empty() {
            line("reason", &escape(self.reason.as_bytes()));
        }
        for part in &self.parts {
            line("bytes", &format!("{}-{}", part.start, part.end));
        }
        if let Some(sum) = &self.sum {
            line("sum", &hex(sum));
        }
        line("turn", &self.turn.to_string());
        let check = hex(&sha256(text.as_bytes()));
        let _ = writeln!(text, "{CHECK}{check}");
        (text.len() <= MAX_TEXT).then_some(text)
    }

    /// Reads a record; what stands behind its last line does not matter. None for anything that is not one, whole.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..MAX_TEXT.min(bytes.len()))?;
        let at = find(bytes, format!("\n{CHECK}").as_bytes())? + 1;
        let (text, rest) = bytes.split_at_checked(at)?;
        let check = rest.get(CHECK.len()..CHECK.len() + 64)?;
        if rest.get(CHECK.len() + 64) != Some(&b'\n') || check != hex(&sha256(text)).as_bytes() {
            return None;
        }
        Self::body(text)
    }

    /// Reads the lines above the checksum. Of its own so that it can be tried with anything (fuzz/).
    pub fn body(text: &[u8]) -> Option<Self> {
        let mut lines = text.split(|&b| b == b'\n');
        if lines.next()? != VERSION.as_bytes() {
            return None;
        }
        let mut draft = Fields::default();
        for line in lines.filter(|line| !line.is_empty()) {
            let colon = find(line, b": ")?;
            draft.take(line.get(..colon)?, line.get(colon + 2..)?)?;
        }
        draft.finish()
    }
}

/// Ranges in pieces of at most [`PIECE`] bytes, in order: offset and length.
pub fn pieces(ranges: &[Range<u64>]) -> impl Iterator<Item = (u64, usize)> {
    ranges.iter().flat_map(|range| {
        let most = PIECE as u64;
        range.clone().step_by(PIECE).map(move |at| (at, most.min(range.end - at) as usize))
    })
}

/// What has been read so far.
#[derive(Default)]
struct Fields {
    server: Option<String>,
    root: Option<RemotePath>,
    path: Option<RemotePath>,
    size: Option<u64>,
    at: Option<SystemTime>,
    below: Option<Below>,
    modified: Option<SystemTime>,
    mode: Option<u32>,
    reason: String,
    parts: Vec<Range<u64>>,
    sum: Option<[u8; 32]>,
    turn: u64,
}

impl Fields {
    fn take(&mut self, name: &[u8], value: &[u8]) -> Option<()> {
        let text = || std::str::from_utf8(value).ok();
        let number = || text().and_then(decimal);
        match name {
            b"server" => self.server = Some(plain(&percent::decode(value)?)),
            b"root" => self.root = Some(RemotePath::parse(&percent::decode(value)?).ok()?),
            b"path" => self.path = Some(RemotePath::parse(&percent::decode(value)?).ok()?),
            b"size" => self.size = Some(number().filter(|&size| size <= i64::MAX as u64)?),
            b"at" => self.at = Some(time(text()?)?),
            b"below" => self.below = Some(below(text()?)?),
            b"modified" => self.modified = Some(time(text()?)?),
            b"mode" => {
                self.mode = Some(u32::from_str_radix(text()?, 8).ok().filter(|&mode| mode <= 0o7777)?);
            }
            b"reason" => self.reason = plain(&percent::decode(value)?),
            b"bytes" => {
                let (start, end) = text()?.split_once('-')?;
                self.parts.push(decimal(start)?..decimal(end)?);
            }
            b"sum" => self.sum = Some(unhex(value)?),
            b"turn" => self.turn = number()?,
            _ => return None,
        }
        Some(())
    }

    fn finish(self) -> Option<Record> {
        let (root, path, size) = (self.root?, self.path?, self.size?);
        let mut end = 0;
        for (index, part) in self.parts.iter().enumerate() {
            // Touching ranges would be one.
            if part.start >= part.end || part.end > size || (index > 0 && part.start <= end) {
                return None;
            }
            end = part.end;
        }
        let below = self.below?;
        let is_inside = path.is_within(&root) && path != root;
        let fits = match below {
            Below::File { size, limit, .. } => limit <= size && size <= i64::MAX as u64,
            _ => true,
        };
        (is_inside && fits).then_some(Record {
            server: self.server?,
            root,
            path,
            size,
            parts: self.parts,
            below,
            at: self.at?,
            modified: self.modified,
            mode: self.mode,
            reason: self.reason,
            sum: self.sum,
            turn: self.turn,
        })
    }
}

fn below(text: &str) -> Option<Below> {
    match text {
        "nothing" => return Some(Below::Nothing),
        "unknown" => return Some(Below::Unknown),
        _ => {}
    }
    let mut words = text.split(' ');
    let (size, limit) = (decimal(words.next()?)?, decimal(words.next()?)?);
    let modified = match words.next() {
        Some(word) => Some(time(word)?),
        None => None,
    };
    words.next().is_none().then_some(Below::File { size, limit, modified })
}

/// Digits only: `+5` is no number that we wrote.
fn decimal(text: &str) -> Option<u64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// Seconds since 1970, which may be negative, and nanoseconds that are added.
fn time_text(at: SystemTime) -> String {
    match at.duration_since(UNIX_EPOCH) {
        Ok(since) => format!("{}.{:09}", since.as_secs(), since.subsec_nanos()),
        Err(before) => {
            let before = before.duration();
            let (seconds, nanos) = match before.subsec_nanos() {
                0 => (before.as_secs(), 0),
                nanos => (before.as_secs() + 1, 1_000_000_000 - nanos),
            };
            format!("-{seconds}.{nanos:09}")
        }
    }
}

fn time(text: &str) -> Option<SystemTime> {
    let (seconds, nanos) = text.split_once('.')?;
    let nanos = u32::try_from(decimal(nanos)?).ok().filter(|&nanos| nanos < 1_000_000_000)?;
    let whole = match seconds.strip_prefix('-') {
        Some(before) => UNIX_EPOCH.checked_sub(Duration::from_secs(decimal(before)?))?,
        None => UNIX_EPOCH.checked_add(Duration::from_secs(decimal(seconds)?))?,
    };
    whole.checked_add(Duration::from_nanos(nanos.into()))
}

/// `%` and control characters as `%XX`; so is everything beyond ASCII in a name that is not UTF-8.
fn escape(bytes: &[u8]) -> String {
    let is_text = std::str::from_utf8(bytes).is_ok();
    let mut plain = Vec::with_capacity(bytes.len());
    for &byte in bytes {
        if byte == b'%' || byte.is_ascii_control() || (!is_text && !byte.is_ascii()) {
            plain.extend_from_slice(format!("%{byte:02X}").as_bytes());
        } else {
            plain.push(byte);
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

/// One line of text, whatever it was.
fn plain(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &[u8]) -> Option<[u8; 32]> {
    let mut sum = [0; 32];
    if text.len() != 2 * sum.len() {
        return None;
    }
    for (byte, pair) in sum.iter_mut().zip(text.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(sum)
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

/// Two paths of the greatest length, escaped, and a thousand ranges.
pub const MAX_TEXT: usize = 64 * 1024;
/// What is copied at once.
pub const PIECE: usize = 128 * 1024;
const VERSION: &str = "ftpfs-record 1";
const CHECK: &str = "check: ";

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            server: "ftp://joe@host:21".into(),
            root: RemotePath::parse(b"/home").unwrap(),
            path: RemotePath::parse(b"/home/100%/\xff\x1b[2J").unwrap(),
            size: 300,
            parts: vec![5..10, 100..300],
            below: Below::File {
                size: 120,
                limit: 90,
                modified: Some(UNIX_EPOCH - Duration::from_millis(1)),
            },
            at: UNIX_EPOCH + Duration::new(1_763_730_000, 5),
            modified: Some(UNIX_EPOCH),
            mode: Some(0o640),
            reason: "552 Quota\nexceeded".into(),
            sum: Some([7; 32]),
            turn: 3,
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let text = record().to_text().unwrap();
        let mut read = Record::parse(text.as_bytes()).unwrap();
        assert_eq!(read.reason, "552 Quota exceeded");
        read.reason = record().reason;
        assert_eq!(read, record());
        assert_eq!(Record::parse(&[text.as_bytes(), &[0; 500]].concat()).unwrap().size, 300);
    }

    #[test]
    fn pieces_are_all_the_bytes_that_are_here_in_order() {
        let piece = PIECE as u64;
        let parts = vec![5..10, piece..3 * piece + 1];
        let pieces: Vec<_> = Record { parts, ..record() }.pieces().collect();
        assert_eq!(pieces, [(5, 5), (piece, PIECE), (2 * piece, PIECE), (3 * piece, 1)]);
    }

    #[test]
    fn a_record_that_is_cut_or_changed_is_none() {
        let text = record().to_text().unwrap().into_bytes();
        for at in 0..text.len() {
            assert_eq!(Record::parse(&text[..at]), None);
            let mut changed = text.clone();
            changed[at] ^= 1;
            assert_eq!(Record::parse(&changed), None, "byte {at}");
        }
        assert_eq!(Record::parse(&[b'\n'; 100_000]), None);
    }

    #[test]
    fn a_hostile_record_with_a_good_checksum_leads_nowhere() {
        let refused = |from: &str, to: &str| {
            let text = record().to_text().unwrap();
            let body = text.replace(from, to);
            let body = &body[..body.rfind(CHECK).unwrap()];
            let text = format!("{body}{CHECK}{}\n", hex(&sha256(body.as_bytes())));
            assert_ne!(body, &text[..0]);
            assert_eq!(Record::parse(text.as_bytes()), None, "{to}");
        };
        refused("path: /home/100%25/", "path: /home/../etc/");
        refused("path: /home/", "path: /home/a%0D%0ADELE b/");
        refused("root: /home", "root: /other");
        refused("bytes: 5-10", "bytes: 10-5");
        refused("bytes: 5-10", "bytes: 5-100");
        refused("bytes: 100-300", "bytes: 100-301");
        refused("size: 300", "size: 99999999999999999999");
        refused("size: 300", "size: -1");
        refused("below: 120 90", "below: 120 121");
        refused("at: 1763730000", "at: 18446744073709551615");
        refused("mode: 640", "mode: 177777");
        refused("turn: 3", "turn: 3\nunknown: 1");
        refused("ftpfs-record 1", "ftpfs-record 2");
    }

    #[test]
    fn whatever_is_understood_is_the_same_when_it_is_written_and_read_again() {
        let text = record().to_text().unwrap().into_bytes();
        let at = text.len() - 72;
        let mut dice = 1u64;
        let mut below = |limit: usize| {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (dice >> 33) as usize % limit
        };
        let mut understood = 0;
        for _ in 0..20_000 {
            let mut body = text[..at].to_vec();
            for _ in 0..1 + below(3) {
                let (from, to, byte) = (below(body.len()), below(body.len()), below(256) as u8);
                match below(4) {
                    0 => body[from] = byte,
                    1 => drop(body.remove(from)),
                    2 => body.insert(from, b"0129-. %\n/"[below(10)]),
                    _ => body[from] = body[to],
                }
            }
            let Some(read) = Record::body(&body) else { continue };
            understood += 1;
            assert!(read.path.is_within(&read.root) && read.held() <= read.size);
            assert_eq!(read.to_text().and_then(|text| Record::parse(text.as_bytes())), Some(read));
        }
        assert!(understood > 100, "{understood}");
    }

    #[test]
    fn a_record_with_too_many_ranges_is_not_written() {
        let parts = (0..10_000).map(|i| i * 10..i * 10 + 1).collect();
        assert_eq!(Record { size: 100_000, parts, ..record() }.to_text(), None);
    }
}
