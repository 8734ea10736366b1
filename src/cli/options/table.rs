//! The table of options. To add one: a line here; everything else follows.

use std::time::Duration;

use super::values::{
    address, codepage, digest, group, list_command, mode, number, path, pem, ports, seconds, size, switch,
    text, user,
};
use super::{Act, Group, Spec, Value};
use crate::ftp::config::{DataMode, Family, PasvAddress, Secret, TlsMode, TlsVersion};
use crate::mount::Access;

use Act::{Quiet, Refuse, Set};
use Group::{Cache, Connection, Files, Login, Mount, Ownership, Protocol, Tls};
use Value::{Maybe, Needed, None as Nothing};

#[rustfmt::skip]
pub(super) const TABLE: &[Spec] = &[
    // Login.
    common(Login, "credentials", Needed("FILE"), Set(|s, v| { s.login.credentials = Some(path(v)?); Ok(()) }), "file with lines username=, password=, account=; only its owner may be able to read it"),
    common(Login, "user", Needed("NAME"), Set(|s, v| { s.login.user = Some(text(v)?); Ok(()) }), "log in as NAME (the URL's user counts more)"),
    spec(Login, "username", Needed("NAME"), Set(|s, v| { s.login.user = Some(text(v)?); Ok(()) }), "the same as user=NAME"),
    spec(Login, "password", Needed("TEXT"), Set(|s, v| { s.login.password = Some(Secret::new(v.as_encoded_bytes())); Ok(()) }), "wiped from the process list, but better not on a command line at all"),
    spec(Login, "account", Needed("TEXT"), Set(|s, v| { s.login.account = Some(Secret::new(v.as_encoded_bytes())); Ok(()) }), "for servers that ask for ACCT"),
    common(Login, "password_stdin", Nothing, Set(|s, _| { s.login.password_stdin = true; Ok(()) }), "the password is the first line of standard input"),
    common(Login, "netrc", Maybe("FILE"), Set(|s, v| { if !v.is_empty() { s.login.netrc = Some(path(v)?); } Ok(()) }), "another file than ~/.netrc"),
    spec(Login, "no_prompt", Nothing, Set(|s, _| { s.login.never_ask = true; Ok(()) }), "fail when there is no password, rather than ask on the terminal or by systemd-ask-password"),
    common(Login, "config", Needed("FILE"), Set(|s, v| { s.config = Some(path(v)?); Ok(()) }), "instead of /etc/ftpfs.toml and ~/.config/ftpfs/config.toml"),
    common(Login, "port", Needed("N"), Set(|s, v| { s.port = u16::try_from(number(v, 1, 65535)?).ok(); Ok(()) }), "port of the server (the URL's port counts more)"),

    // Ownership.
    common(Ownership, "uid", Needed("USER"), Set(|s, v| { s.filesystem.uid = user(v)?; Ok(()) }), "owner of all files (number or name)"),
    common(Ownership, "gid", Needed("GROUP"), Set(|s, v| { s.filesystem.gid = group(v)?; Ok(()) }), "group of all files"),
    common(Ownership, "umask", Needed("OCTAL"), Set(|s, v| { s.filesystem.umask = Some(mode(v)?); Ok(()) }), "permissions to take away (none; 022 where the server tells none)"),
    common(Ownership, "file_mode", Needed("OCTAL"), Set(|s, v| { s.filesystem.file_mode = Some(mode(v)?); Ok(()) }), "permissions of all files"),
    common(Ownership, "dir_mode", Needed("OCTAL"), Set(|s, v| { s.filesystem.dir_mode = Some(mode(v)?); Ok(()) }), "permissions of all folders"),
    spec(Ownership, "fmask", Needed("OCTAL"), Set(|s, v| { s.filesystem.file_mode = Some(0o777 & !mode(v)?); Ok(()) }), "the opposite of file_mode"),
    spec(Ownership, "dmask", Needed("OCTAL"), Set(|s, v| { s.filesystem.dir_mode = Some(0o777 & !mode(v)?); Ok(()) }), "the opposite of dir_mode"),
    common(Ownership, "allow_other", Nothing, Set(|s, _| { s.access = Access::Everybody; Ok(()) }), "other users may enter (off: FUSE's convention)"),
    common(Ownership, "allow_root", Nothing, Set(|s, _| { s.access = Access::OwnerAndRoot; Ok(()) }), "root may enter"),
    spec(Ownership, "default_permissions", Nothing, Quiet("is always on"), ""),
    spec(Ownership, "idmap", Needed("user"), Set(|_, v| match v.to_str() { Some("user" | "none") => Ok(()), _ => Err("only idmap=user, which is the default: set uid= and gid=".into()) }), "sshfs's; the default here"),

    // Cache.
    common(Cache, "cache_size", Needed("SIZE"), Set(|s, v| { s.filesystem.cache_size = size(v)?; Ok(()) }), "memory for file contents (64M)"),
    common(Cache, "cache_dir", Needed("DIR"), Set(|s, v| { s.cache_dir = Some(path(v)?); Ok(()) }), "keep file contents in DIR over the mount, too"),
    common(Cache, "cache_disk_size", Needed("SIZE"), Set(|s, v| { s.cache_disk_size = size(v)?; Ok(()) }), "at most so much in cache_dir (1G)"),
    common(Cache, "no_prefetch", Nothing, Set(|s, _| { s.filesystem.prefetch = false; Ok(()) }), "fetch nothing that was not asked for (a metered line)"),
    common(Cache, "attr_timeout", Needed("SECS"), Set(|s, v| { s.filesystem.attr_timeout = seconds(v, 0.0)?; Ok(()) }), "how long size and time of a file are believed (5)"),
    common(Cache, "dir_timeout", Needed("SECS"), Set(|s, v| { s.filesystem.dir_timeout = seconds(v, 0.0)?; Ok(()) }), "how long a listing is believed (30)"),
    common(Cache, "negative_timeout", Needed("SECS"), Set(|s, v| { s.filesystem.negative_timeout = seconds(v, 0.0)?; Ok(()) }), "how long a missing name is believed missing (5)"),
    spec(Cache, "cache", Needed("yes|no"), Set(|s, v| { if !switch(v)? { set_lifetimes(s, Duration::ZERO); } Ok(()) }), "no: ask the server every time"),
    spec(Cache, "cache_timeout", Needed("SECS"), Set(|s, v| { set_lifetimes(s, seconds(v, 0.0)?); Ok(()) }), "all three lifetimes"),
    spec(Cache, "dcache_timeout", Needed("SECS"), Set(|s, v| { set_lifetimes(s, seconds(v, 0.0)?); Ok(()) }), "sshfs's name of cache_timeout"),
    spec(Cache, "actimeo", Needed("SECS"), Set(|s, v| { set_lifetimes(s, seconds(v, 0.0)?); Ok(()) }), "NFS's name of cache_timeout"),
    spec(Cache, "cache_stat_timeout", Needed("SECS"), Set(|s, v| { s.filesystem.attr_timeout = seconds(v, 0.0)?; Ok(()) }), "curlftpfs's name of attr_timeout"),
    spec(Cache, "dcache_stat_timeout", Needed("SECS"), Set(|s, v| { s.filesystem.attr_timeout = seconds(v, 0.0)?; Ok(()) }), "sshfs's name of attr_timeout"),
    spec(Cache, "cache_dir_timeout", Needed("SECS"), Set(|s, v| { s.filesystem.dir_timeout = seconds(v, 0.0)?; Ok(()) }), "curlftpfs's name of dir_timeout"),
    spec(Cache, "dcache_dir_timeout", Needed("SECS"), Set(|s, v| { s.filesystem.dir_timeout = seconds(v, 0.0)?; Ok(()) }), "sshfs's name of dir_timeout"),
    spec(Cache, "entry_timeout", Needed("SECS"), Set(|s, v| { s.filesystem.dir_timeout = seconds(v, 0.0)?; Ok(()) }), "FUSE's name of dir_timeout"),
    spec(Cache, "cache_link_timeout", Needed("SECS"), Quiet(LISTED), ""),
    spec(Cache, "dcache_link_timeout", Needed("SECS"), Quiet(LISTED), ""),
    spec(Cache, "dcache_max_size", Needed("N"), Quiet(SELF_MANAGED), ""),
    spec(Cache, "dcache_clean_interval", Needed("SECS"), Quiet(SELF_MANAGED), ""),
    spec(Cache, "dcache_min_clean_interval", Needed("SECS"), Quiet(SELF_MANAGED), ""),
    spec(Cache, "ac_attr_timeout", Needed("SECS"), Quiet(VERSIONS), ""),
    spec(Cache, "kernel_cache", Nothing, Quiet(VERSIONS), ""),
    spec(Cache, "auto_cache", Nothing, Quiet(VERSIONS), ""),
    spec(Cache, "noauto_cache", Nothing, Quiet(VERSIONS), ""),
    spec(Cache, "direct_io", Nothing, Quiet(VERSIONS), ""),
    spec(Cache, "remember", Needed("SECS"), Quiet(SELF_MANAGED), ""),
    spec(Cache, "noforget", Nothing, Quiet(SELF_MANAGED), ""),
    spec(Cache, "max_read", Needed("N"), Quiet(KERNEL), ""),
    spec(Cache, "max_write", Needed("N"), Quiet(KERNEL), ""),
    spec(Cache, "max_readahead", Needed("N"), Quiet(KERNEL), ""),
    spec(Cache, "max_background", Needed("N"), Quiet(KERNEL), ""),
    spec(Cache, "congestion_threshold", Needed("N"), Quiet(KERNEL), ""),
    spec(Cache, "sync_read", Nothing, Quiet(KERNEL), ""),
    spec(Cache, "async_read", Nothing, Quiet(KERNEL), ""),
    spec(Cache, "big_writes", Nothing, Quiet(KERNEL), ""),
    spec(Cache, "large_read", Nothing, Quiet(KERNEL), ""),
    spec(Cache, "blksize", Needed("N"), Quiet(KERNEL), ""),

    // Connection.
    common(Connection, "timeout", Needed("SECS"), Set(|s, v| { s.filesystem.timeout = seconds(v, 1.0)?; Ok(()) }), "longest wait for the server (30)"),
    common(Connection, "connect_timeout", Needed("SECS"), Set(|s, v| { s.connect_timeout = seconds(v, 1.0)?; Ok(()) }), "longest wait for a connection (15)"),
    common(Connection, "max_conns", Needed("N"), Set(|s, v| { s.filesystem.max_conns = usize::try_from(number(v, 1, 64)?).unwrap_or(1); Ok(()) }), "most sessions at a time (8; the server's limit is learned)"),
    spec(Connection, "umount_timeout", Needed("SECS"), Set(|s, v| { s.shutdown_timeout = seconds(v, 0.0)?; Ok(()) }), "the same as shutdown_timeout"),
    common(Connection, "shutdown_timeout", Needed("SECS"), Set(|s, v| { s.shutdown_timeout = seconds(v, 0.0)?; Ok(()) }), "how long the end may wait for uploads (75)"),
    spec(Connection, "read_timeout", Needed("SECS"), Set(|s, v| { s.filesystem.timeout = seconds(v, 1.0)?; Ok(()) }), "davfs2's name of timeout"),
    spec(Connection, "ServerAliveInterval", Needed("SECS"), Quiet(ALWAYS_RECONNECTS), ""),
    spec(Connection, "ServerAliveCountMax", Needed("N"), Quiet(ALWAYS_RECONNECTS), ""),
    spec(Connection, "reconnect", Nothing, Quiet(ALWAYS_RECONNECTS), ""),
    spec(Connection, "noreconnect", Nothing, Quiet(ALWAYS_RECONNECTS), ""),
    spec(Connection, "tcp_nodelay", Nothing, Quiet("is always on"), ""),
    spec(Connection, "soft", Nothing, Set(|s, _| { s.filesystem.hard = false; Ok(()) }), "waits end with an error after timeout= (the default)"),
    spec(Connection, "hard", Nothing, Set(|s, _| { s.filesystem.hard = true; Ok(()) }), "programs wait until the server is back, however long; only a signal ends that"),
    common(Connection, "delay_connect", Nothing, Set(|s, _| { s.delay_connect = true; Ok(()) }), "mount at once and log in at first use: the server may be down (a wrong password is told then, too)"),
    common(Connection, "ipv4", Nothing, Set(|s, _| { s.data.family = Family::V4; Ok(()) }), "use IPv4 only"),
    common(Connection, "ipv6", Nothing, Set(|s, _| { s.data.family = Family::V6; Ok(()) }), "use IPv6 only"),
    spec(Connection, "interface", Needed("NAME"), Refuse(NOT_YET), ""),
    common(Connection, "proxy", Needed("URL"), Set(|s, v| { s.proxy = Some(text(v)?.parse()?); Ok(()) }), "go through socks5://HOST:PORT or http://HOST:PORT (CONNECT); passive only"),
    spec(Connection, "httpproxy", Nothing, Quiet("is the default of proxy="), ""),
    spec(Connection, "proxytunnel", Nothing, Quiet(TUNNEL), ""),
    spec(Connection, "proxy_anyauth", Nothing, Quiet(TUNNEL), ""),
    spec(Connection, "proxy_basic", Nothing, Quiet(TUNNEL), ""),
    spec(Connection, "socks5", Needed("HOST"), Set(|s, v| { s.proxy = Some(format!("socks5://{}", text(v)?).parse()?); Ok(()) }), "the same as proxy=socks5://HOST"),
    spec(Connection, "proxy_user", Needed("NAME"), Refuse("write proxy_username= and proxy_password= into the credentials file"), ""),
    spec(Connection, "proxy_digest", Nothing, Refuse(ONLY_BASIC), ""),
    spec(Connection, "proxy_ntlm", Nothing, Refuse(ONLY_BASIC), ""),
    spec(Connection, "socks4", Needed("HOST"), Refuse("SOCKS4 cannot ask for a password: proxy=socks5://HOST"), ""),

    // FTP.
    common(Protocol, "active", Nothing, Set(|s, _| { s.data.mode = DataMode::Active; Ok(()) }), "the server connects to us"),
    common(Protocol, "passive", Nothing, Set(|s, _| { s.data.mode = DataMode::Passive; Ok(()) }), "never active, not even as the last resort"),
    common(Protocol, "active_ports", Needed("A-B"), Set(|s, v| { s.data.active_ports = Some(ports(v)?); Ok(()) }), "ports to listen on when active"),
    common(Protocol, "active_address", Needed("ADDR"), Set(|s, v| { s.data.active_address = Some(address(v)?); Ok(()) }), "the address to tell the server when active, behind NAT"),
    spec(Protocol, "ftp_port", Needed("-"), Set(|s, v| { if v != "-" { s.data.active_address = Some(address(v)?); } s.data.mode = DataMode::Active; Ok(()) }), "curlftpfs's name of active (with an address: of active_address too)"),
    spec(Protocol, "pasv_address", Needed("reply"), Set(|s, v| { s.data.pasv_address = match v.to_str() { Some("reply") => PasvAddress::Reply, Some("control") => PasvAddress::Control, _ => return Err("reply, or control (the default)".into()) }; Ok(()) }), "data connections go to the address in the server's reply to PASV"),
    spec(Protocol, "use_pasv_ip", Nothing, Set(|s, _| { s.data.pasv_address = PasvAddress::Reply; Ok(()) }), "lftp's name of pasv_address=reply"),
    spec(Protocol, "disable_epsv", Nothing, Quiet(LEARNED), ""),
    spec(Protocol, "enable_epsv", Nothing, Quiet(LEARNED), ""),
    spec(Protocol, "disable_eprt", Nothing, Quiet(LEARNED), ""),
    spec(Protocol, "skip_pasv_ip", Nothing, Quiet("is the default: data connections go where the control connection goes"), ""),
    spec(Protocol, "custom_list", Needed("CMD"), Set(|s, v| { s.list.options = Some(list_command(v)?); s.list.no_mlsd = true; Ok(()) }), "the LIST command to use (`LIST -a`), and no MLSD"),
    spec(Protocol, "ftp_method", Needed("METHOD"), Quiet("full paths are used, and CWD where a server needs it"), ""),
    spec(Protocol, "utf8", Nothing, Quiet("UTF-8 is agreed on with servers that offer it"), ""),
    spec(Protocol, "iocharset", Needed("utf8"), Set(|_, v| match codepage(v)? { None => Ok(()), Some(_) => Err("names here are always UTF-8".into()) }), "curlftpfs's: names here, always UTF-8"),
    common(Protocol, "codepage", Needed("NAME"), Set(|s, v| { s.codepage = codepage(v)?; Ok(()) }), "encoding of names on the server: gbk, shift_jis, cp949, cp1251, iso-8859-1 ... (UTF-8)"),
    spec(Protocol, "disable_mlsd", Nothing, Set(|s, _| { s.list.no_mlsd = true; Ok(()) }), "LIST instead of MLSD, for servers whose MLSD is wrong"),
    spec(Protocol, "list_hidden", Nothing, Quiet("hidden names are always asked for"), ""),
    spec(Protocol, "tz", Needed("ZONE"), Set(|s, v| { s.list.zone = Some(text(v)?.parse()?); Ok(()) }), "zone of the times in LIST: +02:00 or Europe/Berlin (learned from MDTM where the server has it)"),

    // TLS.
    common(Tls, "tls", Nothing, Set(|s, _| { s.tls.mode = TlsMode::Explicit; Ok(()) }), "TLS or nothing (AUTH TLS), as with ftpes://"),
    spec(Tls, "tls", Needed("try"), Set(|s, v| match v.to_str() { Some("try") => { s.tls.mode = TlsMode::Try; Ok(()) } _ => Err("tls (TLS or nothing) or tls=try".into()) }), "TLS where the server has it, else in the clear: who interferes can read the password"),
    spec(Tls, "ssl", Nothing, Set(|s, _| { s.tls.mode = TlsMode::Explicit; Ok(()) }), "curlftpfs's name of tls"),
    spec(Tls, "ssl_try", Nothing, Set(|s, _| { s.tls.mode = TlsMode::Try; Ok(()) }), "the same as tls=try"),
    spec(Tls, "ssl_control", Nothing, Set(|s, _| { s.tls.mode = TlsMode::Explicit; s.tls.protect_data = false; Ok(()) }), "TLS for commands only; files go in the clear"),
    common(Tls, "cacert", Needed("FILE"), Set(|s, v| { s.tls.ca = Some(path(v)?); Ok(()) }), "trust these certificates (PEM) instead of the system's; a self-signed server's own works"),
    spec(Tls, "trust_server_cert", Needed("FILE"), Set(|s, v| { s.tls.ca = Some(path(v)?); Ok(()) }), "davfs2's name of cacert"),
    common(Tls, "pin", Needed("SHA256"), Set(|s, v| { s.tls.pin = Some(digest(v)?); Ok(()) }), "trust exactly the certificate with this SHA-256 (the error message tells it)"),
    common(Tls, "cert", Needed("FILE"), Set(|s, v| { s.tls.certificate = Some(path(v)?); Ok(()) }), "our own certificate (PEM)"),
    common(Tls, "key", Needed("FILE"), Set(|s, v| { s.tls.key = Some(path(v)?); Ok(()) }), "its key (PEM), when it is not in the same file"),
    spec(Tls, "tls_name", Needed("NAME"), Set(|s, v| { s.tls.name = Some(text(v)?); Ok(()) }), "the name in the server's certificate, when it is not the host's"),
    spec(Tls, "no_verify", Nothing, Set(|s, _| { s.tls.verify = false; Ok(()) }), "any certificate will do: who sits between can read and change everything; pin= is better"),
    spec(Tls, "no_verify_peer", Nothing, Set(|s, _| { s.tls.verify = false; Ok(()) }), "curlftpfs's name of no_verify"),
    spec(Tls, "tls_version", Needed("1.2|1.3"), Set(|s, v| { s.tls.version = Some(match v.to_str() { Some("1.2") => TlsVersion::V12, Some("1.3") => TlsVersion::V13, _ => return Err("1.2 or 1.3".into()) }); Ok(()) }), "this version only, for servers that do the other one wrong"),
    spec(Tls, "allow_old_tls", Nothing, Set(|s, _| { s.tls.allow_old = true; Ok(()) }), "TLS 1.0 and weak ciphers, for old devices"),
    spec(Tls, "lax_end", Nothing, Set(|s, _| { s.tls.lax_end = true; Ok(()) }), "accept transfers that end without TLS's goodbye, which may have been cut"),
    spec(Tls, "no_verify_hostname", Nothing, Refuse("set tls_name= to the name that the certificate has, or pin="), ""),
    spec(Tls, "capath", Needed("DIR"), Refuse("put the certificates into one file: cacert="), ""),
    spec(Tls, "cert_type", Needed("PEM"), Set(|_, v| pem(v)), "only PEM"),
    spec(Tls, "key_type", Needed("PEM"), Set(|_, v| pem(v)), "only PEM"),
    spec(Tls, "pass", Needed("TEXT"), Refuse("decrypt the key, and let only its owner read it (openssl pkey)"), ""),
    spec(Tls, "ciphers", Needed("LIST"), Refuse("the TLS library's choice is the safe one; allow_old_tls allows weak ones"), ""),
    spec(Tls, "tlsv1", Nothing, Quiet("TLS 1.2 or newer is always used; allow_old_tls allows 1.0"), ""),
    spec(Tls, "sslv2", Nothing, Refuse(BROKEN_SSL), ""),
    spec(Tls, "sslv3", Nothing, Refuse(BROKEN_SSL), ""),
    spec(Tls, "krb4", Needed("LEVEL"), Refuse("Kerberos 4 is broken since 2004, and no server has it"), ""),
    spec(Tls, "engine", Needed("NAME"), Refuse("OpenSSL engines are not supported"), ""),

    // Files.
    common(Files, "spool_dir", Needed("DIR"), Set(|s, v| { s.spool_dir = Some(path(v)?); Ok(()) }), "where files wait until they are uploaded (/var/cache/ftpfs, ~/.cache/ftpfs)"),
    common(Files, "writeback", Nothing, Set(|s, _| { s.filesystem.writeback = true; Ok(()) }), "close() answers when the file is safe on the local disk; the server gets it afterwards"),
    common(Files, "spool_size", Needed("SIZE"), Set(|s, v| { s.filesystem.spool_size = size(v)?.max(1 << 16); Ok(()) }), "local disk that large files may take while they are written and uploaded at once; beyond it writers wait (1G)"),
    spec(Files, "stream_from", Needed("SIZE"), Set(|s, v| { s.filesystem.stream_from = size(v)?.max(1); Ok(()) }), "uploads begin while a file is written once it has this size (4M)"),
    spec(Files, "patch_from", Needed("SIZE"), Set(|s, v| { s.filesystem.patch_from = size(v)?.max(1); Ok(()) }), "small changes are written into files of at least this size (16M)"),
    common(Files, "in_place", Nothing, Set(|s, _| { s.filesystem.in_place = true; Ok(()) }), "overwrite files on the server instead of uploading beside and renaming"),
    spec(Files, "atomic", Nothing, Set(|s, _| { s.filesystem.in_place = false; Ok(()) }), "upload beside, then rename (the default)"),
    common(Files, "strict_attributes", Nothing, Set(|s, _| { s.filesystem.strict_attributes = true; Ok(()) }), "chmod, chown and utime fail where the server cannot do them"),
    spec(Files, "transform_symlinks", Nothing, Quiet(LINKS), ""),
    spec(Files, "follow_symlinks", Nothing, Refuse(NOT_YET), ""),
    spec(Files, "contain_symlinks", Nothing, Quiet(LINKS), ""),
    spec(Files, "workaround", Needed("LIST"), Quiet("what a server cannot do is learned"), ""),
    spec(Files, "sshfs_sync", Nothing, Quiet(CLOSE_WAITS), ""),
    spec(Files, "sync", Nothing, Quiet(CLOSE_WAITS), ""),
    spec(Files, "dirsync", Nothing, Quiet(CLOSE_WAITS), ""),
    spec(Files, "async", Nothing, Quiet(CLOSE_WAITS), ""),
    spec(Files, "delay_upload", Needed("SECS"), Refuse("close() answers when the server has confirmed the file; `writeback` uploads afterwards"), ""),
    spec(Files, "hard_remove", Nothing, Quiet("files that are open when removed stay readable"), ""),
    spec(Files, "use_ino", Nothing, Quiet(OWN_INODES), ""),
    spec(Files, "readdir_ino", Nothing, Quiet(OWN_INODES), ""),
    spec(Files, "ino32", Nothing, Quiet(OWN_INODES), ""),

    // Mount.
    common(Mount, "ro", Nothing, Set(|s, _| { s.filesystem.read_only = true; Ok(()) }), "read-only"),
    spec(Mount, "rw", Nothing, Set(|s, _| { s.filesystem.read_only = false; Ok(()) }), "read and write (the default)"),
    common(Mount, "noexec", Nothing, Set(|s, _| { s.no_exec = true; Ok(()) }), "no program may be run from there"),
    spec(Mount, "exec", Nothing, Set(|s, _| { s.no_exec = false; Ok(()) }), "programs may be run (the default)"),
    common(Mount, "fsname", Needed("TEXT"), Set(|s, v| { s.fsname = Some(text(v)?); Ok(()) }), "the source that mount(8) shows"),
    common(Mount, "log_file", Needed("FILE"), Set(|s, v| { s.log_file = Some(path(v)?); Ok(()) }), "log there instead of syslog"),
    spec(Mount, "debug", Nothing, Set(|s, _| { s.debug = true; Ok(()) }), "the same as -d"),
    spec(Mount, "suid", Nothing, Quiet(NEVER_TRUSTED), ""),
    spec(Mount, "nosuid", Nothing, Quiet("is always so"), ""),
    spec(Mount, "dev", Nothing, Quiet(NEVER_TRUSTED), ""),
    spec(Mount, "nodev", Nothing, Quiet("is always so"), ""),
    spec(Mount, "auto", Nothing, Quiet(MOUNT8), ""),
    spec(Mount, "noauto", Nothing, Quiet(MOUNT8), ""),
    spec(Mount, "user", Nothing, Quiet(MOUNT8), ""),
    spec(Mount, "users", Nothing, Quiet(MOUNT8), ""),
    spec(Mount, "nouser", Nothing, Quiet(MOUNT8), ""),
    spec(Mount, "owner", Nothing, Quiet(MOUNT8), ""),
    spec(Mount, "group", Nothing, Quiet(MOUNT8), ""),
    spec(Mount, "_netdev", Nothing, Quiet(MOUNT8), ""),
    spec(Mount, "nofail", Nothing, Quiet(MOUNT8), ""),
    spec(Mount, "defaults", Nothing, Quiet(MOUNT8), ""),
    spec(Mount, "_rnetdev", Nothing, Quiet(MOUNT8), ""),
    spec(Mount, "loud", Nothing, Quiet(MOUNT8), ""),
    spec(Mount, "silent", Nothing, Quiet(MOUNT8), ""),
    spec(Mount, "atime", Nothing, Quiet(NO_ATIME), ""),
    spec(Mount, "noatime", Nothing, Quiet(NO_ATIME), ""),
    spec(Mount, "diratime", Nothing, Quiet(NO_ATIME), ""),
    spec(Mount, "nodiratime", Nothing, Quiet(NO_ATIME), ""),
    spec(Mount, "relatime", Nothing, Quiet(NO_ATIME), ""),
    spec(Mount, "norelatime", Nothing, Quiet(NO_ATIME), ""),
    spec(Mount, "strictatime", Nothing, Quiet(NO_ATIME), ""),
    spec(Mount, "nostrictatime", Nothing, Quiet(NO_ATIME), ""),
    spec(Mount, "lazytime", Nothing, Quiet(NO_ATIME), ""),
    spec(Mount, "nolazytime", Nothing, Quiet(NO_ATIME), ""),
    spec(Mount, "auto_unmount", Nothing, Quiet("is always so: a watchdog unmounts when this process dies"), ""),
    spec(Mount, "nonempty", Nothing, Quiet("is always allowed"), ""),
    spec(Mount, "subtype", Needed("NAME"), Quiet("the type is always fuse.ftpfs"), ""),
    spec(Mount, "intr", Nothing, Quiet("calls can always be interrupted"), ""),
    spec(Mount, "remount", Nothing, Refuse("options cannot be changed while mounted: unmount, and mount again"), ""),
    spec(Mount, "setuid", Needed("USER"), Refuse("mount as that user (fstab: user), or set uid= and allow_other"), ""),
];

const fn spec(group: Group, name: &'static str, value: Value, act: Act, help: &'static str) -> Spec {
    Spec { name, value, act, group, help, common: false }
}

const fn common(group: Group, name: &'static str, value: Value, act: Act, help: &'static str) -> Spec {
    Spec { name, value, act, group, help, common: true }
}

fn set_lifetimes(settings: &mut super::Settings, lifetime: Duration) {
    settings.filesystem.attr_timeout = lifetime;
    settings.filesystem.dir_timeout = lifetime;
    settings.filesystem.negative_timeout = lifetime;
}

const MOUNT8: &str = "for mount(8)";
const NO_ATIME: &str = "FTP knows no access times";
const NEVER_TRUSTED: &str = "a server's set-user-id bits and devices are never honoured";
const SELF_MANAGED: &str = "memory is managed without it";
const LISTED: &str = "links live as long as their listing";
const VERSIONS: &str = "cached contents are dropped when size or time of the file changes";
const KERNEL: &str = "the sizes agreed on with the kernel are the fast ones";
const ALWAYS_RECONNECTS: &str = "connections are kept alive and replaced as needed";
const CLOSE_WAITS: &str = "close() and fsync() wait for the server (close() does not with writeback)";
const OWN_INODES: &str = "FTP has no inode numbers; ours are stable while mounted";
const TUNNEL: &str =
    "proxies are asked for a tunnel (CONNECT), with a password in the clear (Basic) when they want one";
const ONLY_BASIC: &str = "only Basic, which sends the password in the clear, is supported";
const LINKS: &str = "targets are always rewritten relative to the link, and never lead out of the mount";
const LEARNED: &str = "which way works is tried once (EPSV, PASV, active) and remembered";
const NOT_YET: &str = "this version cannot do it yet";
const BROKEN_SSL: &str = "SSL 2 and 3 are broken (RFC 6176, RFC 7568)";
