//! Greeting, TLS, user and password, and what the server says of itself.

use std::time::Instant;

use super::dialogue::Dialogue;
use super::reach::millis;
use super::report::Failing;
use super::sessions::{FULL, no_room, when_there_is_room};
use super::{Report, certificate};
use crate::ftp::command::Command;
use crate::ftp::config::TlsMode;
use crate::ftp::features::Server;
use crate::ftp::refusal;
use crate::ftp::reply::Reply;
use crate::ftp::tls::TlsStream;
use crate::ftp::{Config, Error};

/// What was learned about the server.
pub struct Known {
    pub server: Server,
    pub has_mlsd: bool,
}

/// Logs in once. None when that is impossible, and the report says why. Never two connections at a time: a server may allow one
/// only, and may still count the one before.
pub fn check(config: &Config, report: &mut Report<'_>) -> Option<Known> {
    let mut dialogue = match when_there_is_room(|| Dialogue::connect(config)) {
        Ok(dialogue) => dialogue,
        Err(error) => {
            if let Error::Tls { .. } = error {
                certificate::check(config, report);
            }
            no_greeting(config, &error, report);
            return None;
        }
    };
    let greeting = dialogue.greeting.take()?;
    if !greeting.is_success() {
        turned_away(config, &greeting, report);
        return None;
    }
    let server = Server::recognise(&greeting);
    report.works("greeting", format!("{greeting}"));
    if server != Server::Unknown {
        report.note("server", format!("this is {server:?}, whose ways ftpfs knows"));
    }
    if config.tls.mode == TlsMode::Off {
        offers_tls(dialogue, report);
    } else {
        dialogue.quit();
        certificate::check(config, report);
    }
    let (mut dialogue, secured, entered) = match when_there_is_room(|| enter(config)) {
        Ok(entered) => entered,
        Err(error) => {
            no_greeting(config, &error, report);
            return None;
        }
    };
    if !tls(config, &dialogue, secured, report) {
        return None;
    }
    match entered {
        Ok(None) => report.works("login", format!("{} is let in", config.user)),
        Ok(Some(reply)) => {
            turned_away(config, &reply, report);
            return None;
        }
        Err(error) => {
            report.fails("login", error.to_string());
            report.stops(Failing::Login);
            report.advise(
                "The server ended the connection during the login: it may be full, or have banned this address for a while.",
            );
            return None;
        }
    }
    let has_mlsd = features(&mut dialogue, report);
    round_trip(&mut dialogue, report);
    dialogue.quit();
    Some(Known { server, has_mlsd })
}

/// A connection, what became of TLS, and of the login, which is not tried where TLS is missing. Only words of too many sessions
/// are an error: for a 421 without them the password may be the reason, and that is not sent twice.
fn enter(config: &Config) -> Result<Entered, Error> {
    let (mut dialogue, secured) = Dialogue::connect_in_tls(config)?;
    let goes_on = match &secured {
        Ok(None) => true,
        Ok(Some(_)) => config.tls.mode == TlsMode::Try,
        Err(_) => false,
    };
    let entered = if goes_on { dialogue.log_in() } else { Ok(None) };
    match entered {
        Ok(Some(reply)) if refusal::says_too_many(&reply) => {
            Err(Error::TooManySessions { text: reply.to_string(), is_said: true })
        }
        entered => Ok((dialogue, secured, entered)),
    }
}

type Entered = (Dialogue, Result<Option<Reply>, Error>, Result<Option<Reply>, Error>);

fn no_greeting(config: &Config, error: &Error, report: &mut Report<'_>) {
    let is_implicit = config.tls.mode == TlsMode::Implicit;
    match error {
        Error::Tls { text } => {
            report.fails("tls", text.clone());
            report.stops(Failing::Tls);
            tls_advice(text, report);
            if is_implicit && config.port == crate::ftp::config::FTP_PORT {
                report.advise("Port 21 is usually for AUTH TLS: try ftpes:// instead of ftps://.");
            }
        }
        Error::TimedOut { .. } => {
            report.fails("greeting", "connected, but the server says nothing");
            report.stops(Failing::Reach);
            report.advise(if is_implicit {
                "Is this port for plain FTP or AUTH TLS? Try ftpes:// (or ftp://)."
            } else {
                "A server that waits for TLS from the first byte says nothing: try ftps:// (usually port 990). Or it is busy \
                 looking up your address's name: raise timeout=."
            });
        }
        Error::Protocol { text } => {
            report.fails("greeting", text.clone());
            report.stops(Failing::Reach);
            report.advise(if text.contains("SSH-") {
                "This is an SSH server: SFTP is another protocol than FTP. Use sshfs."
            } else {
                "What answers there is no FTP server: check the port."
            });
        }
        Error::TooManySessions { text, is_said: true } => no_room("login", text, report),
        error => {
            report.fails("greeting", error.to_string());
            report.stops(Failing::Reach);
            report.advise(
                "The server hangs up at once: it is full, or it has banned this address, or something in between (a firewall \
                 that inspects FTP, a TCP wrapper) does not let you through.",
            );
        }
    }
}

/// 421, 530 and their like.
fn turned_away(config: &Config, reply: &Reply, report: &mut Report<'_>) {
    report.fails("login", format!("the server said {reply}"));
    if refusal::wants_tls(reply) {
        report.stops(Failing::Tls);
        report.advise("This server lets nobody in without TLS: write ftpes:// instead of ftp://.");
    } else if reply.code == 421 {
        report.stops(Failing::Login);
        report.advise(FULL);
    } else if reply.code == 530 || reply.code / 100 == 5 {
        report.stops(Failing::Login);
        report.advise(format!(
            "The server refuses the user {} with this password: check both (some hosts want user@domain as the name). It was \
             tried only once, because servers ban addresses that try again and again.",
            config.user
        ));
    } else {
        report.stops(Failing::Login);
        report.advise("The server does not let you in now; its words above say why.");
    }
}

/// TLS as configured. False when it cannot go on.
fn tls(
    config: &Config,
    dialogue: &Dialogue,
    secured: Result<Option<Reply>, Error>,
    report: &mut Report<'_>,
) -> bool {
    match config.tls.mode {
        TlsMode::Off => return true,
        TlsMode::Implicit => {}
        TlsMode::Explicit | TlsMode::Try => match secured {
            Ok(None) => {}
            Ok(Some(reply)) => {
                let text = format!("the server has no TLS: it said {reply}");
                if config.tls.mode == TlsMode::Try {
                    report.note("tls", format!("{text}; passwords and files go in the clear"));
                    return true;
                }
                report.fails("tls", text);
                report.stops(Failing::Tls);
                report.advise(
                    "AUTH TLS is refused. Perhaps the server has TLS from the first byte on another port (ftps://, usually \
                     990); otherwise only plain ftp:// is left, where everybody on the way can read the password.",
                );
                return false;
            }
            Err(error) => {
                let text = error.to_string();
                report.fails("tls", text.clone());
                report.stops(Failing::Tls);
                tls_advice(&text, report);
                return false;
            }
        },
    }
    let how = dialogue.control.tls().map(TlsStream::description).unwrap_or_default();
    let trust = match (&config.tls.pin, config.tls.verify) {
        (Some(_), _) => "it is the pinned one",
        (None, true) => "its certificate is trusted",
        (None, false) => "its certificate was NOT checked",
    };
    report.works("tls", format!("{how}; {trust}"));
    true
}

fn tls_advice(text: &str, report: &mut Report<'_>) {
    if let Some((_, digest)) = text.split_once("its SHA-256 is ") {
        let digest = digest.trim();
        let what = match text {
            text if text.contains("self-signed") || text.contains("self signed") => "is self-signed",
            text if text.contains("expired") => "has expired, and its administrator should renew it",
            text if text.contains("not yet valid") => "is not valid yet (is this machine's clock right?)",
            text if text.contains("mismatch") => {
                "is for another name than the one in the URL (tls_name= says which to expect)"
            }
            _ => "is not one that this machine trusts",
        };
        report.advise(format!(
            "The server's certificate {what}. If you know that it is the right one (ask its owner for the SHA-256), use \
             `-o pin={digest}`: then exactly this certificate is trusted. No password was sent."
        ));
    } else if text.contains("did not answer in TLS") {
        report.advise(
            "The port does not speak TLS from the first byte: try ftpes:// (AUTH TLS) instead of ftps://.",
        );
    } else if text.contains("version") || text.contains("protocol") || text.contains("handshake failure") {
        report.advise(
            "Server and ftpfs have no TLS version in common: for old devices there is `-o allow_old_tls`.",
        );
    } else {
        report.advise("TLS could not be started; the words above are OpenSSL's.");
    }
}

/// A plain session works, but the password could be protected.
fn offers_tls(mut dialogue: Dialogue, report: &mut Report<'_>) {
    // The login has another connection: where AUTH is answered 234, the server then waits for a handshake.
    match dialogue.ask(&Command::AuthTls) {
        Ok(reply) if reply.code == 234 => report.note(
            "tls",
            "not used, although the server has it: ftpes:// instead of ftp:// protects the password and the files",
        ),
        Ok(_) => report.note("tls", "the server has none: everybody on the way can read the password and the files"),
        // Then nothing is known, and nothing is wrong.
        Err(_) => {}
    }
}

/// FEAT, REST and what follows from them.
fn features(dialogue: &mut Dialogue, report: &mut Report<'_>) -> bool {
    let listed = match dialogue.ask(&Command::Feat) {
        Ok(reply) if reply.is_success() => reply.words().to_uppercase(),
        _ => String::new(),
    };
    let has = |word: &str| listed.split_ascii_whitespace().any(|w| w.trim_end_matches(';') == word);
    let words = ["MLST", "MLSD", "SIZE", "MDTM", "MFMT", "REST", "UTF8", "EPSV", "EPRT"];
    let found: Vec<&str> = words.into_iter().filter(|word| has(word)).collect();
    match (listed.is_empty(), found.is_empty()) {
        (true, _) => {
            report.note("features", "the server does not tell (FEAT is refused): ftpfs finds out as it goes")
        }
        (false, true) => report.note("features", "the server tells of none"),
        (false, false) => report.works("features", found.join(" ")),
    }
    // Leaves no transfer behind: this session makes none.
    match dialogue.ask(&Command::Rest(1)) {
        Ok(reply) if reply.code == 350 => report
            .works("resume", "REST is there: broken downloads go on where they were, and seeking is quick"),
        Ok(reply) => report
            .note("resume", format!("no REST ({reply}): seeking in a file fetches it from its beginning")),
        Err(error) => report.note("resume", error.to_string()),
    }
    if !listed.is_empty() && !has("MFMT") {
        report.note(
            "times",
            "no MFMT: ftpfs tries older commands to set a file's time; where none works, `rsync -t` and `cp -p` send it in vain",
        );
    }
    has("MLST") || has("MLSD")
}

/// NOOP, a few times: the quickest answer is the line's.
fn round_trip(dialogue: &mut Dialogue, report: &mut Report<'_>) {
    let mut best: Option<std::time::Duration> = None;
    for _ in 0..ROUNDS {
        let started = Instant::now();
        match dialogue.ask(&Command::Noop) {
            Ok(_) => best = Some(best.map_or(started.elapsed(), |best| best.min(started.elapsed()))),
            Err(_) => return,
        }
    }
    if let Some(best) = best {
        let since = Instant::now().checked_sub(best).unwrap_or_else(Instant::now);
        report.works("delay", format!("a command is answered within {}", millis(since)));
    }
}

const ROUNDS: usize = 4;
