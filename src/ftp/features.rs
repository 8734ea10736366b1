//! What this server can do: learned once per mount, shared by all its sessions.
//!
//! Nothing is assumed. The greeting names the server when it is one that was measured ([`Server`]); FEAT lists what it
//! admits to; every refusal with 500, 502 or 504 teaches that a command is missing, and every success that it is there.
//! Whoever opens the second session of a mount therefore asks nothing that the first has found out. Sessions read and
//! write this from their own threads; the lock is held for the time of a lookup, never across I/O.

pub mod counters;
pub mod server;
pub mod troubles;
mod ways;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use parking_lot::Mutex;

use super::path::RemotePath;
use super::reply::Reply;
use super::tls::Connector;
use super::{Config, Error};
pub use counters::{Counters, Counts};
pub use server::Server;
pub use troubles::{Trouble, Troubles};
pub(super) use ways::BLOCKED;
pub use ways::Way;

/// Shared by all sessions of a mount; learned from FEAT, from greetings and from refusals.
#[derive(Clone, Default)]
pub struct Features(Arc<Inner>);

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    counters: Counters,
    troubles: Troubles,
    /// Made by the first session that needs it.
    connector: Mutex<Option<Arc<Connector>>>,
}

#[derive(Default)]
struct State {
    /// Seconds by which the server's MDTM is ahead of UTC (vsftpd with use_localtime), once that is known.
    zone_shift: Option<i64>,
    /// The server's (or proxy's) address that answered last.
    address: Option<SocketAddr>,
    server: Option<Server>,
    abilities: [Ability; Capability::COUNT],
    order: Order,
    /// Whether login has run once to its end, FEAT and PWD included.
    is_learned: bool,
    /// The folder that is the root of the mount.
    root: Option<RemotePath>,
    replaces_on_rename: Option<bool>,
    /// What a probe has shown about REST + STOR.
    tail_is_kept: Option<bool>,
    /// How data connections are made, as far as that has been found out.
    way: Way,
    /// One has been made so.
    way_works: bool,
    way_failures: u32,
    /// Some way has worked, at some time.
    way_ever: bool,
    /// None of the ways works: until when that is believed.
    blocked_until: Option<Instant>,
    /// So many uploads are not ended by a reset.
    unhurried: u32,
    /// Folders with names that break a reply apart.
    distrusted: HashSet<RemotePath>,
}

/// Something that a server may or may not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    Mlst,
    Size,
    Mdtm,
    Mfmt,
    SiteUtime,
    MdtmSet,
    SiteChmod,
    RestRetr,
    RestStor,
    Append,
    Eprt,
    Utf8,
    /// `LIST -a`.
    ListAll,
    /// `STAT path` lists that folder and no other, several in one segment.
    ListByStat,
    /// Keeps bytes of an upload that come before its command: TCP keeps order within a connection, not between two.
    EarlyData,
    /// AVBL, or a quota in other words.
    Space,
}

impl Capability {
    const COUNT: usize = Self::Space as usize + 1;
}

/// What is known about one capability.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ability {
    #[default]
    Unknown,
    Yes,
    No,
}

/// How far this server keeps commands of one segment in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Order {
    /// One command, one reply.
    #[default]
    Serial,
    /// Independent commands, and what only needs the session's own state (REST and RETR, CWD and LIST): probed.
    Independent,
    /// Also RNFR and RNTO: measured.
    Strict,
}

impl Features {
    pub fn new() -> Self {
        Self::default()
    }

    /// False once APPE has been refused (or is known to be missing or destructive).
    pub fn can_append(&self) -> bool {
        self.ability(Capability::Append) != Ability::No
    }

    /// False once REST before STOR has been refused (or is known to destroy data).
    pub fn can_restart_store(&self) -> bool {
        self.ability(Capability::RestStor) != Ability::No
    }

    /// What a probe has shown of REST + STOR in the middle of a file: whether it keeps what lies behind (facts: servers,
    /// section 5). None before there was one.
    pub fn tail_is_kept(&self) -> Option<bool> {
        self.0.state.lock().tail_is_kept
    }

    /// What a probe has shown: whether REST + STOR leaves what lies behind the bytes that were sent.
    pub fn learn_tail_is_kept(&self, kept: bool) {
        log::debug!("REST and STOR {} the rest of a file here", if kept { "keep" } else { "do not keep" });
        self.0.state.lock().tail_is_kept = Some(kept);
    }

    /// False when RNTO is known not to replace an existing file.
    pub fn rename_replaces(&self) -> bool {
        let state = self.0.state.lock();
        state.replaces_on_rename.unwrap_or_else(|| state.server.unwrap_or_default().replaces_on_rename())
    }

    /// Whether listings give seconds (MLSD), so that no MDTM is needed.
    pub fn has_exact_listing(&self) -> bool {
        self.ability(Capability::Mlst) == Ability::Yes && self.server().lists_with_mlsd()
    }

    /// Whether the server can be asked for the size of one file.
    pub fn can_tell_size(&self) -> bool {
        self.ability(Capability::Size) != Ability::No || self.ability(Capability::Mlst) == Ability::Yes
    }

    /// False when no way of setting a modification time is left.
    pub fn can_set_modified(&self) -> bool {
        [Capability::Mfmt, Capability::SiteUtime, Capability::MdtmSet]
            .iter()
            .any(|&way| self.ability(way) != Ability::No)
    }

    /// False once SITE CHMOD has turned out to be missing.
    pub fn can_set_mode(&self) -> bool {
        self.ability(Capability::SiteChmod) != Ability::No
    }

    /// Which server this is, as far as its greeting tells.
    pub fn server(&self) -> Server {
        self.0.state.lock().server.unwrap_or_default()
    }

    /// What is known about a capability.
    pub fn ability(&self, capability: Capability) -> Ability {
        self.0.state.lock().abilities.get(capability as usize).copied().unwrap_or_default()
    }

    /// Remembers what a reply has shown.
    pub fn learn(&self, capability: Capability, has: bool) {
        let ability = if has { Ability::Yes } else { Ability::No };
        let mut state = self.0.state.lock();
        let Some(slot) = state.abilities.get_mut(capability as usize) else { return };
        if *slot != ability {
            *slot = ability;
            log::debug!("this server {} {capability:?}", if has { "has" } else { "does not have" });
        }
    }

    /// Whether thousands of commands may be under way at once.
    pub fn answers_many_at_once(&self) -> bool {
        self.server().takes_segments()
    }

    /// Whether STAT lists folders, several in one segment.
    pub fn lists_together(&self) -> bool {
        self.ability(Capability::ListByStat) == Ability::Yes
    }

    /// This folder has a name that breaks replies apart: not by STAT again. When there are many such folders, none is.
    pub(super) fn distrust_status(&self, folder: Option<&RemotePath>) {
        let mut state = self.0.state.lock();
        state.distrusted.extend(folder.cloned());
        let many = state.distrusted.len() > MAX_DISTRUSTED;
        drop(state);
        if many {
            self.learn(Capability::ListByStat, false);
        }
    }

    pub(super) fn distrusts_status(&self, folder: &RemotePath) -> bool {
        self.0.state.lock().distrusted.contains(folder)
    }

    /// How far commands may be sent together.
    pub fn order(&self) -> Order {
        self.0.state.lock().order
    }

    /// Remembers the outcome of the in-order probe.
    pub fn set_order(&self, order: Order) {
        self.0.state.lock().order = order;
    }

    /// What has gone over the wire so far.
    pub fn counters(&self) -> &Counters {
        &self.0.counters
    }

    /// What went wrong lately.
    pub fn troubles(&self) -> &Troubles {
        &self.0.troubles
    }

    /// Recognises the server from its greeting, and sets what is known about it. Only the first greeting counts.
    pub(super) fn greeted(&self, greeting: &Reply) {
        let server = Server::recognise(greeting);
        if self.0.state.lock().server.is_some() {
            return;
        }
        self.become_server(server);
    }

    /// Sets what is known about a server.
    pub(super) fn become_server(&self, server: Server) {
        let mut state = self.0.state.lock();
        state.server = Some(server);
        state.order = server.order();
        drop(state);
        for &capability in server.missing() {
            self.learn(capability, false);
        }
        for &capability in server.present() {
            self.learn(capability, true);
        }
        log::info!("the server is {server:?}");
    }

    /// Reads the reply to FEAT (RFC 2389 section 3.2). What is not listed stays unknown: FEAT lies both ways.
    pub(super) fn read_feat(&self, reply: &Reply) {
        if !reply.is_success() {
            if self.server() == Server::Unknown && reply.words().contains("'feat' not implemented") {
                self.become_server(Server::Aioftp);
            }
            return;
        }
        for line in &reply.lines {
            let line = String::from_utf8_lossy(line).trim().to_ascii_uppercase();
            let capability = match line.split_ascii_whitespace().next().unwrap_or_default() {
                "MLST" | "MLSD" => Capability::Mlst,
                "SIZE" => Capability::Size,
                "MDTM" => Capability::Mdtm,
                "MFMT" => Capability::Mfmt,
                "AVBL" => Capability::Space,
                "UTF8" => Capability::Utf8,
                // ftp-srv's own: its greeting is whatever its owner likes.
                "TYPE" if line == "TYPE A,I,L" && self.server() == Server::Unknown => {
                    self.become_server(Server::FtpSrv);
                    continue;
                }
                // Apache's greeting is the text of RFC 959. No other of those measured offers this digest.
                "MMD5" if self.server() == Server::Unknown => {
                    self.become_server(Server::Apache);
                    continue;
                }
                "REST" => Capability::RestRetr,
                _ => continue,
            };
            // A refusal weighs more than a promise.
            if self.ability(capability) == Ability::Unknown {
                self.learn(capability, true);
            }
        }
        // These two are tried only when listed: a try costs a round trip, and every server that has them lists them.
        for capability in [Capability::Mlst, Capability::Mfmt] {
            if self.ability(capability) == Ability::Unknown {
                self.learn(capability, false);
            }
        }
    }

    /// What all TLS connections of the mount share.
    pub(super) fn connector(&self, config: &Config) -> Result<Arc<Connector>, Error> {
        let mut connector = self.0.connector.lock();
        if let Some(connector) = &*connector {
            return Ok(Arc::clone(connector));
        }
        let made = Arc::new(Connector::new(config)?);
        *connector = Some(Arc::clone(&made));
        Ok(made)
    }

    /// Whether the next small upload may end with a reset.
    pub(super) fn may_hurry(&self) -> bool {
        let mut state = self.0.state.lock();
        let left = state.unhurried;
        state.unhurried = left.saturating_sub(1);
        left == 0
    }

    /// One that did has come to nothing, and is to be repeated.
    pub(super) fn hurry_failed(&self) {
        log::debug!("an upload that ended with a reset did not come through");
        self.0.state.lock().unhurried = UNHURRIED;
    }

    /// The root of the mount, once a session has found it.
    pub(super) fn root(&self) -> Option<RemotePath> {
        self.0.state.lock().root.clone()
    }

    /// Marks the first login as complete.
    pub(super) fn set_learned(&self, root: RemotePath) {
        let mut state = self.0.state.lock();
        state.root = Some(root);
        state.is_learned = true;
    }

    /// Whether a session has asked everything already.
    pub fn is_learned(&self) -> bool {
        self.0.state.lock().is_learned
    }

    /// RNTO would not replace an existing file.
    pub(super) fn rename_does_not_replace(&self) {
        self.0.state.lock().replaces_on_rename = Some(false);
    }

    /// Seconds by which the server's MDTM is ahead of UTC.
    pub(super) fn zone_shift(&self) -> i64 {
        self.0.state.lock().zone_shift.unwrap_or(0)
    }

    /// Whether a file has to be stored first before a time can be set rightly: vsftpd's MDTM may speak local time.
    pub(super) fn must_learn_zone(&self) -> bool {
        let state = self.0.state.lock();
        state.server == Some(Server::Vsftpd) && state.zone_shift.is_none()
    }

    /// Learns the zone of the server's MDTM from the time it gives a file that was stored just `now`: a difference of whole
    /// quarters of an hour, give or take a slow clock, is a zone.
    pub(super) fn learn_zone(&self, mdtm: SystemTime, now: SystemTime) {
        let seconds = match mdtm.duration_since(now) {
            Ok(ahead) => i64::try_from(ahead.as_secs()).unwrap_or(i64::MAX),
            Err(behind) => -i64::try_from(behind.duration().as_secs()).unwrap_or(i64::MAX),
        };
        if seconds.abs() > WIDEST_ZONE {
            return;
        }
        let shift = (seconds + QUARTER / 2).div_euclid(QUARTER) * QUARTER;
        if (seconds - shift).abs() > SLOW_CLOCK {
            return;
        }
        if self.0.state.lock().zone_shift.replace(shift) != Some(shift) {
            log::info!("this server's MDTM is {shift} s ahead of UTC");
        }
    }

    /// The address that answered last.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.0.state.lock().address
    }

    pub(super) fn connected_to(&self, address: SocketAddr) {
        self.0.state.lock().address = Some(address);
    }
}

/// Zones differ by quarters of an hour.
const QUARTER: i64 = 15 * 60;
/// UTC+14 is the furthest, UTC-12 the other way.
const WIDEST_ZONE: i64 = 14 * 3600 + SLOW_CLOCK;
/// How far the server's clock may be off for a zone to be believed.
const SLOW_CLOCK: i64 = 120;
/// After an upload whose reset did harm: with fewer than one such in a hundred, what they cost is less than what they save.
const UNHURRIED: u32 = 100;
/// So many folders may break replies apart before STAT is given up for all of them.
const MAX_DISTRUSTED: usize = 32;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn reply(code: u16, lines: &[&str]) -> Reply {
        Reply { code, lines: lines.iter().map(|l| l.as_bytes().to_vec()).collect() }
    }

    #[test]
    fn feat_tells_what_is_there_and_a_refusal_weighs_more() {
        let features = Features::new();
        features.learn(Capability::Size, false);
        features.read_feat(&reply(
            211,
            &["Features:", " MDTM", "SIZE", " MLST type*;size*;", " rest stream", "End"],
        ));
        assert_eq!(features.ability(Capability::Mdtm), Ability::Yes);
        assert_eq!(features.ability(Capability::Size), Ability::No);
        assert_eq!(features.ability(Capability::RestRetr), Ability::Yes);
        assert_eq!(features.ability(Capability::Mfmt), Ability::No);
        assert!(features.has_exact_listing());
    }

    #[test]
    fn servers_with_anybodys_greeting_are_told_by_feat() {
        let features = Features::new();
        features.greeted(&reply(220, &["welcome"]));
        assert_eq!(features.server(), Server::Unknown);
        features.read_feat(&reply(502, &["'feat' not implemented"]));
        assert_eq!(features.server(), Server::Aioftp);
        let features = Features::new();
        features.greeted(&reply(220, &["Service ready for new user."]));
        features.read_feat(&reply(211, &["Extensions supported", " SIZE", " MD5", " MMD5", " MFMT", "End"]));
        assert_eq!(features.server(), Server::Apache);
        assert!(features.can_tell_size());
        // vsftpd with a banner of its owner's.
        let features = Features::new();
        features.greeted(&reply(220, &["Welcome"]));
        features.read_feat(&reply(211, &["Features:", " EPRT", " MDTM", " SIZE", "End"]));
        assert_eq!(features.server(), Server::Unknown);
        assert_eq!(features.ability(Capability::Mdtm), Ability::Yes);
    }

    #[test]
    fn what_one_session_learns_every_session_knows() {
        let features = Features::new();
        let other = features.clone();
        features.greeted(&reply(220, &["(vsFTPd 3.0.3)"]));
        assert_eq!(other.server(), Server::Vsftpd);
        assert_eq!(other.order(), Order::Strict);
        assert!(!other.has_exact_listing());
        features.greeted(&reply(220, &["something else"]));
        assert_eq!(other.server(), Server::Vsftpd);
        assert!(other.rename_replaces());
    }

    #[test]
    fn a_zone_is_learned_from_a_fresh_file_and_a_slow_clock_is_none() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000);
        let features = Features::new();
        features.learn_zone(now + Duration::from_secs(30), now);
        assert_eq!(features.zone_shift(), 0);
        features.learn_zone(now + Duration::from_secs(7 * 3600 - 5), now);
        assert_eq!(features.zone_shift(), 7 * 3600);
        features.learn_zone(now - Duration::from_secs(4 * 3600 + 1800), now);
        assert_eq!(features.zone_shift(), -(4 * 3600 + 1800));
        features.learn_zone(now + Duration::from_secs(1300), now);
        features.learn_zone(now + Duration::from_secs(40 * 3600), now);
        assert_eq!(features.zone_shift(), -(4 * 3600 + 1800));
    }

    #[test]
    fn a_server_without_a_word_is_served_one_command_at_a_time() {
        let features = Features::new();
        features.greeted(&reply(220, &["ready"]));
        assert_eq!(features.order(), Order::Serial);
        assert!(features.can_append() && features.can_set_modified());
    }
}
