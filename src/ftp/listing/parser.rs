//! The bytes of a listing, cut into lines and given to the dialects, and everything that does not depend on a dialect:
//! limits, names that cannot be used, names that come twice, what nobody understands.
//!
//! The dialect that understands the first line is asked first from then on. Where lines depend on one another (a header
//! on z/OS, a name on a line of its own on VMS) the dialect says so and the state is kept here, so that dialects stay
//! plain functions of a line.

use std::collections::HashSet;
use std::time::SystemTime;

use log::{debug, warn};

use super::super::codepage::Codepage;
use super::super::path::{BadName, Name};
use super::time::{self, Clock};
use super::{Dialect, Draft, Entry, Format, Kind, Line, Listing, Zone, vms};

/// Turns the bytes of a listing into entries while they arrive.
#[derive(Debug)]
pub struct Parser {
    format: Format,
    clock: Clock,
    codepage: Option<Codepage>,
    dialect: Option<Dialect>,
    /// The start of a line whose end has not arrived.
    partial: Vec<u8>,
    /// The first half of an entry that takes two lines.
    held: Option<Vec<u8>>,
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
    /// The folder's own line (`.`) was among them.
    shows_itself: bool,
}

impl Parser {
    /// A parser that reads dates without year or zone against this machine's clock and UTC.
    pub fn new(format: Format) -> Self {
        Self::with_clock(format, SystemTime::now(), None)
    }

    /// A parser for a server whose LIST speaks in the time of `server_zone` (none: not known, taken for UTC).
    pub fn with_clock(format: Format, now: SystemTime, server_zone: Option<Zone>) -> Self {
        Self {
            format,
            clock: Clock::new(now, server_zone.unwrap_or(Zone::Fixed(0))),
            codepage: None,
            dialect: None,
            partial: Vec::new(),
            held: None,
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
            shows_itself: false,
        }
    }

    /// Names are in this encoding, and come out in UTF-8.
    pub fn in_codepage(mut self, codepage: Option<Codepage>) -> Self {
        self.codepage = codepage;
        self
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

    /// Takes a line that may be of the listing, or may be a phrase around it: only what is plainly an entry counts.
    pub fn push_doubtful(&mut self, line: &[u8]) {
        let dialect = self.dialect.unwrap_or(Dialect::Unix);
        if let Some(Line::Entry(draft)) = dialect.parse(line, &self.clock) {
            self.entry(draft);
        }
    }

    /// Whether the folder's own line was there: what a pattern matches has none.
    pub fn shows_itself(&self) -> bool {
        self.shows_itself
    }

    /// What has been parsed so far, so that a huge folder can be shown while it arrives.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Ends the listing (a last line without an end counts) and gives all entries.
    pub fn finish(mut self) -> Listing {
        if !self.partial.is_empty() || self.is_overlong {
            self.end_partial();
        }
        if let Some(held) = self.held.take() {
            self.held_alone(&held);
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
        // On VMS they are the older versions of a file.
        if self.duplicates > 0 && self.dialect != Some(Dialect::Vms) {
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
        if let Some(held) = self.held.take() {
            let mut both = held.clone();
            both.push(b' ');
            both.extend_from_slice(line);
            // A line with a name of its own is not the second half of another.
            if vms::name_only(line).is_none() && both.len() <= MAX_LINE && self.dialects(&both) {
                return;
            }
            self.held_alone(&held);
        }
        if !self.dialects(line) && !self.is_heading(line, after_blank) {
            self.not_understood(line);
        }
    }

    /// Offers a line to the dialects; false when none understands it.
    fn dialects(&mut self, line: &[u8]) -> bool {
        let sticky = self.dialect.and_then(|dialect| Some((dialect, dialect.parse(line, &self.clock)?)));
        let Some((dialect, parsed)) = sticky.or_else(|| {
            let others = Dialect::of(self.format).iter().filter(|other| Some(**other) != self.dialect);
            others.copied().find_map(|dialect| Some((dialect, dialect.parse(line, &self.clock)?)))
        }) else {
            return false;
        };
        match parsed {
            Line::Heading(below) => self.dialect = Some(below),
            Line::Continues if self.dialect.is_none_or(|sticky| sticky == dialect) => {
                self.held = Some(line.to_vec());
            }
            Line::Continues => return false,
            Line::Noise => {}
            Line::Entry(draft) => {
                self.dialect.get_or_insert(dialect);
                self.entry(draft);
            }
        }
        true
    }

    /// The second half of an entry did not come: what there is has to do.
    fn held_alone(&mut self, held: &[u8]) {
        match vms::name_only(held) {
            Some(draft) => self.entry(draft),
            None => self.not_understood(held),
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
            self.shows_itself |= draft.name == b"." && draft.kind == Kind::Directory;
            return;
        }
        let (shown, target) = match self.codepage {
            Some(codepage) => (codepage.decode(draft.name), draft.target.map(|t| codepage.decode_path(t))),
            None => (Some(draft.name.into()), draft.target.map(|target| Some(target.to_vec()))),
        };
        let name = match shown.as_deref().ok_or(BadName::NotEncodable).and_then(Name::new) {
            Ok(name) => name,
            Err(error) => {
                if self.bad_names < MAX_TOLD {
                    debug!("left out of a listing: {}: {error}", draft.name.escape_ascii());
                }
                self.bad_names += 1;
                return;
            }
        };
        if self.names.len() >= MAX_ENTRIES {
            self.not_understood(draft.name);
            return;
        }
        if !self.names.insert(name.clone()) {
            if self.duplicates < MAX_TOLD {
                debug!("came twice in a listing: {name}");
            }
            self.duplicates += 1;
            return;
        }
        let target = target.flatten();
        self.entries.push(Entry { target, ..draft.with_name(name) });
    }

    fn not_understood(&mut self, line: &[u8]) {
        self.unparsed += 1;
        let shown = line.get(..MAX_SHOWN).unwrap_or(line);
        if self.unparsed <= MAX_TOLD {
            debug!("not understood in a listing: {}", shown.escape_ascii());
        }
        self.first_unparsed.get_or_insert_with(|| shown.escape_ascii().to_string());
    }
}

/// Bytes of one line: the longest path there is (4096), a target as long, and room for quoting and columns.
const MAX_LINE: usize = 16 * 1024;

/// Entries of one listing. More than any folder that a person made (a server that sends names for ever must run into
/// something), at roughly 200 bytes each.
const MAX_ENTRIES: usize = 4_000_000;

/// Odd lines of one kind that the log tells of, for each listing.
const MAX_TOLD: usize = 20;

/// Bytes of a line that the log shows.
const MAX_SHOWN: usize = 200;

#[cfg(test)]
mod tests {
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
    fn entries_can_be_seen_while_they_arrive() {
        let mut parser = Parser::new(Format::Mlsd);
        parser.push(b"type=file; a\r\ntype=file; b");
        assert_eq!(parser.entries().len(), 1);
        parser.push(b"\r\ntype=file; a\r\n");
        assert_eq!(parser.finish().entries.len(), 2);
    }

    #[test]
    fn names_come_out_in_utf8_whatever_the_server_speaks() {
        let mut parser = Parser::new(Format::Mlsd).in_codepage(Codepage::named("gbk"));
        parser.push(b"type=file; \xd6\xd0\r\ntype=file; \xff\r\ntype=file; \xe9\x80\x80\r\n");
        let listing = parser.finish();
        let names: Vec<_> = listing.entries.iter().map(|entry| entry.name.as_bytes().to_vec()).collect();
        assert_eq!(names[..2], ["中".as_bytes().to_vec(), b"\xff".to_vec()]);
        assert_eq!(listing.entries.len() + listing.unparsed, 3);
    }

    fn parsed(format: Format, chunks: &[&[u8]]) -> Listing {
        let mut parser = Parser::new(format);
        for chunk in chunks {
            parser.push(chunk);
        }
        parser.finish()
    }
}
