//! A server that means harm: replies and listings without end, names and links that lead out, numbers that no file has, files that
//! are longer or shorter than they were said to be, words smuggled in before TLS, data connections to somebody else's ports.
//!
//! The rule: memory stays bounded, nothing panics, a program gets an error (or the truth), never a wrong success; and when the
//! server behaves again, so does the mount. Every mount here lives under a limit of its address space.

#[allow(dead_code, unused_imports, reason = "each test binary uses its own part of the harness")]
mod harness;

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use harness::files::{names, store};
use harness::patience::{at_once, eventually, within};
use harness::scratch::Scratch;
use harness::scripted::{Fault, Options, Rule, Server};
use harness::{Mount, Target, fetch, shell};
use nix::libc;

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
            let day = Day::new();
            day.put("file", b"text");
            let flood = Fault::Flood { head: head.clone(), unit: unit.clone(), bytes: GIB };
            day.server.faults().add(Rule::on(verb).act(flood));
            let shown = || format!("{verb}: {}{}...", head.escape_ascii(), unit.escape_ascii());
            day.lives_through_lies(&shown());
            assert_eq!(day.server.counters().now().flooded, 0, "{} was read to its end", shown());
            day.is_well_again(&shown());
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
        let day = Day::new();
        day.put("file", b"text");
        day.server.drop_sessions();
        day.server.faults().add(Rule::on(verb).act(Fault::First(b"150 Soon.\r\n".repeat(100_000))));
        day.lives_through(verb);
        day.is_well_again(verb);
    });
}

#[test]
fn replies_that_come_before_their_commands_answer_nothing() {
    at_once(6, vec!["EPSV", "MLSD", "STOR", "RETR", "SIZE"], |verb| {
        for early in
            ["226 Transfer complete.\r\n", "250 Done.\r\n", "350 Go on.\r\n", "213 4\r\n", "226 \r\n250 \r\n"]
        {
            let day = Day::new();
            day.put("file", b"text");
            day.server.faults().add(Rule::on(verb).act(Fault::First(early.into())));
            day.lives_through(&format!("{verb}: {early:?}"));
            day.is_well_again(&format!("{verb}: {early:?}"));
        }
    });
}

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
        let day = Day::with(Options::default(), &["timeout=40"]);
        day.put("folder/file", b"text");
        let fault = Fault::Lines { line: (*line).to_owned(), bytes: 4 * GIB };
        day.server.faults().add(Rule::on("MLSD").path("folder").act(fault));
        // The first names are shown before the end is known: the error may come while one reads.
        let listed = within(LONGEST, || {
            fs::read_dir(day.path("folder"))
                .and_then(|names| names.map(|name| name.map(drop)).collect::<Result<Vec<_>, _>>())
        });
        assert!(listed.is_err(), "{line}: {} names", listed.unwrap().len());
        assert!(day.server.counters().now().bytes_sent < GIB, "{line}");
        let asked = day.server.counters().now().lines.into_iter().filter(|(_, line)| line == "MLSD /folder");
        assert_eq!(asked.count(), 1, "{line}: asked again for the same");
        // A million names were held for a moment: what is needed to see that there are too many.
        assert!(day.mount.peak_memory() < 900 << 10, "{line}: {} KiB", day.mount.peak_memory());
        day.server.faults().clear();
        eventually(line, || fs::read(day.path("folder/file")).is_ok_and(|bytes| bytes == b"text"));
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
        let day = Day::new();
        day.put("good", b"good");
        day.server.faults().add(Rule::on("MLSD").act(Fault::Content(listing.into_bytes())));
        assert_eq!(names(day.mount.path()).unwrap(), ["good"]);
        assert_eq!(fs::read(day.path("good")).unwrap(), b"good");
        assert!(day.server.counters().now().lines.iter().all(|(_, line)| !line.contains("passwd")));
    }
}

#[test]
fn two_equal_names_are_one_file() {
    let day = Day::new();
    day.put("twice", b"text");
    let listing = "type=file;size=4; twice\r\ntype=file;size=9; twice\r\ntype=dir; twice\r\ntype=file;size=4; twice\r\n";
    day.server.faults().add(Rule::on("MLSD").act(Fault::Content(listing.into())));
    assert_eq!(names(day.mount.path()).unwrap(), ["twice"]);
    assert_eq!(fs::read(day.path("twice")).unwrap(), b"text");
}

#[test]
fn links_in_a_circle_and_links_that_lead_out_are_errors() {
    let day = Day::new();
    day.put("good", b"good");
    let listing = "type=OS.unix=slink:b; a\r\ntype=OS.unix=slink:a; b\r\ntype=OS.unix=slink:self; self\r\n\
        type=OS.unix=slink:../../../../etc/passwd; up\r\ntype=OS.unix=slink:/../etc/passwd; top\r\n\
        type=OS.unix=slink:good; fine\r\ntype=OS.unix=slink:; empty\r\ntype=file;size=4; good\r\n";
    day.server.faults().add(Rule::on("MLSD").act(Fault::Content(listing.into())));
    for (name, errno) in [("a", libc::ELOOP), ("self", libc::ELOOP), ("up", libc::EACCES)] {
        let error = within(LONGEST, || fs::read(day.path(name))).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(errno), "{name}: {error}");
    }
    // An absolute target starts at the server's root, which is the mount's.
    for name in ["top", "empty"] {
        assert!(within(LONGEST, || fs::read(day.path(name))).is_err(), "{name}");
    }
    assert_eq!(fs::read(day.path("fine")).unwrap(), b"good");
    assert_eq!(fs::canonicalize(day.path("fine")).unwrap(), fs::canonicalize(day.path("good")).unwrap());
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
            let day = Day::with(Options { without, ..Options::default() }, &SHORT);
            day.put("good", b"good");
            day.put("odd", b"text");
            let listing =
                format!("type=file;{facts}; odd\r\ntype=file;size=4;modify=20200101000000; good\r\n");
            day.server.faults().add(Rule::on("MLSD").act(Fault::Content(listing.into_bytes())));
            assert!(names(day.mount.path()).unwrap().contains(&"good".to_owned()), "{facts}");
            let _ =
                within(LONGEST, || fs::metadata(day.path("odd")).map(|found| (found.len(), found.mtime())));
            shell::run(day.mount.path(), "ls -la; stat odd; tail -c 100 odd; head -c 3 odd; test -e odd");
            if let Ok(file) = File::open(day.path("odd")) {
                for offset in [0, 1 << 40, i64::MAX as u64 - 10] {
                    let mut block = [0; 8];
                    if let Ok(read) = within(LONGEST, || file.read_at(&mut block, offset)) {
                        assert!(read <= 4 || offset > 4, "{facts}: {read} bytes at {offset}");
                    }
                }
            }
            assert_eq!(fs::read(day.path("good")).unwrap(), b"good", "{facts}");
            assert!(day.mount.peak_memory() < BOUND, "{facts}");
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
            let day = Day::with(Options { without, ..Options::default() }, &SHORT);
            day.put("file", b"text");
            day.server.faults().add(Rule::on(verb).act(Fault::Reply((*text).into())));
            day.lives_through(&format!("{verb}: {text}"));
            day.is_well_again(&format!("{verb}: {text}"));
        }
    });
}

#[test]
fn a_file_that_is_longer_or_shorter_than_it_was_said_to_be_is_the_truth_or_an_error() {
    let truth: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
    for sent in [0, 1, truth.len() / 2, truth.len() - 1, truth.len() + 1, truth.len() * 3] {
        let mut content = truth.clone();
        content.resize(sent, b'+');
        let day = Day::new();
        day.put("file", &truth);
        // What RETR sends differs from what MLSD, MLST and SIZE say.
        day.server.faults().add(Rule::on("RETR").act(Fault::Content(content.clone())));
        if let Ok(read) = within(LONGEST, || fs::read(day.path("file"))) {
            let is_truth = read == truth;
            // A longer file: what was asked for is all there, and more cannot be known to belong to it.
            assert!(is_truth || sent > truth.len() && read == content, "{sent} sent, {} read", read.len());
        }
        day.server.faults().clear();
        eventually("the truth", || fs::read(day.path("file")).is_ok_and(|read| read == truth));
    }
    // Without end.
    let day = Day::new();
    day.put("file", &truth);
    let endless = Fault::Lines { line: "{}\n".into(), bytes: 4 * GIB };
    day.server.faults().add(Rule::on("RETR").act(endless));
    if let Ok(read) = within(LONGEST, || fs::read(day.path("file"))) {
        assert_eq!(read.len(), truth.len());
    }
    assert!(day.mount.peak_memory() < BOUND);
}

#[test]
fn a_listing_that_disagrees_with_size_never_makes_a_wrong_file() {
    for (listed, size) in [(4, 400), (400, 4), (0, 4), (4, 0)] {
        let day = Day::new();
        day.put("file", b"text");
        let listing = format!("type=file;size={listed};modify=20200101000000; file\r\n");
        day.server.faults().add(Rule::on("MLSD").act(Fault::Content(listing.into_bytes())));
        day.server.faults().add(Rule::on("SIZE").act(Fault::Reply(format!("213 {size}"))));
        if let Ok(read) = within(LONGEST, || fs::read(day.path("file"))) {
            // Four bytes are there. Who says fewer is believed; who says more is found out.
            assert!(b"text".starts_with(&read[..]), "{listed} {size}: {read:?}");
        }
        // And what is written is not called safe while the server says that it is something else.
        if within(LONGEST, || store(&day.path("new"), b"four")).is_ok() {
            assert_eq!(fs::read(day.server.root().join("new")).unwrap(), b"four");
        }
    }
}

/// The server's own host is 127.0.0.2; whoever listens on 127.0.0.1 is somebody else.
#[test]
fn data_connections_go_nowhere_but_to_the_server() {
    let canary = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = canary.local_addr().unwrap().port();
    let visits = Arc::new(AtomicUsize::new(0));
    let seen = visits.clone();
    std::thread::spawn(move || {
        for _ in canary.incoming() {
            seen.fetch_add(1, Ordering::SeqCst);
        }
    });
    let (high, low) = (port >> 8, port & 0xff);
    let options = || Options { address: Ipv4Addr::new(127, 0, 0, 2), ..Options::default() };
    let cases = vec![
        (vec!["EPSV"], "PASV", format!("227 Entering Passive Mode (127,0,0,1,{high},{low}).")),
        (vec!["EPSV"], "PASV", format!("227 Entering Passive Mode (10,1,2,3,{high},{low}).")),
        (vec!["EPSV"], "PASV", "227 Entering Passive Mode (127,0,0,1,0,22).".to_owned()),
        (vec!["EPSV"], "PASV", "227 Entering Passive Mode (127,0,0,1,0,0).".to_owned()),
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
        let day = Day::with(options, &["timeout=2", "shutdown_timeout=2", "passive"]);
        day.put("file", b"text");
        // The ready connections of before are not asked for any more.
        day.server.drop_sessions();
        day.server.faults().add(Rule::on(verb).act(Fault::Reply(text.clone())));
        day.lives_through(text);
        day.is_well_again(text);
    });
    assert_eq!(visits.load(Ordering::SeqCst), 0, "somebody else got a data connection");
}

#[test]
fn what_is_said_in_the_clear_before_tls_is_not_taken_for_what_is_said_inside() {
    for smuggled in ["230 You are in.\r\n", "220 Hello.\r\n331 Go on.\r\n230 In.\r\n", "\0", "2"] {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let passwords = Arc::new(AtomicUsize::new(0));
        let seen = passwords.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let _ = clear_then_tls(&stream, smuggled, &seen);
            }
        });
        let target = Raw(format!("ftpes://guest@127.0.0.1:{port}/"));
        // Whoever sits in between could not say so if the certificate were not taken: it is, here.
        let certificate = format!("cacert={}", fetch::certificate().unwrap().0.display());
        let refused = within(LONGEST, || Mount::attempt(&target, &["timeout=5", &certificate])).err();
        let refused = refused.expect("it must not mount");
        assert!(refused.log.contains("in the clear before TLS"), "{smuggled:?}: {}", refused.log);
        assert_eq!(passwords.load(Ordering::SeqCst), 0, "{smuggled:?}");
    }
}

fn clear_then_tls(stream: &TcpStream, smuggled: &str, passwords: &AtomicUsize) -> io::Result<()> {
    let mut to = stream;
    to.write_all(b"220 Hello.\r\n")?;
    for line in BufReader::new(stream).lines() {
        match line?.as_str() {
            // One segment: what follows the 234 is in the client's buffer before TLS begins.
            "AUTH TLS" => to.write_all(format!("234 Go ahead.\r\n{smuggled}").as_bytes())?,
            line if line.starts_with("PASS") => {
                passwords.fetch_add(1, Ordering::SeqCst);
            }
            _ => to.write_all(b"500 What?\r\n")?,
        }
    }
    Ok(())
}

#[test]
fn a_tls_handshake_that_does_not_go_on_fails_in_time() {
    for (scheme, first) in
        [("ftps", ""), ("ftpes", "220 Hello.\r\n"), ("ftpes", "220 Hello.\r\n234 Go ahead.\r\n")]
    {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                std::thread::spawn(move || {
                    let mut parts = first.split_inclusive('\n');
                    let _ = (&stream).write_all(parts.next().unwrap_or_default().as_bytes());
                    let mut block = [0; 1024];
                    while (&stream).read(&mut block).is_ok_and(|n| n > 0) {
                        let _ = (&stream).write_all(parts.next().unwrap_or_default().as_bytes());
                    }
                });
            }
        });
        let target = Raw(format!("{scheme}://guest@127.0.0.1:{port}/"));
        let refused = within(LONGEST, || Mount::attempt(&target, &["timeout=2", "connect_timeout=2"])).err();
        assert!(refused.expect("it must not mount").status.is_some(), "{scheme}");
    }
}

#[test]
fn a_certificate_that_changes_ends_the_trust() {
    let scratch = Scratch::new("served");
    fs::write(scratch.path().join("seen"), "text").unwrap();
    fs::write(scratch.path().join("unseen"), "secret").unwrap();
    let server = Arc::new(Server::start(scratch.path()).unwrap());
    let (certificate, _) = fetch::certificate().unwrap();
    let front = TlsFront::new(server.clone());
    let target = Raw(format!("ftpes://guest@127.0.0.1:{}/", front.port));
    // Commands inside TLS, data in the clear: enough to see who is trusted.
    let options = [
        "ssl_control",
        "timeout=3",
        "shutdown_timeout=2",
        "attr_timeout=0",
        &format!("cacert={}", certificate.display()),
    ];
    let mount = Mount::new(&target, &options);
    assert_eq!(fs::read(mount.path().join("seen")).unwrap(), b"text");
    let passwords = server.counters().of("PASS");
    front.is_somebody_else.store(true, Ordering::SeqCst);
    server.drop_sessions();
    assert!(within(LONGEST, || fs::read(mount.path().join("unseen"))).is_err());
    assert!(within(LONGEST, || store(&mount.path().join("new"), b"secret")).is_err());
    assert_eq!(server.counters().of("PASS"), passwords, "a password went to somebody else");
    assert!(mount.log().contains("certificate"), "the log says why");
    front.is_somebody_else.store(false, Ordering::SeqCst);
    eventually("trust", || fs::read(mount.path().join("unseen")).is_ok_and(|bytes| bytes == b"secret"));
}

/// TLS in front of the scripted server's control connections. It shows one certificate, or another.
struct TlsFront {
    port: u16,
    is_somebody_else: Arc<AtomicBool>,
}

impl TlsFront {
    fn new(server: Arc<Server>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let is_somebody_else = Arc::new(AtomicBool::new(false));
        let (own, others) = (acceptor(&fetch::certificate().unwrap()), acceptor(&another_certificate()));
        let other = is_somebody_else.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let acceptor = if other.load(Ordering::SeqCst) { others.clone() } else { own.clone() };
                let port = server.port();
                std::thread::spawn(move || front(&client, &acceptor, port));
            }
        });
        Self { port, is_somebody_else }
    }
}

fn front(client: &TcpStream, acceptor: &openssl::ssl::SslAcceptor, port: u16) -> Option<()> {
    let server = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
    let mut greeting = String::new();
    BufReader::new(server.try_clone().ok()?).read_line(&mut greeting).ok()?;
    let mut to = client;
    to.write_all(greeting.as_bytes()).ok()?;
    let mut line = [0; 10];
    to.read_exact(&mut line).ok()?;
    to.write_all(b"234 Go ahead.\r\n").ok()?;
    let mut inside = acceptor.accept(client.try_clone().ok()?).ok()?;
    // One thread for both directions: it looks at each side for a moment.
    client.set_read_timeout(Some(Duration::from_millis(2))).ok()?;
    server.set_read_timeout(Some(Duration::from_millis(2))).ok()?;
    let would_block = |e: &io::Error| matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
    loop {
        let mut block = [0; 4096];
        match inside.read(&mut block) {
            Ok(0) => return None,
            Ok(n) => (&server).write_all(&block[..n]).ok()?,
            Err(e) if would_block(&e) => {}
            Err(_) => return None,
        }
        match (&server).read(&mut block) {
            Ok(0) => return None,
            Ok(n) => inside.write_all(&block[..n]).ok()?,
            Err(e) if would_block(&e) => {}
            Err(_) => return None,
        }
    }
}

fn acceptor((certificate, key): &(PathBuf, PathBuf)) -> openssl::ssl::SslAcceptor {
    use openssl::ssl::{SslAcceptor, SslFiletype, SslMethod};
    let mut builder = SslAcceptor::mozilla_intermediate(SslMethod::tls()).unwrap();
    builder.set_certificate_file(certificate, SslFiletype::PEM).unwrap();
    builder.set_private_key_file(key, SslFiletype::PEM).unwrap();
    builder.build()
}

/// As good as the first, but for the key.
fn another_certificate() -> (PathBuf, PathBuf) {
    let folder = Scratch::new("certificate");
    shell::ok(
        folder.path(),
        "openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1 \
         -keyout key.pem -out cert.pem 2>/dev/null",
    );
    let paths = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    // Read when it is used, moments from now; the folder goes with the test run.
    std::mem::forget(folder);
    paths
}

/// A server that is only an address.
struct Raw(String);

impl Target for Raw {
    fn url(&self) -> String {
        self.0.clone()
    }
    fn password(&self) -> String {
        "guest".into()
    }
}

/// A scripted server and its mount, which has short time-outs and little memory.
struct Day {
    mount: Mount,
    server: Server,
    _served: Scratch,
}

impl Day {
    fn new() -> Self {
        Self::with(Options::default(), &SHORT)
    }

    fn with(options: Options, mount_options: &[&str]) -> Self {
        let served = Scratch::new("served");
        let server = Server::start_with(served.path(), options).unwrap();
        let mount = Mount::through(&["prlimit", "--core=0", ADDRESS_SPACE], &server, mount_options);
        Self { mount, server, _served: served }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.mount.path().join(name)
    }

    fn put(&self, name: &str, content: &[u8]) {
        let at = self.server.root().join(name);
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        fs::write(at, content).unwrap();
    }

    /// What a program does on a bad day: no wrong success, and each in time.
    fn lives_through(&self, what: &str) {
        self.goes_through(what, false);
    }

    /// As [`Day::lives_through`], when the server says that it has done what it has not: nobody can see that of a folder.
    fn lives_through_lies(&self, what: &str) {
        self.goes_through(what, true);
    }

    fn goes_through(&self, what: &str, lies: bool) {
        let _ = within(LONGEST, || names(self.mount.path()));
        if let Ok(read) = within(LONGEST, || fs::read(self.path("file"))) {
            assert!(b"text".starts_with(&read[..]), "{what}: {read:?}");
        }
        if within(LONGEST, || store(&self.path("new"), b"new")).is_ok() {
            assert_eq!(fs::read(self.server.root().join("new")).unwrap(), b"new", "{what}");
        }
        if within(LONGEST, || fs::create_dir(self.path("folder"))).is_ok() {
            assert!(lies || self.server.root().join("folder").is_dir(), "{what}");
        }
        if within(LONGEST, || fs::rename(self.path("file"), self.path("moved"))).is_ok() {
            assert!(lies || self.server.root().join("moved").exists(), "{what}");
        }
        if within(LONGEST, || fs::remove_file(self.path("moved"))).is_ok() {
            assert!(!self.server.root().join("moved").exists(), "{what}");
        }
        assert!(self.mount.peak_memory() < BOUND, "{what}: {} KiB", self.mount.peak_memory());
    }

    fn is_well_again(&self, what: &str) {
        self.server.faults().clear();
        self.put("after", b"all is well");
        eventually(what, || store(&self.path("last"), b"word").is_ok());
        eventually(what, || fs::read(self.path("after")).is_ok_and(|bytes| bytes == b"all is well"));
        assert_eq!(fs::read(self.server.root().join("last")).unwrap(), b"word", "{what}");
        assert!(!self.mount.log().contains("panicked"), "{what}:\n{}", self.mount.log());
    }
}

const SHORT: [&str; 2] = ["timeout=2", "shutdown_timeout=2"];
const GIB: u64 = 1 << 30;
/// Threads' stacks and heaps reserve much; what is really used is asked of [`BOUND`].
const ADDRESS_SPACE: &str = "--as=4294967296";
/// KiB at the most that a mount of a few small files may ever have had: 64 MiB of cache that these tests do not fill, 16 MiB
/// for requests, and the program itself.
const BOUND: u64 = 96 << 10;

/// What hangs is not slow: many times the time-out in force.
const LONGEST: Duration = Duration::from_secs(60);
