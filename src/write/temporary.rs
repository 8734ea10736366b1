//! Names beside a target: given out, recognised, and cleaned up when their mount is dead.
//!
//! New content goes to a *temporary* name first; a file that was removed while open is moved to one. They are not shown in
//! listings. A mount that dies leaves some behind, so the name tells when it was given: what is a week old, and has got no
//! byte for a week, belongs to nobody. Clocks may be wrong, and an upload may take longer than any time that could be
//! chosen here, so our own names are known as long as somebody here wants them ([`Given`]), whatever they tell. A folder that
//! holds nothing else is empty to whoever removes it.
//!
//! An old content that makes way while another takes its place is moved *aside*, to a name of another kind: when something
//! dies in between it may be all that there is of a file. So nobody takes it away, and listings show it.

use std::collections::BTreeSet;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

use crate::ftp::{self, Error, Name, RemotePath, Session};

/// A name that was given out here, and is in use as long as a copy of this lives.
#[derive(Clone)]
pub struct Given(Arc<InUse>);

struct InUse(Name);

impl Deref for Given {
    type Target = Name;

    fn deref(&self) -> &Name {
        &self.0.0
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        IN_USE.lock().remove(&self.0);
    }
}

/// A name for new content, or for a removed file that is still open. Nobody else uses it: it is ours alone by time, process
/// and count.
///
/// # Errors
/// None but that of an impossible clock.
pub fn temporary_name() -> Result<Given, Error> {
    give(TEMPORARY)
}

/// A name for an old content that makes way.
///
/// # Errors
/// As those of [`temporary_name`].
pub fn aside_name() -> Result<Given, Error> {
    give(ASIDE)
}

fn give(prefix: &[u8]) -> Result<Given, Error> {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let mut name = prefix.to_vec();
    name.extend_from_slice(format!("{nanos:x}-{:x}-{count:x}", std::process::id()).as_bytes());
    let name = Name::new(&name)?;
    IN_USE.lock().insert(name.clone());
    Ok(Given(Arc::new(InUse(name))))
}

/// Whether listings show a name: not temporary ones, of this mount or another, nor what is aside for a moment.
pub fn is_shown(name: &Name) -> bool {
    let is_making_way = || name.as_bytes().starts_with(ASIDE) && IN_USE.lock().contains(name);
    !is_temporary(name) && !is_making_way()
}

/// Whether an entry of a listing is of a mount that cannot want it any more.
pub fn is_left_over(entry: &ftp::Entry, now: SystemTime) -> bool {
    let is_old = |at: SystemTime| now.duration_since(at).is_ok_and(|age| age > LIFETIME);
    let Some(rest) = entry.name.as_bytes().strip_prefix(TEMPORARY) else { return false };
    let digits = rest.split(|&b| b == b'-').next().and_then(|digits| std::str::from_utf8(digits).ok());
    let given = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok()).map(Duration::from_nanos);
    given.filter(|&given| given > SENSIBLE).is_some_and(|given| is_old(UNIX_EPOCH + given))
        && entry.modified.is_none_or(|modified| is_old(modified.at))
        && !IN_USE.lock().contains(&entry.name)
}

/// Deletes what is left in a folder that holds nothing but temporary names. True when it is empty afterwards.
pub fn empty_out(session: &mut Session, folder: &RemotePath) -> bool {
    let Ok(listing) = session.list(folder) else { return false };
    let only_ours = !listing.truncated && listing.entries.iter().all(|entry| is_temporary(&entry.name));
    only_ours && listing.entries.iter().all(|entry| session.delete(&folder.join(&entry.name)).is_ok())
}

fn is_temporary(name: &Name) -> bool {
    name.as_bytes().starts_with(TEMPORARY)
}

static COUNT: AtomicU64 = AtomicU64::new(0);
/// The names that are in use here.
static IN_USE: Mutex<BTreeSet<Name>> = Mutex::new(BTreeSet::new());
const TEMPORARY: &[u8] = b".ftpfs-part-";
const ASIDE: &[u8] = b".ftpfs-old-";
/// Another mount may write slowly, and its clock or ours, or a server's zone, be wrong by some days.
const LIFETIME: Duration = Duration::from_secs(7 * 86_400);
/// 2020. A machine that knows no better than an earlier time has no clock, and its names do not tell their age.
const SENSIBLE: Duration = Duration::from_secs(1_577_836_800);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ftp::listing::{Kind, Modified, Precision};

    fn entry(name: &Name, modified: Option<SystemTime>) -> ftp::Entry {
        let modified = modified.map(|at| Modified { at, precision: Precision::Minute });
        ftp::Entry { name: name.clone(), kind: Kind::File, size: None, modified, mode: None, target: None }
    }

    fn is_left_over(name: &Name, modified: Option<SystemTime>, now: SystemTime) -> bool {
        super::is_left_over(&entry(name, modified), now)
    }

    #[test]
    fn a_name_is_left_over_when_it_and_its_bytes_are_old() {
        let name = Name::clone(&temporary_name().unwrap());
        let (now, later) = (SystemTime::now(), SystemTime::now() + 2 * LIFETIME);
        assert!(!is_shown(&name));
        assert!(is_left_over(&name, None, later) && is_left_over(&name, Some(now), later));
        assert!(!is_left_over(&name, None, now + LIFETIME / 2) && !is_left_over(&name, Some(later), later));
        for other in [".ftpfs-part-", ".ftpfs-part-zz-1-1", ".ftpfs-part-1234-1-1", "other"] {
            assert!(!is_left_over(&Name::new(other.as_bytes()).unwrap(), None, later), "{other}");
        }
    }

    #[test]
    fn a_name_that_is_in_use_here_is_never_left_over() {
        let name = temporary_name().unwrap();
        let copy = name.clone();
        let later = SystemTime::now() + 100 * LIFETIME;
        drop(name);
        assert!(!is_left_over(&copy, None, later));
        let plain = Name::clone(&copy);
        drop(copy);
        assert!(is_left_over(&plain, None, later));
    }

    #[test]
    fn an_old_content_is_hidden_while_it_makes_way_and_shown_when_it_was_left_there() {
        let name = aside_name().unwrap();
        assert!(!is_shown(&name) && !is_temporary(&name));
        let plain = Name::clone(&name);
        drop(name);
        assert!(is_shown(&plain) && !is_left_over(&plain, None, SystemTime::now() + 100 * LIFETIME));
    }
}
