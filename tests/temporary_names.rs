//! Names that a mount gives beside a file: what somebody still wants stays, however long it takes and whatever the clocks say;
//! what a dead mount left goes; an old content is never taken away because it is old.

#[allow(dead_code, unused_imports, reason = "each test binary uses its own part of the harness")]
mod harness;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use harness::files::{close, date, names, store};
use harness::patience::eventually_within;
use harness::scratch::Scratch;
use harness::scripted::{self, Fault, Rule};
use harness::{Scripted, shell};

#[test]
fn what_a_mount_still_wants_stays_when_its_clock_says_that_it_is_old() {
    let clock = Clock::new();
    let at = clock.mounted(&["stream_from=64K"], |server| server.put("removed", "still read"));
    let content = vec![7; 1 << 20];
    let mut film = File::create(at.path("film")).unwrap();
    film.write_all(&content[..600_000]).unwrap();
    let is_streamed = || at.server.counters().now().bytes_received >= 600_000;
    eventually_within(PATIENCE, "it is uploaded while it is written", is_streamed);
    let mut removed = File::open(at.path("removed")).unwrap();
    fs::remove_file(at.path("removed")).unwrap();
    let before = names(at.root()).unwrap();
    assert_eq!(before.len(), 2, "{before:?}");
    clock.put_forward(30 * DAY);
    clean(&at, 30 * DAY);
    assert_eq!(names(at.root()).unwrap(), before);
    let mut read = String::new();
    removed.read_to_string(&mut read).unwrap();
    assert_eq!(read, "still read");
    film.write_all(&content[600_000..]).unwrap();
    close(film).unwrap();
    drop(removed);
    assert!(at.holds("film", &content));
    eventually_within(PATIENCE, "the removed file is gone", || names(at.root()).unwrap() == ["film"]);
}

#[test]
fn what_other_mounts_may_still_want_stays_and_what_nobody_can_want_goes() {
    let stays = [
        // Begun long ago, or by a slow clock, and bytes came yesterday.
        (foreign(9 * DAY), DAY),
        // Removed while it was open: its bytes are old, its name is not.
        (foreign(2 * DAY), 90 * DAY),
        // By a machine that has no clock.
        (".ftpfs-part-34630b8a000-9-0".to_owned(), 90 * DAY),
        (format!(".ftpfs-old-{:x}-9-0", stamp(90 * DAY)), 90 * DAY),
    ];
    let goes = foreign(10 * DAY);
    let at = Scripted::prepared(scripted::Options::default(), &["dir_timeout=0"], |server| {
        for (name, age) in stays.iter().chain([&(goes.clone(), 9 * DAY)]) {
            server.put(name, "bytes");
            date(&server.root().join(name), *age);
        }
    });
    // An old content that nobody has put back can be seen.
    assert_eq!(at.ok("ls -A"), format!("{}\n", stays[3].0));
    eventually_within(PATIENCE, "what nobody can want is gone", || !at.root().join(&goes).exists());
    clean(&at, 20 * DAY);
    assert!(stays.iter().all(|(name, _)| at.root().join(name).exists()), "{:?}", names(at.root()));
    assert_eq!(at.server.counters().of("DELE"), 2, "{:?}", at.server.counters().now().lines);
}

#[test]
fn an_old_content_that_could_not_be_deleted_is_shown_and_stays() {
    let clock = Clock::new();
    let at = clock.mounted(&[], |server| server.put("text", "old"));
    at.ok("cat text");
    // A server whose RNTO does not replace.
    at.server.faults().add(Rule::on("RNTO").path("text").once().act(Fault::Reply("553 File exists.".into())));
    at.server.faults().add(Rule::on("DELE").once().act(Fault::Reply("550 Busy.".into())));
    store(&at.path("text"), b"new").unwrap();
    clock.put_forward(365 * DAY);
    assert_eq!(at.ok("cat text"), "new");
    let shown = names(&at.path("")).unwrap();
    assert!(shown.len() == 2 && shown[0].starts_with(".ftpfs-old-"), "{shown:?}");
    clean(&at, 30 * DAY);
    assert_eq!(fs::read_to_string(at.path(&shown[0])).unwrap(), "old");
    at.ok("rm .ftpfs-old-*");
    assert_eq!(names(at.root()).unwrap(), ["text"]);
}

/// Lists the folder until a file that a dead mount left there is gone: then all is gone that the listings before took for such.
fn clean(at: &Scripted, age: u64) {
    let file = at.root().join(foreign(age));
    at.put(&foreign(age), "of a dead mount");
    date(&file, age);
    let is_cleaned = || {
        at.ok("ls");
        !file.exists()
    };
    eventually_within(PATIENCE, "what a dead mount left is gone", is_cleaned);
}

/// A temporary name that another mount gave so many seconds ago.
fn foreign(age: u64) -> String {
    format!(".ftpfs-part-{:x}-9-0", stamp(age))
}

fn stamp(age: u64) -> u128 {
    let day = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() / DAY;
    u128::from(day * DAY - age) * 1_000_000_000
}

/// The time of day that a mount believes: a shim in front of libc adds what a file says.
struct Clock {
    scratch: Scratch,
}

impl Clock {
    fn new() -> Self {
        let scratch = Scratch::new("clock");
        fs::write(scratch.path().join("clock.c"), SHIM).unwrap();
        shell::ok(scratch.path(), "cc -shared -fPIC -O1 -o clock.so clock.c -ldl && echo 0 > ahead");
        Self { scratch }
    }

    fn mounted(&self, options: &[&str], prepare: impl FnOnce(&scripted::Server)) -> Scripted {
        let file = |name: &str| self.scratch.path().join(name).display().to_string();
        let through =
            ["env", &format!("LD_PRELOAD={}", file("clock.so")), &format!("CLOCK_AHEAD={}", file("ahead"))];
        let options = [&["dir_timeout=0"], options].concat();
        Scripted::through(&through, scripted::Options::default(), &options, prepare)
    }

    fn put_forward(&self, seconds: u64) {
        fs::write(self.scratch.path().join("ahead"), seconds.to_string()).unwrap();
    }
}

const SHIM: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t clock, struct timespec *now) {
    int (*real)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
    int done = real(clock, now);
    const char *name = getenv("CLOCK_AHEAD");
    char text[32] = "";
    int file = clock == CLOCK_REALTIME && name ? open(name, O_RDONLY | O_CLOEXEC) : -1;
    if (file >= 0) {
        if (read(file, text, sizeof text - 1) > 0) now->tv_sec += atol(text);
        close(file);
    }
    return done;
}
"#;
const DAY: u64 = 86_400;
const PATIENCE: Duration = Duration::from_secs(30);
