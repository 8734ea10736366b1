//! The fuzzer's targets on a stable compiler: the same bodies (`fuzz/bodies`), over what was found before and over what seeded mutation
//! makes of it. Bounded by count, so that it takes the same time and does the same everywhere; `FTPFS_FUZZ_ROUNDS` makes it longer.
//! The long form, which looks for new paths through the code, is `cargo fuzz` (see `fuzz/fuzz_targets`); what it finds is kept in
//! `fuzz/found`, and so found here for ever.

use std::fs;
use std::path::{Path, PathBuf};

#[path = "../fuzz/bodies/block.rs"]
mod block;
#[path = "../src/queue/dice.rs"]
mod dice;
#[path = "../fuzz/bodies/journal.rs"]
mod journal;
#[path = "../fuzz/bodies/listing.rs"]
mod listing;
#[path = "../fuzz/bodies/name.rs"]
mod name;
#[path = "../fuzz/bodies/options.rs"]
mod options;
#[path = "../fuzz/bodies/reply.rs"]
mod reply;
#[path = "../fuzz/bodies/url.rs"]
mod url;

use dice::Dice;

#[test]
fn any_bytes_as_replies() {
    let mut seeds = corpus("reply");
    // The first byte says how they are cut.
    seeds.extend(REPLIES.iter().map(|text| [&[7], text.as_bytes()].concat()));
    check(seeds, "reply.dict", reply::run);
}

#[test]
fn any_bytes_as_listings_of_every_dialect() {
    let mut seeds = corpus("listing");
    // The measured lines of every dialect: format, how they are cut, zone.
    for entry in fs::read_dir(here("tests/listings")).expect("the samples").flatten() {
        let text = fs::read_to_string(entry.path()).expect("a sample");
        let lines: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("< ")).collect();
        for lines in lines.chunks(4) {
            let bytes = (lines.join("\r\n") + "\r\n").into_bytes();
            seeds.extend([0, 1].map(|format| [&[format, 63, 128], &bytes[..]].concat()));
        }
    }
    assert!(seeds.len() > 200, "the samples are not where they were");
    check(seeds, "listing.dict", listing::run);
}

#[test]
fn any_text_as_what_to_mount() {
    let mut seeds = corpus("url");
    seeds.extend(SOURCES.iter().map(|text| text.as_bytes().to_vec()));
    check(seeds, "", url::run);
}

#[test]
fn any_text_as_options() {
    let mut seeds = corpus("options");
    seeds.extend(OPTIONS.iter().map(|text| text.as_bytes().to_vec()));
    check_some(seeds, "", 6, options::run);
}

#[test]
fn any_bytes_as_a_journal() {
    let mut seeds = corpus("journal");
    seeds.push(vec![0; 100]);
    seeds.push(RECORD.as_bytes().to_vec());
    check(seeds, "", journal::run);
}

#[test]
fn any_bytes_as_a_block_of_the_disk_cache() {
    let mut seeds = corpus("block");
    seeds.extend([vec![0; 100], b"17\n".to_vec()]);
    check(seeds, "", block::run);
}

#[test]
fn any_bytes_as_names() {
    let mut seeds = corpus("name");
    seeds.extend(NAMES.iter().map(|text| text.as_bytes().to_vec()));
    seeds.extend([b"\xd6\xd0\xce\xc4.txt".to_vec(), b"\x95\x5c\x8e\xa6".to_vec(), b"\xff\xf4".to_vec()]);
    check(seeds, "", name::run);
}

fn check(seeds: Vec<Vec<u8>>, dictionary: &str, body: fn(&[u8])) {
    check_some(seeds, dictionary, 1, body);
}

/// As [`check`], with so many times fewer inputs: where each takes long.
fn check_some(mut seeds: Vec<Vec<u8>>, dictionary: &str, fewer: usize, body: fn(&[u8])) {
    seeds.sort();
    let words = words(dictionary);
    let rounds = std::env::var("FTPFS_FUZZ_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(ROUNDS);
    for seed in &seeds {
        run(body, seed);
    }
    let mut dice = Dice(0x5EED_0F7F_F5AB_CDEF);
    for _ in 0..rounds / fewer {
        let mut bytes = seeds.get(dice.below(seeds.len())).cloned().unwrap_or_default();
        for _ in 0..=dice.below(6) {
            mutate(&mut bytes, &seeds, &words, &mut dice);
        }
        bytes.truncate(LONGEST);
        run(body, &bytes);
    }
}

/// A panic names the input, so that it can go into the corpus.
fn run(body: fn(&[u8]), bytes: &[u8]) {
    if let Err(panic) = std::panic::catch_unwind(|| body(bytes)) {
        eprintln!("--- found by: b\"{}\"", bytes.escape_ascii());
        std::panic::resume_unwind(panic);
    }
}

fn mutate(bytes: &mut Vec<u8>, seeds: &[Vec<u8>], words: &[Vec<u8>], dice: &mut Dice) {
    let at = dice.below(bytes.len() + 1);
    let length = dice.below(16).min(bytes.len() - at);
    match dice.below(8) {
        0 if at < bytes.len() => bytes[at] ^= 1 << dice.below(8),
        1 if at < bytes.len() => bytes[at] = SPECIAL[dice.below(SPECIAL.len())],
        2 => bytes.insert(at, SPECIAL[dice.below(SPECIAL.len())]),
        3 => drop(bytes.drain(at..at + length)),
        4 => {
            let copy = bytes[at..at + length].to_vec();
            let to = dice.below(bytes.len() + 1);
            bytes.splice(to..to, copy);
        }
        5 if !words.is_empty() => {
            let word = words[dice.below(words.len())].clone();
            bytes.splice(at..at, word);
        }
        6 => {
            let other = &seeds[dice.below(seeds.len())];
            let from = dice.below(other.len() + 1);
            bytes.truncate(at);
            bytes.extend(&other[from..]);
        }
        // A number where there was one.
        _ => {
            if let Some(digit) = bytes.iter().skip(at).position(u8::is_ascii_digit) {
                let number = NUMBERS[dice.below(NUMBERS.len())];
                bytes.splice(at + digit..=at + digit, number.bytes());
            }
        }
    }
}

/// What was found before, and what is worth beginning with.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let files = fs::read_dir(here("fuzz/found").join(target)).into_iter().flatten().flatten();
    files.filter_map(|entry| fs::read(entry.path()).ok()).collect()
}

/// The words of a libFuzzer dictionary: `name="text"`, with `\xNN`, `\\` and `\"`.
fn words(dictionary: &str) -> Vec<Vec<u8>> {
    let text = fs::read_to_string(here("fuzz").join(dictionary)).unwrap_or_default();
    let quoted = text.lines().filter_map(|line| line.split_once('"')?.1.rsplit_once('"'));
    quoted.map(|(word, _)| unescape(word)).collect()
}

fn unescape(word: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = word.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'\\' {
            bytes.push(byte);
        } else if let Some(hex) = tail.strip_prefix(b"x").and_then(|hex| hex.get(..2)) {
            bytes.extend(std::str::from_utf8(hex).ok().and_then(|hex| u8::from_str_radix(hex, 16).ok()));
            rest = &tail[3..];
        } else if let Some((&next, tail)) = tail.split_first() {
            bytes.push(next);
            rest = tail;
        }
    }
    bytes
}

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Inputs per target: about two seconds each in a debug build.
const ROUNDS: usize = 3_000;
const LONGEST: usize = 4_096;
const SPECIAL: &[u8] = b"\0\r\n\t \"'(),-./0129:;=<>@AZ[\\]_az|~\x7f\x80\xbf\xc3\xe2\xf0\xfe\xff";
const NUMBERS: [&str; 9] = [
    "-1",
    "0",
    "00000000000000",
    "99999999999999",
    "2147483648",
    "9223372036854775808",
    "18446744073709551616",
    "0x10",
    "1e9",
];
const REPLIES: [&str; 9] = [
    "220-Welcome\r\n to this\r\n220 server\r\n331 Password\r\n230 In.\r\n",
    "211-Features:\r\n EPSV\r\n MLST type*;size*;modify*;UNIX.mode*;\r\n REST STREAM\r\n TVFS\r\n UTF8\r\n211 End\r\n",
    "229 Entering Extended Passive Mode (|||34567|)\r\n227 Entering Passive Mode (127,0,0,1,130,5).\r\n",
    "257 \"/home/joe \"\"x\"\"\" is the current directory\r\n",
    "150 Opening\r\n226 Done\r\n421 Too many users\r\n",
    "213 20260102030405\r\n213 123456789\r\n",
    "250-Listing\r\n type=file;size=5;modify=20260102030405; /a b\r\n250 End\r\n",
    "550 a: No such file or directory\r\n552 Quota exceeded\r\n",
    "350 Ready.\r\n500 'RNTO': command not understood.\r\n",
];
const SOURCES: [&str; 12] = [
    "ftp://host/",
    "ftp://joe:s%40crit@host.example:2121/a%20folder/;type=i",
    "ftps://[2001:db8::1]:990/x",
    "ftpes://joe@host/~/home",
    "joe@host:folder",
    "host:",
    "[::1]:/x",
    "ftp://a:b@c:d@e/f",
    "ftp://%00@host/%0d%0a",
    "ftp://host:0/",
    "ftp://host:99999/",
    "ftp://user@:21/",
];
const OPTIONS: [&str; 9] = [
    "ro,uid=0,gid=root,umask=077,file_mode=640,cache_size=1M,attr_timeout=2.5,max_conns=3",
    "password=a\\,b,account=x,user=joe:pw",
    "credentials=/etc/a\\,b,port=21,timeout=1e9,ssl_try,pin=00",
    "active,active_ports=50000-50100,active_address=1.2.3.4,tz=+05:30",
    "codepage=gbk,custom_list=LIST -la,x-systemd.automount,comment=x",
    "soft,hard,spool_size=1T,proxy=socks5://h:1",
    "cache_timeout=-1,attr_timeout=nan,dir_timeout=inf",
    "username=DOM\\joe,pass=x,tls=try",
    "=,,=x,\\",
];
const RECORD: &str = "ftpfs-record 1\nserver: ftp://joe@host:21\nroot: /home\npath: /home/100%25/a b\nsize: 300\nat: 1763730000.000000005\n\
                      below: 120 90 -1.999000000\nmodified: 0.000000000\nmode: 640\nreason: 552 Quota\nbytes: 5-10\nbytes: 100-300\nturn: 3\n";
const NAMES: [&str; 10] =
    ["a", "..", ".", "", "/", "a/b/../c", "//a//./b/", "/../../x", "a\r\nDELE x", "x\u{301}"];
