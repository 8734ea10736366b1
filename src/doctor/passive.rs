//! Passive data connections: which port and address the server announces, and whether they can be reached.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Instant;

use super::Report;
use super::dialogue::{Dialogue, Listed};
use super::sessions::{no_room, when_there_is_room};
use crate::ftp::command::Command;
use crate::ftp::data::Data;
use crate::ftp::reply;
use crate::ftp::{Config, Error};

/// Tries EPSV and PASV, each with a session of its own and a real listing. True when a default mount would get its data so.
pub fn check(config: &Config, report: &mut Report<'_>) -> bool {
    let extended = attempt(config, report, "EPSV", extended);
    let plain = attempt(config, report, "PASV", plain);
    extended || plain
}

fn attempt(
    config: &Config,
    report: &mut Report<'_>,
    command: &'static str,
    try_it: fn(&Config, &mut Dialogue, &mut Report<'_>) -> Result<bool, Error>,
) -> bool {
    let worked = when_there_is_room(|| Dialogue::open(config)).and_then(|mut dialogue| {
        let worked = try_it(config, &mut dialogue, report)?;
        dialogue.quit();
        Ok(worked)
    });
    worked.unwrap_or_else(|error| {
        match error {
            Error::TooManySessions { text, .. } => no_room("passive", &text, report),
            error => report.fails("passive", format!("{command}: {error}")),
        }
        false
    })
}

/// RFC 2428: a port only.
fn extended(config: &Config, dialogue: &mut Dialogue, report: &mut Report<'_>) -> Result<bool, Error> {
    let answer = dialogue.ask(&Command::Epsv)?;
    if answer.code != 229 {
        report.note("passive", format!("EPSV is not there ({answer}): ftpfs uses PASV"));
        return Ok(false);
    }
    let Some(port) = reply::extended_port(answer.first()) else {
        report.fails("passive", format!("EPSV: no port can be found in {answer}"));
        return Ok(false);
    };
    let mut to = dialogue.control.peer();
    to.set_port(port);
    Ok(transfer(config, dialogue, report, "EPSV", to, ""))
}

/// RFC 959: an address and a port.
fn plain(config: &Config, dialogue: &mut Dialogue, report: &mut Report<'_>) -> Result<bool, Error> {
    let mut to = dialogue.control.peer();
    let IpAddr::V4(server) = to.ip().to_canonical() else { return Ok(false) };
    let answer = dialogue.ask(&Command::Pasv)?;
    if answer.code != 227 {
        report.note("passive", format!("PASV: the server said {answer}"));
        return Ok(false);
    }
    let Some((address, port)) = reply::passive_address(answer.first()) else {
        report.fails("passive", format!("PASV: no address can be found in {answer}"));
        return Ok(false);
    };
    let announced = Ipv4Addr::from(address);
    to.set_port(port);
    if announced == server || dialogue.control.is_proxied() {
        return Ok(transfer(config, dialogue, report, "PASV", to, ""));
    }
    let what = if announced.is_private() || announced.is_loopback() || announced.is_link_local() {
        format!(
            "the server announces {announced}, a private address: it is behind NAT and does not know its public address"
        )
    } else if announced.is_unspecified() {
        "the server announces 0.0.0.0, which is none".to_owned()
    } else {
        format!("the server announces {announced}, which is another host than {server}")
    };
    report.note("passive", format!("PASV: {what}. ftpfs ignores it and goes to {server}"));
    let worked = transfer(config, dialogue, report, "PASV", to, " in spite of the wrong address");
    if worked {
        report.advise(format!(
            "The address {announced} in the reply to PASV is wrong, which stops many clients; ftpfs goes to {server} anyway, \
             so no option is needed. (The cure at the server is its public address: vsftpd pasv_address, ProFTPD \
             MasqueradeAddress, Pure-FTPd -P.)"
        ));
    } else if !announced.is_private() && !announced.is_unspecified() {
        report.advise(format!(
            "The server wants data connections to go to {announced} (a cluster, perhaps): `-o pasv_address=reply` follows it. Only \
             do so if you trust the server."
        ));
    }
    Ok(worked)
}

/// Connects and lists.
fn transfer(
    config: &Config,
    dialogue: &mut Dialogue,
    report: &mut Report<'_>,
    command: &'static str,
    to: SocketAddr,
    remark: &str,
) -> bool {
    let port = to.port();
    let data = match Data::connect(&dialogue.control, to, Instant::now() + config.connect_timeout) {
        Ok(data) => data,
        Err(error) => {
            let why = match error.kind() {
                io::ErrorKind::ConnectionRefused => {
                    "refused: the port is closed from outside. Most likely the server's firewall, or a router in front of it \
                     that does not forward the range of passive ports"
                }
                io::ErrorKind::TimedOut => {
                    "no answer: a firewall drops the packets. Most likely the server's, whose range of passive ports is not \
                     open; if no FTP server works from here, the one on this side"
                }
                _ => "cannot be reached",
            };
            report.fails("passive", format!("{command}: port {port}: {why} ({error})"));
            return false;
        }
    };
    match dialogue.list(data) {
        Ok(Listed::Bytes(bytes)) => {
            let session = match dialogue.resumed {
                Some(true) => ", and the TLS session is resumed",
                Some(false) => ", with a TLS session of its own (resuming one would be quicker)",
                None => "",
            };
            report.works(
                "passive",
                format!("{command}: port {port}, {bytes} bytes of listing{remark}{session}"),
            );
            true
        }
        Ok(Listed::Refused(reply)) if reply.code == 550 || reply.code == 450 => {
            report
                .works("passive", format!("{command}: port {port}; the listing itself is refused: {reply}"));
            true
        }
        Ok(Listed::Refused(reply)) => {
            report.fails(
                "passive",
                format!("{command}: port {port} was connected, then the server said {reply}"),
            );
            if reply.words().contains("reuse")
                || reply.words().contains("ssl")
                || reply.words().contains("tls")
            {
                report.advise("The server is not content with the TLS session of the data connection: please report this.");
            }
            false
        }
        Ok(Listed::Failed(why)) => {
            report.fails(
                "passive",
                format!("{command}: port {port} was connected, but no listing came: {why}"),
            );
            false
        }
        Err(error) => {
            report.fails("passive", format!("{command}: port {port}: {error}"));
            false
        }
    }
}
