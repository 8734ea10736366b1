//! Bad days, scripted: transfers that end early, servers that fall silent or close, lines that break.
//!
//! The rule behind all of it: a program is told the truth. What reads as success has happened, byte for byte; everything else is an
//! error, and it comes within the time-out. Uploads are in `faults_uploads`, servers that say strange things in `faults_replies`.

#[allow(dead_code, unused_imports, reason = "each test binary uses its own part of the harness")]
mod harness;

use std::fs::{self, File};
use std::io::Read;
use std::time::Duration;

use harness::files::{content, names, store};
use harness::mounted::IMPATIENT;
use harness::patience::{LONGEST, at_once, eventually, within};
use harness::scratch::Scratch;
use harness::scripted::{DataEnd, Fault, Options, Rule, Server, Then};
use harness::shell::Script;
use harness::{Mount, Relay, Scripted, Target, fetch, shell};

#[test]
fn a_download_that_ends_early_is_never_a_short_file() {
    let mut cases = Vec::new();
    for end in [DataEnd::Closed, DataEnd::Reset] {
        for then in [
            Then::confirmed(),
            Then::reply("426 Connection closed."),
            Then::reply("451 Local error."),
            Then::Close,
            Then::Silent,
        ] {
            cases.extend([0, 1, 100_000].map(|after| Fault::Data { after, end, then: then.clone() }));
        }
    }
    at_once(8, cases, |fault| {
        let at = Scripted::impatient();
        at.put("film", content());
        at.server.faults().add(Rule::on("RETR").act(fault.clone()));
        if let Ok(bytes) = within(LONGEST, || fs::read(at.path("film"))) {
            assert!(bytes == content(), "{} bytes: {fault:?}", bytes.len());
        }
    });
}

#[test]
fn a_download_that_breaks_once_is_completed() {
    for end in [DataEnd::Closed, DataEnd::Reset] {
        for then in [Then::confirmed(), Then::reply("426 Connection closed."), Then::Close] {
            let at = Scripted::patient();
            at.put("film", content());
            at.server.faults().add(Rule::on("RETR").once().act(Fault::Data {
                after: 70_000,
                end,
                then: then.clone(),
            }));
            assert!(fs::read(at.path("film")).unwrap() == content(), "{end:?} {then:?}");
        }
    }
}

#[test]
fn inside_tls_an_end_without_close_notify_is_not_the_end_of_a_file() {
    let (certificate, key) = fetch::certificate().unwrap();
    let authority = format!("cacert={}", certificate.display());
    for after in [0, 1, 70_000, u64::MAX] {
        for then in [Then::confirmed(), Then::reply("426 Connection closed."), Then::Cut] {
            let options = Options {
                tls: Some((certificate.clone(), key.clone())),
                without: vec!["SIZE", "MLSD", "MLST"],
                ..Options::default()
            };
            let at = Scripted::with(options, &[&IMPATIENT[..], &[&authority]].concat());
            at.put("film", content());
            let fault = Fault::Data { after, end: DataEnd::Cut, then: then.clone() };
            at.server.faults().add(Rule::on("RETR").act(fault));
            if let Ok(bytes) = within(LONGEST, || fs::read(at.path("film"))) {
                assert!(bytes == content(), "{} bytes: {after} {then:?}", bytes.len());
            }
        }
    }
}

#[test]
fn a_download_that_stalls_is_an_error_in_time() {
    let at = Scripted::impatient();
    at.put("film", content());
    // Nothing at all comes: a few bytes at each try would be progress, and be taken for it.
    let fault = Fault::Data { after: 0, end: DataEnd::Stalled, then: Then::Silent };
    at.server.faults().add(Rule::on("RETR").act(fault));
    assert!(within(LONGEST, || fs::read(at.path("film"))).is_err());
    at.server.faults().clear();
    eventually("all is well afterwards", || fs::read(at.path("film")).is_ok_and(|bytes| bytes == content()));
}

#[test]
fn a_data_connection_that_never_comes_is_an_error_in_time() {
    for verb in ["RETR", "MLSD", "STOR"] {
        let at = Scripted::impatient();
        at.put("file", b"text");
        at.server.faults().add(Rule::on(verb).act(Fault::NoData(Then::Silent)));
        let outcome = within(LONGEST, || match verb {
            "RETR" => fs::read(at.path("file")).map(|_| ()),
            "MLSD" => names(at.mount.path()).map(|_| ()),
            _ => store(&at.path("new"), b"new"),
        });
        assert!(outcome.is_err(), "{verb}");
    }
}

#[test]
fn a_server_that_says_nothing_any_more_holds_nobody_for_ever() {
    let at = Scripted::impatient();
    at.put("folder/file", b"text");
    assert_eq!(names(at.mount.path()).unwrap(), ["folder"]);
    at.server.faults().add(Rule::on("*").act(Fault::Silent));
    assert!(within(LONGEST, || fs::read(at.path("folder/file"))).is_err());
    assert!(within(LONGEST, || fs::create_dir(at.path("new"))).is_err());
    assert!(within(LONGEST, || store(&at.path("new"), b"x")).is_err());
    // df asks nobody.
    shell::ok(at.mount.path(), "stat -f . > ../df");
    at.server.faults().clear();
    eventually("life afterwards", || fs::read(at.path("folder/file")).is_ok_and(|b| b == b"text"));
}

#[test]
fn a_black_hole_ends_in_errors_and_light_brings_everything_back() {
    let scratch = Scratch::new("served");
    fs::write(scratch.path().join("seen"), content()).unwrap();
    fs::write(scratch.path().join("unseen"), "text").unwrap();
    let server = Server::start(scratch.path()).unwrap();
    let relay = Relay::new(&server);
    let mount = Mount::new(&relay, &IMPATIENT);
    assert!(fs::read(mount.path().join("seen")).unwrap() == content());
    relay.black_hole();
    assert!(within(LONGEST, || fs::read(mount.path().join("unseen"))).is_err());
    assert!(within(LONGEST, || store(&mount.path().join("new"), b"new")).is_err());
    relay.cut();
    relay.heal();
    eventually("light", || fs::read(mount.path().join("unseen")).is_ok_and(|b| b == b"text"));
    store(&mount.path().join("new"), b"new").unwrap();
    assert_eq!(fs::read(scratch.path().join("new")).unwrap(), b"new");
}

#[test]
fn a_cut_line_is_mended_in_the_middle_of_a_file() {
    let scratch = Scratch::new("served");
    let film: Vec<u8> = (0..6_000_000u32).flat_map(u32::to_le_bytes).collect();
    fs::write(scratch.path().join("film"), &film).unwrap();
    let server = Server::start(scratch.path()).unwrap();
    let relay = Relay::new(&server);
    let mount = Mount::new(&relay, &["timeout=5"]);
    let mut file = File::open(mount.path().join("film")).unwrap();
    let mut read = vec![0; 1_000_000];
    file.read_exact(&mut read).unwrap();
    relay.cut();
    file.read_to_end(&mut read).unwrap();
    assert!(read == film);

    let mut writer = Script::start(
        mount.path(),
        "film = open('film', 'rb').read()\nf = os.open('copy', os.O_WRONLY | os.O_CREAT)\n\
         half = len(film) // 2\nos.write(f, film[:half])\npause()\nos.write(f, film[half:])\nos.close(f)",
    );
    writer.await_pause();
    relay.cut();
    writer.go_on();
    assert!(writer.end().0, "{}", mount.log());
    assert!(fs::read(scratch.path().join("copy")).unwrap() == film);
}

#[test]
fn everything_works_with_one_session() {
    let at = Scripted::with(Options { max_sessions: 1, ..Options::default() }, &[]);
    for i in 0..20 {
        at.put(&format!("d{}/f{i}", i % 4), content());
    }
    shell::ok(at.mount.path(), "cp -r d0 d1 d2 d3 .. && for i in 0 1 2 3; do diff -r d$i ../d$i; done");
    shell::ok(
        at.mount.path(),
        "cp -r ../d1 new && cat d2/f2 > n & cat d3/f3 > m & wait; cmp n d2/f2 && cmp m d3/f3",
    );
    assert_eq!(at.server.counters().now().most_open, 1);
}

#[test]
fn an_idle_session_that_was_closed_is_not_noticed() {
    let options = Options { idle: Duration::from_millis(200), ..Options::default() };
    let at = Scripted::with(options, &[]);
    at.put("one", b"1");
    at.put("two", b"2");
    assert_eq!(fs::read(at.path("one")).unwrap(), b"1");
    eventually("the server to close", || at.server.counters().now().open == 0);
    assert_eq!(fs::read(at.path("two")).unwrap(), b"2");
    eventually("the server to close", || at.server.counters().now().open == 0);
    store(&at.path("three"), b"3").unwrap();
    assert!(at.holds("three", b"3"));
    eventually("the server to close", || at.server.counters().now().open == 0);
    fs::rename(at.path("three"), at.path("four")).unwrap();
}

#[test]
fn a_wrong_password_is_told_once_and_not_tried_again() {
    let scratch = Scratch::new("served");
    let server = Server::start(scratch.path()).unwrap();
    struct Wrong(String);
    impl Target for Wrong {
        fn url(&self) -> String {
            self.0.clone()
        }
        fn password(&self) -> String {
            "wrong".into()
        }
    }
    let refused = Mount::attempt(&Wrong(server.url()), &[]).err().expect("it must not mount");
    assert!(refused.status.is_some_and(|status| !status.success()), "{refused:?}");
    assert!(!refused.log.contains("wrong\""), "the password is in the log");
    assert_eq!(server.counters().of("PASS"), 1);
}

#[test]
fn a_server_that_is_not_there_or_is_none_fails_the_mount() {
    for greeting in ["SSH-2.0-OpenSSH_9.2\r\n", "HTTP/1.0 400 Bad Request\r\n\r\n", "421 Too many users.\r\n"]
    {
        let scratch = Scratch::new("served");
        let server = Server::start(scratch.path()).unwrap();
        server.faults().add(Rule::on("CONNECT").act(Fault::Raw(greeting.into())));
        let refused = Mount::attempt(&server, &IMPATIENT).err().expect("it must not mount");
        assert!(refused.status.is_some_and(|status| !status.success()), "{greeting}: {refused:?}");
    }
}
