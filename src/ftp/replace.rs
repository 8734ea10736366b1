//! Renaming over an existing file, also on servers whose RNTO does not replace.
//!
//! Most servers replace. Where RNTO is refused, the old file is renamed aside first, and renamed back when the second
//! try fails too, on another session if this one has ended: at every moment one of the two is on the server, and where it is
//! left under another name the log and the mount's troubles tell that. Jobs call this.

use log::{debug, warn};

use super::{Error, RemotePath, Session};

/// Renames `from` to `to`, replacing it. `aside` is a free name in the same folder.
///
/// # Errors
/// The first refusal, or what ended the session, with everything as it was before as far as the server can still be reached.
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
            if let Err(why) = put_back(session, from, to, aside) {
                let text = format!("the old content of {to} may be on the server as {aside}: {why}");
                warn!("{text}");
                session.features().troubles().note(text);
            }
            Err(error)
        }
    }
}

/// Undoes the renaming of `to` to `aside`, unless `from` has taken its place: then only the answer was lost.
fn put_back(
    session: &mut Session,
    from: &RemotePath,
    to: &RemotePath,
    aside: &RemotePath,
) -> Result<(), Error> {
    if session.is_alive() {
        return session.rename(aside, to);
    }
    let mut other = session.another()?;
    let outcome = match (other.stat(to), other.stat(from)) {
        (Err(missing), _) if missing.refusal().is_some() => other.rename(aside, to),
        (Ok(_), Err(missing)) if missing.refusal().is_some() => other.delete(aside),
        (Ok(_), Ok(_)) => Err(Error::Changed { text: format!("there is another {to} by now") }),
        (Err(error), _) | (_, Err(error)) => Err(error),
    };
    other.quit();
    outcome
}
