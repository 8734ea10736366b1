//! Replies: without end, too early, too many, and numbers in them that no file has.

use crate::harness::Mount;
use crate::harness::Scripted;
use crate::harness::files::{names, store};
use crate::harness::mounted::IMPATIENT;
use crate::harness::patience::{at_once, within};
use crate::harness::scratch::Scratch;
use crate::harness::scripted::{Fault, Options, Rule, Server, Then};
use crate::{GIB, LONGEST};

#[test]
fn replies_of_a_gibibyte_and_without_end_are_given_up_early() {
    let floods = [
        // One line; many lines of one reply; many whole replies; nothing that is a reply; nothing at all but noughts.
        (b"250 ".to_vec(), b"x".to_vec()),
        (b"250-first\r\n".to_vec(), b"250-more\r\n".to_vec()),
        (b"250-first\r\n".to_vec(), b" more\r\n".to_vec()),
        (Vec::new(), b"250 Done.\r\n".to_vec()),
        (Vec::new(), b"150 Still at it.\r\n".to_vec()),
        (Vec::new(), b"garbage without an end ".to_vec()),
        (Vec::new(), b"\0\0\0\0".to_vec()),
        (Vec::new(), b"\r\n".to_vec()),
        (Vec::new(), b"\xff\xf6".to_vec()),
    ];
    at_once(6, floods.to_vec(), |(head, unit)| {
        // One flood at every place; the others where it matters most.
        let all = ["RETR", "RNTO", "SIZE", "EPSV", "MLSD", "STOR", "MKD"];
        for verb in if head == b"250 " { &all[..] } else { &all[4..] } {
            let at = Scripted::limited();
            at.put("file", b"text");
            let flood = Fault::Flood { head: head.clone(), unit: unit.clone(), bytes: GIB };
            at.server.faults().add(Rule::on(verb).act(flood));
            let shown = || format!("{verb}: {}{}...", head.escape_ascii(), unit.escape_ascii());
            at.lives_through_lies(&shown());
            assert_eq!(at.server.counters().now().flooded, 0, "{} was read to its end", shown());
            at.is_well_again(&shown());
        }
    });
}

#[test]
fn a_greeting_or_a_login_without_end_fails_the_mount_in_time() {
    at_once(6, vec!["CONNECT", "USER", "PASS", "FEAT", "PWD"], |verb| {
        let scratch = Scratch::new("served");
        let server = Server::start(scratch.path()).unwrap();
        let flood = Fault::Flood { head: b"2".to_vec(), unit: b"20-more\r\n2".to_vec(), bytes: GIB };
        server.faults().add(Rule::on(verb).act(flood));
        let outcome = within(LONGEST, || Mount::attempt(&server, &["timeout=2"]));
        // What a server says of its features is not needed.
        assert!(outcome.is_err() || *verb == "FEAT", "{verb}");
        assert_eq!(server.counters().now().flooded, 0, "{verb}");
    });
}

#[test]
fn a_hundred_thousand_preliminary_replies_are_not_waited_through() {
    at_once(6, vec!["RETR", "STOR", "MLSD", "MKD", "DELE", "CONNECT"], |verb| {
        let at = Scripted::limited();
        at.put("file", b"text");
        at.server.drop_sessions();
        at.server.faults().add(Rule::on(verb).act(Fault::First(b"150 Soon.\r\n".repeat(100_000))));
        at.lives_through(verb);
        at.is_well_again(verb);
    });
}

#[test]
fn replies_that_come_before_their_commands_answer_nothing() {
    at_once(6, vec!["EPSV", "MLSD", "STOR", "RETR", "SIZE"], |verb| {
        for early in
            ["226 Transfer complete.\r\n", "250 Done.\r\n", "350 Go on.\r\n", "213 4\r\n", "226 \r\n250 \r\n"]
        {
            let at = Scripted::limited();
            at.put("file", b"text");
            at.server.faults().add(Rule::on(verb).act(Fault::First(early.into())));
            at.lives_through(&format!("{verb}: {early:?}"));
            at.is_well_again(&format!("{verb}: {early:?}"));
        }
    });
}

/// RFC 959 knows these numbers, but not as an answer to these commands: an error, or the truth.
#[test]
fn replies_that_belong_to_other_commands_are_no_success_of_what_was_not_done() {
    let odd = [
        ("RNFR", &["250 Fine.", "226 Fine.", "150 Soon.", "331 Password?"][..]),
        ("RNTO", &["350 Go on.", "150 Soon.", "331 Password?"]),
        ("MKD", &["150 Soon.", "331 Password?", "350 Go on."]),
        ("RMD", &["150 Soon.", "350 Go on."]),
        ("DELE", &["150 Soon.", "331 Password?", "350 Go on."]),
        ("RETR", &["331 Password?", "350 Go on.", "250 Done.", "226 Done."]),
        ("STOR", &["331 Password?", "350 Go on.", "250 Done.", "226 Done."]),
        ("MLSD", &["331 Password?", "350 Go on.", "250 Done."]),
    ];
    let said = odd.iter().flat_map(|(verb, texts)| texts.iter().map(|text| (*verb, *text)));
    // All that there ever is of an answer; and behind what was done. That a folder was made although it was not can be told by a
    // number of the right hundred: nobody sees that, so it is asked for only where it was.
    let cases = said.flat_map(|(verb, text)| {
        [Fault::Reply(text.into()), Fault::Done(Then::reply(text))].map(|fault| (verb, fault))
    });
    let done = [("MKD", "226 Made."), ("DELE", "226 Gone."), ("RNTO", "226 Moved."), ("RMD", "200 Gone.")];
    let done = done.map(|(verb, text)| (verb, Fault::Done(Then::reply(text))));
    at_once(6, cases.chain(done).collect(), |(verb, fault)| {
        let at = Scripted::limited();
        let what = format!("{verb}: {fault:?}");
        at.put("file", b"text");
        at.put("other", b"text");
        std::fs::create_dir(at.root().join("empty")).unwrap();
        at.server.faults().add(Rule::on(verb).act(fault.clone()));
        if let Ok(names) = within(LONGEST, || names(at.mount.path())) {
            assert_eq!(names, ["empty", "file", "other"], "{what}");
        }
        if let Ok(read) = within(LONGEST, || std::fs::read(at.path("file"))) {
            assert_eq!(read, b"text", "{what}");
        }
        if within(LONGEST, || store(&at.path("new"), b"new")).is_ok() {
            assert!(at.holds("new", b"new"), "{what}");
        }
        if within(LONGEST, || std::fs::create_dir(at.path("made"))).is_ok() {
            assert!(at.root().join("made").is_dir(), "{what}");
        }
        if within(LONGEST, || std::fs::remove_dir(at.path("empty"))).is_ok() {
            assert!(!at.root().join("empty").exists(), "{what}");
        }
        if within(LONGEST, || std::fs::rename(at.path("file"), at.path("moved"))).is_ok() {
            assert!(at.holds("moved", b"text") && !at.root().join("file").exists(), "{what}");
        }
        if within(LONGEST, || std::fs::remove_file(at.path("other"))).is_ok() {
            assert!(!at.root().join("other").exists(), "{what}");
        }
        assert!(at.server.counters().of(verb) > 0, "{what}: it was never asked for");
        at.is_well_again(&what);
    });
}

#[test]
fn what_size_mdtm_and_mlst_say_beside_the_truth_harms_nobody() {
    let lies = vec![
        ("SIZE", "213 -1"),
        ("SIZE", "213 18446744073709551616"),
        ("SIZE", "213 9223372036854775807"),
        ("SIZE", "213 0"),
        ("SIZE", "213"),
        ("SIZE", "213 4 5 6"),
        ("MDTM", "213 00000101000000"),
        ("MDTM", "213 99999999999999"),
        ("MDTM", "213 "),
        ("MLST", "250-Listing\r\n type=file;size=-1;modify=0; /file\r\n250 End"),
        ("MLST", "250-Listing\r\n type=dir; /file\r\n250 End"),
        ("MLST", "250-Listing\r\n250 End"),
    ];
    at_once(6, lies, |(verb, text)| {
        for without in [vec![], vec!["MLSD", "MLST"]] {
            let at = Scripted::limited_with(Options { without, ..Options::default() }, &IMPATIENT);
            at.put("file", b"text");
            at.server.faults().add(Rule::on(verb).act(Fault::Reply((*text).into())));
            at.lives_through(&format!("{verb}: {text}"));
            at.is_well_again(&format!("{verb}: {text}"));
        }
    });
}
