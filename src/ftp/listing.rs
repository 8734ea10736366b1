//! (helper: listings; one file per dialect in listing/)

use std::time::SystemTime;

use super::path::Name;

/// One entry of a folder, as the server tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub name: Name,
    pub kind: Kind,
    /// Bytes; none when the server does not tell.
    pub size: Option<u64>,
    pub modified: Option<Modified>,
    /// Permission bits (0o7777) when the server tells them.
    pub mode: Option<u32>,
    /// Where a symbolic link points, when the server tells it.
    pub target: Option<Vec<u8>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    File,
    Directory,
    Symlink,
    /// A FIFO, socket, device or something unknown: shown, never read (RETR of a FIFO hangs 7 of 13 servers).
    Special,
}

/// A modification time and how far it can be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Modified {
    /// Already corrected by the server's zone where that is known.
    pub at: SystemTime,
    pub precision: Precision,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Precision {
    Second,
    Minute,
    Day,
}

/// A whole listing.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    pub entries: Vec<Entry>,
    /// Lines that no parser understood (logged): names may be missing.
    pub unparsed: usize,
    /// The server said that it left names out (Pure-FTPd's 10,000): a missing name proves nothing.
    pub truncated: bool,
}

// ---- Stand-in until the parsers are merged: this file is replaced wholesale. ----

/// The two families of listings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Mlsd,
    List,
}

/// Turns the bytes of a listing into entries.
pub struct Parser {
    format: Format,
    text: Vec<u8>,
}

impl Parser {
    pub fn new(format: Format) -> Self {
        Self { format, text: Vec::new() }
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.text.extend_from_slice(bytes);
    }

    pub fn finish(self) -> Listing {
        let mut listing = Listing::default();
        for line in self.text.split(|&b| b == b'\n') {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.is_empty() {
                continue;
            }
            let entry = match self.format {
                Format::Mlsd => mlsx_entry(line),
                Format::List => list_entry(line),
            };
            match entry {
                Some(entry) => listing.entries.push(entry),
                None => listing.unparsed += 1,
            }
        }
        listing
    }
}

pub fn mlsx_entry(line: &[u8]) -> Option<Entry> {
    let space = line.iter().position(|&b| b == b' ')?;
    let facts = String::from_utf8_lossy(line.get(..space)?).to_ascii_lowercase();
    let name = Name::new(line.get(space + 1..)?).ok()?;
    let mut entry = Entry { name, kind: Kind::Special, size: None, modified: None, mode: None, target: None };
    for fact in facts.split(';') {
        match fact.split_once('=') {
            Some(("type", "file")) => entry.kind = Kind::File,
            Some(("type", "dir" | "cdir" | "pdir")) => entry.kind = Kind::Directory,
            Some(("type", other)) if other.contains("link") => entry.kind = Kind::Symlink,
            Some(("size", size)) => entry.size = size.parse().ok(),
            Some(("modify", at)) => {
                entry.modified =
                    parse_time(at.as_bytes()).map(|at| Modified { at, precision: Precision::Second });
            }
            _ => {}
        }
    }
    Some(entry)
}

pub fn parse_time(text: &[u8]) -> Option<SystemTime> {
    let digits = text.get(..14)?;
    let number = |range: std::ops::Range<usize>| -> Option<i64> {
        std::str::from_utf8(digits.get(range)?).ok()?.parse().ok()
    };
    let (year, month, day) = (number(0..4)?, number(4..6)?, number(6..8)?);
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted.div_euclid(400);
    let year_of_era = shifted.rem_euclid(400);
    let day_of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    let days =
        era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468;
    let seconds = days * 86_400 + number(8..10)? * 3600 + number(10..12)? * 60 + number(12..14)?;
    SystemTime::UNIX_EPOCH.checked_add(std::time::Duration::from_secs(u64::try_from(seconds).ok()?))
}

fn list_entry(line: &[u8]) -> Option<Entry> {
    let text = String::from_utf8_lossy(line).into_owned();
    let fields: Vec<&str> = text.split_ascii_whitespace().collect();
    let kind = match line.first()? {
        b'-' => Kind::File,
        b'd' => Kind::Directory,
        b'l' => Kind::Symlink,
        _ => return None,
    };
    let name = fields.get(8..)?.join(" ");
    let name = name.split(" -> ").next()?;
    Some(Entry {
        name: Name::new(name.as_bytes()).ok()?,
        kind,
        size: fields.get(4)?.parse().ok(),
        modified: None,
        mode: None,
        target: None,
    })
}
