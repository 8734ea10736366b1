//! Writes the manual pages and the shell completions into a folder: `cargo run --example package_files -- target/package`.
//! All of them come from the definitions that the program itself uses, so they cannot tell something else.

use std::error::Error;
use std::fs;
use std::path::PathBuf;

use clap::CommandFactory;
use clap_complete::{Shell, generate_to};
use clap_mangen::Man;
use ftpfs::cli::args::{self, Args};
use ftpfs::cli::options;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = PathBuf::from(std::env::args_os().nth(1).ok_or("which folder?")?);
    fs::create_dir_all(&folder)?;
    let mut command = Args::with_help();
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut command, "ftpfs", &folder)?;
    }
    let mut page = Vec::new();
    Man::new(Args::command()).section("1").render(&mut page)?;
    let mut page = String::from_utf8(page)?;
    section(&mut page, "MOUNT OPTIONS", &options::full_help());
    section(&mut page, "NOTES", args::FOOT);
    fs::write(folder.join("ftpfs.1"), page)?;
    fs::write(folder.join("mount.ftpfs.8"), ".so man1/ftpfs.1\n")?;
    Ok(())
}

/// Text as it stands, line by line.
fn section(page: &mut String, title: &str, text: &str) {
    page.push_str(&format!(".SH \"{title}\"\n.nf\n"));
    for line in text.lines() {
        // A line that begins with a dot or an apostrophe would be a request.
        page.push_str(&format!("\\&{}\n", line.replace('\\', "\\e").replace('-', "\\-")));
    }
    page.push_str(".fi\n");
}
