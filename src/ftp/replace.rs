//! Renaming over an existing file, also on servers whose RNTO does not replace.
//!
//! Most servers replace. Where RNTO is refused, the old file is renamed aside first, and renamed back when the second
//! try fails too: at every moment one of the two is on the server, under a name that the log tells. Jobs call this.

use log::{debug, warn};

use super::{Error, RemotePath, Session};

/// Renames `from` to `to`, replacing it. `aside` is a free name in the same folder.
///
/// # Errors
/// The first refusal, with everything as it was before.
pub fn rename_over(
    session: &mut Session,
    from: &RemotePath,
    to: &RemotePath,
    aside: &RemotePath,
) -> Result<(), Error> {
    let refusal = match session.rename(from, to) {
        Err(error) if error.refusal().is_some() => error,
        done => return done,
    };
    if session.rename(to, aside).is_err() {
        return Err(refusal);
    }
    debug!("{to} cannot be replaced in one step on this server ({refusal})");
    match session.rename(from, to) {
        Ok(()) => {
            if let Err(error) = session.delete(aside) {
                warn!("the old content of {to} is left over as {aside}: {error}");
            }
            Ok(())
        }
        Err(error) => {
            if let Err(error) = session.rename(aside, to) {
                warn!("the old content of {to} is on the server as {aside}: {error}");
            }
            Err(error)
        }
    }
}
