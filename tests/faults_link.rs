//! Lines that break without a word, and machines that sleep: packets that vanish in a network of namespaces, an address that
//! changes, a name server that is silent, a daemon that was stopped for longer than the server waits.
//!
//! The rule: every call ends in bounded time, Ctrl-C and `kill -9` end it at once, whatever needs no server is answered at once
//! meanwhile, other folders go on, and when the line is back so is the mount. Where it says `hard`, calls wait instead.

#[allow(dead_code, unused_imports, reason = "each test binary uses its own part of the harness")]
mod harness;

use std::fs::{self, File};
use std::io::Read;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use harness::files::{names, store};
use harness::network::{Lab, SERVER};
use harness::patience::{at_once, eventually, within};
use harness::program;
use harness::scratch::Scratch;
use harness::scripted::{Fault, Options, Rule, Server};
use harness::{Mount, Relay, shell, skip};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

#[test]
fn packets_that_vanish_end_calls_in_time_and_what_is_known_is_told_at_once() {
    let Some(link) = Link::new(&["timeout=3", "connect_timeout=3", "attr_timeout=300", "dir_timeout=300"])
    else {
        return;
    };
    assert_eq!(names(&link.path("")).unwrap(), ["folder", "seen", "unseen"]);
    assert_eq!(fs::read(link.path("seen")).unwrap(), b"seen");
    let mut open = File::open(link.path("seen")).unwrap();
    link.drop_packets();
    // Nobody has to be asked for these.
    let known = Instant::now();
    shell::ok(
        &link.path(""),
        "stat -f . > /dev/null && stat seen unseen folder > /dev/null && ls > /dev/null",
    );
    assert_eq!(fs::read(link.path("seen")).unwrap(), b"seen");
    let known = known.elapsed();
    let waited = Instant::now();
    assert!(within(LONGEST, || fs::read(link.path("unseen"))).is_err());
    assert!(within(LONGEST, || fs::create_dir(link.path("new"))).is_err());
    assert!(within(LONGEST, || names(&link.path("folder"))).is_err());
    assert!(within(LONGEST, || store(&link.path("new"), b"new")).is_err());
    assert!(known < waited.elapsed(), "what is known was waited for: {known:?}");
    link.let_through();
    eventually("light", || fs::read(link.path("unseen")).is_ok_and(|bytes| bytes == b"unseen"));
    let mut rest = Vec::new();
    open.read_to_end(&mut rest).unwrap();
    store(&link.path("after"), b"after").unwrap();
    assert_eq!(fs::read(link.served.path().join("after")).unwrap(), b"after");
}

#[test]
fn a_session_that_died_unseen_is_replaced_within_the_first_call() {
    // The server is restarted behind a line that was down: our half of the connection looks as good as ever.
    let Some(link) = Link::new(&["timeout=12"]) else { return };
    assert_eq!(fs::read(link.path("seen")).unwrap(), b"seen");
    link.drop_packets();
    link.restart_server();
    link.let_through();
    assert_eq!(within(LONGEST, || fs::read(link.path("unseen"))).unwrap(), b"unseen");
    // A line that only swallows what belongs to old connections, as a router that was restarted does.
    link.forget_connections();
    let call = within(LONGEST, || names(&link.path("folder")));
    assert!(call.is_ok(), "a dead session was waited for until the time was over: {call:?}");
}

#[test]
fn a_laptop_that_changes_networks_goes_on_with_the_next_call() {
    let Some(link) = Link::new(&["timeout=30"]) else { return };
    assert_eq!(fs::read(link.path("seen")).unwrap(), b"seen");
    link.lab.client.ip("addr del 10.1.0.2/24 dev line").unwrap();
    link.lab.client.ip("addr add 10.1.0.77/24 dev line").unwrap();
    link.lab.client.ip("route add default via 10.1.0.1").unwrap();
    let commands = link.with_server(|server| server.counters().now().sessions);
    assert_eq!(within(LONGEST, || fs::read(link.path("unseen"))).unwrap(), b"unseen");
    store(&link.path("new"), b"new").unwrap();
    assert!(link.with_server(|server| server.counters().now().sessions) > commands, "from the new address");
    // It was seen, not waited for.
    assert!(!link.mount().log().contains("no answer"), "{}", link.mount().log());
}

#[test]
fn a_daemon_that_slept_longer_than_the_server_waits_does_not_notice() {
    let scratch = sample();
    let options = Options { idle: Duration::from_millis(300), ..Options::default() };
    let server = Server::start_with(scratch.path(), options).unwrap();
    let mount = Mount::new(&server, &[]);
    assert_eq!(fs::read(mount.path().join("seen")).unwrap(), b"seen");
    mount.signal(Signal::SIGSTOP);
    eventually("the server to have enough", || server.counters().now().open == 0);
    mount.signal(Signal::SIGCONT);
    assert_eq!(fs::read(mount.path().join("unseen")).unwrap(), b"unseen");
    assert!(!mount.log().contains("no answer"), "{}", mount.log());
}

#[test]
fn a_name_server_that_is_silent_is_an_error_in_time_and_can_be_interrupted() {
    let scratch = Scratch::new("names");
    // Nobody answers there, and no other run of the tests is there; a mount namespace of its own for the file that says so.
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    let address = Ipv4Addr::new(127, 64 + high % 64, middle, low);
    let lines = format!("nameserver {address}\noptions timeout:60 attempts:5\n");
    fs::write(scratch.path().join("resolv"), lines).unwrap();
    fs::create_dir(scratch.path().join("point")).unwrap();
    let silent = UdpSocket::bind((address, 53));
    if let Err(why) = &silent {
        return skip(format!("somebody answers on {address}:53: {why}"));
    }
    let program = program::path();
    let script = format!(
        "mount --bind resolv /etc/resolv.conf && export FTPFS_PASSWORD=x
        '{program}' -f -o spool_dir=$PWD/spool,connect_timeout=2,timeout=3 ftp://guest@nowhere.example/ point 2>first; echo mount $?
        '{program}' -f -o spool_dir=$PWD/spool,connect_timeout=2,timeout=3,delay_connect ftp://guest@nowhere.example/ point 2>log &
        daemon=$!
        for i in $(seq 200); do grep -q \" $PWD/point \" /proc/self/mountinfo && break; sleep 0.05; done
        timeout 60 ls point; echo ls $?
        timeout --signal=INT 0.5 ls point; echo interrupted $?
        timeout 10 stat -f point > /dev/null; echo statfs $?
        umount -l point; kill $daemon; wait $daemon"
    );
    let done = within(LONGEST, || {
        Command::new("timeout")
            .args(["100", "unshare", "--mount", "--propagation", "private", "sh", "-c", &script])
            .current_dir(scratch.path())
            .output()
            .unwrap()
    });
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    let first = fs::read_to_string(scratch.path().join("first")).unwrap();
    assert!(!text.contains("mount 0") && first.contains("name server"), "{text}{first}");
    assert!(text.contains("ls 2"), "{text}");
    assert!(text.contains("interrupted 124") && text.contains("statfs 0"), "{text}");
}

#[test]
fn ctrl_c_and_kill_end_every_call_that_waits() {
    let calls = [
        ("lookup", "stat folder/x"),
        ("readdir", "ls folder"),
        ("open and read", "cat unseen"),
        ("mkdir", "mkdir new"),
        ("rmdir", "rmdir folder"),
        ("unlink", "rm -f seen"),
        ("rename", "mv -f seen moved"),
        ("close", "cp /etc/passwd file"),
        ("fsync", "dd if=/dev/zero of=file bs=1000 count=1 conv=fsync status=none"),
        ("truncate", "truncate -s 3 unseen"),
        ("utimes", "touch -d 2020-01-01 seen"),
        ("chmod", "chmod 600 seen"),
    ];
    let slowest = std::sync::Mutex::new((Duration::ZERO, ""));
    at_once(4, calls.to_vec(), |(call, command)| {
        for signal in [Signal::SIGINT, Signal::SIGKILL] {
            let scratch = sample();
            let server = Server::start(scratch.path()).unwrap();
            // Long: what ends the call is not the time-out.
            let mount = Mount::new(
                &server,
                &["timeout=100", "attr_timeout=300", "dir_timeout=300", "shutdown_timeout=1"],
            );
            assert_eq!(names(mount.path()).unwrap(), ["folder", "seen", "unseen"]);
            server.faults().add(Rule::on("*").act(Fault::Silent));
            let mut program = start(mount.path(), command);
            eventually(&format!("{call} to wait"), || waits_in_fuse(program.id()));
            let asked = Instant::now();
            kill(Pid::from_raw(program.id() as i32), signal).unwrap();
            let status = loop {
                if let Some(status) = program.try_wait().unwrap() {
                    break status;
                }
                assert!(asked.elapsed() < Duration::from_secs(20), "{call}: {signal} did not end it");
                std::thread::sleep(Duration::from_millis(100));
                if signal == Signal::SIGINT {
                    // dd catches the first, and waits again for what it then closes.
                    let _ = kill(Pid::from_raw(program.id() as i32), signal);
                }
            };
            assert!(!status.success(), "{call} {signal}");
            let took = asked.elapsed();
            let mut slowest = slowest.lock().unwrap();
            if took > slowest.0 {
                *slowest = (took, call);
            }
            // Others get in at once.
            shell::ok(mount.path(), "stat -f . > /dev/null && stat unseen > /dev/null");
            server.faults().clear();
        }
    });
    eprintln!("the slowest to end: {:?}", slowest.lock().unwrap());
}

#[test]
fn other_folders_and_files_go_on_while_one_is_stuck() {
    let scratch = sample();
    for name in ["stuck", "other", "third"] {
        fs::create_dir(scratch.path().join(name)).unwrap();
        fs::write(scratch.path().join(name).join("file"), name).unwrap();
    }
    let server = Server::start(scratch.path()).unwrap();
    let mount = Mount::new(&server, &["timeout=100", "shutdown_timeout=1"]);
    let at = |name: &str| mount.path().join(name);
    for (verb, path, command) in [
        ("MLSD", "stuck", "ls stuck"),
        ("RETR", "unseen", "cat unseen"),
        ("STOR", "never", "dd if=/dev/zero of=never bs=1000 count=1 status=none"),
        ("RNTO", "stuck", "mv seen stuck/seen"),
        ("MKD", "stuck", "mkdir stuck/new"),
        ("DELE", "stuck", "rm stuck/file"),
    ] {
        server.faults().add(Rule::on(verb).path(path).act(Fault::Silent));
        let mut stuck = start(mount.path(), command);
        eventually(&format!("{command} to wait"), || waits_in_fuse(stuck.id()));
        for round in 0..3 {
            assert_eq!(fs::read(at("other/file")).unwrap(), b"other");
            assert_eq!(names(&at("third")).unwrap()[0], "file");
            store(&at("other/new"), &[round]).unwrap();
            fs::create_dir(at("third/made")).unwrap();
            // Within a folder: the kernel lets only one file of a mount move between folders at a time.
            fs::rename(at("third/made"), at("third/renamed")).unwrap();
            fs::remove_dir(at("third/renamed")).unwrap();
        }
        assert!(stuck.try_wait().unwrap().is_none(), "{command} did not wait: {}", mount.log());
        stuck.kill().unwrap();
        stuck.wait().unwrap();
        server.faults().clear();
        server.drop_sessions();
    }
}

#[test]
fn with_hard_programs_wait_until_the_line_is_back_and_only_a_signal_ends_that() {
    let scratch = sample();
    let server = Server::start(scratch.path()).unwrap();
    let relay = Relay::new(&server);
    let mount = Mount::new(
        &relay,
        &["hard", "timeout=1", "connect_timeout=1", "shutdown_timeout=2", "attr_timeout=0"],
    );
    let at = |name: &str| mount.path().join(name);
    assert_eq!(fs::read(at("seen")).unwrap(), b"seen");
    relay.black_hole();
    let back = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let back = &back;
        let waits = |work: Box<dyn FnOnce() + Send>| {
            scope.spawn(move || {
                work();
                assert!(back.load(Ordering::SeqCst), "it ended while nobody answered");
            })
        };
        let (unseen, folder, new) = (at("unseen"), at("folder/deep"), at("new"));
        waits(Box::new(move || assert_eq!(fs::read(unseen).unwrap(), b"unseen")));
        waits(Box::new(move || fs::create_dir(folder).unwrap()));
        waits(Box::new(move || store(&new, b"new").unwrap()));
        let mut impatient = start(mount.path(), "cat folder/file");
        eventually("a program that waits", || waits_in_fuse(impatient.id()));
        kill(Pid::from_raw(impatient.id() as i32), Signal::SIGINT).unwrap();
        assert!(!within(LONGEST, || impatient.wait().unwrap()).success());
        // Several time-outs go by.
        let until = Instant::now() + Duration::from_secs(6);
        while Instant::now() < until {
            shell::ok(mount.path(), "stat -f . > /dev/null");
            std::thread::sleep(Duration::from_millis(100));
        }
        back.store(true, Ordering::SeqCst);
        relay.cut();
        relay.heal();
    });
    assert_eq!(fs::read(scratch.path().join("new")).unwrap(), b"new");
    assert!(scratch.path().join("folder/deep").is_dir());
}

#[test]
fn with_hard_whoever_joins_a_question_waits_on_when_the_first_to_ask_is_interrupted() {
    let scratch = sample();
    let server = Server::start(scratch.path()).unwrap();
    let relay = Relay::new(&server);
    let mount = Mount::new(&relay, &["hard", "timeout=1", "connect_timeout=1", "shutdown_timeout=2"]);
    shell::ok(mount.path(), "stat folder");
    relay.black_hole();
    let mut first = start(mount.path(), "cat folder/file");
    eventually("the first to ask", || waits_in_fuse(first.id()));
    let mut second = start(mount.path(), "cat folder/other");
    eventually("the second", || waits_in_fuse(second.id()));
    kill(Pid::from_raw(first.id() as i32), Signal::SIGINT).unwrap();
    assert!(!within(LONGEST, || first.wait().unwrap()).success());
    eventually("time-outs", || mount.log().matches("no answer from the server").count() >= 3);
    assert!(second.try_wait().unwrap().is_none(), "{}", mount.log());
    relay.cut();
    relay.heal();
    assert!(within(LONGEST, || second.wait().unwrap()).success(), "{}", mount.log());
}

/// The program has heard EINTR, and the kernel knows of no handle: what the server answers then must not be taken for a success.
#[test]
fn a_call_that_was_interrupted_has_no_effect_when_its_answer_comes_after_all() {
    let again = |flags: &str| format!("os.open('/proc/self/fd/%d' % fd, {flags})");
    // Without a look-up in front, which is another call.
    let seen = "fd = os.open('seen', os.O_PATH)";
    // (.., listings for the calls in front of it: the kernel looks up, or at the permissions.)
    let calls = [
        ("open to empty", seen, again("os.O_WRONLY | os.O_TRUNC"), 1),
        ("truncate", seen, "os.truncate('/proc/self/fd/%d' % fd, 1)".to_owned(), 1),
        ("open", seen, again("os.O_RDONLY"), 1),
        ("opendir", "fd = os.open('.', os.O_PATH)", again("os.O_RDONLY | os.O_DIRECTORY"), 0),
        ("create", "", "os.open('new', os.O_WRONLY | os.O_CREAT)".to_owned(), 1),
    ];
    at_once(5, calls.to_vec(), |(call, prepare, script, before)| {
        let scratch = sample();
        let server = Server::start(scratch.path()).unwrap();
        let mut mount = Mount::new(&server, &["timeout=100", "cache=no", "no_prefetch"]);
        let script = format!(
            "import signal
{prepare}
pause()
me = threading.main_thread().ident
threading.Timer(0.7, lambda: signal.pthread_kill(me, signal.SIGINT)).start()
try:
    {script}
    print('it was not interrupted')
except KeyboardInterrupt:
    print('interrupted')
"
        );
        let script =
            format!("import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n{script}");
        let mut program = shell::Script::start(mount.path(), &script);
        program.await_pause();
        let listings = server.counters().of("MLSD");
        server.faults().add(Rule::on("MLSD").after(*before).act(Fault::Delay(Duration::from_secs(4))));
        program.go_on();
        assert_eq!(program.end(), (true, "interrupted\n".to_owned()), "{call}: {}", mount.log());
        assert_eq!(server.counters().of("MLSD"), listings + before + 1, "{call} is not what waited");
        server.faults().clear();
        // Behind the listing that nobody waits for any more.
        shell::ok(mount.path(), "ls > /dev/null");
        assert!(mount.status(&[]).contains("0 files and folders are open"), "{call}: {}", mount.status(&[]));
        shell::ok(mount.path(), "cat seen | grep -qx seen; test ! -e new");
        shell::ok(mount.path(), "rm unseen");
        assert!(mount.umount().success());
        assert_eq!(fs::read(scratch.path().join("seen")).unwrap(), b"seen", "{call}");
        assert_eq!(names(scratch.path()).unwrap(), ["folder", "seen"], "{call}");
    });
}

/// A network with the scripted server at its far end, and a mount on the client.
struct Link {
    // First: it goes before the machines that it needs.
    mount: Option<Mount>,
    lab: Lab,
    running: Arc<parking_lot::Mutex<Option<Server>>>,
    served: Scratch,
}

impl Link {
    /// None as in [`Lab::new`].
    fn new(options: &[&'static str]) -> Option<Self> {
        let lab = Lab::new(FIRST)?;
        let served = sample();
        let running = Arc::new(parking_lot::Mutex::new(None));
        let root = served.path().to_path_buf();
        let place = running.clone();
        let login = lab.server.run(move || {
            let server =
                Server::start_with(&root, Options { address: SERVER, ..Options::default() }).unwrap();
            let login = Login(server.url(), server.password().to_owned());
            *place.lock() = Some(server);
            login
        });
        let options = options.to_vec();
        let mount = lab.client.run(move || Mount::new(&login, &options));
        Some(Self { mount: Some(mount), lab, running, served })
    }

    fn mount(&self) -> &Mount {
        self.mount.as_ref().expect("it is there until the end")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.mount().path().join(name)
    }

    fn with_server<T: Send + 'static>(&self, action: impl FnOnce(&Server) -> T + Send + 'static) -> T {
        let running = self.running.clone();
        self.lab.server.run(move || action(running.lock().as_ref().unwrap()))
    }

    /// Nothing gets through, and nobody is told.
    fn drop_packets(&self) {
        for side in ["toclient", "toserver"] {
            self.lab.router.ip(&format!("rule add iif {side} blackhole")).unwrap();
        }
    }

    fn let_through(&self) {
        for side in ["toclient", "toserver"] {
            self.lab.router.ip(&format!("rule del iif {side} blackhole")).unwrap();
        }
    }

    /// What belongs to a connection that exists vanishes; new ones are let through.
    fn forget_connections(&self) {
        self.lab.connect_from((43_000, 49_000)).unwrap();
        let (from, to) = FIRST;
        let rule = format!("rule add iif toclient ipproto tcp sport {from}-{to} blackhole");
        self.lab.router.ip(&rule).unwrap();
    }

    /// Its sessions are gone, on the same port. Nothing of that reaches the client if packets are dropped.
    fn restart_server(&self) {
        self.with_server(Server::drop_sessions);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let mount = self.mount.take();
        if let Some(mount) = mount.as_ref().filter(|_| std::thread::panicking()) {
            // It ends on a thread that does not know of the panic.
            eprintln!("--- ftpfs logged:\n{}", mount.log());
        }
        self.lab.client.run(move || drop(mount));
        // Its end is a connection to itself, which only works over there.
        let running = self.running.clone();
        self.lab.server.run(move || drop(running.lock().take()));
    }
}

struct Login(String, String);

impl harness::Target for Login {
    fn url(&self) -> String {
        self.0.clone()
    }
    fn password(&self) -> String {
        self.1.clone()
    }
}

fn sample() -> Scratch {
    let scratch = Scratch::new("served");
    fs::write(scratch.path().join("seen"), "seen").unwrap();
    fs::write(scratch.path().join("unseen"), "unseen").unwrap();
    fs::create_dir(scratch.path().join("folder")).unwrap();
    fs::write(scratch.path().join("folder/file"), "inside").unwrap();
    fs::write(scratch.path().join("folder/other"), "inside").unwrap();
    scratch
}

fn start(folder: &Path, command: &str) -> Child {
    // In the background of a script Ctrl-C is ignored, and children inherit that.
    let mut child = Command::new("env");
    child.args(["--default-signal=INT", "sh", "-c", &format!("exec {command}")]).current_dir(folder);
    child.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Whether it waits for our answer, and has for a moment: not for the one before.
fn waits_in_fuse(pid: u32) -> bool {
    let waits = || {
        let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
        let stack = read("stack") + &read("wchan");
        stack.contains("fuse") || stack.contains("request_wait_answer") || stack.contains("folio_wait")
    };
    waits() && {
        std::thread::sleep(Duration::from_millis(100));
        waits()
    }
}

/// The client's ports at first, see `forget_connections`.
const FIRST: (u16, u16) = (33_000, 39_000);

/// What hangs is not slow: many times the time-out in force.
const LONGEST: Duration = Duration::from_secs(60);
