//! Attributes of one path, or the times of many: asking and setting.
//!
//! MLST says everything in one answer; servers without it are asked SIZE and MDTM in one segment, and CWD when SIZE is
//! refused (a folder). Times are set with MFMT, `SITE UTIME`, or vsftpd's MDTM with a time in front, whichever the
//! server turns out to have.

use std::time::{Duration, SystemTime};

use super::Session;
use crate::ftp::command::Command;
use crate::ftp::features::{Ability, Capability, Features, Server};
use crate::ftp::listing::{self, Entry, Kind, Modified, Precision};
use crate::ftp::reply::{self, Reply};
use crate::ftp::{Error, Name, RemotePath};

/// A way of setting a modification time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Setter {
    Mfmt,
    SiteUtime,
    MdtmSet,
}

impl Setter {
    const ALL: [Self; 3] = [Self::Mfmt, Self::SiteUtime, Self::MdtmSet];

    fn capability(self) -> Capability {
        match self {
            Self::Mfmt => Capability::Mfmt,
            Self::SiteUtime => Capability::SiteUtime,
            Self::MdtmSet => Capability::MdtmSet,
        }
    }

    /// Whether this server is known to have it, so that it needs no proof.
    pub fn is_known(self, features: &Features) -> bool {
        features.ability(self.capability()) == Ability::Yes
    }

    pub fn command(self, at: SystemTime, path: &RemotePath) -> Command<'_> {
        match self {
            Self::Mfmt => Command::Mfmt(at, path),
            Self::SiteUtime => Command::SiteUtime(at, path),
            Self::MdtmSet => Command::MdtmSet(at, path),
        }
    }
}

impl Session {
    /// Attributes of one path (MLST, or SIZE+MDTM, with CWD to tell folders). Follows symlinks where the server does. The
    /// entry's name is the last component of `path` (of the root: `root`).
    pub fn stat(&mut self, path: &RemotePath) -> Result<Entry, Error> {
        if self.features.ability(Capability::Mlst) != Ability::No {
            let reply = self.one(&Command::Mlst(path), &[])?;
            if reply.is_success() {
                self.features.learn(Capability::Mlst, true);
                return match mlst_entry(&reply, path) {
                    Some(entry) => Ok(entry),
                    None => Err(self.end_on(Error::Protocol { text: format!("MLST: {reply}") })),
                };
            }
            match self.refused("MLST", reply, &[path]) {
                Error::Unsupported { .. } => self.features.learn(Capability::Mlst, false),
                error => return Err(error),
            }
        }
        if self.features.ability(Capability::Size) == Ability::No && !path.is_root() {
            return self.stat_in_listing(path, None);
        }
        let commands = [Command::Size(path), Command::Mdtm(path), Command::Cwd(path)];
        // A size proves a file only on servers that refuse SIZE for folders; elsewhere CWD is asked as well.
        let asked = if self.server().sizes_only_files() { &commands[..2] } else { &commands[..] };
        let mut replies = self.ask(asked)?.into_iter();
        let (Some(size), Some(mdtm)) = (replies.next(), replies.next()) else {
            return Err(self.end_on(Error::Protocol { text: "a reply is missing".to_owned() }));
        };
        let modified = self.mdtm(&mdtm);
        let bytes = self.size_in(&size);
        if bytes.is_none() && size.is_unknown_command() && !path.is_root() {
            self.features.learn(Capability::Size, false);
            return self.stat_in_listing(path, modified);
        }
        let folder = match replies.next() {
            Some(cwd) => cwd,
            None if bytes.is_some() => size,
            None => self.one(&Command::Cwd(path), &[])?,
        };
        let (kind, size) = match bytes {
            _ if folder.code == 250 || folder.code == 200 => (Kind::Directory, None),
            Some(bytes) => (Kind::File, Some(bytes)),
            None => return Err(self.refused("CWD", folder, &[path])),
        };
        Ok(Entry { name: own_name(path), kind, size, modified, mode: None, target: None })
    }

    /// For servers without SIZE: only the listing tells that something is there, and how long.
    fn stat_in_listing(&mut self, path: &RemotePath, modified: Option<Modified>) -> Result<Entry, Error> {
        let folder = path.parent().unwrap_or_else(RemotePath::root);
        let found = self.list(&folder)?.entries.into_iter().find(|entry| entry.name == own_name(path));
        let entry = found.ok_or_else(|| self.refused("SIZE", absent(), &[path]))?;
        Ok(Entry { modified: modified.or(entry.modified), ..entry })
    }

    /// Modification times to the second (MDTM, pipelined where the server allows); none per path that has none. `each` gets
    /// them in pieces as they come, with the place of the first. Only the first `allowed` are asked for, a number that may
    /// grow while the answers come.
    pub fn exact_times(
        &mut self,
        paths: &[RemotePath],
        allowed: &dyn Fn() -> usize,
        each: &mut dyn FnMut(usize, &[Option<Modified>]),
    ) -> Result<(), Error> {
        let known = self.features.ability(Capability::Mdtm) == Ability::Yes && self.server().takes_segments();
        let mut done = 0;
        while done < allowed().min(paths.len()) {
            let rest = paths.get(done..).unwrap_or_default();
            let first = done;
            let most = move || {
                let left = allowed().saturating_sub(first);
                if known { left } else { MDTM_GROUP.min(left) }
            };
            if self.features.ability(Capability::Mdtm) == Ability::No {
                let none = vec![None; allowed().min(paths.len()) - done];
                each(done, &none);
                return Ok(());
            }
            let commands: Vec<Command<'_>> = rest.iter().map(Command::Mdtm).collect();
            let mut times = Vec::new();
            self.ask_each(&commands, &most, &mut |session, reply| {
                times.push(session.mdtm(&reply));
                if times.len() == MDTM_PIECE {
                    each(done, &times);
                    done += times.len();
                    times.clear();
                }
            })?;
            each(done, &times);
            done += times.len();
        }
        Ok(())
    }

    /// MFMT, SITE UTIME or vsftpd's MDTM, whichever this server has; Unsupported when none.
    pub fn set_modified(&mut self, path: &RemotePath, at: SystemTime) -> Result<(), Error> {
        while let Some(setter) = self.setter() {
            let proven = setter.is_known(&self.features);
            let command = self.setter_command(setter, at, path);
            let outcome = if setter == Setter::MdtmSet && !proven {
                // Elsewhere this form asks for the time of a file with a strange name: only reading back proves it.
                let mut replies = self.ask(&[command, Command::Mdtm(path)])?.into_iter();
                let (Some(set), Some(read)) = (replies.next(), replies.next()) else {
                    return Err(self.end_on(Error::Protocol { text: "a reply is missing".to_owned() }));
                };
                let wanted = crate::ftp::command::timestamp(shifted(at, self.features.zone_shift()));
                if set.code == 213
                    && read.code == 213
                    && read.first().trim_ascii().starts_with(wanted.as_bytes())
                {
                    self.features.learn(Capability::MdtmSet, true);
                    return Ok(());
                }
                self.features.learn(Capability::MdtmSet, false);
                continue;
            } else {
                let reply = self.one(&command, &[])?;
                self.setter_outcome(setter, reply, path)
            };
            match outcome {
                Err(Error::Unsupported { .. }) => {}
                outcome => return outcome,
            }
        }
        Err(Error::Unsupported { command: "MFMT" })
    }

    /// SITE CHMOD, octal; Unsupported when the server has none.
    pub fn set_mode(&mut self, path: &RemotePath, mode: u32) -> Result<(), Error> {
        if !self.features.can_set_mode() {
            return Err(Error::Unsupported { command: "SITE CHMOD" });
        }
        let reply = self.one(&Command::SiteChmod(mode, path), &[])?;
        self.mode_outcome(reply, path)
    }

    /// The way of setting times to try, or to use.
    pub(super) fn setter(&self) -> Option<Setter> {
        Setter::ALL.into_iter().find(|setter| self.features.ability(setter.capability()) != Ability::No)
    }

    /// The command that sets a time: MDTM's zone is that in which it answers.
    pub(super) fn setter_command<'p>(
        &self,
        setter: Setter,
        at: SystemTime,
        path: &'p RemotePath,
    ) -> Command<'p> {
        let shift = if setter == Setter::MdtmSet { self.features.zone_shift() } else { 0 };
        setter.command(shifted(at, shift), path)
    }

    /// What the reply to a setter means; remembers whether the server has it.
    pub(super) fn setter_outcome(
        &mut self,
        setter: Setter,
        reply: Reply,
        path: &RemotePath,
    ) -> Result<(), Error> {
        if reply.is_success() {
            self.features.learn(setter.capability(), true);
            return Ok(());
        }
        let error = self.refused(setter.command(SystemTime::UNIX_EPOCH, path).name(), reply, &[path]);
        if matches!(error, Error::Unsupported { .. }) {
            self.features.learn(setter.capability(), false);
        }
        Err(error)
    }

    /// What the reply to SITE CHMOD means; remembers whether the server has it.
    pub(super) fn mode_outcome(&mut self, reply: Reply, path: &RemotePath) -> Result<(), Error> {
        if reply.is_success() {
            self.features.learn(Capability::SiteChmod, true);
            return Ok(());
        }
        let error = self.refused("SITE CHMOD", reply, &[path]);
        if matches!(error, Error::Unsupported { .. }) {
            self.features.learn(Capability::SiteChmod, false);
        }
        Err(error)
    }

    /// The number in a reply to SIZE.
    pub(super) fn size_in(&self, reply: &Reply) -> Option<u64> {
        // ftp-srv takes 0 for no text at all, and says what it says then.
        let is_nothing =
            self.server() == Server::FtpSrv && reply.code == 213 && reply.first() == b"File status";
        if is_nothing { Some(0) } else { reply::size(reply) }
    }

    /// The time in a reply to MDTM; remembers when the server has none.
    pub(super) fn mdtm(&mut self, reply: &Reply) -> Option<Modified> {
        if reply.is_unknown_command() {
            self.features.learn(Capability::Mdtm, false);
        }
        if reply.code != 213 {
            return None;
        }
        let at = listing::parse_time(reply.first().trim_ascii())?;
        let at = shifted(at, -self.features.zone_shift());
        Some(Modified { at, precision: Precision::Second })
    }
}

/// A time so many seconds later, or earlier.
pub(super) fn shifted(at: SystemTime, seconds: i64) -> SystemTime {
    let by = Duration::from_secs(seconds.unsigned_abs());
    let moved = if seconds < 0 { at.checked_sub(by) } else { at.checked_add(by) };
    moved.unwrap_or(at)
}

/// The entry in a reply to MLST (RFC 3659 section 7.2): the line that begins with a blank. Its name is what the server
/// makes of the path (some give the target of a link), so ours is put in its place.
pub(super) fn mlst_entry(reply: &Reply, path: &RemotePath) -> Option<Entry> {
    let name = own_name(path);
    let inner = reply.lines.get(1..reply.lines.len().saturating_sub(1))?;
    inner.iter().find_map(|line| {
        // A blank behind it, for a server that gives no name at all.
        let line = [line.trim_ascii_start(), b" "].concat();
        listing::mlst_entry(&line, name.clone())
    })
}

/// What a server would say that can.
fn absent() -> Reply {
    Reply { code: 550, lines: vec![b"No such file (it is not in its folder's listing)".to_vec()] }
}

fn own_name(path: &RemotePath) -> Name {
    path.name().or_else(|| Name::new(b"root").ok()).unwrap_or_else(|| unreachable!("`root` is a name"))
}

/// So many times are asked for before the next look at what the answers taught.
const MDTM_GROUP: usize = 100;
/// So many are handed on at once: whoever waits for the first need not wait for the last.
const MDTM_PIECE: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mlst_is_read_whatever_name_the_server_gives() {
        let path = RemotePath::parse(b"/d/a b").unwrap();
        let reply = Reply {
            code: 250,
            lines: vec![b"Start".to_vec(), b" type=file;size=3; /elsewhere".to_vec(), b"End".to_vec()],
        };
        let entry = mlst_entry(&reply, &path).unwrap();
        assert_eq!(entry.name.as_bytes(), b"a b");
        assert_eq!(entry.size, Some(3));
        let facts = b" type=file;UNIX.ownername=Domain Users;size=4; /d/a b".to_vec();
        let blank = Reply { code: 250, lines: vec![b"Start".to_vec(), facts, b"End".to_vec()] };
        assert_eq!(mlst_entry(&blank, &path).unwrap().size, Some(4));
        let bare = Reply { code: 250, lines: vec![b"ok".to_vec()] };
        assert_eq!(mlst_entry(&bare, &path), None);
    }
}
