//! Data connections: more or fewer bytes than were announced, and addresses that are somebody else's.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::harness::Scripted;
use crate::harness::mounted::IMPATIENT;
use crate::harness::patience::{at_once, eventually, within};
use crate::harness::scripted::{Fault, Options, Rule};
use crate::{BOUND, GIB, LONGEST};

#[test]
fn a_file_that_is_longer_or_shorter_than_it_was_said_to_be_is_the_truth_or_an_error() {
    let truth: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
    for sent in [0, 1, truth.len() / 2, truth.len() - 1, truth.len() + 1, truth.len() * 3] {
        let mut content = truth.clone();
        content.resize(sent, b'+');
        let at = Scripted::limited();
        at.put("file", &truth);
        // What RETR sends differs from what MLSD, MLST and SIZE say.
        at.server.faults().add(Rule::on("RETR").act(Fault::Content(content.clone())));
        if let Ok(read) = within(LONGEST, || fs::read(at.path("file"))) {
            let is_truth = read == truth;
            // A longer file: what was asked for is all there, and more cannot be known to belong to it.
            assert!(is_truth || sent > truth.len() && read == content, "{sent} sent, {} read", read.len());
        }
        at.server.faults().clear();
        eventually("the truth", || fs::read(at.path("file")).is_ok_and(|read| read == truth));
    }
    // Without end.
    let at = Scripted::limited();
    at.put("file", &truth);
    let endless = Fault::Lines { line: "{}\n".into(), bytes: 4 * GIB };
    at.server.faults().add(Rule::on("RETR").act(endless));
    if let Ok(read) = within(LONGEST, || fs::read(at.path("file"))) {
        assert_eq!(read.len(), truth.len());
    }
    assert!(at.mount.peak_memory() < BOUND);
}

/// The server's own host is 127.0.0.2; whoever listens on 127.0.0.1 is somebody else.
#[test]
fn data_connections_go_nowhere_but_to_the_server() {
    let server = Ipv4Addr::new(127, 0, 0, 2);
    let visits = Arc::new(AtomicUsize::new(0));
    let listen = |address: Ipv4Addr, port: u16| {
        let canary = TcpListener::bind((address, port))?;
        let (port, seen) = (canary.local_addr()?.port(), visits.clone());
        std::thread::spawn(move || {
            for _ in canary.incoming() {
                seen.fetch_add(1, Ordering::SeqCst);
            }
        });
        std::io::Result::Ok(port)
    };
    let port = listen(Ipv4Addr::LOCALHOST, 0).unwrap();
    // Where the machine has no such service itself; on the server's own host nobody but it is to be visited, either.
    for (address, port) in [(Ipv4Addr::LOCALHOST, 22), (Ipv4Addr::LOCALHOST, 25), (server, 22), (server, 25)]
    {
        if let Err(why) = listen(address, port) {
            eprintln!("nobody listens for visitors of {address}:{port}: {why}");
        }
    }
    let (high, low) = (port >> 8, port & 0xff);
    let options = || Options { address: server, ..Options::default() };
    let cases = vec![
        (vec!["EPSV"], "PASV", format!("227 Entering Passive Mode (127,0,0,1,{high},{low}).")),
        (vec!["EPSV"], "PASV", format!("227 Entering Passive Mode (10,1,2,3,{high},{low}).")),
        (vec!["EPSV"], "PASV", "227 Entering Passive Mode (127,0,0,1,0,22).".to_owned()),
        (vec!["EPSV"], "PASV", "227 Entering Passive Mode (127,0,0,1,0,0).".to_owned()),
        (vec!["EPSV"], "PASV", "227 Entering Passive Mode (127,0,0,1,0,25).".to_owned()),
        (vec!["EPSV"], "PASV", "227 Entering Passive Mode (127,0,0,2,0,25).".to_owned()),
        (vec!["EPSV"], "PASV", "227 Entering Passive Mode (127,0,0,2,256,257).".to_owned()),
        (vec!["EPSV"], "PASV", "227 Entering Passive Mode (-1,-1,-1,-1,-1,-1).".to_owned()),
        (vec![], "EPSV", format!("229 Entering Extended Passive Mode (|1|127.0.0.1|{port}|)")),
        (vec![], "EPSV", "229 Entering Extended Passive Mode (|||22|)".to_owned()),
        (vec![], "EPSV", "229 Entering Extended Passive Mode (|||25|)".to_owned()),
        (vec![], "EPSV", "229 Entering Extended Passive Mode (|||0|)".to_owned()),
        (vec![], "EPSV", "229 Entering Extended Passive Mode (|||65536|)".to_owned()),
    ];
    at_once(6, cases, |(without, verb, text)| {
        let options = Options { without: without.clone(), ..options() };
        let at = Scripted::limited_with(options, &[&IMPATIENT[..], &["passive"]].concat());
        at.put("file", b"text");
        // The ready connections of before are not asked for any more.
        at.server.drop_sessions();
        at.server.faults().add(Rule::on(verb).act(Fault::Reply(text.clone())));
        at.lives_through(text);
        at.is_well_again(text);
    });
    assert_eq!(visits.load(Ordering::SeqCst), 0, "somebody else got a data connection");
}
