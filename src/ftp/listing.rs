//! What a server says about a folder: lines in, entries out.
//!
//! MLSD ([`Format::Mlsd`]) was made for programs. LIST ([`Format::List`]) was made for people, and every system prints
//! its own: here one file per dialect. Nothing tells which one a server speaks, so the lines do: the first line that a
//! dialect understands makes it the listing's own, and a line that it does not understand is offered to the others.
//!
//! The parser is fed with whatever the data connection yields ([`Parser::push`]; a line may be cut anywhere), so a huge
//! folder can be shown while it arrives ([`Parser::entries`]). It does no I/O and has no opinion on what an entry
//! means; only [`session`](super::session) calls it.
//!
//! The server is not believed. Names go through [`Name`], so what cannot be sent back in a command is dropped (and
//! counted, and logged); a name that comes twice is taken once; lines, entries and numbers have limits. What was not
//! understood is counted in [`Listing::unparsed`]: a folder never becomes empty just because nobody could read it.

mod as400;
mod dos;
mod eplf;
mod mlsd;
mod mvs;
mod netware;
mod parser;
mod rare;
mod time;
mod unix;
mod vms;
mod zone;

use std::time::SystemTime;

pub use self::parser::Parser;
use self::time::Clock;
pub use self::time::parse_time;
pub use self::zone::Zone;
use super::Error;
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
    /// Lines that no parser understood, and names that cannot be used over FTP (both logged): names may be missing.
    pub unparsed: usize,
    /// The server said that it left names out (Pure-FTPd's 10,000): a missing name proves nothing.
    pub truncated: bool,
}

/// What comes of listing a folder.
#[derive(Debug)]
pub enum Progress<'a> {
    /// More entries of a large folder, while it is still being listed.
    Entries(&'a [Entry]),
    /// All of it, the entries included that came before; or why there is none.
    Ended(Result<Listing, Error>),
}

/// Which command's answer is parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// MLSD (RFC 3659 section 7).
    Mlsd,
    /// LIST or STAT (RFC 959): any dialect.
    List,
    /// NLST (RFC 959): a name on each line, perhaps with a path before it; nothing is said of what it is.
    Names,
}

/// Reads one line of MLST for a path whose name is known, ignoring the name in it: ProFTPD puts a link's target there,
/// and the root has none.
pub fn mlst_entry(line: &[u8], name: Name) -> Option<Entry> {
    Some(mlsd::parse_one(without_line_end(line))?.with_name(name))
}

/// What a line says; still borrowed from it, so that a line costs no memory but its entry's.
#[derive(Debug)]
struct Draft<'a> {
    name: &'a [u8],
    kind: Kind,
    size: Option<u64>,
    modified: Option<Modified>,
    mode: Option<u32>,
    target: Option<&'a [u8]>,
}

impl<'a> Draft<'a> {
    fn named(name: &'a [u8]) -> Self {
        Self { name, kind: Kind::File, size: None, modified: None, mode: None, target: None }
    }

    fn with_name(self, name: Name) -> Entry {
        let Self { kind, size, modified, mode, target, .. } = self;
        Entry { name, kind, size, modified, mode, target: target.map(<[u8]>::to_vec) }
    }
}

/// What a dialect makes of a line that it understands.
#[derive(Debug)]
enum Line<'a> {
    Entry(Draft<'a>),
    /// A header, a total, the folder itself: no entry, and nothing is missing.
    Noise,
    /// A header that says how the lines below it are to be read.
    Heading(Dialect),
    /// The first half of an entry; the next line is the other.
    Continues,
}

/// Whose way to print a folder it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    Mlsd,
    Unix,
    Eplf,
    Dos,
    Netware,
    As400,
    /// Finds the headers of the next three.
    Mvs,
    MvsDataSets,
    MvsMembers,
    MvsJobs,
    Vms,
    Rare,
    /// A name, and nothing else.
    Bare,
}

impl Dialect {
    /// The dialects that a command's answer may be in: the likely ones first, those that take nearly anything last.
    fn of(format: Format) -> &'static [Self] {
        match format {
            // Servers exist that answer MLSD with what they would say to LIST.
            Format::Mlsd => &[Self::Mlsd, Self::Unix],
            Format::Names => &[Self::Bare],
            Format::List => &[
                Self::Unix,
                Self::Dos,
                Self::Eplf,
                Self::Netware,
                Self::As400,
                Self::Mvs,
                Self::Vms,
                Self::Rare,
            ],
        }
    }

    fn parse<'a>(self, line: &'a [u8], clock: &Clock) -> Option<Line<'a>> {
        match self {
            Self::Mlsd => mlsd::parse(line),
            Self::Unix => unix::parse(line, clock),
            Self::Eplf => eplf::parse(line),
            Self::Dos => dos::parse(line, clock),
            Self::Netware => netware::parse(line, clock),
            Self::As400 => as400::parse(line, clock),
            Self::Mvs => mvs::heading(line),
            Self::MvsDataSets => mvs::data_set(line),
            Self::MvsMembers => mvs::member(line, clock),
            Self::MvsJobs => mvs::job(line),
            Self::Vms => vms::parse(line, clock),
            Self::Rare => rare::parse(line, clock),
            Self::Bare => Some(Line::Entry(Draft::named(last_component(line)))),
        }
    }
}

fn without_line_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// A size in bytes; none for anything but digits, and when it does not fit.
fn size(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |size, b| {
        let digit = b.is_ascii_digit().then(|| u64::from(b - b'0'))?;
        size.checked_mul(10)?.checked_add(digit)
    })
}

/// Mode bits from up to seven octal digits (with the file's type in front of them, perhaps).
fn octal(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() || digits.len() > 7 {
        return None;
    }
    let mode = digits.iter().try_fold(0, |mode, b| match b {
        b'0'..=b'7' => Some(mode * 8 + u32::from(b - b'0')),
        _ => None,
    })?;
    Some(mode & 0o7777)
}

/// The name in a path; LIST of a file gives the whole path on many servers, and some mark folders with a slash.
fn last_component(path: &[u8]) -> &[u8] {
    let path = path.strip_suffix(b"/").unwrap_or(path);
    path.rsplit(|b| *b == b'/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn mlst_tells_all_but_the_name() {
        let name = || Name::new(b"b c ").unwrap();
        let line = b" Type=dir;Modify=20261121062947.250;UNIX.mode=0o755; /a/elsewhere";
        let entry = mlst_entry(line, name()).unwrap();
        assert_eq!(entry.name, name());
        assert_eq!((entry.kind, entry.mode), (Kind::Directory, Some(0o755)));
        let at = UNIX_EPOCH + Duration::from_millis(1_795_242_587_250);
        assert_eq!(entry.modified, Some(Modified { at, precision: Precision::Second }));
        assert_eq!(mlst_entry(b" type=cdir; /", Name::new(b"root").unwrap()).unwrap().kind, Kind::Directory);
    }
}
