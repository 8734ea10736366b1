//! Servers that were measured, and what is known about each that FEAT does not tell.
//!
//! Recognition is a shortcut, never a need: an unknown server is asked one command at a time until a probe has shown
//! that it keeps order. What stands here comes from docs/servers.md; each answer names the servers it is about, so that
//! a new one is added by deciding a few questions.

use super::{Capability, Order};
use crate::ftp::reply::Reply;

/// A server program, by its greeting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Server {
    #[default]
    Unknown,
    Vsftpd,
    Proftpd,
    PureFtpd,
    FileZilla,
    Pyftpdlib,
    Libunftp,
    FtpSrv,
    Twisted,
    Aioftp,
    Apache,
    Busybox,
    Inetutils,
    LinuxFtpd,
}

impl Server {
    /// From the words of the greeting.
    pub fn recognise(greeting: &Reply) -> Self {
        let text = greeting.words();
        let text = text.trim();
        let by_word = [
            ("vsftpd", Self::Vsftpd),
            ("proftpd", Self::Proftpd),
            ("pure-ftpd", Self::PureFtpd),
            ("filezilla server", Self::FileZilla),
            ("pyftpdlib", Self::Pyftpdlib),
            ("libunftp", Self::Libunftp),
            ("unftp", Self::Libunftp),
            ("twisted", Self::Twisted),
            ("gnu inetutils", Self::Inetutils),
            ("linux-ftpd", Self::LinuxFtpd),
        ];
        if let Some((_, server)) = by_word.iter().find(|(word, _)| text.contains(word)) {
            return *server;
        }
        // aioftp and Apache greet in words that anybody may have chosen: FEAT tells them (`Features::read_feat`).
        match text {
            "operation successful" => Self::Busybox,
            _ => Self::Unknown,
        }
    }

    /// How far it keeps order (facts: servers, section 9 rule 32; protocol, sections 1 and 7).
    pub fn order(self) -> Order {
        match self {
            Self::Vsftpd
            | Self::Proftpd
            | Self::PureFtpd
            | Self::Pyftpdlib
            | Self::FileZilla
            | Self::Inetutils
            | Self::LinuxFtpd => Order::Strict,
            _ => Order::Serial,
        }
    }

    /// Whether many commands may be under way in several segments. Where a segment ends is up to TCP then, and ProFTPD
    /// misreads a line whose CR and LF arrive apart, ftp-srv any line that arrives in two parts.
    pub fn takes_segments(self) -> bool {
        self == Self::Vsftpd
    }

    /// Whether the in-order probe may decide. Not for those that answer small commands in order and overtake the slow ones.
    pub fn may_be_probed(self) -> bool {
        !matches!(self, Self::Libunftp | Self::Aioftp)
    }

    /// Whether commands sent in STOR's own segment are answered after its 226 (facts: protocol, section 5).
    pub fn answers_behind_store(self) -> bool {
        matches!(self, Self::Vsftpd | Self::Proftpd)
    }

    /// Whether the next data connection may be asked for before a 226, when a download's data has ended or behind STOR:
    /// vsftpd looks at its control connection only once that is sent, and then answers both at once, a round trip earlier. ProFTPD sends
    /// its 226 early ([`Self::waits_for_our_end`]); the others might take it for ABOR, or give up what is under way.
    pub fn takes_port_early(self) -> bool {
        self == Self::Vsftpd
    }

    /// Whether the 226 of an upload waits until we have acknowledged the server's end of the data connection (SO_LINGER): a
    /// round trip that a reset saves.
    pub fn lingers(self) -> bool {
        self == Self::Vsftpd
    }

    /// Whether 0xFF in a name must be sent twice.
    pub fn doubles_iac(self) -> bool {
        matches!(self, Self::Proftpd | Self::Busybox | Self::Inetutils | Self::LinuxFtpd)
    }

    /// Whether a passive port that was asked for and not used may be replaced by asking again: Twisted never answers the
    /// second time, ftp-srv and libunftp leak the port, and about unknown servers nobody can say.
    pub fn may_renew_passive(self) -> bool {
        matches!(
            self,
            Self::Vsftpd
                | Self::Proftpd
                | Self::PureFtpd
                | Self::FileZilla
                | Self::Pyftpdlib
                | Self::Apache
                | Self::Busybox
                | Self::LinuxFtpd
                | Self::Inetutils
        )
    }

    /// Whether a cut RETR leaves the control connection usable: aioftp closes it, libunftp may never send the reply.
    pub fn survives_cut(self) -> bool {
        !matches!(self, Self::Libunftp | Self::Aioftp)
    }

    /// Whether the final reply to RETR, LIST and MLSD comes only once we have closed our side of the data connection, so that
    /// closing our direction of it ahead saves a round trip. Others may take that for the end of the transfer.
    pub fn waits_for_our_end(self) -> bool {
        self == Self::Proftpd
    }

    /// Whether a path with a blank in it is two paths to STAT.
    pub fn cuts_status_at_blanks(self) -> bool {
        matches!(self, Self::PureFtpd | Self::Inetutils | Self::LinuxFtpd)
    }

    /// Whether RNTO replaces an existing file.
    pub fn replaces_on_rename(self) -> bool {
        !matches!(self, Self::Aioftp | Self::Apache)
    }

    /// Whether MLSD shows every name: Apache's leaves hidden ones out.
    pub fn lists_with_mlsd(self) -> bool {
        self != Self::Apache
    }

    /// Whether "not found" means that. libunftp says it of everything that fails.
    pub fn tells_reasons(self) -> bool {
        self != Self::Libunftp
    }

    /// Whether SIZE is refused for folders. Three servers answer with some number.
    pub fn sizes_only_files(self) -> bool {
        matches!(
            self,
            Self::Vsftpd
                | Self::Proftpd
                | Self::PureFtpd
                | Self::FileZilla
                | Self::Pyftpdlib
                | Self::Apache
                | Self::Busybox
                | Self::Inetutils
                | Self::LinuxFtpd
        )
    }

    /// Known to be missing, or so harmful that it counts as missing.
    pub(super) fn missing(self) -> &'static [Capability] {
        use Capability::*;
        match self {
            Self::Vsftpd => &[Mlst, Mfmt, SiteUtime],
            Self::FileZilla => &[SiteChmod, ListAll],
            // It takes bytes without a command for the end of the data connection, closes it, and then waits for another one.
            Self::Pyftpdlib => &[SiteUtime, MdtmSet, EarlyData],
            Self::PureFtpd => &[Utf8],
            Self::Libunftp => &[Mfmt, SiteUtime, MdtmSet, SiteChmod, Eprt],
            // REST before STOR fills the start of the file with zeros.
            Self::FtpSrv => &[Mlst, Mfmt, SiteUtime, MdtmSet, RestStor],
            // Without REST a restarted STOR replaces the file.
            Self::Twisted => &[Mlst, Mfmt, SiteUtime, MdtmSet, SiteChmod, RestRetr, RestStor, Append, Utf8],
            Self::Aioftp => &[Size, Mdtm, Mfmt, SiteUtime, MdtmSet, SiteChmod, ListAll, Utf8],
            Self::Apache => &[SiteUtime, MdtmSet, SiteChmod],
            Self::Busybox => &[Mlst, Mfmt, SiteUtime, MdtmSet, SiteChmod, Utf8, Eprt],
            Self::Inetutils | Self::LinuxFtpd => &[Mlst, Mfmt, SiteUtime, MdtmSet, Utf8],
            Self::Proftpd | Self::Unknown => &[],
        }
    }

    /// Known to be there although FEAT does not say so.
    pub(super) fn present(self) -> &'static [Capability] {
        match self {
            Self::Vsftpd => &[Capability::MdtmSet, Capability::ListByStat],
            Self::Aioftp => &[Capability::Mlst],
            _ => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greetings_of_real_servers_are_recognised() {
        for (lines, server) in [
            (&["(vsFTPd 3.0.3)"][..], Server::Vsftpd),
            (&["ProFTPD Server (Debian) [127.0.0.1]"], Server::Proftpd),
            (
                &["--------- Welcome to Pure-FTPd [privsep] [TLS] ----------", "You are user"],
                Server::PureFtpd,
            ),
            (&["FileZilla Server 1.9.4", "Please visit"], Server::FileZilla),
            (&["pyftpdlib 2.2.0 ready."], Server::Pyftpdlib),
            (&["Welcome to the libunftp FTP server"], Server::Libunftp),
            (&["Twisted 26.10.0 FTP Server"], Server::Twisted),
            (&["Welcome"], Server::Unknown),
            (&["Service ready for new user."], Server::Unknown),
            (&["localhost FTP server (GNU inetutils 2.4) ready."], Server::Inetutils),
            (&["vm FTP server (Version 6.4/OpenBSD/Linux-ftpd-0.17) ready."], Server::LinuxFtpd),
            (&["Ready"], Server::Unknown),
        ] {
            let greeting = Reply { code: 220, lines: lines.iter().map(|l| l.as_bytes().to_vec()).collect() };
            assert_eq!(Server::recognise(&greeting), server, "{lines:?}");
        }
    }
}
