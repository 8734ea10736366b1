//! The command: from `argv` to a mounted folder, and an exit code that tells the truth.
//!
//! The order matters and is visible in [`run`]: passwords leave `argv` first ([`secrets`]); then everything that can be
//! wrong is checked while there is still a terminal to say it on (options, [`config_file`], URL, mount point, password); then the process
//! forks ([`daemon`]); only the child starts threads, logs in, and mounts ([`serve`]). The caller gets 0 once that worked.
//!
//! This layer turns text into typed values (`ftp::Config`, `fs::Options`, `mount::Options`) and touches neither FTP nor FUSE.

pub mod args;
pub mod config_file;
pub mod credentials;
pub mod daemon;
pub mod failure;
pub mod logging;
pub mod options;
pub mod secrets;
pub mod serve;
pub mod subcommand;
pub mod url;

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nix::unistd::{User, geteuid};

use self::args::{Args, Manner};
use self::config_file::ConfigFiles;
use self::credentials::Credentials;
use self::daemon::Starter;
use self::failure::{Exit, Failure};
use self::options::Settings;
use self::secrets::Secrets;
use self::serve::Plan;
use self::url::{Scheme, Source};
use crate::ftp::config::{DataMode, Tls, TlsMode};
use crate::ftp::proxy::Proxy;
use crate::read::DiskPlace;
use crate::{ftp, mount, status};

/// The whole program.
pub fn main() -> ExitCode {
    let mut args: Vec<OsString> = std::env::args_os().collect();
    let manner = args.first().map_or(Manner::Command, |name| Manner::of(name));
    let (secrets, visible) = Secrets::take(&mut args);
    // The password is in memory for as long as it is mounted: no core dump, and no other process of this user may look.
    let _ = nix::sys::prctl::set_dumpable(false);
    if let Some(error) = visible {
        complain(&format!("warning: the password stays visible to ps(1): {error}"));
    }
    if manner == Manner::Command && args.get(1).is_some_and(|name| subcommand::is_one(name)) {
        std::process::exit(subcommand::main(&args, &secrets).into());
    }
    if manner == Manner::UmountHelper {
        std::process::exit(subcommand::umount_helper(&args).into());
    }
    let args = match Args::read(&args) {
        Ok(args) => args,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage.code(manner).into() } else { ExitCode::SUCCESS };
        }
    };
    let code = match run(args, manner, &secrets) {
        Ok(()) => 0,
        Err(failure) => {
            complain(&failure.to_string());
            failure.exit.code(manner)
        }
    };
    // Not a return: threads that still serve (a copy of the mount in another namespace) end here.
    std::process::exit(code.into())
}

/// The home folder from the user database: mount(8) runs helpers without HOME, or with root's.
pub fn home() -> Option<PathBuf> {
    User::from_uid(geteuid()).ok().flatten().map(|user| user.dir).filter(|home| home.is_absolute())
}

fn run(args: Args, manner: Manner, secrets: &Secrets) -> Result<(), Failure> {
    let usage = |message: String| Failure::new(Exit::Usage, message);
    if args.options.iter().any(|list| list == "help") {
        print!("{}", options::full_help());
        return Ok(());
    }
    let text = args.source.as_deref().ok_or_else(|| usage("which server? (try `ftpfs --help`)".into()))?;
    let Wanted { source, mut settings, hint } = understand(text, &args.options)?;
    settings.filesystem.read_only |= args.read_only;
    settings.debug |= args.debug;
    let point = args.mount_point.as_deref().ok_or_else(|| usage("where to? MOUNTPOINT is missing".into()))?;
    if manner == Manner::Helper && args.foreground {
        return Ok(());
    }
    let foreground = settings.debug || (args.foreground && manner == Manner::Command);
    if !foreground {
        daemon::close_inherited();
    }
    logging::start(settings.debug, args.verbose, settings.log_file.as_deref())
        .map_err(|error| Failure::new(Exit::Local, format!("cannot open the log file: {error}")))?;
    for (name, reason) in &settings.quiet {
        log::debug!("option {name} has no effect: {reason}");
    }
    let point = mount::point::resolve(point).map_err(|error| Failure::new(Exit::Mount, error.to_string()))?;
    if settings.log_file.as_deref().is_some_and(|file| file.starts_with(&point)) {
        return Err(usage("log_file= must not lie below the mount point".into()));
    }
    settings.filesystem.spool_dir = spool_dir(settings.spool_dir.as_deref(), &point)?;
    settings.filesystem.disk_cache = match &settings.cache_dir {
        None => None,
        Some(chosen) => {
            let folder = private_folder(chosen.clone(), "cache_dir", &point)?;
            Some(DiskPlace { folder, limit: settings.cache_disk_size })
        }
    };
    let credentials = credentials::find(&source, &settings.login, secrets)?;
    let plan = Plan {
        mount: mount::Options {
            source: settings.fsname.take().map_or(source.shown.clone(), |name| url::show(name.as_bytes())),
            read_only: settings.filesystem.read_only,
            no_exec: settings.no_exec,
            access: settings.access,
        },
        config: config(source, credentials, &settings),
        filesystem: settings.filesystem,
        point,
        shutdown_timeout: settings.shutdown_timeout,
        delay_connect: settings.delay_connect,
    };
    // Not in the way of somebody else's umount.
    let _ = std::env::set_current_dir("/");
    start(plan, foreground).map_err(|failure| match (failure.exit, hint) {
        (Exit::Unreachable, Some(hint)) => Failure::new(failure.exit, format!("{}; {hint}", failure.message)),
        _ => failure,
    })
}

/// A SOURCE and options, with what the configuration files add to them.
struct Wanted {
    source: Source,
    settings: Settings,
    /// For when nothing answers there.
    hint: Option<String>,
}

fn understand(text: &OsStr, lists: &[OsString]) -> Result<Wanted, Failure> {
    let usage = |message: String| Failure::new(Exit::Usage, message);
    let asked = |mut settings: Settings| -> Result<Settings, Failure> {
        for list in lists {
            settings.apply(list).map_err(usage)?;
        }
        Ok(settings)
    };
    // First only for config=, and so that mistakes in the command are told before those in a file.
    let files = ConfigFiles::read(asked(Settings::new())?.config.as_deref())?;
    let mut settings = Settings::new();
    let mut meaning = files.meaning(text)?;
    meaning.apply(&mut settings)?;
    let mut settings = asked(settings)?;
    let source = meaning.source;
    settings.tls = tls(source.scheme, settings.tls).map_err(usage)?;
    if settings.proxy.is_some() && settings.data.mode == DataMode::Active {
        return Err(usage(
            "a server cannot connect to us through a proxy: leave out active, or proxy=".into(),
        ));
    }
    let hint = if meaning.is_named { None } else { files.hint(text) };
    Ok(Wanted { source, settings, hint })
}

fn start(plan: Plan, foreground: bool) -> Result<(), Failure> {
    let mut starter = if foreground {
        Starter::foreground()
    } else {
        let forked = Starter::background()
            .map_err(|error| Failure::new(Exit::Local, format!("cannot go to the background: {error}")))?;
        match forked {
            Ok(starter) => starter,
            Err(told) => return told,
        }
    };
    match serve::run(plan, &mut starter) {
        Ok(()) => Ok(()),
        Err(failure) => match starter.failed(failure) {
            Some(failure) => Err(failure),
            // The parent says it.
            None => std::process::exit(1),
        },
    }
}

/// The one place that builds what the FTP layer must know.
fn config(source: Source, credentials: Credentials, settings: &Settings) -> ftp::Config {
    ftp::Config {
        port: source.port.or(settings.port).unwrap_or(source.scheme.default_port()),
        account: credentials.account,
        folder: source.folder,
        timeout: settings.filesystem.timeout,
        connect_timeout: settings.connect_timeout,
        tls: settings.tls.clone(),
        data: settings.data.clone(),
        proxy: settings.proxy.clone().map(|proxy| Proxy { login: credentials.proxy, ..proxy }),
        codepage: settings.codepage,
        list: settings.list.clone(),
        ..ftp::Config::new(source.host, credentials.user, credentials.password)
    }
}

/// How TLS begins, by the URL's scheme and the options. Options that only make sense with TLS must not end in a session
/// without it.
fn tls(scheme: Scheme, asked: Tls) -> Result<Tls, String> {
    let mode = match (scheme, asked.mode) {
        (Scheme::Ftps, _) => TlsMode::Implicit,
        (Scheme::Ftpes, _) => TlsMode::Explicit,
        (Scheme::Ftp, mode) => mode,
    };
    let is_meant =
        asked.ca.is_some() || asked.pin.is_some() || asked.certificate.is_some() || asked.key.is_some();
    if mode == TlsMode::Off && (is_meant || asked.name.is_some() || !asked.verify || asked.allow_old) {
        return Err("TLS options need TLS: write ftpes:// (or ftps:// for TLS from the first byte)".into());
    }
    Ok(Tls { mode, ..asked })
}

/// The folder where files wait until they are uploaded; made when missing, private to its owner.
fn spool_dir(chosen: Option<&Path>, point: &Path) -> Result<PathBuf, Failure> {
    private_folder(spool_folder(chosen)?, "spool_dir", point)
}

/// A folder of ours, made when missing; `option` is what it can be set with.
fn private_folder(folder: PathBuf, option: &str, point: &Path) -> Result<PathBuf, Failure> {
    let trouble = |error: std::io::Error| {
        let kind = option.trim_end_matches("_dir");
        Failure::new(Exit::Local, format!("{kind} folder {}: {error} (set {option}=)", folder.display()))
    };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(trouble)?;
    let folder = folder.canonicalize().map_err(trouble)?;
    check_private(&folder, option)?;
    nix::unistd::access(&folder, nix::unistd::AccessFlags::W_OK | nix::unistd::AccessFlags::X_OK)
        .map_err(|errno| trouble(errno.into()))?;
    if folder.starts_with(point) {
        return Err(Failure::new(Exit::Usage, format!("{option}= must not lie below the mount point")));
    }
    Ok(folder)
}

/// Whoever else can write there could have files uploaded in our name, and take ours away.
fn check_private(folder: &Path, option: &str) -> Result<(), Failure> {
    let user = geteuid();
    if status::is_private(folder, user) {
        return Ok(());
    }
    let is_ours = folder.metadata().is_ok_and(|found| found.uid() == user.as_raw());
    let why = if is_ours { "others can write to it" } else { "it belongs to somebody else" };
    let folder = folder.display();
    let message = format!("{folder}: {why}: set {option}= to a folder of your own, such as {folder}/ftpfs");
    Err(Failure::new(Exit::Local, message))
}

/// The folder that was chosen, or the user's.
fn spool_folder(chosen: Option<&Path>) -> Result<PathBuf, Failure> {
    match chosen {
        Some(folder) => Ok(folder.to_owned()),
        None if geteuid().is_root() => Ok(PathBuf::from("/var/cache/ftpfs")),
        None => home()
            .map(|home| home.join(".cache/ftpfs"))
            .ok_or_else(|| Failure::new(Exit::Local, "this user has no home folder: set spool_dir=")),
    }
}

/// One line on standard error.
fn complain(message: &str) {
    let _ = writeln!(std::io::stderr(), "ftpfs: {message}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_decides_how_tls_begins() {
        let mode = |scheme, asked| tls(scheme, Tls { mode: asked, ..Tls::default() }).map(|tls| tls.mode);
        assert_eq!(mode(Scheme::Ftp, TlsMode::Off), Ok(TlsMode::Off));
        assert_eq!(mode(Scheme::Ftp, TlsMode::Explicit), Ok(TlsMode::Explicit));
        assert_eq!(mode(Scheme::Ftps, TlsMode::Off), Ok(TlsMode::Implicit));
        // A wish for less than the URL promises is no wish.
        assert_eq!(mode(Scheme::Ftpes, TlsMode::Try), Ok(TlsMode::Explicit));
    }

    #[test]
    fn tls_options_without_tls_are_a_mistake() {
        let pinned = || Tls { pin: Some([0; 32]), ..Tls::default() };
        assert!(tls(Scheme::Ftp, pinned()).is_err());
        assert!(tls(Scheme::Ftpes, pinned()).is_ok());
    }
}
