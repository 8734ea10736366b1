//! Round trips are the budget: what an operation costs on the wire, counted by a relay and by the scripted server, not timed.
//!
//! One session only (`max_conns=1`), so that nothing that other connections do ahead of time is counted.

#[allow(dead_code, unused_imports, reason = "each test binary uses its own part of the harness")]
mod harness;

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use harness::relay::Traffic;
use harness::scratch::Scratch;
use harness::scripted::counters::Counts;
use harness::scripted::{Options, Server};
use harness::{Mount, Relay, shell};

#[test]
fn ls_l_of_a_thousand_files_is_one_listing() {
    for without in [vec![], vec!["MLSD", "MLST"]] {
        let line = Line::with(Options { without: without.clone(), ..Options::default() }, |root| {
            for number in 0..1000 {
                fs::write(root.join(format!("file{number}")), vec![b'x'; number]).unwrap();
            }
        });
        let cost = line.cost(|| assert_eq!(line.ok("ls -l | wc -l").trim(), "1001"));
        assert_eq!(cost.of(&["MLSD", "LIST"]), 1, "{cost:?}");
        // LIST tells minutes; somebody who stats every file gets seconds, asked for in full segments.
        let (questions, turns) = if without.is_empty() { (0, 3) } else { (1001, 30) };
        assert!(cost.of(&["SIZE", "MDTM", "MLST", "CWD"]) <= questions, "{cost:?}");
        assert!(cost.traffic.turns <= turns, "{cost:?}");
        let cost = line.cost(|| assert_eq!(line.ok("ls -l | wc -l").trim(), "1001"));
        assert_eq!(cost.counts.commands.len(), 0, "the second time: {cost:?}");
        let cost = line.cost(|| {
            line.ok("stat file7 file8 file9; test -e file10; test -e none; find . -name 'x*'");
        });
        assert_eq!(cost.counts.commands.len(), 0, "all names are known: {cost:?}");
    }
}

#[test]
fn names_in_one_folder_are_looked_up_with_one_listing() {
    let line = Line::new(|root| {
        fs::create_dir(root.join("folder")).unwrap();
        for number in 0..50 {
            fs::write(root.join(format!("folder/file{number}")), "x").unwrap();
        }
    });
    let cost = line.cost(|| {
        line.ok(
            "for i in $(seq 0 49); do stat folder/file$i & done > ../out; wait; ls folder/none 2>&1 || true",
        );
    });
    assert!(cost.of(&["MLSD", "LIST"]) <= 2, "the root and the folder: {cost:?}");
    assert_eq!(cost.of(&["SIZE", "MDTM", "MLST"]), 0, "{cost:?}");
}

#[test]
fn every_folder_of_a_tree_is_listed_once() {
    let line = Line::new(|root| {
        for number in 0..20 {
            fs::create_dir_all(root.join(format!("a{}/b{number}", number % 4))).unwrap();
            fs::write(root.join(format!("a{}/b{number}/file", number % 4)), "x").unwrap();
        }
    });
    let cost = line.cost(|| assert_eq!(line.ok("find . -type f | wc -l").trim(), "20"));
    assert_eq!(cost.of(&["MLSD", "LIST"]), 1 + 4 + 20, "{cost:?}");
    assert_eq!(cost.of(&["SIZE", "MDTM", "MLST"]), 0, "{cost:?}");
}

#[test]
fn a_small_file_is_read_in_one_round_trip_on_a_ready_connection() {
    let line = Line::new(|root| {
        for name in ["first", "second"] {
            fs::write(root.join(name), "a small file\n").unwrap();
        }
    });
    line.ok("ls -l");
    line.settle();
    let cost = line.cost(|| assert_eq!(line.ok("cat second"), "a small file\n"));
    assert_eq!(cost.of(&["RETR"]), 1, "{cost:?}");
    assert_eq!(cost.of(&["SIZE", "MDTM", "MLST", "MLSD", "LIST", "CWD", "TYPE"]), 0, "{cost:?}");
    // One for the file, one to make the connection ready again, which nobody waits for.
    assert!(cost.traffic.turns <= 2, "{cost:?}");
    let cost = line.cost(|| assert_eq!(line.ok("cat second"), "a small file\n"));
    assert_eq!(cost.of(&["RETR"]), 0, "the second time: {cost:?}");
}

#[test]
fn a_big_file_is_one_transfer() {
    let line = Line::new(|root| fs::write(root.join("big"), vec![7; 8 << 20]).unwrap());
    line.ok("ls -l");
    let cost = line.cost(|| assert_eq!(line.ok("wc -c < big").trim(), "8388608"));
    assert!(cost.of(&["RETR"]) <= 1, "{cost:?}");
    let cost = line.cost(|| assert_eq!(line.ok("cat big | wc -c").trim(), "8388608"));
    assert_eq!(cost.of(&["RETR"]), 1, "{cost:?}");
    assert!(cost.counts.bytes_sent < 9 << 20, "every byte once: {cost:?}");
}

#[test]
fn reads_here_and_there_are_one_transfer_each() {
    let line = Line::new(|root| {
        let file = File::create(root.join("big")).unwrap();
        file.set_len(200 << 20).unwrap();
    });
    line.ok("ls -l");
    let file = File::open(line.path("big")).unwrap();
    let cost = line.cost(|| {
        for step in 0..20u64 {
            let mut block = vec![1; 64 << 10];
            file.read_exact_at(&mut block, (step * 7 + 3) % 20 * (10 << 20)).unwrap();
        }
    });
    // Bytes are no measure here: what the server had sent when it learned that nobody wants more sits in socket buffers.
    assert!(cost.of(&["RETR"]) <= 25, "{cost:?}");
    assert_eq!(cost.of(&["PASS"]), 0, "no session was given up for it: {cost:?}");
}

#[test]
fn changes_of_names_cost_one_round_trip_each() {
    let line = Line::new(|root| {
        fs::create_dir(root.join("gone")).unwrap();
        for name in ["doomed", "old", "mode"] {
            fs::write(root.join(name), "x").unwrap();
        }
    });
    line.ok("ls -l; ls -l gone");
    line.settle();
    let one = |what: &str, verbs: &[&str], action: &dyn Fn()| {
        let cost = line.cost(action);
        assert_eq!(cost.of(verbs), verbs.len() as u64, "{what}: {cost:?}");
        assert_eq!(cost.counts.commands.values().sum::<u64>(), verbs.len() as u64, "{what}: {cost:?}");
        // A server that is not recognised gets RNTO only after the answer to RNFR.
        assert!(cost.traffic.turns <= verbs.len() as u64, "{what}: {cost:?}");
    };
    one("mkdir", &["MKD"], &|| fs::create_dir(line.path("new")).unwrap());
    one("rmdir", &["RMD"], &|| fs::remove_dir(line.path("gone")).unwrap());
    one("unlink", &["DELE"], &|| fs::remove_file(line.path("doomed")).unwrap());
    one("rename", &["RNFR", "RNTO"], &|| fs::rename(line.path("old"), line.path("young")).unwrap());
    one("chmod", &["SITE"], &|| {
        fs::set_permissions(line.path("mode"), fs::Permissions::from_mode(0o600)).unwrap();
    });
    one("utimens", &["MFMT"], &|| {
        let time = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_500_000_000);
        let times =
            nix::sys::time::TimeSpec::from_duration(time.duration_since(std::time::UNIX_EPOCH).unwrap());
        nix::sys::stat::utimensat(
            nix::fcntl::AT_FDCWD,
            &line.path("mode"),
            &times,
            &times,
            nix::sys::stat::UtimensatFlags::FollowSymlink,
        )
        .unwrap();
    });
}

#[test]
fn a_small_new_file_is_one_upload_and_few_round_trips() {
    let line = Line::new(|_| {});
    line.ok("ls -l; echo warm > up; cat up");
    line.settle();
    let cost = line.cost(|| fs::write(line.path("new"), "a small file\n").unwrap());
    assert_eq!(cost.of(&["STOR"]), 1, "{cost:?}");
    assert_eq!(cost.of(&["MLSD", "LIST", "RETR"]), 0, "{cost:?}");
    assert!(cost.traffic.turns <= 3, "{cost:?}");
    assert_eq!(fs::read(line.server.root().join("new")).unwrap(), b"a small file\n");
}

#[test]
fn an_append_sends_what_is_new_only() {
    let line = Line::new(|root| fs::write(root.join("log"), vec![b'x'; 4 << 20]).unwrap());
    line.ok("ls -l");
    let cost = line.cost(|| {
        let mut file = OpenOptions::new().append(true).open(line.path("log")).unwrap();
        file.write_all(b"one line more\n").unwrap();
    });
    assert_eq!(fs::metadata(line.server.root().join("log")).unwrap().len(), (4 << 20) + 14);
    assert!(cost.counts.bytes_received < 1000 && cost.counts.bytes_sent < 10_000, "{cost:?}");
}

#[test]
fn a_mount_that_nobody_uses_says_little() {
    let line = Line::new(|root| fs::write(root.join("file"), "x").unwrap());
    line.ok("ls -l; cat file");
    line.settle();
    let cost = line.cost(|| line.settle());
    assert_eq!(cost.counts.commands.len(), 0, "{cost:?}");
    assert_eq!(cost.counts.open, 1, "{cost:?}");
}

/// A scripted server behind a relay, mounted with one connection.
struct Line {
    mount: Mount,
    relay: Relay,
    server: Server,
    _served: Scratch,
}

/// What something cost.
#[derive(Debug)]
struct Cost {
    traffic: Traffic,
    counts: Counts,
}

impl Cost {
    fn of(&self, verbs: &[&str]) -> u64 {
        verbs.iter().map(|verb| self.counts.commands.get(*verb).copied().unwrap_or(0)).sum()
    }
}

impl Line {
    fn new(sample: impl FnOnce(&std::path::Path)) -> Self {
        Self::with(Options::default(), sample)
    }

    fn with(options: Options, sample: impl FnOnce(&std::path::Path)) -> Self {
        let served = Scratch::new("served");
        sample(served.path());
        let server = Server::start_with(served.path(), options).unwrap();
        let relay = Relay::new(&server);
        // What is known stays known, however long a busy machine takes.
        let known = ["max_conns=1", "attr_timeout=600", "dir_timeout=600", "negative_timeout=600"];
        let mount = Mount::new(&relay, &known);
        let line = Self { mount, relay, server, _served: served };
        line.settle();
        line
    }

    fn path(&self, name: &str) -> PathBuf {
        self.mount.path().join(name)
    }

    fn ok(&self, script: &str) -> String {
        shell::ok(self.mount.path(), script)
    }

    fn cost(&self, action: impl FnOnce()) -> Cost {
        self.server.counters().reset();
        self.relay.reset();
        action();
        self.settle();
        Cost { traffic: self.relay.traffic(), counts: self.server.counters().now() }
    }

    /// Until nothing has gone over the line for a while: what is done behind an answer belongs to its cost.
    fn settle(&self) {
        let limit = Instant::now() + Duration::from_secs(20);
        let (mut last, mut since) = (self.relay.traffic(), Instant::now());
        while Instant::now() < limit && since.elapsed() < QUIET {
            std::thread::sleep(Duration::from_millis(10));
            if self.relay.traffic() != last {
                (last, since) = (self.relay.traffic(), Instant::now());
            }
        }
    }
}

/// Much longer than anything takes on loopback.
const QUIET: Duration = Duration::from_millis(300);
