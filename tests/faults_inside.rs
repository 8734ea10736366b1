//! Mistakes of our own: a job that panics costs that job, its session and a line in the log, and nothing else.

#[allow(dead_code, unused_imports, reason = "each test binary uses its own part of the harness")]
mod harness;

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use ftpfs::connection::Connections;
use ftpfs::ftp::config::Secret;
use ftpfs::ftp::{Config, Error, Features, RemotePath};
use ftpfs::queue::{Claim, Job, Priority};
use harness::scratch::Scratch;
use harness::scripted::Server;

#[test]
fn a_job_that_panics_is_an_error_and_the_others_go_on() {
    let scratch = Scratch::new("served");
    std::fs::write(scratch.path().join("file"), "text").unwrap();
    let server = Server::start(scratch.path()).unwrap();
    let mut config = Config::new("127.0.0.1".to_owned(), "guest", Secret::new("guest"));
    config.port = server.port();
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
}

const LONG: Duration = Duration::from_secs(60);
