//! Temporary names beside a target: given out, recognised, and cleaned up when their mount is dead.
//!
//! New content goes to such a name first; a file that was removed while open is moved to one. They are not shown in
//! listings. A mount that dies leaves some behind, so the name tells when it was given: one that is older than a day
//! belongs to nobody. A folder that holds nothing else is empty to whoever removes it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::ftp::{Error, Name, RemotePath, Session};

/// Whether a name is one of our temporary ones, of this mount or another.
pub fn is_temporary(name: &Name) -> bool {
    name.as_bytes().starts_with(PREFIX)
}

/// A name that nobody else uses: ours alone by time, process and count.
pub fn temporary_name() -> Result<Name, Error> {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let mut name = PREFIX.to_vec();
    name.extend_from_slice(format!("{nanos:x}-{:x}-{count:x}", std::process::id()).as_bytes());
    Ok(Name::new(&name)?)
}

/// Whether a temporary name was given so long ago that no mount can still want it.
pub fn is_left_over(name: &Name, now: SystemTime) -> bool {
    let Some(rest) = name.as_bytes().strip_prefix(PREFIX) else { return false };
    let digits = rest.split(|&b| b == b'-').next().and_then(|digits| std::str::from_utf8(digits).ok());
    let given = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok()).map(Duration::from_nanos);
    given
        .and_then(|given| UNIX_EPOCH.checked_add(given))
        .and_then(|given| now.duration_since(given).ok())
        .is_some_and(|age| age > LIFETIME)
}

/// Deletes what is left in a folder that holds nothing but temporary names. True when it is empty afterwards.
pub fn empty_out(session: &mut Session, folder: &RemotePath) -> bool {
    let Ok(listing) = session.list(folder) else { return false };
    let only_ours = !listing.truncated && listing.entries.iter().all(|entry| is_temporary(&entry.name));
    only_ours && listing.entries.iter().all(|entry| session.delete(&folder.join(&entry.name)).is_ok())
}

static COUNT: AtomicU64 = AtomicU64::new(0);
const PREFIX: &[u8] = b".ftpfs-part-";
/// An upload of a day is longer than any.
const LIFETIME: Duration = Duration::from_secs(86_400);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_whether_it_is_left_over() {
        let name = temporary_name().unwrap();
        let now = SystemTime::now();
        assert!(is_temporary(&name) && !is_left_over(&name, now));
        assert!(is_left_over(&name, now + 2 * LIFETIME));
        for other in [".ftpfs-part-", ".ftpfs-part-zz-1-1", "other"] {
            assert!(!is_left_over(&Name::new(other.as_bytes()).unwrap(), now + 2 * LIFETIME), "{other}");
        }
    }
}
