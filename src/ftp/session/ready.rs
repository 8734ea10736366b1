//! Data connections ahead of their use: EPSV (or PASV) and the TCP connect are done while nobody waits.
//!
//! Passive first: EPSV, then PASV to the control connection's address (or, if that is asked for, to the one in the 227 reply),
//! and as the last resort active: EPRT, then PORT. What worked is remembered for the mount.
//!
//! Only one may wait at a time: asking for a second port before the first is used makes Twisted fall silent and others
//! leak ports. A connection that has waited too long is renewed where the server is known to bear it, and otherwise ends
//! the session, which costs a login that nobody waits for.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use super::Session;
use super::transfer::Transfer;
use crate::ftp::Error;
use crate::ftp::command::Command;
use crate::ftp::config::{DataMode, PasvAddress};
use crate::ftp::data::Data;
use crate::ftp::features::{Ability, BLOCKED, Capability, Way};
use crate::ftp::reply::{self, Reply};
use crate::ftp::stream;

impl Session {
    /// Does the round trips of the next transfer ahead (EPSV, data connect). Never needed for correctness; called when idle.
    pub fn make_ready(&mut self) -> Result<(), Error> {
        self.settle();
        if self.ready.as_ref().is_some_and(Data::is_connecting) {
            self.await_begun()?;
        }
        if let Some(data) = &self.ready {
            if data.is_ready() {
                return Ok(());
            }
            let was_passive = data.is_passive();
            self.ready = None;
            if was_passive && !self.server().may_renew_passive() {
                self.control.end();
                return Err(Error::Lost {
                    during: "EPSV",
                    text: "the ready connection has expired".to_owned(),
                });
            }
        }
        let mut last = None;
        for _ in 0..WAYS {
            if self.features.data_is_blocked() {
                return Err(Error::Data { during: "connecting", text: BLOCKED.to_owned() });
            }
            let way = self.way();
            let result = match way {
                Way::Epsv => self.extended_passive(),
                Way::Pasv | Way::PasvReply => self.passive(way),
                Way::Active => self.active(),
            };
            match result {
                Ok(()) => return Ok(()),
                Err(error) if self.control.has_ended() || self.way() == way => return Err(error),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| Error::Data { during: "connecting", text: "no way left".to_owned() }))
    }

    /// The ready data connection, made now if there is none.
    pub(super) fn take_ready(&mut self) -> Result<Data, Error> {
        self.make_ready()?;
        self.ready.take().ok_or_else(|| Error::Protocol { text: "no data connection".to_owned() })
    }

    /// How the next data connection is to be made.
    pub(super) fn way(&self) -> Way {
        match (self.config.data.mode, self.features.way()) {
            (DataMode::Active, _) => Way::Active,
            (_, Way::Pasv) if self.config.data.pasv_address == PasvAddress::Reply => Way::PasvReply,
            // EPSV names no address: whoever wants the reply's must ask with PASV.
            (_, Way::Epsv)
                if self.config.data.pasv_address == PasvAddress::Reply && self.control.peer().is_ipv4() =>
            {
                Way::PasvReply
            }
            (_, way) => way,
        }
    }

    /// Connects to a port that the server has just opened, on the control connection's host unless another is given.
    pub(super) fn connect_ready(&mut self, way: Way, host: Option<IpAddr>, port: u16) -> Result<(), Error> {
        self.begin_ready(way, host, port)?;
        self.await_ready()
    }

    /// As [`Session::connect_ready`], without waiting: [`Session::make_ready`] does, and every transfer.
    pub(super) fn begin_ready(&mut self, way: Way, host: Option<IpAddr>, port: u16) -> Result<(), Error> {
        let mut to = self.control.peer();
        to.set_port(port);
        if let Some(host) = host {
            to.set_ip(host);
        }
        self.ready_way = way;
        let deadline = Instant::now() + self.config.connect_timeout.min(PATIENCE);
        match Data::begin_connect(&self.control, to, deadline) {
            Ok(data) => {
                self.features.counters().data_connection();
                self.ready = Some(data);
                Ok(())
            }
            Err(error) => Err(self.unreachable(port, &error)),
        }
    }

    /// As [`Session::await_ready`], for one that was begun some time ago. If it stood and was reset meanwhile, that says nothing
    /// about the way in which it was made: it has expired.
    fn await_begun(&mut self) -> Result<(), Error> {
        match self.ready.as_ref().and_then(Data::failure) {
            Some(error) if stream::is_broken(&error) => Ok(()),
            Some(error) => {
                let port = self.ready.as_ref().map_or(0, Data::port);
                Err(self.unreachable(port, &error))
            }
            None => self.await_ready(),
        }
    }

    /// Waits until the data connection stands that was begun.
    fn await_ready(&mut self) -> Result<(), Error> {
        let Some(data) = &self.ready else { return Ok(()) };
        match data.wait_connected(Instant::now() + self.config.connect_timeout.min(PATIENCE)) {
            Ok(()) => {
                self.features.way_worked();
                Ok(())
            }
            Err(error) => Err(self.unreachable(data.port(), &error)),
        }
    }

    fn unreachable(&mut self, port: u16, error: &std::io::Error) -> Error {
        self.ready = None;
        // Another session may have gone on to another way since it was asked for.
        if self.way() == self.ready_way {
            let next = self.next_way(self.ready_way);
            self.features.way_failed(self.features.way(), next);
        }
        if !self.server().may_renew_passive() {
            // The port stays open on the server, or it waits for us for ever.
            self.control.end();
        }
        Error::Data { during: "connecting", text: format!("port {port}: {error}") }
    }

    /// Whether the next data connection may be asked for now, at the end of a download's data.
    pub(super) fn may_ask_behind(&self, transfer: &Transfer) -> bool {
        self.may_ask_early()
            && transfer.last.is_none()
            && matches!(transfer.command, "RETR" | "LIST" | "NLST")
            && self.ready.is_none()
    }

    /// Whether the next data connection may be asked for before a transfer has been confirmed. Inside TLS the end of a
    /// transfer has its own rules.
    pub(super) fn may_ask_early(&self) -> bool {
        self.server().takes_port_early() && !self.protects_data && self.way() == Way::Epsv
    }

    /// Takes the answer to an EPSV that was sent behind a transfer. Whatever becomes of it is no error of that transfer.
    pub(super) fn take_port_behind(&mut self) {
        let outcome = self.control.reply().and_then(|reply| {
            match (reply.code, reply::extended_port(reply.first())) {
                (229, Some(port)) => self.begin_ready(Way::Epsv, None, port),
                (229, None) => Err(self.senseless("EPSV", &reply)),
                // It is asked again when it is needed.
                _ => Ok(()),
            }
        });
        if let Err(error) = outcome {
            log::debug!("no data connection ahead: {error}");
        }
    }

    /// EPSV (RFC 2428 section 3).
    fn extended_passive(&mut self) -> Result<(), Error> {
        let mut reply = self.one(&Command::Epsv, &[])?;
        if reply.code == 425 {
            // ProFTPD, "Address already in use" under fast reuse: once more is enough.
            reply = self.one(&Command::Epsv, &[])?;
        }
        if reply.code == 229 {
            let Some(port) = reply::extended_port(reply.first()) else {
                return Err(self.senseless("EPSV", &reply));
            };
            return self.connect_ready(Way::Epsv, None, port);
        }
        let error = self.no_port("EPSV", reply);
        let next = self.next_way(Way::Epsv);
        self.features.way_failed(Way::Epsv, next);
        Err(error)
    }

    /// PASV. Only the port counts, unless the address is asked for.
    fn passive(&mut self, way: Way) -> Result<(), Error> {
        let reply = self.one(&Command::Pasv, &[])?;
        if reply.code != 227 {
            let error = self.no_port("PASV", reply);
            self.features.way_failed(self.features.way(), self.next_way(Way::PasvReply));
            return Err(error);
        }
        let Some((address, port)) = reply::passive_address(reply.first()) else {
            return Err(self.senseless("PASV", &reply));
        };
        let address = Ipv4Addr::from(address);
        if way == Way::PasvReply {
            let host = self.reachable(address);
            if host.is_none() {
                log::debug!("{address} in the reply to PASV is not followed: {}", self.control.peer().ip());
            }
            return self.connect_ready(way, host.map(IpAddr::V4), port);
        }
        let result = self.connect_ready(way, None, port);
        if result.is_err() && self.control.peer().ip().to_canonical() != IpAddr::V4(address) {
            log::info!("the server names {address} for data connections: pasv_address=reply would go there");
        }
        result
    }

    /// EPRT (RFC 2428 section 2), or PORT where the server has no EPRT.
    fn active(&mut self) -> Result<(), Error> {
        let (data, address) = match Data::listen(&self.control, &self.config.data) {
            Ok(listening) => listening,
            Err(error) => return Err(self.not_active("listening", error.to_string())),
        };
        let extended = eprt_argument(address);
        let mut reply = None;
        if self.features.ability(Capability::Eprt) != Ability::No {
            let answer = self.one(&Command::Eprt(&extended), &[])?;
            if !answer.is_success() && (answer.is_unknown_command() || matches!(answer.code, 501 | 522)) {
                self.features.learn(Capability::Eprt, false);
            } else {
                reply = Some(("EPRT", answer));
            }
        }
        let (command, reply) = match (reply, port_argument(address)) {
            (Some(reply), _) => reply,
            (None, Some(argument)) => ("PORT", self.one(&Command::Port(&argument), &[])?),
            (None, None) => return Err(self.not_active("EPRT", "the server does not take it".to_owned())),
        };
        if !reply.is_success() {
            let error = self.no_port(command, reply);
            self.features.way_failed(self.features.way(), Way::Epsv);
            return Err(error);
        }
        self.features.counters().data_connection();
        self.ready = Some(data);
        Ok(())
    }

    /// The refusal of a port: it says nothing about the file or folder that a connection is wanted for.
    fn no_port(&mut self, command: &'static str, reply: Reply) -> Error {
        let text = reply.to_string();
        match self.refused(command, reply, &[]) {
            error if error.ends_session() => error,
            _ => Error::Data { during: command, text },
        }
    }

    /// The last resort does not work either: begin anew.
    fn not_active(&mut self, during: &'static str, text: String) -> Error {
        self.features.way_failed(self.features.way(), Way::Epsv);
        Error::Data { during, text }
    }

    /// What to try when a way has failed.
    fn next_way(&self, failed: Way) -> Way {
        let is_ipv4 = self.control.peer().ip().to_canonical().is_ipv4();
        let is_proxied = self.control.is_proxied();
        match failed {
            // PASV cannot name an IPv6 address.
            Way::Epsv if is_ipv4 || is_proxied => Way::Pasv,
            // Through a proxy nobody can come to us.
            Way::Epsv | Way::Pasv | Way::PasvReply
                if self.config.data.mode == DataMode::Auto && !is_proxied =>
            {
                Way::Active
            }
            _ => Way::Epsv,
        }
    }

    /// The address in a 227 reply if it can be meant: not a special one, and not a private one from a public server.
    fn reachable(&self, address: Ipv4Addr) -> Option<Ipv4Addr> {
        if self.control.is_proxied() {
            return is_public(address).then_some(address);
        }
        let IpAddr::V4(server) = self.control.peer().ip().to_canonical() else { return None };
        let is_sound = address == server || is_public(address) || (is_private(address) && is_private(server));
        is_sound.then_some(address)
    }

    fn senseless(&mut self, command: &'static str, reply: &Reply) -> Error {
        self.end_on(Error::Protocol { text: format!("{command} was answered with {reply}") })
    }
}

fn is_private(address: Ipv4Addr) -> bool {
    address.is_private()
}

fn is_public(address: Ipv4Addr) -> bool {
    let [first, second, ..] = address.octets();
    let is_shared = first == 100 && (64..128).contains(&second);
    !(address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_unspecified()
        || address.is_broadcast()
        || address.is_multicast()
        || address.is_documentation()
        || is_shared
        || first == 0
        || first >= 240)
}

/// `|1|132.235.1.2|6275|` or `|2|1080::8:800:200C:417A|5282|`.
pub fn eprt_argument(address: SocketAddr) -> String {
    let ip = address.ip().to_canonical();
    format!("|{}|{ip}|{}|", if ip.is_ipv4() { 1 } else { 2 }, address.port())
}

/// `h1,h2,h3,h4,p1,p2`; none for IPv6.
pub fn port_argument(address: SocketAddr) -> Option<String> {
    let IpAddr::V4(ip) = address.ip().to_canonical() else { return None };
    let [a, b, c, d] = ip.octets();
    let [high, low] = address.port().to_be_bytes();
    Some(format!("{a},{b},{c},{d},{high},{low}"))
}

/// The host has just answered on another port: four SYNs (after 0, 1, 3 and 7 s) tell whether it does on this one.
const PATIENCE: Duration = Duration::from_secs(8);
/// EPSV, PASV, PASV with the reply's address, active.
const WAYS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn active_addresses_are_written_as_the_rfcs_want() {
        let v4: SocketAddr = "192.0.2.7:6275".parse().unwrap();
        assert_eq!(eprt_argument(v4), "|1|192.0.2.7|6275|");
        assert_eq!(port_argument(v4).as_deref(), Some("192,0,2,7,24,131"));
        let v6: SocketAddr = "[2001:db8::1]:21".parse().unwrap();
        assert_eq!(eprt_argument(v6), "|2|2001:db8::1|21|");
        assert_eq!(port_argument(v6), None);
        let mapped: SocketAddr = "[::ffff:192.0.2.7]:21".parse().unwrap();
        assert_eq!(eprt_argument(mapped), "|1|192.0.2.7|21|");
    }

    #[test]
    fn special_addresses_are_never_taken_from_a_reply() {
        for special in
            ["0.0.0.0", "127.0.0.1", "10.0.0.1", "169.254.1.1", "224.0.0.1", "255.255.255.255", "100.64.0.1"]
        {
            assert!(!is_public(special.parse().unwrap()), "{special}");
        }
        assert!(is_public("8.8.8.8".parse().unwrap()));
    }
}
