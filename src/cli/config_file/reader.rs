//! From TOML's text to sections and keys, each with its line.
//!
//! Reads toml's own tables rather than deriving structures: they know where each key stands, and the names and values are
//! the options' affair, which have a table of their own.

use std::borrow::Cow;
use std::ffi::OsString;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{ConfigFile, Entry, PASSWORDS, Server, Value};
use crate::cli::options;
use crate::cli::url::Source;

/// Also says where the first password stands.
pub(super) fn parse(text: &str, shown: &str) -> Result<(ConfigFile, Option<String>), String> {
    let reader = Reader { text, shown };
    let root = DeTable::parse(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        format!("{}: {}", reader.place(at), error.message().replace('\n', " "))
    })?;
    let mut found = ConfigFile::default();
    for (key, value) in root.get_ref() {
        let place = reader.place(key.span().start);
        let DeValue::Table(table) = value.get_ref() else {
            return Err(format!("{place}: {} stands outside of any section: {SECTIONS}", key.get_ref()));
        };
        match key.get_ref().as_ref() {
            "defaults" => found.defaults = reader.entries(table)?,
            "host" => reader.hosts(table, "", &mut found.hosts)?,
            "server" => found.servers = reader.servers(table)?,
            other => return Err(format!("{place}: there is no section [{other}]: {SECTIONS}")),
        }
    }
    if let Some(entry) = found.defaults.iter().find(|entry| PASSWORDS.contains(&entry.name.as_str())) {
        return Err(format!(
            "{}: {} in [defaults] would be sent to every server: put it into [host.NAME] or [server.NAME]",
            entry.place, entry.name
        ));
    }
    let entries = found.hosts.iter().flat_map(|(_, entries)| entries);
    let entries = entries.chain(found.servers.iter().flat_map(|server| &server.entries));
    let secret = entries.filter(|entry| SECRETS.contains(&entry.name.as_str())).map(|entry| &entry.place);
    let in_url = found
        .servers
        .iter()
        .filter(|server| crate::cli::url::take_password(&server.source).is_some())
        .map(|server| &server.place);
    let secret_at = secret.chain(in_url).next().cloned();
    Ok((found, secret_at))
}

/// From TOML's tables to ours.
struct Reader<'a> {
    text: &'a str,
    shown: &'a str,
}

impl Reader<'_> {
    fn place(&self, at: usize) -> String {
        let line = self.text.bytes().take(at).filter(|&b| b == b'\n').count() + 1;
        format!("{}:{line}", self.shown)
    }

    /// In the order of their lines: of contradicting options the last counts.
    fn entries(&self, table: &DeTable<'_>) -> Result<Vec<Entry>, String> {
        let mut entries = Vec::new();
        for (key, value) in table {
            entries.push((key.span().start, self.entry(key, value)?));
        }
        entries.sort_by_key(|(at, _)| *at);
        Ok(entries.into_iter().map(|(_, entry)| entry).collect())
    }

    fn entry(&self, key: &Spanned<Cow<'_, str>>, value: &Spanned<DeValue<'_>>) -> Result<Entry, String> {
        let name = key.get_ref().as_ref();
        let place = self.place(key.span().start);
        let is_flag = options::is_flag(name).map_err(|why| format!("{place}: {why}"))?;
        let value = match (value.get_ref(), is_flag) {
            (DeValue::Boolean(true), true) => Value::On,
            (DeValue::Boolean(false), true) => Value::Off,
            (DeValue::Boolean(yes), false) => Value::Text(if *yes { "yes" } else { "no" }.to_owned()),
            (DeValue::String(text), _) => Value::Text(text.as_ref().to_owned()),
            // Octal ones are permissions, whose options take octal digits.
            (DeValue::Integer(number), _) if matches!(number.radix(), 8 | 10) => {
                Value::Text(number.as_str().to_owned())
            }
            (DeValue::Float(number), _) => Value::Text(number.as_str().to_owned()),
            _ => return Err(format!("{place}: {name} must be a text, a number, true or false")),
        };
        Ok(Entry { place, name: name.to_owned(), value })
    }

    /// `[host."ftp.example.org"]`, and what people write without the quotes.
    fn hosts(
        &self,
        table: &DeTable<'_>,
        above: &str,
        hosts: &mut Vec<(String, Vec<Entry>)>,
    ) -> Result<(), String> {
        let mut own = DeTable::new();
        for (key, value) in table {
            let name = key.get_ref();
            match value.get_ref() {
                DeValue::Table(below) => {
                    let host = if above.is_empty() { name.to_string() } else { format!("{above}.{name}") };
                    self.hosts(below, &host.to_ascii_lowercase(), hosts)?;
                }
                _ if above.is_empty() => {
                    let place = self.place(key.span().start);
                    return Err(format!("{place}: which host? Write [host.\"ftp.example.org\"]"));
                }
                _ => drop(own.insert(key.clone(), value.clone())),
            }
        }
        if !own.is_empty() {
            let entries = self.entries(&own)?;
            match hosts.iter_mut().find(|(name, _)| name == above) {
                Some((_, known)) => known.extend(entries),
                None => hosts.push((above.to_owned(), entries)),
            }
        }
        Ok(())
    }

    fn servers(&self, table: &DeTable<'_>) -> Result<Vec<Server>, String> {
        let mut servers = Vec::new();
        for (key, value) in table {
            let (name, place) = (key.get_ref().as_ref(), self.place(key.span().start));
            let DeValue::Table(table) = value.get_ref() else {
                return Err(format!("{place}: which server? Write [server.NAME]"));
            };
            if name.is_empty() || name.contains(['/', ':', '@']) {
                return Err(format!("{place}: a server's name has no / : or @ in it"));
            }
            let mut table = table.clone();
            let Some((at, source)) = table.remove_entry("source") else {
                return Err(format!("{place}: server {name} has no source = \"ftp://…\""));
            };
            let place = self.place(at.span().start);
            let DeValue::String(source) = source.get_ref() else {
                return Err(format!("{place}: source must be a text"));
            };
            let source = OsString::from(source.as_ref());
            Source::parse(&source).map_err(|why| format!("{place}: source: {why}"))?;
            servers.push(Server { name: name.to_owned(), place, source, entries: self.entries(&table)? });
        }
        Ok(servers)
    }
}

const SECTIONS: &str = "[defaults], [host.NAME] or [server.NAME] is needed";

/// Options that hold a secret themselves.
const SECRETS: [&str; 2] = [options::PASSWORD, options::ACCOUNT];
