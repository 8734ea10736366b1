//! The end of an upload: FIN, perhaps a reset behind it, and the final reply.
//!
//! vsftpd closes its side with SO_LINGER: its 226 waits until our kernel has acknowledged its FIN, a round trip after the last
//! byte was there. There is nobody left to wait for once a reset has come, and so a small upload *hurries*: all bytes and
//! the FIN are given to the network, then the connection is reset. A server on Linux reads what came before in order up to
//! its end, as ever (measured: 226 after 1.0 round trips instead of 2.0).
//!
//! What is given up is that our kernel sends again what gets lost. Then the server has no end of the file: a reset that
//! overtakes bytes is an error to it (426), and where all was lost it says nothing more ([`SILENCE`]). In both cases the
//! file is sent again in the ordinary way, and for some time all others are ([`Features::hurry_failed`]). So only new files
//! hurry: those may be stored twice. That something in between makes a clean end of half a file is seen by its SIZE, as always.
//!
//! [`Features::hurry_failed`]: crate::ftp::Features::hurry_failed

use std::time::{Duration, Instant};

use nix::poll::PollFlags;

use super::How;
use crate::ftp::Error;
use crate::ftp::data::Data;
use crate::ftp::features::{Ability, Capability, Server};
use crate::ftp::reply::Reply;
use crate::ftp::session::Session;
use crate::ftp::session::transfer::{Failure, Transfer};
use crate::ftp::stream::{self, Step};

impl Session {
    /// Whether an upload of so many bytes may end with a reset.
    pub(super) fn may_hurry(&self, transfer: &Transfer, how: How, bytes: u64) -> bool {
        how == How::New
            && bytes <= HURRIED
            && self.server().lingers()
            && !self.protects_data
            && !self.control.is_proxied()
            && self.features.ability(Capability::Size) == Ability::Yes
            && transfer.data.as_ref().is_some_and(Data::is_passive)
            && self.features.may_hurry()
    }

    /// Waits until the kernel has sent all that it was given, though not for acknowledgements. False when that takes long.
    fn has_sent_all(&mut self, transfer: &mut Transfer) -> Result<bool, Failure> {
        let deadline = Instant::now() + PROGRESS;
        while let Some(data) = &transfer.data {
            if data.untransmitted() == 0 {
                return Ok(true);
            }
            data.wake_when_transmitted();
            self.still_wanted(transfer)?;
            match transfer.wait(&self.control, PollFlags::POLLOUT, deadline) {
                Err(Failure::Error(Error::TimedOut { .. })) => break,
                waited => waited?,
            }
        }
        Ok(false)
    }

    /// Waits until the FIN has gone, too, which the kernel may put off a little (pacing). False when that takes long.
    fn has_sent_end(&mut self, transfer: &mut Transfer) -> Result<bool, Failure> {
        for _ in 0..LOOKS {
            let Some(data) = &transfer.data else { break };
            if data.untransmitted() == 0 {
                return Ok(true);
            }
            // Whether something came or nothing did: the next look tells.
            let _ = stream::wait(&mut [self.control.poll_fd()], Instant::now() + LOOK);
            transfer.look(&mut self.control)?;
            if transfer.last.is_some() {
                break;
            }
        }
        Ok(false)
    }

    /// FIN, then the final reply. Where it `may_hurry` a reset follows the FIN. The wait is renewed while the server still takes
    /// what the kernel holds. It is cut short when the server has dropped the data connection of an upload whose first bytes may
    /// have overtaken their command (`is_early`), and says no more than 150.
    pub(super) fn close_and_confirm(
        &mut self,
        transfer: &mut Transfer,
        is_early: bool,
        sent: u64,
        may_hurry: bool,
    ) -> Result<Reply, Failure> {
        let may_hurry = may_hurry && self.has_sent_all(transfer)?;
        let mut deadline = Instant::now() + self.config.timeout;
        if self.server() == Server::FtpSrv && self.protects_data {
            transfer.wait_until_begun(&mut self.control, deadline)?;
        }
        while let Some(data) = &mut transfer.data {
            let needs = match data.shut_write() {
                Ok(Step::Done(_)) => break,
                Ok(Step::NeedsRead) => PollFlags::POLLIN,
                Ok(Step::NeedsWrite) => PollFlags::POLLOUT,
                Err(error) => return Err(transfer.broken(&mut self.control, &error)),
            };
            self.still_wanted(transfer)?;
            transfer.wait(&self.control, needs, deadline)?;
        }
        if may_hurry && self.has_sent_end(transfer)? {
            transfer.drop_data();
            transfer.hurried = true;
        }
        let silence = SILENCE.min(self.config.timeout / 2);
        let mut begun_at = None;
        let mut unsent = transfer.data.as_ref().map_or(0, Data::unsent);
        // Inside TLS the server sends session tickets: closing before they are read resets the connection, and with it
        // the last bytes of the file (facts: tls, pitfall 1).
        let mut drains = transfer.data.as_ref().is_some_and(Data::is_tls);
        let mut confirmed_at = None;
        let mut dropped_at = None;
        loop {
            if drains && !drain(transfer) {
                drains = false;
            }
            transfer.look(&mut self.control)?;
            let now = Instant::now();
            if transfer.hurried
                && transfer.has_begun
                && transfer.last.is_none()
                && now.duration_since(*begun_at.get_or_insert(now)) > silence
            {
                let text = "no word of it after its end: perhaps it was lost on the way".to_owned();
                return Err(Error::Data { during: transfer.command, text }.into());
            }
            if let Some(reply) = &transfer.last {
                if !transfer.has_begun {
                    return Err(transfer.unfounded(reply).into());
                }
                let since = *confirmed_at.get_or_insert(now);
                if !drains || now.duration_since(since) >= DRAIN_WAIT {
                    let reply = reply.clone();
                    if let Some(data) = transfer.data.take() {
                        data.close();
                    }
                    self.restart_pending = false;
                    return Ok(reply);
                }
                deadline = since + DRAIN_WAIT;
            }
            let slice = (now + PROGRESS).min(deadline);
            let waited = if drains {
                transfer.wait(&self.control, PollFlags::POLLIN, slice)
            } else {
                stream::wait(&mut [self.control.poll_fd()], slice)
                    .map_err(|error| Error::control(transfer.command, &error).into())
            };
            match waited {
                Err(Failure::Error(Error::TimedOut { .. })) if confirmed_at.is_none() => {
                    let left = transfer.data.as_ref().map_or(0, Data::unsent);
                    // With more than it takes at once a connection that is dropped is reset.
                    let is_gone =
                        |data: &Data| data.was_reset() || (sent <= AT_ONCE && data.was_ended_by_peer());
                    if is_early && dropped_at.is_none() && transfer.data.as_ref().is_some_and(is_gone) {
                        dropped_at = Some(now);
                    }
                    if transfer.has_begun
                        && dropped_at.is_some_and(|at| at.elapsed() > self.config.timeout / 3)
                    {
                        let why = "the server dropped it and does not say why".to_owned();
                        return Err(Failure::Unexplained { why });
                    }
                    if left < unsent {
                        unsent = left;
                        deadline = Instant::now() + self.config.timeout;
                    } else if Instant::now() >= deadline {
                        return Err(Error::TimedOut { during: transfer.command }.into());
                    }
                }
                Err(Failure::Error(Error::TimedOut { .. })) | Ok(()) => {}
                Err(failure) => return Err(failure),
            }
        }
    }
}

/// Takes what the server sends on the connection of an upload. False once it has closed it.
fn drain(transfer: &mut Transfer) -> bool {
    let mut buffer = [0; 4096];
    for _ in 0..MAX_DRAIN {
        match transfer.data.as_mut().map(|data| data.read(&mut buffer)) {
            Some(Ok(Step::Done(n))) if n > 0 => {}
            Some(Ok(Step::NeedsRead | Step::NeedsWrite)) => return true,
            _ => return false,
        }
    }
    false
}

/// How long the server may take to close its side after its 226: some never do.
const DRAIN_WAIT: Duration = Duration::from_secs(2);
/// Nothing but tickets is expected: whoever sends more than this is not listened to.
const MAX_DRAIN: usize = 64;
/// How often it is looked whether a server still takes data after our FIN.
const PROGRESS: Duration = Duration::from_secs(1);
/// Uploads of at most so many bytes hurry: of longer ones a round trip is a small part, and more can get lost.
const HURRIED: u64 = 128 << 10;
/// What pyftpdlib reads at once, to drop it.
const AT_ONCE: u64 = 64 << 10;
/// How long it is looked for the FIN to go, which no poll tells.
const LOOK: Duration = Duration::from_millis(1);
const LOOKS: usize = 50;
/// A server that has all of a small file confirms it at once. One that does not, after a reset, may not know that there is
/// nothing to wait for.
const SILENCE: Duration = Duration::from_secs(3);
