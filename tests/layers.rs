//! The house rules that a compiler does not check: calls go down only, every module tells its story, every `unsafe` its
//! reason, and no file grows beyond what can be read in one go. It reads the sources; nothing is started.

use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn calls_go_down_only() {
    let mut wrong = Vec::new();
    for (file, text) in sources() {
        let room = room(&file);
        let Some((_, below)) = MAY_CALL.iter().find(|(name, _)| *name == room) else {
            wrong.push(format!("{}: which layer is {room}? (tests/layers.rs)", file.display()));
            continue;
        };
        for called in called_rooms(&text) {
            if called != room && !below.contains(&called.as_str()) {
                wrong.push(format!("{}: {room} calls {called}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_module_opens_with_its_story() {
    let silent: Vec<_> = sources().into_iter().filter(|(_, text)| !text.starts_with("//! ")).collect();
    assert!(silent.is_empty(), "{:?}", silent.iter().map(|(file, _)| file).collect::<Vec<_>>());
}

#[test]
fn every_unsafe_line_has_its_reason_above() {
    let mut without = Vec::new();
    for (file, text) in sources() {
        let lines: Vec<&str> = text.lines().collect();
        for (index, line) in lines.iter().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            let is_unsafe =
                code.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "unsafe");
            let above = lines.get(index.saturating_sub(4)..index).unwrap_or_default();
            if is_unsafe && !above.iter().any(|line| line.contains("SAFETY:")) {
                without.push(format!("{}:{}", file.display(), index + 1));
            }
        }
    }
    assert!(without.is_empty(), "no SAFETY comment: {without:?}");
}

#[test]
fn no_file_is_longer_than_one_sitting() {
    let long: Vec<_> = sources()
        .into_iter()
        .map(|(file, text)| (text.lines().count(), file))
        .filter(|(lines, _)| *lines > LONGEST_FILE)
        .collect();
    assert!(long.is_empty(), "split by what they do: {long:?}");
}

/// Each `.rs` file below `src` with its text.
fn sources() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    assert!(found.len() > 50, "the sources are not where they were");
    found
}

/// The top module that a file belongs to.
fn room(file: &Path) -> String {
    let below = file.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap();
    let first = below.components().next().unwrap().as_os_str().to_str().unwrap();
    first.trim_end_matches(".rs").to_owned()
}

/// Top modules named behind `crate::`, alone or in braces.
fn called_rooms(text: &str) -> Vec<String> {
    let mut rooms = Vec::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        let word =
            |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
        match rest.strip_prefix('{') {
            None => rooms.push(word(rest)),
            Some(group) => {
                let mut depth = 0;
                let mut begins = true;
                for (at, c) in group.char_indices() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => begins = true,
                        c if depth == 0 && begins && c.is_alphabetic() => {
                            rooms.push(word(&group[at..]));
                            begins = false;
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    rooms
}

/// Who may call whom: the arrows of docs/architecture.md. What is not here is not allowed.
const MAY_CALL: &[(&str, &[&str])] = &[
    ("main", &["cli"]),
    ("lib", &[]),
    // `recover` looks at what was kept after a mount has ended, without one.
    ("cli", &["doctor", "fork", "fs", "ftp", "fuse", "json", "mount", "percent", "read", "status", "write"]),
    ("status", &["fs", "ftp", "json", "mount", "queue"]),
    ("doctor", &["ftp", "json"]),
    ("fuse", &["fs", "ftp", "tree"]),
    ("fs", &["connection", "ftp", "lock", "queue", "read", "tree", "write"]),
    ("write", &["ftp", "percent", "queue", "read", "tree"]),
    ("read", &["ftp", "lock", "queue", "tree"]),
    ("connection", &["ftp", "queue"]),
    ("queue", &["ftp"]),
    ("tree", &["ftp"]),
    ("mount", &["fork"]),
    ("ftp", &["lock"]),
    ("fork", &[]),
    ("json", &[]),
    ("lock", &[]),
    ("percent", &[]),
];

/// Lines of a file, its tests among them.
const LONGEST_FILE: usize = 500;
