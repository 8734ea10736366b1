//! The list of what is kept, for people and for programs.

use std::path::Path;
use std::time::SystemTime;

use crate::ftp::command::timestamp;
use crate::json::Json;
use crate::status::bytes;
use crate::write::kept::Kept;

/// Prints it.
pub(super) fn show(found: &[Kept], spool: &Path, as_json: bool) {
    if as_json {
        found.iter().for_each(|kept| println!("{}", json(kept)));
        return;
    }
    if found.is_empty() {
        println!("Nothing is kept in {}: the server has everything.", spool.display());
        return;
    }
    found.iter().for_each(|kept| println!("{}", text(kept)));
    println!("`ftpfs recover push ID` uploads, `save ID FILE` copies to a local file, `drop ID` deletes.");
}

fn text(kept: &Kept) -> String {
    let Some(record) = &kept.record else {
        let what = "it is not known where this belongs";
        return format!("{}\n    {}, {}\n", clean(&kept.id), bytes(kept.size()), what);
    };
    let mut lines = vec![
        clean(&kept.id),
        format!("{}, {}", date(record.at), bytes(record.size)),
        clean(&format!("{}{}", record.server, record.path)),
    ];
    match (record.reason.is_empty(), kept.is_in_use) {
        (false, _) => lines.push(clean(&record.reason)),
        (true, true) => lines.push("a mount is uploading it".to_owned()),
        (true, false) => {
            lines.push("its mount ended before it was uploaded; the next one uploads it".to_owned());
        }
    }
    if !record.is_whole() {
        lines.push(format!("{} of it are here; the rest is as the server had it", bytes(record.held())));
    }
    lines.join("\n    ") + "\n"
}

fn json(kept: &Kept) -> Json {
    let record = kept.record.as_ref();
    let seconds =
        |at: SystemTime| at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    Json::Object(vec![
        ("id", kept.id.as_str().into()),
        ("at", record.map(|record| seconds(record.at)).into()),
        ("size", kept.size().into()),
        ("held", record.map(|record| record.held()).into()),
        ("server", record.map(|record| record.server.clone()).into()),
        ("path", record.map(|record| record.path.to_string()).into()),
        ("reason", record.map(|record| record.reason.clone()).into()),
        ("file", kept.file.to_string_lossy().into_owned().into()),
        ("in_use", kept.is_in_use.into()),
    ])
}

/// In UTC.
fn date(at: SystemTime) -> String {
    let digits = timestamp(at);
    let part = |range| digits.get(range).unwrap_or_default();
    format!(
        "{}-{}-{} {}:{}:{} UTC",
        part(0..4),
        part(4..6),
        part(6..8),
        part(8..10),
        part(10..12),
        part(12..14)
    )
}

/// Names and a server's words may hold anything.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}
