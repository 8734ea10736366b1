//! What the server shows in TLS: its versions, and whose certificate, from whom, for how long.
//!
//! Looked at with connections of their own that trust anybody and say nothing but QUIT: a certificate that a mount would
//! refuse must be shown all the more, and no user name or password may go to whoever it is.

use std::net::IpAddr;

use openssl::asn1::Asn1Time;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::x509::{X509, X509NameRef, X509Ref};

use super::Report;
use super::dialogue::Dialogue;
use super::sessions::when_there_is_room;
use crate::ftp::Config;
use crate::ftp::config::TlsVersion;

/// Tells all of it; whether the certificate is trusted is found out by the login.
pub fn check(config: &Config, report: &mut Report<'_>) {
    let mut versions = Vec::new();
    let mut shown = None;
    for (version, name) in [(TlsVersion::V13, "1.3"), (TlsVersion::V12, "1.2")] {
        let mut config = config.clone();
        config.tls.verify = false;
        config.tls.pin = None;
        config.tls.version = Some(version);
        if let Some(certificate) = show(&config) {
            versions.push(name);
            shown = shown.or(Some(certificate));
        }
    }
    if versions.is_empty() {
        // Why not, the login will say.
        return;
    }
    report.works("tls", format!("the server has TLS {}", versions.join(" and ")));
    if let Some(certificate) = shown {
        describe(&certificate, config, report);
    }
}

fn show(config: &Config) -> Option<X509> {
    let (dialogue, secured) = when_there_is_room(|| Dialogue::connect_in_tls(config)).ok()?;
    if secured.ok()?.is_some() {
        return None;
    }
    let certificate = dialogue.control.tls()?.certificate();
    dialogue.quit();
    certificate
}

fn describe(certificate: &X509Ref, config: &Config, report: &mut Report<'_>) {
    let names = names(certificate);
    let wanted = config.tls.name.as_deref().unwrap_or_else(|| config.host.trim_matches(['[', ']']));
    let subject = common_name(certificate.subject_name());
    let is_self_signed =
        certificate.issuer_name().try_cmp(certificate.subject_name()).is_ok_and(|o| o.is_eq());
    let issuer = if is_self_signed {
        "self-signed".to_owned()
    } else {
        format!("issued by {}", common_name(certificate.issuer_name()))
    };
    let list: Vec<&str> = names.iter().map(String::as_str).take(MOST_NAMES).collect();
    let text = format!("{subject}, {issuer}; names: {}", list.join(", "));
    match names.iter().any(|name| is_for(name, wanted)) {
        // A pin is about the certificate alone.
        _ if config.tls.pin.is_some() => report.works("cert", text),
        true => report.works("cert", text),
        false => report.note("cert", format!("{text}: {wanted} is not among them")),
    }
    validity(certificate, config.tls.pin.is_some(), report);
    if let Ok(digest) = certificate.digest(MessageDigest::sha256()) {
        let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        report.note("cert", format!("its SHA-256, for pin=, is {digits}"));
    }
}

fn validity(certificate: &X509Ref, is_pinned: bool, report: &mut Report<'_>) {
    let (from, to) = (certificate.not_before(), certificate.not_after());
    let text = format!("valid from {from} to {to}");
    let Ok(now) = Asn1Time::days_from_now(0) else { return report.note("cert", text) };
    let days = now.diff(to).map_or(0, |left| left.days);
    match (now < *from, now > *to) {
        (true, _) if !is_pinned => {
            report.fails("cert", format!("{text}: not yet (is this machine's clock right?)"))
        }
        (_, true) if !is_pinned => report.fails("cert", format!("{text}: it has expired {} days ago", -days)),
        (true, _) | (_, true) => report.note("cert", format!("{text}: not now, which a pin does not mind")),
        _ if days < SOON => report.note("cert", format!("{text}: {days} days are left")),
        _ => report.works("cert", format!("{text} ({days} days are left)")),
    }
}

/// The names that count; the old place, where there are none.
fn names(certificate: &X509Ref) -> Vec<String> {
    let alternative = certificate.subject_alt_names().into_iter().flatten();
    let names: Vec<String> = alternative
        .filter_map(|name| match (name.dnsname(), name.ipaddress()) {
            (Some(name), _) => Some(name.to_owned()),
            (None, Some(bytes)) => match (<[u8; 4]>::try_from(bytes), <[u8; 16]>::try_from(bytes)) {
                (Ok(four), _) => Some(IpAddr::from(four).to_string()),
                (_, Ok(sixteen)) => Some(IpAddr::from(sixteen).to_string()),
                _ => None,
            },
            (None, None) => None,
        })
        .collect();
    if names.is_empty() { vec![common_name(certificate.subject_name())] } else { names }
}

fn common_name(name: &X509NameRef) -> String {
    let entry = |nid| name.entries_by_nid(nid).next()?.data().to_string().ok();
    entry(Nid::COMMONNAME).or_else(|| entry(Nid::ORGANIZATIONNAME)).unwrap_or_else(|| "nobody".to_owned())
}

/// RFC 6125 section 6.4.3: a star stands for one whole label at the beginning.
fn is_for(name: &str, wanted: &str) -> bool {
    match name.strip_prefix("*.") {
        Some(rest) => wanted.split_once('.').is_some_and(|(_, below)| below.eq_ignore_ascii_case(rest)),
        None => name.eq_ignore_ascii_case(wanted),
    }
}

/// Hosters put hundreds into one.
const MOST_NAMES: usize = 8;

/// Days. Automatic renewal happens a month before the end: then it does not work.
const SOON: i32 = 21;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_one_label() {
        assert!(is_for("*.example.org", "ftp.example.org") && is_for("FTP.example.org", "ftp.Example.org"));
        assert!(!is_for("*.example.org", "example.org") && !is_for("*.example.org", "a.b.example.org"));
    }
}
