//! Files that a server does not tell the size of, and servers that cannot begin in the middle of a file.

#[allow(dead_code, unused_imports, reason = "each test binary uses its own part of the harness")]
mod harness;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use harness::Scripted;
use harness::scripted::{DataEnd, Fault, Options, Rule, Then};

#[test]
fn a_file_of_unknown_size_is_read_to_the_end_of_its_transfer() {
    let at = Scripted::without_sizes();
    at.sh("cmp stream $served/stream && cat stream | cmp - $served/stream && cp stream ../copy && cmp ../copy $served/stream");
    at.sh(
        "head -c 1000000 stream | cmp -n 1000000 - $served/stream; test $(tail -c 100 stream | wc -c) = 100",
    );
    at.ok(
        "cp empty ../empty && test ! -s ../empty && cat small small | tr -d '\\n' | grep -q '^smallsmall$'",
    );
    let file = File::open(at.path("stream")).unwrap();
    let mut block = [0; 5000];
    for offset in [2_500_000, 7, 1_234_567] {
        file.read_exact_at(&mut block, offset).unwrap();
        assert_eq!(block, content()[offset as usize..][..5000]);
    }
    assert_eq!(file.read_at(&mut block, content().len() as u64 - 10).unwrap(), 10);
    assert_eq!(file.read_at(&mut block, content().len() as u64 + 10).unwrap(), 0);
}

#[test]
fn a_file_of_unknown_size_that_has_changed_is_read_anew() {
    let at = Scripted::without_sizes();
    assert_eq!(at.ok("cat small"), "small\n");
    fs::write(at.server.root().join("small"), "a longer one\n").unwrap();
    assert_eq!(at.ok("cat small"), "a longer one\n");
}

#[test]
fn a_transfer_that_breaks_is_no_end_of_a_file_of_unknown_size() {
    let at = Scripted::without_sizes();
    let broken = |times| {
        let then = Then::Reply("426 Connection closed; transfer aborted.".into());
        let fault = Fault::Data { after: 1_000_001, end: DataEnd::Closed, then };
        at.server.faults().add(Rule::on("RETR").times(times).act(fault));
    };
    broken(1);
    at.sh("cmp stream $served/stream");
    at.server.faults().clear();
    at.lists_no_sizes();
    let then = Then::Reply("451 Local error.".into());
    let fault = Fault::Data { after: 0, end: DataEnd::Closed, then };
    at.server.faults().add(Rule::on("RETR").act(fault));
    at.ok("! cat stream > ../out && test ! -s ../out");
}

#[test]
fn a_file_of_unknown_size_is_replaced_but_not_changed_in_part() {
    let at = Scripted::without_sizes();
    at.ok("! sh -c 'echo more >> small' && ! truncate -s 3 small && cat small | grep -q small");
    assert_eq!(fs::read(at.server.root().join("small")).unwrap(), b"small\n");
    // An upload is confirmed by its size: from here on listings tell it.
    at.server.faults().clear();
    at.ok("echo new > small");
    assert_eq!(fs::read(at.server.root().join("small")).unwrap(), b"new\n");
    at.ok(": > stream");
    assert_eq!(fs::read(at.server.root().join("stream")).unwrap(), b"");
}

#[test]
fn without_rest_one_transfer_serves_whoever_comes_forward() {
    let at = Scripted::without(&["REST"]);
    let file = File::open(at.path("stream")).unwrap();
    nix::fcntl::posix_fadvise(&file, 0, 0, nix::fcntl::PosixFadviseAdvice::POSIX_FADV_RANDOM).unwrap();
    let mut block = [0; 4096];
    // The first that begins in the middle finds out; what lies ahead of it comes with the same transfer as far as it lives.
    for offset in [100_000, 2_900_000, 8_000, 1_000_000, 2_800_000] {
        file.read_exact_at(&mut block, offset).unwrap();
        assert_eq!(block, content()[offset as usize..][..4096]);
    }
    at.sh("cmp stream $served/stream");
    let counters = at.server.counters();
    assert!(counters.of("RETR") <= 7, "{:?}", counters.now());
    assert!(counters.of("REST") <= 2, "it is asked no more: {:?}", counters.now());
}

impl Scripted {
    fn without(commands: &[&'static str]) -> Self {
        Self::prepared(Options { without: commands.to_vec(), ..Options::default() }, &[], |server| {
            server.put("stream", content());
            server.put("small", "small\n");
            server.put("empty", "");
        })
    }

    fn without_sizes() -> Self {
        let at = Self::without(&["SIZE", "MLSD", "MLST"]);
        at.lists_no_sizes();
        at
    }

    /// EPLF, without the fact that tells the size.
    fn lists_no_sizes(&self) {
        let line = |name| format!("+i8388621.{name},m824255902,r,\t{name}\r\n");
        let listing = ["stream", "small", "empty"].map(line).concat();
        self.server.faults().add(Rule::on("LIST").act(Fault::Content(listing.into_bytes())));
    }

    /// Runs a script that knows the folder on the server as `$served`.
    fn sh(&self, script: &str) -> String {
        self.ok(&format!("served={}; {script}", self.root().display()))
    }
}

fn content() -> Vec<u8> {
    (0..3_000_000u32).map(|i| (i / 7 + i / 4096) as u8).collect()
}
