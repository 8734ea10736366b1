//! Servers that come as libraries of a language: pyftpdlib, aioftp, Twisted, libunftp, ftp-srv. All but the last two run a
//! script from this folder; all of them run as an ordinary user.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use super::{Launch, Options, Setup, Tls};
use crate::harness::fetch;

pub(super) fn pyftpdlib(setup: &Setup, options: &Options) -> Result<Launch, String> {
    let python = fetch::python("pyftpdlib", &["pyftpdlib==2.2.0", "pyopenssl"])?;
    let launch = script(python, "main.py", include_str!("pyftpdlib.py"), setup, options)?;
    Ok(launch.args(&options.extra))
}

pub(super) fn aioftp(setup: &Setup, options: &Options) -> Result<Launch, String> {
    if options.tls == Tls::Explicit {
        return Err("aioftp has no AUTH TLS".into());
    }
    let python = fetch::python("aioftp", &["aioftp==0.28.3"])?;
    script(python, "main.py", include_str!("aioftp.py"), setup, options)
}

pub(super) fn twisted(setup: &Setup, options: &Options) -> Result<Launch, String> {
    if options.tls != Tls::Plain || options.max_sessions.is_some() {
        return Err("Twisted's server has neither TLS nor a limit of sessions".into());
    }
    let python = fetch::python("twisted", &["twisted==26.10.0"])?;
    script(python, "main.py", include_str!("twisted.py"), setup, options)
}

pub(super) fn ftp_srv(setup: &Setup, options: &Options) -> Result<Launch, String> {
    if options.max_sessions.is_some() {
        return Err("ftp-srv has no limit of sessions".into());
    }
    let modules = fetch::npm("ftp-srv@4.6.3")?.join("node_modules");
    let mut launch = script("node", "main.js", include_str!("ftp_srv.js"), setup, options)?;
    launch.command.insert(2, modules.into());
    Ok(launch)
}

pub(super) fn libunftp(setup: &Setup, options: &Options) -> Result<Launch, String> {
    if options.tls == Tls::Implicit || options.max_sessions.is_some() {
        return Err("libunftp has neither implicit TLS nor a limit of sessions".into());
    }
    let launch = Launch { unprivileged: true, ..Launch::new(fetch::cargo("libunftp")?) };
    let address = std::net::SocketAddr::new(options.address().parse().map_err(|_| "no address")?, setup.port);
    let launch = launch.arg(&setup.root).args([&address.to_string(), &setup.user, &setup.password]);
    let launch = launch.arg(options.idle.unwrap_or(600).to_string());
    if options.tls == Tls::Plain {
        return Ok(launch);
    }
    let (cert, key) = copied_certificate(setup)?;
    Ok(launch.arg(cert).arg(key))
}

/// All scripts take the same arguments: ROOT PORT USER PASSWORD TLS PEM IDLE SESSIONS ADDRESS.
fn script(
    interpreter: impl Into<OsString>,
    name: &str,
    text: &str,
    setup: &Setup,
    options: &Options,
) -> Result<Launch, String> {
    let file = setup.config.join(name);
    fs::write(&file, text).map_err(|e| e.to_string())?;
    let (tls, pem) = match options.tls {
        Tls::Plain => ("plain", "-".into()),
        Tls::Explicit => ("explicit", super::key_and_certificate(setup)?.into_os_string()),
        Tls::Implicit => ("implicit", super::key_and_certificate(setup)?.into_os_string()),
    };
    let or_dash = |value: Option<u32>| value.map_or("-".to_string(), |v| v.to_string());
    let launch = Launch { unprivileged: true, ..Launch::new(interpreter) };
    let launch =
        launch.arg(file).arg(&setup.root).args([&setup.port.to_string(), &setup.user, &setup.password]);
    let launch = launch.arg(tls).arg(pem).args([or_dash(options.idle), or_dash(options.max_sessions)]);
    Ok(launch.arg(options.address()))
}

fn copied_certificate(setup: &Setup) -> Result<(std::path::PathBuf, std::path::PathBuf), String> {
    let (cert, key) = fetch::certificate()?;
    let copy = |from: &Path, name: &str| {
        let to = setup.config.join(name);
        fs::copy(from, &to).map_err(|e| e.to_string())?;
        super::own(&to);
        Ok::<_, String>(to)
    };
    Ok((copy(&cert, "cert.pem")?, copy(&key, "key.pem")?))
}
