//! Listings: without end, with names and links that lead out, with sizes and times that no file has.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::Duration;

use nix::libc;

use crate::harness::Scripted;
use crate::harness::files::{names, store};
use crate::harness::mounted::{IMPATIENT, PATIENT};
use crate::harness::patience::{at_once, eventually, within};
use crate::harness::scripted::{Fault, Options, Rule};
use crate::harness::shell;
use crate::{BOUND, GIB, LONGEST};

#[test]
fn listings_without_end_are_given_up_and_cost_bounded_memory() {
    let lines = [
        "type=file;size=4; no end of a line {}",
        "type=dir; d{}\r\n",
        // The same name, for ever.
        "type=file; file\r\n",
        "\r\n",
    ];
    at_once(6, lines.to_vec(), |line| {
        let mut at = Scripted::limited_to(GIB * 3 / 2, Options::default(), &["timeout=40"]);
        at.mount.may_take(READS_TO_THE_LIMIT * 2);
        at.put("folder/file", b"text");
        let fault = Fault::Lines { line: (*line).to_owned(), bytes: 4 * GIB };
        at.server.faults().add(Rule::on("MLSD").path("folder").act(fault));
        // The first names are shown before the end is known: the error may come while one reads.
        let listed = within(READS_TO_THE_LIMIT, || {
            fs::read_dir(at.path("folder"))
                .and_then(|names| names.map(|name| name.map(drop)).collect::<Result<Vec<_>, _>>())
        });
        assert!(listed.is_err(), "{line}: {} names", listed.unwrap().len());
        assert!(at.server.counters().now().bytes_sent < GIB, "{line}");
        let asked = at.server.counters().now().lines.into_iter().filter(|(_, line)| line == "MLSD /folder");
        assert_eq!(asked.count(), 1, "{line}: asked again for the same");
        // A million names were held for a moment: what is needed to see that there are too many.
        assert!(at.mount.peak_memory() < 900 << 10, "{line}: {} KiB", at.mount.peak_memory());
        at.server.faults().clear();
        eventually(line, || fs::read(at.path("folder/file")).is_ok_and(|bytes| bytes == b"text"));
    });
}

#[test]
fn names_that_lead_out_and_names_that_are_none_are_not_shown() {
    let good = "type=file;size=4;modify=20200101000000; good\r\n";
    let long = "n".repeat(4096);
    let bad = format!(
        "type=file;size=1; ../x\r\ntype=file;size=1; /etc/passwd\r\ntype=file;size=1; ..\r\ntype=dir; .\r\n\
         type=file;size=1; a/../b\r\ntype=file;size=1; nul\0inside\r\ntype=file;size=1; {long}\r\n\
         type=file;size=1; \r\ntype=file;size=1; /\r\ntype=file;size=1; ./good\r\n"
    );
    for listing in [format!("{bad}{good}"), format!("{good}{bad}")] {
        let at = Scripted::limited_with(Options::default(), &PATIENT);
        at.put("good", b"good");
        at.server.faults().add(Rule::on("MLSD").act(Fault::Content(listing.into_bytes())));
        assert_eq!(names(at.mount.path()).unwrap(), ["good"]);
        assert_eq!(fs::read(at.path("good")).unwrap(), b"good");
        assert!(at.server.counters().now().lines.iter().all(|(_, line)| !line.contains("passwd")));
    }
}

#[test]
fn two_equal_names_are_one_file() {
    let at = Scripted::limited_with(Options::default(), &PATIENT);
    at.put("twice", b"text");
    let listing = "type=file;size=4; twice\r\ntype=file;size=9; twice\r\ntype=dir; twice\r\ntype=file;size=4; twice\r\n";
    at.server.faults().add(Rule::on("MLSD").act(Fault::Content(listing.into())));
    assert_eq!(names(at.mount.path()).unwrap(), ["twice"]);
    assert_eq!(fs::read(at.path("twice")).unwrap(), b"text");
}

#[test]
fn links_in_a_circle_and_links_that_lead_out_are_errors() {
    let at = Scripted::limited();
    at.put("good", b"good");
    let listing = "type=OS.unix=slink:b; a\r\ntype=OS.unix=slink:a; b\r\ntype=OS.unix=slink:self; self\r\n\
        type=OS.unix=slink:../../../../etc/passwd; up\r\ntype=OS.unix=slink:/../etc/passwd; top\r\n\
        type=OS.unix=slink:good; fine\r\ntype=OS.unix=slink:; empty\r\ntype=file;size=4; good\r\n";
    at.server.faults().add(Rule::on("MLSD").act(Fault::Content(listing.into())));
    for (name, errno) in [("a", libc::ELOOP), ("self", libc::ELOOP), ("up", libc::EACCES)] {
        let error = within(LONGEST, || fs::read(at.path(name))).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(errno), "{name}: {error}");
    }
    // An absolute target starts at the server's root, which is the mount's.
    for name in ["top", "empty"] {
        assert!(within(LONGEST, || fs::read(at.path(name))).is_err(), "{name}");
    }
    assert_eq!(fs::read(at.path("fine")).unwrap(), b"good");
    assert_eq!(fs::canonicalize(at.path("fine")).unwrap(), fs::canonicalize(at.path("good")).unwrap());
}

#[test]
fn sizes_and_times_that_no_file_has_harm_nobody() {
    let odd = vec![
        "size=-1;modify=20200101000000",
        "size=18446744073709551616;modify=20200101000000",
        "size=18446744073709551615;modify=20200101000000",
        "size=9223372036854775807;modify=20200101000000",
        "size=9223372036854775808;modify=20200101000000",
        "size=4;modify=00000101000000",
        "size=4;modify=00000000000000",
        "size=4;modify=99991231235959",
        "size=4;modify=100000101000000",
        "size=4;modify=20201332256199",
        "size=4;modify=-2020010100000",
        "size=;modify=",
    ];
    at_once(6, odd, |facts| {
        for without in [vec![], vec!["SIZE", "MDTM"]] {
            let at = Scripted::limited_with(Options { without, ..Options::default() }, &IMPATIENT);
            at.put("good", b"good");
            at.put("odd", b"text");
            let listing =
                format!("type=file;{facts}; odd\r\ntype=file;size=4;modify=20200101000000; good\r\n");
            at.server.faults().add(Rule::on("MLSD").act(Fault::Content(listing.into_bytes())));
            assert!(names(at.mount.path()).unwrap().contains(&"good".to_owned()), "{facts}");
            let _ =
                within(LONGEST, || fs::metadata(at.path("odd")).map(|found| (found.len(), found.mtime())));
            shell::run(at.mount.path(), "ls -la; stat odd; tail -c 100 odd; head -c 3 odd; test -e odd");
            if let Ok(file) = File::open(at.path("odd")) {
                for offset in [0, 1 << 40, i64::MAX as u64 - 10] {
                    let mut block = [0; 8];
                    if let Ok(read) = within(LONGEST, || file.read_at(&mut block, offset)) {
                        assert!(read <= 4 || offset > 4, "{facts}: {read} bytes at {offset}");
                    }
                }
            }
            assert_eq!(fs::read(at.path("good")).unwrap(), b"good", "{facts}");
            assert!(at.mount.peak_memory() < BOUND, "{facts}");
        }
    });
}

#[test]
fn a_listing_that_disagrees_with_size_never_makes_a_wrong_file() {
    for (listed, size) in [(4, 400), (400, 4), (0, 4), (4, 0)] {
        let at = Scripted::limited();
        at.put("file", b"text");
        let listing = format!("type=file;size={listed};modify=20200101000000; file\r\n");
        at.server.faults().add(Rule::on("MLSD").act(Fault::Content(listing.into_bytes())));
        at.server.faults().add(Rule::on("SIZE").act(Fault::Reply(format!("213 {size}"))));
        if let Ok(read) = within(LONGEST, || fs::read(at.path("file"))) {
            // Four bytes are there. Who says fewer is believed; who says more is found out.
            assert!(b"text".starts_with(&read[..]), "{listed} {size}: {read:?}");
        }
        // And what is written is not called safe while the server says that it is something else.
        if within(LONGEST, || store(&at.path("new"), b"four")).is_ok() {
            assert_eq!(fs::read(at.server.root().join("new")).unwrap(), b"four");
        }
    }
}

/// 256 MiB of lines, or a million names, by a program that is not optimised: half a minute of both processors where nothing else
/// runs, and ten times as long where thirty others want them.
const READS_TO_THE_LIMIT: Duration = Duration::from_secs(400);
