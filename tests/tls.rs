//! FTPS, explicit and implicit, on every server that has it: what is written arrives, and no certificate is taken on trust.

#[allow(dead_code, unused_imports, reason = "each test binary uses its own part of the harness")]
mod harness;

use harness::{Kind, Mount, Mounted, Options, Server, Tls, fetch, shell};

#[test]
fn explicit_tls_carries_a_days_work() {
    for kind in [Kind::Vsftpd, Kind::Proftpd, Kind::PureFtpd, Kind::Pyftpdlib] {
        works(kind, Tls::Explicit);
    }
}

#[test]
fn implicit_tls_carries_a_days_work() {
    for kind in [Kind::Vsftpd, Kind::Proftpd, Kind::Pyftpdlib] {
        works(kind, Tls::Implicit);
    }
}

#[test]
fn a_certificate_that_nobody_vouches_for_is_refused() {
    for tls in [Tls::Explicit, Tls::Implicit] {
        let options = Options { tls, ..Options::default() };
        let Some(server) = Server::start_with(Kind::Vsftpd, &options) else { return };
        let refused = Mount::attempt(&server, &[]).err().expect("it must not mount");
        assert!(refused.status.is_some_and(|status| !status.success()), "{refused:?}");
        assert!(!refused.log.contains("> PASS"), "the password was sent: {}", refused.log);
    }
}

/// The server's certificate signs itself: it vouches when it is named.
fn works(kind: Kind, tls: Tls) {
    let authority = format!("cacert={}", fetch::certificate().unwrap().0.display());
    let options = Options { tls, ..Options::default() };
    let Some(mut at) = Mounted::new(kind, &options, &[&authority]) else { return };
    at.ok("seq 200000 > ../in && mkdir d && cp ../in d/numbers && cmp ../in d/numbers && for i in 1 2 3 4 5 6 7 8; do echo $i > d/$i; done");
    shell::ok(at.server.root(), &format!("cmp d/numbers '{}'", at.path("../in").display()));
    at.ok("echo end >> d/numbers && echo end >> ../in");
    at.mount.remount(&at.server, &[&authority]);
    at.ok(
        "cmp ../in d/numbers && cat d/1 d/2 d/3 d/4 > ../out && head -c 10 d/numbers && tail -n 1 d/numbers",
    );
    assert_eq!(std::fs::read(at.path("../out")).unwrap(), b"1\n2\n3\n4\n", "{kind:?} {tls:?}");
    at.ok("mv d e && rm -r e");
}
