//! The `ftpfs` command; everything is in the library, so that tests can reach it.

use std::process::ExitCode;

fn main() -> ExitCode {
    ftpfs::cli::main()
}
