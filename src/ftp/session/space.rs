//! How much can still be stored, where the server tells.
//!
//! FTP itself cannot say. Some servers have AVBL (and list it in FEAT); ProFTPD answers SITE QUOTA when its mod_quotatab is there.
//! Others are not asked, and who had nothing to tell is not asked again. (Pure-FTPd tells a quota behind uploads only.)

use super::Session;
use crate::ftp::command::Command;
use crate::ftp::features::{Ability, Capability, Features, Server};
use crate::ftp::reply::Reply;
use crate::ftp::{Error, RemotePath};

/// Bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    pub free: u64,
    /// The same as what is free, where the server tells no more.
    pub total: u64,
}

impl Space {
    /// Whether this server may have something to tell.
    pub fn is_told_by(features: &Features) -> bool {
        match features.ability(Capability::Space) {
            Ability::Yes => true,
            Ability::No => false,
            Ability::Unknown => features.server() == Server::Proftpd,
        }
    }
}

impl Session {
    /// Asks for the space below `folder`: one round trip, none where the server is known not to tell.
    pub fn space(&mut self, folder: &RemotePath) -> Result<Option<Space>, Error> {
        if !Space::is_told_by(&self.features) {
            return Ok(None);
        }
        let command = match (self.features.ability(Capability::Space), self.server()) {
            (_, Server::Proftpd) => Command::SiteQuota,
            _ => Command::Avbl(folder),
        };
        let reply = self.one(&command, &[])?;
        let found = if reply.is_success() { read(&reply) } else { None };
        if found.is_none() {
            self.features.learn(Capability::Space, false);
        }
        Ok(found)
    }
}

/// What a reply tells of space, in either way.
fn read(reply: &Reply) -> Option<Space> {
    if reply.code == 213 {
        let free = number(&String::from_utf8_lossy(reply.first()))?;
        return Some(Space { free, total: free });
    }
    reply.lines.iter().find_map(|line| {
        let line = String::from_utf8_lossy(line).trim().to_ascii_lowercase();
        proftpd(&line)
    })
}

/// `Uploaded Mb:   12.50/100.00`; without a limit it says `unlimited`.
fn proftpd(line: &str) -> Option<Space> {
    let (unit, rest) = line.strip_prefix("uploaded ")?.split_once(':')?;
    let unit = match unit.trim() {
        "bytes" | "b" => 1.0,
        "kb" => 1024.0,
        "mb" => 1024.0 * 1024.0,
        "gb" => 1024.0 * 1024.0 * 1024.0,
        _ => return None,
    };
    let (used, limit) = rest.trim().split_once('/')?;
    let bytes = |text: &str| {
        let value: f64 = text.trim().parse().ok()?;
        (value.is_finite() && value >= 0.0).then_some((value * unit) as u64)
    };
    let total = bytes(limit)?;
    Some(Space { free: total.saturating_sub(bytes(used)?), total })
}

/// The number in a text with nothing else in it but blanks.
fn number(text: &str) -> Option<u64> {
    let text = text.trim();
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(code: u16, lines: &[&str]) -> Option<Space> {
        read(&Reply { code, lines: lines.iter().map(|line| line.as_bytes().to_vec()).collect() })
    }

    #[test]
    fn the_ways_of_telling_are_understood() {
        assert_eq!(told(213, &["12345678"]), Some(Space { free: 12_345_678, total: 12_345_678 }));
        let quota = [
            "The current quota for this session are [current/limit]:",
            "Name: joe",
            "  Uploaded Kb:\t12.50/100.00",
        ];
        assert_eq!(told(200, &quota), Some(Space { free: 89_600, total: 102_400 }));
    }

    #[test]
    fn nonsense_tells_nothing() {
        for (code, line) in [
            (213, "-1"),
            (213, "99999999999999999999999"),
            (200, "Uploaded Kb: unlimited"),
            (200, "Uploaded Kb: NaN/inf"),
            (200, "Uploaded furlongs: 1/2"),
            (202, "No quotas in effect"),
        ] {
            assert_eq!(told(code, &[line]), None, "{line}");
        }
        // More than is allowed may be there already.
        assert_eq!(told(200, &["Uploaded Kb: 5.00/1.00"]), Some(Space { free: 0, total: 1024 }));
    }
}
