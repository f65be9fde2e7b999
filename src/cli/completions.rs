//! `farepass completions`: what a shell needs to complete our arguments.

use std::io::Write as _;

use clap_complete::Shell;

use super::{Command, Exit, Failure, Terminal, command_line};

/// Shell completions, on stdout
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  farepass completions bash > /etc/bash_completion.d/farepass
  farepass completions zsh > ~/.zfunc/_farepass
  farepass completions fish > ~/.config/fish/completions/farepass.fish")]
pub(super) struct Completions {
    /// Which shell
    shell: Shell,
}

impl Command for Completions {
    const NAME: &'static str = "completions";

    fn run(self, terminal: &mut Terminal) -> Result<Exit, Failure> {
        // Into memory first: the generator panics when it cannot write.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command_line(), "farepass", &mut script);
        terminal.out.write_all(&script)?;
        Ok(Exit::Done)
    }
}
