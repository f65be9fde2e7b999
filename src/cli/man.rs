//! `farepass man`: the help pages, as manual pages.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use clap_mangen::Man as Page;

use super::{Command, Exit, Failure, Terminal, command_line};

/// Below every page but the first one.
const SEE: &[u8] = b".SH \"EXIT STATUS\"\n0 when done; 1 to 5 as \\fBfarepass\\fR(1) says.\n";

/// Manual pages
///
/// Prints the page of one command, or writes those of all commands into a folder.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  farepass man run | man -l -
  farepass man --dir ~/.local/share/man/man1    then: man farepass-ledger-export")]
pub(super) struct Man {
    /// Which command, as `ledger export` [default: farepass itself]
    #[arg(value_name = "COMMAND", conflicts_with = "dir")]
    command: Vec<String>,
    /// Write every page into this folder
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl Command for Man {
    const NAME: &'static str = "man";

    fn run(self, terminal: &mut Terminal) -> Result<Exit, Failure> {
        let mut root = command_line();
        root.build();
        let Some(dir) = self.dir else {
            let named = find(&root, &self.command)?;
            write(named, &mut terminal.out)?;
            return Ok(Exit::Done);
        };
        let failed = |e: io::Error| Failure::new(Exit::Failed, format!("{}: {e}", dir.display()));
        fs::create_dir_all(&dir).map_err(failed)?;
        let mut left = vec![&root];
        while let Some(command) = left.pop() {
            let mut page = vec![];
            write(command, &mut page)?;
            let name = format!("{}.1", title(command));
            fs::write(dir.join(name), page).map_err(failed)?;
            left.extend(command.get_subcommands());
        }
        Ok(Exit::Done)
    }
}

fn find<'a>(root: &'a clap::Command, words: &[String]) -> Result<&'a clap::Command, Failure> {
    let mut named = root;
    for word in words {
        let below = named.find_subcommand(word);
        named = below.ok_or_else(|| {
            let problem = format!("there is no command `{}`", words.join(" "));
            Failure::new(Exit::Usage, problem).hint("farepass --help")
        })?;
    }
    Ok(named)
}

/// `farepass-ledger-export`.
fn title(command: &clap::Command) -> &str {
    let name = command.get_display_name();
    name.unwrap_or_else(|| command.get_name())
}

fn write(command: &clap::Command, out: &mut dyn Write) -> io::Result<()> {
    let page = Page::new(command.clone());
    let mut text = vec![];
    page.render_title(&mut text)?;
    page.render_name_section(&mut text)?;
    text.extend(synopsis(command).as_bytes());
    page.render_description_section(&mut text)?;
    page.render_options_section(&mut text)?;
    if command.has_subcommands() {
        page.render_subcommands_section(&mut text)?;
    }
    if command.get_after_help().is_some() || command.get_after_long_help().is_some() {
        page.render_extra_section(&mut text)?;
    }
    if title(command) != "farepass" {
        text.extend(SEE);
    }
    out.write_all(ascii(&String::from_utf8_lossy(&text)).as_bytes())
}

/// How it is called, as `--help` says it: with the `--` before what another program is given.
fn synopsis(command: &clap::Command) -> String {
    let usage = command.clone().render_usage().to_string();
    let lines = usage.trim_start_matches("Usage:").lines().map(|line| {
        let line = line.trim().replace('\\', "\\e").replace('-', "\\-");
        let name = line.find([' ', '[', '<']).unwrap_or(line.len());
        let (name, rest) = line.split_at(name);
        format!("\\fB{name}\\fR{rest}\n")
    });
    format!(".SH SYNOPSIS\n{}", lines.collect::<Vec<_>>().join(".br\n"))
}

/// Characters beyond ASCII by their numbers (groff_char(7)): not every system says what a page is written in.
fn ascii(text: &str) -> String {
    let mut all = String::with_capacity(text.len());
    for c in text.chars() {
        match c.is_ascii() {
            true => all.push(c),
            false => {
                let _ = write!(all, "\\[u{:04X}]", u32::from(c));
            }
        }
    }
    all
}
