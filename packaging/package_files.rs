//! Writes the manual page and the shell completions into a folder: `cargo run --example package_files -- target/package`.
//! Both come from the definitions that the program itself uses, so they cannot tell something else; the prose of the page
//! is in `packaging/ftpfs.8.txt`.

use std::error::Error;
use std::fs;
use std::path::PathBuf;

use clap::{Arg, Command, CommandFactory};
use clap_complete::{Shell, generate_to};
use clap_mangen::Man;
use ftpfs::cli::args::Args;
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
    fs::write(folder.join("ftpfs.8"), page(&words)?)?;
    for helper in ["mount.ftpfs.8", "mount.fuse.ftpfs.8", "umount.fuse.ftpfs.8"] {
        fs::write(folder.join(helper), ".so man8/ftpfs.8\n")?;
    }
    Ok(())
}

/// Name, synopsis, examples; then what the definitions say; then the rest of the prose.
fn page(words: &Command) -> Result<String, Box<dyn Error>> {
    let mut head = Vec::new();
    let man = Man::new(Args::command()).section("8").manual("System Administration");
    man.render_title(&mut head)?;
    man.render_name_section(&mut head)?;
    let mut page = String::from_utf8(head)?;
    page.push_str(SYNOPSIS);
    let (before, after) = PROSE.split_once("\n--\n").ok_or("the prose has no -- for the options")?;
    page.push_str(&roff(before));
    let mut options = Vec::new();
    man.render_options_section(&mut options)?;
    page.push_str(&String::from_utf8(options)?);
    page.push_str(".SH COMMANDS\n");
    for word in words.get_subcommands() {
        let told = word.get_about().map(ToString::to_string).unwrap_or_default();
        page.push_str(&format!(".TP\n{}\n{}.\n", usage(word), escape(&told)));
        for arg in word.get_arguments().filter(|arg| !arg.is_positional() && arg.get_id() != "help") {
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            page.push_str(&format!(".RS\n.TP\n{}\n{}\n.RE\n", written(arg), escape(&help)));
        }
    }
    page.push_str(".SH MOUNT OPTIONS\n");
    for (group, options) in options::explained() {
        page.push_str(&format!(".SS {group}\n"));
        for (usage, meaning) in options {
            page.push_str(&format!(".TP\n\\fB{}\\fR\n{}\n", escape(&usage), escape(&meaning)));
        }
    }
    page.push_str(&roff(after));
    Ok(page)
}

/// `ftpfs umount MOUNTPOINT [--timeout SECS]`.
fn usage(word: &Command) -> String {
    let mut text = format!("\\fBftpfs {}\\fR", word.get_name());
    for arg in word.get_positionals() {
        let name = written(arg);
        text.push_str(&if arg.is_required_set() { format!(" {name}") } else { format!(" [{name}]") });
    }
    text
}

fn written(arg: &Arg) -> String {
    let value = arg.get_value_names().into_iter().flatten().next().map(|name| escape(name));
    let flag = match (arg.get_long(), arg.get_short()) {
        (Some(long), _) => format!("\\fB\\-\\-{}\\fR", escape(long)),
        (None, Some(short)) => format!("\\fB\\-{short}\\fR"),
        (None, None) => return format!("\\fI{}\\fR", value.unwrap_or_default()),
    };
    match value.filter(|_| arg.get_action().takes_values()) {
        Some(value) => format!("{flag} \\fI{value}\\fR"),
        None => flag,
    }
}

/// Prose: lines in capitals are sections, indented ones stand as they are, `term:` with an indented explanation below is
/// written as text.
fn roff(prose: &str) -> String {
    let mut page = String::new();
    let mut is_literal = false;
    for line in prose.lines() {
        let literal = line.starts_with("    ");
        // An empty line within an example belongs to it.
        if literal != is_literal && !(is_literal && line.is_empty()) {
            page.push_str(if literal { ".PP\n.nf\n.RS 4\n" } else { ".RE\n.fi\n.PP\n" });
            is_literal = literal;
        }
        let is_title = !line.is_empty() && line.chars().all(|c| c.is_ascii_uppercase() || c == ' ');
        if is_title {
            page.push_str(&format!(".SH {line}\n"));
        } else if line.is_empty() {
            page.push_str(if is_literal { "\\&\n" } else { ".PP\n" });
        } else {
            page.push_str(&format!("\\&{}\n", escape(line.trim_start())));
        }
    }
    if is_literal {
        page.push_str(".RE\n.fi\n");
    }
    // A section begins its own paragraph.
    page.replace(".PP\n.PP\n", ".PP\n").replace(".PP\n.SH", ".SH").replace("\\&\n.RE\n", ".RE\n")
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq").replace('~', "\\(ti")
}

const SYNOPSIS: &str = ".SH SYNOPSIS
\\fBftpfs\\fR [\\fB\\-o\\fR \\fIOPT,OPT=VALUE\\fR] [\\fB\\-fdrv\\fR] \\fISOURCE\\fR \\fIMOUNTPOINT\\fR
.br
\\fBmount \\-t fuse.ftpfs\\fR [\\fB\\-o\\fR \\fIOPT,OPT=VALUE\\fR] \\fISOURCE\\fR \\fIMOUNTPOINT\\fR
.br
\\fBftpfs doctor\\fR \\fISOURCE\\fR
.br
\\fBftpfs status\\fR|\\fBlist\\fR|\\fBumount\\fR|\\fBflush\\fR|\\fBforget\\fR [\\fIMOUNTPOINT\\fR]
";

const PROSE: &str = include_str!("ftpfs.8.txt");
