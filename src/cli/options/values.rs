//! From the text of an option's value to the value; the error says what would have been understood.

use std::ffi::OsStr;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use nix::unistd::{Group, User};

use crate::ftp::codepage::Codepage;

/// Text that can stand in an FTP command.
pub(super) fn text(value: &OsStr) -> Result<String, String> {
    let text = value.to_str().ok_or("the value is not UTF-8")?;
    if text.is_empty() {
        return Err("the value is empty".into());
    }
    if text.bytes().any(|b| matches!(b, b'\r' | b'\n' | 0)) {
        return Err("the value holds a line end".into());
    }
    Ok(text.to_owned())
}

/// A file or folder, made absolute now, because the daemon later works in `/`.
pub(super) fn path(value: &OsStr) -> Result<PathBuf, String> {
    if let Some(rest) = value.to_str().and_then(|text| text.strip_prefix("~/")) {
        return Ok(crate::cli::home().ok_or("this user has no home folder")?.join(rest));
    }
    std::path::absolute(value).map_err(|error| error.to_string())
}

/// Whole and broken seconds; at least `least`, at most a year.
pub(super) fn seconds(value: &OsStr, least: f64) -> Result<Duration, String> {
    let seconds: f64 = text(value)?.parse().map_err(|_| "a number of seconds is needed")?;
    if !(least..=YEAR).contains(&seconds) {
        return Err(format!("a number of seconds from {least} to {YEAR} is needed"));
    }
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

/// An encoding of names.
pub(super) fn codepage(value: &OsStr) -> Result<Option<Codepage>, String> {
    let name = text(value)?;
    if matches!(name.to_ascii_lowercase().as_str(), "utf8" | "utf-8") {
        return Ok(None);
    }
    let known = Codepage::named(&name).map(Some);
    known.ok_or_else(|| {
        format!(
            "{name} is not known, or cannot be used over FTP (gbk, shift_jis, cp949, cp1251, iso-8859-1 are)"
        )
    })
}

/// The options in `LIST -a`.
pub(super) fn list_command(value: &OsStr) -> Result<String, String> {
    let text = text(value)?;
    match text.split_at_checked(4) {
        Some((list, options))
            if list.eq_ignore_ascii_case("LIST") && (options.is_empty() || options.starts_with(' ')) =>
        {
            Ok(options.trim().to_owned())
        }
        _ => Err("only LIST with options can be used, such as \"LIST -a\"".into()),
    }
}

/// Octal permissions.
pub(super) fn mode(value: &OsStr) -> Result<u32, String> {
    match u32::from_str_radix(&text(value)?, 8) {
        Ok(mode) if mode <= 0o777 => Ok(mode),
        _ => Err("octal permissions such as 022 or 755 are needed".into()),
    }
}

/// A whole number within bounds.
pub(super) fn number(value: &OsStr, least: u64, most: u64) -> Result<u64, String> {
    match text(value)?.parse() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(format!("a number from {least} to {most} is needed")),
    }
}

/// Bytes, with K, M, G or T for powers of 1024.
pub(super) fn size(value: &OsStr) -> Result<u64, String> {
    let text = text(value)?;
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text.get(digits.len()..).unwrap_or_default().to_ascii_uppercase().trim_end_matches("IB")
    {
        "" | "B" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return Err("a size such as 500K, 64M or 2G is needed".into()),
    };
    let bytes = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift));
    bytes.ok_or_else(|| "a size such as 500K, 64M or 2G is needed".into())
}

/// A number or a name.
pub(super) fn user(value: &OsStr) -> Result<u32, String> {
    let text = text(value)?;
    if let Ok(id) = text.parse() {
        return Ok(id);
    }
    match User::from_name(&text) {
        Ok(Some(user)) => Ok(user.uid.as_raw()),
        _ => Err(format!("there is no user {text}")),
    }
}

/// A number or a name.
pub(super) fn group(value: &OsStr) -> Result<u32, String> {
    let text = text(value)?;
    if let Ok(id) = text.parse() {
        return Ok(id);
    }
    match Group::from_name(&text) {
        Ok(Some(group)) => Ok(group.gid.as_raw()),
        _ => Err(format!("there is no group {text}")),
    }
}

/// yes or no; the name alone means yes.
pub(super) fn switch(value: &OsStr) -> Result<bool, String> {
    match value.to_str() {
        Some("" | "yes" | "on" | "1" | "true") => Ok(true),
        Some("no" | "off" | "0" | "false") => Ok(false),
        _ => Err("yes or no is needed".into()),
    }
}

/// `49152-65535`.
pub(super) fn ports(value: &OsStr) -> Result<RangeInclusive<u16>, String> {
    let text = text(value)?;
    let (first, last) = text.split_once('-').unwrap_or((&text, &text));
    match (first.parse(), last.parse()) {
        (Ok(first), Ok(last)) if 0 < first && first <= last => Ok(first..=last),
        _ => Err("a range of ports such as 49152-65535 is needed".into()),
    }
}

/// An IP address.
pub(super) fn address(value: &OsStr) -> Result<IpAddr, String> {
    text(value)?.parse().map_err(|_| "an IP address is needed".into())
}

/// SHA-256 as 64 hexadecimal digits, with or without colons.
pub(super) fn digest(value: &OsStr) -> Result<[u8; 32], String> {
    let wrong = "the 64 hexadecimal digits of a SHA-256 are needed";
    let text = text(value)?;
    let digits: Option<Vec<u32>> = text.chars().filter(|&c| c != ':').map(|c| c.to_digit(16)).collect();
    let (pairs, rest) = digits.as_deref().ok_or(wrong)?.as_chunks::<2>();
    let bytes: Result<Vec<u8>, _> = pairs.iter().map(|[high, low]| u8::try_from(high * 16 + low)).collect();
    match bytes.ok().and_then(|bytes| bytes.try_into().ok()) {
        Some(digest) if rest.is_empty() => Ok(digest),
        _ => Err(wrong.into()),
    }
}

/// The one kind of certificate file.
pub(super) fn pem(value: &OsStr) -> Result<(), String> {
    if value.eq_ignore_ascii_case("PEM") { Ok(()) } else { Err("only PEM is understood".into()) }
}

const YEAR: f64 = 31_536_000.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_suffixes() {
        let size = |text: &str| size(OsStr::new(text)).ok();
        assert_eq!(
            (size("10"), size("2k"), size("3MiB"), size("1G")),
            (Some(10), Some(2048), Some(3 << 20), Some(1 << 30))
        );
        assert_eq!((size("x"), size("-1"), size("99999999999T"), size("1Z")), (None, None, None, None));
    }

    #[test]
    fn ports_and_digests_are_checked() {
        assert_eq!(ports(OsStr::new("100-200")), Ok(100..=200));
        assert_eq!(ports(OsStr::new("7")), Ok(7..=7));
        assert!(["0-5", "9-8", "x", "1-70000", "-"].iter().all(|text| ports(OsStr::new(text)).is_err()));
        let hex = "00:".repeat(31) + "fF";
        assert_eq!(digest(OsStr::new(&hex)).map(|digest| (digest[0], digest[31])), Ok((0, 255)));
        assert!(["", "00", "zz", &"0".repeat(65)].iter().all(|text| digest(OsStr::new(text)).is_err()));
    }
}
