//! What the other tests stand on: every server starts, serves its folder, can be stopped and started again.
//! No mount takes part; curl is the client.

#[allow(dead_code, unused_imports, reason = "each test binary uses its own part of the harness")]
mod harness;

use std::process::Command;

use harness::{Kind, Options, Server, Target, Tls};

#[test]
fn the_four_main_servers_serve_and_store() {
    for kind in Kind::MAIN {
        serves_and_stores(kind, &Options::default());
    }
}

#[test]
fn the_other_servers_serve_and_store() {
    for kind in Kind::OTHERS {
        serves_and_stores(kind, &Options::default());
    }
}

#[test]
fn tls_works_wherever_a_server_has_it() {
    for kind in [Kind::Vsftpd, Kind::Proftpd, Kind::PureFtpd, Kind::Pyftpdlib, Kind::Libunftp] {
        serves_and_stores(kind, &Options { tls: Tls::Explicit, ..Options::default() });
    }
    for kind in [Kind::Vsftpd, Kind::Proftpd, Kind::Pyftpdlib, Kind::Aioftp] {
        serves_and_stores(kind, &Options { tls: Tls::Implicit, ..Options::default() });
    }
}

#[test]
fn a_server_comes_back_on_its_port_with_its_files() {
    for kind in Kind::MAIN {
        let Some(mut server) = Server::start(kind) else { continue };
        server.put("kept", "still here");
        server.stop();
        assert!(!curl(&server, "kept", &[]).status.success(), "{kind:?} answers although it is stopped");
        server.restart();
        assert_eq!(curl(&server, "kept", &[]).stdout, b"still here", "{kind:?}");
    }
}

#[test]
fn a_limit_of_sessions_is_kept() {
    for kind in Kind::MAIN {
        let options = Options { max_sessions: Some(1), ..Options::default() };
        let Some(server) = Server::start_with(kind, &options) else { continue };
        let first = login(&server);
        assert!(first.is_ok(), "{kind:?}: {first:?}");
        assert!(login(&server).is_err(), "{kind:?} lets a second session in");
    }
}

fn serves_and_stores(kind: Kind, options: &Options) {
    let Some(server) = Server::start_with(kind, options) else { return };
    server.put("folder/served", "from the server");
    let served = curl(&server, "folder/served", &[]);
    assert_eq!(
        served.stdout,
        b"from the server",
        "{kind:?} {options:?}: {}",
        String::from_utf8_lossy(&served.stderr)
    );
    let listing = curl(&server, "folder/", &[]);
    assert!(String::from_utf8_lossy(&listing.stdout).contains("served"), "{kind:?} {options:?}: {listing:?}");
    let source = server.root().parent().unwrap().join("source");
    std::fs::write(&source, "from the client").unwrap();
    let stored = curl(&server, "folder/stored", &["--upload-file", source.to_str().unwrap()]);
    assert!(stored.status.success(), "{kind:?} {options:?}: {}", String::from_utf8_lossy(&stored.stderr));
    assert_eq!(server.read("folder/stored"), b"from the client", "{kind:?} {options:?}");
}

fn curl(server: &Server, path: &str, more: &[&str]) -> std::process::Output {
    let url = server.url();
    let (scheme, place) = url.split_once("://").unwrap();
    let (_, address) = place.split_once('@').unwrap();
    let scheme = if scheme == "ftps" { "ftps" } else { "ftp" };
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--max-time", "60", "--insecure"]);
    if url.starts_with("ftpes") {
        command.arg("--ssl-reqd");
    }
    command.args(["--user", &format!("{}:{}", server.user(), server.password())]).args(more);
    command.arg(format!("{scheme}://{address}{path}")).output().unwrap()
}

/// A session that stays open as long as the value lives.
fn login(server: &Server) -> Result<std::net::TcpStream, String> {
    use std::io::{BufRead, BufReader, Write};
    let stream = std::net::TcpStream::connect(("127.0.0.1", server.port())).map_err(|e| e.to_string())?;
    stream.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let mut reply = |stream: &std::net::TcpStream, command: &str| {
        let mut writer = stream;
        writer.write_all(command.as_bytes()).map_err(|e| e.to_string())?;
        // Bounded: a greeting is a few lines long.
        for _ in 0..50 {
            let line = lines.next().ok_or("closed")?.map_err(|e| e.to_string())?;
            if line.len() > 3 && line.as_bytes()[3] == b' ' && line.as_bytes()[0].is_ascii_digit() {
                return if line.starts_with(['2', '3']) { Ok(()) } else { Err(line) };
            }
        }
        Err("an endless reply".into())
    };
    reply(&stream, "")?;
    reply(&stream, &format!("USER {}\r\n", server.user()))?;
    reply(&stream, &format!("PASS {}\r\n", server.password()))?;
    Ok(stream)
}
