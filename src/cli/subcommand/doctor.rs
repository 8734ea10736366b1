//! `ftpfs doctor`: from the command line to a report, and an exit code that scripts can use.

use std::io::Write;
use std::os::unix::ffi::OsStrExt;

use super::DoctorArgs;
use crate::cli::failure::{Exit, Failure};
use crate::cli::secrets::Secrets;
use crate::cli::{Wanted, config, credentials, logging, understand};
use crate::doctor::report::Failing;
use crate::doctor::{Finding, examine};

/// Prints findings as they come, the advice last. The failure's message is empty: all has been said.
pub(super) fn run(args: &DoctorArgs, secrets: &Secrets) -> Result<(), Failure> {
    let Wanted { source, settings, .. } = understand(&args.source, &args.options)?;
    logging::start(args.debug || settings.debug, 0, settings.log_file.as_deref())
        .map_err(|error| Failure::new(Exit::Local, format!("cannot open the log file: {error}")))?;
    // What a mount would warn of is among the findings.
    if !args.debug && !settings.debug {
        log::set_max_level(log::LevelFilter::Error);
    }
    let credentials = credentials::find(&source, &settings.login, secrets)?;
    let shown = source.shown.clone();
    let max_conns = settings.filesystem.max_conns;
    let config = config(source, credentials, &settings);
    if !args.json {
        println!("Examining {shown}");
    }
    let mut tell = |finding: &Finding| {
        if !args.json {
            println!("{finding}");
            let _ = std::io::stdout().flush();
        }
    };
    let write_test = args.write_test.as_deref().map(OsStrExt::as_bytes);
    let report = examine(config, max_conns, write_test, &mut tell);
    if args.json {
        println!("{}", report.json());
    } else {
        println!();
        if report.failing().is_none() {
            println!("This server can be mounted: ftpfs {shown} MOUNTPOINT");
        }
        for advice in report.advice() {
            println!("=> {advice}");
        }
    }
    let exit = match report.failing() {
        None => return Ok(()),
        Some(Failing::Reach | Failing::Data) => Exit::Unreachable,
        Some(Failing::Tls) => Exit::Tls,
        Some(Failing::Login | Failing::Write) => Exit::Login,
    };
    Err(Failure::new(exit, ""))
}
