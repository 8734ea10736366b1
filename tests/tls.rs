//! FTPS, explicit and implicit, on every server that has it: what is written arrives, and no certificate is taken on trust.

#[allow(dead_code, unused_imports, reason = "each test binary uses its own part of the harness")]
mod harness;

use harness::{Kind, Mount, Mounted, Options, Server, Target, Tls, fetch, shell};

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

#[test]
fn who_speaks_in_the_clear_to_a_server_that_wants_tls_is_told_what_to_write() {
    for kind in [Kind::Vsftpd, Kind::Proftpd, Kind::PureFtpd, Kind::Pyftpdlib] {
        let options = Options { tls: Tls::Explicit, ..Options::default() };
        let Some(server) = Server::start_with(kind, &options) else { continue };
        let plain = Plain(&server);
        let attempt = Mount::attempt(&plain, &[]);
        // The last two are set up to allow both.
        match (kind, attempt) {
            (Kind::PureFtpd | Kind::Pyftpdlib, Ok(_)) => {}
            (_, Ok(_)) => panic!("{kind:?} took a password in the clear"),
            (_, Err(refused)) => {
                assert!(refused.log.contains("this server wants TLS"), "{kind:?}: {refused:?}")
            }
        }
    }
}

#[test]
fn the_two_kinds_of_tls_mixed_up_are_told_apart_in_bounded_time() {
    for (real, asked) in [(Tls::Implicit, "ftpes://"), (Tls::Explicit, "ftps://")] {
        let options = Options { tls: real, ..Options::default() };
        let Some(server) = Server::start_with(Kind::Vsftpd, &options) else { return };
        let url = server.url();
        let (_, rest) = url.split_once("://").unwrap();
        let mixed = Url { url: format!("{asked}{rest}"), password: server.password() };
        let refused = Mount::attempt(&mixed, &["timeout=2,connect_timeout=2"]).err().expect("cannot work");
        let hint = if real == Tls::Implicit { "ftps://" } else { "ftpes://" };
        assert!(refused.log.contains(hint), "{asked}: {refused:?}");
    }
}

#[test]
fn tls_where_the_server_has_it_and_a_warning_where_not() {
    let authority = format!("cacert={}", fetch::certificate().unwrap().0.display());
    for tls in [Tls::Plain, Tls::Explicit] {
        let options = Options { tls, ..Options::default() };
        let Some(server) = Server::start_with(Kind::Vsftpd, &options) else { return };
        let mount = Mount::new(&Plain(&server), &["tls=try", &authority]);
        shell::ok(mount.path(), "echo kept > f && cat f");
        let warned = mount.log().contains("everything goes in the clear");
        assert_eq!(warned, tls == Tls::Plain, "{}", mount.log());
    }
    let Some(server) = Server::start(Kind::Vsftpd) else { return };
    let mount = Mount::new(&server, &[]);
    assert!(mount.log().contains("went to 127.0.0.1 in clear text"), "{}", mount.log());
}

#[test]
fn our_own_certificate_is_shown_to_a_server_that_wants_one() {
    let (certificate, key) = fetch::certificate().unwrap();
    let extra = ["require_cert=YES", "validate_cert=YES"].map(str::to_owned).into_iter();
    let extra = extra.chain([format!("ca_certs_file={}", certificate.display())]).collect();
    let options = Options { tls: Tls::Explicit, extra, ..Options::default() };
    let Some(server) = Server::start_with(Kind::Vsftpd, &options) else { return };
    let authority = format!("cacert={}", certificate.display());
    let refused = Mount::attempt(&server, &[&authority]).err().expect("not without a certificate");
    assert!(!refused.log.contains("panicked"), "{refused:?}");
    let own = format!("cert={},key={}", certificate.display(), key.display());
    let mount = Mount::new(&server, &[&authority, &own]);
    shell::ok(mount.path(), "echo known > f && cat f && ls -l");
}

#[test]
fn files_go_in_the_clear_only_when_that_is_asked_for_and_the_server_agrees() {
    let authority = format!("cacert={}", fetch::certificate().unwrap().0.display());
    let extra = vec!["force_local_data_ssl=NO".to_owned()];
    let options = Options { tls: Tls::Explicit, extra, ..Options::default() };
    let Some(server) = Server::start_with(Kind::Vsftpd, &options) else { return };
    for (more, clear) in [("lax_end", false), ("ssl_control", true)] {
        let mount = Mount::new(&server, &[&authority, more]);
        shell::ok(mount.path(), "echo seen > f && cat f");
        assert_eq!(mount.log().contains("PROT C"), clear, "{}", mount.log());
    }
    let options = Options { tls: Tls::Explicit, ..Options::default() };
    let Some(server) = Server::start_with(Kind::Proftpd, &options) else { return };
    let refused =
        Mount::attempt(&server, &[&authority, "ssl_control"]).err().expect("ProFTPD refuses PROT C");
    assert!(refused.log.contains("PROT"), "{refused:?}");
}

#[test]
fn a_server_that_forgets_tls_sessions_costs_a_login_and_no_file() {
    let authority = format!("cacert={}", fetch::certificate().unwrap().0.display());
    let extra = vec!["TLSSessionCache internal: 1".to_owned()];
    let options = Options { tls: Tls::Explicit, extra, ..Options::default() };
    let Some(mut at) = Mounted::new(Kind::Proftpd, &options, &[&authority]) else { return };
    at.ok("seq 1000 > old && cp old kept");
    // The server's clock decides, and nothing shows when it has.
    std::thread::sleep(std::time::Duration::from_secs(3));
    at.ok("seq 2000 > old && seq 3000 > new && cmp kept kept");
    at.mount.remount(&at.server, &[&authority]);
    at.ok("test $(wc -l < old) = 2000 && test $(wc -l < new) = 3000 && test $(wc -l < kept) = 1000");
}

/// The server without TLS.
struct Plain<'a>(&'a Server);

impl Target for Plain<'_> {
    fn url(&self) -> String {
        self.0.url().replace("ftpes://", "ftp://")
    }

    fn password(&self) -> String {
        self.0.password()
    }
}

/// A server as it is said to be.
struct Url {
    url: String,
    password: String,
}

impl Target for Url {
    fn url(&self) -> String {
        self.url.clone()
    }

    fn password(&self) -> String {
        self.password.clone()
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
