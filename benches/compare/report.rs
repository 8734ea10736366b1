//! The table and the chart.

use std::fmt::Write as _;
use std::io;
use std::path::Path;
use std::time::Duration;

use crate::clients::Client;

/// One measurement.
#[derive(Default)]
pub struct Outcome {
    pub time: Duration,
    /// From the server over the line; nothing is counted without a delay.
    pub bytes: u64,
    /// The most memory that ftpfs had, in KiB.
    pub memory: Option<u64>,
    /// Processor time of ftpfs, or of curl.
    pub cpu: Option<Duration>,
    pub failed: Option<String>,
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.3} s, {:.2} MB down", self.time.as_secs_f64(), self.bytes as f64 / 1e6)?;
        if let Some(memory) = self.memory {
            write!(f, ", {} MiB", memory / 1024)?;
        }
        if let Some(failed) = &self.failed {
            write!(f, ", FAILED: {failed}")?;
        }
        Ok(())
    }
}

/// One workload over one line.
pub struct Row {
    title: &'static str,
    rtt: u64,
    megabytes: Option<f64>,
    outcomes: Vec<(Client, Outcome)>,
}

impl Row {
    pub fn new(title: &'static str, rtt: u64, megabytes: Option<f64>) -> Self {
        Self { title, rtt, megabytes, outcomes: Vec::new() }
    }

    pub fn add(&mut self, client: Client, outcome: Outcome) {
        self.outcomes.push((client, outcome));
    }

    /// Of the runs that ended well.
    pub fn median(&self, client: Client) -> Option<Duration> {
        let good = self.outcomes.iter().filter(|(of, outcome)| *of == client && outcome.failed.is_none());
        let mut times: Vec<Duration> = good.map(|(_, outcome)| outcome.time).collect();
        times.sort_unstable();
        times.get(times.len() / 2).copied()
    }

    /// The longest time that a client took for it so far.
    pub fn slowest(&self, client: Client) -> Option<Duration> {
        self.outcomes.iter().filter(|(of, _)| *of == client).map(|(_, outcome)| outcome.time).max()
    }

    fn of(&self, client: Client) -> impl Iterator<Item = &Outcome> {
        let good = move |(of, outcome): &&(Client, Outcome)| *of == client && outcome.failed.is_none();
        self.outcomes.iter().filter(good).map(|(_, outcome)| outcome)
    }

    pub fn line(&self) -> String {
        let mut line = format!("| {} | {} ms |", self.title, self.rtt);
        let ours = self.median(Client::Ftpfs);
        for client in Client::ALL {
            let tried = self.outcomes.iter().find(|(of, _)| *of == client);
            let cell = match (self.median(client), tried) {
                (Some(time), _) => match self.megabytes {
                    Some(megabytes) => format!("{:.0} MB/s", megabytes / time.as_secs_f64()),
                    None => format!("{:.2} s", time.as_secs_f64()),
                },
                (None, Some((_, outcome))) => match &outcome.failed {
                    Some(why) if why.starts_with("over") => why.clone(),
                    _ => "fails".to_owned(),
                },
                (None, None) => "-".to_owned(),
            };
            let times = match (client, ours, self.median(client)) {
                (Client::Ftpfs, ..) | (_, None, _) | (.., None) => String::new(),
                (_, Some(ours), Some(theirs)) => {
                    format!(" (x {:.2})", theirs.as_secs_f64() / ours.as_secs_f64())
                }
            };
            let _ = write!(line, " {cell}{times} |");
        }
        line
    }
}

/// Markdown. In parentheses: how many times faster ftpfs is.
pub fn table(rows: &[Row]) -> String {
    let names = Client::ALL.map(Client::name).join(" | ");
    let mut table = format!("| workload | RTT | {names} |\n|---|---|{}\n", "---|".repeat(Client::ALL.len()));
    for row in rows {
        let _ = writeln!(table, "{}", row.line());
    }
    table
}

/// What else it costs: processor time per GiB where there are so many bytes, the most memory, and what came over the line.
pub fn costs(rows: &[Row]) -> String {
    let mut table = "| workload | RTT | processor, ftpfs | processor, curl | peak memory of ftpfs | from the server, ftpfs | from the server, plain |\n\
                     |---|---|---|---|---|---|---|\n"
        .to_owned();
    for row in rows {
        let gibibytes = row.megabytes.map(|megabytes| megabytes * 1e6 / f64::from(1 << 30));
        let cpu = |client| {
            let gibibytes = gibibytes?;
            let mut times: Vec<Duration> = row.of(client).filter_map(|outcome| outcome.cpu).collect();
            times.sort_unstable();
            let time = times.get(times.len() / 2)?;
            Some(format!("{:.2} s/GiB", time.as_secs_f64() / gibibytes))
        };
        let bytes = |client| {
            let most = row.of(client).map(|outcome| outcome.bytes).max().filter(|&bytes| bytes > 0)?;
            Some(format!("{:.1} MB", most as f64 / 1e6))
        };
        let memory = row.of(Client::Ftpfs).filter_map(|outcome| outcome.memory).max();
        let cells = [
            cpu(Client::Ftpfs),
            cpu(Client::Plain),
            memory.map(|kibibytes| format!("{} MiB", kibibytes / 1024)),
            bytes(Client::Ftpfs),
            bytes(Client::Plain),
        ];
        let cells = cells.map(|cell| cell.unwrap_or("-".to_owned())).join(" | ");
        let _ = writeln!(table, "| {} | {} ms | {cells} |", row.title, row.rtt);
    }
    table
}

/// docs/speed.md and docs/speed.svg.
pub fn write(rows: &[Row], table: &str) -> io::Result<()> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    std::fs::create_dir_all(&docs)?;
    std::fs::write(docs.join("speed.svg"), chart(rows))?;
    let text = format!(
        "# Speed\n\nOne run of `cargo bench --bench compare -- --write`: vsftpd, medians of three (of one where it takes \
         more than {} s),\nevery measurement on a fresh mount. In parentheses: how many times as fast ftpfs was. `plain` \
         is curl for whole\nfiles, eight plain sessions for the copies of many files, and one plain session else. \
         `rclone-full` is done with an upload\nbefore it has been sent.\n\n{table}",
        crate::LONG.as_secs()
    );
    std::fs::write(docs.join("speed.md"), text)
}

/// Bars: the time that each client needs, as a multiple of ours, on a logarithmic scale.
fn chart(rows: &[Row]) -> String {
    let shown: Vec<&Row> =
        rows.iter().filter(|row| row.rtt == CHARTED && row.median(Client::Ftpfs).is_some()).collect();
    let height = 40 + shown.len() * 58;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"760\" height=\"{height}\" font-family=\"sans-serif\" \
         font-size=\"12\"><rect width=\"760\" height=\"{height}\" fill=\"#fff\"/><text x=\"10\" y=\"20\" \
         font-size=\"14\">Time at {CHARTED} ms round trip, as a multiple of ftpfs (logarithmic, shorter is better)</text>"
    );
    for (index, row) in shown.iter().enumerate() {
        let top = 36 + index * 58;
        let _ = write!(svg, "<text x=\"10\" y=\"{}\">{}</text>", top + 24, row.title);
        for (lane, (client, colour)) in COLOURS.into_iter().enumerate() {
            let y = top + lane * 13;
            let ours = row.median(Client::Ftpfs).unwrap_or_default().as_secs_f64();
            let tried = row.outcomes.iter().find(|(of, _)| *of == client);
            let (times, text) = match (row.median(client), tried) {
                (Some(time), _) => {
                    let times = time.as_secs_f64() / ours;
                    (times, format!("{} {times:.1}", client.name()))
                }
                (None, Some((_, outcome))) => {
                    let times = outcome.time.as_secs_f64() / ours;
                    (times, format!("{} over {times:.0}", client.name()))
                }
                (None, None) => continue,
            };
            // From a tenth to a thousand.
            let width = ((times.clamp(0.1, 1000.0).log10() + 1.0) * 80.0).max(2.0);
            let _ = write!(
                svg,
                "<rect x=\"270\" y=\"{y}\" width=\"{width:.0}\" height=\"11\" fill=\"{colour}\"/>\
                 <text x=\"{:.0}\" y=\"{}\" font-size=\"10\">{text}</text>",
                276.0 + width,
                y + 9
            );
        }
    }
    svg.push_str("</svg>\n");
    svg
}

/// The round trip whose rows are drawn: a server on the same continent.
const CHARTED: u64 = 20;
const COLOURS: [(Client, &str); 4] = [
    (Client::Ftpfs, "#1b7f4b"),
    (Client::Plain, "#8a8f98"),
    (Client::RcloneFull, "#d9822b"),
    (Client::RcloneOff, "#c94f4f"),
];
