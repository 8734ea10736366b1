//! One moment of a mount as text, JSON and metrics.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use crate::fs::figures::{DownloadFigures, Figures, UploadFigures};
use crate::json::Json;
use crate::queue::{Doing, Priority};

/// The figures, and the speeds that follow from earlier ones.
pub struct Report {
    mount_point: PathBuf,
    source: String,
    age: Duration,
    at: Instant,
    figures: Figures,
    /// Bytes per second.
    receiving: u64,
    sending: u64,
}

/// What must be kept of a report for the next one's speeds.
pub struct Before {
    at: Instant,
    received: u64,
    sent: u64,
}

impl Report {
    /// Without an earlier report the speeds are those since the mount began.
    pub fn new(
        mount_point: &Path,
        source: &str,
        started: Instant,
        figures: Figures,
        before: Option<&Before>,
    ) -> Self {
        let (since, received, sent) =
            before.map_or((started, 0, 0), |before| (before.at, before.received, before.sent));
        let seconds = since.elapsed().as_secs_f64().max(0.001);
        let speed = |now: u64, then: u64| (now.saturating_sub(then) as f64 / seconds) as u64;
        Self {
            mount_point: mount_point.to_owned(),
            source: source.to_owned(),
            age: started.elapsed(),
            at: Instant::now(),
            receiving: speed(figures.counts.received, received),
            sending: speed(figures.counts.sent, sent),
            figures,
        }
    }

    pub fn as_before(&self) -> Before {
        Before { at: self.at, received: self.figures.counts.received, sent: self.figures.counts.sent }
    }

    /// For people.
    pub fn text(&self) -> String {
        self.describe(true)
    }

    /// The same without a line for each transfer: who shows them as bars has [`Report::transfers`] for that.
    pub fn summary(&self) -> String {
        self.describe(false)
    }

    /// A line for each transfer: `up` or `down`, bytes done, bytes in all, the path.
    pub fn transfers(&self) -> String {
        let mut text = String::new();
        for upload in self.figures.uploads.iter().flatten().filter(|upload| upload.is_running).take(MOST_BARS)
        {
            let _ = writeln!(text, "up {} {} {}", upload.sent.min(upload.size), upload.size, upload.path);
        }
        for download in self.figures.downloads.iter().flatten().take(MOST_BARS) {
            let _ =
                writeln!(text, "down {} {} {}", download.at.min(download.size), download.size, download.path);
        }
        text
    }

    fn describe(&self, with_transfers: bool) -> String {
        let f = &self.figures;
        // A name from the configuration says little about where it leads.
        let server = if self.source.contains("://") { String::new() } else { format!(" ({})", f.server) };
        let mut text = format!(
            "{}  {}{server}  {:?}, mounted for {}\n",
            self.mount_point.display(),
            self.source,
            f.software,
            span(self.age)
        );
        let mut line = |name: &str, value: String| {
            let _ = writeln!(text, "  {name:<12} {value}");
        };
        line("connections", format!("{} open or opening, at most {}", f.connections.len(), f.limit));
        for (index, doing) in f.connections.iter().enumerate() {
            line("", format!("{}: {}", index + 1, describe(doing)));
        }
        line(
            "waiting",
            format!(
                "{} jobs for a connection, {} calls of programs; {} files and folders are open",
                f.waiting_jobs, f.waiting_calls, f.open_files
            ),
        );
        match &f.uploads {
            None => line("uploads", "busy".to_owned()),
            Some(uploads) if uploads.is_empty() => line("uploads", "nothing is left to upload".to_owned()),
            Some(uploads) => {
                let (sent, size) = sums(uploads);
                let count = uploads.len();
                line("uploads", format!("{count} files, {} of {} sent", bytes(sent), bytes(size)));
                let shown = if with_transfers { MOST_BARS } else { 0 };
                for upload in uploads.iter().take(shown) {
                    let state = if upload.is_running { "" } else { " (when it is closed)" };
                    line("", format!("{}{state}", bar(upload.sent, upload.size, &upload.path)));
                }
                if with_transfers && count > shown {
                    line("", format!("and {} more", count - shown));
                }
            }
        }
        let downloads: Vec<&DownloadFigures> = f.downloads.iter().flatten().collect();
        if with_transfers && !downloads.is_empty() {
            line("downloads", format!("{} files", downloads.len()));
            for download in downloads.iter().take(MOST_BARS) {
                line("", bar(download.at, download.size, &download.path));
            }
        }
        if f.journal.0 > 0 {
            let (files, held) = f.journal;
            line("journal", format!("{files} files, {}, are safe here and on their way", bytes(held)));
        }
        let counts = &f.counts;
        line(
            "traffic",
            format!(
                "in {} ({}/s), out {} ({}/s)",
                bytes(counts.received),
                bytes(self.receiving),
                bytes(counts.sent),
                bytes(self.sending)
            ),
        );
        line(
            "so far",
            format!(
                "{} sessions, {} transfers, {} commands in {} round trips",
                counts.sessions, counts.transfers, counts.commands, counts.batches
            ),
        );
        let reads = f.hits + f.misses;
        let rate = (f.hits * 100)
            .checked_div(reads)
            .map_or(String::new(), |rate| format!("; {rate}% of {reads} reads were answered from it"));
        line("cache", format!("{} of {}{rate}", bytes(f.cached), bytes(f.cache_limit)));
        if !f.troubles.is_empty() {
            line("last errors", String::new());
        }
        for trouble in &f.troubles {
            let ago = SystemTime::now().duration_since(trouble.at).unwrap_or_default();
            line("", format!("{} ago: {}", span(ago), trouble.text));
        }
        text
    }

    /// One line for a table.
    pub fn brief(&self) -> String {
        let f = &self.figures;
        let busy = f.connections.iter().filter(|doing| matches!(doing, Doing::Job { .. })).count();
        let uploads = f.uploads.as_ref().map_or("?".to_owned(), |uploads| uploads.len().to_string());
        format!("{busy} of {} connections busy, {uploads} files to upload", f.connections.len())
    }

    /// For programs. Names are never changed, only added.
    pub fn json(&self) -> Json {
        let f = &self.figures;
        let upload = |upload: &UploadFigures| {
            Json::Object(vec![
                ("path", upload.path.as_str().into()),
                ("size", upload.size.into()),
                ("sent", upload.sent.into()),
                ("running", upload.is_running.into()),
            ])
        };
        let download = |download: &DownloadFigures| {
            Json::Object(vec![
                ("path", download.path.as_str().into()),
                ("size", download.size.into()),
                ("at", download.at.into()),
            ])
        };
        let downloads = f.downloads.as_ref().map(|all| Json::List(all.iter().map(download).collect()));
        let trouble = |trouble: &crate::ftp::features::Trouble| {
            let at = trouble.at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
            Json::Object(vec![("at", at.into()), ("text", trouble.text.as_str().into())])
        };
        let uploads = f.uploads.as_ref().map(|uploads| Json::List(uploads.iter().map(upload).collect()));
        Json::Object(vec![
            ("mount_point", self.mount_point.to_string_lossy().into_owned().into()),
            ("source", self.source.as_str().into()),
            ("server", f.server.as_str().into()),
            ("software", format!("{:?}", f.software).into()),
            ("pid", u64::from(std::process::id()).into()),
            ("seconds", self.age.as_secs().into()),
            ("connections", Json::List(f.connections.iter().map(|doing| describe(doing).into()).collect())),
            ("connections_limit", f.limit.into()),
            ("waiting_jobs", f.waiting_jobs.into()),
            ("waiting_calls", f.waiting_calls.into()),
            ("open_files", f.open_files.into()),
            ("uploads", uploads.unwrap_or(Json::Null)),
            ("downloads", downloads.unwrap_or(Json::Null)),
            ("journal_files", f.journal.0.into()),
            ("journal_bytes", f.journal.1.into()),
            ("received", f.counts.received.into()),
            ("sent", f.counts.sent.into()),
            ("receiving", self.receiving.into()),
            ("sending", self.sending.into()),
            ("sessions", f.counts.sessions.into()),
            ("transfers", f.counts.transfers.into()),
            ("commands", f.counts.commands.into()),
            ("cached", f.cached.into()),
            ("cache_limit", f.cache_limit.into()),
            ("hits", f.hits.into()),
            ("misses", f.misses.into()),
            ("errors", Json::List(f.troubles.iter().map(trouble).collect())),
        ])
    }

    /// The text format of Prometheus, version 0.0.4.
    pub fn metrics(&self) -> String {
        let f = &self.figures;
        let label: String = self
            .mount_point
            .to_string_lossy()
            .chars()
            .flat_map(|c| match c {
                '"' | '\\' => vec!['\\', c],
                c if c.is_control() => vec![' '],
                c => vec![c],
            })
            .collect();
        let busy = f.connections.iter().filter(|doing| matches!(doing, Doing::Job { .. })).count();
        let mut text = String::new();
        let mut metric = |name: &str, kind: &str, value: u64| {
            let _ = writeln!(text, "# TYPE ftpfs_{name} {kind}\nftpfs_{name}{{mount=\"{label}\"}} {value}");
        };
        metric("received_bytes_total", "counter", f.counts.received);
        metric("sent_bytes_total", "counter", f.counts.sent);
        metric("commands_total", "counter", f.counts.commands);
        metric("sessions_total", "counter", f.counts.sessions);
        metric("transfers_total", "counter", f.counts.transfers);
        metric("cache_hits_total", "counter", f.hits);
        metric("cache_misses_total", "counter", f.misses);
        metric("cache_bytes", "gauge", f.cached);
        metric("connections", "gauge", f.connections.len() as u64);
        metric("connections_busy", "gauge", busy as u64);
        metric("waiting_jobs", "gauge", f.waiting_jobs as u64);
        metric("waiting_calls", "gauge", f.waiting_calls as u64);
        metric("open_files", "gauge", f.open_files as u64);
        metric("journal_files", "gauge", f.journal.0 as u64);
        metric("journal_bytes", "gauge", f.journal.1);
        if let Some(uploads) = &f.uploads {
            let (sent, size) = sums(uploads);
            metric("pending_files", "gauge", uploads.len() as u64);
            metric("pending_bytes", "gauge", size.saturating_sub(sent));
        }
        text
    }
}

fn describe(doing: &Doing) -> String {
    match doing {
        Doing::Connecting => "connecting".to_owned(),
        Doing::Preparing | Doing::Nothing => "ready".to_owned(),
        Doing::Job { priority, path, for_long, is_live } => {
            let what = match priority {
                Priority::Names => "names and attributes",
                Priority::Read | Priority::ReadAhead => "reading",
                Priority::Upload | Priority::BackgroundUpload => "uploading",
            };
            let path = path.as_ref().map(|path| format!(" {path}")).unwrap_or_default();
            let connecting = if *is_live { "" } else { " (connecting)" };
            format!("{what}{path}, for {}{connecting}", span(*for_long))
        }
    }
}

/// A progress bar.
fn bar(done: u64, size: u64, path: &str) -> String {
    let percent = (done.min(size) * 100).checked_div(size).unwrap_or(0);
    let filled = usize::try_from(percent / 5).unwrap_or(0);
    format!("[{:<20}] {percent:>3}%  {path}", "#".repeat(filled))
}

fn sums(uploads: &[UploadFigures]) -> (u64, u64) {
    (uploads.iter().map(|upload| upload.sent).sum(), uploads.iter().map(|upload| upload.size).sum())
}

/// Bytes, for people.
pub fn bytes(count: u64) -> String {
    let mut value = count as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if value < 1000.0 {
            return if unit == "B" { format!("{count} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1000.0;
    }
    format!("{value:.1} TB")
}

fn span(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds @ 60..3600 => format!("{} min", seconds / 60),
        seconds @ 3600..172_800 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        seconds => format!("{} days", seconds / 86_400),
    }
}

/// A table of thousands of files helps nobody.
const MOST_BARS: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_for_people() {
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1_500_000), "1.5 MB");
        assert_eq!(bytes(u64::MAX), "18446744.1 TB");
        assert_eq!(span(Duration::from_secs(59)), "59 s");
        assert_eq!(span(Duration::from_secs(7384)), "2 h 3 min");
    }

    #[test]
    fn a_bar_is_full_when_everything_is_sent() {
        assert_eq!(bar(10, 10, "/a"), "[####################] 100%  /a");
        assert_eq!(bar(0, 0, "/a"), "[                    ]   0%  /a");
        assert_eq!(bar(20, 10, "/a"), "[####################] 100%  /a");
    }
}
