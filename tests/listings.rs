//! Every sample in `tests/listings/`: what a server sends, and what must come out of it.
//!
//! The samples are text files, one per family of servers. A line that starts with `##` begins a listing and says whose it
//! is and how that is known; `<` is a line from the server, and the `=` below it what must come of it:
//!
//! ```text
//! ## vsftpd 3.0.3: measured
//! format: list            (or mlsd)
//! now: 20261121120000     (the clock; UTC)
//! zone: +25200            (seconds; only where the server's is known)
//! end: lf                 (line ends; CR LF otherwise)
//! < -rw-r--r--    1 joe      users           6 Nov 21 06:09 recent
//! = file 6 20261121060900m 0644 recent
//! < total 8
//! = nothing
//! < ls: cannot access 'x': Permission denied
//! = unparsed
//! ```
//!
//! An entry is its kind, size, time in UTC (with `s`, `m` or `d` for the precision), mode, name, and ` => ` target; `-`
//! stands for what the server does not tell. `\xNN`, `\t` and `\\` are escapes, on both sides.

#[path = "../src/queue/dice.rs"]
mod dice;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use dice::Dice;
use ftpfs::ftp::listing::{Entry, Format, Kind, Listing, Parser, Precision, Zone, parse_time};

#[test]
fn every_sample_gives_what_its_file_says() {
    let mut lines = 0;
    for file in files() {
        for sample in samples(&file) {
            lines += sample.input.len();
            let listing = sample.parse(usize::MAX);
            assert_eq!(actual(&listing), sample.expected(), "{}: {}", file.display(), sample.title);
        }
    }
    assert!(lines >= 200, "the corpus has shrunk to {lines} lines");
}

#[test]
fn every_line_alone_gives_what_it_gives_among_others() {
    for file in files() {
        for sample in samples(&file).iter().filter(|sample| sample.lines_are_independent()) {
            for (line, expected) in sample.input.iter().zip(&sample.output) {
                let alone =
                    Sample { input: vec![line.clone()], output: vec![expected.clone()], ..sample.clone() };
                let listing = alone.parse(usize::MAX);
                assert_eq!(actual(&listing), alone.expected(), "{}: {}", file.display(), sample.title);
            }
        }
    }
}

#[test]
fn where_the_network_cuts_a_listing_changes_nothing() {
    for file in files() {
        for sample in samples(&file) {
            for size in [1, 2, 3, 7, 64] {
                assert_eq!(actual(&sample.parse(size)), sample.expected(), "{} by {size}", sample.title);
            }
        }
    }
}

#[test]
fn no_mutation_of_a_sample_breaks_a_parser() {
    // A fixed seed: a failure must come again. The budget keeps it to seconds; fuzz/ goes further.
    let mut random = Dice(0x5eed_f7bf);
    let all: Vec<Sample> = files().iter().flat_map(|file| samples(file)).collect();
    for _ in 0..4_000 {
        let sample = &all[random.below(all.len())];
        let mut bytes = sample.bytes();
        for _ in 0..=random.below(4) {
            let at = random.below(bytes.len());
            match random.below(5) {
                0 => bytes[at] = random.below(256) as u8,
                1 => drop(bytes.remove(at)),
                2 => bytes.insert(at, b" -0;/:\t\r\n\0\xff"[random.below(11)]),
                3 => bytes.truncate(at.max(1)),
                _ => {
                    let other = all[random.below(all.len())].bytes();
                    let from = random.below(other.len());
                    bytes.splice(at..at, other[from..].iter().copied().take(40));
                }
            }
            if bytes.is_empty() {
                bytes.push(b'\n');
            }
        }
        let size = 1 + random.below(100);
        let whole = sample.parse_bytes(&bytes, usize::MAX);
        let pieces = sample.parse_bytes(&bytes, size);
        assert_eq!(actual(&whole), actual(&pieces), "{}", bytes.escape_ascii());
        for entry in &whole.entries {
            assert!(entry.mode.is_none_or(|mode| mode <= 0o7777));
        }
    }
}

#[test]
fn no_bytes_break_a_parser() {
    let mut random = Dice(0xb17e_5eed);
    for round in 0..2_000 {
        // Half of them from the alphabet of listings, so that more than the first column is reached.
        let alphabet: &[u8] = b"-rwxdl 0123456789:;,/+=.[]<>JanFebDIR*\t\r\n\xe6";
        let bytes: Vec<u8> = (0..random.below(400))
            .map(|_| {
                if round % 2 == 0 { random.below(256) as u8 } else { alphabet[random.below(alphabet.len())] }
            })
            .collect();
        for format in [Format::List, Format::Mlsd] {
            let mut whole = Parser::new(format);
            whole.push(&bytes);
            let mut pieces = Parser::new(format);
            bytes.chunks(1 + random.below(20)).for_each(|chunk| pieces.push(chunk));
            assert_eq!(actual(&whole.finish()), actual(&pieces.finish()), "{}", bytes.escape_ascii());
        }
    }
}

/// Writes the samples where the fuzzer looks for its first inputs (`fuzz/fuzz_targets/listing.rs`).
#[test]
#[ignore = "writes into fuzz/corpus"]
fn seeds_for_the_fuzzer() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/listing");
    fs::create_dir_all(&folder).expect("a folder for seeds");
    for (number, sample) in files().iter().flat_map(|file| samples(file)).enumerate() {
        let control = [u8::from(sample.format == Format::Mlsd), 63, 128];
        let bytes = [&control[..], &sample.bytes()].concat();
        fs::write(folder.join(format!("sample-{number:03}")), bytes).expect("a seed");
    }
}

/// How fast a folder of 10,000 names is read; run with `--release -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement, not a check"]
fn speed() {
    let vsftpd =
        |n| format!("-rw-r--r--    1 22001    22001    {n:>12} Nov 21 06:09 some-file-{n:05}.txt\r\n");
    let iis = |n| format!("04-14-12  03:47PM {n:>20} some-file-{n:05}.txt\r\n");
    let proftpd = |n| {
        format!(
            "modify=20261121075536;perm=adfrw;size={n};type=file;unique=FE00U{n:X};UNIX.group=22001;\
             UNIX.groupname=g;UNIX.mode=0644;UNIX.owner=22001;UNIX.ownername=joe; some-file-{n:05}.txt\r\n"
        )
    };
    let texts = [
        ("LIST, vsftpd", Format::List, (0..10_000).map(vsftpd).collect::<String>()),
        ("LIST, IIS", Format::List, (0..10_000).map(iis).collect()),
        ("MLSD, ProFTPD", Format::Mlsd, (0..10_000).map(proftpd).collect()),
    ];
    for (title, format, text) in texts {
        let mut best = std::time::Duration::MAX;
        for _ in 0..20 {
            let start = std::time::Instant::now();
            let mut parser = Parser::new(format);
            text.as_bytes().chunks(64 * 1024).for_each(|chunk| parser.push(chunk));
            assert_eq!(parser.finish().entries.len(), 10_000);
            best = best.min(start.elapsed());
        }
        println!(
            "{title}: 10,000 entries in {best:?}, {:.0} MB/s",
            text.len() as f64 / best.as_secs_f64() / 1e6
        );
    }
}

#[derive(Clone)]
struct Sample {
    title: String,
    format: Format,
    now: String,
    zone: Option<i64>,
    line_end: &'static [u8],
    input: Vec<Vec<u8>>,
    /// One for each line of the input.
    output: Vec<Vec<String>>,
}

impl Sample {
    fn bytes(&self) -> Vec<u8> {
        self.input.iter().flat_map(|line| [line, self.line_end].concat()).collect()
    }

    fn parse(&self, chunk: usize) -> Listing {
        self.parse_bytes(&self.bytes(), chunk)
    }

    fn parse_bytes(&self, bytes: &[u8], chunk: usize) -> Listing {
        let now = parse_time(self.now.as_bytes()).expect("now");
        let mut parser = Parser::with_clock(self.format, now, self.zone.map(Zone::Fixed));
        bytes.chunks(chunk).for_each(|chunk| parser.push(chunk));
        parser.finish()
    }

    fn expected(&self) -> (Vec<String>, usize) {
        let (unparsed, entries): (Vec<String>, Vec<String>) = self
            .output
            .iter()
            .flatten()
            .filter(|line| *line != "nothing")
            .cloned()
            .partition(|line| line == "unparsed");
        (entries, unparsed.len())
    }

    /// Not where a header or the line before matters, or a name comes twice.
    fn lines_are_independent(&self) -> bool {
        let text = self.title.as_str();
        !text.contains("(together)")
    }
}

fn actual(listing: &Listing) -> (Vec<String>, usize) {
    (listing.entries.iter().map(shown).collect(), listing.unparsed)
}

fn shown(entry: &Entry) -> String {
    let kind = match entry.kind {
        Kind::File => "file",
        Kind::Directory => "dir",
        Kind::Symlink => "link",
        Kind::Special => "special",
    };
    let size = entry.size.map_or("-".into(), |size| size.to_string());
    let time = entry.modified.map_or("-".into(), |modified| {
        let precision = match modified.precision {
            Precision::Second => "s",
            Precision::Minute => "m",
            Precision::Day => "d",
        };
        let seconds = match modified.at.duration_since(UNIX_EPOCH) {
            Ok(after) => after.as_secs() as i64,
            Err(before) => -(before.duration().as_secs() as i64),
        };
        format!("{}{precision}", calendar(seconds))
    });
    let mode = entry.mode.map_or("-".into(), |mode| format!("{mode:04o}"));
    let mut line = format!("{kind} {size} {time} {mode} {}", escape(entry.name.as_bytes()));
    if let Some(target) = &entry.target {
        line += &format!(" => {}", escape(target));
    }
    line
}

/// `YYYYMMDDHHMMSS`, counted up from 1 January 1900 year by year: slow, simple, and not the code under test.
fn calendar(seconds: i64) -> String {
    let (mut day, second) = (seconds.div_euclid(86_400) + 25_567, seconds.rem_euclid(86_400));
    let mut year = 1900;
    let is_leap = |year: i64| year % 4 == 0 && year % 100 != 0 || year % 400 == 0;
    while day >= 365 + i64::from(is_leap(year)) {
        day -= 365 + i64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + i64::from(is_leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if day < length {
            break;
        }
        day -= length;
        month += 1;
    }
    format!("{year:04}{month:02}{:02}{:02}{:02}{:02}", day + 1, second / 3600, second / 60 % 60, second % 60)
}

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/listings");
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder).expect("the corpus").map(|entry| entry.expect("a sample").path()).collect();
    files.sort();
    files
}

fn samples(file: &Path) -> Vec<Sample> {
    let text = fs::read_to_string(file).expect("a sample is UTF-8");
    let mut samples: Vec<Sample> = Vec::new();
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            samples.push(Sample {
                title: title.into(),
                format: Format::List,
                now: "20261121120000".into(),
                zone: None,
                line_end: b"\r\n",
                input: Vec::new(),
                output: Vec::new(),
            });
            continue;
        }
        let Some(sample) = samples.last_mut() else { continue };
        if let Some(input) = line.strip_prefix("< ") {
            sample.input.push(unescape(input));
            sample.output.push(Vec::new());
        } else if line == "<" {
            sample.input.push(Vec::new());
            sample.output.push(vec!["nothing".into()]);
        } else if let Some(output) = line.strip_prefix("= ") {
            sample.output.last_mut().expect("a line above its result").push(output.into());
        } else if let Some((key, value)) = line.split_once(": ") {
            match (key, value) {
                ("format", "mlsd") => sample.format = Format::Mlsd,
                ("format", "list") => sample.format = Format::List,
                ("now", now) => sample.now = now.into(),
                ("zone", zone) => sample.zone = Some(zone.parse().expect("a zone in seconds")),
                ("end", "lf") => sample.line_end = b"\n",
                ("end", "crcrlf") => sample.line_end = b"\r\r\n",
                _ => panic!("{}: {line}", file.display()),
            }
        } else {
            assert!(line.is_empty() || line.starts_with("# "), "{}: {line}", file.display());
        }
    }
    samples
}

fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let (byte, length) = match (byte, after.first()) {
            (b'\\', Some(b'x')) => {
                (u8::from_str_radix(str::from_utf8(&after[1..3]).expect("hex"), 16).expect("hex"), 3)
            }
            (b'\\', Some(b't')) => (b'\t', 1),
            (b'\\', Some(b'\\')) => (b'\\', 1),
            (byte, _) => (byte, 0),
        };
        bytes.push(byte);
        rest = &after[length..];
    }
    bytes
}

/// The inverse, where only valid UTF-8 and inner blanks stand for themselves.
fn escape(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        for letter in chunk.valid().chars() {
            match letter {
                '\\' => text += "\\\\",
                '\t' => text += "\\t",
                letter if letter.is_control() => text += &format!("\\x{:02x}", u32::from(letter)),
                letter => text.push(letter),
            }
        }
        for byte in chunk.invalid() {
            text += &format!("\\x{byte:02x}");
        }
    }
    // Blanks at either end are easily lost in a text file.
    if let Some(rest) = text.strip_prefix(' ') {
        text = format!("\\x20{rest}");
    }
    if let Some(rest) = text.strip_suffix(' ') {
        text = format!("{rest}\\x20");
    }
    text
}
