//! Names, addresses, and whether anybody listens there.

use std::io;
use std::net::IpAddr;
use std::time::Instant;

use super::Report;
use super::report::Failing;
use crate::ftp::Config;
use crate::ftp::config::Family;
use crate::ftp::{control, stream};

/// Resolves the name and tries every address. Gives the family to use; none when nobody answers.
pub fn check(config: &Config, report: &mut Report<'_>) -> Option<Family> {
    if let Some(proxy) = &config.proxy {
        report.note("connect", format!("through {proxy}, which looks up the name"));
        return Some(config.data.family);
    }
    let addresses = match control::resolve(config) {
        Ok(addresses) => addresses,
        Err(error) => {
            report.fails("name", error.to_string());
            report.stops(Failing::Reach);
            report.advise(format!(
                "The name {} cannot be resolved: check how it is spelt, and the name server (`getent hosts {}`).",
                config.host, config.host
            ));
            return None;
        }
    };
    let shown: Vec<String> = addresses.iter().map(|address| address.ip().to_string()).collect();
    if config.host.trim_matches(['[', ']']).parse::<IpAddr>().is_err() {
        report.works("name", format!("{} is {}", config.host, shown.join(", ")));
    }
    let mut reached = Vec::new();
    let mut errors = Vec::new();
    for &address in addresses.iter().filter(|address| config.data.family.allows(address)).take(MAX_ADDRESSES)
    {
        let started = Instant::now();
        match stream::connect(address, None, started + config.connect_timeout) {
            Ok(_) => {
                report.works("connect", format!("{address} answers, round trip {}", millis(started)));
                reached.push(address);
            }
            Err(error) => {
                report.fails("connect", format!("{address}: {error}"));
                errors.push(error);
            }
        }
    }
    if reached.is_empty() {
        report.stops(Failing::Reach);
        report.advise(why_unreachable(config, &errors));
        return None;
    }
    // A family of which nothing answers would be tried, and waited for, at every new connection.
    let answers = |v4| reached.iter().any(|address| address.is_ipv4() == v4);
    match (answers(true), answers(false), config.data.family, errors.is_empty()) {
        (true, false, Family::Any, false) => {
            report.advise("Only IPv4 works: `-o ipv4` spares every new connection the attempt by IPv6.");
            Some(Family::V4)
        }
        (false, true, Family::Any, false) => {
            report.advise("Only IPv6 works: `-o ipv6` spares every new connection the attempt by IPv4.");
            Some(Family::V6)
        }
        (.., family, _) => Some(family),
    }
}

fn why_unreachable(config: &Config, errors: &[io::Error]) -> String {
    let (host, port) = (&config.host, config.port);
    match errors.first().map(io::Error::kind) {
        Some(io::ErrorKind::ConnectionRefused) => format!(
            "The machine {host} is there, but nothing listens on port {port}: the FTP server does not run, or on another \
             port (FTP 21, FTPS with TLS from the first byte 990; SFTP on 22 is another protocol: sshfs), or its firewall \
             refuses you."
        ),
        Some(io::ErrorKind::TimedOut) => format!(
            "Nothing answers at {host}, port {port}: the machine is off, the address is wrong, or a firewall (most likely \
             the server's) drops the packets. `ping {host}` tells the first two from the last."
        ),
        Some(io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable) => format!(
            "There is no way to {host} from here: check this machine's network, or the VPN that leads there."
        ),
        _ => format!("{host}, port {port}, cannot be reached."),
    }
}

/// Time since then, for people.
pub(super) fn millis(since: Instant) -> String {
    format!("{:.1} ms", since.elapsed().as_secs_f64() * 1000.0)
}

/// Of a host with many addresses only so many are tried.
const MAX_ADDRESSES: usize = 8;
