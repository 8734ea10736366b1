//! What clients have done: sessions, commands, bytes.

use std::collections::BTreeMap;
use std::sync::Mutex;

use super::locked;

/// Counted since the start or the last [`Counters::reset`].
#[derive(Default)]
pub struct Counters(Mutex<Counts>);

/// One moment's numbers.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Sessions that were greeted.
    pub sessions: u64,
    /// Sessions open now, and the most at once.
    pub open: u64,
    pub most_open: u64,
    /// Sessions refused with 421.
    pub refused: u64,
    pub data_connections: u64,
    /// Transfers that run now.
    pub transfers: u64,
    pub bytes_sent: u64,
    pub bytes_received: u64,
    /// Bytes of floods on control connections that a client has taken to the end.
    pub flooded: u64,
    /// Commands by name.
    pub commands: BTreeMap<String, u64>,
    /// Every command line with its session's number, in order of arrival; passwords left out.
    pub lines: Vec<(u64, String)>,
}

impl Counters {
    pub fn now(&self) -> Counts {
        locked(&self.0).clone()
    }

    /// How often a command came.
    pub fn of(&self, verb: &str) -> u64 {
        locked(&self.0).commands.get(verb).copied().unwrap_or(0)
    }

    /// All commands together.
    pub fn commands(&self) -> u64 {
        locked(&self.0).commands.values().sum()
    }

    /// From zero again; open sessions stay counted as open.
    pub fn reset(&self) {
        let mut counts = locked(&self.0);
        let Counts { open, transfers, .. } = *counts;
        *counts = Counts { open, most_open: open, transfers, ..Counts::default() };
    }

    pub(super) fn command(&self, session: u64, verb: &str, argument: &[u8]) {
        let mut counts = locked(&self.0);
        *counts.commands.entry(verb.to_string()).or_default() += 1;
        if counts.lines.len() < MOST_LINES {
            let shown = if verb == "PASS" { "****".into() } else { String::from_utf8_lossy(argument) };
            counts.lines.push((session, format!("{verb} {shown}").trim_end().to_string()));
        }
    }

    /// Lets a session in unless there are `most` already; gives its number.
    pub(super) fn opened(&self, most: usize) -> Option<u64> {
        let mut counts = locked(&self.0);
        if counts.open >= most as u64 {
            counts.refused += 1;
            return None;
        }
        counts.sessions += 1;
        counts.open += 1;
        counts.most_open = counts.most_open.max(counts.open);
        Some(counts.sessions)
    }

    pub(super) fn closed(&self) {
        locked(&self.0).open -= 1;
    }

    pub(super) fn data_connection(&self) {
        let mut counts = locked(&self.0);
        counts.data_connections += 1;
        counts.transfers += 1;
    }

    pub(super) fn transferred(&self) {
        locked(&self.0).transfers -= 1;
    }

    pub(super) fn sent(&self, bytes: usize) {
        locked(&self.0).bytes_sent += bytes as u64;
    }

    pub(super) fn flooded(&self, bytes: u64) {
        locked(&self.0).flooded += bytes;
    }

    pub(super) fn received(&self, bytes: usize) {
        locked(&self.0).bytes_received += bytes as u64;
    }
}

/// Enough for any test; a client gone mad does not eat the machine.
const MOST_LINES: usize = 100_000;
