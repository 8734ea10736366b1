//! A server that means harm: replies and listings without end, names and links that lead out, numbers that no file has, files that
//! are longer or shorter than they were said to be, words smuggled in before TLS, data connections to somebody else's ports.
//!
//! The rule: memory stays bounded, nothing panics, a program gets an error (or the truth), never a wrong success; and when the
//! server behaves again, so does the mount. Every mount here lives under a limit of its address space.

#[allow(dead_code, unused_imports, reason = "each test binary uses its own part of the harness")]
#[path = "../harness/mod.rs"]
mod harness;

mod data;
mod listings;
mod replies;
mod tls;

use std::fs;
use std::time::Duration;

use harness::Scripted;
use harness::files::{names, store};
use harness::mounted::IMPATIENT;
use harness::patience::{eventually, within};
use harness::scripted::Options;

impl Scripted {
    /// Impatient, and with little memory.
    fn limited() -> Self {
        Self::limited_with(Options::default(), &IMPATIENT)
    }

    fn limited_with(options: Options, mount_options: &[&str]) -> Self {
        Self::limited_to(ADDRESS_SPACE, options, mount_options)
    }

    /// Bytes of address space.
    fn limited_to(bytes: u64, options: Options, mount_options: &[&str]) -> Self {
        Self::through(&["prlimit", "--core=0", &format!("--as={bytes}")], options, mount_options, |_| ())
    }

    /// What a program does on a bad day: no wrong success, and each in time.
    fn lives_through(&self, what: &str) {
        self.goes_through(what, false);
    }

    /// As [`Scripted::lives_through`], when the server says that it has done what it has not: nobody can see that of a folder.
    fn lives_through_lies(&self, what: &str) {
        self.goes_through(what, true);
    }

    fn goes_through(&self, what: &str, lies: bool) {
        let _ = within(LONGEST, || names(self.mount.path()));
        if let Ok(read) = within(LONGEST, || fs::read(self.path("file"))) {
            assert!(b"text".starts_with(&read[..]), "{what}: {read:?}");
        }
        if within(LONGEST, || store(&self.path("new"), b"new")).is_ok() {
            assert_eq!(fs::read(self.server.root().join("new")).unwrap(), b"new", "{what}");
        }
        if within(LONGEST, || fs::create_dir(self.path("folder"))).is_ok() {
            assert!(lies || self.server.root().join("folder").is_dir(), "{what}");
        }
        if within(LONGEST, || fs::rename(self.path("file"), self.path("moved"))).is_ok() {
            assert!(lies || self.server.root().join("moved").exists(), "{what}");
        }
        if within(LONGEST, || fs::remove_file(self.path("moved"))).is_ok() {
            assert!(!self.server.root().join("moved").exists(), "{what}");
        }
        assert!(self.mount.peak_memory() < BOUND, "{what}: {} KiB", self.mount.peak_memory());
    }

    fn is_well_again(&self, what: &str) {
        self.server.faults().clear();
        self.put("after", b"all is well");
        eventually(what, || store(&self.path("last"), b"word").is_ok());
        eventually(what, || fs::read(self.path("after")).is_ok_and(|bytes| bytes == b"all is well"));
        assert_eq!(fs::read(self.server.root().join("last")).unwrap(), b"word", "{what}");
        assert!(!self.mount.log().contains("panicked"), "{what}:\n{}", self.mount.log());
    }
}

const GIB: u64 = 1 << 30;
/// An idle mount, with its threads' stacks and what the heap reserves, has 150 MiB; what is really used is asked of [`BOUND`].
const ADDRESS_SPACE: u64 = 512 << 20;
/// KiB at the most that a mount of a few small files may ever have had: 64 MiB of cache that these tests do not fill, 16 MiB
/// for requests, and the program itself.
const BOUND: u64 = 96 << 10;

/// What hangs is not slow: many times the time-out in force.
const LONGEST: Duration = Duration::from_secs(60);
