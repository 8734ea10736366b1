//! The round-trip budgets on real servers: what an operation in a mount makes its caller wait for, and what goes over the line.
//!
//! ```text
//! cargo test --test budgets -- --nocapture
//! ```
//!
//! A relay stands between mount and server and makes the line 60 ms long. *Turns* are counted: how often the client spoke after
//! the server had, those included that nobody waits for (a transfer uses up the connection that was kept ready, and one turn
//! makes the next). They are what is asserted. *Waited* is the caller's time in round trips of the line, for the table. One
//! session only, so that nothing is done ahead on another.

#[allow(dead_code, unused_imports, reason = "each test binary uses its own part of the harness")]
mod harness;

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use harness::{Kind, Mount, Relay, Server};

#[test]
fn each_operation_keeps_to_its_budget_on_the_three_servers() {
    let mut columns = Vec::new();
    std::thread::scope(|scope| {
        let running: Vec<_> = [Kind::Vsftpd, Kind::Proftpd, Kind::PureFtpd]
            .into_iter()
            .map(|kind| (kind, scope.spawn(move || Some(costs(&Server::start(kind)?)))))
            .collect();
        for (kind, thread) in running {
            match thread.join() {
                Ok(Some(costs)) => columns.push((kind, costs)),
                Ok(None) => {}
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    let mut table = format!("{:<44}{:>8}", "waited (turns)", "budget");
    for (kind, _) in &columns {
        let _ = write!(table, "{:>14}", format!("{kind:?}"));
    }
    let mut wrong = Vec::new();
    for (number, operation) in OPERATIONS.iter().enumerate() {
        let _ = write!(table, "\n{:<44}{:>8}", operation.name, operation.budget);
        for (kind, costs) in &columns {
            let Cost { waited, turns } = costs[number];
            let _ = write!(table, "{:>14}", format!("{waited:.1} ({turns})"));
            let allowed = operation.allowed(*kind);
            if turns > allowed {
                wrong.push(format!("{kind:?}: {}: {turns} turns, {allowed} allowed", operation.name));
            }
        }
    }
    eprintln!("{table}");
    assert!(wrong.is_empty(), "{wrong:#?}\n{table}");
}

/// One row.
struct Operation {
    name: &'static str,
    /// Round trips that the caller may wait for.
    budget: u64,
    /// Whether it uses a data connection: one more turn makes the next one ready.
    has_data: bool,
    action: fn(&Path),
}

impl Operation {
    fn allowed(&self, kind: Kind) -> u64 {
        let budget = match (self.name, kind) {
            // It has LIST only, which tells minutes: MDTM for all names goes out in one segment behind it.
            (LIST | FIRST, Kind::Vsftpd) => 2,
            // The kernel's first requests come in any order: now and then the second one starts a transfer of its own.
            (WHOLE, _) => 3,
            // It takes commands behind STOR for ABOR: SIZE and MDTM go out after the 226.
            (NEW | APPEND, Kind::PureFtpd) => 2,
            // It refuses to append to what is there (AllowStoreRestart): the file is fetched, stored beside and renamed.
            (APPEND, Kind::Proftpd) => 4,
            _ => self.budget,
        };
        budget + u64::from(self.has_data)
    }
}

const LIST: &str = "cold ls -l of a folder";
const FIRST: &str = "first name in a folder never listed";
const WHOLE: &str = "1 MiB in one piece";
const NEW: &str = "small new file: create, write, close";
const APPEND: &str = "append to a file of 1 MiB";

const OPERATIONS: &[Operation] = &[
    Operation {
        name: "cold ls of a folder",
        budget: 1,
        has_data: true,
        action: |at| assert_eq!(fs::read_dir(at.join("names")).unwrap().count(), 20),
    },
    Operation { name: LIST, budget: 1, has_data: true, action: |at| list(&at.join("cold")) },
    Operation { name: "ls -l of it again", budget: 0, has_data: false, action: |at| list(&at.join("cold")) },
    Operation {
        name: "stat of a name in it",
        budget: 0,
        has_data: false,
        action: |at| stat(&at.join("cold/f7")),
    },
    Operation {
        name: "a missing name in it",
        budget: 0,
        has_data: false,
        action: |at| assert!(!at.join("cold/none").exists()),
    },
    Operation { name: FIRST, budget: 1, has_data: true, action: |at| stat(&at.join("unseen/f3")) },
    Operation {
        name: "cold read of a small file",
        budget: 1,
        has_data: true,
        action: |at| assert_eq!(fs::read(at.join("cold/f5")).unwrap(), b"small"),
    },
    Operation {
        name: "that file again",
        budget: 0,
        has_data: false,
        action: |at| assert_eq!(fs::read(at.join("cold/f5")).unwrap(), b"small"),
    },
    Operation {
        name: WHOLE,
        budget: 1,
        has_data: true,
        action: |at| {
            assert_eq!(fs::read(at.join("one")).unwrap().len(), 1 << 20);
        },
    },
    Operation {
        name: "10 bytes in the middle of 1 MiB",
        budget: 1,
        has_data: true,
        action: |at| {
            let mut bytes = [0; 10];
            File::open(at.join("other")).unwrap().read_exact_at(&mut bytes, 777_777).unwrap();
        },
    },
    Operation {
        name: "mkdir",
        budget: 1,
        has_data: false,
        action: |at| fs::create_dir(at.join("made")).unwrap(),
    },
    Operation {
        name: "rmdir",
        budget: 1,
        has_data: false,
        action: |at| fs::remove_dir(at.join("made")).unwrap(),
    },
    Operation {
        name: "rename",
        budget: 1,
        has_data: false,
        action: |at| fs::rename(at.join("cold/f1"), at.join("cold/new")).unwrap(),
    },
    Operation {
        name: "unlink",
        budget: 1,
        has_data: false,
        action: |at| fs::remove_file(at.join("cold/new")).unwrap(),
    },
    Operation {
        name: "chmod",
        budget: 1,
        has_data: false,
        action: |at| {
            fs::set_permissions(at.join("cold/f2"), fs::Permissions::from_mode(0o600)).unwrap();
        },
    },
    Operation {
        name: NEW,
        budget: 1,
        has_data: true,
        action: |at| {
            let mut file = File::create(at.join("fresh")).unwrap();
            file.write_all(b"content").unwrap();
            nix::unistd::close(file).unwrap();
        },
    },
    Operation {
        name: "utimens",
        budget: 1,
        has_data: false,
        action: |at| {
            let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_500_000_001);
            File::open(at.join("cold/f3")).unwrap().set_modified(then).unwrap();
        },
    },
    Operation {
        name: APPEND,
        budget: 1,
        has_data: true,
        action: |at| {
            let mut file = OpenOptions::new().append(true).open(at.join("log")).unwrap();
            file.write_all(b"one more line\n").unwrap();
            nix::unistd::close(file).unwrap();
        },
    },
];

#[derive(Clone, Copy)]
struct Cost {
    waited: f64,
    turns: u64,
}

fn costs(server: &Server) -> Vec<Cost> {
    for number in 0..20 {
        server.put(&format!("cold/f{number}"), "small");
        server.put(&format!("unseen/f{number}"), "small");
        server.put(&format!("names/f{number}"), "small");
    }
    for name in ["one", "other", "log"] {
        server.put(name, vec![7; 1 << 20]);
    }
    // What is learned once per mount is learned before: whether the server appends, how it sets times.
    server.put("first", "x");
    let relay = Relay::new(server);
    let mount =
        Mount::new(&relay, &["max_conns=1", "attr_timeout=600", "dir_timeout=600", "negative_timeout=600"]);
    let at = mount.path();
    list(at);
    fs::write(at.join("warm"), "x").unwrap();
    let mut file = OpenOptions::new().append(true).open(at.join("first")).unwrap();
    file.write_all(b"y").unwrap();
    drop(file);
    relay.delay(ROUND_TRIP / 2);
    settle(&relay);
    let mut costs = Vec::new();
    for operation in OPERATIONS {
        relay.reset();
        let started = Instant::now();
        (operation.action)(at);
        let waited = started.elapsed().as_secs_f64() / ROUND_TRIP.as_secs_f64();
        settle(&relay);
        costs.push(Cost { waited, turns: relay.traffic().turns });
    }
    costs
}

fn list(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap() {
        entry.unwrap().metadata().unwrap();
    }
}

fn stat(path: &Path) {
    fs::metadata(path).unwrap();
}

/// Until nothing has gone over the line for a while: what is done behind an answer belongs to its cost.
fn settle(relay: &Relay) {
    let limit = Instant::now() + Duration::from_secs(20);
    let (mut last, mut since) = (relay.traffic(), Instant::now());
    while Instant::now() < limit && since.elapsed() < QUIET {
        std::thread::sleep(Duration::from_millis(10));
        if relay.traffic() != last {
            (last, since) = (relay.traffic(), Instant::now());
        }
    }
}

const ROUND_TRIP: Duration = Duration::from_millis(60);
/// Much longer than anything takes on this line.
const QUIET: Duration = Duration::from_millis(500);
