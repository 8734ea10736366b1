//! What a server says about a folder: lines in, entries out.
//!
//! MLSD ([`Format::Mlsd`]) was made for programs. LIST ([`Format::List`]) was made for people, and every system prints
//! its own: here one file per dialect. Nothing tells which one a server speaks, so the lines do: the first line that a
//! dialect understands makes it the listing's own, and a line that it does not understand is offered to the others.
//!
//! The parser is fed with whatever the data connection yields ([`Parser::push`]; a line may be cut anywhere), so a huge
//! folder can be shown while it arrives ([`Parser::take_entries`]). It does no I/O and has no opinion on what an entry
//! means; only [`session`](super::session) calls it.
//!
//! The server is not believed. Names go through [`Name`], so what cannot be sent back in a command is dropped (and
//! counted, and logged); a name that comes twice is taken once; lines, entries and numbers have limits. What was not
//! understood is counted in [`Listing::unparsed`]: a folder never becomes empty just because nobody could read it.

mod mlsd;
mod time;
mod unix;

use std::collections::HashSet;
use std::time::SystemTime;

use log::{debug, warn};

use self::time::Clock;
pub use self::time::parse_time;
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

/// Which command's answer is parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// MLSD (RFC 3659 section 7).
    Mlsd,
    /// LIST or STAT (RFC 959): any dialect.
    List,
}

/// Turns the bytes of a listing into entries while they arrive.
#[derive(Debug)]
pub struct Parser {
    format: Format,
    clock: Clock,
    dialect: Option<Dialect>,
    /// The start of a line whose end has not arrived.
    partial: Vec<u8>,
    /// The rest of the current line is thrown away: it was too long.
    is_overlong: bool,
    /// The line before was empty.
    after_blank: bool,
    /// A header of another folder was seen (`ls -R`): what follows does not belong here.
    is_elsewhere: bool,
    /// Lines end in CR CR LF.
    doubled_cr: Option<bool>,
    entries: Vec<Entry>,
    names: HashSet<Name>,
    unparsed: usize,
    bad_names: usize,
    duplicates: usize,
    /// For the log.
    first_unparsed: Option<String>,
}

impl Parser {
    /// A parser that reads dates without year or zone against this machine's clock and UTC.
    pub fn new(format: Format) -> Self {
        Self::with_clock(format, SystemTime::now(), None)
    }

    /// A parser for a server whose LIST times are `server_zone` seconds ahead of UTC (none: not known, taken for UTC).
    pub fn with_clock(format: Format, now: SystemTime, server_zone: Option<i64>) -> Self {
        Self {
            format,
            clock: Clock::new(now, server_zone.unwrap_or(0)),
            dialect: None,
            partial: Vec::new(),
            is_overlong: false,
            after_blank: false,
            is_elsewhere: false,
            doubled_cr: None,
            entries: Vec::new(),
            names: HashSet::new(),
            unparsed: 0,
            bad_names: 0,
            duplicates: 0,
            first_unparsed: None,
        }
    }

    /// Takes the next bytes of the listing, cut anywhere.
    pub fn push(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|b| *b == b'\n') {
            let (line, after) = rest.split_at(end);
            if self.partial.is_empty() && !self.is_overlong {
                self.raw_line(line);
            } else {
                self.extend_partial(line);
                self.end_partial();
            }
            rest = after.get(1..).unwrap_or_default();
        }
        self.extend_partial(rest);
    }

    /// Takes out what has been parsed so far, so that a huge folder can be shown while it arrives.
    pub fn take_entries(&mut self) -> Vec<Entry> {
        std::mem::take(&mut self.entries)
    }

    /// Ends the listing (a last line without an end counts) and gives the entries that were not taken before.
    pub fn finish(mut self) -> Listing {
        if !self.partial.is_empty() || self.is_overlong {
            self.end_partial();
        }
        if self.unparsed > 0 {
            let first = self.first_unparsed.as_deref().unwrap_or_default();
            warn!(
                "{} lines of a listing were not understood, names may be missing; first: {first}",
                self.unparsed
            );
        }
        if self.bad_names > 0 {
            warn!("{} names in a listing cannot be used over FTP and were left out", self.bad_names);
        }
        if self.duplicates > 0 {
            warn!("{} names came more than once in a listing; the first of each was taken", self.duplicates);
        }
        Listing { entries: self.entries, unparsed: self.unparsed + self.bad_names, truncated: false }
    }

    /// Collects a piece of a line, up to the limit.
    fn extend_partial(&mut self, bytes: &[u8]) {
        if self.is_overlong || bytes.is_empty() {
            return;
        }
        if self.partial.len() + bytes.len() > MAX_LINE {
            self.is_overlong = true;
            self.partial.truncate(0);
            return;
        }
        self.partial.extend_from_slice(bytes);
    }

    fn end_partial(&mut self) {
        if std::mem::take(&mut self.is_overlong) {
            self.partial.clear();
            self.not_understood(b"(a line that is too long)");
            return;
        }
        let mut line = std::mem::take(&mut self.partial);
        self.raw_line(&line);
        line.clear();
        self.partial = line;
    }

    /// Takes a line without its LF.
    fn raw_line(&mut self, line: &[u8]) {
        if line.len() > MAX_LINE {
            self.not_understood(b"(a line that is too long)");
            return;
        }
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        // Text mode applied twice makes CR CR LF of every line; a single such name is somebody's CR.
        let doubled = *self.doubled_cr.get_or_insert(line.ends_with(b"\r"));
        let line = if doubled { line.strip_suffix(b"\r").unwrap_or(line) } else { line };
        self.line(line);
    }

    fn line(&mut self, line: &[u8]) {
        if line.iter().all(|b| time::is_blank(*b)) {
            self.after_blank = true;
            return;
        }
        let after_blank = std::mem::take(&mut self.after_blank);
        if self.is_elsewhere {
            self.not_understood(line);
            return;
        }
        let clock = self.clock;
        let sticky = self.dialect.and_then(|dialect| Some((dialect, dialect.parse(line, &clock)?)));
        let Some((dialect, parsed)) = sticky.or_else(|| {
            let others = Dialect::of(self.format).iter().filter(|other| Some(**other) != self.dialect);
            others.copied().find_map(|dialect| Some((dialect, dialect.parse(line, &clock)?)))
        }) else {
            if !self.is_heading(line, after_blank) {
                self.not_understood(line);
            }
            return;
        };
        self.dialect.get_or_insert(dialect);
        if let Line::Entry(draft) = parsed {
            self.entry(draft);
        }
    }

    /// `total 120`, and the names of folders that `ls` prints when it lists more than one.
    fn is_heading(&mut self, line: &[u8], after_blank: bool) -> bool {
        if self.format != Format::List {
            return false;
        }
        let line = line.trim_ascii();
        if let Some(folder) = line.strip_suffix(b":") {
            // The listing of a second folder (`ls -R`): its names must not appear in this one.
            self.is_elsewhere = after_blank && !self.names.is_empty();
            let is_path = folder == b"." || folder.contains(&b'/');
            return self.is_elsewhere || self.names.is_empty() && is_path && !folder.contains(&b':');
        }
        // "total" in any language, before anything else was understood.
        let mut words = line.split(|b| time::is_blank(*b)).filter(|word| !word.is_empty());
        let (Some(word), Some(number), None) = (words.next(), words.next(), words.next()) else {
            return false;
        };
        let is_first = self.names.is_empty() && self.unparsed == 0 && self.bad_names == 0;
        (is_first || word.eq_ignore_ascii_case(b"total"))
            && !word.iter().any(u8::is_ascii_digit)
            && number.first().is_some_and(u8::is_ascii_digit)
            && number.iter().all(|b| b.is_ascii_digit() || b",.kKMGT".contains(b))
    }

    fn entry(&mut self, draft: Draft<'_>) {
        if draft.name == b"." || draft.name == b".." {
            return;
        }
        let name = match Name::new(draft.name) {
            Ok(name) => name,
            Err(error) => {
                debug!("left out of a listing: {}: {error}", draft.name.escape_ascii());
                self.bad_names += 1;
                return;
            }
        };
        if self.names.len() >= MAX_ENTRIES {
            self.not_understood(draft.name);
            return;
        }
        if !self.names.insert(name.clone()) {
            debug!("came twice in a listing: {name}");
            self.duplicates += 1;
            return;
        }
        self.entries.push(draft.with_name(name));
    }

    fn not_understood(&mut self, line: &[u8]) {
        self.unparsed += 1;
        let shown = line.get(..MAX_SHOWN).unwrap_or(line);
        debug!("not understood in a listing: {}", shown.escape_ascii());
        self.first_unparsed.get_or_insert_with(|| shown.escape_ascii().to_string());
    }
}

/// Reads one line of MLST (or MLSD), where the name may come with a path: its last component is taken.
///
/// None when the line holds no facts, or when its name is no [`Name`] (that of `/` is not: see [`mlst_entry`]).
pub fn mlsx_entry(line: &[u8]) -> Option<Entry> {
    let draft = mlsd::parse_one(without_line_end(line))?;
    let name = Name::new(draft.name).ok()?;
    Some(draft.with_name(name))
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
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    Mlsd,
    Unix,
}

impl Dialect {
    /// The dialects that a command's answer may be in, the likely ones first.
    fn of(format: Format) -> &'static [Self] {
        match format {
            // Servers exist that answer MLSD with what they would say to LIST.
            Format::Mlsd => &[Self::Mlsd, Self::Unix],
            Format::List => &[Self::Unix],
        }
    }

    fn parse<'a>(self, line: &'a [u8], clock: &Clock) -> Option<Line<'a>> {
        match self {
            Self::Mlsd => mlsd::parse(line),
            Self::Unix => unix::parse(line, clock),
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

/// The name in a path; LIST of a file gives the whole path on many servers, and some mark folders with a slash.
fn last_component(path: &[u8]) -> &[u8] {
    let path = path.strip_suffix(b"/").unwrap_or(path);
    path.rsplit(|b| *b == b'/').next().unwrap_or(path)
}

/// Bytes of one line: the longest path there is (4096), a target as long, and room for quoting and columns.
const MAX_LINE: usize = 16 * 1024;

/// Entries of one listing. More than any folder that a person made (a server that sends names for ever must run into
/// something), at roughly 200 bytes each.
const MAX_ENTRIES: usize = 4_000_000;

/// Bytes of a line that the log shows.
const MAX_SHOWN: usize = 200;

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn a_listing_may_be_cut_anywhere() {
        let text = b"total 8\r\n-rw-r--r--    1 0 0  6 Nov 21 06:09 a b\r\ndrwxr-xr-x 2 0 0 4096 May  3  2020 d\r\nlrwxrwxrwx 1 0 0 1 May  3  2020 l -> a -> b";
        let whole = parsed(Format::List, &[text]);
        assert_eq!(whole.entries.len(), 3);
        assert_eq!(whole.unparsed, 0);
        let bytes: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(parsed(Format::List, &bytes).entries, whole.entries);
        assert_eq!(whole.entries[2].target.as_deref(), Some(&b"a -> b"[..]));
        assert_eq!(whole.entries[0].name.as_bytes(), b"a b");
    }

    #[test]
    fn names_that_cannot_be_sent_are_left_out_and_counted() {
        let text = b"type=file; ok\r\ntype=file; a/b\r\ntype=dir; ..\r\ntype=file; a\rb\r\ntype=file; a\0\r\ntype=file; \r\ntype=file; ok\r\n";
        let listing = parsed(Format::Mlsd, &[text]);
        assert_eq!(listing.entries.len(), 1);
        assert_eq!(listing.unparsed, 4);
    }

    #[test]
    fn a_line_that_is_too_long_is_counted_however_it_arrives() {
        let mut text = vec![b'x'; MAX_LINE + 1];
        text.extend_from_slice(b"\r\ntype=file;size=1; a\r\n");
        for size in [1, 100, MAX_LINE, text.len()] {
            let chunks: Vec<&[u8]> = text.chunks(size).collect();
            let listing = parsed(Format::Mlsd, &chunks);
            assert_eq!((listing.entries.len(), listing.unparsed), (1, 1), "chunks of {size}");
        }
    }

    #[test]
    fn error_texts_of_ls_are_counted_and_hide_nothing() {
        let listing =
            parsed(Format::List, &[b"/bin/ls: cannot access '/nosuch': No such file or directory\n"]);
        assert_eq!((listing.entries.len(), listing.unparsed), (0, 1));
    }

    #[test]
    fn names_of_a_second_folder_do_not_appear_in_the_first() {
        let text =
            b".:\n-rw-r--r-- 1 a b 1 May  3  2020 one\n\n./sub:\n-rw-r--r-- 1 a b 1 May  3  2020 two\n";
        let listing = parsed(Format::List, &[text]);
        assert_eq!(listing.entries.len(), 1);
        assert_eq!(listing.unparsed, 1);
    }

    #[test]
    fn entries_can_be_taken_while_they_arrive() {
        let mut parser = Parser::new(Format::Mlsd);
        parser.push(b"type=file; a\r\ntype=file; b");
        assert_eq!(parser.take_entries().len(), 1);
        parser.push(b"\r\ntype=file; a\r\n");
        assert_eq!(parser.finish().entries.len(), 1);
    }

    #[test]
    fn mlst_takes_the_last_component_of_a_path() {
        let entry = mlsx_entry(b" Type=dir;Modify=20261121062947.250;UNIX.mode=0o755; /a/b c ").unwrap();
        assert_eq!(entry.name.as_bytes(), b"b c ");
        assert_eq!((entry.kind, entry.mode), (Kind::Directory, Some(0o755)));
        let at = UNIX_EPOCH + Duration::from_millis(1_795_242_587_250);
        assert_eq!(entry.modified, Some(Modified { at, precision: Precision::Second }));
        assert_eq!(mlsx_entry(b" type=cdir; /"), None);
        assert_eq!(mlst_entry(b" type=cdir; /", Name::new(b"root").unwrap()).unwrap().kind, Kind::Directory);
    }

    fn parsed(format: Format, chunks: &[&[u8]]) -> Listing {
        let mut parser = Parser::new(format);
        for chunk in chunks {
            parser.push(chunk);
        }
        parser.finish()
    }
}
