//! Any bytes, cut anywhere, read as MLSD, as LIST and as a line of MLST: no panic, the same result however they are cut,
//! and nothing in it that the rest of ftpfs must not see.

use std::time::{Duration, UNIX_EPOCH};

use ftpfs::ftp::Name;
use ftpfs::ftp::listing::{Format, Listing, Parser, Zone, mlst_entry, parse_time};

/// One input.
pub fn run(data: &[u8]) {
    let Some(([format, chunk, zone], bytes)) = data.split_first_chunk::<3>() else { return };
    let format = if format & 1 == 0 { Format::List } else { Format::Mlsd };
    let zone = Some((i64::from(*zone) - 128) * 900);
    let whole = parsed(format, zone, bytes, usize::MAX);
    let pieces = parsed(format, zone, bytes, usize::from(*chunk) + 1);
    assert_eq!(whole.entries, pieces.entries);
    assert_eq!(whole.unparsed, pieces.unparsed);

    for entry in &whole.entries {
        let name = entry.name.as_bytes();
        assert!(!name.is_empty() && name != b"." && name != b"..");
        assert!(!name.iter().any(|b| matches!(b, b'/' | b'\0' | b'\r' | b'\n')));
        assert!(entry.mode.is_none_or(|mode| mode <= 0o7777));
    }
    let lines = bytes.split(|b| *b == b'\n').count();
    assert!(whole.entries.len() + whole.unparsed <= lines + 1);

    let _ = Name::new(b"name").map(|name| mlst_entry(bytes, name));
    let _ = parse_time(bytes);
}

fn parsed(format: Format, zone: Option<i64>, bytes: &[u8], chunk: usize) -> Listing {
    // 2026-11-21: a fixed clock, so that a finding can be repeated.
    let now = UNIX_EPOCH + Duration::from_secs(1_795_262_400);
    let mut parser = Parser::with_clock(format, now, zone.map(Zone::Fixed));
    bytes.chunks(chunk).for_each(|chunk| parser.push(chunk));
    parser.finish()
}
