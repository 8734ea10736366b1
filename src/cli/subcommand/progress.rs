//! Progress bars: of `ftpfs status --watch` on standard output, of `umount` and `flush` on standard error.
//!
//! What is no terminal sees none of it (`indicatif` looks), so scripts read the same as ever. The speed of each transfer
//! is reckoned here, from how far it is at each look.

use std::collections::HashMap;
use std::time::Instant;

use indicatif::{DecimalBytes, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// What `status --watch` shows: for each mount some lines of text, and a bar for each of its transfers.
pub(super) struct Screen {
    all: MultiProgress,
    /// By mount.
    texts: HashMap<String, ProgressBar>,
    /// By mount, direction and path.
    bars: HashMap<(String, String), Transfer>,
}

/// A transfer, and how fast it was until now.
struct Transfer {
    bar: ProgressBar,
    done: u64,
    at: Instant,
    /// Bytes per second; what is recent counts more.
    speed: f64,
}

impl Screen {
    pub(super) fn new() -> Self {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stdout());
        Self { all, texts: HashMap::new(), bars: HashMap::new() }
    }

    /// Takes mount points, each with the daemon's summary and its lines of transfers.
    pub(super) fn show(&mut self, mounts: &[(String, String, String)]) {
        let mut seen = Vec::new();
        for (mount, summary, transfers) in mounts {
            let text = self.texts.entry(mount.clone()).or_insert_with(|| {
                let text = ProgressBar::no_length().with_style(style("{msg}"));
                self.all.add(text)
            });
            text.set_message(summary.trim_end().to_owned());
            text.tick();
            for line in transfers.lines() {
                let Some((direction, done, size, path)) = transfer(line) else { continue };
                let key = (mount.clone(), format!("{direction} {path}"));
                let transfer = self.bars.entry(key.clone()).or_insert_with(|| {
                    let bar = ProgressBar::new(size).with_style(style(TRANSFER));
                    // indicatif would take what was done before this look for done within a moment.
                    Transfer { bar: self.all.insert_after(text, bar), done, at: Instant::now(), speed: 0.0 }
                });
                transfer.advance(done);
                let speed = format!("{}/s", DecimalBytes(transfer.speed as u64));
                transfer.bar.set_length(size);
                transfer.bar.set_position(done);
                transfer.bar.set_message(format!("{speed:>12}  {direction:<4} {path}"));
                seen.push(key);
            }
        }
        self.bars.retain(|key, transfer| {
            let is_there = seen.contains(key);
            if !is_there {
                transfer.bar.finish_and_clear();
                self.all.remove(&transfer.bar);
            }
            is_there
        });
    }
}

impl Transfer {
    fn advance(&mut self, done: u64) {
        let seconds = self.at.elapsed().as_secs_f64();
        if seconds > 0.1 {
            let now = done.saturating_sub(self.done) as f64 / seconds;
            self.speed = if self.speed == 0.0 { now } else { 0.6 * self.speed + 0.4 * now };
            (self.done, self.at) = (done, Instant::now());
        }
    }
}

/// For everything that a mount still has to upload.
pub(super) fn upload_bar() -> ProgressBar {
    ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr()).with_style(style(UPLOADS))
}

/// Takes one line of the daemon: files, bytes sent, bytes in all.
pub(super) fn advance(bar: &ProgressBar, line: &str) {
    let mut numbers = line.split(' ').filter_map(|word| word.parse::<u64>().ok());
    if let (Some(files), Some(sent), Some(size)) = (numbers.next(), numbers.next(), numbers.next()) {
        bar.set_length(size);
        bar.set_position(sent.min(size));
        bar.set_message(format!("{files} file(s) to upload"));
    }
}

fn transfer(line: &str) -> Option<(&str, u64, u64, &str)> {
    let mut words = line.splitn(4, ' ');
    Some((words.next()?, words.next()?.parse().ok()?, words.next()?.parse().ok()?, words.next()?))
}

/// A template that is wrong is found by the test below, not by a user.
fn style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    style.progress_chars("##-")
}

const TRANSFER: &str = "  [{bar:20}] {percent:>3}% {decimal_bytes:>10} of {decimal_total_bytes:<10} {msg}";
const UPLOADS: &str = "[{bar:20}] {percent:>3}% {decimal_bytes} of {decimal_total_bytes}, {decimal_bytes_per_sec}, {msg}, {elapsed}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_are_understood() {
        for template in [TRANSFER, UPLOADS] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }

    #[test]
    fn a_line_of_a_transfer_is_taken_apart() {
        assert_eq!(transfer("up 5 10 /a b"), Some(("up", 5, 10, "/a b")));
        assert_eq!(transfer("up 5"), None);
    }
}
