//! `ftpfs doctor`: tries everything that a mount would need, one thing after another, and says in plain words what works,
//! what does not, whose firewall is the likely cause, and which option to use.
//!
//! Each family of checks has a file. [`reach`]: names, addresses, connecting. [`login`]: greeting, TLS (with
//! [`certificate`]), user and password, what the server says of itself. [`passive`] and [`active`]: data connections, the part that firewalls and NAT break.
//! [`files`]: listings, times, speed, and (only when asked) writing. [`sessions`]: how many at once. They fill a
//! [`Report`]; nothing is printed here.
//!
//! The checks hold their own [`dialogue`], because a mount hides what a doctor must show: which address a server
//! announced, which reply it gave, which way failed before another one worked. A password that is refused is sent once
//! only: servers ban those who try again. Nothing is changed on the server unless a folder for it is named.
//!
//! Called by `cli`; uses `ftp` only.

pub mod active;
pub mod certificate;
mod dialogue;
pub mod files;
pub mod login;
pub mod passive;
pub mod reach;
pub mod report;
pub mod sessions;

use std::time::Duration;

pub use report::{Finding, Outcome, Report};

use crate::ftp::Config;

/// Examines a server with at most `max_conns` sessions at a time, and one where that is enough. `write_test` names a folder in which a small file may be made, changed and removed. `tell` hears of
/// each finding at once.
pub fn examine<'t>(
    mut config: Config,
    max_conns: usize,
    write_test: Option<&[u8]>,
    tell: &'t mut dyn FnMut(&Finding),
) -> Report<'t> {
    config.timeout = config.timeout.min(PATIENCE);
    config.connect_timeout = config.connect_timeout.min(CONNECT_PATIENCE);
    let mut report = Report::new(&config, tell);
    if let Some(family) = reach::check(&config, &mut report) {
        config.data.family = family;
    } else {
        return report;
    }
    let Some(server) = login::check(&config, &mut report) else { return report };
    let passive = passive::check(&config, &mut report);
    // Through a proxy nobody can come to us.
    let active = config.proxy.is_none() && active::check(&config, &mut report);
    data_verdict(&config, passive, active, &mut report);
    if passive || active {
        files::check(&config, &server, write_test, &mut report);
    }
    sessions::check(&config, max_conns, &mut report);
    report
}

/// The answer to "active or passive?".
fn data_verdict(config: &Config, passive: bool, active: bool, report: &mut Report) {
    match (passive, active) {
        (true, _) => report.advise("Data connections: passive, which is the default. No option is needed."),
        // Somebody else had the place all the time: nothing was found out about firewalls.
        (false, _) if report.failing() == Some(report::Failing::Login) => {}
        (false, true) => {
            report.advise(
                "Data connections: use `-o active` (ftpfs also finds that out by itself, after some waiting). The lasting \
                 cure is at the server: open its range of passive ports in its firewall or router.",
            );
        }
        (false, false) => {
            report.stops(report::Failing::Data);
            report.advise(format!(
            "No data connection can be made in either direction, so no file and no listing can be had. The likely cause is \
             the firewall (or router) in front of {}, which lets the control port {} through and not the range of passive \
             ports: its administrator must open that range and tell the server (vsftpd: pasv_min_port, pasv_max_port; \
             ProFTPD: PassivePorts; Pure-FTPd: -p). If other FTP servers do not work from here either, it is the firewall \
             on this side, which must allow connections to any high port.",
            config.host, config.port
            ));
        }
    }
}

/// One reply: whoever is slower than this is as good as silent.
const PATIENCE: Duration = Duration::from_secs(15);
/// One connection: a firewall that drops packets is met several times, and somebody waits for the report.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
