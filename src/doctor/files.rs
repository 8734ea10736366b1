//! Listings, times and speed; and writing, when a folder for it was named.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::Report;
use super::login::Known;
use super::report::Failing;
use super::sessions::{no_room, when_there_is_room};
use crate::ftp::config::DataMode;
use crate::ftp::features::Capability;
use crate::ftp::{After, Config, Error, Features, How, Kind, Listing, Name, Precision, RemotePath, Session};

/// Uses a session as a mount would.
pub fn check(config: &Config, known: &Known, write_test: Option<&[u8]>, report: &mut Report<'_>) {
    let mut config = config.clone();
    // What fails was found out already, and need not be waited for again.
    if config.data.mode == DataMode::Auto && !report.findings().iter().any(super::Finding::is_passive_success)
    {
        config.data.mode = DataMode::Active;
    }
    let features = Features::new();
    let config = Arc::new(config);
    let outcome = when_there_is_room(|| Session::open(&config, &features)).and_then(|mut session| {
        let folder = session.root().clone();
        let listing = list(&mut session, &folder, known, report)?;
        zone(&mut session, &folder, &listing, report)?;
        speed(&mut session, &folder, &listing, report)?;
        if let Some(name) = write_test {
            let folder = folder.resolve(name)?;
            write(&mut session, &folder, report)?;
        }
        session.quit();
        Ok(())
    });
    match outcome {
        Ok(()) => {}
        Err(Error::TooManySessions { text, .. }) => no_room("files", &text, report),
        Err(error) => {
            report.fails("files", error.to_string());
            report.stops(Failing::Data);
        }
    }
}

fn list(
    session: &mut Session,
    folder: &RemotePath,
    known: &Known,
    report: &mut Report<'_>,
) -> Result<Listing, Error> {
    let listing = match session.list(folder) {
        Ok(listing) => listing,
        Err(error) if error.refusal().is_some() => {
            report.fails("listing", format!("{folder}: {error}"));
            report.stops(Failing::Data);
            report.advise(format!(
                "The folder {folder} cannot be listed: check the path in the URL (`//` makes it absolute)."
            ));
            return Ok(Listing::default());
        }
        Err(error) => return Err(error),
    };
    let features = session.features();
    let how = match (features.has_exact_listing(), features.ability(Capability::ListAll)) {
        (true, _) => "MLSD (exact sizes and times)",
        (false, crate::ftp::features::Ability::Yes) => "LIST -a (hidden names are shown; times are coarse)",
        (false, _) if known.has_mlsd => "LIST (this server's MLSD hides something)",
        (false, _) => "LIST (hidden names may be missing; times are coarse)",
    };
    report.works("listing", format!("{folder}: {} entries by {how}", listing.entries.len()));
    let hidden = listing.entries.iter().filter(|entry| entry.name.as_bytes().starts_with(b".")).count();
    if hidden > 0 {
        report.note("listing", format!("{hidden} hidden names are shown"));
    }
    if listing.unparsed > 0 {
        report.fails(
            "listing",
            format!(
                "{} lines could not be understood: these names will be missing. Please report it",
                listing.unparsed
            ),
        );
    }
    if listing.truncated {
        report.note("listing", "the server cuts long listings off: a name that is not shown may still exist");
    }
    Ok(listing)
}

/// LIST's times are local to the server: how far from UTC, as MDTM tells it of one file.
fn zone(
    session: &mut Session,
    folder: &RemotePath,
    listing: &Listing,
    report: &mut Report<'_>,
) -> Result<(), Error> {
    let coarse = listing.entries.iter().find_map(|entry| {
        let modified = entry.modified.filter(|modified| modified.precision == Precision::Minute)?;
        (entry.kind == Kind::File).then_some((&entry.name, modified.at))
    });
    let Some((name, listed)) = coarse else {
        if session.features().has_exact_listing() {
            report.works("times", "to the second, in UTC");
        }
        return Ok(());
    };
    let mut exact = None;
    let paths = [folder.join(name)];
    session.exact_times(&paths, &|| 1, &mut |_, times| exact = exact.or(times.first().copied().flatten()))?;
    let Some(exact) = exact.filter(|exact| exact.precision == Precision::Second) else {
        report.note(
            "times",
            "the listing's are the server's local time, and MDTM does not tell UTC: they may be hours off",
        );
        return Ok(());
    };
    let seconds = match listed.duration_since(exact.at) {
        Ok(ahead) => ahead.as_secs() as i64,
        Err(behind) => -(behind.duration().as_secs() as i64),
    };
    let quarters = (seconds as f64 / 900.0).round();
    match quarters as i64 {
        0 => report.works("times", "the listing's are UTC"),
        n => report.note(
            "times",
            format!("the listing's are {:+.2} h from UTC; ftpfs learns that by MDTM", n as f64 / 4.0),
        ),
    }
    Ok(())
}

/// Reads the largest file of the folder for a moment.
fn speed(
    session: &mut Session,
    folder: &RemotePath,
    listing: &Listing,
    report: &mut Report<'_>,
) -> Result<(), Error> {
    let files = listing.entries.iter().filter(|entry| entry.kind == Kind::File);
    let largest = files.filter_map(|entry| Some((entry.size?, &entry.name))).max();
    let Some((size, name)) = largest.filter(|&(size, _)| size >= WORTH_READING) else { return Ok(()) };
    let path = folder.join(name);
    let started = Instant::now();
    let mut download = match session.retrieve(&path, 0) {
        Ok(download) => download,
        Err(error) if error.refusal().is_some() => {
            report.note("speed", format!("{path} cannot be read: {error}"));
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    let mut buffer = vec![0; 128 * 1024];
    let mut bytes = 0u64;
    let mut ended = false;
    while bytes < READ_AT_MOST && started.elapsed() < READ_FOR {
        let n = download.read(&mut buffer)?;
        bytes += n as u64;
        if n == 0 {
            ended = true;
            break;
        }
    }
    let seconds = started.elapsed().as_secs_f64().max(0.001);
    if ended {
        download.finish()?
    } else {
        download.abandon()
    }
    report.works(
        "speed",
        format!(
            "{:.1} MB/s on one connection ({bytes} of the {size} bytes of {path})",
            bytes as f64 / seconds / 1e6
        ),
    );
    Ok(())
}

/// Makes, reads, changes and removes a small file.
fn write(session: &mut Session, folder: &RemotePath, report: &mut Report<'_>) -> Result<(), Error> {
    let name = |suffix: &str| Name::new(format!(".ftpfs-doctor-{}{suffix}", std::process::id()).as_bytes());
    let (path, moved) = (folder.join(&name("")?), folder.join(&name("-moved")?));
    let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    let after = After { modified: Some(modified), ..After::default() };
    let stored = match session.store(&path, How::Replace, &mut &CONTENT[..], &after) {
        Ok(stored) => stored,
        Err(error) => {
            report.fails("write", format!("{path}: {error}"));
            report.stops(Failing::Write);
            report.advise(format!("Nothing can be written in {folder}: the server's words above say why."));
            return if error.ends_session() { Err(error) } else { Ok(()) };
        }
    };
    match stored.size {
        Some(size) if size == CONTENT.len() as u64 => {
            report.works("write", "a file was stored, and its size is right")
        }
        Some(size) => {
            report.fails("write", format!("{} bytes were stored, and the server has {size}", CONTENT.len()))
        }
        None => report.note("write", "a file was stored; the server does not tell its size"),
    }
    match stored.modified_set {
        Some(Ok(())) => report.works("write", "its time was set"),
        Some(Err(error)) => report.note("write", format!("its time cannot be set: {error}")),
        None => {}
    }
    match session.store(&path, How::Append, &mut &CONTENT[..], &After::default()) {
        Ok(stored) if stored.size.is_none_or(|size| size == 2 * CONTENT.len() as u64) => {
            report.works("write", "it was added to (APPE)")
        }
        Ok(stored) => report.fails("write", format!("after APPE the server has {:?} bytes", stored.size)),
        Err(error) => {
            report.note("write", format!("it cannot be added to: {error}; ftpfs then sends files whole"))
        }
    }
    let there = match session.rename(&path, &moved) {
        Ok(()) => {
            report.works("write", "it was renamed");
            moved
        }
        Err(error) => {
            report.note("write", format!("it cannot be renamed: {error}; use `-o in_place`"));
            path
        }
    };
    match session.delete(&there) {
        Ok(()) => report.works("write", "it was removed"),
        Err(error) => {
            report.fails("write", format!("{there} cannot be removed, and is left behind: {error}"))
        }
    }
    Ok(())
}

const CONTENT: &[u8] = b"A test by `ftpfs doctor --write-test`; it can be removed.\r\n\xff\x00\n";
/// A smaller file tells nothing about the speed.
const WORTH_READING: u64 = 256 * 1024;
const READ_AT_MOST: u64 = 16 << 20;
const READ_FOR: Duration = Duration::from_secs(3);
