//! Servers in C, as Debian configures them: vsftpd, ProFTPD, Pure-FTPd, inetutils-ftpd, linux-ftpd.
//!
//! They start as root, look the user up in account files of their own ([`accounts`]) and change into the served folder.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use super::{Launch, Options, Setup, Tls, UID};
use crate::harness::fetch;

pub(super) fn vsftpd(setup: &Setup, options: &Options) -> Result<Launch, String> {
    let package = fetch::debian("vsftpd", &["usr/sbin/vsftpd"])?;
    accounts(setup)?;
    let empty = setup.config.join("empty");
    fs::create_dir(&empty).map_err(|e| e.to_string())?;
    let mut lines = vec![
        format!("listen={}", if options.ipv6 { "NO" } else { "YES" }),
        format!("listen_ipv6={}", if options.ipv6 { "YES" } else { "NO" }),
        format!("listen_address{}={}", if options.ipv6 { "6" } else { "" }, options.address()),
        format!("listen_port={}", setup.port),
        "background=NO".into(),
        "anonymous_enable=NO".into(),
        "local_enable=YES".into(),
        "write_enable=YES".into(),
        "local_umask=022".into(),
        "chroot_local_user=YES".into(),
        "allow_writeable_chroot=YES".into(),
        format!("secure_chroot_dir={}", empty.display()),
        "pam_service_name=vsftpd".into(),
        "xferlog_enable=NO".into(),
    ];
    lines.extend(options.idle.map(|seconds| format!("idle_session_timeout={seconds}")));
    lines.extend(options.max_sessions.map(|n| format!("max_per_ip={n}")));
    if options.tls != Tls::Plain {
        let (cert, key) = fetch::certificate()?;
        lines.push("ssl_enable=YES".into());
        lines.push(format!("rsa_cert_file={}", cert.display()));
        lines.push(format!("rsa_private_key_file={}", key.display()));
        lines.push("force_local_logins_ssl=YES".into());
        lines.push("force_local_data_ssl=YES".into());
        lines.push("require_ssl_reuse=YES".into());
        lines.push("ssl_ciphers=HIGH".into());
    }
    if options.tls == Tls::Implicit {
        lines.push("implicit_ssl=YES".into());
    }
    lines.extend(options.extra.iter().cloned());
    let file = setup.config.join("vsftpd.conf");
    write_private(&file, &(lines.join("\n") + "\n"))?;
    Ok(Launch::new(package.join("usr/sbin/vsftpd")).arg(file))
}

pub(super) fn proftpd(setup: &Setup, options: &Options) -> Result<Launch, String> {
    let package = fetch::debian("proftpd-core", &["usr/sbin/proftpd"])?;
    // Modules of two packages in one folder, as on an installed system.
    let modules = setup.config.join("modules");
    fs::create_dir(&modules).map_err(|e| e.to_string())?;
    let mut sources = vec![package.join("usr/lib/proftpd")];
    if options.tls != Tls::Plain {
        sources.push(
            fetch::debian("proftpd-mod-crypto", &["usr/lib/proftpd/mod_tls.so"])?.join("usr/lib/proftpd"),
        );
    }
    for source in sources {
        for entry in fs::read_dir(source).map_err(|e| e.to_string())?.flatten() {
            symlink(entry.path(), modules.join(entry.file_name())).map_err(|e| e.to_string())?;
        }
    }
    let (passwd, group) = (setup.config.join("passwd"), setup.config.join("group"));
    let hash = hashed(&setup.password)?;
    let root = setup.root.display();
    write_private(&passwd, &format!("{}:{hash}:{UID}:{UID}::{root}:/bin/sh\n", setup.user))?;
    write_private(&group, &format!("testers:x:{UID}:{}\n", setup.user))?;
    let mut lines: Vec<String> = vec![
        format!("ModulePath {}", modules.display()),
        "LoadModule mod_site_misc.c".into(),
        "LoadModule mod_copy.c".into(),
        "ServerName Debian".into(),
        "ServerType standalone".into(),
        "DefaultServer on".into(),
        format!("UseIPv6 {}", if options.ipv6 { "on" } else { "off" }),
        format!("DefaultAddress {}", options.address()),
        "SocketBindTight on".into(),
        format!("Port {}", setup.port),
        "ShowSymlinks on".into(),
        "TimeoutNoTransfer 600".into(),
        "TimeoutStalled 600".into(),
        format!("TimeoutIdle {}", options.idle.unwrap_or(1200)),
        "ListOptions -l".into(),
        r"DenyFilter \*.*/".into(),
        "MaxInstances 30".into(),
        "Umask 022 022".into(),
        "AllowOverwrite on".into(),
        "UseReverseDNS off".into(),
        "DelayEngine off".into(),
        "WtmpLog off".into(),
        "TransferLog none".into(),
        format!("SystemLog {}/proftpd.log", setup.config.display()),
        format!("PidFile {}/pid", setup.config.display()),
        format!("ScoreboardFile {}/scoreboard", setup.config.display()),
        "ControlsEngine off".into(),
        format!("ControlsSocket {}/controls", setup.config.display()),
        "AuthOrder mod_auth_file.c".into(),
        format!("AuthUserFile {}", passwd.display()),
        format!("AuthGroupFile {}", group.display()),
        "AuthPAM off".into(),
        "RequireValidShell off".into(),
        "User nobody".into(),
        "Group nogroup".into(),
        "DefaultRoot ~".into(),
    ];
    lines.extend(options.max_sessions.map(|n| format!("MaxClientsPerHost {n}")));
    if options.tls != Tls::Plain {
        let (cert, key) = fetch::certificate()?;
        lines.push("LoadModule mod_tls.c".into());
        lines.push("TLSEngine on".into());
        lines.push("TLSRequired on".into());
        lines.push(format!("TLSRSACertificateFile {}", cert.display()));
        lines.push(format!("TLSRSACertificateKeyFile {}", key.display()));
        lines.push("TLSVerifyClient off".into());
        lines.push(format!("TLSLog {}/tls.log", setup.config.display()));
    }
    if options.tls == Tls::Implicit {
        lines.push("TLSOptions UseImplicitSSL".into());
    }
    lines.extend(options.extra.iter().cloned());
    let file = setup.config.join("proftpd.conf");
    write_private(&file, &(lines.join("\n") + "\n"))?;
    Ok(Launch::new(package.join("usr/sbin/proftpd")).args(["-n", "-q", "-c"]).arg(file))
}

pub(super) fn pure_ftpd(setup: &Setup, options: &Options) -> Result<Launch, String> {
    let package = fetch::debian("pure-ftpd", &["usr/sbin/pure-ftpd", "usr/bin/pure-pw"])?;
    accounts(setup)?;
    let (passwd, database) = (setup.config.join("users"), setup.config.join("users.pdb"));
    let (hash, root) = (hashed(&setup.password)?, setup.root.display());
    write_private(&passwd, &format!("{}:{hash}:{UID}:{UID}::{root}/./::::::::::::\n", setup.user))?;
    let made = Command::new(package.join("usr/bin/pure-pw"))
        .args(["mkdb"])
        .arg(&database)
        .arg("-f")
        .arg(&passwd)
        .env("LD_LIBRARY_PATH", fetch::library_path())
        .output()
        .map_err(|e| e.to_string())?;
    if !made.status.success() {
        return Err(format!("pure-pw: {}", String::from_utf8_lossy(&made.stderr)));
    }
    let mut launch = Launch::new(package.join("usr/sbin/pure-ftpd"))
        .args(["-S".into(), format!("{},{}", options.address(), setup.port)])
        .args(["-l".into(), format!("puredb:{}", database.display())])
        .args(["-A", "-E", "-H", "-u", "1", "-g"])
        .arg(setup.config.join("pid"));
    if let Some(seconds) = options.idle {
        launch = launch.args(["-I".into(), seconds.div_ceil(60).to_string()]);
    }
    if let Some(sessions) = options.max_sessions {
        launch = launch.args(["-C".into(), sessions.to_string()]);
    }
    match options.tls {
        Tls::Plain => {}
        Tls::Explicit => launch = launch.args(["-Y", "2", "-2"]).arg(super::key_and_certificate(setup)?),
        Tls::Implicit => return Err("Pure-FTPd knows no implicit TLS beside plain login".into()),
    }
    Ok(launch.args(options.extra.clone()))
}

pub(super) fn inetutils(setup: &Setup, options: &Options) -> Result<Launch, String> {
    let package = fetch::debian("inetutils-ftpd", &["usr/sbin/ftpd"])?;
    accounts(setup)?;
    from_inetd(setup, options, &package.join("usr/sbin/ftpd"))
}

pub(super) fn linux_ftpd(setup: &Setup, options: &Options) -> Result<Launch, String> {
    let package = fetch::debian("ftpd-ssl", &["usr/sbin/in.ftpd"])?;
    accounts(setup)?;
    // It asks PAM before it has sent 331: a module that lets it go on first.
    let rules = "auth sufficient pam_ftp.so\nauth required pam_unix.so use_first_pass\naccount required pam_permit.so\nsession required pam_permit.so\n";
    fs::write(setup.config.join("etc/pam.d/ftp"), rules).map_err(|e| e.to_string())?;
    let mut launch = from_inetd(setup, options, &package.join("usr/sbin/in.ftpd"))?;
    // Its LIST is /bin/ls, run inside the served folder: without one, listings are empty.
    for folder in ["bin", "lib", "lib64"] {
        let at = setup.root.join(folder);
        fs::create_dir(&at).map_err(|e| e.to_string())?;
        launch.prepare += &format!("mount --bind /usr/{folder} '{}' || exit 1\n", at.display());
    }
    Ok(launch)
}

/// Their own daemon mode takes port 21 only.
fn from_inetd(setup: &Setup, options: &Options, program: &Path) -> Result<Launch, String> {
    if options.tls != Tls::Plain || options.max_sessions.is_some() {
        return Err("neither TLS nor a limit of sessions can be had".into());
    }
    let script = setup.config.join("inetd.py");
    fs::write(&script, include_str!("inetd.py")).map_err(|e| e.to_string())?;
    let mut launch =
        Launch::new("python3").arg(script).arg(options.address()).arg(setup.port.to_string()).arg(program);
    if let Some(seconds) = options.idle {
        launch = launch.args(["-t".into(), seconds.to_string(), "-T".into(), seconds.to_string()]);
    }
    Ok(launch.args(options.extra.clone()))
}

/// Account files with our one user, to be laid over /etc.
fn accounts(setup: &Setup) -> Result<(), String> {
    let etc = setup.config.join("etc");
    fs::create_dir_all(etc.join("pam.d")).map_err(|e| e.to_string())?;
    let (user, root, hash) = (&setup.user, setup.root.display(), hashed(&setup.password)?);
    let nobody = "nobody:x:65534:65534::/nonexistent:/usr/sbin/nologin";
    let ftp = "ftp:x:22002:22002::/nonexistent:/usr/sbin/nologin";
    let write = |name: &str, text: String| fs::write(etc.join(name), text).map_err(|e| e.to_string());
    write(
        "passwd",
        format!("root:x:0:0:root:/root:/bin/sh\n{nobody}\n{ftp}\n{user}:x:{UID}:{UID}::{root}:/bin/sh\n"),
    )?;
    write("group", format!("root:x:0:\nshadow:x:42:\nnogroup:x:65534:\nftp:x:22002:\n{user}:x:{UID}:\n"))?;
    write_private(
        &etc.join("shadow"),
        &format!("{user}:{hash}:19000:0:99999:7:::\nroot:*:19000:0:99999:7:::\n"),
    )?;
    for service in ["ftp", "vsftpd", "pure-ftpd", "other"] {
        let rules =
            "auth required pam_unix.so\naccount required pam_permit.so\nsession required pam_permit.so\n";
        write(&format!("pam.d/{service}"), rules.into())?;
    }
    write("ftpusers", String::new())?;
    write("ftpchroot", format!("{user}\n"))
}

fn hashed(password: &str) -> Result<String, String> {
    let output = Command::new("openssl")
        .args(["passwd", "-6", password])
        .output()
        .map_err(|e| format!("openssl: {e}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_string())
}

fn write_private(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|e| e.to_string())?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(|e| e.to_string())
}
