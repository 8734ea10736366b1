//! How data connections are made, as far as has been found out: what worked is remembered for the mount, so that only the
//! first transfer pays for finding out.

use std::time::{Duration, Instant};

use super::Features;

/// A way of making data connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Way {
    #[default]
    Epsv,
    /// PASV, to the control connection's address.
    Pasv,
    /// PASV, to the address in the reply.
    PasvReply,
    /// EPRT or PORT: the server connects to us.
    Active,
}

impl Features {
    /// How data connections are made.
    pub(in crate::ftp) fn way(&self) -> Way {
        self.0.state.lock().way
    }

    /// Whether no way of making data connections works, as far as was tried of late.
    pub fn data_is_blocked(&self) -> bool {
        self.0.state.lock().blocked_until.is_some_and(|until| Instant::now() < until)
    }

    /// A data connection was made.
    pub(in crate::ftp) fn way_worked(&self) {
        let mut state = self.0.state.lock();
        state.way_works = true;
        state.way_ever = true;
        state.way_failures = 0;
        state.blocked_until = None;
    }

    /// Whether data connections have been made in the way that is used now.
    pub(in crate::ftp) fn way_is_proven(&self) -> bool {
        self.0.state.lock().way_works
    }

    /// A data connection could not be made; `next` is what would be tried instead. One failure is enough while nothing has
    /// worked yet; afterwards it takes several in a row.
    pub(in crate::ftp) fn way_failed(&self, failed: Way, next: Way) {
        let mut state = self.0.state.lock();
        if state.way != failed {
            return;
        }
        state.way_failures = state.way_failures.saturating_add(1);
        if state.way_works && state.way_failures < PATIENCE {
            return;
        }
        (state.way, state.way_works, state.way_failures) = (next, false, 0);
        // Round the circle once, and nothing has worked.
        if next == Way::Epsv && !state.way_ever {
            state.blocked_until = Some(Instant::now() + BLOCKED_FOR);
            log::warn!("{BLOCKED}");
            return;
        }
        log::info!("data connections: {failed:?} does not work here, trying {next:?}");
    }
}

/// What a user is told whose firewall lets nothing but the control connection through.
pub(in crate::ftp) const BLOCKED: &str = "no data connection can be made, neither by us (passive) nor by the server (active): is there a firewall or NAT in between?";
/// How long it is believed that nothing works, so that each program is told at once and not after another round.
const BLOCKED_FOR: Duration = Duration::from_secs(60);
/// A way that has worked is given up after so many failures in a row: one may be a restart or a full port range.
const PATIENCE: u32 = 3;
