//! The paths that every byte or every name goes through, without a server: `cargo bench --bench hot`.
//!
//! Each is run for a second in a few rounds, and the best round counts: the others were disturbed.

use std::hint::black_box;
use std::time::{Duration, Instant, SystemTime};

use ftpfs::ftp::listing::{Format, Parser};
use ftpfs::ftp::{Entry, Kind, Listing, Modified, Name, Precision, RemotePath, reply};
use ftpfs::read::blocks::Blocks;
use ftpfs::tree::{Ino, Lifetimes, Tree, Version};

fn main() {
    let unix = lines("-rw-r--r--    1 1001     1001       123456 Nov 21 15:14 a file with number {}");
    let mlsd = lines("type=file;size=123456;modify=20261121151400;UNIX.mode=0644; a file with number {}");
    let dos = lines("11-21-26  03:14PM               123456 a file with number {}");
    for (name, format, text) in [
        ("LIST, Unix", Format::List, &unix),
        ("MLSD", Format::Mlsd, &mlsd),
        ("LIST, DOS", Format::List, &dos),
    ] {
        let time = best(|| {
            let mut parser = Parser::new(format);
            text.chunks(64 * 1024).for_each(|piece| parser.push(piece));
            assert_eq!(parser.finish().entries.len(), NAMES);
        });
        bytes(name, text.len(), time);
    }
    let replies = b"213 20261121151400\r\n".repeat(NAMES);
    let time = best(|| {
        let mut parser = reply::Parser::default();
        let mut count = 0;
        for piece in replies.chunks(16 * 1024) {
            parser.push(piece);
            while let Ok(Some(_)) = parser.next_reply() {
                count += 1;
            }
        }
        assert_eq!(count, NAMES);
    });
    bytes("replies", replies.len(), time);

    let blocks = Blocks::new(512 << 20);
    let data = vec![7; 1 << 20];
    (0..256).for_each(|i| blocks.insert(Ino(5), Version(1), i << 20, &data));
    let mut at = 0;
    let time = best(|| {
        for _ in 0..1000 {
            at = (at + 7_654_321) % (255 << 20);
            black_box(blocks.read(Ino(5), Version(1), at & !4095, 4096)).expect("it was put there");
        }
    });
    each("a page of 4 KiB from the block cache", 1000, time);
    let time = best(|| {
        for i in 0..2048 {
            black_box(blocks.read(Ino(5), Version(1), i * 131_072, 131_072)).expect("it was put there");
        }
    });
    bytes("sequential reads of 128 KiB from the block cache", 256 << 20, time);
    let time = best(|| (0..256).for_each(|i| blocks.insert(Ino(6), Version(1), i << 20, &data)));
    bytes("into the block cache", 256 << 20, time);

    let entry = |i: usize| Entry {
        name: Name::new(format!("a file with number {i}").as_bytes()).expect("it is a name"),
        kind: Kind::File,
        size: Some(1),
        modified: Some(Modified { at: SystemTime::UNIX_EPOCH, precision: Precision::Second }),
        mode: None,
        target: None,
    };
    let listing = Listing { entries: (0..NAMES).map(entry).collect(), ..Listing::default() };
    let life = Duration::from_secs(3600);
    let lifetimes = Lifetimes { attributes: life, absence: life, listings: life };
    let mut tree = Tree::new(RemotePath::root(), lifetimes);
    let now = Instant::now();
    let time = best(|| tree.apply(Ino::ROOT, &listing, tree.stamp(), now));
    each("a listing taken over again, per name", NAMES, time);
    let names: Vec<_> = listing.entries.iter().map(|entry| &entry.name).collect();
    let time = best(|| {
        names.iter().for_each(|name| {
            black_box(tree.child(Ino::ROOT, name, now));
        });
    });
    each("a name looked up", NAMES, time);
    let ino = tree.entries(Ino::ROOT, now).and_then(|entries| entries.first().map(|(_, ino)| *ino));
    let ino = ino.expect("the listing has names");
    let time = best(|| (0..NAMES).for_each(|_| drop(black_box(tree.path(ino)))));
    each("a path made", NAMES, time);
}

fn lines(line: &str) -> Vec<u8> {
    (0..NAMES).flat_map(|i| format!("{}\r\n", line.replace("{}", &format!("{i:05}"))).into_bytes()).collect()
}

/// The shortest time that it took within a second.
fn best(mut run: impl FnMut()) -> Duration {
    let started = Instant::now();
    let mut best = Duration::MAX;
    while started.elapsed() < Duration::from_secs(1) {
        let begun = Instant::now();
        run();
        best = best.min(begun.elapsed());
    }
    best
}

fn bytes(what: &str, count: usize, time: Duration) {
    println!("{what:<52}{:>8.0} MB/s", count as f64 / 1e6 / time.as_secs_f64());
}

fn each(what: &str, count: usize, time: Duration) {
    println!("{what:<52}{:>8.0} ns", time.as_nanos() as f64 / count as f64);
}

const NAMES: usize = 10_000;
