//! What could stand still inside: a job that panics costs that job, its session and a line in the log, and nothing else; nobody
//! waits for a session that cannot be had; and whoever has had enough of a mount that ends can say so.

#[allow(dead_code, unused_imports, reason = "each test binary uses its own part of the harness")]
mod harness;

use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ftpfs::connection::Connections;
use ftpfs::ftp::config::Secret;
use ftpfs::ftp::{Config, Error, Features, RemotePath};
use ftpfs::queue::{Claim, Job, Priority};
use harness::Mount;
use harness::patience::eventually;
use harness::scratch::Scratch;
use harness::scripted::{self, Fault, Rule, Server};
use nix::sys::signal::Signal;

#[test]
fn a_job_that_panics_is_an_error_and_the_others_go_on() {
    let scratch = Scratch::new("served");
    std::fs::write(scratch.path().join("file"), "text").unwrap();
    let server = Server::start(scratch.path()).unwrap();
    let mut config = Config::new("127.0.0.1".to_owned(), "guest", Secret::new("guest"));
    config.port = server.port();
    log::set_logger(&Heard).unwrap();
    log::set_max_level(log::LevelFilter::Error);
    let queue = Connections::start(Arc::new(config), Features::new(), 2, None, None);
    let path = RemotePath::parse(b"/file").unwrap();
    for round in 0..5 {
        let (tell, told) = channel();
        // While it runs, and at its end; on a path that others wait for.
        let bad: Job = Job::new(
            Priority::Names,
            |_, _| -> Result<(), Error> { panic!("on purpose") },
            move |outcome| tell.send(outcome.is_err()).unwrap(),
        )
        .claim([Claim::Tree(path.clone())]);
        queue.submit(bad);
        let worse: Job = Job::new(Priority::Names, |_, _| Ok(()), |_| panic!("on purpose, at the end"))
            .claim([Claim::Tree(path.clone())]);
        queue.submit(worse);
        let (say, said) = channel();
        let asked = path.clone();
        let good: Job = Job::new(
            Priority::Names,
            move |session, _| session.stat(&asked),
            move |outcome: Result<_, _>| say.send(outcome.map(|entry| entry.size)).unwrap(),
        )
        .claim([Claim::Shared(path.clone())]);
        queue.submit(good);
        assert!(told.recv_timeout(LONG).expect("it ends"), "round {round}");
        let size = said.recv_timeout(LONG).expect("the others go on").expect("and well");
        assert_eq!(size, Some(4), "round {round}");
    }
    queue.close();
    let heard = HEARD.lock().unwrap();
    for words in [
        "a job panicked, its connection is closed: on purpose",
        "the end of a job panicked: on purpose, at the end",
    ] {
        let count = heard.iter().filter(|line| *line == words).count();
        assert_eq!(count, 5, "{words}: {heard:?}");
    }
}

/// What this process logs; a mount is one of its own.
struct Heard;

static HEARD: Mutex<Vec<String>> = Mutex::new(Vec::new());

impl log::Log for Heard {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        HEARD.lock().unwrap().push(record.args().to_string());
    }

    fn flush(&self) {}
}

#[test]
fn a_listing_comes_during_a_download_also_when_no_further_session_can_be_had() {
    // In ways that do not say that the server is full.
    let refusal = |text: &str| Fault::Reply(text.to_owned());
    let ways = [
        ("CONNECT", Fault::Silent),
        ("CONNECT", refusal("500 Not now.")),
        ("PASS", refusal("530 Login incorrect.")),
        ("PASS", refusal("451 Local error.")),
    ];
    for (command, fault) in ways {
        let scratch = Scratch::new("served");
        std::fs::create_dir(scratch.path().join("folder")).unwrap();
        std::fs::write(scratch.path().join("big"), vec![7; 64 << 20]).unwrap();
        let options = scripted::Options { rate_of_all: Some(2 << 20), ..scripted::Options::default() };
        let server = Server::start_with(scratch.path(), options).unwrap();
        let way = format!("{command}: {fault:?}");
        server.faults().add(Rule::on(command).after(1).act(fault));
        let mount = Mount::new(&server, &["timeout=15"]);
        let big = mount.path().join("big");
        let mut reading = Command::new("cat").arg(big).stdout(Stdio::null()).spawn().unwrap();
        eventually("a download", || server.counters().now().transfers == 1);
        let listed = std::fs::read_dir(mount.path().join("folder")).map(Iterator::count);
        let sent = server.counters().now().bytes_sent;
        let is_reading = reading.try_wait().unwrap().is_none();
        reading.kill().unwrap();
        reading.wait().unwrap();
        assert!(is_reading, "{way}: the download was over");
        assert_eq!(listed.ok(), Some(0), "{way}");
        assert!(sent < 16 << 20, "{way}: it waited while {sent} bytes came");
    }
}

#[test]
fn a_second_signal_ends_also_a_mount_that_was_unmounted_by_others() {
    let scratch = Scratch::new("served");
    let server = Server::start(scratch.path()).unwrap();
    let mut mount = Mount::new(&server, &["writeback", "timeout=60"]);
    server.faults().add(Rule::on("STOR").act(Fault::Silent));
    std::fs::write(mount.path().join("file"), "acknowledged").unwrap();
    eventually("an upload", || server.counters().of("STOR") > 0);
    nix::mount::umount2(mount.path(), nix::mount::MntFlags::MNT_DETACH).unwrap();
    // The first says what umount has said already. The kernel would make one of two that are the same.
    mount.signal(Signal::SIGINT);
    assert!(mount.wait(Duration::from_secs(1)).is_none(), "uploads are waited for");
    mount.signal(Signal::SIGTERM);
    let ended = mount.wait(Duration::from_secs(15)).expect("it does not wait for uploads");
    assert!(!ended.success(), "something was not confirmed: {ended:?}");
}

const LONG: Duration = Duration::from_secs(60);
