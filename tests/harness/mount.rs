//! The real program, mounting a server.
//!
//! It runs in the foreground, with its log in a file that is shown when the test fails. The mount goes with the [`Mount`],
//! also when the test panics; when the test run is killed the program gets SIGTERM, which makes it unmount.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use super::program;
use super::scratch::{Scratch, mounts_below};
use super::standstill::{self, Guard};

/// Something that can be mounted.
pub trait Target {
    /// Scheme, user, address, port and path; no password.
    fn url(&self) -> String;
    fn password(&self) -> String;
}

/// A mounted server.
pub struct Mount {
    process: Child,
    /// Closed when the mount ends; until then a watchdog waits at the other end.
    watched: Option<Sender<()>>,
    program: String,
    /// A folder of its own for the mount point: nothing else ever looks into the mount by chance.
    point: PathBuf,
    log: PathBuf,
    scratch: Scratch,
}

impl Mount {
    /// Mounts it with these `-o` options; panics with the log when that does not work.
    #[track_caller]
    pub fn new(target: &dyn Target, options: &[&str]) -> Self {
        match Self::attempt(target, options) {
            Ok(mount) => mount,
            Err(refused) => panic!("not mounted ({:?}):\n{}", refused.status, refused.log),
        }
    }

    /// As [`Mount::new`]; says how the program ended when it did not mount.
    pub fn attempt(target: &dyn Target, options: &[&str]) -> Result<Self, Refused> {
        Self::run(&program::path(), &[], target, options)
    }

    /// As [`Mount::new`], through a command that limits it: `["prlimit", "--as=1000000000"]`. It must become the program.
    #[track_caller]
    pub fn through(command: &[&str], target: &dyn Target, options: &[&str]) -> Self {
        match Self::run(&program::path(), command, target, options) {
            Ok(mount) => mount,
            Err(refused) => panic!("not mounted ({:?}):\n{}", refused.status, refused.log),
        }
    }

    fn run(program: &str, through: &[&str], target: &dyn Target, options: &[&str]) -> Result<Self, Refused> {
        let scratch = Scratch::new("mount");
        let (point, log) = (scratch.path().join("point"), scratch.path().join("log"));
        fs::create_dir(&point).unwrap();
        let command = [through, &[program]].concat();
        let process = start(&command, target, options, &point, &log);
        let watched = Some(watch(process.id(), program, &point, LONGEST));
        let mut mount = Self { process, watched, program: program.to_string(), point, log, scratch };
        mount.wait_until_mounted()?;
        Ok(mount)
    }

    /// Unmounts, and mounts again in the same place: what is seen then comes from the server, not from a cache.
    #[track_caller]
    pub fn remount(&mut self, target: &dyn Target, options: &[&str]) {
        let status = self.umount();
        assert!(status.success(), "ftpfs ended with {status}:\n{}", self.log());
        self.process = start(&[&self.program], target, options, &self.point, &self.log);
        self.watched = Some(watch(self.process.id(), &self.program, &self.point, LONGEST));
        if let Err(refused) = self.wait_until_mounted() {
            panic!("not mounted again ({:?}):\n{}", refused.status, refused.log);
        }
    }

    /// After the program has died: takes the dead mount away, and mounts in the same place, with the same spool folder.
    #[track_caller]
    pub fn again(&mut self, target: &dyn Target, options: &[&str]) {
        self.watched = None;
        assert!(self.wait(ENDS_WITHIN).is_some(), "it lives:\n{}", self.log());
        let deadline = Instant::now() + ENDS_WITHIN;
        while self.is_mounted() && Instant::now() < deadline {
            let _ = Command::new("umount").arg("--lazy").arg(&self.point).output();
        }
        self.process = start(&[&self.program], target, options, &self.point, &self.log);
        self.watched = Some(watch(self.process.id(), &self.program, &self.point, LONGEST));
        if let Err(refused) = self.wait_until_mounted() {
            panic!("not mounted again ({:?}):\n{}", refused.status, refused.log);
        }
    }

    /// Whether `writeback` still has something to upload; no longer after `until`.
    pub fn has_journal(&self, until: Instant) -> bool {
        let script = "test -n \"$(find . -name '*.entry' -size +0 2>/dev/null)\"";
        Instant::now() < until
            && self.spool().exists()
            && super::shell::run(&self.spool(), script).status.success()
    }

    /// The spool folder.
    pub fn spool(&self) -> PathBuf {
        self.point.with_file_name("spool")
    }

    fn wait_until_mounted(&mut self) -> Result<(), Refused> {
        let deadline = Instant::now() + MOUNTS_WITHIN;
        while Instant::now() < deadline {
            if self.is_mounted() {
                return Ok(());
            }
            if let Some(status) = self.process.try_wait().unwrap() {
                return Err(Refused { status: Some(status), log: self.log() });
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Err(Refused { status: None, log: self.log() })
    }

    pub fn path(&self) -> &Path {
        &self.point
    }

    /// The watchdog's patience from now on: for tests that are long because they were asked to be.
    pub fn may_take(&mut self, limit: Duration) {
        self.watched = Some(watch(self.pid(), &self.program, &self.point, limit));
    }

    /// Sees to it that something moves at least every `limit`, see [`Guard`].
    pub fn guard(&self, limit: Duration) -> Guard {
        Guard::new(self.pid(), &self.program, &self.point, limit)
    }

    /// `ftpfs status`, with these arguments besides.
    pub fn status(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("timeout");
        command.args(["20", &self.program, "status"]).args(arguments).arg(&self.point);
        String::from_utf8_lossy(&command.output().unwrap().stdout).into_owned()
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// What the program logged so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    pub fn is_mounted(&self) -> bool {
        !mounts_below(&self.point).is_empty()
    }

    /// The most memory that the program ever had, in KiB.
    pub fn peak_memory(&self) -> u64 {
        self.memory("VmHWM:")
    }

    /// The memory that it has now, in KiB.
    pub fn memory_now(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// umount(8), as a user would; gives the program's exit status.
    #[track_caller]
    pub fn unmount(mut self) -> ExitStatus {
        self.umount()
    }

    /// As [`Mount::unmount`]; it can be mounted again.
    #[track_caller]
    pub fn umount(&mut self) -> ExitStatus {
        self.watched = None;
        let done = Command::new("timeout").args(["60", "umount"]).arg(&self.point).output().unwrap();
        assert!(done.status.success(), "umount: {}\n{}", String::from_utf8_lossy(&done.stderr), self.log());
        self.wait(ENDS_WITHIN).unwrap_or_else(|| panic!("the program stays after umount:\n{}", self.log()))
    }

    /// Sends a signal to the program.
    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.pid()).unwrap());
        nix::sys::signal::kill(pid, signal).unwrap();
    }

    /// The program's exit status, if it ends within this time.
    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            if let Some(status) = self.process.try_wait().unwrap() {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        None
    }

    fn memory(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }
}

/// A mount that did not come about.
#[derive(Debug)]
pub struct Refused {
    /// `None`: the program was still running, without a mount.
    pub status: Option<ExitStatus>,
    /// What it said.
    pub log: String,
}

fn start(program: &[&str], target: &dyn Target, options: &[&str], point: &Path, log: &Path) -> Child {
    let output = File::create(log).unwrap();
    // setpriv becomes the program: the process that we hold is the program itself.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "--"]).args(program).arg("-f");
    // Nothing is kept where an installed ftpfs keeps it.
    let spool = format!("spool_dir={}", point.with_file_name("spool").display());
    // The last of two counts: a test may choose another place.
    command.args(["-o", &[&[spool.as_str()], options].concat().join(",")]);
    command.arg(target.url()).arg(point).env("FTPFS_PASSWORD", target.password());
    if std::env::var_os("FTPFS_LOG").is_none() {
        command.env("FTPFS_LOG", "ftpfs=debug");
    }
    command.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output);
    command.spawn().expect("util-linux's setpriv is there")
}

/// A call that hangs in the kernel cannot be given up by the test that made it. Killing the program ends every such call
/// with an error, so the test fails instead of standing still.
fn watch(pid: u32, program: &str, point: &Path, limit: Duration) -> Sender<()> {
    let (watched, ended) = channel();
    let (program, point) = (program.to_owned(), point.to_owned());
    std::thread::spawn(move || {
        if ended.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
            eprintln!("--- ftpfs is killed: its test has taken {limit:?}");
            eprintln!("{}", standstill::describe(pid, &program, &point));
            let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap());
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        }
    });
    watched
}

impl Drop for Mount {
    fn drop(&mut self) {
        self.watched = None;
        let umount = |arguments: &[&str]| {
            let _ = Command::new("timeout").args(["10", "umount"]).args(arguments).arg(&self.point).output();
        };
        if self.is_mounted() {
            umount(&[]);
        }
        if self.is_mounted() {
            umount(&["--lazy"]);
        }
        if self.wait(ENDS_WITHIN).is_none() {
            eprintln!("--- ftpfs had to be killed");
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("--- ftpfs logged:\n{}", lines[lines.len().saturating_sub(LOG_TAIL)..].join("\n"));
        }
    }
}

/// No test needs that long, not even with a gigabyte on a slow machine.
const LONGEST: Duration = Duration::from_secs(180);
/// Twice as long as sessions that others have are waited for.
const MOUNTS_WITHIN: Duration = Duration::from_secs(60);
/// Uploads under way are finished first.
const ENDS_WITHIN: Duration = Duration::from_secs(20);
/// Lines of the log shown when a test fails.
const LOG_TAIL: usize = 15000000;
