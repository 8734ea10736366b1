//! How many sessions the server allows at once: few are opened, and none is kept.

use std::time::Duration;

use super::Report;
use super::dialogue::Dialogue;
use super::report::Failing;
use crate::ftp::{Config, Error};

/// Opens sessions until one is refused, at most as many as a mount would.
pub fn check(config: &Config, max_conns: usize, report: &mut Report<'_>) {
    let mut open = Vec::new();
    let mut words = String::new();
    while open.len() < max_conns {
        // Those of the checks before may still be on their way out: of the first one that is certain, if it is refused.
        let pauses = if open.is_empty() { PAUSES } else { PAUSES / 2 };
        match with_pauses(pauses, || Dialogue::open(config)) {
            Ok(dialogue) => open.push(dialogue),
            Err(error) => {
                words = match error {
                    Error::Login { reply } => reply.to_string(),
                    Error::TooManySessions { text, .. } => text,
                    error => error.to_string(),
                };
                break;
            }
        }
    }
    let count = open.len();
    open.into_iter().for_each(Dialogue::quit);
    if count == max_conns {
        let are = if count == 1 { "is" } else { "are" };
        report.works("sessions", format!("{count} at once {are} allowed, which is all that ftpfs uses"));
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
pub fn when_there_is_room<T>(open: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
    with_pauses(PAUSES, open)
}

/// There was none in all that time, so it is others who have the places.
pub fn no_room(check: &'static str, text: &str, report: &mut Report<'_>) {
    let waited: Duration = (0..PAUSES).map(|number| A_MOMENT * 2u32.pow(number)).sum();
    report.fails(check, format!("the server said {text}, and so for {} seconds", waited.as_secs()));
    report.stops(Failing::Login);
    report.advise(FULL);
}

fn with_pauses<T>(pauses: u32, mut open: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
    for number in 0..pauses {
        match open() {
            Err(Error::TooManySessions { .. }) => std::thread::sleep(A_MOMENT * 2u32.pow(number)),
            opened => return opened,
        }
    }
    open()
}

/// What to do about a server that is full.
pub const FULL: &str = "The server allows no further session of this user or address: end the others (file managers keep some \
     open), or wait some minutes until it has forgotten dead ones. `-o max_conns=N` keeps ftpfs below a limit.";

/// Each twice as long as the one before: six seconds on a busy machine, and few attempts, because servers ban those who make many.
const PAUSES: u32 = 6;
/// Servers end a session within milliseconds of QUIT.
const A_MOMENT: Duration = Duration::from_millis(100);
