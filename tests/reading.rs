//! Reading along the order of a folder, and reading what changes meanwhile: counted and compared, never timed.

#[allow(dead_code, unused_imports, reason = "each test binary uses its own part of the harness")]
mod harness;

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::FileExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use harness::Scripted;
use harness::scripted::{DataEnd, Fault, Options, Rule, Server, Then};

#[test]
fn the_files_of_a_folder_read_in_order_come_ahead() {
    let at =
        Scripted::serving(&[], |server| (0..40).for_each(|i| server.put(&format!("d/{i:02}"), b"content")));
    at.ok("ls d; cat d/00 d/01 d/02");
    // Ten files after the third are planned; nobody asks for them.
    wait_until(|| at.retrieved() > 3);
    at.ok("cat d/*");
    assert_eq!(at.retrieved(), 40, "each file is fetched once: {:?}", at.server.counters().now());
}

#[test]
fn one_file_after_another_out_of_order_fetches_nothing_else() {
    let at =
        Scripted::serving(&[], |server| (0..40).for_each(|i| server.put(&format!("d/{i:02}"), b"content")));
    at.ok("ls d; cat d/30 d/20 d/10 d/05");
    at.settle();
    assert_eq!(at.retrieved(), 4);
}

#[test]
fn a_metered_mount_fetches_only_what_is_asked_for() {
    let at = Scripted::serving(&["no_prefetch"], |server| {
        (0..40).for_each(|i| server.put(&format!("d/{i:02}/f"), b"x"))
    });
    at.ok("ls d; cat d/00/f d/01/f d/02/f d/03/f");
    at.settle();
    assert_eq!(at.retrieved(), 4);
    assert_eq!(at.listed(), 1 + 4, "d, and four folders in it: {:?}", at.server.counters().now());
}

#[test]
fn sub_folders_listed_in_order_come_ahead_and_each_is_listed_once() {
    let at = Scripted::serving(&[], |server| (0..30).for_each(|i| server.put(&format!("d/{i:02}/f"), b"x")));
    at.ok("ls d; ls d/00 d/01 d/02");
    wait_until(|| at.listed() > 1 + 3);
    at.ok("test $(find d | wc -l) = 61");
    assert_eq!(at.listed(), 1 + 30, "{:?}", at.server.counters().now());
}

#[test]
fn of_large_files_only_the_beginning_comes_ahead() {
    let at =
        Scripted::serving(&[], |server| (0..6).for_each(|i| server.put(&format!("d/{i}"), vec![i; 8 << 20])));
    at.ok("ls d; for i in 0 1 2 3 4 5; do head -c 1000 d/$i | tail -c 1 > /dev/null; done");
    at.settle();
    at.ok("for i in 0 1 2 3 4 5; do tail -c 100000 d/$i | cmp - /dev/null > /dev/null; test $(wc -c < d/$i) = 8388608; done");
    // The head, and the tail in whichever pieces the kernel asks for it at once.
    assert!(at.retrieved() <= 24, "{:?}", at.server.counters().now());
    for i in 0..6 {
        assert_eq!(
            fs::read(at.path(format!("d/{i}"))).unwrap(),
            vec![i; 8 << 20],
            "the rest is read as ever"
        );
    }
}

#[test]
fn a_file_that_grows_is_followed_through_an_open_handle() {
    let at = Scripted::serving(&["cache_timeout=0"], |server| server.put("log", b"one\n"));
    let mut log = File::open(at.path("log")).unwrap();
    let mut text = String::new();
    log.read_to_string(&mut text).unwrap();
    for line in ["two\n", "three\n"] {
        let served = at.server.root().join("log");
        fs::write(&served, [fs::read(&served).unwrap().as_slice(), line.as_bytes()].concat()).unwrap();
        wait_until(|| {
            log.metadata().unwrap();
            log.read_to_string(&mut text).unwrap();
            text.ends_with(line)
        });
    }
    assert_eq!(text, "one\ntwo\nthree\n");
}

#[test]
fn a_file_replaced_while_it_is_open_is_stale_not_a_mixture() {
    let old = vec![b'o'; 1 << 20];
    let at = Scripted::serving(&["cache_timeout=0"], |server| server.put("file", &old));
    for new in [vec![b'n'; 1 << 20], vec![b'm'; 900_000], vec![b'l'; 2 << 20]] {
        let before = fs::read(at.server.root().join("file")).unwrap();
        let file = File::open(at.path("file")).unwrap();
        let mut block = vec![0; 4096];
        file.read_exact_at(&mut block, 65_536).unwrap();
        assert_eq!(block, before[..4096]);
        fs::remove_file(at.server.root().join("file")).unwrap();
        at.put("file", &new);
        let time = std::time::SystemTime::now() + Duration::from_secs(3600 + new.len() as u64 / 1000);
        File::options().write(true).open(at.server.root().join("file")).unwrap().set_modified(time).unwrap();
        // Somebody looks, so that the change is known.
        assert_eq!(fs::metadata(at.path("file")).unwrap().len(), new.len() as u64);
        match file.read_exact_at(&mut block, 65_536 + 4096) {
            Ok(()) => assert_eq!(block, before[..4096], "the old version, if the kernel still has it"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::StaleNetworkFileHandle),
        }
        assert_eq!(fs::read(at.path("file")).unwrap(), new, "whoever opens it now gets the new one");
    }
}

#[test]
fn a_program_that_is_stopped_while_it_waits_goes_on_as_if_nothing_had_been() {
    use nix::sys::signal::{Signal, kill};
    let at = Scripted::serving(&["no_prefetch"], |server| {
        ["a/f", "b/f"].iter().for_each(|name| server.put(name, "text"));
    });
    for (folder, signal) in [("a", Signal::SIGSTOP), ("b", Signal::SIGTSTP)] {
        let late = Fault::Delay(Duration::from_secs(1));
        at.server.faults().add(Rule::on("MLSD").path(&format!("/{folder}")).act(late));
        let listing = format!("MLSD /{folder}");
        // coreutils ask once more when a read is interrupted, but not when a look-up is.
        let mut cat =
            Command::new("cat").arg(at.path(format!("{folder}/f"))).stdout(Stdio::null()).spawn().unwrap();
        wait_until(|| at.server.counters().now().lines.iter().any(|(_, line)| *line == listing));
        let pid = nix::unistd::Pid::from_raw(i32::try_from(cat.id()).unwrap());
        kill(pid, signal).unwrap();
        // Until its call is answered; where there is no terminal, SIGTSTP stops nothing.
        wait_until(|| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
            stat.rsplit(") ").next().unwrap().starts_with(['T', 'Z'])
        });
        kill(pid, Signal::SIGCONT).unwrap();
        assert!(cat.wait().unwrap().success(), "{signal}");
    }
}

#[test]
fn what_comes_again_from_the_start_is_no_progress_where_a_transfer_cannot_begin_in_the_middle() {
    let options = Options { without: vec!["REST"], ..Options::default() };
    let at = Scripted::prepared(options, &["no_prefetch"], |server| server.put("f", vec![7; 1 << 20]));
    let cut = Fault::Data { after: 300_000, end: DataEnd::Closed, then: Then::reply("426 Aborted.") };
    at.server.faults().add(Rule::on("RETR").act(cut));
    assert_eq!(fs::read(at.path("f")).unwrap_err().raw_os_error(), Some(libc::EIO));
    assert!(at.retrieved() <= 12, "{:?}", at.server.counters().now().commands);
}

impl Scripted {
    /// What is known stays known, however long a busy machine takes, but where the options say otherwise.
    fn serving(options: &[&str], prepare: impl FnOnce(&Server)) -> Self {
        let known = ["attr_timeout=600", "dir_timeout=600", "negative_timeout=600"];
        Self::prepared(Options::default(), &[&known[..], options].concat(), prepare)
    }

    fn retrieved(&self) -> u64 {
        self.server.counters().of("RETR")
    }

    /// Listings of `d` and what is in it: how often the root is listed is not the matter here.
    fn listed(&self) -> usize {
        let lines = self.server.counters().now().lines;
        lines.iter().filter(|(_, line)| line.starts_with("MLSD /d")).count()
    }

    /// Until nothing more is asked of the server.
    fn settle(&self) {
        let limit = Instant::now() + Duration::from_secs(20);
        let (mut last, mut since) = (self.server.counters().commands(), Instant::now());
        while Instant::now() < limit && since.elapsed() < Duration::from_millis(300) {
            std::thread::sleep(Duration::from_millis(10));
            let now = self.server.counters().commands();
            if now != last {
                (last, since) = (now, Instant::now());
            }
        }
    }
}

fn wait_until(mut condition: impl FnMut() -> bool) {
    let limit = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < limit, "it does not come about");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_program_whose_timer_runs_while_it_waits_is_not_disturbed() {
    // git's progress has such a timer: its close() must not fail because of that.
    let at = Scripted::new();
    at.server.faults().add(Rule::on("STOR").once().act(Fault::Delay(Duration::from_secs(2))));
    at.ok("python3 -c \"
import signal
ticks = []
signal.signal(signal.SIGALRM, lambda *_: ticks.append(1))
signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)
import os
f = os.open('new', os.O_WRONLY | os.O_CREAT)
os.write(f, b'text')
os.close(f)
assert ticks
\"");
    assert!(at.holds("new", b"text"));
}
