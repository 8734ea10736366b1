//! The options as text: `--help` has the common ones on one screen, `-o help` and the manual page all of them. Made from the
//! table, so that they cannot tell something else than what is done.

use std::borrow::Cow;

use super::table::TABLE;
use super::{Act, Group, Spec, Value};

/// The part of `--help` about options: the ones most people need, by group.
pub fn help() -> String {
    let mut text = String::from("Common options:\n");
    for group in GROUPS {
        let names: Vec<String> =
            TABLE.iter().filter(|spec| spec.group == group && spec.common).map(Spec::usage).collect();
        if names.is_empty() {
            continue;
        }
        let mut line = format!("  {:<11}", group.title());
        for (index, name) in names.iter().enumerate() {
            if line.chars().count() + name.len() + 1 > WIDTH {
                text.push_str(line.trim_end());
                text.push('\n');
                line = " ".repeat(13);
            }
            line.push_str(name);
            line.push_str(if index + 1 < names.len() { ", " } else { "" });
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// What `-o help` prints: every name, with what it does.
pub fn full_help() -> String {
    let mut text = String::new();
    for (group, options) in explained() {
        text.push_str(&format!("{group}:\n"));
        for (usage, meaning) in options {
            text.push_str(&format!("  {usage:<26} {meaning}\n"));
        }
    }
    text.push_str("x-*, X-*, comment=: accepted, for mount(8) and systemd\n");
    text
}

/// Every option by group: how it is written, and what it does.
pub fn explained() -> impl Iterator<Item = (&'static str, Vec<(String, Cow<'static, str>)>)> {
    GROUPS.into_iter().map(|group| {
        let explain = |spec: &'static Spec| {
            let meaning: Cow<'static, str> = match spec.act {
                Act::Set(_) => spec.help.into(),
                Act::Quiet(reason) => format!("accepted, no effect: {reason}").into(),
                Act::Refuse(reason) => format!("refused: {reason}").into(),
            };
            (spec.usage(), meaning)
        };
        (group.title(), TABLE.iter().filter(|spec| spec.group == group).map(explain).collect())
    })
}

impl Spec {
    fn usage(&self) -> String {
        match self.value {
            Value::None => self.name.to_owned(),
            Value::Needed(value) => format!("{}={value}", self.name),
            Value::Maybe(value) => format!("{}[={value}]", self.name),
        }
    }
}

const GROUPS: [Group; 8] = [
    Group::Login,
    Group::Ownership,
    Group::Cache,
    Group::Connection,
    Group::Protocol,
    Group::Tls,
    Group::Files,
    Group::Mount,
];

/// Columns of the help: an ordinary terminal's.
const WIDTH: usize = 79;
