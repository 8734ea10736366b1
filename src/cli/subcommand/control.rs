//! Talking to mounts: `status`, `list`, `umount`, `flush`, `forget`. The protocol is [`crate::status`]'s.
//!
//! A mount is found in the table of mounts, never by looking into it: a mount that is stuck would hold whoever looks.

use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::{Uid, geteuid};

use super::StatusArgs;
use super::progress::{self, Screen};
use crate::cli::complain;
use crate::cli::failure::{Exit, Failure};
use crate::json::Json;
use crate::mount::mountinfo::{self, Entry};
use crate::mount::{self, FSTYPE};
use crate::status::{self, NOT_OURS};
use crate::write::kept::Kept;

/// `ftpfs status`: of one mount, or of all that answer.
pub(super) fn status(args: &StatusArgs) -> Result<(), Failure> {
    let request = match (args.json, args.metrics) {
        (true, _) => "json",
        (_, true) => "metrics",
        _ => "status",
    };
    let entries = match &args.mount_point {
        Some(point) => vec![find(point)?],
        None => mounts()?,
    };
    if entries.is_empty() && !args.json && !args.metrics {
        println!("No ftpfs is mounted.");
    }
    let mut visits = Vec::new();
    let mut failure = None;
    for entry in &entries {
        match Visit::begin(entry) {
            Ok(visit) => visits.push(visit),
            Err(why) => failure = Some(unanswered(entry, &why)),
        }
    }
    if args.watch && request == "status" && io::stdout().is_terminal() {
        return match failure {
            Some(failure) => Err(failure),
            None => watch(&mut visits),
        };
    }
    loop {
        let mut text = String::new();
        for visit in &mut visits {
            match visit.ask(request, |_| {}) {
                Ok(answer) => text.push_str(&answer),
                Err(why) => failure = Some(unanswered(&visit.entry, &why)),
            }
        }
        if args.metrics {
            text = by_metric(&text);
        }
        let written = io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush());
        if let Some(failure) = failure {
            return Err(failure);
        }
        if !args.watch || written.is_err() || visits.is_empty() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// The metrics of several mounts: Prometheus wants all lines of a metric together, below one line with its type.
fn by_metric(told: &str) -> String {
    let mut metrics: Vec<(&str, String)> = Vec::new();
    let mut at = 0;
    for line in told.lines() {
        if line.starts_with('#') {
            let known = metrics.iter().position(|(kind, _)| *kind == line);
            at = known.unwrap_or(metrics.len());
            if known.is_none() {
                metrics.push((line, String::new()));
            }
        } else if let Some((_, samples)) = metrics.get_mut(at) {
            samples.push_str(line);
            samples.push('\n');
        }
    }
    metrics.into_iter().map(|(kind, samples)| format!("{kind}\n{samples}")).collect()
}

/// On a terminal, until interrupted or the mount ends: what goes on above, a bar for each transfer below.
fn watch(visits: &mut [Visit]) -> Result<(), Failure> {
    let mut screen = Screen::new();
    while !visits.is_empty() {
        let mut shown = Vec::new();
        for visit in &mut *visits {
            let summary = visit.ask("summary", |_| {});
            let transfers = summary.and_then(|summary| Ok((summary, visit.ask("transfers", |_| {})?)));
            let (summary, transfers) = transfers.map_err(|why| unanswered(&visit.entry, &why))?;
            shown.push((visit.entry.mount_point.to_string_lossy().into_owned(), summary, transfers));
        }
        screen.show(&shown);
        std::thread::sleep(REFRESH);
    }
    Ok(())
}

/// `ftpfs list`: one line for each mount.
pub(super) fn list(json: bool) -> Result<(), Failure> {
    for entry in mounts()? {
        let state = Visit::begin(&entry).and_then(|mut visit| visit.ask("brief", |_| {}));
        let state = state.map_or_else(|why| why, |answer| answer.trim().to_owned());
        let (point, source) = (entry.mount_point.to_string_lossy(), entry.source_text());
        if json {
            let line = Json::Object(vec![
                ("mount_point", point.as_ref().into()),
                ("source", source.into()),
                ("state", state.into()),
            ]);
            println!("{line}");
        } else {
            println!("{}  {}  ({state})", clean(&point), clean(&source));
        }
    }
    Ok(())
}

/// `ftpfs flush`: back when the server has everything.
pub(super) fn flush(point: &Path, timeout: Option<u64>) -> Result<(), Failure> {
    let entry = find(point)?;
    let mut visit = Visit::begin(&entry).map_err(|why| unanswered(&entry, &why))?;
    visit.flush(timeout)
}

/// `ftpfs forget`.
pub(super) fn forget(point: &Path) -> Result<(), Failure> {
    let entry = find(point)?;
    let mut visit = Visit::begin(&entry).map_err(|why| unanswered(&entry, &why))?;
    visit.ask("forget", |_| {}).map(drop).map_err(|why| unanswered(&entry, &why))
}

/// Lets the mount of its server upload what was kept. Gives what there is to say.
pub(super) fn push(kept: &Kept) -> Result<String, String> {
    let file = kept.file.canonicalize().map_err(|error| error.to_string())?;
    let file = file.to_str().filter(|text| !text.contains('\n')).ok_or("its path is no text")?;
    let server = kept.record.as_ref().map(|record| record.server.clone());
    let server = server.ok_or("it is not known where this belongs: `save` it")?;
    let named = format!("\"server\":{},", Json::from(server.as_str()));
    for entry in mounts().map_err(|failure| failure.message)? {
        let Ok(mut visit) = Visit::begin(&entry) else { continue };
        if !visit.ask("json", |_| {}).is_ok_and(|told| told.contains(&named)) {
            continue;
        }
        visit.patience(PUSHED);
        match visit.ask(&format!("push {file}"), |_| {}) {
            Ok(told) => return Ok(told.trim().to_owned()),
            // Another folder of the same server.
            Err(why) if why == NOT_OURS => {}
            Err(why) => return Err(why),
        }
    }
    Err(format!("{server} is not mounted: mount it, or use --server SOURCE (as for mounting)"))
}

/// `ftpfs umount`: first everything is uploaded, then the mount goes, then its process.
pub(super) fn umount(point: &Path, timeout: Option<u64>) -> Result<(), Failure> {
    let entry = find(point)?;
    let mut visit = Visit::begin(&entry).map_err(|why| unanswered(&entry, &why))?;
    visit.flush(timeout)?;
    visit.wait_for_end().map_err(|why| unanswered(&entry, &why))?;
    mount::unmount(&entry.mount_point).map_err(|error| {
        let shown = entry.mount_point.display();
        let is_busy = error.raw_os_error() == Some(libc::EBUSY) || error.to_string().contains("busy");
        let advice = if is_busy {
            format!(": a program has a file open there or stands in it (`fuser -vm {shown}` tells which)")
        } else {
            String::new()
        };
        Failure::new(Exit::Mount, format!("cannot unmount {shown}: {error}{advice}"))
    })?;
    // What a program wrote in between is uploaded now; the end of the process is the end of the wait.
    visit.until_ended(timeout)
}

/// All our mounts that this process can see.
fn mounts() -> Result<Vec<Entry>, Failure> {
    let entries = mountinfo::read()
        .map_err(|error| Failure::new(Exit::Local, format!("cannot read the table of mounts: {error}")))?;
    Ok(entries.into_iter().filter(|entry| entry.fstype == FSTYPE).collect())
}

/// The mount at a path, or the one that the path lies in.
fn find(point: &Path) -> Result<Entry, Failure> {
    let entries = mounts()?;
    let absolute = std::path::absolute(point).unwrap_or_else(|_| point.to_owned());
    // Only what lies above the mount is looked at.
    let resolved = match (absolute.parent(), absolute.file_name()) {
        (Some(parent), Some(name)) if !entries.iter().any(|entry| parent.starts_with(&entry.mount_point)) => {
            parent.canonicalize().map(|parent| parent.join(name)).unwrap_or_else(|_| absolute.clone())
        }
        _ => absolute.clone(),
    };
    let at = |path: &Path| mountinfo::topmost(&entries, path).cloned();
    let around = || {
        let inside = entries.iter().filter(|entry| resolved.starts_with(&entry.mount_point));
        inside.max_by_key(|entry| entry.mount_point.as_os_str().len()).cloned()
    };
    at(&absolute).or_else(|| at(&resolved)).or_else(around).ok_or_else(|| {
        Failure::new(Exit::Mount, format!("no ftpfs is mounted on {} (`ftpfs list`)", point.display()))
    })
}

/// A connection to a mount's daemon.
pub(super) struct Visit {
    entry: Entry,
    stream: BufReader<UnixStream>,
}

impl Visit {
    pub(super) fn begin(entry: &Entry) -> Result<Self, String> {
        let until = Instant::now() + JUST_MOUNTED;
        loop {
            match Self::connect(entry) {
                Ok(Some(visit)) => return Ok(visit),
                Err(why) => return Err(why),
                Ok(None) if Instant::now() > until => {
                    return Err("it belongs to another user, or has no socket".to_owned());
                }
                Ok(None) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    /// None when there is no socket.
    fn connect(entry: &Entry) -> Result<Option<Self>, String> {
        let name = status::name(entry.identity);
        let mut refused = None;
        for (folder, user) in folders() {
            if !status::is_private(&folder, user) {
                continue;
            }
            match UnixStream::connect(folder.join(&name)) {
                Ok(stream) => {
                    let limited = stream.set_read_timeout(Some(PATIENCE));
                    limited
                        .and_then(|()| stream.set_write_timeout(Some(PATIENCE)))
                        .map_err(|e| e.to_string())?;
                    return Ok(Some(Self { entry: entry.clone(), stream: BufReader::new(stream) }));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => refused = Some(error.to_string()),
            }
        }
        refused.map_or(Ok(None), Err)
    }

    fn patience(&mut self, limit: Duration) {
        // A second at least: 0 would be refused.
        let limit = limit.max(Duration::from_secs(1));
        let _ = self.stream.get_ref().set_read_timeout(Some(limit));
    }

    /// Sends a request; `+` lines go to `progress` as they come, and are given back together.
    fn ask(&mut self, request: &str, progress: impl FnMut(&str)) -> Result<String, String> {
        self.send(request)?;
        self.answer(progress)
    }

    /// Asks to be told of the end; to be asked before it, because afterwards nobody may be there. When this returns the
    /// daemon has heard it: an end that comes now waits until it is told ([`Visit::until_ended`]).
    pub(super) fn wait_for_end(&mut self) -> Result<(), String> {
        self.send("wait")?;
        match self.line()?.as_str() {
            "+" => Ok(()),
            _ => Err(UNKNOWN.to_owned()),
        }
    }

    fn send(&mut self, request: &str) -> Result<(), String> {
        let sent = self.stream.get_ref().write_all(format!("{request}\n").as_bytes());
        sent.map_err(|error| error.to_string())
    }

    fn answer(&mut self, mut progress: impl FnMut(&str)) -> Result<String, String> {
        let mut text = String::new();
        for _ in 0..MAX_LINES {
            let line = self.line()?;
            match line.split_at_checked(1) {
                Some(("+", more)) => {
                    progress(more);
                    text.push_str(more);
                    text.push('\n');
                }
                Some((".", "")) => return Ok(text),
                Some(("!", why)) => return Err(why.to_owned()),
                _ => return Err(UNKNOWN.to_owned()),
            }
        }
        Err("its answer has no end".to_owned())
    }

    fn line(&mut self) -> Result<String, String> {
        let mut line = Vec::new();
        match Read::by_ref(&mut self.stream).take(MAX_LINE).read_until(b'\n', &mut line) {
            Ok(0) => Err(CLOSED.to_owned()),
            Ok(_) => Ok(clean(String::from_utf8_lossy(&line).trim_end_matches('\n'))),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                Err("it does not answer".to_owned())
            }
            Err(error) => Err(error.to_string()),
        }
    }

    /// Where it is mounted.
    pub(super) fn entry(&self) -> &Entry {
        &self.entry
    }

    /// Whether the daemon's table of mounts is not ours: then its mount does not go with ours.
    pub(super) fn is_elsewhere(&self) -> bool {
        let namespace = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/mnt")).ok();
        let daemon = getsockopt(self.stream.get_ref(), sockopt::PeerCredentials);
        let theirs = daemon.ok().and_then(|daemon| namespace(&daemon.pid().to_string()));
        // An ordinary user may not look: a namespace of one's own is rare among them.
        theirs.is_some() && theirs != namespace("self")
    }

    /// Waits for the answer to `wait`, says now and then for what, and waits for the process to end. The daemon says nothing
    /// until then, so the wait is at most this many seconds, and without a number as long as the daemon itself takes.
    pub(super) fn until_ended(mut self, seconds: Option<u64>) -> Result<(), Failure> {
        self.patience(seconds.map_or(END, Duration::from_secs));
        let told = Self::connect(&self.entry).ok().flatten();
        let (ended, end) = mpsc::channel::<()>();
        let teller = told.map(|told| std::thread::spawn(move || tell(told, &end)));
        let answer = self.answer(|_| {});
        drop(ended);
        if let Some(teller) = teller {
            let _ = teller.join();
        }
        match answer {
            Ok(answer) if answer.trim() == "0" => {}
            Ok(answer) => {
                let files = answer.trim();
                return Err(Failure::new(
                    Exit::Unconfirmed,
                    format!(
                        "{files} file(s) could not be confirmed by the server; they are kept (`ftpfs recover`)"
                    ),
                ));
            }
            Err(why) => {
                return Err(Failure::new(
                    Exit::Unconfirmed,
                    format!(
                        "unmounted, but it cannot be told whether everything was uploaded: {why} (see the log)"
                    ),
                ));
            }
        }
        // It says so just before it ends: its end closes the connection.
        let _ = self.stream.read_to_end(&mut Vec::new());
        Ok(())
    }

    fn flush(&mut self, timeout: Option<u64>) -> Result<(), Failure> {
        let request = timeout.map_or("flush".to_owned(), |seconds| format!("flush {seconds}"));
        let bar = progress::upload_bar();
        let answer = self.ask(&request, |line| progress::advance(&bar, line));
        bar.finish_and_clear();
        answer.map(drop).map_err(|why| {
            Failure::new(
                Exit::Unconfirmed,
                format!("{}: {why}; it stays mounted", self.entry.mount_point.display()),
            )
        })
    }
}

/// What a mount that is ending still has to do, each time that it is something else: for who waits for it.
fn tell(mut visit: Visit, end: &mpsc::Receiver<()>) {
    let mut last = String::new();
    while end.recv_timeout(TELLS) == Err(mpsc::RecvTimeoutError::Timeout) {
        let Ok(state) = visit.ask("brief", |_| {}) else { return };
        if state != last {
            complain(&format!("{}: {}", visit.entry.mount_point.display(), state.trim()));
            last = state;
        }
    }
}

/// Where sockets may be: root looks at everybody's.
fn folders() -> Vec<(PathBuf, Uid)> {
    let me = geteuid();
    let mut folders = vec![(status::folder(me), me), (PathBuf::from("/run/ftpfs"), Uid::from_raw(0))];
    folders.push((PathBuf::from(format!("/tmp/ftpfs-{me}")), me));
    if me.is_root() {
        let numbers = |folder: &str, prefix: &str| -> Vec<u32> {
            let Ok(found) = std::fs::read_dir(folder) else { return Vec::new() };
            found
                .filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_prefix(prefix)?.parse().ok())
                .collect()
        };
        for user in numbers("/run/user", "") {
            folders.push((PathBuf::from(format!("/run/user/{user}/ftpfs")), Uid::from_raw(user)));
        }
        for user in numbers("/tmp", "ftpfs-") {
            folders.push((PathBuf::from(format!("/tmp/ftpfs-{user}")), Uid::from_raw(user)));
        }
    }
    folders
}

fn unanswered(entry: &Entry, why: &str) -> Failure {
    Failure::new(Exit::Local, format!("{}: {why}", entry.mount_point.display()))
}

/// A server's words may be among it.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A daemon that runs answers within a tenth of that; one that is stopped never.
const PATIENCE: Duration = Duration::from_secs(5);
/// An upload has deadlines of its own; this one is for a daemon that is stopped.
const PUSHED: Duration = Duration::from_secs(3600);
/// How often who waits for the end is told how far it is.
const TELLS: Duration = Duration::from_secs(1);
/// A mount is in the table a moment before its socket is there.
const JUST_MOUNTED: Duration = Duration::from_millis(500);
/// The daemon itself gives up earlier (shutdown_timeout=).
const END: Duration = Duration::from_secs(3600);
/// Often enough for a bar to move, seldom enough for a slow terminal.
const REFRESH: Duration = Duration::from_millis(500);
const CLOSED: &str = "it has ended";
const UNKNOWN: &str = "it answers in an unknown way";
const MAX_LINE: u64 = 1 << 20;
const MAX_LINES: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_metrics_of_two_mounts_are_together_below_one_type() {
        let told = "# TYPE a counter\na{mount=\"/1\"} 1\n# TYPE b gauge\nb{mount=\"/1\"} 2\n\
                    # TYPE a counter\na{mount=\"/2\"} 3\n# TYPE b gauge\nb{mount=\"/2\"} 4\n";
        let grouped = "# TYPE a counter\na{mount=\"/1\"} 1\na{mount=\"/2\"} 3\n\
                       # TYPE b gauge\nb{mount=\"/1\"} 2\nb{mount=\"/2\"} 4\n";
        assert_eq!(by_metric(told), grouped);
    }
}
