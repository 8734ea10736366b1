//! MLSD and MLST (RFC 3659 section 7): `fact=value;fact=value; name`, made for programs to read.
//!
//! The name starts after the first `"; "` and goes to the end of the line, blanks included. Names of facts and most of
//! their values come in any case. What servers made of it, and what is therefore accepted: owners with blanks in them,
//! a missing last semicolon, a blank before the facts (MLST), `sizd` for folders (Pure-FTPd), modes as `0644`, `04755`,
//! `0o644` (pyftpdlib) or with the file's type in front (`100644`), and four ways to say symbolic link.

use super::time::parse_time;
use super::{Draft, Kind, Line, Modified, Precision};

/// Reads a line of MLSD. The folder itself (`cdir`) and the one above it (`pdir`) are noise.
pub(super) fn parse(line: &[u8]) -> Option<Line<'_>> {
    let (is_folder_itself, draft) = facts_and_name(line)?;
    if is_folder_itself { Some(Line::Noise) } else { Some(Line::Entry(draft)) }
}

/// Reads a line of MLST, where `cdir` and `pdir` are how some servers describe the folder that was asked for. Its name counts
/// for nothing.
pub(super) fn parse_one(line: &[u8]) -> Option<Draft<'_>> {
    facts_and_name(line).map(|(_, draft)| draft)
}

/// Whether the line is about the folder itself or the one above, and what it says.
fn facts_and_name(line: &[u8]) -> Option<(bool, Draft<'_>)> {
    let line = line.strip_prefix(b" ").unwrap_or(line);
    let (facts, name) = split(line)?;
    let mut draft = Draft { kind: Kind::Special, ..Draft::named(name) };
    let mut known = 0;
    let mut is_folder_itself = false;
    for fact in facts.split(|b| *b == b';') {
        let Some(equals) = fact.iter().position(|b| *b == b'=') else { continue };
        let (key, value) = (fact.get(..equals)?, fact.get(equals + 1..)?);
        known += 1;
        if key.eq_ignore_ascii_case(b"type") {
            is_folder_itself = value.eq_ignore_ascii_case(b"cdir") || value.eq_ignore_ascii_case(b"pdir");
            (draft.kind, draft.target) = kind(value);
        } else if key.eq_ignore_ascii_case(b"size") || key.eq_ignore_ascii_case(b"sizd") {
            draft.size = super::size(value);
        } else if key.eq_ignore_ascii_case(b"modify") {
            draft.modified = parse_time(value).map(|at| Modified { at, precision: Precision::Second });
        } else if key.eq_ignore_ascii_case(b"unix.mode") {
            draft.mode = mode(value);
        }
    }
    (known > 0).then_some((is_folder_itself, draft))
}

/// Cuts a line where the name starts.
fn split(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = match line.windows(2).position(|pair| pair == b"; ") {
        Some(semicolon) => semicolon + 1,
        // A server that leaves out the last semicolon.
        None => line.iter().position(|b| *b == b' ')?,
    };
    Some((line.get(..at)?, line.get(at + 1..)?))
}

fn kind(value: &[u8]) -> (Kind, Option<&[u8]>) {
    if value.eq_ignore_ascii_case(b"file") {
        return (Kind::File, None);
    }
    if [&b"dir"[..], b"cdir", b"pdir"].iter().any(|folder| value.eq_ignore_ascii_case(folder)) {
        return (Kind::Directory, None);
    }
    // OS.unix=symlink (ProFTPD, FileZilla), OS.unix=slink: (Pure-FTPd), OS.unix=slink:target (the draft of the RFC).
    let value = match value.split_at_checked(8) {
        Some((os, word)) if os.eq_ignore_ascii_case(b"os.unix=") => word,
        _ => value,
    };
    let colon = value.iter().position(|b| *b == b':').unwrap_or(value.len());
    let (word, target) = value.split_at(colon);
    if [&b"symlink"[..], b"slink", b"link"].iter().any(|link| word.eq_ignore_ascii_case(link)) {
        return (Kind::Symlink, target.get(1..).filter(|target| !target.is_empty()));
    }
    (Kind::Special, None)
}

fn mode(value: &[u8]) -> Option<u32> {
    super::octal(value.strip_prefix(b"0o").or_else(|| value.strip_prefix(b"0O")).unwrap_or(value))
}
