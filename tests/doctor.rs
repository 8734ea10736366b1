//! The doctor says the right thing: about servers that work, and about each of the ways in which they do not.

#[allow(dead_code, unused_imports, reason = "each test binary uses its own part of the harness")]
mod harness;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{Command, Output, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use harness::patience::at_once;
use harness::program;
use harness::scratch::Scratch;
use harness::scripted::{self, Fault, Rule, Then};
use harness::{Kind, Options, Server, Target, Tls};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, bind, getsockname, listen, socket,
};
use openssl::asn1::Asn1Time;
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::rsa::Rsa;
use openssl::ssl::{SslAcceptor, SslMethod};
use openssl::x509::extension::SubjectAlternativeName;
use openssl::x509::{X509, X509Name};

#[test]
fn a_server_that_works_is_said_to_work_and_nothing_is_written_there() {
    at_once(4, Kind::MAIN.to_vec(), |&kind| {
        let Some(server) = Server::start(kind) else { return };
        server.put("film", vec![7; 400_000]);
        let before = fs::read_dir(server.root()).unwrap().count();
        let told = examine(&server, &[]);
        assert_eq!(told.code, 0, "{kind:?}: {}", told.text);
        assert!(!told.text.contains("FAIL"), "{kind:?}: {}", told.text);
        for words in ["can be mounted", "passive, which is the default", "is let in", "speed", "sessions"] {
            assert!(told.text.contains(words), "{kind:?}: {words} is missing: {}", told.text);
        }
        assert_eq!(fs::read_dir(server.root()).unwrap().count(), before);
        assert!(!told.text.contains(&server.password()), "{}", told.text);
    });
}

#[test]
fn data_connections_inside_tls_are_tried_too() {
    at_once(4, Kind::MAIN.to_vec(), |&kind| {
        let options = Options { tls: Tls::Explicit, ..Options::default() };
        let Some(server) = Server::start_with(kind, &options) else { return };
        let told = examine(&server, &["-o", "no_verify_peer"]);
        assert_eq!(told.code, 0, "{kind:?}: {}", told.text);
        assert!(!told.text.contains("FAIL"), "{kind:?}: {}", told.text);
        for words in ["NOT checked", "ok    passive   EPSV", "ok    passive   PASV", "ok    active"] {
            assert!(told.text.contains(words), "{kind:?}: {words} is missing: {}", told.text);
        }
    });
}

#[test]
fn odd_servers_that_can_be_mounted_are_said_to_be() {
    at_once(4, Kind::OTHERS.to_vec(), |&kind| {
        let Some(server) = Server::start(kind) else { return };
        let told = examine(&server, &["-o", "timeout=3"]);
        assert_eq!(told.code, 0, "{kind:?}: {}", told.text);
        assert!(told.text.contains("can be mounted"), "{kind:?}: {}", told.text);
    });
}

#[test]
fn a_write_test_leaves_nothing_behind() {
    at_once(4, Kind::MAIN.to_vec(), |&kind| {
        let Some(server) = Server::start(kind) else { return };
        server.make_folder("incoming");
        let told = examine(&server, &["--write-test", "incoming"]);
        assert_eq!(told.code, 0, "{kind:?}: {}", told.text);
        for words in ["a file was stored, and its size is right", "it was renamed", "it was removed"] {
            assert!(told.text.contains(words), "{kind:?}: {words} is missing: {}", told.text);
        }
        assert_eq!(fs::read_dir(server.root().join("incoming")).unwrap().count(), 0, "{}", told.text);
    });
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let Some(server) = Server::start(Kind::Proftpd) else { return };
    let told = examine(&server, &["--write-test", "no-such-folder"]);
    assert_eq!(told.code, 2, "{}", told.text);
    assert!(told.text.contains("Nothing can be written in /no-such-folder"), "{}", told.text);
}

#[test]
fn a_private_address_in_pasv_is_explained_and_does_no_harm() {
    let (_scratch, server) = scripted();
    server.faults().add(Rule::on("PASV").act(Fault::Address([10, 0, 0, 5])));
    let told = examine(&server, &[]);
    assert_eq!(told.code, 0, "{}", told.text);
    for words in
        ["announces 10.0.0.5, a private address", "ignores it and goes to 127.0.0.1", "no option is needed"]
    {
        assert!(told.text.contains(words), "{words} is missing: {}", told.text);
    }
}

#[test]
fn closed_passive_ports_are_the_servers_firewall_and_active_is_the_way() {
    let (_scratch, server) = scripted();
    let (_held, closed) = closed_port();
    passive_port(&server, closed);
    let told = examine(&server, &[]);
    assert_eq!(told.code, 0, "{}", told.text);
    for words in [
        "FAIL  passive",
        "Most likely the server's firewall",
        "use `-o active`",
        "the server came to 127.0.0.1",
    ] {
        assert!(told.text.contains(words), "{words} is missing: {}", told.text);
    }
}

#[test]
fn passive_ports_that_swallow_packets_are_told_from_closed_ones() {
    let (_scratch, server) = scripted();
    // A queue that is full: the kernel drops what comes, as a firewall would.
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    listen(&deaf, Backlog::new(0).unwrap()).unwrap();
    let address = deaf.local_addr().unwrap();
    let queue: Vec<_> = (0..4)
        .filter_map(|_| {
            std::net::TcpStream::connect_timeout(&address, std::time::Duration::from_millis(200)).ok()
        })
        .collect();
    passive_port(&server, address.port());
    server.faults().add(Rule::on("EPRT").act(Fault::Reply("502 no".into())));
    server.faults().add(Rule::on("PORT").act(Fault::Reply("500 Illegal PORT command.".into())));
    let told = examine(&server, &["-o", "connect_timeout=1"]);
    drop((queue, deaf));
    assert_eq!(told.code, 3, "{}", told.text);
    for words in [
        "a firewall drops the packets",
        "No data connection can be made in either direction",
        "pasv_min_port",
    ] {
        assert!(told.text.contains(words), "{words} is missing: {}", told.text);
    }
}

#[test]
fn a_self_signed_certificate_is_told_with_the_pin_that_then_works() {
    for tls in [Tls::Explicit, Tls::Implicit] {
        let options = Options { tls, ..Options::default() };
        let Some(server) = Server::start_with(Kind::Vsftpd, &options) else { continue };
        let told = examine(&server, &[]);
        assert_eq!(told.code, 5, "{}", told.text);
        assert!(told.text.contains("No password was sent"), "{}", told.text);
        let (_, after) = told.text.split_once("-o pin=").unwrap_or_else(|| panic!("no pin: {}", told.text));
        let pin: String = after.chars().take_while(char::is_ascii_hexdigit).collect();
        let told = examine(&server, &["-o", &format!("pin={pin}")]);
        assert_eq!(told.code, 0, "{}", told.text);
        for words in ["TLSv1.", "it is the pinned one", "can be mounted"] {
            assert!(told.text.contains(words), "{words} is missing: {}", told.text);
        }
    }
}

#[test]
fn a_certificate_is_shown_with_its_names_its_dates_and_the_versions_of_tls() {
    at_once(4, [Kind::Vsftpd, Kind::Proftpd].to_vec(), |&kind| {
        let options = Options { tls: Tls::Explicit, ..Options::default() };
        let Some(server) = Server::start_with(kind, &options) else { return };
        let told = examine(&server, &["-o", "no_verify"]);
        for words in [
            "the server has TLS 1.3 and 1.2",
            "localhost, self-signed; names: localhost, 127.0.0.1",
            "days are left",
            "its SHA-256, for pin=, is ",
            "the TLS session is resumed",
        ] {
            assert!(told.text.contains(words), "{kind:?}: {words} is missing: {}", told.text);
        }
    });
}

#[test]
fn a_certificate_that_is_not_the_right_one_is_told_apart() {
    let day =
        |days: i64| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64 + days * 86_400;
    for (names, from, to, words, advice) in [
        (&["localhost"][..], day(-90), day(-3), "it has expired 3 days ago", "has expired"),
        (&["localhost"], day(2), day(90), "not yet", "is not valid yet"),
        (
            &["nas.example", "*.b.example"],
            day(-1),
            day(90),
            "localhost is not among them",
            "for another name",
        ),
    ] {
        let (url, certificate) = tls_server(names, from, to);
        let scratch = Scratch::new("certificate");
        let file = scratch.path().join("server.pem");
        fs::write(&file, certificate).unwrap();
        // Trusted, but for what is wrong with it.
        let list = format!("timeout=5,cacert={}", file.display());
        let told = run(&url, "never sent", &["-o", &list]);
        assert_eq!(told.code, 5, "{}", told.text);
        for words in [words, advice, "the server has TLS 1.3 and 1.2", "No password was sent"] {
            assert!(told.text.contains(words), "{words} is missing: {}", told.text);
        }
    }
}

#[test]
fn a_wrong_password_is_sent_once_and_told() {
    let (_scratch, server) = scripted();
    let told = run(&server.url(), "wrong", &[]);
    assert_eq!(told.code, 2, "{}", told.text);
    assert!(told.text.contains("refuses the user guest with this password"), "{}", told.text);
    assert_eq!(server.counters().of("PASS"), 1);
}

#[test]
fn a_port_without_a_server_is_told() {
    let (_held, port) = closed_port();
    let told = run(&format!("ftp://joe@127.0.0.1:{port}/"), "x", &[]);
    assert_eq!(told.code, 3, "{}", told.text);
    assert!(told.text.contains("nothing listens on port"), "{}", told.text);
    let told = run("ftp://joe@no-such-host.invalid/", "x", &[]);
    assert_eq!(told.code, 3, "{}", told.text);
    assert!(told.text.contains("cannot be resolved"), "{}", told.text);
}

#[test]
fn what_is_no_ftp_server_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let served = std::thread::spawn(move || {
        // One visit looks whether anybody listens, the next one talks.
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.2p1\r\n");
        }
    });
    let told = run(&format!("ftp://joe@127.0.0.1:{port}/"), "x", &[]);
    served.join().unwrap();
    assert_eq!(told.code, 3, "{}", told.text);
    assert!(told.text.contains("Use sshfs"), "{}", told.text);
}

#[test]
fn a_server_that_is_full_is_not_taken_for_a_wrong_password() {
    let (_scratch, server) = scripted();
    let full = Fault::Reply("421 There are too many connections from your internet address.".into());
    server.faults().add(Rule::on("CONNECT").act(full));
    let told = examine(&server, &[]);
    assert_eq!(told.code, 2, "{}", told.text);
    assert!(told.text.contains("allows no further session"), "{}", told.text);
    assert_eq!(server.counters().of("PASS"), 0);
}

#[test]
fn a_limit_of_sessions_is_found() {
    let scratch = Scratch::new("scripted");
    let options = scripted::Options { max_sessions: 3, ..scripted::Options::default() };
    let server = scripted::Server::start_with(scratch.path(), options).unwrap();
    let told = examine(&server, &[]);
    assert_eq!(told.code, 0, "{}", told.text);
    assert!(told.text.contains("Only 3 sessions are allowed"), "{}", told.text);
    assert!(server.counters().now().most_open <= 3);
}

#[test]
fn no_more_sessions_are_opened_than_max_conns_says() {
    let logins = |most: u64, words| {
        let (_scratch, server) = scripted();
        let told = examine(&server, &["-o", &format!("max_conns={most}")]);
        assert_eq!(told.code, 0, "{}", told.text);
        assert!(told.text.contains(words), "{}", told.text);
        // The one of the check before may still be on its way out.
        assert!(server.counters().now().most_open <= most + 1, "{}", told.text);
        server.counters().of("PASS")
    };
    assert_eq!(logins(1, "1 at once is allowed") + 2, logins(3, "3 at once are allowed"));
}

#[test]
fn a_server_that_falls_silent_does_not_hold_the_doctor_up() {
    let (_scratch, server) = scripted();
    server.faults().add(Rule::on("LIST").act(Fault::NoData(Then::Silent)));
    let told = examine(&server, &["-o", "timeout=1,connect_timeout=1"]);
    assert_eq!(told.code, 3, "{}", told.text);
    assert!(told.text.contains("no listing came"), "{}", told.text);
}

#[test]
fn json_says_the_same() {
    let (_scratch, server) = scripted();
    let told = examine(&server, &["--json"]);
    let mut child = Command::new("python3")
        .args(["-c", "import json,sys; r = json.load(sys.stdin); assert r['works'] and r['findings'], r"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(told.text.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "{}", told.text);
    assert_eq!((told.code, told.text.lines().count()), (0, 1));
}

struct Told {
    code: i32,
    /// Standard output and standard error.
    text: String,
}

fn examine(target: &dyn Target, arguments: &[&str]) -> Told {
    run(&target.url(), &target.password(), arguments)
}

fn run(url: &str, password: &str, arguments: &[&str]) -> Told {
    let program = program::path();
    let Output { status, stdout, stderr } = Command::new("timeout")
        .args(["120", &program, "doctor", url])
        .args(arguments)
        .env("FTPFS_PASSWORD", password)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned();
    Told { code: status.code().unwrap_or(-1), text }
}

fn scripted() -> (Scratch, scripted::Server) {
    let scratch = Scratch::new("scripted");
    fs::write(scratch.path().join("letter"), "Dear reader,\n").unwrap();
    let server = scripted::Server::start(scratch.path()).unwrap();
    (scratch, server)
}

/// TLS from the first byte with a certificate of its own making; no FTP behind the greeting. Its URL and certificate.
fn tls_server(names: &[&str], from: i64, to: i64) -> (String, Vec<u8>) {
    let key = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
    let mut name = X509Name::builder().unwrap();
    name.append_entry_by_text("CN", names[0]).unwrap();
    let name = name.build();
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    builder.set_subject_name(&name).unwrap();
    builder.set_issuer_name(&name).unwrap();
    builder.set_pubkey(&key).unwrap();
    builder.set_not_before(&Asn1Time::from_unix(from).unwrap()).unwrap();
    builder.set_not_after(&Asn1Time::from_unix(to).unwrap()).unwrap();
    let mut alternative = SubjectAlternativeName::new();
    for name in names {
        alternative.dns(name);
    }
    let extension = alternative.build(&builder.x509v3_context(None, None)).unwrap();
    builder.append_extension(extension).unwrap();
    builder.sign(&key, MessageDigest::sha256()).unwrap();
    let certificate = builder.build();
    let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).unwrap();
    acceptor.set_private_key(&key).unwrap();
    acceptor.set_certificate(&certificate).unwrap();
    let acceptor = acceptor.build();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            // One who hangs up during the handshake, as is to be expected here.
            let Ok(mut stream) = acceptor.accept(stream.unwrap()) else { continue };
            let _ = stream.write_all(b"220 ready\r\n");
            let mut said = String::new();
            let _ = stream.read_to_string(&mut said);
            assert!(!said.contains("PASS") && !said.contains("USER"), "{said}");
        }
    });
    (format!("ftps://joe@localhost:{port}/"), certificate.to_pem().unwrap())
}

/// EPSV and PASV name this port.
fn passive_port(server: &scripted::Server, port: u16) {
    let [high, low] = port.to_be_bytes();
    let extended = format!("229 Entering Extended Passive Mode (|||{port}|)");
    server.faults().add(Rule::on("EPSV").act(Fault::Reply(extended)));
    let plain = format!("227 Entering Passive Mode (127,0,0,1,{high},{low})");
    server.faults().add(Rule::on("PASV").act(Fault::Reply(plain)));
}

/// A port on which nobody listens, nor will as long as the descriptor is held: bound, and that is all.
fn closed_port() -> (OwnedFd, u16) {
    let held = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    bind(held.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 0)).unwrap();
    let port = getsockname::<SockaddrIn>(held.as_raw_fd()).unwrap().port();
    (held, port)
}
