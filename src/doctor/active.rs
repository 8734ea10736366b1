//! Active data connections: which address we announce, and whether the server comes.

use std::net::{IpAddr, SocketAddr};

use super::Report;
use super::dialogue::{Dialogue, Listed};
use super::sessions::when_there_is_room;
use crate::ftp::command::Command;
use crate::ftp::data::Data;
use crate::ftp::session::{eprt_argument, port_argument};
use crate::ftp::{Config, Error};

/// Tries EPRT, then PORT, with a real listing. Reports a failure as a note: passive is what most mounts need.
pub fn check(config: &Config, report: &mut Report<'_>) -> bool {
    let worked = when_there_is_room(|| Dialogue::open(config)).and_then(|mut dialogue| {
        let worked = attempt(config, &mut dialogue, report)?;
        dialogue.quit();
        Ok(worked)
    });
    worked.unwrap_or_else(|error| {
        report.note("active", error.to_string());
        false
    })
}

fn attempt(config: &Config, dialogue: &mut Dialogue, report: &mut Report<'_>) -> Result<bool, Error> {
    let listening = Data::listen(&dialogue.control, &config.data);
    let (data, address) = match listening {
        Ok(listening) => listening,
        Err(error) => {
            report.note("active", format!("cannot listen for the server: {error} (active_ports=?)"));
            return Ok(false);
        }
    };
    let mut reply = dialogue.ask(&Command::Eprt(&eprt_argument(address)))?;
    let mut command = "EPRT";
    if let (false, Some(argument)) = (reply.is_success(), port_argument(address)) {
        reply = dialogue.ask(&Command::Port(&argument))?;
        command = "PORT";
    }
    if !reply.is_success() {
        report.note("active", format!("the server does not do it: {command} was answered with {reply}"));
        return Ok(false);
    }
    match dialogue.list(data)? {
        Listed::Bytes(bytes) => {
            report.works(
                "active",
                format!("{command}: the server came to {address}, {bytes} bytes of listing"),
            );
            Ok(true)
        }
        Listed::Refused(reply) if matches!(reply.code, 450 | 550) => {
            report.works(
                "active",
                format!("{command}: the server came to {address}; the listing is refused: {reply}"),
            );
            Ok(true)
        }
        Listed::Refused(reply) => {
            report.note(
                "active",
                format!(
                    "{command}: the server could not come to {address}: {reply}. {}",
                    why(config, dialogue, address)
                ),
            );
            Ok(false)
        }
        Listed::Failed(_) => {
            report.note(
                "active",
                format!(
                    "{command}: the server did not come to {address}. {}",
                    why(config, dialogue, address)
                ),
            );
            Ok(false)
        }
    }
}

fn why(config: &Config, dialogue: &Dialogue, announced: SocketAddr) -> String {
    let is_private = |ip: IpAddr| match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_private() || ip.is_loopback() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local(),
    };
    if is_private(announced.ip()) && !is_private(dialogue.control.peer().ip()) {
        return "That address is private, and the server is outside: you are behind NAT. Active would need \
                active_address=, active_ports= and a router that forwards these ports"
            .to_owned();
    }
    match config.data.active_ports {
        None => "The likely cause is the firewall on this side; active_ports=A-B with these ports opened would help",
        Some(_) => "The likely cause is the firewall on this side: are these ports open to the server?",
    }
    .to_owned()
}
