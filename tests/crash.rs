//! Crashes: ftpfs, the server or the line between them dies at some moment of an upload.
//!
//! Afterwards the server has the old or the new content, never a mixture and never half; what a program was told to be written
//! is there; and a new mount shows no trace of what was left behind.

#[allow(dead_code, unused_imports, reason = "each test binary uses its own part of the harness")]
mod harness;

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use harness::files::{close, store};
use harness::moments::{Moment, content, moments};
use harness::patience::{at_once, eventually_within};
use harness::scratch::Scratch;
use harness::scripted::{self, DataEnd, Fault, Rule, Then};
use harness::shell::Script;
use harness::{Kind, Mount, Relay, Scripted, Server, shell};
use nix::sys::signal::Signal;

#[test]
fn killing_ftpfs_at_any_moment_of_replacing_a_file_leaves_the_old_or_the_new_one() {
    at_once(4, moments(), |moment| {
        let mut at = Scripted::serving(&["f"]);
        store(&at.path("acknowledged"), &content(7)).unwrap();
        let outcome = at.struck(moment, |at| at.mount.signal(Signal::SIGKILL));
        at.check(moment, "f", outcome);
        assert!(fs::read(at.root().join("acknowledged")).unwrap() == content(7), "{moment:?}");
        // The dead mount is taken away (by its watchdog, or now), and a new one shows nothing of it.
        at.server.faults().clear();
        shell::ok(Path::new("/"), &format!("umount -l '{}' 2>&1 || true", at.mount.path().display()));
        assert!(at.mount.wait(Duration::from_secs(20)).is_some());
        let again = Mount::new(&at.server, &[]);
        assert_eq!(shell::ok(again.path(), "ls -A"), "acknowledged\nf\n", "{moment:?}");
        store(&again.path().join("f"), &content(3)).unwrap();
        assert!(fs::read(at.root().join("f")).unwrap() == content(3), "{moment:?}");
    });
}

#[test]
fn killing_ftpfs_while_it_uploads_a_new_file_never_tells_a_success_that_is_none() {
    at_once(4, moments(), |moment| {
        if moment.verb.starts_with("RN") {
            return;
        }
        let mut at = Scripted::new();
        let outcome = at.struck(moment, |at| at.mount.signal(Signal::SIGKILL));
        assert!(outcome.is_err() || fs::read(at.root().join("f")).unwrap() == content(2), "{moment:?}");
    });
}

#[test]
fn a_line_cut_at_any_moment_is_mended_and_the_file_gets_there() {
    at_once(4, moments(), |moment| {
        let mut at = Scripted::serving(&["f"]);
        let outcome = at.struck(moment, |at| {
            at.server.faults().clear();
            at.server.drop_sessions();
        });
        assert!(outcome.is_ok(), "{moment:?}: {outcome:?}");
        at.check(moment, "f", outcome);
        assert_eq!(shell::ok(at.mount.path(), "ls -A"), "f\n", "{moment:?}");
    });
}

#[test]
fn appending_over_a_line_that_is_cut_adds_once_or_says_so() {
    at_once(4, vec![0, 1, 5_000, 20_000], |&after: &u64| {
        let at = Scripted::serving(&["reset", "closed"]);
        let (old, more) = (content(1), vec![b'+'; 20_000]);
        let whole = [old.clone(), more.clone()].concat();
        for (end, name) in [(DataEnd::Reset, "reset"), (DataEnd::Closed, "closed")] {
            let fault = Fault::Data { after, end, then: Then::Close };
            at.server.faults().add(Rule::on("APPE").path(name).once().act(fault));
            let mut file = File::options().append(true).open(at.path(name)).unwrap();
            file.write_all(&more).unwrap();
            let outcome = close(file);
            let now = fs::read(at.root().join(name)).unwrap();
            assert!(outcome.is_err() || now == whole, "{after} {name}: a success that is none");
            assert!(now.starts_with(&old), "{after} {name}: what was there is lost");
            assert!(whole.starts_with(&now), "{after} {name}: added twice");
        }
    });
}

#[test]
fn a_server_that_dies_again_and_again_has_whole_files_and_all_that_was_acknowledged() {
    at_once(4, Kind::MAIN.to_vec(), |&kind| {
        let Some(mut server) = Server::start(kind) else { return };
        rewrite_while(&mut server, |server, _| {
            server.stop();
            server.restart();
        });
    });
}

#[test]
fn a_line_that_is_cut_again_and_again_leaves_whole_files_and_all_that_was_acknowledged() {
    at_once(4, Kind::MAIN.to_vec(), |&kind| {
        let Some(mut server) = Server::start(kind) else { return };
        rewrite_while(&mut server, |_, relay| relay.cut());
    });
}

/// Rewrites files through a relay while `strike` strikes, each time after some more bytes have gone over the line.
fn rewrite_while(server: &mut Server, strike: impl Fn(&mut Server, &Relay)) {
    for name in FILES {
        server.put(name, content(0));
    }
    let relay = Relay::new(server);
    let mount = Mount::new(&relay, &["timeout=10"]);
    let (tried, told) = (FILES.map(|_| AtomicU64::new(0)), FILES.map(|_| AtomicU64::new(0)));
    let scratch = Scratch::new("crash");
    let stop = scratch.path().join("stop");
    std::thread::scope(|scope| {
        for ((name, tried), told) in FILES.iter().zip(&tried).zip(&told) {
            let (path, stop) = (mount.path().join(name), &stop);
            scope.spawn(move || {
                // Processes of their own: whatever this one starts closes a copy of what it has open, and a close() is a close().
                let arguments = [WRITER.as_ref(), path.as_os_str(), stop.as_os_str()];
                let mut writer = Command::new("timeout")
                    .args(["300", "python3", "-c"])
                    .args(arguments)
                    .stdout(Stdio::piped())
                    .spawn()
                    .unwrap();
                for line in BufReader::new(writer.stdout.take().unwrap()).lines().map_while(Result::ok) {
                    let (what, version) = line.split_once(' ').unwrap();
                    let counter = if what == "told" { told } else { tried };
                    counter.store(version.parse().unwrap(), Ordering::SeqCst);
                }
                assert!(writer.wait().unwrap().success());
            });
        }
        // The next strike comes when another `step` bytes have passed: at another place of an upload each time.
        for strikes in 0..STRIKES {
            let target = relay.traffic().bytes_up + 90_000 + strikes * 77_777;
            eventually_within(LONG, "bytes to strike at", || relay.traffic().bytes_up >= target);
            strike(server, &relay);
        }
        fs::write(&stop, "").unwrap();
    });
    for ((name, tried), told) in FILES.iter().zip(&tried).zip(&told) {
        let (tried, told) = (tried.load(Ordering::SeqCst), told.load(Ordering::SeqCst));
        let found = server.read(name);
        let version = u64::from_le_bytes(found[..8].try_into().unwrap());
        assert!(found == content(version), "{:?} {name}: version {version} is not whole", server.kind());
        assert!(
            (told..=tried).contains(&version),
            "{:?} {name}: {version}, of {tried} tried and {told} told",
            server.kind()
        );
        eprintln!("{:?} {name}: {tried} tried, {told} told, {version} there", server.kind());
    }
}

impl Scripted {
    /// With these files, each of which has version 1 as its content.
    fn serving(files: &[&str]) -> Self {
        Self::prepared(scripted::Options::default(), &[], |server| {
            files.iter().for_each(|name| server.put(name, content(1)));
        })
    }

    /// Writes version 2 of `f`, and strikes when the upload has come to this moment. Gives what the program was told.
    fn struck(&mut self, moment: &Moment, strike: impl FnOnce(&Self)) -> io::Result<()> {
        self.server.counters().reset();
        self.server.faults().add(Rule::on(moment.verb).act(moment.fault.clone()));
        // In a process of its own: what another test starts would close a copy of it before all of it is written.
        fs::write(self.mount.path().with_file_name("in"), content(2)).unwrap();
        let mut writer = Script::start(
            self.mount.path(),
            "data = open('../in', 'rb').read()\ntry:\n f = os.open('f', os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)\n\
             \x20while data: data = data[os.write(f, data):]\n os.close(f)\n\
             except OSError as e:\n print(e, flush=True)\n os._exit(1)",
        );
        let counters = self.server.counters();
        let is_there = || counters.of(moment.verb) > 0 && counters.now().bytes_received >= moment.bytes;
        eventually_within(LONG, "the moment, or the end", || is_there() || writer.has_ended());
        assert!(is_there(), "{moment:?} never came");
        strike(self);
        match writer.end() {
            (true, _) => Ok(()),
            (false, said) => Err(io::Error::other(said)),
        }
    }

    fn check(&self, moment: &Moment, name: &str, outcome: io::Result<()>) {
        let found = fs::read(self.root().join(name)).unwrap();
        let whole = found == content(2) || (outcome.is_err() && found == content(1));
        assert!(whole, "{moment:?}: {outcome:?}, and {} bytes are there", found.len());
    }
}

const FILES: [&str; 3] = ["a", "b", "c"];
const STRIKES: u64 = 3;
const LONG: Duration = Duration::from_secs(60);

/// Writes one version after the other, and says which it tries and which close() has told it is there.
const WRITER: &str = "
import os, sys
path, stop = sys.argv[1:]
for version in range(1, 10000):
    if os.path.exists(stop):
        break
    print('tried', version, flush=True)
    data = version.to_bytes(8, 'little') * (45000 + version % 7)
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        try:
            while data:
                data = data[os.write(file, data):]
        finally:
            os.close(file)
        print('told', version, flush=True)
    except OSError:
        pass
";
