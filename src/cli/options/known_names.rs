//! The option names that users of mount(8), sshfs, curlftpfs, davfs2 and NFS look for, each with what becomes of it. The list
//! is kept by hand, apart from the table, so that no name can get lost with its line.

use std::ffi::OsStr;

use super::table::TABLE;
use super::{Act, Settings};

#[test]
fn every_name_that_users_know_is_set_or_accepted_or_refused_with_a_reason() {
    for (fate, list) in NAMES {
        for name in list.split_whitespace() {
            let (bare, value) = name.split_once('=').unzip();
            let mut settings = Settings::new();
            let outcome = settings.set(bare.unwrap_or(name), value.map(OsStr::new));
            let quiet = settings.quiet.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>();
            match fate {
                Fate::Set => assert!(outcome.is_ok() && quiet.is_empty(), "{name}: {outcome:?} {quiet:?}"),
                // What has no effect is told at debug level (`cli::run`).
                Fate::Quiet => {
                    assert!(outcome.is_ok() && quiet == [bare.unwrap_or(name)], "{name}: {outcome:?}")
                }
                Fate::Refused => {
                    let why = outcome.expect_err(name);
                    assert!(why.len() > name.len() + 20 && !why.contains("unknown"), "{name}: {why}");
                }
            }
        }
    }
}

#[test]
fn every_reason_says_something() {
    for spec in TABLE {
        if let Act::Quiet(reason) | Act::Refuse(reason) = spec.act {
            assert!(reason.len() >= 10, "{}: {reason}", spec.name);
        }
    }
}

#[derive(Clone, Copy)]
enum Fate {
    Set,
    Quiet,
    Refused,
}

const NAMES: &[(Fate, &str)] = &[
    // mount(8).
    (Fate::Set, "rw ro exec noexec"),
    (
        Fate::Quiet,
        "dev nodev suid nosuid auto noauto user users nouser owner group _netdev nofail defaults sync async",
    ),
    (
        Fate::Quiet,
        "atime noatime relatime lazytime x-systemd.automount x-gvfs-show x-gvfs-name=NAS X-mount.mkdir comment=mine",
    ),
    (Fate::Refused, "remount"),
    // Login.
    (Fate::Set, "user=joe username=joe password=x credentials=/x password_stdin netrc netrc=/x port=21"),
    // Caches.
    (
        Fate::Set,
        "cache=yes cache=no cache_timeout=1 cache_stat_timeout=1 cache_dir_timeout=1 dcache_timeout=1",
    ),
    (
        Fate::Set,
        "dcache_stat_timeout=1 dcache_dir_timeout=1 attr_timeout=1 entry_timeout=1 negative_timeout=1 actimeo=1",
    ),
    (
        Fate::Quiet,
        "cache_link_timeout=1 dcache_link_timeout=1 dcache_max_size=1 dcache_clean_interval=1 kernel_cache",
    ),
    (
        Fate::Quiet,
        "dcache_min_clean_interval=1 auto_cache direct_io max_read=4096 max_write=4096 max_readahead=4096",
    ),
    // Ownership.
    (
        Fate::Set,
        "uid=0 gid=0 umask=022 file_mode=644 dir_mode=755 fmask=133 dmask=022 idmap=user allow_other allow_root",
    ),
    (Fate::Set, "fsname=x"),
    (Fate::Quiet, "default_permissions auto_unmount subtype=ftpfs nonempty"),
    // Connections.
    (
        Fate::Set,
        "connect_timeout=1 timeout=1 read_timeout=1 delay_connect max_conns=3 ipv4 ipv6 proxy=h socks5=h soft hard",
    ),
    (Fate::Quiet, "ServerAliveInterval=15 reconnect noreconnect tcp_nodelay httpproxy"),
    (Fate::Refused, "interface=eth0 proxy_user=x socks4=h"),
    // FTP.
    (
        Fate::Set,
        "ftp_port=- custom_list=LIST codepage=cp1251 iocharset=utf8 disable_mlsd tz=+02:00 active passive",
    ),
    (Fate::Set, "active_ports=40000-40010 active_address=192.0.2.1 use_pasv_ip"),
    (Fate::Quiet, "disable_epsv enable_epsv disable_eprt skip_pasv_ip ftp_method=multicwd utf8 list_hidden"),
    // TLS.
    (Fate::Set, "ssl ssl_try ssl_control no_verify_peer cacert=/x cert=/x key=/x"),
    (Fate::Set, "pin=0000000000000000000000000000000000000000000000000000000000000000"),
    (Fate::Set, "trust_server_cert=0000000000000000000000000000000000000000000000000000000000000000"),
    (Fate::Quiet, "tlsv1"),
    (Fate::Refused, "no_verify_hostname capath=/x pass=x ciphers=LOW sslv2 sslv3 krb4=private engine=x"),
    // Links and writes.
    (Fate::Quiet, "transform_symlinks contain_symlinks workaround=rename sshfs_sync"),
    (Fate::Refused, "follow_symlinks delay_upload=1"),
];
