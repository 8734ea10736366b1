//! Replies: without end, too early, too many, and numbers in them that no file has.

use crate::harness::Mount;
use crate::harness::Scripted;
use crate::harness::mounted::IMPATIENT;
use crate::harness::patience::{at_once, within};
use crate::harness::scratch::Scratch;
use crate::harness::scripted::{Fault, Options, Rule, Server};
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
