//! How many sessions the server allows at once: few are opened, and none is kept.

use std::time::Duration;

use super::Report;
use super::dialogue::Dialogue;
use crate::ftp::{Config, Error};

/// Opens sessions until one is refused, at most as many as a mount would.
pub fn check(config: &Config, report: &mut Report<'_>) {
    let mut open = Vec::new();
    let mut words = String::new();
    let mut patient = true;
    while open.len() < ENOUGH {
        match Dialogue::open(config) {
            Ok(dialogue) => open.push(dialogue),
            // Those of the checks before may still be on their way out.
            Err(_) if std::mem::take(&mut patient) => std::thread::sleep(A_MOMENT),
            Err(error) => {
                words = match error {
                    Error::Login { reply } => reply.to_string(),
                    error => error.to_string(),
                };
                break;
            }
        }
    }
    let count = open.len();
    open.into_iter().for_each(Dialogue::quit);
    if count == ENOUGH {
        report.works("sessions", format!("{count} at once are allowed, which is all that ftpfs uses"));
        return;
    }
    report.note(
        "sessions",
        format!("{count} at once, then the server said: {words}. ftpfs learns such limits by itself"),
    );
    if count > 1 {
        report.advise(format!(
            "Only {count} sessions are allowed. If other programs use the same account, leave them some: `-o max_conns={}`.",
            count - 1
        ));
    }
}

/// A server that allows few sessions may still count the one of the check before, and would be said to be out of reach.
pub fn when_there_is_room<T>(mut open: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
    for _ in 0..MOMENTS {
        match open() {
            Err(Error::TooManySessions { .. }) => std::thread::sleep(A_MOMENT),
            opened => return opened,
        }
    }
    open()
}

/// On a busy machine.
const MOMENTS: u32 = 8;
/// Servers end a session within milliseconds of QUIT.
const A_MOMENT: Duration = Duration::from_millis(500);
/// The default of max_conns.
const ENOUGH: usize = 8;
