//! What has gone over the wire: counted so that tests can hold the round-trip budgets, and a mount can show them.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts of one mount, all sessions together. Relaxed: they order nothing.
#[derive(Default)]
pub struct Counters {
    commands: AtomicU64,
    batches: AtomicU64,
    sessions: AtomicU64,
    data_connections: AtomicU64,
    transfers: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
}

/// The counts at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Commands sent.
    pub commands: u64,
    /// Writes to control connections: commands that went out together count once.
    pub batches: u64,
    /// Control connections opened.
    pub sessions: u64,
    /// Data connections opened.
    pub data_connections: u64,
    /// RETR, STOR, APPE, LIST and MLSD begun.
    pub transfers: u64,
    /// Bytes that came over data connections.
    pub received: u64,
    /// Bytes given to data connections.
    pub sent: u64,
}

impl Counters {
    /// The counts now.
    pub fn read(&self) -> Counts {
        Counts {
            commands: self.commands.load(Ordering::Relaxed),
            batches: self.batches.load(Ordering::Relaxed),
            sessions: self.sessions.load(Ordering::Relaxed),
            data_connections: self.data_connections.load(Ordering::Relaxed),
            transfers: self.transfers.load(Ordering::Relaxed),
            received: self.received.load(Ordering::Relaxed),
            sent: self.sent.load(Ordering::Relaxed),
        }
    }

    pub(in crate::ftp) fn batch(&self, commands: usize) {
        self.batches.fetch_add(1, Ordering::Relaxed);
        self.commands.fetch_add(commands as u64, Ordering::Relaxed);
    }

    /// Gives the number of the session.
    pub(in crate::ftp) fn session(&self) -> u64 {
        self.sessions.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(in crate::ftp) fn data_connection(&self) {
        self.data_connections.fetch_add(1, Ordering::Relaxed);
    }

    pub(in crate::ftp) fn transfer(&self) {
        self.transfers.fetch_add(1, Ordering::Relaxed);
    }

    pub(in crate::ftp) fn received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(in crate::ftp) fn sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}
