//! Ending a transfer before its end, so that the session stays usable where the server bears it.
//!
//! Every server has its own last words for a transfer whose data connection goes away: one reply, two, a 150, or none
//! (docs/servers.md). So the end is waited for shortly, and where it does not come the session is over: a new login costs less
//! than a reply that is taken for another's.

use std::time::{Duration, Instant};

use super::Session;
use super::transfer::Transfer;
use crate::ftp::command::Command;

impl Session {
    /// Lets a transfer that nobody wants run to its end when that is near, and cuts it otherwise.
    pub(super) fn discard(&mut self, transfer: &mut Transfer) {
        let mut buffer = vec![0; 64 * 1024];
        let mut left: usize = WORTH_READING;
        while left > 0 {
            match self.receive(transfer, &mut buffer) {
                Ok(0) => {
                    // A refusal is as good an end as any; other errors have ended the session.
                    let _ = self.conclude(transfer);
                    return;
                }
                Ok(n) => left = left.saturating_sub(n),
                Err(_) => return,
            }
        }
        self.cut(transfer);
    }

    /// Ends a transfer early: resets its data connection and reads the one reply that follows. Where that does not come
    /// the session is over.
    pub(super) fn cut(&mut self, transfer: &mut Transfer) {
        if self.control.has_ended() || transfer.last.is_some() {
            transfer.data = None;
            return;
        }
        if !self.server().survives_cut() {
            transfer.drop_data();
            self.control.end();
            return;
        }
        // A connection that is reset before the server has taken it makes pyftpdlib and Pure-FTPd wait for another one.
        if !transfer.has_begun {
            match self.control.reply_by(Instant::now() + CUT_WAIT) {
                Ok(reply) if reply.is_preliminary() => transfer.has_begun = true,
                Ok(reply) => {
                    transfer.last = Some(reply);
                    transfer.data = None;
                    return;
                }
                Err(_) => return self.control.end(),
            }
        }
        if self.protects_data && transfer.shake_hands(Instant::now() + CUT_WAIT).is_err() {
            transfer.drop_data();
            return self.control.end();
        }
        if self.protects_data && !matches!(transfer.command, "STOR" | "APPE") {
            return self.abort(transfer);
        }
        // It has begun, so its REST is used up.
        self.restart_pending = false;
        transfer.drop_data();
        let asks = self.may_ask_behind(transfer);
        if asks && self.send(&[Command::Epsv]).is_err() {
            return self.control.end();
        }
        match self.control.reply_by(Instant::now() + CUT_WAIT) {
            Ok(reply) => {
                // Pure-FTPd's last word after a cut RETR is a 150.
                if reply.is_preliminary() {
                    self.control.settle();
                }
                transfer.last = Some(reply);
                if asks {
                    self.take_port_behind();
                }
            }
            Err(_) => self.control.end(),
        }
    }

    /// Cuts a download inside TLS. There a data connection that is just closed kills ProFTPD's session now and then; ABOR
    /// first, never (facts: tls, pitfall 7), and before its handshake is complete vsftpd dies of either. ABOR has an
    /// answer of its own, but not always, and in any order: a NOOP behind the first shows where the answers end.
    fn abort(&mut self, transfer: &mut Transfer) {
        let deadline = Instant::now() + CUT_WAIT;
        let sent = self.send(&[Command::Abor]);
        transfer.drop_data();
        let first = sent.and_then(|()| self.control.reply_by(deadline));
        let Ok(first) = first.and_then(|reply| self.send(&[Command::Noop]).map(|()| reply)) else {
            return self.control.end();
        };
        transfer.last = Some(first);
        for _ in 0..MAX_ANSWERS {
            match self.control.reply_by(deadline) {
                Ok(reply) if reply.code == 200 => return self.control.settle_all(),
                Ok(_) => {}
                Err(_) => break,
            }
        }
        self.control.end();
    }
}

/// Answers to a cut transfer, to ABOR and to NOOP.
const MAX_ANSWERS: usize = 3;
/// What is read to its end rather than cut: less than what is under way on a long link anyway.
const WORTH_READING: usize = 256 * 1024;
/// How long the reply after a cut transfer may take; servers that survive it answer within a round trip or two.
const CUT_WAIT: Duration = Duration::from_secs(2);
