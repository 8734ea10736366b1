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
use ftpfs::cli::subcommand::Line;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = PathBuf::from(std::env::args_os().nth(1).ok_or("which folder?")?);
    fs::create_dir_all(&folder)?;
    let words = Line::command();
    let mut command = Args::with_help().subcommands(words.get_subcommands().cloned());
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut command, "ftpfs", &folder)?;
    }
    let mut page = Vec::new();
    Man::new(Args::command()).section("1").render(&mut page)?;
    let mut page = String::from_utf8(page)?;
    page = page.replacen(".SH DESCRIPTION", &format!("{}.SH DESCRIPTION", text("EXAMPLES", EXAMPLES)), 1);
    for word in words.get_subcommands() {
        let name = format!("ftpfs {}", word.get_name());
        let help = word.clone().bin_name(&name).term_width(78).render_long_help().to_string();
        page.push_str(&text(&name.to_uppercase(), &help));
    }
    page.push_str(&text("MOUNT OPTIONS", &options::full_help()));
    page.push_str(&text("NOTES", args::FOOT));
    fs::write(folder.join("ftpfs.1"), page)?;
    fs::write(folder.join("mount.ftpfs.8"), ".so man1/ftpfs.1\n")?;
    Ok(())
}

/// A section of text as it stands, line by line.
fn text(title: &str, text: &str) -> String {
    let mut section = format!(".SH \"{title}\"\n.nf\n");
    for line in text.lines() {
        // A line that begins with a dot or an apostrophe would be a request.
        section.push_str(&format!("\\&{}\n", line.replace('\\', "\\e").replace('-', "\\-")));
    }
    section.push_str(".fi\n");
    section
}

const EXAMPLES: &str = "\
mount a folder of a server (the password is asked for):
    ftpfs ftp://joe@ftp.example.org/pub /mnt
with TLS, and a password from a file:
    ftpfs -o credentials=/etc/ftpfs.secret ftpes://ftp.example.org/ /mnt
unmount, when everything is uploaded:
    ftpfs umount /mnt
why does it not work?
    ftpfs doctor ftp://joe@ftp.example.org/
what is it doing?
    ftpfs status /mnt
";
