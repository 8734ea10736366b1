//! Small new files on vsftpd: confirmed a round trip earlier, because nobody waits for the end of its side of the data connection
//! (`src/ftp/session/upload/ending.rs`); and what becomes of one whose end was lost.

#[allow(dead_code, unused_imports, reason = "each test binary uses its own part of the harness")]
mod harness;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use harness::files::{close, store};
use harness::patience::{LONGEST, eventually, within};
use harness::scratch::Scratch;
use harness::scripted::{self, DataEnd, Fault, Rule, Then};
use harness::{Kind, Mount, Relay, Server};

#[test]
fn a_small_new_file_does_not_wait_for_the_end_of_vsftpds_side() {
    let Some(server) = Server::start(Kind::Vsftpd) else { return };
    server.put("old", "old");
    let relay = Relay::new(&server);
    let mount = Mount::new(&relay, &[]);
    relay.delay(Duration::from_millis(20));
    for (number, size) in [0, 1, 13_000, 100_000].into_iter().enumerate() {
        let content: Vec<u8> = (0..size).map(|at| (at / 3) as u8).collect();
        relay.reset();
        store(&mount.path().join(format!("new{number}")), &content).unwrap();
        eventually("the reset", || relay.traffic().resets == 1);
        assert_eq!(fs::read(server.root().join(format!("new{number}"))).unwrap(), content);
    }
    // What replaces a file goes to a name of its own first.
    relay.reset();
    store(&mount.path().join("old"), b"newer").unwrap();
    eventually("the reset", || relay.traffic().resets == 1);
    assert_eq!(fs::read(server.root().join("old")).unwrap(), b"newer");
}

#[test]
fn what_must_not_be_stored_twice_is_ended_in_the_ordinary_way() {
    let Some(server) = Server::start(Kind::Vsftpd) else { return };
    server.put("log", vec![b'x'; 100_000]);
    server.put("written", "old");
    let relay = Relay::new(&server);
    let mount = Mount::new(&relay, &["in_place"]);
    relay.delay(Duration::from_millis(20));
    append(&mount.path().join("log"), b"a line\n").unwrap();
    store(&mount.path().join("written"), b"new").unwrap();
    store(&mount.path().join("large"), &vec![7; 300_000]).unwrap();
    assert_eq!(relay.traffic().resets, 0);
    assert_eq!(fs::read(server.root().join("written")).unwrap(), b"new");
    assert_eq!(fs::metadata(server.root().join("log")).unwrap().len(), 100_007);
}

#[test]
fn a_small_file_whose_end_was_lost_is_sent_again_and_the_next_ones_wait() {
    let broken = |after, end, then| Fault::Data { after, end, then };
    for fault in [
        broken(3, DataEnd::Reset, Then::reply("426 Failure reading network stream.")),
        // What lies between has made a clean end of half of it.
        broken(3, DataEnd::Closed, Then::confirmed()),
        // All of it was lost, and the server does not know that there is nothing to wait for.
        broken(0, DataEnd::Stalled, Then::Silent),
    ] {
        let served = Scratch::new("served");
        let server = scripted::Server::start(served.path()).unwrap();
        server.faults().add(Rule::on("CONNECT").act(Fault::First(b"220-(vsFTPd 3.0.3)\r\n".to_vec())));
        let relay = Relay::new(&server);
        // The last of them is waited for, and the next attempt must come within the rest.
        let mount = Mount::new(&relay, &["timeout=12"]);
        let at = |name: &str| mount.path().join(name);
        server.faults().add(Rule::on("STOR").path("first").once().act(fault.clone()));
        within(LONGEST, || store(&at("first"), b"content"))
            .unwrap_or_else(|e| panic!("{fault:?}: {e}\n{}", mount.log()));
        assert_eq!(fs::read(server.root().join("first")).unwrap(), b"content", "{fault:?}");
        assert!(mount.log().contains("an upload that ended with a reset did not come through"), "{fault:?}");
        relay.delay(Duration::from_millis(20));
        relay.reset();
        store(&at("second"), b"content").unwrap();
        assert_eq!(relay.traffic().resets, 0, "{fault:?}");
        assert_eq!(fs::read(server.root().join("second")).unwrap(), b"content");
    }
}

#[test]
fn what_is_asked_for_the_next_transfer_keeps_nobody_waiting() {
    let served = Scratch::new("served");
    let server = scripted::Server::start(served.path()).unwrap();
    server.faults().add(Rule::on("CONNECT").act(Fault::First(b"220-(vsFTPd 3.0.3)\r\n".to_vec())));
    let mount = Mount::new(&server, &["max_conns=1"]);
    let at = |name: &str| mount.path().join(name);
    store(&at("first"), b"content").unwrap();
    server.faults().add(Rule::on("EPSV").once().act(Fault::Delay(Duration::from_secs(2))));
    eventually("an upload with EPSV behind it", || {
        store(&at("second"), b"content").unwrap();
        let log = mount.log();
        log.rfind("> EPSV") > log.rfind("< 229")
    });
    // Whatever comes next finds the session as it should be.
    fs::rename(at("second"), at("third")).unwrap();
    store(&at("fourth"), b"content").unwrap();
    for name in ["first", "third", "fourth"] {
        assert_eq!(fs::read(served.path().join(name)).unwrap(), b"content", "{name}");
    }
}

fn append(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file: File = OpenOptions::new().append(true).open(path)?;
    file.write_all(bytes)?;
    close(file)
}
