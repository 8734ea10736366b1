//! Data connections ahead of their use: EPSV (or PASV) and the TCP connect are done while nobody waits.
//!
//! Only one may wait at a time: asking for a second port before the first is used makes Twisted fall silent and others
//! leak ports. A connection that has waited too long is renewed where the server is known to bear it, and otherwise ends
//! the session, which costs a login that nobody waits for.

use std::time::Instant;

use super::Session;
use crate::ftp::Error;
use crate::ftp::command::Command;
use crate::ftp::data::Data;
use crate::ftp::features::{Ability, Capability};
use crate::ftp::reply;

impl Session {
    /// Does the round trips of the next transfer ahead (EPSV, data connect). Never needed for correctness; called when idle.
    pub fn make_ready(&mut self) -> Result<(), Error> {
        if let Some(data) = &self.ready {
            if data.is_ready() {
                return Ok(());
            }
            self.ready = None;
            if !self.server().may_renew_passive() {
                self.control.end();
                return Err(Error::Lost {
                    during: "EPSV",
                    text: "the ready connection has expired".to_owned(),
                });
            }
        }
        let port = self.passive_port()?;
        self.connect_ready(port)
    }

    /// The ready data connection, made now if there is none.
    pub(super) fn take_ready(&mut self) -> Result<Data, Error> {
        self.make_ready()?;
        self.ready.take().ok_or_else(|| Error::Protocol { text: "no data connection".to_owned() })
    }

    /// Connects to a port that the server has just opened.
    pub(super) fn connect_ready(&mut self, port: u16) -> Result<(), Error> {
        match Data::connect(&self.control, port, Instant::now() + self.config.connect_timeout) {
            Ok(data) => {
                self.features.counters().data_connection();
                self.features.passive_worked();
                self.ready = Some(data);
                Ok(())
            }
            Err(error) => {
                // The server waits for us now, some for ever, before they answer anything: a new login is quicker.
                self.control.end();
                if self.features.passive_failed() > 1 {
                    // EPSV is what old firewalls break: next time PASV, and the other way round.
                    let epsv = self.features.ability(Capability::Epsv) == Ability::Yes;
                    self.features.learn(Capability::Epsv, !epsv);
                }
                Err(Error::Data { during: "connecting", text: format!("port {port}: {error}") })
            }
        }
    }

    /// EPSV, or PASV where EPSV has been refused. Only the port counts: the address is the control connection's.
    fn passive_port(&mut self) -> Result<u16, Error> {
        if self.features.ability(Capability::Epsv) != Ability::No {
            // ProFTPD has been seen to answer 425 "Address already in use" under fast reuse: once more is enough.
            for _ in 0..2 {
                let reply = self.one(&Command::Epsv, &[])?;
                if reply.code == 229 {
                    self.features.learn(Capability::Epsv, true);
                    return reply::extended_port(reply.first()).ok_or_else(|| self.senseless("EPSV", &reply));
                }
                if reply.code != 425 {
                    break;
                }
            }
        }
        let reply = self.one(&Command::Pasv, &[])?;
        if reply.code != 227 {
            return Err(self.refused("PASV", reply, &[]));
        }
        self.features.learn(Capability::Epsv, false);
        match reply::passive_address(reply.first()) {
            Some((_, port)) => Ok(port),
            None => Err(self.senseless("PASV", &reply)),
        }
    }

    fn senseless(&mut self, command: &'static str, reply: &reply::Reply) -> Error {
        self.end_on(Error::Protocol { text: format!("{command} was answered with {reply}") })
    }
}
